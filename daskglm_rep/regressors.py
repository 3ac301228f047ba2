"""The regressors: one class a family, and one for any family and link."""

from daskglm_rep import families
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
class GLMRegressor(_ExactRegressor):
    """Generalized linear model of any family and link."""

    def __init__(self, family="gaussian", link=None, alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto",
                 max_iter=100, tol=1e-6, cov_type=None, standardize=False, penalty_factor=None,
                 weights_kind="prior", warm_start=False, random_state=0, rank="warn", verbose=0):
        super().__init__(alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize, penalty_factor,
                         weights_kind, warm_start, random_state, rank, verbose)
        self.family = family
        self.link = link

    def _glm(self):
        return families.GLM.of(self.family, self.link)


@documented()
class LinearRegression(_ExactRegressor):
    """Linear regression: gaussian family, identity link."""

    def _glm(self):
        return families.GLM.of("gaussian")


class _LinkRegressor(_ExactRegressor):
    def __init__(self, link="log", alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto", max_iter=100, tol=1e-6,
                 cov_type=None, standardize=False, penalty_factor=None, weights_kind="prior", warm_start=False,
                 random_state=0, rank="warn", verbose=0):
        super().__init__(alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize, penalty_factor,
                         weights_kind, warm_start, random_state, rank, verbose)
        self.link = link

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
class TweedieRegressor(_LinkRegressor):
    """Tweedie regression, variance mu^power: responses >= 0 with a mass at zero."""

    def __init__(self, power=1.5, link="log", alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto", max_iter=100,
                 tol=1e-6, cov_type=None, standardize=False, penalty_factor=None, weights_kind="prior",
                 warm_start=False, random_state=0, rank="warn", verbose=0):
        super().__init__(link, alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize,
                         penalty_factor, weights_kind, warm_start, random_state, rank, verbose)
        self.power = power

    def _glm(self):
        return families.GLM.of(families.Tweedie(self.power), self.link)


@documented("""    alpha : float or "estimate", default "estimate"
        Overdispersion of the variance mu + alpha mu^2 (not a penalty: that is `penalty` here); "estimate" alternates
        maximum likelihood of it and of the coefficients; then `alpha_` and `alpha_standard_error_` hold it.
""" + LINK_HEAD, penalty="penalty")
class NegativeBinomialRegressor(_LinkRegressor):
    """Negative binomial (NB2) regression of counts."""

    _penalty = "penalty"

    def __init__(self, alpha="estimate", link="log", penalty=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto",
                 max_iter=100, tol=1e-6, cov_type=None, standardize=False, penalty_factor=None,
                 weights_kind="prior", warm_start=False, random_state=0, rank="warn", verbose=0):
        super().__init__(link, alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize,
                         penalty_factor, weights_kind, warm_start, random_state, rank, verbose)
        self.penalty = penalty

    def _glm(self):
        return families.GLM.of(families.NegativeBinomial(self.alpha), self.link)
