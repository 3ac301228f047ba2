"""Score, informations and deviance of a block at a coefficient vector: the kernel of every fit."""

import dataclasses
import math

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, OUT, OUT2, STRIDED, call, kernel, types
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import NARROW, add_tile_gram, basis_arguments, is_narrow, symmetric
from daskglm_rep.kernels.rows import ANY_MEAN, glm_rows, working_rows
from daskglm_rep.kernels.strips import (BASIS, FEW_COLUMNS, LENGTH, STRIP, add_gram, add_moment, copy_strip,
                                        load_and_predict, new_strip)
from daskglm_rep.kernels.wide import add_wide_score
from daskglm_rep.summaries import Moments, Pair

NOT_SEEN = np.empty((4, 0))
FAR = 1e3               # deviations from zero: three digits of sums of plain columns

_NARROW = (types.float64,) + (types.boolean,) * 4 + BASIS + (STRIDED,) * 3 + (FLOATS, OUT, OUT2, OUT2, OUT, OUT2)


@kernel
def _narrow_moments(family, link, canonical, check, informative, squared, frequency, X, columns, center, inverse_scale,
                    intercept, y, weight, offset, coef, score, expected_information, observed_information, totals,
                    seen):
    """One visit of a strip: eta, mu, score, information and deviance while it is in cache.

    With `squared` the sum of squared scores takes the expected information's place, of copies with `frequency`.
    `seen` as `strips.load_and_predict` takes it.
    """
    q = coef.size
    Z, weighted, slope = new_strip(q), np.empty((4, LENGTH)), np.empty(q)
    nowhere = link.link(ANY_MEAN)
    eta, own_y, own_weight, own_offset = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    residual, expected, observed = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    for start in range(0, X.shape[0], STRIP):
        m = min(STRIP, X.shape[0] - start)
        copy_strip(y, start, m, own_y)
        copy_strip(weight, start, m, own_weight)
        copy_strip(offset, start, m, own_offset)
        for i in range(m):
            eta[i] = own_offset[i]
        load_and_predict(X, start, m, columns, center, inverse_scale, intercept, coef, slope, own_weight, seen, Z, eta)
        for i in range(m):
            eta[i] = eta[i] if own_weight[i] > 0.0 else nowhere          # such rows do not count: 0 * inf is no 0
        glm_rows(family, link, canonical, check, eta[:m], own_y, own_weight, residual, expected, observed, totals)
        if totals[2] > 0:
            return
        add_moment(Z, m, residual, score)
        if squared:
            for i in range(m):
                copies = own_weight[i] if frequency and own_weight[i] > 0.0 else 1.0
                expected[i] = residual[i] * residual[i] / copies
        if informative:
            add_gram(Z, m, expected, weighted, expected_information)
            if canonical != canonical and not squared:
                add_gram(Z, m, observed, weighted, observed_information)


def glm_moments(model, block, basis, coef, informative=True, seen=NOT_SEEN, total=None):
    """Summary of a block for a one-equation model.

    Parameters
    ----------
    model : models.glm.GLM
    block : Block
    basis : Basis
    coef : (q,) array in the basis
    informative : bool
        False for a gradient-only sweep: score and deviance, no information.
    seen : (4, k) array
        Of `strips.unseen`: sums of the basis's columns are added to it, where `sees` says so.
    total : Moments, optional
        Of other blocks, which the block's are added to; its informations, of more than `NARROW` columns, in place.

    Returns
    -------
    Moments
    """
    q = basis.n_coef
    score, totals = np.zeros(q), np.zeros(3)
    expected, observed = (np.zeros((q, q)), np.zeros((q, q))) if total is None else (total.expected, total.observed)
    if _is_wide(block.X, basis, informative):
        add_wide_score(model, block, basis, coef, score, totals)
    elif is_narrow(block.X, basis):
        call(_narrow_moments, _NARROW, model.family, model.link, model.canonical, not model.always_valid, informative,
             False, False, block.X, *basis_arguments(basis), block.y, block.weight, block.offset, np.asarray(coef),
             score, expected, observed, totals, seen)
        expected = symmetric(expected)
        observed = expected if model.is_canonical else symmetric(observed)
    else:
        for rows, Z in tiles(block.X, basis):
            r = working_rows(model, Z @ coef + block.offset[rows], block.y[rows], block.weight[rows], totals)
            if totals[2] > 0:
                break
            score += Z.T @ r[0]
            if informative:
                add_tile_gram(Z, r[1], expected)
                if not model.is_canonical:
                    add_tile_gram(Z, r[2], observed)
    if totals[2] > 0:
        invalid = Moments.invalid(q, totals[2])
        return invalid if total is None else total.merge(invalid)
    if not informative:
        expected = observed = None
    found = Moments(score, expected, expected if model.is_canonical else observed, totals[0], totals[1])
    return found if total is None else total.with_sums(found)


def _is_wide(X, basis, informative):
    """Whether rows as they lie are faster than strips."""
    return not (informative or basis.n_coef <= FEW_COLUMNS or sparse.issparse(X))


def sees(model, block, basis, informative):
    """Whether the strips of `glm_moments` are seen on the way."""
    return model.n_equations == 1 and not _is_wide(block.X, basis, informative) and is_narrow(block.X, basis)


def squared_scores(model, block, basis, coef, frequency):
    """Sums of the score rows and of their outer products, and the count of invalid rows, of a block with few columns.

    Parameters
    ----------
    frequency : bool
        Weights count copies: a row's square is that of one copy, times the weight.

    Returns
    -------
    score : (q,) array
    squares : (q, q) array
    n_invalid : float
    """
    q = basis.n_coef
    score, squares, totals = np.zeros(q), np.zeros((q, q)), np.zeros(3)
    call(_narrow_moments, _NARROW, model.family, model.link, model.canonical, not model.always_valid, True, True,
         frequency, block.X, *basis_arguments(basis), block.y, block.weight, block.offset, np.asarray(coef), score,
         squares, np.empty((0, 0)), totals, NOT_SEEN)
    return score, symmetric(squares), totals[2]


def block_moments(block, model, basis, coef, informative=True, **total):
    """`Moments` of a block for any model, `coef` in the basis, equation by equation: the pass kernel of fits."""
    return model.moments(block, basis, coef, informative, **total)


def moments_with_null(block, model, basis, coef, null_basis, null_coef, total=None):
    """`Moments` of a model and of its null model in one visit."""
    null = block_moments(block, model, null_basis, null_coef)
    if total is None:
        return Pair(block_moments(block, model, basis, coef), null)
    return Pair(block_moments(block, model, basis, coef, total=total.first), total.second.merge(null))


def _has_large_informations(model, basis, coef, informative=True, *null):
    """Whether one of them a block would take longer than the block's rows."""
    return bool(model.n_equations == 1 and basis.n_coef > NARROW and informative)


block_moments.grows = moments_with_null.grows = _has_large_informations


def screened_moments(block, model, basis, coef, active, informative=True):
    """`Moments` with the score of all columns and the informations of some: for designs too wide for all of them.

    Parameters
    ----------
    coef : (n_equations * q,) array, zero but for the active columns
    active : (m,) int array
        Of the basis's coefficients; the informations are (n_equations * m) square.
    informative : bool
        False: no informations.
    """
    small = basis.keep(active)
    some = np.ascontiguousarray(coef.reshape(-1, basis.n_coef)[:, active]).ravel()
    moments = model.moments(block, small, some, informative)
    if moments.n_invalid:
        return dataclasses.replace(moments, score=np.full(coef.size, math.nan))
    residual = np.empty((block.n_rows, model.n_equations))
    for rows, Z in tiles(block.X, small):
        eta = Z @ some.reshape(model.n_equations, -1).T + block.offset[rows][:, None]
        residual[rows] = model.residuals(eta if model.n_equations > 1 else eta[:, 0], block.y[rows], block.weight[rows])
    return dataclasses.replace(moments, score=_all_scores(block.X, basis, residual).ravel())


def _all_scores(X, basis, residual):
    """(n_equations, q) scores of all columns; those of columns far from zero by centred rows, which cost a copy."""
    if basis.columns.size and np.max(np.abs(basis.center) / basis.scale) > FAR:
        return sum((Z.T @ residual[rows] for rows, Z in tiles(X, basis)), np.zeros((basis.n_coef, residual.shape[1]))).T
    total = residual.sum(axis=0)[:, None]
    score = ((X.T @ residual)[basis.columns].T - total * basis.center) / basis.scale
    return np.hstack([total, score]) if basis.intercept else score
