"""Sandwich covariances: reference programs, slow NumPy, and laws."""

import itertools
import pathlib
import sys

import covariance as benchmark
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from reference_fits import CASES, expected, fit
from scipy import linalg, sparse
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import CovarianceWarning, GLMRegressor, LinearRegression, LogisticRegression, PoissonRegressor, design
from daskglm_rep.inference import covariance
from daskglm_rep.kernels.cluster_sums import ClusterScores
from daskglm_rep.preparation import prepare
from daskglm_rep.solvers.exact import solve

CORRECTIONS = {"0": "none", "_G": "clusters", "_stata": "full", "_gmin": "full", "_allparams": "full",
               "_design": "design"}


# ---------------------------------------------------------------- reference programs


def how_to(key, clusters):
    """cov_type, cluster labels and options of a key of the reference files."""
    base, _, names = key.partition(":")
    options = {"information": "observed"} if base.endswith("_oim") else {}
    base = base.removesuffix("_oim")
    for word in ("cluster", "twoway"):
        if base.startswith(word):
            columns = [clusters[name] for name in names.split("+")]
            options["correction"] = CORRECTIONS[base.removeprefix(word)]
            if base.endswith("_gmin"):
                options["twoway"] = "min"
            return "cluster", columns[0] if len(columns) == 1 else np.column_stack(columns), options
    return ("nonrobust" if base == "classical" else base), None, options


@pytest.mark.parametrize("name", CASES)
def test_reference(name):
    case = CASES[name]
    results, data = fit(case)
    for key, values in case["expected"]["se"].items():
        if key.startswith("twoway_stata_multi0"):          # statsmodels' factor of each term from the other's groups
            continue
        cov_type, clusters, options = how_to(key, data["clusters"])
        robust = results.with_covariance(cov_type, data["X"], data["y"], data["weights"], data["offset"], clusters,
                                         **options)
        values = np.ravel(expected(case, results, values))
        assert np.max(np.abs(robust.bse.to_numpy() / values - 1)) <= case["tol"]["se_rtol"], key


# ---------------------------------------------------------------- one model, slow NumPy

N = 240


def sample():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(N, 3))
    offset = rng.uniform(-0.5, 0.5, N)
    y = rng.poisson(np.exp(0.2 + X @ [0.4, -0.3, 0.0] + offset)).astype(float)
    weight = rng.uniform(0.5, 2.0, N)
    weight[7] = 0.0
    g = rng.integers(0, 12, N)
    return X, offset, y, weight, g


X, OFFSET, Y, WEIGHT, G = sample()


@pytest.fixture(scope="module")
def results():
    return PoissonRegressor().fit(X, Y, WEIGHT, OFFSET).results_


def pieces(results, y=Y, weight=WEIGHT, offset=OFFSET):
    """Design, score factors, working weights and bread of a Poisson log fit."""
    Z = np.c_[np.ones(len(y)), X]
    mu = np.exp(Z @ results.params.to_numpy() + offset)
    W = weight * mu
    return Z, weight * (y - mu), W, np.linalg.inv(Z.T * W @ Z)


@pytest.mark.parametrize("cov_type, power", [("HC0", 0), ("HC1", 0), ("HC2", 1), ("HC3", 2), ("HC4", (4,)),
                                             ("HC4m", (1, 1.5))])
def test_heteroscedastic_slowly(results, cov_type, power):
    Z, r, W, A = pieces(results)
    h = W * np.einsum("ij,jk,ik->i", Z, A, Z)
    n = N - 1
    power = sum(np.minimum(cap, h * n / 4) for cap in power) if isinstance(power, tuple) else power
    expected = A @ (Z.T * (r ** 2 / (1 - h) ** power) @ Z) @ A * (n / (n - 4) if cov_type == "HC1" else 1)
    got = results.with_covariance(cov_type, X, Y, WEIGHT, OFFSET).cov_params()
    np.testing.assert_allclose(got, expected, rtol=1e-8)


def slow_clusters(results, groups):
    Z, r, _, A = pieces(results)
    sums = np.array([(Z[groups == g] * r[groups == g, None]).sum(axis=0) for g in np.unique(groups[WEIGHT > 0])])
    return A @ sums.T @ sums @ A


def test_clusters_slowly(results):
    got = results.with_covariance("cluster", X, Y, WEIGHT, OFFSET, G, use_correction=False)
    np.testing.assert_allclose(got.cov_params(), slow_clusters(results, G), rtol=1e-8)
    assert got.covariance.n_clusters == (12,) and "12 clusters" in str(got.summary())


def test_bias_reduced_slowly(results):
    Z, r, W, A = pieces(results)
    U = Z * np.sqrt(W)[:, None]
    for cov_type, power in (("CR2", -0.5), ("CR3", -1.0)):
        rows = []
        for g in np.unique(G):
            i = (G == g) & (W > 0)
            adjust = linalg.fractional_matrix_power(np.eye(i.sum()) - U[i] @ A @ U[i].T, power)
            rows.append(A @ U[i].T @ adjust @ (r[i] / np.sqrt(W[i])))
        got = results.with_covariance(cov_type, X, Y, WEIGHT, OFFSET, G)
        np.testing.assert_allclose(got.cov_params(), np.array(rows).T @ rows, rtol=1e-7)
        assert got.covariance.df == 11


def test_bias_reduced_with_every_row_its_own_cluster_is_hc2_and_hc3(results):
    for one, other in (("CR2", "HC2"), ("CR3", "HC3")):
        a = results.with_covariance(one, X, Y, WEIGHT, OFFSET, np.arange(N))
        b = results.with_covariance(other, X, Y, WEIGHT, OFFSET)
        np.testing.assert_allclose(a.cov_params(), b.cov_params(), rtol=1e-8)


def test_multinomial_slowly():
    rng = np.random.default_rng(6)
    y = rng.integers(0, 3, N)
    weight = rng.integers(1, 4, N).astype(float)
    fit = LogisticRegression(weights_kind="frequency").fit(X, y, weight)
    Z = np.c_[np.ones(N), X]
    S = np.hstack([Z * ((y == j) - fit.predict_proba(X)[:, j])[:, None] for j in (1, 2)])
    A = fit.results_.cov_params().to_numpy()
    robust = fit.results_.with_covariance("HC0", X, y, weight)
    np.testing.assert_allclose(robust.cov_params(), A @ (S.T * weight @ S) @ A, rtol=1e-7)
    sums = np.array([(S * weight[:, None])[G == g].sum(axis=0) for g in range(12)])
    clustered = fit.results_.with_covariance("cluster", X, y, weight, clusters=G, correction="none")
    np.testing.assert_allclose(clustered.cov_params(), A @ sums.T @ sums @ A, rtol=1e-7)
    with pytest.raises(ValueError, match="multinomial"):
        fit.results_.with_covariance("HC3", X, y, weight)


# ---------------------------------------------------------------- laws


def test_every_row_its_own_cluster_is_hc0(results):
    a = results.with_covariance("cluster", X, Y, WEIGHT, OFFSET, np.arange(N))
    b = results.with_covariance("HC0", X, Y, WEIGHT, OFFSET).cov_params() * (N - 1) / (N - 2) * (N - 2) / (N - 1 - 4)
    np.testing.assert_allclose(a.cov_params(), b, rtol=1e-10)


def test_hundred_copies_in_clusters_of_hundred_are_the_original():
    once = LinearRegression().fit(X, Y).results_.with_covariance("HC0", X, Y)
    copies, y = np.tile(X, (100, 1)), np.tile(Y, 100)
    many = LinearRegression(cov_type="cluster").fit(copies, y, clusters=np.tile(np.arange(N), 100)).results_
    many = many.with_covariance("cluster", copies, y, clusters=np.tile(np.arange(N), 100), use_correction=False)
    np.testing.assert_allclose(many.bse, once.bse, rtol=1e-9)


@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC2", "HC3", "cluster", "CR2"])
def test_frequency_weights_are_copies(cov_type):
    weight = np.random.default_rng(7).integers(0, 4, N).astype(float)
    where = np.repeat(np.arange(N), weight.astype(int))
    a = PoissonRegressor(weights_kind="frequency").fit(X, Y, weight).results_
    a = a.with_covariance(cov_type, X, Y, weight, clusters=G)
    b = PoissonRegressor().fit(X[where], Y[where]).results_
    b = b.with_covariance(cov_type, X[where], Y[where], clusters=G[where])
    np.testing.assert_allclose(a.cov_params(), b.cov_params(), rtol=1e-7)


@pytest.mark.parametrize("cov_type", ["HC3", "cluster", "CR2"])
def test_neither_chunks_nor_order_matter(results, cov_type):
    names = np.array([f"firm {g}" for g in G])
    whole = results.with_covariance(cov_type, X, Y, WEIGHT, OFFSET, names)
    order = np.random.default_rng(1).permutation(N)
    for size, rows in itertools.product((7, 100), (np.arange(N), order, np.argsort(G))):
        cut = [da.from_array(a[rows], chunks=(size, 3)[:a.ndim]) for a in (X, Y, WEIGHT, OFFSET, names)]
        lazy = results.with_covariance(cov_type, *cut[:4], clusters=cut[4])
        np.testing.assert_allclose(lazy.cov_params(), whole.cov_params(), rtol=1e-9, atol=1e-15)


def test_sparse_and_many_columns_agree_with_few(results, monkeypatch):
    """The three ways through a block: strips, row tiles, CSR."""
    expected = {kind: results.with_covariance(kind, X, Y, WEIGHT, OFFSET, G).cov_params()
                for kind in ("HC0", "HC3", "cluster", "CR2")}
    data = design.build(sparse.csr_matrix(X), Y, WEIGHT, OFFSET, clusters=G)
    fitted = solve(prepare(data, results.model))
    for kind, matrix in expected.items():
        np.testing.assert_allclose(covariance.compute(fitted, kind, data).matrix, matrix, rtol=1e-8, atol=1e-15)
    monkeypatch.setattr("daskglm_rep.kernels.gram.NARROW", 0)
    for kind, matrix in expected.items():
        got = results.with_covariance(kind, X, Y, WEIGHT, OFFSET, G).cov_params()
        np.testing.assert_allclose(got, matrix, rtol=1e-9, atol=1e-15)
    monkeypatch.undo()
    monkeypatch.setattr("daskglm_rep.kernels.clusters.FEW_COLUMNS", 0)
    got = results.with_covariance("cluster", X, Y, WEIGHT, OFFSET, G).cov_params()
    np.testing.assert_allclose(got, expected["cluster"], rtol=1e-9, atol=1e-15)


LABELS = {"integers far apart": G * 10 ** 12, "negative": -G.astype(np.int8), "text": np.array([f"g{g}" for g in G]),
          "objects": np.array([f"g{g}" if g % 2 else int(g) for g in G], object), "floats": G / 7,
          "dates": np.datetime64("2026-01-01") + G, "categorical": pd.Series(pd.Categorical([f"g{g}" for g in G])),
          "pandas text": pd.Series([f"g{g}" for g in G], dtype="string"),
          "frame": pd.DataFrame({"a": G % 3, "b": G // 3}), "booleans": G > 5}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_any_type(results, kind):
    options = {"convention": "madlib"} if kind == "frame" else {}
    got = results.with_covariance("cluster", X, Y, WEIGHT, OFFSET, LABELS[kind], use_correction=False, **options)
    groups = (G > 5).astype(int) if kind == "booleans" else G
    np.testing.assert_allclose(got.cov_params(), slow_clusters(results, groups), rtol=1e-8)


def test_twoway_is_inclusion_and_exclusion(results):
    """Here indefinite, so its negative eigenvalues are clipped."""
    H = np.random.default_rng(2).integers(0, 9, N)
    expected = slow_clusters(results, G) + slow_clusters(results, H) - slow_clusters(results, 100 * G + H)
    values, vectors = np.linalg.eigh(expected)
    assert values[0] < 0
    with pytest.warns(CovarianceWarning, match="semidefinite"):
        got = results.with_covariance("cluster", X, Y, WEIGHT, OFFSET, np.c_[G, H], use_correction=False, df="clusters")
    np.testing.assert_allclose(got.cov_params(), vectors * np.maximum(values, 0) @ vectors.T, rtol=1e-7, atol=1e-12)
    assert got.covariance.df == 8 and got.covariance.n_clusters == (12, 9)
    nested = results.with_covariance("cluster", X, Y, WEIGHT, OFFSET, np.c_[G, G // 3], use_correction=False)
    np.testing.assert_allclose(nested.cov_params(), slow_clusters(results, G // 3), rtol=1e-7)


def test_indefinite_twoway_is_repaired_with_a_warning():
    side = np.arange(4)
    a, b = np.repeat(side, 4), np.tile(side, 4)
    x = np.linspace(-1, 1, 16)
    checkers = np.where((a + b) % 2 == 0, 1.0, -1.0) * np.where(a < 2, 1.0, -1.0) * np.where(b < 2, 1.0, -1.0)
    with pytest.warns(CovarianceWarning, match="semidefinite"):
        fit = LinearRegression(cov_type="cluster").fit(x[:, None], x + checkers, clusters=np.c_[a, b]).results_
    assert np.linalg.eigvalsh(fit.cov_params())[0] > -1e-12
    assert "zero" in fit.covariance.note


def test_at_fit_and_afterwards_the_same():
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    for kind in ("HC1", "HC3", "cluster"):
        at_fit = LinearRegression(cov_type=kind).fit(frame, Y, WEIGHT, OFFSET, clusters=G).results_
        after = LinearRegression().fit(frame, Y, WEIGHT, OFFSET).results_
        after = after.with_covariance(kind, frame, Y, WEIGHT, OFFSET, G)
        pd.testing.assert_frame_equal(at_fit.summary_frame(), after.summary_frame())
        assert at_fit.cov_type == kind and after.with_covariance("nonrobust").cov_type == "nonrobust"


def test_aliased_columns_stay_nan():
    double = np.c_[X, X[:, 0] + X[:, 1]]
    with pytest.warns(UserWarning, match="linear combination"):
        robust = LinearRegression(cov_type="cluster").fit(double, Y, clusters=G).results_
    plain = LinearRegression(cov_type="cluster").fit(X, Y, clusters=G).results_
    assert np.isnan(robust.bse.iloc[-1])
    np.testing.assert_allclose(robust.bse.iloc[:4], plain.bse, rtol=1e-9)


def test_degrees_of_freedom(results):
    linear = LinearRegression().fit(X, Y).results_
    assert linear.with_covariance("cluster", X, Y, clusters=G).covariance.df == N - 4
    assert linear.with_covariance("cluster", X, Y, clusters=G, df="clusters").covariance.df == 11
    assert linear.with_covariance("HC0", X, Y, df="normal").covariance.df is None
    assert results.with_covariance("HC0", X, Y, WEIGHT, OFFSET, df=17).covariance.df == 17
    with pytest.raises(ValueError, match="clustered"):
        linear.with_covariance("HC0", X, Y, df="clusters")


def test_keyed_sums_merge_in_any_order():
    """Runs are joined late and pairs of labels are keys too; the total does not depend on how."""
    generator = np.random.default_rng(0)
    parts, total = [], {}
    for i in range(40):
        pairs = sorted({(int(a), f"t{b}") for a, b in generator.integers(0, 6, (int(generator.integers(1, 20)), 2))})
        sums = generator.integers(0, 9, (len(pairs), 2)).astype(float)
        labels = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
        parts.append(ClusterScores.of(labels, sums, 0.0, 1.0))
        for pair, row in zip(pairs, sums):
            total[pair] = total.get(pair, 0) + row
    for order in (parts, parts[::-1]):
        merged = order[0]
        for part in order[1:]:
            merged = merged.merge(part)
        (a, b), sums = merged.total
        assert merged.n_kept == 40 and {(int(x), str(y)): tuple(s) for x, y, s in zip(a, b, sums)} == {
            pair: tuple(row) for pair, row in total.items()}


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("clusters, words", [
    (np.where(np.arange(N) < 3, np.nan, 1.0 * G), "NaN or missing labels in 3 rows"),
    (np.where(np.arange(N) < 2, None, G.astype(object)), "missing labels in 2 rows"),
    (np.zeros(N), "only one distinct label"), (np.c_[G, np.zeros(N)], "only one distinct label"),
    (G[:-1], "inconsistent numbers"), (None, "clusters=")])
def test_bad_clusters(results, clusters, words):
    with pytest.raises(ValueError, match=words):
        results.with_covariance("cluster", X, Y, WEIGHT, OFFSET, clusters)


@pytest.mark.parametrize("arguments, words", [
    (("HC9", X, Y), "not known"), (("HC0",), "needs the rows"), (("HC0", X[:-1], Y[:-1], WEIGHT[:-1]), "239 rows"),
    (("HC0", X, Y, np.where(WEIGHT > 0, 1.0, 0.0), OFFSET), "not the rows of the fit"),
    (("HC0", X[:, :2], Y), "3 features")])
def test_rows_that_are_not_the_fits(results, arguments, words):
    with pytest.raises(ValueError, match=words):
        results.with_covariance(*arguments)


@pytest.mark.parametrize("options", [{"correction": "stata"}, {"information": "x"}, {"df": -1}, {"nothing": 1}])
def test_unknown_options(results, options):
    with pytest.raises(ValueError, match="not known|no option"):
        results.with_covariance("HC0", X, Y, WEIGHT, OFFSET, **options)


def test_leverage_one_is_named():
    single = np.c_[X, np.arange(N) == 150]
    fit = LinearRegression().fit(single, Y).results_
    parts = [da.from_array(single, chunks=(64, 4)), da.from_array(Y, chunks=64)]
    for kind in ("HC2", "HC3"):
        with pytest.warns(CovarianceWarning, match=r"row 150 \(counted from 0\)"):
            robust = fit.with_covariance(kind, *parts)
        assert robust.bse.isna().all()
    assert fit.with_covariance("HC1", *parts).bse.notna().all()


def test_benchmark_runs_small(capsys):
    benchmark.main(["--rows", "2000", "--features", "3", "--clusters", "20", "--repeats", "1", "--family", "poisson"])
    assert "20" in capsys.readouterr().out


# ---------------------------------------------------------------- simulations


def covers(results, truth):
    interval = results.conf_int()
    return ((interval["ci_lower"] <= truth) & (truth <= interval["ci_upper"])).to_numpy()


def _simulate(draw, n_samples=2000):
    """Share of 95 % intervals that hold the truth, each coefficient, and how far from .95 it may lie (3 errors)."""
    hits = np.array([draw(np.random.default_rng((2026, i))) for i in range(n_samples)])
    return hits.mean(axis=0), 3 * np.sqrt(0.95 * 0.05 / n_samples)


def test_satterthwaite_degrees_slowly():
    """Bell and McCaffrey's degrees of freedom by full n x n matrices."""
    r = np.random.default_rng(4)
    groups = np.repeat(np.arange(8), [2, 3, 5, 8, 9, 4, 6, 13])
    x = np.c_[r.normal(size=8)[groups], r.normal(size=groups.size)]
    y = x[:, 0] + r.normal(size=groups.size)
    got = LinearRegression().fit(x, y).results_.with_covariance("CR2", x, y, clusters=groups).covariance.df_each
    Z = np.c_[np.ones(len(x)), x]
    M = np.linalg.inv(Z.T @ Z)
    residual_maker = np.eye(len(Z)) - Z @ M @ Z.T
    for j in range(3):
        P = []
        for g in range(8):
            rows = groups == g
            values, vectors = np.linalg.eigh(residual_maker[np.ix_(rows, rows)])
            adjust = vectors @ np.diag(values ** -0.5) @ vectors.T
            P.append(residual_maker[rows].T @ adjust @ Z[rows] @ M[j])
        inner = np.array(P) @ np.array(P).T
        assert got[j] == pytest.approx(np.trace(inner) ** 2 / np.sum(inner ** 2), rel=1e-8)


@pytest.mark.slow
def test_coverage_heteroscedastic_linear():
    truth = np.array([1.0, 0.5, -0.5])

    def draw(r):
        x = r.normal(size=(400, 2))
        y = truth[0] + x @ truth[1:] + r.normal(size=400) * (0.3 + x[:, 0] ** 2)
        return covers(LinearRegression(cov_type="HC3").fit(x, y).results_, truth)

    share, margin = _simulate(draw)
    print("linear HC3 coverage", share)
    assert (np.abs(share - 0.95) < margin).all()


@pytest.mark.slow
def test_coverage_logit():
    truth = np.array([-0.5, 0.8, -0.4])

    def draw(r):
        x = r.normal(size=(1000, 2))
        y = (r.random(1000) < 1 / (1 + np.exp(-truth[0] - x @ truth[1:]))).astype(float)
        return covers(LogisticRegression(cov_type="HC1").fit(x, y).results_, truth)

    share, margin = _simulate(draw)
    print("logit HC1 coverage", share)
    assert (np.abs(share - 0.95) < margin).all()


@pytest.mark.slow
def test_coverage_fifty_uneven_clusters():
    truth = np.array([1.0, 0.5, -0.5])
    sizes = np.repeat([5, 10, 20, 40, 80], 10)
    groups = np.repeat(np.arange(50), sizes)

    def draw(r):
        x = np.c_[r.normal(size=50)[groups], r.normal(size=groups.size)]
        y = truth[0] + x @ truth[1:] + 0.7 * r.normal(size=50)[groups] + r.normal(size=groups.size)
        fit = LinearRegression().fit(x, y).results_
        return np.r_[covers(fit.with_covariance("CR2", x, y, clusters=groups), truth),
                     covers(fit.with_covariance("cluster", x, y, clusters=groups, df="clusters"), truth),
                     covers(fit, truth)]

    share, margin = _simulate(draw)
    print("50 uneven clusters: CR2, cluster, classical", share.reshape(3, 3))
    assert (np.abs(share[:3] - 0.95) < margin).all()
    assert (share[3:6] > 0.91).all() and share[6] < 0.7


@pytest.mark.slow
def test_a_million_clusters_in_two_gigabytes(tmp_path):
    import subprocess
    program = """
import resource, numpy as np, dask.array as da
from daskglm_rep import LinearRegression
n, chunk = 4_000_000, 100_000
def rows(block_info=None):
    i = block_info[None]["chunk-location"][0]
    return np.random.default_rng(i).standard_normal((chunk, 12))
both = da.map_blocks(rows, chunks=((chunk,) * (n // chunk), (12,)), dtype=float)
X, y = both[:, :10], both[:, 10] + both[:, 0]
g = (both[:, 11] * 1e9).astype("int64") % 1_000_000
r = LinearRegression(cov_type="cluster").fit(X, y, clusters=g).results_
print(r.covariance.n_clusters, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          cwd=pathlib.Path(__file__).parent.parent)
    print(done.stdout, done.stderr[-2000:])
    assert done.returncode == 0 and float(done.stdout.split()[-1]) < 2.0


@pytest.mark.parametrize("cov_type", ["HC1", "HC3", "cluster", "CR2"])
def test_a_fit_that_stands_outside_the_domain_is_told_and_has_no_errors(cov_type):
    """It was refused, in words about other rows, where model-based errors were NaN beside the warning."""
    x, groups = np.linspace(0.0, 1.0, 200), np.arange(200) % 20
    model = GLMRegressor("poisson", link="identity", warm_start=True, cov_type=cov_type)
    model.fit(x[:, None], np.round(30.0 - 29.0 * x), clusters=groups)
    model.set_params(max_iter=1)
    with pytest.warns(ConvergenceWarning, match="leave the family's domain"):
        model.fit(3.0 * x[:, None], np.round(30.0 - 29.0 * x), clusters=groups)      # begins at means below zero
    assert model.results_.bse.isna().all()
