"""Exponential families: variance function, unit deviance, and the parts of the log-likelihood that ignore the mean.

A family is a frozen formula sheet. With unit deviance d and dispersion phi the log-likelihood is the saturated one,
which does not know the mean, minus sum w d(y, mu) / (2 phi). A family of known dispersion sums the saturated part over
rows (`row_saturated(y, weight)`), the others give it from `summaries.Response` (`log_saturated(totals, dispersion)`,
R's conventions). A model is a family and a link (`GLM`).
"""

import dataclasses
import math
from typing import ClassVar

import numpy as np
from scipy.special import gammaln, xlogy as xlogy_array

from daskglm_rep import links
from daskglm_rep._jit import ScalarModel, exp, exp_excess, expose, log, relative_entropy
from daskglm_rep.links import LARGE, Link, get_link


@expose
@dataclasses.dataclass(frozen=True)
class Family(ScalarModel):
    """Interface: scalar formulas in y and mu.

    `variance_at`, `unit_deviance_at` and `error_at` (y - mu) also get 1 - mu computed without cancellation; the
    binomial uses it.
    """

    def variance(self, mu):
        """Variance function V(mu): the variance of y over dispersion / weight."""
        return 1.0

    def variance_derivative(self, mu):
        """V'(mu)."""
        return 0.0

    def unit_deviance(self, y, mu):
        """d(y, mu) >= 0, zero at y = mu."""
        return (y - mu) * (y - mu)

    def variance_at(self, mu, complement):
        """V(mu) from mu and 1 - mu."""
        return self.variance(mu)

    def unit_deviance_at(self, y, mu, complement):
        """d(y, mu) from mu and 1 - mu."""
        return self.unit_deviance(y, mu)

    def error_at(self, y, mu, complement):
        """y - mu from mu and 1 - mu."""
        return y - mu

    def accepts_mean(self, mu):
        """Whether mu is in the family's mean domain."""
        return True

    def accepts_response(self, y):
        """Whether y is in the family's support."""
        return True


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a family knows beside its formulas.

    canonical : link class -> the constant G'(eta) / V(mu) under it; the first one is the default link.
    dispersion_known : phi = 1.
    mean_range : the open interval of means.
    response : the response's domain in words, for error messages.
    """

    name: str
    canonical: dict
    dispersion_known: bool
    mean_range: tuple
    response: str
    default_link: type = None


def _family(name, canonical, dispersion_known, mean_range, response, default_link=None):
    def decorate(cls):
        cls.facts = Facts(name, canonical, dispersion_known, mean_range, response,
                          default_link or next(iter(canonical)))
        return dataclasses.dataclass(frozen=True)(cls)

    return decorate


@_family("gaussian", {links.Identity: 1.0}, False, (-LARGE, LARGE), "finite numbers")
class Gaussian(Family):
    """V = 1, d = (y - mu)^2."""

    facts: ClassVar[Facts]

    def log_saturated(self, totals, dispersion):
        return 0.5 * (totals.log_weight - totals.n_kept * math.log(2 * math.pi * dispersion))


@_family("binomial", {links.Logit: 1.0}, True, (0.0, 1.0), "proportions in [0, 1]")
class Binomial(Family):
    """V = mu (1 - mu); y a proportion of `weight` trials (0/1 with weight 1 is the Bernoulli case)."""

    facts: ClassVar[Facts]

    def variance(self, mu):
        return mu * (1.0 - mu)

    def variance_derivative(self, mu):
        return 1.0 - 2.0 * mu

    def unit_deviance(self, y, mu):
        return self.unit_deviance_at(y, mu, 1.0 - mu)

    def variance_at(self, mu, complement):
        return mu * complement

    def error_at(self, y, mu, complement):
        return complement - (1.0 - y) if mu > 0.5 else y - mu

    def unit_deviance_at(self, y, mu, complement):
        error = self.error_at(y, mu, complement)
        return 2.0 * (relative_entropy(y, mu, error) + relative_entropy(1.0 - y, complement, -error))

    def accepts_mean(self, mu):
        return (mu > 0.0) & (mu < 1.0)

    def accepts_response(self, y):
        return (y >= 0.0) & (y <= 1.0)

    def row_saturated(self, y, weight):
        k = weight * y
        choose = gammaln(weight + 1) - gammaln(k + 1) - gammaln(weight - k + 1)
        return np.sum(choose + weight * (xlogy_array(y, y) + xlogy_array(1 - y, 1 - y)))


@dataclasses.dataclass(frozen=True)
class Bernoulli(Binomial):
    """The binomial family where every response is 0 or 1: the same numbers with one logarithm a row instead of two."""

    def unit_deviance_at(self, y, mu, complement):
        return -2.0 * log(mu if y > 0.5 else complement)


@_family("poisson", {links.Log: 1.0}, True, (0.0, LARGE), "counts or rates >= 0")
class Poisson(Family):
    """V = mu, d = 2 (y ln(y / mu) - (y - mu))."""

    facts: ClassVar[Facts]

    def variance(self, mu):
        return mu

    def variance_derivative(self, mu):
        return 1.0

    def unit_deviance(self, y, mu):
        return 2.0 * relative_entropy(y, mu, y - mu)

    def accepts_mean(self, mu):
        return mu > 0.0

    def accepts_response(self, y):
        return y >= 0.0

    def row_saturated(self, y, weight):
        return np.sum(weight * (xlogy_array(y, y) - y - gammaln(y + 1)))


@_family("gamma", {links.Inverse: -1.0}, False, (0.0, LARGE), "numbers > 0", links.Log)
class Gamma(Family):
    """V = mu^2, d = 2 ((y - mu) / mu - ln(y / mu)). The default link is the log, which needs no positivity of eta."""

    facts: ClassVar[Facts]

    def variance(self, mu):
        return mu * mu

    def variance_derivative(self, mu):
        return 2.0 * mu

    def unit_deviance(self, y, mu):
        return 2.0 * relative_entropy(mu, y, mu - y) / mu

    def accepts_mean(self, mu):
        return mu > 0.0

    def accepts_response(self, y):
        return y > 0.0

    def log_saturated(self, totals, dispersion):
        shape = 1.0 / dispersion
        return totals.weight * (shape * math.log(shape) - shape - gammaln(shape)) - totals.weight_log_y


@_family("inverse_gaussian", {links.InverseSquared: -0.5}, False, (0.0, LARGE), "numbers > 0", links.Log)
class InverseGaussian(Family):
    """V = mu^3, d = (y - mu)^2 / (y mu^2). The default link is the log, which needs no positivity of eta."""

    facts: ClassVar[Facts]

    def variance(self, mu):
        return mu * mu * mu

    def variance_derivative(self, mu):
        return 3.0 * mu * mu

    def unit_deviance(self, y, mu):
        return (y - mu) * (y - mu) / (y * mu * mu)

    def accepts_mean(self, mu):
        return mu > 0.0

    def accepts_response(self, y):
        return y > 0.0

    def log_saturated(self, totals, dispersion):
        return -0.5 * (totals.weight * math.log(2 * math.pi * dispersion) + 3 * totals.weight_log_y)


@_family("tweedie", {}, False, (0.0, LARGE), "numbers >= 0", links.Log)
class Tweedie(Family):
    """V = mu^power, 1 < power < 2: a Poisson number of gamma summands, with mass at zero.

    d = 2 (y^b / (a b) - y mu^a / a + mu^b / b) with a = 1 - power and b = 2 - power.

    Parameters
    ----------
    power : float
        Inside (1, 2); the ends are the poisson and gamma families.
    """

    facts: ClassVar[Facts]
    power: float = 1.5

    def __post_init__(self):
        if not 1.0 < self.power < 2.0:
            raise ValueError(f"families.Tweedie needs 1 < power < 2, got {self.power!r}; "
                             "use poisson for 1, gamma for 2, inverse_gaussian for 3.")

    def variance(self, mu):
        return mu ** self.power

    def variance_derivative(self, mu):
        return self.power * mu ** (self.power - 1.0)

    def unit_deviance(self, y, mu):
        a, b, u = 1.0 - self.power, 2.0 - self.power, (y - mu) / mu
        gap = relative_entropy(mu, y, mu - y) / mu                  # u - ln(y / mu)
        x = b * (u - gap)
        near = exp_excess(x) - b * gap                              # t^b - 1 - b (t - 1) at t = y / mu
        far = exp(b * log(y / mu)) - 1.0 - b * u
        return 2.0 * exp(b * log(mu)) / (a * b) * (near if abs(x) < 0.3 else far)

    def accepts_mean(self, mu):
        return mu > 0.0

    def accepts_response(self, y):
        return y >= 0.0

    def log_saturated(self, totals, dispersion):
        return math.nan          # no closed form; llf, aic and bic are NaN, as in R


@_family("negative_binomial", {}, True, (0.0, LARGE), "counts or rates >= 0", links.Log)
class NegativeBinomial(Family):
    """V = mu + alpha mu^2 (NB2).

    Parameters
    ----------
    alpha : float or "estimate"
        Overdispersion > 0, the reciprocal of R's theta; "estimate" (kept as NaN), which the family's name alone means
        too, asks an exact fit for it.
    """

    facts: ClassVar[Facts]
    alpha: float = "estimate"

    def __post_init__(self):
        if isinstance(self.alpha, str) and self.alpha == "estimate":
            object.__setattr__(self, "alpha", math.nan)
        elif isinstance(self.alpha, str) or not (self.alpha > 0.0 and math.isfinite(self.alpha)):
            raise ValueError(f"families.NegativeBinomial needs a finite alpha > 0, got {self.alpha!r}; use poisson for "
                             "0.")

    def variance(self, mu):
        return mu + self.alpha * mu * mu

    def variance_derivative(self, mu):
        return 1.0 + 2.0 * self.alpha * mu

    def unit_deviance(self, y, mu):
        a, b = 1.0 + self.alpha * y, 1.0 + self.alpha * mu
        error = (y - mu) / b
        return 2.0 * (relative_entropy(y, mu * a / b, error)
                      + relative_entropy(b, a, self.alpha * (mu - y)) / (self.alpha * b))

    def accepts_mean(self, mu):
        return mu > 0.0

    def accepts_response(self, y):
        return y >= 0.0

    def row_saturated(self, y, weight):
        r = 1.0 / self.alpha
        return np.sum(weight * (gammaln(y + r) - gammaln(r) - gammaln(y + 1) + xlogy_array(y, y / (y + r))
                                + r * np.log(r / (y + r))))


FAMILIES = {cls.facts.name: cls for cls in Family.__subclasses__()}


def get_family(family):
    """Turn a name or a Family into a Family.

    Parameters
    ----------
    family : str or Family

    Raises
    ------
    ValueError
        The name is not one of `FAMILIES`.
    """
    if isinstance(family, Family):
        return family
    if isinstance(family, str) and family in FAMILIES:
        return FAMILIES[family]()
    raise ValueError(f"Unknown family {family!r}: choose one of {', '.join(sorted(FAMILIES))}, "
                     "or pass a daskglm_rep.families object.")


@dataclasses.dataclass(frozen=True)
class GLM:
    """A model: how one row's mean and variance follow from its linear predictor.

    Parameters
    ----------
    family : Family
    link : Link
    """

    family: Family
    link: Link
    n_equations: ClassVar[int] = 1

    @classmethod
    def of(cls, family, link=None):
        """Build from names or objects; `link=None` takes the family's default.

        Parameters
        ----------
        family : str or Family
        link : str or Link, optional

        Raises
        ------
        ValueError
            Unknown names, or a link whose means the family cannot have.
        """
        family = get_family(family)
        link = family.facts.default_link() if link is None else get_link(link)
        model = cls(family, link)
        low, high = family.facts.mean_range
        reach = link.mean_range
        if reach[1] <= low or reach[0] >= high:
            raise ValueError(f"The {link.name} link gives no mean that the {family.facts.name} family can have.")
        if high == LARGE and reach == (0.0, 1.0):
            raise ValueError(f"The {link.name} link keeps means in (0, 1); the {family.facts.name} family needs "
                             f"{'any' if low < 0 else 'any positive'} mean: choose another link.")
        return model

    @property
    def canonical(self):
        """G'(eta) / V(mu) where it is constant (the canonical link), else NaN."""
        return self.family.facts.canonical.get(type(self.link), math.nan)

    @property
    def is_canonical(self):
        return type(self.link) in self.family.facts.canonical

    @property
    def dispersion_known(self):
        return self.family.facts.dispersion_known

    @property
    def estimates_alpha(self):
        """Whether the family is a negative binomial whose alpha is left to the fit."""
        return isinstance(self.family, NegativeBinomial) and math.isnan(self.family.alpha)

    @property
    def always_valid(self):
        """Whether every linear predictor gives a mean of the family."""
        low, high = self.family.facts.mean_range
        return low <= self.link.mean_range[0] and self.link.mean_range[1] <= high and not isinstance(
            self.link, (links.Inverse, links.InverseSquared, links.Sqrt, links.Power))

    def __str__(self):
        return f"{self.family.facts.name}, {self.link.name} link"
