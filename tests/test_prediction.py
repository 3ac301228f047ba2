"""Predictions with intervals against statsmodels and NumPy; influence and residuals."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import xarray as xr
from scipy import special, stats

from daskglm_rep import LinearRegression, LogisticRegression, PoissonRegressor, families
from daskglm_rep.kernels.residuals import quantile_residuals

N = 300


def sample():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(N, 2))
    offset = rng.uniform(0, 1, N)
    counts = rng.poisson(np.exp(0.3 + X @ [0.3, -0.2] + offset)).astype(float)
    numbers = 1.0 + X @ [0.5, 0.4] + rng.normal(size=N)
    new, new_offset = rng.normal(size=(9, 2)), rng.uniform(0, 1, 9)
    return X, offset, counts, numbers, new, new_offset


X, OFFSET, COUNTS, NUMBERS, NEW, NEW_OFFSET = sample()


@pytest.fixture(scope="module")
def counts():
    return PoissonRegressor(cov_type="HC0").fit(X, COUNTS, offset=OFFSET).results_


@pytest.fixture(scope="module")
def linear():
    return LinearRegression().fit(X, NUMBERS).results_


def test_means_and_intervals_are_statsmodels(counts):
    theirs = sm.GLM(COUNTS, sm.add_constant(X), sm.families.Poisson(), offset=OFFSET).fit(cov_type="HC0", tol=1e-12)
    expected = theirs.get_prediction(sm.add_constant(NEW), offset=NEW_OFFSET).summary_frame()
    ours = counts.get_prediction(NEW, NEW_OFFSET)
    for name, column in (("mean", "mean"), ("se", "mean_se"), ("ci_lower", "mean_ci_lower"),
                         ("ci_upper", "mean_ci_upper")):
        np.testing.assert_allclose(getattr(ours, name), expected[column], rtol=1e-7)
    np.testing.assert_allclose(np.exp(ours.linear_ci_upper), ours.ci_upper)
    np.testing.assert_allclose(ours.frame[:, 1], ours.se)


def test_observation_interval_is_statsmodels(linear, counts):
    expected = sm.OLS(NUMBERS, sm.add_constant(X)).fit().get_prediction(sm.add_constant(NEW)).summary_frame(alpha=0.1)
    ours = linear.get_prediction(NEW, level=0.9)
    for name in ("mean", "obs_ci_lower", "obs_ci_upper"):
        np.testing.assert_allclose(getattr(ours, name), expected[name], rtol=1e-9)
    np.testing.assert_allclose(ours.ci_lower, expected["mean_ci_lower"], rtol=1e-9)
    with pytest.raises(AttributeError, match="gaussian"):
        counts.get_prediction(NEW).obs_ci_lower
    with pytest.raises(ValueError, match="level"):
        linear.get_prediction(NEW, level=95)


def test_predictions_are_lazy_and_keep_their_kind(counts):
    expected = counts.get_prediction(NEW).se
    lazy = counts.get_prediction(da.from_array(NEW, chunks=(4, 2))).se
    assert isinstance(lazy, da.Array) and lazy.chunks == ((4, 4, 1),)
    np.testing.assert_allclose(lazy, expected)
    frame = pd.DataFrame(NEW, columns=["x0", "x1"], index=np.arange(9) + 5)
    table = counts.get_prediction(dd.from_pandas(frame, npartitions=2)).frame
    assert isinstance(table, dd.DataFrame)
    table = table.compute()
    np.testing.assert_allclose(table["se"], expected)
    assert list(table.index) == list(frame.index) and list(table.columns[:4]) == ["mean", "se", "ci_lower", "ci_upper"]
    array = counts.get_prediction(xr.DataArray(NEW, dims=("row", "feature"), coords={"row": frame.index})).se
    assert isinstance(array, xr.DataArray) and list(array["row"].values) == list(frame.index)


def test_class_probabilities():
    """Delta method by numerical derivatives; intervals inside (0, 1)."""
    y = np.random.default_rng(5).integers(0, 3, N)
    fit = LogisticRegression(baseline=1).fit(X, y)
    ours = fit.results_.get_prediction(NEW)
    np.testing.assert_allclose(ours.mean, fit.predict_proba(NEW), rtol=1e-10)
    V, b, Z = fit.results_.cov_params().to_numpy(), fit.results_.params.to_numpy(), np.c_[np.ones(9), NEW]

    def probabilities(b):
        eta = np.c_[np.zeros(9), Z @ b.reshape(2, 3).T]
        return special.softmax(eta, axis=1)[:, [1, 0, 2]]

    J = np.array([(probabilities(b + h) - probabilities(b - h)) / 2e-5 for h in 1e-5 * np.eye(6)])
    np.testing.assert_allclose(ours.se, np.sqrt(np.einsum("anj,ab,bnj->nj", J, V, J)), rtol=1e-6)
    assert (0 < ours.ci_lower).all() and (ours.ci_lower < ours.mean).all() and (ours.ci_upper < 1).all()
    assert ours.frame.shape == (9, 12)
    with pytest.raises(ValueError, match="multinomial"):
        fit.results_.influence(X, y)


def test_influence_is_statsmodels(counts):
    theirs = sm.GLM(COUNTS, sm.add_constant(X), sm.families.Poisson(), offset=OFFSET).fit(tol=1e-12)
    expected = theirs.get_influence()
    cut = [da.from_array(a, chunks=(70, 2)[:a.ndim]) for a in (X, COUNTS, OFFSET)]
    ours = counts.influence(cut[0], cut[1], offset=cut[2])
    assert isinstance(ours.leverage, da.Array) and ours.leverage.shape == (N,)
    leverage, cooks, pearson, deviance, standardized = dask.compute(
        ours.leverage, ours.cooks_distance, ours.resid_pearson, ours.resid_deviance, ours.resid_standardized)
    np.testing.assert_allclose(leverage, expected.hat_matrix_diag, rtol=1e-7)
    np.testing.assert_allclose(cooks, expected.cooks_distance[0], rtol=1e-6)
    np.testing.assert_allclose(standardized, expected.resid_studentized, rtol=1e-6)
    np.testing.assert_allclose(pearson, theirs.resid_pearson, rtol=1e-6)
    np.testing.assert_allclose(deviance, theirs.resid_deviance, rtol=1e-6)
    assert leverage.sum() == pytest.approx(3)
    in_memory = counts.influence(X, COUNTS, offset=OFFSET)
    np.testing.assert_allclose(in_memory.table, ours.table, rtol=1e-10)
    with pytest.raises(AttributeError, match="leverage"):
        ours.dfbetas


def test_leverage_one(linear):
    single = np.c_[X, np.arange(N) == 150]
    ours = LinearRegression().fit(single, NUMBERS).results_.influence(single, NUMBERS)
    assert ours.leverage[150].compute() == pytest.approx(1) and np.isnan(ours.cooks_distance[150].compute())


LAWS = {"gaussian": (families.Gaussian(), lambda r, mu: r.normal(mu, np.sqrt(0.4))),
        "binomial": (families.Binomial(), lambda r, mu: (r.random(mu.size) < mu) * 1.0),
        "poisson": (families.Poisson(), lambda r, mu: r.poisson(mu) * 1.0),
        "negative binomial": (families.NegativeBinomial(0.5), lambda r, mu: r.negative_binomial(2, 2 / (2 + mu)) * 1.0),
        "gamma": (families.Gamma(), lambda r, mu: r.gamma(1 / 0.4, mu * 0.4)),
        "inverse gaussian": (families.InverseGaussian(), lambda r, mu: r.wald(mu, 1 / 0.4)),
        "tweedie": (families.Tweedie(1.5), None)}


@pytest.mark.parametrize("name", LAWS)
def test_quantile_residuals_are_normal_under_the_model(name):
    """Kolmogorov-Smirnov on 4,000 draws from each family."""
    family, draw = LAWS[name]
    r = np.random.default_rng(1)
    mu = r.uniform(0.2, 0.8, 4000) * (1 if name == "binomial" else 3)
    if draw is None:                            # the compound Poisson-gamma law behind power 1.5, dispersion 0.4
        events = r.poisson(mu ** 0.5 / (0.4 * 0.5))
        y = np.array([r.gamma(1.0 * n, 0.4 * 0.5 * m ** 0.5) if n else 0.0 for n, m in zip(events, mu)])
    else:
        y = draw(r, mu)
    residuals = quantile_residuals(family, y, mu, np.ones(4000), 0.4, False, r)
    assert stats.kstest(residuals, "norm").pvalue > 0.01


def test_quantile_residuals_of_a_fit(counts, linear):
    ours = counts.influence(X, COUNTS, offset=OFFSET, seed=3)
    values = ours.resid_quantile.compute()
    np.testing.assert_array_equal(values, ours.resid_quantile.compute())
    mu = counts.get_prediction(X, OFFSET).mean
    below, at = stats.poisson.cdf(COUNTS - 1, mu), stats.poisson.cdf(COUNTS, mu)
    inside = special.ndtr(values)
    assert ((below - 1e-9 <= inside) & (inside <= at + 1e-9)).all()
    np.testing.assert_allclose(linear.influence(X, NUMBERS).resid_quantile.compute(),
                               (NUMBERS - linear.get_prediction(X).mean) / np.sqrt(linear.scale), rtol=1e-6, atol=1e-9)
