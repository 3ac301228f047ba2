"""Whole paths of penalties, and the choice of one by cross-validation, in a handful of sweeps."""

from daskglm_rep.model_selection.classifiers import LogisticRegressionCV
from daskglm_rep.model_selection.path import ElasticNetPath
from daskglm_rep.model_selection.regressors import ElasticNetCV, GLMCV, LassoCV, RidgeCV

__all__ = ["ElasticNetCV", "ElasticNetPath", "GLMCV", "LassoCV", "LogisticRegressionCV", "RidgeCV"]
