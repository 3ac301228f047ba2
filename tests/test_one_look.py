"""Linear models are fitted by the sweep that surveys their rows: the same numbers as long double, however rows lie."""

import warnings

import dask.array as da
import naive
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from daskglm_rep import GLMRegressor, LinearRegression, lm
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.linear_look import Plane, linear_look
from daskglm_rep.kernels.moments import glm_moments
from daskglm_rep.kernels.survey import Pilot
from daskglm_rep.models.glm import GLM
from daskglm_rep.objective import condition

N = 3000
MODEL = naive.model_of("gaussian", "identity")
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, 3)) + [0.0, 4.0, -1.0]
NOISE = RNG.normal(size=N)
BETA = np.array([1.0, -2.0, 0.5])
Y = X @ BETA + NOISE
WEIGHT, OFFSET = RNG.uniform(0.1, 3.0, N), RNG.normal(size=N)


def lazy(a, step=700):
    return da.from_array(a, chunks=(step,) + (-1,) * (a.ndim - 1)).map_blocks(np.copy)


def whole(a):
    return a


def pieces(a):
    """The last has two rows."""
    return lazy(a, 1499)


def truth(X, y, intercept=True, **more):
    """Coefficients, errors and deviance in long double."""
    best = naive.fit(naive.Problem(MODEL, X, y, intercept=intercept, **more))
    return best.problem.raw(best.state.coef)[0], naive.standard_errors(best).ravel(), float(naive.deviance(best))


GIVEN = {"nothing": {}, "weights": {"sample_weight": WEIGHT}, "offset": {"offset": OFFSET},
         "both": {"sample_weight": WEIGHT, "offset": OFFSET}}


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("kind", [whole, lazy, pieces])
def test_one_look_is_the_fit(kind, given, intercept):
    more = GIVEN[given]
    coef, se, deviance = truth(X, Y, intercept, weight=more.get("sample_weight"), offset=more.get("offset"))
    fitted = LinearRegression(fit_intercept=intercept).fit(kind(X), kind(Y), **{k: kind(v) for k, v in more.items()})
    r = fitted.results_
    assert fitted.n_passes_ == fitted.n_iter_ == 1 and fitted.converged_ and fitted.distance_to_optimum_ <= 1e-10
    assert np.max(np.abs(r.params - coef) / se) <= 1e-11
    np.testing.assert_allclose(r.bse, se.astype(float), rtol=1e-12)
    assert r.deviance == pytest.approx(deviance, rel=1e-12)
    u, w = Y - more.get("offset", 0.0), more.get("sample_weight", np.ones(N))
    level = np.average(u, weights=w) if intercept else 0.0
    assert r.null_deviance == pytest.approx(w @ (u - level) ** 2, rel=1e-12)


@pytest.mark.parametrize("kind", [whole, lazy])
def test_ridge_takes_one_look(kind):
    coef, _, deviance = truth(X, Y, weight=WEIGHT, ridge=0.3)
    fitted = GLMRegressor("gaussian", alpha=0.3).fit(kind(X), kind(Y), kind(WEIGHT))
    assert fitted.n_passes_ == 1 and fitted.converged_
    np.testing.assert_allclose(np.r_[fitted.intercept_, fitted.coef_], coef.astype(float), rtol=1e-11)
    scaled = StandardScaler().fit(X)
    other = LinearRegression(alpha=0.3).fit(scaled.transform(X), Y)
    fitted = LinearRegression(alpha=0.3, standardize=True).fit(kind(X), kind(Y))
    np.testing.assert_allclose(fitted.coef_ * scaled.scale_, other.coef_, rtol=1e-10)


def test_a_lasso_is_not_of_this_kind():
    quick, slow = (LinearRegression(alpha=0.1, l1_ratio=0.5, tol=1e-9).fit(kind(X), kind(Y)) for kind in (whole, lazy))
    np.testing.assert_allclose(quick.coef_, slow.coef_, rtol=1e-7)


def test_frequency_weights_are_rows_again_and_robust_errors_take_a_sweep():
    times = RNG.integers(0, 4, N)
    counted = LinearRegression(weights_kind="frequency").fit(lazy(X), lazy(Y), lazy(times.astype(float)))
    again = LinearRegression().fit(np.repeat(X, times, axis=0), np.repeat(Y, times))
    np.testing.assert_allclose(counted.results_.params, again.results_.params, rtol=1e-11)
    np.testing.assert_allclose(counted.results_.bse, again.results_.bse, rtol=1e-11)
    robust = LinearRegression(cov_type="HC3").fit(X, Y)
    best = naive.fit(naive.Problem(MODEL, X, Y))
    assert robust.n_passes_ == 2
    np.testing.assert_allclose(robust.results_.cov_params(), naive.robust(best, "HC3").astype(float), rtol=1e-8)


def test_formulas_and_files_are_read_once(tmp_path):
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=Y)
    frame.to_parquet(tmp_path / "rows.parquet", index=False, row_group_size=500)
    r = lm("y ~ a + b + c", str(tmp_path / "rows.parquet"))
    coef, se, _ = truth(X, Y)
    assert r.fitted.n_passes == 1 and np.max(np.abs(r.params - coef) / se) <= 1e-11


# ---------------------------------------------------------------------- sums around planes


@pytest.mark.parametrize("intercept", [True, False])
def test_sums_around_another_plane_are_those_of_the_rows(intercept):
    model, nobody = GLM.of("gaussian"), Pilot(0, 0.0, 0, 0)
    block = Block(X[:800] + 30.0, Y[:800], WEIGHT[:800], OFFSET[:800])
    look = linear_look(block, model, intercept, nobody)
    center = np.array([25.0, -3.0, 40.0]) * intercept
    plane = Plane(center, np.r_[[2.0] * intercept, 0.7, -1.5, 0.1])
    moved, direct = look.around(plane), glm_moments(model, block, plane.basis(), plane.coef)
    for name in ("score", "expected", "deviance", "pearson"):
        np.testing.assert_allclose(getattr(moved, name), getattr(direct, name), rtol=1e-10, err_msg=name)
    assert look.around(look.plane) is look.moments
    others = [linear_look(block.take(rows), model, intercept, nobody) for rows in (slice(0, 5), slice(5, 800))]
    for both in (others[0].merge(others[1]), others[1].merge(others[0])):
        assert both.plane is others[1].plane          # of more rows
        np.testing.assert_allclose(both.moments.score, look.around(both.plane).score, rtol=1e-8)
        assert both.moments.deviance == pytest.approx(look.around(both.plane).deviance, rel=1e-11)


def case(X, y, passes=1, error=1e-9, rel=1e-11, **more):
    return X, y, passes, error, rel, more


T = np.linspace(-8.0, -3.0, N)
CLOSE = np.c_[X, X[:, 0] + 3e-4 * RNG.normal(size=N)]
HARD = {
    "far from zero": case(X + [1e8, -1e8, 3e7], Y),
    "responses far from zero": case(X, Y + 1e8, error=1e-6, rel=1e-8),
    "all scales": case(X * [1e-9, 1e9, 1e-100], Y),
    "a trend": case(np.c_[X, np.arange(N) * 1e3], Y + np.arange(N)),
    "sorted": case(X[np.argsort(Y)], np.sort(Y)),
    "a fit of one part only": case(X, X @ BETA * np.where(np.arange(N) < 1000, 1e4, 1.0) + NOISE),
    "a rare dummy": case(np.c_[X, np.arange(N) == 5], Y),
    "weights of all sizes": case(X, Y, weight=10.0 ** RNG.uniform(-6, 6, N)),
    "heavy tails": case(np.exp(3 * X), X @ BETA + RNG.standard_t(1, N)),
    "nearly exact": case(X, X @ BETA + 1e-6 * NOISE, 2, 1e-5, 1e-8),
    "as exact as can be": case(X, X @ BETA + 1e-12 * NOISE, 2, 1e2, 1e-2),
    "columns that nearly determine each other": case(CLOSE, Y, 2),
    "powers": case(np.stack([T ** k for k in range(1, 6)], axis=1), np.sin(T) + 0.1 * NOISE, 2, 1e-8),
    "a few rows far away": case(np.where(np.arange(N)[:, None] < 3, 1e6, X), Y, 3, 1e-8),
    "a block far away": case(X + 1e5 * (np.arange(N)[:, None] < 700), X @ BETA + NOISE, 3, 1e-8),
}


@pytest.mark.parametrize("kind", [whole, lazy, pieces])
@pytest.mark.parametrize("name", HARD)
def test_digits_that_one_look_loses_are_measured_by_another(name, kind):
    columns, y, passes, error, rel, more = HARD[name]
    coef, se, deviance = truth(columns, y, **more)
    fitted = LinearRegression().fit(kind(columns), kind(y), *(kind(w) for w in more.values()))
    assert fitted.n_passes_ <= passes and fitted.converged_
    assert np.max(np.abs(fitted.results_.params - coef) / se) <= error
    assert fitted.results_.deviance == pytest.approx(deviance, rel=rel)


def test_the_condition_of_an_information_is_that_of_its_scaled_self():
    for columns in (X, CLOSE, CLOSE * [1e6, 1.0, 1e-6, 1.0]):
        G = columns.T @ columns
        s = 1.0 / np.sqrt(np.diag(G))
        assert condition(G) == pytest.approx(np.linalg.cond(s[:, None] * G * s, 1), rel=0.7)
    assert condition(np.ones((2, 2))) >= 1e15 and condition(np.diag([1.0, -1.0])) == np.inf


# ---------------------------------------------------------------------- what a survey tells


@pytest.mark.parametrize("kind", [whole, lazy])
def test_aliased_columns_are_named_and_the_others_fitted_in_one_look(kind):
    columns = np.c_[X[:, :2], np.ones(N), X[:, 0] - 2 * X[:, 1], X[:, 2]]
    with pytest.warns(UserWarning, match="2 of 6 columns are constant or linear combinations of .*: 'x2', 'x3'"):
        fitted = LinearRegression().fit(kind(columns), kind(Y))
    coef, se, deviance = truth(X, Y)
    found = fitted.results_.params.to_numpy()
    assert fitted.n_passes_ == 1 and np.isnan(found[[3, 4]]).all()
    assert np.max(np.abs(found[[0, 1, 2, 5]] - coef) / se) <= 1e-10
    assert fitted.results_.deviance == pytest.approx(deviance, rel=1e-11)
    with pytest.raises(ValueError, match="Drop them, or fit with rank='warn'"):
        LinearRegression(rank="error").fit(kind(columns), kind(Y))


def test_a_column_that_only_rows_of_no_weight_tell_apart_is_aliased():
    columns, w = np.c_[X, X[:, 0]], np.ones(N)
    columns[:5, 3] += 1.0
    w[:5] = 0.0
    with pytest.warns(UserWarning, match="'x3'"):
        fitted = LinearRegression().fit(lazy(columns), lazy(Y), lazy(w))
    coef, se, _ = truth(X[5:], Y[5:])
    assert np.max(np.abs(fitted.results_.params.to_numpy()[:4] - coef) / se) <= 1e-10


@pytest.mark.parametrize("kind", [whole, lazy])
@pytest.mark.parametrize("what, words", [
    ("X", "X contains NaN values in column 'x1'"), ("y", "y contains infinite .* values in 1 of 3000 rows"),
    ("weight", "Negative values in sample_weight: 1 of 3000 rows"),
    ("none", "must contain at least one non-zero|All 3000 values of")])
def test_bad_rows_get_the_survey_s_sentence(what, words, kind):
    columns, y, w = X.copy(), Y.copy(), np.ones(N)
    if what == "X":
        columns[1234, 1] = np.nan
    y[77] = np.inf if what == "y" else y[77]
    w[5] = -1.0 if what == "weight" else w[5]
    w = 0.0 * w if what == "none" else w
    with pytest.raises(ValueError, match=words):
        LinearRegression().fit(kind(columns), kind(y), kind(w))


def test_sparse_columns_stay_sparse_and_empty_chunks_count_for_nothing():
    codes = RNG.integers(0, 5, N)
    dummies = sparse.csr_matrix((np.ones(N), (np.arange(N), codes)), (N, 5))[:, 1:]
    columns = sparse.csr_matrix(sparse.hstack([dummies, X]))
    fitted = GLMRegressor("gaussian").fit(columns, Y)
    coef, se, _ = truth(columns.toarray(), Y)
    assert fitted.n_passes_ == 1 and np.max(np.abs(fitted.results_.params - coef) / se) <= 1e-10
    chunks = (0, 1000, 0, 0, 2000, 0)
    again = LinearRegression().fit(da.from_array(X, chunks=(chunks, 3)).map_blocks(np.copy),
                                   da.from_array(Y, chunks=(chunks,)).map_blocks(np.copy))
    coef, se, _ = truth(X, Y)
    assert again.n_passes_ == 1 and np.max(np.abs(again.results_.params - coef) / se) <= 1e-11


@pytest.mark.parametrize("n, p", [(3, 1), (4, 3), (12, 20), (1, 1)])
def test_hardly_any_rows(n, p):
    rng = np.random.default_rng(n)
    columns, y = rng.normal(size=(n, p)), rng.normal(size=n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quick, slow = LinearRegression().fit(columns, y), LinearRegression().fit(lazy(columns, 2), lazy(y, 2))
    want = np.linalg.lstsq(np.c_[np.ones(n), columns], y, rcond=None)[0]
    for fitted in (quick, slow):
        np.testing.assert_allclose(fitted.predict(columns), np.c_[np.ones(n), columns] @ want, atol=1e-8)


def test_a_fit_that_is_exact_ends_where_steps_are_rounding():
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(400, 12)) * 10.0 ** rng.uniform(-3, 3, 12) + 1.0
    for kind in (whole, lazy):
        fitted = LinearRegression(fit_intercept=False).fit(kind(columns), kind(columns @ rng.normal(size=12)))
        assert fitted.converged_ and fitted.n_passes_ <= 4
        assert fitted.results_.deviance <= 1e-20 * fitted.results_.null_deviance


def test_columns_aliased_by_uneven_weights_take_the_sums_that_are_there():
    columns = np.c_[X, X[:, 0] - X[:, 2]]
    with pytest.warns(UserWarning, match="'x3'"):
        fitted = LinearRegression().fit(lazy(columns), lazy(Y), lazy(WEIGHT))
    coef, se, deviance = truth(X, Y, weight=WEIGHT)
    assert fitted.n_passes_ == 2 and np.max(np.abs(fitted.results_.params.to_numpy()[:4] - coef) / se) <= 1e-10
    assert fitted.results_.deviance == pytest.approx(deviance, rel=1e-11)
