"""scikit-learn's own tools around these estimators: wrappers, displays, sparse columns, class weights, parameters."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import patsy
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import BaggingClassifier, StackingClassifier, StackingRegressor, VotingClassifier
from sklearn.inspection import DecisionBoundaryDisplay, PartialDependenceDisplay, partial_dependence
from sklearn.linear_model import LogisticRegression as TheirLogistic
from sklearn.linear_model import PoissonRegressor as TheirPoisson
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import (FixedThresholdClassifier, GridSearchCV, TunedThresholdClassifierCV,
                                     cross_validate)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import daskglm_rep as dg

N = 400


def sample():
    r = np.random.default_rng(31)
    frame = pd.DataFrame(r.normal(size=(N, 2)), columns=["a", "b"]).assign(g=r.choice(list("uvw"), N))
    eta = frame["a"] + (frame["g"] == "v") - 1
    return frame, pd.Series((eta + r.logistic(size=N) > 0).astype(int), name="late")


F, Y = sample()
X = F[["a", "b"]]
L = dg.LogisticRegression

TOOLS = {
    "calibrated": lambda X: CalibratedClassifierCV(L(), cv=3).fit(X, Y).predict_proba(X),
    "tuned threshold": lambda X: TunedThresholdClassifierCV(L(), cv=3, random_state=0).fit(X, Y).predict(X),
    "fixed threshold": lambda X: FixedThresholdClassifier(L(), threshold=0.3).fit(X, Y).predict(X),
    "stacking": lambda X: StackingClassifier([("a", L()), ("b", dg.GLMClassifier("probit"))]).fit(
        X, Y).predict_proba(X),
    "stacking, numbers": lambda X: StackingRegressor([("a", dg.LinearRegression()), ("b", dg.PoissonRegressor())]).fit(
        X, Y).predict(X),
    "voting": lambda X: VotingClassifier([("a", L()), ("b", dg.GLMClassifier("cloglog"))], voting="soft").fit(
        X, Y).predict_proba(X),
    "bagging": lambda X: BaggingClassifier(L(), 3, random_state=0).fit(X, Y).predict_proba(X),
    "transformed": lambda X: TransformedTargetRegressor(dg.LinearRegression(), transformer=StandardScaler()).fit(
        X, Y).predict(X),
    "partial dependence": lambda X: partial_dependence(L().fit(X, Y), X, [0], grid_resolution=4)["average"],
    "one vs rest": lambda X: sklearn.multiclass.OneVsRestClassifier(L()).fit(X, Y).predict_proba(X),
    "chain": lambda X: sklearn.multioutput.RegressorChain(dg.LinearRegression()).fit(
        X, np.c_[Y, 1 - Y + X.to_numpy()[:, 0] if hasattr(X, "to_numpy") else 1 - Y + X[:, 0]]).predict(X),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_give_on_a_frame_what_they_give_on_an_array(tool):
    framed, plain = TOOLS[tool](X), TOOLS[tool](X.to_numpy())
    np.testing.assert_allclose(framed, plain, rtol=1e-9)
    assert isinstance(framed, np.ndarray) and np.isfinite(framed).all()


@pytest.mark.parametrize("display", [
    lambda m, ax: RocCurveDisplay.from_estimator(m, X, Y, ax=ax),
    lambda m, ax: CalibrationDisplay.from_estimator(m, X, Y, ax=ax),
    lambda m, ax: DecisionBoundaryDisplay.from_estimator(m, X, grid_resolution=8, ax=ax),
    lambda m, ax: PartialDependenceDisplay.from_estimator(m, X, ["a"], grid_resolution=4, ax=ax),
], ids=["roc", "calibration", "boundary", "dependence"])
def test_displays_draw(display):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    shown = display(L().fit(X, Y), figure.subplots())
    figure.canvas.draw()
    if isinstance(shown, RocCurveDisplay):
        auc = shown.roc_auc if np.isscalar(shown.roc_auc) else shown.roc_auc[0]
        assert auc == pytest.approx(sklearn.metrics.roc_auc_score(Y, TheirLogistic(C=np.inf).fit(X, Y).predict_proba(
            X)[:, 1]), abs=1e-3)


def test_names_come_through_set_output():
    piped = make_pipeline(StandardScaler(), L()).set_output(transform="pandas").fit(X, Y)
    assert list(piped[-1].results_.params.index) == ["Intercept", "a", "b"]
    mean = L().fit(X, Y).results_.get_prediction(X.iloc[::2]).mean
    assert isinstance(mean, pd.Series) and mean.index.equals(X.index[::2])           # predictions with the labels


def test_metadata_are_routed():
    r = np.random.default_rng(0)
    given = {"sample_weight": r.uniform(0.5, 2, N), "exposure": r.uniform(1, 3, N)}
    with sklearn.config_context(enable_metadata_routing=True):
        model = dg.PoissonRegressor().set_fit_request(sample_weight=True, exposure=True).set_score_request(
            sample_weight=True, exposure=True)
        found = cross_validate(model, X, Y, params=given, cv=3)["test_score"]
        search = GridSearchCV(model, {"alpha": [0.0, 1.0]}, cv=3).fit(X, Y, **given)
    truth = []
    for train, test in sklearn.model_selection.KFold(3).split(X):
        part = {k: v[train] for k, v in given.items()}
        fitted = dg.PoissonRegressor().fit(X.iloc[train], Y.iloc[train], **part)
        truth.append(fitted.score(X.iloc[test], Y.iloc[test], **{k: v[test] for k, v in given.items()}))
    np.testing.assert_allclose(found, truth, rtol=1e-9)
    assert search.best_estimator_.coef_ == pytest.approx(clone(search.best_estimator_).fit(X, Y, **given).coef_)


def test_dask_data_in_searches():
    arrays = da.from_array(X.to_numpy(), chunks=(100, 2)), da.from_array(Y.to_numpy(), chunks=100)
    search = GridSearchCV(L(), {"alpha": [0.0, 1.0]}, cv=3, scoring="neg_log_loss")
    lazy = clone(search).fit(*arrays)
    np.testing.assert_allclose(lazy.cv_results_["mean_test_score"], clone(search).fit(X, Y).cv_results_[
        "mean_test_score"], rtol=1e-8)
    frame = dd.from_pandas(X.assign(y=Y), npartitions=3)                              # as the README says
    as_arrays = clone(search).fit(frame[["a", "b"]].to_dask_array(lengths=True), frame["y"].to_dask_array(lengths=True))
    assert as_arrays.best_params_ == lazy.best_params_


# ---------------------------------------------------------------- sparse columns


def columns(drop="first"):
    return ColumnTransformer([("g", OneHotEncoder(drop=drop), ["g"]), ("x", "passthrough", ["a", "b"])],
                             sparse_threshold=1.0)


@pytest.mark.parametrize("model", [L(), L(alpha=0.1), dg.GLMClassifier("probit"), dg.LinearRegression(),
                                   dg.PoissonRegressor(), dg.GLMRegressor("binomial", cov_type="HC3"),
                                   dg.DivideAndConquerGLM()], ids=repr)
def test_sparse_columns_are_the_dense_ones(model):
    S = columns().fit_transform(F)
    assert sparse.issparse(S)
    dense = clone(model).fit(S.toarray(), Y)
    for given in (sparse.csr_matrix(S), sparse.csc_array(S), sparse.coo_matrix(S)):
        fitted = clone(model).fit(given, Y)
        np.testing.assert_allclose(fitted.coef_, dense.coef_, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(fitted.results_.bse, dense.results_.bse, rtol=1e-6)
        np.testing.assert_allclose(fitted.predict(given), dense.predict(S.toarray()), rtol=1e-7)
        assert fitted.score(given, Y) == pytest.approx(dense.score(S.toarray(), Y), rel=1e-7)


def test_results_of_sparse_columns():
    S = sparse.csr_matrix(columns().fit_transform(F))
    D, firm = S.toarray(), np.arange(N) % 40
    thin, thick = L().fit(S, Y).results_, L().fit(D, Y).results_
    np.testing.assert_allclose(thin.get_prediction(S).se, thick.get_prediction(D).se, rtol=1e-6)
    for how in ({"cov_type": "HC3"}, {"clusters": firm}):
        errors = [r.with_covariance(X=given, y=Y, **how).bse for r, given in ((thin, S), (thick, D))]
        np.testing.assert_allclose(*errors, rtol=1e-6)
    np.testing.assert_allclose(thin.margins(S).frame["effect"], thick.margins(D).frame["effect"], rtol=1e-6)
    np.testing.assert_allclose(thin.influence(S, Y).leverage, thick.influence(D, Y).leverage, rtol=1e-6)


def test_pipelines_of_sparse_columns():
    piped = make_pipeline(columns(), L()).fit(F, Y)
    theirs = make_pipeline(columns(), TheirLogistic(C=np.inf, tol=1e-10, max_iter=1000)).fit(F, Y)
    np.testing.assert_allclose(piped.predict_proba(F), theirs.predict_proba(F), atol=1e-6)
    truth = dg.logit("late ~ g + a + b", F.assign(late=Y))
    np.testing.assert_allclose(piped[-1].results_.params, truth.params, rtol=1e-6, atol=1e-9)
    with pytest.warns(dg.AliasWarning):                                   # all levels beside an intercept
        whole = make_pipeline(columns(drop=None), L()).fit(F, Y)
    np.testing.assert_allclose(whole.predict_proba(F), piped.predict_proba(F), rtol=1e-7)
    search = GridSearchCV(make_pipeline(columns(), L()), {"logisticregression__alpha": [0.0, 0.1]}, cv=3).fit(F, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("model", [dg.SubsampledGLM(), dg.StochasticGLM(), dg.RepresentativeGLM()], ids=repr)
def test_models_of_dense_rows_say_so(model):
    with pytest.raises(TypeError, match="Sparse data was passed for X, but dense data is required"):
        model.fit(sparse.csr_matrix(X), Y)


def test_gaps_of_sparse_columns_are_told():
    S = sparse.csr_matrix(X.to_numpy())
    S.data[3] = np.nan
    with pytest.raises(ValueError, match="X contains NaN values in column 'x1'"):
        L().fit(S, Y)
    with pytest.raises(ValueError, match="X contains NaN or infinity in 1 of 400 rows, first in column 'x1'"):
        L().fit(X.to_numpy(), Y).predict(S)


# ---------------------------------------------------------------- class weights


@pytest.mark.parametrize("weights", ["balanced", {0: 1.0, 1: 3.5}, {1: 0.2}], ids=str)
@pytest.mark.parametrize("kind", ["pandas", "dask", "text"])
def test_class_weights_are_scikit_learns(weights, kind):
    y, names = Y, {0: 0, 1: 1}
    if kind == "text":
        y, names = Y.map({0: "no", 1: "yes"}), {0: "no", 1: "yes"}
    weights = weights if weights == "balanced" else {names[k]: v for k, v in weights.items()}
    theirs = TheirLogistic(C=np.inf, class_weight=weights, tol=1e-12, max_iter=10_000).fit(X, y)
    given = (dd.from_pandas(X, npartitions=3), dd.from_pandas(y, npartitions=3)) if kind == "dask" else (X, y)
    ours = L(class_weight=weights).fit(*given)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-3, atol=1e-4)
    factor = {label: 1.0 for label in names.values()} | (
        weights if weights != "balanced" else {label: N / 2 / (y == label).sum() for label in names.values()})
    by_hand = L().fit(X, y, sample_weight=y.map(factor))
    np.testing.assert_allclose(ours.results_.params, by_hand.results_.params, rtol=1e-9)
    np.testing.assert_allclose(ours.results_.bse, by_hand.results_.bse, rtol=1e-6)
    robust = by_hand.results_.with_covariance("HC1", X, y, y.map(factor)).bse
    np.testing.assert_allclose(ours.results_.with_covariance("HC1", *given).bse, robust, rtol=1e-6)
    np.testing.assert_allclose(clone(ours).set_params(cov_type="HC1").fit(*given).results_.bse, robust, rtol=1e-6)


def test_class_weights_of_many_classes_and_beside_weights():
    y, w = F["g"], np.random.default_rng(3).uniform(0.5, 2, N)
    totals = pd.Series(w).groupby(y).sum()
    by_hand = L().fit(X, y, sample_weight=w * y.map(w.sum() / 3 / totals))
    ours = L(class_weight="balanced").fit(X, y, sample_weight=w)
    np.testing.assert_allclose(ours.results_.params, by_hand.results_.params, rtol=1e-8)
    assert ours.score(X, y) == pytest.approx((ours.predict(X) == y).mean())


@pytest.mark.parametrize("given, words", [
    ("heavy", "class_weight must be 'balanced' or a dict"), ({0: -1.0}, "class_weight must be 'balanced' or a dict"),
    ({2: 1.0}, r"class_weight names 2, which is none of the classes \[0, 1\]")])
def test_bad_class_weights_are_told(given, words):
    with pytest.raises(ValueError, match="late has only one class, 1: a classifier needs"):
        L(class_weight={0: 0.0}).fit(X, Y)
    with pytest.raises(ValueError, match=words):
        L(class_weight=given).fit(X, Y)


# ---------------------------------------------------------------- its parameters


@pytest.mark.parametrize("name, value", [("C", 1.0), ("penalty", "l2"), ("n_jobs", 2), ("multi_class", "ovr"),
                                         ("dual", True)])
def test_parameters_of_scikit_learn_say_where_they_go(name, value):
    with pytest.raises(TypeError, match=f"LogisticRegression has no parameter '{name}' of scikit-learn's: "):
        L(**{name: value})
    with pytest.raises(ValueError, match=f"LogisticRegression has no parameter '{name}' of scikit-learn's: "):
        GridSearchCV(L(), {name: [value]}).fit(X, Y)
    with pytest.raises(TypeError, match="unexpected keyword argument 'nonsense'"):
        L(nonsense=1)


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
def test_the_translation_of_C_is_right(C):
    theirs = TheirLogistic(C=C, tol=1e-12, max_iter=10_000).fit(X, Y)
    ours = L(alpha=1 / (C * N)).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=1e-4)
    counts = TheirPoisson(alpha=1 / C, tol=1e-10, max_iter=10_000).fit(X, Y)           # there alpha is alpha
    np.testing.assert_allclose(dg.PoissonRegressor(alpha=1 / C).fit(X, Y).coef_, counts.coef_, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("options, words", [
    ({"standardize": "yes"}, "standardize must be True or False"), ({"warm_start": 1.5}, "warm_start must be True or"),
    ({"fit_intercept": "no"}, "fit_intercept must be True or False"), ({"verbose": "loud"}, "verbose must be a whole")])
def test_flags_are_flags(options, words):
    with pytest.raises(ValueError, match=words):
        dg.PoissonRegressor(**options).fit(X, Y)


def test_flags_of_the_others():
    with pytest.raises(ValueError, match="standardize must be True or False"):
        dg.lm("late ~ a", X.assign(late=Y), standardize="no")
    with pytest.raises(ValueError, match="certify must be True or False"):
        dg.DivideAndConquerGLM(certify="sure").fit(X, Y)
    with pytest.raises(ValueError, match="polish must be True or False"):
        dg.RepresentativeGLM(polish="fine").fit(X, Y)


# ---------------------------------------------------------------- columns that are the intercept; the wrong way round


def test_the_intercept_of_patsy_is_told():
    y, design = patsy.dmatrices("late ~ a + b", X.assign(late=Y), return_type="dataframe")
    for model in (dg.LinearRegression(), L(), dg.RepresentativeGLM("gaussian"), dg.SubsampledGLM(family="gaussian")):
        for given in (design, dd.from_pandas(design, npartitions=2)):
            with pytest.raises(ValueError, match="X has a column called 'Intercept'.*drop the column, or pass"):
                model.fit(given, Y if given is design else dd.from_pandas(Y, npartitions=2))
    kept = dg.LinearRegression(fit_intercept=False).fit(design, Y).results_
    added = dg.LinearRegression().fit(X, Y).results_
    pd.testing.assert_series_equal(kept.params, added.params, rtol=1e-9)
    assert kept.wald_test("Intercept = 0").pvalue == pytest.approx(added.wald_test("Intercept = 0").pvalue, rel=1e-6)
    with pytest.raises(ValueError, match="X has a column called 'Intercept'"):
        dg.lm("late ~ Intercept + a", X.assign(late=Y, Intercept=1.0))
    assert list(dg.lm("late ~ 0 + Intercept + a", X.assign(late=Y, Intercept=1.0)).params.index) == ["Intercept", "a"]


def test_the_constant_of_statsmodels_is_told():
    with pytest.warns(dg.AliasWarning, match="'const'. They are reported as NaN"):
        twice = dg.LinearRegression().fit(X.assign(const=1.0), Y)
    assert np.isnan(twice.results_.params["const"])


def test_the_wrong_way_round():
    with pytest.raises(ValueError, match=r"X has one dimension and y has two: fit\(X, y\) takes the features first"):
        dg.LinearRegression().fit(Y, X)


def test_gaps_in_predictions_are_told_shortly():
    fitted = L().fit(X, Y)
    with pytest.raises(ValueError, match="X contains NaN or infinity in 2 of 400 rows, first in column 'b'") as told:
        fitted.predict_proba(X.mask((X.index.to_numpy()[:, None] < 2) & (np.array(["a", "b"]) == "b")))
    assert len(str(told.value)) < 160


@pytest.mark.parametrize("dtype", ["string", "string[pyarrow]", "str"])
def test_labels_of_pandas_text(dtype):
    rng = np.random.default_rng(0)
    X, y = pd.DataFrame(rng.normal(size=(80, 2)), columns=["a", "b"]), pd.Series(rng.choice(["no", "yes", "so"], 80))
    ours, plain = dg.LogisticRegression().fit(X, y.astype(dtype)), dg.LogisticRegression().fit(X, y.to_numpy(str))
    assert list(ours.classes_) == ["no", "so", "yes"] and (ours.predict(X) == plain.predict(X)).all()
    assert ours.score(X, y.astype(dtype)) == plain.score(X, y.to_numpy(str))
