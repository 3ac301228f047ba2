"""How strong a penalty: by theory from the noise, or by cross-validation inside the parts."""

import dataclasses
import math

import numpy as np

from daskglm_rep import passes
from daskglm_rep.combining import cut, fit_alone
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.shrinkage import Shrinkage, rate, scaled
from daskglm_rep.summaries import Total

N_ALPHAS, LEAST = 20, 0.01          # of a path, and its end as a share of its start
ROUNDS = 10


def choose(prepared, n_parts, alpha, l1_ratio, standardize, penalize_intercept, constant, n_folds, seed):
    """The parts' penalty.

    Parameters
    ----------
    prepared : Prepared
    n_parts : tuple of int
        Of every block.
    alpha : float, (p,) or with a penalized intercept (1 + p,) array, "theory" or "cv"
    constant : float
        Of the theory's constant sigma sqrt(log q / n), n the rows of a part.
    n_folds : int

    Returns
    -------
    Shrinkage
    """
    columns, p, objective = prepared.found.columns, len(prepared.data.names), prepared.objective()
    if not isinstance(alpha, str):
        return _given(columns, np.asarray(alpha, float), l1_ratio, standardize, penalize_intercept, p)
    unit = Shrinkage(columns, columns.deviation, l1_ratio, False, float(penalize_intercept))
    if alpha == "theory":
        rows = prepared.n_rows() / sum(n_parts)
        strength = constant * noise(prepared.block, objective, unit, constant) * rate(objective.n_coef, rows)
    else:
        strength = cross_validate(prepared.data, prepared.block, objective, unit, n_parts, n_folds, seed)[0]
    return scaled(unit, strength)


def _given(columns, alpha, l1_ratio, standardize, penalize_intercept, p):
    whole = alpha.ndim == 1 and alpha.size == p + 1 and penalize_intercept
    if alpha.ndim and not (whole or alpha.shape == (p,)) or not ((alpha >= 0) & np.isfinite(alpha)).all():
        raise ValueError(f"alpha must be one number >= 0, or one for each of the {p} features (a penalized intercept's "
                         f"may come before them), got {alpha!r}.")
    intercept = 0.0 if not penalize_intercept else float(alpha[0] if whole else alpha.mean())
    return Shrinkage(columns, np.broadcast_to(alpha[1:] if whole else alpha, (p,)), l1_ratio, standardize, intercept)


def noise(block, objective, shrinkage, constant):
    """Root mean square of the rows' score factors, as a lasso on some rows leaves them.

    The scaled lasso (Sun & Zhang 2012): fit at constant noise sqrt(log q / n), take the noise from the residuals,
    again; it begins at the constant model's.

    Parameters
    ----------
    block : Block
        Pilot rows.
    shrinkage : Shrinkage
        `alpha` holds what strength 1 means for each column.
    constant : float

    Returns
    -------
    float
        sigma of a linear model with weights of 1.
    """
    n, weight = float((block.weight > 0).sum()), float(block.weight.sum())
    per_row = n / weight
    sigma = math.sqrt(np.sum(_residuals(block, objective, null_eta(block, objective)) ** 2) / n) * per_row
    for _ in range(ROUNDS):
        strength = constant * sigma * rate(objective.n_coef, n)
        point, _ = fit_alone(block, penalized(objective, shrinkage, strength, weight))
        if point is None:
            break
        squares = np.sum(_residuals(block, objective, objective.basis.design(block.X) @ point.coef + block.offset) ** 2)
        before, sigma = sigma, math.sqrt(squares / max(n - np.count_nonzero(point.coef), 1.0)) * per_row
        if abs(sigma - before) <= 1e-3 * before:
            break
    return sigma


def penalized(objective, shrinkage, strength, weight):
    """The objective with `shrinkage` times `strength`, for rows of this sum of weights."""
    return dataclasses.replace(objective, penalty=scaled(shrinkage, strength).penalty(objective, weight))


def null_eta(block, objective):
    """Linear predictors of the constant model, (n,).

    Raises
    ------
    ValueError
        A block that has none.
    """
    null = objective.null()
    point = fit_alone(block, null)[0] if null.n_coef else None
    if null.n_coef and point is None:
        raise ValueError("The constant model cannot be fitted to the pilot rows (all responses alike?): give alpha as "
                         "a number.")
    return block.offset + (point.coef[0] if null.n_coef else 0.0)


def _residuals(block, objective, eta):
    totals = np.zeros(3)
    residual = working_rows(objective.model, eta, block.y, block.weight, totals)[0]
    if totals[2]:
        raise ValueError(f"The pilot's coefficients give means outside the domain of the {objective.model} model: give "
                         "alpha as a number, or use another link.")
    return residual


def strongest(block, objective, shrinkage):
    """The strength from which on all penalized coefficients are zero on some rows."""
    score = objective.basis.design(block.X).T @ _residuals(block, objective, null_eta(block, objective))
    unit = shrinkage.strength(objective) * block.weight.sum()
    used = unit > 0
    return float(np.max(np.abs(score[used]) / unit[used], initial=0.0)) / max(shrinkage.l1_ratio, 0.05)


def cross_validate(data, block, objective, shrinkage, n_parts, n_folds, seed):
    """The strength of least held-out deviance: every part is cut into folds, the deviances of all parts are added.

    So the strength suits fits of parts, whose rows are fewer. One sweep.

    Parameters
    ----------
    block : Block
        Pilot rows, which give the path's start.
    n_parts : tuple of int
    n_folds : int

    Returns
    -------
    strength : float
    path, deviances : (20,) array

    Raises
    ------
    ValueError
        No fold of any part could be fitted.
    """
    path = strongest(block, objective, shrinkage) * np.geomspace(1.0, LEAST, N_ALPHAS)
    if not path[0] > 0:
        return 0.0, path, np.zeros(N_ALPHAS)
    sums = passes.run(_held_out, data, objective, shrinkage, path, n_parts, n_folds, seed).value
    if not sums[-1] > 0:
        raise ValueError(f"No part has rows enough for {n_folds} folds: use fewer partitions, or give alpha as a "
                         "number.")
    return float(path[np.argmin(sums[:-1])]), path, sums[:-1]


def _held_out(block, objective, shrinkage, path, n_parts, n_folds, seed):
    """Held-out deviances along the path, summed over parts and folds, and how many folds there were."""
    total = np.zeros(path.size + 1)
    for i, part in enumerate(cut(block, n_parts[block.index], seed)):
        if part.n_rows < 2 * n_folds:
            continue
        fold = np.random.default_rng((seed, block.index, i, 5)).permutation(part.n_rows) % n_folds
        for k in range(n_folds):
            total += _one_fold(part.take(fold != k), part.take(fold == k), objective, shrinkage, path)
    return Total(total)


def _one_fold(training, held_out, objective, shrinkage, path):
    """Warm starts down the path; a fit that fails counts as the one before it."""
    found, coef, deviance = np.zeros(path.size + 1), None, math.nan
    weight = float(training.weight.sum())
    for i, strength in enumerate(path):
        point = fit_alone(training, penalized(objective, shrinkage, strength, weight), coef)[0] if weight else None
        if point is None and coef is None:
            return np.zeros(path.size + 1)
        coef = coef if point is None else point.coef
        if point is not None:
            deviance = block_moments(held_out, objective.model, objective.basis, coef, False).deviance
        found[i] = deviance
    found[-1] = 1.0
    return found
