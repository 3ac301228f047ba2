"""Separation: every separated fit names its columns, no other fit does, and ordinary fits pay nothing for it."""

import dataclasses
import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import optimize, special
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import (GLMClassifier, GLMRegressor, LogisticRegression, PoissonRegressor, SeparationWarning, glm,
                         preparation, separation)
from daskglm_rep.families import FAMILIES, GLM
from daskglm_rep.kernels.survey import Pilot
from daskglm_rep.links import LINKS, Logit


def fitted(estimator, *rows, **more):
    """The fit and its separation warnings; any warning of another kind is an error."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("error")
        warnings.simplefilter("always", SeparationWarning)
        estimator.fit(*rows, **more)
    return estimator, [str(w.message) for w in told]


def named(estimator):
    separated, names = estimator.results_.fitted.separated, estimator.results_.fitted.names
    return None if separated is None else (separated.kind, {names[j - 1] for j in separated.positions if j})


def told_of(names, kind, estimator, *rows, **more):
    estimator, told = fitted(estimator, *rows, **more)
    assert len(told) == 1 and told[0].startswith(f"{kind.capitalize()} separation: a combination of ")
    assert named(estimator) == (kind, set(names)) and all(repr(name) in told[0] for name in names)
    assert "Firth" not in told[0] and "Penalize (alpha > 0)" in told[0]
    assert not estimator.converged_ and estimator.distance_to_optimum_ == np.inf
    assert f"{kind.capitalize()} separation" in str(estimator.results_.summary())
    return estimator


# ---------------------------------------------------------------- an outside judge


def constraints(kind, Z, y):
    """Rows a with a'd >= 0 along directions of recession, written down case by case."""
    if kind == "multinomial":
        classes = np.eye(int(y.max()) + 1)
        return np.array([np.kron((classes[c] - other)[1:], z) for z, c in zip(Z, y.astype(int))
                         for j, other in enumerate(classes) if j != c])
    if kind == "binomial":
        between = Z[(y > 0) & (y < 1)]
        return np.vstack([Z[y == 1], -Z[y == 0], between, -between])
    return np.vstack([-Z, Z[y > 0]])


def infinite(A):
    """Coefficients that some direction d with A d >= 0 moves: two linear programs for each."""
    k, found = A.shape[1], []
    for j in range(k):
        for sign in (1.0, -1.0):
            found.append(optimize.linprog(-sign * np.eye(k)[j], A_ub=-A, b_ub=np.zeros(len(A)), bounds=[(-1, 1)] * k))
    return np.array([-f.fun > 1e-7 for f in found]).reshape(k, 2).any(axis=1)


def draw(rng):
    """Columns of many kinds and units, a model and its response, from hardly related to nearly determined."""
    n, p = int(rng.integers(20, 200)), int(rng.integers(1, 6))
    kinds = [lambda: rng.normal(size=n), lambda: (rng.random(n) < rng.choice([0.05, 0.2, 0.5])) * 1.0,
             lambda: rng.integers(-2, 3, n) * 1.0, lambda: np.round(rng.standard_t(2, n), 1)]
    X = np.column_stack([kinds[rng.integers(4)]() for _ in range(p)])
    X[:, X.std(axis=0) == 0] = rng.normal(size=(n, 1))
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    steep = rng.choice([0.0, 0.5, 2.0, 8.0, 50.0])
    eta = Z @ rng.normal(size=p) * steep + rng.normal()
    kind = rng.choice(["binomial", "poisson", "multinomial"])
    if kind == "binomial":
        y = (rng.random(n) < special.expit(eta)) * 1.0
        y[rng.random(n) < rng.choice([0.0, 0.05])] = 0.5
        estimator = GLMRegressor("binomial", str(rng.choice(["logit", "probit", "cloglog"])))
    elif kind == "poisson":
        y, estimator = rng.poisson(np.exp(np.clip(eta - 1, -30, 4))) * 1.0, PoissonRegressor()
    else:
        y = np.argmax(Z @ rng.normal(size=(p, 3)) * steep + rng.gumbel(size=(n, 3)), axis=1)
        estimator = LogisticRegression()
    X = X * 10.0 ** rng.choice([0, 8, -8], p) + rng.choice([0.0, 3.0], p)
    return kind, X, Z, y * 1.0, estimator


@pytest.mark.parametrize("pilot", ["all rows", "few rows"])
def test_as_linear_programs_say(pilot, monkeypatch):
    """250 small sets: separated or not, and which coefficients are infinite (R's detectseparation; Konis 2007)."""
    if pilot == "few rows":                              # most rows are then met by sweeps only
        monkeypatch.setattr(preparation, "pilot_plan", lambda data, seed: Pilot(8, 0.2, 10 ** 6, seed or 0))
    counts = {True: 0, False: 0}
    for seed in range(250):
        kind, X, Z, y, estimator = draw(np.random.default_rng(seed))
        D = np.c_[np.ones(len(Z)), Z]
        if len(np.unique(y)) < (3 if kind == "multinomial" else 2) or np.linalg.matrix_rank(D) < D.shape[1]:
            continue
        truth = infinite(constraints(kind, D, y)).reshape(-1, D.shape[1]).any(axis=0)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            estimator.fit(X, y)
        assert truth.any() == any(w.category is SeparationWarning for w in told), seed
        if truth.any():
            assert named(estimator)[1] == {f"x{j}" for j in np.flatnonzero(truth[1:])}, seed
        counts[bool(truth.any())] += 1
    assert counts[True] > 40 and counts[False] > 120


@pytest.mark.parametrize("link", LINKS.values())
def test_ends_of_links(link):
    """Where `ends` says that a mean is reached at infinity, means do run there."""
    for mean, end in zip(link.mean_range, GLM(FAMILIES["gaussian"](), link()).ends()):
        if end is not None:
            assert end[0] == mean and link().inverse(end[1] * 1e30) == pytest.approx(mean, abs=1e-14)


def test_a_users_link_that_stumbles_over_its_ends():
    class Own(Logit):
        mean_range = (0.0, 1.0)

        def link(self, mu):
            return np.log(float(mu) / (1.0 - float(mu))) if 0 < mu < 1 else 1.0 / 0.0

    assert GLM(FAMILIES["binomial"](), Own()).ends() == ((0.0, -1.0), (1.0, 1.0))


# ---------------------------------------------------------------- rows that no pilot sees


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n, m", [(200_000, 5), (150_000, 4)])
def test_a_dummy_of_few_rows(seed, n, m):
    rng = np.random.default_rng(seed)
    x, y = np.zeros(n), (rng.random(n) < 0.4) * 1.0
    rows = rng.choice(n, m, False)
    x[rows] = y[rows] = 1.0
    assert told_of(["x0"], "quasi-complete", GLMClassifier(), x[:, None], y).n_passes_ <= 16


@pytest.mark.parametrize("family", ["poisson", "tweedie", "binomial"])
def test_a_level_of_zeros(family):
    rng = np.random.default_rng(1)
    n = 100_000
    X = np.c_[np.zeros(n), rng.normal(size=n)]
    y = {"binomial": lambda: rng.binomial(7, 0.3, n) / 7}.get(family, lambda: rng.poisson(1.5, n) * 1.0)()
    rows = rng.choice(n, 5, False)
    X[rows, 0], y[rows] = 1.0, 0.0
    weight = np.where(np.arange(n) % 2, 1.0, 3.0)
    y[0], weight[0], X[0, 0] = 1.0, 0.0, 1.0                 # a row that contradicts, and does not count
    offset = rng.normal(size=n)
    told_of(["x0"], "quasi-complete", GLMRegressor(family), X, y, sample_weight=weight, offset=offset)


def test_a_class_of_few_rows_and_the_other_coefficients():
    rng = np.random.default_rng(2)
    n = 60_000
    X, y = np.c_[np.zeros(n), rng.normal(size=n)], rng.integers(0, 3, n)
    rows = rng.choice(n, 6, False)
    X[rows, 0], y[rows] = 1.0, 2
    est = told_of(["x0"], "quasi-complete", LogisticRegression(), X, y)
    rest = np.delete(np.arange(n), rows)
    truth = LogisticRegression(tol=1e-9).fit(X[rest, 1:], y[rest]).results_
    finite = est.results_.params.drop("x0", level="feature")
    assert np.max(np.abs(finite - truth.params) / truth.bse) < 1e-3      # Geyer: the fit of the rows left
    assert est.results_.bse.drop("x0", level="feature").to_numpy() == pytest.approx(truth.bse.to_numpy(), rel=1e-4)


# ---------------------------------------------------------------- units, many columns, combinations


@pytest.mark.parametrize("unit", [1e8, 1e-8, 1.0])
@pytest.mark.parametrize("n", [2_000, 60_000])
def test_units_do_not_matter(unit, n):
    rng = np.random.default_rng(3)
    X = np.c_[(rng.random(n) < 0.05) * unit, rng.normal(size=n)]
    y = (rng.random(n) < 0.4) * 1.0
    y[X[:, 0] > 0] = 1.0
    told_of(["x0"], "quasi-complete", GLMClassifier(), X, y)


@pytest.mark.parametrize("link", ["logit", "probit", "cloglog"])
@pytest.mark.parametrize("n, m", [(2_000, 50), (2_000, 5), (100_000, 500), (200_000, 5)])
def test_one_dummy_all_ones_and_one_all_zeros(n, m, link):
    rng = np.random.default_rng(4)
    X, y = np.zeros((n, 3)), (rng.random(n) < 0.4) * 1.0
    X[:, 2] = rng.normal(size=n)
    rows = rng.choice(n, 2 * m, False)
    X[rows[:m], 0], X[rows[m:], 1] = 1.0, 1.0
    y[rows[:m]], y[rows[m:]] = 1.0, 0.0
    told_of(["x0", "x1"], "quasi-complete", GLMClassifier(link=link), X, y)


def test_levels_of_a_sparse_factor():
    rng = np.random.default_rng(5)
    n, levels = 60_000, 150
    code, x = rng.integers(0, levels, n), rng.normal(size=n)
    y = (rng.random(n) < special.expit(0.5 * x + rng.normal(size=levels)[code] * 0.5 - 1)) * 1.0
    ones, zeros = [3, 50, 77], [9, 120]
    y = np.where(np.isin(code, ones), 1.0, np.where(np.isin(code, zeros), 0.0, y))
    with pytest.warns(SeparationWarning) as told:
        results = glm("y ~ x + C(c)", pd.DataFrame(dict(y=y, x=x, c=code)), family="binomial")
    names = {f"C(c)[T.{level}]" for level in ones + zeros}
    names_told = {results.fitted.names[j - 1] for j in results.fitted.separated.positions}
    assert names_told == names and all(name in str(told[0].message) for name in names)
    assert all(name in str(results.summary()) for name in names)


def test_a_combination_of_columns():
    """A cell of two crossed factors that is all 1, and the reference cell all 0: the intercept runs off too."""
    rng = np.random.default_rng(6)
    n = 50_000
    a, b = rng.integers(0, 3, n), rng.integers(0, 3, n)
    cells = [(a == i) & (b == j) for i in (1, 2) for j in (1, 2)]
    X = np.column_stack([a == 1, a == 2, b == 1, b == 2, *cells, rng.normal(size=n)]) * 1.0
    y = (rng.random(n) < special.expit(X[:, 8])) * 1.0
    y[(a == 1) & (b == 2)], y[(a == 0) & (b == 0)] = 1.0, 0.0
    told_of([f"x{j}" for j in range(8)], "quasi-complete", GLMClassifier(), X, y)


@pytest.mark.parametrize("n, most", [(2_000, 3), (20_000, 12), (100_000, 14)])
def test_complete_separation_by_one_of_seven(n, most):
    """Named first, without an overflow, in few sweeps."""
    X = np.random.default_rng(0).normal(size=(n, 7))
    est, told = fitted(GLMClassifier(), X, (X[:, 0] > 0) * 1.0)
    assert "Complete separation: a combination of 'x0'," in told[0] and "all coefficients" in told[0]
    assert est.n_passes_ <= most and not est.converged_


def test_chunks_and_schedulers_name_the_same():
    rng = np.random.default_rng(7)
    X, y = np.c_[np.zeros(30_000), rng.normal(size=(30_000, 2))], (rng.random(30_000) < 0.4) * 1.0
    X[29_000:, 0] = y[29_000:] = 1.0
    for chunk in (500, 30_000):
        lazy = da.from_array(X, chunks=(chunk, -1)), da.from_array(y, chunks=chunk)
        told_of(["x0"], "quasi-complete", GLMClassifier(), *lazy)


def test_only_what_is_not_penalized_can_be_infinite():
    rng = np.random.default_rng(8)
    X, y = np.c_[rng.random(2_000) < 0.03, rng.normal(size=2_000)] * 1.0, (rng.random(2_000) < 0.4) * 1.0
    y[X[:, 0] > 0] = 1.0
    assert fitted(GLMClassifier(alpha=0.1), X, y)[1] == []
    assert "'x0'" in fitted(GLMClassifier(alpha=0.1, penalty_factor=[0, 1]), X, y)[1][0]


@pytest.mark.parametrize("family, value", [("binomial", 1.0), ("poisson", 0.0)])
def test_responses_all_alike(family, value):
    X = np.random.default_rng(9).normal(size=(200, 2))
    told = fitted(GLMRegressor(family), X, np.full(200, value))[1][0]
    assert told.startswith("Complete separation: the intercept alone predicts every response perfectly")


def test_unknown_distance_is_not_called_a_mean_outside_the_domain():
    """Where no step can be had at coefficients inside the domain, the sentence says so."""
    X, y = np.random.default_rng(12).normal(size=(300, 2)), np.arange(300) % 2
    fitted = GLMClassifier().fit(X, y).results_.fitted
    fit = dataclasses.replace(fitted.fit, distance=np.inf, converged=False)
    status = dataclasses.replace(fitted, fit=fit).status
    assert status.name == "not converged" and "where the information is singular, so that its" in status.sentence


def test_a_negative_level_under_the_log_link():
    rng = np.random.default_rng(10)
    X = np.r_[np.ones(30), np.zeros(300)][:, None]
    told_of(["x0"], "quasi-complete", GLMRegressor("gaussian", "log"), X,
            np.r_[-rng.random(30), 6 + rng.normal(size=300)])


# ---------------------------------------------------------------- no false alarm, nothing to pay


def honest_cases():
    rng = np.random.default_rng(11)
    n = 60_000
    X, y = np.c_[np.zeros(n), rng.normal(size=n)], (rng.random(n) < 0.4) * 1.0
    rows = rng.choice(n, 7, False)
    X[rows, 0], y[rows] = 1.0, [0, 1, 1, 1, 1, 1, 1]
    yield "dummy of seven rows", GLMClassifier(), X, y
    X = rng.standard_cauchy((n, 2))
    yield "heavy tails and few events", GLMClassifier(), X, (rng.random(n) < 0.0008) * 1.0
    X = rng.normal(size=(n, 3))
    X[:, 2] = X[:, 1] + 1e-3 * X[:, 2]
    yield "nearly collinear", GLMClassifier(), X, (rng.random(n) < 0.002) * 1.0
    X = rng.normal(size=(n, 2))
    X[7, 0] = 1e12
    event = (rng.random(n - 8) < special.expit(X[8:, 1])) * 1.0
    yield "one enormous value", GLMClassifier(), X, np.r_[np.ones(8), event]
    X = rng.normal(size=(n, 2))
    yield "nearly separated", GLMClassifier(), X, (rng.random(n) < special.expit(80 * X[:, 0])) * 1.0
    X = np.c_[rng.random(n) < 1e-3, rng.normal(size=n)] * 1.0
    y = rng.poisson(np.where(X[:, 0] > 0, 0.05, 1.0)) * 1.0
    assert 0 < y[X[:, 0] > 0].sum() < 10
    yield "a level of few counts", PoissonRegressor(), X, y


def test_no_false_alarm_and_no_sweep_more(monkeypatch):
    for label, estimator, X, y in honest_cases():
        with warnings.catch_warnings():
            warnings.simplefilter("error", SeparationWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            watched = estimator.fit(X, y)
            assert watched.converged_, label
            sweeps = watched.n_passes_
            with monkeypatch.context() as patch:
                patch.setattr(separation.Watch, "look", lambda self, coef: None)
                assert sweeps == estimator.fit(X, y).n_passes_, label
