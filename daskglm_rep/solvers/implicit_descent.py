"""Averaged implicit stochastic gradient descent (Tran, Toulis & Airoldi 2015, arXiv:1509.06459).

    b_t = b_{t-1} + gamma_t f(x_t'b_t) x_t,   gamma_t = rate (1 + rate t)^-decay,   estimate: the mean of the b_t,

with f the score factor at the *new* coefficients: a one-dimensional root, and no step can overshoot. Blocks walk beside
each other from shared coefficients and their averages are averaged by rows after each epoch (Zinkevich et al. 2010);
one block is the sequential algorithm.
"""

import dataclasses
import math

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import passes
from daskglm_rep.diagnostics import undetermined
from daskglm_rep.fitted import dispersion, distance_of
from daskglm_rep.inference.covariance import Covariance
from daskglm_rep.kernels.descent import epoch
from daskglm_rep.objective import inverse
from daskglm_rep.solvers import newton
from daskglm_rep.telling import SeparationWarning, tell

FAR = 10.0          # standard errors from the MLE beyond which a walk has failed: one epoch usually ends 1 to 3 away


@dataclasses.dataclass(frozen=True)
class Descended:
    """Where the walks ended.

    Attributes
    ----------
    fitted : fitted.Fitted
    covariance : Covariance
        Model-based, of the full-data MLE: the averaged estimate shares it to first order (theorem 2 of the paper), and
        how far it is from the MLE is known besides.
    """

    fitted: object
    covariance: Covariance


def solve(prepared, start, n_epochs, rate, decay, seed):
    """Walk for some epochs, one sweep each, then look at the result in one sweep more.

    Returns
    -------
    Descended
    """
    objective, data, n_rows = prepared.objective(), prepared.data, prepared.n_rows()
    coef = np.zeros(objective.n_coef)
    if objective.basis.intercept:
        coef[0] = newton.start(objective.null(), prepared.block, prepared.pilot)[0]
    if not objective.model.always_valid:
        coef = start
    last = coef
    for k in range(n_epochs):
        clocks = tuple(k * n for n in prepared.found.lengths)
        walks = passes.run(epoch, data, objective.model, objective.basis, last, rate, decay, clocks, (seed, k))
        last = walks.last / walks.n_rows
        coef = walks.average / walks.n_rows
    point = objective.evaluate(data, coef)
    if not point.valid:
        raise ValueError("The averaged coefficients give some rows means outside the family's domain: use a link whose "
                         "means always are inside (log, logit).")
    step = newton.direction(objective, point)
    matrix = objective.basis.covariance(inverse(point.curvature)) * dispersion(objective.model, point, n_rows)
    distance = distance_of(objective, step, np.sqrt(np.diag(matrix)), coef)
    if _is_separated(prepared, start):
        tell("The responses are all alike, or a combination of columns predicts them perfectly: the maximum "
             "likelihood estimate is infinite, and errors are reported as NaN. Drop columns, or penalize "
             "(GLMRegressor with alpha > 0).", SeparationWarning)
        distance, matrix = math.inf, np.full_like(matrix, math.nan)
    elif not distance <= FAR:
        tell(f"The walks ended {distance:.2g} standard errors from the maximum likelihood estimate, where the "
             "standard errors say little: take more epochs, another learning_rate or larger chunks, or fit "
             "all rows (GLMRegressor); separated responses have no such estimate at all.", ConvergenceWarning)
    fitted = prepared.fitted_at(point, distance <= FAR, distance, n_epochs)
    df = None if objective.model.dispersion_known else max(n_rows - coef.size, 0.0)
    note = f"Standard errors are those of the full-data MLE, from which these estimates are {distance:.2g} away."
    return Descended(fitted, Covariance(matrix, "nonrobust", df, note))


def _is_separated(prepared, start):
    """Whether the survey, or a pilot of all rows, shows that the estimate is infinite; more rows can hide it."""
    response, objective = prepared.found.response, prepared.objective()
    if response.low == response.high and not objective.model.family.accepts_mean(response.low):
        return True
    return prepared.found.pilot_is_all and undetermined(objective, objective.evaluate(prepared.pilot, start))
