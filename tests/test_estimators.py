"""Estimators as scikit-learn users meet them: its own checks, pipelines, grid searches, warm starts, kinds of input."""

import inspect

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from dask.base import tokenize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import daskglm_rep
from daskglm_rep import (DistributedModel, DivideAndConquerGLM, GLMClassifier, GLMRegressor, LogisticRegression,
                         NegativeBinomialRegressor, PoissonRegressor, RepresentativeGLM, StochasticGLM, SubsampledGLM,
                         families)

EXACT = ["GLMClassifier", "GLMRegressor", "GammaRegressor", "InverseGaussianRegressor", "LinearRegression",
         "LogisticRegression", "NegativeBinomialRegressor", "PoissonRegressor", "TweedieRegressor"]
SELECTED = ["ElasticNetCV", "GLMCV", "LassoCV", "LogisticRegressionCV", "RidgeCV"]
RIVALS = ["DistributedModel", "DivideAndConquerGLM", "StochasticGLM", "SubsampledGLM"]
ESTIMATORS = [*(getattr(daskglm_rep, name)() for name in EXACT), daskglm_rep.ElasticNetPath(),
              *(getattr(daskglm_rep, name)(n_alphas=2) for name in SELECTED),
              *(getattr(daskglm_rep, name)(family="gaussian") for name in RIVALS),        # of responses of any sign
              DistributedModel(method="regularized", alpha=0.01), SubsampledGLM("iboss", family="gaussian"),
              *(RepresentativeGLM(family="gaussian", representative=method, min_block_size=1)      # its guard has
                for method in ("score-matching", "moment-matched", "calibrated"))]                # laws of its own
CANNOT = {"StochasticGLM(family='gaussian')": {"check_sample_weight_equivalence_on_dense_data": (
    "One pass of descent ends elsewhere when a row of weight 2 is walked through as two rows, or another order.")},
          "DistributedModel()": {f"check_sample_weight_equivalence_on_{kind}_data": (
              "The theory's penalty falls with the number of rows, which prior weights do not count.")
              for kind in ("dense", "sparse")}}


def sample():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(600, 3))
    mu = np.exp(X @ [0.3, -0.2, 0.1] + 0.4)
    counts = rng.poisson(mu * rng.gamma(2.0, 0.5, 600)).astype(float)
    return X, mu, counts


X, MU, COUNTS = sample()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
def test_scikit_learn_checks(estimator):
    """All but `CANNOT`; scikit-learn itself skips only check_array_api_input, which asks for another array library."""
    cannot = CANNOT.get(repr(estimator), {})
    results = check_estimator(estimator, on_fail=None, on_skip=None, expected_failed_checks=cannot)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] not in ("passed", "skipped", "xfail")}
    assert not failed
    assert {r["check_name"] for r in results if r["status"] == "skipped"} <= {"check_array_api_input"}
    assert {r["check_name"] for r in results if r["status"] == "xfail"} == set(cannot)


@pytest.mark.parametrize("name", EXACT + SELECTED + RIVALS)
def test_settings_go_by_keyword(name):
    """What names the model may go by position; a setting that moves within a signature never changes a fit."""
    cls = getattr(daskglm_rep, name)
    parameters = inspect.signature(cls).parameters
    assert set(parameters) == set(cls().get_params())
    free = {p for p in parameters if parameters[p].kind is not inspect.Parameter.KEYWORD_ONLY}
    assert free == {"GLMRegressor": {"family", "link"}, "GLMCV": {"family", "link"},
                    "RepresentativeGLM": {"family", "link"},
                    "GLMClassifier": {"link"}, "SubsampledGLM": {"method"}, "DistributedModel": {"family", "method"},
                    "DivideAndConquerGLM": {"join"}}.get(name, set())
    with pytest.raises(TypeError, match="positional argument"):
        cls(*["a text"] * (len(free) + 1))
    changed = cls(fit_intercept=False, random_state=3)
    assert clone(changed).get_params() == changed.get_params() == cls().get_params() | {
        "fit_intercept": False, "random_state": 3}
    assert repr(changed) == f"{name}(fit_intercept=False, random_state=3)"


def test_dask_tells_two_fits_of_one_estimator_apart():
    model = PoissonRegressor()
    names = {tokenize(model), tokenize(model.fit(X, COUNTS)), tokenize(clone(model).fit(X[:300], COUNTS[:300]))}
    assert len(names) == 3 and tokenize(model) in names


@pytest.mark.parametrize("cls", [SubsampledGLM, DivideAndConquerGLM, StochasticGLM, RepresentativeGLM])
def test_only_the_binomial_family_has_probabilities(cls):
    assert hasattr(cls(family="binomial"), "predict_proba") and not hasattr(cls(family="poisson"), "predict_proba")
    with pytest.raises(AttributeError, match="has no attribute 'predict_proba'") as told:
        cls(family="poisson").predict_proba(X)
    assert "belongs to the binomial family" in str(told.value.__cause__)
    with pytest.raises(NotFittedError):
        cls(family="binomial").predict_proba(X)


def test_representatives_without_a_partition_take_a_thousand_clusters():
    given = daskglm_rep.partitions.KMeans(1000, subset=100_000)
    ours, theirs = (RepresentativeGLM("poisson", partition=p).fit(X, COUNTS) for p in (None, given))
    np.testing.assert_array_equal(ours.coef_, theirs.coef_)
    assert ours.partition is None and ours.n_blocks_ == theirs.n_blocks_


@pytest.mark.parametrize("lazy", [False, True])
def test_grid_search_finds_the_penalty(lazy):
    given, y = (da.from_array(X, chunks=(150, 3)), da.from_array(COUNTS, chunks=150)) if lazy else (X, COUNTS)
    search = GridSearchCV(PoissonRegressor(), {"alpha": [0.0, 0.05, 10.0]}, cv=3).fit(given, y)
    assert search.best_params_["alpha"] < 10.0
    assert len(search.predict(given)) == 600


def test_pipeline():
    piped = make_pipeline(StandardScaler(), PoissonRegressor()).fit(X, COUNTS)
    assert piped.score(X, COUNTS) == pytest.approx(PoissonRegressor().fit(X, COUNTS).score(X, COUNTS), rel=1e-9)


def test_warm_start_begins_where_the_last_fit_ended():
    model = PoissonRegressor(warm_start=True).fit(X, COUNTS)
    first = model.coef_
    assert model.fit(X, COUNTS).n_iter_ == 1
    assert model.coef_ == pytest.approx(first, rel=1e-12)


def test_predictions_of_frames_are_numpy_in_memory_and_frames_where_lazy():
    frame = pd.DataFrame(X, columns=["a", "b", "c"], index=np.arange(600) + 7)
    y = pd.Series(np.where(COUNTS > 1, "many", "few"), index=frame.index)
    model = LogisticRegression().fit(frame, y)
    assert type(model.predict(frame)) is type(model.predict_proba(frame)) is np.ndarray
    lazy = model.predict_proba(dd.from_pandas(frame, npartitions=3))
    assert isinstance(lazy, dd.DataFrame) and list(lazy.columns) == ["few", "many"]
    assert lazy.compute().index.equals(frame.index)
    np.testing.assert_allclose(lazy.compute(), model.predict_proba(frame), rtol=1e-12)


def test_small_chunks_are_joined_without_a_trace():
    with dask.config.set(scheduler="sync"):
        chunked = PoissonRegressor().fit(da.from_array(X, chunks=(3, 3)), da.from_array(COUNTS, chunks=3))
    whole = PoissonRegressor().fit(X, COUNTS)
    assert chunked.coef_ == pytest.approx(whole.coef_, rel=1e-12)
    assert chunked.results_.bse.to_numpy() == pytest.approx(whole.results_.bse.to_numpy(), rel=1e-12)


def test_negative_binomial_alpha_is_its_maximum_likelihood():
    """statsmodels' discrete NegativeBinomial maximises the same likelihood; at its optimum ours may not be lower."""
    model = NegativeBinomialRegressor().fit(X, COUNTS)
    theirs = sm.NegativeBinomial(COUNTS, sm.add_constant(X)).fit(disp=0, gtol=1e-10, maxiter=500)
    assert model.overdispersion_ == pytest.approx(theirs.params[-1], rel=1e-4)
    assert model.results_.llf >= theirs.llf - 1e-8
    assert model.results_.llf == pytest.approx(theirs.llf, abs=1e-4)
    assert model.overdispersion_standard_error_ == pytest.approx(theirs.bse[-1], rel=1e-2)
    fixed = GLMRegressor(families.NegativeBinomial(model.overdispersion_)).fit(X, COUNTS)
    assert fixed.coef_ == pytest.approx(model.coef_, rel=1e-6)


def test_negative_binomial_alpha_is_a_penalty_as_everywhere():
    """The score per weight equals the ridge gradient at a given overdispersion a; rows weigh 1 / (1 + a mu)."""
    model = NegativeBinomialRegressor(overdispersion=0.7, alpha=0.3, tol=1e-9).fit(X, COUNTS)
    mu = model.predict(X)
    assert X.T @ ((COUNTS - mu) / (1 + 0.7 * mu)) / len(X) == pytest.approx(0.3 * model.coef_, abs=1e-8)
    assert model.overdispersion_ == model.results_.alpha == 0.7 and np.isnan(model.overdispersion_standard_error_)
    same = GLMRegressor(families.NegativeBinomial(0.7), alpha=0.3, tol=1e-9).fit(X, COUNTS)
    np.testing.assert_array_equal(model.coef_, same.coef_)
    free = NegativeBinomialRegressor().fit(X, COUNTS)
    assert free.overdispersion_ == free.results_.alpha
    assert free.overdispersion_standard_error_ == free.results_.alpha_standard_error
    assert not hasattr(PoissonRegressor().fit(X, COUNTS), "overdispersion_")


@pytest.mark.parametrize("settings, words", [
    ({"alpha": "estimate"}, "alpha is the penalty.*set by overdispersion='estimate'"),
    ({"overdispersion": 0.0}, 'overdispersion must be a finite number > 0 or "estimate".*PoissonRegressor.*got 0.0'),
    ({"overdispersion": "guess"}, "overdispersion must be a finite number > 0 .*got 'guess'"),
    ({"overdispersion": np.inf}, "overdispersion must be a finite number > 0 .*got inf"),
    ({"overdispersion": None}, "overdispersion must be a finite number > 0 .*got None"),
], ids=str)
def test_what_is_no_overdispersion_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        NegativeBinomialRegressor(**settings).fit(X, COUNTS)


def test_elastic_net_meets_its_optimality_conditions():
    """At the minimum: the score per weight equals the ridge gradient plus alpha l1_ratio sign(b), less where b = 0."""
    alpha, share = 0.5, 0.6
    model = PoissonRegressor(alpha=alpha, l1_ratio=share, tol=1e-9).fit(X, COUNTS)
    score = X.T @ (COUNTS - model.predict(X)) / len(X) - alpha * (1 - share) * model.coef_
    active = model.coef_ != 0
    assert active.any() and not active.all()
    assert score[active] == pytest.approx(alpha * share * np.sign(model.coef_[active]), abs=1e-8)
    assert (np.abs(score[~active]) <= alpha * share + 1e-8).all()


def test_class_rows_of_a_single_estimator_agree():
    binary = (COUNTS > 1).astype(int)
    logistic = LogisticRegression().fit(X, binary)
    classifier = GLMClassifier().fit(X, binary)
    assert logistic.coef_ == pytest.approx(classifier.coef_, rel=1e-12)
    assert logistic.score(X, binary) == classifier.score(X, binary)


def test_a_tolerance_at_the_rounding_ends_at_the_optimum():
    """tol far below what sums of many rows can tell: few sweeps, and the score at the end is zero."""
    r = np.random.default_rng(6)
    x = r.normal(size=(60_000, 4))
    labels = np.argmax(x @ r.normal(size=(4, 3)) + r.gumbel(size=(60_000, 3)), axis=1)
    model = LogisticRegression(tol=1e-12).fit(x, labels)
    assert model.n_passes_ <= 8
    error = (labels[:, None] == np.arange(3)) - model.predict_proba(x)
    score = (error[:, 1:].T @ np.c_[np.ones(len(x)), x]).ravel()
    cov = model.results_.cov_params().to_numpy()
    assert np.abs(cov @ score / np.sqrt(np.diag(cov))).max() < 1e-9
