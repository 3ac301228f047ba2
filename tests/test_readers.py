"""Tables of polars, Arrow, duckdb, xarray, records and CSV give the fit of pandas; only the columns used are read."""

import decimal

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import xarray as xr

import daskglm_rep as dg
from daskglm_rep import readers

pl = pytest.importorskip("polars")
duckdb = pytest.importorskip("duckdb")

N = 300
FORMULA = "visits ~ age * C(plan) + free"


def sample():
    r = np.random.default_rng(8)
    frame = pd.DataFrame({"age": r.normal(40, 9, N).round(1), "plan": r.choice(list("abc"), N),
                          "free": r.random(N) < 0.3, "years": r.uniform(0.5, 2, N).round(3), "unused": r.normal(size=N),
                          "clinic": r.integers(0, 12, N)})
    mean = frame["years"] * np.exp(0.02 * frame["age"] - 1 + 0.4 * (frame["plan"] == "b") + 0.2 * frame["free"])
    return frame.assign(visits=r.poisson(mean))


F = sample()


def fit(data, **options):
    return dg.glm(FORMULA, data, "poisson", exposure="years", clusters="clinic", **options)


@pytest.fixture(scope="module")
def truth():
    return fit(F)


def csv_files(folder, suffix=".csv", sep=","):
    for number, rows in enumerate(np.array_split(np.arange(N), 3)):
        F.iloc[rows].to_csv(folder / f"part{number}{suffix}", index=False, sep=sep)
    return folder


KINDS = {
    "polars": lambda folder: pl.from_pandas(F),
    "polars, lazy": lambda folder: pl.from_pandas(F).lazy().filter(pl.col("years") > 0),
    "polars, Parquet": lambda folder: [F.to_parquet(folder / "f.parquet"), pl.scan_parquet(folder / "f.parquet")][1],
    "polars categories": lambda folder: pl.from_pandas(F).with_columns(pl.col("plan").cast(pl.Categorical)),
    "pyarrow": lambda folder: pa.Table.from_pandas(F, preserve_index=False),
    "duckdb": lambda folder: duckdb.connect().from_arrow(pa.Table.from_pandas(F, preserve_index=False)),
    "records": lambda folder: F.astype({"plan": object}).to_records(index=False),
    "columns": lambda folder: {name: F[name].to_numpy() for name in F},
    "CSV": lambda folder: csv_files(folder) / "*.csv",
    "folder of CSV": csv_files,
    "list of CSV": lambda folder: sorted(csv_files(folder).glob("*.csv")),
    "semicolons": lambda folder: csv_files(folder, ".csv", ";"),
    "tabs, compressed": lambda folder: csv_files(folder, ".tsv.gz", "\t"),
    "Dataset": lambda folder: xr.Dataset.from_dataframe(F),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_table_gives_the_fit_of_pandas(kind, truth, tmp_path):
    data = KINDS[kind](tmp_path)
    results = fit(data)
    pd.testing.assert_series_equal(results.params, truth.params, rtol=1e-9, atol=1e-12)
    pd.testing.assert_series_equal(results.bse, truth.bse, rtol=1e-9)
    np.testing.assert_allclose(np.asarray(truth.predict(data)), truth.predict(F), rtol=1e-12)
    np.testing.assert_allclose(truth.get_prediction(data).se, truth.get_prediction(F).se, rtol=1e-9)
    pd.testing.assert_frame_equal(truth.margins(data, "age").frame, truth.margins(F, "age").frame, rtol=1e-9)


def test_large_texts_are_read_in_blocks(truth, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CSV_BYTES", 0)
    table = readers.open_table(csv_files(tmp_path))
    assert isinstance(table, dd.DataFrame) and table.npartitions == 3
    np.testing.assert_allclose(fit(table).params, truth.params, rtol=1e-9)


def test_predictions_are_of_the_table_s_kind(truth):
    arrow = pa.Table.from_pandas(F, preserve_index=False)
    means = truth.predict(pl.from_pandas(F))
    assert isinstance(means, pl.Series) and means.to_numpy() == pytest.approx(truth.predict(F).to_numpy(), rel=1e-12)
    assert isinstance(truth.predict(arrow), pa.ChunkedArray)
    classes = dg.mnlogit("plan ~ age", F).predict(pl.from_pandas(F))
    assert isinstance(classes, pl.DataFrame) and classes.columns == list("abc")


def test_only_the_columns_used_are_read(truth):
    seen = []
    watched = pl.from_pandas(F).lazy().with_columns(
        pl.col("unused").map_batches(lambda c: seen.append(1) or c, return_dtype=pl.Float64))
    fit(watched)
    assert not seen


def test_estimators_take_queries_and_datasets():
    X, y = F[["age", "years"]], F["visits"]
    truth = dg.PoissonRegressor().fit(X, y)
    ds = xr.Dataset.from_dataframe(X)
    for given in (pl.from_pandas(X), pl.from_pandas(X).lazy(), pa.Table.from_pandas(X, preserve_index=False), ds,
                  ds.chunk(index=100), duckdb.connect().from_arrow(pa.Table.from_pandas(X, preserve_index=False))):
        fitted = dg.PoissonRegressor().fit(given, y)
        assert list(fitted.results_.params.index) == ["Intercept", "age", "years"]
        np.testing.assert_allclose(fitted.coef_, truth.coef_, rtol=1e-9)
        np.testing.assert_allclose(fitted.predict(given), truth.predict(X), rtol=1e-9)
        np.testing.assert_allclose(fitted.results_.get_prediction(given).se, truth.results_.get_prediction(X).se,
                                   rtol=1e-6)
    assert isinstance(truth.predict(ds), xr.DataArray) and truth.predict(ds.chunk(index=100)).chunks == ((100,) * 3,)
    with pytest.raises(ValueError, match=r"X is a Dataset over the dimensions lat, lon: .* stack them first"):
        truth.predict(xr.Dataset({"age": (("lat", "lon"), np.ones((2, 2)))}))


# ---------------------------------------------------------------- types of columns


def test_decimals_are_numbers():
    worth = [decimal.Decimal(f"{v:.2f}") for v in F["age"]]
    data = F.assign(worth=worth)
    truth = dg.lm("visits ~ age", F.assign(age=F["age"].round(2)))
    for given in (data, pl.from_pandas(F).with_columns(worth=pl.Series(worth)), data.assign(worth=[None, *worth[1:]])):
        got = dg.lm("visits ~ worth", given)
        assert list(got.params.index) == ["Intercept", "worth"]
    np.testing.assert_allclose(dg.lm("visits ~ worth", data).params, truth.params, rtol=1e-9)
    np.testing.assert_allclose(dg.lm("visits ~ np.log(worth)", data).params, dg.lm("visits ~ np.log(age)", F).params,
                               rtol=1e-9)
    results = dg.lm("visits ~ worth", data)
    np.testing.assert_allclose(results.predict(data), truth.predict(F), rtol=1e-9)


def test_decimals_of_a_lazy_frame_are_told():
    with dask.config.set({"dataframe.convert-string": False}):
        data = dd.from_pandas(F.assign(worth=[decimal.Decimal(f"{v:.2f}") for v in F["age"]]), npartitions=2)
    with pytest.raises(ValueError, match=r"worth is a column of objects \(Decimal\), not of numbers: convert it"):
        dg.lm("visits ~ worth", data)


@pytest.mark.parametrize("gap", [False, True])
def test_nullable_booleans_are_numbers_and_labels(gap):
    kept = F.iloc[1:] if gap else F
    for given in (F.assign(free=F["free"].astype("boolean").mask((F.index == 0) & gap)),
                  pl.from_pandas(F.assign(free=F["free"].astype("boolean").mask((F.index == 0) & gap)))):
        pd.testing.assert_series_equal(dg.lm("visits ~ free", given).params,
                                       dg.lm("visits ~ free", kept.astype({"free": float})).params, rtol=1e-9)
        pd.testing.assert_series_equal(dg.logit("free ~ age", given).params, dg.logit("free ~ age", kept).params,
                                       rtol=1e-9)
    model = dg.LogisticRegression().fit(kept[["age"]], kept["free"].astype("boolean"))
    assert model.classes_.tolist() == [False, True] and model.predict(kept[["age"]]).dtype == bool
    whole = dg.LogisticRegression().fit(kept[["age"]], (kept["visits"] % 3).astype("Int64"))
    assert whole.classes_.dtype == np.int64


def test_times_are_told_what_to_do():
    data = F.assign(when=pd.date_range("2026-01-01", periods=N), took=pd.to_timedelta(np.arange(N), unit="D"))
    with pytest.raises(ValueError, match=r"'when' holds times \(datetime64.*use the time since a date"):
        dg.lm("visits ~ when", data)
    with pytest.raises(ValueError, match=r"'took' holds durations .*divide them by a unit"):
        dg.lm("visits ~ took", data)
    with pytest.raises(ValueError, match=r"'when' holds times"):
        dg.lm("when ~ age", data)
    with pytest.raises(ValueError, match=r"Column 'when' holds times"):
        dg.LinearRegression().fit(data[["age", "when"]], data["visits"])
    days = dg.lm("visits ~ I((when - np.datetime64('2026-01-01')) / np.timedelta64(1, 'D'))", data)
    assert days.params.iloc[1] == pytest.approx(dg.lm("visits ~ i", F.assign(i=np.arange(N))).params["i"], rel=1e-9)


# ---------------------------------------------------------------- what cannot be read


def test_a_folder_of_several_data_sets_is_refused(tmp_path):
    (tmp_path / "old").mkdir()
    F.to_parquet(tmp_path / "now.parquet")
    F[["age", "visits"]].to_parquet(tmp_path / "old" / "a.parquet")
    F[["visits", "age"]].to_parquet(tmp_path / "old" / "b.parquet")
    with pytest.raises(ValueError, match=r"data mixes 2 data sets, whose columns differ: \S*now.parquet \(1 file: "
                                         r"age, .*old/\*.parquet \(2 files: age, visits\)\. Name the files of one"):
        dg.lm("visits ~ age", tmp_path)
    assert dg.lm("visits ~ age", tmp_path / "old").nobs == 2 * N
    F.to_csv(tmp_path / "old" / "c.csv")
    with pytest.raises(ValueError, match="data mixes 1 CSV files and 2 others"):
        dg.lm("visits ~ age", tmp_path / "old")


def test_files_that_are_none_are_told(tmp_path):
    (tmp_path / "ragged.csv").write_text("age,visits\n1,2\n3,4,5,6\n4,3\n")
    with pytest.raises(ValueError, match="Expected 2 fields in line 3, saw 4"):
        dg.lm("visits ~ age", tmp_path / "ragged.csv")
    (tmp_path / "ragged.csv").unlink()
    with pytest.raises(ValueError, match="cannot be read as Parquet: .*Protocol not known") as told:
        dg.lm("visits ~ age", "nosuch://bucket/rows.parquet")
    assert "\n" not in str(told.value)
    with pytest.raises(FileNotFoundError, match="no Parquet or CSV file at .*nowhere.csv"):
        dg.lm("visits ~ age", tmp_path / "nowhere.csv")
    with pytest.raises(FileNotFoundError, match="no Parquet or CSV file at"):
        dg.lm("visits ~ age", tmp_path)
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match="broken.parquet cannot be read as a Parquet file"):
        dg.lm("visits ~ age", tmp_path)
    with pytest.raises(ValueError, match="formula must be a text .*, got DataFrame; data comes second"):
        dg.lm(F, "visits ~ age")
    with pytest.raises(ValueError, match="data is 'visits ~ age', which reads as a formula"):
        dg.lm("visits ~ age", "visits ~ age")
    with pytest.raises(ValueError, match="data is a scipy.csr_matrix: a formula needs named columns"):
        import scipy.sparse
        dg.lm("visits ~ age", scipy.sparse.csr_matrix(np.eye(3)))


# ---------------------------------------------------------------- columns beside a table


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrays", "dask", "Dataset"])
def test_roles_may_be_columns_of_their_own(kind, truth):
    rest = F.drop(columns=["years", "clinic"])
    data, given = {
        "pandas": lambda: (rest, lambda c: F[c]),
        "polars": lambda: (pl.from_pandas(rest), lambda c: pl.from_pandas(F)[c]),
        "arrays": lambda: (rest, lambda c: F[c].to_numpy()),
        "dask": lambda: (lambda f: (f, lambda c: f[c]))(dd.from_pandas(F, npartitions=3)),
        "Dataset": lambda: (xr.Dataset.from_dataframe(rest), lambda c: xr.Dataset.from_dataframe(F)[c]),
    }[kind]()
    results = dg.glm(FORMULA, data, "poisson", exposure=given("years"), clusters=given("clinic"))
    pd.testing.assert_series_equal(results.params, truth.params, rtol=1e-9, atol=1e-12)
    pd.testing.assert_series_equal(results.bse, truth.bse, rtol=1e-9)
    weighted = dg.lm("visits ~ age", data, weights=given("years"))
    np.testing.assert_allclose(weighted.params, dg.lm("visits ~ age", F, weights="years").params, rtol=1e-9)
    pd.testing.assert_frame_equal(results.margins(data, "age", exposure=given("years")).frame,
                                  truth.margins(F, "age").frame, rtol=1e-9)
    with pytest.raises(ValueError, match="The fit was given its exposure beside data, .* the same way, exposure="):
        results.margins(data, "age")
    with pytest.raises(ValueError, match="offset or exposure: add it, or pass offset="):
        np.asarray(results.predict(data))


def test_roles_given_beside_a_later_covariance():
    plain = dg.lm("visits ~ age", F)
    named = plain.with_covariance("cluster", F, clusters="clinic")
    given = plain.with_covariance("cluster", F.drop(columns="clinic"), clusters=F["clinic"])
    np.testing.assert_allclose(given.bse, named.bse, rtol=1e-12)
    two = dg.lm("visits ~ age", F, clusters=F[["clinic", "plan"]])
    np.testing.assert_allclose(two.bse, dg.lm("visits ~ age", F, clusters=["clinic", "plan"]).bse, rtol=1e-12)
    weights = F["years"].tolist(), F[["years"]].to_numpy(), "years"
    assert np.ptp([dg.lm("visits ~ age", F, weights=w).params for w in weights], axis=0) == pytest.approx(0.0)
    mixed = dg.lm("visits ~ age", F, clusters=["clinic", F["plan"]])
    np.testing.assert_allclose(mixed.bse, two.bse, rtol=1e-12)


@pytest.mark.parametrize("roles, words", [
    ({"weights": 2.0}, "weights must be the name of a column of data, or a Series or array .*, got a float"),
    ({"weights": F["years"].iloc[:5]}, "data has 300 rows and weights has 5: give one value a row"),
    ({"clusters": F["clinic"].iloc[::-1]}, "clusters has the row labels of X in another order"),
    ({"clusters": ["clinic", "plan", "free"]}, "clusters must name one column of data, or two .*, got 3"),
    ({"clusters": F["clinic"].tolist()}, "clusters must be the name of a column of data, or a Series or array"),
    ({"offset": "np.log(years)"}, r"data has no column 'np.log\(years\)'.*compute it first"),
])
def test_roles_that_do_not_fit_are_told_shortly(roles, words):
    with pytest.raises(ValueError, match=words) as told:
        dg.lm("visits ~ age", F, **roles)
    assert len(str(told.value)) < 300


def test_roles_beside_lazy_rows_are_lazy():
    lazy = dd.from_pandas(F, npartitions=2)
    with pytest.raises(ValueError, match="data is a dask DataFrame, so weights must be the name .* dask Series made"):
        dg.lm("visits ~ age", lazy, weights=F["years"])
    with pytest.raises(ValueError, match="data is a Dataset, so weights must be"):
        dg.lm("visits ~ age", xr.Dataset.from_dataframe(F), weights=F["years"])
    with pytest.raises(ValueError, match="weights has other coordinates than data"):
        dg.lm("visits ~ age", xr.Dataset.from_dataframe(F), weights=xr.Dataset.from_dataframe(F.iloc[5:])["years"])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint32", "UInt8", "int8[pyarrow]", "uint16[pyarrow]", "float32"])
@pytest.mark.parametrize("lazy", [False, True])
def test_narrow_numbers_are_computed_with_64_bits(dtype, lazy):
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"q": rng.integers(0, 100, 300), "r": rng.integers(0, 100, 300)})
    frame["y"] = rng.normal(size=300) + frame.q / 50
    narrow = frame.astype({"q": dtype, "r": dtype})
    narrow = dd.from_pandas(narrow, npartitions=2) if lazy else narrow
    for formula in ["y ~ I(q ** 2) + I(q - r)", "y ~ log(q + 1)", "I(q * r) ~ r"]:
        ours, truth = dg.lm(formula, narrow).params, dg.lm(formula, frame).params
        np.testing.assert_allclose(ours, truth, rtol=1e-9)


def test_columns_of_one_name_are_told():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=["y", "x", "x"])
    for data in (frame, dd.from_pandas(frame, npartitions=2)):
        with pytest.raises(ValueError, match="data has 2 columns called 'x': give each a name of its own"):
            dg.lm("y ~ x", data)
    assert len(dg.lm("y ~ 1", frame).params) == 1
