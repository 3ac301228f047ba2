"""The data sets: what they look like, and that neither chunks nor laziness change a row."""

import sys

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from daskglm_rep.datasets import (
    AIRLINE_COEFFICIENTS,
    AIRLINE_COEFFICIENTS_INFLATED,
    MODELS,
    SETTINGS,
    STREAM_ROWS,
    affairs,
    airline_design,
    paper_coefficients,
    rand_hie,
    simulate_airline_months,
    simulate_paper,
)

N_ROWS = 2 * STREAM_ROWS + 137


def equicorrelated(variances):
    return np.full((len(variances),) * 2, 0.5) + np.diag(np.asarray(variances) - 0.5)


# mean and covariance of three covariates, from section 3.2
MOMENTS = {
    "mzNormal": (0.0, equicorrelated([1.0, 1.0, 1.0])),
    "nzNormal": (1.5, equicorrelated([1.0, 1.0, 1.0])),
    "ueNormal": (0.0, equicorrelated([1.0, 4.0, 9.0])),
    "mixNormal": (0.0, equicorrelated([1.0, 1.0, 1.0]) + 1.0),
    "EXP": (0.5, np.eye(3) / 4),
    "BETA": (0.5, np.eye(3) / 8),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("model", MODELS)
def test_shapes_and_support(setting, model):
    coef = 0.1 * np.arange(8)  # mild slopes keep the Poisson means of heavy tails in range
    X, y, true = simulate_paper(setting, 1_000, model=model, coef=coef)
    assert X.shape == (1_000, 7) and y.shape == (1_000,) and np.array_equal(true, coef)
    assert X.dtype == y.dtype == np.float64 and np.isfinite(X).all() and np.isfinite(y).all()
    if model == "poisson":
        assert (y >= 0).all() and np.array_equal(y, np.round(y))
    elif model != "linear":
        assert set(np.unique(y)) == {0.0, 1.0}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("model", MODELS)
def test_lazy_equals_eager(setting, model):
    coef = 0.1 * np.arange(8)
    X, y, _ = simulate_paper(setting, N_ROWS, model=model, coef=coef, random_state=3)
    lazy_X, lazy_y, _ = simulate_paper(setting, N_ROWS, model=model, coef=coef, random_state=3, chunks=4_321)
    assert isinstance(lazy_X, da.Array) and isinstance(lazy_y, da.Array)
    assert lazy_X.chunks[0] == lazy_y.chunks[0] and lazy_X.numblocks[1] == 1
    got_X, got_y = da.compute(lazy_X, lazy_y, scheduler="sync")
    assert np.array_equal(got_X, X) and np.array_equal(got_y, y)


@pytest.mark.parametrize("chunks", [1_000, STREAM_ROWS, (1, N_ROWS - 1), "auto"])
def test_chunks_change_no_row(chunks):
    X, y, _ = simulate_paper("T3", N_ROWS, model="linear", random_state=8)
    lazy_X, lazy_y, _ = simulate_paper("T3", N_ROWS, model="linear", random_state=8, chunks=chunks)
    got_X, got_y = da.compute(lazy_X, lazy_y, scheduler="sync")
    assert np.array_equal(got_X, X) and np.array_equal(got_y, y)


def test_a_longer_simulation_begins_with_the_shorter():
    X, y, _ = simulate_paper("mixNormal", 700, model="poisson")
    longer_X, longer_y, _ = simulate_paper("mixNormal", N_ROWS, model="poisson")
    assert np.array_equal(longer_X[:700], X) and np.array_equal(longer_y[:700], y)


def test_random_state():
    first, again, other = (simulate_paper("BETA", 500, random_state=s, chunks=200) for s in (5, 5, 6))
    assert first[0].name == again[0].name and first[1].name == again[1].name
    assert np.array_equal(first[0].compute(), again[0].compute())
    assert not np.array_equal(first[0].compute(), other[0].compute())
    assert not np.array_equal(first[1].compute(), other[1].compute())


def test_covariates_and_responses_draw_from_different_streams():
    X, y, _ = simulate_paper("mzNormal", 50_000, model="linear", coef=np.zeros(8))
    assert np.abs(np.corrcoef(X.T, y)[-1, :-1]).max() < 5 / np.sqrt(50_000)
    assert abs(y.mean()) < 5 / np.sqrt(50_000) and abs(y.var() - 1) < 5 * np.sqrt(2 / 50_000)


@pytest.mark.parametrize("setting", MOMENTS)
def test_moments_are_the_papers(setting):
    mean, covariance = MOMENTS[setting]
    X, _, _ = simulate_paper(setting, 100_000, n_features=3)
    scale = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((X.mean(axis=0) - mean) / scale, 0, atol=5 / np.sqrt(len(X)))
    np.testing.assert_allclose((np.cov(X.T) - covariance) / np.outer(scale, scale), 0, atol=0.03)


def test_t3_quartiles():
    X, _, _ = simulate_paper("T3", 100_000)  # the variance of a t with 3 degrees of freedom converges too slowly
    np.testing.assert_allclose(np.quantile(X, 0.75, axis=0), 0.0764892, rtol=0.03)


@pytest.mark.parametrize(
    ("model", "mean"),
    [
        ("logistic", lambda eta: 1 / (1 + np.exp(-eta))),
        ("cloglog", lambda eta: 1 - np.exp(-np.exp(eta))),
        ("poisson", np.exp),
        ("linear", lambda eta: eta),
    ],
)
def test_responses_have_the_models_mean(model, mean):
    X, y, coef = simulate_paper("BETA", 100_000, n_features=2, model=model, coef=[-0.5, 0.8, 0.3])
    mu = mean(coef[0] + X @ coef[1:])
    variance = {"linear": 1.0, "poisson": mu}.get(model, mu * (1 - mu))
    assert abs((y - mu).sum()) < 5 * np.sqrt(np.sum(variance * np.ones_like(mu)))
    assert abs(((y - mu) * X[:, 0]).sum()) < 5 * np.sqrt(np.sum(variance * X[:, 0] ** 2))


def test_poisson_responses_of_huge_means_are_counts_with_their_variance():
    X, y, _ = simulate_paper("BETA", 20_000, n_features=1, model="poisson", coef=[27.0, 0.0])
    mu = np.exp(27.0)
    assert np.isfinite(y).all() and np.array_equal(y, np.round(y))
    assert abs(y.mean() - mu) < 5 * np.sqrt(mu / len(y)) and abs(y.var() / mu - 1) < 5 * np.sqrt(2 / len(y))


def test_interactions_are_products_in_the_papers_order():
    X, _, _ = simulate_paper("mzNormal", 100, model="logistic-interactions")
    x1, x2, x3 = X[:, :3].T
    np.testing.assert_allclose(X[:, 3:], np.column_stack([x1 * x2, x1 * x3, x2 * x3, x1 * x2 * x3]), rtol=1e-14)
    with pytest.raises(ValueError, match=r"2\*\*d - 1"):
        simulate_paper("mzNormal", 100, n_features=6, model="logistic-interactions")


@pytest.mark.parametrize("wrong", [{"setting": "normal"}, {"model": "gamma"}, {"coef": [1.0, 2.0]}])
def test_bad_arguments(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        simulate_paper(**{"setting": "EXP", "n_rows": 10} | wrong)


def test_random_coefficients():
    coef = paper_coefficients(15, random_state=2)
    assert coef.shape == (16,) and np.linalg.norm(coef) == pytest.approx(3.0)
    assert np.array_equal(coef, paper_coefficients(15, random_state=2))


@pytest.fixture(scope="module")
def airline(tmp_path_factory):
    return simulate_airline_months(tmp_path_factory.mktemp("airline"), 12, 4_000, random_state=1)


def test_airline_months_read_back_as_fourteen_columns(airline):
    files = sorted(airline.glob("*.parquet"))
    assert [files[0].name, files[-1].name] == ["flights_1987_10.parquet", "flights_1988_09.parquet"]
    flights = dd.read_parquet(files)
    assert flights.npartitions == 12 and len(flights) == 48_000
    design = airline_design(flights.compute(scheduler="sync"))
    assert list(design) == list(AIRLINE_COEFFICIENTS) and design.shape == (48_000, 14)
    assert np.linalg.matrix_rank(design.to_numpy()) == 14
    for path in files:
        month = pd.read_parquet(path)
        assert len(month) == 4_000 and month["QUARTER"].nunique() == 1 and not month.isna().any(axis=None)


def test_airline_covariates_look_real(airline):
    flights = pd.read_parquet(airline)
    assert flights["DISTANCE"].between(8, 4983).all() and 500 < flights["DISTANCE"].mean() < 1_100
    assert set(flights["DAY_OF_WEEK"]) == set(range(1, 8)) and set(flights["DEP_TIME_BLK"]) == {1, 2, 3, 4}
    assert flights["DAY_OF_WEEK"].value_counts().idxmin() == 6
    assert 0.1 < flights["ArrDel15"].mean() < 0.3


def test_airline_responses_follow_the_oracle(airline):
    flights = pd.read_parquet(airline)
    design = airline_design(flights).to_numpy()
    mu = 1 / (1 + np.exp(-design @ np.array(list(AIRLINE_COEFFICIENTS.values()))))
    score = design.T @ (flights["ArrDel15"] - mu)
    assert np.all(np.abs(score) < 5 * np.sqrt((design**2 * (mu * (1 - mu))[:, None]).sum(axis=0)))


def test_airline_months_are_reproducible(airline, tmp_path):
    again = simulate_airline_months(tmp_path / "again", 2, 4_000, random_state=1)
    other = simulate_airline_months(tmp_path / "other", 2, 4_000, random_state=1, replicate=1)
    for path in sorted(again.glob("*.parquet")):
        first = pd.read_parquet(airline / path.name)
        pd.testing.assert_frame_equal(pd.read_parquet(path), first)
        replicate = pd.read_parquet(other / path.name)
        pd.testing.assert_frame_equal(replicate.drop(columns="ArrDel15"), first.drop(columns="ArrDel15"))
        assert not replicate["ArrDel15"].equals(first["ArrDel15"])
    with pytest.raises(FileExistsError, match="other Parquet files"):
        simulate_airline_months(tmp_path / "again", 1, 4_000)


def test_oracle_coefficients():
    assert len(AIRLINE_COEFFICIENTS) == 14
    changed = [k for k, v in AIRLINE_COEFFICIENTS_INFLATED.items() if v != AIRLINE_COEFFICIENTS[k]]
    assert changed == ["DISTANCE"]


@pytest.mark.parametrize(
    ("write", "survey", "n_rows", "n_files"),
    [(rand_hie, "randhie", 20_190, 8), (affairs, "fair", 6_366, 4)],
)
def test_surveys_keep_rows_and_order(tmp_path, write, survey, n_rows, n_files):
    sm = pytest.importorskip("statsmodels.datasets")
    folder = write(tmp_path / "survey", n_files=n_files)
    files = sorted(folder.glob("*.parquet"))
    assert len(files) == n_files
    stored = pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)
    original = getattr(sm, survey).load_pandas().data
    assert len(stored) == n_rows == len(original)
    assert len(dd.read_parquet(folder)) == n_rows
    if survey == "randhie":
        original = original.rename(columns={"mdvis": "docvis"})
    else:
        assert np.array_equal(stored.pop("affair"), original["affairs"] > 0)
    pd.testing.assert_frame_equal(stored, original)
    stamps = [path.stat().st_mtime_ns for path in files]
    assert write(folder, n_files=n_files) == folder
    assert stamps == [path.stat().st_mtime_ns for path in files]


def test_surveys_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(ImportError, match=r'pip install "daskglm_rep\[demo\]"'):
        rand_hie(tmp_path)
