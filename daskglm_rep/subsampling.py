"""Fits on a subsample: A-optimal, L-optimal, uniform, and the extreme rows of IBOSS.

Two-step optimal subsampling (Wang, Zhu & Ma, JASA 2018; Ai, Yu, Zhang & Wang, Statistica Sinica 2021, for generalized
linear models): a pilot gives importances q_i, rows are drawn in proportion to them, and each drawn row is weighted by
one over its probability. Rows are drawn independently of each other (Poisson sampling; Yu, Wang, Ai & Zhang, JASA
2022) at a rate that the pilot's rows settle, so one sweep after the survey does it and no row waits for a total.
"""

import dataclasses
import math

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import passes
from daskglm_rep.diagnostics import undetermined
from daskglm_rep.fitted import dispersion
from daskglm_rep.inference.covariance import Covariance
from daskglm_rep.kernels.gram import gram
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.kernels.sampling import ImportanceDraw, SimpleDraw, draw, extremes, importance, joined, rows_of_keys
from daskglm_rep.kernels.survey import response_totals
from daskglm_rep.objective import in_memory, inverse
from daskglm_rep.solvers import newton
from daskglm_rep.telling import tell

METHODS = ("a-optimal", "l-optimal", "iboss", "uniform")


@dataclasses.dataclass(frozen=True)
class Subsample:
    """A fit on sampled rows.

    Attributes
    ----------
    fitted : fitted.Fitted
    covariance : Covariance
        Of the estimate about the true coefficients.
    about_full : (k, k) array
        Covariance of the estimate about the full-data MLE, raw coordinates; NaN for IBOSS, which is not random.
    n_samples : int
    """

    fitted: object
    covariance: Covariance
    about_full: np.ndarray
    n_samples: int


def solve(prepared, start, method, n_samples, uniform_share, seed):
    """Draw the sample in one sweep (two for IBOSS) and fit it.

    Parameters
    ----------
    prepared : preparation.Prepared
    start : (k,) array
        The pilot's coefficients.
    method : str
        One of `METHODS`.
    n_samples : int
        Rows wanted: exact for uniform, in expectation for the optimal methods, at most for IBOSS.
    uniform_share : float in [0, 1)
        Share of the optimal samples drawn uniformly, so that no weight is huge.

    Returns
    -------
    Subsample

    Raises
    ------
    ValueError
        The sample has fewer rows than coefficients, or does not determine them.
    """
    if method == "iboss":
        block, probability = _most_extreme(prepared, n_samples)
    else:
        plan = (_simple(prepared.found, n_samples, seed) if method == "uniform" else
                _optimal(prepared, start, method, n_samples, uniform_share, seed))
        block, probability = joined(passes.run(draw, prepared.data, plan))
    weighted = dataclasses.replace(block, weight=block.weight / probability)
    objective = prepared.objective()
    _determined(weighted, objective, method)
    rows = in_memory(weighted)
    if not objective.evaluate(rows, start, False).valid:
        start = newton.start(objective, weighted, rows)
    solution = newton.minimise(objective, rows, start, 1e-20)
    if method == "iboss":
        found = _iboss_result(prepared, solution, block)
    else:
        found = _weighted_result(prepared, solution, block, probability, method)
    return _without_errors(found) if _is_lost(solution, objective) else found


# ---------------------------------------------------------------- which rows


def _simple(found, n_samples, seed):
    lengths = found.lengths
    n = min(n_samples, sum(lengths))
    generator = np.random.default_rng((seed, 2))
    counts = generator.multivariate_hypergeometric(lengths, n, method="marginals")
    return SimpleDraw(tuple(counts.tolist()), n / sum(lengths), seed)


def _optimal(prepared, coef, method, n_samples, uniform_share, seed):
    objective, found = prepared.objective(), prepared.found
    point = objective.evaluate(prepared.pilot, coef)
    T = objective.basis.to_raw
    matrix = T @ inverse(point.curvature) if method == "a-optimal" else np.linalg.inv(T).T
    n_rows = sum(found.lengths)
    floor = uniform_share * n_samples / n_rows
    plan = ImportanceDraw(objective.model, objective.basis, coef, matrix, math.inf, floor, seed)
    if n_samples >= n_rows:
        return plan
    q = importance(prepared.block, objective.model, objective.basis, coef, matrix)
    pilot_lengths = np.array(found.pilot_rows)
    stands_for = np.repeat(found.lengths / np.maximum(pilot_lengths, 1), pilot_lengths)
    return dataclasses.replace(plan, rate=_rate(q / stands_for, stands_for, floor, n_samples))


def _rate(q, stands_for, floor, n_samples):
    """The rate at which sum min(1, rate q + floor), over the rows that the pilot stands for, is n_samples."""
    if not (np.isfinite(q).all() and (q > 0).any()):
        raise ValueError("The pilot's rows fit perfectly or not at all, so no row has an importance: use "
                         "method='uniform' or a larger n_pilot.")
    low, high = 0.0, 1.0 / q[q > 0].min()
    for _ in range(200):
        rate = 0.5 * (low + high)
        if stands_for @ np.minimum(1.0, rate * q + floor) < n_samples:
            low = rate
        else:
            high = rate
    return high


def _most_extreme(prepared, n_samples):
    """Rows that IBOSS picks (Wang, Yang & Stufken, JASA 2019, Algorithm 1): column by column the r least and the r
    largest values among the rows not picked yet, r = n / (2 p).

    Earlier columns pick at most 2 r (j - 1) rows and the other end r, so the 2 r j most extreme rows of column j at
    each end hold those it picks: they are summaries that merge, and a second sweep fetches the rows.
    """
    data, columns = prepared.data, prepared.basis.columns
    if not columns.size:
        raise ValueError("IBOSS takes the extreme rows of every column, and no column of X varies (n_samples = "
                         f"{int(prepared.n_rows())} rows): use another method.")
    r = n_samples // (2 * columns.size)
    if r < 1:
        raise ValueError(f"IBOSS takes rows at both ends of {columns.size} columns: n_samples must be at least "
                         f"{2 * columns.size}, got {n_samples}.")
    depths = tuple(2 * r * (j + 1) for j in range(columns.size))
    found = passes.run(extremes, data, columns, depths)
    picked = np.empty(0, np.int64)
    for least, largest in zip(found.ends[::2], found.ends[1::2]):
        for _, keys in (least, largest):
            new = keys[~np.isin(keys, picked)][:r]
            picked = np.r_[picked, new]
    return joined(passes.run(rows_of_keys, data, np.sort(picked)))


# ---------------------------------------------------------------- what the sample says


def _determined(block, objective, method):
    if (block.weight > 0).sum() < objective.n_coef:
        raise ValueError(f"The sample has {int((block.weight > 0).sum())} rows for {objective.n_coef} coefficients: "
                         "raise n_samples.")
    if not np.isfinite(inverse(gram(block.X, objective.basis, block.weight))).all():
        raise ValueError(f"The {block.n_rows} sampled rows (method={method!r}) leave some column constant or a "
                         "combination of others: raise n_samples or drop rare columns.")


def _is_lost(solution, objective):
    return not solution.converged or undetermined(objective, solution.point)


def _without_errors(found):
    """The same coefficients with no claim about them, and a warning."""
    tell(f"The fit to the {found.n_samples} sampled rows did not converge: they may be separated although the "
         "data are not, and the errors are reported as NaN. Raise n_samples or fit all rows (GLMRegressor).",
         ConvergenceWarning)
    fit = dataclasses.replace(found.fitted.fit, distance=math.inf, converged=False)
    covariance = dataclasses.replace(found.covariance, matrix=np.full_like(found.covariance.matrix, math.nan))
    return dataclasses.replace(found, fitted=dataclasses.replace(found.fitted, fit=fit), covariance=covariance,
                               about_full=np.full_like(found.about_full, math.nan))


def _weighted_result(prepared, solution, block, probability, method):
    """Sandwich with the drawn rows' weights.

    With s_i the score rows and pi_i the probabilities, sum s_i s_i' / pi_i^2 over the sample estimates the variance of
    the weighted score about the truth, and sum (1 - pi_i) s_i s_i' / pi_i^2 that about the full-data score (Yu et al.
    2022, section 3; Wang, Zhu & Ma 2018, equation 19, draws with replacement and has pi = n q).
    """
    objective, point = prepared.objective(), solution.point
    eta = objective.basis.design(block.X) @ point.coef + block.offset
    residual, _, _ = working_rows(objective.model, eta, block.y, block.weight)
    squares = (residual / probability) ** 2
    bread = inverse(point.curvature)
    total, about_full = (objective.basis.covariance(bread @ gram(block.X, objective.basis, v) @ bread)
                         for v in (squares, squares * (1.0 - probability)))
    ordinary = np.diag(objective.basis.covariance(bread)) * dispersion(objective.model, point, prepared.n_rows())
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = float(np.max(np.sqrt(np.maximum(np.diag(about_full), 0.0) / ordinary), initial=0.0))
    note = (f"Estimated from {block.n_rows:,} of {sum(prepared.found.lengths):,} rows ({method}); deviance and "
            "likelihood are estimates, and the distance to the optimum is the expected one to the full-data MLE.")
    fitted = prepared.fitted_at(point, solution.converged, distance, solution.n_iter)
    return Subsample(fitted, Covariance(total, "subsample", None, note), about_full, block.n_rows)


def _iboss_result(prepared, solution, block):
    """Model-based on the picked rows: they were picked by their covariates alone."""
    objective, point = prepared.objective(), solution.point
    response, _ = response_totals(objective.model.family, block.y, block.weight)
    n = response.n_kept
    matrix = objective.basis.covariance(inverse(point.curvature)) * dispersion(objective.model, point, n)
    df = None if objective.model.dispersion_known else max(n - objective.n_coef, 0.0)
    note = (f"Fitted to the {block.n_rows:,} most extreme of {sum(prepared.found.lengths):,} rows (IBOSS); right where "
            "the model is right for these rows too.")
    fitted = prepared.fitted_at(point, solution.converged, n_iter=solution.n_iter, response=response)
    return Subsample(fitted, Covariance(matrix, "nonrobust", df, note), np.full_like(matrix, math.nan), block.n_rows)
