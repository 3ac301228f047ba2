"""Distributed estimation: reference values, a slow obvious twin, laws, and what is told when parts fail."""

import pickle
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import make_data
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import (AliasWarning, CovarianceWarning, DistributedModel, DivideAndConquerGLM, GLMClassifier,
                         GLMRegressor, LogisticRegression, debias, debiasing, families, glm)

CASES = {name: case for name, case in make_data.cases().items() if case["kind"] == "distributed"}
METHODS = {"naive_unregularized": "unregularized", "naive_regularized": "regularized", "debiased": "debiased"}
FAMILIES = ["gaussian", "binomial", "poisson", "gamma", "inverse_gaussian", families.Tweedie(1.5),
            families.NegativeBinomial(0.5)]


def sample(n=1200, p=5, family="gaussian", seed=0, scale=(1.0, 2.0, 0.3, 1.0, 5.0), shift=(0.0, 3.0, 1.0, 0.0, -2.0)):
    """Columns of unlike scale and place, a response of the family, weights and offsets."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, p))
    X = Z * np.resize(scale, p) + np.resize(shift, p)
    offset = 0.1 * rng.normal(size=n)
    eta = 0.2 + Z[:, :3] @ [0.5, -0.3, 0.2] + offset
    name, mu = getattr(family, "facts", None) and family.facts.name or family, np.exp(eta)
    y = {"gaussian": lambda: eta + rng.normal(size=n), "poisson": lambda: rng.poisson(mu).astype(float),
         "binomial": lambda: (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float),
         "gamma": lambda: mu * rng.gamma(2.0, 0.5, n), "inverse_gaussian": lambda: rng.wald(mu, 4.0),
         "tweedie": lambda: rng.poisson(mu) * rng.gamma(2.0, 0.5, n),
         "negative_binomial": lambda: rng.poisson(mu * rng.gamma(2.0, 0.5, n)).astype(float)}[name]()
    return X, y, rng.uniform(0.5, 2.0, n), offset


def lazy(chunks, *columns):
    return [da.from_array(c, chunks=(chunks, *c.shape[1:])) for c in columns]


# ---------------------------------------------------------------- truth from outside


@pytest.mark.parametrize("convention", [None, "statsmodels"])
@pytest.mark.parametrize("name", CASES)
def test_reference_cases(name, convention):
    case, data = CASES[name], make_data.build(CASES[name])
    e, model = case["estimator"], case["model"]
    intercept = model["design"][0][0] == "Intercept"
    est = DistributedModel(model["family"], METHODS[e["method"]], alpha=e["alpha"] or 0.0, l1_ratio=e["L1_wt"],
                           threshold=e["threshold"], partitions=e["partitions"], fit_intercept=intercept,
                           convention=convention).fit(data["X"][:, int(intercept):], data["y"])
    ours = "exact_profile_scale" if convention and "exact_profile_scale" in case["expected"] else "exact_lee2015"
    truth = case["expected"].get(ours, case["expected"].get("exact"))
    got = np.r_[[est.intercept_] * intercept, est.coef_]
    np.testing.assert_allclose(got, truth, rtol=0, atol=1e-9)
    assert est.n_parts_ == e["partitions"] and est.n_passes_ == 3


def test_the_equations_are_those_of_statsmodels():
    import statsmodels.api as sm
    from statsmodels.base.distributed_estimation import _calc_wdesign_mat
    from statsmodels.stats import regularized_covariance as theirs

    X, y, *_ = sample(400, family="binomial", scale=(1.0,), shift=(0.0,))
    b = np.array([0.3, 0.0, -0.2, 0.0, 0.1])
    W = debiasing.wexog(X, b, "binomial")
    np.testing.assert_allclose(W, _calc_wdesign_mat(sm.GLM(y, X, sm.families.Binomial()), b, {}), rtol=1e-12)
    gram, rows, weights = W.T @ W / 400, [], []
    for j in range(5):
        row = debiasing.nodewise_row(gram, j, 0.01)
        assert row[j] == 0.0 and debiasing.nodewise_error(gram, row, j, 0.01) < 1e-12
        others = np.delete(row, j)
        np.testing.assert_allclose(theirs._calc_nodewise_row(W, j, 0.01), others, atol=1e-8)
        weight = debiasing.nodewise_weight(gram, row, j, 0.01)
        assert weight == pytest.approx(theirs._calc_nodewise_weight(W, others, j, 0.01), rel=1e-10)
        # at an exact lasso, tau^2 is the inner product of the column with its residual
        assert weight ** 2 == pytest.approx(W[:, j] @ (W[:, j] - W @ row) / 400, rel=1e-10)
        rows.append(row)
        weights.append(weight)
    theta = debiasing.approx_inv_cov(np.array(rows), np.array(weights))
    short = [np.delete(row, j) for j, row in enumerate(rows)]
    np.testing.assert_allclose(theta, theirs._calc_approx_inv_cov(short, np.array(weights)), rtol=1e-12)


@pytest.mark.parametrize("penalty", [1e-6, 1e-3, 0.05])
def test_nodewise_lassos_are_exact_for_correlated_columns(penalty):
    rng = np.random.default_rng(1)
    W = rng.normal(size=(150, 60)) + 3.0 * rng.normal(size=(150, 1))
    gram = W.T @ W / 150
    for j in (0, 30, 59):
        row = debiasing.nodewise_row(gram, j, penalty)
        slope = W.T @ (W[:, j] - W @ row) / 150
        others = np.arange(60) != j
        assert np.all(np.abs(slope[others]) <= penalty + 1e-8)
        on = others & (row != 0)
        np.testing.assert_allclose(slope[on], penalty * np.sign(row[on]), atol=1e-8)


# ---------------------------------------------------------------- a slow obvious twin


def minimum(loss, n_free, penalty, q):
    """A lasso by L-BFGS-B on positive and negative parts: coefficients beyond the first n_free are penalized."""
    def value(v):
        b = v[:q] - v[q:]
        f, g = loss(b)
        return f + penalty @ (v[:q] + v[q:]), np.r_[g + penalty, penalty - g]

    bounds = [(None, None)] * n_free + [(0, None)] * (q - n_free) + [(0, 0)] * n_free + [(0, None)] * (q - n_free)
    v = optimize.minimize(value, np.zeros(2 * q), jac=True, method="L-BFGS-B", bounds=bounds,
                          options=dict(maxiter=20_000, maxfun=100_000, ftol=1e-17, gtol=1e-11)).x
    return v[:q] - v[q:]


def slow_debiased(parts, alpha, nodewise_alpha):
    """Poisson, free intercept, raw centred columns: everything on explicit rows, weights and offsets."""
    center = np.average(np.vstack([X for X, *_ in parts]), axis=0, weights=np.concatenate([w for _, _, w, _ in parts]))
    q, m = parts[0][0].shape[1] + 1, len(parts)
    total = sum(w.sum() for _, _, w, _ in parts)
    b_mean, g_mean, theta, share = np.zeros(q), np.zeros(q), np.zeros((q, q)), -(-q // m)
    for k, (X, y, w, offset) in enumerate(parts):
        Z, W = np.c_[np.ones(len(y)), X - center], w.sum()

        def loss(b):
            mu = np.exp(Z @ b + offset)
            return (w @ (mu - y * (Z @ b + offset))) / W, Z.T @ (w * (mu - y)) / W

        b = minimum(loss, 1, np.r_[0.0, np.full(q - 1, alpha)], q)
        g = -loss(b)[1]
        b_mean, g_mean = b_mean + W * b / total, g_mean + W * g / total
        R = np.sqrt(w * np.exp(Z @ b + offset))[:, None] * Z
        for j in range(k * share, min((k + 1) * share, q)):
            others = [l for l in range(q) if l != j]
            free = int(j > 0)
            penalty = np.r_[[0.0] * free, np.full(q - 1 - free, nodewise_alpha)]

            def squares(gamma):
                rest = R[:, j] - R[:, others] @ gamma
                return rest @ rest / (2 * W), -R[:, others].T @ rest / W

            gamma = minimum(squares, free, penalty, q - 1)
            tau2 = np.sum((R[:, j] - R[:, others] @ gamma) ** 2) / W + penalty @ np.abs(gamma)
            theta[j, j], theta[j, others] = 1 / tau2, -gamma / tau2
    b = b_mean + theta @ g_mean
    Z = np.vstack([np.c_[np.ones(len(y)), X - center] for X, y, *_ in parts])
    y, w, offset = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
    mu = np.exp(Z @ b + offset)
    covariance = {"nonrobust": Z.T @ (Z * (w * mu)[:, None]), "HC0": Z.T @ (Z * (w * (y - mu))[:, None] ** 2)}
    T = np.eye(q)
    T[0, 1:] = -center
    return T @ b, {kind: np.sqrt(np.diag(T @ theta @ S @ theta.T @ T.T)) / total for kind, S in covariance.items()}


@pytest.mark.parametrize("nodewise_alpha", [None, 0.2])
def test_debiased_poisson_against_explicit_rows(nodewise_alpha):
    """Uneven chunks, weights, offsets, a free intercept, columns of unlike scale."""
    X, y, w, offset = sample(700, family="poisson", scale=(1.0, 0.5, 2.0), shift=(0.0, 1.0))
    cuts = [slice(0, 150), slice(150, 450), slice(450, 700)]
    b, se = slow_debiased([(X[c], y[c], w[c], offset[c]) for c in cuts], 0.05, nodewise_alpha or 0.05)
    chunks = (150, 300, 250)
    for kind, truth in se.items():
        est = DistributedModel("poisson", alpha=0.05, nodewise_alpha=nodewise_alpha, cov_type=kind)
        est.fit(*lazy(chunks, X, y, w, offset))
        np.testing.assert_allclose(est.results_.params, b, atol=2e-6)
        np.testing.assert_allclose(est.results_.bse, truth, rtol=2e-5)


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("alpha", [0.0, 1e-9])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_debiasing_without_a_penalty_is_maximum_likelihood(family, alpha):
    X, y, w, offset = sample(family=family)
    full = GLMRegressor(family).fit(X, y, w, offset)
    for kind in ("nonrobust", "HC0"):
        est = DistributedModel(family, alpha=alpha, cov_type=kind).fit(X, y, w, offset)
        truth = full.results_ if kind == "nonrobust" else full.results_.with_covariance("HC0", X, y, w, offset)
        assert np.max(np.abs(est.results_.params - full.results_.params) / full.results_.bse) < 1e-7
        np.testing.assert_allclose(est.results_.bse, truth.bse, rtol=1e-7)
    np.testing.assert_allclose(est.results_.deviance, full.results_.deviance, rtol=1e-10)
    np.testing.assert_allclose(est.results_.scale, full.results_.scale, rtol=1e-7)


@pytest.mark.parametrize("family", ["gaussian", "binomial", "gamma"])
def test_one_partition_is_the_full_fit(family):
    X, y, w, offset = sample(family=family)
    full = GLMRegressor(family).fit(X, y, w, offset).results_
    naive = DistributedModel(family, "unregularized", partitions=1).fit(X, y, w, offset)
    np.testing.assert_allclose(naive.results_.params, full.params, rtol=1e-6)
    np.testing.assert_allclose(naive.results_.bse, full.bse, rtol=1e-6)
    shrunk = DistributedModel(family, "regularized", alpha=0.05, l1_ratio=0.6, partitions=1).fit(X, y, w, offset)
    penalized = GLMRegressor(family, alpha=0.05, l1_ratio=0.6, tol=1e-9).fit(X, y, w, offset)
    np.testing.assert_allclose(shrunk.coef_, penalized.coef_, atol=1e-7)
    assert shrunk.results_.bse.isna().all() and "biased" in str(shrunk.results_.summary())


def test_naive_averages_are_those_of_divide_and_conquer():
    X, y, w, offset = sample(family="binomial")
    columns = lazy((300, 500, 400), X, y, w, offset)
    ours = DistributedModel("binomial", "unregularized", cov_type="HC0").fit(*columns)
    theirs = DivideAndConquerGLM("mean", family="binomial", cov_type="HC0").fit(*columns)
    np.testing.assert_array_equal(ours.results_.params, theirs.results_.params)
    np.testing.assert_array_equal(ours.results_.bse, theirs.results_.bse)
    by_hand = [GLMRegressor("binomial").fit(X[c], y[c], w[c], offset[c]).results_.params
               for c in (slice(0, 300), slice(300, 800), slice(800, 1200))]
    sums = [w[:300].sum(), w[300:800].sum(), w[800:].sum()]
    np.testing.assert_allclose(ours.results_.params, np.average(by_hand, axis=0, weights=sums), rtol=1e-7)
    equal = DistributedModel("binomial", "unregularized", convention="statsmodels").fit(*columns)
    np.testing.assert_allclose(equal.results_.params, np.mean(by_hand, axis=0), rtol=1e-7)


@pytest.mark.parametrize("method", ["debiased", "regularized", "unregularized"])
def test_a_row_of_weight_two_is_two_rows(method):
    X, y, _, offset = sample(family="poisson")
    twice = np.arange(1200) % 3 == 0
    order = np.argsort(np.r_[np.arange(1200), np.flatnonzero(twice)], kind="stable")
    more = [np.r_[c, c[twice]][order] for c in (X, y, offset)]
    est = DistributedModel("poisson", method, alpha=0.05)
    weighted = est.fit(*lazy(400, X, y), 1.0 + twice, offset).results_
    copies = [int(400 + twice[i:i + 400].sum()) for i in (0, 400, 800)]
    X2, y2, offset2 = lazy(tuple(copies), *more)
    repeated = est.fit(X2, y2, None, offset2).results_
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(weighted.bse, repeated.bse, rtol=1e-9)


def test_schedulers_and_kinds_of_input_agree():
    X, y, w, offset = sample(family="binomial")
    est = DistributedModel("binomial", alpha=0.02, partitions=8)
    frame = pd.DataFrame(X, columns=list("abcde"))
    fits = []
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler):
            fits.append(est.fit(*lazy((100, 500, 0, 600), X, y, w, offset)).results_)
    assert np.array_equal(fits[0].params, fits[1].params) and np.array_equal(fits[0].bse, fits[1].bse)
    even = est.fit(*lazy(150, X, y, w, offset)).results_.params.to_numpy()
    np.testing.assert_allclose(est.fit(X, y, w, offset).results_.params, even, rtol=1e-11)
    named = est.fit(frame, y, w, offset)
    np.testing.assert_allclose(named.results_.params, even, rtol=1e-11)
    assert list(named.results_.params.index) == ["Intercept", *"abcde"]


def test_columns_may_be_rescaled_and_moved():
    """With standardize, and with the theory's penalty, the fit of a + b x is the fit of x."""
    X, y, w, offset = sample(family="poisson")
    for how in (dict(alpha=0.05, standardize=True), dict(alpha="theory"), dict(alpha="cv", n_folds=3)):
        est = DistributedModel("poisson", partitions=3, **how)
        first, second = (est.fit(A, y, w, offset).results_ for A in (X, 7.0 - 1e3 * X))
        np.testing.assert_allclose(second.params.iloc[1:] * -1e3, first.params.iloc[1:], rtol=1e-6)
        np.testing.assert_allclose(second.bse.iloc[1:] * 1e3, first.bse.iloc[1:], rtol=1e-6)


def test_more_columns_than_rows():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(240, 300))
    y = X[:, :3] @ [2.0, -1.5, 1.0] + rng.normal(size=240)
    with pytest.warns(CovarianceWarning, match="rows are few for the columns"):
        est = DistributedModel(partitions=2).fit(X, y)
    z = (est.coef_ - np.r_[2.0, -1.5, 1.0, np.zeros(297)]) / est.results_.bse.to_numpy()[1:]
    assert np.isfinite(z).all() and 0.7 < np.std(z[3:]) < 1.4 and np.abs(z).max() < 5.5
    assert 0.6 < est.dispersion_ < 2.0
    assert set(np.argsort(-np.abs(est.results_.tvalues.to_numpy()[1:]))[:3]) == {0, 1, 2}


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_further_steps_take_the_pull_away(family):
    """Where rows are many they end at maximum likelihood and at its errors, however the node-wise rows were found."""
    X, y, w, offset = sample(3000, family=family, scale=(1.0,), shift=(0.0,))
    X = X @ (np.eye(5) + 0.5)
    full = GLMRegressor(family).fit(X, y, w, offset).results_
    away, reach = [], []
    for n_steps in (1, 2, 4, 40):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            est = DistributedModel(family, alpha=0.2, partitions=3, n_steps=n_steps).fit(X, y, w, offset)
        away.append(np.max(np.abs(est.results_.params - full.params) / full.bse))
        reach.append(est.reach_)
        assert est.n_passes_ == 2 + n_steps
        assert bool(told) == (est.reach_ > 1.0) and all("pull is not gone" in str(m.message) for m in told)
    assert away[0] > 2.0 and reach[0] > 1.0, (away, reach)
    assert away[-1] < 1e-3 and reach[-1] < 1e-3, (away, reach)
    assert away == sorted(away, reverse=True)
    np.testing.assert_allclose(est.results_.bse, full.bse, rtol=1e-3)
    found = DistributedModel(family, partitions=3).fit(X, y, w, offset)
    assert found.reach_ < 0.1 and np.max(np.abs(found.results_.params - full.params) / full.bse) < 0.1
    np.testing.assert_allclose(found.results_.bse, full.bse, rtol=0.05)


# ---------------------------------------------------------------- options


def test_the_intercept_is_penalized_where_asked_and_vectors_have_a_place_for_it():
    X, y, *_ = sample(600, shift=(0.0, 1.0))
    ones = np.c_[np.ones(600), X]
    strengths = np.array([0.3, 0.1, 0.05, 0.0, 0.1, 0.02])
    for alpha in (0.1, strengths):
        for convention in (None, "statsmodels"):
            how = dict(alpha=alpha, partitions=3, convention=convention, l1_ratio=0.8)
            a = DistributedModel(penalize_intercept=True, **how).fit(X, y)
            b = DistributedModel(fit_intercept=False, **how).fit(ones, y)
            np.testing.assert_allclose(np.r_[a.intercept_, a.coef_], b.coef_, rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(a.results_.bse, b.results_.bse, rtol=1e-8)
            np.testing.assert_allclose(a.approx_inv_cov_, b.approx_inv_cov_, rtol=1e-8, atol=1e-10)


def test_threshold_cuts_what_predicts_and_keeps_the_intervals():
    X, y, *_ = sample()
    whole, cut = (DistributedModel(alpha=0.05, partitions=2, threshold=t).fit(X, y) for t in (0.0, 0.1))
    np.testing.assert_array_equal(cut.coef_, np.where(np.abs(whole.coef_) < 0.1, 0.0, whole.coef_))
    np.testing.assert_array_equal(cut.results_.params, whole.results_.params)
    assert (cut.coef_ == 0).any() and "2 of 5 estimates are below the threshold" in str(cut.results_.summary())
    naive = DistributedModel(method="regularized", alpha=0.01, partitions=2, threshold=0.1).fit(X, y)
    np.testing.assert_array_equal(naive.results_.params.to_numpy()[1:], naive.coef_)
    np.testing.assert_allclose(naive.results_.deviance, np.sum((y - naive.predict(X)) ** 2), rtol=1e-12)
    with pytest.warns(ConvergenceWarning, match="All 5 coefficients are below threshold=100"):
        DistributedModel(alpha=0.05, threshold=100.0).fit(X, y)


def test_cross_validation_beats_both_ends():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(900, 40))
    y = X[:, :2] @ [1.0, -0.5] + rng.normal(size=900)
    est = DistributedModel(alpha="cv", partitions=3, method="regularized").fit(X, y)
    assert est.n_passes_ == 4 and 0.01 < np.median(est.alpha_) < 0.2
    theory = DistributedModel(partitions=3, method="regularized").fit(X, y)
    np.testing.assert_allclose(theory.alpha_, np.sqrt(np.log(41) / 300) * X.std(0), rtol=0.08)      # sigma is 1
    new = rng.normal(size=(4000, 40))
    error = [np.mean((new[:, :2] @ [1.0, -0.5] - e.predict(new)) ** 2) for e in (
        est, DistributedModel(alpha=0.4, partitions=3, method="regularized").fit(X, y),
        DistributedModel(method="unregularized", partitions=3).fit(X, y))]
    assert error[0] < min(error[1:])


# ---------------------------------------------------------------- groups


def test_groups_and_simultaneous_intervals():
    X, y, *_ = sample(scale=(1.0,), shift=(0.0,))
    results = DistributedModel(alpha=0.05, partitions=2).fit(X, y).results_
    single = results.simultaneous("x3")
    assert single["pvalue"].iloc[0] == pytest.approx(results.pvalues["x3"], abs=0.006)
    np.testing.assert_allclose(single[["ci_lower", "ci_upper"]], results.conf_int().loc[["x3"]], rtol=0.02, atol=2e-3)
    table, n = results.simultaneous(), 5
    half = (table["ci_upper"] - table["coef"]) / table["std err"]
    bonferroni = stats.norm.ppf(1 - 0.025 / n)
    assert np.all((half < bonferroni + 0.02) & (half > 1.96 + 0.3))
    free = 1 - (1 - results.pvalues.iloc[1:]) ** n                                     # nearly uncorrelated columns
    np.testing.assert_allclose(table["pvalue"], free, atol=0.02)
    test = results.group_test(["x3", "x4"])
    assert test.pvalue == pytest.approx(results.simultaneous(["x3", "x4"])["pvalue"].min())
    assert results.group_test().pvalue < 1e-4 and results.group_test(method="chi2").pvalue < 1e-20
    chi2 = results.group_test(["x3", "x4"], "chi2")
    assert chi2.pvalue == results.wald_test("x3 = 0, x4 = 0").pvalue
    for wrong, words in ((dict(which="z"), "no coefficient 'z'"), (dict(which=[]), "No coefficient"),
                         (dict(method="F"), "'max' or 'chi2'")):
        with pytest.raises(ValueError, match=words):
            results.group_test(**wrong)
    with pytest.raises(ValueError, match="no coefficient 0"):
        results.simultaneous(0)


@pytest.mark.parametrize("family", ["gaussian", "binomial", "gamma"])
def test_a_penalized_fit_is_debiased_from_its_rows(family):
    X, y, w, offset = sample(family=family)
    lasso = GLMRegressor(family, alpha=0.05, l1_ratio=1.0, tol=1e-9).fit(X, y, w, offset)
    ours = debias(lasso, X, y, w, offset, nodewise_alpha=0.05, n_steps=1, cov_type="HC0")
    twin = DistributedModel(family, alpha=0.05, partitions=1, n_steps=1, cov_type="HC0").fit(X, y, w, offset)
    np.testing.assert_allclose(ours.params, twin.results_.params, atol=1e-6)
    np.testing.assert_allclose(ours.bse, twin.results_.bse, rtol=1e-5)
    np.testing.assert_allclose(ours.approx_inv_cov, twin.approx_inv_cov_, rtol=1e-5, atol=1e-7)
    full = GLMRegressor(family).fit(X, y, w, offset).results_
    tuned = debias(lasso.results_, *lazy(400, X, y, w, offset))      # five columns: no penalty on the rows of Theta
    assert np.max(np.abs(tuned.params - full.params) / full.bse) < (1e-6 if family == "gaussian" else 0.1)
    np.testing.assert_allclose(tuned.bse, full.bse, rtol=1e-6 if family == "gaussian" else 0.05)
    for wrong, words in ((dict(nodewise_alpha=-1.0), "nodewise_alpha"), (dict(cov_type="HC3"), "cov_type")):
        with pytest.raises(ValueError, match=words):
            debias(lasso, X, y, w, offset, **wrong)
    with pytest.raises(ValueError, match="had 1,200 rows and this data has 1,100"):
        debias(lasso, X[:1100], y[:1100])
    for forgotten in ((w,), (None, offset), (w, -offset), (w[::-1], offset)):
        with pytest.raises(ValueError, match="so they are not the rows of the fit: pass the same X, y, sample_weight"):
            debias(lasso, X, y, *forgotten)
    with pytest.raises(TypeError, match="fitted estimator or its results_, got GLMRegressor: call fit"):
        debias(GLMRegressor(family), X, y)
    with pytest.raises(ValueError, match="y is missing"):
        debias(lasso, X)


def test_a_penalized_formula_is_debiased_from_its_frame():
    X, y, w, _ = sample(family="poisson")
    data = pd.DataFrame(X, columns=list("abcde")).assign(y=y, w=w, g=np.tile(list("uvw"), 400))
    data.loc[7, "a"] = np.nan
    how = dict(family="poisson", weights="w")
    ours = debias(glm("y ~ a * b + g", data, alpha=0.05, l1_ratio=1.0, **how), dd.from_pandas(data, npartitions=3))
    full = glm("y ~ a * b + g", data, **how)
    assert np.max(np.abs(ours.params - full.params) / full.bse) < 0.1 and ours.nobs == 1199
    np.testing.assert_allclose(ours.bse, full.bse, rtol=0.05)
    assert ours.params.index.equals(full.params.index)


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
@pytest.mark.parametrize("cov_type", ["nonrobust", "HC0"])
def test_a_penalized_fit_with_frequency_weights_is_debiased_as_its_copied_rows(family, cov_type):
    X, y, *_ = sample(family=family)
    copies = np.arange(len(y)) % 4
    weighted = GLMRegressor(family, alpha=0.05, l1_ratio=1.0, tol=1e-9, weights_kind="frequency").fit(X, y, copies)
    copied = GLMRegressor(family, alpha=0.05, l1_ratio=1.0, tol=1e-9).fit(X.repeat(copies, 0), y.repeat(copies))
    ours = debias(weighted, X, y, copies, cov_type=cov_type)
    twin = debias(copied, X.repeat(copies, 0), y.repeat(copies), cov_type=cov_type)
    np.testing.assert_allclose(ours.params, twin.params, atol=1e-7)
    np.testing.assert_allclose(ours.bse, twin.bse, rtol=1e-6)
    assert ours.nobs == twin.nobs == copies.sum() and ours.llf == pytest.approx(twin.llf)


def test_classes_are_debiased_two_at_a_time():
    X, y, *_ = sample(family="binomial")
    two = GLMClassifier(alpha=0.02, l1_ratio=1.0).fit(X, np.where(y > 0, "b", "a"))
    found = debias(two, X, np.where(y > 0, "b", "a"))
    full = GLMRegressor("binomial").fit(X, y).results_
    assert np.max(np.abs(found.params - full.params) / full.bse) < 0.2
    three = np.arange(1200) % 3
    with pytest.raises(ValueError, match="multinomial"):
        debias(LogisticRegression(alpha=0.1).fit(X, three), X, three)


def test_results_are_small_and_travel():
    X, y, *_ = sample(family="binomial")
    est = DistributedModel("binomial", alpha=0.02, partitions=4).fit(X, y)
    again = pickle.loads(pickle.dumps(est))
    assert again.results_.summary_frame().equals(est.results_.summary_frame())
    assert len(pickle.dumps(est)) < 30_000
    np.testing.assert_array_equal(est.results_.approx_inv_cov, est.approx_inv_cov_)
    with pytest.raises(ValueError, match="covariance of their own fit"):
        est.results_.with_covariance("HC3", X, y)
    np.testing.assert_allclose(est.results_.get_prediction(X[:3]).mean, est.predict(X[:3]))


# ---------------------------------------------------------------- what is told


def test_parts_that_fail_are_counted():
    X, y, *_ = sample(1200, family="binomial")
    y[:300] = 0.0                                                   # the first part: the free intercept is infinite
    with pytest.warns() as told:
        est = DistributedModel("binomial", alpha=0.02, partitions=4).fit(X, y)
    assert est.n_left_out_ == 1 and est.rows_left_out_ == 300 and est.n_parts_ == 3
    words = " ".join(str(w.message) for w in told)
    assert "1 (300 rows) are separated" in words and "2 of 6 node-wise regressions had no solution in the part" in words
    assert np.isfinite(est.results_.bse).all()
    truth = DistributedModel("binomial", alpha=0.02, partitions=3).fit(X[300:], y[300:])
    assert np.max(np.abs(est.coef_ - truth.coef_) / truth.results_.bse.iloc[1:]) < 1.0
    with pytest.raises(ValueError, match="No block could be fitted"):
        DistributedModel("binomial", alpha=0.02).fit(X[:300], np.r_[y[:299], 1.0] * 0.0)


@pytest.mark.parametrize("value", [1.0, 0.1, 7.0])
def test_a_part_with_a_column_constant_up_to_rounding_is_left_out(value):
    X, y, *_ = sample(3000, seed=5, scale=(1.0,), shift=(0.0,))
    X[:1000, 2] = value                                      # centred by the mean of all: not quite singular
    with pytest.warns(ConvergenceWarning, match=r"1 \(1000 rows\) have too few rows or a column that is constant"):
        model = DistributedModel(method="unregularized", partitions=3).fit(X, y)
    rest = DistributedModel(method="unregularized", partitions=2).fit(X[1000:], y[1000:])
    assert model.n_left_out_ == 1 and model.coef_ == pytest.approx(rest.coef_, rel=1e-8)


def test_a_column_constant_in_its_part_is_regressed_on_all_parts():
    X, y, *_ = sample(1200, scale=(1.0,), shift=(0.0,))
    X[:600, 1] = 2.0                                                # row 2 of Theta is the first part's
    with pytest.warns(CovarianceWarning, match="1 of 6 node-wise regressions had no solution in the part"):
        est = DistributedModel(alpha=0.05, partitions=2).fit(X, y)
    assert np.isfinite(est.results_.bse).all()
    pooled = DistributedModel(alpha=0.05, partitions=2, nodewise="pooled").fit(X, y)
    np.testing.assert_allclose(est.approx_inv_cov_[2], pooled.approx_inv_cov_[2], rtol=1e-9)


def test_constant_and_repeated_columns():
    X, y, *_ = sample()
    with pytest.warns(AliasWarning, match="1 of 6 columns are constant: 'x5'"):
        est = DistributedModel(alpha=0.05).fit(np.c_[X, np.full(1200, 3.0)], y)
    np.testing.assert_allclose(est.coef_[:5], DistributedModel(alpha=0.05).fit(X, y).coef_, rtol=1e-9)
    assert est.results_.params.isna().sum() == 1 and est.coef_[5] == 0.0
    with pytest.warns(CovarianceWarning, match="node-wise regressions did not converge or are singular"):
        est = DistributedModel(alpha=0.05, nodewise_alpha=0.0).fit(np.c_[X, X[:, 0] + X[:, 1]], y)
    twins = DistributedModel(alpha=0.05).fit(np.c_[X, X[:, 0]], y)                     # a penalty parts them
    assert np.isfinite(twins.results_.bse).all()


def test_tiny_parts_are_told():
    X, y, *_ = sample(60)
    with pytest.warns(ConvergenceWarning, match="as many coefficients in their own fit as rows"):
        DistributedModel(method="regularized", alpha=1e-6, partitions=15).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="2 .* have too few rows"):
        DistributedModel(alpha=[0, 0, 0, 0, 0], partitions=None).fit(*lazy((3, 54, 3), X, y))


@pytest.mark.parametrize("wrong, words", [
    (dict(method="bayes"), "method='bayes' is not known"), (dict(alpha=-1.0), "alpha must be a number >= 0"),
    (dict(alpha=[0.1, 0.2]), "one for each of the 5 features"), (dict(alpha="aic"), "'theory' or 'cv'"),
    (dict(l1_ratio=2.0), "l1_ratio"), (dict(threshold=-1.0), "threshold"), (dict(partitions=0), "partitions"),
    (dict(nodewise="some"), "nodewise"), (dict(convention="R"), "convention"), (dict(cov_type="HC3"), "cov_type"),
    (dict(family="negative_binomial"), "does not estimate"), (dict(nodewise_alpha="cv"), "nodewise_alpha")])
def test_wrong_settings_get_a_sentence(wrong, words):
    X, y, *_ = sample(100)
    with pytest.raises(ValueError, match=words):
        DistributedModel(**wrong).fit(X, np.abs(y))


# ---------------------------------------------------------------- simulation


@pytest.mark.slow
@pytest.mark.parametrize("how", [dict(), dict(nodewise="split", nodewise_alpha="theory", n_steps=8)],
                         ids=["found", "split"])
@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson"])
def test_coverage_of_debiased_intervals(family, how):
    """p = 200, n = 10,000, 10 parts: 95 % within three Monte-Carlo errors, of coefficients that are zero and others.

    Coefficients of one data set are nearly independent, so that errors are binomial over all.
    """
    p, n, n_sets = 200, 10_000, 40
    beta = np.r_[1.0, -1.0, 0.5, -0.5, 0.25, np.zeros(p - 5)] * (1.0 if family == "gaussian" else 0.5)
    inside, length = np.zeros(p), 0.0
    for seed in range(n_sets):
        rng = np.random.default_rng((seed, 11))
        X = rng.normal(size=(n, p))
        for j in range(1, p):                                           # neighbours correlate at 1/2
            X[:, j] = 0.5 * X[:, j - 1] + np.sqrt(0.75) * X[:, j]
        eta = X @ beta
        y = {"gaussian": lambda: eta + rng.normal(size=n), "poisson": lambda: 1.0 * rng.poisson(np.exp(eta - 0.5)),
             "binomial": lambda: 1.0 * (rng.random(n) < 1 / (1 + np.exp(-eta)))}[family]()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            limits = DistributedModel(family, partitions=10, **how).fit(X, y).results_.conf_int().iloc[1:]
        inside += (limits["ci_lower"].to_numpy() <= beta) & (beta <= limits["ci_upper"].to_numpy())
        length += float((limits["ci_upper"] - limits["ci_lower"]).mean()) / n_sets
    zero, other = inside[5:].sum() / (n_sets * (p - 5)), inside[:5].sum() / (n_sets * 5)
    print(f"\n{family} {how}: coverage {zero:.4f} of zeros, {other:.3f} of the others; mean length {length:.4f}")
    assert abs(zero - 0.95) < 3 * np.sqrt(0.95 * 0.05 / (n_sets * (p - 5)))
    assert abs(other - 0.95) < 3 * np.sqrt(0.95 * 0.05 / (n_sets * 5))
