"""The regressors: one class a family, and one for any family and link."""

import dataclasses
import math
import numbers

from daskglm_rep import families, links
from daskglm_rep.estimators import _ExactBase, _GLMRegressorBase, documented
from daskglm_rep.models.glm import GLM

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
    """Generalized linear model of any family and link.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import GLMRegressor
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = GLMRegressor("gamma", "log", cov_type="HC1").fit(X, [1.0, 1.9, 2.4, 3.3, 3.9, 5.1])
    >>> model.coef_.round(3)
    array([0.823])
    >>> model.predict(X[:2]).round(3)
    array([1.279, 1.637])
    """

    family: str | families.Family = "gaussian"
    link: str | links.Link | None = None

    def _glm(self):
        return GLM.of(self.family, self.link)


@documented()
class LinearRegression(_ExactRegressor):
    """Linear regression: gaussian family, identity link.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import LinearRegression
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = LinearRegression().fit(X, [1.0, 1.9, 2.4, 3.3, 3.9, 5.1])
    >>> model.coef_.round(3)
    array([2.172])
    >>> print(model.results_.summary_frame().round(3).to_string())
                coef  std err       t  pvalue  ci_lower  ci_upper
    feature
    Intercept  0.834    0.139   6.017   0.004     0.449     1.219
    x0         2.172    0.121  17.950   0.000     1.836     2.507
    """

    def _glm(self):
        return GLM.of("gaussian")


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class _LinkRegressor(_ExactRegressor):
    link: str | links.Link = "log"

    _family = None

    def _glm(self):
        return GLM.of(self._family, self.link)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags


@documented(LINK_HEAD)
class PoissonRegressor(_LinkRegressor):
    """Poisson regression of counts or rates >= 0.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import PoissonRegressor
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = PoissonRegressor().fit(X, [1, 0, 2, 3, 4, 9])
    >>> model.coef_.round(3)
    array([1.533])
    >>> model.results_.bse.round(3).to_dict()
    {'Intercept': 0.719, 'x0': 0.46}
    >>> model.predict(X[:2], exposure=[1.0, 2.0]).round(3)
    array([0.551, 1.745])
    """

    _family = "poisson"


@documented(LINK_HEAD)
class GammaRegressor(_LinkRegressor):
    """Gamma regression of positive responses.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import GammaRegressor
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = GammaRegressor().fit(X, [1.0, 1.9, 2.4, 3.3, 3.9, 5.1])
    >>> model.coef_.round(3)
    array([0.823])
    >>> round(float(model.dispersion_), 4)
    0.026
    """

    _family = "gamma"


@documented(LINK_HEAD)
class InverseGaussianRegressor(_LinkRegressor):
    """Inverse gaussian regression of positive responses.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import InverseGaussianRegressor
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = InverseGaussianRegressor().fit(X, [1.0, 1.9, 2.4, 3.3, 3.9, 5.1])
    >>> model.coef_.round(3)
    array([0.927])
    """

    _family = "inverse_gaussian"


@documented("""    power : float in (1, 2), default 1.5
        Variance power.
""" + LINK_HEAD)
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class TweedieRegressor(_LinkRegressor):
    """Tweedie regression, variance mu^power: responses >= 0 with a mass at zero.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import TweedieRegressor
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = TweedieRegressor(power=1.3).fit(X, [0.0, 1.9, 0.0, 3.3, 3.9, 5.1])
    >>> model.coef_.round(3)
    array([1.305])
    """

    power: float = 1.5

    def _glm(self):
        return GLM.of(families.Tweedie(self.power), self.link)


@documented("""    overdispersion : float > 0 or "estimate", default "estimate"
        That of the variance mu + overdispersion mu^2; "estimate" alternates maximum likelihood of it and of the
        coefficients. `overdispersion_` and `overdispersion_standard_error_` (NaN where it was given) hold it.
""" + LINK_HEAD)
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class NegativeBinomialRegressor(_LinkRegressor):
    """Negative binomial (NB2) regression of counts.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import NegativeBinomialRegressor
    >>> X = np.array([[0.1], [0.4], [0.8], [1.1], [1.5], [1.9]])
    >>> model = NegativeBinomialRegressor().fit(X, [3, 0, 7, 1, 2, 19])
    >>> model.coef_.round(3)
    array([1.077])
    >>> round(model.overdispersion_, 3)
    0.709
    """

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
        return GLM.of(families.NegativeBinomial(self.overdispersion), self.link)
