"""Paths of linear models, on all rows and on the training rows of splits: from one sweep.

Half the deviance of a linear model is its own quadratic expansion at any coefficients c, so that one sweep at c, cell
by cell of the splits, holds all that any fit to any union of cells needs, and every held-out deviance. c comes from the
pilot: sums of squared residuals near the optimum cancel no digits where those of y would.
"""

import numpy as np

from daskglm_rep import passes
from daskglm_rep.kernels.folds import cell_moments, merge_cells
from daskglm_rep.kernels.path_descent import quadratic_path
from daskglm_rep.objective import solve_damped
from daskglm_rep.solvers.path import Paths, Problem, check_cells, check_trains, grid, in_threads


def solve_linear(prepared, splits, settings):
    """All fits of a linear model along paths of penalties; one sweep.

    Parameters
    ----------
    prepared : preparation.Prepared
    splits : splits.Splits
    settings : Settings

    Returns
    -------
    Paths
    """
    center = _pilot_fit(prepared)
    check_cells(splits, center.size)
    found = passes.run(cell_moments, prepared.data, prepared.model, prepared.basis, center[None], splits.layers,
                       settings.standardize and splits.n_splits > 0).cells
    numbers = np.arange(splits.train.shape[1])
    trains = [merge_cells(found, numbers[row]) for row in splits.train]
    tests = [merge_cells(found, numbers[row]) for row in splits.test[1:]]
    check_trains(prepared, trains, tests)
    problems = [Problem.of(prepared, cell, settings) for cell in trains]
    total = problems[0].moments
    alphas = grid(total, center, problems[0], prepared.found.response, settings)
    tol = _rest(total, settings)
    work = [(problem, row, ratio) for problem in problems for ratio, row in zip(settings.l1_ratios, alphas)]
    coefs = np.array(in_threads(lambda each: _path(*each, center, prepared.basis.intercept, tol), work))
    coefs = coefs.reshape(len(problems), *alphas.shape, center.size)
    deviance = quadratic_deviance(total, coefs[0] - center)
    held_out = np.array([quadratic_deviance(test.moments[0], own - center) / test.weight
                         for test, own in zip(tests, coefs[1:])]).reshape(-1, *alphas.shape)
    null_deviance = _null_deviance(problems[0], center, prepared.basis.intercept)
    weight = np.array([test.weight for test in tests])
    return Paths(np.array(settings.l1_ratios), alphas, coefs, deviance, null_deviance, held_out, weight)


def _pilot_fit(prepared):
    """Least squares on the pilot's rows, nearly: any point near the optimum serves."""
    point = prepared.objective().evaluate(prepared.pilot, np.zeros(prepared.basis.n_coef))
    diagonal = np.diag(point.curvature)
    step = solve_damped(point.curvature + np.diag(1e-6 * diagonal + 1e-300), -point.gradient)
    return np.zeros(prepared.basis.n_coef) if step is None else step


def quadratic_deviance(moments, step):
    """Deviance of a linear model after steps (..., k) from where its moments were summed."""
    change = step @ moments.expected - 2.0 * moments.score
    return np.maximum(moments.deviance + np.einsum("...k,...k", step, change), 0.0)


def _null_deviance(problem, center, intercept):
    """Of the model with the intercept alone."""
    m, step = problem.moments, -center
    if intercept:
        step[0] += (m.score - m.expected @ step)[0] / max(m.expected[0, 0], 1e-300)
    return float(quadratic_deviance(m, step))


def _rest(moments, settings):
    """Fall of twice the objective by one coefficient below which it rests: the tolerance squared, in dispersions."""
    step = solve_damped(moments.expected + np.diag(1e-9 * np.diag(moments.expected)), moments.score)
    deviance = 0.0 if step is None else float(quadratic_deviance(moments, step))
    rows = max(np.diag(moments.expected).max(initial=0.0), 1e-300)
    return min(1e-2 * settings.tol, 1e-8) ** 2 * max(deviance, 1e-8 * moments.deviance) / rows


def _path(problem, alphas, l1_ratio, center, intercept, tol):
    """Coefficients along one path; the intercept, which is free, is minimised out beforehand."""
    H, g = problem.moments.expected, -problem.moments.score
    strengths = problem.strengths(alphas, l1_ratio)
    if not intercept:
        return quadratic_path(H, g, center, problem.absolute, problem.square, strengths, tol)
    share = H[0, 1:] / max(H[0, 0], 1e-300)
    rest = quadratic_path(H[1:, 1:] - np.outer(H[0, 1:], share), g[1:] - share * g[0], center[1:], problem.absolute[1:],
                          problem.square[1:], strengths, tol)
    first = center[0] - g[0] / max(H[0, 0], 1e-300) - (rest - center[1:]) @ share
    return np.column_stack([first, rest])
