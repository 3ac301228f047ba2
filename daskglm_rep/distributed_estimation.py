"""One-shot distributed estimation with penalties: parts are fitted where their rows lie, their fits are averaged.

Lee, Liu, Sun & Taylor (2015). One visit of a part: its penalized fit b_k, the score g_k = score(b_k) / n_k there, and
its share of the node-wise regressions. At home: b = mean of b_k + Theta mean of g_k. Parts count by their weights.
"""

import dataclasses
import math

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import passes
from daskglm_rep.combining import cut, fit_alone, tell_left_out
from daskglm_rep.debiasing import NodewisePenalty, debiased, rows_of_part, theta_rows
from daskglm_rep.debiased_steps import measured, tell_reach
from daskglm_rep.inference.sandwich import Covariance
from daskglm_rep.kernels.meat import Adjustment, block_meat
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.fitted import Fitted
from daskglm_rep.objective import Objective
from daskglm_rep.preparation import prepare, small_plan
from daskglm_rep.shrinkage import Shrinkage, nodewise_penalty
from daskglm_rep.summaries import Pair, Total
from daskglm_rep.telling import AliasWarning, CovarianceWarning, tell

NEAR, MOST_STEPS = 0.1, 10         # standard errors of a next step that is not worth its sweep
SAME = 1e-6          # relative difference of two deviances of the same rows, found in other ways


def first_sweep(data, model, fit_intercept, penalize_intercept, seed, pilot):
    """`preparation.prepare` for penalized parts.

    Columns that are combinations of others stay: penalties part them. Constant ones beside a free intercept do not.

    Parameters
    ----------
    penalize_intercept : bool
        Columns stay uncentred, so that the intercept penalized is the raw one.
    pilot : bool
        Bring home as many rows as there are coefficients, 500 at least; else one a block.

    Returns
    -------
    Prepared
    """
    plan = small_plan(data, max(500, len(data.names) + 1) if pilot else 1, seed)
    prepared = prepare(data, model, fit_intercept, plan, penalized=True)
    basis, columns = prepared.basis, prepared.found.columns
    constant = (columns.low == 0.0) & (columns.high == 0.0)
    if penalize_intercept:
        scale = np.hypot(columns.mean, columns.deviation)
        basis = dataclasses.replace(basis, center=np.zeros(basis.columns.size), scale=np.where(scale > 0.0, scale, 1.0))
    elif fit_intercept:
        constant = columns.low >= columns.high
    kept = np.r_[np.full(int(basis.intercept), True), ~constant]
    if not kept.any():
        raise ValueError(f"No coefficient is left to fit: without an intercept, X is zero in all {kept.size} columns.")
    if constant.any():
        names = [data.names[j] for j in np.flatnonzero(constant)]
        tell(f"{len(names)} of {constant.size} columns are constant: {', '.join(map(repr, names[:10]))}"
             f"{' ...' if len(names) > 10 else ''}. They are reported as NaN, the others are fitted; drop them to "
             "silence this.", AliasWarning)
    return dataclasses.replace(prepared, basis=basis.keep(np.flatnonzero(kept)), kept=kept)


@dataclasses.dataclass(frozen=True)
class Scheme:
    """What parts are to do.

    Attributes
    ----------
    objective : Objective
        Without a penalty.
    shrinkage : Shrinkage
    nodewise : NodewisePenalty or None
        None: no debiasing, fits only.
    n_parts : tuple of int
        Of every block; 0 for one without rows.
    n_steps : int or None
        Of debiasing; None: as many as matter.
    split : bool
        Whether parts share the node-wise regressions; else they are all done at home.
    statsmodels : bool
        Parts count alike; the score of a linear model is divided by the part's dispersion; the constant
        alpha (1 - l1_ratio) is taken from every score.
    seed : int
    weights_kind : {"prior", "frequency"}
        What weights mean at the joined estimate.
    """

    objective: Objective
    shrinkage: Shrinkage
    nodewise: NodewisePenalty
    n_parts: tuple
    n_steps: int
    split: bool
    statsmodels: bool
    seed: int
    weights_kind: str = "prior"

    def rows(self, block, i):
        """The node-wise regressions of part i of a block."""
        number = sum(self.n_parts[:block.index]) + i
        return rows_of_part(self.objective.n_coef, sum(self.n_parts), number) if self.split else range(0)

    def score(self, moments, weight, n):
        """The mean score of a part of n rows."""
        score = moments.score / weight
        if self.statsmodels:
            if self.objective.model.is_linear and moments.pearson > 0:
                score = score * n / moments.pearson
            score = score - (1.0 - self.shrinkage.l1_ratio) * self.shrinkage.strength(self.objective) / n
        return score


@dataclasses.dataclass(frozen=True)
class PartFits:
    """Sums over fitted parts.

    Attributes
    ----------
    share : float
        sum c_k: a part's sum of weights, or 1.
    coef, score : (q,) array
        sum c_k b_k and sum c_k g_k.
    information : (q, q) array or None
        Expected information at the b_k, summed.
    pearson : float
    n_rows, n_nonzero, weight, n_parts : float
        Of the fitted parts; coefficients that are not zero, summed.
    n_saturated : float
        Parts with as many coefficients as rows.
    theta : tuple of (range, (r, q) array)
        Rows of Theta, by columns.
    left_out : (2, 2) array
        As in `combining.BlockFits`.
    """

    share: float
    coef: np.ndarray
    score: np.ndarray
    information: np.ndarray
    pearson: float
    n_rows: float
    n_nonzero: float
    weight: float
    n_parts: float
    n_saturated: float
    theta: tuple
    left_out: np.ndarray

    def merge(self, other):
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)
                if f.name != "information"}
        pieces = [s.information for s in (self, other) if s.information is not None]
        return PartFits(**sums, information=passes.merge_all(map(Total, pieces)).value if pieces else None)

    @classmethod
    def nothing(cls, q, left_out=((0, 0), (0, 0))):
        zeros = np.zeros(q)
        return cls(0.0, zeros, zeros, None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, (), np.array(left_out, float))


def fit_parts(block, scheme):
    """Cut a block into its parts, and do all that the scheme asks of each: one visit.

    Returns
    -------
    PartFits
    """
    if block.n_rows == 0:
        return PartFits.nothing(scheme.objective.n_coef)
    parts = cut(block, scheme.n_parts[block.index], scheme.seed)
    return passes.merge_all(_fit_part(part, scheme, scheme.rows(block, i)) for i, part in enumerate(parts))


def _fit_part(block, scheme, which):
    weight, n = float(block.weight.sum()), float((block.weight > 0).sum())
    objective = dataclasses.replace(scheme.objective, penalty=scheme.shrinkage.penalty(scheme.objective, weight))
    point, left_out = fit_alone(block, objective)
    if point is None:
        return PartFits.nothing(objective.n_coef, left_out)
    share, moments = 1.0 if scheme.statsmodels else weight, point.moments
    information, theta = None, ()
    if scheme.nodewise is not None:
        information = moments.expected
        theta = ((which, theta_rows(information / weight, which, scheme.nodewise)),) if which else ()
    nonzero = float(np.count_nonzero(point.coef))
    return PartFits(share, share * point.coef, share * scheme.score(moments, weight, n), information, moments.pearson,
                    n, nonzero, weight, 1.0, float(nonzero >= n), theta, np.array(left_out, float))


@dataclasses.dataclass(frozen=True)
class Joined:
    """Estimates of all parts together.

    Attributes
    ----------
    fitted : Fitted
        At the estimate, before any threshold.
    covariance : Covariance
        NaN for penalized estimates without debiasing.
    theta : (q, q) array or None
        Of the raw columns; rows of 0 where it is not known.
    dispersion : float
    n_parts, n_left_out, rows_left_out : int
    """

    fitted: Fitted
    covariance: Covariance
    theta: np.ndarray
    dispersion: float
    n_parts: int
    n_left_out: int
    rows_left_out: int


def solve(prepared, scheme, cov_type="nonrobust", threshold=0.0):
    """One sweep in which the parts are fitted, and one a step of debiasing, the last of which looks at the result.

    Parameters
    ----------
    prepared : Prepared
    scheme : Scheme
    cov_type : {"nonrobust", "HC0"}
    threshold : float
        Averages of penalized fits below it are 0; debiased ones stay as they are.

    Returns
    -------
    Joined

    Raises
    ------
    ValueError
        No part could be fitted.
    """
    objective = scheme.objective
    sums = passes.run(fit_parts, prepared.data, scheme)
    _tell_parts(sums)
    if scheme.nodewise is not None:
        return _debiased(prepared, scheme, sums, cov_type)
    coef = _cut_off(objective.basis, sums.coef / sums.share, threshold, bool(scheme.shrinkage.intercept))
    point, _ = _look(prepared.data, scheme, coef, False)
    covariance, dispersion = _no_covariance(objective.model, point, prepared.n_rows())
    return _joined(prepared, scheme, sums, point, math.nan, covariance, None, dispersion)


def debias_at(prepared, coef, deviance, nodewise_alpha, n_steps, cov_type, weights_kind="prior"):
    """Debias any estimate from the score and the information of all rows at it: one sweep, and one a step.

    Parameters
    ----------
    coef : (q,) array
        In the basis.
    deviance : float
        Of the fit that made it, on its rows.
    nodewise_alpha, n_steps, cov_type
        As of `DistributedModel`.
    weights_kind : {"prior", "frequency"}

    Returns
    -------
    Joined

    Raises
    ------
    ValueError
        Rows with another deviance: other ones, or without their offset or weights.
    """
    objective, columns = prepared.objective(), prepared.found.columns
    shrinkage = Shrinkage(columns, np.zeros(columns.mean.size))
    scheme = Scheme(objective, shrinkage, nodewise_penalty(prepared, shrinkage, nodewise_alpha, 1.0, 1), (1,), n_steps,
                    False, False, 0, weights_kind)
    point, _ = _look(prepared.data, scheme, coef, False)
    if not point.valid:
        raise ValueError("The estimate to be debiased gives rows of this data means outside the family's domain: these "
                         "are not the rows of the fit.")
    moments, weight, n = point.moments, columns.weight, prepared.n_rows(weights_kind)
    if abs(moments.deviance - deviance) > SAME * max(moments.deviance, deviance):
        raise ValueError(f"The deviance of these rows at the fitted coefficients is {moments.deviance:,.8g} and was "
                         f"{deviance:,.8g} in the fit, so they are not the rows of the fit: pass the same X, y, "
                         "sample_weight, offset and exposure.")
    sums = PartFits(weight, weight * coef, moments.score, moments.expected, moments.pearson, n,
                    float(np.count_nonzero(coef)), weight, 1.0, 0.0, (), np.zeros((2, 2)))
    return _debiased(prepared, scheme, sums, cov_type)


def _debiased(prepared, scheme, sums, cov_type):
    """Estimates of a scheme with node-wise regressions."""
    theta = _assemble(sums, scheme, prepared.data.names)
    step = _steps(prepared, scheme, sums, sums.coef / sums.share, theta, cov_type)
    tell_reach(step.reach)
    return _joined(prepared, scheme, sums, step.point, step.reach, step.covariance,
                   prepared.basis.covariance(np.nan_to_num(theta)), step.dispersion)


def _joined(prepared, scheme, sums, point, reach, covariance, theta, dispersion):
    (small, small_rows), (lost, lost_rows) = sums.left_out
    fitted = prepared.fitted_at(point, bool(point.valid), reach, weights_kind=scheme.weights_kind)
    return Joined(fitted, covariance, theta, dispersion, int(sums.n_parts), int(small + lost),
                  int(small_rows + lost_rows))


def _steps(prepared, scheme, sums, coef, theta, cov_type):
    """Debias from the parts' scores, and again from that of all rows: one sweep a step, the last one at the result.

    After the first step b - beta = M score(beta) + bias with M = Theta, after each further one with
    M + Theta (1 - G M). Where nobody said how many, steps go on until the next one does not matter or does not shrink.

    Returns
    -------
    Step
    """
    safe, weight = np.nan_to_num(theta), prepared.found.columns.weight
    score, noise, before = sums.score / sums.share, safe, math.inf
    for n in range(1, (scheme.n_steps or MOST_STEPS) + 1):
        coef = debiased(coef, safe, score)
        point, meat = _look(prepared.data, scheme, coef, cov_type == "HC0")
        gram = point.moments.expected / weight if point.valid else sums.information / sums.weight
        step = measured(prepared, theta, noise, point, gram, meat, cov_type, sums.weight,
                        prepared.n_rows(scheme.weights_kind), f"Debiased from {int(sums.n_parts):,} parts.")
        if not point.valid or n == scheme.n_steps or not scheme.n_steps and not NEAR < step.reach < 0.7 * before:
            break
        noise = noise + safe - safe @ gram @ noise
        score, before = point.moments.score / weight, step.reach
    return step


def _look(data, scheme, coef, robust):
    """The objective at joined coefficients, and the sum of score rows' outer products where it is wanted: a sweep."""
    objective, frequency = scheme.objective, scheme.weights_kind == "frequency"
    last = passes.run(_at_result, data, objective.model, objective.basis, coef, robust, frequency)
    point = objective.point(coef, last.first)
    if not point.valid:
        tell(f"The joined coefficients give some rows means outside the domain of the {objective.model} model: "
             "deviance, dispersion and robust errors are not known. Use another link, fewer partitions or a smaller "
             "alpha.", ConvergenceWarning)
    return point, last.second.value


def _cut_off(basis, coef, threshold, intercept_too):
    """Raw coefficients below the threshold are 0; a free intercept stays."""
    raw = basis.raw(coef)
    small = np.abs(raw) < threshold
    small[:int(basis.intercept and not intercept_too)] = False
    return basis.standardised(np.where(small, 0.0, raw)) if small.any() else coef


def _at_result(block, model, basis, coef, robust, frequency):
    """Moments at the joined estimate, and there the sum of score rows' outer products where it is asked for."""
    moments = block_moments(block, model, basis, coef)
    if not robust or not math.isfinite(moments.deviance):
        return Pair(moments, Total(math.nan))
    return Pair(moments, Total(block_meat(block, model, basis, coef, Adjustment(frequency=frequency)).matrix))


def _tell_parts(sums):
    tell_left_out(*sums.left_out.ravel(), sums.n_parts)
    if sums.n_saturated:
        tell(f"{int(sums.n_saturated)} of {int(sums.n_parts)} parts have as many coefficients in their own fit as "
             "rows: use fewer partitions or a larger alpha.", ConvergenceWarning)


def _assemble(sums, scheme, names):
    """Theta from the parts' rows; those that no part could give from the information of all parts."""
    q = scheme.objective.n_coef
    theta = np.full((q, q), math.nan)
    for which, rows in sums.theta:
        theta[list(which)] = rows
    missing = np.flatnonzero(np.isnan(theta).any(axis=1))
    theta[missing] = theta_rows(sums.information / sums.weight, missing, scheme.nodewise)
    lost = np.flatnonzero(np.isnan(theta).any(axis=1))
    if scheme.split and missing.size > lost.size:
        tell(f"{missing.size - lost.size} of {q} node-wise regressions had no solution in the part that was to do them "
             "(its fit failed, or a column is constant there): they were done on the information of all parts.",
             CovarianceWarning)
    if lost.size:
        every = ["Intercept"] * scheme.objective.basis.intercept + [names[j] for j in scheme.objective.basis.columns]
        which = ", ".join(repr(every[j]) for j in lost[:10]) + " ..." * (lost.size > 10)
        tell(f"{lost.size} of {q} node-wise regressions did not converge or are singular ({which}): these coefficients "
             "are averages without debiasing, and without standard errors. Raise nodewise_alpha or drop columns.",
             CovarianceWarning)
    return theta


def _no_covariance(model, point, n_rows):
    """That of penalized averages: unknown; and the dispersion."""
    nothing, note = np.full((point.coef.size,) * 2, math.nan), (
        "no standard errors: averages of penalized estimates are biased by design (method='debiased' has them)")
    rest = max(n_rows - np.count_nonzero(point.coef), 1.0)
    dispersion = 1.0 if model.dispersion_known else point.moments.pearson / rest
    return Covariance(nothing, "nonrobust", None, note, nothing), dispersion
