"""What the scikit-learn estimators share: validate, fit, predict. No numerics."""

import dataclasses
import functools
from collections.abc import Sequence

import dask.array as da
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from daskglm_rep import design, families, passes, progress
from daskglm_rep.appending import AppendsRows
from daskglm_rep.inference import covariance
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.survey import response_totals
from daskglm_rep.models.glm import GLM
from daskglm_rep.pairing import check_order
from daskglm_rep.solvers.one_look import prepare
from daskglm_rep.readers import as_features
from daskglm_rep.recipes import refuse_text
from daskglm_rep.results import GLMResults
from daskglm_rep.rowwise import map_rows
from daskglm_rep.settings import (check_cov_type, check_fit, check_flag, check_intercept, check_seed,
                                  refuse_elsewhere)
from daskglm_rep.solvers.exact import is_first_order, penalizes, solve, solver_of
from daskglm_rep.summaries import Pair, Total
from daskglm_rep.validation import (check_features, eager_targets, lazy_or_labelled, refuse_gaps,
                                    remember_features)
from daskglm_rep.versions import Versioned

PARAMETERS = """
    Parameters
    ----------
{head}    alpha : float, default 0
        Penalty strength; 0 is maximum likelihood. Minimised with it, the intercept free:
        `(1 / sum w) sum w d(y, mu) / 2 + alpha (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2)`. scikit-learn's C is
        1 / (alpha n), its alpha of PoissonRegressor is this one.
    l1_ratio : float in [0, 1], default 0
        Share of the absolute-value penalty.
    fit_intercept : bool, default True
    solver : {{"auto", "cd", "fista", "igd"}} or object
        Of penalised fits with l1_ratio > 0 or `penalty`: proximal Newton with coordinate descent (a few sweeps), FISTA
        (gradients alone, many sweeps, little memory), or sparse mirror descent; objects of
        `solvers.fista.Fista` and `solvers.mirror_descent.MirrorDescent` carry settings. "auto" takes "cd" unless second
        derivatives of the columns that may enter would take more than 2 GiB; `solver_` says which.
    max_iter : int, default 100
        Sweeps at most; complete cycles of "fista", epochs of "igd".
    tol : float, default 1e-6
        Distance to the optimum at which to stop, in standard errors of the worst coefficient.
    cov_type : str, optional
        "nonrobust", "HC0" to "HC4", "HC4m", "cluster", "CR2" or "CR3" (the last three with `clusters=` at fit). Default
        "cluster" where fit is given clusters, else "nonrobust".
    standardize : bool, default False
        Penalize coefficients of columns scaled to unit population standard deviation.
    penalty_factor : (n_features,) array, optional
        Multiplies each coefficient's penalty; 0 leaves it free.
    penalty : penalties.GroupLasso, MCP, SCAD or a Shape of one's own, optional
        In the place of the absolute value: alpha is its strength, its own l1_ratio counts.
    weights_kind : {{"prior", "frequency"}}
        Prior weights scale a row's precision; frequency weights count copies of a row.
    warm_start : bool, default False
        Begin at the last fit's coefficients instead of a pilot's.
    random_state : int, default 0
        Fixes the pilot rows.
    rank : {{"warn", "error"}}
        What to do about aliased columns: report them as NaN, or refuse.
    verbose : int, default 0
        Above 0 a bar shows each sweep's deviance and its distance to the optimum.

    Attributes
    ----------
    coef_, intercept_ : array or float
        Aliased columns count as 0 here, so that predictions work; `results_.params` shows NaN.
    results_ : GLMResults
    n_iter_ : int
        Full sweeps of the solver.
    solver_ : str
        "newton", "cd", "fista" or "igd".
    n_passes_ : float
        All sweeps over the data: chunk loads / chunks.
    converged_ : bool
    distance_to_optimum_ : float
        In standard errors; of a penalised fit, the length of its next Newton step with the penalty.
    dispersion_ : float
    n_features_in_, feature_names_in_
"""


def documented(head=""):
    """Append `PARAMETERS` to a class's docstring, after parameters of its own (`head`)."""

    def decorate(cls):
        cls.__doc__ = (cls.__doc__ or "").rstrip() + "\n" + PARAMETERS.format(head=head)
        cls.__init__ = _telling(cls.__init__)
        return cls

    return decorate


def _telling(init):
    """A constructor that tells where scikit-learn's parameters go."""

    @functools.wraps(init)
    def constructor(self, *arguments, **given):
        refuse_elsewhere(type(self), given, TypeError)
        init(self, *arguments, **given)

    return constructor


class _GLMBase(Versioned, BaseEstimator):
    """Data of checked inputs, fitted attributes and prediction of all generalized linear models.

    The estimators are dataclasses: their fields are scikit-learn's parameters, and subclasses inherit them.
    """

    _takes_sparse = False

    def set_params(self, **params):
        """Set parameters by name, as scikit-learn does; those of its own models are told where they go."""
        refuse_elsewhere(type(self), params, ValueError)
        return super().set_params(**params)

    def _build(self, X, y, sample_weight, offset, exposure, clusters=None, **recipe):
        """Data of checked inputs; remembers the features."""
        check_flag("fit_intercept", self.fit_intercept)
        check_seed(self.random_state)
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        X = as_features(X)
        if getattr(X, "ndim", 2) == 1 and getattr(y, "ndim", 1) == 2 and y.shape[1] > 1:
            raise ValueError("X has one dimension and y has two: fit(X, y) takes the features first.")
        response = "y" if isinstance(y, da.Array) else str(getattr(y, "name", None) or "y")   # a dask array's is a key
        if lazy_or_labelled(X):
            names, named = design.feature_names(X)
            remember_features(self, names, named)
        else:
            check_order(X, zip((response, *design.ROLES[2:], "clusters", "blocks"),
                               (y, sample_weight, offset, exposure, clusters, recipe.get("blocks"))))
            X = self._numbers(X, ensure_all_finite=False)
            y, sample_weight = eager_targets(X, y, sample_weight, numeric=not recipe.get("raw_labels"))
        data = design.build(X, y, sample_weight, offset, exposure, clusters, response=response, **recipe)
        if hasattr(self, "feature_names_in_"):
            data = data.with_names(list(self.feature_names_in_))
        check_intercept(data.names, self.fit_intercept)
        return data

    def _numbers(self, X, **options):
        """X in memory as an array of floats, checked by scikit-learn's rules."""
        if isinstance(X, pd.DataFrame):
            design.feature_names(X)
            refuse_text(X)
            if X.shape[1] == 0:
                raise ValueError(f"0 feature(s) (shape={X.shape}) while a minimum of 1 is required.")
        sparse = "csr" if self._takes_sparse else False
        return validate_data(self, X, dtype=np.float64, accept_sparse=sparse, **options)

    def _set_results(self, prepared, fitted, cov):
        """The fitted attributes that all estimators have."""
        data = prepared.data
        fitted = dataclasses.replace(fitted, n_passes=data.n_passes)
        self.results_ = GLMResults(fitted, cov, prepared.classes, data.prepare.response)
        self.results_.class_weights = data.prepare.class_weights
        self.n_passes_, self.dispersion_ = fitted.n_passes, self.results_.scale
        self._publish(self._last_raw().reshape(fitted.fit.objective.model.n_equations, -1))

    def _last_raw(self):
        return np.nan_to_num(self.results_.params.to_numpy())

    def _reweighted(self, data):
        """The rows with the weights of their classes, where there are some."""
        return data

    def _publish(self, raw):
        """Set coef_ and intercept_ from (n_equations, q) raw coefficients, the intercept first."""
        self.coef_ = raw[0, int(self.fit_intercept):].copy()
        self.intercept_ = float(raw[0, 0]) if self.fit_intercept else 0.0

    def _raw_predictor(self):
        """(equations, q) raw coefficients as `linear_predictor` takes them."""
        return np.hstack([np.reshape(self.intercept_, (-1, 1)), np.atleast_2d(self.coef_)])

    def _predict_with(self, transform, X, offset, exposure, n_outputs=None, columns=None):
        check_is_fitted(self)
        X = as_features(X)
        if lazy_or_labelled(X):
            names, named = design.feature_names(X)
            check_features(self, names, named)
        else:
            check_order(X, (("offset", offset), ("exposure", exposure)))
            X = self._numbers(X, reset=False, ensure_all_finite=False)
            refuse_gaps(X, self)
            names = [f"x{j}" for j in range(self.n_features_in_)]
        function = _Predictor(self._raw_predictor(), transform)
        return map_rows(X, function, n_outputs, names, columns, offset, exposure)

    def _score_data(self, X, y, sample_weight, offset, exposure, **recipe):
        return self._known_data(X, y, sample_weight, offset, exposure, **recipe).coalesced()

    def _known_data(self, X, y, sample_weight, offset, exposure, **recipe):
        """Data of checked inputs with the features of the fit."""
        check_is_fitted(self)
        X = as_features(X)
        names, named = design.feature_names(X) if lazy_or_labelled(X) else (None, None)
        if names is not None:
            check_features(self, names, named)
        else:
            check_order(X, zip(design.ROLES[1:], (y, sample_weight, offset, exposure)))
            X = self._numbers(X, reset=False, ensure_all_finite=False)
            y, sample_weight = eager_targets(X, y, sample_weight, numeric=not recipe)
        data = design.build(X, y, sample_weight, offset, exposure, **recipe)
        return data.with_names(list(self.feature_names_in_)) if hasattr(self, "feature_names_in_") else data

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._takes_sparse
        return tags


class _GLMRegressorBase(RegressorMixin, _GLMBase):
    """Means and the share of the deviance explained."""

    def predict(self, X, offset=None, exposure=None):
        """Means: numpy for numpy and pandas, as scikit-learn's estimators give; dask and xarray keep their kind.

        Parameters
        ----------
        X : (n, p) array or frame
        offset, exposure : (n,) or scalar, optional

        Returns
        -------
        (n,) numpy or dask array, dask Series or DataArray
        """
        return self._predict_with(self._glm().means, X, offset, exposure)

    def score(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Share of the deviance explained, 1 - D(mu) / D(mean y): R-squared for the gaussian family.

        Returns
        -------
        float
        """
        data = self._score_data(X, y, sample_weight, offset, exposure)
        model, raw = self._glm(), self._raw_predictor()
        if model.estimates_alpha:
            model = GLM(families.NegativeBinomial(self.overdispersion_), model.link)
        totals = passes.run(_deviances, data, model, raw_basis(raw.shape[1] - 1), raw.ravel())
        null = model.null_deviance(totals.second, True)
        deviance = totals.first.value
        return 1.0 - deviance / null if null else (1.0 if deviance == 0 else 0.0)


def _is_binomial(estimator):
    if estimator._glm().family.facts.name != "binomial":
        raise AttributeError("predict_proba belongs to the binomial family.")
    return True


class _BinomialProbabilities:
    """For estimators of any family that are no classifiers."""

    @available_if(_is_binomial)
    def predict_proba(self, X, offset=None, exposure=None):
        """Probabilities of 0 and 1, (n, 2), for the binomial family; of the kind that `predict` gives.

        Parameters
        ----------
        X, offset, exposure
            As for `predict`.

        Raises
        ------
        AttributeError
            Another family.
        """
        transform = _Probabilities(self._glm())
        return self._predict_with(transform, X, offset, exposure, 2, np.array([0, 1]))


def raw_basis(p):
    """All columns, neither centred nor scaled, with an intercept: published coefficients live here."""
    return Basis(np.arange(p), np.zeros(p), np.ones(p), True)


def _deviances(block, model, basis, coef):
    moments = block_moments(block, model, basis, coef, False)
    return Pair(Total(moments.deviance), response_totals(model.family, block.y, block.weight)[0])


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class _ExactBase(AppendsRows, _GLMBase):
    """Survey, pilot, polish: the parameters and the fit of the exact estimators."""

    alpha: float = 0.0
    l1_ratio: float = 0.0
    fit_intercept: bool = True
    solver: str = "auto"
    max_iter: int = 100
    tol: float = 1e-6
    cov_type: str | None = None
    standardize: bool = False
    penalty_factor: Sequence[float] | np.ndarray | None = None
    weights_kind: str = "prior"
    warm_start: bool = False
    random_state: int | None = 0
    rank: str = "warn"
    verbose: int = 0
    penalty: object = None

    _classify, _takes_sparse = False, True

    def _check_parameters(self):
        solver_of(self.solver)
        check_flag("warm_start", self.warm_start)

    def fit(self, X, y, sample_weight=None, offset=None, exposure=None, clusters=None):
        """Fit the model.

        Parameters
        ----------
        X : (n, p) numpy, scipy sparse or dask array, pandas, polars or dask DataFrame, pyarrow Table, xarray DataArray
            or Dataset
            A Dataset's variables, along one dimension, are columns. Row chunks are the blocks. Lazy ones are read in
            every sweep and must give the same rows each time: another number of rows is refused, other values are not
            seen (persist what is drawn at random). Rows of all inputs are paired by position; one that has X's row
            labels (pandas or dask index, xarray coordinate) in another order is refused, labels of another set are left
            aside as scikit-learn leaves them.
        y : (n,) of any of those kinds
        sample_weight : (n,), optional
            Prior or frequency weights, >= 0.
        offset : (n,), optional
            Added to the linear predictor.
        exposure : (n,), optional
            Its logarithm is added to the linear predictor.
        clusters : (n,) or (n, 2), optional
            Cluster labels. Standard errors are then clustered, unless `cov_type` names another kind.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad input or parameters, each in one sentence.
        """
        self._check_parameters()
        cov_type = check_cov_type(self.cov_type, clusters is not None, "fit(X, y, clusters=...)")
        check_fit(vars(self), cov_type)
        with progress.shown(self.verbose):
            self._fit_rows(X, y, sample_weight, offset, exposure, clusters, cov_type)
        return self

    def _fit_rows(self, X, y, sample_weight, offset, exposure, clusters, cov_type):
        """1. Prepare. 2. Solve. 3. Covariance."""
        data = self._build(X, y, sample_weight, offset, exposure, clusters, raw_labels=self._classify)
        data = self._reweighted(data.coalesced())
        start = self._last_raw() if self.warm_start and hasattr(self, "results_") else None
        prepared = prepare(data, self._glm(), self.fit_intercept, seed=self.random_state, rank=self.rank, start=start,
                           choose=self._choose if self._classify else None,
                           penalized=penalizes(self.alpha, self.l1_ratio, self.penalty, self.solver))
        penalty = prepared.elastic_net(self.alpha, self.l1_ratio, self.standardize, self.penalty_factor,
                                       kind=self.penalty, diagonal=is_first_order(self.solver))
        fitted = solve(prepared, penalty, solver=self.solver, weights_kind=self.weights_kind, tol=self.tol,
                       max_iter=self.max_iter, start=start, verbose=self.verbose)
        self._set_results(prepared, fitted, covariance.compute(fitted, cov_type, prepared.data))
        if hasattr(self.results_, "alpha"):
            self.overdispersion_ = self.results_.alpha
            self.overdispersion_standard_error_ = self.results_.alpha_standard_error
        self.n_iter_, self.converged_ = fitted.fit.n_iter, fitted.fit.converged
        self.distance_to_optimum_, self.solver_ = fitted.fit.distance, fitted.fit.solver


@dataclasses.dataclass(frozen=True)
class _Predictor:
    """Picklable: rows and offsets to outputs."""

    raw: np.ndarray
    transform: object

    def __call__(self, X, offset):
        eta = linear_predictor(X, raw_basis(self.raw.shape[1] - 1), self.raw.ravel(), offset)
        return self.transform(eta)


@dataclasses.dataclass(frozen=True)
class _Probabilities:
    model: object

    def __call__(self, eta):
        p = self.model.means(eta)
        return np.c_[1.0 - p, p] if p.ndim == 1 else p
