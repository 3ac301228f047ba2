"""Deviances, null models, overdispersion, penalties and nesting against exact arithmetic, closed forms and statsmodels."""

import math
import warnings
from decimal import Decimal, localcontext

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import optimize, special

from daskglm_rep import (DivideAndConquerGLM, GammaRegressor, GLMClassifier, GLMRegressor, InverseGaussianRegressor,
                         LinearRegression, LogisticRegression, NegativeBinomialRegressor, PoissonRegressor,
                         RepresentativeGLM, StochasticGLM, SubsampledGLM, TweedieRegressor, __main__, families, formula,
                         links)
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.dispersion import log_size_derivatives
from daskglm_rep.kernels.survey import response_totals

ZERO, ONE = Decimal(0), Decimal(1)


def xlog(a, b):
    return a * b.ln() if a else ZERO


EXACT = {
    "gaussian": lambda y, m, f: (y - m) ** 2,
    "binomial": lambda y, m, f: 2 * (xlog(y, y / m) + xlog(1 - y, (1 - y) / (1 - m))),
    "poisson": lambda y, m, f: 2 * (xlog(y, y / m) - (y - m)),
    "gamma": lambda y, m, f: 2 * ((y - m) / m - (y / m).ln()),
    "inverse_gaussian": lambda y, m, f: (y - m) ** 2 / (y * m * m),
    "negative_binomial": lambda y, m, f: 2 * (
        xlog(y, y / m) - (y + 1 / Decimal(f.alpha)) * ((1 + Decimal(f.alpha) * y) / (1 + Decimal(f.alpha) * m)).ln()),
    "tweedie": lambda y, m, f: tweedie(y, m, Decimal(f.power))}


def tweedie(y, m, power):
    a, b = 1 - power, 2 - power
    return 2 * ((y ** b if y else ZERO) / (a * b) - y * m ** a / a + m ** b / b)


def exact(family, y, mu, weight=None):
    """Sum of w d(y, mu) in 60 digits."""
    formula_ = EXACT[family.name]
    with localcontext(prec=60):
        weight = np.ones(len(y)) if weight is None else weight
        mu = mu if isinstance(mu, Decimal) else Decimal(float(mu))
        return sum((Decimal(float(w)) * formula_(Decimal(float(v)), mu, family) for v, w in zip(y, weight)), ZERO)


def exact_mean(y, weight):
    with localcontext(prec=60):
        weight = [Decimal(float(w)) for w in weight]
        return sum((w * Decimal(float(v)) for v, w in zip(y, weight)), ZERO) / sum(weight)


FAMILIES = [families.Gaussian(), families.Binomial(), families.Poisson(), families.Gamma(), families.InverseGaussian(),
            *(families.NegativeBinomial(a) for a in (1e-8, 0.5, 50.0)), *(families.Tweedie(p) for p in (1.05, 1.5, 1.9))]


def name(family):
    return f"{family.name}{next((getattr(family, f) for f in ('alpha', 'power') if hasattr(family, f)), '')}"


# ---------------------------------------------------------------- unit deviances


@pytest.mark.parametrize("family", FAMILIES, ids=name)
def test_unit_deviances_do_not_cancel(family):
    """From y = mu to far away, means over 18 decades: 12 digits (they were differences of terms of the size of y)."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        unit = family.name == "binomial"
        mu = rng.uniform(0.01, 0.99) if unit else 10.0 ** rng.uniform(-6, 12)
        y = mu * max(1.0 + 10.0 ** rng.uniform(-7, 1) * rng.choice([-1.0, 1.0]), 1e-3)
        y = min(y, 1.0) if unit else y
        got, want = family.unit_deviance(y, mu), float(exact(family, [y], mu))
        assert got >= 0.0 and got == pytest.approx(want, rel=2e-12 if unit else 2e-13, abs=0.0), (y, mu)
    assert family.unit_deviance(mu, mu) == 0.0
    if family.accepts_response(0.0) and family.name != "gaussian":
        assert family.unit_deviance(0.0, mu) == pytest.approx(float(exact(family, [0.0], mu)), rel=1e-13)


@pytest.mark.parametrize("n", [1, 15, 16, 17, 1000, 100_000])
def test_saturated_likelihoods_do_not_cancel(n):
    """ln n! from whole numbers: at 100,000 its terms are 1e6 times the saturated log-likelihood."""
    with localcontext(prec=60):
        excess = {k: Decimal(math.factorial(k)).ln() - (k * Decimal(k).ln() - k) for k in (n, 2 * n, 3 * n)}
        ratio = Decimal(2) / Decimal(3)
    one, y = np.ones(1), np.array([float(n)])
    assert families.Poisson().row_saturated(y, one) == pytest.approx(-float(excess[n]), rel=1e-13)
    assert families.Binomial().row_saturated(one / 3, 3.0 * n * one) == pytest.approx(
        float(excess[3 * n] - excess[n] - excess[2 * n]), rel=1e-13)
    assert families.NegativeBinomial(0.5 / n).row_saturated(y, one) == pytest.approx(
        float(excess[3 * n] - excess[2 * n] - excess[n] + ratio.ln()), rel=1e-12)


# ---------------------------------------------------------------- null deviances


def draw(family, mean, n, rng):
    """Responses around a mean; those of large means vary little against it."""
    kind = family.name
    if kind == "binomial":
        return rng.binomial(20, 0.3, n) / 20
    if kind in ("poisson", "negative_binomial"):
        return rng.poisson(mean, n).astype(float)
    if kind == "tweedie":
        return np.maximum(mean + np.sqrt(mean) * rng.normal(size=n), 0.0)
    return mean * np.exp(1e-3 * rng.normal(size=n))


@pytest.mark.parametrize("mean", [1e-3, 1.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("family", FAMILIES, ids=name)
def test_null_deviance_of_any_chunks(family, mean):
    """Blocks merged around their means against 60 digits, with weights and empty, constant and single-row blocks."""
    rng = np.random.default_rng(1)
    n = 120
    y, weight = draw(family, mean, n, rng), rng.uniform(0.1, 4.0, n)
    y[:7] = y[7]
    y[30] = y[30] if y.any() else 1.0
    weight[[20, 50]] = 0.0
    want = float(exact(family, y, exact_mean(y, weight), weight))
    for cuts in ([], [7], [0, 3, 3, 60, 61], sorted(rng.integers(0, n, 30))):
        blocks = [response_totals(family, *part)[0] for part in zip(np.split(y, cuts), np.split(weight, cuts))]
        found = blocks[0]
        for block in blocks[1:]:
            found = found.merge(block)
        assert found.deviance == pytest.approx(want, rel=1e-9, abs=1e-280), cuts
        assert found.mean == pytest.approx(float(exact_mean(y, weight)), rel=1e-14)


def chunked(values, size):
    return da.from_array(values, chunks=(size, *values.shape[1:]))


@pytest.mark.parametrize("mean", [1e7, 1e9, 1e18])
def test_deviances_of_large_counts(mean):
    """Mean 1e7 gave 474.35 for 479.91, 1e9 gave -217,635 for 1,999.9, and the fit at 1e18 had deviance -7,303."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(500, 1)), np.round(mean + math.sqrt(mean) * rng.normal(size=500))
    for rows in (500, 77):
        results = PoissonRegressor().fit(chunked(X, rows), chunked(y, rows)).results_
        null = float(exact(families.Poisson(), y, exact_mean(y, np.ones(500))))
        assert results.null_deviance == pytest.approx(null, rel=1e-7)
        assert null - 20.0 < results.deviance <= null


def test_null_deviance_of_precise_gammas():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(300, 1)), 1e8 * rng.gamma(1e6, 1e-6, 300)
    results = GammaRegressor().fit(X, y).results_
    assert results.null_deviance == pytest.approx(float(exact(families.Gamma(), y, exact_mean(y, np.ones(300)))), rel=1e-8)
    assert 0.0 < results.deviance <= results.null_deviance


@pytest.mark.parametrize("labels", [(0.0, 1.0), ("no", "yes")])
def test_null_deviance_of_two_outcomes(labels):
    """From counts alone, in closed form: rare events, weights, chunks of one outcome, a regressor's numbers too."""
    rng = np.random.default_rng(0)
    n = 1200
    X, event, weight = rng.normal(size=(n, 2)), rng.random(n) < 0.02, rng.uniform(0.5, 2.0, n)
    y = np.asarray(labels)[event.astype(int)]
    ones, total = weight[event].sum(), weight.sum()
    want = -2.0 * (ones * math.log(ones / total) + (total - ones) * math.log1p(-ones / total))
    estimators = [GLMClassifier(), LogisticRegression()] + ([GLMRegressor("binomial")] if labels[1] == 1.0 else [])
    for estimator in estimators:
        for rows in (n, 25):
            fitted = estimator.fit(chunked(X, rows), chunked(y, rows), chunked(weight, rows)).results_
            assert fitted.null_deviance == pytest.approx(want, rel=1e-12)


def test_null_deviance_without_intercept():
    """At eta = 0, where the link has a mean there (R's convention), else NaN."""
    rng = np.random.default_rng(0)
    X = np.abs(rng.normal(size=(200, 2))) + 0.1
    y = rng.gamma(3.0, 1e5, 200)
    fitted = GammaRegressor(fit_intercept=False).fit(chunked(X, 60), chunked(y, 60)).results_
    assert fitted.null_deviance == pytest.approx(float(exact(families.Gamma(), y, ONE)), rel=1e-12)
    assert math.isnan(GammaRegressor(link="identity", fit_intercept=False).fit(X, y).results_.null_deviance)


# ---------------------------------------------------------------- robust covariances of any fit


def no_intercept_gamma(cov_type):
    rng = np.random.default_rng(0)
    D = np.eye(3)[rng.integers(0, 3, 300)]
    y = rng.gamma(2, 1 + D @ [1, 2, 3.0])
    return D, y, GammaRegressor(link="identity", fit_intercept=False, cov_type=cov_type)


@pytest.mark.parametrize("cov_type", ["HC0", "HC1", "HC3"])
def test_robust_errors_without_a_null_model(cov_type):
    """A constant model does not exist, and the errors do: by group those of a mean."""
    D, y, estimator = no_intercept_gamma(cov_type)
    results = estimator.fit(D, y).results_
    groups = [y[D[:, j] == 1] for j in range(3)]
    n, k = 300, 3
    factor = {"HC0": [1.0] * 3, "HC1": [n / (n - k)] * 3, "HC3": [(1 - 1 / g.size) ** -2 for g in groups]}[cov_type]
    want = [math.sqrt(f * g.var() / g.size) for f, g in zip(factor, groups)]
    assert results.bse.to_numpy() == pytest.approx(want, rel=1e-9)
    with pytest.raises(ValueError, match="not the rows"):
        results.with_covariance(cov_type, D, y * 1.1)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e9])
def test_robust_errors_of_any_scale_of_weights(scale):
    """Prior weights have no unit: neither estimates nor robust errors nor their refusal depend on it."""
    rng = np.random.default_rng(3)
    X, weight = np.abs(rng.standard_t(3, size=(120, 2))) + 0.1, rng.uniform(0.1, 3.0, 120)
    y = rng.wald((X @ [0.5, 0.7]) ** -0.5, 2.0)
    for link, intercept in (("inverse_squared", False), ("log", True)):
        model = InverseGaussianRegressor(link=link, fit_intercept=intercept, cov_type="HC1")
        truth = model.fit(X, y, weight).results_.bse.to_numpy()
        fitted = model.fit(X, y, scale * weight).results_
        assert fitted.bse.to_numpy() == pytest.approx(truth, rel=1e-6)
        with pytest.raises(ValueError, match="not the rows"):
            fitted.with_covariance("HC0", X, y, scale * weight[::-1])


def test_robust_errors_of_power_links_without_intercept():
    rng = np.random.default_rng(0)
    X = np.abs(rng.normal(size=(200, 2))) + 0.2
    y = rng.poisson(X @ [2.0, 1.0]) * rng.gamma(2, 0.5, 200)
    model = TweedieRegressor(link=links.Power(1.5), fit_intercept=False, cov_type="HC0").fit(X, y)
    assert np.isfinite(model.results_.bse).all() and math.isnan(model.results_.null_deviance)


@pytest.mark.parametrize("make, y", [(LinearRegression, [1.0, -2.0, 1e6]), (PoissonRegressor, [1.0, 2.0, 5e7]),
                                     (GammaRegressor, [1e-3, 2.0, 5e4])])
def test_saturated_fits_have_robust_errors_of_zero(make, y):
    X, y = np.random.default_rng(0).normal(size=(3, 2)), np.array(y)
    results = make(cov_type="HC0").fit(X, y).results_
    assert results.bse.to_numpy() == pytest.approx(0.0, abs=1e-6 * np.abs(results.params).max())
    with pytest.raises(ValueError, match="not the rows"):
        results.with_covariance("HC0", X, y * [1.0, 1.0, 1.001])


@pytest.mark.parametrize("estimator", [LinearRegression(fit_intercept=False), GLMClassifier(fit_intercept=False),
                                       DivideAndConquerGLM(fit_intercept=False)])
def test_no_column_left(estimator):
    """One row or many: a sentence where there was a division by zero."""
    for n in (2, 40):
        with pytest.raises(ValueError, match="No coefficient is left.*fit_intercept=True"):
            estimator.fit(np.zeros((n, 2)), np.arange(n) % 2.0)


# ---------------------------------------------------------------- standardized penalties


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_standardized_ridge_is_that_of_scaled_columns(intercept, weighted):
    """Normal equations with the penalty s_j^2 b_j^2, s_j the weighted population standard deviation."""
    rng = np.random.default_rng(0)
    n = 200
    X = rng.normal(size=(n, 3)) * [1.0, 0.1, 20.0] + [5.0, 0.0, -40.0]
    y, weight = X @ [1.0, 1.0, 0.1] + rng.normal(size=n), rng.uniform(0.2, 3.0, n) if weighted else np.ones(n)
    total = weight.sum()
    center = weight @ X / total
    deviation = np.sqrt(weight @ (X - center) ** 2 / total)
    Z = np.column_stack([np.ones(n), X]) if intercept else X
    penalty = 0.5 * np.diag(np.r_[[0.0] * intercept, deviation ** 2])
    want = np.linalg.solve((Z.T * weight) @ Z / total + penalty, Z.T @ (weight * y) / total)
    model = LinearRegression(alpha=0.5, standardize=True, fit_intercept=intercept)
    for rows in (n, 41):
        fitted = model.fit(chunked(X, rows), chunked(y, rows), chunked(weight, rows))
        assert fitted.coef_ == pytest.approx(want[int(intercept):], rel=1e-9)


@pytest.mark.parametrize("l1_ratio", [0.0, 0.4])
def test_standardized_penalty_of_a_sparse_formula(l1_ratio):
    """A factor of 300 levels makes the design sparse, in a basis of its own: the same fit as of dense columns."""
    rng = np.random.default_rng(1)
    n = 1500
    frame = pd.DataFrame({"x": rng.normal(size=n) + 3.0, "c": rng.integers(0, 300, n).astype(str),
                          "w": rng.uniform(0.5, 2.0, n)})
    frame["y"] = rng.poisson(np.exp(0.2 * frame["x"]))
    fitted = formula.glm("y ~ x + C(c)", frame, "poisson", weights="w", alpha=0.02, l1_ratio=l1_ratio, standardize=True)
    assert fitted.spec.sparse
    dummies = pd.get_dummies(frame["c"], drop_first=True, dtype=float)
    dense = PoissonRegressor(alpha=0.02, l1_ratio=l1_ratio, standardize=True).fit(
        pd.concat([frame["x"], dummies], axis=1), frame["y"], frame["w"])
    ours = fitted.params.drop("Intercept")
    assert ours["x"] == pytest.approx(dense.coef_[0], rel=1e-6, abs=1e-9)
    assert np.sort(ours) == pytest.approx(np.sort(dense.coef_), rel=1e-5, abs=1e-7)


def test_a_constant_column_is_penalised_as_it_stands():
    X = np.column_stack([np.full(50, 3.0), np.arange(50.0)])
    y = X @ [1.0, 0.1]
    fitted = LinearRegression(alpha=0.5, standardize=True, fit_intercept=False).fit(X, y)
    penalty = 0.5 * np.diag([1.0, X[:, 1].var()])
    assert fitted.coef_ == pytest.approx(np.linalg.solve(X.T @ X / 50 + penalty, X.T @ y / 50), rel=1e-9)


# ---------------------------------------------------------------- the negative binomial's alpha

N = 1500
RNG_X = np.random.default_rng(5).normal(size=(N, 3))


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(RNG_X, columns=["a", "b", "c"])
    frame["hours"] = rng.uniform(0.5, 2.0, N)
    frame["y"] = rng.negative_binomial(2, 2 / (2 + np.exp(0.5 + RNG_X @ [0.3, -0.2, 0.1]))).astype(float)
    return frame


def theirs(frame, columns, **how):
    design = np.column_stack([np.ones(N), *(frame[c] for c in columns)])
    start = np.r_[np.zeros(design.shape[1]), 0.5]
    return sm.NegativeBinomial(frame["y"].to_numpy(), design, **how).fit(start, disp=0, method="newton", maxiter=500,
                                                                         tol=1e-12)


def test_alpha_is_one_parameter_more(counts):
    """statsmodels' NegativeBinomial and R's glm.nb count it; the null model has an alpha of its own."""
    r, t = NegativeBinomialRegressor().fit(counts[["a", "b", "c"]], counts["y"]).results_, theirs(counts, "abc")
    null = theirs(counts, "")
    assert [r.llf, r.aic, r.bic] == pytest.approx([t.llf, t.aic, t.bic], rel=1e-10)
    assert r.llnull == pytest.approx(null.llf, rel=1e-10)
    assert r.prsquared == pytest.approx(1 - t.llf / null.llf, rel=1e-8)
    assert r.alpha == pytest.approx(t.params[-1], rel=1e-5)
    assert r.alpha_standard_error == pytest.approx(t.bse[-1], rel=1e-2)
    fixed = sm.GLM(counts["y"], np.ones(N), sm.families.NegativeBinomial(alpha=r.alpha)).fit()
    assert r.null_deviance == pytest.approx(fixed.deviance, rel=1e-10)          # R: at the fitted theta
    assert r.df_resid == N - 4 and r.n_parameters == 5
    text = str(r.summary())
    assert f"{r.alpha:.6g}" in text and f"{r.alpha_standard_error:.4g}" in text
    assert "Alpha std err" in r.summary()._repr_html_()


def test_nested_fits_of_different_alpha(counts):
    larger = NegativeBinomialRegressor().fit(counts[["a", "b", "c"]], counts["y"]).results_
    smaller = NegativeBinomialRegressor().fit(counts[["b"]], counts["y"]).results_
    test = larger.lr_test(smaller)
    want = 2 * (theirs(counts, "abc").llf - theirs(counts, "b").llf)
    assert test.statistic == pytest.approx(want, rel=1e-8) and test.df == 2
    given = GLMRegressor(families.NegativeBinomial(1.0)).fit(counts[["a", "b", "c"]], counts["y"]).results_
    assert larger.lr_test(given).df == 1
    with pytest.raises(ValueError, match="parameters are given"):
        given.lr_test(smaller)
    with pytest.raises(ValueError, match="use 'chi2'"):
        larger.lr_test(smaller, test="F")


def test_every_exact_entry_estimates_alpha(counts, tmp_path, capsys):
    """The name alone means estimate, in estimators, formulas and on the command line; a number stays as given."""
    truth = NegativeBinomialRegressor().fit(counts[["a", "b"]], counts["y"])
    how = [GLMRegressor(f).fit(counts[["a", "b"]], counts["y"]).results_
           for f in ("negative_binomial", families.NegativeBinomial("estimate"), families.NegativeBinomial())]
    how += [formula.glm("y ~ a + b", counts, f) for f in ("negative_binomial", families.NegativeBinomial("estimate"))]
    for results in how:
        assert results.alpha == pytest.approx(truth.overdispersion_, rel=1e-9)
        assert results.alpha_standard_error == pytest.approx(truth.overdispersion_standard_error_, rel=1e-9)
    given = formula.glm("y ~ a + b", counts, families.NegativeBinomial(0.7))
    assert given.alpha == 0.7 and math.isnan(given.alpha_standard_error) and given.n_parameters == 3
    assert "given" in str(given.summary())
    with pytest.raises(AttributeError, match="negative binomial"):
        PoissonRegressor().fit(counts[["a"]], counts["y"]).results_.alpha
    counts.to_parquet(tmp_path / "counts.parquet")
    assert __main__.main(["fit", "y ~ a + b", str(tmp_path / "counts.parquet"), "--family", "negative_binomial",
                          "--out", str(tmp_path / "fit.json")]) == 0
    assert f"{truth.overdispersion_:.6g}" in capsys.readouterr().out
    assert '"alpha": ' in (tmp_path / "fit.json").read_text()


@pytest.mark.parametrize("estimator", [SubsampledGLM, DivideAndConquerGLM, StochasticGLM, RepresentativeGLM])
def test_estimators_that_do_not_estimate_alpha_say_so(counts, estimator):
    for family in ("negative_binomial", families.NegativeBinomial("estimate")):
        with pytest.raises(ValueError, match=f"{estimator.__name__} does not estimate .*NegativeBinomial\\(0.5\\)"):
            estimator(family=family).fit(counts[["a", "b"]], counts["y"])


def test_null_models_of_estimated_alpha(counts):
    """With exposure, without intercept, in chunks, with copies as weights."""
    exposed = NegativeBinomialRegressor().fit(counts[["a"]], counts["y"], exposure=counts["hours"])
    assert exposed.results_.llnull == pytest.approx(theirs(counts, "", exposure=counts["hours"]).llf, rel=1e-10)
    X, y = counts[["a", "b"]].to_numpy(), counts["y"].to_numpy()
    parts = NegativeBinomialRegressor().fit(chunked(X, 400), chunked(y, 400), exposure=chunked(
        counts["hours"].to_numpy(), 400)).results_
    whole = NegativeBinomialRegressor().fit(X, y, exposure=counts["hours"].to_numpy()).results_
    assert [parts.llnull, parts.null_deviance, parts.alpha] == pytest.approx(
        [whole.llnull, whole.null_deviance, whole.alpha], rel=1e-8)
    none = NegativeBinomialRegressor(fit_intercept=False).fit(X, y).results_

    def loss(t):
        family = families.NegativeBinomial(math.exp(t))
        return 0.5 * sum(family.unit_deviance(v, 1.0) for v in y) - family.row_saturated(y, np.ones(N))

    assert none.llnull == pytest.approx(-optimize.minimize_scalar(loss, (-1.0, 1.0), tol=1e-10).fun, rel=1e-10)
    copies = np.random.default_rng(0).integers(1, 4, N)
    weighted = NegativeBinomialRegressor(weights_kind="frequency").fit(X, y, copies.astype(float)).results_
    repeated = NegativeBinomialRegressor().fit(np.repeat(X, copies, axis=0), np.repeat(y, copies)).results_
    for key in ("llnull", "aic", "bic", "null_deviance"):
        assert getattr(weighted, key) == pytest.approx(getattr(repeated, key), rel=1e-9)


# ---------------------------------------------------------------- null models with an offset


@pytest.mark.parametrize("intercept", [True, False])
def test_multinomial_null_with_an_offset(intercept):
    rng = np.random.default_rng(0)
    n = 2000
    X, offset = rng.normal(size=(n, 2)), rng.normal(size=n)
    eta = np.column_stack([np.zeros(n), X @ [0.5, -0.3] + offset, X @ [-0.2, 0.4] + 0.5 + offset])
    share = np.exp(eta) / np.exp(eta).sum(axis=1, keepdims=True)
    y = (share.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)

    def loss(b):
        eta = np.column_stack([np.zeros(n), b[0] + offset, b[1] + offset])
        return np.logaddexp.reduce(eta, axis=1).sum() - eta[np.arange(n), y].sum()

    want = -optimize.minimize(loss, [0.0, 0.0], tol=1e-12).fun if intercept else -loss([0.0, 0.0])
    for rows in (n, 300):
        model = LogisticRegression(fit_intercept=intercept).fit(chunked(X, rows), chunked(y, rows),
                                                                offset=chunked(offset, rows))
        assert model.results_.llnull == pytest.approx(want, rel=1e-9)


# ---------------------------------------------------------------- nested or not


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(rng.normal(size=(400, 4)), columns=["a", "b", "c", "d"])
    frame["g"] = rng.choice(["u", "v", "w"], 400)
    frame["y"] = rng.poisson(np.exp(0.2 * frame["a"] + 0.1 * frame["b"])).astype(float)
    return frame


def test_fits_that_are_not_nested_are_refused(columns):
    larger = PoissonRegressor().fit(columns[["a", "b", "c"]], columns["y"]).results_
    other = PoissonRegressor().fit(columns[["d"]], columns["y"]).results_
    with pytest.raises(ValueError, match="column 'd'.*check=False"):
        larger.lr_test(other)
    assert larger.lr_test(other, check=False).df == 2
    assert larger.lr_test(PoissonRegressor().fit(columns[["c", "a"]], columns["y"])).df == 1
    renamed = columns[["d"]].rename(columns={"d": "a"})
    with pytest.raises(ValueError, match="column 'a'"):
        larger.lr_test(PoissonRegressor().fit(renamed, columns["y"]))
    with pytest.raises(ValueError, match="'Intercept'"):
        PoissonRegressor(fit_intercept=False).fit(columns[["a", "b", "c"]], columns["y"]).results_.lr_test(
            PoissonRegressor().fit(columns[["a"]], columns["y"]))


def test_arrays_are_nested_by_their_columns(columns):
    X, y = columns[["a", "b", "c", "d"]].to_numpy(), columns["y"].to_numpy()
    larger = PoissonRegressor().fit(X[:, :3], y).results_
    assert larger.lr_test(PoissonRegressor().fit(X[:, [2, 0]], y)).df == 1
    with pytest.raises(ValueError, match="column 'x1'"):
        larger.lr_test(PoissonRegressor().fit(X[:, [0, 3]], y))


def test_fits_of_other_rows_are_refused(columns):
    X, y = columns[["a", "b"]], columns["y"]
    larger, weight = PoissonRegressor().fit(X, y).results_, np.where(np.arange(400) % 2, 0.5, 1.5)
    for changed in (PoissonRegressor().fit(X[["a"]], 2.0 * y), PoissonRegressor().fit(X[["a"]], y, weight),
                    PoissonRegressor().fit(X[["a"]], y, offset=0.1 * columns["c"])):
        with pytest.raises(ValueError, match="same rows"):
            larger.lr_test(changed)
    power = GLMRegressor(families.Tweedie(1.3)).fit(X, y).results_
    with pytest.raises(ValueError, match="same family"):
        power.lr_test(GLMRegressor(families.Tweedie(1.6)).fit(X[["a"]], y), test="F")


def test_formulas_and_classes_nest(columns):
    larger = formula.glm("y ~ a * C(g)", columns, "poisson")
    assert larger.lr_test(formula.glm("y ~ C(g)", columns, "poisson")).df == 3
    with pytest.raises(ValueError, match="column 'poly"):
        formula.glm("y ~ poly(a, 3)", columns, "poisson").lr_test(formula.glm("y ~ poly(a, 2)", columns, "poisson"))
    spans = formula.glm("y ~ poly(a, 3)", columns, "poisson")
    assert spans.lr_test(formula.glm("y ~ poly(a, 2)", columns, "poisson"), check=False).df == 1
    classes = formula.mnlogit("g ~ a + b", columns)
    assert classes.lr_test(formula.mnlogit("g ~ b", columns)).df == 2
    with pytest.raises(ValueError, match="column 'd'"):
        classes.lr_test(formula.mnlogit("g ~ d", columns))


@pytest.mark.parametrize("r", [1.0 + 1e3, 5e3])
def test_derivatives_in_the_overdispersion_do_not_change_where_the_series_begins(r):
    y, mu = np.array([0.0, 1.0, 3.0, 21.0, 40.0]), np.array([1.3, 0.2, 1.3, 19.0, 55.0])
    block = Block(np.zeros((5, 0)), y, np.ones(5), np.log(mu))
    got = log_size_derivatives(block, families.GLM(families.NegativeBinomial(1.0 / r), links.Log()),
                               Basis(np.zeros(0, int), np.zeros(0), np.zeros(0), False), np.zeros(0)).value
    first = special.digamma(y + r) - special.digamma(r) + np.log(r / (mu + r)) + (mu - y) / (mu + r)
    second = (special.polygamma(1, y + r) - special.polygamma(1, r) + 1.0 / r - 2.0 / (mu + r)
              + (y + r) / (mu + r) ** 2)
    np.testing.assert_allclose(got, [np.sum(r * first), np.sum(r * r * second + r * first)], rtol=1e-6)


@pytest.mark.parametrize("seed, n, rate", [(4, 30_000, 3.0), (3, 20_000, 3.0), (6, 3_000, 0.2)])
def test_counts_without_overdispersion_end_soon(seed, n, rate):
    """Rounding in the derivatives decided where alpha ended, after up to 1,281 sweeps."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 1))
    y = rng.poisson(np.exp(0.3 * X[:, 0] + rate)).astype(float)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The counts show no overdispersion")
        warnings.filterwarnings("error", message="alpha did not settle")
        fitted = NegativeBinomialRegressor().fit(X, y)
    poisson = PoissonRegressor().fit(X, y).results_
    assert fitted.n_passes_ <= 60 and fitted.results_.llf >= poisson.llf - 1e-6 * abs(poisson.llf)
    assert np.max(np.abs(fitted.results_.params - poisson.params) / poisson.bse) < 0.1
