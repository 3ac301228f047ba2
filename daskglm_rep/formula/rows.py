"""Recipes from a chunk of a frame to the block that kernels read, and the prediction of one chunk."""

import dataclasses

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep.formula.terms import as_floats
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.pairing import check_order
from daskglm_rep.recipes import OverRows, Rows, encode
from daskglm_rep.sources import Columns, complete


@dataclasses.dataclass(frozen=True)
class FormulaRows:
    """Recipe: a part (frame,) to a Block; rows with a missing value are left out and counted.

    Attributes
    ----------
    spec : FormulaSpec
    columns : sources.Columns
    labels : tuple or None
        Class labels in the model's order: y becomes their codes.
    raw_labels : bool
        Leave y as it came.
    """

    spec: object
    columns: Columns
    labels: tuple = None
    raw_labels: bool = False

    def with_fields(self, **changes):
        changes.pop("names", None)
        return dataclasses.replace(self, **changes)

    @property
    def response(self):
        return self.spec.response

    @property
    def intercept(self):
        return self.spec.intercept

    def __call__(self, part, index):
        spec, c = self.spec, self.columns
        frame, n_all = part[0], len(part[0])
        used = list(dict.fromkeys(spec.columns + list(spec.response_columns) + c.names))
        frame = complete(frame, used)
        X, y = spec.matrix(frame), self._response(frame)
        good = _without_nan(X, y)
        if good is not None:
            X, y, frame = X[good], y[good], frame[good]
        weight, offset = c.weight_and_offset(frame, index)
        extra = {}
        if c.clusters:
            extra["clusters"] = frame[list(c.clusters)] if len(c.clusters) > 1 else frame[c.clusters[0]]
        return Block(X, y, weight, offset, index, extra, float(n_all - len(frame)))

    def _response(self, frame):
        y = self.spec.response_values(frame)
        if self.raw_labels:
            return y
        if self.labels is not None:
            return encode(y, self.labels)
        return as_floats(y, self.spec.response, len(frame))


def _without_nan(X, y):
    """Rows to keep where a transform made NaN, such as log(-1); None for all."""
    bad = np.zeros(X.shape[0], bool)
    values = X.data if sparse.issparse(X) else X
    if np.isnan(values).any():
        bad |= np.isnan(np.asarray(X.sum(axis=1)).ravel()) if sparse.issparse(X) else np.isnan(X).any(axis=1)
    bad |= pd.isna(y)
    return ~bad if bad.any() else None


@dataclasses.dataclass(frozen=True)
class Kept:
    """Parts for `KeptRows`, in order."""

    parts: tuple
    n_missing: float

    def merge(self, other):
        return Kept(self.parts + other.parts, self.n_missing + other.n_missing)


def keep(block):
    """Kernel that brings a chunk's design home."""
    part = (block.X, block.y, block.weight, block.offset, None)
    if "clusters" in block.extra:
        part += (block.extra["clusters"],)
    return Kept((part,), block.n_missing)


@dataclasses.dataclass(frozen=True)
class KeptRows(OverRows):
    """Recipe for the parts that `keep` brings home, whose columns may be none but the intercept."""

    intercept: bool

    @classmethod
    def of(cls, spec, columns, raw_labels):
        rows = Rows(tuple(spec.names), spec.response, raw_labels=raw_labels,
                    extra=("clusters",) if columns.clusters else ())
        return cls(rows, spec.intercept)

    def __call__(self, part, index):
        return self.rows(part, index)


@dataclasses.dataclass(frozen=True)
class _FrameFunction:
    """Outputs of a frame's rows.

    Attributes
    ----------
    spec : FormulaSpec
    columns : Columns
    classes : tuple or None
        Labels of the outputs; None for one output a row.
    """

    spec: object
    columns: Columns
    classes: tuple

    __name__ = "predict"

    def with_columns(self, columns):
        return dataclasses.replace(self, columns=columns)

    def __call__(self, frame, offset=None):
        out = self.values(frame, offset)
        if out.ndim == 1:
            return pd.Series(out, index=frame.index)
        return pd.DataFrame(out, index=frame.index, columns=list(self.classes))

    def offset(self, frame, offset):
        """(n,) array: what is given, else the fit's offset and exposure columns."""
        n = len(frame)
        if offset is not None:
            check_order(frame, [("offset", offset)])
            return np.broadcast_to(as_floats(offset, "offset", n), (n,))
        total = np.zeros(n)
        for name, transform in ((self.columns.offset, np.asarray), (self.columns.exposure, np.log)):
            if name is None:
                continue
            if name not in frame.columns:
                raise ValueError(f"data lacks the column {name!r}, the fit's offset or exposure: add it, or pass "
                                 "offset=.")
            total = total + transform(as_floats(frame[name], name, n))
        return total


@dataclasses.dataclass(frozen=True)
class Predict(_FrameFunction):
    """One chunk's prediction: means, or probabilities of all classes; NaN where a column is missing.

    Attributes
    ----------
    basis : Basis
        Raw coordinates.
    coef : (k,) array
    model : models.glm.GLM or models.multinomial.Multinomial
    order : tuple
        Model's class codes in the order of the output's columns.
    linear : bool
        Linear predictors instead.
    """

    basis: object
    coef: np.ndarray
    model: object
    order: tuple
    linear: bool = False

    def values(self, frame, offset=None):
        """(n,) or (n, J) array."""
        eta = linear_predictor(self.spec.matrix(frame), self.basis, self.coef, self.offset(frame, offset))
        if self.linear:
            return eta
        means = self.model.means(eta)
        return means[:, list(self.order)] if self.order else means


@dataclasses.dataclass(frozen=True)
class RowResiduals(_FrameFunction):
    """One chunk's residuals; NaN where a column is missing.

    Attributes
    ----------
    recipe : FormulaRows
    kernel : callable on a Block and arguments to an (n, 1) array
    arguments : tuple
    """

    recipe: FormulaRows
    kernel: object
    arguments: tuple

    __name__ = "residuals"

    def values(self, frame, offset=None):
        """(n,) array."""
        c, out = self.recipe.columns, np.full(len(frame), np.nan)
        used = list(dict.fromkeys(self.spec.columns + list(self.spec.response_columns) + c.names))
        whole = np.flatnonzero(frame[used].notna().all(axis=1))
        block = self.recipe((frame.iloc[whole],), 0)
        if block.n_missing:                                  # a term is NaN there, such as log(-1): which row is unsaid
            good = _without_nan(self.spec.matrix(frame.iloc[whole]), np.zeros(whole.size))
            whole = whole[good]
        out[whole] = self.kernel(block, *self.arguments)[:, 0]
        return out


@dataclasses.dataclass(frozen=True)
class MapRows(_FrameFunction):
    """A function of design rows and offsets, applied to a frame's rows."""

    function: object

    def values(self, frame, offset=None):
        """(n,) or (n, m) array."""
        return self.function(self.spec.matrix(frame), self.offset(frame, offset))
