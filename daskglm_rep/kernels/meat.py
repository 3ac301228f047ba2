"""The middle of the sandwich for independent rows: sums of outer products of score rows, adjusted for leverage."""

import dataclasses

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, OUT, OUT2, call, kernel
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import is_narrow, symmetric, tile_gram
from daskglm_rep.kernels.leverage import STRIPS, adjusted_squares, strip_quadratic, strip_tiles, tile_quadratic
from daskglm_rep.kernels.moments import squared_scores
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.kernels.softmax import WIDE, kronecker_rows, softmax_rows
from daskglm_rep.kernels.strips import LENGTH, STRIP, add_gram, add_moment
from daskglm_rep.summaries import Meat


@dataclasses.dataclass(frozen=True)
class Adjustment:
    """How a row's squared score is weighted.

    Attributes
    ----------
    power : tuple of 3 floats
        Squared score rows are divided by (1 - h)^d, d = power_0 + min(power_1, h n / k) + min(power_2, h n / k).
    bread : (q, q) array or None
        Inverse expected information, for h.
    per_row : float
        n / k.
    frequency : bool
    """

    power: tuple = (0.0, 0.0, 0.0)
    bread: np.ndarray = None
    per_row: float = 0.0
    frequency: bool = False


@kernel
def _strip_sums(Z, residual, weight, score, total):
    """score += Z r and the lower triangle of total += Z diag(weight) Z' over the strips of a tile."""
    weighted = np.empty((4, LENGTH))
    for s in range(Z.shape[0]):
        start = s * STRIP
        m = min(STRIP, weight.size - start)
        add_moment(Z[s], m, residual[start:start + m], score)
        add_gram(Z[s], m, weight[start:start + m], weighted, total)


def squares(residual, weight, frequency):
    """Squared score factors of HC0: over the weight where it counts copies."""
    value = residual * residual
    if frequency:
        value = np.divide(value, weight, out=np.zeros_like(value), where=weight > 0)
    return value


def kept_rows(weight, frequency):
    """Rows that count in n."""
    return float(np.sum(weight)) if frequency else float(np.count_nonzero(weight > 0))


def _refuse(n_invalid, block):
    if n_invalid > 0:
        raise ValueError(f"{int(n_invalid)} rows of block {block.index} have means outside the family's domain at the "
                         "fitted coefficients: these are not the rows of the fit.")


def glm_meat(model, block, basis, coef, adjustment):
    """`Meat` of a block for a one-equation model: HC0 is a Gram matrix weighted by squared residuals."""
    q = basis.n_coef
    total, score, perfect, n_perfect = np.zeros((q, q)), np.zeros(q), [], 0
    narrow = is_narrow(block.X, basis)
    if narrow and not any(adjustment.power):
        score, total, n_invalid = squared_scores(model, block, basis, coef, adjustment.frequency)
        _refuse(n_invalid, block)
        return Meat(total, score, kept_rows(block.weight, adjustment.frequency), (block.n_rows,))
    if narrow:
        visits = strip_tiles(block, basis, coef)
    else:
        visits = ((rows, Z, Z @ coef + block.offset[rows]) for rows, Z in tiles(block.X, basis))
    for rows, Z, eta in visits:
        weight, invalid = block.weight[rows], np.zeros(3)
        residual, expected, _ = working_rows(model, eta, block.y[rows], weight, invalid)
        _refuse(invalid[2], block)
        if not any(adjustment.power):
            value = squares(residual, weight, adjustment.frequency)
        else:
            A = adjustment.bread
            form = strip_quadratic(Z, A, eta.size) if narrow else tile_quadratic(Z, A)
            value, where, count = adjusted_squares(residual, expected, weight, form, adjustment.power,
                                                   adjustment.per_row, adjustment.frequency)
            perfect += [(0, rows.start + i) for i in where]
            n_perfect += count
        if narrow:
            call(_strip_sums, (STRIPS, FLOATS, FLOATS, OUT, OUT2), Z, residual, value, score, total)
        else:
            score += Z.T @ residual
            total += tile_gram(Z, value)
    matrix = symmetric(total) if narrow else total
    return Meat(matrix, score, kept_rows(block.weight, adjustment.frequency), (block.n_rows,), tuple(perfect[:5]),
                n_perfect)


def softmax_meat(model, block, basis, coef, adjustment):
    """`Meat` of a block for the multinomial model, HC0: score rows are residual_i kron z_i."""
    k, q = model.n_equations, basis.n_coef
    B = np.reshape(coef, (k, q))
    total, score = np.zeros((k * q, k * q)), np.zeros((k, q))
    step = max(64, WIDE // (k * q))
    for rows, Z in tiles(block.X, basis):
        weight = block.weight[rows]
        residual, _ = softmax_rows(Z @ B.T + block.offset[rows][:, None], block.y[rows], weight)
        score += (Z.T @ residual).T
        if adjustment.frequency:
            residual = residual * np.divide(1.0, np.sqrt(weight), out=np.zeros(weight.size), where=weight > 0)[:, None]
        for start in range(0, Z.shape[0], step):
            U = kronecker_rows(residual[start:start + step], Z[start:start + step])
            total += U.T @ U if not sparse.issparse(U) else (U.T @ U).toarray()
    return Meat(total, score.ravel(), kept_rows(block.weight, adjustment.frequency), (block.n_rows,))


def block_meat(block, model, basis, coef, adjustment):
    """`Meat` of a block for any model, with an `Adjustment`: the pass kernel of the HC kinds."""
    return model.meat(block, basis, coef, adjustment)
