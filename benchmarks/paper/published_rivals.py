"""Rivals as the paper ran them, where the library does otherwise or has none."""

import numba as nb
import numpy as np


@nb.njit(cache=True)
def _walk(X, y, coef, tol, n_rows):
    n, p = X.shape
    average, before = coef.copy(), np.empty(p + 1)
    for t in range(1, n_rows + 1):
        x, rate = X[(t - 1) % n], (1.0 + t) ** (-2.0 / 3.0)
        eta, size = coef[0], 1.0
        for j in range(p):
            eta += coef[j + 1] * x[j]
            size += x[j] * x[j]
        low, high = 0.0, rate * (y[(t - 1) % n] - 1.0 / (1.0 + np.exp(-eta)))
        for _ in range(60):                                     # the implicit step's one-dimensional root
            step = 0.5 * (low + high)
            excess = step - rate * (y[(t - 1) % n] - 1.0 / (1.0 + np.exp(-eta - size * step)))
            if (excess > 0) == (high > 0):
                high = step
            else:
                low = step
        coef[0] += step
        for j in range(p):
            coef[j + 1] += step * x[j]
        before[:] = average
        average += (coef - average) / t
        if t > 1 and np.abs(average - before).sum() < tol * np.abs(before).sum():
            return average, t
    return average, n_rows


def default_sgd(X, y, seed):
    """Averaged implicit SGD of a logistic model as R's package sgd runs it by default.

    Method "ai-sgd", rate (1 + t)^(-2/3) in raw columns, three passes at most, but stopped as soon as one row moves the
    average by less than 1e-5 of its size: after 5,000 to 20,000 rows of a million here. That rule makes the paper's
    errors; without it they are 3 to 30 times smaller.

    Returns
    -------
    average : (p + 1,) array
        Intercept first.
    n_rows : int
        Rows used.
    """
    start = np.random.default_rng(seed).normal(0.0, 1e-5, X.shape[1] + 1)
    return _walk(np.ascontiguousarray(X), y, start, 1e-5, 3 * len(X))


@nb.njit(cache=True, fastmath=True)
def _support_step(points, X):
    n, p = points.shape
    moved = np.empty_like(points)
    for i in range(n):
        x, pull, weight = points[i], np.zeros(p), 0.0
        for m in range(len(X)):
            d = 1e-12
            for j in range(p):
                d += (X[m, j] - x[j]) ** 2
            d = 1.0 / np.sqrt(d)
            weight += d
            for j in range(p):
                pull[j] += d * X[m, j]
        for k in range(n):
            if k != i:
                d = 1e-12
                for j in range(p):
                    d += (x[j] - points[k, j]) ** 2
                d = len(X) / n / np.sqrt(d)
                for j in range(p):
                    pull[j] += d * (x[j] - points[k, j])
        moved[i] = pull / weight
    return moved


def support_rows(X, n_points, seed, n_iter=30):
    """Rows nearest to support points of X, each once (Mak & Joseph 2018, the fixed-point iteration of their sp.ccp).

    The paper does not say how its support points got their responses; here each takes the nearest row that is left.
    """
    scale = X.std(axis=0)
    Z = X / scale
    points = Z[np.random.default_rng(seed).choice(len(X), n_points, replace=False)]
    for _ in range(n_iter):
        points = _support_step(points, Z)
    left = np.ones(len(X), bool)
    rows = np.empty(n_points, np.int64)
    for k, point in enumerate(points):
        away = np.where(left, ((Z - point) ** 2).sum(axis=1), np.inf)
        rows[k] = away.argmin()
        left[rows[k]] = False
    return rows
