"""Estimates, their errors and fit statistics: what the last summary of a fit and its covariance say by themselves."""

import math
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.inference.sandwich import dispersion
from daskglm_rep.labels import shown
from daskglm_rep.versions import Versioned

INTERCEPT = "Intercept"


class Estimates(Versioned):
    """Base of `results.GLMResults`, which documents its attributes and adds tests, effects and tables."""

    def __init__(self, fitted, covariance, classes=None, response="y"):
        self.fitted, self.covariance, self.classes, self.response = fitted, covariance, classes, response

    # ------------------------------------------------------------ estimates

    @property
    def model(self):
        """The family and link, or the multinomial family."""
        return self.fitted.fit.objective.model

    @property
    def outcome(self):
        """What the means are of, in words: a response, the probability of the level modelled, or of several classes."""
        if self.classes is None:
            return self.response
        if self.model.n_responses > 1:
            return f"class of {self.response}"
        return f"P({self.response} = {shown(self.classes[1])!r})"

    @property
    def converged(self):
        """Whether the solver reached `tol`."""
        return self.fitted.fit.converged

    @property
    def where(self):
        """One line: where the sweeps of the fit ran, and why."""
        return self.fitted.where

    @property
    def cov_type(self):
        """Name of the covariance estimator behind `bse`."""
        return self.covariance.cov_type

    @cached_property
    def _kept(self):
        return np.tile(self.fitted.kept, self.model.n_equations)

    @cached_property
    def index(self):
        """Labels of the parameters."""
        intercept = [INTERCEPT] if self.fitted.kept.size > len(self.fitted.names) else []
        names = intercept + self.fitted.names
        return self.model.index(names, self.classes)

    def _spread_out(self, values, rest=math.nan):
        full = np.full(self._kept.size, rest)
        full[self._kept] = values
        return full

    @cached_property
    def params(self):
        """Coefficients of the raw columns; NaN where aliased, 0 where a penalty left them out."""
        fit = self.fitted.fit
        raw = fit.objective.basis.raw(fit.point.coef)
        return pd.Series(self._spread_out(raw, 0.0 if fit.selects else math.nan), self.index, name="coef")

    @property
    def separated_names(self):
        """Coefficients that run to infinity because the data are separated; none where they are not."""
        return self.fitted.separated_names

    def cov_params(self):
        """Covariance matrix of `params` as a DataFrame; NaN rows and columns for aliased columns."""
        full = np.full((self._kept.size,) * 2, math.nan)
        full[np.ix_(self._kept, self._kept)] = self.covariance.matrix
        return pd.DataFrame(full, self.index, self.index)

    @cached_property
    def bse(self):
        """Standard errors of `params`."""
        variance = np.diag(self.covariance.matrix)
        return pd.Series(self._spread_out(np.sqrt(np.where(variance >= 0, variance, math.nan))), self.index,
                         name="std err")

    @property
    def use_t(self):
        """Whether tests use the t distribution, else the normal."""
        return self.covariance.df is not None

    @property
    def distribution(self):
        """scipy's t or normal distribution that tests and intervals use."""
        return stats.t(self.covariance.df) if self.use_t else stats.norm()

    @property
    def _each(self):
        """The distribution of single coefficients, which may have degrees of freedom of their own."""
        each = self.covariance.df_each
        return self.distribution if each is None else stats.t(self._spread_out(each))

    @cached_property
    def tvalues(self):
        """`params` over `bse`: t or z statistics."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.params / self.bse).rename("t" if self.use_t else "z")

    @cached_property
    def pvalues(self):
        """Two-sided p-values of `tvalues`."""
        return pd.Series(2.0 * self._each.sf(np.abs(self.tvalues)), self.index, name="pvalue")

    def conf_int(self, level=0.95, alpha=None):
        """Confidence limits, a DataFrame with columns ci_lower and ci_upper.

        Parameters
        ----------
        level : float in [0.5, 1)
        alpha : float in (0, 0.5], optional
            1 - level, in its place: statsmodels' word.
        """
        half = self._each.ppf(0.5 + confidence_level(level, alpha) / 2) * self.bse
        return pd.DataFrame({"ci_lower": self.params - half, "ci_upper": self.params + half}, self.index)

    # ------------------------------------------------------------ fit statistics

    @property
    def _moments(self):
        return self.fitted.fit.point.moments

    @property
    def nobs(self):
        """Rows of positive weight; the sum of frequency weights."""
        return self.fitted.n_rows

    @property
    def df_model(self):
        """Estimated coefficients but the intercepts."""
        return float(self._kept.sum() - (self._has_intercept * self.model.n_equations))

    @property
    def _has_intercept(self):
        return self.fitted.kept.size > len(self.fitted.names)

    @property
    def df_resid(self):
        """`nobs` less estimated coefficients."""
        return float(self.nobs - self._kept.sum())

    @property
    def deviance(self):
        """Deviance at the estimates."""
        return float(self._moments.deviance)

    @property
    def null_deviance(self):
        """Deviance of the model without the features."""
        return self.fitted.null_deviance

    @property
    def pearson_chi2(self):
        """Pearson's chi-squared, sum of w (y - mu)^2 / V(mu)."""
        return float(self._moments.pearson)

    @property
    def scale(self):
        """Dispersion: 1 where the family knows it, else Pearson's chi-squared over `df_resid`."""
        return dispersion(self.fitted)

    @property
    def alpha(self):
        """Overdispersion of the negative binomial family, given or estimated."""
        if self.model.overdispersion is None:
            raise AttributeError("alpha belongs to the negative binomial family.")
        return self.model.overdispersion

    @property
    def alpha_standard_error(self):
        """Standard error of `alpha`; NaN where it was not estimated."""
        estimated = self.fitted.overdispersion
        return math.nan if estimated is None else estimated.standard_error

    @property
    def llf(self):
        """Log-likelihood at the estimates."""
        return self._loglik(self.deviance)

    @property
    def llnull(self):
        """Log-likelihood of the null model, the greatest over its own dispersion or alpha where that is estimated.

        So is that of statsmodels' NegativeBinomial; `null_deviance` is at the fit's alpha, as R's is.
        """
        own = self.fitted.overdispersion
        return self._loglik(self.null_deviance) if own is None else own.llnull

    def _loglik(self, deviance):
        return self.model.loglik(deviance, self.fitted.survey.response, self.fitted.frequency)

    @property
    def n_parameters(self):
        """Estimated coefficients, and the dispersion or alpha where it is estimated."""
        return float(self._kept.sum() + (not self.model.dispersion_known) + (self.fitted.overdispersion is not None))

    @property
    def aic(self):
        """-2 `llf` + 2 `n_parameters`."""
        return 2.0 * (self.n_parameters - self.llf)

    @property
    def bic(self):
        """-2 `llf` + log(`nobs`) `n_parameters`."""
        return math.log(self.nobs) * self.n_parameters - 2.0 * self.llf

    @property
    def rsquared(self):
        """Share of the response's variance explained; linear models only."""
        if not self.model.is_gaussian:
            raise AttributeError("rsquared belongs to the gaussian family; use prsquared.")
        return 1.0 - self.deviance / self.null_deviance if self.null_deviance else math.nan

    @property
    def rsquared_adj(self):
        """`rsquared` less what as many columns of noise would explain: 1 - (1 - R^2) (n - 1) / (n - k)."""
        total = self.nobs - self._has_intercept
        return 1.0 - (1.0 - self.rsquared) * total / self.df_resid if self.df_resid else math.nan

    @property
    def prsquared(self):
        """McFadden's pseudo R-squared, 1 - llf / llnull."""
        return 1.0 - self.llf / self.llnull if self.llnull else math.nan
