"""Residuals of rows: Pearson, deviance, and randomised quantile residuals (Dunn and Smyth 1996)."""

import numpy as np
from scipy import special

from daskglm_rep._jit import FLOATS, OUT, call, formula
from daskglm_rep.distributions import tails


@formula
def _means(family, link, eta, y, mu, variance, deviance):
    for i in range(eta.size):
        m, c = link.inverse(eta[i]), link.complement(eta[i])
        mu[i] = m
        variance[i] = family.variance_at(m, c)
        deviance[i] = family.unit_deviance_at(y[i], m, c)


def unit_deviances(model, eta, y):
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
    below, at, over_below, over_at = tails(family.distribution(mu, weight, dispersion), y)
    lower, upper = below + u * (at - below), over_at + (1.0 - u) * (over_below - over_at)
    return np.where(lower < 0.5, special.ndtri(np.maximum(lower, 1e-300)), -special.ndtri(np.maximum(upper, 1e-300)))
