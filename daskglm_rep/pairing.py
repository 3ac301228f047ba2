"""How rows of two inputs are paired: by position, and never where their labels say that the order is another.

One rule for pandas indexes, xarray coordinates and the partitions of dask frames: inputs that carry the same row labels
must carry them in the same order. Labels of another set say nothing of the order and are left aside, as scikit-learn
leaves them: after reset_index() on one side, rows are still paired by position.
"""

import numpy as np
import pandas as pd
import xarray as xr


def row_labels(a):
    """The labels of an input's rows in memory, a pandas Index; None where it has none."""
    if isinstance(a, pd.Index):
        return a
    if isinstance(a, (pd.DataFrame, pd.Series)):
        return a.index
    if isinstance(a, xr.DataArray) and a.ndim:
        return a.indexes.get(a.dims[0])
    return None


def check_order(X, inputs, where="", span=None):
    """Refuse inputs that have the row labels of X, or of the first of them that has some, in another order.

    Parameters
    ----------
    X : any input
    inputs : iterable of (name that the user knows, any input)
    where : str
        Which of the rows, for the message.
    span : (first label, last label), optional
        Of the dask frame whose partition X is: other labels than this partition's, but inside, are another partition's.
        Labels that just count the rows of their own say nothing.

    Raises
    ------
    ValueError
    """
    first, labels = "X", row_labels(X)
    for name, given in inputs:
        theirs = row_labels(given)
        if labels is None:
            first, labels = name, theirs
        elif theirs is not None and _shuffled(labels, theirs):
            raise ValueError(f"{name} has the row labels of {first} in another order{where}, and rows are paired by "
                             f"position: put them in one order first ({name}.reindex, .sort_index, .sortby), or pass "
                             f"{name}.to_numpy() if the order is meant.")
        elif theirs is not None and span is not None and _elsewhere(labels, theirs, span):
            raise ValueError(f"{name} has other row labels than {first}{where}, and rows are paired by position: take "
                             "both from one dask DataFrame, or pass arrays (.to_dask_array()) if the order is meant.")


def _shuffled(a, b):
    """Whether two indexes hold the same labels in another order; their ends tell most others apart."""
    if len(a) != len(b) or a.nlevels != b.nlevels or a.equals(b) or _ends(a) != _ends(b):
        return False
    if not (a.isin(b).all() and b.isin(a).all()):
        return False
    plain_a, plain_b = np.asarray(a, object), np.asarray(b, object)          # dtypes may differ where labels do not
    if (plain_a == plain_b).all():
        return False
    counts = [pd.Series(plain).value_counts() for plain in (plain_a, plain_b)]
    return bool(counts[0].eq(counts[1].reindex(counts[0].index)).all())


def _elsewhere(labels, theirs, span):
    """Whether the labels beside a partition's are those of another partition."""
    if labels.equals(theirs) or not len(theirs) or theirs.isin(labels).all():
        return False
    if theirs.dtype.kind in "iu" and (np.asarray(theirs) == np.arange(len(theirs))).all():
        return False
    try:
        return bool(span[0] <= theirs.min() and theirs.max() <= span[1])
    except TypeError:                            # labels of another kind
        return False


def _ends(index):
    try:
        return index.min(), index.max()
    except TypeError:                            # labels of several kinds
        return None
