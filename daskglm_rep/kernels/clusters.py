"""Score rows summed by cluster within a block: labels to codes, one scatter of score rows to sums."""

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT2, call, kernel, types
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import is_narrow
from daskglm_rep.kernels.leverage import STRIPS, strip_tiles
from daskglm_rep.kernels.meat import kept_rows
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.kernels.softmax import softmax_rows
from daskglm_rep.kernels.strips import STRIP
from daskglm_rep.summaries import ClusterScores, combine, distinct

FEW_COLUMNS = 12          # up to this many columns score rows are added from strips, above from the rows of X
LIMIT = 2 ** 27          # numbers in the information matrices of all clusters: 1 GiB

_INTEGERS = types.int64[::1]
_SCATTER = (MATRIX, FLOATS, FLOATS, types.int64, FLOATS, INDEX, OUT2)


@kernel
def _direct_codes(values, low, place, codes, labels):
    """Codes of integers in a short range by a table, in order of appearance; returns how many there are."""
    count = 0
    for i in range(values.size):
        v = values[i] - low
        if place[v] < 0:
            place[v] = count
            labels[count] = values[i]
            count += 1
        codes[i] = place[v]
    return count


def column_codes(column):
    """Codes and distinct labels of one cluster column; -1 marks a missing label.

    Integers in a range not much longer than the column go through a table: 2 ns a row where a hash takes 10.
    """
    if isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
        codes, present = distinct(np.asarray(column.cat.codes if hasattr(column, "cat") else column.codes, np.int64))
        missing = np.flatnonzero(present == -1)
        labels = np.asarray(column.dtype.categories)
        if missing.size:
            rows = codes == missing[0]
            codes = codes - (codes > missing[0])
            codes[rows] = -1
            present = np.delete(present, missing[0])
        return codes, labels[present]
    if isinstance(column, np.ndarray) and column.dtype.kind in "iu" and column.size and column.dtype != np.uint64:
        low, high = int(column.min()), int(column.max())
        if high - low < max(4 * column.size, 1024):
            place, codes = np.full(high - low + 1, -1), np.empty(column.size, np.int64)
            labels = np.empty(min(high - low + 1, column.size), np.int64)
            count = call_direct(column.astype(np.int64, copy=False), low, place, codes, labels)
            return codes, labels[:count].copy()
    return distinct(column)


def call_direct(values, low, place, codes, labels):
    """`_direct_codes` compiled once for all layouts."""
    return call(_direct_codes, (INDEX, types.int64, _INTEGERS, _INTEGERS, _INTEGERS), values, low, place, codes, labels)


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


def cluster_codes(block):
    """Cluster codes of a block's rows; rows of weight 0 belong to none.

    Returns
    -------
    codes : (n,) int64 array
        -1 for rows without weight and rows with a missing label.
    labels : tuple of (G,) arrays, one a cluster column
    n_missing : int
        Rows of positive weight with a missing label.
    """
    if block.extra.get("clusters") is None:
        raise ValueError("A clustered covariance needs cluster labels: pass clusters=, one label a row.")
    found = [column_codes(column) for column in cluster_columns(block.extra["clusters"])]
    weightless = bool(block.n_rows) and (block.weight[:1] if block.weight.strides == (0,) else block.weight).min() <= 0
    if len(found) == 1 and not weightless and found[0][0].min(initial=0) >= 0:
        return found[0][0], (found[0][1],), 0
    missing = np.any([codes < 0 for codes, _ in found], axis=0)
    out = missing | ~(block.weight > 0)
    n_missing = int(np.count_nonzero(missing & (block.weight > 0)))
    inside = np.flatnonzero(~out)
    chosen = [codes[inside] for codes, _ in found]
    combined, first = combine(chosen, [max(len(labels), 1) for _, labels in found])
    labels = tuple(labels[codes[first]] for codes, (_, labels) in zip(chosen, found))
    codes = np.full(block.n_rows, -1)
    codes[inside] = combined
    return codes, labels, n_missing


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
def _scatter_strips(Z, residual, codes, sums):
    """The same from strips, four columns at a time: half the time of `_scatter_rows` with few columns."""
    q = sums.shape[1]
    for s in range(Z.shape[0]):
        start, strip = s * STRIP, Z[s]
        m = min(STRIP, residual.size - start)
        j = 0
        while j + 4 <= q:
            for i in range(m):
                g, r = codes[start + i], residual[start + i]
                if g >= 0:
                    sums[g, j] += r * strip[j, i]
                    sums[g, j + 1] += r * strip[j + 1, i]
                    sums[g, j + 2] += r * strip[j + 2, i]
                    sums[g, j + 3] += r * strip[j + 3, i]
            j += 4
        while j < q:
            for i in range(m):
                g = codes[start + i]
                if g >= 0:
                    sums[g, j] += residual[start + i] * strip[j, i]
            j += 1


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
    for e in range(residual.shape[1]):
        S = sparse.csr_matrix((residual[inside, e], (codes[inside], inside)), shape=(len(sums), Z.shape[0]))
        total = (S @ Z).tocoo()
        sums[total.row, e * q + total.col] += total.data


def glm_scores(model, block, basis, coef, codes, sums):
    """Scatter the score rows of a one-equation model."""
    if is_narrow(block.X, basis):
        whole = np.array_equal(basis.columns, np.arange(block.X.shape[1]))
        few = basis.n_coef <= FEW_COLUMNS
        for rows, Z, eta in strip_tiles(block, basis, coef, keep=few):
            residual, _, _ = working_rows(model, eta, block.y[rows], block.weight[rows])
            if few:
                call(_scatter_strips, (STRIPS, FLOATS, INDEX, OUT2), Z, residual, codes[rows], sums)
                continue
            X = block.X[rows] if whole else block.X[rows][:, basis.columns]
            call(_scatter_rows, _SCATTER, X, basis.center, 1.0 / basis.scale, int(basis.intercept), residual,
                 codes[rows], sums)
        return
    for rows, Z in tiles(block.X, basis):
        residual, _, _ = working_rows(model, Z @ coef + block.offset[rows], block.y[rows], block.weight[rows])
        scatter(Z, residual[:, None], codes[rows], sums)


def softmax_scores(model, block, basis, coef, codes, sums):
    """Scatter the score rows of the multinomial model."""
    B = np.reshape(coef, (model.n_equations, basis.n_coef))
    for rows, Z in tiles(block.X, basis):
        residual, _ = softmax_rows(Z @ B.T + block.offset[rows][:, None], block.y[rows], block.weight[rows])
        scatter(Z, residual, codes[rows], sums)


def cluster_scores(block, model, basis, coef, frequency=False):
    """Sums of score rows by cluster: the pass kernel of clustered covariances.

    Parameters
    ----------
    block : Block
        With labels in `extra["clusters"]`.
    model : models.glm.GLM or models.multinomial.Multinomial
    coef : (n_equations * q,) array in the basis
    frequency : bool
        Whether weights count rows.

    Returns
    -------
    ClusterScores
    """
    codes, labels, n_missing = cluster_codes(block)
    sums = np.zeros((len(labels[0]), np.size(coef)))
    model.add_scores(block, basis, coef, codes, sums)
    return ClusterScores(((labels, sums),), n_missing, kept_rows(block.weight, frequency))


def cluster_moments(block, model, basis, coef, frequency=False):
    """Score and expected information of each cluster, side by side in one row of k + k^2 numbers.

    For few clusters: CR2, CR3 and the wild bootstrap need each cluster's information.

    Returns
    -------
    ClusterScores
    """
    codes, labels, n_missing = cluster_codes(block)
    k = np.size(coef)
    if len(labels[0]) * k * (k + 1) > LIMIT:
        raise ValueError(f"{len(labels[0]):,} clusters with {k} coefficients are too many for CR2, CR3 or the wild "
                         "bootstrap, which keep one information matrix a cluster; use cov_type='cluster': with so many "
                         "it is as good.")
    sums = np.zeros((len(labels[0]), k + k * k))
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(sums) + 1))
    for g in range(len(sums)):
        moments = block_moments(block.take(np.sort(order[edges[g]:edges[g + 1]])), model, basis, coef)
        sums[g, :k], sums[g, k:] = moments.score, moments.expected.ravel()
    return ClusterScores(((labels, sums),), n_missing, kept_rows(block.weight, frequency))
