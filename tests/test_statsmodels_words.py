"""statsmodels' words on results give statsmodels' numbers; what needs rows takes them and gives their kind back."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
import statsmodels.api as sm
import statsmodels.formula.api as smf
import xarray as xr

import daskglm_rep as dg

N = 400


def sample():
    r = np.random.default_rng(15)
    f = pd.DataFrame(r.normal(size=(N, 3)), columns=["x1", "x2", "x3"])
    eta = 0.4 + f.x1 * 0.5 - 0.3 * f.x2
    f["counts"] = r.poisson(np.exp(eta)).astype(float)
    f["number"] = eta + r.normal(size=N)
    f["vote"] = np.where(eta + r.logistic(size=N) > 0, "yes", "no")
    f["g"] = r.choice(list("abc"), N)
    f["w"] = r.uniform(0.5, 2.0, N)
    return f


F = sample()
Z = sm.add_constant(F[["x1", "x2", "x3"]]).to_numpy()


@pytest.fixture(scope="module")
def linear():
    return dg.LinearRegression().fit(F[["x1", "x2", "x3"]], F["number"]).results_


@pytest.fixture(scope="module")
def poisson():
    return dg.glm("counts ~ x1 + x2 + C(g)", F, family="poisson", weights="w", tol=1e-9)


@pytest.fixture(scope="module")
def their_poisson():
    return smf.glm("counts ~ x1 + x2 + C(g)", F, family=sm.families.Poisson(), var_weights=F.w).fit(tol=1e-13)


# ---------------------------------------------------------------- tests


R = np.array([[0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, -1.0]])


@pytest.mark.parametrize("cov", ["nonrobust", "HC1"])
def test_t_and_f_tests(cov):
    theirs = sm.OLS(F["number"].to_numpy(), Z).fit(cov_type=cov, use_t=True)
    ours = dg.LinearRegression(cov_type=cov, tol=1e-10).fit(F[["x1", "x2", "x3"]], F["number"]).results_
    one, other = ours.t_test(R, [0.1, 0.2]), theirs.t_test((R, [0.1, 0.2]))
    for name in ("effect", "sd", "tvalue", "pvalue"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-8, err_msg=name)
    np.testing.assert_allclose(one.conf_int(alpha=0.1), other.conf_int(alpha=0.1), rtol=1e-8)
    np.testing.assert_allclose(one.summary_frame(alpha=0.05), other.summary_frame(alpha=0.05), rtol=1e-8)
    f, expected = ours.f_test("x1 = x2, x3 = 0.1"), theirs.f_test("x1 = x2, x3 = 0.1")
    np.testing.assert_allclose([f.fvalue, f.pvalue, f.df_num, f.df_denom],
                               [expected.fvalue, expected.pvalue, expected.df_num, expected.df_denom], rtol=1e-8)
    np.testing.assert_allclose([ours.rsquared_adj, ours.fvalue, ours.f_pvalue],
                               [theirs.rsquared_adj, theirs.fvalue, theirs.f_pvalue], rtol=1e-8)
    np.testing.assert_allclose(ours.conf_int(alpha=0.2), theirs.conf_int(alpha=0.2), rtol=1e-8)


def test_words_of_t_tests_are_rows(poisson, their_poisson):
    one = poisson.t_test("x1 = x2, C(g)[T.b] - C(g)[T.c] = 0")
    other = their_poisson.t_test("x1 = x2, C(g)[T.b] - C(g)[T.c] = 0")
    assert one.names == ["x1 = x2", "C(g)[T.b] - C(g)[T.c] = 0"]
    for name in ("effect", "sd", "tvalue", "pvalue"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-7)
    f, expected = poisson.f_test("x1 = 0, C(g)[T.b] = 0"), their_poisson.f_test("x1 = 0, C(g)[T.b] = 0")
    np.testing.assert_allclose([f.fvalue, f.pvalue], [expected.fvalue, expected.pvalue], rtol=1e-7)
    with pytest.raises(AttributeError, match="gaussian"):
        poisson.fvalue


def test_each_row_has_the_degrees_of_freedom_of_its_table():
    clusters = np.repeat(np.arange(20), 20)
    fit = dg.LinearRegression(cov_type="CR2").fit(F[["x1", "x2"]], F["number"], clusters=clusters).results_
    np.testing.assert_allclose(fit.t_test(np.eye(3)).pvalue, fit.pvalues, rtol=1e-10)
    np.testing.assert_allclose(fit.hypotheses().pvalue, fit.pvalues, rtol=1e-10)


def test_hypotheses_by_the_delta_method(poisson, linear):
    b, V = poisson.params, poisson.cov_params().to_numpy()
    found = poisson.hypotheses("exp(x1) = 2, x1 * x2, x1 / (C(g)[T.b] + 1) = 0.5, -x2 ** 2 + log(Intercept + 3)")
    x1, x2, g, c = b["x1"], b["x2"], b["C(g)[T.b]"], b["Intercept"]
    np.testing.assert_allclose(found.effect, [np.exp(x1) - 2, x1 * x2, x1 / (g + 1) - 0.5, -x2 ** 2 + np.log(c + 3)])
    J = np.zeros((4, 5))
    order = list(b.index)
    J[0, order.index("x1")] = np.exp(x1)
    J[1, order.index("x1")], J[1, order.index("x2")] = x2, x1
    J[2, order.index("x1")], J[2, order.index("C(g)[T.b]")] = 1 / (g + 1), -x1 / (g + 1) ** 2
    J[3, order.index("x2")], J[3, order.index("Intercept")] = -2 * x2, 1 / (c + 3)
    np.testing.assert_allclose(found.sd, np.sqrt(np.diag(J @ V @ J.T)), rtol=1e-12)
    np.testing.assert_allclose(found.cov, J @ V @ J.T, rtol=1e-10, atol=1e-15)
    plain, words = linear.t_test("x1 - x2 = 0.1"), linear.hypotheses("x1 = x2 + 0.1")
    np.testing.assert_allclose([words.effect[0] + 0.1, words.sd[0], words.pvalue[0]],
                               [plain.effect[0], plain.sd[0], plain.pvalue[0]], rtol=1e-12)


def test_functions_and_features_of_one_name():
    fit = dg.LinearRegression().fit(F[["x1", "x2"]].set_axis(["exp", "e"], axis=1), F["number"]).results_
    found = fit.hypotheses("exp(exp) - 1e0 * e")
    np.testing.assert_allclose(found.effect, np.exp(fit.params["exp"]) - fit.params["e"])


@pytest.mark.parametrize("text, words", [("nosuch = 1", "cannot be read"), ("x1 =", "cannot be read"),
                                         ("x1.real", "cannot be read"), ("sin(x1)", "cannot be read"),
                                         ("log(-exp(x1))", "no value"), ("__import__('os')", "cannot be read")])
def test_hypotheses_that_cannot_be_read(linear, text, words):
    with pytest.raises(ValueError, match=words):
        linear.hypotheses(text)


def test_aliased_coefficients_have_no_test():
    with pytest.warns(dg.AliasWarning):
        fit = dg.lm("number ~ x1 + I(2 * x1)", F)
    assert len(fit.hypotheses().names) == 2
    for ask in (fit.t_test, fit.hypotheses):
        with pytest.raises(ValueError, match="not estimated"):
            ask("I(2 * x1) = 1")


# ---------------------------------------------------------------- rows


def test_summary_frames_of_predictions(linear, poisson, their_poisson):
    new = F.iloc[:7]
    ours = linear.get_prediction(new[["x1", "x2", "x3"]]).summary_frame(alpha=0.1)
    theirs = sm.OLS(F["number"].to_numpy(), Z).fit().get_prediction(Z[:7]).summary_frame(alpha=0.1)
    assert list(ours.columns) == list(theirs.columns) and list(ours.index) == list(new.index)
    np.testing.assert_allclose(ours, theirs, rtol=1e-7)
    ours, theirs = poisson.get_prediction(new), their_poisson.get_prediction(new)
    np.testing.assert_allclose(ours.summary_frame(), theirs.summary_frame(), rtol=1e-6)
    np.testing.assert_allclose(ours.conf_int(alpha=0.2), theirs.conf_int(alpha=0.2), rtol=1e-6)
    np.testing.assert_allclose(ours.predicted_mean, theirs.predicted_mean, rtol=1e-7)
    lazy = poisson.get_prediction(dd.from_pandas(new, npartitions=2)).summary_frame(level=0.8)
    assert isinstance(lazy, dd.DataFrame)
    np.testing.assert_allclose(lazy.compute(), theirs.summary_frame(alpha=0.2), rtol=1e-6)
    array = linear.get_prediction(da.from_array(Z[:7, 1:], chunks=(3, 3))).summary_frame()
    assert isinstance(array, dd.DataFrame) and list(array.columns)[:2] == ["mean", "mean_se"]
    labelled = linear.get_prediction(xr.DataArray(Z[:7, 1:], dims=("row", "column"))).summary_frame()
    assert list(labelled.data_vars)[:2] == ["mean", "mean_se"] and labelled["mean_se"].dims == ("row",)


KINDS = ("response", "pearson", "deviance")


@pytest.mark.parametrize("kind", KINDS)
def test_residuals_of_a_formula(poisson, their_poisson, kind):
    ours = getattr(poisson, f"resid_{kind}")(F)
    np.testing.assert_allclose(ours, getattr(their_poisson, f"resid_{kind}"), rtol=1e-6, atol=1e-9)
    assert list(ours.index) == list(F.index)
    lazy = getattr(poisson, f"resid_{kind}")(dd.from_pandas(F, npartitions=3))
    assert isinstance(lazy, dd.Series)
    pd.testing.assert_series_equal(lazy.compute(), ours)


def test_rows_with_gaps_have_no_residual(poisson):
    gaps = F.copy()
    gaps.loc[3, "x1"], gaps.loc[5, "w"], gaps.loc[9, "counts"], gaps.loc[11, "g"] = None, None, None, None
    ours, whole = poisson.resid_pearson(gaps), poisson.resid_pearson(F)
    assert list(np.flatnonzero(ours.isna())) == [3, 5, 9, 11]
    pd.testing.assert_series_equal(ours.dropna(), whole.drop([3, 5, 9, 11]))
    logs = dg.lm("number ~ np.log(x1 + 1) + x2", F)
    ours, good = logs.resid_response(F), F.x1 > -1
    theirs = smf.ols("number ~ np.log(x1 + 1) + x2", F[good]).fit()
    assert (ours.isna() == ~good).all() and not good.all()
    np.testing.assert_allclose(ours[good], theirs.resid, rtol=1e-6)


def test_residuals_of_a_vote_and_of_datasets():
    fit = dg.logit("vote ~ x1 + x2", F)
    theirs = smf.glm("vote01 ~ x1 + x2", F.assign(vote01=(F.vote == "yes") * 1.0), family=sm.families.Binomial()).fit()
    for kind in KINDS:
        np.testing.assert_allclose(getattr(fit, f"resid_{kind}")(F), getattr(theirs, f"resid_{kind}"), rtol=1e-5)
    np.testing.assert_allclose(fit.fittedvalues(F), theirs.fittedvalues, rtol=1e-6)
    table = xr.Dataset.from_dataframe(F[["x1", "x2", "vote"]])
    found = fit.resid_response(table)
    assert isinstance(found, xr.DataArray) and found.dims == ("index",)
    np.testing.assert_allclose(found, fit.resid_response(F))


def test_fitted_values_and_residuals_are_of_the_kind_of_X(linear):
    X, y = F[["x1", "x2", "x3"]].set_axis(range(5, N + 5)), F["number"].set_axis(range(5, N + 5))
    theirs = sm.OLS(y, sm.add_constant(X)).fit()
    ours = linear.fittedvalues(X), linear.resid_response(X, y)
    for a, b in zip(ours, (theirs.fittedvalues, theirs.resid)):
        pd.testing.assert_series_equal(a, b, check_names=False, rtol=1e-7)
    assert isinstance(linear.resid_response(X.to_numpy(), y.to_numpy()), np.ndarray)
    lazy = da.from_array(X.to_numpy(), chunks=(150, 3)), da.from_array(y.to_numpy(), chunks=150)
    assert isinstance(linear.fittedvalues(lazy[0]), da.Array)
    residual = linear.resid_response(*lazy)
    assert isinstance(residual, da.Array) and residual.chunks == lazy[1].chunks
    np.testing.assert_allclose(residual, theirs.resid, rtol=1e-6)
    frames = dd.from_pandas(X, npartitions=3), dd.from_pandas(y, npartitions=3)
    residual = linear.resid_response(*frames)
    assert isinstance(residual, dd.Series)
    pd.testing.assert_series_equal(residual.compute(), ours[1], check_names=False)
    labelled = xr.DataArray(X.to_numpy(), dims=("row", "column"), coords={"row": X.index})
    residual = linear.resid_response(labelled, y.to_numpy())
    assert isinstance(residual, xr.DataArray) and list(residual["row"].values) == list(X.index)


def test_several_classes_have_probabilities_and_no_residuals():
    fit = dg.mnlogit("g ~ x1 + x2", F)
    pd.testing.assert_frame_equal(fit.fittedvalues(F), fit.predict(F))
    assert list(fit.get_prediction(F[:3]).summary_frame().columns)[:4] == ["mean_a", "mean_b", "mean_c", "mean_se_a"]
    with pytest.raises(ValueError, match="one equation"):
        fit.resid_response(F)


# ---------------------------------------------------------------- files


def test_saved_results_come_back(poisson, linear, tmp_path):
    for fit in (poisson, linear):
        fit.save(tmp_path / "fit.pickle")
        again = dg.load(tmp_path / "fit.pickle")
        pd.testing.assert_frame_equal(again.summary_frame(), fit.summary_frame())
    assert [p.name for p in tmp_path.iterdir()] == ["fit.pickle"]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text").write_text("hello")
    pd.to_pickle({"a": 1}, tmp_path / "dict")
    for name, words in (("text", "holds no results"), ("dict", "holds a dict")):
        with pytest.raises(ValueError, match=words):
            dg.load(tmp_path / name)


# ---------------------------------------------------------------- kinds that fits take


def kinds_of(frame):
    return {"polars": pl.from_pandas(frame), "arrow": pa.Table.from_pandas(frame), "sparse": sp.csr_matrix(frame),
            "list": frame.to_numpy().tolist(), "dataset": xr.Dataset.from_dataframe(frame)}


@pytest.mark.parametrize("kind", ["polars", "arrow", "sparse", "list", "dataset"])
def test_rows_of_every_kind(linear, kind):
    frame, y = F[["x1", "x2", "x3"]], F["number"].to_numpy()
    X = kinds_of(frame)[kind]
    np.testing.assert_allclose(linear.fittedvalues(X), linear.fittedvalues(frame), rtol=1e-12)
    np.testing.assert_allclose(linear.resid_pearson(X, y), linear.resid_pearson(frame, y), rtol=1e-10)
    table, expected = linear.get_prediction(X).summary_frame(), linear.get_prediction(frame).summary_frame()
    for name in expected:
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-10)
    np.testing.assert_allclose(linear.fit_checks(X, y).binned, linear.fit_checks(frame, y).binned, rtol=1e-10)


@pytest.mark.parametrize("kind", ["polars", "arrow"])
def test_formula_rows_of_other_libraries(poisson, kind):
    data = {"polars": pl.from_pandas, "arrow": pa.Table.from_pandas}[kind](F)
    np.testing.assert_allclose(poisson.resid_deviance(data), poisson.resid_deviance(F), rtol=1e-10)
    table, expected = poisson.get_prediction(data).summary_frame(), poisson.get_prediction(F).summary_frame()
    for name in expected:
        np.testing.assert_allclose(table[name], expected[name], rtol=1e-10)


def test_empty_partitions_have_no_rows(poisson):
    empty = dd.from_pandas(F.iloc[:0], npartitions=1)
    data = dd.concat([empty, dd.from_pandas(F, npartitions=2), empty])
    pd.testing.assert_series_equal(poisson.resid_deviance(data).compute(), poisson.resid_deviance(F))
    pd.testing.assert_frame_equal(poisson.get_prediction(data).summary_frame().compute(),
                                  poisson.get_prediction(F).summary_frame())
    pd.testing.assert_frame_equal(poisson.fit_checks(data).rows, poisson.fit_checks(F).rows)


def test_what_is_left_of_a_model_without_slopes():
    fit = dg.lm("number ~ 1", F)
    assert np.isnan(fit.fvalue) and np.isnan(fit.f_pvalue) and abs(fit.rsquared_adj) < 1e-12


def test_bare_features_are_those_of_every_class():
    fit = dg.mnlogit("g ~ x1 + x2", F)
    found = fit.hypotheses("x1 * x2 = 0")
    assert found.names == ["b: x1 * x2 = 0", "c: x1 * x2 = 0"]
    each = fit.hypotheses("b:x1 * b:x2, c:x1 * c:x2")
    np.testing.assert_allclose(found.effect, each.effect)
    np.testing.assert_allclose(found.cov, each.cov)


def test_class_weights_are_the_residuals_weights():
    fit = dg.LogisticRegression(class_weight={"yes": 2.0, "no": 1.0}).fit(F[["x1"]], F["vote"]).results_
    w = np.where(F["vote"] == "yes", 2.0, 1.0)
    theirs = sm.GLM((F["vote"] == "yes") * 1.0, sm.add_constant(F[["x1"]]), sm.families.Binomial(), var_weights=w).fit()
    np.testing.assert_allclose(fit.resid_pearson(F[["x1"]], F["vote"]), theirs.resid_pearson, rtol=1e-5)
