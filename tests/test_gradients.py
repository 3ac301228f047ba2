"""Many coefficients: sweeps for gradients around a single Hessian; what they are made of, and fits against NumPy."""

import naive
import naive_models
import numpy as np
import pytest
from scipy import linalg, special

from daskglm_rep import GLMClassifier, GLMRegressor, LogisticRegression, passes
from daskglm_rep.diagnostics import aliased
from daskglm_rep.families import GLM
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.objective import Objective, in_memory, inverse, thinned
from daskglm_rep.solvers.gradients import approach, updated

FITS = [("logit", "factor"), ("poisson", "lognormal"), ("gamma", "factor"), ("probit", "dummies"),
        ("multinomial", "factor")]


def columns(rng, style, n, p):
    Z = rng.standard_normal((n, p))
    if style == "factor":
        return 0.6 * Z + 0.8 * rng.standard_normal((n, 1))
    if style == "lognormal":
        return np.exp(0.7 * Z)
    Z[:, ::2] = rng.random((n, Z[:, ::2].shape[1])) < 0.02
    return Z


def response(rng, kind, eta):
    if kind == "poisson":
        return rng.poisson(np.exp(0.5 * eta)).astype(float)
    if kind == "gamma":
        return rng.gamma(2.0, np.exp(0.3 * eta) / 2)
    if kind == "multinomial":
        full = np.c_[np.zeros(len(eta)), eta, 0.5 - 0.5 * eta]
        return (full + rng.gumbel(size=full.shape)).argmax(axis=1).astype(float)
    mean = special.expit if kind == "logit" else special.ndtr
    return (rng.random(len(eta)) < mean(eta - 0.5)).astype(float)


def problem(kind, style, n=40_000, p=44, seed=0):
    rng = np.random.default_rng([seed, len(kind), len(style)])
    X = columns(rng, style, n, p // 2 if kind == "multinomial" else p)
    eta = (X - X.mean(axis=0)) @ rng.normal(size=X.shape[1])
    return X, response(rng, kind, eta / eta.std()), rng


def objective_of(X, y, model=None):
    basis = Basis(np.arange(X.shape[1]), X.mean(axis=0), X.std(axis=0), True)
    return Objective(model or GLM.of("binomial"), basis), in_memory(Block(X, y, np.ones(len(y)), np.zeros(len(y))))


def fitted(kind, X, y, **weights):
    if kind in ("logit", "probit"):
        return GLMClassifier(kind).fit(X, y, **weights)
    if kind == "multinomial":
        return LogisticRegression().fit(X, y, **weights)
    return GLMRegressor(kind, link="log").fit(X, y, **weights)


@pytest.mark.parametrize(("kind", "style"), FITS)
def test_one_hessian_of_all_rows_ends_a_fit(kind, style, monkeypatch):
    """Coefficients, standard errors and Pearson's chi-squared of NumPy's Newton, by one sweep for the information."""
    X, y, rng = problem(kind, style)
    weight = rng.exponential(1.0, len(y)) if kind in ("poisson", "gamma") else None
    full, run = [], passes.run

    def counting(kernel, data, *arguments, **options):
        found = run(kernel, data, *arguments, **options)
        moments = getattr(found, "first", found)
        if data.n_blocks and sum(len(c[0]) for c in data.chunks if isinstance(c, tuple)) == len(y):
            full.append(getattr(moments, "expected", None) is not None)
        return found

    monkeypatch.setattr(passes, "run", counting)
    model = fitted(kind, X, y, sample_weight=weight)
    assert sum(full) == 1 and len(full) == model.n_passes_
    names = {"logit": ("binomial", "logit"), "probit": ("binomial", "probit"), "multinomial": ("multinomial", None)}
    args = (*names.get(kind, (kind, "log")), *([3] if kind == "multinomial" else []))
    slow = naive.Problem(naive_models.model_of(*args), X, y, weight, dtype=np.float64)
    right = naive.fit(slow)
    se = naive.standard_errors(right).ravel()
    coef = slow.raw(right.state.coef).ravel()
    r = model.results_
    np.testing.assert_allclose((r.params.to_numpy() - coef) / se, 0.0, atol=1e-8)
    np.testing.assert_allclose(r.bse, se, rtol=1e-6)
    np.testing.assert_allclose(r.pearson_chi2, naive.pearson(right), rtol=1e-6)
    assert model.distance_to_optimum_ <= 1e-6


def test_columns_that_the_pilot_has_not_seen_still_end_at_the_optimum():
    """A pilot that lacks the informative rows: gradients by its Hessian do not contract, full sweeps take over."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(40_000, 42))
    X[:, 3] *= np.where(rng.random(40_000) < 2e-4, 3e3, 1.0)
    y = (rng.random(40_000) < special.expit(0.5 * X[:, 0] + 1e-3 * X[:, 3])).astype(float)
    model = GLMClassifier().fit(X, y)
    slow = naive.Problem(naive_models.model_of("binomial", "logit"), X, y, None, dtype=np.float64)
    right = naive.fit(slow)
    se = naive.standard_errors(right)
    assert model.converged_ and model.distance_to_optimum_ <= 1e-6
    np.testing.assert_allclose((model.results_.params - slow.raw(right.state.coef).ravel()) / se.ravel(), 0, atol=2e-6)
    np.testing.assert_allclose(model.results_.bse, se.ravel(), rtol=1e-5)


@pytest.mark.parametrize("model", [GLM.of("binomial"), GLM.of("gamma", "log"), GLM.of("binomial", "probit"),
                                   Multinomial(4)], ids=str)
def test_approach_reaches_an_optimum_without_a_hessian_of_all_rows(model):
    rng = np.random.default_rng(1)
    X = columns(rng, "factor", 9000, 12)
    y = rng.gamma(2.0, np.exp(0.2 * X[:, 0])) if "gamma" in str(model) else rng.integers(
        0, 4 if isinstance(model, Multinomial) else 2, 9000).astype(float)
    objective, data = objective_of(X, y, model)
    coef = np.zeros(objective.n_coef)
    A = inverse(objective.evaluate(thinned(data, 500), coef).curvature)
    point = objective.evaluate(data, coef, informative=False)
    end = objective.evaluate(data, approach(objective, data, point, A, 1e-20).coef)
    assert end.gradient @ linalg.solve(end.hessian, end.gradient) < 1e-10
    assert end.value < point.value


def test_updates_keep_the_secant_equation_and_the_sign():
    rng = np.random.default_rng(2)
    M = rng.normal(size=(20, 9))
    A, moved = M.T @ M, rng.normal(size=9)
    turned = linalg.solve(A, moved) + 0.1 * moved
    B = updated(A, moved, turned)
    np.testing.assert_allclose(B @ turned, moved, rtol=1e-10)
    np.testing.assert_allclose(B, B.T, rtol=1e-12)
    assert linalg.eigvalsh(B)[0] > 0
    v = np.eye(9) - np.outer(moved, turned) / (moved @ turned)          # Nocedal & Wright, equation 6.17
    np.testing.assert_allclose(B, v @ A @ v.T + np.outer(moved, moved) / (moved @ turned), rtol=1e-9)
    assert updated(A, moved, -turned) is A


def test_thinned_rows_stand_for_all():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(20_000, 3))
    _, data = objective_of(X, X[:, 0])
    few = thinned(data, 900)
    assert 900 <= sum(b.n_rows for b in few.chunks) < 1000
    assert sum(b.weight.sum() for b in few.chunks) == pytest.approx(20_000, rel=0.01)
    assert thinned(data, 15_000) is data


def test_columns_are_kept_by_rare_rows_that_few_have_not():
    rng = np.random.default_rng(4)
    X = np.c_[rng.normal(size=(8000, 3)), np.zeros(8000)]
    X[4001, 3] = 1.0
    X[:, 2] = X[:, 0] - 2.0 * X[:, 1]
    objective, pilot = objective_of(X, X[:, 0])
    assert aliased(pilot, pilot, True, objective.basis).tolist() == [True, True, True, False, True]


@pytest.mark.parametrize(("q", "k", "intercept"), [(6, 1, True), (5, 3, True), (4, 2, False), (1, 2, True)])
def test_raw_covariances_are_products_with_the_basis(q, k, intercept):
    rng = np.random.default_rng(q)
    basis = Basis(np.arange(q - intercept), 30.0 * rng.normal(size=q - intercept), rng.random(q - intercept) + 0.1,
                  intercept)
    M = rng.normal(size=(2 * k * q, k * q))
    T = np.kron(np.eye(k), basis.to_raw)
    np.testing.assert_allclose(basis.covariance(M.T @ M), T @ M.T @ M @ T.T, rtol=1e-10)
    np.testing.assert_allclose(inverse(M.T @ M) @ (M.T @ M), np.eye(k * q), atol=1e-9)


def test_inverses_of_no_positive_definite_matrix_are_nan():
    assert np.isnan(inverse(np.array([[1.0, 2.0], [2.0, 1.0]]))).all()
    assert np.isnan(inverse(np.array([[1.0, np.inf], [np.inf, 1.0]]))).all()
    assert inverse(np.zeros((0, 0))).shape == (0, 0)


def test_the_null_model_beside_one_full_sweep_is_settled():
    rng = np.random.default_rng(2)
    X, offset = rng.normal(size=(40_000, 42)), 1.5 * rng.normal(size=40_000)
    y = rng.poisson(np.exp(0.1 * X[:, 0] + offset - 1.0)).astype(float)
    level = np.log(y.sum() / np.exp(offset).sum())
    right = 2.0 * (special.xlogy(y, y) - special.xlogy(y, np.exp(level + offset)) - y + np.exp(level + offset)).sum()
    model = GLMRegressor("poisson").fit(X, y, offset=offset)
    assert model.results_.null_deviance == pytest.approx(right, rel=1e-11)
