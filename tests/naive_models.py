"""The judge's models, in any precision: textbook formulas of links, families and the multinomial logit, row by row.

Links give log mu, log(1 - mu), G'/mu, G'/(1 - mu) and G''/G', so that no mean near an end loses its digits. Phi alone
is only as good as double's erfcx.
"""

import dataclasses

import numpy as np
from scipy import special

EXTENDED = np.longdouble
PI = EXTENDED("3.14159265358979323846264338327950288")


def xlogy(a, b):
    """a log(b), 0 where a = 0."""
    return np.where(a == 0, 0, a * np.log(np.where(a == 0, 1, b)))


# ---------------------------------------------------------------------- links: eta -> mu, lm, lc, up, down, bend


def logit(eta):
    lm, lc = -np.logaddexp(0, -eta), -np.logaddexp(0, eta)
    mu, rest = np.exp(lm), np.exp(lc)
    return mu, lm, lc, rest, mu, rest - mu


def probit(eta):
    z = eta.astype(float)
    top = np.sqrt(2 / np.pi)
    up, down = [(top / special.erfcx(s * z / np.sqrt(2))).astype(eta.dtype) for s in (-1, 1)]
    lm, lc = [special.log_ndtr(s * z).astype(eta.dtype) for s in (1, -1)]
    return np.exp(lm), lm, lc, up, down, -eta


def _log_of_expm1(t):
    """log(1 - e^-t) for t > 0."""
    return np.where(t < 0.7, np.log(-np.expm1(-t)), np.log1p(-np.exp(-t)))


def cloglog(eta):
    t = np.exp(eta)
    lm = _log_of_expm1(t)
    return np.exp(lm), lm, -t, t / np.expm1(t), t, 1 - t


def loglog(eta):
    t = np.exp(-eta)
    return np.exp(-t), -t, _log_of_expm1(t), t, t / np.expm1(t), t - 1


def cauchit(eta):
    pi = PI.astype(eta.dtype) if eta.dtype == EXTENDED else np.pi
    mu, rest, slope = np.arctan2(1, -eta) / pi, np.arctan2(1, eta) / pi, 1 / (pi * (1 + eta * eta))
    return mu, np.log(mu), np.log(rest), slope / mu, slope / rest, -2 * eta / (1 + eta * eta)


def _plain(mu, slope, bend):
    return mu, np.log(mu), np.log1p(-mu), slope / mu, slope / (1 - mu), bend


def identity(eta):
    return _plain(eta, np.ones_like(eta), np.zeros_like(eta))


def log(eta):
    mu, lc = np.exp(eta), np.log(-np.expm1(eta))
    return mu, eta, lc, np.ones_like(eta), mu / -np.expm1(eta), np.ones_like(eta)


def power(p):
    """eta = mu^p."""

    def link(eta):
        mu = eta ** (1 / EXTENDED(p)).astype(eta.dtype)
        return _plain(mu, mu / (eta * p), (1 / EXTENDED(p) - 1).astype(eta.dtype) / eta)

    return link


def inverse(eta):
    return _plain(1 / eta, -1 / (eta * eta), -2 / eta)


def inverse_squared(eta):
    return power(-2)(eta)


def sqrt(eta):
    return _plain(eta * eta, 2 * eta, 1 / eta)


LINKS = {f.__name__: f for f in (identity, log, logit, probit, cloglog, loglog, cauchit, inverse, inverse_squared,
                                 sqrt)}
POSITIVE_ETA = (sqrt, inverse_squared)


def eta_of(link, mu):
    """g(mu): where g^-1 is one of the textbook's."""
    name = link.__name__
    table = {"identity": lambda m: m, "log": np.log, "logit": lambda m: np.log(m / (1 - m)), "sqrt": np.sqrt,
             "probit": lambda m: special.ndtri(np.asarray(m, float)), "inverse": lambda m: 1 / m,
             "cloglog": lambda m: np.log(-np.log1p(-m)), "loglog": lambda m: -np.log(-np.log(m)),
             "cauchit": lambda m: -1 / np.tan(PI * m), "inverse_squared": lambda m: m ** -2.0}
    with np.errstate(all="ignore"):
        return table[name](mu) if name in table else mu ** link.__closure__[0].cell_contents


# ---------------------------------------------------------------------- families: mu / V, mu V' / V, d


@dataclasses.dataclass(frozen=True)
class Family:
    """mu / V, the variance's elasticity mu V' / V and the unit deviance: no 0 / 0 where mu is lost in underflow.

    The gaussian family, of real means, needs none of the first two.
    """

    pull: object
    elasticity: object
    deviance: object
    dispersion_known: bool
    low: float = 0.0
    high: float = np.inf


def _log_ratio(y, mu):
    """log(y / mu), with all digits where they are close."""
    near = np.abs(mu - y) < 0.5 * y
    return np.where(near, -np.log1p((mu - y) / np.where(near, y, 1)), np.log(y / mu))


def _count(y, mu):
    return np.where(y == 0, 0, y * _log_ratio(np.where(y == 0, 1, y), np.where(y == 0, 1, mu)))


def tweedie(p):
    p = EXTENDED(p)

    def deviance(y, mu):
        a, b = 1 - p, 2 - p
        return 2 * (y ** b / (a * b) - y * mu ** a / a + mu ** b / b)

    return Family(lambda mu: mu ** (1 - p), lambda mu: p, deviance, False)


def negative_binomial(alpha):
    a = EXTENDED(alpha)

    def deviance(y, mu):
        return 2 * (_count(y, mu) + (y + 1 / a) * np.log1p(a * (mu - y) / (1 + a * y)))

    return Family(lambda mu: 1 / (1 + a * mu), lambda mu: (1 + 2 * a * mu) / (1 + a * mu), deviance, True)


FAMILIES = {
    "gaussian": Family(None, None, lambda y, mu: (y - mu) ** 2, False, -np.inf),
    "binomial": Family(None, None, None, True, 0.0, 1.0),
    "poisson": Family(lambda mu: 1, lambda mu: 1, lambda y, mu: 2 * (_count(y, mu) - (y - mu)), True),
    "gamma": Family(lambda mu: 1 / mu, lambda mu: 2, lambda y, mu: 2 * ((y - mu) / mu - _log_ratio(y, mu)), False),
    "inverse_gaussian": Family(lambda mu: mu ** -2, lambda mu: 3, lambda y, mu: (y - mu) ** 2 / (y * mu * mu), False),
}


# ---------------------------------------------------------------------- rows


@dataclasses.dataclass(frozen=True)
class Rows:
    """Per row at weight 1: deviance, Pearson, (n, E) score, (n, E, E) expected and observed information, (n,) means."""

    deviance: np.ndarray
    pearson: np.ndarray
    score: np.ndarray
    expected: np.ndarray
    observed: np.ndarray
    mu: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A family and a link: one linear predictor a row."""

    family: Family
    link: object
    equations = 1

    @property
    def dispersion_known(self):
        return self.family.dispersion_known

    def rows(self, eta, y):
        """`Rows`, or None where a mean leaves the domain."""
        eta = eta[:, 0]
        if self.link in POSITIVE_ETA and not (eta > 0).all() or self.link.__name__ == "link" and not (eta > 0).all():
            return None
        with np.errstate(all="ignore"):
            mu, lm, lc, up, down, bend = self.link(eta)
            if not ((mu > self.family.low) | np.isfinite(lm)).all() or not (mu >= self.family.low).all():
                return None
            if not (mu <= self.family.high).all() or not np.isfinite(mu).all():
                return None
            if self.family is FAMILIES["binomial"]:
                found = self._binomial(y, mu, lm, lc, up, down, bend)
            else:
                found = self._general(y, mu, up, bend)
        return found if np.isfinite(found.deviance).all() and np.isfinite(found.observed).all() else None

    def _binomial(self, y, mu, lm, lc, up, down, bend):
        score = y * up - (1 - y) * down
        observed = -(y * up * (bend - up) - (1 - y) * down * (bend + down))
        deviance = 2 * (xlogy(y, y) - y * lm + xlogy(1 - y, 1 - y) - (1 - y) * lc)
        odds = np.exp((lc - lm) / 2)
        pearson = np.where(y == 1, odds, np.where(y == 0, 1 / odds, y * odds - (1 - y) / odds)) ** 2
        return Rows(deviance, pearson, score[:, None], (up * down)[:, None, None], observed[:, None, None], mu)

    def _general(self, y, mu, up, bend):
        if self.family is FAMILIES["gaussian"]:
            slope = np.ones_like(mu) if self.link is identity else up * mu
            score, expected, twist, pearson = (y - mu) * slope, slope * slope, 0, (y - mu) ** 2
        else:
            pull, twist = self.family.pull(mu), self.family.elasticity(mu) * up
            score, expected = (y - mu) * up * pull, up * up * mu * pull
            pearson = (y - mu) ** 2 * pull / mu
            pearson = np.where(y == 0, mu * pull, pearson)
        observed = expected - score * (bend - twist)
        return Rows(self.family.deviance(y, mu), pearson, score[:, None], expected[:, None, None],
                    observed[:, None, None], mu)


@dataclasses.dataclass(frozen=True)
class Softmax:
    """Multinomial logit, y codes 0..J-1, baseline 0."""

    equations: int
    dispersion_known = True

    def rows(self, eta, y):
        full = np.hstack([np.zeros_like(eta[:, :1]), eta])
        top = full.max(axis=1, keepdims=True)
        lp = full - top - np.log(np.exp(full - top).sum(axis=1, keepdims=True))
        p = np.exp(lp)
        code = y.astype(int)
        own = np.zeros_like(p)
        own[np.arange(len(y)), code] = 1
        lp_own = lp[np.arange(len(y)), code]
        information = -p[:, 1:, None] * p[:, None, 1:]
        for j in range(1, p.shape[1]):
            information[:, j - 1, j - 1] = p[:, j] * np.delete(p, j, axis=1).sum(axis=1)
        others = np.where(own == 1, 0, p)
        residual = np.where(own == 1, others.sum(axis=1, keepdims=True), -p)[:, 1:]
        return Rows(-2 * lp_own, others.sum(axis=1) / np.exp(lp_own), residual, information, information, p)


def model_of(family, link=None, parameter=None):
    """A model by names; `parameter` is alpha, Tweedie's power or the number of classes; link ("power", p)."""
    if family == "multinomial":
        return Softmax(parameter - 1)
    made = {"tweedie": tweedie, "negative_binomial": negative_binomial}
    family = made[family](parameter) if family in made else FAMILIES[family]
    return Scalar(family, LINKS[link] if isinstance(link, str) else power(link[1]))
