"""Whole paths of penalties, on all rows and on the training rows of splits, for linear models: from one sweep.

Half the deviance of a linear model is its own quadratic expansion at any coefficients c, so that one sweep at c, cell
by cell of the splits, holds all that any fit to any union of cells needs, and every held-out deviance. c comes from the
pilot: sums of squared residuals near the optimum cancel no digits where those of y would.
"""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from daskglm_rep import passes
from daskglm_rep.kernels.folds import cell_moments, merge_cells
from daskglm_rep.kernels.path_descent import quadratic_path
from daskglm_rep.objective import solve_damped
from daskglm_rep.penalties import elastic_net

LEAST_RATIO = 1e-3          # l1_ratio by which a grid is made for a ridge, which no alpha sends to zero
CELL_BYTES = 2 ** 31          # of second moments, all cells together


@dataclasses.dataclass(frozen=True)
class Settings:
    """Of a path.

    Attributes
    ----------
    l1_ratios : tuple of float
    alphas : (L,) array or None
        Falling, distinct; None makes a grid for each l1_ratio.
    n_alphas : int
    eps : float or None
        Smallest alpha of the grid over the largest.
    standardize, penalty_factor
        As for `penalties.elastic_net`.
    tol : float
        Distance to the optimum, in standard errors, at which a fit is good.
    max_iter : int
        Sweeps at most.
    verbose : int
    """

    l1_ratios: tuple = (1.0,)
    alphas: np.ndarray | None = None
    n_alphas: int = 100
    eps: float | None = None
    standardize: bool = False
    penalty_factor: np.ndarray | None = None
    tol: float = 1e-6
    max_iter: int = 100
    verbose: int = 0


@dataclasses.dataclass(frozen=True)
class Paths:
    """Fits along paths of penalties: R l1_ratios, L alphas, K splits.

    Attributes
    ----------
    l1_ratios : (R,) array
    alphas : (R, L) array
    coefs : (K + 1, R, L, k) array
        In the basis; first on all rows, then on the training rows of each split.
    deviance : (R, L) array
        Of all rows.
    null_deviance : float
        Of the intercept alone, with offsets where there are some.
    held_out : (K, R, L) array
        Mean deviance of the rows that each split holds out.
    weight : (K,) array
        Their sums of weights.
    distance : float
        The worst of these fits' distance to its optimum, in standard errors.
    n_sweeps : int
        Sweeps that evaluated fits.
    """

    l1_ratios: np.ndarray
    alphas: np.ndarray
    coefs: np.ndarray
    deviance: np.ndarray
    null_deviance: float
    held_out: np.ndarray
    weight: np.ndarray
    distance: float = 0.0
    n_sweeps: int = 1


@dataclasses.dataclass(frozen=True)
class Problem:
    """Half the deviance of a linear model on some rows and the units of its penalty.

    Attributes
    ----------
    moments : Moments
        At the coefficients where all problems begin.
    weight : float
    absolute, square : (k,) array
        Weights of |b| and of b^2 / 2 at strength 1.
    """

    moments: object
    weight: float
    absolute: np.ndarray
    square: np.ndarray

    @classmethod
    def of(cls, prepared, cell, settings):
        """From a `Cell`; where columns are standardised, by the deviations of its own rows."""
        columns = dataclasses.replace(prepared.found.columns if cell.columns is None else cell.columns,
                                      weight=cell.weight)
        half = elastic_net(prepared.basis, prepared.model, columns, 2.0 / cell.weight, 0.5, settings.standardize,
                           settings.penalty_factor)
        return cls(cell.moments[0], cell.weight, half.absolute, np.diag(half.matrix))

    def strengths(self, alphas, l1_ratio):
        """Of the two parts of the penalty, (L, 2) array."""
        return self.weight * np.outer(alphas, [l1_ratio, 1.0 - l1_ratio])


def solve_paths(prepared, splits, settings):
    """`Paths` of any model.

    Raises
    ------
    ValueError
        A model that is not linear.
    """
    if not prepared.model.is_linear:
        raise ValueError(f"Paths are of linear models, and this is {prepared.model}: fit it at single alphas.")
    return solve_linear(prepared, splits, settings)


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
    with ThreadPoolExecutor(passes.n_threads()) as pool:
        coefs = np.array(list(pool.map(lambda each: _path(*each, center, prepared.basis.intercept, tol), work)))
    coefs = coefs.reshape(len(problems), *alphas.shape, center.size)
    deviance = quadratic_deviance(total, coefs[0] - center)
    held_out = np.array([quadratic_deviance(test.moments[0], own - center) / test.weight
                         for test, own in zip(tests, coefs[1:])]).reshape(-1, *alphas.shape)
    null_deviance = _null_deviance(problems[0], center, prepared.basis.intercept)
    weight = np.array([test.weight for test in tests])
    return Paths(np.array(settings.l1_ratios), alphas, coefs, deviance, null_deviance, held_out, weight)


def check_cells(splits, k):
    """Refuse splits whose second moments fill the memory."""
    size = 8 * splits.train.shape[1] * k * k
    if size > CELL_BYTES:
        raise ValueError(f"These splits cut the rows into {splits.train.shape[1]} cells, whose second moments of {k} "
                         f"coefficients take {size / 2 ** 30:.0f} GiB: use fewer folds, or fewer columns.")


def check_trains(prepared, trains, tests):
    """Refuse splits without rows that count, and training rows whose responses are all at a limit of the mean."""
    for k, (train, test) in enumerate(zip(trains[1:], tests)):
        for cell, what in ((train, "trains on"), (test, "holds out")):
            if cell is None or not cell.weight > 0.0:
                raise ValueError(f"Split {k} of cv {what} no row of positive weight: use other folds.")
        if prepared.model.at_limits(train)[1]:
            raise ValueError(f"The training rows of split {k} of cv have one response, {train.low:g}, throughout (no "
                             "events, or one class), so they fit no model: use fewer or stratified folds.")


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


def grid(moments, coef, problem, response, settings):
    """Alphas, falling, (R, L) array: the user's for all l1_ratios, or down from where the last coefficient enters.

    Parameters
    ----------
    moments : Moments
        Of all rows.
    coef : (k,) array
        Where they were summed.
    problem : Problem
    response : summaries.Response
        Of all rows: what is left of a constant response is rounding, and no alpha.
    """
    ratios = settings.l1_ratios
    if settings.alphas is not None:
        return np.tile(settings.alphas, (len(ratios), 1))
    eps = settings.eps or (1e-4 if response.n_kept > coef.size else 1e-2)
    units = np.where(problem.absolute > 0.0, problem.absolute, np.inf)
    size = np.sqrt(np.diag(moments.expected) / problem.weight) / units
    noise = 1e-14 * (abs(response.mean) + float(response.spread.deviation[0])) * size.max(initial=0.0)
    largest = alpha_max(moments.expected, -moments.score, coef, problem)
    largest = (1.0 + 1e-10) * largest if largest > noise else noise / eps
    falling = largest * np.geomspace(1.0, eps, settings.n_alphas)
    return np.array([falling / max(ratio, LEAST_RATIO) for ratio in ratios])


def alpha_max(hessian, gradient, coef, problem):
    """The least alpha of a lasso at which all penalised coefficients are zero, from a quadratic about some `coef`."""
    penalised = problem.absolute > 0.0
    if not penalised.any():
        raise ValueError("penalty_factor is 0 for every column, so nothing is penalized: fit without a penalty.")
    step = np.where(penalised, -coef, 0.0)
    free = np.flatnonzero(~penalised)
    there = gradient + hessian @ step
    if free.size:
        move = solve_damped(hessian[np.ix_(free, free)], -there[free])
        there = there + hessian[:, free] @ (0.0 if move is None else move)
    largest = np.max(np.abs(there[penalised]) / problem.absolute[penalised]) / problem.weight
    return max(float(largest), np.finfo(float).tiny ** 0.5)


def _rest(moments, settings):
    """Fall of twice the objective by one coefficient below which it rests: the tolerance squared, in dispersions."""
    step = solve_damped(moments.expected + np.diag(1e-9 * np.diag(moments.expected)), moments.score)
    deviance = 0.0 if step is None else float(quadratic_deviance(moments, step))
    rows = max(np.diag(moments.expected).max(initial=0.0), 1e-300)
    return (1e-2 * settings.tol) ** 2 * max(deviance, 1e-8 * moments.deviance) / rows


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
