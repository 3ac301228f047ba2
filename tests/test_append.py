"""Rows that arrive later: near the fit of all rows, exact for linear models, and told where they cannot be."""

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest

from daskglm_rep import (GammaRegressor, GLMClassifier, GLMRegressor, LinearRegression, LogisticRegression,
                         NegativeBinomialRegressor, PoissonRegressor, RepresentativeGLM, datasets, partitions)

N, OLD = 30_000, 25_000


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="module")
def rows():
    X, y, _ = datasets.simulate_paper("mzNormal", N, n_features=4, random_state=8)
    return X, y


def away(est, full):
    return float(np.max(np.abs(est.results_.params - full.results_.params) / full.results_.bse))


def test_linear_models_are_exact():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3_000, 3))
    y, weight = X @ [1.0, -2.0, 0.5] + rng.normal(size=3_000), rng.integers(1, 4, 3_000).astype(float)
    frame = pd.DataFrame(X, columns=list("abc"))
    parts = [slice(0, 2_000), slice(2_000, 2_600), slice(2_600, 3_000)]
    est = LinearRegression().fit(frame[parts[0]], y[parts[0]], sample_weight=weight[parts[0]])
    for part in parts[1:]:
        est.append(frame[part], y[part], sample_weight=weight[part])
    full = LinearRegression().fit(frame, y, sample_weight=weight)
    np.testing.assert_allclose(est.results_.params, full.results_.params, rtol=1e-12)
    np.testing.assert_allclose(est.results_.cov_params(), full.results_.cov_params(), rtol=1e-10)
    for name in ("nobs", "llf", "llnull", "rsquared", "deviance"):
        assert getattr(est.results_, name) == pytest.approx(getattr(full.results_, name), rel=1e-12)


@pytest.mark.parametrize("make", [LogisticRegression, GLMClassifier, PoissonRegressor, GammaRegressor], ids=lambda m:
                         m.__name__)
def test_a_fifth_more_rows_leave_hundredths_of_an_error(rows, make):
    X, y = rows
    rng = np.random.default_rng(1)
    if make is PoissonRegressor:
        y = rng.poisson(np.exp(0.3 * X.sum(axis=1) / 2)).astype(float)
    elif make is GammaRegressor:
        y = rng.gamma(2.0, np.exp(0.1 * X.sum(axis=1)) / 2.0)
    else:
        y = np.where(y > 0, "yes", "no")
    est, full = make().fit(X[:OLD], y[:OLD]), make().fit(X, y)
    before = away(est, full)
    est.append(da.from_array(X[OLD:], chunks=(1_000, 4)), da.from_array(y[OLD:], chunks=1_000))
    assert away(est, full) < min(0.05, 0.2 * before)
    np.testing.assert_allclose(est.results_.bse, full.results_.bse, rtol=0.02)
    assert est.results_.nobs == N and est.results_.llnull == pytest.approx(full.results_.llnull, rel=1e-10)


def test_proportions_after_zeros_and_ones():
    """A fit of 0 and 1 alone runs on their cheaper formulas, which new rows may not suit."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(6_000, 2))
    mean = 1.0 / (1.0 + np.exp(0.5 - 0.8 * X[:, 0]))
    y = np.where(np.arange(6_000) < 5_000, rng.random(6_000) < mean, rng.beta(4.0 * mean, 4.0 * (1.0 - mean)))
    zeros = (rng.random(6_000) < mean) * 1.0
    for response in (y, zeros):
        full = GLMRegressor("binomial").fit(X, response)
        est = GLMRegressor("binomial").fit(X[:5_000], response[:5_000]).append(X[5_000:], response[5_000:])
        assert away(est, full) < 0.05 and est.results_.llf == pytest.approx(full.results_.llf, abs=0.01)
        for name in ("null_deviance", "llnull"):
            assert getattr(est.results_, name) == pytest.approx(getattr(full.results_, name), rel=1e-10)


def test_three_classes_and_labels_that_are_new(rows):
    X, _ = rows
    labels = np.array(["a", "b", "c"])[np.random.default_rng(3).integers(0, 3, N)]
    est, full = LogisticRegression().fit(X[:OLD], labels[:OLD]), LogisticRegression().fit(X, labels)
    est.append(X[OLD:], labels[OLD:])
    assert away(est, full) < 0.05
    assert est.results_.llnull == pytest.approx(full.results_.llnull, rel=1e-12)
    with pytest.raises(ValueError, match="label 'd'"):
        est.append(X[:5], np.array(list("abcda")))


@pytest.mark.parametrize("method", ["calibrated", "moment-matched"])
@pytest.mark.parametrize("partition", [partitions.KMeans(300, subset=5_000, max_iter=5),
                                       partitions.Natural(within=partitions.KMeans(40))], ids=["spanning", "local"])
def test_representatives_of_later_blocks(rows, method, partition):
    X, y = rows
    full = LogisticRegression(tol=1e-10).fit(X, y)
    est = RepresentativeGLM(representative=method, partition=partition).fit(X[:OLD], y[:OLD])
    before, sweeps, parts = away(est, full), est.n_passes_, est.n_parts_
    est.append(X[OLD:], y[OLD:])
    assert away(est, full) < 0.2 * before and away(est, full) < (0.02 if method == "calibrated" else 0.2)
    assert est.n_passes_ == sweeps + 2 and np.isnan(est.distance_to_mle_)
    assert est.block_sizes_.sum() == N and est.n_parts_ >= parts
    np.testing.assert_allclose(est.results_.bse, full.results_.bse, rtol=0.05)
    truth = away(est, full)
    assert est.certify_on(X, y) == pytest.approx(truth, rel=0.1)
    est.append(X[:2_000], y[:2_000])
    assert est.results_.nobs == N + 2_000


def test_what_cannot_be_appended(rows):
    X, y = rows
    for est, words in ((LogisticRegression(alpha=0.1), "penalty"), (LogisticRegression(cov_type="HC1"), "nonrobust"),
                       (NegativeBinomialRegressor(), "overdispersion"),
                       (RepresentativeGLM(representative="mean", partition=partitions.KMeans(50)), "calibrated")):
        est.fit(X[:1_000], y[:1_000])
        with pytest.raises(ValueError, match=words):
            est.append(X[1_000:2_000], y[1_000:2_000])
    with pytest.raises(ValueError, match="features"):
        LinearRegression().fit(X, y).append(X[:, :2], y)
    with pytest.raises(ValueError, match="NaN"):
        LinearRegression().fit(X, y).append(np.full((20, 4), np.nan), np.ones(20))
