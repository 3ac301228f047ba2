"""Functions of rows, applied so that X's kind comes back: type, index and coordinates are kept, and laziness."""

import dataclasses

import dask.array as da
import narwhals as nw
import numpy as np
import pandas as pd
import xarray as xr

from daskglm_rep.design import as_frame, is_frame, is_lazy, is_table
from daskglm_rep.pairing import check_order
from daskglm_rep.recipes import features, values, weight_and_offset


def map_rows(X, function, n_outputs, names, columns=None, offset=None, exposure=None):
    """Apply `function(features, offset) -> (n,) or (n, n_outputs) array` row-wise; X's kind comes back, lazy if X is.

    Parameters
    ----------
    function : callable on a (n, p) float64 array (or CSR matrix) and an (n,) array
        Picklable.
    n_outputs : int or None
        None for one value a row.
    names : list of str
        Feature names, for messages.
    columns : list, optional
        Labels of the outputs.
    offset, exposure : (n,) of X's kind, or numbers, optional

    Returns
    -------
    (n,) or (n, n_outputs) numpy or dask array, dask Series or DataFrame with X's divisions, or DataArray with X's
    coordinates
    """
    apply = _Apply(function, tuple(names), columns if n_outputs is not None else None)
    check_order(X, (("offset", offset), ("exposure", exposure)))
    given = [X, offset, exposure]
    if isinstance(X, xr.DataArray):
        result = map_rows(X.data, function, n_outputs, names, columns,
                          *[c.data if isinstance(c, xr.DataArray) else c for c in given[1:]])
        dims = X.dims[:1] if n_outputs is None else (X.dims[0], "class")
        coords = {k: v for k, v in X.coords.items() if set(v.dims) <= {X.dims[0]}}
        if n_outputs is not None and columns is not None:
            coords["class"] = list(columns)
        return xr.DataArray(result, dims=dims, coords=coords, name=apply.__name__)
    if is_table(X):
        return _map_frame(given, apply, n_outputs)
    if isinstance(X, da.Array):
        return _map_array(given, apply, n_outputs)
    return apply(*given)


def _map_frame(given, apply, n_outputs):
    X = given[0]
    given[1:] = [as_frame(c, X, name) if c is not None and np.ndim(c) else c
                 for c, name in zip(given[1:], ("offset", "exposure"))]
    outputs = apply.function(np.zeros((1, len(apply.names))), np.zeros(1))
    meta = pd.Series([], dtype=outputs.dtype)
    if n_outputs is not None:
        meta = pd.DataFrame({c: meta for c in (range(n_outputs) if apply.columns is None else apply.columns)})
    return X.map_partitions(apply, *given[1:], meta=meta)


def _map_array(given, apply, n_outputs):
    X = given[0].rechunk({1: -1})
    columns = []
    for c, name in zip(given[1:], ("offset", "exposure")):
        if c is None or np.ndim(c) == 0:
            columns.append(c)
            continue
        if not is_lazy(c):
            if np.isnan(X.chunks[0]).any():
                raise ValueError(f"X has chunks of unknown size, so {name} in memory cannot be cut to match: pass a "
                                 "dask array, or call X.compute_chunk_sizes() first.")
            c = da.from_array(values(c), chunks=(X.chunks[0],))
        c = c.to_dask_array() if is_frame(c) else c
        columns.append(c if np.isnan(X.chunks[0]).any() else c.rechunk((X.chunks[0],)))
    dtype = apply.function(np.zeros((1, X.shape[1])), np.zeros(1)).dtype
    arrays = [a for c in columns for a in (c, None if c is None or np.ndim(c) == 0 else "i")]
    out, chunks = ("i", {}) if n_outputs is None else ("ik", {"k": n_outputs})
    return da.blockwise(apply, out, X, "ij", *arrays, new_axes=chunks, concatenate=True, dtype=dtype,
                        meta=np.empty((0,) * len(out), dtype), name=None)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """One chunk's prediction: checked features, offset plus log exposure, the frame's index kept."""

    function: object
    names: tuple
    columns: object

    __name__ = "predict"

    def __call__(self, X, offset=None, exposure=None):
        index = X.index if isinstance(X, pd.DataFrame) else None
        check_order(X, (("offset", offset), ("exposure", exposure)))
        X = features(X, self.names, 0)
        offset = weight_and_offset((None, offset, exposure), ("sample_weight", "offset", "exposure"), X.shape[0], 0)[1]
        out = self.function(X, offset)
        if index is None:
            return out
        return pd.Series(out, index=index) if out.ndim == 1 else pd.DataFrame(out, index=index, columns=self.columns)


def like(X, rows):
    """A lazy (n,) array of X's rows as a thing of X's kind: in memory where X is, index and coordinates kept.

    Parameters
    ----------
    X : numpy or dask array, pandas or dask DataFrame, DataArray
    rows : (n,) dask array, a chunk a block of X
    """
    if is_table(X):
        return rows.to_dask_dataframe(index=X.index)
    if isinstance(X, xr.DataArray):
        coords = {k: v for k, v in X.coords.items() if set(v.dims) <= {X.dims[0]}}
        return xr.DataArray(rows if is_lazy(X) else rows.compute(), dims=X.dims[:1], coords=coords)
    if is_lazy(X):
        return rows
    return pd.Series(rows.compute(), X.index) if isinstance(X, pd.DataFrame) else rows.compute()


def as_table(rows, columns):
    """Outputs of rows under the names of their columns: a DataFrame, a lazy one where they are lazy.

    Parameters
    ----------
    rows : (n, m) numpy or dask array, pandas or dask DataFrame, DataArray or Dataset of rows
    columns : list of str
    """
    if hasattr(rows, "columns") and not (isinstance(rows, pd.DataFrame) or is_table(rows)):      # polars, Arrow
        table = nw.from_native(rows, eager_only=True)
        return table.rename(dict(zip(table.columns, columns))).to_native()
    if isinstance(rows, pd.DataFrame) or is_table(rows):
        return rows.rename(columns=dict(zip(rows.columns, columns)))
    if isinstance(rows, xr.DataArray):
        return rows.assign_coords({"class": columns}).rename({"class": "statistic"}).to_dataset("statistic")
    return rows.to_dask_dataframe(columns) if isinstance(rows, da.Array) else pd.DataFrame(rows, columns=columns)
