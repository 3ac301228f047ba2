"""Data that mislead pilots and solvers, n = 50,000 in 10 chunks: within 1e-6 standard errors, or an honest warning."""

import warnings

import dask.array as da
import numpy as np
import pytest
from scipy import linalg, special
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import GLMClassifier, GLMRegressor, PoissonRegressor, SeparationWarning, families
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.rows import inside
from daskglm_rep.objective import Objective
from daskglm_rep.solvers.newton import _interior_start

N, CHUNK = 50_000, 5_000
DRAW = {"logit": lambda rng, eta: (rng.random(eta.size) < special.expit(eta)).astype(float),
        "poisson": lambda rng, eta: rng.poisson(np.exp(np.minimum(eta, 12))).astype(float)}
ESTIMATORS = {"logit": GLMClassifier, "poisson": PoissonRegressor}


def normal(rng, p=4):
    return rng.normal(size=(N, p))


def sorted_by_response(rng, model):
    X = normal(rng)
    y = DRAW[model](rng, X @ [0.8, -0.5, 0.3, 0.2] - 1)
    order = np.argsort(y, kind="stable")
    return X[order], y[order]


def partition_is_region(rng, model):
    """Each chunk is one region, which has a dummy of its own: within a chunk these columns are constant."""
    region = np.arange(N) // CHUNK
    X = np.c_[normal(rng, 2), region[:, None] == np.arange(1, 10)]
    return X, DRAW[model](rng, X @ np.r_[0.5, -0.3, np.linspace(-1, 1, 9)] - 0.5)


def rare_events(rng, model):
    X = normal(rng)
    return X, DRAW[model](rng, X @ [0.5, -0.4, 0.3, 0.0] - 6.1)


def correlated(rng, model):
    common = rng.normal(size=(N, 1))
    X = np.sqrt(0.99) * common + np.sqrt(0.01) * normal(rng)
    return X, DRAW[model](rng, X @ [1.0, -1.0, 0.5, 0.0])


def large_means(rng, model):
    X = normal(rng) * 0.4
    return X, DRAW[model](rng, X @ [0.5, -0.5, 0.2, 0.1] + np.log(7.5))


def huge_column(rng, model):
    X = normal(rng)
    X[:, 2] *= 1e8
    X[:, 3] = 1e6 + X[:, 3]
    return X, DRAW[model](rng, X @ [0.5, -0.3, 0.4e-8, 0.2] - 0.2e6)


def heavy_tails(rng, model):
    """Student's t with 2 degrees of freedom: infinite variance, values in the hundreds."""
    X = rng.standard_t(2, size=(N, 4))
    return X, DRAW[model](rng, X @ np.array([0.2, -0.1, 0.1, 0.05]) * (1.0 if model == "logit" else 0.1))


def overflowing_tails(rng, model):
    """Tails so heavy that means would run to e^40, where the counts stop at e^12: no model fits, the maximum exists."""
    X = rng.standard_t(2, size=(N, 4))
    return X, DRAW[model](rng, X @ [0.2, -0.1, 0.1, 0.05])


def one_extreme_row(rng, model):
    """A single row of enormous leverage, which a pilot of any share but all misses."""
    X = normal(rng)
    y = DRAW[model](rng, X @ [0.3, -0.3, 0.2, 0.1])
    X[31_234] = [400.0, -300.0, 10.0, 5.0]
    y[31_234] = 0.0
    return X, y


def one_informative_chunk(rng, model):
    """A column that is zero but for 40 rows of one chunk."""
    X = normal(rng)
    X[:, 3] = 0.0
    X[42_000:42_040, 3] = 1.0
    return X, DRAW[model](rng, X @ [0.3, -0.3, 0.2, 0.4])


CASES = [sorted_by_response, partition_is_region, rare_events, correlated, large_means, huge_column, heavy_tails,
         overflowing_tails, one_extreme_row, one_informative_chunk]


def newton(model, X, y):
    """Slow and obvious: damped Newton in QR form on columns of unit scale, every row in every step.

    Returns
    -------
    coef, se : (p + 1,) array
    """
    center, scale = X.mean(axis=0), X.std(axis=0)
    Z = np.c_[np.ones(len(X)), (X - center) / scale]
    mean = {"logit": special.expit, "poisson": np.exp}[model]

    def loss(b):
        eta = Z @ b
        with np.errstate(over="ignore"):
            return np.sum(np.logaddexp(0, eta) - y * eta) if model == "logit" else np.sum(np.exp(eta) - y * eta)

    b = np.zeros(Z.shape[1])
    b[0] = special.logit(y.mean()) if model == "logit" else np.log(y.mean())
    for _ in range(200):
        mu = mean(Z @ b)
        weight = mu * (1 - mu) if model == "logit" else mu
        R = linalg.qr(Z * np.sqrt(weight)[:, None], mode="r")[0][:Z.shape[1]]
        step = linalg.cho_solve((R, False), Z.T @ (y - mu))
        share = 1.0
        while not loss(b + share * step) <= loss(b) + 1e-9:
            share /= 2
        b = b + share * step
        if np.linalg.norm(R @ step) < 1e-11:
            break
    T = np.diag(np.r_[1, 1 / scale])
    T[0, 1:] = -center / scale
    cov = T @ linalg.cho_solve((R, False), np.eye(len(b))) @ T.T
    return T @ b, np.sqrt(np.diag(cov))


def _same(block):
    return block


@pytest.mark.parametrize("model", ["logit", "poisson"])
@pytest.mark.parametrize("case", CASES, ids=lambda f: f.__name__)
def test_exact_or_honest(case, model):
    X, y = case(np.random.default_rng(20), model)
    lazy = [da.from_array(a, chunks=(CHUNK,) + (-1,) * (a.ndim - 1)).map_blocks(_same, dtype=float) for a in (X, y)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fitted = ESTIMATORS[model]().fit(*lazy)
    told = [w for w in told if issubclass(w.category, (ConvergenceWarning, SeparationWarning))]
    assert fitted.converged_ == (not told)
    if told:
        return
    coef, se = newton(model, X, y)
    distance = np.abs(fitted.results_.params.to_numpy() - coef) / se
    assert distance.max() <= 1e-6, f"{distance.max()} standard errors"
    assert fitted.distance_to_optimum_ <= 1e-6
    assert fitted.results_.bse.to_numpy() == pytest.approx(se, rel=1e-5)
    assert fitted.n_passes_ <= (60 if case is overflowing_tails else 12)


def test_the_seven_of_the_list_need_no_excuse():
    """None of the common hard cases may end in a warning."""
    for case in CASES[:7]:
        for model in ("logit", "poisson"):
            X, y = case(np.random.default_rng(21), model)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                fitted = ESTIMATORS[model]().fit(da.from_array(X, chunks=(CHUNK, -1)), da.from_array(y, chunks=CHUNK))
            assert fitted.converged_ and fitted.n_passes_ <= 6, (case.__name__, model, fitted.n_passes_)


@pytest.mark.parametrize("family", ["gamma", "inverse_gaussian", "tweedie"])
@pytest.mark.parametrize("scale", [1e-60, 1e-20, 1e60])
def test_the_unit_of_the_response_changes_the_intercept_alone(family, scale):
    """Start values know no unit: means of 1e-60 once ended in scipy's words."""
    r = np.random.default_rng(0)
    X = r.normal(size=(200, 2))
    y = r.gamma(3.0, 1 / 3, 200) * np.exp(0.3 * X[:, 0])
    plain, scaled = (GLMRegressor(family, "log").fit(X, y * s) for s in (1.0, scale))
    np.testing.assert_allclose(scaled.coef_, plain.coef_, rtol=1e-8)
    assert scaled.intercept_ == pytest.approx(plain.intercept_ + np.log(scale), rel=1e-10)
    np.testing.assert_allclose(scaled.results_.bse, plain.results_.bse, rtol=1e-5)
    assert scaled.converged_ and scaled.distance_to_optimum_ <= 1e-6


@pytest.mark.parametrize("family, link", [("binomial", "identity"), ("binomial", "log"), ("binomial", "inverse"),
                                          ("binomial", "sqrt"), ("poisson", "identity"), ("gamma", "inverse"),
                                          ("inverse_gaussian", "inverse_squared"), ("gaussian", "sqrt")])
def test_a_start_inside_the_domain_is_found_without_intercept(family, link):
    """Linear predictors of every row inside the interval that family and link allow, offsets included."""
    r = np.random.default_rng(1)
    X, offset = r.uniform(0.2, 1.0, (50, 2)), r.uniform(0.0, 0.05, 50)
    model = families.GLM.of(family, link)
    objective = Objective(model, Basis(np.arange(2), np.zeros(2), np.ones(2), False))
    start = _interior_start(objective, Block(X, np.full(50, 0.5), np.ones(50), offset))
    assert inside(model, X @ start + offset)
