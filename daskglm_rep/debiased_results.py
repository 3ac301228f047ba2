"""Results of debiased estimates: intervals and tests that hold after a penalized fit, one at a time or all at once."""

import numpy as np
import pandas as pd

from daskglm_rep.estimates import INTERCEPT
from daskglm_rep.inference import simultaneous
from daskglm_rep.inference.hypotheses import TestResult
from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.results import GLMResults

N_DRAWS = 100_000


class DebiasedResults(GLMResults):
    """Debiased estimates with standard errors and fit statistics: `GLMResults`, and what holds for groups.

    Parameters
    ----------
    fitted, covariance, response
        As of `GLMResults`.
    theta : (k, k) array
        The approximate inverse covariance, of the coefficients that are not aliased.
    dispersion : float

    Attributes
    ----------
    approx_inv_cov : DataFrame
        Theta: the inverse of the information a unit of weight, from node-wise regressions.
    """

    def __init__(self, fitted, covariance, response, theta, dispersion):
        super().__init__(fitted, covariance, None, response)
        self._theta, self._dispersion = theta, dispersion

    @property
    def scale(self):
        """Dispersion: 1 where the family knows it, else Pearson's chi-squared over the degrees of freedom left."""
        return self._dispersion

    @property
    def approx_inv_cov(self):
        names = self.index[self._kept]
        return pd.DataFrame(self._theta, names, names)

    def with_covariance(self, cov_type=None, *rows, **options):
        """Refused: a debiased estimate's covariance is made in the sweeps of its fit."""
        raise ValueError("Debiased estimates have the covariance of their own fit: choose it there, DistributedModel("
                         "cov_type='nonrobust' or 'HC0').")

    def _group(self, which):
        """Positions of some coefficients; default all but the intercept."""
        index = list(self.index)
        if which is None:
            which = [name for name in index if name != INTERCEPT]
        which = [which] if isinstance(which, str) else list(which)
        unknown = [name for name in which if name not in index]
        if unknown or not which:
            raise ValueError(f"There is no coefficient {unknown[0]!r}: choose among {', '.join(map(repr, index[:20]))}."
                             if unknown else "No coefficient is named: pass a list of names, or None for all.")
        positions = np.array([index.index(name) for name in which])
        lost = self.bse.to_numpy()[positions]
        if not (lost > 0).all():
            raise ValueError(f"{which[int(np.argmin(lost > 0))]!r} has no standard error: leave it out.")
        return positions

    def _draws(self, positions, n_draws, seed):
        covariance = self.cov_params().to_numpy()[np.ix_(positions, positions)]
        return simultaneous.largest(covariance, self.covariance.df, n_draws, seed)

    def group_test(self, which=None, method="max", n_draws=N_DRAWS, seed=0):
        """Test that all coefficients of a group are zero.

        Parameters
        ----------
        which : str or list of str, optional
            Default: all but the intercept.
        method : {"max", "chi2"}
            The largest |b_j| / se_j against its law under all correlations (Zhang & Cheng 2017), strong where few
            coefficients are not zero, for groups of any size; or Wald's quadratic form, for groups much smaller than n.
        n_draws, seed : int
            Of the law of the largest.

        Returns
        -------
        inference.hypotheses.TestResult
        """
        positions = self._group(which)
        label = ", ".join(map(str, self.index[positions][:5])) + ", ..." * (positions.size > 5)
        if method == "chi2":
            return self.wald_test(np.eye(self.index.size)[positions])
        if method != "max":
            raise ValueError(f"method={method!r} is not known: choose 'max' or 'chi2'.")
        largest = float(np.abs(self.tvalues.to_numpy()[positions]).max())
        pvalue = float(simultaneous.beyond(self._draws(positions, n_draws, seed), largest))
        return TestResult("Largest statistic", largest, float(positions.size), None, pvalue, "max", label)

    def simultaneous(self, which=None, level=0.95, alpha=None, n_draws=N_DRAWS, seed=0):
        """Intervals that all hold at once, and p-values adjusted for looking at all.

        Parameters
        ----------
        which : str or list of str, optional
            Default: all but the intercept.
        level, alpha : float
            As for `conf_int`.
        n_draws, seed : int

        Returns
        -------
        DataFrame
            coef, std err, pvalue (adjusted: the chance that the largest of the group is as large), ci_lower, ci_upper.
        """
        positions = self._group(which)
        draws = self._draws(positions, n_draws, seed)
        quantile = float(np.quantile(draws, confidence_level(level, alpha)))
        coef, se = self.params.iloc[positions], self.bse.iloc[positions]
        pvalues = pd.Series(simultaneous.beyond(draws, np.abs(coef / se)), coef.index, name="pvalue")
        return pd.concat([coef, se, pvalues, (coef - quantile * se).rename("ci_lower"),
                          (coef + quantile * se).rename("ci_upper")], axis=1)
