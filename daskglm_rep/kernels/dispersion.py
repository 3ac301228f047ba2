"""Derivatives of the negative binomial log-likelihood in its overdispersion, at fixed means."""

import numpy as np
from scipy.special import digamma, polygamma

from daskglm_rep.kernels.cluster_sums import ClusterScores
from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.rows import inverse_link
from daskglm_rep.kernels.survey import response_totals
from daskglm_rep.summaries import Pair, Total

SERIES = 1e3          # r from which Stirling's series holds to rounding


def log_size_derivatives(block, model, basis, coef):
    """First and second derivative of the log-likelihood in ln r, r = 1 / alpha, summed over a block.

    With l(r) = lgamma(y + r) - lgamma(r) + r ln r + y ln mu - (y + r) ln(mu + r) a row; Venables & Ripley (2002),
    section 7.4, in the logarithm.

    Returns
    -------
    Total of a (2,) array
    """
    r = 1.0 / model.family.alpha
    y, w = block.y, block.weight
    mu = inverse_link(model.link, linear_predictor(block.X, basis, coef, block.offset))
    y_r, mu_r = y + r, mu + r
    if r < SERIES:
        first = digamma(y_r) - digamma(r) + np.log(r / mu_r) + (mu - y) / mu_r
        second = polygamma(1, y_r) - polygamma(1, r) + 1.0 / r - 2.0 / mu_r + y_r / mu_r ** 2
    else:          # the same with Stirling's series: what cancels is gone, else rounding decides beyond r = 1e6
        gap, both = (y - mu) / mu_r, r * y_r
        first = np.log1p(gap) - gap + y / (2.0 * both) + y * (r + y_r) / (12.0 * both ** 2)
        second = (gap ** 2 / ((1.0 + gap) * mu_r) - y * (r + y_r) / (2.0 * both ** 2)
                  - y * (r * r + both + y_r * y_r) / (6.0 * both ** 3))
    return Total(np.array([w @ (r * first), w @ (r * r * second + r * first)]))


def likelihood_and_derivatives(block, model, basis, coef):
    """`Moments`; derivatives in ln r and the saturated log-likelihood, which depends on alpha: a Pair."""
    saturated = float(model.family.row_saturated(block.y, block.weight))
    slopes = log_size_derivatives(block, model, basis, coef).value
    return Pair(block_moments(block, model, basis, coef), Total(np.r_[slopes, saturated]))


def response(block, family):
    """`Response` of a block at another alpha than the survey's."""
    return response_totals(family, block.y, block.weight)[0]


def distinct_responses(block, most):
    """Sums of weights by response, `ClusterScores`; the block counts as missing where it has more than `most`."""
    values, codes = np.unique(block.y, return_inverse=True)
    sums = np.bincount(codes, block.weight, values.size)[:, None]
    if values.size > most:
        return ClusterScores.of((values[:0],), sums[:0], n_missing=float(values.size))
    return ClusterScores.of((values,), sums)
