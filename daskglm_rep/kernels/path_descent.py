"""Coordinate descent along a path of penalties on one quadratic: warm starts and an active set, no data needed."""

import numpy as np

from daskglm_rep._jit import FLOATS, OUT, OUT2, call, kernel, types


@kernel
def _update(j, hessian, lasso, ridge, gradient, coef):
    """Minimise over one coefficient; returns by how much the objective fell, times two."""
    h = hessian[j, j]
    if h + ridge <= 0.0:
        return 0.0
    u = h * coef[j] - gradient[j]
    new = 0.0
    if u > lasso:
        new = (u - lasso) / (h + ridge)
    elif u < -lasso:
        new = (u + lasso) / (h + ridge)
    change = new - coef[j]
    if change == 0.0:
        return 0.0
    coef[j] = new
    for i in range(coef.size):
        gradient[i] += hessian[j, i] * change
    return change * change * (h + ridge)


@kernel
def _descend(hessian, absolute, square, strengths, gradient, coef, tol, max_sweeps, coefs):
    """All coefficients in turn, then those that are not zero until they rest, then all again; returns sweeps."""
    k, n_sweeps = coef.size, 0
    active = np.empty(k, np.int64)
    for l in range(strengths.shape[0]):
        lasso, ridge = strengths[l, 0], strengths[l, 1]
        for _ in range(max_sweeps):
            largest, n_active = 0.0, 0
            for j in range(k):
                largest = max(largest, _update(j, hessian, lasso * absolute[j], ridge * square[j], gradient, coef))
                if coef[j] != 0.0:
                    active[n_active] = j
                    n_active += 1
            n_sweeps += 1
            if largest <= tol or n_sweeps >= max_sweeps * (l + 1):
                break
            while largest > tol and n_sweeps < max_sweeps * (l + 1):
                largest = 0.0
                for i in range(n_active):
                    j = active[i]
                    largest = max(largest, _update(j, hessian, lasso * absolute[j], ridge * square[j], gradient, coef))
                n_sweeps += 1
        for j in range(k):
            coefs[l, j] = coef[j]
    return n_sweeps


_TYPES = (OUT2, FLOATS, FLOATS, types.Array(types.float64, 2, "C", readonly=True), OUT, OUT, types.float64,
          types.int64, OUT2)


def quadratic_path(hessian, gradient, coef, absolute, square, strengths, tol, max_sweeps=20_000):
    """Minimise g'(b - c) + (b - c)' H (b - c) / 2 + s_1 sum absolute |b| + s_2 sum square b^2 / 2 for pairs s in turn.

    Friedman, Hastie & Tibshirani (2010), covariance updates: the gradient of all coefficients is kept, so a visit to a
    coefficient that stays where it is costs nothing.

    Parameters
    ----------
    hessian : (k, k) array, positive semidefinite
    gradient, coef : (k,) array
        At the coefficients c, where the first of the pairs begins too.
    absolute, square : (k,) array
        Weights of the penalties; 0 for free coefficients.
    strengths : (L, 2) array
    tol : float
        Largest fall of twice the objective by one coefficient at which it rests.

    Returns
    -------
    (L, k) array
    """
    coefs = np.empty((len(strengths), coef.size))
    call(_descend, _TYPES, np.ascontiguousarray(hessian), np.asarray(absolute, float), np.asarray(square, float),
         np.ascontiguousarray(strengths, float), np.array(gradient, float), np.array(coef, float), float(tol),
         max_sweeps, coefs)
    return coefs
