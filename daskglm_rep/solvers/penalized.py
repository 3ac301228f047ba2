"""Fits with a penalty that has corners: which solver, from which start, and what is told.

1. The pilot's rows are fitted in memory from the constant model.
2. The solver goes on from there on all rows, until the certificate of `composite` holds.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import progress
from daskglm_rep.penalties import LASSO, ElasticNet
from daskglm_rep.separation import Watch
from daskglm_rep.solvers import newton
from daskglm_rep.solvers.composite import FEW, Problem, fit_of, unit
from daskglm_rep.solvers.fista import Fista
from daskglm_rep.solvers.polish import polish
from daskglm_rep.solvers.proximal_newton import CoordinateDescent
from daskglm_rep.solvers.three_sweeps import fit_pilot as fit_unpenalized, separation_of, tell_status
from daskglm_rep.telling import PenaltyWarning, tell

LOOSE = 0.05            # of a pilot's fit, in its own standard errors: a twentieth of its sampling error
DOUBT = 3.0             # errors of a pilot's gradient that a column must be away from its threshold to be left out
LARGE = 2 ** 28         # bytes of second derivatives from which they are told beforehand
MOST = 2 ** 31          # bytes of second derivatives beyond which "auto" takes gradients alone


def solve(prepared, penalty, solver=None, weights_kind="prior", tol=1e-6, max_iter=100, start=None, verbose=0):
    """Fit what was prepared.

    Parameters
    ----------
    prepared : preparation.Prepared
    penalty : penalties.Corners
    solver : object with `name` and `minimise`, optional
        Default: coordinate descent, or FISTA where second derivatives of the columns in use would take too much memory.
    weights_kind, tol, max_iter, start, verbose
        As for `three_sweeps.solve`; a start leaves the pilot aside.

    Returns
    -------
    Fitted
        On the columns whose coefficients are not zero.
    """
    problem = Problem(prepared.model, prepared.basis, penalty)
    n_rows, active = prepared.n_rows(weights_kind), None
    if start is None:
        coef = fit_pilot(problem, prepared, n_rows, solver or CoordinateDescent())
    else:
        coef = problem.symmetric(prepared.standardised(start))
    if start is None and not prepared.found.pilot_is_all and problem.penalty.alpha.size > FEW:
        active = doubtful(problem, coef, prepared, n_rows)
    solver = _choose(solver, problem, coef, active, verbose)
    reached = solver.minimise(problem, prepared.data, coef, n_rows, tol, max_iter, active=active, verbose=verbose)
    end = dataclasses.replace(reached.state, coef=problem.levelled(reached.state.coef))
    reached = dataclasses.replace(reached, state=end)
    fit, used = fit_of(problem, reached, solver.name)
    if prepared.found.has_offset:
        fit = dataclasses.replace(fit, null=_null(prepared, n_rows, tol, max_iter))
    _tell_zeros(problem, reached.state)
    kept = prepared.kept.copy()
    kept[kept] = used
    prepared = dataclasses.replace(prepared, kept=kept, basis=fit.objective.basis)
    separated = _separated(prepared, fit)
    if separated is not None:
        fit = dataclasses.replace(fit, distance=math.inf, converged=False)
    fitted = prepared.fitted(fit, weights_kind, separated)
    tell_status(fitted.status, f"solver={fit.solver!r}, tol={tol:g}, max_iter={max_iter}, {problem.model}")
    return fitted


def _null(prepared, n_rows, tol, max_iter):
    """The model without the features where rows have offsets: a fit of its own."""
    null = prepared.objective().null()
    if not null.n_coef:
        return null.evaluate(prepared.data, np.zeros(0))
    coef = fit_unpenalized(prepared, null)
    return polish(null, prepared.data, prepared.pilot, coef, n_rows, tol, max_iter).point


def _separated(prepared, fit):
    """What is separated among the coefficients that no penalty holds."""
    watch = Watch(fit.objective, prepared.data, prepared.pilot, prepared.found)
    beside = fit.objective.penalty.free(fit.point.coef.size).sum() > fit.objective.basis.intercept
    return separation_of(watch, fit) if beside else watch.separated


def constant(problem, prepared):
    """The constant model's coefficients, (k,) array."""
    basis, model = problem.basis, problem.model
    if model.always_valid and not basis.intercept or model.starts_at_zero:
        return np.zeros(problem.penalty.alpha.size)
    if not basis.intercept:
        return newton.start(prepared.objective(), prepared.block, prepared.pilot)
    coef = np.zeros(basis.n_coef)
    coef[0] = newton.constant_start(prepared.objective().null(), prepared.block, prepared.found.response.mean)[0]
    return coef


def fit_pilot(problem, prepared, n_rows, solver):
    """The solver's own coefficients of the pilot rows, loosely; a penalty that is not convex begins at the lasso's.

    Where the pilot is all rows, only coordinate descent, to which that tells the active columns, has use for it.
    """
    coef, penalty = constant(problem, prepared), problem.penalty
    if isinstance(penalty, ElasticNet) and type(penalty.shape) is not type(LASSO):
        lasso = dataclasses.replace(problem, penalty=dataclasses.replace(penalty, shape=LASSO))
        coef = CoordinateDescent().minimise(lasso, prepared.pilot, coef, n_rows, LOOSE, 100).state.coef
    if prepared.found.pilot_is_all and solver.name != "cd":
        return coef
    return solver.minimise(problem, prepared.pilot, coef, n_rows, LOOSE, 100).state.coef


def doubtful(problem, coef, prepared, n_rows):
    """Columns in use at the pilot's fit and those that its gradient, with its sampling error, cannot exclude."""
    state = problem.evaluate(prepared.pilot, coef, problem.used(coef))
    information = np.diag(state.moments.expected).mean() if state.active.size else prepared.found.response.weight
    share = max(prepared.found.response.n_rows / max(prepared.block.n_rows, 1), 1.0)
    error = DOUBT * unit(problem, state, n_rows) * math.sqrt(share * information / problem.penalty.total)
    likely = problem.penalty.residual(np.zeros_like(coef), state.gradient + np.sign(state.gradient) * error)
    most = max(FEW, 2 * np.count_nonzero(coef))
    if np.count_nonzero(likely) > most:                             # the sweep that comes knows better
        likely = np.abs(likely) >= np.partition(np.abs(likely), -most)[-most]
    return problem.columns_of((likely != 0.0) | (coef != 0.0) | (problem.penalty.alpha == 0.0))


def _choose(solver, problem, coef, active, verbose):
    """The solver, with a word about it where it was chosen here, and about the memory it takes where that is much."""
    columns = problem.used(coef) if active is None else active
    columns = problem.all_columns if problem.penalty.alpha.size <= FEW else columns
    n_bytes = 8 * (problem.model.n_equations * columns.size) ** 2
    if solver is None:
        solver = CoordinateDescent() if n_bytes <= MOST else Fista()
        if verbose:
            progress.say(f"solver {solver.name!r}: {columns.size} of {problem.basis.n_coef} columns may enter, "
                         f"{n_bytes / 2 ** 20:.3g} MiB of second derivatives a thread")
    if solver.name == "cd" and n_bytes > LARGE:
        tell(f"{columns.size} of {problem.basis.n_coef} columns may enter at this alpha: their second derivatives take "
             f"{n_bytes / 2 ** 30:.1f} GiB in each thread. A larger alpha or solver='fista' takes less.",
             PenaltyWarning)
    return solver


def _tell_zeros(problem, state):
    """Say that all is zero, and from which alpha on."""
    penalized = problem.penalty.alpha > 0.0
    share = problem.penalty.entry(state.gradient)
    if np.any(state.coef[penalized]) or not penalized.any() or not share <= 1.0 + 1e-6:     # the latter: not there yet
        return
    alpha = problem.penalty.strength
    tell(f"All penalised coefficients are zero: alpha={alpha:g} is not below alpha_max={share * alpha:.6g}, from which "
         "on none enters. Take a smaller alpha.", PenaltyWarning)
