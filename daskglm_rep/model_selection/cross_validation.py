"""What the cross-validated estimators share: splits, the curve, the rule, the fit of all rows, and a refit."""

import dataclasses

import dask
import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskglm_rep import design, passes, plotting
from daskglm_rep.inference import covariance
from daskglm_rep.kernels.folds import responses
from daskglm_rep.model_selection.base import PARAMETERS, _PathBase
from daskglm_rep.recipes import values
from daskglm_rep.settings import check_choice
from daskglm_rep.solvers.exact import solve
from daskglm_rep.solvers.selection import RULES, Curve, solve_paths
from daskglm_rep.solvers.splits import check_splitter, split_rows, wants_responses

TOL = 1e-6          # standard errors from its optimum, of the fit under the penalty chosen
CV_HEAD = """    cv : int, "chunks", splitter or pairs of (train, test) positions, optional
        Folds; default 5. A whole number cuts the rows in their order into that many (stratified by class in a
        classifier), "chunks" holds out one chunk of a lazy input at a time, and any splitter of scikit-learn's serves:
        shuffled, repeated, grouped, in the order of time. Splits go by the position of a row, whatever the chunks.
    rule : {{"min", "1se"}}, default "min"
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
        prepared = self._prepare(self._reweighted(data if splitter == "chunks" else data.coalesced()))
        paths = solve_paths(prepared, self._split(splitter, prepared, groups), settings)
        curve = Curve.of(paths)
        r, l = curve.chosen(self.rule)
        self.alpha_, self.l1_ratio_, self.curve_ = float(paths.alphas[r, l]), float(paths.l1_ratios[r]), curve
        self._publish_path(prepared, paths.coefs[0, r], paths.alphas[r])
        self._publish_curve(prepared, paths)
        self._fit_chosen(prepared, paths.coefs[0, r, l], len(paths.weight))
        self.n_iter_ = paths.n_sweeps + self.results_.fitted.fit.n_iter
        self.distance_to_optimum_ = max(paths.distance, self.results_.fitted.fit.distance)
        self.converged_ = paths.distance <= self.tol and self.results_.fitted.fit.converged
        return self

    def _split(self, splitter, prepared, groups):
        """`Splits` of the rows; a stratified splitter takes a sweep more to see the responses."""
        if groups is not None:
            groups = values(dask.compute(groups)[0])
        y = None
        if wants_responses(splitter):
            y = np.concatenate(passes.run(responses, prepared.data).columns)
        return split_rows(splitter, prepared.data.lengths, y, groups)

    def _publish_curve(self, prepared, paths):
        alphas, deviances = paths.alphas, np.moveaxis(paths.held_out, 0, -1)
        if len(alphas) == 1 and np.ndim(getattr(self, "l1_ratio", 1.0)) == 0:
            alphas, deviances = alphas[0], deviances[0]
        self.alphas_, self.deviance_path_ = alphas, deviances
        if prepared.model.is_linear:
            self.mse_path_ = deviances

    def _fit_chosen(self, prepared, coef, n_splits):
        """The fit to all rows by the solver of single fits, from where the path is."""
        penalty = prepared.elastic_net(self.alpha_, self.l1_ratio_, self.standardize, self.penalty_factor)
        fitted = solve(prepared, penalty, weights_kind=self.weights_kind, tol=min(self.tol, TOL),
                       max_iter=self.max_iter, start=prepared.raw(coef))
        found = covariance.compute(fitted, "nonrobust", prepared.data)
        note = (f"alpha={self.alpha_:.4g}, l1_ratio={self.l1_ratio_:g} were chosen on these rows by {n_splits} splits "
                f"(rule {self.rule!r}):\nno standard errors, for none would know of the choice, nor would those of a "
                "fit of the\nselected columns to the same rows. Refit on other rows.")
        self._set_results(prepared, fitted, dataclasses.replace(found, note=note))

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
