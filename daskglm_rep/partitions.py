"""Partitions of rows into blocks: natural ones, distinct cells, equal-depth grids, k-means.

A partition is turned into an assigner, a small picklable recipe that gives each row of a chunk the key of its block.
Cells and clusters span chunks: rows of equal keys are one block wherever they lie. The blocks of `Natural` do not leave
their chunk, nor does anything that could define them: centres and cut points of a sub-partition, which may be values
of rows, are found anew inside the chunk whenever its rows are assigned.
"""

import dataclasses
import math

import numpy as np
import pandas as pd

from daskglm_rep.kernels.assignment import compress, grid, hash_rows, nearest

__all__ = ["Cells", "EqualDepth", "KMeans", "Natural"]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What an assigner may know of the columns: names, centre, standard deviation, extremes, (p,) arrays."""

    names: tuple
    center: np.ndarray
    scale: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, names, spread):
        """From column names and a `summaries.Spread`; constant columns get scale 1."""
        deviation = np.where(spread.high > spread.low, spread.deviation, 1.0)
        return cls(tuple(names), spread.mean, np.where(deviation > 0, deviation, 1.0), spread.low, spread.high)

    def standardise(self, X):
        """(n, p) columns, centred and scaled."""
        return (X - self.center) / self.scale


class Partition:
    """Base of the partitions; they are compared and printed by their parameters."""

    is_local = False
    subset = 100_000
    needs_sketch = needs_rows = False
    n_expected = 0          # blocks that it makes, where that is known beforehand; of a local one in each chunk

    def assigner(self, layout, rows, sketch, random_state=0):
        """The recipe of this partition.

        Parameters
        ----------
        layout : Layout
        rows : Block or None
            A random share of all rows.
        sketch : ColumnSketch or None
        random_state : int
        """
        raise NotImplementedError

    def local_assigner(self, x, layout, random_state):
        """The recipe learnt from the (n, p) rows of one natural block alone."""
        raise NotImplementedError


class Assigner:
    """Rows to keys."""

    def keys(self, block):
        """(n,) int64 keys of the blocks that the rows of a chunk belong to."""
        return self.of_rows(block.X)

    def midpoints(self, keys):
        """(K, p) centres of the blocks where they are rectangles given beforehand, else None."""
        return None

    def whole(self):
        """The assigner without sub-partitions."""
        return self


# ---------------------------------------------------------------- blocks that span chunks


@dataclasses.dataclass(frozen=True)
class Cells(Partition):
    """One block for each distinct row of X.

    Exact when all columns are discrete: the representatives then are the data (Li & Yang, Corollary 3.1).

    Parameters
    ----------
    max_cells : int, default 1_000_000
        More distinct rows than this in one chunk are refused: such data is not discrete.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, partitions
    >>> X = np.random.default_rng(0).integers(0, 3, size=(600, 2))
    >>> model = RepresentativeGLM("gaussian", partition=partitions.Cells())
    >>> model.fit(X, X[:, 0]).n_blocks_ <= 9
    True
    """

    max_cells: int = 1_000_000

    def __post_init__(self):
        _check_whole("Cells", self, "max_cells")

    def assigner(self, layout, rows, sketch, random_state=0):
        return _Distinct(self.max_cells)

    def local_assigner(self, x, layout, random_state):
        return _Distinct(self.max_cells)


@dataclasses.dataclass(frozen=True)
class _Distinct(Assigner):
    max_cells: int

    def of_rows(self, X):
        keys = hash_rows(X)
        if len(keys) > self.max_cells and np.unique(keys).size > self.max_cells:
            raise ValueError(f"Cells() found more than max_cells={self.max_cells} distinct rows in one chunk: the "
                             "columns are not discrete; use partitions.KMeans or EqualDepth, or round them first.")
        return keys


@dataclasses.dataclass(frozen=True)
class EqualDepth(Partition):
    """Grid whose cut points are the m-quantiles of each column; empty cells cost nothing.

    Parameters
    ----------
    n_splits : int, default 4
        Intervals a column (the paper's m).
    columns : str, int or list of them, optional
        Columns that are cut; default all.
    subset : int, default 100_000
        Rows from which the moment-matched representatives learn where to cut further.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, partitions
    >>> X = np.random.default_rng(0).normal(size=(600, 2))
    >>> model = RepresentativeGLM("gaussian", partition=partitions.EqualDepth(3))
    >>> model.fit(X, X[:, 0]).n_blocks_ <= 9
    True
    """

    n_splits: int = 4
    columns: tuple = None
    subset: int = 100_000

    needs_sketch = True

    def __post_init__(self):
        _check_whole("EqualDepth", self, "n_splits", 2)
        _check_whole("EqualDepth", self, "subset")
        if self.columns is not None:
            one = np.ndim(self.columns) == 0
            object.__setattr__(self, "columns", (self.columns,) if one else tuple(self.columns))
            if not self.columns:
                raise ValueError("EqualDepth(columns=[]) has no column to cut: name some, or leave it out for all.")

    def _chosen(self, layout):
        chosen = list(range(len(layout.names))) if self.columns is None else column_numbers(self.columns, layout.names)
        if len(chosen) * math.log2(self.n_splits) > 62:
            raise ValueError(f"A grid of {self.n_splits} intervals in {len(chosen)} columns has more than 2^62 cells: "
                             "name fewer columns (EqualDepth(m, columns=[...])), or use KMeans.")
        return np.array(chosen, np.int64)

    def assigner(self, layout, rows, sketch, random_state=0):
        chosen = self._chosen(layout)
        return _Grid(sketch.quantiles(np.arange(1, self.n_splits) / self.n_splits)[chosen], chosen, layout)

    def local_assigner(self, x, layout, random_state):
        chosen = self._chosen(layout)
        return _Grid(np.quantile(x[:, chosen], np.arange(1, self.n_splits) / self.n_splits, axis=0).T, chosen, layout)


@dataclasses.dataclass(frozen=True)
class _Grid(Assigner):
    edges: np.ndarray
    columns: np.ndarray
    layout: Layout

    def of_rows(self, X):
        return grid(X[:, self.columns], self.edges)

    def midpoints(self, keys):
        if self.columns.size < len(self.layout.names):
            return None
        m = self.edges.shape[1] + 1
        bounds = np.column_stack([self.layout.low, self.edges, self.layout.high])
        digits = keys[:, None] // m ** np.arange(self.columns.size - 1, -1, -1) % m
        j = np.arange(self.columns.size)
        return 0.5 * (bounds[j, digits] + bounds[j, digits + 1])


@dataclasses.dataclass(frozen=True)
class KMeans(Partition):
    """Nearest of K centres, which k-means finds on a random subset of rows (Li & Yang, section A.7).

    Parameters
    ----------
    n_clusters : int, default 1000
    subset : int, default 100_000
        Rows that the centres are found on, as many from each chunk: with more rows than that, blocks depend on the
        chunks.
    standardize : bool, default False
        Measure distances in standard deviations of the columns. False, as in the paper, lets columns of large spread
        decide; set it when units differ.
    max_iter : int, default 25
        Lloyd iterations.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, partitions
    >>> X = np.random.default_rng(0).normal(size=(600, 2))
    >>> model = RepresentativeGLM("gaussian", partition=partitions.KMeans(20))
    >>> model.fit(X, X[:, 0]).n_blocks_ <= 20
    True
    """

    n_clusters: int = 1000
    subset: int = 100_000
    standardize: bool = False
    max_iter: int = 25

    needs_rows = True
    n_expected = property(lambda self: self.n_clusters)

    def __post_init__(self):
        for name in ("n_clusters", "subset", "max_iter"):
            _check_whole("KMeans", self, name)

    def _centers(self, x, weight, random_state):
        """Of the distinct rows that count, each with its rows' weight: equal rows would be one centre several times."""
        if weight is None or not (weight > 0).any():
            weight = np.ones(len(x))
        x, weight = x[weight > 0], weight[weight > 0]
        codes, keys = pd.factorize(hash_rows(x))
        x, weight = x[np.unique(codes, return_index=True)[1]], np.bincount(codes, weight, keys.size)
        if len(x) <= self.n_clusters:
            return x
        from sklearn.cluster import KMeans as LloydKMeans          # late: 0.1 s that only this partition needs

        found = LloydKMeans(self.n_clusters, init="random", n_init=1, max_iter=self.max_iter,
                            random_state=random_state % 2 ** 32)
        return found.fit(x, sample_weight=weight).cluster_centers_

    def assigner(self, layout, rows, sketch, random_state=0):
        unit = layout.scale if self.standardize else np.ones(len(layout.names))
        return _Nearest(self._centers((rows.X - layout.center) / unit, rows.weight, random_state), layout.center, unit)

    def local_assigner(self, x, layout, random_state):
        unit = layout.scale if self.standardize else np.ones(len(layout.names))
        rows = (x - layout.center) / unit
        if len(rows) > self.subset:
            rows = rows[np.sort(np.random.default_rng(random_state).choice(len(rows), self.subset, replace=False))]
        return _Nearest(self._centers(rows, None, random_state), layout.center, unit)


@dataclasses.dataclass(frozen=True)
class _Nearest(Assigner):
    centers: np.ndarray
    center: np.ndarray
    unit: np.ndarray

    def of_rows(self, X):
        return nearest((X - self.center) / self.unit, self.centers)


# ---------------------------------------------------------------- blocks that stay where they are


@dataclasses.dataclass(frozen=True)
class Natural(Partition):
    """The blocks that the data came in: chunks or files, the values of a column, or `fit(..., blocks=labels)`.

    Parameters
    ----------
    column : str or int, optional
        Column of X whose distinct values are the blocks; a value found in several chunks is one block. Default: the
        labels given to `fit` as `blocks`, else the chunks.
    within : Partition, optional
        Sub-partition made inside each natural block, from its rows alone: `Natural(within=KMeans(50))`. Its blocks stay
        within a chunk.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, partitions
    >>> X = np.random.default_rng(0).normal(size=(600, 2))
    >>> model = RepresentativeGLM("gaussian", partition=partitions.Natural())
    >>> model.fit(X, X[:, 0], blocks=np.arange(600) // 60).n_blocks_
    10
    """

    column: object = None
    within: Partition = None

    def __post_init__(self):
        if self.within is not None and (not isinstance(self.within, Partition) or isinstance(self.within, Natural)):
            raise ValueError(f"Natural(within=...) takes Cells(), EqualDepth(m) or KMeans(K), got {self.within!r}.")

    is_local = True
    n_expected = property(lambda self: 0 if self.within is None else self.within.n_expected)

    def assigner(self, layout, rows, sketch, random_state=0):
        column = None if self.column is None else column_number(self.column, layout.names)
        return _Local(column, self.within, layout, random_state)


@dataclasses.dataclass(frozen=True)
class _Local(Assigner):
    column: int
    within: Partition
    layout: Layout
    random_state: int

    def _groups(self, block):
        """Key of the natural block of each row: global for values and labels, the chunk's number otherwise."""
        if self.column is not None and block.extra:
            raise ValueError("partition=Natural(column) takes the blocks from a column of X and fit's blocks= labels "
                             "them too: pass one of the two.")
        if self.column is not None:
            return hash_rows(block.X[:, [self.column]])
        if block.extra:
            labels = _natural_labels(block)
            return (pd.util.hash_array(labels) >> np.uint64(2)).astype(np.int64)
        return np.full(block.n_rows, block.index, np.int64)

    def keys(self, block):
        groups = self._groups(block)
        if self.within is None:
            return groups
        distinct, codes = np.unique(groups, return_inverse=True)
        fine = np.empty(block.n_rows, np.int64)
        for g in range(distinct.size):
            rows = codes == g
            X = block.X[rows]
            fine[rows] = compress(self.within.local_assigner(X, self.layout, self.random_state).of_rows(X))[1]
        return (np.int64(block.index) << 40) + codes * np.int64(2 ** 26) + fine

    def whole(self):
        return dataclasses.replace(self, within=None)


def _natural_labels(block):
    """(n,) labels of a chunk's rows, the one extra column that it carries."""
    labels, = map(np.asarray, block.extra.values())
    if labels.ndim == 2 and labels.shape[1] > 1:
        raise ValueError(f"blocks has {labels.shape[1]} columns, and a row lies in one block: pass one label a row (of "
                         "several columns: their combination as text).")
    return labels.reshape(len(labels))


def _check_whole(owner, partition, name, least=1):
    """Refuse a parameter of a partition that is no whole number, or too small."""
    value = getattr(partition, name)
    if not _is_whole(value) or value < least:
        raise ValueError(f"{owner} needs {name} to be a whole number >= {least}, got {value!r}.")


def _is_whole(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def column_numbers(columns, names):
    """Positions of columns given by names or numbers: a list of them, or one.

    Raises
    ------
    ValueError
        There is no such column.
    """
    return [column_number(c, names) for c in ((columns,) if np.ndim(columns) == 0 else columns)]


def column_number(column, names):
    """Position of a column given by name or number.

    Raises
    ------
    ValueError
        There is no such column.
    """
    if isinstance(column, str):
        if column in names:
            return list(names).index(column)
    elif _is_whole(column) and -len(names) <= column < len(names):
        return int(column) % len(names)
    raise ValueError(f"X has no column {column!r}: choose one of {', '.join(map(str, names[:20]))}.")
