"""Printed tables say what is modelled and by which covariance, in every markup; models stand side by side."""

import io
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.iolib.summary2 import summary_col

import daskglm_rep as dg

N = 600


def sample():
    r = np.random.default_rng(16)
    f = pd.DataFrame(r.normal(size=(N, 2)), columns=["x1", "x_2"])
    f["vote"] = np.where(f.x1 + r.logistic(size=N) > 0, "yes", "no")
    f["party"] = r.choice(["a & b", "c", "d<e"], N)
    f["firm"] = r.integers(0, 45, N)
    f["counts"] = r.negative_binomial(2, 2 / (2 + np.exp(0.3 * f.x1)), N).astype(float)
    f["number"] = f.x1 + r.normal(size=N)
    return f


F = sample()


@pytest.fixture(scope="module")
def fits():
    return {"votes": dg.logit("vote ~ x1 + x_2", F, clusters="firm"),
            "parties": dg.mnlogit("party ~ x1", F, cov_type="HC1"),
            "counts": dg.glm("counts ~ x1 + C(party)", F, family=dg.families.NegativeBinomial("estimate")),
            "numbers": dg.lm("number ~ x1", F),
            "lasso": dg.GLMRegressor(alpha=0.2, l1_ratio=1.0).fit(F[["x1", "x_2"]], F["number"]).results_}


@pytest.mark.parametrize("name, words", [
    ("votes", ["P(vote = 'yes')", "Clusters 45", "Correction G/(G-1) (n-1)/(n-k)"]),
    ("parties", ["Response party", "Baseline 'a & b'", "Correction n/(n-k)"]),
    ("counts", ["Alpha", "Alpha std err", "Response counts"]),
    ("numbers", ["R-squared", "Dispersion"]),
    ("lasso", ["The fit is penalized", "1 of 3 coefficients are exactly zero"])])
def test_the_summary_says_what_it_is_of(fits, name, words):
    text = re.sub(" +", " ", str(fits[name].summary()))
    assert not [word for word in words if word not in text]


def test_labels_are_shown_without_numpy():
    fit = dg.LogisticRegression().fit(F[["x1"]], (F["x1"] > F["number"]).astype(float)).results_
    assert "P(y = 1)" in str(fit.summary())


def html_rows(text):
    tree = ElementTree.fromstring(text)
    return [[["".join(cell.itertext()) for cell in row] for row in table.iter("tr")] for table in tree.iter("table")]


@pytest.mark.parametrize("name", ["votes", "parties", "counts", "numbers", "lasso"])
def test_every_markup_holds_the_same_table(fits, name):
    summary, frame = fits[name].summary(), fits[name].summary_frame()
    top, table = html_rows(summary.as_html())
    assert top == [list(row) for row in summary._halves()] and fits[name]._repr_html_() == summary.as_html()
    assert len(table) == len(frame) + 1 and len({len(row) for row in table}) == 1
    latex = [line for line in summary.as_latex().split("\n") if line.endswith(r"\\")][-len(table):]
    cells = [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in latex]
    plain = [[c.replace(r"\&", "&").replace(r"\_", "_").replace(r"\textless{}", "<") for c in row] for row in cells]
    assert plain == table
    markdown = [line for line in summary.as_markdown().split("\n") if line.startswith("|")]
    assert [[re.sub(r"\\(.)", r"\1", c.strip()) for c in line[1:-1].split(" | ")]
            for line in markdown[:1] + markdown[2:]] == table
    again = pd.read_csv(io.StringIO(summary.as_csv()))
    np.testing.assert_array_equal(again[frame.columns], frame)
    assert summary.as_text() == str(summary)


@pytest.mark.parametrize("name, word, theirs", [
    ("votes", "odds ratio", lambda: smf.logit("v ~ x1 + x_2", F.assign(v=(F.vote == "yes") * 1.0)).fit(
        disp=0, cov_type="cluster", cov_kwds={"groups": F.firm})),
    ("counts", "rate ratio", lambda: smf.negativebinomial("counts ~ x1 + C(party)", F).fit(disp=0, maxiter=200))])
def test_ratios_and_their_intervals(fits, name, word, theirs):
    theirs, fit = theirs(), fits[name]
    ours = fit.summary_frame(alpha=0.1, exponentiate=True)
    names = [n for n in theirs.params.index if n != "alpha"]
    params, limits = theirs.params[names], np.exp(theirs.conf_int(alpha=0.1).loc[names])
    ours = ours.loc[names]
    rtol = 1e-4
    np.testing.assert_allclose(ours[word], np.exp(params), rtol=rtol)
    if name == "votes":                                       # their negative binomial's errors count alpha's
        np.testing.assert_allclose(ours[["ci_lower", "ci_upper"]], limits, rtol=rtol)
        np.testing.assert_allclose(ours["std err"], np.exp(params) * theirs.bse[names], rtol=rtol)
    np.testing.assert_array_equal(ours["pvalue"], fit.pvalues.loc[names])
    assert word in str(fit.summary(exponentiate=True))


def test_no_ratio_where_there_is_none(fits):
    with pytest.raises(ValueError, match="log, logit or cloglog"):
        fits["numbers"].summary_frame(exponentiate=True)
    probit = dg.GLMClassifier("probit").fit(F[["x1"]], F["vote"]).results_
    with pytest.raises(ValueError, match="binomial, probit"):
        dg.compare([fits["votes"], probit], exponentiate=True)


# ---------------------------------------------------------------- side by side


def test_side_by_side_is_statsmodels_summary_col():
    formulas = ["number ~ x1", "number ~ x1 + x_2"]
    theirs = summary_col([smf.ols(f, F).fit() for f in formulas], stars=True, float_format="%.4f").tables[0]
    ours = dg.compare([dg.lm(f, F, tol=1e-10) for f in formulas], stars=(0.1, 0.05, 0.01))
    table = ours._table()
    for label in ("Intercept", "x1", "x_2"):
        at, there = list(table.index).index(label), list(theirs.index).index(label)
        for column in range(2):
            for below in range(2):
                assert table.iloc[at + below, column].strip() == theirs.iloc[there + below, column].strip()


def test_comparison_of_different_models(fits):
    found = dg.compare({"votes": fits["votes"], "parties": fits["parties"], "lasso": fits["lasso"]}, below="interval")
    assert list(found.frame.index[:5]) == ["Intercept", "x1", "x_2", "c:Intercept", "c:x1"]
    np.testing.assert_array_equal(found.frame["votes"].dropna()[["coef", "std err", "statistic", "pvalue"]],
                                  fits["votes"].summary_frame().iloc[:, :4])
    text = str(found)
    assert "*" not in text and "95 % intervals in brackets." in text and "Baseline" in text and "NaN" not in text
    assert len({len(row) for row in html_rows(found._repr_html_())[0]}) == 1
    assert found.as_latex().count(r"\midrule") == 2
    again = pd.read_csv(io.StringIO(found.as_csv()), header=[0, 1], index_col=0)
    np.testing.assert_array_equal(again, found.frame)


def test_aliased_coefficients_are_told_from_absent_ones():
    with pytest.warns(dg.AliasWarning):
        both = dg.lm("number ~ x1 + I(2 * x1)", F)
    table = dg.compare([both, dg.lm("number ~ x1", F)], below=None)._table()
    assert list(table.loc["I(2 * x1)"]) == ["NaN", ""]


def test_estimators_and_one_model(fits):
    est = dg.LinearRegression().fit(F[["x1"]], F["number"])
    assert "(1)" in str(dg.compare(est)) and "own" in str(dg.compare([est], names=["own"]))
    np.testing.assert_allclose(dg.compare([est]).frame["(1)"]["coef"], fits["numbers"].params, rtol=1e-9)


@pytest.mark.parametrize("models, options, words", [
    ([], {}, "got none"), (["fit"], {}, "got a str"), ("votes", {"names": ["a", "b"]}, "one heading"),
    ("votes", {"below": "se"}, "below='se'")])
def test_what_cannot_be_compared(fits, models, options, words):
    with pytest.raises(ValueError, match=words):
        dg.compare(fits[models] if models == "votes" else models, **options)


def test_tests_and_contrasts_are_tables_in_jupyter(fits):
    test = fits["votes"].wald_test("x1 = x_2")
    assert html_rows(test._repr_html_())[0][1][:2] == ["Wald", "x1 = x_2"] and str(test).startswith("Wald test of x1")
    assert len(html_rows(fits["votes"].t_test("x1 = x_2")._repr_html_())[0]) == 2
    assert len(html_rows(fits["parties"].margins(F)._repr_html_())[0]) == 4


def test_markdown_shows_odd_names_as_they_are():
    names = ["<b>bold</b>", "new\nline", "a*b*c", "_x_", "a|b", "plain_name", "back\\slash", "$x$"]
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(50, len(names))), columns=names)
    lines = dg.LinearRegression().fit(X, X.sum(axis=1) + X.index % 3).results_.summary().as_markdown().split("\n")
    shown = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")][3:]
    assert shown == [r"\<b\>bold\</b\>", "new line", r"a\*b\*c", r"\_x\_", r"a\|b", "plain_name", r"back\\slash",
                     r"\$x\$"]
