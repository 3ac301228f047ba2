"""The cross-validated classifier."""

import dataclasses
from collections.abc import Sequence

from daskglm_rep.classifiers import CLASS_WEIGHT, _GLMClassifierBase
from daskglm_rep.model_selection.cross_validation import _CVBase, documented
from daskglm_rep.model_selection.regressors import RATIO_HEAD
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial


@documented(RATIO_HEAD.format(default=0) + CLASS_WEIGHT)
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class LogisticRegressionCV(_GLMClassifierBase, _CVBase):
    """Logistic regression under a penalty chosen by cross-validation: the least held-out deviance.

    The mean deviance is twice the log loss; alpha is 1 / (C n) of scikit-learn's. Of three classes or more `coefs_` is
    (n_classes, n_features, n_alphas) and `intercepts_` (n_classes, n_alphas), and fits follow each other along each
    path, two or three sweeps a fit.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import LogisticRegressionCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 4))
    >>> model = LogisticRegressionCV(l1_ratio=1.0, n_alphas=20).fit(X, X[:, 0] + rng.logistic(size=300) > 0)
    >>> model.coef_.round(2)
    array([[ 0.68,  0.  ,  0.23, -0.09]])
    """

    l1_ratio: float | Sequence[float] = 0.0

    def _glm(self):
        return GLM.of("binomial")

    def _class_model(self, n_classes):
        return self._glm() if n_classes == 2 else Multinomial(n_classes)
