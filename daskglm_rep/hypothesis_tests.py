"""Tests of hypotheses on the coefficients, in statsmodels' and marginaleffects' words."""

import math

import numpy as np

from daskglm_rep import design
from daskglm_rep.estimates import Estimates
from daskglm_rep.inference import contrasts, hypotheses
from daskglm_rep.inference.restrictions import labels, restrictions
from daskglm_rep.pairing import check_order


class HypothesisTests(Estimates):
    """What `results.GLMResults` knows of tests; it says what rows are, in `_data`.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> round(float(results.wald_test("age = 0, C(plan)[T.b] = 0").pvalue), 4)
    0.049
    >>> results.t_test("10 * age = 0").frame.round(3).iloc[0, :3].to_dict()
    {'coef': 0.481, 'std err': 0.197, 'z': 2.44}
    >>> results.hypotheses("exp(10 * age) = 1").frame.round(3).iloc[0, :3].to_dict()
    {'coef': 0.618, 'std err': 0.319, 'z': 1.937}
    >>> results.anova()["chi2"].round(3).to_dict()
    {'age': 5.952, 'C(plan)': 0.017}
    >>> round(float(results.term_test("C(plan)").pvalue), 4)
    0.8955
    >>> round(float(results.lr_test(glm("visits ~ C(plan)", data, family="poisson")).pvalue), 5)
    0.01208
    """

    spec = None          # of a formula; its results set it

    def wald_test(self, R, q=None):
        """Wald test of R b = q with this covariance.

        Parameters
        ----------
        R : str or (r, k) array
            A matrix over all `params`, or equations: "x1 = x2, C(g)[T.b] + 2*x3 = 1". For multinomial models "class:x1"
            names one coefficient and "x1" those of all classes.
        q : float or (r,) array, default 0

        Returns
        -------
        inference.hypotheses.TestResult
            F where t tests are used, else chi-squared.

        Raises
        ------
        ValueError
            Names or syntax that are not understood, redundant restrictions, coefficients that are not estimated.
        """
        return self._wald(R, q, self.covariance.df)

    def f_test(self, R, q=None):
        """`wald_test` as an F test whatever the family, with `df_resid` denominator degrees of freedom (statsmodels').

        Parameters
        ----------
        R, q
            As for `wald_test`.

        Returns
        -------
        inference.hypotheses.TestResult
        """
        return self._wald(R, q, self.df_resid if self.covariance.df is None else self.covariance.df)

    def _wald(self, R, q, df):
        text = R if isinstance(R, str) else ""
        R, q = restrictions(R, q, self.index)
        return hypotheses.wald(self.params.to_numpy(), self.cov_params().to_numpy(), R, q, df, text)

    def t_test(self, R, q=None):
        """Test each row of R b = q by itself, with estimates and intervals of R b.

        Parameters
        ----------
        R, q
            As for `wald_test`.

        Returns
        -------
        inference.contrasts.Contrasts
            With effect, sd, tvalue, pvalue, `conf_int()` and `summary_frame()`.
        """
        words = contrasts.equations(R) if isinstance(R, str) else []
        R, q = restrictions(R, q, self.index)
        names = words if len(words) == len(R) else [f"c{j}" for j in range(len(R))]
        return contrasts.linear(self.params.to_numpy(), self.cov_params().to_numpy(), R, q, self._degrees(R), names)

    def _degrees(self, R):
        """Degrees of freedom of each row of R b: a coefficient's own where a row has one and these differ."""
        df, each = self.covariance.df, self.covariance.df_each
        if df is None:
            return None
        found, single = np.full(len(R), float(df)), (R != 0).sum(axis=1) == 1
        if each is not None:
            found[single] = (R[single] != 0) @ np.nan_to_num(self._spread_out(each))
        return found

    def hypotheses(self, hypothesis=None):
        """Functions of coefficients with delta-method errors, each tested against zero: marginaleffects' word.

        Parameters
        ----------
        hypothesis : str, optional
            Equations separated by commas, linear or not: "exp(x1) = 2, x1 * x2 = 1, x1 / x2". An equation is its
            left-hand side less its right-hand side. Functions are exp, log and sqrt; names are those of `wald_test`.
            Default every coefficient by itself.

        Returns
        -------
        inference.contrasts.Contrasts
        """
        params, matrix = self.params.to_numpy(), self.cov_params().to_numpy()
        if hypothesis is not None:
            return contrasts.nonlinear(hypothesis, params, matrix, self.index, self._degrees)
        R = np.eye(params.size)[self._kept]
        names = np.array(labels(self.index), object)[self._kept]
        return contrasts.linear(params, matrix, R, np.zeros(len(R)), self._degrees(R), names)

    @property
    def fvalue(self):
        """F statistic of all coefficients but the intercept, with this covariance; linear models only."""
        return self._overall().statistic

    @property
    def f_pvalue(self):
        """p-value of `fvalue`."""
        return self._overall().pvalue

    def _overall(self):
        if not self.model.is_gaussian:
            raise AttributeError("fvalue belongs to the gaussian family; use anova() or lr_test.")
        R = np.eye(self._kept.size)[self._kept][int(self._has_intercept and self.fitted.kept[0]):]
        return self.f_test(R) if len(R) else hypotheses.TestResult("Wald", math.nan, 0.0, self.df_resid, math.nan, "F")

    def _terms(self):
        return hypotheses.term_positions(self.spec, self.fitted.names, self._has_intercept, self.model.n_equations)

    def term_test(self, term):
        """Joint Wald test of all coefficients of a term of the formula (a factor's levels), or of one feature.

        Parameters
        ----------
        term : str

        Returns
        -------
        inference.hypotheses.TestResult
        """
        positions = self._terms()
        if term not in positions:
            raise ValueError(f"There is no term {term!r}: choose one of {', '.join(map(repr, list(positions)[:20]))}.")
        params = self.params.to_numpy()
        where = positions[term][~np.isnan(params[positions[term]])]
        R = np.eye(params.size)[where]
        return hypotheses.wald(params, self.cov_params().to_numpy(), R, np.zeros(len(R)), self.covariance.df, term)

    def anova(self):
        """Wald test of each term of the formula given all others, with this covariance.

        Returns
        -------
        DataFrame
            Indexed by term (by feature without a formula); columns df, F and df_denom or chi2, pvalue.
        """
        return hypotheses.anova(self.params.to_numpy(), self.cov_params().to_numpy(), self._terms(), self.covariance.df)

    def lr_test(self, smaller, test="chi2", check=True):
        """Likelihood-ratio test against a nested fit of the same rows.

        Parameters
        ----------
        smaller : GLMResults
        test : {"chi2", "F"}
            "F" compares deviances in units of this fit's dispersion.
        check : bool, default True
            Refuse a smaller fit with a column that this one lacks, by name (of arrays, whose columns have no names, by
            mean, spread and extremes). False leaves nesting to you: the columns may span the same space otherwise, as
            those of poly(x, 2) and poly(x, 3) do.

        Returns
        -------
        inference.hypotheses.TestResult
        """
        return hypotheses.likelihood_ratio(self, getattr(smaller, "results_", smaller), test, check)

    def score_test(self, added, X, y, sample_weight=None, offset=None, exposure=None):
        """Score test of columns that are not in the model: one sweep, no refit; model-based information.

        Parameters
        ----------
        added : (n,) or (n, m) of X's kind
        X, y, sample_weight, offset, exposure
            The rows of the fit.

        Returns
        -------
        inference.hypotheses.TestResult
        """
        check_order(X, [("added", added)])
        both, n_added = design.beside(X, added)
        recipe = {} if self.classes is None else {"labels": tuple(self.classes)}
        data = design.build(both, y, sample_weight, offset, exposure, response=self.response, **recipe)
        return hypotheses.score(self.fitted, data, n_added)

    def wild_cluster_test(self, R, X=None, y=None, clusters=None, q=None, sample_weight=None, offset=None,
                          exposure=None, n_boot=9999, weights="rademacher", seed=0):
        """Wild cluster bootstrap test of R b = q, for few clusters: one sweep, no refit.

        Parameters
        ----------
        R, q
            As in `wald_test`.
        X, y, clusters, sample_weight, offset, exposure
            The rows of the fit; one cluster column.
        n_boot : int
        weights : {"rademacher", "webb"}
        seed : int

        Returns
        -------
        inference.hypotheses.TestResult
        """
        text = R if isinstance(R, str) else ""
        R, q = restrictions(R, q, self.index)
        if (R[:, ~self._kept] != 0).any():
            raise ValueError("The hypothesis involves a coefficient that is not estimated (NaN): leave it out.")
        data = self._data(X, y, sample_weight, offset, exposure, clusters)
        return hypotheses.wild_cluster(self.fitted, data, R[:, self._kept], q, n_boot, weights, seed, text)
