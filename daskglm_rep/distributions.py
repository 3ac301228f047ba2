"""Distributions of responses: what quantile residuals need of a family.

A distribution has the functions cdf(y) and sf(y) of an array of responses and, where it has point masses, pmf(y):
scipy's frozen distributions of continuous responses, and those below.
"""

import math

import numpy as np
from scipy import special, stats


def log_factorial_excess(y):
    """ln Gamma(y + 1) - (y ln y - y) of y >= 0: the difference is of the size of ln y, its terms are of y ln y.

    From 16 on ln(2 pi y) / 2 and Stirling's series, whose next term is below 1e-15 there.
    """
    y = np.asarray(y, float)
    z = np.maximum(y, 16.0)
    v = 1.0 / (z * z)
    series = (1 / 12 - v * (1 / 360 - v * (1 / 1260 - v * (1 / 1680 - v * (1 / 1188 - v * (691 / 360360)))))) / z
    low = np.minimum(y, 16.0)
    return np.where(y < 16.0, special.gammaln(low + 1.0) - special.xlogy(low, low) + low,
                    0.5 * np.log(2.0 * math.pi * z) + series)


class Steps:
    """A discrete distribution of scipy at y times a number, down or to the nearest whole one: rates and proportions."""

    def __init__(self, law, times=1.0, whole=np.floor):
        self.law, self.times, self.whole = law, times, whole

    def cdf(self, y):
        return self.law.cdf(self.whole(y * self.times))

    def sf(self, y):
        return self.law.sf(self.whole(y * self.times))

    def pmf(self, y):
        return self.law.pmf(self.whole(y * self.times))


class CompoundPoisson:
    """Tweedie with 1 < power < 2: a Poisson number of gamma summands.

    Sums over their number, up to 10 standard deviations beyond its mean.
    """

    def __init__(self, power, mu, dispersion):
        p = power
        self.rate = mu ** (2 - p) / (dispersion * (2 - p))
        self.shape, self.scale = (2 - p) / (p - 1), dispersion * (p - 1) * mu ** (p - 1)

    def _sum(self, y, function):
        total, top = np.zeros_like(y), float(self.rate.max(initial=0.0))
        for n in range(1, int(top + 10 * math.sqrt(top) + 20)):
            total += stats.poisson.pmf(n, self.rate) * function(n * self.shape, y / self.scale)
        return total

    def cdf(self, y):
        return np.exp(-self.rate) + self._sum(y, special.gammainc)

    def sf(self, y):
        return self._sum(y, special.gammaincc)

    def pmf(self, y):
        return np.where(y == 0, np.exp(-self.rate), 0.0)


def tails(law, y):
    """P(Y < y), P(Y <= y), P(Y >= y), P(Y > y), each without cancellation where it is small but at the mass of y."""
    at, over = law.cdf(y), law.sf(y)
    mass = law.pmf(y) if hasattr(law, "pmf") else 0.0
    return np.maximum(at - mass, 0.0), at, np.minimum(over + mass, 1.0), over
