"""daskglm_rep: exact generalized linear models on chunked data, with inference."""

import importlib
from typing import TYPE_CHECKING

from daskglm_rep import families, links, penalties
from daskglm_rep.classifiers import GLMClassifier, LogisticRegression
from daskglm_rep.regressors import (GammaRegressor, GLMRegressor, InverseGaussianRegressor, LinearRegression,
                                    NegativeBinomialRegressor, PoissonRegressor, TweedieRegressor)
from daskglm_rep.telling import (AliasWarning, CovarianceWarning, FormulaWarning, PenaltyWarning, ReadWarning,
                                  SeparationWarning, VersionWarning)
from daskglm_rep.versions import __version__, load

if TYPE_CHECKING:
    from daskglm_rep import datasets, localised, partitions, plotting
    from daskglm_rep.backends import backend
    from daskglm_rep.comparison import compare
    from daskglm_rep.debiased_results import debias
    from daskglm_rep.distributed_models import DistributedModel
    from daskglm_rep.formula import glm, lm, logit, mnlogit
    from daskglm_rep.model_selection import (ElasticNetCV, ElasticNetPath, GLMCV, LassoCV, LogisticRegressionCV,
                                             RidgeCV)
    from daskglm_rep.representative_models import RepresentativeGLM
    from daskglm_rep.rival_models import DivideAndConquerGLM, StochasticGLM, SubsampledGLM

__all__ = ["DistributedModel", "DivideAndConquerGLM", "StochasticGLM", "SubsampledGLM",
           "ElasticNetCV", "ElasticNetPath", "GLMCV", "LassoCV", "LogisticRegressionCV", "RidgeCV",
           "GLMClassifier", "GLMRegressor", "GammaRegressor", "InverseGaussianRegressor", "LinearRegression",
           "LogisticRegression", "NegativeBinomialRegressor", "PoissonRegressor", "TweedieRegressor",
           "AliasWarning", "CovarianceWarning", "FormulaWarning", "PenaltyWarning", "ReadWarning",
           "SeparationWarning", "VersionWarning",
           "RepresentativeGLM", "__version__", "backend", "compare", "datasets", "debias", "families", "glm", "links",
           "lm", "load", "localised", "logit", "mnlogit", "partitions", "penalties", "plotting"]

# Imported when they are first asked for: a process that fits arrays needs none of them.
_LATE = {"backends": ("backend",), "comparison": ("compare",), "debiased_results": ("debias",),
         "distributed_models": ("DistributedModel",), "formula": ("glm", "lm", "logit", "mnlogit"),
         "model_selection": ("ElasticNetCV", "ElasticNetPath", "GLMCV", "LassoCV", "LogisticRegressionCV", "RidgeCV"),
         "representative_models": ("RepresentativeGLM",),
         "rival_models": ("DivideAndConquerGLM", "StochasticGLM", "SubsampledGLM"),
         "datasets": (), "localised": (), "partitions": (), "plotting": ()}


def __getattr__(name):
    for module, names in _LATE.items():
        if name == module or name in names:
            found = importlib.import_module(f"{__name__}.{module}")
            globals().update({name: getattr(found, name) for name in names})
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
