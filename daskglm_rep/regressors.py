"""The regressors: one class a family, and one for any family and link."""

import dataclasses
import math
import numbers

from daskglm_rep import families, links
from daskglm_rep.estimators import _ExactBase, _GLMRegressorBase, documented

FAMILY_HEAD = """    family : str or families.Family, default "gaussian"
    link : str or links.Link, optional
        Default: the family's.
"""
LINK_HEAD = """    link : str or links.Link, default "log"
"""


class _ExactRegressor(_ExactBase, _GLMRegressorBase):
    """An exact fit of a numeric response."""


@documented(FAMILY_HEAD)
@dataclasses.dataclass(eq=False, repr=False)
class GLMRegressor(_ExactRegressor):
    """Generalized linear model of any family and link."""

    family: str | families.Family = "gaussian"
    link: str | links.Link | None = None

    def _glm(self):
        return families.GLM.of(self.family, self.link)


@documented()
class LinearRegression(_ExactRegressor):
    """Linear regression: gaussian family, identity link."""

    def _glm(self):
        return families.GLM.of("gaussian")


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class _LinkRegressor(_ExactRegressor):
    link: str | links.Link = "log"

    _family = None

    def _glm(self):
        return families.GLM.of(self._family, self.link)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags


@documented(LINK_HEAD)
class PoissonRegressor(_LinkRegressor):
    """Poisson regression of counts or rates >= 0."""

    _family = "poisson"


@documented(LINK_HEAD)
class GammaRegressor(_LinkRegressor):
    """Gamma regression of positive responses."""

    _family = "gamma"


@documented(LINK_HEAD)
class InverseGaussianRegressor(_LinkRegressor):
    """Inverse gaussian regression of positive responses."""

    _family = "inverse_gaussian"


@documented("""    power : float in (1, 2), default 1.5
        Variance power.
""" + LINK_HEAD)
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class TweedieRegressor(_LinkRegressor):
    """Tweedie regression, variance mu^power: responses >= 0 with a mass at zero."""

    power: float = 1.5

    def _glm(self):
        return families.GLM.of(families.Tweedie(self.power), self.link)


@documented("""    overdispersion : float > 0 or "estimate", default "estimate"
        That of the variance mu + overdispersion mu^2; "estimate" alternates maximum likelihood of it and of the
        coefficients. `overdispersion_` and `overdispersion_standard_error_` (NaN where it was given) hold it.
""" + LINK_HEAD)
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class NegativeBinomialRegressor(_LinkRegressor):
    """Negative binomial (NB2) regression of counts."""

    overdispersion: float | str = "estimate"

    def _check_parameters(self):
        super()._check_parameters()
        if isinstance(self.alpha, str):
            raise ValueError(f"alpha is the penalty, a number, and got {self.alpha!r}: the overdispersion of the "
                             f"negative binomial is set by overdispersion={self.alpha!r}.")
        given = self.overdispersion
        if given != "estimate" and not (isinstance(given, numbers.Real) and 0 < given < math.inf):
            raise ValueError('overdispersion must be a finite number > 0 or "estimate" (without overdispersion use '
                             f"PoissonRegressor), got {given!r}.")

    def _glm(self):
        return families.GLM.of(families.NegativeBinomial(self.overdispersion), self.link)
