"""Results in statsmodels' words: a fitted state and thin methods over `inference`."""

import copy
import functools

import numpy as np
import pandas as pd
import xarray as xr

from daskglm_rep import design
from daskglm_rep.hypothesis_tests import HypothesisTests
from daskglm_rep.inference import covariance as cov, influence, prediction
from daskglm_rep.inference.fit_checks import FitChecks
from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.readers import as_features
from daskglm_rep.marginal_effects import MarginalEffects
from daskglm_rep.plotting import plot_coefficients
from daskglm_rep.rowwise import like, map_rows
from daskglm_rep.tables import Summary
from daskglm_rep.versions import load, save


class GLMResults(HypothesisTests, MarginalEffects):
    """Estimates, standard errors and fit statistics.

    Parameters
    ----------
    fitted : fitted.Fitted
    covariance : inference.sandwich.Covariance
    classes : array, optional
        Class labels, baseline first, for classification.
    response : str
        Name of the response.

    Attributes
    ----------
    params, bse, tvalues, pvalues : pandas Series
        Indexed by feature, "Intercept" first; by (class, feature) for multinomial models. NaN for aliased columns.
    nobs, df_model, df_resid : float
    n_parameters, llf, llnull, aic, bic, deviance, null_deviance, pearson_chi2, scale, rsquared, prsquared : float
        `llf` is R's: an estimated dispersion enters it as deviance / n and `aic` counts it as a parameter.
    alpha, alpha_standard_error : float
        Overdispersion of the negative binomial family, which `aic` counts where it was estimated.
    where : str
        One line: where the sweeps of the fit ran, and why.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> results.params.round(4).to_dict()
    {'Intercept': -1.3859, 'age': 0.0481, 'C(plan)[T.b]': 0.0628}
    >>> results.conf_int().round(3).loc["age"].to_dict()
    {'ci_lower': 0.009, 'ci_upper': 0.087}
    >>> round(float(results.aic), 3), int(results.nobs), results.converged
    (28.794, 8, True)
    >>> results.summary_frame(exponentiate=True).iloc[:, 0].round(3).to_dict()
    {'Intercept': 0.25, 'age': 1.049, 'C(plan)[T.b]': 1.065}
    >>> results.with_covariance("HC3", data).bse.round(3).to_dict()
    {'Intercept': 1.074, 'age': 0.018, 'C(plan)[T.b]': 0.345}
    >>> results.get_prediction(data.head(2)).frame[["mean", "ci_lower", "ci_upper"]].round(3).to_dict("list")
    {'mean': [1.058, 0.832], 'ci_lower': [0.377, 0.254], 'ci_upper': [2.973, 2.732]}
    >>> results.fittedvalues(data).round(3).tolist()[:3]
    [1.058, 0.832, 1.913]
    >>> results.resid_pearson(data).round(3).tolist()[:3]
    [0.915, -0.912, -0.66]
    >>> results.influence(data).cooks_distance.compute().round(2).tolist()[:4]
    [0.16, 0.18, 0.06, 0.14]
    >>> results.to_xarray()["coef"].sel(feature="age").round(4).item()
    0.0481
    """

    class_weights = ()          # (label, weight) of a classifier's fit

    # ------------------------------------------------------------ inference that looks at rows or hypotheses

    def _data(self, X, y=None, sample_weight=None, offset=None, exposure=None, clusters=None):
        """The rows of some arrays as blocks with this fit's features and labels."""
        if y is None:
            raise ValueError("y is missing: pass the rows, X and y.")
        X = self._matrix(X)
        labels = {} if self.classes is None else {"labels": tuple(self.classes), "class_weights": self.class_weights}
        return design.build(X, y, sample_weight, offset, exposure, clusters, response=self.response, **labels)

    def _matrix(self, X):
        """X of any kind that `fit` takes, with the fit's columns in their order."""
        X = as_features(X)
        X = X if hasattr(X, "shape") else np.asarray(X, float)
        if len(X.shape) != 2 or X.shape[1] != len(self.fitted.names):
            raise ValueError(f"X has shape {tuple(X.shape)}; the fit had {len(self.fitted.names)} features: pass its "
                             "X, without a column of ones.")
        names, named = design.feature_names(X)
        if named and names != self.fitted.names and sorted(names) == sorted(self.fitted.names):
            wrong = next((a, b) for a, b in zip(self.fitted.names, names) if a != b)
            raise ValueError(f"X has the fit's columns in another order, {wrong[1]!r} where the fit had {wrong[0]!r}: "
                             "select them in the order of the fit.")
        return X

    def _with(self, covariance):
        new = copy.copy(self)
        new.covariance = covariance
        for name in ("bse", "tvalues", "pvalues"):
            new.__dict__.pop(name, None)
        return new

    def with_covariance(self, cov_type=None, X=None, y=None, sample_weight=None, offset=None, clusters=None,
                        use_correction=True, exposure=None, **options):
        """The same estimates with another covariance: one sweep over the rows of the fit.

        Parameters
        ----------
        cov_type : str, optional
            "nonrobust", "HC0" to "HC4", "HC4m", "cluster" (one cluster column, or several), "CR2" or "CR3" (few
            clusters).
            Default "cluster" where clusters are given, else "nonrobust".
        X, y, sample_weight, offset, exposure
            The rows of the fit, of any kind `fit` takes; not needed for "nonrobust".
        clusters : (n,) or (n, 2), optional
            Labels of any type.
        use_correction : bool
            False leaves out the small-sample factor of clustered covariances (correction="none").
        **options
            information="expected" | "observed"; correction="full" | "design" | "clusters" | "none";
            twoway="own" | "min"; df=None | "residual" | "clusters" | "normal" | number; convention=None | "madlib"
            (see `inference.sandwich.Options`).

        Returns
        -------
        GLMResults

        Raises
        ------
        ValueError
            Unknown types or options, rows that are not those of the fit, missing or single cluster labels.
        """
        cov_type = cov_type or ("nonrobust" if clusters is None else "cluster")
        data = None if X is None else self._data(X, y, sample_weight, offset, exposure, clusters)
        return self._with(cov.compute(self.fitted, cov_type, data, **cov.options_of(use_correction, options)))

    def get_prediction(self, X, offset=None, exposure=None, level=0.95, alpha=None):
        """Means with standard errors and intervals from this covariance; lazy for lazy X.

        Parameters
        ----------
        X : (n, p) array or frame of any kind `fit` takes
        offset, exposure : (n,) or scalar, optional
        level, alpha : float
            As for `conf_int`.

        Returns
        -------
        inference.prediction.Prediction
            With mean, se, ci_lower, ci_upper (and linear, linear_se, ... on the scale of the linear predictor;
            obs_ci_lower, obs_ci_upper for linear models), and `frame` for all of them.
        """
        X = X if self.spec is not None else self._matrix(X)
        level = confidence_level(level, alpha)
        classes = list(self.class_labels) if self.class_order else None
        quantile = self.distribution.ppf(0.5 + level / 2)
        predictor = prediction.predictor_of(self.fitted, self.covariance, self.class_order, quantile, self.scale)
        return prediction.Prediction(functools.partial(self._map_rows, X, offset, exposure), predictor, classes,
                                     self.distribution)

    @property
    def class_order(self):
        """Positions of `class_labels` in the model; empty where predictions have one column."""
        many = self.model.n_responses > 1
        return tuple(list(self.classes).index(label) for label in self.class_labels) if many else ()

    @property
    def class_labels(self):
        """Class labels as predictions show them, sorted; None without classes."""
        return None if self.classes is None else tuple(np.sort(self.classes))

    def _map_rows(self, X, offset, exposure, function, n_outputs, columns):
        """Apply a function of features and offsets to the rows of X."""
        return map_rows(self._matrix(X), function, n_outputs, self.fitted.names, columns, offset, exposure)

    def fittedvalues(self, X, offset=None, exposure=None):
        """`predict`, by statsmodels' name: results hold no rows, so that it takes those of the fit."""
        return self.predict(X, offset, exposure)

    def predict(self, X, offset=None, exposure=None):
        """Means of rows (probabilities of the classes), of the kind of X and lazy where X is.

        Parameters
        ----------
        X, offset, exposure
            As for `get_prediction`.
        """
        classes = list(self.class_labels) if self.class_order else None
        function = prediction.means_of(self.fitted, self.class_order)
        return self._map_rows(X, offset, exposure, function, classes and len(classes), classes)

    def resid_response(self, X, y=None, sample_weight=None, offset=None, exposure=None):
        """y - mu of rows, of the kind of X and lazy where X is.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            The rows; for a formula the data alone, which gives NaN where a value is missing.

        Returns
        -------
        (n,) numpy or dask array, Series or DataArray

        Raises
        ------
        ValueError
            Multinomial models.
        """
        return self._residuals("resid_response", X, y, sample_weight, offset, exposure)

    def resid_pearson(self, X, y=None, sample_weight=None, offset=None, exposure=None):
        """sqrt(w / V(mu)) (y - mu) of rows; parameters and kind as of `resid_response`."""
        return self._residuals("resid_pearson", X, y, sample_weight, offset, exposure)

    def resid_deviance(self, X, y=None, sample_weight=None, offset=None, exposure=None):
        """sign(y - mu) sqrt(w d(y, mu)) of rows; parameters and kind as of `resid_response`."""
        return self._residuals("resid_deviance", X, y, sample_weight, offset, exposure)

    def _residuals(self, name, X, y, sample_weight, offset, exposure):
        X = self._matrix(X)
        rows = influence.residuals(self.fitted, self._data(X, y, sample_weight, offset, exposure), name)
        return like(X, rows)

    def influence(self, X, y=None, sample_weight=None, offset=None, exposure=None, seed=0):
        """Leverage, Cook's distance and residuals of the rows of the fit, as lazy dask arrays.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            The rows of the fit.
        seed : int
            Of the random draws in quantile residuals of counts.

        Returns
        -------
        inference.influence.Influence
        """
        return influence.Influence(self.fitted, self._data(X, y, sample_weight, offset, exposure), seed)

    def fit_checks(self, X, y=None, sample_weight=None, offset=None, exposure=None, n_bins=20, level=0.95, seed=0):
        """Whether the fit suits its rows: calibration, binned and quantile residuals, leverages; two sweeps.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            The rows of the fit, or others; for a formula the data alone.
        n_bins : int
            Bins of the fitted mean.
        level : float
            Of the limits that the model gives each bin.
        seed : int
            Of the rows drawn.

        Returns
        -------
        inference.fit_checks.FitChecks
            With `plot()`, `binned` and `rows`.

        Raises
        ------
        ValueError
            Multinomial models.
        """
        rule = influence.rule_of(self.fitted, seed)
        what = f"mean of {self.response}" if self.classes is None else self.outcome
        observed = "mean" if self.classes is None else "share"
        quantile = float(self.distribution.ppf(0.5 + confidence_level(level) / 2))
        return FitChecks(rule, self._data(X, y, sample_weight, offset, exposure), what, observed, n_bins, quantile)

    def plot(self, ax=None, **options):
        """Draw the coefficients with their intervals; options: `plotting.plot_coefficients`.

        Returns
        -------
        matplotlib Axes
        """
        return plot_coefficients(self, ax=ax, **options)

    # ------------------------------------------------------------ files

    def save(self, path):
        """Write these results to a file, which `daskglm_rep.load` reads: numbers, no rows.

        Parameters
        ----------
        path : str or path
        """
        save(self, path)

    load = staticmethod(load)

    # ------------------------------------------------------------ tables

    def summary_frame(self, level=0.95, alpha=None, exponentiate=False):
        """The coefficient table as a DataFrame: coef, std err, t or z, pvalue, ci_lower, ci_upper.

        Parameters
        ----------
        level, alpha : float
            Of the confidence limits, as for `conf_int`.
        exponentiate : bool
            Odds, rate, risk or hazard ratios exp(coef) in a column of that name, with the exponentials of the limits
            and delta-method errors exp(coef) * std err; tests are still those of coef = 0, ratio = 1.

        Raises
        ------
        ValueError
            exponentiate=True where the link is not log, logit or cloglog.
        """
        columns = [self.params, self.bse, self.tvalues, self.pvalues, self.conf_int(level, alpha)]
        table = pd.concat(columns, axis=1)
        return self._exponentials(table) if exponentiate else table

    def _exponentials(self, table):
        if self.model.ratio is None:
            raise ValueError(f"exponentiate=True needs a log, logit or cloglog link, whose coefficients are logarithms "
                             f"of ratios: this model is {self.model}; look at margins() or avg_comparisons() instead.")
        with np.errstate(over="ignore"):
            table = table.assign(**np.exp(table[["coef", "ci_lower", "ci_upper"]]))
        return table.assign(**{"std err": table["coef"] * table["std err"]}).rename(columns={"coef": self.model.ratio})

    def to_xarray(self, level=0.95, alpha=None):
        """The coefficient table as labelled arrays.

        Parameters
        ----------
        level, alpha : float
            As for `conf_int`.

        Returns
        -------
        xarray.Dataset
            coef, std_err, statistic, pvalue, ci_lower, ci_upper over feature (class and feature for multinomial
            models).
        """
        table = self.summary_frame(level, alpha)
        table.columns = ["coef", "std_err", "statistic", "pvalue", "ci_lower", "ci_upper"]
        shape = [len(level_values) for level_values in getattr(self.index, "levels", [self.index])]
        names = list(self.index.names)
        coords = {name: self.index.get_level_values(name).unique() for name in names}
        return xr.Dataset({c: (names, table[c].to_numpy().reshape(shape)) for c in table}, coords)

    def summary(self, level=0.95, alpha=None, exponentiate=False):
        """The table with the fit statistics above it: text in a terminal, HTML in Jupyter.

        Parameters
        ----------
        level, alpha : float
            Of the confidence limits, as for `conf_int`.
        exponentiate : bool
            As for `summary_frame`.

        Returns
        -------
        Summary
        """
        return Summary(self, confidence_level(level, alpha), exponentiate)

    def _repr_html_(self):
        return self.summary().as_html()

    def __repr__(self):
        return f"<{type(self).__name__}: {self.model}, {int(self.nobs):,} rows, {self.cov_type}>"
