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
    """Generalized linear model of any family and link whose penalty is chosen by cross-validation."""

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
    """Linear regression under an elastic net chosen by cross-validation: folds, alphas, l1_ratios from one sweep."""

    l1_ratio: float | Sequence[float] = 0.5


@documented("")
class LassoCV(_LinearCV):
    """Linear regression under a lasso chosen by cross-validation: every fold and alpha from one sweep."""

    def _l1_ratios(self):
        return (1.0,)


@documented("")
class RidgeCV(_LinearCV):
    """Linear regression under a ridge chosen by cross-validation: every fold and alpha from one sweep.

    alpha multiplies `|b|^2 / 2` beside the *mean* of half the squared residuals: it is scikit-learn's over the number of
    rows.
    """

    def _l1_ratios(self):
        return (0.0,)
