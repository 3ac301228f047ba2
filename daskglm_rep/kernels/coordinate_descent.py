"""Separable penalties in compiled code: their sums, thresholds, and coordinate descent on a quadratic model.

A penalty of one coefficient b is total * shape.penalty(unit |b|, alpha): `alpha` is its strength (0: free), `unit`
turns b into what the user penalises, `total` is the sum of weights. No data is needed here.
"""

import numpy as np
from scipy import linalg

from daskglm_rep._jit import FLOATS, MATRIX, OUT, call, formula, kernel, types
from daskglm_rep.shapes import LASSO

FOUR = (FLOATS, FLOATS, FLOATS, types.float64)          # coef, unit, alpha, total


@formula
def _sizes(shape, coef, unit, alpha, total, out):
    for j in range(coef.size):
        out[j] = total * shape.penalty(unit[j] * abs(coef[j]), alpha[j]) if alpha[j] > 0.0 else 0.0


@formula
def _slopes(shape, coef, unit, alpha, total, out):
    for j in range(coef.size):
        out[j] = total * unit[j] * shape.slope(unit[j] * abs(coef[j]), alpha[j]) if alpha[j] > 0.0 else 0.0


@formula
def _shrunk_one(shape, b, step, unit, alpha, total):
    if alpha <= 0.0:
        return b
    size = shape.shrink(unit * abs(b), step * unit * unit * total, alpha) / unit
    return size if b > 0.0 else -size


@formula
def _shrunk(shape, coef, unit, alpha, total, step, out):
    for j in range(coef.size):
        out[j] = _shrunk_one(shape, coef[j], step, unit[j], alpha[j], total)


def sizes(shape, coef, unit, alpha, total):
    """The penalty of each coefficient, (k,) array."""
    out = np.empty(coef.size)
    call(_sizes, FOUR + (OUT,), shape, coef, unit, alpha, total, out)
    return out


def slopes(shape, coef, unit, alpha, total):
    """Its derivative in |b|, from the right at 0, (k,) array."""
    out = np.empty(coef.size)
    call(_slopes, FOUR + (OUT,), shape, coef, unit, alpha, total, out)
    return out


def shrunk(shape, coef, unit, alpha, total, step):
    """argmin_x of the penalty of x + (x - coef)^2 / (2 step), coefficient by coefficient, (k,) array."""
    out = np.empty(coef.size)
    call(_shrunk, FOUR + (types.float64, OUT), shape, coef, unit, alpha, total, float(step), out)
    return out


@kernel
def _sweeps(shape, hessian, gradient, target, unit, alpha, total, max_sweeps, tol):
    """Cyclic coordinate descent, `gradient` kept at `target`: a sweep of all, then what is not zero until it rests."""
    whole = True
    for _ in range(max_sweeps):
        largest = 0.0
        for j in range(target.size):
            h = hessian[j, j]
            if h <= 0.0 or not (whole or target[j] != 0.0):
                continue
            new = _shrunk_one(shape, target[j] - gradient[j] / h, 1.0 / h, unit[j], alpha[j], total)
            change = new - target[j]
            if change != 0.0:
                target[j] = new
                for i in range(target.size):
                    gradient[i] += hessian[j, i] * change
                largest = max(largest, change * change * h)
        if largest <= tol and whole:
            return
        whole = largest <= tol


def descend(shape, hessian, gradient, target, unit, alpha, total, tol, max_sweeps):
    """Coordinate descent of g'd + d'Hd / 2 plus a separable penalty (Friedman, Hastie & Tibshirani 2010), in place.

    Parameters
    ----------
    shape : penalties.Shape
    hessian : (k, k) array, positive semidefinite
    gradient : (k,) array
        Of the quadratic at `target`; kept there.
    target : (k,) array
        Start, overwritten by the end.
    unit, alpha : (k,) array
    total, tol : float
        Stops where no step of a sweep over all promises more than tol / 2.
    """
    call(_sweeps, (MATRIX, OUT, OUT, FLOATS, FLOATS, types.float64, types.int64, types.float64), shape,
         np.ascontiguousarray(hessian), gradient, target, unit, alpha, total, max_sweeps, tol)


def size_of(values):
    """Largest absolute value, 0 of none."""
    return float(np.abs(values).max(initial=0.0))


def solve_well(matrix, vector):
    """matrix^-1 vector; None where a symmetric matrix is not well positive definite."""
    diagonal = np.diag(matrix)
    if not (diagonal > 0.0).all():
        return None
    s = 1.0 / np.sqrt(diagonal)
    try:
        factor = linalg.cho_factor(s[:, None] * matrix * s, lower=True)
    except (linalg.LinAlgError, ValueError):
        return None
    return s * linalg.cho_solve(factor, s * vector) if np.diag(factor[0]).min(initial=1.0) > 1e-6 else None


def by_signs(hessian, gradient, coef, target, slope):
    """Minimise g'(b - coef) + (b - coef)' H (b - coef) / 2 + sum slope |b| with the signs of b held: stop where one
    would turn and drop it, let the worst zero in (Osborne, Presnell & Turlach 2000, IMA J. Numerical Analysis 20).

    Each step lowers the objective, and few are needed from signs that are nearly right; conditioning does not matter.

    Parameters
    ----------
    target, slope : (k,) array
        Start; weights of the absolute values, 0 of free coefficients.

    Returns
    -------
    (k,) array
        As far as it came where columns that determine each other meet.
    """
    sign, on = np.sign(target) * (slope > 0.0), (target != 0.0) | (slope == 0.0)
    target, enough = target.copy(), 1e-13 * size_of(gradient)
    for _ in range(3 * target.size + 10):
        which = np.flatnonzero(on)
        at = gradient + hessian @ (target - coef)
        move = solve_well(hessian[np.ix_(which, which)], -(at + slope * sign)[which])
        if move is None:
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(sign[which] * (target[which] + move) < 0.0, -target[which] / move, np.inf)
        if share.min(initial=np.inf) <= 1.0:
            first = int(np.argmin(share))
            target[which] += share[first] * move
            target[which[first]], sign[which[first]], on[which[first]] = 0.0, 0.0, False
            continue
        target[which] += move
        at = gradient + hessian @ (target - coef)
        excess = np.where(on, 0.0, np.abs(at) - slope)
        worst = int(np.argmax(excess)) if excess.size else 0
        if excess.max(initial=0.0) <= enough:
            break
        on[worst], sign[worst] = True, -np.sign(at[worst])
    return target


def nodewise_lasso(gram, j, start, lasso, tol, max_sweeps=20_000):
    """Coordinate descent for the lasso of column j on the others, from their Gram matrix.

    Parameters
    ----------
    gram : (k, k) array
    start, lasso : (k,) array
        `lasso` is infinite at j.
    tol : float
        Stop when no step lowers the sum of squares by more than this share of column j's.

    Returns
    -------
    (k,) array
        Zero at j.
    """
    target = np.array(start, float)
    descend(LASSO, gram, gram @ target - gram[j], target, np.ones(target.size), np.array(lasso, float), 1.0,
            tol * max(float(gram[j, j]), 1e-300), max_sweeps)
    return target


def spectrum_of(H):
    """Eigenvalues and vectors of a group's Hessian."""
    values, Q = linalg.eigh(H)
    return np.maximum(values, 0.0), Q


def shrunk_group(spectrum, c, weight):
    """argmin_t t'Ht / 2 - c't + weight |t|: t = r (r H + weight)^-1 c with r = |t|.

    1 / |(r H + weight)^-1 c| is concave in r and 1 at the solution: Newton's method from 0 comes from the left.
    """
    values, Q = spectrum
    d, r = Q.T @ c, 0.0
    if linalg.norm(d) <= weight:
        return np.zeros_like(c)
    for _ in range(100):
        inner = values * r + weight
        squares = float(np.sum((d / inner) ** 2))
        slope = squares ** -1.5 * float(np.sum(d * d * values / inner ** 3))
        step = (1.0 - squares ** -0.5) / slope if slope > 0.0 else 0.0
        if not step > 1e-15 * r:
            break
        r += step
    return Q @ (d * r / (values * r + weight))
