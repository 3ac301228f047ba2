"""Row formulas of a generalized linear model: linear predictor to score factor, working weight and deviance.

The only family-specific kernels. Notation: mu = G(eta), d = G'(eta), V the variance function, w the sample weight;
`residual` is w (y - mu) d / V, the score with respect to eta at dispersion 1; `expected` is w d^2 / V, `observed` is
minus the derivative of `residual`, the working weights of the two informations.
"""

import numpy as np

from daskglm_rep._jit import FLOATS, OUT, call, formula, kernel, types


ANY_MEAN = 0.5          # a mean that every family can have


@kernel
def glm_rows(family, link, canonical, check, eta, y, weight, residual, expected, observed, totals):
    """Fill residual, expected and observed; add deviance, Pearson chi-squared and the count of invalid rows to totals.

    `canonical` is G'/V where constant, else NaN: then d and V cancel exactly and both informations agree (`observed`
    is left alone). `check` asks for the domain test. Several loops, because LLVM vectorises the exponential alone but
    not in one loop with what follows (measured 4.4 against 10 ns a row). The deviance of a linear predictor beyond the
    range of doubles goes on along its parabola there, so that value, score and curvature are those of one function.
    """
    n = eta.size
    deviance = pearson = invalid = 0.0
    if check:
        for i in range(n):
            good = link.accepts(eta[i])
            if good:
                good = family.accepts_mean(link.inverse(eta[i]))
            if not good:
                invalid += 1.0
        totals[2] += invalid
        if invalid > 0:
            return
    mu, complement = expected, residual                     # filled in place: a tile stays in cache
    outside = 0.0
    for i in range(n):                                      # one loop: both have the same exponential
        inner = link.within(eta[i])
        mu[i] = link.inverse(inner)
        complement[i] = link.complement(inner)
        outside += abs(eta[i] - inner)
    for i in range(n):
        deviance += weight[i] * family.unit_deviance_at(y[i], mu[i], complement[i])
    if canonical == canonical:
        for i in range(n):
            m, c = mu[i], complement[i]
            variance = family.variance_at(m, c)
            error = family.error_at(y[i], m, c)
            pearson += weight[i] * error * error / max(variance, 1e-300)
            residual[i] = weight[i] * canonical * error
            expected[i] = weight[i] * canonical * canonical * variance
    else:
        for i in range(n):
            m, c = mu[i], complement[i]
            variance = family.variance_at(m, c)
            error = family.error_at(y[i], m, c)
            inner = link.within(eta[i])
            slope = link.inverse_derivative(inner)
            ratio = slope / variance
            pearson += weight[i] * error * error / max(variance, 1e-300)
            residual[i] = weight[i] * error * ratio
            expected[i] = weight[i] * slope * ratio
            curvature = (link.inverse_second_derivative(inner)
                         - slope * ratio * family.variance_derivative(m)) / variance
            observed[i] = weight[i] * (slope * ratio - error * curvature)
    if outside != 0.0:
        for i in range(n):
            beyond = eta[i] - link.within(eta[i])
            if beyond != 0.0:
                bend = expected[i] if canonical == canonical else observed[i]
                deviance -= beyond * (2.0 * residual[i] - bend * beyond)
                residual[i] -= bend * beyond
    totals[0] += deviance
    totals[1] += pearson


ROWS = (types.float64, types.boolean, FLOATS, FLOATS, FLOATS) + (OUT,) * 4


def working_rows(model, eta, y, weight, totals=None):
    """Score factor and working weights of some rows at their linear predictors.

    Parameters
    ----------
    model : models.glm.GLM
    eta, y, weight : (n,) array
    totals : (3,) array, optional
        Deviance, Pearson chi-squared and the count of invalid rows are added to it.

    Returns
    -------
    residual : (n,) array
        w (y - mu) G'(eta) / V(mu): the score with respect to eta at dispersion 1.
    expected, observed : (n,) array
        Working weights of the expected and the observed information.
    """
    totals = np.zeros(3) if totals is None else totals
    residual, expected, observed = np.empty((3, eta.size))
    if weight.size and weight.min() <= 0.0:          # such rows do not count: 0 * inf is no 0
        eta = np.where(weight > 0.0, eta, model.link.link(ANY_MEAN))
    call(glm_rows, ROWS, model.family, model.link, model.canonical, not model.always_valid, eta, y, weight, residual,
         expected, observed, totals)
    return residual, expected, expected if model.is_canonical else observed


@formula
def _inverse_link(link, eta, mu):
    for i in range(eta.size):
        mu[i] = link.inverse(eta[i])


def inverse_link(link, eta):
    """Means of an array of linear predictors."""
    mu = np.empty(eta.size)
    call(_inverse_link, (FLOATS, OUT), link, eta, mu)
    return mu


@formula
def _count_outside(family, link, eta):
    outside = 0
    for i in range(eta.size):
        good = link.accepts(eta[i])
        if good:
            good = family.accepts_mean(link.inverse(eta[i]))
        if not good:
            outside += 1
    return outside


def inside(model, eta):
    """Whether all linear predictors are finite and give means inside the family's domain."""
    return bool(np.isfinite(eta).all()) and (model.always_valid
                                             or not call(_count_outside, (FLOATS,), model.family, model.link, eta))
