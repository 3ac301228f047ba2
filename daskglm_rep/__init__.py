"""daskglm_rep: exact generalized linear models on chunked data, with inference."""

from daskglm_rep import datasets, families, links, localised, partitions, penalties, plotting
from daskglm_rep.backends import backend
from daskglm_rep.classifiers import GLMClassifier, LogisticRegression
from daskglm_rep.comparison import compare
from daskglm_rep.debiased_results import debias
from daskglm_rep.distributed_models import DistributedModel
from daskglm_rep.formula import glm, lm, logit, mnlogit
from daskglm_rep.model_selection import (ElasticNetCV, ElasticNetPath, GLMCV, LassoCV, LogisticRegressionCV,
                                         RidgeCV)
from daskglm_rep.regressors import (GammaRegressor, GLMRegressor, InverseGaussianRegressor, LinearRegression,
                                    NegativeBinomialRegressor, PoissonRegressor, TweedieRegressor)
from daskglm_rep.representative_models import RepresentativeGLM
from daskglm_rep.rival_models import DivideAndConquerGLM, StochasticGLM, SubsampledGLM
from daskglm_rep.telling import (AliasWarning, CovarianceWarning, FormulaWarning, PenaltyWarning, ReadWarning,
                                  SeparationWarning, VersionWarning)
from daskglm_rep.versions import __version__, load

__all__ = ["DistributedModel", "DivideAndConquerGLM", "StochasticGLM", "SubsampledGLM",
           "ElasticNetCV", "ElasticNetPath", "GLMCV", "LassoCV", "LogisticRegressionCV", "RidgeCV",
           "GLMClassifier", "GLMRegressor", "GammaRegressor", "InverseGaussianRegressor", "LinearRegression",
           "LogisticRegression", "NegativeBinomialRegressor", "PoissonRegressor", "TweedieRegressor",
           "AliasWarning", "CovarianceWarning", "FormulaWarning", "PenaltyWarning", "ReadWarning",
           "SeparationWarning", "VersionWarning",
           "RepresentativeGLM", "__version__", "backend", "compare", "datasets", "debias", "families", "glm", "links",
           "lm", "load", "localised", "logit", "mnlogit", "partitions", "penalties", "plotting"]
