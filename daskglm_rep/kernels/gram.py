"""Z'VZ of a block, family-free: strips for few columns, BLAS row tiles for many, sparse too; and its Z b."""

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, OUT2, call, kernel
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.csr import add_csr_gram
from daskglm_rep.kernels.strips import BASIS, LENGTH, STRIP, add_gram, load_strip, new_strip

# Up to this many columns strips beat BLAS tiles (per row 350 against 450 ns at 100, 2.3 against 2.6 us at 300).
NARROW = 400


@kernel
def _narrow_gram(X, columns, center, inverse_scale, intercept, weight, information):
    Z, weighted = new_strip(information.shape[0]), np.empty((4, LENGTH))
    for start in range(0, X.shape[0], STRIP):
        m = min(STRIP, X.shape[0] - start)
        load_strip(X, start, m, columns, center, inverse_scale, intercept, Z)
        add_gram(Z, m, weight[start:start + m], weighted, information)


@kernel
def _mirror(matrix):
    for j in range(matrix.shape[0]):
        for k in range(j):
            matrix[k, j] = matrix[j, k]


def symmetric(lower):
    """Fill the upper triangle from the lower one, in place."""
    call(_mirror, (OUT2,), lower)
    return lower


def basis_arguments(basis):
    return basis.columns, basis.center, 1.0 / basis.scale, basis.intercept


def is_narrow(X, basis):
    return basis.n_coef <= NARROW and not sparse.issparse(X)


def tile_gram(Z, weight):
    """Z' diag(weight) Z of one tile, dense result; weights of any sign."""
    if sparse.issparse(Z):
        total = np.zeros((Z.shape[1], Z.shape[1]))
        add_csr_gram(sparse.csr_matrix(Z), weight, total)
        return total
    if weight.size and weight.min() < 0:
        return Z.T @ (Z * weight[:, None])
    R = Z * np.sqrt(weight)[:, None]
    return R.T @ R                                       # the same array twice: numpy calls syrk, half the work


def add_tile_gram(Z, weight, total):
    """`tile_gram` added to a (q, q) array in place: sparse rows touch few of its numbers."""
    if sparse.issparse(Z):
        add_csr_gram(sparse.csr_matrix(Z), weight, total)
    else:
        total += tile_gram(Z, weight)


def gram(X, basis, weight):
    """Z' diag(weight) Z of a block.

    Parameters
    ----------
    X : (n, p) array or CSR matrix
    basis : Basis
    weight : (n,) array

    Returns
    -------
    (q, q) array
    """
    total = np.zeros((basis.n_coef, basis.n_coef))
    if is_narrow(X, basis):
        call(_narrow_gram, BASIS + (FLOATS, OUT2), X, *basis_arguments(basis), weight, total)
        return symmetric(total)
    for rows, Z in tiles(X, basis):
        add_tile_gram(Z, weight[rows], total)
    return total


def linear_predictor(X, basis, coef, offset=None):
    """Z @ coef (+ offset) of a block.

    Parameters
    ----------
    coef : (q,) or (n_equations * q,) array in the basis

    Returns
    -------
    (n,) array, or (n, n_equations) with several equations
    """
    if not basis.n_coef:          # a null model without intercept
        return np.zeros(X.shape[0]) + (0.0 if offset is None else offset)
    raw = basis.raw(coef).reshape(-1, basis.n_coef)
    B = np.zeros((X.shape[1], raw.shape[0]))
    B[basis.columns] = raw[:, int(basis.intercept):].T
    eta = X @ B
    if basis.intercept:
        # centred products first would keep more digits of a column far from zero; done where it matters, in the fits
        eta += raw[:, 0]
    if offset is not None:
        eta += offset[:, None]
    return eta[:, 0] if raw.shape[0] == 1 else eta
