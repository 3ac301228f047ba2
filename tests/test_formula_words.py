"""What people write in formulas out of habit: backticks, powers, R's functions. Right, or told."""

import re
import warnings

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import daskglm_rep as dg

N = 400
ODD = ["my col", "x:z", "1st", "it's", "class", "price ($)", "a+b", "ünder"]


def sample():
    r = np.random.default_rng(21)
    frame = pd.DataFrame(r.normal(size=(N, len(ODD))), columns=ODD).abs()
    return frame.assign(x=r.normal(size=N), y=r.normal(size=N) + frame["my col"], g=r.choice(list("uvw"), N))


F = sample()


@pytest.mark.parametrize("lazy", [False, True], ids=["pandas", "dask"])
def test_any_name_stands_in_backticks(lazy):
    data = dd.from_pandas(F, npartitions=3) if lazy else F
    text = "y ~ " + " + ".join(f"`{name}`" for name in ODD)
    results = dg.lm(text, data)
    assert list(results.params.index) == ["Intercept", *ODD]
    truth = np.linalg.lstsq(np.c_[np.ones(N), F[ODD]], F["y"], rcond=None)[0]
    np.testing.assert_allclose(results.params, truth, rtol=1e-9)
    np.testing.assert_allclose(np.asarray(results.predict(data)), np.c_[np.ones(N), F[ODD]] @ truth, rtol=1e-9)
    assert set(results.margins(data).frame["variable"]) == set(ODD)
    assert results.wald_test("my col = 0").statistic == pytest.approx(results.tvalues["my col"] ** 2)


@pytest.mark.parametrize("term, plain", [
    ("`my col`:x", "a:x"), ("np.log(`my col`)", "np.log(a)"), ("scale(`my col`)", "scale(a)"),
    ("bs(`my col`, df=4)", "bs(a, df=4)"), ("C(`g:h`) * `my col`", "C(b) * a"), ("I(`my col` ** 2)", "I(a ** 2)"),
    ("bs(np.log(`my col`), df=4)", "bs(np.log(a), df=4)"), ("Q('my col')", "a")])
def test_backticks_within_terms(term, plain):
    data = F.assign(a=F["my col"], b=F["g"], **{"g:h": F["g"]})
    np.testing.assert_allclose(dg.lm(f"y ~ {term}", data).params, dg.lm(f"y ~ {plain}", data).params, rtol=1e-9)


def test_the_response_stands_in_backticks():
    results = dg.lm("`a+b` ~ x", F)
    np.testing.assert_allclose(results.params, dg.lm("r ~ x", F.assign(r=F["a+b"])).params, rtol=1e-12)


@pytest.mark.parametrize("power, told", [
    ("x**2", r"x\*\*2 in the formula .* is x alone.* write I\(x \*\* 2\)"),
    ("x ^ 3", r"x\^3 in the formula .* write I\(x \*\* 3\)"),
    ("`my col`^2", r"my col\^2"), ("np.abs(x)**2", r"np.abs\(x\)\*\*2")])
def test_powers_of_terms_are_told(power, told):
    with pytest.warns(dg.FormulaWarning, match=told) as warned:
        results = dg.lm(f"y ~ x + {power}", F)
    assert len(warned) == 1 and warned[0].filename == __file__ and len(results.params) <= 3


@pytest.mark.parametrize("text", ["y ~ (x + g)**2", "y ~ I(x**2)", "y ~ x + I(x ** 2) + x:g", "I(y ** 2) ~ x",
                                  "y ~ (x + g + `my col`)^2"])
def test_powers_that_are_meant_are_silent(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error", dg.FormulaWarning)
        ours = dg.lm(text, F)
    theirs = smf.ols(text.replace("`my col`", "Q('my col')").replace("^", "**"), F).fit()
    np.testing.assert_allclose(np.sort(ours.params), np.sort(theirs.params), rtol=1e-8)


@pytest.mark.parametrize("text, where", [
    ("y ~ x + offset(np.log(x))", "offset='log_w'; or exposure='w', whose logarithm is taken"),
    ("y ~ x + exposure(x)", "exposure='w'"),
    ("cbind(x, y) ~ g", "weights='trials'"),
    ("y ~ s(x)", "splines are bs(x, df=5)"),
    ("y ~ factor(g)", "write C()"),
    ("y ~ mine(x)", "context={'mine': mine}"),
    ("y ~ x + (1|g)", "clusters='g'"),
    ("y ~ np.log(`class`)", "a column called like a word of Python needs another name inside"),
    ("y ~ z", "its columns are 'my col'")])
def test_words_of_elsewhere_say_where_they_go(text, where):
    with pytest.raises(ValueError, match=re.escape(where)) as told:
        dg.lm(text, F)
    assert "\n" not in str(told.value)


def test_what_the_words_say_works():
    data = F.assign(w=F["1st"] + 0.1, log_w=np.log(F["1st"] + 0.1), n=np.arange(N) % 5 + 1.0)
    counts = data.assign(y=np.arange(N) % 4)
    a = dg.glm("y ~ x", counts, "poisson", exposure="w").params
    np.testing.assert_allclose(dg.glm("y ~ x", counts, "poisson", offset="log_w").params, a, rtol=1e-9)
    assert len(dg.lm("y ~ bs(x, df=5)", F).params) == 6 and len(dg.lm("y ~ 0 + cr(x, df=5)", F).params) == 5
    base = dg.lm("y ~ C(g, contr.treatment('v'))", F)
    assert not any("T.v" in name for name in base.params.index)
    assert len(dg.lm("y ~ mine(x)", F, context={"mine": np.tanh}).params) == 2
