"""Results of debiased estimates: intervals and tests that hold after a penalized fit, one at a time or all at once."""

import dataclasses

import numpy as np
import pandas as pd

from daskglm_rep.combining import COV_TYPES
from daskglm_rep.distributed_estimation import debias_at, first_sweep
from daskglm_rep.estimates import INTERCEPT
from daskglm_rep.inference import simultaneous
from daskglm_rep.inference.hypotheses import TestResult
from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.results import GLMResults
from daskglm_rep.settings import check_choice, check_number

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
    classes : array, optional

    Attributes
    ----------
    approx_inv_cov : DataFrame
        Theta: the inverse of the information a unit of weight, from node-wise regressions.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import DistributedModel
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 10))
    >>> results = DistributedModel(partitions=4).fit(X, X[:, 0] + rng.normal(size=2000)).results_
    >>> results.group_test(["x1", "x2", "x3"]).pvalue > 0.05
    True
    >>> bool(results.simultaneous()["ci_lower"].loc["x0"] > 0.9)
    True
    """

    def __init__(self, fitted, covariance, response, theta, dispersion, classes=None):
        super().__init__(fitted, covariance, classes, response)
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
        which = list(which) if np.iterable(which) and not isinstance(which, str) else [which]
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


def debias(fit, X, y=None, sample_weight=None, offset=None, exposure=None, nodewise_alpha="tuned", n_steps=None,
           cov_type="nonrobust"):
    """Debiased estimates, with intervals and tests that hold, from a penalized fit and its rows.

    b + Theta score(b) / n (van de Geer, Buhlmann, Ritov & Dezeure 2014): `DistributedModel` with the fit in the place
    of the average of its parts. Three sweeps and one for each further step.

    Parameters
    ----------
    fit : fitted estimator or GLMResults
        Of one equation, any penalty.
    X, y, sample_weight, offset, exposure
        The rows of the fit; of a formula's, the data frame alone.
    nodewise_alpha, n_steps, cov_type
        As of `DistributedModel`.

    Returns
    -------
    DebiasedResults

    Raises
    ------
    ValueError
        Multinomial models; rows that are not the fit's, as far as their number and deviance show, or without y.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import GLMRegressor, debias
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 20))
    >>> y = X[:, 0] + rng.normal(size=500)
    >>> lasso = GLMRegressor(alpha=0.1, l1_ratio=1.0).fit(X, y)
    >>> limits = debias(lasso, X, y).conf_int()
    >>> limits.loc["x0"].round(1).tolist()
    [0.9, 1.1]
    """
    results = getattr(fit, "results_", fit)
    if not isinstance(results, GLMResults):
        raise TypeError(f"fit must be a fitted estimator or its results_, got {type(fit).__name__}: call fit(X, y) "
                        "first.")
    model, kind = results.model, "frequency" if results.fitted.frequency else "prior"
    if model.n_equations > 1:
        raise ValueError("debias takes models of one equation, and this one is multinomial: fit its classes in pairs.")
    if nodewise_alpha not in ("theory", "tuned"):
        check_number("nodewise_alpha", nodewise_alpha, lambda v: 0 <= v < np.inf, ">= 0, or 'theory' or 'tuned'")
    check_choice("cov_type", cov_type, COV_TYPES)
    data = results._data(X, y, sample_weight, offset, exposure)
    prepared = first_sweep(data, model, results._has_intercept, False, 0, False)
    n_rows = prepared.n_rows(kind)
    if abs(n_rows - results.nobs) > 1e-9 * results.nobs:
        raise ValueError(f"The fit had {results.nobs:,.10g} rows and this data has {n_rows:,.10g} that "
                         "count: pass the rows, sample_weight and offset of the fit.")
    coef = prepared.standardised(np.nan_to_num(results.params.to_numpy()))
    found = debias_at(prepared, coef, results.deviance, nodewise_alpha, n_steps, cov_type, kind)
    fitted = dataclasses.replace(found.fitted, n_passes=data.n_passes)
    return DebiasedResults(fitted, found.covariance, results.response, found.theta, found.dispersion, results.classes)
