"""Tests of hypotheses: statsmodels and scipy, refits, and the wild bootstrap by hand."""

import itertools

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from daskglm_rep import LinearRegression, LogisticRegression, PoissonRegressor
from daskglm_rep.inference import restrictions

N = 300


def sample():
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(rng.normal(size=(N, 4)), columns=["x1", "x10", "C(g)[T.b]", "x1:C(g)[T.b]"])
    X = frame.to_numpy()
    counts = rng.poisson(np.exp(0.3 + X @ [0.3, -0.2, 0.1, 0.0])).astype(float)
    numbers = 1.0 + X @ [0.5, 0.4, 0.0, 0.0] + rng.normal(size=N)
    g = rng.integers(0, 7, N)
    return frame, X, counts, numbers, g


FRAME, X, COUNTS, NUMBERS, G = sample()


@pytest.fixture(scope="module")
def counts():
    return PoissonRegressor().fit(FRAME, COUNTS).results_


@pytest.fixture(scope="module")
def linear():
    return LinearRegression().fit(FRAME, NUMBERS).results_


INDEX = pd.Index(["Intercept", "x1", "x10", "C(g)[T.b]", "x1:C(g)[T.b]"])


@pytest.mark.parametrize("text, R, q", [
    ("x1 = x10", [[0, 1, -1, 0, 0]], [0]),
    ("x1 = x10, C(g)[T.b] = 0", [[0, 1, -1, 0, 0], [0, 0, 0, 1, 0]], [0, 0]),
    ("x1 + 2*x10 = 1", [[0, 1, 2, 0, 0]], [1]),
    ("x1:C(g)[T.b]", [[0, 0, 0, 0, 1]], [0]),
    ("-(x1 - Intercept)/2 = 3 - x10*1e-1", [[0.5, -0.5, 0.1, 0, 0]], [3]),
    ("x1 = x10 = 0.5", [[0, 1, -1, 0, 0], [0, 0, 1, 0, 0]], [0, 0.5]),
    ("2 + 3 = x1 * 2", [[0, -2, 0, 0, 0]], [-5])])
def test_hypotheses_are_read(text, R, q):
    got = restrictions.parse(text, INDEX)
    np.testing.assert_allclose(got[0], R)
    np.testing.assert_allclose(got[1], q, atol=1e-15)


@pytest.mark.parametrize("text", ["x2 = 0", "x100 = 0", "x1 * x10 = 0", "x1 = ", "(x1 = 0", "x1 x10", "1 / x1", ""])
def test_hypotheses_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="hypothesis"):
        restrictions.parse(text, INDEX)


def test_names_of_several_equations():
    index = pd.MultiIndex.from_product([["b", "c"], ["Intercept", "x1"]])
    np.testing.assert_array_equal(restrictions.parse("b:x1 = c:x1", index)[0], [[0, 1, 0, -1]])
    np.testing.assert_array_equal(restrictions.parse("x1 = 0", index)[0], [[0, 1, 0, 0], [0, 0, 0, 1]])


@pytest.mark.parametrize("kind", ["nonrobust", "cluster"])
def test_wald_is_statsmodels(counts, linear, kind):
    R = np.array([[0, 1, -1, 0, 0], [0, 0, 0, 1, 2.0]])
    how = dict(cov_type="cluster", cov_kwds={"groups": G}) if kind == "cluster" else {}
    theirs = sm.GLM(COUNTS, sm.add_constant(X), sm.families.Poisson()).fit(tol=1e-12, **how)
    ours = counts.with_covariance(kind, FRAME, COUNTS, clusters=G)
    test, expected = ours.wald_test(R, [0.1, 0.0]), theirs.wald_test((R, [0.1, 0.0]), scalar=True)
    assert test.distribution == "chi2" and test.df == 2
    np.testing.assert_allclose([test.statistic, test.pvalue], [expected.statistic, expected.pvalue], rtol=1e-6)
    theirs = sm.OLS(NUMBERS, sm.add_constant(X)).fit()
    test, expected = linear.wald_test(R), theirs.wald_test(R, scalar=True)
    assert test.distribution == "F" and test.df_denom == N - 5
    np.testing.assert_allclose([test.statistic, test.pvalue], [expected.statistic, expected.pvalue], rtol=1e-9)


def test_one_restriction_is_the_square_of_t(linear):
    test = linear.wald_test("x1 = 0")
    assert test.statistic == pytest.approx(linear.tvalues["x1"] ** 2)
    assert test.pvalue == pytest.approx(linear.pvalues["x1"])
    assert "x1 = 0" in str(test)


@pytest.mark.parametrize("R, words", [(np.ones((1, 3)), "3 columns"), ("x1 = 0, x1 = 0", "redundant"),
                                      ("x1 = 0, x1 = 1", "redundant"), ("1 = 1", "redundant"),
                                      ("zz = 0", "no coefficient")])
def test_bad_restrictions(linear, R, words):
    with pytest.raises(ValueError, match=words):
        linear.wald_test(R)


def test_more_restrictions_than_clusters(linear):
    few = linear.with_covariance("cluster", FRAME, NUMBERS, clusters=G % 3)
    with pytest.raises(ValueError, match="clusters"):
        few.wald_test(np.eye(5)[1:])
    with pytest.raises(ValueError, match="q goes with"):
        few.wald_test("x1 = 0", 1)


def test_table_by_term_and_joint_test(linear):
    table = linear.anova()
    assert list(table.index) == list(FRAME.columns)
    np.testing.assert_allclose(table["F"], linear.tvalues.iloc[1:] ** 2, rtol=1e-9)

    class Spec:
        term_slices = {"1": [], "x1": [0], "rest": [1, 2, 3]}

    linear.spec = Spec()
    try:
        table, joint = linear.anova(), linear.wald_test(np.eye(5)[2:])
        assert table.loc["rest", "df"] == 3
        np.testing.assert_allclose(table.loc["rest", ["F", "pvalue"]], [joint.statistic, joint.pvalue])
        assert linear.term_test("rest").pvalue == joint.pvalue
        with pytest.raises(ValueError, match="no term"):
            linear.term_test("zz")
    finally:
        del linear.spec


def test_likelihood_ratio(counts, linear):
    small = PoissonRegressor().fit(FRAME.iloc[:, :2], COUNTS)
    theirs = [sm.GLM(COUNTS, sm.add_constant(X[:, :p]), sm.families.Poisson()).fit(tol=1e-12).llf for p in (4, 2)]
    test = counts.lr_test(small)
    assert test.statistic == pytest.approx(2 * (theirs[0] - theirs[1])) and test.df == 2
    small = LinearRegression().fit(FRAME.iloc[:, :2], NUMBERS).results_
    restricted = sm.OLS(NUMBERS, sm.add_constant(X[:, :2])).fit()
    expected = sm.OLS(NUMBERS, sm.add_constant(X)).fit().compare_f_test(restricted)
    test = linear.lr_test(small, test="F")
    np.testing.assert_allclose([test.statistic, test.pvalue], expected[:2], rtol=1e-8)
    for wrong, words in ((counts, "same model"), (linear, "as many")):
        with pytest.raises(ValueError, match=words):
            linear.lr_test(wrong)
    with pytest.raises(ValueError, match="swap"):
        small.lr_test(linear)


def test_score_test(counts):
    """The same from the gradient of the larger model at the smaller fit; near the likelihood ratio; any input."""
    small = PoissonRegressor().fit(FRAME.iloc[:, :2], COUNTS).results_
    test = small.score_test(FRAME.iloc[:, 2:], FRAME.iloc[:, :2], COUNTS)
    Z, mu = sm.add_constant(X), np.exp(sm.add_constant(X[:, :2]) @ small.params.to_numpy())
    U = Z.T @ (COUNTS - mu)
    assert test.statistic == pytest.approx(U @ np.linalg.solve(Z.T * mu @ Z, U), rel=1e-6) and test.df == 2
    assert test.statistic == pytest.approx(counts.lr_test(small).statistic, abs=0.3)
    lazy = small.score_test(*[da.from_array(a, chunks=(90, 2)) for a in (X[:, 2:], X[:, :2])],
                            da.from_array(COUNTS, chunks=90))
    assert lazy.statistic == pytest.approx(test.statistic)
    with pytest.raises(ValueError, match="combinations"):
        small.score_test(X[:, 0] + X[:, 1], X[:, :2], COUNTS)


def test_multinomial_wald():
    y = np.random.default_rng(9).integers(0, 3, N)
    results = LogisticRegression().fit(X, y).results_
    joint = results.wald_test("x1 = 0")
    R = np.zeros((2, 10))
    R[0, 2] = R[1, 7] = 1
    assert joint.df == 2 and joint.pvalue == pytest.approx(results.wald_test(R).pvalue)
    assert results.anova().loc["x1", "df"] == 2 and results.term_test("x1").pvalue == pytest.approx(joint.pvalue)


def test_wild_bootstrap_of_a_linear_model_is_that_of_refits(linear):
    """All 2^7 sign patterns, each refitted: b and its clustered covariance from the bootstrap sample."""
    Z, y = sm.add_constant(X), NUMBERS
    A = np.linalg.inv(Z.T @ Z)

    def t2(sample):
        b = A @ Z.T @ sample
        sums = np.array([Z[G == g].T @ (sample - Z @ b)[G == g] for g in range(7)])
        return (b[3] - 0.2) ** 2 / (A @ sums.T @ sums @ A)[3, 3]

    b = A @ Z.T @ y
    b0 = b - A[:, 3] / A[3, 3] * (b[3] - 0.2)
    samples = [Z @ b0 + np.array(v)[G] * (y - Z @ b0) for v in itertools.product((1, -1), repeat=7)]
    expected = np.mean([t2(sample) >= t2(y) * (1 - 1e-9) for sample in samples])
    test = linear.wild_cluster_test("C(g)[T.b] = 0.2", FRAME, NUMBERS, G)
    assert test.statistic == pytest.approx(t2(y)) and test.pvalue == pytest.approx(expected)
    webb = linear.wild_cluster_test("C(g)[T.b] = 0.2", FRAME, NUMBERS, G, weights="webb", n_boot=4999)
    assert abs(webb.pvalue - expected) < 0.15
    with pytest.raises(ValueError, match="one distinct"):
        linear.wild_cluster_test("x1 = 0", FRAME, NUMBERS, np.zeros(N))


@pytest.mark.slow
def test_wild_bootstrap_keeps_its_size_with_ten_clusters():
    rejected = []
    groups = np.repeat(np.arange(10), 30)
    for i in range(1000):
        r = np.random.default_rng((3, i))
        x = np.c_[r.normal(size=10)[groups], r.normal(size=300)]
        y = 0.7 * r.normal(size=10)[groups] + r.normal(size=300)
        fit = LinearRegression().fit(x, y).results_
        rejected.append((fit.wild_cluster_test("x0 = 0", x, y, groups, n_boot=399).pvalue < 0.05,
                         fit.with_covariance("cluster", x, y, clusters=groups).pvalues.iloc[1] < 0.05))
    wild, wald = np.mean(rejected, axis=0)
    print("size at 5 %, 10 clusters: wild", wild, "Wald", wald)
    assert wild < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1000) < wald


@pytest.mark.parametrize("words", ["x1.real = 1", "__import__('os').name", "x1 = 1/0", "10 ** 1000 = x1", "x1[0] = 2"])
def test_words_that_are_no_hypothesis(words):
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 2)), columns=["x1", "x2"])
    with pytest.raises(ValueError, match="cannot be read: write it like"):
        LinearRegression().fit(X, X.x1 + X.index % 3).results_.hypotheses(words)
