"""Link functions eta = g(mu): the inverse, its first two derivatives, and where each is defined.

A link of your own is a subclass with four formulas in plain Python arithmetic and `math`, which are compiled, and two
facts: the means it can give, and the eta its inverse is defined at. From then on it goes wherever a link goes, as an
object or by its name, the class's in lower case unless `name` says otherwise::

    import math
    from daskglm_rep.links import Link

    class Quartic(Link):
        mean_range = eta_range = (0.0, math.inf)

        def link(self, mu):
            return mu ** 0.25

        def inverse(self, eta):
            return eta ** 4

        def inverse_derivative(self, eta):
            return 4.0 * eta ** 3

        def inverse_second_derivative(self, eta):
            return 12.0 * eta ** 2

Fits stay where eta and the means it gives are allowed; a domain that is no interval overrides `accepts(self, eta)`.
Parameters are float fields of a frozen dataclass (see `Power`): their values compile nothing anew.
Formulas here select rather than branch where they can, so that loops over rows vectorise.
"""

import dataclasses
import math
from typing import ClassVar

from daskglm_rep._jit import ScalarModel, exp, expose, formula, log
from daskglm_rep.domains import LINE, declare, find

LARGE = math.inf
LINKS: dict[str, type] = {}          # name -> class; a link enters when it is defined


@expose
@dataclasses.dataclass(frozen=True)
class Link(ScalarModel):
    """Interface: every public method is a scalar formula usable from Python and from jitted code.

    `link(mu)` is infinite, not an error, at the ends of the means it is defined at.
    `complement(eta)` is 1 - mu without cancellation; only the binomial family asks for it.
    `accepts(eta)` says whether eta is a value the inverse is defined at; it follows from `eta_range`.

    Class attributes: `name`; `mean_range`, the open interval of means that the inverse can reach, a pair; `eta_range`,
    the open interval that it is defined at (default all numbers).

    Examples
    --------
    >>> from daskglm_rep import links
    >>> links.get_link("logit").mean_range
    (0.0, 1.0)
    """

    name: ClassVar[str | None] = None                             # ClassVar: no fields
    mean_range: ClassVar[tuple[float, float]] = (-LARGE, LARGE)
    eta_range: ClassVar[tuple[float, float]] = (-LARGE, LARGE)

    def __init_subclass__(cls):
        super().__init_subclass__()
        declare(cls, {"eta_range": ("accepts", "eta")}, LINKS)

    def link(self, mu):
        """eta = g(mu)."""
        return mu

    def inverse(self, eta):
        """mu = g^-1(eta) = G(eta)."""
        return eta

    def complement(self, eta):
        """1 - G(eta), without cancellation."""
        return 1.0 - self.inverse(eta)

    def inverse_derivative(self, eta):
        """G'(eta) = d mu / d eta."""
        return 1.0

    def inverse_second_derivative(self, eta):
        """G''(eta)."""
        return 0.0

    def within(self, eta):
        """eta, or the nearest value at which a row's formulas, with any family, are inside the range of doubles.

        Beyond it rows of a fit stay what they are there and losses go on along a parabola: exact for the logit, to
        5e-4 of the score for the probit.
        """
        return eta

    accepts = LINE.member("eta")


@formula
def _ratio(a, b):
    """a / b, infinite at b = 0 from Python too."""
    return a / b


class Identity(Link):
    """eta = mu."""

    name, mean_range = "identity", (-LARGE, LARGE)


class Log(Link):
    """eta = ln mu."""

    name, mean_range = "log", (0.0, LARGE)

    def link(self, mu):
        return log(mu)

    def within(self, eta):
        return min(max(eta, -230.0), 230.0)          # cubes of means, and their ratios, stay doubles

    def inverse(self, eta):
        return exp(eta)

    def inverse_derivative(self, eta):
        return exp(eta)

    def inverse_second_derivative(self, eta):
        return exp(eta)


class Logit(Link):
    """eta = ln(mu / (1 - mu))."""

    name, mean_range = "logit", (0.0, 1.0)

    def link(self, mu):
        return log(_ratio(mu, 1.0 - mu))

    def within(self, eta):
        return min(max(eta, -708.0), 708.0)

    def inverse(self, eta):
        t = exp(-abs(eta))
        return (1.0 if eta >= 0.0 else t) / (1.0 + t)

    def complement(self, eta):
        t = exp(-abs(eta))
        return (t if eta >= 0.0 else 1.0) / (1.0 + t)

    def inverse_derivative(self, eta):
        t = exp(-abs(eta))
        return t / ((1.0 + t) * (1.0 + t))

    def inverse_second_derivative(self, eta):
        t = exp(-abs(eta))
        d = t / ((1.0 + t) * (1.0 + t))
        return d * ((t - 1.0) if eta >= 0.0 else (1.0 - t)) / (1.0 + t)


@formula
def _normal_tail(x):
    """P(Z > x)."""
    return 0.5 * math.erfc(x * 0.7071067811865476)


@formula
def _normal_density(x):
    return 0.3989422804014327 * exp(-0.5 * x * x)


@formula
def _normal_quantile(p):
    """Inverse of the normal distribution function: a rational start (Abramowitz & Stegun 26.2.23), Halley steps."""
    if not 0.0 < p < 1.0:
        return -LARGE if p == 0.0 else (LARGE if p == 1.0 else math.nan)
    q = min(p, 1.0 - p)
    t = math.sqrt(-2.0 * math.log(q))
    x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)))
    for _ in range(3):
        u = (_normal_tail(x) - q) / _normal_density(x)
        x += u / (1.0 + 0.5 * x * u)
    return x if p >= 0.5 else -x


class Probit(Link):
    """eta = Phi^-1(mu), Phi the normal distribution function."""

    name, mean_range = "probit", (0.0, 1.0)

    def link(self, mu):
        return _normal_quantile(mu)

    def within(self, eta):
        return min(max(eta, -37.5), 37.5)          # beyond, Phi leaves the normal doubles

    def inverse(self, eta):
        return _normal_tail(-self.within(eta))

    def complement(self, eta):
        return _normal_tail(self.within(eta))

    def inverse_derivative(self, eta):
        return _normal_density(self.within(eta))

    def inverse_second_derivative(self, eta):
        return -self.within(eta) * _normal_density(self.within(eta))


class Cloglog(Link):
    """eta = ln(-ln(1 - mu))."""

    name, mean_range = "cloglog", (0.0, 1.0)

    def link(self, mu):
        return log(-math.log1p(-mu)) if mu < 1.0 else LARGE

    def within(self, eta):
        return min(max(eta, -700.0), 6.5)          # e^6.5 = 665: 1 - mu stays a normal double

    def inverse(self, eta):
        return -math.expm1(-exp(self.within(eta)))

    def complement(self, eta):
        return exp(-exp(self.within(eta)))

    def inverse_derivative(self, eta):
        z = self.within(eta)
        return exp(z - exp(z))

    def inverse_second_derivative(self, eta):
        z = self.within(eta)
        return exp(z - exp(z)) * (1.0 - exp(z))


class Loglog(Link):
    """eta = -ln(-ln mu): cloglog of the complementary event with the sign of eta reversed."""

    name, mean_range = "loglog", (0.0, 1.0)

    def link(self, mu):
        return -log(-log(mu))

    def within(self, eta):
        return min(max(eta, -6.5), 700.0)

    def inverse(self, eta):
        return exp(-exp(-self.within(eta)))

    def complement(self, eta):
        return -math.expm1(-exp(-self.within(eta)))

    def inverse_derivative(self, eta):
        z = -self.within(eta)
        return exp(z - exp(z))

    def inverse_second_derivative(self, eta):
        z = -self.within(eta)
        return exp(z - exp(z)) * (exp(z) - 1.0)


class Cauchit(Link):
    """eta = tan(pi (mu - 1/2)) = -cot(pi mu)."""

    name, mean_range = "cauchit", (0.0, 1.0)

    def link(self, mu):
        return -_ratio(1.0, math.tan(math.pi * mu)) if mu < 1.0 else LARGE

    def inverse(self, eta):
        return 0.5 + math.atan(eta) / math.pi if eta > -1.0 else math.atan(-1.0 / eta) / math.pi

    def complement(self, eta):
        return 0.5 - math.atan(eta) / math.pi if eta < 1.0 else math.atan(1.0 / eta) / math.pi

    def inverse_derivative(self, eta):
        return 1.0 / (math.pi * (1.0 + eta * eta))

    def inverse_second_derivative(self, eta):
        return -2.0 * eta / (math.pi * (1.0 + eta * eta) * (1.0 + eta * eta))


class Inverse(Link):
    """eta = 1 / mu, for positive means."""

    name, mean_range = "inverse", (0.0, LARGE)

    def link(self, mu):
        return _ratio(1.0, mu)

    def inverse(self, eta):
        return 1.0 / eta

    def inverse_derivative(self, eta):
        return -1.0 / (eta * eta)

    def inverse_second_derivative(self, eta):
        return 2.0 / (eta * eta * eta)

    def accepts(self, eta):
        return eta != 0.0


class InverseSquared(Link):
    """eta = 1 / mu^2."""

    name = "inverse_squared"
    mean_range = eta_range = (0.0, LARGE)

    def link(self, mu):
        return _ratio(1.0, mu * mu)

    def inverse(self, eta):
        return 1.0 / math.sqrt(eta)

    def inverse_derivative(self, eta):
        return -0.5 / (eta * math.sqrt(eta))

    def inverse_second_derivative(self, eta):
        return 0.75 / (eta * eta * math.sqrt(eta))


class Sqrt(Link):
    """eta = sqrt(mu), eta > 0."""

    name = "sqrt"
    mean_range = eta_range = (0.0, LARGE)

    def link(self, mu):
        return math.sqrt(mu)

    def inverse(self, eta):
        return eta * eta

    def inverse_derivative(self, eta):
        return 2.0 * eta

    def inverse_second_derivative(self, eta):
        return 2.0


@dataclasses.dataclass(frozen=True)
class Power(Link):
    """eta = mu^power for power != 0, eta > 0 (power = 1, -1, -2, 0.5 have classes of their own).

    Parameters
    ----------
    power : float

    Examples
    --------
    >>> from daskglm_rep import GLMRegressor, links
    >>> model = GLMRegressor("gamma", link=links.Power(0.5))
    >>> model.fit([[0.0], [1.0], [2.0], [3.0]], [0.5, 2.0, 1.5, 7.0]).coef_.round(3)
    array([0.536])
    """

    name = "power"
    mean_range = eta_range = (0.0, LARGE)

    power: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.power) and self.power != 0.0):
            raise ValueError(f"links.Power needs a finite power other than 0, got {self.power!r}; use links.Log() for "
                             "0.")

    def link(self, mu):
        return mu ** self.power if self.power > 0.0 else _ratio(1.0, mu ** -self.power)

    def inverse(self, eta):
        return eta ** (1.0 / self.power)

    def inverse_derivative(self, eta):
        return eta ** (1.0 / self.power - 1.0) / self.power

    def inverse_second_derivative(self, eta):
        return eta ** (1.0 / self.power - 2.0) * (1.0 / self.power - 1.0) / self.power


def get_link(link):
    """Turn a name or a Link into a Link.

    Parameters
    ----------
    link : str or Link

    Raises
    ------
    ValueError
        The name is not one of `LINKS`.
    """
    return find(link, Link, LINKS, "link", "daskglm_rep.links")
