"""scikit-learn estimators: validate, fit, predict. No numerics."""

import dataclasses
import math
import numbers

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, validate_data

from daskglm_rep import design, families, passes
from daskglm_rep.inference import covariance
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.kernels.rows import inverse_link
from daskglm_rep.kernels.softmax import class_probabilities
from daskglm_rep.kernels.survey import response_totals
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.multinomial import Multinomial
from daskglm_rep.recipes import encode
from daskglm_rep.results import GLMResults
from daskglm_rep.rowwise import map_rows
from daskglm_rep.solvers.negative_binomial import solve_with_alpha
from daskglm_rep.solvers.three_sweeps import null_deviance_of, solve_model, take_survey
from daskglm_rep.summaries import Pair, Total

PARAMETERS = """
    Parameters
    ----------
{head}    {penalty} : float, default 0
        Penalty strength; 0 is maximum likelihood. Minimised with it: (1 / sum w) sum w d(y, mu) / 2
        + {penalty} (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2), intercept free.
    l1_ratio : float in [0, 1], default 0
        Share of the absolute-value penalty.
    fit_intercept : bool, default True
    solver : {{"auto"}}
        Survey, pilot, polish (solvers/three_sweeps.py).
    max_iter : int, default 100
        Sweeps at most.
    tol : float, default 1e-6
        Distance to the optimum at which to stop, in standard errors of the worst coefficient.
    cov_type : str, default "nonrobust"
        "nonrobust", "HC0", "HC1", "HC2", "HC3" or "cluster" (with `clusters=` at fit).
    standardize : bool, default False
        Penalize coefficients of columns scaled to unit population standard deviation.
    penalty_factor : (n_features,) array, optional
        Multiplies each coefficient's penalty; 0 leaves it free.
    weights_kind : {{"prior", "frequency"}}
        Prior weights scale a row's precision; frequency weights count copies of a row.
    warm_start : bool, default False
        Begin at the last fit's coefficients instead of a pilot's.
    random_state : int, default 0
        Fixes the pilot rows.
    rank : {{"warn", "error"}}
        What to do about aliased columns: report them as NaN, or refuse.
    verbose : int, default 0
        Above 0 each sweep prints its deviance and its distance to the optimum.

    Attributes
    ----------
    coef_, intercept_ : array or float
        Aliased columns count as 0 here, so that predictions work; `results_.params` shows NaN.
    results_ : GLMResults
    n_iter_ : int
        Full sweeps of the solver.
    n_passes_ : float
        All sweeps over the data: chunk loads / chunks.
    converged_ : bool
    distance_to_optimum_ : float
        In standard errors.
    dispersion_ : float
    n_features_in_, feature_names_in_
"""


def _lazy_or_labelled(X):
    """Inputs that scikit-learn's validation would turn into numpy: branch before it."""
    return design.is_lazy(X) or isinstance(X, xr.DataArray)


def _remember_features(estimator, names, named):
    estimator.n_features_in_ = len(names)
    if named:
        estimator.feature_names_in_ = np.asarray(names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def _check_features(estimator, names, named):
    expected = estimator.n_features_in_
    if len(names) != expected:
        raise ValueError(f"X has {len(names)} features, but {type(estimator).__name__} is expecting {expected} features as "
                         "input.")
    fitted = getattr(estimator, "feature_names_in_", None)
    if named and fitted is not None and list(fitted) != names:
        wrong = next((a, b) for a, b in zip(fitted, names) if a != b)
        raise ValueError("The feature names should match those that were passed during fit: expected column "
                         f"{wrong[0]!r} where X has {wrong[1]!r}; select the columns in the order of fit.")


def _eager_targets(X, y, sample_weight, numeric):
    """Checked y and weights for X in memory."""
    if design.is_lazy(y):
        raise ValueError("y is lazy but X is in memory: pass both as dask collections with the same chunks, or both in "
                         "memory.")
    y = column_or_1d(y, warn=True)
    if numeric and y.dtype.kind == "O":
        y = y.astype(np.float64)
    check_consistent_length(X, y)
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    return y, sample_weight


def _documented(head="", penalty="alpha"):
    def decorate(cls):
        cls.__doc__ = (cls.__doc__ or "").rstrip() + "\n" + PARAMETERS.format(head=head, penalty=penalty)
        return cls

    return decorate


FAMILY_HEAD = """    family : str or families.Family, default "gaussian"
    link : str or links.Link, optional
        Default: the family's.
"""


class _GLMBase(BaseEstimator):
    """Shared fit and prediction of all generalized linear models."""

    def __init__(self, alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto", max_iter=100, tol=1e-6,
                 cov_type="nonrobust", standardize=False, penalty_factor=None, weights_kind="prior", warm_start=False,
                 random_state=0, rank="warn", verbose=0):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.cov_type = cov_type
        self.standardize = standardize
        self.penalty_factor = penalty_factor
        self.weights_kind = weights_kind
        self.warm_start = warm_start
        self.random_state = random_state
        self.rank = rank
        self.verbose = verbose

    _classify = False

    def _strength(self):
        """The penalty's strength."""
        return self.alpha

    def _check_parameters(self):
        rules = [("penalty" if hasattr(self, "penalty") else "alpha", self._strength(), lambda v: v >= 0, ">= 0"),
                 ("l1_ratio", self.l1_ratio, lambda v: 0 <= v <= 1, "in [0, 1]"),
                 ("tol", self.tol, lambda v: v > 0, "> 0"),
                 ("max_iter", self.max_iter, lambda v: v >= 1, ">= 1")]
        for name, value, good, words in rules:
            if not (isinstance(value, numbers.Real) and good(value)):
                raise ValueError(f"{name} must be a number {words}, got {value!r}.")
        for name, allowed in (("solver", ("auto",)), ("weights_kind", ("prior", "frequency")), ("rank", ("warn", "error")),
                              ("cov_type", covariance.COV_TYPES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known: choose one of {', '.join(allowed)}.")
        if self.cov_type != "nonrobust" and self._strength() > 0:
            raise ValueError("Standard errors after penalization are not defined: fit with alpha=0 for "
                             f"cov_type={self.cov_type!r}.")
        if not (self.random_state is None or isinstance(self.random_state, numbers.Integral)):
            raise ValueError(f"random_state must be an integer (it fixes the pilot rows), got {self.random_state!r}.")

    def _build(self, X, y, sample_weight, offset, exposure, clusters=None, **recipe):
        """Data of checked inputs; remembers the features."""
        if y is None:
            raise ValueError(f"This {type(self).__name__} estimator requires y to be passed, but the target y is None.")
        response = "y" if isinstance(y, da.Array) else str(getattr(y, "name", None) or "y")   # a dask array's is a key
        if _lazy_or_labelled(X):
            names, named = design.feature_names(X)
            _remember_features(self, names, named)
        else:
            X = validate_data(self, X, dtype=np.float64, ensure_all_finite=False, accept_sparse=False)
            y, sample_weight = _eager_targets(X, y, sample_weight, numeric=not recipe.get("raw_labels"))
        data = design.build(X, y, sample_weight, offset, exposure, clusters, response=response, **recipe)
        if hasattr(self, "feature_names_in_"):
            data = data.with_names(list(self.feature_names_in_))
        return data

    def fit(self, X, y, sample_weight=None, offset=None, exposure=None, clusters=None):
        """Fit the model.

        Parameters
        ----------
        X : (n, p) numpy or dask array, pandas or dask DataFrame, xarray DataArray
            Row chunks are the blocks.
        y : (n,) of any of those kinds
        sample_weight : (n,), optional
            Prior or frequency weights, >= 0.
        offset : (n,), optional
            Added to the linear predictor.
        exposure : (n,), optional
            Its logarithm is added to the linear predictor.
        clusters : (n,) or (n, 2), optional
            Cluster labels for cov_type="cluster".

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad input or parameters, each in one sentence.
        """
        self._check_parameters()
        if self.cov_type == "cluster" and clusters is None:
            raise ValueError("cov_type='cluster' needs cluster labels: fit(X, y, clusters=...).")
        data = self._build(X, y, sample_weight, offset, exposure, clusters, raw_labels=self._classify).coalesced()
        data, found, model, classes = self._look(data)
        self._solve(data, found, model, classes)
        return self

    def _look(self, data):
        """Survey; returns data, survey, model, classes."""
        model = self._glm()
        return data, take_survey(data, model.family, self.random_state or 0), model, None

    def _solve(self, data, found, model, classes):
        start = self._last_raw() if self.warm_start and hasattr(self, "results_") else None
        settings = dict(fit_intercept=self.fit_intercept, alpha=self._strength(), l1_ratio=self.l1_ratio,
                        standardize=self.standardize, penalty_factor=self.penalty_factor, weights_kind=self.weights_kind,
                        tol=self.tol, max_iter=self.max_iter, start=start, rank=self.rank, verbose=self.verbose)
        if _estimates_alpha(model):
            fitted, self.alpha_standard_error_ = solve_with_alpha(data, found, model, **settings)
            self.alpha_ = fitted.fit.objective.model.family.alpha
        else:
            fitted = solve_model(data, found, model, **settings)
        cov = covariance.compute(fitted, self.cov_type, data)
        fitted = dataclasses.replace(fitted, n_passes=data.n_passes)
        self.results_ = GLMResults(fitted, cov, classes, data.prepare.response)
        self.n_iter_, self.n_passes_ = fitted.fit.n_iter, fitted.n_passes
        self.converged_, self.distance_to_optimum_ = fitted.fit.converged, fitted.fit.distance
        self.dispersion_ = self.results_.scale
        self._publish(np.nan_to_num(self.results_.params.to_numpy()).reshape(model.n_equations, -1))

    def _last_raw(self):
        return np.nan_to_num(self.results_.params.to_numpy())

    def _publish(self, raw):
        """Set coef_ and intercept_ from (n_equations, q) raw coefficients, the intercept first."""
        self.coef_ = raw[0, int(self.fit_intercept):].copy()
        self.intercept_ = float(raw[0, 0]) if self.fit_intercept else 0.0

    # ------------------------------------------------------------ prediction

    def _raw_predictor(self):
        """(equations, q) raw coefficients as `linear_predictor` takes them."""
        return np.hstack([np.reshape(self.intercept_, (-1, 1)), np.atleast_2d(self.coef_)])

    def _predict_with(self, transform, X, offset, exposure, n_outputs=None, columns=None):
        check_is_fitted(self)
        if _lazy_or_labelled(X):
            names, named = design.feature_names(X)
            _check_features(self, names, named)
        else:
            index = X.index if isinstance(X, pd.DataFrame) else None
            X = validate_data(self, X, dtype=np.float64, reset=False, accept_sparse=False)
            names = [f"x{j}" for j in range(self.n_features_in_)]
            X = X if index is None else pd.DataFrame(X, index=index, columns=names)
        function = _Predictor(self._raw_predictor(), transform)
        return map_rows(X, function, n_outputs, names, columns, offset, exposure)

    def _score_data(self, X, y, sample_weight, offset, exposure, **recipe):
        check_is_fitted(self)
        names, named = design.feature_names(X) if _lazy_or_labelled(X) else (None, None)
        if names is not None:
            _check_features(self, names, named)
        else:
            X = validate_data(self, X, dtype=np.float64, reset=False, ensure_all_finite=False)
            y, sample_weight = _eager_targets(X, y, sample_weight, numeric=not recipe)
        return design.build(X, y, sample_weight, offset, exposure, **recipe).coalesced()

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        return tags


class _GLMRegressorBase(RegressorMixin, _GLMBase):
    def predict(self, X, offset=None, exposure=None):
        """Means, of the kind of X: lazy for lazy input.

        Parameters
        ----------
        X : (n, p) array or frame
        offset, exposure : (n,) or scalar, optional

        Returns
        -------
        (n,) array, Series or DataArray
        """
        return self._predict_with(_Mean(self._glm().link), X, offset, exposure)

    def score(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Share of the deviance explained, 1 - D(mu) / D(mean y): R-squared for the gaussian family.

        Returns
        -------
        float
        """
        data = self._score_data(X, y, sample_weight, offset, exposure)
        model, raw = self._glm(), self._raw_predictor()
        if _estimates_alpha(model):
            model = families.GLM(families.NegativeBinomial(self.alpha_), model.link)
        totals = passes.run(_deviances, data, model, raw_basis(raw.shape[1] - 1), raw.ravel())
        null = null_deviance_of(model, totals.second, True)
        deviance = totals.first.value
        return 1.0 - deviance / null if null else (1.0 if deviance == 0 else 0.0)


def _estimates_alpha(model):
    return isinstance(getattr(model, "family", None), families.NegativeBinomial) and math.isnan(model.family.alpha)


def raw_basis(p):
    """All columns, neither centred nor scaled, with an intercept: published coefficients live here."""
    return Basis(np.arange(p), np.zeros(p), np.ones(p), True)


def _deviances(block, model, basis, coef):
    moments = block_moments(block, model, basis, coef, False)
    return Pair(Total(moments.deviance), response_totals(model.family, block.y, block.weight)[0])


@dataclasses.dataclass(frozen=True)
class _Predictor:
    """Picklable: rows and offsets to outputs."""

    raw: np.ndarray
    transform: object

    def __call__(self, X, offset):
        eta = linear_predictor(X, raw_basis(self.raw.shape[1] - 1), self.raw.ravel(), offset)
        return self.transform(eta)


@dataclasses.dataclass(frozen=True)
class _Mean:
    link: object

    def __call__(self, eta):
        return inverse_link(self.link, eta)


@dataclasses.dataclass(frozen=True)
class _Probabilities:
    """All classes in sorted order; `order` maps them to the model's codes, baseline 0."""

    link: object
    order: tuple

    def __call__(self, eta):
        if eta.ndim == 1:
            p = inverse_link(self.link, eta)
            return np.c_[1.0 - p, p]
        return class_probabilities(eta)[:, list(self.order)]


@dataclasses.dataclass(frozen=True)
class _Label:
    probabilities: _Probabilities
    classes: np.ndarray

    def __call__(self, eta):
        return self.classes[np.argmax(self.probabilities(eta), axis=1)]


@dataclasses.dataclass(frozen=True)
class _Decision:
    order: tuple

    def __call__(self, eta):
        if eta.ndim == 1:
            return eta
        full = np.c_[np.zeros(len(eta)), eta][:, list(self.order)]
        return full - full.mean(axis=1, keepdims=True)


class _GLMClassifierBase(ClassifierMixin, _GLMBase):
    _classify = True
    _baseline = None

    def _look(self, data):
        found = take_survey(data, None, self.random_state or 0, classify=True)
        classes = np.array(sorted(label for label, weight in found.labels.items()))
        if classes.dtype.kind == "f" and (classes != np.floor(classes)).any():
            raise ValueError(f"Unknown label type: continuous. {data.prepare.response} holds fractions such as "
                             f"{classes[classes != np.floor(classes)][0]!r}: use a regressor, or class labels.")
        present = [label for label in classes if found.labels[label] > 0]
        if len(present) < 2:
            raise ValueError(f"{data.prepare.response} has only one class, {present[0]!r}: a classifier needs at least 2 "
                             "classes with positive weight.")
        classes = np.array(present)
        self.classes_ = classes
        order = self._class_order(classes)
        labels = tuple(classes[list(order)])
        coded = data.with_prepare(raw_labels=False, labels=labels)
        pilot = tuple(dataclasses.replace(b, y=encode(b.y, labels)) for b in found.pilot)
        found = dataclasses.replace(found, pilot=pilot)
        if len(labels) == 2:
            found = dataclasses.replace(found, response=_coded_response(found.response, found.labels[labels[1]]))
        return coded, found, self._class_model(len(classes)), np.asarray(labels)

    def _class_order(self, classes):
        """Positions of the sorted classes in the model's order, baseline first."""
        return tuple(range(len(classes)))

    def _class_model(self, n_classes):
        if n_classes > 2:
            raise ValueError(f"Only binary classification is supported. The type of the target is multiclass: y has "
                             f"{n_classes} classes; use LogisticRegression.")
        return self._glm()

    def _publish(self, raw):
        first = int(self.fit_intercept)
        if raw.shape[0] == 1 and len(self.classes_) == 2:
            self.coef_ = raw[:, first:].copy()
            self.intercept_ = raw[:, 0].copy() if first else np.zeros(1)
            return
        full = np.vstack([np.zeros(raw.shape[1]), raw])
        full = full[list(self._inverse_order())] - full.mean(axis=0)
        self.coef_ = full[:, first:].copy()
        self.intercept_ = full[:, 0].copy() if first else np.zeros(len(full))

    def _inverse_order(self):
        return np.argsort(self._class_order(self.classes_))

    def _raw_predictor(self):
        raw = super()._raw_predictor()
        return raw if len(self.classes_) == 2 else (raw - raw[0])[1:]

    def _probabilities(self):
        return _Probabilities(self._glm().link, tuple(range(len(self.classes_))))

    def predict_proba(self, X, offset=None, exposure=None):
        """Class probabilities in the order of `classes_`, (n, n_classes), of the kind of X."""
        return self._predict_with(self._probabilities_checked(), X, offset, exposure, len(self.classes_), self.classes_)

    def _probabilities_checked(self):
        check_is_fitted(self)
        return self._probabilities()

    def predict_log_proba(self, X, offset=None, exposure=None):
        """Logarithms of `predict_proba`."""
        return np.log(self.predict_proba(X, offset, exposure))

    def decision_function(self, X, offset=None, exposure=None):
        """Linear predictor: (n,) for two classes, else (n, n_classes) symmetric ones that sum to zero."""
        check_is_fitted(self)
        J = len(self.classes_)
        return self._predict_with(_Decision(tuple(range(J))), X, offset, exposure, None if J == 2 else J, self.classes_)

    def predict(self, X, offset=None, exposure=None):
        """The most probable class of each row, of the kind of X."""
        return self._predict_with(_Label(self._probabilities_checked(), self.classes_), X, offset, exposure)

    def score(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Share of rows (by weight) whose most probable class is theirs."""
        check_is_fitted(self)
        data = self._score_data(X, y, sample_weight, offset, exposure, raw_labels=True)
        right, total = passes.run(_label_matches, data, _Label(self._probabilities(), self.classes_),
                                  self._raw_predictor()).value
        return float(right / total)


def _coded_response(response, weight_of_ones):
    """The survey's sums over labels as those over their codes 0 and 1: the null deviance needs them."""
    return dataclasses.replace(response, weight_y=weight_of_ones, reference_deviance=response.weight * 2.0 * np.log(2.0),
                               low=0.0, high=1.0)


def _label_matches(block, label, raw):
    guess = label(linear_predictor(block.X, raw_basis(raw.shape[1] - 1), raw.ravel(), block.offset))
    return Total(np.array([block.weight @ (guess == block.y), block.weight.sum()]))


# ---------------------------------------------------------------- the public classes


@_documented(FAMILY_HEAD)
class GLMRegressor(_GLMRegressorBase):
    """Generalized linear model of any family and link."""

    def __init__(self, family="gaussian", link=None, alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto",
                 max_iter=100, tol=1e-6, cov_type="nonrobust", standardize=False, penalty_factor=None,
                 weights_kind="prior", warm_start=False, random_state=0, rank="warn", verbose=0):
        super().__init__(alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize, penalty_factor,
                         weights_kind, warm_start, random_state, rank, verbose)
        self.family = family
        self.link = link

    def _glm(self):
        return families.GLM.of(self.family, self.link)


@_documented()
class LinearRegression(_GLMRegressorBase):
    """Linear regression: gaussian family, identity link."""

    def _glm(self):
        return families.GLM.of("gaussian")


LINK_HEAD = """    link : str or links.Link, default "log"
"""


class _LinkRegressor(_GLMRegressorBase):
    def __init__(self, link="log", alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto", max_iter=100, tol=1e-6,
                 cov_type="nonrobust", standardize=False, penalty_factor=None, weights_kind="prior", warm_start=False,
                 random_state=0, rank="warn", verbose=0):
        super().__init__(alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize, penalty_factor,
                         weights_kind, warm_start, random_state, rank, verbose)
        self.link = link

    _family = None

    def _glm(self):
        return families.GLM.of(self._family, self.link)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = True
        return tags


@_documented(LINK_HEAD)
class PoissonRegressor(_LinkRegressor):
    """Poisson regression of counts or rates >= 0."""

    _family = "poisson"


@_documented(LINK_HEAD)
class GammaRegressor(_LinkRegressor):
    """Gamma regression of positive responses."""

    _family = "gamma"


@_documented(LINK_HEAD)
class InverseGaussianRegressor(_LinkRegressor):
    """Inverse gaussian regression of positive responses."""

    _family = "inverse_gaussian"


@_documented("""    power : float in (1, 2), default 1.5
        Variance power.
""" + LINK_HEAD)
class TweedieRegressor(_LinkRegressor):
    """Tweedie regression, variance mu^power: responses >= 0 with a mass at zero."""

    def __init__(self, power=1.5, link="log", alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto", max_iter=100,
                 tol=1e-6, cov_type="nonrobust", standardize=False, penalty_factor=None, weights_kind="prior",
                 warm_start=False, random_state=0, rank="warn", verbose=0):
        super().__init__(link, alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize,
                         penalty_factor, weights_kind, warm_start, random_state, rank, verbose)
        self.power = power

    def _glm(self):
        return families.GLM.of(families.Tweedie(self.power), self.link)


@_documented("""    link : str, default "logit"
        "logit", "probit", "cloglog", "loglog", "cauchit" or "log".
""")
class GLMClassifier(_GLMClassifierBase):
    """Binary regression with any link, as a classifier; the model is of the probability of `classes_[1]`."""

    def __init__(self, link="logit", alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto", max_iter=100, tol=1e-6,
                 cov_type="nonrobust", standardize=False, penalty_factor=None, weights_kind="prior", warm_start=False,
                 random_state=0, rank="warn", verbose=0):
        super().__init__(alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize, penalty_factor,
                         weights_kind, warm_start, random_state, rank, verbose)
        self.link = link

    def _glm(self):
        return families.GLM.of("binomial", self.link)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags


@_documented("""    baseline : label, optional
        The class whose coefficients are zero in `results_` with three or more classes; default the first one.
""")
class LogisticRegression(_GLMClassifierBase):
    """Logistic regression: two classes, or multinomial with three or more.

    With three or more classes `coef_` holds the symmetric coefficients, which sum to zero over classes; `results_`
    those against the baseline.
    """

    def __init__(self, baseline=None, alpha=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto", max_iter=100, tol=1e-6,
                 cov_type="nonrobust", standardize=False, penalty_factor=None, weights_kind="prior", warm_start=False,
                 random_state=0, rank="warn", verbose=0):
        super().__init__(alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize, penalty_factor,
                         weights_kind, warm_start, random_state, rank, verbose)
        self.baseline = baseline

    def _glm(self):
        return families.GLM.of("binomial")

    def _class_model(self, n_classes):
        if n_classes == 2:
            return self._glm()
        if self.alpha > 0 and self.l1_ratio > 0:
            raise ValueError("l1_ratio > 0 with three or more classes is not available: use l1_ratio=0, or one "
                             "LogisticRegression a class.")
        return Multinomial(n_classes)

    def _class_order(self, classes):
        if self.baseline is None or len(classes) == 2:
            return tuple(range(len(classes)))
        found = np.flatnonzero(classes == self.baseline)
        if not found.size:
            raise ValueError(f"baseline={self.baseline!r} is none of the classes {list(classes)[:10]}.")
        first = int(found[0])
        return (first, *[j for j in range(len(classes)) if j != first])


@_documented("""    alpha : float or "estimate", default "estimate"
        Overdispersion of the variance mu + alpha mu^2 (not a penalty: that is `penalty` here); "estimate" alternates
        maximum likelihood of it and of the coefficients; then `alpha_` and `alpha_standard_error_` hold it.
""" + LINK_HEAD, penalty="penalty")
class NegativeBinomialRegressor(_LinkRegressor):
    """Negative binomial (NB2) regression of counts."""

    def __init__(self, alpha="estimate", link="log", penalty=0.0, l1_ratio=0.0, fit_intercept=True, solver="auto",
                 max_iter=100, tol=1e-6, cov_type="nonrobust", standardize=False, penalty_factor=None,
                 weights_kind="prior", warm_start=False, random_state=0, rank="warn", verbose=0):
        super().__init__(link, alpha, l1_ratio, fit_intercept, solver, max_iter, tol, cov_type, standardize,
                         penalty_factor, weights_kind, warm_start, random_state, rank, verbose)
        self.penalty = penalty

    def _strength(self):
        return self.penalty

    def _glm(self):
        return families.GLM.of(families.NegativeBinomial(self.alpha), self.link)
