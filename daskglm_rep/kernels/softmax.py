"""Row formulas of the multinomial model, and its block moments by Kronecker structure."""

import math

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, MATRIX, OUT, OUT2, call, exp, kernel, log
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import tile_gram
from daskglm_rep.summaries import Moments

WIDE = 2 ** 17          # numbers in a tile of p kron x: it and its product stay in the L2 cache


@kernel
def _softmax_rows(eta, y, weight, residual, probability, variance, totals):
    """Fill residual = w (1[y = j] - p_j), p_j and p_j (1 - p_j) of classes 1..J-1; add deviance and Pearson chi-squared.

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
    call(_softmax_rows, (MATRIX, FLOATS, FLOATS, OUT2, OUT2, OUT2, OUT), eta, y, weight, residual, probability, variance,
         totals)
    return residual, probability


def softmax_moments(model, block, basis, coef, informative=True):
    """`Moments` of a block for the multinomial model.

    The information is -U'U with rows u = sqrt(w) p kron z off the diagonal, one syrk on a tile that never grows to the
    block's length, and Z' diag(w p_j (1 - p_j)) Z on it.
    """
    k, q = model.n_equations, basis.n_coef
    B = np.reshape(coef, (k, q))
    score, information = np.zeros((k, q)), np.zeros((k * q, k * q)) if informative else None
    diagonal = np.zeros((k, q, q))
    totals = np.zeros(2)
    step = max(64, WIDE // (k * q))
    for rows, Z in tiles(block.X, basis):
        weight = block.weight[rows]
        eta = Z @ B.T + block.offset[rows][:, None]
        variance = np.empty(eta.shape)
        residual, probability = softmax_rows(eta, block.y[rows], weight, totals, variance)
        score += (Z.T @ residual).T
        if not informative:
            continue
        root = np.sqrt(weight)[:, None] * probability
        for start in range(0, Z.shape[0], step):
            U = kronecker_rows(root[start:start + step], Z[start:start + step])
            information -= U.T @ U if not sparse.issparse(U) else (U.T @ U).toarray()
        for j in range(k):
            diagonal[j] += tile_gram(Z, weight * variance[:, j])
    if informative:
        for j in range(k):
            cut = slice(j * q, (j + 1) * q)
            information[cut, cut] = diagonal[j]
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
