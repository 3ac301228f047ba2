"""Residuals of rows: Pearson, deviance, and randomised quantile residuals (Dunn and Smyth 1996)."""

import math

import numpy as np
from scipy import special, stats

from daskglm_rep._jit import FLOATS, OUT, call, formula


@formula
def _means(family, link, eta, y, mu, variance, deviance):
    for i in range(eta.size):
        m, c = link.inverse(eta[i]), link.complement(eta[i])
        mu[i] = m
        variance[i] = family.variance_at(m, c)
        deviance[i] = family.unit_deviance_at(y[i], m, c)


def mean_rows(model, eta, y):
    """Mean, variance function and unit deviance of some rows, three (n,) arrays."""
    out = np.empty((3, eta.size))
    call(_means, (FLOATS,) * 2 + (OUT,) * 3, model.family, model.link, eta, y, out[0], out[1], out[2])
    return out


@formula
def _slopes(link, eta, out):
    for i in range(eta.size):
        out[i] = link.inverse_derivative(eta[i])


def slope_rows(link, eta):
    """G'(eta) of an array of linear predictors."""
    out = np.empty(eta.size)
    call(_slopes, (FLOATS, OUT), link, eta, out)
    return out


def signed_deviance(y, mu, unit_deviance, weight):
    """sign(y - mu) sqrt(w d(y, mu))."""
    return np.sign(y - mu) * np.sqrt(weight * np.maximum(unit_deviance, 0.0))


def quantile_residuals(family, y, mu, weight, dispersion, frequency, rng):
    """Normal quantiles of the fitted distribution function at y; at a point mass, of a uniform draw within its step.

    Exactly standard normal under the model, for counts and 0/1 responses too.

    Parameters
    ----------
    family : families.Family
    y, mu, weight : (n,) array
        Prior weights are trials of the binomial family (where they are whole numbers) and divide the dispersion of the
        gaussian, gamma, inverse gaussian and tweedie families; as in R's statmod, counts ignore them.
    dispersion : float
    frequency : bool
        Weights count copies: they are ignored.
    rng : numpy Generator
        One draw a row whatever the family.

    Returns
    -------
    (n,) array
    """
    weight = np.ones_like(y) if frequency else np.where(weight > 0, weight, 1.0)
    u = rng.random(y.size)
    below, at, over_below, over_at = DISTRIBUTIONS[family.facts.name](family, y, mu, weight, dispersion)
    lower, upper = below + u * (at - below), over_at + (1.0 - u) * (over_below - over_at)
    return np.where(lower < 0.5, special.ndtri(np.maximum(lower, 1e-300)), -special.ndtri(np.maximum(upper, 1e-300)))


def _smooth(law, y):
    """A distribution without point masses: its function and its complement."""
    at, over = law.cdf(y), law.sf(y)
    return at, at, over, over


def _steps(law, k):
    """A distribution on whole numbers: its function below and at k."""
    return law.cdf(k - 1.0), law.cdf(k), law.sf(k - 1.0), law.sf(k)


def _gaussian(family, y, mu, weight, dispersion):
    return _smooth(stats.norm(mu, np.sqrt(dispersion / weight)), y)


def _binomial(family, y, mu, weight, dispersion):
    trials = np.where((weight == np.floor(weight)) & (weight >= 1), weight, 1.0)
    return _steps(stats.binom(trials, mu), np.round(y * trials))


def _poisson(family, y, mu, weight, dispersion):
    return _steps(stats.poisson(mu), np.floor(y))


def _negative_binomial(family, y, mu, weight, dispersion):
    size = 1.0 / family.alpha
    return _steps(stats.nbinom(size, size / (size + mu)), np.floor(y))


def _gamma(family, y, mu, weight, dispersion):
    shape = weight / dispersion
    return _smooth(stats.gamma(shape, scale=mu / shape), y)


def _inverse_gaussian(family, y, mu, weight, dispersion):
    shape = weight / dispersion
    return _smooth(stats.invgauss(mu / shape, scale=shape), y)


def _tweedie(family, y, mu, weight, dispersion):
    """A Poisson number of gamma summands: the sum over their number, up to 10 standard deviations beyond its mean."""
    phi, p = dispersion / weight, family.power
    rate = mu ** (2 - p) / (phi * (2 - p))
    shape, scale = (2 - p) / (p - 1), phi * (p - 1) * mu ** (p - 1)
    at, over = np.exp(-rate), np.zeros_like(y)
    top = float(rate.max(initial=0.0))
    for n in range(1, int(top + 10 * math.sqrt(top) + 20)):
        share = stats.poisson.pmf(n, rate)
        at += share * special.gammainc(n * shape, y / scale)
        over += share * special.gammaincc(n * shape, y / scale)
    mass = np.where(y == 0, 0.0, at)
    return mass, at, np.where(y == 0, 1.0, over), over


DISTRIBUTIONS = {"gaussian": _gaussian, "binomial": _binomial, "poisson": _poisson, "gamma": _gamma,
                 "inverse_gaussian": _inverse_gaussian, "negative_binomial": _negative_binomial, "tweedie": _tweedie}
