"""Negative binomial regression with its overdispersion: alternate maximum likelihood of coefficients and alpha.

The two are orthogonal in expectation, so alternation converges in a few rounds; R's MASS::glm.nb does the same.
"""

import dataclasses
import math
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import families, passes
from daskglm_rep.fitted import Overdispersion
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.dispersion import (distinct_responses, likelihood_and_derivatives, log_size_derivatives,
                                            response)
from daskglm_rep.kernels.survey import concatenate
from daskglm_rep.models.glm import GLM
from daskglm_rep.objective import Objective, in_memory
from daskglm_rep.penalties import NONE, Ridge
from daskglm_rep.preparation import basis_of
from daskglm_rep.solvers import newton
from daskglm_rep.telling import tell

LARGEST_SIZE = 1e8          # r = 1 / alpha beyond which the data show no overdispersion
MAX_ROUNDS = 25
DISTINCT = 100_000          # responses of a block up to which rows are summed by response
NULL_TOL = 1e-5             # standard errors: the null log-likelihood is then right to 1e-10


def solve(prepared, at_alpha, penalty=NONE, tol=1e-6, start=None, **settings):
    """Fit coefficients and alpha.

    1. On the pilot rows in memory: alternate to convergence, from a Poisson fit.
    2. On all rows: fit the coefficients at that alpha (warm), then Newton steps for alpha, a sweep each; repeat until
       alpha moves by less than `tol` of its standard error.
    3. One sweep sums the rows by response: that gives the likelihoods at this alpha and the null model with an alpha
       of its own. (With an offset the null model takes a few sweeps.)

    Parameters
    ----------
    prepared : preparation.Prepared
        Whose model's family is negative binomial; its alpha is ignored.
    at_alpha : callable
        Fits at a given alpha: `three_sweeps.solve` or `penalized.solve`.
    penalty, tol, start, settings : its arguments

    Returns
    -------
    Fitted
        `fit.objective.model.family.alpha` is the estimate; `overdispersion` says more of it.
    """
    data, found, link = prepared.data, prepared.found, prepared.model.link
    alpha = _pilot_alpha(found, prepared.model, prepared.basis)[0]
    for number in range(MAX_ROUNDS):
        at = dataclasses.replace(prepared, model=GLM(families.NegativeBinomial(alpha), link))
        with warnings.catch_warnings():
            if number:
                warnings.simplefilter("ignore")          # told in the first round
            fitted = at_alpha(at, penalty, tol=tol, start=start, **settings)
        coef, basis = fitted.fit.point.coef, fitted.fit.objective.basis
        alpha, moved, error = _alpha(data, at.model, basis, coef, tol)
        start = dataclasses.replace(prepared, kept=fitted.kept, basis=basis).raw(coef)
        if moved <= tol:
            break
    else:
        tell(f"alpha did not settle after {MAX_ROUNDS} rounds; it stands at {alpha:.6g}.", ConvergenceWarning)
    if 1.0 / alpha >= LARGEST_SIZE:
        tell("The counts show no overdispersion: alpha runs to 0; use PoissonRegressor.", ConvergenceWarning)
    return _with_likelihoods(data, found, fitted, error, prepared.basis.intercept)


def _with_likelihoods(data, found, fitted, error, fit_intercept):
    """What the survey could not know without alpha: saturated and null likelihoods."""
    model = fitted.fit.objective.model
    rows = _by_response(data, found)
    totals = passes.run(response, rows, model.family)
    totals = dataclasses.replace(found.response, family=model.family, saturated=totals.saturated,
                                 deviance=totals.deviance)
    null = fitted.null_deviance if found.has_offset else model.null_deviance(totals, fit_intercept)
    overdispersion = Overdispersion(error, _null_likelihood(rows, found, model, fit_intercept))
    return dataclasses.replace(fitted, survey=dataclasses.replace(fitted.survey, response=totals), null_deviance=null,
                               overdispersion=overdispersion, n_passes=data.n_passes)


def _by_response(data, found):
    """Distinct responses with their sums of weights as rows in memory; the data where they are many or have offsets."""
    if found.has_offset:
        return data
    sums = passes.run(distinct_responses, data, DISTINCT)
    if sums.n_missing:
        return data
    (y,), weight = sums.total
    return in_memory(Block(np.zeros((y.size, 0)), y.astype(float), weight[:, 0], np.zeros(y.size)))


def _null_likelihood(rows, found, model, fit_intercept):
    """Log-likelihood of the model without the features, maximal in alpha too.

    Newton steps for the coefficient and for ln r side by side, which are orthogonal in expectation: a sweep each, from
    the pilot's estimates.
    """
    basis = basis_of(found, fit_intercept).keep([0] if fit_intercept else [])
    alpha, coef = _pilot_alpha(found, model, basis)
    for _ in range(MAX_ROUNDS):
        objective = Objective(GLM(families.NegativeBinomial(alpha), model.link), basis)
        pair = passes.run(likelihood_and_derivatives, rows, objective.model, basis, coef)
        point = objective.point(coef, pair.first)
        if not point.valid:
            return math.nan
        slope, curvature, saturated = pair.second.value
        step, error = _size_step(slope, curvature)
        move = newton.direction(objective, point)
        size = min(math.exp(step) / alpha, LARGEST_SIZE)
        if abs(step) <= NULL_TOL * error and move @ point.hessian @ move <= NULL_TOL ** 2 or size * alpha == 1.0:
            break
        alpha, coef = 1.0 / size, coef + move
    return float(saturated - 0.5 * pair.first.deviance)


def _size_step(slope, curvature):
    """Newton's step for ln r, at most 2 long and always uphill, and the standard error of ln r, at most 1."""
    step = -slope / curvature if curvature < 0 else math.copysign(1.0, slope)
    return min(max(step, -2.0), 2.0), min(1.0 / math.sqrt(-curvature), 1.0) if curvature < 0 else 1.0


def _alpha(data, model, basis, coef, tol):
    """Newton's method for ln r at fixed means: alpha, how far it moved in standard errors, its standard error."""
    size = first_size = 1.0 / model.family.alpha
    for _ in range(50):
        at = GLM(families.NegativeBinomial(1.0 / size), model.link)
        slope, curvature = passes.run(log_size_derivatives, data, at, basis, coef).value
        step, unit = _size_step(slope, curvature)
        size = min(size * math.exp(step), LARGEST_SIZE)
        if abs(step) <= tol * unit or size == LARGEST_SIZE:
            break
    error = 1.0 / math.sqrt(-curvature) if curvature < 0 else math.inf
    return 1.0 / size, abs(math.log(size / first_size)) / unit, error / size


def _pilot_alpha(found, model, basis):
    """Alpha and coefficients on the pilot rows, by turns."""
    block = concatenate(found.pilot)
    pilot, alpha = in_memory(block), 1.0
    for _ in range(10):
        at = GLM(families.NegativeBinomial(alpha), model.link)
        objective = Objective(at, basis, Ridge(np.eye(basis.n_coef) * 1e-8 * block.weight.sum()))
        start = newton.start(objective, block, pilot) if basis.n_coef else np.zeros(0)
        coef = newton.minimise(objective, pilot, start, 1e-4).point.coef
        alpha, moved, _ = _alpha(pilot, at, basis, coef, 1e-3)
        if moved < 0.1:
            break
    return alpha, coef
