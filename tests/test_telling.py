"""Warnings point at the user's line, whatever way the library was entered; their kinds are public, to be filtered."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

import daskglm_rep as dg


def sample(n=400):
    r = np.random.default_rng(3)
    frame = pd.DataFrame(r.normal(size=(n, 2)), columns=["a", "b"])
    frame["event"] = (frame["a"] + r.logistic(size=n) > 0).astype(float)
    return frame.assign(twice=2 * frame["a"], apart=(frame["a"] > 0).astype(float), counts=r.binomial(9, 0.5, n),
                        single=(np.arange(n) == 7).astype(float))


def leverage_one(f):
    X = f[["a", "single"]]
    return dg.LinearRegression().fit(X, f["b"]).results_.with_covariance("HC3", X, f["b"])


def checkers(f):
    side = np.arange(4)
    a, b = np.repeat(side, 4), np.tile(side, 4)
    signs = np.where((a + b) % 2 == 0, 1.0, -1.0) * np.where(a < 2, 1.0, -1.0) * np.where(b < 2, 1.0, -1.0)
    x = np.linspace(-1, 1, 16)
    return dg.LinearRegression().fit(x[:, None], x + signs, clusters=np.c_[a, b])


def margins_after_alias(f):
    return dg.logit("event ~ a + twice", f).margins(f, "a")


def not_converged(_):
    f = sample(50_000)                           # the pilot is a part of the rows, and stands off their optimum
    return dg.PoissonRegressor(max_iter=1, tol=1e-9).fit(f[["a"]], f["counts"])


def few_means(_):
    f = sample(20_000)
    model = dg.RepresentativeGLM(representative="mean", partition=dg.partitions.KMeans(20))
    return model.fit(f[["a", "b"]], f["event"])


def other_version(f):
    text = pickle.dumps(dg.LinearRegression().fit(f[["a"]], f["b"]))
    return pickle.loads(text.replace(dg.__version__.encode(), b"9" * len(dg.__version__)))


SCENARIOS = {
    "estimator": (lambda f: dg.GLMRegressor().fit(f[["a", "twice"]], f["b"]), dg.AliasWarning),
    "classifier": (lambda f: dg.LogisticRegression().fit(f[["a", "b"]], f["apart"]), dg.SeparationWarning),
    "formula": (lambda f: dg.lm("b ~ a + twice", f), dg.AliasWarning),
    "formula, separated": (lambda f: dg.glm("apart ~ a", f, "binomial"), dg.SeparationWarning),
    "covariance of a fit": (lambda f: dg.lm("b ~ a + single", f, cov_type="HC3"), dg.CovarianceWarning),
    "with_covariance": (leverage_one, dg.CovarianceWarning),
    "clusters": (checkers, dg.CovarianceWarning),
    "margins": (margins_after_alias, dg.AliasWarning),
    "not converged": (not_converged, ConvergenceWarning),
    "overdispersion": (lambda f: dg.NegativeBinomialRegressor().fit(f[["a"]], f["counts"]), ConvergenceWarning),
    "representatives": (few_means, ConvergenceWarning),
    "subsample": (lambda f: dg.SubsampledGLM(n_samples=100).fit(f[["a", "b"]], f["apart"]), ConvergenceWarning),
    "descent": (lambda f: dg.StochasticGLM().fit(f[["a", "b"]], f["apart"]), dg.SeparationWarning),
    "pickle": (other_version, dg.VersionWarning),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_warning_points_at_the_line_of_the_user(name):
    run, category = SCENARIOS[name]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run(sample())
    told = [w for w in told if issubclass(w.category, category)]
    assert told and {w.filename for w in told} == {__file__}


def test_kinds_of_warnings_can_be_filtered():
    f = sample()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", dg.AliasWarning)
        dg.lm("b ~ a + twice", f)
    assert {"AliasWarning", "CovarianceWarning", "SeparationWarning", "VersionWarning", "datasets",
            "plotting"} <= set(dg.__all__) <= set(dir(dg))
