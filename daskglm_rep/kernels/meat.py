"""The middle of the sandwich for independent rows: sums of outer products of score rows, adjusted for leverage."""

import dataclasses

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, MATRIX, OUT, OUT2, STRIDED, call, kernel, types
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import add_tile_gram, basis_arguments, is_narrow, symmetric
from daskglm_rep.kernels.leverage import add_quadratic, adjust, adjusted_squares, folded, tile_quadratic
from daskglm_rep.kernels.moments import squared_scores
from daskglm_rep.kernels.rows import ANY_MEAN, glm_rows, working_rows
from daskglm_rep.kernels.softmax import WIDE, kronecker_rows, softmax_rows
from daskglm_rep.kernels.strips import (BASIS, LENGTH, STRIP, add_gram, add_moment, copy_strip, load_and_predict,
                                        new_strip)
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


_NARROW = (types.float64, types.boolean, types.boolean, types.float64) + BASIS + (STRIDED,) * 3 + (
    FLOATS, MATRIX, FLOATS, OUT, OUT2, OUT, types.int64[::1])


@kernel
def _narrow_meat(family, link, canonical, check, frequency, per_row, X, columns, center, inverse_scale, intercept, y,
                 weight, offset, coef, bread, power, score, squares, totals, perfect):
    """One visit of a strip: residuals, leverages, score and the sum of adjusted squares while it is in cache."""
    q, nowhere = coef.size, link.link(ANY_MEAN)
    Z, weighted, slope, none = new_strip(q), np.empty((4, LENGTH)), np.empty(q), np.empty((4, 0))
    eta, own_y, own_weight, own_offset = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    residual, expected, observed = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    form, inner, leverage, value = np.empty(STRIP), np.empty((4, LENGTH)), np.empty(STRIP), np.empty(STRIP)
    for start in range(0, X.shape[0], STRIP):
        m, known = min(STRIP, X.shape[0] - start), perfect[0]
        copy_strip(y, start, m, own_y)
        copy_strip(weight, start, m, own_weight)
        copy_strip(offset, start, m, own_offset)
        for i in range(m):
            eta[i] = own_offset[i]
        load_and_predict(X, start, m, columns, center, inverse_scale, intercept, coef, slope, own_weight, none, Z, eta)
        for i in range(m):
            eta[i] = eta[i] if own_weight[i] > 0.0 else nowhere          # such rows do not count: 0 * inf is no 0
        glm_rows(family, link, canonical, check, eta[:m], own_y, own_weight, residual, expected, observed, totals)
        if totals[2] > 0:
            return
        add_moment(Z, m, residual, score)
        add_quadratic(Z, m, bread, inner, form)
        adjust(residual, expected, own_weight, form[:m], power, per_row, frequency, leverage, value, perfect)
        for j in range(known + 1, min(perfect[0] + 1, perfect.size)):
            perfect[j] += start
        add_gram(Z, m, value, weighted, squares)


def squares(residual, weight, frequency):
    """Squared score factors of HC0: over the weight where it counts copies."""
    value = residual * residual
    if frequency:
        value = np.divide(value, weight, out=np.zeros_like(value), where=weight > 0)
    return value


def kept_rows(weight, frequency):
    """Rows that count in n."""
    if weight.strides == (0,) and weight.size:          # one weight for all rows
        return weight.size * float(weight[0] if frequency else weight[0] > 0)
    return float(np.sum(weight)) if frequency else float(np.count_nonzero(weight > 0))


def refuse_invalid(n_invalid, block):
    """Raise ValueError where some rows have no mean."""
    if n_invalid > 0:
        raise ValueError(f"{int(n_invalid)} rows of block {block.index} have means outside the family's domain at the "
                         "fitted coefficients: these are not the rows of the fit.")


def glm_meat(model, block, basis, coef, adjustment):
    """`Meat` of a block for a one-equation model: HC0 is a Gram matrix weighted by squared residuals."""
    if is_narrow(block.X, basis):
        return _meat_by_strips(model, block, basis, coef, adjustment)
    q = basis.n_coef
    total, score, perfect, n_perfect = np.zeros((q, q)), np.zeros(q), [], 0
    for rows, Z in tiles(block.X, basis):
        weight, invalid = block.weight[rows], np.zeros(3)
        residual, expected, _ = working_rows(model, Z @ coef + block.offset[rows], block.y[rows], weight, invalid)
        refuse_invalid(invalid[2], block)
        if not any(adjustment.power):
            value = squares(residual, weight, adjustment.frequency)
        else:
            form = tile_quadratic(Z, adjustment.bread)
            value, where, count = adjusted_squares(residual, expected, weight, form, adjustment.power,
                                                   adjustment.per_row, adjustment.frequency)
            perfect += [(0, rows.start + i) for i in where]
            n_perfect += count
        score += Z.T @ residual
        add_tile_gram(Z, value, total)
    return Meat(total, score, kept_rows(block.weight, adjustment.frequency), (block.n_rows,), tuple(perfect[:5]),
                n_perfect)


def _meat_by_strips(model, block, basis, coef, adjustment):
    n_kept = kept_rows(block.weight, adjustment.frequency)
    if not any(adjustment.power):
        score, total, n_invalid = squared_scores(model, block, basis, coef, adjustment.frequency)
        refuse_invalid(n_invalid, block)
        return Meat(total, score, n_kept, (block.n_rows,))
    q = basis.n_coef
    total, score, totals, perfect = np.zeros((q, q)), np.zeros(q), np.zeros(3), np.zeros(6, np.int64)
    call(_narrow_meat, _NARROW, model.family, model.link, model.canonical, not model.always_valid, adjustment.frequency,
         adjustment.per_row, block.X, *basis_arguments(basis), block.y, block.weight, block.offset, np.asarray(coef),
         folded(adjustment.bread), np.asarray(adjustment.power, float), score, total, totals, perfect)
    refuse_invalid(totals[2], block)
    n_perfect = int(perfect[0])
    return Meat(symmetric(total), score, n_kept, (block.n_rows,),
                tuple((0, int(row)) for row in perfect[1:1 + min(n_perfect, 5)]), n_perfect)


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
