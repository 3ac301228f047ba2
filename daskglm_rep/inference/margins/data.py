"""The rows that effects are averaged over: arrays in the columns of the fit, or frames for a formula."""

import dataclasses
import os

import dask.dataframe as dd
import numpy as np
import pandas as pd
import xarray as xr

from daskglm_rep import design
from daskglm_rep.kernels.block import Block


@dataclasses.dataclass(frozen=True)
class FrameRows:
    """Recipe: a partition to a Block whose extra["rows"] is the frame; rows missing a needed value are left out.

    Attributes
    ----------
    needed : tuple of str
        Columns that must not be missing.
    weight, offset, exposure : str or None
        Columns.
    groups : tuple of str
    response : str
        For messages.
    """

    needed: tuple
    weight: str = None
    offset: str = None
    exposure: str = None
    groups: tuple = ()
    response: str = "y"

    def __call__(self, part, index):
        frame = part[0]
        complete = frame[list(self.needed)].notna().all(axis=1).to_numpy()
        frame = frame if complete.all() else frame[complete]
        n = len(frame)
        weight = _numbers(frame, self.weight, 1.0, index)
        check_weights(weight, index)
        offset = _numbers(frame, self.offset, 0.0, index)
        if self.exposure is not None:
            exposure = _numbers(frame, self.exposure, 1.0, index)
            if not (exposure > 0).all():
                raise ValueError(f"exposure {self.exposure!r} must be > 0 in every row (block {index}).")
            offset = offset + np.log(exposure)
        extra = {"rows": frame}
        if self.groups:
            extra["groups"] = frame[list(self.groups)]
        return _weighty(Block(np.empty((n, 0)), np.zeros(n), weight, offset, index, extra))


@dataclasses.dataclass(frozen=True)
class ArrayRows:
    """Recipe: a chunk of arrays to a Block whose extra["rows"] is its X."""

    recipe: object
    groups: tuple = ()

    def __call__(self, part, index):
        block = self.recipe(part, index)
        check_weights(block.weight, index)
        extra = {"rows": block.X}
        if self.groups:
            labels = block.extra["clusters"]
            labels = labels.to_numpy() if hasattr(labels, "to_numpy") else np.asarray(labels)
            extra["groups"] = _no_gaps(pd.DataFrame(labels.reshape(len(labels), -1), columns=list(self.groups)), index)
        return _weighty(dataclasses.replace(block, extra=extra))

    @property
    def response(self):
        return self.recipe.response


def _weighty(block):
    return block if (block.weight > 0).all() else block.take(np.flatnonzero(block.weight > 0))


def _no_gaps(groups, index):
    missing = int(groups.isna().any(axis=1).sum())
    if missing:
        raise ValueError(f"over= has {missing} missing labels in block {index}: drop these rows or name their group.")
    return groups


def check_weights(weight, index):
    bad = int((~(weight >= 0)).sum())
    if bad:
        raise ValueError(f"weights= has {bad} negative or missing values in block {index}; weights must be >= 0.")


def _numbers(frame, name, default, index):
    if name is None:
        return np.broadcast_to(np.float64(default), (len(frame),))
    try:
        values = frame[name].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"column {name!r} must be numeric; block {index} holds other values.") from None
    return values


def of_frame(table, spec, over, weights, offset, exposure):
    """`design.Data` of a frame or Parquet path for a formula; only the columns in use are read.

    Raises
    ------
    ValueError
        Columns that the data do not have, or that are not columns.
    """
    table = open_frame(table)
    groups = () if over is None else (over,) if isinstance(over, str) else tuple(over)
    roles = {"weights": weights, "offset": offset, "exposure": exposure}
    for option, name in [("over", g) for g in groups] + [(o, n) for o, n in roles.items() if n is not None]:
        if not isinstance(name, str):
            raise ValueError(f"{option}= must name a column of the data, got {type(name).__name__}: add it to the "
                             "frame as a column first.")
    chosen = [*spec.variables, *groups, *[name for name in roles.values() if name is not None]]
    missing = [name for name in chosen if name not in table.columns]
    if missing:
        raise ValueError(f"the data of the effects have no column {missing[0]!r}, which the model or over=, weights=, "
                         f"offset= need; their columns are {', '.join(map(repr, list(table.columns)[:20]))}.")
    chosen = list(dict.fromkeys(chosen))
    prepare = FrameRows(tuple(chosen), weights, offset, exposure, groups)
    table = table[chosen]
    if isinstance(table, pd.DataFrame):
        n = len(table)
        step = max(design.MIN_ROWS, -(-n // design.N_EAGER))
        parts = [(table.iloc[start:start + step],) for start in range(0, max(n, 1), step)]
        return design.Data(parts, prepare, list(spec.names))
    table = table.optimize()
    return design.Data([(key,) for key in table.__dask_keys__()], prepare, list(spec.names), [table])


def open_frame(table):
    """A pandas or dask DataFrame from what a user passes."""
    if isinstance(table, (str, os.PathLike)):
        return dd.read_parquet(os.fspath(table))
    if isinstance(table, (list, tuple)) and table and all(isinstance(p, (str, os.PathLike)) for p in table):
        return dd.read_parquet([os.fspath(p) for p in table])
    if isinstance(table, xr.Dataset):
        return table.to_dask_dataframe() if table.chunks else table.to_dataframe().reset_index()
    if isinstance(table, dict):
        return pd.DataFrame(table)
    if isinstance(table, (pd.DataFrame, dd.DataFrame)):
        return table
    raise ValueError(f"effects of a formula need data with named columns, got {type(table).__name__}: pass a pandas or "
                     "dask DataFrame, or the path of Parquet files.")


def of_array(X, names, over, weights, offset, exposure):
    """`design.Data` of arrays or frames whose columns are those of the fit.

    Raises
    ------
    ValueError
        Columns that differ from the fit's.
    """
    if isinstance(X, (str, os.PathLike)):
        raise ValueError("a path needs a model fitted from a formula (daskglm_rep.glm); pass the X of this model "
                         "instead.")
    if not (design.is_lazy(X) or isinstance(X, (pd.DataFrame, xr.DataArray)) or hasattr(X, "tocsr")):
        X = np.asarray(X)
    groups = ()
    if over is not None:
        over, groups = _column_or_array(X, over, "over"), _group_names(over)
    weights = _column_or_array(X, weights, "weights")
    if hasattr(X, "columns") and set(names) < set(X.columns):
        X = X[list(names)]
    found, named = design.feature_names(X)
    if len(found) != len(names) or (named and list(found) != list(names)):
        raise ValueError(f"X has the columns {', '.join(map(repr, found[:10]))}, the model was fitted on "
                         f"{', '.join(map(repr, names[:10]))}: pass the same columns in the same order.")
    data = design.build(X, None, weights, offset, exposure, over).with_names(list(names))
    new = design.Data(data.parts, ArrayRows(data.prepare, groups), list(names), data.collections)
    return new


def _group_names(over):
    if isinstance(over, str):
        return (over,)
    if isinstance(over, (list, tuple)) and all(isinstance(name, str) for name in over):
        return tuple(over)
    if np.ndim(over) == 2:
        return tuple(map(str, getattr(over, "columns", range(over.shape[1]))))
    return (str(getattr(over, "name", None) or "over"),)


def _column_or_array(X, value, option):
    """A column of X by name, or the array itself."""
    named = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    if not named or not all(isinstance(name, str) for name in named):
        return value
    if not hasattr(X, "columns"):
        raise ValueError(f"{option}={value!r} names a column, but X is an array: pass the values, one a row.")
    missing = [name for name in named if name not in X.columns]
    if missing:
        raise ValueError(f"{option}= names the column {missing[0]!r}, which X does not have.")
    return X[value] if isinstance(value, str) else X[list(value)]
