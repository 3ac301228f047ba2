"""Paths of penalties and cross-validation: scikit-learn on the same folds, separate fits, laws."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn import linear_model, model_selection

from daskglm_rep import (ElasticNetCV, ElasticNetPath, GLMCV, GLMRegressor, LassoCV, LogisticRegressionCV, RidgeCV, glm,
                         logit, penalties)

SPLITTERS = {"folds": model_selection.KFold(3), "shuffled": model_selection.KFold(4, shuffle=True, random_state=1),
             "time": model_selection.TimeSeriesSplit(3), "gap": model_selection.TimeSeriesSplit(3, gap=7),
             "random": model_selection.ShuffleSplit(3, test_size=0.2, train_size=0.5, random_state=0),
             "repeated": model_selection.RepeatedKFold(n_splits=3, n_repeats=2, random_state=0),
             "groups": model_selection.GroupKFold(3), "pairs": [(np.arange(100), np.arange(90, 150))]}
GROUPS = np.arange(240) % 7


def sample(seed=0, n=240, p=6):
    """Correlated columns of uneven scales and means, three of which matter, weights and offsets."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) @ (np.eye(p) + 0.4) * rng.uniform(0.5, 3.0, p) + rng.normal(size=p)
    y = X @ np.r_[0.8, -0.5, 0.3, np.zeros(p - 3)] + rng.normal(size=n)
    return X, y, rng.uniform(0.2, 2.0, n), rng.normal(size=n)


def coefficients(model):
    return np.r_[model.intercept_, model.coef_]


def on_path(model, l):
    return np.r_[model.intercepts_[l], model.coefs_[:, l]]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
def test_lasso_and_elastic_net_agree_with_scikit_learn(weighted, intercept):
    X, y, weight, _ = sample()
    weight = weight if weighted else None
    ours = ElasticNetCV(l1_ratio=[0.3, 1.0], alphas=np.geomspace(1.0, 1e-3, 20), fit_intercept=intercept)
    ours.fit(X, y, weight)
    theirs = linear_model.ElasticNetCV(l1_ratio=[0.3, 1.0], alphas=ours.alphas_[0], fit_intercept=intercept, tol=1e-13,
                                       max_iter=1_000_000).fit(X, y, weight)
    if not weighted:                                       # they do not weigh the folds, we do as glmnet does
        assert (ours.alpha_, ours.l1_ratio_) == (theirs.alpha_, theirs.l1_ratio_)
    np.testing.assert_allclose(ours.mse_path_, theirs.mse_path_, rtol=1e-9)
    theirs = linear_model.ElasticNet(alpha=ours.alpha_, l1_ratio=ours.l1_ratio_, fit_intercept=intercept, tol=1e-13,
                                     max_iter=1_000_000).fit(X, y, weight)
    np.testing.assert_allclose(coefficients(ours), coefficients(theirs), rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(ours.coef_ == 0.0, theirs.coef_ == 0.0)


def test_the_grid_is_scikit_learns():
    X, y, _, _ = sample()
    ours, theirs = LassoCV(eps=1e-3).fit(X, y), linear_model.LassoCV(eps=1e-3, tol=1e-10).fit(X, y)
    np.testing.assert_allclose(ours.alphas_, theirs.alphas_, rtol=1e-9)
    assert ours.alpha_ == pytest.approx(theirs.alpha_, rel=1e-9) and ours.n_passes_ == 3


def test_ridge_agrees_with_scikit_learn_and_with_eigenvalues():
    X, y, _, _ = sample()
    alphas = np.geomspace(10.0, 1e-4, 15)
    ours = RidgeCV(alphas=alphas, cv=4).fit(X, y)
    theirs = linear_model.RidgeCV(alphas=alphas * 180, cv=4, scoring="neg_mean_squared_error").fit(X, y)
    assert ours.alpha_ * 180 == pytest.approx(theirs.alpha_)
    Z = X - X.mean(axis=0)
    values, vectors = np.linalg.eigh(Z.T @ Z / len(y))
    expected = vectors @ ((vectors.T @ (Z.T @ y / len(y)))[:, None] / (values[:, None] + ours.alphas_))
    np.testing.assert_allclose(ours.coefs_, expected, rtol=1e-8)


@pytest.mark.filterwarnings("ignore:All penalised coefficients are zero")
@pytest.mark.parametrize("how", [dict(), dict(l1_ratio=0.5, standardize=True), dict(l1_ratio=0.0),
                                 dict(fit_intercept=False),
                                 dict(penalty_factor=[0, 1, 2, 1, 0.5, 1], standardize=True)], ids=str)
def test_a_path_is_its_separate_fits(how):
    X, y, weight, offset = sample()
    path = ElasticNetPath(n_alphas=6, eps=1e-3, **how).fit(X, y, weight, offset)
    for l, alpha in enumerate(path.alphas_):
        one = GLMRegressor(alpha=alpha, **{"l1_ratio": 1.0} | how).fit(X, y, weight, offset)
        np.testing.assert_allclose(on_path(path, l), coefficients(one), rtol=1e-7, atol=1e-10)
        np.testing.assert_array_equal(path.coefs_[:, l] == 0.0, one.coef_ == 0.0)
        assert path.dev_ratio_[l] == pytest.approx(1.0 - one.results_.deviance / one.results_.null_deviance, rel=1e-9)
    assert path.df_.tolist() == (path.coefs_ != 0).sum(axis=0).tolist()


@pytest.mark.parametrize("name", SPLITTERS)
@pytest.mark.parametrize("standardize", [False, True])
def test_held_out_deviances_are_those_of_fits_to_the_training_rows(name, standardize):
    X, y, weight, offset = sample()
    model = GLMCV(l1_ratio=0.7, alphas=[0.3, 0.02], cv=SPLITTERS[name], standardize=standardize)
    groups = GROUPS if name == "groups" else None
    model.fit(X, y, weight, offset, groups=groups)
    splits = list(model_selection.check_cv(SPLITTERS[name]).split(X, y, groups))
    assert model.deviance_path_.shape == (2, len(splits))
    for k, (train, test) in enumerate(splits):
        for l, alpha in enumerate(model.alphas_):
            one = GLMRegressor(alpha=alpha, l1_ratio=0.7, standardize=standardize)
            one.fit(X[train], y[train], weight[train], offset[train])
            loss = np.average((y[test] - one.predict(X[test], offset[test])) ** 2, weights=weight[test])
            assert model.deviance_path_[l, k] == pytest.approx(loss, rel=1e-8)


@pytest.mark.parametrize("chunks", [1, 7, (100, 0, 1, 139), 240])
def test_chunks_and_laziness_change_nothing(chunks):
    X, y, weight, offset = sample()
    cv = model_selection.KFold(3, shuffle=True, random_state=0)
    whole = LassoCV(cv=cv).fit(X, y, weight, offset)
    parts = [da.from_array(a, chunks=(chunks, *a.shape[1:])).map_blocks(np.copy)
             for a in (X, y, weight, offset)]
    lazy = LassoCV(cv=cv).fit(*parts)
    np.testing.assert_allclose(lazy.mse_path_, whole.mse_path_, rtol=1e-10)
    np.testing.assert_allclose(coefficients(lazy), coefficients(whole), rtol=1e-9, atol=1e-13)
    assert lazy.n_passes_ == whole.n_passes_ <= 4 and lazy.alpha_ == pytest.approx(whole.alpha_)


def test_frames_and_groups_of_frames():
    X, y, weight, _ = sample()
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abcdef")).assign(y=y, g=GROUPS), npartitions=3)
    lazy = LassoCV(cv=model_selection.GroupKFold(3)).fit(frame[list("abcdef")], frame["y"], groups=frame["g"])
    whole = LassoCV(cv=model_selection.GroupKFold(3)).fit(X, y, groups=GROUPS)
    np.testing.assert_allclose(lazy.mse_path_, whole.mse_path_, rtol=1e-10)
    assert list(lazy.feature_names_in_) == list("abcdef") and isinstance(lazy.predict(frame[list("abcdef")]), dd.Series)


def test_chunks_as_folds():
    X, y, _, _ = sample()
    given = [da.from_array(a, chunks=((90, 0, 60, 90),) + a.shape[1:]) for a in (X, y)]
    folds = np.repeat([0, 1, 2], [90, 60, 90])
    ours = LassoCV(cv="chunks").fit(*given)
    theirs = LassoCV(cv=model_selection.PredefinedSplit(folds)).fit(X, y)
    np.testing.assert_allclose(ours.mse_path_, theirs.mse_path_, rtol=1e-10)
    mean = np.average(ours.mse_path_, axis=1, weights=[90, 60, 90])
    assert ours.alpha_ == ours.alphas_[np.argmin(mean)]


def test_the_largest_alpha_sends_all_to_zero_and_no_smaller_one_does():
    X, y, weight, offset = sample()
    for how in (dict(l1_ratio=1.0), dict(l1_ratio=0.4, penalty_factor=[1, 0, 3, 1, 1, 1])):
        path = ElasticNetPath(**how).fit(X, y, weight, offset)
        penalised = np.array(how.get("penalty_factor", np.ones(6))) > 0
        assert not path.coefs_[penalised, 0].any()
        below = ElasticNetPath(alphas=[path.alphas_[0] * 0.999], **how).fit(X, y, weight, offset)
        assert (below.coefs_[penalised, 0] != 0.0).sum() == 1
    assert len(path.alphas_) == 100 and path.alphas_[-1] == pytest.approx(1e-4 * path.alphas_[0])
    assert ElasticNetPath().fit(X[:5], y[:5]).alphas_[-1] == pytest.approx(
        1e-2 * ElasticNetPath().fit(X[:5], y[:5]).alphas_[0])


def test_kkt_holds_with_twins_and_more_columns_than_rows():
    X, y, _, _ = sample()
    wide = np.c_[X, X[:, 0], np.random.default_rng(1).normal(size=(240, 300))]
    path = ElasticNetPath(l1_ratio=0.9).fit(wide, y)
    residual = y[:, None] - path.intercepts_ - wide @ path.coefs_
    gradient = -wide.T @ residual / 240 + 0.1 * path.alphas_ * path.coefs_
    bound = 0.9 * path.alphas_
    off = np.where(path.coefs_ != 0, np.abs(gradient + bound * np.sign(path.coefs_)), np.abs(gradient) - bound)
    assert off.max() < 1e-8 and np.abs(residual.sum(axis=0)).max() < 1e-8
    np.testing.assert_allclose(path.coefs_[0], path.coefs_[6], atol=1e-6)           # twins share under a ridge


def test_columns_in_another_order_are_fitted_in_that_order():
    X, y, weight, _ = sample()
    order = np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_allclose(LassoCV().fit(X[:, order], y, weight).coefs_, LassoCV().fit(X, y, weight).coefs_[order],
                               atol=1e-10)


def test_a_weight_of_two_is_the_row_twice():
    X, y, _, _ = sample()
    weight = np.where(np.arange(240) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(240), weight.astype(int))
    fold = np.arange(240) // 60
    once = LassoCV(cv=model_selection.PredefinedSplit(fold)).fit(X, y, weight)
    copied = LassoCV(cv=model_selection.PredefinedSplit(fold[twice])).fit(X[twice], y[twice])
    np.testing.assert_allclose(once.mse_path_, copied.mse_path_, rtol=1e-9)


def test_one_standard_error_rule():
    X, y, _, _ = sample()
    least, sparse = (LassoCV(rule=rule, cv=8).fit(X, y) for rule in ("min", "1se"))
    mean = least.mse_path_.mean(axis=1)
    error = least.mse_path_.std(axis=1) / np.sqrt(7)
    best = np.argmin(mean)
    assert least.alpha_ == least.alphas_[best]
    assert sparse.alpha_ == least.alphas_[np.flatnonzero(mean <= mean[best] + error[best])[0]] > least.alpha_
    assert (sparse.coef_ != 0).sum() <= (least.coef_ != 0).sum()


def test_far_means_and_small_scales_lose_no_digits():
    X, y, _, _ = sample()
    scale, shift = np.array([1e-6, 1e5, 1, 1, 1e3, 1e-3]), np.array([0, 1e8, 1e6, 0, 0, 1.0])
    far = ElasticNetPath(standardize=True).fit(X * scale + shift, y * 1e-5 + 1e3)
    near = ElasticNetPath(standardize=True).fit(X, y)
    np.testing.assert_allclose(far.coefs_ * scale[:, None] * 1e5, near.coefs_, atol=2e-6)
    np.testing.assert_allclose(far.dev_ratio_, near.dev_ratio_, rtol=1e-6, atol=1e-9)


def test_results_say_what_they_do_not_know():
    X, y, _, _ = sample()
    model = LassoCV().fit(X, y)
    assert model.results_.bse.isna().all() and "were chosen on these rows by 5 splits" in str(model.results_.summary())
    alpha = GLMRegressor(alpha=model.alpha_, l1_ratio=1.0).fit(X, y)
    np.testing.assert_allclose(coefficients(model), coefficients(alpha), rtol=1e-9)
    assert model.results_.llf == pytest.approx(alpha.results_.llf)


@pytest.mark.parametrize("how, words", [
    (dict(alphas=[-1.0]), "alphas must be finite numbers >= 0"), (dict(alphas=[]), "at least one"),
    (dict(l1_ratio=1.5), r"l1_ratio must be a number in \[0, 1\]"), (dict(l1_ratio=[]), "names no value"),
    (dict(cv=1), "at least 2 folds"), (dict(cv="rows"), "is not known"), (dict(cv=3.5), "is no splitter"),
    (dict(cv="chunks"), "X is in memory"), (dict(rule="best"), "rule='best' is not known"),
    (dict(eps=2), "eps must be"),
    (dict(n_alphas=0), "n_alphas must be"), (dict(penalty_factor=[0] * 6), "nothing is penalized"),
    (dict(penalty_factor=[1]), "penalty_factor must hold"),
    (dict(cv=[(np.arange(10), np.arange(300))]), "none of the 240"),
    (dict(cv=[(np.arange(10), np.array([], int))]), "no rows to hold out"), (dict(cv=500), "500"),
    (dict(cv=model_selection.GroupKFold(2)), "groups"), (dict(tol=0), "tol must be")], ids=str)
def test_bad_input_is_told_in_a_sentence(how, words):
    X, y, _, _ = sample()
    with pytest.raises(ValueError, match=words):
        GLMCV(**how).fit(X, y)


def test_folds_of_no_weight_and_few_chunks_are_refused():
    X, y, _, _ = sample()
    with pytest.raises(ValueError, match="Split 0 of cv holds out no row of positive weight"):
        LassoCV(cv=3).fit(X, y, np.r_[np.zeros(80), np.ones(160)])
    with pytest.raises(ValueError, match="there is 1 chunk with rows"):
        LassoCV(cv="chunks").fit(da.from_array(X, chunks=(240, 6)), da.from_array(y, chunks=240))
    with pytest.raises(ValueError, match="groups has 3 labels where X has 240 rows"):
        LassoCV(cv=model_selection.GroupKFold(2)).fit(X, y, groups=[0, 1, 2])


def test_a_constant_response_has_a_path_of_zeros():
    X, _, _, _ = sample()
    model = LassoCV().fit(X, np.full(240, 7.0))
    assert not model.coefs_.any() and model.intercept_ == pytest.approx(7.0)


def test_coefficients_between_the_alphas():
    X, y, _, _ = sample()
    path = ElasticNetPath(n_alphas=3).fit(X, y)
    middle = 0.25 * path.alphas_[0] + 0.75 * path.alphas_[1]
    intercept, coef = path.coefficients(middle)
    assert np.r_[intercept, coef] == pytest.approx(0.25 * on_path(path, 0) + 0.75 * on_path(path, 1))
    with pytest.raises(ValueError, match="smallest of the path"):
        path.coefficients(path.alphas_[-1] / 2)


def test_pictures():
    pytest.importorskip("matplotlib")
    X, y, _, _ = sample()
    model = ElasticNetCV(l1_ratio=[0.5, 1.0]).fit(X, y)
    curve, path = model.plot(), model.plot("path")
    assert curve.get_ylabel() == "mean held-out deviance" and len(curve.get_legend().get_texts()) == 2
    assert path.get_xscale() == "log" and path.xaxis_inverted()
    assert len(path.get_legend().get_texts()) == np.any(model.coefs_ != 0, axis=1).sum()
    with pytest.raises(ValueError, match="kind='picture' is not known"):
        model.plot("picture")


def frame(n=400, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(rng.normal(size=(n, 5)), columns=list("abcde")).assign(g=rng.choice(list("uvw"), n))
    eta = table["a"] - 0.7 * table["b"] + 0.8 * (table["g"] == "v")
    return table.assign(y=eta + rng.normal(size=n), event=np.where(eta + rng.logistic(size=n) > 0, "yes", "no"),
                        firm=np.arange(n) % 40)


@pytest.mark.parametrize("lazy", [False, True])
def test_formulas_choose_alpha_by_cross_validation(lazy):
    table = frame()
    data = dd.from_pandas(table, npartitions=3) if lazy else table
    results = glm("y ~ a + b + c + d + e + g", data, alpha="cv", l1_ratio=[0.5, 1.0], cv=4)
    X = pd.get_dummies(table[[*"abcdeg"]], columns=["g"], drop_first=True).to_numpy(float)
    ours = ElasticNetCV(l1_ratio=[0.5, 1.0], cv=4).fit(X, table["y"])
    assert (results.alpha_, results.l1_ratio_) == (pytest.approx(ours.alpha_), ours.l1_ratio_)
    np.testing.assert_allclose(results.params, coefficients(ours), rtol=1e-6, atol=1e-9)
    assert "were chosen on these rows by 4 splits" in str(results.summary()) and results.bse.isna().all()
    if lazy:
        chunks = glm("y ~ a + b + g", data, alpha="cv", l1_ratio=1.0, cv="chunks", rule="1se")
        assert chunks.curve_.mean.shape == (1, 100) and chunks.alpha_ >= chunks.curve_.alphas[chunks.curve_.best]


def test_formulas_of_labels_stratify():
    table = frame()
    results = logit("event ~ a + b + c + g", table, alpha="cv", l1_ratio=1.0)
    X = pd.get_dummies(table[[*"abcg"]], columns=["g"], drop_first=True).to_numpy(float)
    ours = LogisticRegressionCV(l1_ratio=1.0).fit(X, table["event"])
    assert results.alpha_ == pytest.approx(ours.alpha_)
    np.testing.assert_allclose(results.params, np.r_[ours.intercept_, ours.coef_[0]], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("how, words", [
    (dict(rule="best"), "rule='best' is not known"), (dict(cv=1), "at least 2 folds"), (dict(cv="chunks"), "in memory"),
    (dict(l1_ratio=2.0), "l1_ratio must be"), (dict(penalty=penalties.MCP()), "strength of an elastic net"),
    (dict(cov_type="HC1"), "not defined"), (dict(family="negative_binomial"), "does not estimate")], ids=str)
def test_bad_choices_in_formulas_are_told(how, words):
    with pytest.raises(ValueError, match=words):
        glm("firm ~ a + b", frame(), **{"alpha": "cv", "l1_ratio": 1.0} | how)


def test_refits_have_the_standard_errors_of_the_selected_columns():
    first, second = frame(), frame(seed=1)
    results = glm("y ~ a + b + c + d + e + g", first, alpha="cv", l1_ratio=1.0, rule="1se")
    again = results.refit(second, clusters="firm")
    left = [name for name, value in results.params.items() if value == 0.0]
    assert left and again.params[left].isna().all() and "fitted without one" in str(again.summary())
    names = [*"abcde"]
    model = LassoCV(rule="1se").fit(first[names], first["y"])
    ours = model.refit(second[names], second["y"], cov_type="HC1")
    used = [name for name, stays in zip(names, model.selected_) if stays]
    plain = GLMRegressor(cov_type="HC1").fit(second[used], second["y"]).results_
    np.testing.assert_allclose(ours.params.dropna(), plain.params, rtol=1e-9)
    np.testing.assert_allclose(ours.bse.dropna(), plain.bse, rtol=1e-9)
    labels = LogisticRegressionCV(l1_ratio=1.0).fit(first[names], first["event"])
    assert labels.refit(second[names], second["event"]).bse.notna().sum() == labels.selected_.sum() + 1
    with pytest.raises(ValueError, match="y has the classes"):
        labels.refit(second[names], second["firm"] > 3)


def test_negative_ways_into_a_fit_leave_it_as_it_was():
    X, y, _, _ = sample()
    model = LassoCV().fit(X, y)
    before = model.coef_.copy()
    with pytest.raises(ValueError):
        model.refit(X[:, :3], y)
    np.testing.assert_array_equal(model.coef_, before)
