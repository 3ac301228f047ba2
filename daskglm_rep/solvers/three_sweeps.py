"""Survey, pilot, polish: the path of every exact fit.

1. Survey: one sweep checks the rows, learns lengths, moments and labels, and brings home pilot rows (`preparation`).
2. Pilot: the model is fitted to them in memory.
3. Polish: full sweeps from there until the distance to the optimum is certified.
"""

import dataclasses
import math

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep.kernels.linear_look import without_columns
from daskglm_rep.kernels.survey import spread
from daskglm_rep.objective import thinned
from daskglm_rep.penalties import NONE
from daskglm_rep.separation import Watch
from daskglm_rep.solvers import newton
from daskglm_rep.solvers.certificate import Reach
from daskglm_rep.solvers.polish import polish
from daskglm_rep.telling import SeparationWarning, tell


def solve(prepared, penalty=NONE, weights_kind="prior", tol=1e-6, max_iter=100, start=None, verbose=0):
    """Fit what was prepared.

    Parameters
    ----------
    prepared : preparation.Prepared
    penalty : penalties.Penalty, optional
        In the basis of `prepared`.
    weights_kind : {"prior", "frequency"}
    tol : float
        Distance to the optimum at which to stop, in standard errors.
    max_iter : int
        Sweeps at most.
    start : (k,) array, optional
        Raw coefficients (intercept first, equation by equation) to begin at instead of the pilot's.
    verbose : int

    Returns
    -------
    Fitted

    Raises
    ------
    ValueError
        No valid start.
    """
    data, found, pilot, block = prepared.data, prepared.found, prepared.pilot, prepared.block
    objective = prepared.objective(penalty)
    null = objective.null() if found.has_offset else None
    watch = Watch(objective, data, pilot, found)
    (coef, first), here = prepared.first or (None, None), prepared.fitted_pilot
    if coef is None and start is None:
        here = pilot_optimum(prepared, objective, watch)
    if coef is None:
        coef = prepared.standardised(start) if here is None else here.coef
    null_coef = None if null is None else fit_pilot(prepared, null)
    safe, ceiling = _constant_model(objective, block, found)
    if objective.model.is_linear:          # one step is exact from anywhere
        ceiling = math.inf
    reach = Reach.of(found.columns, prepared.basis, spread(block.X, np.ones(block.n_rows)))
    fit = polish(objective, data, pilot, coef, prepared.n_rows(weights_kind), tol, max_iter, null=null,
                 null_coef=null_coef, safe=safe, ceiling=ceiling, reach=reach, separated=watch, verbose=verbose,
                 first=None if first is None else objective.point(coef, first), here=here)
    if fit.null is None and null is not None and first is not None:
        fit = dataclasses.replace(fit, null=null.point(*without_columns(first, coef, null.n_coef)))
    separated = separation_of(watch, fit)
    if separated is not None:
        fit = dataclasses.replace(fit, distance=math.inf, converged=False)
    fitted = prepared.fitted(fit, weights_kind, separated)
    tell_status(fitted.status, f"tol={tol:g}, max_iter={max_iter}, {objective.model}")
    return fitted


def fit_pilot(prepared, objective, watch=None):
    """Coefficients of the pilot rows, (k,) array."""
    return pilot_optimum(prepared, objective, watch).coef if objective.n_coef else np.zeros(0)


def pilot_optimum(prepared, objective, watch=None):
    """The objective of the pilot rows at its optimum, a `Point`.

    A pilot that is a share of the rows may be separated or singular where the whole is not, and a level of a factor may
    have few rows in it: a weak prior holds it, under which a column's whole range moves eta by 1.
    Its weight never passes a fiftieth of the pilot's rows, so the change stays below the pilot's sampling error.
    """
    block, pilot, basis, everything = prepared.block, prepared.pilot, objective.basis, prepared.found.pilot_is_all
    held = objective
    if not everything and basis.columns.size and objective.penalty.matrix is None:
        span = spread(block.X, np.ones(block.n_rows))
        reach = (span.high - span.low)[basis.columns] / basis.scale
        ridge = np.diag(np.r_[[0.0] * basis.intercept, np.clip(reach ** 2, 1.0, max(block.n_rows / 50.0, 1.0))])
        matrix = np.kron(np.eye(objective.model.n_equations), ridge) * (block.weight.sum() / max(block.n_rows, 1))
        held = dataclasses.replace(objective, penalty=objective.penalty.with_ridge(matrix))
    coef = newton.start(held, block, pilot)
    if everything:
        found = newton.minimise(held, pilot, coef, 1e-16, separated=watch)
    else:
        tol = 0.05 * objective.n_coef                       # a twentieth of the pilot's sampling error, squared
        found = _from_some(held, pilot, coef, tol) or newton.minimise(held, pilot, coef, tol)
    return objective.point(found.point.coef, found.point.moments)


def _from_some(objective, pilot, coef, tol):
    """`newton.Solution` by way of an eighth of a pilot's rows, None where their optimum is no start for all."""
    few = thinned(pilot, sum(block.n_rows for block in pilot.chunks) // 8)
    if few is pilot or objective.n_coef >= newton.MANY or not (objective.model.is_canonical
                                                               and objective.model.always_valid):
        return None
    near = newton.minimise(objective, few, coef, tol).point.coef
    found = newton.minimise(objective, pilot, near, tol, 4)
    return found if found.converged else None


def _constant_model(objective, block, found):
    """The constant model's coefficients, and the objective there, which the survey knows (infinite: it does not)."""
    model, intercept = objective.model, objective.basis.intercept
    safe = newton.constant_start(objective, block, found.response.mean if intercept else None)
    if found.has_offset or not intercept:
        return safe, math.inf
    deviance = model.null_deviance(found.response, not model.starts_at_zero, found.labels)
    return safe, 0.5 * deviance * (1.0 + 1e-6) if math.isfinite(deviance) else math.inf


def separation_of(watch, fit):
    """What is separated: looked for where a coefficient is unbounded in effect, or the fit did not settle."""
    if not watch(fit.point) and not fit.converged:
        watch.look(fit.point.coef)
    return watch.separated


def tell_status(status, settings):
    """Warn of a fit that is no optimum; `settings` say what was asked for."""
    if status.name == "not converged":
        tell(f"{status.sentence[:-1]} ({settings}). {status.advice}", ConvergenceWarning)
    elif status.name == "separated":
        tell(f"{status.sentence} {status.advice}", SeparationWarning)
