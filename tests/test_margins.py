"""Marginal effects: reference values, slow obvious NumPy, and laws."""

from pathlib import Path

import dask.dataframe as dd
import make_data
import margins
import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import BSpline

from daskglm_rep import GLMClassifier, LinearRegression, LogisticRegression, glm, links, lm, mnlogit
from daskglm_rep.inference.margins import survey
from daskglm_rep.inference.margins.terms import parse_product
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.margins import mean_states, slope_sums

CASES = {name: case for name, case in make_data.cases().items() if case["kind"] == "margins"}
MADLIB = ["madlib_margins_logregr_patients", "madlib_margins_logregr_patients_interaction",
          "madlib_margins_mlogregr_test3_doc"]
NAMED = {"unit": "unit", "centered_unit": "centered", "sd": "sd", "minmax": "minmax", "iqr": "iqr"}
TIGHT = dict(tol=1e-9)


def names_of_cases():
    return sorted(set(CASES) | set(MADLIB))


def the_case(name):
    if name not in CASES:
        pytest.skip(f"{name} lies in the sibling folder {make_data.SHARED.name}, which is absent")
    return CASES[name]


def ask(results, data, spec, **options):
    """One effect of a reference case through the public methods."""
    at, kind = spec.get("at", "overall"), spec["type"]
    if kind == "predict":
        return results.average_predictions(data, at=at, **options)
    if kind != "diff":
        return results.margins(data, variables=spec["var"], at=at, method=kind, **options)
    moved = dict(change=(spec["lo"], spec["hi"])) if "lo" in spec else dict(contrast=(spec["from"], spec["to"]))
    return results.margins(data, variables=[spec["var"]], at=at, **moved, **options)


def agree(effects, spec, kind="classical"):
    np.testing.assert_allclose(effects.frame["effect"], spec["estimate"], rtol=1e-7, atol=1e-14)
    np.testing.assert_allclose(effects.frame["se"], spec["se"][kind], rtol=1e-6, atol=1e-14)


def fit_formula(case, data, **options):
    text, model = case["model"]["formula"], case["model"]
    if model["family"] == "multinomial":
        return mnlogit(text if "~" in text else f"{model['response']} ~ {text}", data, **TIGHT, **options)
    return glm(text, data, model["family"], model["link"] if "link" in model else None, **TIGHT, **options)


@pytest.mark.parametrize("name", names_of_cases())
def test_reference_effects_of_formulas(name):
    case = the_case(name)
    frame = make_data.frame(case)
    results = fit_formula(case, frame)
    for effect, spec in case["effects"].items():
        agree(ask(results, frame, spec), spec)
        change = NAMED.get(effect.rsplit("_", 1)[0])
        if change:
            agree(results.margins(frame, variables=spec["var"], change=change), spec)


def test_reference_effects_at_means_and_robust_covariances_on_partitions():
    case = the_case("margins_logit_interactions")
    frame = make_data.frame(case)
    parts = dd.from_pandas(frame, npartitions=3)
    for options, kind in ((dict(cov_type="HC0"), "HC0"), (dict(clusters="g"), "cluster_stata")):
        results = fit_formula(case, parts, **options)
        effects = case["effects"]
        for effect in ("ame_x", "eyex_z", "discrete_c_b_vs_a", "mem_x", "average_prediction"):
            agree(ask(results, parts, effects[effect]), effects[effect], kind)
        means = results.margins(parts, variables=["x", "z", "c"], at="mean").frame
        for row, effect in enumerate(("mem_x", "mem_z", "mem_discrete_c_b_vs_a", "mem_discrete_c_c_vs_a")):
            np.testing.assert_allclose(means["effect"][row], effects[effect]["estimate"], rtol=1e-7)
            np.testing.assert_allclose(means["se"][row], effects[effect]["se"][kind], rtol=1e-6)
        point = results.average_predictions(parts, at="mean").frame
        np.testing.assert_allclose(point["effect"], effects["prediction_at_means"]["estimate"], rtol=1e-7)


def test_reference_effects_of_arrays_with_named_products_and_dummies():
    case = the_case("margins_logit_interactions")
    built = make_data.build(case)
    X = pd.DataFrame(built["X"][:, 1:], columns=built["names"][1:])
    options = dict(interactions={"I(x**2)": ("x", "x"), "x:d": ("x", "d"), "z:c[T.b]": ("z", "c[T.b]"),
                                 "z:c[T.c]": ("z", "c[T.c]")},
                   factors={"c": {"reference": "a", "levels": {"b": "c[T.b]", "c": "c[T.c]"}}})
    results = GLMClassifier(**TIGHT).fit(X, built["y"]).results_
    for spec in case["effects"].values():
        agree(ask(results, X, spec, **options), spec)
    dummies = results.margins(X, "d", discrete="dummies", **options)
    agree(dummies, case["effects"]["discrete_d"])


# ---------------------------------------------------------------- slow obvious NumPy


@pytest.fixture(scope="module")
def shop():
    """Rows with a curved variable, an interaction, a factor, a boolean, an exposure, weights and groups."""
    rng = np.random.default_rng(5)
    n = 1_200
    frame = pd.DataFrame({"x": rng.normal(1.0, 0.8, n), "z": rng.gamma(3.0, 0.5, n),
                          "c": np.array(list("abc"))[rng.integers(0, 3, n)], "flag": rng.random(n) < 0.4,
                          "t": rng.uniform(0.5, 2.0, n), "w": rng.integers(1, 4, n).astype(float),
                          "g": rng.integers(0, 3, n)})
    eta = (-0.3 + 0.4 * frame.x - 0.1 * frame.x ** 2 + 0.2 * np.log(frame.z) + 0.3 * (frame.c == "b") * frame.x
           + 0.2 * frame.flag)
    frame["y"] = rng.poisson(frame.t * np.exp(eta)).astype(float)
    frame["kind"] = np.array(["low", "mid", "high"])[np.digitize(eta + rng.normal(size=n), [-0.3, 0.4])]
    return frame


FORMULA = "y ~ x + I(x ** 2) + np.log(z) + C(c) * x + flag"


@pytest.fixture(scope="module")
def counts(shop):
    return glm(FORMULA, shop, "poisson", exposure="t", **TIGHT)


def design(frame):
    """The columns of FORMULA by hand, in the order of the fitted names, with d/dx and d/dz."""
    x, z, b, c = (np.asarray(v, float) for v in (frame.x, frame.z, frame.c == "b", frame.c == "c"))
    flag, one, zero = np.asarray(frame.flag, float), np.ones(len(frame)), np.zeros(len(frame))
    return ({"Intercept": one, "x": x, "I(x ** 2)": x ** 2, "np.log(z)": np.log(z), "C(c)[T.b]": b, "C(c)[T.c]": c,
             "C(c)[T.b]:x": b * x, "C(c)[T.c]:x": c * x, "flag": flag},
            {"x": {"x": one, "I(x ** 2)": 2 * x, "C(c)[T.b]:x": b, "C(c)[T.c]:x": c}, "z": {"np.log(z)": 1 / z}}, zero)


def by_hand(results, frame, variable, params):
    columns, slopes, zero = design(frame)
    order = list(results.params.index)
    X = np.column_stack([columns[name] for name in order])
    mu = np.asarray(frame.t) * np.exp(X @ params)
    D = np.column_stack([slopes[variable].get(name, zero) for name in order])
    return np.mean(mu * (D @ params)), np.mean((mu * (D @ params))[:, None] * X + mu[:, None] * D, axis=0)


@pytest.mark.parametrize("variable", ["x", "z"])
def test_derivatives_go_through_all_terms(shop, counts, variable):
    names = {name.replace(" ", "") for name in counts.params.index}
    assert names == {name.replace(" ", "") for name in design(shop)[0]}, names
    value, gradient = by_hand(counts, shop, variable, counts.params.to_numpy())
    effects = counts.margins(shop, variable)
    np.testing.assert_allclose(effects.frame["effect"][0], value, rtol=1e-9)
    np.testing.assert_allclose(effects.jacobian.to_numpy()[0], gradient, rtol=1e-8)
    np.testing.assert_allclose(effects.frame["se"][0] ** 2, gradient @ counts.cov_params().to_numpy() @ gradient,
                               rtol=1e-8)


def test_color_blue_in_ten_steps():
    rng = np.random.default_rng(2)
    n = 900
    color, degree = rng.integers(0, 3, n), rng.integers(0, 2, n)
    gpa, weight = rng.uniform(2, 4, n), rng.normal(70, 9, n)
    base = {"color_blue": color == 1, "color_green": color == 2, "degree_college": degree == 1, "gpa": gpa,
            "weight": weight}

    def columns(v):
        v = {k: np.asarray(a, float) for k, a in v.items()}
        blue, green, college, g = v["color_blue"], v["color_green"], v["degree_college"], v["gpa"]
        return np.column_stack([blue, green, college, college * blue, college * green, g, g * g, college * g,
                                college * g * g, v["weight"]])

    names = ["color_blue", "color_green", "degree_college", "degree_college:color_blue", "degree_college:color_green",
             "gpa", "gpa**2", "degree_college:gpa", "degree_college:gpa**2", "weight"]
    X = pd.DataFrame(columns(base), columns=names)
    eta = X.to_numpy() @ np.array([0.5, -0.3, 0.4, 0.6, -0.2, 0.2, 0.02, -0.1, 0.01, -0.015])
    y = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    results = GLMClassifier(**TIGHT).fit(X, y).results_
    effects = results.margins(X, ["color", "gpa"], interactions=[name for name in names if ":" in name or "*" in name],
                              factors={"color": {"reference": "red", "levels": {"blue": "color_blue",
                                                                                "green": "color_green"}}})

    def mean(**moved):
        eta = results.params.iloc[0] + columns(base | moved) @ results.params.to_numpy()[1:]
        return np.mean(1 / (1 + np.exp(-eta)))

    ones, zeros, h = np.ones(n), np.zeros(n), 1e-5
    unset = mean(color_blue=zeros, color_green=zeros)
    expected = [mean(color_blue=ones, color_green=zeros) - unset, mean(color_blue=zeros, color_green=ones) - unset,
                (mean(gpa=gpa + h) - mean(gpa=gpa - h)) / (2 * h)]
    assert list(effects.frame["contrast"]) == ["blue - red", "green - red", "dY/dX"]
    np.testing.assert_allclose(effects.frame["effect"], expected, rtol=1e-8)


def test_multinomial_gradient_is_the_derivative_of_the_effects(shop):
    results = mnlogit("kind ~ x + I(x ** 2) + z:x + c", shop, baseline="mid", **TIGHT)
    frame = results.margins(shop, ["x", "c"])
    classes, x, z = ["high", "low"], shop.x.to_numpy(), shop.z.to_numpy()
    names = list(results.params.loc["high"].index)
    columns = {"Intercept": 1 + 0 * x, "x": x, "I(x ** 2)": x * x, "z:x": z * x, "x:z": z * x, "c[T.b]": shop.c == "b",
               "c[T.c]": shop.c == "c"}
    X = np.column_stack([np.asarray(columns[name], float) for name in names])
    slopes = {"x": 1 + 0 * x, "I(x ** 2)": 2 * x, "z:x": z, "x:z": z}
    D = np.column_stack([slopes.get(name, 0 * x) for name in names])

    def ame(params):
        B = params.reshape(2, -1)
        e = np.exp(np.c_[X @ B[0], X @ B[1], 0 * x])
        P, t = e / e.sum(1, keepdims=True), np.c_[D @ B[0], D @ B[1], 0 * x]
        return np.mean(P * (t - np.sum(P * t, 1, keepdims=True)), axis=0)

    params = results.params.to_numpy()
    assert list(results.params.index.get_level_values(0).unique()) == classes
    assert list(frame.frame["class"][:3]) == ["high", "low", "mid"]
    np.testing.assert_allclose(frame.frame["effect"][:3], ame(params), rtol=1e-9)
    step = 1e-6
    numeric = np.array([(ame(params + step * e) - ame(params - step * e)) / (2 * step) for e in np.eye(params.size)]).T
    np.testing.assert_allclose(frame.jacobian.to_numpy()[:3], numeric, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(frame.frame.groupby(["variable", "contrast"])["effect"].sum(), 0.0, atol=1e-14)


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("link", sorted(name for name, cls in links.LINKS.items() if cls.__module__ == links.__name__))
def test_row_formulas_are_derivatives_of_each_other(link):
    link = links.Power(0.7) if link == "power" else links.get_link(link)
    rng = np.random.default_rng(0)
    eta, t, h = rng.uniform(0.3, 1.5, (50, 1)), rng.normal(size=(50, 1)), 1e-5
    state, above, below = (mean_states(link, eta[:, 0] + shift) for shift in (0.0, h, -h))
    for log in (False, True):
        value, u = state.prediction(log)
        numeric = (above.prediction(log)[0] - below.prediction(log)[0]) / (2 * h)
        np.testing.assert_allclose(u[:, 0], numeric, rtol=1e-6, atol=1e-9)
        slope, u, v = state.derivative(t, log)
        np.testing.assert_allclose(slope, numeric * t, rtol=1e-6, atol=1e-9)
        numeric = (above.derivative(t, log)[0] - below.derivative(t, log)[0]) / (2 * h)
        np.testing.assert_allclose(u[:, 0], numeric, rtol=1e-5, atol=1e-8)
        np.testing.assert_allclose(v[:, 0] * t, slope, rtol=1e-12)


LINKS = sorted(name for name, cls in links.LINKS.items() if cls.__module__ == links.__name__ and name != "power")


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("layout", ["rows", "columns", "every other"])
def test_sums_by_strips_are_the_row_formulas(link, layout):
    """Of slopes and of their gradient, over more rows than a strip, with weights and columns left out."""
    link, rng, n = links.get_link(link), np.random.default_rng(1), 700
    X = {"rows": np.copy, "columns": np.asfortranarray, "every other": lambda a: np.repeat(a, 2, axis=0)[::2]}[layout](
        rng.uniform(0.1, 0.4, (n, 4)))
    weight, offset, coef = rng.integers(0, 3, n) * 1.0, rng.uniform(0.3, 0.5, n), np.array([0.4, 0.3, -0.2, 0.5])
    basis = Basis(np.array([0, 1, 3]), np.zeros(3), np.ones(3), True)
    Z = np.c_[np.ones(n), X[:, basis.columns]]
    for relative in (False, True):
        slope, u, _ = mean_states(link, Z @ coef + offset).derivative(np.ones((n, 1)), relative)
        total, gradient = slope_sums(link, X, basis, coef, offset, weight, relative)
        np.testing.assert_allclose(total, weight @ slope[:, 0], rtol=1e-11)
        np.testing.assert_allclose(gradient, Z.T @ (weight * u[:, 0, 0]), rtol=1e-10, atol=1e-10)
    X[650] = np.nan
    assert slope_sums(link, X, basis, coef, offset, weight, False) is None


def test_values_outside_the_link_are_refused():
    with pytest.raises(ValueError, match="sqrt link has no mean at 1 of 2 rows"):
        mean_states(links.Sqrt(), np.array([1.0, -1.0]))


def test_derivative_is_the_finite_difference_of_the_average_prediction(shop, counts):
    h = 1e-4
    slope, moved = counts.margins(shop, ["x", "z"]), counts.margins(shop, ["x", "z"], change=(-h, h))
    np.testing.assert_allclose(slope.frame["effect"], moved.frame["effect"] / (2 * h), rtol=1e-6)
    np.testing.assert_allclose(slope.jacobian, moved.jacobian / (2 * h), rtol=1e-5, atol=1e-8)
    logs = counts.margins(shop, ["x", "z"], method="eydx", change=(-h, h)).frame["effect"] / (2 * h)
    np.testing.assert_allclose(counts.margins(shop, ["x", "z"], method="eydx").frame["effect"], logs, rtol=1e-6)


def test_linear_model_without_interactions_gives_its_coefficients():
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.normal(size=(300, 3)), columns=["a", "b", "age"])
    results = LinearRegression().fit(X, X @ [1.0, -2.0, 0.5] + rng.normal(size=300)).results_
    frame = results.margins(X).frame
    np.testing.assert_allclose(frame["effect"], results.params.iloc[1:], rtol=1e-12)
    np.testing.assert_allclose(frame["se"], results.bse.iloc[1:], rtol=1e-12)
    np.testing.assert_allclose(frame["pvalue"], results.pvalues.iloc[1:], rtol=1e-10)


def test_chunking_and_sweeps(shop, counts, tmp_path):
    asked = dict(variables=["x", "z", "c", "flag"], over="g", weights="w")
    whole = counts.margins(shop, **asked).frame
    reads = []

    def part(i, pieces):
        reads.append(i)
        return shop.iloc[pieces[i]:pieces[i + 1]]

    for cuts in ([0, 1200], [0, 1, 700, 1200], [0, 150, 300, 450, 600, 700, 1000, 1200]):
        data = dd.from_map(part, range(len(cuts) - 1), pieces=cuts, meta=shop.iloc[:0])
        reads.clear()
        effects = counts.margins(data, **asked)
        assert effects.n_passes == 1 and sorted(reads) == list(range(len(cuts) - 1))
        pd.testing.assert_frame_equal(effects.frame, whole, rtol=1e-9)
    assert counts.margins(shop, "x", change="sd").n_passes == 2
    shop.to_parquet(tmp_path / "part.parquet")
    pd.testing.assert_frame_equal(counts.margins(str(tmp_path), **asked).frame, whole, rtol=1e-12)


def test_groups_and_weights_are_averages_over_those_rows(shop, counts):
    groups = counts.margins(shop, ["x", "c"], over="g").frame
    for g in range(3):
        alone = counts.margins(shop[shop.g == g], ["x", "c"]).frame
        np.testing.assert_allclose(groups[groups.g == g][["effect", "se"]], alone[["effect", "se"]], rtol=1e-10)
    twice = shop.loc[shop.index.repeat(shop.w.astype(int))].reset_index(drop=True)
    np.testing.assert_allclose(counts.margins(shop, weights="w").frame["se"], counts.margins(twice).frame["se"],
                               rtol=1e-10)
    frequency = glm(FORMULA, shop, "poisson", weights="w", exposure="t", weights_kind="frequency", **TIGHT)
    repeated = glm(FORMULA, twice, "poisson", exposure="t", **TIGHT)
    for change in ("sd", "iqr"):
        np.testing.assert_allclose(frequency.margins(shop, "x", change=change).frame[["effect", "se"]],
                                   repeated.margins(twice, "x", change=change).frame[["effect", "se"]], rtol=1e-7)


def test_values_hold_variables_and_leave_the_others_as_observed(shop, counts):
    grid = counts.average_predictions(shop, at={"z": [0.5, 1.0, "median"], "c": "b"}).frame
    for value, effect in zip((0.5, 1.0, shop.z.median()), grid["effect"]):
        held = counts.average_predictions(shop.assign(z=value, c="b")).frame
        assert effect == pytest.approx(held["effect"][0], rel=1e-10)
    np.testing.assert_allclose(grid["at_z"], [0.5, 1.0, shop.z.median()])


def test_factors_at_means_by_mode_and_proportions(shop):
    results = glm("y ~ x + c * flag", shop, "poisson", **TIGHT)
    means = {"x": shop.x.mean(), "flag": bool(shop.flag.mode()[0]), "c": shop.c.mode()[0]}
    mode = results.margins(shop, "x", at="mean", factors_at="mode").frame
    point = results.margins(shop, "x", at=means).frame
    np.testing.assert_allclose(mode["effect"], point["effect"], rtol=1e-10)
    params, shares = results.params, shop.c.value_counts(normalize=True)
    on = shop.flag.mean()
    eta = params["Intercept"] + params["x"] * shop.x.mean() + params["flag"] * on
    eta += sum(shares[c] * (params[f"c[T.{c}]"] + on * params[f"c[T.{c}]:flag"]) for c in "bc")
    mixed = results.average_predictions(shop, at="mean", factors_at="proportions").frame
    assert mixed["effect"][0] == pytest.approx(np.exp(eta), rel=1e-10)
    slope = results.margins(shop, "x", at="mean", factors_at="proportions").frame
    assert slope["effect"][0] == pytest.approx(params["x"] * np.exp(eta), rel=1e-8)


def test_contrasts_of_levels(shop, counts):
    pairs = counts.margins(shop, "c", contrast="pairwise")
    assert list(pairs.frame["contrast"]) == ["b - a", "c - a", "c - b"]
    effect = pairs.frame["effect"]
    assert effect[2] == pytest.approx(effect[1] - effect[0], rel=1e-10)
    steps = counts.margins(shop, "c", contrast="sequential").frame
    np.testing.assert_allclose(steps["effect"], effect[[0, 2]], rtol=1e-12)
    other = glm("y ~ x + I(x ** 2) + np.log(z) + C(c, contr.treatment('b')) * x + flag", shop, "poisson", exposure="t",
                **TIGHT)
    assert list(other.margins(shop, "c").frame["contrast"]) == ["a - b", "c - b"]
    np.testing.assert_allclose(other.margins(shop, "c", contrast=("a", "c")).frame["se"], pairs.frame["se"][1],
                               rtol=1e-6)
    smooth = counts.margins(shop, "flag", discrete=None).frame["effect"][0]
    assert smooth == pytest.approx(counts.params["flag"] * shop.y.mean(), rel=1e-6)


@pytest.mark.parametrize("term",
                         ["bs(z, df=5)", "poly(z, 3)", "scale(z)", "np.sqrt(z)", "np.exp(-z)", "np.log(z - 0.0)"])
def test_smooth_terms(shop, term):
    data = shop.assign(z=np.r_[1e-7, shop.z.to_numpy()[1:]]) if "log" in term or "sqrt" in term else shop
    results = glm(f"y ~ {term}", data, "poisson", **TIGHT)
    inner = data[(data.z > data.z.quantile(0.02)) & (data.z < data.z.quantile(0.98))]
    h = 1e-4
    moved = results.margins(inner, "z", change=(-h, h)).frame["effect"][0] / (2 * h)
    assert results.margins(inner, "z").frame["effect"][0] == pytest.approx(moved, rel=1e-6)
    if "log" in term:
        exact = np.mean(results.predict(data) / data.z) * results.params.iloc[1]
        assert results.margins(data, "z").frame["effect"][0] == pytest.approx(exact, rel=1e-9)


def test_exact_quantiles_from_digests(monkeypatch, shop, counts):
    monkeypatch.setattr(survey, "LIMIT", 64)
    monkeypatch.setattr(survey, "POINTS", 16)
    data = dd.from_pandas(shop, npartitions=4)
    effects = counts.margins(data, "z", change="iqr")
    low, high = shop.z.quantile([0.25, 0.75])
    exact = counts.margins(shop, "z", contrast=(low, high)).frame
    np.testing.assert_allclose(effects.frame["effect"], exact["effect"], rtol=1e-12)


def test_aliased_columns_count_as_zero(shop):
    with pytest.warns(UserWarning, match="linear combinations"):
        results = glm("y ~ x + I(2 * x) + z", shop, "poisson", **TIGHT)
    plain = glm("y ~ x + z", shop, "poisson", **TIGHT)
    pd.testing.assert_frame_equal(results.margins(shop).frame, plain.margins(shop).frame, rtol=1e-6)


def test_tests_pictures_and_text(shop, counts):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    effects = counts.margins(shop, ["x", "z", "c"])
    assert effects.names == ["x", "z", "c[b - a]", "c[c - a]"]
    difference = effects.frame["effect"][0] - effects.frame["effect"][1]
    variance = effects.cov.loc["x", "x"] + effects.cov.loc["z", "z"] - 2 * effects.cov.loc["x", "z"]
    assert effects.wald_test("x = z").statistic == pytest.approx(difference ** 2 / variance, rel=1e-9)
    both = effects.wald_test("c[b - a] = 0, c[c - a] = 0")
    assert both.df == 2 and 0 <= both.pvalue <= 1
    assert "dY/dX" in repr(effects) and "<table" in effects._repr_html_()
    assert len(effects.plot().get_yticks()) == 4
    along = counts.average_predictions(shop, at={"x": list(np.linspace(0, 2, 5)), "c": ["a", "b"]})
    assert len(along.plot().lines) == 2
    matplotlib.pyplot.close("all")


def test_names_of_products():
    assert parse_product("I(x ** 2)") == ("x", "x") and parse_product("x:z") == ("x", "z")
    with pytest.raises(ValueError, match="whole powers"):
        parse_product("x**0.5")


# ---------------------------------------------------------------- bad input


@pytest.fixture(scope="module")
def still(shop):
    data = shop.assign(still=3.0, minus=-1.0)
    with pytest.warns(UserWarning, match="'still'"):
        return data, glm("y ~ x + I(x ** 2) + np.log(z) + c + still", data, "poisson", exposure="t")


@pytest.mark.parametrize("options,message", [
    (dict(variables="income"), "'income', which is not a base variable.*'x'"),
    (dict(variables="I(x ** 2)"), "column of the design"),
    (dict(variables="still", change="sd"), "it is 3 in every row"),
    (dict(variables="c", contrast=("a", "q")), "level 'q' of 'c'.*'a', 'b', 'c'"),
    (dict(at={"c": "q"}), "level 'q' of 'c'"),
    (dict(at={"z": -1.0}), "np.log.z.*not finite.*domain"),
    (dict(at={"z": np.inf}), "outside the domain"),
    (dict(at={"income": 1.0}), "'income'"),
    (dict(at="zero"), "'overall', 'mean', 'median'"),
    (dict(method="dxdy"), "method='dxdy'"),
    (dict(change="double"), "change='double'"),
    (dict(variables="c", method="eyex"), "'c' is a factor"),
    (dict(over="nowhere"), "no column 'nowhere'"),
    (dict(weights="minus"), "negative"),
    (dict(at="mean", over="g"), "one row for all groups"),
    (dict(contrast=(0.0, 1.0), change="sd"), "one of the two"),
])
def test_bad_requests(still, options, message):
    data, results = still
    with pytest.raises(ValueError, match=message):
        results.margins(data, **options)


def test_steps_have_no_derivative(shop):
    data = shop.assign(z=np.round(shop.z, 1))
    results = glm("y ~ I(1.0 * (z > 1.5))", data, "poisson")
    with pytest.raises(ValueError, match="no derivative in 'z'.*discrete change"):
        results.margins(data, "z")
    assert np.isfinite(results.margins(data, "z", contrast=(1.0, 2.0)).frame["effect"][0])


def test_bad_arrays():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    results = LogisticRegression().fit(X, (rng.random(60) < 0.5).astype(int)).results_
    with pytest.raises(ValueError, match="same columns"):
        results.margins(X[:, :1])
    with pytest.raises(ValueError, match="interactions= names the column 'q'"):
        results.margins(X, interactions={"x1": ("x0", "q")})
    with pytest.raises(ValueError, match="over='g' names a column"):
        results.margins(X, over="g")
    by_group = results.margins(X, "x0", over=np.repeat(["u", "v"], 30)).frame
    assert list(by_group["over"]) == ["u", "v"]


def test_benchmark_runs_small():
    table = margins.run(n_rows=4_000, n_files=2)
    assert (table["sweeps"] <= 3).all()


@pytest.mark.slow
def test_notebook_of_doctor_visits():
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.read(Path(__file__).parents[1] / "notebooks" / "doctor_visits.ipynb", as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()


@pytest.mark.parametrize("degree, df", [(3, 5), (3, 8), (2, 4)])
@pytest.mark.parametrize("chunks", [None, 7])
def test_effects_through_a_spline_reach_its_boundary_knots(degree, df, chunks):
    """bs() refuses values beyond the rows of the fit, the first and last of which lie on its boundary knots."""
    r = np.random.default_rng(0)
    frame = pd.DataFrame({"t": np.r_[1.0, 1.0, 5.0, r.uniform(1, 5, 197)], "z": r.normal(size=200)})
    frame["y"] = np.sin(frame["t"]) * frame["z"] + frame["z"]
    data = frame if chunks is None else dd.from_pandas(frame, npartitions=chunks)
    fit = lm(f"y ~ bs(t, df={df}, degree={degree}) * z", data)
    knots, params = next(iter(fit.spec.state.values()))["knots"], fit.params.to_numpy()
    plain, times_z = params[1:df + 1], params[df + 2:]
    slopes = [BSpline(np.array(knots), np.r_[0.0, b], degree).derivative() for b in (plain, times_z)]

    def truth(t, z):
        return slopes[0](t) + slopes[1](t) * z

    table = fit.margins(data, variables="t").frame
    assert table["effect"][0] == pytest.approx(truth(frame["t"], frame["z"]).mean(), rel=1e-8)
    for t in (1.0, 1.001, 3.0, 4.999, 5.0):
        effect = fit.margins(data, variables="t", at={"t": t}).frame["effect"][0]
        assert effect == pytest.approx(truth(t, frame["z"]).mean(), rel=1e-8)


def test_a_term_that_no_side_can_take_is_named():
    """A point of a user's function with no neighbours has no derivative."""
    frame = pd.DataFrame({"t": np.arange(40.0), "y": np.arange(40.0) ** 2})
    with pytest.raises(ValueError, match="cannot be evaluated on either side of t = 0"):
        lm("y ~ whole(t)", frame, context={"whole": whole}).margins(frame)


def whole(t):
    if (np.asarray(t) % 1).any():
        raise ValueError("only whole numbers")
    return t ** 2
