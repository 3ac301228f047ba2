"""Tests and intervals for many coefficients at once, from the law of the largest of correlated normal statistics."""

import numpy as np

AT_ONCE = 10_000          # draws in memory


def largest(covariance, df, n_draws, seed):
    """Draws of max_j |z_j| of statistics with this covariance's correlations.

    Parameters
    ----------
    covariance : (r, r) array
    df : float or None
        The dispersion's degrees of freedom (multivariate t); None for normal statistics.
    n_draws, seed : int

    Returns
    -------
    (n_draws,) array, sorted
    """
    scale = np.sqrt(np.diag(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))        # singular ones too
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng, found = np.random.default_rng(seed), []
    for start in range(0, n_draws, AT_ONCE):
        m = min(AT_ONCE, n_draws - start)
        drawn = np.abs(rng.standard_normal((m, len(root))) @ root.T).max(axis=1)
        found.append(drawn if df is None else drawn / np.sqrt(rng.chisquare(df, m) / df))
    return np.sort(np.concatenate(found))


def beyond(draws, statistics):
    """Share of draws at or above each statistic, the statistic itself among them: p-values that are never 0."""
    above = draws.size - np.searchsorted(draws, statistics, side="left")
    return (above + 1.0) / (draws.size + 1.0)
