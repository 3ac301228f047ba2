"""Cross-validated regressors: any family, and the linear model under scikit-learn's names."""

import dataclasses
from collections.abc import Sequence

from daskglm_rep import families, links
from daskglm_rep.estimators import _BinomialProbabilities, _GLMRegressorBase
from daskglm_rep.model_selection.cross_validation import _CVBase, documented
from daskglm_rep.models.glm import GLM

RATIO_HEAD = """    l1_ratio : float in [0, 1] or several, default {default}
        Share of the absolute-value penalty; of several the best is chosen with the alpha.
"""


@documented("""    family : str or families.Family, default "gaussian"
    link : str or links.Link, optional
        Default: the family's.
""" + RATIO_HEAD.format(default=1))
@dataclasses.dataclass(eq=False, repr=False)
class GLMCV(_BinomialProbabilities, _CVBase, _GLMRegressorBase):
    """Generalized linear model of any family and link whose penalty is chosen by cross-validation.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import GLMCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 4))
    >>> model = GLMCV("gaussian", l1_ratio=0.9, n_alphas=10, cv=3).fit(X, X[:, 0] + rng.normal(size=300))
    >>> model.coef_.round(2)
    array([0.94, 0.  , 0.  , 0.  ])
    """

    family: str | families.Family = "gaussian"
    link: str | links.Link | None = None
    l1_ratio: float | Sequence[float] = dataclasses.field(default=1.0, kw_only=True)

    def _glm(self):
        return GLM.of(self.family, self.link)


class _LinearCV(_CVBase, _GLMRegressorBase):
    """A linear model: all folds, alphas and l1_ratios from one sweep."""

    def _glm(self):
        return GLM.of("gaussian")


@documented(RATIO_HEAD.format(default=0.5))
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class ElasticNetCV(_LinearCV):
    """Linear regression under an elastic net chosen by cross-validation: folds, alphas, l1_ratios from one sweep.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import ElasticNetCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 5))
    >>> model = ElasticNetCV(n_alphas=20, cv=4).fit(X, X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=200))
    >>> model.coef_.round(2)
    array([ 1.  , -0.53, -0.01,  0.02,  0.06])
    >>> round(model.alpha_, 3)
    0.057
    """

    l1_ratio: float | Sequence[float] = 0.5


@documented("")
class LassoCV(_LinearCV):
    """Linear regression under a lasso chosen by cross-validation: every fold and alpha from one sweep.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import LassoCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 5))
    >>> model = LassoCV(n_alphas=20, cv=4).fit(X, X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=200))
    >>> model.coef_.round(2)
    array([ 1.02, -0.53,  0.  ,  0.01,  0.05])
    >>> round(model.alpha_, 3)
    0.046
    """

    def _l1_ratios(self):
        return (1.0,)


@documented("")
class RidgeCV(_LinearCV):
    """Linear regression under a ridge chosen by cross-validation: every fold and alpha from one sweep.

    alpha multiplies `|b|^2 / 2` beside the *mean* of half the squared residuals: it is scikit-learn's over the number
    of rows.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RidgeCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 5))
    >>> model = RidgeCV(n_alphas=20, cv=4).fit(X, X[:, 0] - 0.5 * X[:, 1] + rng.normal(size=200))
    >>> model.coef_.round(2)
    array([ 0.98, -0.52, -0.03,  0.04,  0.08])
    >>> round(model.alpha_, 3)
    0.085
    """

    def _l1_ratios(self):
        return (0.0,)
