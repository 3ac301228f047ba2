"""Row formulas of the multinomial model, and its block moments by Kronecker structure."""

import math

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, MATRIX, OUT, OUT2, call, exp, kernel, log, types
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import tile_gram
from daskglm_rep.summaries import Moments

WIDE = 2 ** 17          # numbers in a tile of products: it stays in the L2 cache


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
def _pair_products(columns, m, products):
    """products[(a, b)] = columns[a] columns[b] row by row, for b <= a; all arrays feature-major."""
    c = 0
    for a in range(columns.shape[0]):
        for b in range(a + 1):
            for i in range(m):
                products[c, i] = columns[a, i] * columns[b, i]
            c += 1


@kernel
def _pair_weights(probability, variance, weight, m, products):
    """products[(j, l)] = w (delta_jl p_j - p_j p_l) for l <= j, from feature-major probabilities and p_j (1 - p_j)."""
    c = 0
    for j in range(probability.shape[0]):
        for l in range(j):
            for i in range(m):
                products[c, i] = -weight[i] * probability[j, i] * probability[l, i]
            c += 1
        for i in range(m):
            products[c, i] = weight[i] * variance[j, i]
        c += 1


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


def _add_information(Z, probability, variance, weight, pairs):
    """Add a dense tile's sums of w (delta_jl p_j - p_j p_l) z_a z_b to `pairs`, (pairs of classes, pairs of columns).

    The information's k^2 blocks are symmetric, and so is each block: a quarter of its numbers are distinct. They are
    one product of two thin matrices of pairwise products, half the arithmetic of U'U with rows u = p kron z.
    """
    n = Z.shape[0]
    step = max(64, WIDE // max(pairs.shape[1], 1))
    zz, pp = np.empty((pairs.shape[1], step)), np.empty((pairs.shape[0], step))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        m = rows.stop - rows.start
        P, V = np.ascontiguousarray(probability[rows].T), np.ascontiguousarray(variance[rows].T)
        call(_pair_products, (OUT2, types.int64, OUT2), np.ascontiguousarray(Z[rows].T), m, zz)
        call(_pair_weights, (OUT2, OUT2, FLOATS, types.int64, OUT2), P, V, weight[rows], m, pp)
        pairs += pp[:, :m] @ zz[:, :m].T


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

    Block (j, l) of the information is Z' diag(w (delta_jl p_j - p_j p_l)) Z, accumulated tile by tile: no temporary of
    the block's length times J p.
    """
    k, q = model.n_equations, basis.n_coef
    B = np.reshape(coef, (k, q))
    score, information = np.zeros((k, q)), np.zeros((k * q, k * q)) if informative else None
    dense = informative and not sparse.issparse(block.X)
    pairs = np.zeros((k * (k + 1) // 2, q * (q + 1) // 2)) if dense else None
    totals = np.zeros(2)
    for rows, Z in tiles(block.X, basis):
        weight = block.weight[rows]
        eta = Z @ B.T + block.offset[rows][:, None]
        variance = np.empty(eta.shape)
        residual, probability = softmax_rows(eta, block.y[rows], weight, totals, variance)
        score += (Z.T @ residual).T
        if dense:
            _add_information(Z, probability, variance, weight, pairs)
        elif informative:
            _add_sparse_information(Z, probability, variance, weight, information)
    if dense:
        call(_unpack_blocks, (OUT2, types.int64, types.int64, OUT2), pairs, k, q, information)
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
