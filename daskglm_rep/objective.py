"""The minimised function: half the deviance at dispersion 1 plus a penalty, evaluated by passes or in memory."""

import dataclasses
import math
from functools import cached_property

import numpy as np
from scipy import linalg

from daskglm_rep import passes, schedulers
from daskglm_rep.blas import for_coefficients
from daskglm_rep.design import Data
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.moments import block_moments, moments_with_null
from daskglm_rep.penalties import NONE, Penalty


def ready(block, index):
    """Recipe for parts that are blocks already."""
    return block


def in_memory(block, n_parts=None):
    """`Data` of one block's rows, cut so that threads share the work."""
    work = block.n_rows * (block.X.shape[1] + 1) ** 2          # below a million or so a task costs more than it saves
    n_parts = n_parts or max(1, min(2 * schedulers.n_threads(), block.n_rows // 4096, work >> 22))
    edges = np.linspace(0, block.n_rows, n_parts + 1).astype(int)
    return Data([block.take(slice(a, b)) for a, b in zip(edges, edges[1:])], ready, [])


def thinned(data, n_rows):
    """Every so many rows of blocks in memory, about `n_rows`, weighted to stand for all; the same where there are no
    more."""
    every = sum(block.n_rows for block in data.chunks) // max(n_rows, 1)
    if every < 2:
        return data
    rows = slice(None, None, every)
    return Data([block.take(rows, weight=block.weight[rows] * every) for block in data.chunks], ready, [])


class Factored:
    """A symmetric matrix, which nobody writes to, and what is made of it once, when first asked for."""

    def __init__(self, matrix):
        self.matrix = matrix

    @cached_property
    def factor(self):
        """(Cholesky factor of the matrix scaled to unit diagonal, scales), or None, as `_factor`."""
        return _factor(self.matrix)

    def solve(self, vector):
        """matrix^-1 vector; None where there is no factor."""
        if vector.size == 0:
            return vector
        if self.factor is None:
            return None
        L, s = self.factor
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            scaled = (s * vector.T).T
        if not np.isfinite(scaled).all():
            return None
        return (s * linalg.cho_solve((L, True), scaled, check_finite=False).T).T

    @cached_property
    def inverse(self):
        """Read-only where there is a factor, else NaN."""
        if not self.matrix.size:
            return self.matrix.copy()
        if self.factor is None:
            return np.full(self.matrix.shape, math.nan)
        L, s = self.factor
        with for_coefficients(len(L)):
            half = linalg.lapack.dpotri(L, lower=1)[0]          # the lower triangle, over a factor that is zero above
        half[np.diag_indices(len(half))] *= 0.5
        inverse = s[:, None] * (half + half.T) * s
        inverse.flags.writeable = False
        return inverse


@dataclasses.dataclass(frozen=True)
class Point:
    """The objective at one coefficient vector.

    Attributes
    ----------
    coef : (k,) array in the basis
    moments : Moments
        Of the data, without the penalty.
    value : float
        Minimised function.
    gradient : (k,) array
    hessian, curvature : (k, k) array or None
        Second derivative, and the positive semidefinite expected one.
    """

    coef: np.ndarray
    moments: object
    value: float
    gradient: np.ndarray
    hessian: np.ndarray
    curvature: np.ndarray

    @property
    def valid(self):
        return math.isfinite(self.value)

    @cached_property
    def by_hessian(self):
        """`Factored`."""
        return Factored(self.hessian)

    @cached_property
    def by_curvature(self):
        """`Factored`."""
        return self.by_hessian if self.curvature is self.hessian else Factored(self.curvature)

    def factored_as(self, other):
        """This point, with the factors of another one where their matrices are the same."""
        for name, matrix, same in (("by_hessian", self.hessian, other.hessian),
                                   ("by_curvature", self.curvature, other.curvature)):
            if matrix is same:
                vars(self)[name] = getattr(other, name)
        return self

    def __getstate__(self):          # factors are made again
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def usable(self):
        """Whether value and derivatives are finite: means may overflow inside the domain."""
        return self.valid and bool(np.isfinite(self.gradient).all() and (
            self.hessian is None or np.isfinite(self.hessian).all()))


@dataclasses.dataclass(frozen=True)
class Objective:
    """Half the deviance plus a penalty.

    Parameters
    ----------
    model : models.glm.GLM or models.multinomial.Multinomial
    basis : Basis
    penalty : penalties.Penalty
    """

    model: object
    basis: Basis
    penalty: Penalty = NONE

    @property
    def n_coef(self):
        return self.model.n_equations * self.basis.n_coef

    def point(self, coef, moments):
        """Add the penalty's part to the data's."""
        value = 0.5 * moments.deviance + self.penalty.value(coef)
        gradient = self.penalty.gradient(coef) - moments.score
        hessian = curvature = self.penalty.add_curvature(moments.observed)
        if moments.expected is not moments.observed:
            curvature = self.penalty.add_curvature(moments.expected)
        return Point(coef, moments, value, gradient, hessian, curvature)

    def evaluate(self, data, coef, informative=True):
        """One sweep.

        Returns
        -------
        Point
        """
        return self.point(coef, passes.run(block_moments, data, self.model, self.basis, coef, informative))

    def evaluate_with_null(self, data, coef, null, null_coef):
        """One sweep for this objective and the null model's beside it.

        Returns
        -------
        Point, Point
        """
        pair = passes.run(moments_with_null, data, self.model, self.basis, coef, null.basis, null_coef)
        return self.point(coef, pair.first), null.point(null_coef, pair.second)

    def null(self):
        """The intercept-only model of the same kind (no column at all where there is no intercept)."""
        return Objective(self.model, self.basis.keep([0] if self.basis.intercept else []))


def _factor(matrix):
    """Cholesky factor of a symmetric matrix scaled to unit diagonal, and the scales; None where it is not positive
    definite or the numbers overflow."""
    diagonal = np.diag(matrix)
    if not (np.isfinite(matrix).all() and (diagonal > 0).all()):
        return None
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        s = 1.0 / np.sqrt(diagonal)
        scaled = s[:, None] * matrix * s
    if not np.isfinite(scaled).all():
        return None
    try:
        return linalg.cholesky(scaled, lower=True, check_finite=False), s
    except linalg.LinAlgError:
        return None


def solve(matrix, vector):
    """matrix^-1 vector for a symmetric matrix; None where `_factor` is."""
    return Factored(matrix).solve(vector)


def condition(matrix):
    """An estimate of the condition number of a symmetric matrix scaled to unit diagonal (LAPACK's, in the 1-norm);
    infinite where it is not positive definite."""
    diagonal = np.diag(matrix)
    if not (np.isfinite(matrix).all() and (diagonal > 0).all()):
        return 1.0 if matrix.size == 0 else math.inf
    s = 1.0 / np.sqrt(diagonal)
    scaled = s[:, None] * matrix * s
    factor, failed = linalg.lapack.dpotrf(scaled, lower=True)
    share = 0.0 if failed else linalg.lapack.dpocon(factor, np.abs(scaled).sum(axis=0).max(), uplo="L")[0]
    return 1.0 / share if share > 0.0 else math.inf


def solve_damped(matrix, vector):
    """`solve` with as little added to the diagonal as makes the matrix positive definite."""
    step, damping = solve(matrix, vector), 1e-12
    if not np.isfinite(matrix).all():
        return None
    diagonal = np.diag(np.maximum(np.diag(matrix), 0.0) + 1e-300)
    diagonal = diagonal + np.eye(len(matrix)) * max(diagonal.max() if diagonal.size else 0.0, 1e-300) * 1e-9
    while step is None and damping < 1e12:
        step = solve(matrix + damping * diagonal, vector)
        damping *= 100
    return step


def inverse(matrix):
    """Inverse of a symmetric positive definite matrix, scaled to unit diagonal first; NaN where it is none."""
    return Factored(matrix).inverse
