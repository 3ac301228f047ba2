"""What people bring from scikit-learn and statsmodels: frames, alpha= of intervals, clusters without a cov_type."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.base import clone
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_predict

import daskglm_rep as dg
from daskglm_rep.__main__ import main


def sample(n=600, seed=0):
    """A frame, 0/1 responses, 20 clusters that matter."""
    r = np.random.default_rng(seed)
    firm = r.integers(0, 20, n)
    frame = pd.DataFrame(r.normal(size=(n, 2)), columns=["a", "b"])
    eta = frame["a"] + 0.5 * r.normal(size=20)[firm]
    return frame, pd.Series((eta + r.logistic(size=n) > 0).astype(int), name="late"), firm


# ---------------------------------------------------------------- frames through scikit-learn


@pytest.mark.parametrize("model", [dg.LogisticRegression(), dg.GLMClassifier("probit")], ids=["logistic", "probit"])
@pytest.mark.parametrize("scoring", ["neg_log_loss", "neg_brier_score", "roc_auc"])
def test_grid_search_on_a_frame_chooses_as_on_an_array(model, scoring):
    X, y, _ = sample()
    grid = {"alpha": [10.0, 1.0, 0.0]}
    framed = GridSearchCV(model, grid, cv=3, scoring=scoring).fit(X, y)
    plain = GridSearchCV(model, grid, cv=3, scoring=scoring).fit(X.to_numpy(), y.to_numpy())
    assert np.isfinite(framed.cv_results_["mean_test_score"]).all()
    assert framed.best_params_ == plain.best_params_
    if scoring != "roc_auc":
        assert framed.best_params_ == {"alpha": 0.0}
    np.testing.assert_allclose(framed.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"], rtol=1e-12)


@pytest.mark.parametrize("tool", [
    lambda X, y: cross_val_predict(dg.LogisticRegression(), X, y, cv=3, method="predict_proba"),
    lambda X, y: cross_val_predict(dg.GLMClassifier(), X, y, cv=3, method="decision_function"),
    lambda X, y: permutation_importance(dg.LogisticRegression().fit(X, y), X, y, scoring="neg_log_loss",
                                        random_state=0).importances_mean,
    lambda X, y: dg.LogisticRegression().fit(X, y).predict_proba(X)[:, 1],
    lambda X, y: dg.PoissonRegressor().fit(X, y).predict(X).reshape(-1, 1),
], ids=["cross_val_predict", "decisions", "permutation", "second column", "reshape"])
def test_tools_on_a_frame_give_what_they_give_on_an_array(tool):
    X, y, _ = sample()
    np.testing.assert_allclose(tool(X, y), tool(X.to_numpy(), y.to_numpy()), rtol=1e-9)


def test_results_keep_the_frame():
    X, y, _ = sample()
    mean = dg.LogisticRegression().fit(X, y).results_.get_prediction(X).mean
    assert isinstance(mean, pd.Series) and mean.index.equals(X.index)


# ---------------------------------------------------------------- clusters


@pytest.mark.parametrize("model", [dg.LogisticRegression(), dg.GLMClassifier(), dg.LinearRegression()], ids=repr)
def test_clusters_mean_clustered(model):
    X, y, firm = sample()
    fitted = clone(model).fit(X, y, clusters=firm)
    named = clone(model).set_params(cov_type="cluster").fit(X, y, clusters=firm)
    later = clone(model).fit(X, y).results_
    assert fitted.results_.cov_type == "cluster" and later.cov_type == "nonrobust"
    np.testing.assert_array_equal(fitted.results_.bse, named.results_.bse)
    np.testing.assert_allclose(later.with_covariance(X=X, y=y, clusters=firm).bse, named.results_.bse, rtol=1e-9)
    assert later.with_covariance().cov_type == "nonrobust"
    assert fitted.get_params()["cov_type"] is None and clone(fitted).get_params() == fitted.get_params()


def test_clustered_by_default_is_statsmodels():
    X, y, firm = sample()
    theirs = sm.OLS(y, sm.add_constant(X)).fit(cov_type="cluster", cov_kwds={"groups": firm}, use_t=True)
    np.testing.assert_allclose(dg.LinearRegression().fit(X, y, clusters=firm).results_.bse, theirs.bse, rtol=1e-8)


def test_a_named_type_is_what_one_gets():
    X, y, firm = sample()
    assert dg.LogisticRegression(cov_type="HC1").fit(X, y, clusters=firm).results_.cov_type == "HC1"
    data = X.assign(y=y, firm=firm)
    with pytest.raises(ValueError, match="clusters are given, and cov_type='nonrobust' ignores them"):
        dg.LogisticRegression(cov_type="nonrobust").fit(X, y, clusters=firm)
    with pytest.raises(ValueError, match="clusters are given, and cov_type='nonrobust' ignores them"):
        dg.logit("y ~ a", data, clusters="firm", cov_type="nonrobust")
    with pytest.raises(ValueError, match="cov_type='CR2' needs cluster labels"):
        dg.LinearRegression(cov_type="CR2").fit(X, y)
    assert dg.lm("y ~ a", data, clusters="firm").cov_type == "cluster"


# ---------------------------------------------------------------- levels of intervals


def test_alpha_is_statsmodels_word():
    X, y, _ = sample()
    results = dg.LinearRegression().fit(X, y).results_
    theirs = sm.OLS(y, sm.add_constant(X)).fit()
    np.testing.assert_allclose(results.conf_int(alpha=0.1), theirs.conf_int(alpha=0.1), rtol=1e-8)
    np.testing.assert_allclose(results.conf_int(0.9), results.conf_int(alpha=0.1), rtol=1e-12)
    pd.testing.assert_frame_equal(results.summary_frame(alpha=0.1), results.summary_frame(0.9))
    assert str(results.summary(alpha=0.1)) == str(results.summary(0.9))
    narrow, same = results.get_prediction(X, alpha=0.1).frame, results.get_prediction(X, level=0.9).frame
    pd.testing.assert_frame_equal(narrow, same)
    for effects in (results.margins, results.average_predictions):
        pd.testing.assert_frame_equal(effects(X, alpha=0.1).frame, effects(X, level=0.9).frame)
    assert results.to_xarray(alpha=0.1).equals(results.to_xarray(0.9))


def test_the_command_line_takes_levels_alike(tmp_path, capsys):
    X, y, _ = sample(60)
    X.assign(y=y).to_parquet(tmp_path / "rows.parquet")
    assert main(["fit", "y ~ a", str(tmp_path / "rows.parquet"), "--level", "0.05"]) == 1
    told = capsys.readouterr()
    assert "asks for 5 % intervals" in told.err and not told.out
