"""From a splitter of scikit-learn's kind to cells of rows: what each split trains on and holds out, cell by cell."""

import dataclasses

import numpy as np
from sklearn import model_selection

from daskglm_rep.kernels.folds import Cells
from daskglm_rep.summaries import distinct

BLIND = (model_selection.KFold, model_selection.RepeatedKFold, model_selection.ShuffleSplit, model_selection.GroupKFold,
         model_selection.LeaveOneGroupOut, model_selection.LeavePGroupsOut, model_selection.GroupShuffleSplit,
         model_selection.TimeSeriesSplit, model_selection.PredefinedSplit, model_selection.LeaveOneOut,
         model_selection.LeavePOut)          # these do not look at y
TRAIN, TEST = 1, 2


@dataclasses.dataclass(frozen=True)
class Splits:
    """All rows, and some splits of them.

    Attributes
    ----------
    layers : tuple of Cells
        Partitions of the rows; numbers of cells differ between them.
    train, test : (K + 1, n_cells) bool array
        The cells of each split; row 0 is the fit to all rows, which holds out none.
    """

    layers: tuple
    train: np.ndarray
    test: np.ndarray

    @property
    def n_splits(self):
        return len(self.train) - 1


def undivided(lengths):
    """All rows as one cell, without splits."""
    cells = Cells.of(np.zeros(sum(lengths), np.int8), lengths)
    return Splits((cells,), np.ones((1, 1), bool), np.zeros((1, 1), bool))


def check_splitter(cv, classify=False):
    """A splitter from what a user gives; "chunks" stays.

    Raises
    ------
    ValueError
        What is neither a whole number >= 2, nor "chunks", nor a splitter, nor pairs of (train, test) positions.
    """
    if isinstance(cv, str):
        if cv != "chunks":
            raise ValueError(f"cv={cv!r} is not known: pass a number of folds, 'chunks' (each chunk is a fold), a "
                             "splitter of scikit-learn's, or pairs of (train, test) row positions.")
        return cv
    n_splits = 5 if cv is None else cv
    if isinstance(n_splits, (int, np.integer)) and not isinstance(n_splits, bool):
        if n_splits < 2:
            raise ValueError(f"cv={cv!r}: cross-validation needs at least 2 folds.")
        return model_selection.StratifiedKFold(n_splits) if classify else model_selection.KFold(n_splits)
    try:
        return model_selection.check_cv(cv)
    except ValueError as error:
        raise ValueError(f"cv={cv!r} is no splitter: {error}") from None


def wants_responses(splitter):
    """Whether a splitter looks at y, as stratified ones do."""
    return splitter != "chunks" and not isinstance(splitter, BLIND + (model_selection._split._CVIterableWrapper,))


def split_rows(splitter, lengths, y=None, groups=None):
    """`Splits` of rows in blocks of these lengths.

    Parameters
    ----------
    splitter : what `check_splitter` gives
    lengths : tuple of int
    y, groups : (n,) array, optional
        Of all rows, for splitters that ask for them.

    Raises
    ------
    ValueError
        Splits without rows, or beyond the rows; fewer than two chunks to hold out; what the splitter refuses.
    """
    n = sum(lengths)
    if isinstance(splitter, str):
        filled = [i for i, length in enumerate(lengths) if length]
        if len(filled) < 2:
            raise ValueError(f"cv='chunks' holds out one chunk at a time, and there is {len(filled)} chunk with rows: "
                             "rechunk, or pass a number of folds.")
        codes = np.repeat(np.arange(len(filled)), [lengths[i] for i in filled])
        return _splits([codes], [np.arange(len(filled))], np.eye(len(filled), dtype=int) + TRAIN, lengths)
    if groups is not None and len(groups) != n:
        raise ValueError(f"groups has {len(groups)} labels where X has {n} rows: pass one label a row.")
    pairs = [tuple(np.asarray(rows) for rows in pair)
             for pair in splitter.split(np.zeros((n, 1)), np.zeros(n) if y is None else y, groups)]
    for k, pair in enumerate(pairs):
        for rows, what in zip(pair, ("train on", "hold out")):
            if not rows.size or rows.dtype.kind not in "iu" or rows.min() < -n or rows.max() >= n:
                raise ValueError(f"Split {k} of cv has no rows to {what}, or positions that are none of the {n} rows.")
    return _partitioned(pairs, n, lengths) or _layered(pairs, n, lengths)


def _partitioned(pairs, n, lengths):
    """Splits that each hold out one part of a partition and train on the rest, as most do; else None."""
    if sum(test.size for _, test in pairs) != n or any(train.size + test.size != n for train, test in pairs):
        return None
    codes = np.full(n, -1)
    for k, (_, test) in enumerate(pairs):
        codes[test] = k
    if (codes < 0).any() or any((codes[train] == k).any() for k, (train, _) in enumerate(pairs)):
        return None
    return _splits([codes], [np.arange(len(pairs))], np.eye(len(pairs), dtype=int) + TRAIN, lengths)


def _layered(pairs, n, lengths):
    """Any splits: a split joins the last partition where that cuts at most one cell more, as in time series."""
    layers, members = [], []
    for k, (train, test) in enumerate(pairs):
        role = np.zeros(n, np.int64)
        role[train] |= TRAIN
        role[test] |= TEST
        alone, both = distinct(role)[0], None
        if layers:
            both = distinct(layers[-1] * 4 + role)[0]
        if both is not None and both.max() <= layers[-1].max() + 1:
            layers[-1] = both
            members[-1].append((k, role))
        else:
            layers.append(alone)
            members.append([(k, role)])
    n_cells = sum(int(codes.max()) + 1 for codes in layers)
    roles, first, numbered = np.zeros((len(pairs), n_cells), int), 0, []
    for codes, inside in zip(layers, members):
        cells, where = np.unique(codes, return_index=True)
        for k, role in inside:
            roles[k, first + cells] = role[where]
        numbered.append(first + cells)
        first += cells.size
    return _splits(layers, numbered, roles, lengths)


def _splits(layers, numbers, roles, lengths):
    every = np.zeros((1, roles.shape[1]), int)
    every[0, numbers[0]] = TRAIN
    roles = np.vstack([every, roles])
    cells = tuple(Cells.of(codes + number[0], lengths) for codes, number in zip(layers, numbers))
    return Splits(cells, (roles & TRAIN) > 0, (roles & TEST) > 0)
