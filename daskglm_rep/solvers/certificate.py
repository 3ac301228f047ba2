"""How far a step's end is from the optimum, and how far a pilot may be believed: what `polish` stops by."""

import dataclasses
import math

import numpy as np
from scipy import linalg
from scipy.sparse import linalg as sparse_linalg

from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.kernels.rows import working_rows

LONGEST = 30.0          # a reach beyond it bounds nothing
DIFFERENCE = 1e-4          # in eta, for the derivative of working weights
MANY, LANCZOS = 500, 1e-2          # coefficients from which one eigenvalue is sought, to this accuracy


@dataclasses.dataclass(frozen=True)
class Reach:
    """How far a step moves linear predictors: max_i |z_i'd|; with several equations, the largest difference of two.

    Attributes
    ----------
    low, high : (q,) array
        Extremes over all rows of each column of the basis, the intercept's 1 among them.
    stretch : float
        Largest ratio of a column's range to its range in the pilot; infinite where the pilot saw it constant.
    """

    low: np.ndarray
    high: np.ndarray
    stretch: float

    @classmethod
    def of(cls, columns, basis, pilot):
        """From the survey's `Spread` of the raw columns and the pilot's."""
        low, high = ((end[basis.columns] - basis.center) / basis.scale for end in (columns.low, columns.high))
        one = [1.0] * basis.intercept
        seen = (pilot.high - pilot.low)[basis.columns] / basis.scale
        with np.errstate(divide="ignore", invalid="ignore"):
            stretch = np.where(high > low, (high - low) / seen, 1.0)
        return cls(np.r_[one, low], np.r_[one, high], float(np.max(stretch, initial=1.0)))

    def bound(self, step):
        """Over all rows, from the columns' ranges."""
        D = step.reshape(-1, self.low.size)
        if len(D) > 1:
            D = np.vstack([D, *(D[j] - D[j + 1:] for j in range(len(D) - 1))])
        ends = D * self.low, D * self.high
        most, least = np.maximum(*ends).sum(axis=1), np.minimum(*ends).sum(axis=1)
        return float(np.max(np.maximum(most, -least), initial=0.0))

    def estimate(self, step, pilot, basis):
        """The pilot's own, stretched as the columns' ranges are: no bound where only combinations are extreme."""
        largest = 0.0
        for block in pilot.chunks if math.isfinite(self.stretch) else ():
            change = linear_predictor(block.X, basis, step)
            if change.ndim == 2:
                change = change.max(axis=1, initial=0.0) - change.min(axis=1, initial=0.0)
            largest = max(largest, float(np.max(np.abs(change), initial=0.0)))
        return min(self.bound(step), self.stretch * largest) if math.isfinite(self.stretch) else self.bound(step)


def psi(reach):
    """(e^R - 1 - R) / R, about R / 2: what a step of reach R leaves of the gradient, per length of the step."""
    if not reach < LONGEST:
        return math.inf
    return 0.5 * reach * (1.0 + reach / 3.0) if reach < 1e-3 else (math.expm1(reach) - reach) / reach


def disagreement(here, point):
    """How far a pilot is from the full data at a point: the largest |lambda - 1| over H_p u = lambda H u and over the
    ratio of Pearson's chi-squared; infinite where H is not positive definite.

    A pilot that has not drawn the rows which carry the information of some direction lacks it, and shows here.
    """
    diagonal = np.diag(point.hessian)
    ratio = here.moments.pearson / point.moments.pearson if point.moments.pearson > 0 else 1.0
    if not (here.valid and (diagonal > 0).all() and np.isfinite(here.hessian).all() and math.isfinite(ratio)):
        return math.inf
    s = 1.0 / np.sqrt(diagonal)
    change = (here.hessian - point.hessian) * np.outer(s, s)
    try:
        if len(s) > MANY:
            values = math.inf if point.by_hessian.factor is None else _largest(change, point.by_hessian.factor[0])
        else:
            values = linalg.eigh(change, point.hessian * np.outer(s, s), eigvals_only=True, check_finite=False)
    except (linalg.LinAlgError, ValueError):
        return math.inf
    return float(np.max(np.abs(values), initial=abs(ratio - 1.0)))


def _largest(change, L):
    """Size of the largest eigenvalue of L^-1 change L^-T, by Lanczos; where that fails, the norm of all of them."""
    half = linalg.solve_triangular(L, change, lower=True, check_finite=False)
    matrix = linalg.solve_triangular(L, half.T, lower=True, check_finite=False)
    start, most = np.random.default_rng(0).standard_normal(len(L)), float(linalg.norm(matrix))
    try:
        found = sparse_linalg.eigsh(matrix, 1, v0=start, tol=LANCZOS, return_eigenvectors=False)
    except sparse_linalg.ArpackError:
        return most
    return min(most, (1.0 + LANCZOS) * float(np.abs(found).max()))


def steepness(objective, pilot, coef):
    """Largest |d log(expected weight) / d eta| over the pilot's rows: the part of |z'd| by which weights change, for
    models without a proof."""
    largest = 0.0
    for block in pilot.chunks:
        eta = linear_predictor(block.X, objective.basis, coef, block.offset)
        low, high = (working_rows(objective.model, eta + h, block.y, block.weight)[1]
                     for h in (-DIFFERENCE, DIFFERENCE))
        kept = (low > 0) & (high > 0) & np.isfinite(low) & np.isfinite(high)
        change = np.abs(np.log(high[kept]) - np.log(low[kept])) / (2 * DIFFERENCE)
        largest = max(largest, float(np.max(change, initial=0.0)))
    return largest


def worst_ratio(objective, point, errors):
    """Largest ratio of the standard error by the Hessian at dispersion 1 to the one given: turns a length in the norm
    of H into standard errors of the worst coefficient."""
    by_hessian = np.sqrt(np.maximum(objective.basis.variances(point.by_hessian.inverse), 0.0))
    ratio = by_hessian / np.maximum(errors, 1e-300)
    return float(np.max(ratio, initial=0.0)) if np.isfinite(ratio).all() else math.inf
