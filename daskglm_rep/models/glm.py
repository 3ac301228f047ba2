"""The generalized linear model: one linear predictor, a family and a link."""

import dataclasses
import math

import numpy as np
import pandas as pd

from daskglm_rep.domains import LINE, Interval
from daskglm_rep.families import Bernoulli, Binomial, Family, NegativeBinomial, get_family
from daskglm_rep.kernels.clusters import glm_scores
from daskglm_rep.kernels.gram import is_narrow
from daskglm_rep.kernels.leverage import tile_quadratic
from daskglm_rep.kernels.margins import mean_states, slope_sums
from daskglm_rep.kernels.meat import glm_meat
from daskglm_rep.kernels.moments import glm_moments
from daskglm_rep.kernels.residuals import slope_rows
from daskglm_rep.kernels.rows import inverse_link, working_rows
from daskglm_rep.links import LARGE, Link, get_link

ONE = ("mean", "se", "ci_lower", "ci_upper", "linear", "linear_se", "linear_ci_lower", "linear_ci_upper")
OBSERVATION = ("obs_ci_lower", "obs_ci_upper")


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
    n_equations = n_responses = 1          # no annotation, hence no field
    starts_at_zero = False
    has_leverage = True
    ridge_metric = symmetry = np.eye(1)
    moments, meat, add_scores = glm_moments, glm_meat, glm_scores

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
        link = family.default_link() if link is None else get_link(link)
        means, reach = Interval(*family.mean_range), Interval(*link.mean_range)
        if reach.high <= means.low or reach.low >= means.high:
            raise ValueError(f"The {link.name} link gives no mean that the {family.name} family can have.")
        if means.high == LARGE > reach.high:
            raise ValueError(f"The {link.name} link keeps means in ({reach.low:g}, {reach.high:g}); the {family.name} "
                             f"family needs {'any positive' if means.low == 0 else 'any'} mean: choose another link.")
        return cls(family, link)

    @property
    def canonical(self):
        """G'(eta) / V(mu) where it is constant (the canonical link), else NaN."""
        return self.family.canonical.get(type(self.link), math.nan)

    @property
    def is_canonical(self):
        return type(self.link) in self.family.canonical

    @property
    def is_steady(self):
        """Whether |third derivative| <= second of every row's loss in eta: on it a fit's certificate rests."""
        return type(self.link) in self.family.steady

    @property
    def dispersion_known(self):
        return self.family.dispersion_known

    @property
    def estimates_alpha(self):
        """Whether the family is a negative binomial whose alpha is left to the fit."""
        return isinstance(self.family, NegativeBinomial) and math.isnan(self.family.alpha)

    @property
    def always_valid(self):
        """Whether every linear predictor gives a mean of the family."""
        eta, mu = (getattr(test, "interval", None) for test in (self.link.accepts, self.family.accepts_mean))
        return eta == LINE and mu is not None and mu.holds(Interval(*self.link.mean_range))

    @property
    def eta_range(self):
        """The open interval of linear predictors whose means the family can have, the link being monotone."""
        pairs = zip((max, min), self.family.mean_range, self.link.mean_range)
        ends = sorted(self.link.link(nearer(a, b)) for nearer, a, b in pairs)
        return Interval(max(ends[0], self.link.eta_range[0]), min(ends[1], self.link.eta_range[1]))

    def __str__(self):
        return f"{self.family.name}, {self.link.name} link"

    @property
    def is_gaussian(self):
        return self.family.facts.name == "gaussian"

    @property
    def is_linear(self):
        """Whether one Newton step is exact."""
        return self.is_gaussian and self.is_canonical

    @property
    def linear_scale(self):
        """The linear predictor in words."""
        if self.link.name == "identity":
            return "mean"
        odds = self.link.name == "logit" and self.family.facts.name == "binomial"
        return "log-odds" if odds else f"{self.link.name} of the mean"

    @property
    def ratio(self):
        """What the exponential of a coefficient is, in words; None where it is nothing in particular."""
        if self.link.name == "log":
            return {"poisson": "rate ratio", "negative_binomial": "rate ratio", "binomial": "risk ratio"}.get(
                self.family.facts.name, "mean ratio")
        if self.family.facts.name != "binomial":
            return None
        return {"logit": "odds ratio", "cloglog": "hazard ratio"}.get(self.link.name)

    @property
    def overdispersion(self):
        """Alpha of the negative binomial, None of other families."""
        return self.family.alpha if isinstance(self.family, NegativeBinomial) else None

    def index(self, names, classes):
        """Labels of the parameters."""
        return pd.Index(names, name="feature")

    def for_responses(self, response):
        """This model, or its cheaper twin for responses (a `summaries.Response`) that are all 0 or 1."""
        binary = isinstance(self.family, Binomial) and not response.fractional
        return GLM(Bernoulli(), self.link) if binary else self

    def null_deviance(self, response, intercept, labels=None):
        """Deviance at the mean response, at eta = 0 without intercept (NaN where that is no mean of the family)."""
        if intercept:
            return response.deviance
        return response.deviance_at(self.link.inverse(0.0) if self.link.accepts(0.0) else math.nan)

    def loglik(self, deviance, response, frequency):
        """Log-likelihood, the greatest over the dispersion where that is unknown; `frequency` weights count rows."""
        if self.dispersion_known:
            return response.saturated - 0.5 * deviance
        if frequency:
            response = dataclasses.replace(response, n_kept=response.weight, log_weight=0.0)
        total = response.n_kept if self.is_gaussian else response.weight
        dispersion = deviance / total
        return self.family.log_saturated(response, dispersion) - 0.5 * total if dispersion > 0 else math.inf

    def ends(self):
        """Where means run to a limit: (lowest mean, sign of eta), (highest mean, sign); None where it is finite."""
        found = []
        for mean, inside in zip(self.link.mean_range, (0.25, -0.25)):
            eta = _eta(self.link, mean, inside) if math.isfinite(mean) else 0.0
            found.append((mean, math.copysign(1.0, eta)) if math.isinf(eta) else None)
        return tuple(found)

    def at_limits(self, response):
        """Whether some response is the limit of the mean at an end (else the likelihood falls in every direction), and
        whether all are the same one (the intercept alone runs to infinity)."""
        low, high = self.ends()
        return (bool((low and response.low <= low[0]) or (high and response.high >= high[0])),
                bool((low and response.high <= low[0]) or (high and response.low >= high[0])))

    def constraint_values(self, y, values, sign):
        """Values of each constraint, (n, 2), from those of the linear predictor: up and down."""
        return np.c_[values, sign * values]

    def constrained(self, y):
        """Which constraints a row has, (n, 2) bool: not to fall, not to rise."""
        free = {1.0: np.zeros(len(y), bool), -1.0: np.zeros(len(y), bool)}
        low, high = self.ends()
        if low:
            free[low[1]] |= y <= low[0]
        if high:
            free[high[1]] |= y >= high[0]
        return np.c_[~free[-1.0], ~free[1.0]]

    def constraint_rows(self, Z, y, entry):
        """The constraints' coefficients, (m, k), of rows Z at entries of `constrained`."""
        return Z * np.where(entry == 0, 1.0, -1.0)[:, None]

    def residuals(self, eta, y, weight):
        """(n, 1) derivatives of the log-likelihood of some rows in their linear predictors, (n,), at dispersion 1."""
        return working_rows(self, eta, y, weight)[0][:, None]

    def means(self, eta):
        """(n,) means at (n,) linear predictors."""
        return inverse_link(self.link, eta)

    def mean_state(self, eta):
        """What marginal effects need of the means at (n, 1) linear predictors."""
        return mean_states(self.link, eta[:, 0])

    def slope_sums(self, X, basis, coef, offset, weight, relative):
        """`kernels.margins.slope_sums` of dense rows with few columns; None of others."""
        if X.dtype != np.float64 or not is_narrow(X, basis):
            return None
        return slope_sums(self.link, X, basis, coef, offset, weight, relative)

    @property
    def statistics(self):
        """Names of what `predicted` gives."""
        return ONE + (OBSERVATION if self.is_gaussian and self.link.name == "identity" else ())

    def predicted(self, Z, offset, coef, cov, quantile, dispersion):
        """Means of rows Z of the design with errors and intervals, `quantile` errors to each side, by name."""
        eta, link = Z @ coef + offset, self.link
        se = np.sqrt(np.maximum(tile_quadratic(Z, cov), 0.0))
        low, high = eta - quantile * se, eta + quantile * se
        ends = np.sort([inverse_link(link, low), inverse_link(link, high)], axis=0)       # links may fall
        spread = quantile * np.sqrt(se ** 2 + dispersion)
        return dict(zip(ONE + OBSERVATION, (inverse_link(link, eta), np.abs(slope_rows(link, eta)) * se, *ends, eta, se,
                                            low, high, eta - spread, eta + spread)))


def _eta(link, mean, inside):
    """g(mean); infinite on the side it comes from where a user's formula stumbles over the end."""
    try:
        return link.link(mean)
    except (ValueError, ZeroDivisionError):
        return math.copysign(math.inf, link.link(mean + inside) - link.link(mean + 2.0 * inside))
