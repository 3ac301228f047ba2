"""Representatives: fixed points, exact cases, certificates, what leaves a block, and the goal of section 3.2."""

import json
import pickle
from pathlib import Path

import dask
import dask.array as da
import make_data
import numpy as np
import pandas as pd
import pytest
from representatives_goal import cases
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import (AliasWarning, GLMRegressor, LogisticRegression, RepresentativeGLM, SeparationWarning,
                         datasets, design, partitions, plotting)
from daskglm_rep.families import GLM
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.representatives import mean_rows
from daskglm_rep.kernels.survey import Pilot
from daskglm_rep.representatives.collection import guarded_survey
from daskglm_rep.representatives.methods import ITERATED, METHODS
from daskglm_rep.representatives.rounds import Rounds
from daskglm_rep.representatives.score_matching import _root, response_aided, score_block, score_matched

LOGIT = GLM.of("binomial")


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="module")
def logistic():
    """20,000 rows of four correlated columns, with the full fit."""
    X, y, _ = datasets.simulate_paper("mzNormal", 20_000, n_features=4, random_state=5)
    return X, y, LogisticRegression(tol=1e-10).fit(X, y).results_


def away(est, full):
    """Distance of the estimate from the full fit, in standard errors."""
    return np.abs((est.results_.params - full.params) / full.bse).max()


def fit(X, y, method, partition=partitions.EqualDepth(4), blocks=None, sample_weight=None, **how):
    how = {"min_block_size": 1} | how
    return RepresentativeGLM(representative=method, partition=partition, **how).fit(X, y, sample_weight, blocks=blocks)


# ---------------------------------------------------------------- outside truth


def test_reference_case():
    path = Path(make_data.__file__).parent / "cases" / "representative_logit_grid.json"
    case = json.loads(path.read_text())
    df = make_data.recipe_big_logit(**case["data"]["args"])
    X, y, want = df[["x0", "x1", "x2"]].to_numpy(), df["y"].to_numpy(), case["expected"]
    grid = partitions.EqualDepth(case["partition"]["q"])
    mean = fit(X, y, "mean", grid)
    assert mean.n_blocks_ == want["n_blocks"]
    np.testing.assert_allclose(mean.results_.params, want["mean_representative"], atol=1e-7)
    full = np.array(want["full_mle"])

    def rmse(est):
        return np.sqrt(((est.results_.params - full) ** 2).mean())

    assert rmse(mean) == pytest.approx(want["rmse_to_full"]["mr"], rel=1e-5)
    assert rmse(fit(X, y, "score-matching", grid)) < want["rmse_to_full"]["smr_T3"]
    assert rmse(fit(X, y, "moment-matched", grid)) < 1e-5


# ---------------------------------------------------------------- fixed points and exact cases


@pytest.mark.parametrize("method", ["response-aided", "corrected", "moment-matched", "calibrated"])
def test_rounds_end_at_the_maximum_likelihood_estimate(logistic, method):
    X, y, full = logistic
    est = fit(X, y, method, n_rounds="auto", tol=1e-6)
    assert est.converged_ and away(est, full) < 2e-6
    assert est.results_.deviance == pytest.approx(full.deviance, rel=1e-12)


@pytest.mark.parametrize("split", ["eta", "residual"])
def test_scores_match_block_by_block(logistic, split):
    X, y, full = logistic
    est = fit(X, y, "mean")
    prepared = est._prepared
    coef = prepared.collection.basis.standardised(full.params.to_numpy())
    parts = score_block(_block(X, y), prepared.plan, LOGIT, coef, split)
    built = score_matched(parts, LOGIT) if split == "eta" else response_aided(parts, LOGIT, coef)
    mu, nu, _ = mean_rows(LOGIT, built.Z @ coef)
    matched = (built.weight * nu * (built.y - mu))[:, None] * built.Z
    exact = parts.sums[:, -built.Z.shape[1]:]
    off = np.abs(matched - exact).max(axis=1) > 1e-8 * np.abs(exact).max()
    assert off.sum() <= built.n_fallbacks
    assert built.n_fallbacks < 0.2 * len(off)


def _block(X, y):
    return Block(X, y, np.ones(len(y)), np.zeros(len(y)))


def test_the_estimate_is_a_fixed_point_of_score_matching(logistic):
    X, y, full = logistic
    small, labels = X[:3000], y[:3000]
    est = fit(small, labels, "mean", partitions.KMeans(100, subset=3000))
    exact = LogisticRegression(tol=1e-12).fit(small, labels).results_
    p = est._prepared
    coef = p.collection.basis.standardised(exact.params.to_numpy())
    method, data = METHODS["response-aided"], design.build(small, labels)
    rounds = Rounds(data, p.plan, p.collection, LOGIT, LOGIT, method, 3000.0, 1e-9)
    moved = method.next(rounds, method.sweep(rounds, coef))
    np.testing.assert_allclose(moved, coef, rtol=1e-8)


@pytest.mark.parametrize("method", ["mean", "score-matching", "response-aided", "corrected", "moment-matched"])
def test_distinct_cells_are_exact(method):
    rng = np.random.default_rng(1)
    X = rng.integers(0, 3, (6000, 3)).astype(float)
    y = (rng.random(6000) < expit(X @ [0.5, -0.4, 0.2] - 0.3)).astype(float)
    full = LogisticRegression(tol=1e-12).fit(X, y).results_
    est = fit(X, y, method, partitions.Cells(), tol=1e-7)
    assert est.n_blocks_ == 27 and est.delta_ == 0.0
    assert away(est, full) < 1e-7


def test_one_row_a_block_is_exact():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(400, 2))
    y = (rng.random(400) < expit(X[:, 0])).astype(float)
    full = LogisticRegression(tol=1e-12).fit(X, y).results_
    for method in ("mean", "score-matching"):
        est = fit(X, y, method, partitions.Natural("x0"))
        assert est.n_blocks_ == 400 and away(est, full) < 1e-7


def test_response_aided_representatives_lie_in_their_hull(logistic):
    X, y, _ = logistic
    est = fit(X, y, "response-aided", partitions.KMeans(50, subset=2000))
    points = est.representatives_[["x0", "x1", "x2", "x3"]]
    assert est.history_["n_fallbacks"].max() == 0
    assert (points.min() >= X.min(axis=0)).all() and (points.max() <= X.max(axis=0)).all()
    np.testing.assert_allclose(est.representatives_["Intercept"], 1.0, rtol=1e-12)


def test_median_and_midpoint_are_what_they_say(logistic):
    X, y, _ = logistic
    X = X[:, :2]
    labels = (X[:, 0] > 0).astype(int) + 2 * (X[:, 1] > 0)
    natural = partitions.Natural()
    medians, middles = (fit(X, y, method, natural, labels).representatives_ for method in ("median", "midpoint"))
    for row, middle in zip(medians.to_numpy(), middles.to_numpy()):
        rows = X[labels == (row[3] > 0) + 2 * (row[4] > 0)]
        assert row[0] == len(rows)
        np.testing.assert_allclose(row[3:], np.median(rows, axis=0), atol=1e-6)
        np.testing.assert_allclose(middle[3:], 0.5 * (rows.min(axis=0) + rows.max(axis=0)), atol=1e-9)


def test_medians_of_few_rows_are_numpys(logistic):
    X, y, _ = logistic
    X, y, labels = X[:700], y[:700], np.arange(700) // 4                      # blocks of four: two middle values
    rows = fit(X, y, "median", partitions.Natural(), labels).representatives_[["x0", "x1", "x2", "x3"]].to_numpy()
    want = np.array([np.median(X[labels == g], axis=0) for g in range(175)])
    np.testing.assert_allclose(rows[np.lexsort(rows.T)], want[np.lexsort(want.T)], atol=1e-6)


@pytest.mark.parametrize("model", [LOGIT, GLM.of("poisson"), GLM.of("binomial", "probit")], ids=str)
def test_roots_are_those_of_a_thousand_times_finer_grid(model):
    """Also where two lie between neighbours of the grid: of all roots the one nearest the mean."""
    rng = np.random.default_rng(0)
    n = 300
    low = rng.uniform(-6, 5, n)
    high = low + rng.uniform(0.1, 8, n)
    y, near = rng.random(n), rng.uniform(low, high)

    def value(e, k):
        mu, nu, _ = mean_rows(model, e)
        return nu * (y[k] - mu) * e

    every = np.arange(n)
    grid = low + (high - low) * np.linspace(0, 1, 65 * 200)[:, None]
    values = np.array([value(g, every) for g in grid])
    peak = np.where(rng.random(n) < 0.5, values.max(axis=0), values.min(axis=0))
    target = peak * (1 - 10.0 ** rng.uniform(-7, -1, n))                      # just below an extremum: a pair of roots
    found, has_root = _root(model, y, target, low, high, near)
    crossing = (values[:-1] - target) * (values[1:] - target) <= 0
    for k in np.flatnonzero(crossing.any(axis=0)):
        roots = grid[:-1, k][crossing[:, k]]
        step = grid[1, k] - grid[0, k]
        assert has_root[k] and abs(found[k] - near[k]) <= np.abs(roots - near[k]).min() + 2 * step
        assert abs(value(found[[k]], np.array([k]))[0] - target[k]) < 1e-6 * (1 + abs(target[k]))


# ---------------------------------------------------------------- the goal, and the certificate


CASES = [("ueNormal", partitions.EqualDepth(4), None),
         ("nzNormal", partitions.KMeans(500, subset=10_000, max_iter=5), None),
         ("ueNormal", partitions.Natural(within=partitions.KMeans(50, max_iter=5)), 5_000)]


@pytest.mark.parametrize("least", [1, 10])
@pytest.mark.parametrize("setting, partition, chunk", CASES)
def test_one_calibrated_round_reaches_the_goal(setting, partition, chunk, least):
    X, y, _ = datasets.simulate_paper(setting, 60_000, random_state=4)
    full = LogisticRegression(tol=1e-10).fit(X, y).results_
    rows = (X, y) if chunk is None else (da.from_array(X, chunks=(chunk, 7)), da.from_array(y, chunks=chunk))
    est = fit(*rows, "calibrated", partition, n_rounds=2, tol=1e-12, min_block_size=least)
    truth = np.abs((est.coef_path_ - full.params.to_numpy()) / full.bse.to_numpy()).max(axis=1)
    assert truth[1] < 1e-2 and truth[2] < 1e-3
    np.testing.assert_allclose(est.history_["distance"][truth > 1e-7] / truth[truth > 1e-7], 1.0, atol=0.2)
    np.testing.assert_allclose(est.results_.bse, full.bse, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("setting", datasets.SETTINGS)
@pytest.mark.parametrize("seed", range(1, 6))
def test_every_setting_and_partition_reaches_the_goal_in_one_round(setting, seed):
    X, y, _ = datasets.simulate_paper(setting, 100_000, random_state=seed)
    full = LogisticRegression(tol=1e-10).fit(X, y).results_
    for name, partition, X_here, y_here in cases(X, y, 20_000):
        est = RepresentativeGLM(partition=partition, n_rounds=2, tol=1e-12).fit(X_here, y_here)
        truth = np.abs((est.coef_path_ - full.params.to_numpy()) / full.bse.to_numpy()).max(axis=1)
        assert truth[1] < 1e-2 and truth[2:].max(initial=0.0) < 1e-3, name
        seen = truth > 1e-7
        ratio = est.history_["distance"].to_numpy()[seen] / truth[seen]
        assert ((ratio > 0.8) & (ratio < 1.25)).all(), name


@pytest.mark.parametrize("columns", ["poisson", "t2", "Cauchy"])
def test_steep_slopes_and_heavy_tails(columns):
    rng = np.random.default_rng(1)
    if columns == "poisson":
        X = datasets.simulate_paper("mzNormal", 60_000, random_state=1)[0]
        y = rng.poisson(np.exp(X @ np.full(7, 0.5))).astype(float)
        family, full = "poisson", GLMRegressor("poisson", tol=1e-10)
    else:
        X = np.clip(rng.standard_t(2 if columns == "t2" else 1, size=(60_000, 5)), -1e4, 1e4)
        y = (rng.random(60_000) < expit((X @ np.full(5, 0.5)).clip(-700, 700))).astype(float)
        family, full = "binomial", GLMRegressor("binomial", tol=1e-10)
    full = full.fit(X, y).results_
    for partition in (partitions.KMeans(500, subset=10_000, max_iter=5), partitions.EqualDepth(4)):
        est = RepresentativeGLM(family, partition=partition, n_rounds=4).fit(X, y)
        truth = np.abs((est.coef_path_ - full.params.to_numpy()) / full.bse.to_numpy()).max(axis=1)
        assert truth[-1] < 1e-2 and len(truth) <= 5
        assert est.distance_to_mle_ == pytest.approx(truth[-1], rel=0.25, abs=1e-6)


def test_labels_of_a_fine_grid_do_as_well_as_the_grid():
    """14,000 blocks handed over as labels stay blocks, whatever the chunks."""
    X, y, _ = datasets.simulate_paper("T3", 60_000, random_state=11)
    full = LogisticRegression(tol=1e-10).fit(X, y).results_
    edges = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
    labels = sum(np.searchsorted(edges[:, j], X[:, j], side="right") * 4 ** j for j in range(7))
    est = fit(X, y, "moment-matched", partitions.Natural(), labels)
    assert est.n_blocks_ == np.unique(labels).size and est.n_parts_ < 1.05 * est.n_blocks_
    assert away(est, full) < 1e-3


def test_separated_columns_are_named():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5_000, 3))
    X[:, 2] = rng.random(5_000) < 0.05
    y = (rng.random(5_000) < expit(X[:, 0])).astype(float)
    y[X[:, 2] == 1] = 1.0
    with pytest.warns(SeparationWarning, match="'x2'"):
        est = fit(X, y, "calibrated", partitions.KMeans(50, subset=5_000), n_rounds="auto")
    assert not est.converged_ and est.distance_to_mle_ == np.inf


def test_the_number_of_parts_and_the_end_of_polish_are_the_user_s(logistic):
    X, y, full = logistic
    natural = partitions.Natural(within=partitions.KMeans(5))
    few, many = (fit(X, y, "calibrated", natural, n_parts=n).n_parts_ for n in (100, 600))
    assert 90 <= few <= 130 and 550 <= many <= 650
    rough, fine = (fit(X, y, "mean", partitions.KMeans(40, subset=2000), polish=True, tol=t) for t in (0.5, 1e-9))
    assert rough.n_iter_ < fine.n_iter_ and away(fine, full) < 1e-8




@pytest.mark.parametrize("setting, partition", [("ueNormal", partitions.EqualDepth(4)),
                                                ("nzNormal", partitions.KMeans(500, subset=10_000, max_iter=5))])
def test_moment_matched_reaches_the_goal_where_score_matching_stays(setting, partition):
    X, y, _ = datasets.simulate_paper(setting, 100_000, random_state=4)
    full = LogisticRegression(tol=1e-10).fit(X, y).results_
    ours = fit(X, y, "moment-matched", partition, tol=1e-9)
    assert away(ours, full) < 1e-2 and len(ours.history_) == 4
    published = fit(X, y, "score-matching", partition)
    assert away(published, full) > 0.1
    for est in (ours, published):
        truth = np.abs((est.coef_path_ - full.params.to_numpy()) / full.bse.to_numpy()).max(axis=1)
        seen = ~est.history_["rejected"] & (truth > 1e-7)
        np.testing.assert_allclose(est.history_["distance"][seen], truth[seen], rtol=0.35)


@pytest.mark.parametrize("method", ITERATED)
def test_no_method_ends_worse_than_it_began(method):
    X, y, _ = datasets.simulate_paper("ueNormal", 8_000, random_state=4)
    est = fit(X, y, method, partitions.KMeans(60, subset=4000, max_iter=5), n_rounds=5)
    accepted = est.history_.loc[~est.history_["rejected"], "deviance"]
    assert (accepted.diff().dropna() <= 1e-6).all()
    assert est.results_.deviance == accepted.iloc[-1]


def test_standard_errors_from_points(logistic):
    X, y, full = logistic
    est = fit(X, y, "moment-matched")
    np.testing.assert_allclose(est.results_.bse, full.bse, rtol=0.03)
    robust = fit(X, y, "moment-matched", cov_type="cluster").results_
    np.testing.assert_allclose(robust.bse, full.bse, rtol=0.25)
    assert "clusters" in robust.covariance.note


def test_polish_is_exact_within_four_rounds(logistic):
    X, y, full = logistic
    est = fit(X, y, "mean", partitions.KMeans(40, subset=2000), polish=True, tol=1e-6)
    assert away(est, full) < 1e-6 and est.n_iter_ <= 4 and est.converged_


def test_separated_rows_are_never_certified():
    X = np.random.default_rng(0).normal(size=(3000, 2))
    est = fit(X, (X[:, 0] > 0).astype(float), "moment-matched", partitions.KMeans(50, subset=1000), n_rounds="auto")
    assert not est.converged_


# ---------------------------------------------------------------- chunks, weights, offsets, input kinds


@pytest.mark.parametrize("method", ["mean", "score-matching", "moment-matched"])
def test_chunks_do_not_matter_for_merged_partitions(logistic, method):
    X, y, _ = logistic
    a, b = (fit(da.from_array(X, chunks=(n, 4)), da.from_array(y, chunks=n), method, n_rounds=1,
                partition=partitions.EqualDepth(3, subset=30_000)) for n in (20_000, 3_300))
    assert a.n_parts_ == b.n_parts_
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-7 if method == "score-matching" else 1e-9)
    assert len(b.audit_.query("content == 'collection'")) == 7


def test_weights_and_offsets():
    rng = np.random.default_rng(6)
    X, offset = rng.normal(size=(5000, 2)), 0.3 * rng.normal(size=5000)
    weight = rng.integers(0, 4, 5000).astype(float)
    y = rng.poisson(np.exp(X @ [0.3, -0.2] + offset)).astype(float)
    full = GLMRegressor("poisson", tol=1e-11).fit(X, y, sample_weight=weight, offset=offset).results_
    est = RepresentativeGLM("poisson", representative="moment-matched", partition=partitions.KMeans(60, subset=2000),
                            n_rounds="auto", tol=1e-7).fit(X, y, sample_weight=weight, offset=offset)
    assert away(est, full) < 1e-6
    repeated = np.repeat(np.arange(5000), weight.astype(int))
    a = RepresentativeGLM("poisson", representative="mean", partition=partitions.Natural()).fit(
        X, y, sample_weight=weight, offset=offset, blocks=np.arange(5000) % 50)
    b = RepresentativeGLM("poisson", representative="mean", partition=partitions.Natural()).fit(
        X[repeated], y[repeated], offset=offset[repeated], blocks=repeated % 50)
    np.testing.assert_allclose(a.coef_, b.coef_, rtol=1e-8)


def test_input_kinds_and_prediction(logistic):
    X, y, _ = logistic
    frame = pd.DataFrame(X, columns=list("abcd"))
    est = fit(frame, pd.Series(y, name="late"), "moment-matched", partitions.KMeans(40, subset=2000))
    assert list(est.results_.params.index) == ["Intercept", "a", "b", "c", "d"]
    assert {"weight", "y", "a", "d"} <= set(est.representatives_)
    assert est.representatives_["weight"].sum() == pytest.approx(20_000)
    assert isinstance(est.predict(da.from_array(X, chunks=(5000, 4))), da.Array)
    probability = expit(est.intercept_ + X @ est.coef_)
    np.testing.assert_allclose(est.predict_proba(frame)[:, 1], probability, rtol=1e-12)
    assert "Distance to optimum" in str(est.results_.summary())


# ---------------------------------------------------------------- localised data


@pytest.mark.parametrize("method", ["score-matching", "response-aided", "moment-matched"])
def test_guard_lets_no_small_part_leave(logistic, method):
    X, y, full = logistic
    data = da.from_array(X, chunks=(4000, 4)), da.from_array(y, chunks=4000)
    inside = partitions.Natural(within=partitions.EqualDepth(3))
    est = fit(*data, method, inside, min_block_size=15)
    assert est.block_sizes_.min() >= 15 and est.n_joined_ > 0
    assert est.distance_to_mle_ < (2.0 if method == "score-matching" else 0.5)
    rounds = est.audit_.query("round > 0").groupby("round")["bytes"].sum()
    if method == "moment-matched":
        assert (rounds == 5 * 8 * (5 + 4)).all()                            # a score and four numbers a block


def test_too_small_a_chunk_is_refused(logistic):
    X, y, _ = logistic
    with pytest.raises(ValueError, match="min_block_size"):
        fit(da.from_array(X[:105], chunks=((100, 5), 4)), da.from_array(y[:105], chunks=((100, 5),)), "mean",
            partitions.Natural(), min_block_size=10)
    with pytest.raises(ValueError, match="extremes"):
        fit(X, y, "median", min_block_size=10)


def test_a_guarded_subset_holds_no_row(logistic):
    X, y, _ = logistic
    pilot = guarded_survey(_block(X, y), LOGIT.family, Pilot(2000, 0.0, 2000, 0), 10, False).first.pilot[0]
    assert 50 <= pilot.n_rows <= 200 and not np.isin(pilot.X, X).any()


# ---------------------------------------------------------------- many models from one collection


def test_refit_and_its_certificate(logistic):
    X, y, _ = logistic
    est = fit(X, y, "moment-matched", partitions.KMeans(300, subset=5000, max_iter=5))
    fewer = est.refit(columns=["x0", "x2"])
    small = LogisticRegression(tol=1e-10).fit(X[:, [0, 2]], y).results_
    kept = fewer.results_.params.dropna()
    truth = np.abs((kept.to_numpy() - small.params.to_numpy()) / small.bse.to_numpy()).max()
    assert truth < 1.0 and np.isnan(fewer.distance_to_mle_)
    assert fewer.certify_on(X, y) == pytest.approx(truth, rel=0.2)
    assert fewer.coef_[1] == fewer.coef_[3] == 0.0
    with pytest.raises(ValueError, match="l1_ratio"):
        est.refit(alpha=0.1, l1_ratio=2)
    with pytest.raises(ValueError, match="no column"):
        est.refit(columns=["x9"])


def test_refits_know_their_deviance(logistic):
    """Nearly before, exactly after the certificate; the constant model's is known, so other links have one too."""
    X, y, full = logistic
    est = fit(X, y, "moment-matched", partitions.KMeans(300, subset=5000, max_iter=5))
    fewer, small = est.refit(columns=["x0", "x2"]), LogisticRegression().fit(X[:, [0, 2]], y).results_
    near = dict(abs=0.02 * (small.deviance - full.deviance))
    assert fewer.results_.deviance == pytest.approx(small.deviance, **near)
    assert est.results_.lr_test(fewer.results_).statistic == pytest.approx(small.deviance - full.deviance, **near)
    fewer.certify_on(X, y)
    assert 0.0 <= fewer.results_.deviance - small.deviance < 0.5
    probit = GLMRegressor("binomial", "probit").fit(X, y).results_
    assert est.refit(link="probit").results_.deviance == pytest.approx(probit.deviance, rel=2e-3)
    assert est.refit(columns=["x0", "x2"]).refit(columns="x0").coef_[2] == 0.0
    with pytest.raises(ValueError, match="left out"):
        fewer.refit(columns=["x1"])


@pytest.mark.parametrize("family, link", [("gaussian", "identity"), ("gamma", "log")])
def test_refits_know_their_dispersion(family, link):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(6_000, 3))
    mean = X @ [0.5, -0.3, 0.2]
    y = mean + rng.normal(size=6_000) if family == "gaussian" else rng.gamma(2.0, np.exp(mean) / 2.0)
    est = RepresentativeGLM(family, link, representative="moment-matched", partition=partitions.KMeans(200)).fit(X, y)
    small = GLMRegressor(family, link).fit(X[:, :2], y)
    refitted = est.refit(columns=["x0", "x1"])
    assert refitted.dispersion_ == pytest.approx(small.dispersion_, rel=0.03)
    np.testing.assert_allclose(refitted.results_.bse.dropna(), small.results_.bse, rtol=0.03)


def test_certificates_are_for_the_data_of_the_fit(logistic):
    X, y, _ = logistic
    frame = pd.DataFrame(X, columns=list("abcd"))
    est = fit(frame, y, "mean", partitions.KMeans(300, subset=5000, max_iter=5))
    for wrong, words in ((frame[["a", "b", "c"]], "feature names"), (frame[list("dcba")], "feature names"),
                         (frame.assign(a=frame["a"].where(frame.index != 3)), "column 'a'")):
        with pytest.raises(ValueError, match=words):
            est.certify_on(wrong, y)
    with pytest.raises(ValueError, match="20000 rows"):
        est.certify_on(frame[:100], y[:100])
    assert list(est.feature_names_in_) == list("abcd")


@pytest.mark.parametrize("alpha", [1e-3, 1e-2, 0.1])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
def test_penalty_path_from_one_collection(logistic, alpha, l1_ratio):
    X, y, _ = logistic
    est = fit(X, y, "moment-matched", partitions.KMeans(300, subset=5000, max_iter=5))
    rows = LogisticRegression(alpha=alpha, l1_ratio=l1_ratio).fit(X, y)
    refitted = est.refit(alpha=alpha, l1_ratio=l1_ratio)
    np.testing.assert_allclose(refitted.coef_, rows.coef_[0], atol=3e-3)
    np.testing.assert_array_equal(refitted.coef_ == 0, rows.coef_[0] == 0)
    with pytest.raises(ValueError, match="penalized"):
        refitted.certify_on(X, y)


def test_no_row_is_in_a_guarded_estimator():
    """Not as a centre, a cut point, or a part whose other rows have no weight."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(3_000, 4)), (rng.random(3_000) < 0.5).astype(float)
    A, b = da.from_array(X, chunks=(500, 4)), da.from_array(y, chunks=500)
    for within in (partitions.KMeans(600), partitions.EqualDepth(3)):
        est = fit(A, b, "moment-matched", partitions.Natural(within=within), min_block_size=10)
        stored, center = pickle.dumps(est), est._prepared.plan.layout.center
        assert not any(x.tobytes() in stored or (x - center).tobytes() in stored for x in X)
        inner = X[((X > X.min(axis=0)) & (X < X.max(axis=0))).all(axis=1)]      # the survey sends columns' extremes
        assert not any(v.tobytes() in stored for v in inner.ravel())
    weight = np.zeros(3_000)
    weight[::50] = 1.0
    est = fit(X, y, "mean", partitions.KMeans(4), min_block_size=10, sample_weight=weight)
    assert est.block_sizes_.min() >= 10


def test_blocks_are_counted_once_and_are_the_clusters(logistic):
    """Rows of a label share an effect: the intercept's error is that of 40 clusters, not of their 200 parts."""
    X, _, _ = logistic
    labels, rng = np.arange(len(X)) % 40, np.random.default_rng(0)
    y = (rng.random(len(X)) < expit(X @ [0.5, -0.5, 0.5, 0.0] + rng.normal(size=40)[labels])).astype(float)
    A, b, g = (da.from_array(a, chunks=(3_000,) + a.shape[1:]) for a in (X, y, labels))
    for method in ("mean", "moment-matched"):
        assert fit(A, b, method, partitions.Natural(), blocks=g).n_blocks_ == 40
    whole = fit(X, y, "moment-matched", partitions.Natural(within=partitions.KMeans(5)), cov_type="cluster",
                blocks=labels)
    cut = fit(A, b, "moment-matched", partitions.Natural(within=partitions.KMeans(5)), cov_type="cluster", blocks=g)
    rows = GLMRegressor("binomial", "logit", cov_type="cluster").fit(X, y, clusters=labels).results_
    parts = GLMRegressor("binomial", "logit", cov_type="cluster").fit(X, y, clusters=np.arange(len(X)) % 200).results_
    assert parts.bse.iloc[0] < 0.6 * rows.bse.iloc[0]
    for est in (whole, cut):
        np.testing.assert_allclose(est.results_.bse, rows.bse, rtol=0.05)


def test_grid_finer_than_the_rows_keeps_groups_of_neighbours(logistic):
    X, y, _ = logistic
    A, b = da.from_array(X, chunks=(500, 4)), da.from_array(y, chunks=500)
    est = fit(A, b, "moment-matched", partitions.EqualDepth(4), min_block_size=10)
    assert est.n_parts_ > 100 and est.block_sizes_.min() >= 10 and est.distance_to_mle_ < 1e-2


@pytest.mark.parametrize("method", ["mean", "corrected", "moment-matched"])
def test_too_few_blocks_and_far_estimates_are_told(logistic, method):
    X, y, _ = logistic
    A, b = da.from_array(X, chunks=(7_000, 4)), da.from_array(y, chunks=7_000)
    if method != "moment-matched":                       # 3 blocks, 5 coefficients; the other cuts its blocks
        with pytest.warns(AliasWarning, match="2 of 5"), pytest.warns(ConvergenceWarning, match="calibrated"):
            fit(A, b, method, partitions.Natural())
    with pytest.raises(ValueError, match="All responses are 1"):
        fit(X, np.ones(len(y)), method)


def test_without_a_certificate_the_deviance_is_estimated(logistic):
    X, y, _ = logistic
    how = dict(partition=partitions.KMeans(50, subset=5000, max_iter=5), n_rounds=1, tol=1e-12)
    quick, sure = (fit(X, y, "corrected", certify=c, **how) for c in (False, True))
    np.testing.assert_array_equal(quick.coef_, sure.coef_)
    assert np.isnan(quick.distance_to_mle_)
    assert quick.results_.deviance == pytest.approx(sure.results_.deviance, abs=0.5)


def test_columns_may_be_called_what_the_table_has():
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(500, 2)), columns=["weight", "y"])
    est = fit(X, (X["y"] > 0.3 * X["weight"] + np.sin(np.arange(500))).astype(float), "mean", partitions.KMeans(30))
    assert list(est.representatives_) == ["weight_", "y_", "Intercept", "weight", "y"]


def test_refit_of_the_same_model_is_the_fit(logistic):
    """The score's correction makes the rows' estimate the root, where the collection's own equation has another."""
    X, y, _ = logistic
    est = fit(X, y, "moment-matched", partitions.KMeans(50, subset=5000, max_iter=5), tol=1e-8, n_rounds=10)
    se = est.results_.bse.to_numpy()[1:]
    assert np.max(np.abs(est.refit().coef_ - est.coef_) / se) < 1e-6


@pytest.mark.parametrize("how, words", [
    (dict(representative="mode"), "choose one of"), (dict(n_rounds=-1), "n_rounds"),
    (dict(partition="kmeans"), "partitions"),
    (dict(min_block_size=0), "min_block_size"), (dict(tol=0.0), "tol"), (dict(cov_type="HC3"), "cov_type")])
def test_bad_parameters(logistic, how, words):
    with pytest.raises(ValueError, match=words):
        RepresentativeGLM(**how).fit(*logistic[:2])


def test_fewer_blocks_than_coefficients_is_told(logistic):
    X, y, _ = logistic
    with pytest.warns(AliasWarning, match="representatives"):
        RepresentativeGLM(representative="mean", partition=partitions.Natural()).fit(X, y, blocks=np.zeros(len(y), int))


@pytest.mark.slow
def test_mean_representatives_are_unbiased_in_linear_models():
    """Li & Yang, Theorem A.1: mean and covariance of the estimator."""
    rng, draws = np.random.default_rng(0), []
    X = rng.normal(size=(3000, 3))
    true = np.array([0.0, 0.5, 0.5, 0.5])
    for _ in range(300):
        y = true[0] + X @ true[1:] + rng.normal(size=3000)
        est = RepresentativeGLM("gaussian", None, representative="mean", partition=partitions.EqualDepth(3)).fit(X, y)
        draws.append(np.r_[est.intercept_, est.coef_])
    draws = np.array(draws)
    points = est.representatives_
    Z = points[["Intercept", "x0", "x1", "x2"]].to_numpy()
    covariance = np.linalg.inv((Z * points[["weight"]].to_numpy()).T @ Z)
    se = np.sqrt(np.diag(covariance) / 300)
    assert (np.abs(draws.mean(axis=0) - true) < 4 * se).all()
    np.testing.assert_allclose(draws.var(axis=0, ddof=1), np.diag(covariance), rtol=0.35)


def test_every_method_is_documented():
    assert all(method in RepresentativeGLM.__doc__ for method in METHODS)


def test_plots_draw_what_was_fitted(logistic):
    pytest.importorskip("matplotlib").use("Agg")
    X, y, _ = logistic
    ours, mean = (fit(X, y, m, partitions.KMeans(40, subset=2000)) for m in ("moment-matched", "mean"))
    ax = plotting.plot_representatives(ours, "x0", "x1", X[:500])
    assert len(ax.collections) == 2 and len(ax.collections[-1].get_offsets()) == len(ours.representatives_)
    ax = plotting.plot_rounds([ours, mean])
    np.testing.assert_allclose(ax.lines[0].get_ydata(), ours.history_["distance"])
    ax = plotting.plot_bytes([ours, mean])
    assert ax.lines[0].get_xdata()[-1] == ours.audit_["bytes"].sum()
    with pytest.raises(ValueError, match="no column"):
        plotting.plot_representatives(ours, "x7")
