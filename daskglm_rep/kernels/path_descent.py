"""Coordinate descent along a path of penalties on one quadratic: warm starts and an active set, no data needed."""

import numpy as np

from daskglm_rep._jit import FLOATS, OUT, OUT2, call, kernel, types

PATIENCE = 15          # sweeps of the active coefficients before Newton's step


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
def _jump(active, n, hessian, absolute, square, lasso, ridge, gradient, coef, factor, step):
    """Newton's step of the active coefficients with their signs held, by Cholesky; cut where the first reaches zero."""
    for a in range(n):
        j = active[a]
        for b in range(a + 1):
            total = hessian[j, active[b]] + (ridge * square[j] if a == b else 0.0)
            size = total
            for c in range(b):
                total -= factor[a, c] * factor[b, c]
            if a == b:
                if total <= 1e-11 * size:
                    return                                # singular: the sweeps go on
                factor[a, a] = np.sqrt(total)
            else:
                factor[a, b] = total / factor[b, b]
        total = -gradient[j] - ridge * square[j] * coef[j] - lasso * absolute[j] * np.sign(coef[j])
        for c in range(a):
            total -= factor[a, c] * step[c]
        step[a] = total / factor[a, a]
    share, first = 1.0, -1
    for a in range(n - 1, -1, -1):
        for c in range(a + 1, n):
            step[a] -= factor[c, a] * step[c]
        step[a] /= factor[a, a]
        j = active[a]
        if absolute[j] > 0.0 and coef[j] * (coef[j] + share * step[a]) < 0.0:
            share, first = -coef[j] / step[a], a
    for a in range(n):
        j = active[a]
        change = -coef[j] if a == first else share * step[a]
        coef[j] += change
        for i in range(coef.size):
            gradient[i] += hessian[j, i] * change


@kernel
def _descend(hessian, absolute, square, strengths, gradient, coef, tol, max_sweeps, coefs):
    """All coefficients in turn, then those that are not zero until they rest, then all again.

    Where they do not rest soon, for columns are alike, Newton's step of the active ones goes between sweeps: then the
    last change says how far they are.
    """
    k = coef.size
    active = np.empty(k, np.int64)
    factor, step = np.empty((k, k)), np.empty(k)
    for l in range(strengths.shape[0]):
        lasso, ridge = strengths[l, 0], strengths[l, 1]
        n_sweeps, largest = 0, 2.0 * tol + 1.0
        while largest > tol and n_sweeps < max_sweeps:
            largest, n_active = 0.0, 0
            for j in range(k):
                largest = max(largest, _update(j, hessian, lasso * absolute[j], ridge * square[j], gradient, coef))
                if coef[j] != 0.0:
                    active[n_active] = j
                    n_active += 1
            inner, n_inner = largest, 0
            while inner > tol and n_inner < PATIENCE:
                inner = 0.0
                for i in range(n_active):
                    j = active[i]
                    inner = max(inner, _update(j, hessian, lasso * absolute[j], ridge * square[j], gradient, coef))
                n_inner += 1
            n_sweeps += 1 + n_inner
            if inner > tol:
                n_active = 0
                for j in range(k):
                    if coef[j] != 0.0:
                        active[n_active] = j
                        n_active += 1
                _jump(active, n_active, hessian, absolute, square, lasso, ridge, gradient, coef, factor, step)
        for j in range(k):
            coefs[l, j] = coef[j]


@kernel
def _descend_each(knots, mix, absolute, square, strengths, gradients, starts, tol, max_sweeps, targets, lengths):
    """`_descend` from each of some points, its quadratic a mixture of a few; the largest h_jj d_j^2 of the step d."""
    m, k = knots.shape[0], starts.shape[1]
    hessian, gradient, coef = np.empty((k, k)), np.empty(k), np.empty(k)
    for c in range(starts.shape[0]):
        for i in range(k):
            for j in range(k):
                total = 0.0
                for a in range(m):
                    total += mix[c, a] * knots[a, i, j]
                hessian[i, j] = total
            gradient[i], coef[i] = gradients[c, i], starts[c, i]
        _descend(hessian, absolute, square, strengths[c:c + 1], gradient, coef, tol, max_sweeps, targets[c:c + 1])
        largest = 0.0
        for i in range(k):
            largest = max(largest, hessian[i, i] * (targets[c, i] - starts[c, i]) ** 2)
        lengths[c] = largest


_MATRIX = types.Array(types.float64, 2, "C", readonly=True)
_EACH = (types.Array(types.float64, 3, "C", readonly=True), _MATRIX, FLOATS, FLOATS, _MATRIX, _MATRIX, _MATRIX,
         types.float64, types.int64, OUT2, OUT)
_TYPES = (OUT2, FLOATS, FLOATS, _MATRIX, OUT, OUT, types.float64, types.int64, OUT2)


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


def quadratic_minima(knots, mix, gradients, coefs, absolute, square, strengths, tol, max_sweeps=20_000):
    """Minima of several quadratics under penalties of their own.

    Parameters
    ----------
    knots : (m, k, k) array
        Positive semidefinite matrices.
    mix : (C, m) array
        Each quadratic's is the sum of `mix` times `knots`.
    gradients, coefs : (C, k) array
        Where each begins.
    absolute, square, tol
        As for `quadratic_path`.
    strengths : (C, 2) array

    Returns
    -------
    minima : (C, k) array
    lengths : (C,) array
        Squared, of the steps there: the largest h_jj d_j^2, at most a dispersion times the squared standard errors.
    """
    targets, lengths = np.empty(coefs.shape), np.empty(len(coefs))
    call(_descend_each, _EACH, np.ascontiguousarray(knots), np.ascontiguousarray(mix), np.asarray(absolute, float),
         np.asarray(square, float), np.ascontiguousarray(strengths), np.ascontiguousarray(gradients),
         np.ascontiguousarray(coefs), float(tol), max_sweeps, targets, lengths)
    return targets, lengths
