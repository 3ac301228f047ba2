"""Sums over the parts of a block: moments and sketches at collection, score sums at a coefficient vector."""

import numpy as np

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT, OUT2, call, formula, kernel, types
from daskglm_rep.kernels.assignment import mix


@formula
def _mean_rows(family, link, canonical, eta, mu, nu, omega):
    """mu = G, nu = G'/V and the expected working weight omega = nu G' of some linear predictors."""
    for i in range(eta.size):
        mu[i] = link.inverse(eta[i])
    for i in range(eta.size):
        variance = family.variance_at(mu[i], link.complement(eta[i]))
        if canonical == canonical:
            nu[i] = canonical
            omega[i] = canonical * canonical * variance
        else:
            slope = link.inverse_derivative(eta[i])
            nu[i] = slope / variance
            omega[i] = slope * nu[i]


def mean_rows(model, eta):
    """Mean, score factor nu = G'/V (Li & Yang, Table 1) and expected working weight at linear predictors.

    Parameters
    ----------
    model : models.glm.GLM
    eta : (n,) array

    Returns
    -------
    mu, nu, omega : (n,) array
        The score of a row is nu (y - mu) x, its expected information omega x x'.
    """
    mu, nu, omega = np.empty((3, eta.size))
    call(_mean_rows, (types.float64, FLOATS, OUT, OUT, OUT), model.family, model.link, model.canonical,
         np.ascontiguousarray(eta), mu, nu, omega)
    return mu, nu, omega


@kernel
def _moment_sums(Z, y, weight, codes, seed, start, n_sketches, sums, low, high):
    d = Z.shape[1]
    for i in range(Z.shape[0]):
        k, w, v = codes[i], weight[i], weight[i] * y[i]
        sums[k, 0] += 1.0
        sums[k, 1] += w
        sums[k, 2] += v
        square = 0.0
        for j in range(d):
            z = Z[i, j]
            sums[k, 4 + j] += w * z
            sums[k, 4 + d + j] += v * z
            square += z * z
            low[k, j] = min(low[k, j], z)
            high[k, j] = max(high[k, j], z)
        sums[k, 3] += w * square
        bits = mix(seed + np.uint64(start + i) * np.uint64(0x9E3779B97F4A7C15))
        root = np.sqrt(w)
        for l in range(n_sketches):
            sign = root if (bits >> np.uint64(l)) & np.uint64(1) else -root
            first = 4 + 2 * d + l * (d + 1)
            sums[k, first] += sign
            for j in range(d):
                sums[k, first + 1 + j] += sign * Z[i, j]


def moment_sums(Z, y, weight, codes, n_parts, seed, start, n_sketches):
    """Sums of a block's parts from which means, covariances with y and spread vectors follow.

    Row i of the data (i = start + position in the block) has signs e_il = +-1, the bits of a hash of (seed, i). All
    sums are additive over blocks: those of e sqrt(w) x and e sqrt(w) give the spread vector once the mean is known.

    Parameters
    ----------
    Z : (n, d) array
    y, weight : (n,) array
    codes : (n,) int64 array in 0..n_parts-1
    seed, start : int
    n_sketches : int
        Spread vectors a part, L <= 64.

    Returns
    -------
    sums : (K, 4 + 2 d + L (d + 1)) array
        Rows; sum w; sum w y; sum w |z|^2; sum w z; sum w y z; per l sum e sqrt(w), sum e sqrt(w) z.
    low, high : (K, d) array
        Extremes of the columns.
    """
    d = Z.shape[1]
    sums = np.zeros((n_parts, 4 + 2 * d + n_sketches * (d + 1)))
    low, high = np.full((n_parts, d), np.inf), np.full((n_parts, d), -np.inf)
    kinds = (MATRIX, FLOATS, FLOATS, INDEX, types.uint64, types.int64, types.int64) + (OUT2,) * 3
    call(_moment_sums, kinds, Z, y, weight, codes, np.uint64(seed), start, n_sketches, sums, low, high)
    return sums, low, high


@kernel
def _score_sums(Z, eta, y, weight, mu, nu, codes, sums, low, high):
    d = Z.shape[1]
    for i in range(Z.shape[0]):
        k, w, e = codes[i], weight[i], eta[i]
        factor = w * nu[i]
        r = factor * (y[i] - mu[i])
        sums[k, 0] += 1.0
        sums[k, 1] += w
        sums[k, 2] += w * y[i]
        sums[k, 3] += factor * y[i] * e
        sums[k, 4] += factor * e
        sums[k, 5] += r * e
        sums[k, 6] += r
        sums[k, 7] += w * e
        square = 0.0
        for j in range(d):
            sums[k, 10 + j] += w * Z[i, j]
            sums[k, 10 + d + j] += r * Z[i, j]
            square += Z[i, j] * Z[i, j]
        sums[k, 8] += w * square
        sums[k, 9] += w * e * e
        low[k, 0] = min(low[k, 0], e)
        high[k, 0] = max(high[k, 0], e)


def score_sums(Z, eta, y, weight, mu, nu, codes, n_parts):
    """Sums of a block's parts at one coefficient vector, r = w nu (y - mu).

    Returns
    -------
    sums : (K, 10 + 2 d) array
        Rows; sum w; sum w y; sum w nu y eta; sum w nu eta; sum r eta; sum r; sum w eta; sum w |z|^2; sum w eta^2;
        sum w z; sum r z.
    low, high : (K, 1) array
        Extremes of eta.
    """
    d = Z.shape[1]
    sums = np.zeros((n_parts, 10 + 2 * d))
    low, high = np.full((n_parts, 1), np.inf), np.full((n_parts, 1), -np.inf)
    call(_score_sums, (MATRIX,) + (FLOATS,) * 5 + (INDEX,) + (OUT2,) * 3, Z, eta, y, weight, mu, nu, codes, sums, low,
         high)
    return sums, low, high


@kernel
def _histograms(Z, weight, codes, low, width, n_bins, sums):
    for i in range(Z.shape[0]):
        k = codes[i]
        for j in range(Z.shape[1]):
            if width[k, j] > 0.0:
                position = (Z[i, j] - low[k, j]) / width[k, j] * n_bins
                bin_ = 0 if position < 0.0 else min(np.int64(position) + 1, n_bins + 1)
                sums[k, j * (n_bins + 2) + bin_] += weight[i]


def histograms(Z, weight, codes, low, width, n_bins):
    """Weight of each part's rows in `n_bins` bins of [low, low + width) a column, with what lies below and above.

    Parameters
    ----------
    low, width : (K, d) array

    Returns
    -------
    (K, d (n_bins + 2)) array
    """
    sums = np.zeros((low.shape[0], low.shape[1] * (n_bins + 2)))
    call(_histograms, (MATRIX, FLOATS, INDEX, MATRIX, MATRIX, types.int64, OUT2), Z, weight, codes, low, width, n_bins,
         sums)
    return sums
