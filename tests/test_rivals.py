"""Subsampling, divide and conquer and stochastic descent: laws, slow obvious comparisons, and simulation."""

import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import (AliasWarning, DivideAndConquerGLM, GLMRegressor, SeparationWarning, StochasticGLM,
                         SubsampledGLM, datasets)
from daskglm_rep.subsampling import METHODS

N = 40_000


@pytest.fixture(scope="module")
def logistic():
    X, y, coef = datasets.simulate_paper("mzNormal", N, n_features=3, random_state=1)
    return X, y, coef


@pytest.fixture(scope="module")
def full(logistic):
    return GLMRegressor("binomial").fit(*logistic[:2])


@pytest.fixture(scope="module")
def linear():
    X, y, coef = datasets.simulate_paper("EXP", 5_000, n_features=4, model="linear", random_state=2)
    return X, y, coef


def lazy(X, y, chunks):
    return da.from_array(X, chunks=(chunks, X.shape[1])), da.from_array(y, chunks=chunks)


def in_se(estimator, full):
    return np.max(np.abs(estimator.results_.params - full.results_.params) / full.results_.bse)


# ---------------------------------------------------------------- subsampling


@pytest.mark.parametrize("method", ["uniform", "a-optimal", "l-optimal"])
def test_sampling_every_row_is_the_full_fit(logistic, full, method):
    X, y, _ = logistic
    est = SubsampledGLM(method, n_samples=N).fit(X, y)
    assert est.n_samples_ == N and est.distance_to_mle_ == 0.0
    assert in_se(est, full) < 1e-6
    robust = GLMRegressor("binomial", cov_type="HC0").fit(X, y)
    np.testing.assert_allclose(est.results_.bse, robust.results_.bse, rtol=1e-6)


def test_uniform_sample_has_the_size_asked_for(logistic):
    X, y, _ = logistic
    est = SubsampledGLM("uniform", n_samples=3_001).fit(*lazy(X, y, 7_000))
    assert est.n_samples_ == 3_001
    assert est.n_passes_ == 2


@pytest.mark.parametrize("method", ["a-optimal", "l-optimal", "uniform"])
def test_subsample_lies_where_its_errors_say(logistic, full, method):
    X, y, coef = logistic
    est = SubsampledGLM(method, n_samples=4_000).fit(X, y)
    assert abs(est.n_samples_ - 4_000) < 600
    distance = np.abs(est.results_.params - full.results_.params) / np.sqrt(np.diag(est.covariance_to_mle_))
    assert distance.max() < 4
    assert np.max(np.abs(est.results_.params - coef) / est.results_.bse) < 4
    # the variance about the truth is that about the full estimate plus the full estimate's own
    parts = np.diag(est.covariance_to_mle_) + full.results_.bse**2
    np.testing.assert_allclose(est.results_.bse**2, parts, rtol=0.25)


def test_a_optimal_beats_uniform_in_trace(logistic):
    X, y, _ = logistic
    traces = {m: np.trace(SubsampledGLM(m, n_samples=2_000).fit(X, y).covariance_to_mle_)
              for m in ("a-optimal", "l-optimal", "uniform")}
    assert traces["a-optimal"] < 0.75 * traces["uniform"]
    assert traces["a-optimal"] < 1.05 * traces["l-optimal"]


def test_optimal_probabilities_are_those_of_the_formula(logistic):
    from daskglm_rep.families import GLM
    from daskglm_rep.kernels.block import Basis, Block
    from daskglm_rep.kernels.sampling import importance

    X, y, _ = logistic
    X, y = X[:500], y[:500]
    basis = Basis(np.arange(3), X.mean(0), X.std(0), True)
    raw = np.array([0.1, 0.4, 0.6, 0.3])
    Z = np.c_[np.ones(500), X]
    mu = 1 / (1 + np.exp(-Z @ raw))
    M = Z.T @ (Z * (mu * (1 - mu))[:, None])
    block = Block(X, y, np.ones(500), np.zeros(500))
    T, coef = basis.to_raw, basis.standardised(raw)
    H = np.linalg.inv(T).T  # z = T' x, so the information in the basis is T' M T
    expected = np.abs(y - mu) * np.linalg.norm(Z @ np.linalg.inv(M), axis=1)
    got = importance(block, GLM.of("binomial"), basis, coef, T @ np.linalg.inv(T.T @ M @ T))
    np.testing.assert_allclose(got, expected, rtol=1e-9)
    got = importance(block, GLM.of("binomial"), basis, coef, H)
    np.testing.assert_allclose(got, np.abs(y - mu) * np.linalg.norm(Z, axis=1), rtol=1e-9)


def iboss_rows(X, n):
    """Algorithm 1 of Wang, Yang & Stufken (2019), row by row."""
    r, picked = n // (2 * X.shape[1]), []
    for j in range(X.shape[1]):
        for sign in (1, -1):
            free = [i for i in range(len(X)) if i not in set(picked)]
            picked += sorted(free, key=lambda i: (sign * X[i, j], i))[:r]
    return np.sort(picked)


def test_iboss_picks_the_extreme_rows(linear):
    X, y, _ = linear
    X, y = X[:900], y[:900]
    rows = iboss_rows(X, 330)
    for chunks in (900, 170):
        est = SubsampledGLM("iboss", n_samples=330, family="gaussian").fit(*lazy(X, y, chunks))
        assert est.n_samples_ == rows.size == 8 * (330 // 8)
        judge = GLMRegressor().fit(X[rows], y[rows])
        np.testing.assert_allclose(est.results_.params, judge.results_.params, rtol=1e-8)
        np.testing.assert_allclose(est.results_.bse, judge.results_.bse, rtol=1e-8)
        assert est.results_.nobs == rows.size


def test_iboss_ties_do_not_depend_on_chunks():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 4, size=(600, 2)).astype(float)
    y = X @ [1.0, 2.0] + rng.normal(size=600)
    rows = iboss_rows(X, 80)
    fits = [SubsampledGLM("iboss", n_samples=80, family="gaussian").fit(*lazy(X, y, c)).coef_ for c in (600, 70)]
    np.testing.assert_allclose(fits[0], GLMRegressor().fit(X[rows], y[rows]).coef_, rtol=1e-8)
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-10)


def test_offset_and_weights_enter_the_subsample():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20_000, 2))
    exposure, weight = rng.uniform(0.5, 2, 20_000), rng.uniform(0.5, 2, 20_000)
    y = rng.poisson(exposure * np.exp(0.3 + X @ [0.4, -0.3])).astype(float)
    full = GLMRegressor("poisson").fit(X, y, sample_weight=weight, exposure=exposure)
    est = SubsampledGLM(n_samples=6_000, family="poisson").fit(X, y, sample_weight=weight, exposure=exposure)
    distance = np.abs(est.results_.params - full.results_.params) / np.sqrt(np.diag(est.covariance_to_mle_))
    assert distance.max() < 4
    every = SubsampledGLM(n_samples=20_000, family="poisson").fit(X, y, sample_weight=weight, exposure=exposure)
    assert in_se(every, full) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("method", ["a-optimal", "l-optimal", "uniform"])
def test_reported_errors_match_monte_carlo(method):
    """200 data sets: mean within Monte-Carlo error of the truth (bias is O(1/n)), reported se within 15 % of the sd."""
    estimates, errors, about = [], [], []
    for seed in range(200):
        X, y, coef = datasets.simulate_paper("mzNormal", 20_000, n_features=3, random_state=seed)
        est = SubsampledGLM(method, n_samples=2_000, random_state=seed).fit(X, y)
        full = GLMRegressor("binomial").fit(X, y)
        estimates.append(est.results_.params)
        errors.append(est.results_.bse)
        about.append((est.results_.params - full.results_.params) / np.sqrt(np.diag(est.covariance_to_mle_)))
    estimates, about = np.array(estimates), np.array(about)
    sd = estimates.std(axis=0, ddof=1)
    assert np.all(np.abs(estimates.mean(axis=0) - coef) < 4 * sd / np.sqrt(200) + 0.01)
    np.testing.assert_allclose(np.mean(errors, axis=0), sd, rtol=0.15)
    np.testing.assert_allclose(about.std(axis=0), 1.0, rtol=0.15)


# ---------------------------------------------------------------- divide and conquer


@pytest.mark.parametrize("join", ["estimating-equations", "mean"])
def test_one_block_is_the_full_fit(logistic, full, join):
    X, y, _ = logistic
    est = DivideAndConquerGLM(join, partitions=1).fit(X, y)
    assert est.n_blocks_ == 1 and est.distance_to_mle_ < 1e-6
    assert in_se(est, full) < 1e-6
    np.testing.assert_allclose(est.results_.bse, full.results_.bse, rtol=1e-6)


@pytest.mark.parametrize("chunks", [5_000, 1_111, (2, 3, 4_995), 3])
def test_estimating_equations_of_linear_models_are_ols(linear, chunks):
    X, y, _ = linear
    full = GLMRegressor().fit(X, y)
    robust = GLMRegressor(cov_type="HC0").fit(X, y)
    data = da.from_array(X, chunks=(chunks, 4)), da.from_array(y, chunks=(chunks,))
    for certify in (True, False):
        est = DivideAndConquerGLM(family="gaussian", certify=certify).fit(*data)
        np.testing.assert_allclose(est.results_.params, full.results_.params, rtol=1e-9)
        np.testing.assert_allclose(est.results_.bse, full.results_.bse, rtol=1e-9)
        assert est.results_.deviance == pytest.approx(full.results_.deviance, rel=1e-9)
        assert est.n_left_out_ == 0
    if chunks == 5_000:
        est = DivideAndConquerGLM(family="gaussian", cov_type="HC0").fit(*data)
        np.testing.assert_allclose(est.results_.bse, robust.results_.bse, rtol=1e-9)


def test_estimating_equations_by_hand(logistic):
    X, y, _ = logistic
    est = DivideAndConquerGLM().fit(*lazy(X, y, 10_000))
    fits = [GLMRegressor("binomial").fit(X[a:a + 10_000], y[a:a + 10_000]).results_ for a in range(0, N, 10_000)]
    infos = [np.linalg.inv(f.cov_params()) for f in fits]
    total = sum(infos)
    expected = np.linalg.solve(total, sum(A @ f.params for A, f in zip(infos, fits)))
    np.testing.assert_allclose(est.results_.params, expected, rtol=1e-6)
    np.testing.assert_allclose(est.results_.cov_params(), np.linalg.inv(total), rtol=1e-5)
    mean = DivideAndConquerGLM("mean").fit(*lazy(X, y, 10_000))
    np.testing.assert_allclose(mean.results_.params, np.mean([f.params for f in fits], axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean.results_.cov_params(), sum(f.cov_params() for f in fits) / 16, rtol=1e-5)


def test_certificate_and_carried_deviance(logistic, full):
    X, y, _ = logistic
    quick = DivideAndConquerGLM(partitions=40, certify=False).fit(X, y)
    est = DivideAndConquerGLM(partitions=40).fit(X, y)
    assert quick.n_passes_ == 2 and est.n_passes_ == 3
    np.testing.assert_array_equal(quick.coef_, est.coef_)
    assert est.distance_to_mle_ == pytest.approx(in_se(est, full), rel=0.1)
    assert quick.results_.deviance == pytest.approx(est.results_.deviance, rel=1e-3)


@pytest.mark.slow
def test_gamma_pools_the_dispersion():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(8_000, 2))
    y = rng.gamma(2.0, np.exp(0.2 + X @ [0.5, -0.5]) / 2.0)
    full = GLMRegressor("gamma").fit(X, y)
    est = DivideAndConquerGLM(family="gamma", partitions=8).fit(X, y)
    np.testing.assert_allclose(est.results_.bse, full.results_.bse, rtol=0.05)
    assert in_se(est, full) < 0.5


def test_unusable_blocks_are_counted():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(4_000, 2))
    y = (rng.random(4_000) < 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    X[1_000:2_000, 1] = 0.3                      # constant in the second block
    y[2_000:3_000] = X[2_000:3_000, 0] > 0       # separated third block
    with pytest.warns(ConvergenceWarning, match=r"1 \(1000 rows\) have too few rows.*1 \(1000 rows\) are separated"):
        est = DivideAndConquerGLM().fit(*lazy(X, y, 1_000))
    assert (est.n_blocks_, est.n_left_out_, est.rows_left_out_) == (2, 2, 2_000)
    assert np.isfinite(est.results_.bse).all()
    with pytest.raises(ValueError, match="No block could be fitted on its own"):
        DivideAndConquerGLM(partitions=2_000).fit(X, y)


def test_numpy_rows_are_cut_as_asked(logistic):
    X, y, _ = logistic
    assert DivideAndConquerGLM(partitions=2).fit(X, y).n_blocks_ == 2
    assert DivideAndConquerGLM(partitions=37).fit(X, y).n_blocks_ == 37
    A, b = (c.map_blocks(np.array) for c in lazy(X, y, 10_000))
    assert DivideAndConquerGLM(partitions=9).fit(A, b).n_blocks_ == 9
    with pytest.raises(ValueError, match="less than the 4 chunks"):
        DivideAndConquerGLM(partitions=3).fit(A, b)


# ---------------------------------------------------------------- stochastic descent


def test_descent_by_hand():
    """The kernel against the definition: b = b + gamma f(x'b_new) x solved to the last digit by a scalar solver."""
    from scipy.optimize import brentq
    from daskglm_rep.families import GLM
    from daskglm_rep.kernels.block import Basis, Block
    from daskglm_rep.kernels.descent import epoch

    rng = np.random.default_rng(7)
    X = rng.normal(size=(50, 2))
    y = rng.poisson(np.exp(X @ [0.5, 0.2])).astype(float)
    weight = np.where(np.arange(50) % 5, 1.0, 0.0)
    basis = Basis(np.arange(2), np.zeros(2), np.ones(2), True)
    got = epoch(Block(X, y, weight, np.zeros(50)), GLM.of("poisson"), basis, np.zeros(3), 0.8, 0.6, (0,), (0, 0))
    order = np.random.default_rng((0, 0, 0, 4)).permutation(50)
    b, total = np.zeros(3), np.zeros(3)
    for t, i in enumerate(order):
        x, gamma = np.r_[1.0, X[i]], weight[i] * 0.8 * (1 + 0.8 * t) ** -0.6
        edge = gamma * (y[i] - np.exp(x @ b))
        if edge:
            b = b + x * brentq(lambda s: s - gamma * (y[i] - np.exp(x @ b + s * (x @ x))), min(edge, 0), max(edge, 0),
                               xtol=1e-14)
        total += b
    np.testing.assert_allclose(got.last / 50, b, atol=1e-8)
    np.testing.assert_allclose(got.average / 50, total / 50, atol=1e-8)


def test_descent_approaches_the_mle(logistic, full):
    X, y, _ = logistic
    distances = [in_se(StochasticGLM(n_epochs=k).fit(X, y), full) for k in (1, 10)]
    assert distances[1] < 0.5 and distances[1] < distances[0] < 5
    est = StochasticGLM(n_epochs=10).fit(X, y)
    assert est.distance_to_mle_ == pytest.approx(in_se(est, full), rel=0.1)


def test_descent_reports_the_errors_of_the_mle(logistic, full):
    X, y, _ = logistic
    est = StochasticGLM(n_epochs=2).fit(*lazy(X, y, 10_000))
    np.testing.assert_allclose(est.results_.bse, full.results_.bse, rtol=0.05)
    assert f"{est.distance_to_mle_:.2g} away" in est.results_.covariance.note


# ---------------------------------------------------------------- all of them


RIVALS = [*(SubsampledGLM(method, n_samples=2_000) for method in METHODS), DivideAndConquerGLM(partitions=10),
          DivideAndConquerGLM("mean", partitions=10), StochasticGLM()]


@pytest.mark.parametrize("rival", RIVALS, ids=repr)
def test_random_state_fixes_the_answer(logistic, rival):
    X, y, _ = logistic
    data = lazy(X, y, 10_000)
    first, again = rival.fit(*data).coef_, rival.fit(*data).coef_
    np.testing.assert_array_equal(first, again)
    in_memory = lazy(X, y, 10_000)
    np.testing.assert_allclose(rival.fit(da.asarray(X).rechunk((10_000, 3)), in_memory[1]).coef_, first, rtol=1e-9)
    other = rival.set_params(random_state=1).fit(*data).coef_
    rival.set_params(random_state=0)
    assert (rival.get_params().get("method") == "iboss") == np.allclose(first, other, rtol=1e-12)


@pytest.mark.parametrize("rival", RIVALS, ids=repr)
def test_surface(logistic, rival):
    X, y, _ = logistic
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    rival.fit(frame, y)
    assert list(rival.results_.params.index) == ["Intercept", "a", "b", "c"]
    assert rival.coef_.shape == (3,) and np.ndim(rival.intercept_) == 0
    mu = rival.predict(frame[:5])
    np.testing.assert_allclose(mu, 1 / (1 + np.exp(-(rival.intercept_ + X[:5] @ rival.coef_))), rtol=1e-12)
    np.testing.assert_allclose(rival.predict_proba(frame[:5]), np.c_[1 - mu, mu], rtol=1e-12)
    assert isinstance(rival.predict(da.from_array(X, chunks=(9_000, 3))), da.Array)
    assert 0.1 < rival.score(frame, y) < 0.6
    assert rival.results_.conf_int().shape == (4, 2)
    assert "Intercept" in str(rival.results_.summary())
    rival.set_params(fit_intercept=False).fit(X, y)
    rival.set_params(fit_intercept=True)
    assert rival.intercept_ == 0.0 and list(rival.results_.params.index) == ["x0", "x1", "x2"]


@pytest.mark.parametrize("rival, words", [
    (SubsampledGLM("d-optimal"), "method='d-optimal' is not known"),
    (SubsampledGLM(n_samples=0), "n_samples must be an integer >= 1"),
    (SubsampledGLM(n_samples=2.5), "n_samples must be an integer"),
    (SubsampledGLM(n_pilot=0), "n_pilot must be an integer >= 1"),
    (SubsampledGLM(uniform_share=1.0), "uniform_share must be a number in"),
    (SubsampledGLM("uniform", n_samples=3), "3 rows for 4 coefficients"),
    (SubsampledGLM("iboss", n_samples=5), "at least 6"),
    (SubsampledGLM(random_state=None), "random_state must be an integer"),
    (SubsampledGLM(family="normal"), "Unknown family"),
    (DivideAndConquerGLM("median"), "join='median' is not known"),
    (DivideAndConquerGLM(partitions=0), "partitions must be an integer >= 1"),
    (DivideAndConquerGLM(cov_type="HC3"), "cov_type='HC3' is not known"),
    (StochasticGLM(n_epochs=0), "n_epochs must be an integer >= 1"),
    (StochasticGLM(learning_rate=-1.0), "learning_rate must be a number > 0"),
])
def test_bad_parameters_get_one_sentence(logistic, rival, words):
    with pytest.raises(ValueError, match=words):
        rival.fit(*logistic[:2])


@pytest.mark.parametrize("rival", [SubsampledGLM(), DivideAndConquerGLM(), StochasticGLM()], ids=repr)
def test_bad_data_gets_one_sentence(logistic, rival):
    X, y, _ = logistic
    bad = X[:100].copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN values in column 'x1'"):
        rival.fit(bad, y[:100])
    with pytest.raises(ValueError, match="outside the domain of the binomial"):
        rival.fit(X[:100], y[:100] + 1)


def test_separated_sample_is_told():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(20_000, 1))
    y = (X[:, 0] + 0.02 * rng.normal(size=20_000) > 0).astype(float)
    with pytest.warns(ConvergenceWarning, match="sampled rows did not converge"):
        SubsampledGLM("uniform", n_samples=30).fit(X, y)


# ---------------------------------------------------------------- what no fit can be had from


ALL = [*(SubsampledGLM(method, n_samples=500) for method in METHODS), DivideAndConquerGLM(partitions=20),
       StochasticGLM()]


@pytest.mark.parametrize("rival", ALL, ids=repr)
def test_an_empty_chunk_is_nothing(logistic, rival):
    X, y = logistic[0][:6_000], logistic[1][:6_000]
    keep = np.ones(6_000, bool)
    keep[1_000:2_000] = False
    A, b = lazy(X, y, 1_000)
    mask = da.from_array(keep, chunks=1_000)
    est = rival.fit(A[mask], b[mask])
    full = GLMRegressor("binomial").fit(X[keep], y[keep])
    assert np.max(np.abs(est.results_.params - full.results_.params) / est.results_.bse) < 5
    assert getattr(est, "n_left_out_", 0) == 0 and getattr(est, "n_blocks_", 20) == 20


def test_empty_chunks_are_no_blocks(logistic, linear):
    X, y = logistic[0][:4_000], logistic[1][:4_000]
    chunks = (2_000, 0, 2_000, 0)
    given = da.from_array(X, chunks=(chunks, 3)), da.from_array(y, chunks=(chunks,))
    est = DivideAndConquerGLM(partitions=2).fit(*given)
    assert (est.n_blocks_, est.n_left_out_) == (2, 0)
    X, y = linear[:2]
    chunks = (2_000, 0, 3_000)
    given = da.from_array(X, chunks=(chunks, 4)), da.from_array(y, chunks=(chunks,))
    assert DivideAndConquerGLM(family="gaussian").fit(*given).n_blocks_ == 2


@pytest.mark.parametrize("rival", ALL, ids=repr)
def test_sparse_rows_are_fitted_or_refused(logistic, rival):
    X, y = logistic[0][:4_000], logistic[1][:4_000]
    A, b = lazy(X, y, 1_000)
    given = A.map_blocks(sparse.csr_matrix)
    if isinstance(rival, DivideAndConquerGLM):
        np.testing.assert_allclose(rival.fit(given, b).coef_, rival.fit(A, b).coef_, rtol=1e-6)
    else:
        with pytest.raises(ValueError, match="X is sparse.*pass dense columns, or fit with GLMRegressor"):
            rival.fit(given, b)


@pytest.mark.parametrize("n", [400, 4_000])
@pytest.mark.parametrize("kind", ["zeros", "ones", "separated"])
def test_no_claims_where_the_estimate_is_infinite(logistic, n, kind):
    X = logistic[0][:n]
    y = {"zeros": np.zeros(n), "ones": np.ones(n), "separated": (X[:, 0] > 0).astype(float)}[kind]
    for rival in ALL[:4]:
        with pytest.warns(ConvergenceWarning, match="sampled rows did not converge.*NaN"):
            rival.fit(X, y)
        assert rival.distance_to_mle_ == np.inf and rival.results_.bse.isna().all()
        assert np.isnan(rival.covariance_to_mle_).all() and "did not converge" in str(rival.results_.summary())
    rival = StochasticGLM()
    if kind == "separated" and n == 4_000:          # more rows than the pilot: only the distance tells
        with pytest.warns(ConvergenceWarning, match="standard errors from the maximum likelihood estimate"):
            assert rival.fit(X, y).distance_to_mle_ > 10
    else:
        with pytest.warns(SeparationWarning, match="all alike, or a combination of columns.*NaN"):
            rival.fit(X, y)
        assert rival.distance_to_mle_ == np.inf and rival.results_.bse.isna().all()
    assert "did not converge" in str(rival.results_.summary())


@pytest.mark.parametrize("family", ["binomial", "poisson", "gaussian"])
def test_ordinary_descent_is_quiet(logistic, family):
    X, y, _ = logistic
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for chunks in (N, N // 8):
            assert StochasticGLM(family=family).fit(*lazy(X, y, chunks)).results_.converged
        gaussian = StochasticGLM(family="gaussian")
        assert gaussian.fit(X[:500], np.full(500, 2.0)).results_.converged                          # a mean it can have


def test_iboss_needs_a_column_that_varies():
    with pytest.warns(AliasWarning), pytest.raises(ValueError, match="no column of X varies"):
        SubsampledGLM("iboss").fit(np.ones((50, 2)), np.arange(50) % 2)
