"""Divide and conquer: fit every block on its own, combine the fits."""

import dataclasses

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import passes
from daskglm_rep.design import Data
from daskglm_rep.diagnostics import independent, undetermined
from daskglm_rep.fitted import distance_of
from daskglm_rep.inference.covariance import Covariance
from daskglm_rep.kernels.gram import gram
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.objective import inverse, ready
from daskglm_rep.solvers import newton
from daskglm_rep.summaries import Moments
from daskglm_rep.telling import tell

JOINS = ("estimating-equations", "mean")
COV_TYPES = ("nonrobust", "HC0")


@dataclasses.dataclass(frozen=True)
class BlockFits:
    """Sums over fitted blocks: b_k the block's estimate, A_k its information there, n_k its rows of positive weight.

    Attributes
    ----------
    information : (q, q) array
        sum A_k.
    weighted : (q,) array
        sum A_k b_k.
    constant : float
        Of the blocks' deviances to second order, constant - 2 b' sum A_k b_k + b' sum A_k b at any b: exact for linear
        models.
    share : float
        sum c_k: a block's part in the mean, its sum of weights, or 1.
    mean : (q,) array
        sum c_k b_k.
    mean_variance : (q, q) array
        sum c_k^2 E_k^-1, E_k the expected information.
    meat, mean_meat : (q, q) array
        sum s s' over rows, and sum c_k^2 E_k^-1 (sum s s') E_k^-1.
    pearson, n_rows, n_blocks : float
    left_out : tuple of (float, float)
        Blocks and rows left out: too few rows or a column constant in the block; and separated or not converged.
    """

    information: np.ndarray
    weighted: np.ndarray
    constant: float
    share: float
    mean: np.ndarray
    mean_variance: np.ndarray
    meat: np.ndarray
    mean_meat: np.ndarray
    pearson: float
    n_rows: float
    n_blocks: float
    left_out: np.ndarray

    def merge(self, other):
        return BlockFits(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))

    @classmethod
    def nothing(cls, q, left_out=((0, 0), (0, 0))):
        vector, square = np.zeros(q), np.zeros((q, q))
        return cls(square, vector, 0.0, 0.0, vector, square, square, square, 0.0, 0.0, 0.0, np.array(left_out, float))


def cut(block, n_parts, seed):
    """A block cut at random into parts of equal size; the block itself where it is one part."""
    m = min(n_parts, block.n_rows)
    if m <= 1:
        return [block]
    shuffled = block.take(np.random.default_rng((seed, block.index, 3)).permutation(block.n_rows))
    edges = np.linspace(0, block.n_rows, m + 1).astype(int)
    return [shuffled.take(slice(a, b)) for a, b in zip(edges, edges[1:])]


def fit_parts(block, objective, start, n_parts, robust, equal, seed):
    """Cut a block at random into parts and fit each.

    Parameters
    ----------
    n_parts : tuple of int
        For every block of the data.
    start : (q,) array
        The pilot's coefficients: a few iterations are saved.
    robust : bool
        Add up score rows.
    equal : bool
        Parts count alike in the mean, whatever their rows.

    Returns
    -------
    BlockFits
    """
    if block.n_rows == 0:
        return BlockFits.nothing(objective.n_coef)
    return passes.merge_all(fit_part(part, objective, start, robust, equal)
                            for part in cut(block, n_parts[block.index], seed))


def fit_part(block, objective, start, robust, equal):
    """Fit one block in memory and send the sums that combinations need."""
    if objective.model.is_linear:
        return _record(objective.evaluate(Data([block], ready, []), start), block, objective, robust, equal)
    point, left_out = fit_alone(block, objective, start)
    if point is None:
        return BlockFits.nothing(objective.n_coef, left_out)
    return _record(point, block, objective, robust, equal)


def fit_alone(block, objective, start=None):
    """A block's own fit, penalized or not.

    Parameters
    ----------
    start : (q,) array, optional
        Default, and where it leaves the family's domain: one of the block's own.

    Returns
    -------
    point : Point or None
    left_out : ((blocks, rows), (blocks, rows))
        As in `BlockFits`: what a block without a fit counts as.
    """
    small, lost = ((1, block.n_rows), (0, 0)), ((0, 0), (1, block.n_rows))
    rows, free = Data([block], ready, []), np.flatnonzero(objective.penalty.free(objective.n_coef))
    if float((block.weight > 0).sum()) < max(free.size, 1):
        return None, small
    if free.size and not independent(gram(block.X, objective.basis.keep(free), block.weight)).all():
        return None, small
    if start is None:
        start = newton.constant_start(objective, block) if objective.basis.intercept else np.zeros(objective.n_coef)
    if not objective.evaluate(rows, start, False).valid:
        try:
            start = newton.start(objective, block, rows)
        except ValueError:
            return None, lost
    solution = newton.minimise(objective, rows, start, 1e-16, 50)
    if not solution.converged or undetermined(objective, solution.point, free):
        return None, lost
    return solution.point, ((0, 0), (0, 0))


def _record(point, block, objective, robust, equal):
    """The sums of one block; for linear models, A b = A b_0 + score(b_0) whatever the rank and the b_0."""
    A, b = point.hessian, point.coef
    n, share = float((block.weight > 0).sum()), 1.0 if equal else float(block.weight.sum())
    weighted = A @ b - point.gradient
    constant = point.moments.deviance - 2.0 * point.gradient @ b + b @ A @ b
    if not independent(A).all():                                  # up to rounding too: its mean would be all noise
        left_out = BlockFits.nothing(b.size, ((1, block.n_rows), (0, 0)))
        return dataclasses.replace(left_out, information=A, weighted=weighted, constant=constant, n_blocks=1.0)
    inverted = inverse(A)
    b = inverted @ weighted
    if point.curvature is not A:                                  # variances come from the expected information
        inverted = inverse(point.curvature)
    meat = mean_meat = np.zeros_like(A)
    if robust:
        eta = objective.basis.design(block.X) @ b + block.offset
        meat = gram(block.X, objective.basis, working_rows(objective.model, eta, block.y, block.weight)[0] ** 2)
        mean_meat = share ** 2 * inverted @ meat @ inverted
    return BlockFits(A, weighted, constant, share, share * b, share ** 2 * inverted, meat, mean_meat,
                     point.moments.pearson, n, 1.0, np.zeros((2, 2)))


@dataclasses.dataclass(frozen=True)
class Combined:
    """A combination of block fits.

    Attributes
    ----------
    fitted : fitted.Fitted
    covariance : Covariance
    n_blocks : int
        Blocks combined.
    n_left_out, rows_left_out : int
    """

    fitted: object
    covariance: Covariance
    n_blocks: int
    n_left_out: int
    rows_left_out: int


def solve(prepared, start, join, n_parts, cov_type, certify, seed, equal=False):
    """Fit the blocks in one sweep and combine them.

    - estimating equations: b = (sum A_k)^-1 sum A_k b_k (Lin & Xi 2011, equation 2.7), covariance (sum A_k)^-1;
    - mean: b = sum c_k b_k / sum c_k, covariance sum c_k^2 E_k^-1 / (sum c_k)^2, c_k the block's sum of weights.

    Both times the dispersion, pooled over the blocks; robust ones have the block's score rows between.

    Parameters
    ----------
    prepared : preparation.Prepared
    start : (q,) array
        The pilot's coefficients.
    n_parts : tuple of int
    certify : bool
        One more sweep at the result: exact deviance, and the distance to the full-data MLE.
    equal : bool
        All c_k are 1.

    Returns
    -------
    Combined

    Raises
    ------
    ValueError
        No block could be fitted, or together they do not determine the coefficients.
    """
    objective, data = prepared.objective(), prepared.data
    sums = passes.run(fit_parts, data, objective, start, n_parts, cov_type == "HC0", equal, seed)
    aggregated = join == "estimating-equations"
    (small, small_rows), (lost, lost_rows) = sums.left_out
    if objective.model.is_linear and aggregated:
        small = small_rows = 0.0              # their normal equations are in the sums all the same
    used = sums.n_blocks - (small if objective.model.is_linear else 0.0)
    tell_left_out(small, small_rows, lost, lost_rows, used)
    bread = inverse(sums.information)
    coef = bread @ sums.weighted if aggregated else sums.mean / sums.share
    if not np.isfinite(coef).all():
        raise ValueError("The fitted blocks together leave some column constant or a combination of others: use fewer "
                         "blocks or drop columns.")
    rows = prepared.n_rows() - small_rows - lost_rows
    deviance = sums.constant - 2.0 * coef @ sums.weighted + coef @ sums.information @ coef
    pooled = _pooled_dispersion(objective, sums, deviance, rows, used)
    point, distance, converged = _at(data, objective, coef, sums, deviance, pooled, certify)
    dispersion = 1.0 if objective.model.dispersion_known else pooled
    if aggregated:
        matrix = bread @ sums.meat @ bread if cov_type == "HC0" else bread * dispersion
    else:
        matrix = (sums.mean_meat if cov_type == "HC0" else sums.mean_variance * dispersion) / sums.share ** 2
    note = f"Combined from {int(used):,} blocks ({join}); {int(small + lost)} blocks were left out."
    fitted = prepared.fitted_at(point, converged, distance)
    if not certify:
        note += " Deviance and likelihood to second order about the blocks' estimates."
    df = None if objective.model.dispersion_known or cov_type == "HC0" else rows - objective.n_coef
    return Combined(fitted, Covariance(objective.basis.covariance(matrix), cov_type, df, note), int(used),
                    int(small + lost), int(small_rows + lost_rows))


def _pooled_dispersion(objective, sums, deviance, rows, used):
    """Pearson's chi-squared over the degrees of freedom of the separate fits; of the joint fit for linear models."""
    total, rest = (deviance, rows - objective.n_coef) if objective.model.is_linear else (
        sums.pearson, rows - used * objective.n_coef)
    return total / rest if rest > 0 else np.nan


def _at(data, objective, coef, sums, deviance, pooled, certify):
    """The objective at the combination: exact by a sweep, or carried there by the blocks' quadratics."""
    if certify:
        point = objective.evaluate(data, coef)
        step = newton.direction(objective, point)
        scale = 1.0 if objective.model.dispersion_known else pooled
        se = np.sqrt(np.diag(objective.basis.covariance(inverse(point.curvature))) * scale)
        return point, distance_of(objective, step, se, coef), bool(point.valid)
    pearson = pooled * max(sums.n_rows - coef.size, 0.0)
    moments = Moments(np.zeros(coef.size), sums.information, sums.information, float(deviance), float(pearson))
    return objective.point(coef, moments), np.nan, True


def tell_left_out(small, small_rows, lost, lost_rows, used):
    """Say how many blocks, and rows in them, are in no combination; refuse where no block is left."""
    reasons = []
    if small:
        reasons.append(f"{int(small)} ({int(small_rows)} rows) have too few rows or a column that is constant "
                       "in the block")
    if lost:
        reasons.append(f"{int(lost)} ({int(lost_rows)} rows) are separated or did not converge")
    if not used > 0:
        raise ValueError(f"No block could be fitted on its own: {'; '.join(reasons)}. Use fewer blocks, or fit all "
                         "rows (GLMRegressor).")
    if reasons:
        tell(f"Blocks left out of the combination: {'; '.join(reasons)}. Use fewer blocks, or fit all rows.",
             ConvergenceWarning)


def parts_of(lengths, n_blocks):
    """How many parts each chunk is cut into so that there are n_blocks in all, in proportion to its rows.

    A chunk without rows is no part.

    Raises
    ------
    ValueError
        Fewer blocks than chunks.
    """
    if n_blocks is None:
        return tuple(int(n > 0) for n in lengths)
    n_chunks = np.count_nonzero(lengths)
    if n_blocks < n_chunks:
        raise ValueError(f"partitions={n_blocks} is less than the {n_chunks} chunks of the data, and rows do not move "
                         "between chunks: rechunk first, or ask for more.")
    edges = np.rint(np.cumsum(lengths) * (n_blocks / max(sum(lengths), 1))).astype(int)
    counts = np.where(np.array(lengths) > 0, np.maximum(np.diff(np.r_[0, edges]), 1), 0)
    return tuple(counts.tolist())
