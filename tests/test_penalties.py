"""Penalised fits: reference values, optimality, and laws that hold for every solver and penalty."""

import dataclasses
import warnings

import dask.array as da
import make_data
import numpy as np
import pandas as pd
import pytest
from scipy import special
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import GLMRegressor, LinearRegression, LogisticRegression, PoissonRegressor, glm, mnlogit
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.coordinate_descent import shrunk_group, spectrum_of
from daskglm_rep.models.glm import GLM
from daskglm_rep.penalties import MCP, SCAD, ElasticNet, GroupLasso, Shape
from daskglm_rep.solvers import composite, proximal_newton
from daskglm_rep.solvers.fista import Fista
from daskglm_rep.solvers.mirror_descent import MirrorDescent
from daskglm_rep.summaries import Moments
from daskglm_rep.telling import PenaltyWarning, SeparationWarning

CASES = {name: case for name, case in make_data.cases().items() if case["kind"] == "penalized"}
FITS = [(name, i) for name, case in CASES.items() for i in range(len(case["fits"]))]
SOLVERS = ["cd", "fista", "igd"]


def sample(family, n=600, p=8, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.geomspace(0.5, 2.0, p) + np.linspace(-1.0, 1.0, p)
    X[:, 1] = 0.7 * X[:, 0] + 0.5 * X[:, 1]
    eta = 0.3 + (X[:, :3] @ [0.6, -0.5, 0.4]) / 1.5
    if family == "gaussian":
        return X, eta + rng.normal(size=n)
    if family == "binomial":
        return X, (rng.random(n) < special.expit(eta)).astype(float)
    return X, rng.poisson(np.exp(0.5 * eta)).astype(float)


def subgradient(fitted, X, y, weight=None, **more):
    """Largest element of the least subgradient of API.md's objective, for canonical links and an elastic net."""
    weight = np.ones(len(y)) if weight is None else weight
    factor = np.ones(X.shape[1]) if fitted.penalty_factor is None else np.asarray(fitted.penalty_factor)
    mean = np.average(X, axis=0, weights=weight)
    unit = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight)) if fitted.standardize else np.ones(X.shape[1])
    error = weight * (y - fitted.predict(X, **more)) / weight.sum()
    b, a = fitted.coef_, fitted.alpha * factor
    g = X.T @ error - a * (1 - fitted.l1_ratio) * unit ** 2 * b
    limit = a * fitted.l1_ratio * unit
    left = np.where(b != 0, np.abs(g - limit * np.sign(b)), np.maximum(np.abs(g) - limit, 0.0))
    return max(left.max(), abs(error.sum()))


# ---------------------------------------------------------------- other programs' numbers


@pytest.mark.parametrize("name, i", FITS)
@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_reference(name, i, solver):
    case, wanted = CASES[name], CASES[name]["fits"][i]
    model, data, how = case["model"], make_data.build(case), wanted["penalty"]
    X = data["X"][:, 1:] if model["design"][0][0] == "Intercept" else data["X"]
    options = dict(alpha=how["lam"], l1_ratio=how["alpha"], standardize=how["standardize"], solver=solver, tol=1e-8,
                   penalty_factor=case.get("penalty_factor"), fit_intercept=case["fit_intercept"])
    if model["family"] == "multinomial":
        fitted = LogisticRegression(**options).fit(X, data["y"], data["weights"])
        got = np.c_[fitted.intercept_ - fitted.intercept_.mean(), fitted.coef_]
        want = np.c_[wanted["intercept"], wanted["coef"]]
    else:
        estimator = GLMRegressor(model["family"], model.get("link"), **options)
        fitted = estimator.fit(X, data["y"], data["weights"], data.get("offset"))
        got, want = np.r_[fitted.intercept_, fitted.coef_], np.r_[wanted["intercept"], wanted["coef"]]
    assert fitted.converged_ and fitted.distance_to_optimum_ <= 1e-8
    tol = case["tol"]["coef_rtol_of_max"]
    if not wanted.get("unique", True):
        got, want, tol = got - got[:1], want - want[:1], 10 * tol
    elif how["alpha"]:
        np.testing.assert_array_equal(fitted.coef_ == 0, np.array(wanted["coef"]) == 0)
    assert np.abs(got - want).max() <= tol * np.abs(want).max()


def test_madlib_published():
    """What MADlib's FISTA printed after 100 iterations: as near as its own distance from the optimum (check.py's)."""
    seen = 0
    for case in CASES.values():
        if "madlib" not in case:
            continue
        data, how, said = make_data.build(case), case["fits"][0]["penalty"], case["madlib"]
        fitted = LinearRegression(alpha=how["lam"], l1_ratio=how["alpha"], standardize=True).fit(
            data["X"][:, -3:], data["y"])
        seen += 1
        published = np.array(said["published"]["coef"])
        assert np.abs(fitted.coef_ - published).max() <= 1.01 * said["rel_diff"]["coef"] * np.abs(published).max()
    if not seen:
        pytest.skip("MADlib's examples live in the optional sibling folder, which is absent")


# ---------------------------------------------------------------- the optimum


@pytest.mark.parametrize("family", ["gaussian", "binomial", "poisson"])
@pytest.mark.parametrize("l1_ratio", [1.0, 0.4])
def test_solvers_agree_and_are_optimal(family, l1_ratio):
    X, y = sample(family)
    coefs = []
    for solver in SOLVERS:
        fitted = GLMRegressor(family, alpha=0.05, l1_ratio=l1_ratio, solver=solver, max_iter=1000).fit(X, y)
        assert fitted.converged_ and 0 <= fitted.distance_to_optimum_ <= 1e-6 and fitted.solver_ == solver
        assert subgradient(fitted, X, y) <= 1e-6
        coefs.append(np.r_[fitted.intercept_, fitted.coef_])
    assert (coefs[0] == 0).any() and (coefs[0] != 0).sum() > 2
    for other in coefs[1:]:
        np.testing.assert_array_equal(other == 0, coefs[0] == 0)
        np.testing.assert_allclose(other, coefs[0], atol=1e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_weights_offsets_factors_and_scales(solver):
    X, y = sample("poisson", 400)
    rng = np.random.default_rng(1)
    weight, offset = rng.integers(0, 3, 400).astype(float), rng.normal(size=400) * 0.3
    factor = np.r_[0.0, 2.0, np.ones(6)]
    how = dict(alpha=0.06, l1_ratio=0.8, standardize=True, penalty_factor=factor, solver=solver, max_iter=2000)
    fitted = PoissonRegressor(**how).fit(X, y, weight, offset=offset)
    assert fitted.converged_ and subgradient(fitted, X, y, weight, offset=offset) <= 1e-6
    rows = np.repeat(np.arange(400), weight.astype(int))
    twice = PoissonRegressor(**how).fit(X[rows], y[rows], offset=offset[rows])
    np.testing.assert_allclose(twice.coef_, fitted.coef_, atol=2e-7)
    shuffled = rng.permutation(8)
    permuted = PoissonRegressor(**how | {"penalty_factor": factor[shuffled]}).fit(X[:, shuffled], y, weight,
                                                                                  offset=offset)
    np.testing.assert_allclose(permuted.coef_, fitted.coef_[shuffled], atol=2e-7)
    scaled = PoissonRegressor(**how).fit(X * 10.0 ** np.arange(8), y, weight, offset=offset)
    np.testing.assert_allclose(scaled.coef_ * 10.0 ** np.arange(8), fitted.coef_, atol=2e-7)


@pytest.mark.parametrize("solver", SOLVERS)
def test_chunks_do_not_matter(solver):
    X, y = sample("binomial", 1500, 6)
    fits = []
    for chunks in (1500, (700, 1, 799), 300):
        lazy = da.from_array(X, chunks=(chunks, -1)), da.from_array(y, chunks=chunks)
        fits.append(GLMRegressor("binomial", alpha=0.03, l1_ratio=1.0, solver=solver, max_iter=500).fit(*lazy))
        assert fits[-1].converged_
    for other in fits[1:]:
        np.testing.assert_allclose(other.coef_, fits[0].coef_, atol=1e-7)


def test_a_duplicated_column_is_chosen_or_shared():
    X, y = sample("gaussian")
    single = LinearRegression(alpha=0.1, l1_ratio=1.0).fit(X, y)
    twice = np.c_[X, X[:, 0]]
    lasso = LinearRegression(alpha=0.1, l1_ratio=1.0).fit(twice, y)
    assert subgradient(lasso, twice, y) <= 1e-9
    np.testing.assert_allclose(np.r_[lasso.coef_[0] + lasso.coef_[8], lasso.coef_[1:8]], single.coef_, atol=1e-9)
    net = LinearRegression(alpha=0.1, l1_ratio=0.5).fit(twice, y)
    assert net.coef_[0] == pytest.approx(net.coef_[8], abs=1e-9) and net.coef_[0] != 0


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_alpha_max(family, solver):
    X, y = sample(family)
    most = np.abs(X.T @ (y - y.mean())).max() / len(y)
    with pytest.warns(PenaltyWarning, match=f"alpha_max={most:.6g}"):
        fitted = GLMRegressor(family, alpha=1.001 * most, l1_ratio=1.0, solver=solver).fit(X, y)
    assert not fitted.coef_.any() and fitted.converged_
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted = GLMRegressor(family, alpha=0.99 * most, l1_ratio=1.0, solver=solver, max_iter=500).fit(X, y)
    assert np.count_nonzero(fitted.coef_) == 1


def test_results_count_what_is_in_use():
    X, y = sample("gaussian")
    fitted = LinearRegression(alpha=0.1, l1_ratio=1.0).fit(X, y)
    results, used = fitted.results_, np.count_nonzero(fitted.coef_)
    assert results.df_model == used < 8 and (results.params.to_numpy()[1:] == fitted.coef_).all()
    assert results.bse.isna().all() and "no standard errors" in results.covariance.note
    assert results.deviance == pytest.approx(np.sum((y - fitted.predict(X)) ** 2), rel=1e-10)
    again = clone(fitted).set_params(warm_start=True).fit(X, y).fit(X, y)
    np.testing.assert_allclose(again.coef_, fitted.coef_, atol=1e-12)


def test_an_early_stop_says_how_far_it_is():
    X, y = sample("binomial", 20_000, 60)
    with pytest.warns(ConvergenceWarning, match="after 1 sweeps: .* standard errors .*solver='igd'"):
        fitted = GLMRegressor("binomial", alpha=0.001, l1_ratio=1.0, solver="igd", max_iter=1).fit(X, y)
    assert not fitted.converged_ and 1e-6 < fitted.distance_to_optimum_ < 100


@pytest.mark.parametrize("solver", [Fista(warm_up=True), MirrorDescent(parallel=False), MirrorDescent(threshold=1e-3)],
                         ids=str)
def test_solvers_as_objects(solver):
    X, y = sample("binomial", 3000)
    lazy = da.from_array(X, chunks=(1000, -1)), da.from_array(y, chunks=1000)
    want = GLMRegressor("binomial", alpha=0.03, l1_ratio=1.0).fit(X, y)
    fitted = clone(GLMRegressor("binomial", alpha=0.03, l1_ratio=1.0, solver=solver, max_iter=500)).fit(*lazy)
    assert fitted.converged_
    np.testing.assert_allclose(fitted.coef_, want.coef_, atol=1e-6)


def test_blocks_that_follow_each_other_may_be_lazy():
    """Chunks made anew in each sweep, some from rows that several need."""
    X, y = sample("binomial", 3000)
    rows = da.from_array(np.c_[X, y], chunks=(1000, -1)).map_blocks(np.array)
    how = dict(alpha=0.03, l1_ratio=1.0, max_iter=300)
    fitted = GLMRegressor("binomial", solver=MirrorDescent(parallel=False), **how).fit(rows[:, :8], rows[:, 8])
    assert fitted.converged_
    np.testing.assert_allclose(fitted.coef_, GLMRegressor("binomial", **how).fit(X, y).coef_, atol=1e-6)


def test_other_links_and_families():
    """Where the observed Hessian is not the expected one, or means have a domain: by differences of the deviance."""
    X, y = sample("poisson", 400)
    X, y = X * 0.3 / X.std(axis=0), y
    for model in (GLMRegressor("gamma", "log"), GLMRegressor("binomial", "cloglog"), GLMRegressor("poisson", "sqrt"),
                  GLMRegressor("gamma", "inverse"), GLMRegressor("negative_binomial")):
        target = np.minimum(y, 1.0) if model.family == "binomial" else y + 0.5 if model.family == "gamma" else y
        fitted = model.set_params(alpha=0.01, l1_ratio=1.0).fit(X, target)
        assert fitted.converged_, model
        raw, glm_of = np.r_[fitted.intercept_, fitted.coef_], fitted.results_.model

        def loss(b):
            mu = glm_of.means(b[0] + X @ b[1:])
            return np.mean([glm_of.family.unit_deviance(a, m) for a, m in zip(target, mu)]) / 2

        slope = np.array([(loss(raw + 1e-6 * e) - loss(raw - 1e-6 * e)) / 2e-6 for e in np.eye(raw.size)])
        on = raw[1:] != 0
        assert 0 < on.sum() and abs(slope[0]) < 1e-7
        np.testing.assert_allclose(slope[1:][on], -0.01 * np.sign(raw[1:][on]), atol=1e-7)
        assert (np.abs(slope[1:]) <= 0.01 + 1e-7).all()


def test_mirror_descent_takes_back_what_overflowed():
    """Heavy tails, no intercept, one column: the first steps are far too long."""
    rng = np.random.default_rng(0)
    x = rng.standard_t(3, (2000, 1))
    y = rng.poisson(np.exp(np.clip(0.3 * x[:, 0], -4, 4))).astype(float)
    how = dict(alpha=0.02, l1_ratio=1.0, fit_intercept=False)
    fitted = PoissonRegressor(solver="igd", max_iter=300, **how).fit(x, y)
    assert fitted.converged_
    np.testing.assert_allclose(fitted.coef_, PoissonRegressor(**how).fit(x, y).coef_, atol=1e-6)


def test_an_overflowed_epoch_says_nothing_of_numpys():
    rng = np.random.default_rng(0)
    X = rng.standard_t(2, size=(300, 10))
    y = rng.poisson(np.exp(np.clip(0.5 * X[:, 0], -4.0, 4.0))).astype(float)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        PoissonRegressor(alpha=0.01, l1_ratio=0.3, standardize=True, solver="igd").fit(X, y)
    assert [w.category for w in told] == [ConvergenceWarning]


# ---------------------------------------------------------------- several classes


def classes(J, n=600, seed=3):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 5))
    B = np.zeros((J, 5))
    B[:, :3] = rng.normal(size=(J, 3))
    return X, (X @ B.T + rng.gumbel(size=(n, J))).argmax(axis=1)


def class_subgradient(fitted, X, y):
    error = (y[:, None] == fitted.classes_) - fitted.predict_proba(X)
    g = error.T @ X / len(y) - fitted.alpha * (1 - fitted.l1_ratio) * fitted.coef_
    b, limit = fitted.coef_, fitted.alpha * fitted.l1_ratio
    return np.where(b != 0, np.abs(g - limit * np.sign(b)), np.maximum(np.abs(g) - limit, 0.0)).max()


@pytest.mark.parametrize("J", [3, 4])
@pytest.mark.parametrize("solver", SOLVERS)
def test_multinomial(J, solver):
    X, y = classes(J)
    fitted = LogisticRegression(alpha=0.03, l1_ratio=0.9, solver=solver, max_iter=500).fit(X, y)
    assert fitted.converged_ and class_subgradient(fitted, X, y) <= 1e-6
    assert 0 < np.count_nonzero(fitted.coef_) < fitted.coef_.size and abs(fitted.intercept_.sum()) < 1e-9
    other = LogisticRegression(alpha=0.03, l1_ratio=0.9, baseline=J - 1).fit(X, y)
    np.testing.assert_allclose(other.coef_, fitted.coef_, atol=1e-6)
    np.testing.assert_allclose(fitted.results_.params.to_numpy().reshape(J - 1, 6)[:, 1:],
                               fitted.coef_[1:] - fitted.coef_[:1], atol=1e-9)


def test_multinomial_lasso_of_four_classes_is_as_sparse_as_it_can_be():
    X, y = classes(4)
    fitted = LogisticRegression(alpha=0.02, l1_ratio=1.0).fit(X, y)
    assert class_subgradient(fitted, X, y) <= 1e-8
    for b in fitted.coef_.T:
        assert (b == 0).any() and (b > 0).sum() <= 2 and (b < 0).sum() <= 2


def test_grouped_multinomial():
    """glmnet's type.multinomial = "grouped": a column is in all classes or in none; its coefficients sum to zero."""
    X, y = classes(3)
    fitted = LogisticRegression(alpha=0.05, penalty=GroupLasso()).fit(X, y)
    fista = LogisticRegression(alpha=0.05, penalty=GroupLasso(), solver="fista").fit(X, y)
    np.testing.assert_allclose(fista.coef_, fitted.coef_, atol=1e-6)
    assert ((fitted.coef_ == 0).all(axis=0) | (fitted.coef_ != 0).all(axis=0)).all()
    np.testing.assert_allclose(fitted.coef_.sum(axis=0), 0.0, atol=1e-9)
    g = ((y[:, None] == fitted.classes_) - fitted.predict_proba(X)).T @ X / len(y)
    size, on = np.linalg.norm(fitted.coef_, axis=0), (fitted.coef_ != 0).all(axis=0)
    assert 0 < on.sum() < 5 and (np.linalg.norm(g, axis=0)[~on] <= 0.05 * np.sqrt(3) + 1e-9).all()
    np.testing.assert_allclose(g[:, on], 0.05 * np.sqrt(3) * fitted.coef_[:, on] / size[on], atol=1e-8)


def test_mnlogit_takes_an_elastic_net():
    X, y = classes(3)
    frame = pd.DataFrame(X, columns=list("abcde")).assign(y=y)
    results = mnlogit("y ~ a + b + c + d + e", frame, alpha=0.03, l1_ratio=1.0)
    fitted = LogisticRegression(alpha=0.03, l1_ratio=1.0).fit(X, y)
    np.testing.assert_allclose(results.params, fitted.results_.params, atol=1e-9)


# ---------------------------------------------------------------- groups and shapes


def test_a_factor_enters_or_leaves_whole():
    rng = np.random.default_rng(0)
    n = 900
    frame = pd.DataFrame({"x": rng.normal(size=n), "g": rng.choice(list("abcd"), n), "h": rng.choice(list("uvw"), n)})
    frame["y"] = rng.poisson(np.exp(0.4 * frame["x"] + frame["g"].map(dict(a=0, b=0.8, c=0.4, d=-0.3))))
    whole = {"x": ["x"], "g": [f"C(g)[T.{c}]" for c in "bcd"], "h": [f"C(h)[T.{c}]" for c in "vw"]}
    inside = []
    for alpha in (0.02, 0.08, 0.2):
        fitted = glm("y ~ x + C(g) + C(h)", frame, "poisson", alpha=alpha, penalty=GroupLasso(), tol=1e-8)
        mean = np.asarray(fitted.predict(frame))
        for names in whole.values():
            b = fitted.params[names].to_numpy()
            Z = np.column_stack([frame["x"] if names == ["x"] else frame[names[0][2]] == name[-2] for name in names])
            g, strength = Z.T.astype(float) @ (frame["y"] - mean) / n, alpha * np.sqrt(len(names))
            assert b.all() or not b.any()
            if b.any():
                np.testing.assert_allclose(g, strength * b / np.linalg.norm(b), atol=1e-7)
            else:
                assert np.linalg.norm(g) <= strength + 1e-9
        inside.append(sum(fitted.params[names].any() for names in whole.values()))
    assert inside[0] > inside[-1] and inside[-1] >= 1
    separate = glm("y ~ x + C(g) + C(h)", frame, "poisson", alpha=0.02, penalty=GroupLasso("columns"))
    lasso = glm("y ~ x + C(g) + C(h)", frame, "poisson", alpha=0.02, l1_ratio=1.0)
    np.testing.assert_allclose(separate.params, lasso.params, atol=1e-7)


def test_the_minimum_of_a_group():
    rng = np.random.default_rng(0)
    for k in (1, 2, 5):
        A = rng.normal(size=(k, k))
        H, c = A @ A.T + 0.01 * np.eye(k), rng.normal(size=k)
        for weight in (0.1 * np.linalg.norm(c), 0.9 * np.linalg.norm(c), 1.01 * np.linalg.norm(c)):
            t = shrunk_group(spectrum_of(H), c, weight)
            if weight >= np.linalg.norm(c):
                assert not t.any()
            else:
                np.testing.assert_allclose(H @ t + weight * t / np.linalg.norm(t), c, atol=1e-10)


@pytest.mark.parametrize("solver", ["cd", "fista"])
def test_groups_of_any_scale(solver):
    """Units from 1e-3 to 1e3 within a group, heavy tails: the quadratic model's groups turn and leave on the way."""
    rng = np.random.default_rng(4)
    X = rng.standard_t(3, (300, 12)) * 10.0 ** rng.uniform(-2, 2, 12)
    y = X @ (rng.normal(size=12) / X.std(axis=0) * (np.arange(12) % 4 < 2)) + rng.normal(size=300)
    label, alpha = np.arange(12) % 4, 0.1
    fitted = LinearRegression(alpha=alpha, penalty=GroupLasso(label), standardize=True, solver=solver).fit(X, y)
    unit, inside = X.std(axis=0), 0
    g = X.T @ (y - fitted.predict(X)) / 300 / unit
    for group in range(4):
        b = (fitted.coef_ * unit)[label == group]
        strength, slope = alpha * np.sqrt(3), g[label == group]
        inside += b.any()
        if b.any():
            np.testing.assert_allclose(slope, strength * b / np.linalg.norm(b), atol=1e-6)
        else:
            assert np.linalg.norm(slope) <= strength + 1e-9
    assert fitted.converged_ and 0 < inside


@dataclasses.dataclass(frozen=True)
class Capped(Shape):
    """The example of `shapes`."""

    cap: float = 1.0

    def penalty(self, t, alpha):
        return alpha * min(t, self.cap)

    def slope(self, t, alpha):
        return alpha if t < self.cap else 0.0

    def shrink(self, t, step, alpha):
        near = min(max(t - step * alpha, 0.0), self.cap)
        far = max(t, self.cap)
        worse = step * alpha * (self.cap - near) + 0.5 * (far - t) ** 2 - 0.5 * (near - t) ** 2
        return near if worse > 0.0 else far


@pytest.mark.parametrize("shape", [Shape(), MCP(), MCP(1.5), SCAD(), SCAD(2.2), Capped(0.7)], ids=str)
def test_thresholds_are_minima_and_slopes_derivatives(shape):
    x = np.linspace(0.0, 6.0, 60_001)
    for alpha in (0.3, 1.0):
        values = np.array([shape.penalty(v, alpha) for v in x])
        for step in (0.2, 1.0, 1.7, 5.0):
            for t in (0.0, 0.25, 0.9, 1.3, 2.4, 4.0):
                objective = step * values + 0.5 * (x - t) ** 2
                at = shape.shrink(t, step, alpha)
                assert step * shape.penalty(at, alpha) + 0.5 * (at - t) ** 2 <= objective.min() + 1e-12
        for t in (0.05, 0.55, 1.11, 2.5, 4.9):
            slope = (shape.penalty(t + 1e-6, alpha) - shape.penalty(t - 1e-6, alpha)) / 2e-6
            assert shape.slope(t, alpha) == pytest.approx(slope, abs=1e-6)


@pytest.mark.parametrize("shape", [MCP(3.0), SCAD(3.7), Capped(0.2)], ids=str)
@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_shapes_that_are_not_convex_end_at_a_stationary_point(shape, family):
    X, y = sample(family, 2000)
    fitted = GLMRegressor(family, alpha=0.03, penalty=shape).fit(X, y)
    fista = GLMRegressor(family, alpha=0.03, penalty=shape, solver="fista").fit(X, y)
    b, g = fitted.coef_, X.T @ (y - fitted.predict(X)) / len(y)
    assert fitted.converged_ and 0 < np.count_nonzero(b) < 8
    for j in range(8):
        if b[j]:
            assert g[j] == pytest.approx(np.sign(b[j]) * shape.slope(abs(b[j]), 0.03), abs=1e-6)
        else:
            assert abs(g[j]) <= 0.03 + 1e-8
    np.testing.assert_allclose(fista.coef_, b, atol=1e-5)


def test_large_coefficients_are_not_shrunk_by_mcp():
    """Those beyond gamma alpha are least squares on the columns in use."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 10))
    y = X[:, :3] @ [1.0, -1.0, 0.8] + rng.normal(size=2000)
    b = GLMRegressor(alpha=0.1, penalty=MCP(3.0), tol=1e-9).fit(X, y).coef_
    assert np.flatnonzero(b).tolist() == [0, 1, 2]
    np.testing.assert_allclose(b[:3], LinearRegression().fit(X[:, :3], y).coef_, atol=1e-8)


# ---------------------------------------------------------------- wide


@pytest.mark.parametrize("family", ["gaussian", "binomial"])
def test_more_columns_than_rows(family):
    rng = np.random.default_rng(0)
    n, p = 200, 2000
    X = rng.normal(size=(n, p))
    eta = 1.5 * X[:, 0] - X[:, 1] + X[:, 2]
    y = eta + rng.normal(size=n) if family == "gaussian" else (rng.random(n) < special.expit(eta)).astype(float)
    alpha = 0.3 if family == "gaussian" else 0.1
    fitted = GLMRegressor(family, alpha=alpha, l1_ratio=1.0).fit(X, y)
    assert fitted.converged_ and subgradient(fitted, X, y) <= 1e-8 and 2 < np.count_nonzero(fitted.coef_) < n
    assert len(fitted.results_.fitted.fit.point.coef) == np.count_nonzero(fitted.coef_) + 1
    first_order = GLMRegressor(family, alpha=alpha, l1_ratio=1.0, solver="fista").fit(X, y)
    np.testing.assert_allclose(first_order.coef_, fitted.coef_, atol=1e-6)


def test_wide_rows_in_chunks_with_a_pilot_that_is_a_share():
    rng = np.random.default_rng(0)
    n, p = 40_000, 400
    X = rng.normal(size=(n, p)) + 3.0
    y = rng.poisson(np.exp(0.2 * (X[:, :10] - 3.0).sum(axis=1))).astype(float)
    lazy = da.from_array(X, chunks=(10_000, -1)), da.from_array(y, chunks=10_000)
    fitted = PoissonRegressor(alpha=0.05, l1_ratio=1.0).fit(*lazy)
    assert fitted.converged_ and subgradient(fitted, X, y) <= 1e-8 and fitted.n_passes_ <= 7
    assert np.flatnonzero(fitted.coef_).tolist() == list(range(10))


def test_second_derivatives_that_do_not_fit_are_refused(monkeypatch):
    X, y = sample("gaussian", 60)
    monkeypatch.setattr(composite, "ROOM", 100)
    with pytest.raises(ValueError, match="9 of 9 columns are in use at alpha=0.01.* GiB: raise alpha or l1_ratio"):
        LinearRegression(alpha=0.01, l1_ratio=1.0).fit(X, y)


def test_empty_chunks_of_wide_rows_far_from_zero(monkeypatch):
    X, y = classes(3, 300)
    X = X + 1e6
    monkeypatch.setattr(proximal_newton, "FEW", 0)
    monkeypatch.setattr(proximal_newton, "QUICK", 0)
    lazy = da.from_array(X, chunks=((0, 200, 0, 100), -1)), da.from_array(y, chunks=((0, 200, 0, 100),))
    fitted = LogisticRegression(alpha=0.02, l1_ratio=0.9).fit(*lazy)
    assert fitted.converged_
    np.testing.assert_allclose(fitted.coef_, LogisticRegression(alpha=0.02, l1_ratio=0.9).fit(X, y).coef_, atol=1e-7)


def test_columns_in_use_that_determine_each_other_are_no_measure():
    """More of them than rows: the errors that a singular information has are rounding, and made any step look short."""
    X = np.array([[1.0, 2.0, 3.0 + 1e-7], [2.0, 1.0, 3.0], [0.5, 1.5, 2.0], [1.0, 0.2, 1.2]])
    basis, all_on = Basis(np.arange(3), np.zeros(3), np.ones(3), False), np.arange(3)
    moments = Moments(np.zeros(3), X.T @ X, X.T @ X, 4.0, 4.0)               # the third is nearly the sum of the others
    problem = composite.Problem(GLM.of("poisson"), basis, ElasticNet(np.ones(3), np.ones(3), 4.0, np.zeros(3), 1.0))
    state = composite.State(np.ones(3), 1.0, np.zeros(3), all_on, moments)
    assert problem.distance(state, np.array([0.3, 0.0, 0.0]), 4) > 1e-4


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("settings, words", [
    (dict(alpha=-0.1), "alpha must be a number >= 0, got -0.1"),
    (dict(alpha=0.1, l1_ratio=1.5), r"l1_ratio must be a number in \[0, 1\], got 1.5"),
    (dict(alpha=0.1, penalty_factor=np.zeros(8)), "penalty_factor is zero for all features"),
    (dict(alpha=0.1, solver="lars"), "solver='lars' is not known: choose one of auto, cd, fista, igd"),
    (dict(solver="fista"), "solver='fista' is for penalised fits: give alpha > 0"),
    (dict(alpha=0.1, penalty=3.0), "penalty must be one of daskglm_rep.penalties"),
    (dict(alpha=0.1, l1_ratio=0.5, penalty=MCP()), r"MCP\(l1_ratio=...\)"),
    (dict(penalty=SCAD()), "needs a strength: alpha > 0"),
    (dict(alpha=0.1, penalty=GroupLasso([0, 1])), "one label for each of the 8 features"),
    (dict(alpha=0.1, penalty=MCP(), solver="igd"), "solver='igd' truncates absolute values"),
    (dict(alpha=0.1, l1_ratio=1.0, link="inverse_squared", family="inverse_gaussian", solver="igd"),
     "linear predictors without a mean")])
def test_bad_settings_are_told_in_a_sentence(settings, words):
    X, y = sample("gaussian", 60)
    with pytest.raises(ValueError, match=words):
        GLMRegressor(**settings).fit(X, np.exp(y))


def test_separation_by_a_column_without_penalty_is_told():
    X, y = sample("gaussian", 200)
    y = (X[:, 0] + 0.5 > 0).astype(float)
    with pytest.warns(SeparationWarning, match="x0"):
        fitted = GLMRegressor("binomial", alpha=0.05, l1_ratio=1.0, penalty_factor=np.arange(8.0)).fit(X, y)
    assert not fitted.converged_
    labels = np.where(y == 1, 2, (X[:, 3] > 0).astype(int))
    with pytest.warns(SeparationWarning, match="x0"):
        LogisticRegression(alpha=0.05, l1_ratio=1.0, penalty_factor=np.arange(8.0)).fit(X, labels)


def test_shapes_refuse_what_gives_no_minimum():
    with pytest.raises(ValueError, match="gamma must be a number > 1"):
        MCP(1.0)
    with pytest.raises(ValueError, match="a must be a number > 2"):
        SCAD(2.0)


def test_a_constant_column_cannot_be_scaled():
    X, y = sample("gaussian", 100)
    X[:, 4] = 7.0
    with pytest.warns(PenaltyWarning, match="cannot scale 1 constant column.*number 4"):
        fitted = LinearRegression(alpha=0.1, l1_ratio=1.0, standardize=True).fit(X, y)
    assert fitted.coef_[4] == 0 and fitted.converged_
