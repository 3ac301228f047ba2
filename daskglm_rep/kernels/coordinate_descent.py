"""Separable penalties in compiled code: their sums, thresholds, and coordinate descent on a quadratic model.

A penalty of one coefficient b is total * shape.penalty(unit |b|, alpha): `alpha` is its strength (0: free), `unit`
turns b into what the user penalises, `total` is the sum of weights. No data is needed here.
"""

import numpy as np

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
