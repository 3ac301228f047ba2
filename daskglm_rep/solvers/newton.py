"""Damped Newton / Fisher scoring on rows in memory: pilots, blocks, representatives."""

import dataclasses
import math

import numpy as np
from scipy import optimize

from daskglm_rep.kernels.gram import gram
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.objective import solve_damped, thinned
from daskglm_rep.solvers import gradients

LONG = 10                # iterations, more than any common fit takes
MANY = 40                # coefficients from which a Hessian costs several gradients
SOME_ROWS = 8            # a coefficient, that the first Hessian of so many is made of


@dataclasses.dataclass(frozen=True)
class Solution:
    """Where a loop stopped: the last point, iterations used, and whether its criterion was met."""

    point: object
    n_iter: int
    converged: bool


def direction(objective, point):
    """The Newton step; the Fisher step where the Hessian is not positive definite; damped where neither is.

    With absolute values in the penalty: the minimum of the penalised quadratic model.
    """
    if not objective.penalty.is_smooth:
        hessian = point.hessian if point.by_hessian.solve(point.gradient) is not None else point.curvature
        return objective.penalty.minimise(hessian, point.gradient, point.coef) - point.coef
    step = point.by_hessian.solve(-point.gradient)
    if step is None:
        step = solve_damped(point.curvature, -point.gradient)
    return step


def decrease(objective, point, step):
    """Decrease that the first-order model of the objective promises; twice the distance squared near the optimum."""
    return -(point.gradient @ step + objective.penalty.rise(point.coef, step))


def minimise(objective, data, coef, tol=0.0, max_iter=100, separated=None):
    """Newton's method with step halving.

    1. Step: solve hessian step = -gradient.
    2. Halve until the objective decreases and every mean stays in the family's domain.
    3. Stop when the decrease promised (half the squared distance to the optimum, in standard errors) is below `tol`, or
       lost in rounding.

    With many coefficients, steps by gradients alone come before each Hessian.

    Parameters
    ----------
    objective : Objective
    data : Data
    coef : (k,) array
        Start; must be valid.
    separated : callable, optional
        Asked with the points of a loop that takes longer than most; true ends it.

    Returns
    -------
    Solution
    """
    many = coef.size >= MANY and objective.penalty.is_smooth
    if many:
        A = objective.evaluate(thinned(data, SOME_ROWS * coef.size), coef).by_curvature.inverse
        coef = gradients.approach(objective, data, objective.evaluate(data, coef, informative=False), A, tol).coef
    point = objective.evaluate(data, coef)
    unit = _unit(objective.model, point, data)
    for n_iter in range(1, max_iter + 1):
        step = direction(objective, point)
        if step is None or not np.isfinite(step).all():
            return Solution(point, n_iter, False)
        promised = decrease(objective, point, step)
        noise = 1e-15 * (abs(point.value) + unit)
        if promised <= max(tol, 1e-24) * unit:
            return Solution(point, n_iter, True)
        if separated is not None and n_iter > LONG and separated(point):
            return Solution(point, n_iter, False)
        share = 1.0
        while True:
            trial = objective.evaluate(data, point.coef + share * step, not many)
            if trial.valid and trial.value <= point.value + noise:
                break
            share *= 0.5
            if share < 1e-12:
                return Solution(point, n_iter, promised <= 1e3 * noise)
        stalled = promised <= 10 * noise
        if many and share == 1.0:
            trial = gradients.approach(objective, data, trial, point.by_curvature.inverse, tol * unit)
        if many:
            trial = objective.evaluate(data, trial.coef)
        point = trial
        if stalled and np.all(np.abs(share * step) <= 1e-12 * (np.abs(point.coef) + 1e-3)):
            return Solution(point, n_iter, True)
    return Solution(point, max_iter, False)


def _unit(model, point, data):
    """What a decrease is small against: 1, or a smaller dispersion or weight of a row (responses in small units)."""
    n_rows = max(sum(block.n_rows for block in data.chunks), 1)
    weight = sum(float(block.weight.sum()) for block in data.chunks)
    return min(1.0, weight / n_rows if model.dispersion_known else point.moments.pearson / max(weight, n_rows))


def start(objective, block, data):
    """Valid start values for any family and link.

    In order of preference: one weighted least-squares step from means between the response and its average (McCullagh
    & Nelder 1989, section 2.5), the constant model at the average response, and for designs without intercept a point
    inside the domain found by linear programming.

    Returns
    -------
    (k,) array

    Raises
    ------
    ValueError
        No coefficients keep every mean inside the family's domain.
    """
    model = objective.model
    convex = model.is_canonical and model.always_valid                      # Newton's first step is as good
    if model.starts_at_zero or convex and objective.basis.intercept and not np.any(block.offset):
        return constant_start(objective, block)
    candidates = [_least_squares_start(objective, block), constant_start(objective, block)]
    best = _best(objective, data, candidates)
    if best is None and not model.always_valid:
        best = _best(objective, data, [_interior_start(objective, block)])
    if best is None:
        raise ValueError(f"No coefficients were found that keep every mean of the {model} model inside its domain: "
                         "use a link whose means always are (log, logit), or add an intercept.")
    return best


def _best(objective, data, candidates):
    points = [objective.evaluate(data, c, informative=False) for c in candidates if c is not None]
    points = [p for p in points if p.valid]
    return min(points, key=lambda p: p.value).coef if points else None


def _start_means(model, block, average=None):
    total = block.weight.sum()
    if average is None:
        average = float(block.weight @ block.y / total) if total else 0.5
    low, high = model.family.mean_range
    if math.isfinite(low) and math.isfinite(high):
        inner = 1e-6 * (high - low)
        return 0.5 * (block.y + 0.5 * (low + high)), min(max(average, low + inner), high - inner)
    if math.isfinite(low):
        average = average if average > low else low + 1e-8
        return 0.5 * (block.y + average), average
    least = 1e-3 * abs(average) if model.link.mean_range[0] == 0.0 else -math.inf
    return np.maximum(block.y, least), average


def _eta(model, mu):
    return np.array([model.link.link(m) for m in np.unique(mu)])[np.unique(mu, return_inverse=True)[1]]


def _least_squares_start(objective, block):
    model = objective.model
    mu, _ = _start_means(model, block)
    eta = _eta(model, mu)
    if not np.isfinite(eta).all():
        return None
    _, weight, _ = working_rows(model, eta, block.y, block.weight)
    if not np.isfinite(weight).all():
        return None
    weight = np.minimum(weight, 1e6 * np.median(weight[weight > 0])) if (weight > 0).any() else block.weight
    slope = np.array([model.link.inverse_derivative(e) for e in np.unique(eta)])[np.unique(eta, return_inverse=True)[1]]
    target = eta - block.offset + (block.y - mu) / slope
    Z = objective.basis.design(block.X)
    A, b = gram(block.X, objective.basis, weight), Z.T @ (weight * target)
    return solve_damped(objective.penalty.add_curvature(A), b)


def constant_start(objective, block, average=None):
    """The constant model at the average response (default: the block's): inside every domain where there is an
    intercept."""
    model, basis = objective.model, objective.basis
    if model.starts_at_zero:
        return np.zeros(objective.n_coef)
    _, average = _start_means(model, block, average)
    level = model.link.link(average)
    if basis.intercept:
        coef = np.zeros(basis.n_coef)
        coef[0] = level - (float(block.weight @ block.offset / block.weight.sum()) if block.weight.sum() else 0.0)
        return coef
    Z = basis.design(block.X)
    return solve_damped(gram(block.X, basis, block.weight), Z.T @ (block.weight * (level - block.offset)))


def _interior_start(objective, block):
    """Linear predictors furthest inside the interval of the model's (at most 1 inside), by linear programming."""
    Z = objective.basis.design(block.X)
    Z = np.asarray(Z.todense()) if hasattr(Z, "todense") else Z
    q, one, ends = Z.shape[1], np.ones((len(Z), 1)), objective.model.eta_range
    sides = [(sign, end) for sign, end in ((-1.0, ends.low), (1.0, ends.high)) if math.isfinite(end)]
    if not sides:
        return None
    result = optimize.linprog(np.r_[np.zeros(q), -1.0], A_ub=np.vstack([np.c_[sign * Z, one] for sign, _ in sides]),
                              b_ub=np.concatenate([sign * (end - block.offset) for sign, end in sides]),
                              bounds=[(None, None)] * q + [(None, 1.0)])
    return result.x[:q] if result.success and result.x[q] > 0 else None
