"""The rows that effects are averaged over: arrays in the columns of the fit, or frames for a formula."""

import dataclasses
import os

import numpy as np
import pandas as pd
import xarray as xr

from daskglm_rep import design, sources
from daskglm_rep.kernels.block import Block
from daskglm_rep.readers import open_table


@dataclasses.dataclass(frozen=True)
class TableRows:
    """Recipe: a partition to a Block whose extra["rows"] is the frame; rows missing a needed value are left out.

    Attributes
    ----------
    needed : list of str
        Columns that must not be missing.
    columns : sources.Columns
    groups : tuple of str
    response : str
        For messages.
    """

    needed: list
    columns: sources.Columns
    groups: tuple
    response: str = "y"

    def __call__(self, part, index):
        frame = sources.complete(part[0], self.needed)
        n = len(frame)
        weight, offset = self.columns.weight_and_offset(frame, index)
        check_weights(weight, index)
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


def of_frame(table, spec, over, weights, offset, exposure):
    """`design.Data` of a frame or Parquet path for a formula; only the columns in use are read.

    Raises
    ------
    ValueError
        Columns that the data do not have, or that are not columns.
    """
    table, columns = sources.beside(open_table(table), weights, offset, exposure, None)
    groups = () if over is None else tuple(over) if isinstance(over, (list, tuple)) else (over,)
    for name in groups:
        if not isinstance(name, str):
            raise ValueError("over must be the name of a column of data, or several, got a "
                             f"{type(name).__name__}: add labels as a column, data.assign(group=...), and name it.")
    used = list(dict.fromkeys([*spec.variables, *groups, *columns.names]))
    sources.check_columns(used, table, spec.formula)
    rows = sources.chunks(sources.rows_of(table, used))
    return rows.read_with(TableRows(used, columns, groups), list(spec.names))


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
    return data.read_with(ArrayRows(data.prepare, groups), list(names))


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
