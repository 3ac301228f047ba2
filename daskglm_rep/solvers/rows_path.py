"""A path of penalties on rows in memory: proximal Newton with warm starts, Hessians kept while they serve."""

import numpy as np

from daskglm_rep.kernels.folds import cell_of
from daskglm_rep.kernels.many import many_scores
from daskglm_rep.kernels.path_descent import quadratic_path
from daskglm_rep.objective import Objective, in_memory, solve
from daskglm_rep.solvers import newton
from daskglm_rep.solvers.path import EXACT, Paths, Problem, check_trains, grid, in_threads, split_rows_of

KEPT = 40            # columns from which a Hessian is kept for several steps
PATIENCE = 100          # steps at one alpha


def null_fit(objective, block, free, response=None):
    """Coefficients of the free columns alone, (q,) array, zero elsewhere.

    Parameters
    ----------
    free : (q,) bool array
    response : summaries.Response, optional
        Of all rows, whose mean an intercept alone fits.
    """
    coef, which = np.zeros(free.size), np.flatnonzero(free)
    if not which.size:
        return coef
    null = Objective(objective.model, objective.basis.keep(which))
    data = in_memory(block)
    if response is not None and which.size == 1 and objective.basis.intercept and not np.any(block.offset):
        coef[which] = newton.constant_start(null, block, response.mean)
    else:
        coef[which] = newton.minimise(null, data, newton.start(null, block, data)).point.coef
    return coef


def curvature(moments, others=()):
    """Observed information with as little of the expected one added as makes it positive definite.

    Parameters
    ----------
    moments : Moments
    others : sequence of Moments
        For which the same mixture must be, too.

    Returns
    -------
    (k, k) array, or a list of them where there are others
    """
    for share in (0.0, 0.1, 0.5, 2.0, None):
        mixed = [_mixed(each, share) for each in (moments, *others)]
        if share is None or moments.observed is moments.expected or all(map(_is_positive, mixed)):
            return mixed if others else mixed[0]


def _mixed(moments, share):
    if share is None or moments.observed is moments.expected:
        return moments.expected
    return moments.observed + share * moments.expected


def _is_positive(matrix):
    """Whether a matrix is positive definite, well enough to step by."""
    diagonal = np.diag(matrix)
    return bool((diagonal > 0.0).all()) and solve(matrix - 1e-3 * np.diag(diagonal), diagonal) is not None


def path_on_rows(model, basis, block, problem, strengths, coef, unit, tol):
    """Fits along a path.

    1. Step: coordinate descent on the quadratic model. 2. Halve it until the objective falls. 3. The next alpha where
    the decrease promised is below `tol`^2 units; the Hessian is kept until it promises a step three times too long.

    Parameters
    ----------
    coef : (q,) array
        Start.
    unit : float
        The dispersion.

    Returns
    -------
    (L, q) array
    """
    enough, keeps, coefs = 0.5 * tol * tol * unit, basis.n_coef >= KEPT, []
    moments = model.moments(block, basis, coef)
    hessian, fresh = curvature(moments), True
    for lasso, ridge in strengths:
        absolute, square = lasso * problem.absolute, ridge * problem.square
        last = np.inf
        for _ in range(PATIENCE):
            target = quadratic_path(hessian, -moments.score, coef, problem.absolute, problem.square,
                                    np.array([[lasso, ridge]]), 1e-4 * enough)[0]
            step = target - coef
            promised = step @ (moments.score - square * coef) - absolute @ (np.abs(target) - np.abs(coef))
            if promised <= enough or promised >= last and promised < 1e-13 * abs(moments.deviance):
                break
            if not fresh and promised > 0.1 * last:
                moments, last = model.moments(block, basis, coef), np.inf
                hessian, fresh = curvature(moments), True
                continue
            value, last = _value(moments.deviance, coef, absolute, square), promised
            for halving in range(40):
                trial = coef + 0.5 ** halving * step if halving else target
                there = model.moments(block, basis, trial, not keeps)
                if _value(there.deviance, trial, absolute, square) <= value + 1e-14 * abs(value):
                    break
            else:
                break
            coef, moments = trial, there
            fresh = not keeps
            hessian = hessian if keeps else curvature(moments)
        coefs.append(target)
    return np.array(coefs)


def _value(deviance, coef, absolute, square):
    return 0.5 * deviance + absolute @ np.abs(coef) + 0.5 * square @ (coef * coef)


def solve_in_memory(prepared, splits, settings):
    """All fits along paths of penalties where the pilot is all rows: no sweep.

    Parameters
    ----------
    prepared : preparation.Prepared
    splits : splits.Splits
    settings : path.Settings

    Returns
    -------
    Paths
    """
    model, basis, block = prepared.model, prepared.basis, prepared.block
    trains, tests = split_rows_of(block, splits)
    alone = settings.standardize and splits.n_splits > 0
    cells = [cell_of(rows, model, basis, (), alone) for rows in trains]
    held = [cell_of(rows, model, basis) for rows in tests]
    check_trains(prepared, cells, held)
    problems = [Problem.of(prepared, cell, settings) for cell in cells]
    free = problems[0].absolute == 0.0
    nulls = in_threads(lambda rows: null_fit(prepared.objective(), rows, free), trains)
    moments = model.moments(block, basis, nulls[0])
    alphas = grid(moments, nulls[0], problems[0], prepared.found.response, settings)
    unit = dispersion_unit(model, moments, problems[0].weight, cells[0].n_rows)
    work = [(k, row, ratio) for k in range(len(problems)) for ratio, row in zip(settings.l1_ratios, alphas)]

    def fit(each):
        k, row, ratio = each
        return path_on_rows(model, basis, trains[k], problems[k], problems[k].strengths(row, ratio), nulls[k], unit,
                            min(settings.tol, EXACT))

    coefs = np.array(in_threads(fit, work)).reshape(len(problems), *alphas.shape, basis.n_coef)
    deviance = _deviances(model, basis, block, coefs[0])
    held_out = np.array([_deviances(model, basis, rows, own) / cell.weight
                         for rows, own, cell in zip(tests, coefs[1:], held)]).reshape(-1, *alphas.shape)
    null = _deviances(model, basis, block, null_fit(prepared.objective(), block, _intercept(basis))[None])[0]
    return Paths(np.array(settings.l1_ratios), alphas, coefs, deviance, float(null), held_out,
                 np.array([cell.weight for cell in held]), n_sweeps=0)


def _intercept(basis):
    """Where the intercept alone is free."""
    free = np.zeros(basis.n_coef, bool)
    free[:int(basis.intercept)] = True
    return free


def dispersion_unit(model, moments, weight, n_rows):
    """What a decrease is small against: 1, or the null model's dispersion, or a smaller weight of a row."""
    per_row = weight / max(n_rows, 1.0)
    return min(1.0, per_row) if model.dispersion_known else max(moments.pearson / max(n_rows, 1.0), 1e-300)


def _deviances(model, basis, block, coefs):
    """Deviances of a block at (..., q) coefficients, infinite where a mean leaves the domain."""
    flat = coefs.reshape(-1, basis.n_coef)
    totals = many_scores(model, block, basis, flat, 0)[1]
    return np.where(totals[:, 2] > 0, np.inf, totals[:, 0]).reshape(coefs.shape[:-1])
