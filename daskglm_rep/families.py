"""Exponential families: variance function, unit deviance, and the parts of the log-likelihood that ignore the mean.

A family is a frozen formula sheet. A model is a family and a link (`GLM`). One of your own is a subclass with its facts
and three formulas in plain Python arithmetic and `math`, which are compiled; it then goes wherever a family goes, as an
object or by its name, the class's in lower case unless `name` says otherwise::

    import math
    from daskglm_rep.families import Family, Interval, links

    class Geometric(Family):
        dispersion_known, default_link = True, links.Log
        mean_range, response_range = (0.0, math.inf), Interval(0.0, low_inclusive=True)

        def variance(self, mu):
            return mu + mu * mu

        def variance_derivative(self, mu):
            return 1.0 + 2.0 * mu

        def unit_deviance(self, y, mu):
            own = y * math.log(y / mu) if y > 0.0 else 0.0
            return 2.0 * (own - (y + 1.0) * math.log((1.0 + y) / (1.0 + mu)))

That is enough for estimates, errors, tests, effects and predictions. With unit deviance d and dispersion phi the
log-likelihood is the saturated one, which does not know the mean, minus sum w d(y, mu) / (2 phi): `llf`, `aic` and
`bic` are NaN until `row_saturated(y, weight)` (known dispersion) or `log_saturated(totals, dispersion)` (estimated,
from `summaries.Response`, R's conventions) gives it. Quantile residuals ask for `distribution(mu, weight, dispersion)`.
Parameters are float fields of a frozen dataclass (see `Tweedie`): their values compile nothing anew.
"""

import dataclasses
import importlib
import math
from typing import ClassVar

import numpy as np
from scipy import stats

from daskglm_rep import links
from daskglm_rep._jit import ScalarModel, exp, exp_excess, expose, log, relative_entropy
from daskglm_rep.distributions import CompoundPoisson, Steps, log_factorial_excess
from daskglm_rep.domains import LINE, NOT_NEGATIVE, POSITIVE, UNIT, Interval, declare, find
from daskglm_rep.links import LARGE

FAMILIES: dict[str, type] = {}          # name -> class; a family enters when it is defined


@expose
@dataclasses.dataclass(frozen=True)
class Formulas(ScalarModel):
    """What jitted code may ask of a family: scalar formulas in y and mu.

    `variance_at`, `unit_deviance_at` and `error_at` (y - mu) also get 1 - mu computed without cancellation; the
    binomial uses it. `accepts_mean` and `accepts_response` follow from a family's ranges.
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

    accepts_mean, accepts_response = LINE.member("mu"), LINE.member("y")


class Family(Formulas):
    """Interface: formulas, facts, and the parts of the likelihood in arrays.

    Class attributes: `name`; `mean_range`, the open interval of means, a pair; `response_range`, the `Interval` of
    responses, and `response_noun` for what lies in it; `dispersion_known`, phi = 1; `canonical`, link class -> the
    constant G'(eta) / V(mu) under it; `default_link`, a link class (default the first canonical one, or identity);
    `steady`, the links under which a row's loss has a third derivative in eta of at most its second, whatever y.

    Examples
    --------
    >>> from daskglm_rep.families import Poisson; Poisson().response
    'counts or rates >= 0'
    """

    name: ClassVar[str | None] = None                             # ClassVar: no fields
    mean_range: ClassVar[tuple[float, float]] = (-LARGE, LARGE)
    response_range: ClassVar[Interval] = LINE
    response_noun: ClassVar[str] = "numbers"
    response: ClassVar[str]
    dispersion_known: ClassVar[bool] = False
    canonical: ClassVar[dict[type, float]] = {}
    default_link: ClassVar[type | None] = None
    steady: ClassVar[tuple[type, ...]] = ()
    facts = property(type, doc="Its class, whose attributes the facts are.")

    def __init_subclass__(cls):
        super().__init_subclass__()
        if "response_range" in vars(cls):
            cls.response_range = Interval(*cls.response_range)
        declare(cls, {"mean_range": ("accepts_mean", "mu"), "response_range": ("accepts_response", "y")}, FAMILIES)
        cls.response = cls.response_range.words(cls.response_noun)
        cls.default_link = cls.default_link or next(iter(cls.canonical), links.Identity)

    def row_saturated(self, y, weight):
        """Saturated log-likelihood of some rows at dispersion 1, linear in the weights; NaN where not known."""
        return math.nan

    def log_saturated(self, totals, dispersion):
        """Saturated log-likelihood from sums over all rows and the dispersion; NaN where it is not known."""
        return math.nan

    def distribution(self, mu, weight, dispersion):
        """Distribution of responses at (n,) means, weights and a dispersion: see `distributions`."""
        raise ValueError(f"The {self.name} family declares no distribution, which quantile residuals ask for: give it "
                         "a method distribution(mu, weight, dispersion) that returns one of scipy.stats.")


class Gaussian(Family):
    """V = 1, d = (y - mu)^2.

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, families
    >>> model = GLMRegressor(families.Gaussian(), link="log")
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0.5, 2.0, 1.5, 7.0]).coef_.round(3)
    array([1.051])
    """

    name, canonical = "gaussian", {links.Identity: 1.0}

    def log_saturated(self, totals, dispersion):
        return 0.5 * (totals.log_weight - totals.n_kept * math.log(2 * math.pi * dispersion))

    def distribution(self, mu, weight, dispersion):
        return stats.norm(mu, np.sqrt(dispersion / weight))


class Binomial(Family):
    """V = mu (1 - mu); y a proportion of `weight` trials (0/1 with weight 1 is the Bernoulli case).

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, families
    >>> model = GLMRegressor(families.Binomial(), link="logit")
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0.0, 0.25, 0.5, 0.5]).coef_.round(3)
    array([0.942])
    """

    name, canonical, dispersion_known, steady = "binomial", {links.Logit: 1.0}, True, (links.Logit,)
    mean_range, response_range, response_noun = (0.0, 1.0), UNIT, "proportions"

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

    def row_saturated(self, y, weight):
        k = weight * y
        return np.sum(log_factorial_excess(weight) - log_factorial_excess(k) - log_factorial_excess(weight - k))

    def distribution(self, mu, weight, dispersion):
        trials = np.where((weight == np.floor(weight)) & (weight >= 1), weight, 1.0)
        return Steps(stats.binom(trials, mu), trials, np.round)


@dataclasses.dataclass(frozen=True)
class Bernoulli(Binomial):
    """The binomial family where every response is 0 or 1: the same numbers with one logarithm a row instead of two."""

    def unit_deviance_at(self, y, mu, complement):
        return -2.0 * log(mu if y > 0.5 else complement)


class Poisson(Family):
    """V = mu, d = 2 (y ln(y / mu) - (y - mu)).

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, families
    >>> model = GLMRegressor(families.Poisson(), link="log")
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0, 2, 1, 7]).coef_.round(3)
    array([1.012])
    """

    name, canonical, dispersion_known, steady = "poisson", {links.Log: 1.0}, True, (links.Log,)
    mean_range, response_range, response_noun = (0.0, LARGE), NOT_NEGATIVE, "counts or rates"

    def variance(self, mu):
        return mu

    def variance_derivative(self, mu):
        return 1.0

    def unit_deviance(self, y, mu):
        return 2.0 * relative_entropy(y, mu, y - mu)

    def row_saturated(self, y, weight):
        return -np.sum(weight * log_factorial_excess(y))

    def distribution(self, mu, weight, dispersion):
        return Steps(stats.poisson(mu))


class Gamma(Family):
    """V = mu^2, d = 2 ((y - mu) / mu - ln(y / mu)). The default link is the log, which needs no positivity of eta.

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, families
    >>> model = GLMRegressor(families.Gamma(), link="log")
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0.5, 2.0, 1.5, 7.0]).coef_.round(3)
    array([0.767])
    """

    name, canonical, default_link, steady = "gamma", {links.Inverse: -1.0}, links.Log, (links.Log,)
    mean_range, response_range = (0.0, LARGE), POSITIVE

    def variance(self, mu):
        return mu * mu

    def variance_derivative(self, mu):
        return 2.0 * mu

    def unit_deviance(self, y, mu):
        return 2.0 * relative_entropy(mu, y, mu - y) / mu

    def log_saturated(self, totals, dispersion):
        shape = 1.0 / dispersion
        return totals.weight * (math.log(shape) - float(log_factorial_excess(shape))) - totals.weight_log_y

    def distribution(self, mu, weight, dispersion):
        shape = weight / dispersion
        return stats.gamma(shape, scale=mu / shape)


class InverseGaussian(Family):
    """V = mu^3, d = (y - mu)^2 / (y mu^2). The default link is the log, which needs no positivity of eta.

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, families
    >>> model = GLMRegressor(families.InverseGaussian(), link="log")
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0.5, 2.0, 1.5, 7.0]).coef_.round(3)
    array([0.874])
    """

    name, canonical, default_link = "inverse_gaussian", {links.InverseSquared: -0.5}, links.Log
    mean_range, response_range = (0.0, LARGE), POSITIVE

    def variance(self, mu):
        return mu * mu * mu

    def variance_derivative(self, mu):
        return 3.0 * mu * mu

    def unit_deviance(self, y, mu):
        return (y - mu) * (y - mu) / (y * mu * mu)

    def log_saturated(self, totals, dispersion):
        return -0.5 * (totals.weight * math.log(2 * math.pi * dispersion) + 3 * totals.weight_log_y)

    def distribution(self, mu, weight, dispersion):
        shape = weight / dispersion
        return stats.invgauss(mu / shape, scale=shape)


@dataclasses.dataclass(frozen=True)
class Tweedie(Family):
    """V = mu^power, 1 < power < 2: a Poisson number of gamma summands, with mass at zero.

    d = 2 (y^b / (a b) - y mu^a / a + mu^b / b) with a = 1 - power and b = 2 - power. The likelihood has no closed form:
    llf, aic and bic are NaN, as in R.

    Parameters
    ----------
    power : float
        Inside (1, 2); the ends are the poisson and gamma families.

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, families
    >>> model = GLMRegressor(families.Tweedie(power=1.3), link="log").fit([[0.0], [1.0], [2.0]], [0.0, 2.0, 3.0])
    >>> model.predict([[1.0]]).round(2)
    array([1.08])
    """

    name, default_link = "tweedie", links.Log
    mean_range, response_range = (0.0, LARGE), NOT_NEGATIVE
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

    def distribution(self, mu, weight, dispersion):
        return CompoundPoisson(self.power, mu, dispersion / weight)


@dataclasses.dataclass(frozen=True)
class NegativeBinomial(Family):
    """V = mu + alpha mu^2 (NB2).

    Parameters
    ----------
    alpha : float or "estimate"
        Overdispersion > 0, the reciprocal of R's theta; "estimate" (kept as NaN), which the family's name alone means
        too, asks an exact fit for it.

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, families
    >>> model = GLMRegressor(families.NegativeBinomial(0.5)).fit([[0.0], [1.0], [2.0], [3.0]], [0, 2, 1, 7])
    >>> model.coef_.round(3)
    array([0.97])
    """

    name, default_link, dispersion_known = "negative_binomial", links.Log, True
    mean_range, response_range, response_noun = (0.0, LARGE), NOT_NEGATIVE, "counts or rates"
    alpha: float = "estimate"  # type: ignore[assignment]         # NaN once made

    def __post_init__(self):
        if isinstance(self.alpha, str) and self.alpha == "estimate":
            object.__setattr__(self, "alpha", math.nan)
        elif isinstance(self.alpha, str) or not (self.alpha > 0.0 and math.isfinite(self.alpha)):
            raise ValueError(f"families.NegativeBinomial needs a finite alpha > 0 (0 is poisson), got {self.alpha!r}.")

    def variance(self, mu):
        return mu + self.alpha * mu * mu

    def variance_derivative(self, mu):
        return 1.0 + 2.0 * self.alpha * mu

    def unit_deviance(self, y, mu):
        a, b = 1.0 + self.alpha * y, 1.0 + self.alpha * mu
        error = (y - mu) / b
        return 2.0 * (relative_entropy(y, mu * a / b, error)
                      + relative_entropy(b, a, self.alpha * (mu - y)) / (self.alpha * b))

    def row_saturated(self, y, weight):
        r = 1.0 / self.alpha
        excess = log_factorial_excess(y + r) - log_factorial_excess(r) - log_factorial_excess(y)
        return np.sum(weight * (excess - np.log1p(y / r)))

    def distribution(self, mu, weight, dispersion):
        size = 1.0 / self.alpha
        return Steps(stats.nbinom(size, size / (size + mu)))


def get_family(family):
    """Turn a name or a Family into a Family; a ValueError where the name is not one of `FAMILIES`."""
    return find(family, Family, FAMILIES, "family", "daskglm_rep.families")


def __getattr__(name):
    """`families.GLM`, which binds kernels and so lives above them."""
    if name == "GLM":
        return importlib.import_module("daskglm_rep.models.glm").GLM
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
