"""The paper's tables in their short form: a row of each kind, one replicate, against the printed values."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import airline
from benchmarks.paper.__main__ import rerun
from benchmarks.paper.methods import part_random_part_grid
from benchmarks.paper.published_rivals import default_sgd, support_rows
from benchmarks.paper.report import PUBLISHED, published_value, text
from benchmarks.paper.tables import STUDIES, simulate
from daskglm_rep.partitions import KMeans
from daskglm_rep.representative_models import RepresentativeGLM


def quiet(line):
    pass


@pytest.fixture(scope="module")
def table_4():
    return rerun(["4"], 100_000, 1, report=quiet)["4"].set_index(["against", "method"])


@pytest.mark.parametrize("method, factor", [("MR", 1.25), ("DC", 1.25), ("A-opt", 3.5)])
def test_errors_are_those_the_paper_prints(table_4, method, factor):
    ratio = table_4.loc[("full", method), "ratio"]
    assert 1 / factor < ratio < factor


def test_score_matching_is_no_worse_than_printed(table_4):
    assert table_4.loc[("full", "SMR"), "ratio"] < 1.3


def test_ours_reaches_the_full_fit(table_4):
    se = 1e3 * 0.0122
    assert table_4.loc[("full", "MMR"), "ours"] < 1e-2 * se
    assert table_4.loc[("true", "MMR"), "ours"] == pytest.approx(table_4.loc[("true", "full"), "ours"], rel=1e-2)


def test_side_by_side_text(table_4):
    shown = text(table_4.reset_index(), "Table 4")
    line = next(line for line in shown.splitlines() if " DC " in line and "full" in line.split())
    assert "6.80" in line and "0.4" in line


def test_partition_of_figure_2():
    X = np.random.default_rng(0).normal(size=(5_000, 3))
    assert np.unique(part_random_part_grid(X, 3, 0)).size == 64
    blocks = part_random_part_grid(X, 1, 0) // 16
    for b in range(4):
        inside = X[blocks == b, 0]
        assert abs(inside.size - 1_250) <= 1
        assert inside.max() <= X[blocks > b, 0].min(initial=np.inf)


def test_every_table_finds_its_printed_values():
    for name, study in STUDIES.items():
        for table, key in study.published.values() if name != "figure2" else ():
            printed = PUBLISHED[f"table_{table}"][key]
            assert set(study.cells) <= set(printed)
            row = next(iter(study.cells))
            assert published_value(table, key, row, next(iter(printed[row]))) is not None


def test_far_points_do_not_spoil_the_first_estimate():
    """Heavy tails put single rows at linear predictors of a hundred and more, with nothing separated."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40_000, 2))
    X[:3] = [[150.0, 90.0], [-120.0, -160.0], [200.0, 150.0]]
    y = (rng.random(40_000) < 1 / (1 + np.exp(-(X @ [0.5, 0.5]).clip(-700, 700)))).astype(float)
    est = RepresentativeGLM(representative="moment-matched", partition=KMeans(200), random_state=0,
                            min_block_size=1).fit(X, y)
    assert est.history_["distance"].iloc[0] < 5
    assert est.distance_to_mle_ < 1e-2


def test_airline_study_runs_small(tmp_path, capsys):
    airline.main(["--folder", str(tmp_path), "--months", "10", "--rows-per-month", "3000"])
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    away = {name: float(lines[name][3]) for name in ("MR", "SMR", "corrected", "moment-matched")}
    assert away["moment-matched"] < 1e-3 < away["MR"]
    assert away["SMR"] < away["MR"]


def test_default_sgd_stops_where_the_paper_s_did():
    """Table 2 prints 55.9 (14.8) for mzNormal; the rule stops after a share of the rows."""
    data = simulate(0, 200_000, "mzNormal")
    coef, n_rows = default_sgd(data.X, data.y, 0)
    assert n_rows < 20_000
    assert 15e-3 < np.sqrt(np.mean((coef[1:] - 0.5) ** 2)) < 110e-3


def test_support_points_spread_like_the_rows():
    X = np.random.default_rng(0).normal(size=(2_000, 2)) * [1.0, 10.0]
    rows = support_rows(X, 100, seed=0)
    assert np.unique(rows).size == 100
    np.testing.assert_allclose(X[rows].std(axis=0), X.std(axis=0), rtol=0.1)
    np.testing.assert_allclose(X[rows].mean(axis=0) / X.std(axis=0), 0.0, atol=0.15)


def test_replicates_are_kept_and_taken_up(tmp_path):
    records = tmp_path / "records.csv"
    first = rerun(["a4"], 10_000, 1, ["mzNormal"], records, report=quiet)["a4"]
    lines = []
    again = rerun(["a4"], 10_000, 1, ["mzNormal"], records, report=lines.append)["a4"]
    assert not lines
    pd.testing.assert_frame_equal(first, again)
