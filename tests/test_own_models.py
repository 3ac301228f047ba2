"""Families and links that a user defines, after the blocks atop families.py and links.py."""

import dataclasses
import math
import pickle
import textwrap
import warnings

import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import daskglm_rep as dg
from daskglm_rep import families, links
from daskglm_rep._jit import exp, log
from daskglm_rep.distributions import Steps
from daskglm_rep.domains import Interval
from daskglm_rep.families import GLM
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.clusters import cluster_scores
from daskglm_rep.kernels.meat import Adjustment, block_meat
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.links import Link
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.objective import Objective, in_memory
from daskglm_rep.solvers import newton


def example(module):
    """The class that a module's docstring shows."""
    text = module.__doc__.split("::\n", 1)[1]
    code = textwrap.dedent(text[:text.index("\n\n", text.rindex("        return"))])
    scope = {"__name__": __name__}
    exec(code, scope)
    return next(v for v in scope.values() if isinstance(v, type) and v.__module__ == __name__)


Quartic, Geometric = example(links), example(families)


class Complete(Geometric):
    """With its likelihood and its distribution."""

    name = "complete"

    def row_saturated(self, y, weight):
        return np.sum(weight * (np.where(y > 0, y * np.log(np.maximum(y, 1) / (y + 1)), 0.0) - np.log1p(y)))

    def distribution(self, mu, weight, dispersion):
        return Steps(stats.nbinom(1.0, 1.0 / (1.0 + mu)))


@dataclasses.dataclass(frozen=True)
class Shifted(Link):
    """eta = ln(mu - low), a parameter, and a domain by `accepts` alone, as links were written once."""

    low: float = 0.25

    def link(self, mu):
        return log(mu - self.low)

    def inverse(self, eta):
        return exp(eta) + self.low

    def inverse_derivative(self, eta):
        return exp(eta)

    def inverse_second_derivative(self, eta):
        return exp(eta)

    def accepts(self, eta):
        return eta < 3.0


def sample(n=3000, seed=0):
    r = np.random.default_rng(seed)
    X = pd.DataFrame(r.uniform(-1, 1, (n, 2)), columns=["a", "b"])
    mu = np.exp(0.5 + X["a"] - 0.5 * X["b"])
    return X, pd.Series(r.geometric(1 / (1 + mu)) - 1.0, name="y"), mu


@pytest.fixture(scope="module")
def fits():
    X, y, _ = sample()
    return X, y, *(dg.GLMRegressor(f).fit(X, y) for f in (Complete(), "geometric", families.NegativeBinomial(1.0)))


def test_a_family_of_ones_own_is_the_built_in_one(fits):
    """Geometric is negative binomial with alpha = 1: every number agrees."""
    X, y, mine, _, truth = fits
    a, b = mine.results_, truth.results_
    np.testing.assert_allclose(a.params, b.params, rtol=1e-9)
    np.testing.assert_allclose(a.bse, b.bse, rtol=1e-7)
    for name in ("llf", "aic", "bic", "deviance", "null_deviance", "llnull", "prsquared", "pearson_chi2"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), rel=1e-9), name
    assert "complete, log link" in str(a.summary())
    np.testing.assert_allclose(a.with_covariance("HC3", X, y).bse, b.with_covariance("HC3", X, y).bse, rtol=1e-7)
    np.testing.assert_allclose(mine.predict(X), truth.predict(X), rtol=1e-9)
    np.testing.assert_allclose(a.get_prediction(X).frame, b.get_prediction(X).frame, rtol=1e-7)
    number = ["effect", "se", "pvalue"]
    np.testing.assert_allclose(a.margins(X).frame[number], b.margins(X).frame[number], rtol=1e-6)
    for name in ("leverage", "cooks_distance", "resid_deviance", "resid_quantile"):
        np.testing.assert_allclose(getattr(a.influence(X, y), name), getattr(b.influence(X, y), name), rtol=1e-6,
                                   atol=1e-12)


def test_what_a_family_does_not_declare_is_nan_or_told(fits):
    X, y, _, plain, truth = fits
    results = plain.results_
    np.testing.assert_allclose(results.params, truth.results_.params, rtol=1e-9)
    assert math.isnan(results.llf) and math.isnan(results.aic) and math.isnan(results.bic)
    assert "geometric, log link" in str(results.summary())
    with pytest.raises(ValueError, match="geometric family declares no distribution"):
        results.influence(X, y).resid_quantile.compute()
    np.testing.assert_allclose(results.influence(X, y).resid_pearson, truth.results_.influence(X, y).resid_pearson,
                               rtol=1e-6)


def test_it_comes_by_name_from_formulas_and_chunks(fits):
    X, y, mine, _, truth = fits
    results = dg.glm("y ~ a + b", X.assign(y=y), family="complete")
    np.testing.assert_allclose(results.params, truth.results_.params, rtol=1e-8)
    lazy = dg.GLMRegressor("complete").fit(da.from_array(X.to_numpy(), chunks=(400, 2)), da.from_array(y, chunks=400))
    np.testing.assert_allclose(lazy.coef_, truth.coef_, rtol=1e-8)
    again = pickle.loads(pickle.dumps(mine))
    np.testing.assert_array_equal(again.predict(X), mine.predict(X))
    assert again.results_.aic == mine.results_.aic and families.GLM.of("complete").family == Complete()


def test_responses_outside_are_refused_in_the_familys_words():
    X, y, _ = sample(50)
    with pytest.raises(ValueError, match="domain of the geometric family, which takes numbers >= 0"):
        dg.GLMRegressor("geometric").fit(X, y - 5.0)


# ---------------------------------------------------------------- links


def power_sample(n=2000, seed=1):
    """Means that stay well inside the domain of mu^(1/4)."""
    r = np.random.default_rng(seed)
    X = r.uniform(-1, 1, (n, 1))
    return X, r.poisson((1.5 + 0.5 * X[:, 0]) ** 4) * 1.0


def test_a_link_of_ones_own_is_the_built_in_one():
    X, y = power_sample()
    truth = dg.PoissonRegressor(link=links.Power(0.25)).fit(X, y)
    for link in (Quartic(), "quartic"):
        mine = dg.PoissonRegressor(link=link).fit(X, y)
        np.testing.assert_allclose(mine.results_.summary_frame(), truth.results_.summary_frame(), rtol=1e-6)
        assert mine.results_.llf == pytest.approx(truth.results_.llf, rel=1e-12)
        np.testing.assert_allclose(mine.results_.margins(X).frame["effect"], truth.results_.margins(X).frame["effect"],
                                   rtol=1e-8)
        np.testing.assert_allclose(pickle.loads(pickle.dumps(mine)).predict(X), truth.predict(X), rtol=1e-8)
        np.testing.assert_allclose(mine.results_.with_covariance("HC3", X, y).bse,
                                   truth.results_.with_covariance("HC3", X, y).bse, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_domain_of_a_link_of_ones_own_is_kept():
    """478 of 4,000 rows at eta <= 0 once passed for a converged fit: now the fit is that of the built-in link."""
    r = np.random.default_rng(0)
    X = r.normal(size=(4000, 1))
    y = r.poisson(np.maximum(0.6 + 0.5 * X[:, 0], 0.05) ** 4) * 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mine, truth = (dg.PoissonRegressor(link=link).fit(X, y) for link in (Quartic(), links.Power(0.25)))
    np.testing.assert_allclose(mine.coef_, truth.coef_, rtol=1e-9)
    assert (mine.intercept_ + X @ mine.coef_ > 0).all()
    assert mine.converged_ == truth.converged_


def test_accepts_alone_is_honoured():
    """The optimum lies inside; a start that leaves the domain is not taken for a fit."""
    X, y, mu = sample(2000)
    assert not GLM.of("poisson", Shifted(0.0)).always_valid
    mine = dg.PoissonRegressor(link=Shifted(0.0)).fit(X, y)
    np.testing.assert_allclose(mine.coef_, dg.PoissonRegressor().fit(X, y).coef_, rtol=1e-7)
    low = np.full(len(X), 0.25) + mu
    shifted = dg.GammaRegressor(link=Shifted(0.25)).fit(X, low * np.random.default_rng(2).gamma(50, 1 / 50, len(X)))
    np.testing.assert_allclose(shifted.coef_, [1.0, -0.5], atol=0.1)


# ---------------------------------------------------------------- facts


def test_always_valid_follows_from_the_intervals():
    assert not GLM.of("poisson", Quartic()).always_valid
    assert GLM.of("poisson", "log").always_valid and GLM.of("gaussian", "identity").always_valid
    assert not GLM.of("poisson", "identity").always_valid and not GLM.of("gaussian", "inverse").always_valid
    assert GLM.of("geometric").always_valid and not GLM.of("poisson", Shifted()).always_valid
    assert tuple(GLM.of("binomial", "log").eta_range[:2]) == (-math.inf, 0.0)
    assert tuple(GLM.of("gamma", "inverse").eta_range[:2]) == (0.0, math.inf)


@pytest.mark.parametrize("interval, inside, outside, words", [
    (Interval(), [-1e300, 0.0], [], "finite numbers"),
    (Interval(0.0), [1e-300], [0.0, -1.0], "numbers > 0"),
    (Interval(0.0, low_inclusive=True), [0.0], [-1e-300], "numbers >= 0"),
    (Interval(0.0, 1.0, True, True), [0.0, 1.0], [-0.1, 1.1], "numbers in [0, 1]"),
    (Interval(1.0, 2.0, False, True), [1.5, 2.0], [1.0], "numbers in (1, 2]"),
    (Interval(high=3.0), [2.9], [3.0], "numbers < 3")])
def test_intervals(interval, inside, outside, words):
    member = interval.member("y")
    assert all(member(None, v) for v in inside) and not any(member(None, v) for v in outside)
    assert interval.words() == words and interval.holds(interval) and Interval().holds(interval)
    assert not interval.holds(Interval(-5.0, 5.0)) or interval == Interval()


def test_names_are_taken_once_and_notebooks_run_cells_again():
    def cell(factor):
        class Doubled(Link):
            def inverse(self, eta):
                return eta * factor
        return Doubled

    first, second = cell(2.0), cell(3.0)
    assert links.LINKS["doubled"] is second is not first
    with pytest.raises(ValueError, match="The name 'log' belongs to daskglm_rep.links.Log: give .*Mine another one"):
        class Mine(Link):
            name = "log"
    assert links.LINKS["log"] is links.Log and families.FAMILIES["binomial"] is families.Binomial
    assert "geometric" in families.FAMILIES


class Stranger:
    """A model that shares no class with the library's and shows neither family nor link."""

    def __init__(self, model):
        self._model = model

    def __getattr__(self, name):
        if name in ("_model", "family", "link"):
            raise AttributeError(name)
        return getattr(self._model, name)


@pytest.mark.parametrize("model", [GLM.of("poisson"), Multinomial(3)], ids=str)
def test_kernels_and_solvers_take_a_model_of_any_class(model):
    rng = np.random.default_rng(0)
    X, y, basis = rng.normal(size=(60, 2)), rng.integers(0, 3, 60).astype(float), Basis(
        np.arange(2), np.zeros(2), np.ones(2), True)
    block = Block(X, y, np.ones(60), np.zeros(60), extra={"clusters": np.arange(60) % 7})
    coef = rng.normal(size=3 * model.n_equations) / 10
    for kernel, more in ((block_moments, ()), (block_meat, (Adjustment(),)), (cluster_scores, ())):
        ours, theirs = (kernel(block, m, basis, coef, *more) for m in (model, Stranger(model)))
        for name in ["total"] if kernel is cluster_scores else vars(ours):
            np.testing.assert_equal(getattr(theirs, name), getattr(ours, name))
    objective = Objective(Stranger(model), basis)
    assert newton.minimise(objective, in_memory(block), newton.constant_start(Objective(model, basis), block)).converged
