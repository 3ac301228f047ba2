"""Every picture is drawn, says what it shows and keeps its labels inside; checks of a fit have the rows' numbers."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats

import daskglm_rep as dg
from daskglm_rep import plotting
from daskglm_rep.inference import fit_checks

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

N = 1200
LONG = "a rather long name of one level of a factor that nobody would shorten by hand"


def sample():
    r = np.random.default_rng(19)
    f = pd.DataFrame(r.normal(size=(N, 2)), columns=["a", "b"])
    f["vote"] = np.where(f.a + r.logistic(size=N) > 0, "yes", "no")
    f["g"] = r.choice([LONG, "s", "t"], N)
    f["h"] = r.choice(["left", "centre", "right"], N)
    f["counts"] = r.poisson(np.exp(0.3 * f.a)).astype(float)
    f["w"] = r.integers(0, 3, N).astype(float)
    f["rare"] = (r.uniform(size=N) < 0.02).astype(float)
    f["sep"] = np.where(f.rare == 1, 1.0, (f.a + r.logistic(size=N) > 0) * 1.0)
    return f


F = sample()


@pytest.fixture(scope="module")
def fits():
    with pytest.warns(dg.SeparationWarning):
        separated = dg.logit("sep ~ a + rare", F)
    with pytest.warns(dg.SeparationWarning):
        complete = dg.GLMRegressor("binomial").fit(F[["a"]], (F["a"] > 0) * 1.0).results_
    return {"vote": dg.logit("vote ~ a * b + C(g)", F), "classes": dg.mnlogit("h ~ a + b", F, baseline="left"),
            "counts": dg.glm("counts ~ a + b", F, family="poisson"), "separated": separated, "complete": complete,
            "lasso": dg.GLMRegressor(alpha=0.1, l1_ratio=1.0).fit(F[["a", "b"]], F["counts"]).results_,
            "numbers": dg.lm("b ~ a", F)}


GRID = list(np.linspace(-1, 1, 5))
PICTURES = {
    "coefficients": ("vote", lambda r: r.plot(), "change of the log-odds of P(vote = 'yes') per unit", "a"),
    "odds ratios": ("vote", lambda r: r.plot(exponentiate=True), "odds ratio of P(vote = 'yes') per unit", "a"),
    "classes": ("classes", lambda r: r.plot(per="sd"), "change of the log-odds against 'left' per standard", "a"),
    "rates": ("counts", lambda r: r.plot(exponentiate=True), "rate ratio of counts per unit", "a"),
    "logs": ("counts", lambda r: r.plot(), "change of the log of the mean of counts per unit", "a"),
    "numbers": ("numbers", lambda r: r.plot(intercept=True), "change of the mean of b per unit", "Intercept"),
    "no intervals": ("lasso", lambda r: r.plot(), "change of the mean of counts per unit", "a"),
    "effects": ("vote", lambda r: r.margins(F).plot(), "effect on P(vote = 'yes')", "a"),
    "ratios": ("counts", lambda r: r.avg_comparisons(F, comparison="ratio").plot(), "ratio of the mean of counts",
               "a: (x + 1/2) / (x - 1/2)"),
    "odds of effects": ("vote", lambda r: r.avg_comparisons(F, "a", comparison="lnor", exponentiate=True).plot(),
                        "odds ratio of P(vote = 'yes')", "a: odds (x + 1/2) / odds (x - 1/2)"),
    "elasticities": ("counts", lambda r: r.margins(F, method="eyex").plot(), "elasticity of the mean of counts",
                     "a: eY/eX"),
    "effects on classes": ("classes", lambda r: r.margins(F).plot(), "effect on the probability of the class of h",
                           "a"),
    "groups": ("vote", lambda r: r.average_predictions(F, over="g").plot(), "P(vote = 'yes')", "s"),
    "groups of classes": ("classes", lambda r: r.average_predictions(F, over="g").plot(),
                          "probability of the class of h", "s"),
    "along": ("counts", lambda r: r.average_predictions(F, at={"a": GRID}).plot(), "a", None),
    "along, classes": ("classes", lambda r: r.average_predictions(F, at={"a": GRID}).plot(), "a", None),
}


def texts_inside(figure):
    """Texts that leave the figure, after a drawing as `savefig` does it."""
    figure.canvas.draw()
    box, renderer = figure.bbox, figure.canvas.get_renderer()
    lost = []
    for ax in figure.axes:
        ticks = [label for label in ax.get_yticklabels() if min(ax.get_ylim()) <= label.get_position()[1] <= max(
            ax.get_ylim())]
        for text in [ax.xaxis.label, ax.yaxis.label, *ticks, *ax.texts]:
            if text.get_visible() and text.get_text():
                e = text.get_window_extent(renderer)
                if e.x0 < box.x0 - 1 or e.x1 > box.x1 + 1 or e.y0 < box.y0 - 1 or e.y1 > box.y1 + 1:
                    lost.append(text.get_text())
    return lost


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_say_what_they_show(fits, name):
    fit, draw, words, row = PICTURES[name]
    ax = draw(fits[fit])
    assert ax.get_xlabel().startswith(words)
    assert row is None or row in [label.get_text() for label in ax.get_yticklabels()]
    assert not texts_inside(ax.figure)
    matplotlib.pyplot.close(ax.figure)


def test_long_labels_break_into_lines():
    y = F["counts"].rename("the number of visits to a doctor within the three years of the experiment, by diary")
    ax = dg.PoissonRegressor().fit(F[["a"]].rename(columns={"a": LONG}), y).results_.plot()
    assert not texts_inside(ax.figure)
    assert "\n" in ax.get_yticklabels()[0].get_text()


def test_separated_coefficients_are_arrows(fits):
    ax = fits["separated"].plot()
    assert [t.get_text() for t in ax.texts] == ["infinite (separated)"] and ax.lines[-1].get_marker() == ">"
    assert np.abs(ax.get_xlim()).max() < 5
    ax = fits["complete"].plot()
    assert ax.get_xlim() == (-1.0, 1.0) and len(ax.texts) == 1
    assert fits["complete"].plot(exponentiate=True).get_xlim() == (0.1, 10.0)


def test_filled_dots_leave_out_what_means_nothing(fits):
    found = fits["counts"].avg_comparisons(F, comparison="ratio")
    drawn = found.plot().collections[-1].get_facecolors()
    clear = (found.frame["ci_lower"] > 1) | (found.frame["ci_upper"] < 1)
    assert list((drawn[:, :3] < 1).any(axis=1)) == list(clear)


def test_a_link_without_ratios_has_no_picture_of_them(fits):
    with pytest.raises(ValueError, match="gaussian"):
        fits["numbers"].plot(exponentiate=True)


# ---------------------------------------------------------------- whether the fit suits its rows


def slow_bins(y, mu, w, edges, variance):
    which = np.searchsorted(edges, mu, side="right")
    rows = []
    for b in range(edges.size + 1):
        at = (which == b) & (w > 0)
        W = w[at].sum()
        if at.any():
            rows.append([at.sum(), w[at] @ mu[at] / W, w[at] @ y[at] / W, np.sqrt(w[at] @ variance(mu[at])) / W])
    return np.array(rows)


def test_bins_are_those_of_the_rows():
    fit = dg.glm("counts ~ a + b", F, family="poisson", weights="w", weights_kind="frequency")
    checks = fit.fit_checks(F, n_bins=7)
    mu, w = fit.fittedvalues(F).to_numpy(), F["w"].to_numpy()
    edges = np.quantile(mu[w > 0], np.arange(1, 7) / 7)
    expected = slow_bins(F["counts"].to_numpy(), mu, w, edges, lambda m: m)
    np.testing.assert_allclose(checks.binned[["rows", "fitted", "observed", "se"]], expected, rtol=1e-9)
    assert checks.rows["drawn"].sum() == (w > 0).sum()


def test_chunks_do_not_matter_and_rows_are_numbered(fits):
    one, many = fits["vote"].fit_checks(F), fits["vote"].fit_checks(dd.from_pandas(F, npartitions=5))
    pd.testing.assert_frame_equal(one.binned, many.binned)
    pd.testing.assert_frame_equal(one.rows, many.rows)
    expected = fits["vote"].influence(F).table.compute()
    np.testing.assert_allclose(one.rows[list(fit_checks.COLUMNS)], expected[one.rows.index], rtol=1e-10)


def test_the_rows_that_weigh_most_are_kept(monkeypatch):
    monkeypatch.setattr(fit_checks, "N_ROWS", 40)
    monkeypatch.setattr(fit_checks, "N_LARGEST", 6)
    r = np.random.default_rng(3)
    X = da.from_array(r.standard_t(3, size=(N, 3)), chunks=(250, 3))
    y = da.from_array(r.normal(size=N), chunks=250)
    fit = dg.LinearRegression().fit(X, y).results_
    rows = fit.fit_checks(X, y).rows
    theirs = sm.OLS(y.compute(), sm.add_constant(X.compute())).fit().get_influence()
    largest = np.argsort(-theirs.cooks_distance[0])[:6]
    assert set(largest) <= set(rows.index) and 40 <= len(rows) <= 50
    np.testing.assert_allclose(rows["cooks_distance"], theirs.cooks_distance[0][rows.index], rtol=1e-7)
    np.testing.assert_allclose(rows["leverage"], theirs.hat_matrix_diag[rows.index], rtol=1e-7)


def test_limits_cover_what_they_say():
    r = np.random.default_rng(5)
    X = r.normal(size=(20_000, 2))
    y = r.poisson(np.exp(0.4 + X @ [0.5, -0.3])).astype(float)
    checks = dg.PoissonRegressor().fit(X, y).results_.fit_checks(X, y, n_bins=100)
    assert 0.85 < np.mean(np.abs(checks.binned["z"]) < 1.96) <= 1.0
    assert stats.kstest(checks.resid_quantile, "norm").pvalue > 0.01


@pytest.mark.parametrize("name", ["vote", "counts", "numbers"])
def test_four_pictures_of_a_fit(fits, name):
    checks = fits[name].fit_checks(F)
    axes = checks.plot()
    assert axes.shape == (2, 2) and not texts_inside(axes[0, 0].figure)
    assert [ax.get_title() for ax in axes.flat] == ["calibration", "residuals", "quantiles", "leverage"]
    for kind in ("calibration", "residuals", "quantiles", "leverage"):
        assert not texts_inside(checks.plot(kind).figure)
    dots = np.vstack([c.get_offsets() for c in plotting.plot_calibration(checks).collections[-2:]])
    table = checks.binned
    np.testing.assert_allclose(dots[np.argsort(dots[:, 0])], table.sort_values("fitted")[["fitted", "observed"]])
    matplotlib.pyplot.close("all")


def test_what_cannot_be_checked(fits):
    with pytest.raises(ValueError, match="one equation"):
        fits["classes"].fit_checks(F)
    with pytest.raises(ValueError, match="kind='roc'"):
        fits["vote"].fit_checks(F).plot("roc")
