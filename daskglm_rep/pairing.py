"""How rows of two inputs are paired: by position, and never where their labels say that the order is another.

One rule for pandas indexes, xarray coordinates and the partitions of dask frames: inputs that carry the same row labels
must carry them in the same order. Labels of another set say nothing of the order and are left aside, as scikit-learn
leaves them: after reset_index() on one side, rows are still paired by position.
"""

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


def check_order(X, inputs, where=""):
    """Refuse inputs that have the row labels of X in another order.

    Parameters
    ----------
    X : any input
    inputs : iterable of (name that the user knows, any input)
    where : str
        Which of the rows, for the message.

    Raises
    ------
    ValueError
    """
    labels = row_labels(X)
    if labels is None:
        return
    for name, given in inputs:
        theirs = row_labels(given)
        if theirs is not None and _shuffled(labels, theirs):
            raise ValueError(f"{name} has the row labels of X in another order{where}, and rows are paired by "
                             f"position: put them in one order first ({name}.reindex, .sort_index, .sortby), or pass "
                             f"{name}.to_numpy() if the order is meant.")


def _shuffled(a, b):
    """Whether two indexes hold the same labels in another order; their ends tell most others apart."""
    if len(a) != len(b) or a.nlevels != b.nlevels or a.equals(b) or _ends(a) != _ends(b):
        return False
    return bool(a.isin(b).all()) and bool(b.isin(a).all())


def _ends(index):
    try:
        return index.min(), index.max()
    except TypeError:                            # labels of several kinds
        return None
