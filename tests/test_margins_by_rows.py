"""Effects against predictions row by row: whatever shortcut a sweep takes, an effect is an average of differences."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from daskglm_rep import LogisticRegression, PoissonRegressor, glm, mnlogit

N = 400
STEP = 2.0 ** -13


def shop(seed=3, text="str"):
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=N), rng.normal(size=N)
    x[::5] = 0.0                                                     # x:z over x says nothing there
    frame = pd.DataFrame({"x": x, "z": z, "u": rng.normal(size=N) + 2.0, "d": rng.integers(0, 2, N).astype(float)})
    frame["g"] = pd.Series(np.array(list("abc"))[rng.integers(0, 3, N)], dtype=text)
    eta = 0.2 + 0.3 * x - 0.2 * z + 0.3 * x * z + 0.4 * (frame.g == "b") * x + 0.2 * frame.d
    frame["y"] = rng.poisson(np.exp(0.5 * eta)).astype(float)
    frame["level"] = pd.cut(frame.y, [-1, 0, 1, 100], labels=["none", "one", "more"])
    frame["w"] = rng.integers(0, 3, N).astype(float)
    return frame


def average(results, frame, multinomial=False, log=False):
    means = np.asarray(results.predict_proba(frame) if multinomial else results.predict(frame)).reshape(N, -1)
    return np.average(np.log(means) if log else means, axis=0, weights=frame.w)


def differences(results, frame, name, method="dydx", change=None, levels=None, multinomial=False):
    """(J,) the effect by predictions: Richardson's derivative, or a difference."""
    def at(values):
        return average(results, frame.assign(**{name: values}), multinomial, log=method.startswith("ey"))
    if levels is not None:
        return at(pd.Series([levels[1]] * N, dtype=frame[name].dtype)) - at(
            pd.Series([levels[0]] * N, dtype=frame[name].dtype))
    if change is not None:
        return at(frame[name] + change[1]) - at(frame[name] + change[0])
    by = np.abs(frame[name]) if method.endswith("ex") else 1.0
    unit = np.sign(frame[name]) if method.endswith("ex") else 1.0
    slope = [(at(frame[name] + h * by * unit) - at(frame[name] - h * by * unit)) / (2 * h) for h in (STEP, STEP / 2)]
    return (4 * slope[1] - slope[0]) / 3


FORMULAS = ["y ~ x + z + u + d + g", "y ~ x * z + u + d + g", "y ~ x * g + I(u ** 2) + z + d", "y ~ x:z + u:g + d - 1",
            "y ~ x * C(d) + z + np.exp(u / 4) + g"]


@pytest.mark.parametrize("formula, text", [*((f, "str") for f in FORMULAS), (FORMULAS[2], "object"),
                                           (FORMULAS[2], "category")])
def test_every_effect_is_an_average_of_differences(formula, text):
    frame = shop(text=text)
    results = glm(formula, frame, family="poisson", tol=1e-9)
    for method in ("dydx", "eyex", "dyex", "eydx"):
        effects = results.margins(frame, method=method, discrete=None, weights="w").frame
        for name, effect in zip(effects.variable, effects.effect):
            if name in ("x", "z", "u"):
                want = differences(results, frame, name, method)[0]
                assert effect == pytest.approx(want, rel=1e-6, abs=1e-8), (method, name)
    for change, ends in {"unit": (0, 1), "centered": (-0.5, 0.5), (-0.25, 2.0): (-0.25, 2.0)}.items():
        effects = results.margins(frame, ["x", "z", "u"], change=change, weights="w").frame
        for name, effect in zip(effects.variable, effects.effect):
            assert effect == pytest.approx(differences(results, frame, name, change=ends)[0], rel=1e-9, abs=1e-12)
    if "g" in formula:
        effects = results.margins(frame, "g", contrast="pairwise", weights="w").frame
        want = [differences(results, frame, "g", levels=pair)[0] for pair in ("ab", "ac", "bc")]
        np.testing.assert_allclose(effects.effect, want, rtol=1e-9)


@pytest.mark.parametrize("formula", FORMULAS[1:3])
def test_chunks_held_values_and_groups_change_nothing(formula):
    frame = shop()
    results = glm(formula, frame, family="poisson", tol=1e-9)
    whole = results.margins(frame, weights="w")
    cut = results.margins(dd.from_pandas(frame, npartitions=7), weights="w")
    np.testing.assert_allclose(cut.frame[["effect", "se"]], whole.frame[["effect", "se"]], rtol=1e-11)
    held = results.margins(frame, ["x", "g"], at={"z": [0.5, -1.0], "d": 1.0}, weights="w").frame
    for z, part in held.groupby("at_z"):
        there = results.margins(frame.assign(z=z, d=1.0), ["x", "g"], weights="w").frame
        np.testing.assert_allclose(part[["effect", "se"]], there[["effect", "se"]], rtol=1e-11)
    grouped = results.margins(frame, over="d", weights="w").frame
    for d, part in grouped.groupby("d"):
        alone = results.margins(frame[frame.d == d], weights="w").frame
        np.testing.assert_allclose(part[["effect", "se"]], alone[["effect", "se"]], rtol=1e-11)


def test_classes_too():
    frame = shop()
    results = mnlogit("level ~ x * z + g", frame, tol=1e-9)
    for options, ends in (({}, None), ({"change": "unit"}, (0, 1))):
        effects = results.margins(frame, ["x", "z"], weights="w", **options).frame
        for name, part in effects.groupby("variable"):
            want = dict(zip(results.classes, differences(results, frame, name, change=ends, multinomial=True)))
            np.testing.assert_allclose(part.effect, [want[c] for c in part["class"]], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("intercept", [True, False])
def test_arrays_as_they_lie(order, intercept):
    """Without products the design is X itself, aliased columns and all; the effects of a formula are the judge."""
    frame = shop()
    X = np.asarray(frame[["x", "z", "u", "d"]], order=order)
    X = np.asarray(np.c_[X, X[:, 0] + X[:, 1]], order=order)
    for estimator, y, family in ((LogisticRegression, (frame.y > 0) + 0.0, "binomial"),
                                 (PoissonRegressor, frame.y, "poisson")):
        with pytest.warns(UserWarning, match="linear combination"):
            fit = estimator(tol=1e-9, fit_intercept=intercept).fit(X, y).results_
        text = "y ~ x + z + u + d" + (" - 1" if not intercept else "")
        formula = glm(text, frame.assign(y=y), family=family, tol=1e-9)
        names = [f"x{j}" for j in range(4)]
        for options in ({}, {"method": "eyex"}, {"change": "unit"}, {"discrete": "dummies"}, {"method": "eydx"}):
            got = fit.margins(X, names, weights=frame.w.to_numpy(), **options).frame
            want = formula.margins(frame, ["x", "z", "u", "d"], weights="w", **options).frame
            np.testing.assert_allclose(got[["effect", "se"]], want[["effect", "se"]], rtol=1e-6)
        got = fit.margins(X, ["x0"], at={"x1": 0.5}, weights=frame.w.to_numpy()).frame
        want = formula.margins(frame, ["x"], at={"z": 0.5}, weights="w").frame
        np.testing.assert_allclose(got[["effect", "se"]], want[["effect", "se"]], rtol=1e-6)
