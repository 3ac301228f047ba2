"""marginaleffects' words give marginaleffects' numbers (tests/reference/effects_by_marginaleffects.py made them)."""

import copy
import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import daskglm_rep as dg

HERE = Path(__file__).parent / "reference"
ANSWERS = json.loads((HERE / "effects_by_marginaleffects.json").read_text())
FAMILIES = {"Binomial": "binomial", "Poisson": "poisson"}
FITS = {}


def fit_of(answer):
    if answer["model"] not in FITS:
        frame = pd.read_csv(HERE / "data" / f"{answer['data']}.csv")
        if "race" in frame:
            frame["race"] = frame["race"].astype(str)
        family = FAMILIES[answer["family"]]
        FITS[answer["model"]] = frame, dg.glm(answer["formula"], frame, family=family, tol=1e-11)
    return FITS[answer["model"]]


def key(row, group):
    """What a row is of: contrasts of numbers are written otherwise, so only those of factors count."""
    contrast = re.sub(r"odds\((\w+)\)", r"odds \1", row.get("contrast") or "")
    return row.get("variable"), str(row.get(group)), "" if re.search(r"x|\+|sd", contrast) else contrast


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda a: f"{a['call']}, {a['options']}")
def test_numbers_are_those_of_marginaleffects(answer):
    frame, fit = fit_of(answer)
    theirs = answer["rows"]
    if answer["call"] == "hypotheses":
        found = fit.hypotheses(answer["options"])
        np.testing.assert_allclose(found.effect, theirs[0]["effect"], rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(found.sd, theirs[0]["se"], rtol=1e-4)
        return
    found = getattr(fit, answer["call"])(frame, **answer["options"]).frame
    group = answer["options"].get("by", "nothing")
    if answer["call"] == "avg_predictions":
        found = found.drop(columns=["variable", "contrast"])
    ours = {key(row, group): row for row in found.to_dict("records")}
    theirs = {key(row, "group"): row for row in theirs}
    assert ours.keys() == theirs.keys() and len(ours) == len(found)
    for which, row in theirs.items():
        np.testing.assert_allclose(ours[which]["effect"], row["effect"], rtol=2e-5, atol=1e-7, err_msg=str(which))
        rough = 1e-2 if answer["call"] == "avg_slopes" else 2e-3          # theirs are differences, of slopes twice
        np.testing.assert_allclose(ours[which]["se"], row["se"], rtol=rough, err_msg=str(which))


# ---------------------------------------------------------------- laws


@pytest.fixture(scope="module")
def birth():
    return fit_of(ANSWERS[0])


@pytest.mark.parametrize("comparison", ["ratio", "lift", "lnratio", "lnor"])
def test_gradients_of_comparisons_are_finite_differences(birth, comparison):
    frame, fit = birth
    asked = fit.avg_comparisons(frame, ["smoke", "age"], by="race", comparison=comparison)
    J, step = asked.jacobian.to_numpy(), 1e-6

    def moved(j, h):
        basis, point = fit.fitted.fit.objective.basis, fit.fitted.fit.point
        raw = fit.params.to_numpy().copy()
        raw[j] += h
        other = _with_coefficients(fit, basis.standardised(raw))
        assert other is not fit and point is fit.fitted.fit.point
        return other.avg_comparisons(frame, ["smoke", "age"], by="race", comparison=comparison).frame["effect"]

    for j, size in ((0, 1.0), (3, 0.01), (5, 1.0)):
        slope = (moved(j, step * size) - moved(j, -step * size)) / (2 * step * size)
        np.testing.assert_allclose(J[:, j], slope, rtol=1e-5, atol=1e-7)


def _with_coefficients(fit, coef):
    other = copy.copy(fit)
    point = dataclasses.replace(fit.fitted.fit.point, coef=coef)
    other.fitted = dataclasses.replace(fit.fitted, fit=dataclasses.replace(fit.fitted.fit, point=point))
    return other


def test_ratios_from_logarithms(birth):
    frame, fit = birth
    plain = fit.avg_comparisons(frame, "race", comparison="lnor").frame
    shown = fit.avg_comparisons(frame, "race", comparison="lnor", exponentiate=True)
    for column in ("effect", "ci_lower", "ci_upper"):
        np.testing.assert_allclose(shown.frame[column], np.exp(plain[column]))
    np.testing.assert_allclose(shown.frame["se"], np.exp(plain["effect"]) * plain["se"])
    np.testing.assert_array_equal(shown.frame["pvalue"], plain["pvalue"])
    assert list(shown.frame["contrast"]) == ["odds 2 / odds 1", "odds 3 / odds 1"] and shown.null == 1.0


def test_a_ratio_is_tested_against_one(birth):
    frame, fit = birth
    ratio = fit.avg_comparisons(frame, "smoke", comparison="ratio").frame.iloc[0]
    lift = fit.avg_comparisons(frame, "smoke", comparison="lift").frame.iloc[0]
    np.testing.assert_allclose([ratio["effect"] - 1, ratio["statistic"], ratio["pvalue"]],
                               [lift["effect"], lift["statistic"], lift["pvalue"]])


def test_ratios_of_a_log_link_are_rate_ratios():
    frame = pd.read_csv(HERE / "data" / "quine.csv")
    fit = dg.glm("Days ~ C(Eth) + C(Sex)", frame, family="poisson", tol=1e-11)
    found = fit.avg_comparisons(frame, comparison="lnratio", exponentiate=True).frame
    ours = fit.summary_frame(exponentiate=True).iloc[1:]
    np.testing.assert_allclose(found["effect"], ours["rate ratio"], rtol=1e-8)
    np.testing.assert_allclose(found[["ci_lower", "ci_upper"]], ours[["ci_lower", "ci_upper"]], rtol=1e-7)


def test_classes_have_ratios_too():
    frame = pd.read_csv(HERE / "data" / "birthwt.csv")
    fit = dg.mnlogit("race ~ age + smoke", frame)
    found = fit.avg_comparisons(frame, "smoke", comparison="ratio").frame
    low, high = (fit.predict(frame.assign(smoke=value)).mean() for value in (0, 1))
    np.testing.assert_allclose(found["effect"], high / low, rtol=1e-9)


def test_each_variable_has_its_own_change(birth):
    frame, fit = birth
    both = fit.margins(frame, ["age", "lwt", "race"], change={"age": (0, 5)}, contrast={"race": "pairwise"}).frame
    parts = [fit.margins(frame, "age", change=(0, 5)), fit.margins(frame, "lwt"),
             fit.margins(frame, "race", contrast="pairwise")]
    pd.testing.assert_frame_equal(both, pd.concat([p.frame for p in parts], ignore_index=True))


def test_hypotheses_on_effects(birth):
    frame, fit = birth
    effects = fit.avg_slopes(frame, ["age", "lwt"])
    linear, words = effects.wald_test("age = 2 * lwt"), effects.hypotheses("age - 2 * lwt = 0")
    np.testing.assert_allclose(words.tvalue[0] ** 2, linear.statistic, rtol=1e-9)


@pytest.mark.parametrize("options, words", [
    ({"comparison": "odds"}, "comparison='odds'"), ({"comparison": "ratio", "method": "eyex"}, "discrete change"),
    ({"exponentiate": True}, "lnratio"), ({"comparison": "ratio", "exponentiate": True}, "lnratio"),
    ({"change": {"age": "far"}}, "change='far'"), ({"comparison": "lnor", "contrast": {"age": (1, 2, 3)}}, "contrast")])
def test_what_cannot_be_compared(birth, options, words):
    with pytest.raises(ValueError, match=words):
        birth[1].margins(birth[0], **options)


def test_no_odds_of_means_above_one():
    frame = pd.read_csv(HERE / "data" / "quine.csv")
    fit = dg.glm("Days ~ C(Eth)", frame, family="poisson")
    with pytest.raises(ValueError, match="between 0 and 1.*difference"):
        fit.avg_comparisons(frame, comparison="lnor")
    line = dg.lm("Days ~ C(Eth)", frame.assign(Days=-frame["Days"]))
    with pytest.raises(ValueError, match="positive"):
        line.avg_comparisons(frame, comparison="ratio")


def test_groups_and_weights_by_either_name():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"x": rng.normal(size=200), "g": rng.choice(["a", "b"], 200), "w": rng.uniform(1, 3, 200)})
    frame["y"] = rng.poisson(np.exp(0.3 * frame.x))
    fit = dg.glm("y ~ x + g", frame, family="poisson")
    for words in (fit.avg_slopes, fit.avg_comparisons, fit.avg_predictions):
        theirs, ours = words(frame, by="g", wts="w").frame, words(frame, over="g", weights="w").frame
        pd.testing.assert_frame_equal(theirs, ours)
    changed = fit.avg_comparisons(frame, {"x": "sd"}, over="g", weights="w").frame
    pd.testing.assert_frame_equal(changed, fit.avg_comparisons(frame, {"x": "sd"}, by="g", wts="w").frame)
    with pytest.raises(ValueError, match="by= and over= are two names of one option"):
        fit.avg_slopes(frame, by="g", over="w")
    with pytest.raises(ValueError, match="got a Series: add labels as a column"):
        fit.avg_slopes(frame, by=frame.g)
    moved = fit.margins(frame, ["x"], change=(-1, 2)).frame
    assert moved.contrast.tolist() == ["(x + 2) - (x - 1)"]
