"""daskglm_rep: exact generalized linear models on chunked data, with inference."""

from daskglm_rep import families, links
from daskglm_rep.estimators import (GammaRegressor, GLMClassifier, GLMRegressor, InverseGaussianRegressor,
                                    LinearRegression, LogisticRegression, NegativeBinomialRegressor, PoissonRegressor,
                                    TweedieRegressor)

__version__ = "0.1.0"

__all__ = ["GLMClassifier", "GLMRegressor", "GammaRegressor", "InverseGaussianRegressor", "LinearRegression",
           "LogisticRegression", "NegativeBinomialRegressor", "PoissonRegressor", "TweedieRegressor", "families", "links"]
