"""Every link and family enrols itself: derivatives against finite differences, jitted code against Python."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from numba.core import event
from scipy import special, stats

from daskglm_rep import families, links
from daskglm_rep._jit import FLOATS, OUT, ScalarModel, call, expose, formula
from daskglm_rep.kernels.rows import working_rows

OURS = [cls for cls in (*links.LINKS.values(), *families.FAMILIES.values())          # not what other tests define
        if cls.__module__.startswith("daskglm_rep.")]
LINKS = [cls() for cls in OURS if issubclass(cls, links.Link) and cls is not links.Power] + [links.Power(0.7),
                                                                                             links.Power(-1.5)]
FAMILIES = [cls() for cls in OURS if issubclass(cls, families.Family) and cls is not families.NegativeBinomial] + [
    families.Bernoulli(), families.Tweedie(1.2), families.NegativeBinomial(0.3), families.NegativeBinomial(2.0)]
METHODS = ("link", "inverse", "complement", "inverse_derivative", "inverse_second_derivative")


def name(model):
    return repr(model).split("links.")[-1]


def means(link):
    """Means well inside the interval that the link reaches."""
    low, high = link.mean_range
    inside = np.array([1e-6, 0.01, 0.2, 0.5, 0.8, 0.99, 1 - 1e-6])
    if high == 1.0:
        return inside
    return np.r_[inside, 3.0, 250.0] if low == 0.0 else np.r_[-7.0, inside, 3.0, 250.0]


def derivative(f, x):
    """Richardson's central difference."""
    h = 1e-3 * max(abs(x), 1e-3) if abs(x) < 1 else 1e-3 * abs(x)
    d = [(f(x + s) - f(x - s)) / (2 * s) for s in (h, h / 2, h / 4)]
    first = [(4 * b - a) / 3 for a, b in zip(d, d[1:])]
    return (16 * first[1] - first[0]) / 15


@pytest.mark.parametrize("link", LINKS, ids=name)
def test_inverse_undoes_link(link):
    for mu in means(link):
        eta = link.link(mu)
        assert link.accepts(eta)
        assert link.inverse(eta) == pytest.approx(mu, rel=1e-9)
        if link.mean_range[1] == 1.0:
            assert link.complement(eta) == pytest.approx(1 - mu, rel=1e-8)


@pytest.mark.parametrize("link", [v for v in LINKS if not isinstance(v, links.Identity)], ids=name)
def test_link_at_the_ends_of_its_means(link):
    """Infinite where the ends are not reached, never an exception; a mean inside lies between."""
    low, inside = link.link(0.0), link.link(0.3)
    high = link.link(1.0) if link.mean_range[1] == 1.0 else math.inf * math.copysign(1.0, inside - low)
    assert min(low, high) < inside < max(low, high)
    assert np.isinf(low) or isinstance(link, (links.Sqrt, links.Power)) and low == 0.0
    assert np.isinf(high)


@pytest.mark.parametrize("link", LINKS, ids=name)
def test_derivatives_of_the_inverse(link):
    for mu in means(link):
        eta = link.link(mu)
        first, second = link.inverse_derivative(eta), link.inverse_second_derivative(eta)
        scale = max(abs(first), 1e-12)
        assert derivative(link.inverse, eta) == pytest.approx(first, rel=1e-6, abs=1e-7 * scale)
        assert derivative(link.inverse_derivative, eta) == pytest.approx(second, rel=1e-6, abs=1e-7 * scale)


@pytest.mark.parametrize("link", [v for v in LINKS if v.mean_range[1] == 1.0], ids=name)
def test_tails_stay_inside_the_unit_interval(link):
    """Extreme linear predictors give means and complements that are numbers in [0, 1], never NaN or negative."""
    for eta in (-1e6, -800.0, -40.0, 0.0, 40.0, 800.0, 1e6):
        values = [getattr(link, method)(eta) for method in METHODS[1:]]
        assert np.isfinite(values).all()
        assert 0.0 <= values[0] <= 1.0 and 0.0 <= values[1] <= 1.0 and values[2] >= 0.0
    assert link.inverse(-2.0) < link.inverse(2.0)


def test_links_against_scipy():
    eta = np.linspace(-6, 6, 41)
    for link, truth in ((links.Logit(), special.expit), (links.Probit(), stats.norm.cdf),
                        (links.Cauchit(), stats.cauchy.cdf), (links.Cloglog(), lambda e: -np.expm1(-np.exp(e))),
                        (links.Loglog(), stats.gumbel_r.cdf)):
        assert [link.inverse(e) for e in eta] == pytest.approx(truth(eta), rel=1e-12)
        assert [link.complement(e) for e in eta] == pytest.approx(1 - truth(eta), rel=1e-6)


def responses(family):
    if family.facts.mean_range[1] == 1.0:
        return [0.0, 1.0] if isinstance(family, families.Bernoulli) else [0.0, 0.3, 1.0]
    if family.facts.response == "numbers > 0":
        return [0.4, 2.0, 9.0]
    return [0.0, 1.0, 6.0] if family.facts.mean_range[0] == 0.0 else [-3.0, 0.0, 2.5]


def family_means(family):
    low, high = family.facts.mean_range
    return [0.05, 0.4, 0.93] if high == 1.0 else ([0.3, 1.7, 12.0] if low == 0.0 else [-2.0, 0.1, 5.0])


@pytest.mark.parametrize("family", FAMILIES, ids=name)
def test_deviance_derivative(family):
    """d/dmu d(y, mu) = -2 (y - mu) / V(mu); d(y, y) = 0 and d >= 0."""
    for y in responses(family):
        assert family.accepts_response(y)
        for mu in family_means(family):
            want = -2 * (y - mu) / family.variance(mu)
            assert derivative(lambda m: family.unit_deviance(y, m), mu) == pytest.approx(want, rel=1e-7, abs=1e-9)
            assert family.unit_deviance(y, mu) >= 0.0
        if family.accepts_mean(y):
            assert family.unit_deviance(y, y) == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize("family", FAMILIES, ids=name)
def test_variance_derivative(family):
    for mu in family_means(family):
        assert derivative(family.variance, mu) == pytest.approx(family.variance_derivative(mu), rel=1e-8, abs=1e-9)
        if family.facts.mean_range[1] == 1.0:
            assert family.variance_at(mu, 1 - mu) == pytest.approx(family.variance(mu))


@formula
def fill(link, eta, out):
    """One row of `out` per method of METHODS, except the link function itself."""
    n = eta.size
    for i in range(n):
        out[i] = link.inverse(eta[i])
        out[n + i] = link.complement(eta[i])
        out[2 * n + i] = link.inverse_derivative(eta[i])
        out[3 * n + i] = link.inverse_second_derivative(eta[i])
        out[4 * n + i] = link.link(link.inverse(eta[i]))


@pytest.mark.parametrize("link", LINKS, ids=name)
def test_jitted_links_equal_python(link):
    eta = np.array([link.link(mu) for mu in means(link)[1:-1]])
    out = np.empty(5 * eta.size)
    call(fill, (FLOATS, OUT), link, eta, out)
    want = [[getattr(link, m)(e) for e in eta] for m in METHODS[1:]] + [[link.link(link.inverse(e)) for e in eta]]
    assert out == pytest.approx(np.ravel(want), rel=1e-13, abs=1e-15)


PAIRS = [("gaussian", "identity"), ("binomial", "logit"), ("binomial", "probit"), ("poisson", "log"),
         ("gamma", "inverse"), ("inverse_gaussian", "log"), (families.Tweedie(1.5), "log"),
         (families.NegativeBinomial(0.5), "log"), ("poisson", "sqrt")]


@pytest.mark.parametrize("family, link", PAIRS, ids=str)
def test_jitted_rows_equal_the_formulas(family, link):
    """Score factor, working weights and deviance of rows against Python's scalar formulas."""
    model = families.GLM.of(family, link)
    rng = np.random.default_rng(3)
    mu = np.array(family_means(model.family) * 2)
    y = np.resize(responses(model.family), mu.size).astype(float)
    eta = np.array([model.link.link(m) for m in mu])
    w, totals = rng.uniform(0.5, 2, mu.size), np.zeros(3)
    residual, expected, observed = working_rows(model, eta, y, w, totals)
    mu = np.array([model.link.inverse(e) for e in eta])
    slope = np.array([model.link.inverse_derivative(e) for e in eta])
    variance = np.array([model.family.variance(m) for m in mu])
    assert residual == pytest.approx(w * (y - mu) * slope / variance, rel=1e-11)
    assert expected == pytest.approx(w * slope ** 2 / variance, rel=1e-11)
    assert totals[0] == pytest.approx(sum(w * [model.family.unit_deviance(a, b) for a, b in zip(y, mu)]), rel=1e-11)
    assert totals[1] == pytest.approx(np.sum(w * (y - mu) ** 2 / variance), rel=1e-11)
    for i in range(eta.size):                       # observed: minus the derivative of the score factor

        def score(e, i=i):
            m = model.link.inverse(e)
            return w[i] * (y[i] - m) * model.link.inverse_derivative(e) / model.family.variance(m)

        assert -derivative(score, eta[i]) == pytest.approx(observed[i], rel=1e-6, abs=1e-8)


def test_a_new_parameter_value_compiles_nothing():
    def rows(model):
        one = np.ones(2)
        return working_rows(model, one, one, one)[0]

    for make, values in ((families.NegativeBinomial, (0.5, 2.0)), (families.Tweedie, (1.3, 1.7))):
        first = rows(families.GLM.of(make(values[0]), "log"))
        with event.install_recorder("numba:compile") as recorder:
            second = rows(families.GLM.of(make(values[1]), "log"))
        assert not recorder.buffer and not np.allclose(first, second)


def make_link(factor):
    """The same class name and module each time, as a cell of a notebook run again."""

    @expose
    @dataclasses.dataclass(frozen=True)
    class Redefined(ScalarModel):
        def inverse(self, eta):
            return eta * factor if factor == 2.0 else eta + factor

    return Redefined()


@formula
def inverse_of(link, eta, out):
    for i in range(eta.size):
        out[i] = link.inverse(eta[i])


def test_a_redefined_class_is_a_new_type():
    eta, out = np.array([1.0, 5.0]), np.empty(2)
    call(inverse_of, (FLOATS, OUT), make_link(2.0), eta, out)
    assert out.tolist() == [2.0, 10.0]
    call(inverse_of, (FLOATS, OUT), make_link(3.0), eta, out)
    assert out.tolist() == [4.0, 8.0]


def test_models_are_small_values():
    model = families.NegativeBinomial(0.25)
    assert len(pickle.dumps(model)) < 100 and pickle.loads(pickle.dumps(model)) == model
    assert families.GLM.of("poisson") == families.GLM.of("poisson", "log")
    assert hash(links.Power(0.5)) == hash(links.Power(0.5))
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.alpha = 2.0


@pytest.mark.parametrize("build, words", [
    (lambda: families.get_family("normal"), "Unknown family 'normal'"),
    (lambda: links.get_link("logistic"), "Unknown link 'logistic'"),
    (lambda: families.Tweedie(2.5), "1 < power < 2"),
    (lambda: families.NegativeBinomial(-1.0), "alpha > 0"),
    (lambda: families.NegativeBinomial(math.nan), "alpha > 0"),
    (lambda: links.Power(0.0), "links.Log()"),
    (lambda: families.GLM.of("poisson", "logit"), "poisson family needs any positive mean"),
    (lambda: families.GLM.of("gaussian", "probit"), "gaussian family needs any mean"),
], ids=["family", "link", "power", "alpha", "NaN alpha", "power link", "poisson", "gaussian"])
def test_wrong_models_are_refused_in_one_sentence(build, words):
    with pytest.raises(ValueError) as caught:
        build()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_every_family_takes_every_link_its_domain_allows():
    allowed = {(f.facts.name, link.name) for f in FAMILIES for link in LINKS if _builds(f, link)}
    unit = {"logit", "probit", "cloglog", "loglog", "cauchit"}
    for family in FAMILIES:
        for link in LINKS:
            want = link.name not in unit or family.facts.mean_range == (0.0, 1.0)
            assert ((family.facts.name, link.name) in allowed) == want


def _builds(family, link):
    try:
        families.GLM.of(family, link)
    except ValueError:
        return False
    return True


def test_log_likelihoods_of_known_dispersion_against_scipy():
    """saturated - deviance / 2 = the log-likelihood."""
    y, mu = np.array([0.0, 1, 4, 11]), np.array([0.7, 1.5, 3.0, 12.0])
    w = np.array([1.0, 2, 1, 3])
    alpha = 0.4
    for family, logpmf in ((families.Poisson(), stats.poisson(mu).logpmf(y)),
                           (families.NegativeBinomial(alpha), stats.nbinom(1 / alpha, 1 / (1 + alpha * mu)).logpmf(y))):
        deviance = sum(w * [family.unit_deviance(a, m) for a, m in zip(y, mu)])
        assert family.row_saturated(y, w) - deviance / 2 == pytest.approx(np.sum(w * logpmf), rel=1e-10)
    trials, successes, p = np.array([3.0, 10, 7]), np.array([0.0, 4, 7]), np.array([0.2, 0.5, 0.9])
    family = families.Binomial()
    deviance = sum(trials * [family.unit_deviance(a, m) for a, m in zip(successes / trials, p)])
    assert family.row_saturated(successes / trials, trials) - deviance / 2 == pytest.approx(
        np.sum(stats.binom(trials, p).logpmf(successes)), rel=1e-10)
