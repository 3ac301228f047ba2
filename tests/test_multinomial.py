"""Multinomial models: references, laws of permutation, the binary case, memory-saving information, bad input."""

import dask.array as da
import dask.dataframe as dd
import make_data
import multinomial
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import daskglm_rep as dg
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.softmax import class_probabilities, softmax_moments
from daskglm_rep.multinomial import Multinomial

CASES = [name for name, c in make_data.cases().items()
         if c["kind"] == "fit" and c["model"]["family"] == "multinomial" and not name.startswith("madlib")]


def problem(n=900, seed=0, kinds=("ant", "bee", "cat", "dog")):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    eta = np.c_[np.zeros(n), X @ rng.normal(size=(3, len(kinds) - 1))]
    P = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    y = np.asarray(kinds)[(rng.random(n)[:, None] > P.cumsum(axis=1)).sum(axis=1)]
    return X, y


X, Y = problem()
FITTED = dg.LogisticRegression().fit(X, Y)


@pytest.mark.parametrize("name", CASES)
def test_reference_fits_through_formulas(name):
    case = make_data.cases()[name]
    m, f = case["model"], make_data.build(case)["frame"]
    formula = f"{m['response']} ~ " + " + ".join(expression for _, expression in m["design"][1:])
    for data in (f, dd.from_pandas(f, npartitions=3)):
        r = dg.mnlogit(formula, data, weights=m.get("weights"))
        np.testing.assert_allclose(r.params, np.ravel(case["expected"]["coef"]), rtol=1e-7)
        np.testing.assert_allclose(r.bse, np.ravel(case["expected"]["se"]["classical"]), rtol=1e-6)
        assert r.llf == pytest.approx(case["expected"]["loglik"], rel=1e-9)
        assert r.index.names == ["class", "feature"]


@pytest.mark.parametrize("dense", [True, False])
def test_moments_against_slow_obvious_code(dense):
    rng = np.random.default_rng(3)
    n, k, q = 300, 3, 4
    y, w = rng.integers(0, k + 1, n).astype(float), rng.uniform(0.5, 2, n)
    basis = Basis(np.arange(3), np.zeros(3), np.ones(3), True)
    coef, Z = rng.normal(size=k * q), np.c_[np.ones(n), X[:n]]
    m = softmax_moments(Multinomial(4), Block(X[:n] if dense else sparse.csr_matrix(X[:n]), y, w, np.zeros(n)), basis,
                        coef)
    P = class_probabilities(Z @ coef.reshape(k, q).T)
    information, score = np.zeros((k * q, k * q)), np.zeros(k * q)
    for i in range(n):
        p = P[i, 1:]
        information += w[i] * np.kron(np.diag(p) - np.outer(p, p), np.outer(Z[i], Z[i]))
        score += w[i] * np.kron((np.arange(1, k + 1) == y[i]) - p, Z[i])
    np.testing.assert_allclose(m.expected, information, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(m.score, score, rtol=1e-10, atol=1e-10)
    assert m.deviance == pytest.approx(-2 * w @ np.log(P[np.arange(n), y.astype(int)]))


def test_permutations_and_baselines_leave_probabilities_alone():
    want = FITTED.predict_proba(X)
    order = np.random.default_rng(1).permutation(len(Y))
    by_rows = dg.LogisticRegression().fit(X[order], Y[order])
    np.testing.assert_allclose(by_rows.predict_proba(X), want, atol=1e-9)
    sorted_rows = np.argsort(Y, kind="stable")                       # each chunk lacks classes
    lazy = [da.from_array(a[sorted_rows], chunks=(225,) + a.shape[1:]) for a in (X, Y)]
    chunked = dg.LogisticRegression().fit(*lazy)
    np.testing.assert_allclose(chunked.predict_proba(X), want, atol=1e-9)
    renamed = dict(zip("ant bee cat dog".split(), "zebra yak wolf ape".split()))
    other = dg.LogisticRegression().fit(X, np.array([renamed[v] for v in Y]))
    columns = [list(other.classes_).index(renamed[c]) for c in FITTED.classes_]
    np.testing.assert_allclose(other.predict_proba(X)[:, columns], want, atol=1e-9)
    for baseline in ("bee", "dog"):
        est = dg.LogisticRegression(baseline=baseline).fit(X, Y)
        np.testing.assert_allclose(est.predict_proba(X), want, atol=1e-9)
        assert baseline not in est.results_.params.index.get_level_values("class")
    np.testing.assert_allclose(FITTED.coef_.sum(axis=0), 0.0, atol=1e-12)


def test_two_classes_through_the_multinomial_path():
    two = Y[np.isin(Y, ["ant", "bee"])]
    frame = pd.DataFrame(X[np.isin(Y, ["ant", "bee"])], columns=list("abc")).assign(y=two)
    vector, binary = dg.mnlogit("y ~ a + b + c", frame), dg.logit("y ~ a + b + c", frame)
    np.testing.assert_allclose(vector.params, binary.params, rtol=1e-9)
    np.testing.assert_allclose(vector.bse, binary.bse, rtol=1e-8)
    assert vector.llf == pytest.approx(binary.llf) and vector.llnull == pytest.approx(binary.llnull)
    np.testing.assert_allclose(vector.predict(frame)["bee"], binary.predict(frame), atol=1e-9)


@pytest.mark.parametrize("labels", [np.array([3, 1, 10, 7]), np.array([0.0, 1.0, 2.0, 5.0])])
def test_labels_of_other_types(labels):
    codes = np.searchsorted(["ant", "bee", "cat", "dog"], Y)
    est = dg.LogisticRegression().fit(X, labels[codes])
    assert set(np.unique(est.predict(X))) <= set(labels)
    columns = [list(est.classes_).index(v) for v in labels]
    np.testing.assert_allclose(est.predict_proba(X)[:, columns], FITTED.predict_proba(X), atol=1e-9)


def test_categorical_response_keeps_its_order_and_boolean_works():
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=pd.Categorical(Y, ["dog", "cat", "bee", "ant"]), t=Y == "ant")
    lazy = dd.from_pandas(frame, npartitions=3)
    r = dg.mnlogit("y ~ a + b + c", lazy)
    assert list(r.params.index.get_level_values("class").unique()) == ["cat", "bee", "ant"]
    got = r.predict_proba(lazy)
    assert isinstance(got, dd.DataFrame) and list(got.columns) == ["dog", "cat", "bee", "ant"]
    np.testing.assert_allclose(got[list(FITTED.classes_)].compute(), FITTED.predict_proba(X), atol=1e-9)
    assert list(dg.mnlogit("t ~ a", frame).params.index.get_level_values("class").unique()) == [True]


def test_probabilities_are_lazy_and_keep_their_kind():
    lazy = da.from_array(X, chunks=(300, 3))
    p = FITTED.predict_proba(lazy)
    assert isinstance(p, da.Array) and p.chunks == ((300, 300, 300), (4,))
    np.testing.assert_allclose(p.compute(), FITTED.predict_proba(X))
    frame = dg.LogisticRegression().fit(pd.DataFrame(X, columns=list("abc")), Y).predict_proba(
        dd.from_pandas(pd.DataFrame(X, columns=list("abc")), npartitions=2))
    assert list(frame.columns) == ["ant", "bee", "cat", "dog"]


def test_summary_is_per_class_and_baseline_is_checked():
    text = str(FITTED.results_.summary())
    assert all(word in text for word in ("bee", "cat", "dog", "Pseudo R-squared"))
    assert 0 < FITTED.results_.prsquared < 1
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y)
    with pytest.raises(ValueError, match="baseline='cow'"):
        dg.mnlogit("y ~ a", frame, baseline="cow")
    with pytest.raises(ValueError, match="only one class"):
        dg.mnlogit("y ~ a", frame[frame.y == "ant"])
    with pytest.raises(ValueError, match="use mnlogit"):
        dg.logit("y ~ a", frame)


def test_a_class_in_one_row_and_a_class_never_predicted():
    labels = Y.astype("U4")
    labels[5] = "once"
    est = dg.LogisticRegression().fit(X[:, :1], labels)
    P = est.predict_proba(X[:, :1])
    assert P[:, list(est.classes_).index("once")].sum() == pytest.approx(1.0, abs=1e-6)      # score of the intercept
    assert "once" not in est.predict(X[:, :1])
    assert np.isfinite(est.results_.bse).all()


def test_separated_classes_warn():
    x = np.r_[np.linspace(-1, 1, 60), np.linspace(3, 5, 60), np.linspace(7, 9, 60)]
    with pytest.warns(dg.SeparationWarning, match="eparation"):
        est = dg.LogisticRegression().fit(x[:, None], np.repeat([0, 1, 2], 60))
    assert est.score(x[:, None], np.repeat([0, 1, 2], 60)) == 1.0


def test_benchmark_runs_small():
    table = multinomial.main(["--n", "3000", "--p", "3", "--classes", "3", "--peers", "lbfgs"])
    assert [row[0] for row in table] == ["daskglm_rep", "lbfgs"] and table[0][2] < 1e-4


def test_declared_order_is_kept_by_every_prediction():
    """Categories declared z, m, a: probabilities and their intervals come in that order."""
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"x": rng.normal(size=300)})
    frame["y"] = pd.Categorical(rng.choice(list("zma"), 300), categories=list("zma"))
    results = dg.mnlogit("y ~ x", frame)
    probabilities = results.predict_proba(frame)
    assert list(probabilities.columns) == list("zma")
    assert np.asarray(results.get_prediction(frame).mean) == pytest.approx(probabilities.to_numpy(), rel=1e-10)
