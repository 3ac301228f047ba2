"""Row formulas of the multinomial model, and its block moments by Kronecker structure."""

import math

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, MATRIX, OUT, OUT2, STRIDED, call, exp, kernel, log, types
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import basis_arguments, tile_gram
from daskglm_rep.kernels.strips import (BASIS, LENGTH, STRIP, add_quad, copy_strip, load_and_predict, new_strip)
from daskglm_rep.summaries import Moments

WIDE = 2 ** 17          # numbers in a tile of products: it stays in the L2 cache

_STRIPS = BASIS + (STRIDED,) * 3 + (OUT2, types.boolean, OUT2, OUT2, OUT)


@kernel
def _softmax_rows(eta, y, weight, residual, probability, variance, totals):
    """Fill residual = w (1[y = j] - p_j), p_j and p_j (1 - p_j) of classes 1..J-1; add deviance and Pearson chi2.

    1 - p_j is the sum of the other classes: it keeps its digits where p_j is nearly one.
    """
    n, k = eta.shape
    deviance = pearson = 0.0
    for i in range(n):
        top = 0.0
        for j in range(k):
            top = max(top, eta[i, j])
        whole = exp(-top)
        base = whole
        for j in range(k):
            probability[i, j] = exp(eta[i, j] - top)
            whole += probability[i, j]
        own = int(y[i]) - 1
        chosen = base if own < 0 else probability[i, own]
        for j in range(k):
            rest = base
            for other in range(k):
                if other != j:
                    rest += probability[i, other]
            variance[i, j] = rest / whole
        for j in range(k):
            probability[i, j] /= whole
            residual[i, j] = weight[i] * (variance[i, j] if j == own else -probability[i, j])
            variance[i, j] *= probability[i, j]
        own_eta = 0.0 if own < 0 else eta[i, own]
        deviance -= 2.0 * weight[i] * (own_eta - top - log(whole))
        pearson += weight[i] * (whole / max(chosen, 1e-300) - 1.0)
    totals[0] += deviance
    totals[1] += pearson


def softmax_rows(eta, y, weight, totals=None, variance=None):
    """Residuals and probabilities of some rows.

    Parameters
    ----------
    eta : (n, J-1) array
    y : (n,) array of codes 0..J-1
    weight : (n,) array
    totals : (2,) array, optional
        Deviance and Pearson's chi-squared, sum w (1/p_y - 1), are added to it.
    variance : (n, J-1) array, optional
        Filled with p_j (1 - p_j).

    Returns
    -------
    residual : (n, J-1) array
        w (1[y = j] - p_j).
    probability : (n, J-1) array
        Of classes 1..J-1.
    """
    residual, probability = np.empty((2, *eta.shape))
    variance = np.empty(eta.shape) if variance is None else variance
    totals = np.zeros(2) if totals is None else totals
    call(_softmax_rows, (MATRIX, FLOATS, FLOATS, OUT2, OUT2, OUT2, OUT), eta, y, weight, residual, probability,
         variance, totals)
    return residual, probability


@kernel
def _class_rows(eta, y, weight, m, top, whole, minor, chosen, probability, variance, residual, totals):
    """The formulas of `_softmax_rows` for a strip, class-major arrays (J - 1, m): loops over rows vectorise.

    At most one class has more than half of a row: 1 - p is the difference for the others, and for it their sum.
    """
    k = residual.shape[0]
    for i in range(m):
        top[i] = 0.0
    for j in range(k):
        for i in range(m):
            top[i] = max(top[i], eta[j, i])
    for i in range(m):
        chosen[i] = exp(-top[i])
        whole[i] = chosen[i]
        minor[i] = chosen[i]
    for j in range(k):
        for i in range(m):
            probability[j, i] = exp(eta[j, i] - top[i])
        for i in range(m):
            whole[i] += probability[j, i]
    for i in range(m):
        minor[i] = minor[i] if 2.0 * minor[i] <= whole[i] else 0.0
    for j in range(k):
        for i in range(m):
            minor[i] += probability[j, i] if 2.0 * probability[j, i] <= whole[i] else 0.0
    for j in range(k):
        for i in range(m):
            p, own = probability[j, i], y[i] == j + 1.0
            chosen[i] = p if own else chosen[i]
            rest = (whole[i] - p if 2.0 * p <= whole[i] else minor[i]) / whole[i]
            p /= whole[i]
            residual[j, i] = weight[i] * (rest if own else -p)
            variance[j, i] = p * rest
            probability[j, i] = p
            top[i] -= eta[j, i] if own else 0.0
    deviance = pearson = 0.0
    for i in range(m):
        pearson += weight[i] * (whole[i] / max(chosen[i], 1e-300) - 1.0)
        deviance += 2.0 * weight[i] * (top[i] + log(whole[i]))
    totals[0] += deviance
    totals[1] += pearson


@kernel
def _add_pairs(Z, q, m, probability, variance, weight, left, right, pairs):
    """pairs[(j, l), (a, b)] += sum of w (delta_jl p_j - p_j p_l) z_a z_b for l <= j and b <= a.

    The information's k^2 blocks are symmetric, and so is each block: a quarter of its numbers are distinct. They are
    products of two thin matrices, the weights of pairs of classes and those of pairs of columns, four by four.
    """
    r = 0
    for j in range(probability.shape[0]):
        for l in range(j):
            for i in range(m):
                left[r, i] = -weight[i] * probability[j, i] * probability[l, i]
            r += 1
        for i in range(m):
            left[r, i] = weight[i] * variance[j, i]
        r += 1
    a = b = 0
    for first in range(0, pairs.shape[1], 4):
        n = min(4, pairs.shape[1] - first)
        for c in range(n):
            for i in range(m):
                right[c, i] = Z[a, i] * Z[b, i]
            b += 1
            if b > a:
                a, b = a + 1, 0
        for r in range(0, pairs.shape[0], 4):
            add_quad(left[r:r + 4], right, m, pairs[r:r + 4, first:first + n])


@kernel
def _predict_classes(Z, m, B, first, eta):
    """eta += B Z for the classes from `first` on."""
    q = B.shape[1]
    for e in range(first, B.shape[0]):
        own, j = eta[e], 0
        while j + 4 <= q:
            a, b, c, d = B[e, j], B[e, j + 1], B[e, j + 2], B[e, j + 3]
            for i in range(m):
                own[i] += (a * Z[j, i] + b * Z[j + 1, i]) + (c * Z[j + 2, i] + d * Z[j + 3, i])
            j += 4
        while j < q:
            for i in range(m):
                own[i] += B[e, j] * Z[j, i]
            j += 1


@kernel
def _strip_moments(X, columns, center, inverse_scale, intercept, y, weight, offset, B, informative, score, pairs,
                   totals):
    """One visit of each strip of a dense block: score, deviance and the distinct numbers of the information."""
    k, q = B.shape
    Z, left, right = new_strip(q), np.zeros(((pairs.shape[0] + 3) // 4 * 4, LENGTH)), np.zeros((4, LENGTH))
    eta, probability, variance = np.empty((k, LENGTH)), np.empty((k, LENGTH)), np.empty((k, LENGTH))
    residual, slope = np.zeros(((k + 3) // 4 * 4, LENGTH)), np.empty(q)
    own_y, own_weight, own_offset, top = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    whole, minor, chosen, unseen = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP), np.empty((4, 0))
    for start in range(0, X.shape[0], STRIP):
        m = min(STRIP, X.shape[0] - start)
        copy_strip(y, start, m, own_y)
        copy_strip(weight, start, m, own_weight)
        copy_strip(offset, start, m, own_offset)
        for e in range(k):
            for i in range(m):
                eta[e, i] = own_offset[i]
        load_and_predict(X, start, m, columns, center, inverse_scale, intercept, B[0], slope, own_weight, unseen, Z,
                         eta[0])
        _predict_classes(Z, m, B, 1, eta)
        _class_rows(eta, own_y, own_weight, m, top, whole, minor, chosen, probability, variance, residual[:k], totals)
        for e in range(0, k, 4):
            for j in range(0, q, 4):
                add_quad(residual[e:e + 4], Z[j:j + 4], m, score[e:e + 4, j:j + 4])
        if informative:
            _add_pairs(Z, q, m, probability, variance, own_weight, left, right, pairs)


@kernel
def _unpack_blocks(pairs, k, q, information):
    """information[j q + a, l q + b] = pairs[(j, l), (a, b)], symmetric in (j, l) and in (a, b)."""
    r = 0
    for j in range(k):
        for l in range(j + 1):
            c = 0
            for a in range(q):
                for b in range(a + 1):
                    v = pairs[r, c]
                    information[j * q + a, l * q + b] = v
                    information[j * q + b, l * q + a] = v
                    information[l * q + a, j * q + b] = v
                    information[l * q + b, j * q + a] = v
                    c += 1
            r += 1


def _add_sparse_information(Z, probability, variance, weight, information):
    k, q = probability.shape[1], Z.shape[1]
    for j in range(k):
        for l in range(j + 1):
            here = variance[:, j] if j == l else -probability[:, j] * probability[:, l]
            part = tile_gram(Z, weight * here)
            information[j * q:(j + 1) * q, l * q:(l + 1) * q] += part
            if l < j:
                information[l * q:(l + 1) * q, j * q:(j + 1) * q] += part


def softmax_moments(model, block, basis, coef, informative=True):
    """`Moments` of a block for the multinomial model.

    Block (j, l) of the information is Z' diag(w (delta_jl p_j - p_j p_l)) Z, accumulated strip by strip: no temporary
    of the block's length times J p.
    """
    k, q = model.n_equations, basis.n_coef
    B, totals = np.ascontiguousarray(np.reshape(coef, (k, q)), float), np.zeros(2)
    score, information = np.zeros((k, q)), np.zeros((k * q, k * q)) if informative else None
    if not sparse.issparse(block.X):
        pairs = np.zeros((k * (k + 1) // 2, q * (q + 1) // 2) if informative else (0, 0))
        call(_strip_moments, _STRIPS, block.X, *basis_arguments(basis), block.y, block.weight, block.offset, B,
             informative, score, pairs, totals)
        if informative:
            call(_unpack_blocks, (OUT2, types.int64, types.int64, OUT2), pairs, k, q, information)
        return Moments(score.ravel(), information, information, totals[0], totals[1])
    for rows, Z in tiles(block.X, basis):
        weight = block.weight[rows]
        eta = Z @ B.T + block.offset[rows][:, None]
        variance = np.empty(eta.shape)
        residual, probability = softmax_rows(eta, block.y[rows], weight, totals, variance)
        score += (Z.T @ residual).T
        if informative:
            _add_sparse_information(Z, probability, variance, weight, information)
    return Moments(score.ravel(), information, information, totals[0], totals[1])


def kronecker_rows(left, Z):
    """(n, k q) rows left_i kron z_i."""
    if sparse.issparse(Z):
        return sparse.csr_matrix(sparse.hstack([Z.multiply(left[:, [j]]) for j in range(left.shape[1])]))
    return (left[:, :, None] * Z[:, None, :]).reshape(len(Z), -1)


def class_probabilities(eta):
    """(n, J) probabilities of all classes from (n, J-1) linear predictors."""
    top = np.maximum(eta.max(axis=1, initial=-math.inf), 0.0)[:, None]
    e = np.exp(np.hstack([-top, eta - top]))
    return e / e.sum(axis=1, keepdims=True)
