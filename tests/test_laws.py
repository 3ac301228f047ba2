"""Laws that hold for any data: chunks, their order and the scheduler change nothing; weights are copies; and so on."""

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special

from daskglm_rep import GLMClassifier, GLMRegressor, LinearRegression, PoissonRegressor

N = 600


def sample():
    rng = np.random.default_rng(8)
    X = rng.normal(size=(N, 3)) * [1, 3, 0.2] + [0, 10, 0]
    eta = 0.4 * X[:, 0] - 0.1 * X[:, 1] + X[:, 2] + 1
    counts = rng.poisson(np.exp(eta)).astype(float)
    event = (rng.random(N) < special.expit(eta)).astype(float)
    weight = rng.integers(1, 4, N).astype(float)
    offset = rng.normal(0, 0.1, N)
    return X, eta, counts, event, weight, offset


X, ETA, COUNTS, EVENT, WEIGHT, OFFSET = sample()
MODELS = {"poisson": (lambda **how: PoissonRegressor(**how), COUNTS),
          "logit": (lambda **how: GLMClassifier(**how), EVENT),
          "gaussian": (lambda **how: LinearRegression(**how), COUNTS)}

quick = settings(max_examples=12, deadline=None, derandomize=True,
                 suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def numbers(estimator):
    r = estimator.results_
    return np.r_[r.params, r.bse, r.llf, r.null_deviance, r.pearson_chi2]


def same(fitted, truth):
    """Where the pilot is a share of the rows: coefficients and likelihood to 1e-9; the information and Pearson's
    chi-squared, which the pilot carries over the last step, to 1e-6."""
    a, b, k = numbers(fitted), numbers(truth), len(fitted.results_.params)
    exact = np.r_[np.arange(k), 2 * k, 2 * k + 1]
    return a[exact] == pytest.approx(b[exact], rel=1e-9, abs=1e-10) and a == pytest.approx(b, rel=1e-6, abs=1e-10)


@pytest.fixture(scope="module")
def truths():
    return {name: numbers(make().fit(X, y, WEIGHT, OFFSET)) for name, (make, y) in MODELS.items()}


@st.composite
def chunkings(draw):
    """Chunk sizes that sum to N, empty chunks among them."""
    cuts = draw(st.lists(st.integers(0, N), max_size=8))
    edges = np.r_[0, sorted(cuts), N]
    return tuple(int(v) for v in np.diff(edges))


def _same(block):
    return block


def chunked(a, chunks, lazy):
    made = da.from_array(a, chunks=(chunks,) + (-1,) * (a.ndim - 1))
    return made.map_blocks(_same, dtype=a.dtype) if lazy else made


@pytest.mark.parametrize("name", MODELS)
@quick
@given(chunks=chunkings(), lazy=st.booleans())
def test_chunks_change_nothing(truths, name, chunks, lazy):
    make, y = MODELS[name]
    fitted = make().fit(*[chunked(a, chunks, lazy) for a in (X, y, WEIGHT, OFFSET)])
    assert numbers(fitted) == pytest.approx(truths[name], rel=1e-9, abs=1e-10)


@quick
@given(chunks=chunkings(), seed=st.integers(0, 1000), lazy=st.booleans())
def test_the_order_of_chunks_changes_nothing(truths, chunks, seed, lazy):
    edges = np.r_[0, np.cumsum(chunks)]
    order = np.random.default_rng(seed).permutation(len(chunks))
    rows = np.concatenate([np.arange(edges[i], edges[i + 1]) for i in order])
    chunks = tuple(chunks[i] for i in order)
    fitted = PoissonRegressor().fit(*[chunked(a[rows], chunks, lazy) for a in (X, COUNTS, WEIGHT, OFFSET)])
    assert numbers(fitted) == pytest.approx(truths["poisson"], rel=1e-9, abs=1e-10)


@quick
@given(order=st.permutations(range(3)))
def test_permuted_columns_permute_the_coefficients(order):
    for name in ("poisson", "logit"):
        make, y = MODELS[name]
        truth, fitted = make().fit(X, y).results_, make().fit(X[:, order], y).results_
        which = np.r_[0, 1 + np.array(order)]
        assert fitted.params.to_numpy() == pytest.approx(truth.params.to_numpy()[which], rel=1e-9, abs=1e-12)
        assert fitted.cov_params().to_numpy() == pytest.approx(truth.cov_params().to_numpy()[np.ix_(which, which)],
                                                               rel=1e-8, abs=1e-14)


# ---------------------------------------------------------------- where it runs; a pilot that is a share of the rows

BIG = 60_000


@pytest.fixture(scope="module")
def big():
    """Rows enough that the pilot is a share of them and depends on the chunks."""
    generator = np.random.default_rng(2)
    X = generator.normal(size=(BIG, 4))
    y = generator.poisson(np.exp(X @ [0.3, -0.2, 0.1, 0.4])).astype(float)
    return X, y, PoissonRegressor(tol=1e-9).fit(X, y)


def lazy_pair(X, y, chunks):
    return (da.from_array(X, chunks=(chunks, -1)).map_blocks(_same, dtype=float),
            da.from_array(y, chunks=chunks).map_blocks(_same, dtype=float))


@pytest.mark.parametrize("chunks", [1_000, 17_000, 60_000])
def test_chunks_that_draw_another_pilot(big, chunks):
    X, y, truth = big
    fitted = PoissonRegressor(tol=1e-9).fit(*lazy_pair(X, y, chunks))
    assert fitted.converged_ and fitted.n_passes_ <= 4
    assert same(fitted, truth)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_pilot_changes_sweeps_but_not_the_answer(big, seed):
    X, y, truth = big
    assert same(PoissonRegressor(tol=1e-9, random_state=seed).fit(X, y), truth)


def test_two_runs_are_identical_to_the_bit(big):
    X, y, _ = big
    for data in ((X, y), lazy_pair(X, y, 7_000)):
        first, second = (numbers(PoissonRegressor().fit(*data)) for _ in range(2))
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("scheduler", ["sync", "threads"])
def test_local_schedulers(big, scheduler):
    X, y, truth = big
    with dask.config.set(scheduler=scheduler):
        for data in ((X, y), lazy_pair(X, y, 13_000)):
            assert same(PoissonRegressor(tol=1e-9).fit(*data), truth)


@pytest.mark.parametrize("processes", [False, True], ids=["threads", "two processes"])
def test_a_cluster_gives_the_same_answer(big, processes):
    from distributed import Client, LocalCluster
    X, y, truth = big
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=":0",
                      silence_logs=40) as cluster, Client(cluster):
        lazy = lazy_pair(X, y, 13_000)
        placed = dask.persist(*lazy)
        for data in (lazy, placed, (X, y)):
            assert same(PoissonRegressor(tol=1e-9).fit(*data), truth)


# ---------------------------------------------------------------- weights, offsets, scores


@pytest.mark.parametrize("name", MODELS)
def test_a_frequency_weight_is_a_row_repeated(name):
    make, y = MODELS[name]
    rows = np.repeat(np.arange(N), WEIGHT.astype(int))
    repeated = make().fit(X[rows], y[rows], offset=OFFSET[rows])
    weighted = make(weights_kind="frequency").fit(X, y, WEIGHT, OFFSET)
    assert numbers(weighted) == pytest.approx(numbers(repeated), rel=1e-9, abs=1e-10)
    a, b = weighted.results_, repeated.results_
    assert (a.nobs, a.df_resid) == (b.nobs, b.df_resid)
    assert a.aic == pytest.approx(b.aic) and a.bic == pytest.approx(b.bic)


@pytest.mark.parametrize("name", MODELS)
def test_a_row_of_weight_zero_is_no_row(name):
    make, y = MODELS[name]
    weight = np.where(np.arange(N) % 3 == 0, 0.0, WEIGHT)
    kept = weight > 0
    a, b = make().fit(X, y, weight), make().fit(X[kept], y[kept], weight[kept])
    assert numbers(a) == pytest.approx(numbers(b), rel=1e-9, abs=1e-10)
    assert a.results_.nobs == b.results_.nobs == kept.sum()


def test_prior_weights_are_relative_where_a_dispersion_is_estimated():
    a, b = (LinearRegression().fit(X, COUNTS, w).results_ for w in (WEIGHT, 7 * WEIGHT))
    assert a.bse.to_numpy() == pytest.approx(b.bse.to_numpy(), rel=1e-9)
    assert b.scale == pytest.approx(7 * a.scale)
    assert a.llf == pytest.approx(b.llf, rel=1e-10)


def test_proportions_with_trials_are_rows_of_zeros_and_ones():
    rng = np.random.default_rng(9)
    trials = rng.integers(1, 6, N)
    successes = rng.binomial(trials, special.expit(ETA))
    rows = np.repeat(np.arange(N), trials)
    ones = np.concatenate([np.r_[np.ones(s), np.zeros(t - s)] for s, t in zip(successes, trials)])
    a = GLMRegressor("binomial").fit(X, successes / trials, trials.astype(float))
    b = GLMClassifier().fit(X[rows], ones)
    assert a.results_.params.to_numpy() == pytest.approx(b.results_.params.to_numpy(), rel=1e-9)
    assert a.results_.bse.to_numpy() == pytest.approx(b.results_.bse.to_numpy(), rel=1e-9)


@pytest.mark.parametrize("chunks", [None, 170])
def test_exposure_is_an_offset_of_its_logarithm(chunks):
    exposure = np.exp(OFFSET)
    columns = (X, COUNTS, exposure, OFFSET)
    if chunks:
        columns = tuple(da.from_array(c, chunks=(chunks,) + (-1,) * (c.ndim - 1)) for c in columns)
    given, y, exposure, offset = columns
    a, b = PoissonRegressor().fit(given, y, exposure=exposure), PoissonRegressor().fit(given, y, offset=offset)
    assert numbers(a) == pytest.approx(numbers(b), rel=1e-12)
    assert np.asarray(a.predict(given, exposure=exposure)) == pytest.approx(np.asarray(b.predict(given, offset=offset)))
    assert a.score(given, y, exposure=exposure) == pytest.approx(b.score(given, y, offset=offset))


@pytest.mark.parametrize("name", MODELS)
def test_scaling_and_shifting_columns(name):
    make, y = MODELS[name]
    scale, shift = np.array([1e-6, 1e5, 3.0]), np.array([1e-3, -1e6, 0.0])
    a, b = make().fit(X, y).results_, make().fit(X * scale + shift, y).results_
    assert b.params.to_numpy()[1:] * scale == pytest.approx(a.params.to_numpy()[1:], rel=1e-8)
    assert b.bse.to_numpy()[1:] * scale == pytest.approx(a.bse.to_numpy()[1:], rel=1e-8)
    assert b.llf == pytest.approx(a.llf, rel=1e-10)


def test_an_offset_moves_the_coefficients():
    """Offset x'd: coefficients fall by d and nothing else changes."""
    d = np.array([0.3, -0.02, 0.5])
    for make, y in MODELS.values():
        a, b = make().fit(X, y).results_, make().fit(X, y, offset=X @ d).results_
        assert b.params.to_numpy()[1:] == pytest.approx(a.params.to_numpy()[1:] - d, rel=1e-8)
        assert b.bse.to_numpy() == pytest.approx(a.bse.to_numpy(), rel=1e-8)


MEANS = {"poisson": np.exp, "logit": special.expit, "gaussian": lambda eta: eta}


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_score_is_zero_at_the_maximum(name, intercept):
    make, y = MODELS[name]
    fitted = make(fit_intercept=intercept).fit(X, y, WEIGHT, OFFSET)
    Z = np.c_[np.ones(N), X] if intercept else X
    mu = MEANS[name](Z @ fitted.results_.params.to_numpy() + OFFSET)
    score = Z * (WEIGHT * (y - mu))[:, None]
    assert np.abs(score.sum(axis=0)) == pytest.approx(0.0, abs=1e-10 * np.abs(score).sum())


def test_frequency_of_the_fitted_mean_matches():
    """Canonical links with an intercept: the means sum to the responses, so the fit survives a refit to its means."""
    fitted = PoissonRegressor().fit(X, COUNTS)
    mu = fitted.predict(X)
    assert mu.sum() == pytest.approx(COUNTS.sum(), rel=1e-10)
    assert PoissonRegressor().fit(X, mu).coef_ == pytest.approx(fitted.coef_, rel=1e-7)
