"""`append` of the estimators: rows that arrive later, without the old ones."""

import dataclasses

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_is_fitted

from daskglm_rep.audit import Audit
from daskglm_rep.inference import covariance
from daskglm_rep.preparation import Prepared
from daskglm_rep.representatives import fitting, later
from daskglm_rep.representatives.methods import METHODS
from daskglm_rep.solvers import appended


class AppendsRows:
    """For the exact estimators."""

    def append(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Add rows to a fit without its old ones, which stand by their last summary (`solvers.appended`).

        Exact for linear models; else the nearer, the smaller the share of new rows: a fifth more rows leave some
        hundredths of a standard error. Fit all rows again where that is too far.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            The new rows, as for `fit`, with the fit's columns and labels.

        Returns
        -------
        self
            `results_` are of all rows, with model-based errors.

        Raises
        ------
        ValueError
            Penalised fits; robust errors, which would need the old rows; other columns, unknown labels.
        """
        check_is_fitted(self)
        last = self.results_
        if last.fitted.fit.objective.penalty or last.fitted.overdispersion or last.cov_type != "nonrobust":
            raise ValueError("append takes fits without a penalty, with cov_type='nonrobust' and a known "
                             "overdispersion: anything else needs the old rows again. Fit all rows.")
        recipe = {"raw_labels": True} if self._classify else {}
        data = self._known_data(X, y, sample_weight, offset, exposure, **recipe)
        data = self._reweighted(data.coalesced())
        data, found = appended.look(data, last.fitted, last.classes)
        fitted = appended.append(data, found, last.fitted, self.tol, self.max_iter, self.verbose)
        objective = fitted.fit.objective
        prepared = Prepared(data, found, objective.model, objective.basis, fitted.kept, last.classes)
        self._set_results(prepared, fitted, covariance.model_based(fitted))
        self.n_iter_, self.converged_ = fitted.fit.n_iter, fitted.fit.converged
        self.distance_to_optimum_ = fitted.fit.distance
        return self


class AppendsBlocks:
    """For the representatives."""

    def append(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Add blocks that arrive later, without touching the old ones: one survey and one sweep over the new rows.

        Their points join the old ones', their exact score the old rows' at the old estimate (`representatives.later`).
        With a fifth more rows some hundredths of a standard error from the fit of all rows, with the default method
        less.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            The new rows, as for `fit`.

        Returns
        -------
        self
            Of all rows; `distance_to_mle_` is NaN until `certify_on` was given them all.

        Raises
        ------
        ValueError
            Methods without spread vectors; a fit with columns that its points could not tell apart, or polished.
        """
        check_is_fitted(self)
        method, model = METHODS[self.representative], self._fitted_model
        if not method.is_refined or not self._prepared.kept.all() or self.polish:
            raise ValueError("append takes fits with representative='calibrated' or 'moment-matched', all columns and "
                             "no polish: fit all rows.")
        data, audit = self._known_data(X, y, sample_weight, offset, exposure), Audit()
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            prepared, self._exact, self._calibration, best = later.append(
                data, self._prepared, self._exact, self._calibration, model, method, audit)
        self._prepared, c = prepared, prepared.collection
        self.n_blocks_, self.n_parts_, self.n_joined_ = prepared.n_blocks, len(c.keys), prepared.n_joined
        self.block_sizes_ = pd.Series(c.rows.astype(np.int64), name="rows")
        lines = audit.table().assign(block=lambda t: t["block"] + prepared.plan.first)
        self.audit_ = pd.concat([self.audit_, lines], ignore_index=True)
        fit = fitting.fit_of(best, c.basis, model)
        found = prepared.found
        fitted = dataclasses.replace(self.results_.fitted, fit=fit, survey=found, n_rows=found.response.n_kept,
                                     n_passes=self.n_passes_ + data.n_passes,
                                     null_deviance=fitting.null_deviance(prepared, model))
        self.n_passes_ = fitted.n_passes
        self._report(fitted, covariance.model_based(fitted), self.results_.response)
        return self
