"""Bad input gets one clear sentence that says what, where and what to do, from memory and from chunks alike."""

import warnings

import dask.array as da
import dask.dataframe as dd
import make_data
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from daskglm_rep import (AliasWarning, GammaRegressor, GLMClassifier, GLMRegressor, LinearRegression,
                         LogisticRegression, PoissonRegressor, RepresentativeGLM, SeparationWarning, StochasticGLM,
                         design)

N = 400


def sample():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(N, 3))
    y = rng.poisson(np.exp(0.3 * X[:, 0])).astype(float)
    label = (X[:, 0] + rng.logistic(size=N) > 0).astype(float)
    return X, y, label


X, Y, LABEL = sample()


def numpy_kind(X, y, **columns):
    return X, y, columns


def dask_kind(X, y, **columns):
    """Three chunks, the rows in question usually in the second or third."""
    chunks = (150, 150, len(X) - 300) if len(X) > 300 else (len(X) // 2, len(X) - len(X) // 2)
    made = [None if c is None else da.from_array(np.asarray(c), chunks=(chunks,) + (-1,) * (np.ndim(c) - 1))
            for c in (X, y, *columns.values())]
    lazy = [None if c is None else c.map_blocks(_same, dtype=c.dtype) for c in made]          # no values in the graph
    return lazy[0], lazy[1], dict(zip(columns, lazy[2:]))


def _same(block):
    return block


@pytest.fixture(params=[numpy_kind, dask_kind], ids=["numpy", "dask"])
def kind(request):
    return request.param


def changed(a, where, value):
    a = np.array(a)
    a[where] = value
    return a


def sentence(caught, *words):
    """One sentence, at most a few lines long on a screen, with what the reader needs."""
    text = str(caught.value)
    assert "\n" not in text.strip() and len(text) < 400, text
    for word in words:
        assert word in text, f"{word!r} not in {text!r}"


def refuse(estimator, kind, X, y, *words, **columns):
    X, y, columns = kind(X, y, **columns)
    with pytest.raises(ValueError) as caught, warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(X, y, **columns)
    sentence(caught, *words)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (np.inf, "infinite"), (-np.inf, "infinite")])
def test_not_finite_in_x(kind, value, word):
    bad = changed(X, ([5, 200, 390], 1), value)
    refuse(PoissonRegressor(), kind, bad, Y, word, "'x1' (3 rows)", "drop or impute")


def test_not_finite_in_several_columns(kind):
    bad = changed(changed(X, (200, 0), np.nan), ([1, 399], 2), np.nan)
    refuse(PoissonRegressor(), kind, bad, Y, "'x0' (1 rows)", "'x2' (2 rows)")


def test_not_finite_names_the_column_of_a_frame():
    frame = pd.DataFrame(changed(X, (7, 2), np.nan), columns=["age", "sex", "dose"]).assign(y=Y)
    for source in (frame, dd.from_pandas(frame, npartitions=3)):
        with pytest.raises(ValueError) as caught:
            PoissonRegressor().fit(source[["age", "sex", "dose"]], source["y"])
        sentence(caught, "NaN", "'dose' (1 rows)")


@pytest.mark.parametrize("value, word", [(np.nan, "NaN"), (np.inf, "infinit")])
def test_not_finite_in_y(kind, value, word):
    refuse(PoissonRegressor(), kind, X, changed(Y, [5, 200], value), "y contains", word, "2 of 400 rows")
    refuse(LinearRegression(), kind, X, changed(Y, [5, 200], value), "y contains", word)


def test_nan_label(kind):
    refuse(GLMClassifier(), kind, X, changed(LABEL, [5, 200], np.nan), "y contains", "NaN")


@pytest.mark.parametrize("column", ["sample_weight", "offset", "exposure"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_in_other_columns(kind, column, value):
    refuse(PoissonRegressor(), kind, X, Y, column, **{column: changed(np.ones(N), [5, 200], value)})


@pytest.mark.parametrize("family, y, words", [
    ("poisson", changed(Y, [3, 200, 201], -1.0), ("3 of 400 rows", "poisson", ">= 0")),
    ("gamma", changed(Y + 1, [200], 0.0), ("1 of 400 rows", "gamma", "> 0")),
    ("inverse_gaussian", changed(Y + 1, [200], -2.0), ("1 of 400 rows", "inverse_gaussian", "> 0")),
    ("binomial", changed(LABEL, [200, 300], 1.5), ("2 of 400 rows", "binomial", "[0, 1]")),
    ("tweedie", changed(Y, [200], -0.1), ("1 of 400 rows", "tweedie", ">= 0")),
    ("negative_binomial", changed(Y, [200], -1.0), ("1 of 400 rows", "negative_binomial", ">= 0")),
], ids=lambda v: v if isinstance(v, str) else "")
def test_response_outside_the_domain(kind, family, y, words):
    refuse(GLMRegressor(family), kind, X, y, "y has", *words)


def test_weights(kind):
    refuse(PoissonRegressor(), kind, X, Y, "Negative", "sample_weight", "2 of 400",
           sample_weight=changed(np.ones(N), [5, 200], -1.0))
    refuse(PoissonRegressor(), kind, X, Y, "weight", "zero", sample_weight=np.zeros(N))
    refuse(GLMClassifier(), kind, X, LABEL, "Negative", "sample_weight", sample_weight=changed(np.ones(N), [5], -1.0))
    refuse(GLMClassifier(), kind, X, LABEL, "weight", "zero", sample_weight=np.zeros(N))


def test_exposure_must_be_positive(kind):
    for value in (0.0, -1.0):
        refuse(PoissonRegressor(), kind, X, Y, "exposure", "> 0", exposure=changed(np.ones(N), [200], value))


def test_one_class(kind):
    refuse(GLMClassifier(), kind, X, np.ones(N), "one class", "1.0")
    refuse(LogisticRegression(), kind, X, np.array(["a"] * N), "one class", "'a'")
    refuse(LogisticRegression(), kind, X, LABEL, "one class", sample_weight=LABEL)


def test_classifier_of_a_continuous_response(kind):
    refuse(LogisticRegression(), kind, X, np.random.default_rng(2).normal(size=N), "y", "continuous")


def test_binary_classifier_of_three_classes(kind):
    refuse(GLMClassifier(), kind, X, np.arange(N) % 3, "3 classes", "LogisticRegression")


def test_more_columns_than_rows(kind):
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(20, 30))
    y = wide[:, 0] + rng.normal(size=20)
    refuse(LinearRegression(rank="error"), kind, wide, y, "31 columns", "20 rows", "penalty")
    given, y, _ = kind(wide, y)
    with pytest.warns(AliasWarning, match="31 columns.*20 rows.*penalty.*11 of 31"):
        fitted = LinearRegression().fit(given, y)
    assert fitted.results_.params.isna().sum() == 11


def test_text_in_x(kind):
    text = X.astype(object)
    text[200, 1] = "high"
    refuse(PoissonRegressor(), kind, text, Y, "high", "float")


def test_text_in_a_frame():
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(b="high", y=Y)
    for source in (frame, dd.from_pandas(frame, npartitions=3)):
        with pytest.raises(ValueError) as caught:
            PoissonRegressor().fit(source[["a", "b", "c"]], source["y"])
        sentence(caught, "float", "'b'", "C(b)")


def test_text_or_categories_in_any_method():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    words, sizes = frame.assign(c=pd.Categorical(np.where(X[:, 0] > 0, "u", "v"))), frame.assign(b="high")
    for estimator in (GLMClassifier(), StochasticGLM(), RepresentativeGLM(representative="mean")):
        refuse(estimator, numpy_kind, words, LABEL, "'c'", "categories")
    fitted = GLMClassifier().fit(frame, LABEL)
    for call in (lambda: fitted.predict(sizes), lambda: fitted.score(sizes, LABEL)):
        with pytest.raises(ValueError) as caught:
            call()
        sentence(caught, "'b'", "text")
    coded = frame.assign(c=pd.Categorical(np.arange(N) % 2))                    # categories that are numbers are fine
    plain = GLMClassifier().fit(frame.assign(c=np.arange(N) % 2), LABEL)
    assert GLMClassifier().fit(coded, LABEL).coef_ == pytest.approx(plain.coef_)


def test_text_as_response(kind):
    refuse(PoissonRegressor(), kind, X, np.full(N, "yes"), "y must be numeric", "holds 'yes'", "encode")


def test_complex_numbers(kind):
    with pytest.raises(ValueError, match="Complex|numeric"):
        X_, y, _ = kind(X.astype(complex), Y)
        PoissonRegressor().fit(X_, y)


# ---------------------------------------------------------------- shapes


def test_lengths_that_do_not_match(kind):
    given, y, _ = kind(X, Y)
    for columns, word in (((Y[:-3],), "y"), ((Y, np.ones(N - 1)), "sample_weight"), ((Y, None, np.ones(7)), "offset")):
        columns = [None if c is None else kind(c[:, None], c)[1] for c in columns]
        with pytest.raises(ValueError) as caught:
            PoissonRegressor().fit(given, *columns)
        assert "\n" not in str(caught.value) and "400" in str(caught.value)
        assert word in str(caught.value) or kind is numpy_kind


def test_unknown_chunks_that_do_not_match():
    given = da.from_array(X, chunks=(150, -1))
    given = given[given[:, 0] > -9]
    for y, words in ((da.from_array(Y, chunks=100), ("chunks", "y")), (Y, ("unknown size", "compute_chunk_sizes"))):
        with pytest.raises(ValueError) as caught:
            PoissonRegressor().fit(given, y)
        sentence(caught, *words)
    y = da.from_array(np.r_[Y, 1.0], chunks=((150, 150, 101),))
    with pytest.raises(ValueError) as caught:
        PoissonRegressor().fit(given, y[y >= 0])
    sentence(caught, "differ in length", "block 2", "100", "101")


def test_partitions_that_do_not_match():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    y = pd.Series(Y, name="y")
    with pytest.raises(ValueError) as caught:
        PoissonRegressor().fit(dd.from_pandas(frame, npartitions=3), dd.from_pandas(y, npartitions=2))
    sentence(caught, "partitions", "y")


def test_lazy_beside_eager():
    with pytest.raises(ValueError) as caught:
        PoissonRegressor().fit(X, da.from_array(Y, chunks=100))
    sentence(caught, "y is lazy", "X is in memory")


@pytest.mark.parametrize("name", ["clusters", "blocks"])
def test_labels_are_called_what_the_user_calls_them(name):
    lazy = da.from_array(X, chunks=(150, -1)), da.from_array(Y, chunks=150)
    g = np.arange(N) % 7
    for given, labels, words in (((X, Y), g[:-1], "has 399"), (lazy, g[:-1], "has 399"), ((X, Y), 3, "single value 3"),
                                 (lazy, 3, "single value 3"), ((X, Y), da.from_array(g, chunks=150), "X is not"),
                                 ((lazy[0][lazy[0][:, 0] > -9], lazy[1]), g, "in memory cannot be cut")):
        with pytest.raises(ValueError) as caught:
            design.build(*given, **{name: labels})
        sentence(caught, name, words)
    with pytest.raises(ValueError, match=f"{name} is a dask Series but X is in memory"):
        design.build(X, Y, **{name: dd.from_pandas(pd.Series(g), npartitions=2)})


def test_dimensions(kind):
    given, y, _ = kind(X, Y)
    with pytest.raises(ValueError, match="two-dimensional|2D"):
        PoissonRegressor().fit(given[:, 0], y)


def test_empty_data(kind):
    for rows, columns, words in ((0, 3, "0 sample"), (N, 0, "0 feature")):
        given, y, _ = kind(X[:rows, :columns], Y[:rows])
        with pytest.raises(ValueError) as caught:
            PoissonRegressor().fit(given, y)
        assert words in str(caught.value)


def test_empty_chunks_are_fine():
    chunks = (0, 150, 0, 0, 250, 0)
    given, y = da.from_array(X, chunks=(chunks, -1)), da.from_array(Y, chunks=(chunks,))
    lazy = given.map_blocks(_same, dtype=float)
    truth = PoissonRegressor().fit(X, Y)
    for source in (given, lazy):
        assert PoissonRegressor().fit(source, y).coef_ == pytest.approx(truth.coef_, rel=1e-9)
    frame = dd.from_pandas(pd.DataFrame(X, columns=list("abc")).assign(y=Y, row=np.arange(N)), npartitions=4)
    few = frame[frame["row"] >= 310]                           # the first three of four partitions are empty now
    truth = PoissonRegressor().fit(X[310:], Y[310:])
    assert PoissonRegressor().fit(few[list("abc")], few["y"]).coef_ == pytest.approx(truth.coef_, rel=1e-9)


# ---------------------------------------------------------------- designs


def test_constant_and_duplicate_columns(kind):
    """Named in a warning and NaN in the table; the others as if they were alone."""
    truth = PoissonRegressor().fit(X, Y)
    wide = np.c_[X[:, 0], np.full(N, 7.0), X[:, 1], X[:, 0], X[:, 2], X[:, 1] - 2 * X[:, 2] + 1]
    given, y, _ = kind(wide, Y)
    with pytest.warns(AliasWarning, match="3 of 7 columns.*'x1', 'x3', 'x5'"):
        fitted = PoissonRegressor().fit(given, y)
    params, bse = fitted.results_.params, fitted.results_.bse
    assert params[["x1", "x3", "x5"]].isna().all() and bse[["x1", "x3", "x5"]].isna().all()
    kept = params[["Intercept", "x0", "x2", "x4"]].to_numpy()
    assert kept == pytest.approx(truth.results_.params.to_numpy(), rel=1e-8)
    assert bse[["Intercept", "x0", "x2", "x4"]].to_numpy() == pytest.approx(truth.results_.bse.to_numpy(), rel=1e-8)
    assert np.asarray(fitted.predict(given)) == pytest.approx(truth.predict(X), rel=1e-8)
    assert "NaN" in str(fitted.results_.summary())
    refuse(PoissonRegressor(rank="error"), kind, wide, Y, "'x1', 'x3', 'x5'", "rank='warn'")


@pytest.mark.parametrize("name", [n for n, c in make_data.cases().items() if c["kind"] == "bad_input"])
def test_reference_cases(name, kind):
    """What other programs were seen to do badly: an error, or a warning, or the right numbers here."""
    case = make_data.cases()[name]
    if case["model"].get("clusters") or "unseen" in name:
        pytest.skip("belongs to the tests of clustered covariance and of formulas")
    model, data = case["model"], make_data.build(case)
    given, y, columns = kind(data["X"][:, 1:], data["y"], sample_weight=data["weights"])
    estimator = GLMRegressor(model["family"], model["link"]) if model["family"] != "binomial" else GLMClassifier()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            results = estimator.fit(given, y, **columns).results_
        except ValueError:
            assert "raises" in case["accept"]
            return
    if told:
        assert {"warns", "aliased-dropped"} & set(case["accept"])
    else:
        assert "value" in case["accept"]
    if "coef" in case.get("expected", {}):
        assert results.params.to_numpy() == pytest.approx(case["expected"]["coef"], rel=1e-6)
    if "fitted" in case.get("expected", {}):
        assert np.asarray(estimator.predict(given)) == pytest.approx(case["expected"]["fitted"], rel=1e-8)


def separated_rows(complete):
    x = np.r_[np.linspace(-3, -0.5, 100), np.linspace(0.5, 3, 100), [] if complete else [0.0, 0.0]]
    return np.c_[x, np.sin(7 * x)], np.r_[np.zeros(100), np.ones(100), [] if complete else [0.0, 1.0]]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_responses_all_alike(kind, value):
    given, y, _ = kind(X, np.full(N, value))
    with pytest.warns(SeparationWarning, match="Complete separation"):
        results = GLMRegressor("binomial").fit(given, y).results_
    assert np.isnan(results.prsquared) and "separation" in str(results.summary())


@pytest.mark.parametrize("complete", [True, False])
def test_separation_is_told(kind, complete):
    given, y, _ = kind(*separated_rows(complete))
    with pytest.warns(SeparationWarning, match="^(Complete|Quasi-complete) separation.*'x0'.*Penalize") as told:
        fitted = GLMClassifier().fit(given, y)
    assert str(told[0].message).startswith("Complete" if complete else "Quasi-complete")
    assert "separation" in str(fitted.results_.summary())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(GLMClassifier(alpha=0.01).fit(given, y).coef_).all()


# ---------------------------------------------------------------- prediction


def test_prediction_before_fit(kind):
    given, y, _ = kind(X, Y)
    for estimator, method in ((PoissonRegressor(), "predict"), (GLMClassifier(), "predict_proba"),
                              (LogisticRegression(), "decision_function")):
        with pytest.raises(NotFittedError, match="not fitted"):
            getattr(estimator, method)(given)
    with pytest.raises(NotFittedError, match="not fitted"):
        PoissonRegressor().score(given, y)


def test_wrong_number_of_columns_at_prediction(kind):
    fitted = PoissonRegressor().fit(X, Y)
    given, y, _ = kind(X[:, :2], Y)
    for call in (lambda: fitted.predict(given), lambda: fitted.score(given, y)):
        with pytest.raises(ValueError) as caught:
            call()
        sentence(caught, "X has 2 features", "PoissonRegressor is expecting 3")


def test_wrong_names_at_prediction():
    frame = pd.DataFrame(X, columns=["age", "sex", "dose"])
    fitted = PoissonRegressor().fit(frame, Y)
    swapped = frame[["age", "dose", "sex"]]
    for given in (swapped, dd.from_pandas(swapped, npartitions=2)):
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.predict(given)


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("estimator, words", [
    (PoissonRegressor(alpha=np.inf), ("alpha", ">= 0", "inf")),
    (PoissonRegressor(alpha=-1), ("alpha", ">= 0", "-1")), (PoissonRegressor(tol=0), ("tol", "> 0")),
    (PoissonRegressor(l1_ratio=2), ("l1_ratio", "[0, 1]")), (PoissonRegressor(max_iter=0), ("max_iter", ">= 1")),
    (PoissonRegressor(solver="newton"), ("solver", "auto")), (PoissonRegressor(rank="ignore"), ("rank", "warn")),
    (PoissonRegressor(weights_kind="analytic"), ("weights_kind", "prior")),
    (PoissonRegressor(cov_type="robust"), ("cov_type", "HC0")), (PoissonRegressor(cov_type="cluster"), ("clusters",)),
    (PoissonRegressor(random_state="a"), ("random_state",)), (PoissonRegressor(link="logit"), ("logit", "poisson")),
    (PoissonRegressor(link="lgo"), ("Unknown link", "log")), (GLMRegressor("poison"), ("Unknown family", "poisson")),
    (GammaRegressor(link=3), ("Unknown link",)),
    (PoissonRegressor(random_state=-1), ("random_state", ">= 0")),
    (PoissonRegressor(fit_intercept="no"), ("fit_intercept", "True or False", "'no'")),
    (StochasticGLM(fit_intercept=None), ("fit_intercept", "True or False", "None")),
    (RepresentativeGLM(fit_intercept=1), ("fit_intercept", "True or False")),
    (RepresentativeGLM(random_state=-1), ("random_state", ">= 0")),
], ids=lambda v: repr(v) if hasattr(v, "fit") else "")
def test_parameters(estimator, words, kind):
    refuse(estimator, kind, X, Y + 1, *words)


def test_unknown_baseline(kind):
    refuse(LogisticRegression(baseline="z"), kind, X, np.array(list("abc"))[np.arange(N) % 3], "baseline='z'", "'a'")


def test_level_of_intervals():
    results = LinearRegression().fit(X, Y).results_
    with pytest.raises(ValueError, match="level must lie in"):
        results.conf_int(95)


@pytest.mark.parametrize("ask", [
    lambda r: r.conf_int(0.05), lambda r: r.conf_int(alpha=0.95), lambda r: r.summary(0.05),
    lambda r: r.summary_frame(level=0.05), lambda r: r.to_xarray(level=0.05), lambda r: r.get_prediction(X, level=0.05),
    lambda r: r.margins(X, level=0.05), lambda r: r.average_predictions(X, level=0.05)])
def test_an_interval_of_five_percent_is_a_mistake(ask):
    """statsmodels' conf_int(0.05) means 95 %: here it is refused, with the word to use."""
    results = LinearRegression().fit(X, Y).results_
    with pytest.raises(ValueError, match=r"asks for 5 % intervals; for 95 % intervals write alpha=0.05 or level=0.95"):
        ask(results)


@pytest.mark.parametrize("kind", ["numbers", "text"])
def test_a_row_of_weight_zero_may_have_a_label_of_its_own(kind):
    rng = np.random.default_rng(0)
    X, y, weight = rng.normal(size=(200, 2)), rng.integers(0, 2, 200), np.r_[0.0, np.ones(199)]
    y[0] = 2
    y = y if kind == "numbers" else np.array(["a", "b", "zz"], object)[y]
    beside, without = LogisticRegression().fit(X, y, sample_weight=weight), LogisticRegression().fit(X[1:], y[1:])
    np.testing.assert_allclose(beside.coef_, without.coef_, rtol=1e-9)
    assert list(beside.classes_) == list(without.classes_)


def test_a_frame_without_columns_is_told():
    with pytest.raises(ValueError, match="0 feature"):
        PoissonRegressor().fit(pd.DataFrame(index=range(5)), np.ones(5))


@pytest.mark.parametrize("look", ["resid_response", "resid_pearson", "resid_deviance", "influence", "fit_checks"])
def test_looks_at_rows_need_their_responses(look):
    """They took y = 0 in silence."""
    X, y = np.random.default_rng(0).normal(size=(2, 60, 3))
    with pytest.raises(ValueError, match="y is missing: pass the rows, X and y"):
        getattr(GLMRegressor().fit(X, y[:, 0]).results_, look)(X)


@pytest.mark.parametrize("value", [1e160, 1e308])
def test_values_whose_squares_overflow(value):
    X, y = np.random.default_rng(0).normal(size=(200, 2)), np.arange(200) % 2
    X[7, 1] = value
    with pytest.raises(ValueError, match="squares of column 'x1' of X, times the weights, sum to more"):
        LogisticRegression().fit(X, y)
