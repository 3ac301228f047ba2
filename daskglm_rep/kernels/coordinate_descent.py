"""Coordinate descent on a merged quadratic model: the elastic net's inner loop, no data needed."""

import numpy as np

from daskglm_rep._jit import OUT, OUT2, call, kernel, types


@kernel
def _sweeps(hessian, gradient, coef, target, lasso, max_sweeps, tol):
    """Cyclic coordinate descent; `gradient` is kept at `target`; soft threshold of u at t: u - t, 0 or u + t."""
    k = coef.size
    for _ in range(max_sweeps):
        largest = 0.0
        for j in range(k):
            h = hessian[j, j]
            if h <= 0.0:
                continue
            u = h * target[j] - gradient[j]
            new = 0.0
            if u > lasso[j]:
                new = (u - lasso[j]) / h
            elif u < -lasso[j]:
                new = (u + lasso[j]) / h
            change = new - target[j]
            if change != 0.0:
                target[j] = new
                for i in range(k):
                    gradient[i] += hessian[i, j] * change
                largest = max(largest, change * change * h)
        if largest <= tol:
            return


def quadratic_minimum(hessian, gradient, coef, lasso, tol=1e-26, max_sweeps=100_000):
    """Minimise g'(b - coef) + (b - coef)' H (b - coef) / 2 + sum lasso |b| (Friedman, Hastie & Tibshirani 2010).

    Parameters
    ----------
    hessian : (k, k) array, positive definite
    gradient, coef, lasso : (k,) array

    Returns
    -------
    (k,) array
    """
    target, g = np.array(coef, float), np.array(gradient, float)
    scale = max(float(np.abs(hessian).max()), 1e-300) * max(float(np.abs(coef).max(initial=0.0)) ** 2, 1e-6)
    call(_sweeps, (OUT2, OUT, OUT, OUT, OUT, types.int64, types.float64), np.ascontiguousarray(hessian), g,
         np.array(coef, float), target, np.array(lasso, float), max_sweeps, tol * scale)
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
    gradient = gram @ target - gram[j]
    call(_sweeps, (OUT2, OUT, OUT, OUT, OUT, types.int64, types.float64), np.ascontiguousarray(gram), gradient,
         np.zeros(target.size), target, np.array(lasso, float), max_sweeps, tol * max(float(gram[j, j]), 1e-300))
    return target
