"""Recipes: one chunk of what a user passed (numpy, pandas, xarray, CSR) to a validated `Block`, inside a task."""

import collections
import dataclasses
import math

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.survey import codes_of
from daskglm_rep.pairing import check_order

WEIGHT_ROLES, DEFAULTS = ("sample_weight", "offset", "exposure"), (1.0, 0.0, 1.0)
FEW_LABELS = 16          # up to this many numeric labels are found by comparing, in 1 ns a row


@dataclasses.dataclass(frozen=True)
class Rows:
    """Recipe: a part (X, y, sample_weight, offset, exposure, *extra) to a Block.

    Attributes
    ----------
    names : tuple of str
        Feature names, for messages.
    response : str
        Name of y, for messages.
    labels : tuple or None
        Sorted class labels: y becomes their codes. None leaves y numeric.
    raw_labels : bool
        Leave y as it came (the survey looks for labels).
    extra : tuple of str
        Names of the extra values.
    class_weights : tuple of (label, number)
        Multiply the weights of rows with these labels.
    """

    names: tuple
    response: str = "y"
    labels: tuple = None
    raw_labels: bool = False
    extra: tuple = ()
    class_weights: tuple = ()

    def with_fields(self, **changes):
        return dataclasses.replace(self, **changes)

    def __call__(self, part, index):
        X, y, weight, offset, exposure, *extra = part
        X = features(X, self.names, index)
        n = X.shape[0]
        weight, offset = weight_and_offset((weight, offset, exposure), WEIGHT_ROLES, n, index)
        if self.class_weights:
            weight = weight * _class_factors(values(y).reshape(-1), self.class_weights)
        y = np.zeros(n) if y is None else self._response(y, n, index, weight)
        extras = {name: _extra(value, name, n, index) for name, value in zip(self.extra, extra)}
        return Block(X, y, weight, offset, index, extras)

    def _response(self, y, n, index, weight):
        y = values(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise ValueError(f"{self.response} has {y.shape[-1]} columns at block {index}, and a fit takes one "
                             "response: select it.")
        if len(y) != n:
            raise ValueError(f"X and {self.response} differ in length at block {index}: {n} and {len(y)} rows; chunk "
                             "them alike.")
        if self.raw_labels:
            return y
        if self.labels is not None:
            return encode(y, self.labels, weight)
        return _numeric(y, self.response, index)


def _class_factors(y, class_weights):
    """(n,) weights of rows by the labels y; 1 for labels without one."""
    factors = np.ones(len(y))
    for label, weight in class_weights:
        factors[y == label] = weight
    return factors


@dataclasses.dataclass(frozen=True)
class OverRows:
    """Base of recipes that put something in front of `rows`."""

    rows: Rows

    def with_fields(self, **changes):
        return dataclasses.replace(self, rows=self.rows.with_fields(**changes))

    @property
    def response(self):
        return self.rows.response

    @property
    def class_weights(self):
        return self.rows.class_weights


@dataclasses.dataclass(frozen=True)
class WithScalars(OverRows):
    """A recipe with some values the same for every chunk."""

    scalars: tuple

    def __call__(self, part, index):
        part = list(part)
        for i, value in self.scalars:
            part[i] = value
        return self.rows(part, index)


@dataclasses.dataclass(frozen=True)
class FrameRows(OverRows):
    """Recipe for a partition that carries X and other columns side by side, and the partitions of columns beside it.

    Attributes
    ----------
    n_features : int
    roles : tuple
        Per role (position, width) of its columns after X's; (-k, width) where it is the k-th partition beside; or None.
    names : tuple of str
        Of the roles.
    span : (first label, last label) or None
        Of the whole frame, where its divisions are known.
    """

    n_features: int
    roles: tuple
    names: tuple
    span: tuple = None

    def __call__(self, part, index):
        frame, others = part[0], part[1:]
        if isinstance(frame, Columns):
            return self.rows((frame.X, *map(frame.role, self.roles)), index)
        pick = [None if r is None else others[-r[0] - 1] if r[0] < 0 else frame.iloc[:, r[0]] if r[1] == 1
                else frame.iloc[:, r[0]:r[0] + r[1]] for r in self.roles]
        check_order(frame, zip(self.names, pick), f" (block {index})", self.span)
        return self.rows((frame.iloc[:, :self.n_features], *pick), index)


class _Lent:
    """Memory of an array, given back when the last view of it is gone."""

    def __init__(self, memory):
        self.memory, self.__array_interface__ = memory, memory.__array_interface__

    def __del__(self):
        kept = sum(memory.nbytes for memory in list(FREE))          # a copy: other threads append meanwhile
        if kept + self.memory.nbytes <= KEPT_BYTES:
            FREE.append(self.memory)


FREE, KEPT_BYTES = collections.deque(), 2 ** 28


def room(*shape):
    """An array of numbers not yet set, in the memory of an earlier one: the system takes 5 ns a row for new pages."""
    size = math.prod(shape)
    try:
        memory = FREE.pop()
    except IndexError:
        memory = np.empty(0)
    if memory.size < size:
        memory = np.empty(size)
    return np.asarray(_Lent(memory))[:size].reshape(shape)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Stands where a frame of numbers without gaps would: X's columns, and those of the roles in the frame's order.

    Attributes
    ----------
    X : (n, p) array
    others : tuple of (n,) arrays
    """

    X: np.ndarray
    others: tuple

    def role(self, where):
        """One column, or several as a frame, by (position, width) in the frame, or None; see `FrameRows`."""
        if where is None:
            return None
        first = where[0] - self.X.shape[1]
        columns = self.others[first:first + where[1]]
        return columns[0] if where[1] == 1 else pd.DataFrame(dict(enumerate(columns)))


def values(a):
    """The array inside a pandas or xarray object, as it is."""
    if isinstance(a, (pd.Series, pd.DataFrame, pd.Index)):
        return a.to_numpy()
    return a.to_numpy() if isinstance(a, xr.DataArray) else np.asarray(a)


def _numeric(a, name, index):
    if a.dtype == np.float64:
        return a
    if a.dtype.kind in "biuf":
        return a.astype(np.float64)
    try:
        return a.astype(np.float64)
    except (TypeError, ValueError):
        example = next((v for v in a.ravel() if not isinstance(v, (int, float))), a.ravel()[0])
        raise ValueError(f"{name} must be numeric, but block {index} holds {str(example)!r}; encode it first, or name "
                         "it in a formula (daskglm_rep.glm).") from None


def column(a, name, n, index, default):
    """One finite number a row, (n,) float64: a default, a scalar, or a checked column."""
    if a is None:
        return np.broadcast_to(np.float64(default), (n,))
    a = _numeric(values(a), name, index)
    if a.ndim == 0:
        return np.broadcast_to(a, (n,))
    if a.ndim == 2 and a.shape[1] == 1:
        a = a[:, 0]
    if a.shape != (n,):
        raise ValueError(f"{name} has shape {a.shape} at block {index} where X has {n} rows; give one value a row, "
                         "chunked like X.")
    bad = int((~np.isfinite(a)).sum())
    if bad:
        raise ValueError(f"{name} has {bad} NaN or infinite values in block {index}; drop these rows or fill them.")
    return a


def weight_and_offset(given, names, n, index):
    """Weights of a chunk's rows, and their offsets with the logarithm of the exposure, (n,) arrays.

    Parameters
    ----------
    given : (weight, offset, exposure)
        Columns, scalars or None.
    names : (str, str, str)
        Theirs, for messages.

    Raises
    ------
    ValueError
        What is not one finite number a row; exposures that are not positive.
    """
    weight, offset, exposure = [column(a, name, n, index, default) for a, name, default in zip(given, names, DEFAULTS)]
    if given[2] is None:
        return weight, offset
    bad = int((~(exposure > 0)).sum())
    if bad:
        raise ValueError(f"{names[2]} must be > 0: {bad} of {n} rows of block {index} are not; drop them or correct "
                         "them.")
    return weight, offset + np.log(exposure)


def _extra(a, name, n, index):
    a = a if isinstance(a, (pd.DataFrame, pd.Series)) else values(a)
    if a.ndim > 2:
        raise ValueError(f"{name} has {a.ndim} dimensions; give one label a row, or one column for each way of "
                         "clustering.")
    if len(a) != n:
        raise ValueError(f"{name} has {len(a)} rows at block {index} where X has {n}; chunk it like X.")
    return a


def features(X, names, index):
    """A chunk of X as float64, checked for text and for the number of columns; CSR stays CSR."""
    if sparse.issparse(X):
        return sparse.csr_matrix(X, dtype=np.float64)
    if isinstance(X, pd.DataFrame):
        refuse_text(X, f" (block {index})")
        X = X.to_numpy(dtype=np.float64, na_value=np.nan)
    X = values(X)
    if X.ndim != 2:
        raise ValueError(f"X must be two-dimensional (rows, features), got {X.ndim} dimensions. Reshape your data.")
    if np.iscomplexobj(X):
        raise ValueError("Complex data not supported: X must be real.")
    if X.shape[1] != len(names):
        raise ValueError(f"X has {X.shape[1]} features, but {len(names)} were expected (block {index}).")
    if X.dtype != np.float64:
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            kind = type(error)
            raise kind(f"could not convert X to float at block {index}: {error}; encode text columns, or fit with a "
                       "formula (daskglm_rep.glm).") from None
    return X


def no_number(name, dtype):
    """What to say of a column of a type that is no number."""
    if pd.api.types.is_datetime64_any_dtype(dtype) or isinstance(dtype, pd.PeriodDtype):
        return (f"{name} holds times ({dtype}), which are no numbers: use the time since a date, (t - t.min()) / "
                "pd.Timedelta('1D'), or a part of it, t.dt.year or t.dt.month, as a column of its own.")
    if pd.api.types.is_timedelta64_dtype(dtype):
        return (f"{name} holds durations ({dtype}), which are no numbers: divide them by a unit, t / "
                "pd.Timedelta('1D').")
    return f"{name} holds {dtype} values, which are neither numbers nor categories: convert them."


def refuse_text(frame, where=""):
    """Refuse columns of a frame that are no numbers, naming the first; `where` says in which part of the rows."""
    for j in np.flatnonzero([not pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]):
        name, dtype = frame.columns[j], frame.dtypes.iloc[j]
        if dtype.kind in "mM":
            raise ValueError(f"Column {no_number(repr(name), dtype)}")
        try:
            frame.iloc[:, j].astype(np.float64)
        except (TypeError, ValueError):
            raise ValueError(f"could not convert column {name!r} of X to float: it holds text or categories{where}; "
                             f"encode it, or fit with a formula: daskglm_rep.glm('y ~ C({name})', ...).") from None


def encode(y, labels, weight=None):
    """Codes 0..J-1 of labels, as floats; rows of weight 0 may have any label, but none that is missing.

    Raises
    ------
    ValueError
        A value is not among the labels.
    """
    labels = np.asarray(labels)
    y = np.asarray(y)
    if weight is not None and weight.size and weight.min() <= 0.0:
        counts = (weight > 0.0) | pd.isna(y)
        y = np.where(counts, y, labels[0]) if y.dtype.kind in "biuf" else np.where(counts, y.astype(object), labels[0])
    if y.dtype.kind in "biuf" and labels.dtype.kind in "biuf" and len(labels) <= FEW_LABELS:
        if labels.tolist() == [0, 1] and np.count_nonzero(y == 0) + np.count_nonzero(y == 1) == y.size:
            return np.asarray(y, np.float64)
        codes = codes_of(np.asarray(y, np.float64), labels.astype(np.float64))
        if codes is not None:
            return codes
    if y.dtype.kind == "O":
        codes = np.clip(pd.Index(labels).get_indexer(y), 0, len(labels) - 1)
    else:
        order = np.argsort(labels)
        codes = order[np.clip(np.searchsorted(labels[order], y), 0, len(labels) - 1)]
    wrong = labels[codes] != y
    if np.any(wrong):
        raise ValueError(f"y holds the label {np.asarray(y)[wrong][0]!r}, which is none of {list(labels)[:10]}.")
    return codes.astype(np.float64)
