"""Kernels against plain NumPy: every layout of X, every number of rows around a strip's ends, what lies beside X."""

import math

import numpy as np
import pytest
from scipy import sparse

from daskglm_rep import GLMClassifier, PoissonRegressor, families, links, passes
from daskglm_rep.diagnostics import ALIASED, independent
from daskglm_rep.design import Data
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.gram import gram
from daskglm_rep.kernels.leverage import quadratic_rows
from daskglm_rep.kernels.meat import Adjustment, block_meat
from daskglm_rep.kernels.moments import block_moments, moments_with_null
from daskglm_rep.kernels.strips import LENGTH, new_strip
from daskglm_rep.kernels.survey import labels_of, response_totals, spread
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.objective import ready

LOGIT = GLM(families.Bernoulli(), links.Logit())
ROWS = (1, 3, 4, 5, 7, 8, 31, 32, 33, 63, 66, 255, 256, 257, 263, 520)


def layouts(X):
    """The same numbers in every way that memory may hold them; NaN lie beside where something lies beside."""
    n, p = X.shape
    room = np.full((n + 2, p + 3), np.nan)
    room[1:-1, 2:-1] = X
    tall = np.full((2 * n, p), np.nan)
    tall[::2] = X
    wide = np.full((n, 2 * p), np.nan)
    wide[:, ::2] = X
    return {"C": X.copy(), "F": np.asfortranarray(X), "inside": room[1:-1, 2:-1], "every other row": tall[::2],
            "every other column": wide[:, ::2], "reversed": X[::-1].copy()[::-1]}


def problem(n, p, seed=0):
    rng = np.random.default_rng((seed, n, p))
    X = rng.normal(size=(n, p)) * rng.uniform(0.5, 20.0, p) + rng.normal(size=p) * 30.0
    y, weight, offset = (rng.random(n) < 0.4).astype(float), rng.integers(0, 4, n).astype(float), rng.normal(size=n)
    basis = Basis(np.arange(p), X.mean(axis=0), X.std(axis=0) + 0.1, True)
    return X, y, weight, offset, basis, rng.normal(size=p + 1) / np.sqrt(p + 1)


def design(X, basis):
    Z = (X[:, basis.columns] - basis.center) / basis.scale
    return np.c_[np.ones(len(X)), Z] if basis.intercept else Z


@pytest.mark.parametrize("p", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 34])
def test_moments_of_every_layout(p):
    for n in ROWS:
        X, y, weight, offset, basis, coef = problem(n, p)
        Z = design(X, basis)
        mu = 1.0 / (1.0 + np.exp(-(Z @ coef + offset)))
        score, information = Z.T @ (weight * (y - mu)), (Z * (weight * mu * (1 - mu))[:, None]).T @ Z
        deviance = -2.0 * weight @ np.log(np.where(y > 0, mu, 1 - mu))
        for name, view in layouts(X).items():
            block = Block(view, y, weight, offset)
            for informative in (True, False):
                m = block_moments(block, LOGIT, basis, coef, informative)
                np.testing.assert_allclose(m.score, score, rtol=1e-11, atol=1e-11 * n, err_msg=f"{name} {n}")
                np.testing.assert_allclose(m.deviance, deviance, rtol=1e-12, atol=1e-12)
                if informative:
                    np.testing.assert_allclose(m.expected, information, rtol=1e-11, atol=1e-11 * n)
            np.testing.assert_allclose(gram(view, basis, weight), (Z * weight[:, None]).T @ Z, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("p", [1, 2, 3, 6, 7, 8, 17, 34])
@pytest.mark.parametrize("power", [(0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 4, 0), (0, 1, 1.5)])
def test_meat_of_every_layout(p, power):
    for n in (60, 257, 520):
        X, y, weight, offset, basis, coef = problem(n, p)
        Z = design(X, basis)
        mu = 1.0 / (1.0 + np.exp(-(Z @ coef + offset)))
        bread = np.linalg.inv((Z * (weight * mu * (1 - mu))[:, None]).T @ Z)
        form = np.einsum("ij,jk,ik->i", Z, bread, Z)
        for frequency in (False, True):
            copies = np.where(weight > 0, weight, 1.0) if frequency else 1.0
            h, ratio = weight * mu * (1 - mu) * form / copies, n / (p + 1)
            d = power[0] + np.minimum(power[1], h * ratio) + np.minimum(power[2], h * ratio)
            squares = (weight * (y - mu)) ** 2 / copies / (1 - h) ** d
            for name, view in layouts(X).items():
                m = block_meat(Block(view, y, weight, offset), LOGIT, basis, coef,
                               Adjustment(tuple(map(float, power)), bread, ratio, frequency))
                np.testing.assert_allclose(m.matrix, (Z * squares[:, None]).T @ Z, rtol=1e-9, atol=1e-9, err_msg=name)
                np.testing.assert_allclose(m.score, Z.T @ (weight * (y - mu)), rtol=1e-11, atol=1e-11 * n)
                assert not m.n_perfect


def test_room_of_a_strip_holds_no_leftovers():
    """Numbers below the smallest normal one made sums by fours take eight times as long."""
    for q in range(1, 14):
        used = [np.full(((q + 6) // 4 * 4, LENGTH), 5e-324) for _ in range(50)]
        del used
        assert not any(new_strip(q).any() for _ in range(50))


def test_rows_of_leverage_one_are_found_in_every_strip():
    n, alone = 1000, [3, 255, 256, 700, 701, 999]
    X = np.c_[np.random.default_rng(0).normal(size=n), np.zeros((n, 6))]
    X[alone, np.arange(1, 7)] = 1.0
    basis, gaussian = Basis(np.arange(7), np.zeros(7), np.ones(7), True), GLM(families.Gaussian(), links.Identity())
    Z = design(X, basis)
    m = block_meat(Block(X, X[:, 0], np.ones(n), np.zeros(n)), gaussian, basis, np.zeros(8),
                   Adjustment((2.0, 0.0, 0.0), np.linalg.inv(Z.T @ Z)))
    assert m.n_perfect == 6 and m.perfect == tuple((0, row) for row in alone[:5])


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("columns", [[0], [1, 2, 4], [0, 1, 2, 3, 4], list(range(1, 20)), [4, 0, 2]])
def test_some_columns(columns, intercept):
    X, y, weight, offset, _, _ = problem(301, 20)
    columns = np.array(columns)
    basis = Basis(columns, X.mean(axis=0)[columns], X.std(axis=0)[columns], intercept)
    coef = np.linspace(-0.3, 0.3, basis.n_coef)
    Z = design(X, basis)
    mu = 1.0 / (1.0 + np.exp(-(Z @ coef + offset)))
    A = np.cov(Z.T).reshape(Z.shape[1], -1) + np.eye(Z.shape[1])
    for view in layouts(X).values():
        block = Block(view, y, weight, offset)
        for informative in (True, False):
            m = block_moments(block, LOGIT, basis, coef, informative)
            np.testing.assert_allclose(m.score, Z.T @ (weight * (y - mu)), rtol=1e-11, atol=1e-10)
        np.testing.assert_allclose(quadratic_rows(block, basis, A), np.einsum("ij,jk,ik->i", Z, A, Z), rtol=1e-10)


@pytest.mark.parametrize("p", [1, 7, 16, 17, 33])
def test_spread_of_every_layout(p):
    for n in ROWS:
        X, _, weight, _, _, _ = problem(n, p)
        weight[0] = 1.0
        mean = weight @ X / weight.sum()
        for name, view in layouts(X).items():
            for w in (weight, np.broadcast_to(1.0, (n,))):
                found, centre = spread(view, w), mean if w is weight else X.mean(axis=0)
                np.testing.assert_allclose(found.mean, centre, rtol=1e-12, err_msg=f"{name} {n}")
                np.testing.assert_allclose(found.squares, w @ (X - centre) ** 2, rtol=1e-9, atol=1e-9)
                np.testing.assert_allclose(found.low, X.min(axis=0), rtol=1e-13, atol=1e-13)
                np.testing.assert_allclose(found.high, X.max(axis=0), rtol=1e-13, atol=1e-13)
        for bad in (np.nan, np.inf, -np.inf):
            X[n // 2, p - 1] = bad
            assert not np.isfinite(spread(X, np.ones(n)).mean[p - 1])


@pytest.mark.parametrize("family", [families.Bernoulli(), families.Poisson(), families.Gaussian(), families.Gamma()])
def test_sums_of_responses(family):
    rng = np.random.default_rng(3)
    for n in ROWS:
        y = (rng.random(n) < 0.5).astype(float) if family.facts.name == "binomial" else rng.poisson(3.0, n) + 1.0
        weight = rng.integers(0, 3, n) + 0.0
        weight[-1] = 2.0
        for response in (y, np.repeat(y, 3)[::3]):
            found, bad = response_totals(family, response, weight)
            inside = y[weight > 0]
            assert (found.weight, found.n_kept, found.low, found.high) == (
                weight.sum(), inside.size, inside.min(), inside.max()) and not bad.any()
            np.testing.assert_allclose(found.mean, weight @ y / weight.sum(), rtol=1e-13)
            rows = sum(w * family.unit_deviance(v, found.mean) for v, w in zip(y, weight)) if inside.std() else 0.0
            np.testing.assert_allclose(found.deviance, rows, rtol=1e-11, atol=1e-11)
        y[n // 2] = np.nan
        assert list(response_totals(family, y, weight)[1]) == [1, 0]
        y[n // 2] = np.inf
        assert list(response_totals(family, y, weight)[1]) == [0, 1]


@pytest.mark.parametrize("y", [[1, 1, 1], [0, 1, 1, 0], [2.0, 5.0, 2.0], [True, False], [3, 1, 2, 1], [7]])
def test_weights_of_labels(y):
    for repeat in (1, 200):
        labels = np.tile(np.array(y), repeat)
        weight = np.arange(labels.size) + 1.0
        want = {label: weight[labels == label].sum() for label in np.unique(labels)}
        assert labels_of(labels, weight) == want
    with pytest.raises(ValueError, match="missing"):
        labels_of(np.array([1.0, np.nan, 1.0]), np.ones(3))


@pytest.mark.parametrize("n_classes", [2, 3, 6])
def test_multinomial_moments_of_every_layout(n_classes):
    k = n_classes - 1
    for n in (1, 5, 256, 300):
        for p in (1, 4, 9):
            X, _, weight, offset, basis, _ = problem(n, p)
            rng = np.random.default_rng(n + p)
            y, B = rng.integers(0, n_classes, n), rng.normal(size=(k, p + 1)) * 2.0
            Z = design(X, basis)
            P = np.exp(np.c_[np.zeros(n), Z @ B.T + offset[:, None]])
            P /= P.sum(axis=1, keepdims=True)
            error = weight[:, None] * ((np.arange(n_classes) == y[:, None]) - P)[:, 1:]
            W = weight[:, None, None] * (P[:, 1:, None] * (np.eye(k) - P[:, None, 1:]))
            want = np.einsum("njl,na,nb->jalb", W, Z, Z).reshape(k * (p + 1), -1)
            for view in layouts(X).values():
                block = Block(view, y.astype(float), weight, offset)
                m = block_moments(block, Multinomial(n_classes), basis, B.ravel())
                np.testing.assert_allclose(m.score, (error.T @ Z).ravel(), rtol=1e-10, atol=1e-10)
                np.testing.assert_allclose(m.expected, want, rtol=1e-10, atol=1e-10)
                np.testing.assert_allclose(m.deviance, -2.0 * weight @ np.log(P[np.arange(n), y]), rtol=1e-10)


@pytest.mark.parametrize("model", ["logit", "poisson"])
@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_many_columns_are_fitted_by_gradients(model, tails):
    n, p = 24_000, 155
    rng = np.random.default_rng(p)
    X = rng.normal(size=(n, p)) if tails == "normal" else rng.standard_t(4, size=(n, p))
    eta = X @ rng.normal(size=p) / 30.0 - 0.5
    y = (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))) + 0.0 if model == "logit" else rng.poisson(np.exp(eta)) + 0.0
    fit = (GLMClassifier() if model == "logit" else PoissonRegressor()).fit(X, y)
    Z, coef = np.c_[np.ones(n), X], fit.results_.params.to_numpy()
    for _ in range(3):
        mu = np.exp(Z @ coef) if model == "poisson" else 1.0 / (1.0 + np.exp(-(Z @ coef)))
        information = (Z * (mu if model == "poisson" else mu * (1.0 - mu))[:, None]).T @ Z
        coef = coef + np.linalg.solve(information, Z.T @ (y - mu))
    se = np.sqrt(np.diag(np.linalg.inv(information)))
    assert np.max(np.abs(fit.results_.params - coef) / se) <= 1e-6
    np.testing.assert_allclose(fit.results_.bse, se, rtol=2e-6)
    assert fit.converged_ and fit.n_passes_ <= 16


# ---------------------------------------------------------------- many columns


def many_dummies(n, p, kind, seed=0):
    """Blocks of a factor with p levels beside a number; sparse, or filled."""
    rng = np.random.default_rng(seed)
    hot = sparse.csr_matrix((np.ones(n), rng.integers(0, p, n), np.arange(n + 1)), (n, p))
    X = sparse.csr_matrix(sparse.hstack([hot, rng.normal(size=(n, 1))]))
    X = X if kind == "sparse" else X.toarray()
    y, weight = rng.poisson(1.0, n).astype(float), rng.integers(0, 3, n).astype(float)
    edges = np.linspace(0, n, 7).astype(int)
    basis = Basis(np.arange(p + 1), np.zeros(p + 1), np.full(p + 1, 2.0), True)
    return [Block(X[a:b], y[a:b], weight[a:b], np.zeros(b - a)) for a, b in zip(edges, edges[1:])], basis


@pytest.mark.parametrize("kind", ["sparse", "dense"])
@pytest.mark.parametrize("link", [links.Log, links.Sqrt])
def test_large_informations_are_added_up_in_place(kind, link):
    blocks, basis = many_dummies(700, 420, kind)
    model, coef = GLM(families.Poisson(), link()), np.r_[1.0, np.full(420, 0.1), 0.01]
    apart = passes.merge_all(block_moments(b, model, basis, coef) for b in blocks)
    total, places = None, set()
    for block in blocks:
        total = block_moments(block, model, basis, coef, total=total)
        places.add((total.expected.ctypes.data, total.observed.ctypes.data))
    assert len(places) == 1 and (total.expected is total.observed) == model.is_canonical
    null = basis.keep([0])
    both = passes.run(moments_with_null, Data(blocks, ready, []), model, basis, coef, null, coef[:1])
    for found in (total, both.first, passes.run(block_moments, Data(blocks, ready, []), model, basis, coef)):
        for name in ("score", "expected", "observed"):
            assert getattr(found, name) == pytest.approx(getattr(apart, name), rel=1e-12, abs=1e-12)
        assert (found.deviance, found.pearson) == pytest.approx((apart.deviance, apart.pearson), rel=1e-12)
    alone = passes.merge_all(block_moments(b, model, null, coef[:1]) for b in blocks)
    assert both.second.deviance == pytest.approx(alone.deviance, rel=1e-12)
    Z = basis.design(np.vstack([b.X.toarray() if kind == "sparse" else b.X for b in blocks]))
    eta = Z @ coef
    y, weight = (np.concatenate([getattr(b, name) for b in blocks]) for name in ("y", "weight"))
    slope = np.exp(eta) if link is links.Log else 4.0 * np.ones(len(eta))
    assert total.expected == pytest.approx(Z.T @ (Z * (weight * slope)[:, None]), rel=1e-9, abs=1e-9)
    assert (total.expected == total.expected.T).all() and (total.observed == total.observed.T).all()


def test_a_row_outside_the_domain_spoils_large_informations_too():
    blocks, basis = many_dummies(300, 420, "sparse")
    model = GLM(families.Poisson(), links.Identity())
    found = passes.run(block_moments, Data(blocks, ready, []), model, basis, np.r_[1.0, np.full(420, 1e-3), 1.0])
    assert found.n_invalid > 0 and found.deviance == math.inf and np.isnan(found.expected).all()
    assert not block_moments.grows(model, basis, None, False) and not block_moments.grows(model, basis.keep([0]), None)


def test_columns_that_earlier_ones_determine():
    rng = np.random.default_rng(2)
    for _ in range(100):
        Z = rng.normal(size=(30, rng.integers(1, 10)))
        for j in range(Z.shape[1]):
            kind = rng.random()
            Z[:, j] = 0.0 if kind < 0.15 else Z[:, :j] @ rng.normal(size=j) if j and kind < 0.4 else Z[:, j]
        found, kept = independent(Z.T @ Z), []
        for j in range(Z.shape[1]):
            rest = Z[:, j] - Z[:, kept] @ np.linalg.lstsq(Z[:, kept], Z[:, j], rcond=None)[0] if kept else Z[:, j]
            if rest @ rest > ALIASED * (Z[:, j] @ Z[:, j]):
                kept.append(j)
        assert np.flatnonzero(found).tolist() == kept
