"""Paths of penalties on all rows and on the training rows of splits: settings, records, grids, checks."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from daskglm_rep import schedulers
from daskglm_rep.objective import solve_damped
from daskglm_rep.penalties import elastic_net

LEAST_RATIO = 1e-3          # l1_ratio by which a grid is made for a ridge, which no alpha sends to zero
EXACT = 1e-6          # standard errors: fits of rows at home
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
    tol: float = 5e-3
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
    """Some rows of a fit and the units of its penalty.

    Attributes
    ----------
    moments : Moments or None
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
        return cls(cell.moments[0] if cell.moments else None, cell.weight, half.absolute, half.ridge)

    def strengths(self, alphas, l1_ratio):
        """Of the two parts of the penalty, (L, 2) array."""
        return self.weight * np.outer(alphas, [l1_ratio, 1.0 - l1_ratio])


def in_threads(function, work):
    """A list of `function` of each piece of work; kernels release the interpreter."""
    with ThreadPoolExecutor(schedulers.n_threads()) as pool:
        return list(pool.map(function, work))


def split_rows_of(block, splits):
    """Training rows of each split, all rows first, and those held out, as blocks, where one block holds all rows."""
    train, test = (np.zeros((len(splits.train), block.n_rows), bool) for _ in range(2))
    for cells in splits.layers:
        each = cells.each
        train |= splits.train[:, each]
        test |= splits.test[:, each]
    return [block if rows.all() else block.take(np.flatnonzero(rows)) for rows in train], \
        [block.take(np.flatnonzero(rows)) for rows in test[1:]]


def check_cells(splits, k, knots=0):
    """Refuse splits whose second moments, by cell and at some `knots` by split, fill the memory."""
    size = 8 * (splits.train.shape[1] + knots * len(splits.train)) * k * k
    if size > CELL_BYTES:
        raise ValueError(f"Second moments of {k} coefficients for {splits.n_splits} splits of the rows into "
                         f"{splits.train.shape[1]} cells take {size / 2 ** 30:.1f} GiB: use fewer folds or columns, or "
                         "single fits, which take those of selected columns only.")


def check_trains(prepared, trains, tests):
    """Refuse splits without rows that count, and training rows whose responses are all at a limit of the mean."""
    for k, (train, test) in enumerate(zip(trains[1:], tests)):
        for cell, what in ((train, "trains on"), (test, "holds out")):
            if cell is None or not cell.weight > 0.0:
                raise ValueError(f"Split {k} of cv {what} no row of positive weight: use other folds.")
        if prepared.model.at_limits(train)[1]:
            raise ValueError(f"The training rows of split {k} of cv have one response, {train.low:g}, throughout (no "
                             "events, or one class), so they fit no model: use fewer or stratified folds.")


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
    if settings.alphas is not None:
        return np.tile(settings.alphas, (len(settings.l1_ratios), 1))
    eps = settings.eps or (1e-4 if response.n_kept > coef.size else 1e-2)
    units = np.where(problem.absolute > 0.0, problem.absolute, np.inf)
    size = np.sqrt(np.diag(moments.expected) / problem.weight) / units
    noise = 1e-14 * (abs(response.mean) + float(response.spread.deviation[0])) * size.max(initial=0.0)
    largest = alpha_max(moments.expected, -moments.score, coef, problem)
    largest = (1.0 + 1e-10) * largest if largest > noise else noise / eps
    return falling(largest, eps, settings)


def falling(largest, eps, settings):
    """Alphas, (R, L), down from the lasso's `largest` over each l1_ratio. A ridge begins at that of `LEAST_RATIO`, far
    above any that predicts best, and ends where a lasso ends unless the user says."""
    ratios = np.maximum(settings.l1_ratios, LEAST_RATIO)
    ends = [eps * (LEAST_RATIO if ratio < LEAST_RATIO and settings.eps is None else 1.0)
            for ratio in settings.l1_ratios]
    return np.array([largest / ratio * np.geomspace(1.0, end, settings.n_alphas) for ratio, end in zip(ratios, ends)])


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
