"""Rows in memory are not surveyed before they are fitted: the same answers, and the same sentences, as lazy ones."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import sparse, special

from daskglm_rep import GLMClassifier, GLMRegressor, LogisticRegression, PoissonRegressor, glm
from daskglm_rep.design import build, cuts
from daskglm_rep.families import Bernoulli, Binomial
from daskglm_rep.kernels.first_look import first_look
from daskglm_rep.kernels.survey import Pilot, spread, survey
from daskglm_rep.models.glm import GLM
from daskglm_rep.preparation import pilot_plan
from daskglm_rep.solvers import two_looks

N = 50_000
FEW = [5, 20_001, 20_002, 49_000]          # rows that a pilot has hardly drawn


def rows(seed=0, p=3, kind="binary"):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, p)) + [0.0, 3.0, -1.0][:p]
    eta = -1.0 + X @ [0.5, -0.3, 0.2][:p]
    y = (rng.random(N) < special.expit(eta)).astype(float) if kind == "binary" else rng.poisson(np.exp(0.5 * eta)) * 1.0
    return X, y


def lazy(a):
    """Rows that no one can reach by index."""
    if a is None or np.ndim(a) == 0:
        return a
    step = cuts(len(a))[0].stop
    return da.from_array(np.asarray(a), chunks=(step,) + (-1,) * (np.ndim(a) - 1)).map_blocks(np.copy)


def both(estimator, X, y, **more):
    """Fits of the rows in memory and of lazy ones, with what they told."""
    found = []
    for kind in (lambda a: a, lazy):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            fitted = estimator().fit(kind(X), kind(y), **{name: kind(value) for name, value in more.items()})
        found.append((fitted, [str(w.message) for w in told]))
    return found


def agree(quick, slow):
    (a, told), (b, also) = quick, slow
    assert told == also
    ours, theirs = a.results_, b.results_
    np.testing.assert_array_equal(np.isnan(ours.params), np.isnan(theirs.params))
    assert a.converged_ and np.nanmax(np.abs(ours.params - theirs.params) / theirs.bse) <= 1e-7
    np.testing.assert_allclose(ours.bse, theirs.bse, rtol=1e-6)
    for name in ("nobs", "llf", "deviance", "null_deviance", "pearson_chi2", "aic", "bic", "scale"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-6), name
    left, right = ours.fitted.survey, theirs.fitted.survey
    np.testing.assert_allclose(left.columns.mean, right.columns.mean, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(left.columns.deviation, right.columns.deviation, rtol=1e-9)
    np.testing.assert_array_equal(left.columns.low, right.columns.low)
    np.testing.assert_array_equal(left.columns.high, right.columns.high)
    assert left.labels == pytest.approx(right.labels)


def weights():
    return np.random.default_rng(1).integers(0, 4, N).astype(float)


def rare(X, where):
    X[:, 2] = 0.0
    X[where, 2] = 1.0
    return X


def one(a, row, value):
    a[row] = value
    return a


ORDINARY = {
    "as they come": lambda X, y: (X, y, {}),
    "sorted": lambda X, y: (X[np.argsort(y)], np.sort(y), {}),
    "sorted by a column": lambda X, y: (X[np.argsort(X[:, 0])], y[np.argsort(X[:, 0])], {}),
    "prior weights": lambda X, y: (X, y, {"sample_weight": weights()}),
    "Fortran order": lambda X, y: (np.asfortranarray(X), y, {}),
    "strided": lambda X, y: (np.repeat(X, 2, axis=1)[::-1, ::2][::-1], np.repeat(y, 3)[::3], {}),
    "far from zero": lambda X, y: (X + [1e8, 0.0, 0.0], y, {}),
    "wild scales": lambda X, y: (X * [1e-9, 1e9, 1.0], y, {}),
}
OPEN = {
    "offset": lambda X, y: (X, y, {"offset": 0.1 * X[:, 0]}),
    "a few offsets": lambda X, y: (X, y, {"offset": np.where(np.arange(N) == 17, 0.5, 0.0)}),
    "a rare level": lambda X, y: (rare(X, FEW), one(y, FEW, [0.0, 1.0, 0.0, 1.0]), {}),
    "constant but in the last rows": lambda X, y: (rare(X, np.arange(N - 40, N)), y, {}),
    "aliased": lambda X, y: (np.c_[X, X[:, 0] + X[:, 1]], y, {}),
    "aliased but in four rows": lambda X, y: (np.c_[X, X[:, 0] + np.isin(np.arange(N), FEW)],
                                              one(y, FEW, [0.0, 1.0, 0.0, 1.0]), {}),
    "an outlier": lambda X, y: (np.where((np.arange(N) == 777)[:, None] & [True, False, False], 1e9, X), y, {}),
}


@pytest.mark.parametrize("kind", ["binary", "counts"])
@pytest.mark.parametrize("case", [*ORDINARY, *OPEN])
def test_rows_in_memory_are_fitted_as_lazy_ones(case, kind):
    estimator = GLMClassifier if kind == "binary" else PoissonRegressor
    X, y, more = (ORDINARY | OPEN)[case](*rows(kind=kind))
    quick, slow = both(estimator, X, y, **more)
    agree(quick, slow)
    assert case in OPEN or quick[0].n_passes_ < slow[0].n_passes_


def test_frequency_weights_are_rows_again():
    X, y = rows(kind="counts")
    w = weights()
    times = np.repeat(np.arange(N), w.astype(int))
    fitted = PoissonRegressor(weights_kind="frequency").fit(X, y, sample_weight=w)
    again = PoissonRegressor().fit(X[times], y[times])
    assert fitted.n_passes_ <= 3 and again.n_passes_ == 2 and fitted.results_.nobs == again.results_.nobs
    np.testing.assert_allclose(fitted.results_.params, again.results_.params, rtol=1e-8)
    np.testing.assert_allclose(fitted.results_.bse, again.results_.bse, rtol=1e-6)


@pytest.mark.parametrize("make", [lambda X: X.astype(np.float32), pd.DataFrame, lambda X: np.round(X).astype(int),
                                  sparse.csr_array, lambda X: da.from_array(X, chunks=(7001, -1)).persist(),
                                  lambda X: da.from_array(X, chunks=(150, -1)).persist()],
                         ids=["float32", "frame", "integers", "sparse", "persisted", "small chunks"])
def test_any_kind_in_memory(make):
    X, y = rows()
    given = make(X)
    plain = given if isinstance(given, np.ndarray) else X
    labels = da.from_array(y, chunks=given.chunks[0]).persist() if isinstance(given, da.Array) else y
    fitted = GLMClassifier().fit(given, labels)
    other = GLMClassifier().fit(*(da.from_array(a, chunks=c).map_blocks(np.copy) for a, c in (
        (np.asarray(plain, float), (7001, -1)), (y, 7001))))
    assert fitted.n_passes_ < other.n_passes_
    assert np.max(np.abs(fitted.results_.params - other.results_.params.values) / other.results_.bse.values) <= 1e-7
    np.testing.assert_allclose(fitted.results_.bse, other.results_.bse, rtol=1e-6)


def test_formulas_with_missing_values_in_memory():
    X, y = rows()
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=y, g=np.arange(N) % 3)
    frame.loc[::1000, "b"] = np.nan
    quick, whole = (glm("y ~ a * b + c + C(g)", data, family="binomial") for data in (frame, frame.dropna()))
    assert quick.n_passes_ == 4 and quick.nobs == whole.nobs == len(frame.dropna())          # two make the design
    np.testing.assert_allclose(quick.params, whole.params, rtol=1e-7)
    np.testing.assert_allclose(quick.bse, whole.bse, rtol=1e-6)


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("text", [False, True], ids=["numbers", "text"])
@pytest.mark.parametrize("late", [False, True], ids=["common", "one in a late row"])
def test_labels(labels, text, late):
    X, y = rows()
    if labels == 3 and not late:
        y[::5] = 2.0
    if labels == 3 and late:
        y[[41_113, 41_114]] = 2.0
    names = np.array(["no", "yes", "who"])[y.astype(int)] if text else y.astype(int)
    quick, slow = both(LogisticRegression, X, names)
    agree(quick, slow)
    assert list(quick[0].classes_) == list(slow[0].classes_) and quick[0].classes_.dtype == slow[0].classes_.dtype
    assert quick[0].n_passes_ == 2 or late
    np.testing.assert_allclose(quick[0].predict_proba(X[:9]), slow[0].predict_proba(X[:9]), rtol=1e-7)


def test_responses_that_are_fractions_in_one_row():
    X, y = rows()
    y[40_321] = 0.5
    quick, slow = both(lambda: GLMRegressor("binomial"), X, y)
    agree(quick, slow)
    assert quick[0].results_.model == GLM.of(Binomial()) != GLM.of(Bernoulli())


BAD = {
    "NaN in one late row": lambda X, y, w: (one(X, (48_001, 1), np.nan), y, w),
    "infinite": lambda X, y, w: (one(X, (48_001, 1), -np.inf), y, w),
    "NaN in y": lambda X, y, w: (X, one(y, 3, np.nan), w),
    "infinite y": lambda X, y, w: (X, one(y, 48_003, np.inf), w),
    "y outside": lambda X, y, w: (X, one(y, 48_003, -1.0), w),
    "negative weight": lambda X, y, w: (X, y, one(w, 48_004, -1.0)),
    "NaN weight": lambda X, y, w: (X, y, one(w, 48_004, np.nan)),
    "all weights zero": lambda X, y, w: (X, y, 0.0 * w),
}


@pytest.mark.parametrize("estimator", [lambda: PoissonRegressor(), lambda: GLMRegressor("binomial"),
                                       lambda: GLMRegressor("gamma")], ids=["poisson", "binomial", "gamma"])
@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_refused_in_the_words_of_the_survey(case, estimator):
    X, y = rows()
    X, y, w = BAD[case](X, y if "gamma" not in str(estimator()) else y + 1.0, np.ones(N))
    told = []
    for kind in (lambda a: lazy(a).persist(), lazy):
        with pytest.raises(ValueError) as error:
            estimator().fit(kind(X), kind(y), sample_weight=kind(w))
        told.append(str(error.value))
    assert told[0] == told[1]


def test_a_row_without_weight_may_hold_anything_finite():
    X, y = rows(kind="counts")
    w = np.ones(N)
    X[48_000], w[48_000] = 1e6, 0.0
    quick, slow = both(PoissonRegressor, X, y, sample_weight=w)
    agree(quick, slow)


def test_means_that_leave_the_domain_on_a_row_that_the_pilot_has_not_drawn():
    rng = np.random.default_rng(3)
    X = rng.uniform(0.0, 1.0, (N, 1))
    y = rng.poisson(0.1 + X[:, 0]) * 1.0
    X[40_010] = -0.9
    y[40_010] = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quick, slow = (GLMRegressor("poisson", "identity").fit(kind(X), kind(y)).results_
                       for kind in (lambda a: a, lazy))
    np.testing.assert_allclose(quick.params, slow.params, rtol=1e-7)
    np.testing.assert_allclose(quick.bse, slow.bse, rtol=1e-6)


def test_a_warm_start_is_the_first_look():
    X, y = rows()
    warm = GLMClassifier(warm_start=True).fit(X, y)
    cold = warm.results_
    warm.fit(X, y)
    assert warm.n_passes_ <= 2
    np.testing.assert_allclose(warm.results_.params, cold.params, rtol=1e-8)
    np.testing.assert_allclose(warm.results_.bse, cold.bse, rtol=1e-6)


def test_two_fits_agree_to_the_last_bit():
    X, y = rows()
    first, second = (GLMClassifier().fit(X, y).results_ for _ in range(2))
    np.testing.assert_array_equal(first.params, second.params)
    np.testing.assert_array_equal(first.bse, second.bse)


def test_the_pilot_stands_for_all_rows_of_every_chunk():
    X, y = rows()
    X[:, 0] = np.arange(N)
    data = build(X, y)
    block = two_looks.drawn(data, pilot_plan(data, 0))
    assert block.weight.sum() == pytest.approx(N) and np.unique(block.X[:, 0]).size >= 0.98 * block.n_rows >= 15_000
    shares = np.bincount((block.X[:, 0] / N * 50).astype(int), block.weight)
    np.testing.assert_allclose(shares, N / 50, rtol=0.02)
    few = build(X[:30_000], y[:30_000])
    assert two_looks.drawn(few, pilot_plan(few, 0)) is None


@pytest.mark.parametrize("p", [1, 3, 18, 45])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_first_look_sees_what_a_survey_sees(p, weighted):
    rng = np.random.default_rng(p)
    X = 10.0 * rng.normal(size=(3001, p)) + rng.normal(size=p) * 5
    y = (rng.random(3001) < 0.3).astype(float)
    w = rng.integers(0, 3, 3001).astype(float) if weighted else None
    data = build(X, y, w)
    block = data.prepare(data.chunks[0], 0)
    pilot = survey(block.take(slice(0, 900)), Bernoulli(), Pilot(900, 0.0, 900, 0))
    guess = two_looks.preparation.basis_of(pilot, True)
    model, coef = GLM.of(Bernoulli()), rng.normal(size=p + 1) / p
    for informative in (True, False):
        pair = first_look(block, model, guess, coef, informative, Bernoulli())
        plain, columns = model.moments(block, guess, coef, informative), spread(X, block.weight)
        np.testing.assert_allclose(pair.first.score, plain.score, rtol=1e-9, atol=1e-9)
        assert pair.first.deviance == pytest.approx(plain.deviance, rel=1e-12)
        found = pair.second.columns
        np.testing.assert_array_equal((found.low, found.high), (columns.low, columns.high))
        np.testing.assert_allclose(found.mean, columns.mean, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.squares, columns.squares, rtol=1e-11)
        assert found.weight == columns.weight and pair.second.response.n_kept == (block.weight > 0).sum()


def told_in_memory_and_lazily(estimator, X, y, w=None):
    """What a refusal says of rows that are persisted and of lazy ones."""
    told = []
    for kind in (lambda a: None if a is None else lazy(a).persist(), lazy):
        with pytest.raises(ValueError) as error:
            estimator.fit(kind(X), kind(y), sample_weight=kind(w))
        told.append(str(error.value))
    return told


@pytest.mark.parametrize("label, sentence", [(np.nan, "missing labels"), (np.inf, "infinite values"),
                                             (0.5, "fractions"), ("text", "several types, float and str")])
@pytest.mark.parametrize("weighted", [True, False])
def test_one_label_that_is_none(label, sentence, weighted):
    X, y = rows()
    y, w = y.astype(object if isinstance(label, str) else float), np.ones(N)
    y[48_001], w[48_001] = label, float(weighted or sentence != "missing labels")
    told = told_in_memory_and_lazily(LogisticRegression(), X, y, w)
    assert told[0] == told[1] and sentence in told[0]


def test_many_classes_are_counted_before_they_are_fitted(monkeypatch):
    monkeypatch.setattr(two_looks, "pilot_optimum", lambda *_: pytest.fail("a fit of 60 classes"))
    X, y = rows()
    y[::700] = np.arange(y[::700].size)
    y[-1100:] = np.arange(1100)
    told = told_in_memory_and_lazily(LogisticRegression(), X, y)
    assert told[0] == told[1] and "distinct values" in told[0]
