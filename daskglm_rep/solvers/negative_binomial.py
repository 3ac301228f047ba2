"""Negative binomial regression with its overdispersion: alternate maximum likelihood of coefficients and alpha.

The two are orthogonal in expectation, so alternation converges in a few rounds; R's MASS::glm.nb does the same.
"""

import dataclasses
import math
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import families, passes
from daskglm_rep.kernels.dispersion import log_size_derivatives, saturated
from daskglm_rep.kernels.survey import concatenate
from daskglm_rep.objective import Objective, in_memory
from daskglm_rep.solvers import newton
from daskglm_rep.solvers.three_sweeps import basis_of, solve_model

LARGEST_SIZE = 1e8          # r = 1 / alpha beyond which the data show no overdispersion
MAX_ROUNDS = 25


def solve_with_alpha(data, found, model, tol=1e-6, **settings):
    """Fit coefficients and alpha.

    1. On the pilot rows in memory: alternate to convergence, from a Poisson fit.
    2. On all rows: fit the coefficients at that alpha (warm), then Newton steps for alpha, a sweep each; repeat until
       alpha moves by less than `tol` of its standard error.

    Parameters
    ----------
    model : families.GLM
        Whose family is negative binomial; its alpha is ignored.
    settings : arguments of `three_sweeps.solve_model`

    Returns
    -------
    Fitted
        `fitted.fit.objective.model.family.alpha` is the estimate.
    standard_error : float
        Of alpha.
    """
    alpha, start = _pilot_alpha(found, model, settings), None
    for _ in range(MAX_ROUNDS):
        model = families.GLM(families.NegativeBinomial(alpha), model.link)
        with warnings.catch_warnings():
            if start is not None:
                warnings.simplefilter("ignore")          # told in the first round
            fitted = solve_model(data, found, model, tol=tol, **(settings | {"start": start}))
        fit = fitted.fit
        alpha, moved, error = _alpha(data, model, fit.objective.basis, fit.point.coef, tol)
        start = np.zeros(fitted.kept.size)
        start[fitted.kept] = fit.objective.basis.raw(fit.point.coef)
        if moved <= tol:
            break
    else:
        warnings.warn(f"alpha did not settle after {MAX_ROUNDS} rounds; it stands at {alpha:.6g}.", ConvergenceWarning,
                      stacklevel=3)
    if 1.0 / alpha >= LARGEST_SIZE:
        warnings.warn("The counts show no overdispersion: alpha runs to 0; use PoissonRegressor.", ConvergenceWarning,
                      stacklevel=3)
    response = dataclasses.replace(found.response, saturated=passes.run(saturated, data, model.family).value)
    survey = dataclasses.replace(fitted.survey, response=response)
    return dataclasses.replace(fitted, survey=survey, n_passes=data.n_passes), error


def _alpha(data, model, basis, coef, tol):
    """Newton's method for ln r at fixed means: alpha, how far it moved and its error, both in standard errors."""
    size, first_size = 1.0 / model.family.alpha, 1.0 / model.family.alpha
    for _ in range(50):
        at = families.GLM(families.NegativeBinomial(1.0 / size), model.link)
        slope, curvature = passes.run(log_size_derivatives, data, at, basis, coef).value
        step = -slope / curvature if curvature < 0 else math.copysign(1.0, slope)
        step = min(max(step, -2.0), 2.0)
        error = 1.0 / math.sqrt(-curvature) if curvature < 0 else math.inf
        size = min(size * math.exp(step), LARGEST_SIZE)
        if abs(step) <= tol * min(error, 1.0) or size == LARGEST_SIZE:
            break
    moved = abs(math.log(size / first_size)) / min(error, 1.0)
    return 1.0 / size, moved, error / size


def _pilot_alpha(found, model, settings):
    """Alternate on the pilot rows."""
    block = concatenate(found.pilot)
    pilot, basis = in_memory(block), basis_of(found, settings.get("fit_intercept", True))
    alpha = 1.0
    for _ in range(10):
        at = families.GLM(families.NegativeBinomial(alpha), model.link)
        objective = Objective(at, basis, np.eye(basis.n_coef) * 1e-8 * block.weight.sum())
        coef = newton.minimise(objective, pilot, newton.start(objective, block, pilot), 1e-4).point.coef
        alpha, moved, _ = _alpha(pilot, at, basis, coef, 1e-3)
        if moved < 0.1:
            break
    return alpha
