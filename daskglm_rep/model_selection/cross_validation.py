"""What the cross-validated estimators share: splits, the curve, the rule, the fit of all rows, and a refit."""

import copy
import dataclasses

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskglm_rep import design, plotting, progress
from daskglm_rep.inference import covariance
from daskglm_rep.model_selection.base import PARAMETERS, _PathBase
from daskglm_rep.results import GLMResults
from daskglm_rep.settings import check_choice, check_cov_type
from daskglm_rep.solvers.selection import RULES, TOL, refit, select
from daskglm_rep.solvers.splits import check_splitter

CV_HEAD = """    cv : int, "chunks", splitter or pairs of (train, test) positions, optional
        Folds; default 5. A whole number cuts the rows in their order into that many (stratified by class in a
        classifier), "chunks" holds out one chunk of a lazy input at a time, and any splitter of scikit-learn's serves:
        shuffled, repeated, grouped, in the order of time. Splits go by the position of a row, whatever the chunks.
    rule : {"min", "1se"}, default "min"
        Take the penalty of the least mean held-out deviance, or the largest within one standard error of it.
"""
ATTRIBUTES = """
    Attributes
    ----------
    alpha_, l1_ratio_ : float
        The penalty chosen.
    alphas_ : (n_alphas,) array, or (n_l1_ratios, n_alphas) where several l1_ratios were tried
        Falling.
    deviance_path_ : (n_alphas, n_folds) array, or (n_l1_ratios, n_alphas, n_folds)
        Mean deviance of the rows held out; for linear models also `mse_path_`, for that is their mean squared error.
    curve_ : solvers.selection.Curve
        Its mean over folds, weighted by their rows, and its standard error.
    coef_, intercept_ : array or float
        Of the fit to all rows under the penalty chosen.
    coefs_ : (n_features, n_alphas) array
    intercepts_ : (n_alphas,) array
        Along the path of all rows at `l1_ratio_`.
    results_ : GLMResults
        Without standard errors: none is right after a choice by the same rows (`refit` on other rows has some).
    n_iter_ : int
        Sweeps that evaluated fits.
    n_passes_ : float
        All sweeps over the data: chunk loads / chunks.
    converged_ : bool
    distance_to_optimum_ : float
        Of the worst fit of the paths, in standard errors.
    dispersion_ : float
    n_features_in_, feature_names_in_
"""


def documented(head):
    """Append the parameters, `head` first, and the attributes to a class's docstring."""

    def decorate(cls):
        cls.__doc__ = (cls.__doc__ or "").rstrip() + "\n" + PARAMETERS.format(head=head + CV_HEAD) + ATTRIBUTES
        return cls

    return decorate


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class _CVBase(_PathBase):
    """The fit of all cross-validated estimators."""

    cv: object = None
    rule: str = "min"

    def fit(self, X, y, sample_weight=None, offset=None, exposure=None, groups=None):
        """Fit the paths, choose a penalty, and fit all rows under it.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            As for `GLMRegressor.fit`.
        groups : (n,) array, optional
            Labels for splitters that keep groups together.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad input or parameters, and folds without events or rows, each in one sentence.
        """
        settings = self._settings()
        check_choice("rule", self.rule, RULES)
        splitter = check_splitter(self.cv, self._classify)
        if splitter == "chunks" and not design.is_lazy(X):
            raise ValueError("cv='chunks' holds out the chunks of a lazy input, and X is in memory: pass a dask "
                             "collection, or a number of folds.")
        data = self._build(X, y, sample_weight, offset, exposure, raw_labels=self._classify)
        with progress.shown(self.verbose):
            prepared = self._prepare(self._reweighted(data if splitter == "chunks" else data.coalesced()))
            found = select(prepared, splitter, settings, self.rule, groups)
        paths, place = found.paths, found.position
        self.alpha_, self.l1_ratio_, self.curve_ = found.alpha, found.l1_ratio, found.curve
        self._publish_path(prepared, paths.coefs[0, place[0]], paths.alphas[place[0]])
        self._publish_curve(prepared, paths)
        fitted = found.fit(prepared, settings, weights_kind=self.weights_kind, tol=min(self.tol, TOL),
                           max_iter=self.max_iter)
        self._set_results(prepared, fitted, dataclasses.replace(covariance.compute(fitted), note=found.note))
        self.n_iter_ = paths.n_sweeps + fitted.fit.n_iter
        self.distance_to_optimum_ = max(paths.distance, fitted.fit.distance)
        self.converged_ = paths.distance <= self.tol and fitted.fit.converged
        return self

    def _publish_curve(self, prepared, paths):
        alphas, deviances = paths.alphas, np.moveaxis(paths.held_out, 0, -1)
        if len(alphas) == 1 and np.ndim(getattr(self, "l1_ratio", 1.0)) == 0:
            alphas, deviances = alphas[0], deviances[0]
        self.alphas_, self.deviance_path_ = alphas, deviances
        if prepared.model.is_linear:
            self.mse_path_ = deviances

    def refit(self, X, y, sample_weight=None, offset=None, exposure=None, clusters=None, cov_type=None):
        """Fit the selected columns without a penalty, with standard errors: right on rows that did not select them.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure, clusters
            As for `GLMRegressor.fit`; X with all the columns of `fit`.
        cov_type : str, optional
            As for `GLMRegressor`.

        Returns
        -------
        GLMResults
            NaN for the columns left out.

        Raises
        ------
        ValueError
            Bad input, in one sentence; class labels that are not those of `fit`.
        """
        cov_type = check_cov_type(cov_type, clusters is not None, "refit(X, y, clusters=...)")
        recipe = ({"raw_labels": True} if self._classify else {}) | ({} if clusters is None else {"clusters": clusters})
        data = self._known_data(X, y, sample_weight, offset, exposure, **recipe)
        other = copy.copy(self)
        prepared = other._prepare(data)
        if self._classify and list(other.classes_) != list(self.classes_):
            raise ValueError(f"y has the classes {list(other.classes_)}, the fit had {list(self.classes_)}.")
        fitted, note = refit(prepared, self.selected_, weights_kind=self.weights_kind, max_iter=self.max_iter)
        found = covariance.compute(fitted, cov_type, prepared.data)
        note = f"{found.note}\n{note}" if found.note else note
        fitted = dataclasses.replace(fitted, n_passes=prepared.data.n_passes)
        return GLMResults(fitted, dataclasses.replace(found, note=note), prepared.classes, data.prepare.response)

    @property
    def selected_(self):
        """Which features have a coefficient other than 0, (n_features,) bool array."""
        check_is_fitted(self)
        return np.any(np.atleast_2d(self.coef_) != 0.0, axis=0)

    def plot(self, kind="curve", ax=None):
        """Draw the held-out deviance along the path, or the coefficients.

        Parameters
        ----------
        kind : {"curve", "path"}
        ax : matplotlib Axes, optional

        Returns
        -------
        matplotlib Axes
        """
        check_is_fitted(self)
        check_choice("kind", kind, ("curve", "path"))
        return plotting.plot_curve(self, ax) if kind == "curve" else plotting.plot_path(self, ax)
