"""Leverages: the diagonal of the weighted hat matrix, h_i = W_i z_i' A z_i with A the inverse information."""

import numpy as np
from scipy import linalg, sparse

from daskglm_rep._jit import FLOATS, MATRIX, OUT, STRIDED, call, kernel, types
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import basis_arguments, is_narrow
from daskglm_rep.kernels.strips import BASIS, LENGTH, STRIP, columns_of_strip, load_and_predict

FEATURE_TILE = 2 ** 17          # numbers of a tile of strips: a megabyte stays in the L2 cache, calls are few
PERFECT = 1e-9                  # a leverage closer to 1 than this is 1: what is left of 1 - h is rounding


def folded(A):
    """The lower triangle that gives the same quadratic form as a symmetric matrix: off its diagonal twice."""
    return np.tril(2.0 * A, -1) + np.diag(np.diag(A))


@kernel
def _add_quad_rows(Z, m, A, j, inner):
    """inner += A[j:j + 4, :j + 4] Z[:j + 4], by blocks of four by four: 16 products share 8 loads."""
    for k in range(0, j + 1, 4):
        a0, a1, a2, a3 = A[j, k], A[j, k + 1], A[j, k + 2], A[j, k + 3]
        b0, b1, b2, b3 = A[j + 1, k], A[j + 1, k + 1], A[j + 1, k + 2], A[j + 1, k + 3]
        c0, c1, c2, c3 = A[j + 2, k], A[j + 2, k + 1], A[j + 2, k + 2], A[j + 2, k + 3]
        d0, d1, d2, d3 = A[j + 3, k], A[j + 3, k + 1], A[j + 3, k + 2], A[j + 3, k + 3]
        for i in range(m):
            z0, z1, z2, z3 = Z[k, i], Z[k + 1, i], Z[k + 2, i], Z[k + 3, i]
            inner[0, i] += a0 * z0 + a1 * z1 + a2 * z2 + a3 * z3
            inner[1, i] += b0 * z0 + b1 * z1 + b2 * z2 + b3 * z3
            inner[2, i] += c0 * z0 + c1 * z1 + c2 * z2 + c3 * z3
            inner[3, i] += d0 * z0 + d1 * z1 + d2 * z2 + d3 * z3


@kernel
def add_quadratic(Z, m, A, inner, out):
    """out[:m] = z' A z of m columns of a feature-major strip, A lower triangular; `inner` is (4, LENGTH)."""
    q = A.shape[0]
    whole = q - q % 4
    for i in range(m):
        out[i] = 0.0
    for j in range(0, whole, 4):
        for i in range(m):
            inner[0, i] = inner[1, i] = inner[2, i] = inner[3, i] = 0.0
        _add_quad_rows(Z, m, A, j, inner)
        for i in range(m):
            out[i] += (inner[0, i] * Z[j, i] + inner[1, i] * Z[j + 1, i]
                       + inner[2, i] * Z[j + 2, i] + inner[3, i] * Z[j + 3, i])
    for j in range(whole, q):          # rows of a strip beyond q hold anything
        for i in range(m):
            inner[0, i] = 0.0
        for k in range(0, whole, 4):
            a0, a1, a2, a3 = A[j, k], A[j, k + 1], A[j, k + 2], A[j, k + 3]
            for i in range(m):
                inner[0, i] += a0 * Z[k, i] + a1 * Z[k + 1, i] + a2 * Z[k + 2, i] + a3 * Z[k + 3, i]
        for k in range(whole, j + 1):
            a0 = A[j, k]
            for i in range(m):
                inner[0, i] += a0 * Z[k, i]
        for i in range(m):
            out[i] += inner[0, i] * Z[j, i]


@kernel
def _strip_quadratic(Z, A, out):
    inner = np.empty((4, LENGTH))
    for s in range(Z.shape[0]):
        start = s * STRIP
        add_quadratic(Z[s], min(STRIP, out.size - start), A, inner, out[start:])


@kernel
def _load_strips(X, columns, center, inverse_scale, intercept, coef, offset, Z, eta):
    """Standardised rows in strips, each feature-major, and their linear predictor; one strip is reused if Z has one."""
    slope, unseen = np.empty(coef.size), np.empty((4, 0))
    for start in range(0, eta.size, STRIP):
        m = min(STRIP, eta.size - start)
        own = eta[start:start + m]
        for i in range(m):
            own[i] = offset[start + i]
        load_and_predict(X, start, m, columns, center, inverse_scale, intercept, coef, slope, own, unseen,
                         Z[(start // STRIP) % Z.shape[0]], own)


STRIPS = types.float64[:, :, ::1]
_LOAD = BASIS + (FLOATS, STRIDED, STRIPS, OUT)


def strip_tiles(block, basis, coef, keep=True):
    """Tiles of a dense block with few columns, each loaded once for several kernels.

    Parameters
    ----------
    keep : bool
        False for the linear predictor alone.

    Yields
    ------
    rows : slice
    Z : (n_strips, columns_of_strip(q), LENGTH) array
        Strips of rows, each feature-major; the memory is used again for the next tile.
    eta : (m,) array
    """
    n, q = block.n_rows, basis.n_coef
    step = STRIP * max(2, FEATURE_TILE // (STRIP * max(q, 1)))
    Z = np.empty((-(-min(step, n) // STRIP) if keep else 1, columns_of_strip(q), LENGTH))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        eta = np.empty(rows.stop - start)
        call(_load_strips, _LOAD, block.X[rows], *basis_arguments(basis), np.asarray(coef, float), block.offset[rows],
             Z, eta)
        yield rows, Z[:-(-eta.size // STRIP)], eta


def strip_quadratic(Z, A, n):
    """z_i' A z_i of the n rows of a tile of strips, (n,) array."""
    out = np.empty(n)
    call(_strip_quadratic, (STRIPS, MATRIX, OUT), Z, folded(A), out)
    return out


def tile_quadratic(Z, A):
    """z_i' A z_i of a row-major tile or CSR matrix, (m,) array."""
    if sparse.issparse(Z):
        return _sparse_quadratic(Z, A)
    try:
        L = linalg.cholesky(A, lower=True)
    except (linalg.LinAlgError, ValueError):
        return np.einsum("ij,ij->i", Z @ A, Z)
    U = linalg.blas.dtrmm(1.0, L, Z.T, trans_a=1, lower=1)          # L'Z': half the work of a full product
    return np.einsum("ji,ji->i", U, U)


def _sparse_quadratic(Z, A, step=4096):
    out = np.empty(Z.shape[0])
    for start in range(0, Z.shape[0], step):
        part = Z[start:start + step]
        out[start:start + step] = np.asarray(part.multiply(part @ A).sum(axis=1)).ravel()
    return out


def quadratic_rows(block, basis, A):
    """z_i' A z_i of all rows of a block.

    Parameters
    ----------
    block : Block
    basis : Basis
    A : (q, q) symmetric array in the basis

    Returns
    -------
    (n,) array
    """
    out = np.empty(block.n_rows)
    if is_narrow(block.X, basis):
        for rows, Z, eta in strip_tiles(block, basis, np.zeros(basis.n_coef)):
            out[rows] = strip_quadratic(Z, A, eta.size)
        return out
    for rows, Z in tiles(block.X, basis):
        out[rows] = tile_quadratic(Z, A)
    return out


@kernel
def adjust(residual, expected, weight, quadratic, power, per_row, frequency, leverage, out, perfect):
    """Weights of the meat: squared residuals divided by (1 - h)^power; counts and first places of leverage 1.

    Loops without a branch first: they vectorise.
    """
    m, n_perfect = quadratic.size, 0
    for i in range(m):
        copies = weight[i] if frequency else 1.0
        inside = 1.0 / copies if copies > 0.0 else 0.0
        out[i] = residual[i] * residual[i] * inside
        leverage[i] = expected[i] * quadratic[i] * inside
    for i in range(m):
        n_perfect += 1 if 1.0 - leverage[i] < PERFECT else 0
    if n_perfect:
        for i in range(m):
            if 1.0 - leverage[i] < PERFECT:
                if perfect[0] + 1 < perfect.size:
                    perfect[perfect[0] + 1] = i
                perfect[0] += 1
    if power[1] == 0.0 and power[2] == 0.0 and power[0] == 2.0:
        for i in range(m):
            out[i] /= (1.0 - leverage[i]) * (1.0 - leverage[i])
    elif power[1] == 0.0 and power[2] == 0.0 and power[0] == 1.0:
        for i in range(m):
            out[i] /= 1.0 - leverage[i]
    else:
        for i in range(m):
            ratio = leverage[i] * per_row
            out[i] /= (1.0 - leverage[i]) ** (power[0] + min(power[1], ratio) + min(power[2], ratio))


def adjusted_squares(residual, expected, weight, quadratic, power, per_row=0.0, frequency=False):
    """Squared score factors over (1 - h)^power, and where h = 1.

    Parameters
    ----------
    residual, expected, weight, quadratic : (n,) array
    power : (3,) array
        The power is power_0 + min(power_1, h n / k) + min(power_2, h n / k).
    per_row : float
        n / k.
    frequency : bool
        Weights count copies: leverages and squares are those of one copy, the sum is over copies.

    Returns
    -------
    (n,) array, list of row numbers (a few), count
    """
    leverage, out, perfect = np.empty(residual.size), np.empty(residual.size), np.zeros(6, np.int64)
    call(adjust, (FLOATS,) * 5 + (types.float64, types.boolean, OUT, OUT, types.int64[::1]), residual, expected, weight,
         quadratic, np.asarray(power, float), per_row, frequency, leverage, out, perfect)
    count = int(perfect[0])
    return out, [int(i) for i in perfect[1:1 + min(count, 5)]], count
