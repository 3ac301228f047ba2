"""Score rows summed by cluster within a block: labels to codes, one scatter of score rows to sums."""

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT, OUT2, STRIDED, call, kernel, types
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.cluster_sums import ClusterScores
from daskglm_rep.kernels.gram import basis_arguments, is_narrow
from daskglm_rep.kernels.leverage import strip_tiles
from daskglm_rep.kernels.meat import kept_rows, refuse_invalid
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.rows import ANY_MEAN, glm_rows, working_rows
from daskglm_rep.kernels.softmax import softmax_rows
from daskglm_rep.kernels.strips import BASIS, STRIP, copy_strip, load_and_predict, new_strip
from daskglm_rep.summaries import distinct

FEW_COLUMNS = 12          # up to this many columns score rows are added from strips, above from the rows of X
LIMIT = 2 ** 27          # numbers in the information matrices of all clusters: 1 GiB

_NARROW = (types.float64, types.boolean) + BASIS + (STRIDED,) * 3 + (FLOATS, INDEX, OUT2, OUT)
_SCATTER = (MATRIX, FLOATS, FLOATS, types.int64, FLOATS, INDEX, OUT2)


def cluster_columns(clusters):
    """One or more columns of labels from an array, Series or frame, as a list."""
    if isinstance(clusters, pd.DataFrame):
        return [_plain(clusters.iloc[:, j]) for j in range(clusters.shape[1])]
    if isinstance(clusters, pd.Series):
        return [_plain(clusters)]
    clusters = np.asarray(clusters)
    return [clusters] if clusters.ndim == 1 else [clusters[:, j] for j in range(clusters.shape[1])]


def _plain(column):
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column


def _opened(block, width, total):
    """The sums that a block adds to, and the cluster codes of its rows, as `ClusterScores.open_rows`."""
    if block.extra.get("clusters") is None:
        raise ValueError("A clustered covariance needs cluster labels: pass clusters=, one label a row.")
    columns = cluster_columns(block.extra["clusters"])
    total = ClusterScores(len(columns), width) if total is None else total
    return total, total.open_rows(columns, block.weight)


@kernel
def _scatter_rows(X, center, inverse_scale, first, residual, codes, sums):
    """sums[code_i] += r_i z_i, rows read as they lie in memory; `first` is 1 with an intercept."""
    p = X.shape[1]
    for i in range(residual.size):
        g, r = codes[i], residual[i]
        if g < 0:
            continue
        own = sums[g]
        if first == 1:
            own[0] += r
        for j in range(p):
            own[first + j] += r * ((X[i, j] - center[j]) * inverse_scale[j])


@kernel
def _scatter_strip(Z, m, residual, codes, sums):
    """The same from a strip, four columns at a time: half the time of `_scatter_rows` with few columns."""
    q = sums.shape[1]
    j = 0
    while j + 4 <= q:
        for i in range(m):
            g, r = codes[i], residual[i]
            if g >= 0:
                sums[g, j] += r * Z[j, i]
                sums[g, j + 1] += r * Z[j + 1, i]
                sums[g, j + 2] += r * Z[j + 2, i]
                sums[g, j + 3] += r * Z[j + 3, i]
        j += 4
    while j < q:
        for i in range(m):
            g = codes[i]
            if g >= 0:
                sums[g, j] += residual[i] * Z[j, i]
        j += 1


@kernel
def _narrow_scores(family, link, canonical, check, X, columns, center, inverse_scale, intercept, y, weight, offset,
                   coef, codes, sums, totals):
    """One visit of a strip: residuals, and score rows added to the sums of their clusters."""
    q, nowhere = coef.size, link.link(ANY_MEAN)
    Z, slope, none = new_strip(q), np.empty(q), np.empty((4, 0))
    eta, own_y, own_weight, own_offset = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    residual, expected, observed = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    for start in range(0, X.shape[0], STRIP):
        m = min(STRIP, X.shape[0] - start)
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
        _scatter_strip(Z, m, residual, codes[start:start + m], sums)


@kernel
def _scatter_kronecker(Z, residual, codes, sums):
    """sums[code_i] += r_i kron z_i."""
    q = Z.shape[1]
    for i in range(Z.shape[0]):
        g = codes[i]
        if g < 0:
            continue
        for e in range(residual.shape[1]):
            r = residual[i, e]
            for j in range(q):
                sums[g, e * q + j] += r * Z[i, j]


def scatter(Z, residual, codes, sums):
    """Add score rows r_i kron z_i to the sums of their clusters, Z dense or CSR, residual (n, k)."""
    if not sparse.issparse(Z):
        call(_scatter_kronecker, (MATRIX, MATRIX, INDEX, OUT2), Z, residual, codes, sums)
        return
    inside, q = np.flatnonzero(codes >= 0), Z.shape[1]
    here, places = distinct(codes[inside])
    for e in range(residual.shape[1]):
        S = sparse.csr_matrix((residual[inside, e], (here, inside)), shape=(len(places), Z.shape[0]))
        total = (S @ Z).tocoo()
        sums[places[total.row], e * q + total.col] += total.data


def glm_scores(model, block, basis, coef, codes, sums):
    """Scatter the score rows of a one-equation model."""
    totals = np.zeros(3)
    if not is_narrow(block.X, basis):
        for rows, Z in tiles(block.X, basis):
            eta = Z @ coef + block.offset[rows]
            residual, _, _ = working_rows(model, eta, block.y[rows], block.weight[rows], totals)
            refuse_invalid(totals[2], block)
            scatter(Z, residual[:, None], codes[rows], sums)
    elif basis.n_coef <= FEW_COLUMNS:
        call(_narrow_scores, _NARROW, model.family, model.link, model.canonical, not model.always_valid, block.X,
             *basis_arguments(basis), block.y, block.weight, block.offset, np.asarray(coef), codes, sums, totals)
        refuse_invalid(totals[2], block)
    else:
        whole = np.array_equal(basis.columns, np.arange(block.X.shape[1]))
        for rows, _, eta in strip_tiles(block, basis, coef, keep=False):
            residual, _, _ = working_rows(model, eta, block.y[rows], block.weight[rows], totals)
            refuse_invalid(totals[2], block)
            X = block.X[rows] if whole else block.X[rows][:, basis.columns]
            call(_scatter_rows, _SCATTER, X, basis.center, 1.0 / basis.scale, int(basis.intercept), residual,
                 codes[rows], sums)


def softmax_scores(model, block, basis, coef, codes, sums):
    """Scatter the score rows of the multinomial model."""
    B = np.reshape(coef, (model.n_equations, basis.n_coef))
    for rows, Z in tiles(block.X, basis):
        residual, _ = softmax_rows(Z @ B.T + block.offset[rows][:, None], block.y[rows], block.weight[rows])
        scatter(Z, residual, codes[rows], sums)


def cluster_scores(block, model, basis, coef, frequency=False, total=None):
    """Sums of score rows by cluster: the pass kernel of clustered covariances.

    Parameters
    ----------
    block : Block
        With labels in `extra["clusters"]`.
    model : models.glm.GLM or models.multinomial.Multinomial
    coef : (n_equations * q,) array in the basis
    frequency : bool
        Whether weights count rows.
    total : ClusterScores, optional
        Sums of other blocks, which the block's are added to in place.

    Returns
    -------
    ClusterScores
    """
    total, codes = _opened(block, np.size(coef), total)
    model.add_scores(block, basis, coef, codes, total.rows)
    total.n_kept += kept_rows(block.weight, frequency)
    return total


def cluster_moments(block, model, basis, coef, frequency=False, total=None):
    """Score and expected information of each cluster, side by side in one row of k + k^2 numbers.

    For few clusters: CR2, CR3 and the wild bootstrap need each cluster's information.

    Returns
    -------
    ClusterScores
    """
    k = np.size(coef)
    total, codes = _opened(block, k + k * k, total)
    if total.count * k * (k + 1) > LIMIT:
        raise ValueError(f"{total.count:,} clusters with {k} coefficients are too many for CR2, CR3 or the wild "
                         "bootstrap, which keep one information matrix a cluster; use cov_type='cluster': with so many "
                         "it is as good.")
    order = np.argsort(codes, kind="stable")
    present, first = np.unique(codes[order], return_index=True)
    for g, rows in zip(present, np.split(order, first[1:])):
        if g >= 0:
            moments = block_moments(block.take(rows), model, basis, coef)
            total.rows[g] += np.r_[moments.score, moments.expected.ravel()]
    total.n_kept += kept_rows(block.weight, frequency)
    return total


cluster_scores.grows = cluster_moments.grows = True
