"""Plain pages of Parquet files are read as Arrow reads them, to the last bit, and other pages are left to Arrow."""

import shutil

import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daskglm_rep import GLMClassifier
from daskglm_rep.plain_pages import PlainFile, stored_type

N = 3_000
KINDS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"]
PLAIN = {"compression": "none", "use_dictionary": False}
rng = np.random.default_rng(11)


def column(kind, n=N):
    if kind.startswith("float"):
        return np.r_[rng.normal(size=n - 4), np.nan, np.inf, -0.0, 5e-324].astype(kind)
    limits = np.iinfo(kind)
    inside = rng.integers(limits.min, limits.max, n - 2, dtype=kind, endpoint=True)
    return np.r_[inside, np.array([limits.min, limits.max], kind)]


def filled(path, at=0, row_groups=None, plain_path=None):
    """A column by plain pages, or None, and by Arrow."""
    with PlainFile(plain_path or path) as plain, pq.ParquetFile(path) as file:
        groups = range(file.num_row_groups) if row_groups is None else row_groups
        expected = file.read_row_groups(list(groups)).column(at).to_numpy()
        kind = file.schema_arrow.field(at).type
        out = np.empty(sum(file.metadata.row_group(i).num_rows for i in groups), kind.to_pandas_dtype())
        return out if plain.fill(file, groups, at, kind, out) else None, expected


WAYS = {"as it is": {}, "second version": {"data_page_version": "2.0"}, "small pages": {"data_page_size": 1 << 9},
        "row groups": {"row_group_size": 701}, "no statistics": {"write_statistics": False},
        "checksums": {"write_page_checksum": True}, "page index": {"write_page_index": True},
        "small pages, second version": {"data_page_size": 1 << 10, "data_page_version": "2.0"}}


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_plain_pages_are_read_as_arrow_reads_them(kind, way, nullable, tmp_path):
    values, path = column(kind), str(tmp_path / "a.parquet")
    schema = pa.schema([pa.field("a", pa.from_numpy_dtype(kind), nullable), pa.field("b", pa.int8())])
    pq.write_table(pa.table({"a": values, "b": np.arange(N) % 9}, schema), path, **PLAIN, **WAYS[way])
    found, expected = filled(path)
    assert found.dtype == values.dtype and found.tobytes() == values.tobytes() == expected.tobytes()
    if way == "row groups":
        found, expected = filled(path, row_groups=[3, 1])
        assert found.size and found.tobytes() == expected.tobytes()


def _of(values, **how):
    return pa.table({"a": values}), PLAIN | how


CODED = {
    "compressed": _of(column("float64"), compression="snappy"),
    "dictionary": _of(rng.integers(0, 9, N), use_dictionary=True),
    "dictionary and then plain": _of(rng.normal(size=N), use_dictionary=True, dictionary_pagesize_limit=4096),
    "split bytes": _of(column("float64"), column_encoding={"a": "BYTE_STREAM_SPLIT"}),
    "differences": _of(column("int64"), column_encoding={"a": "DELTA_BINARY_PACKED"}),
    "bits": _of(rng.random(N) < 0.5),
    "halves": _of(rng.normal(size=N).astype("f2")),
    "a gap": _of(pa.array([*range(N - 2), None, 7], pa.int64())),
    "a gap, second version": _of(pa.array([*range(N - 2), None, 7], pa.int64()), data_page_version="2.0"),
    "gaps alone": _of(pa.array([None] * N, pa.float64())),
}


@pytest.mark.parametrize("way", CODED)
def test_other_pages_are_left_to_arrow(way, tmp_path):
    table, how = CODED[way]
    pq.write_table(table, tmp_path / "a.parquet", data_page_size=1 << 12, **how)
    assert filled(str(tmp_path / "a.parquet"))[0] is None


@pytest.mark.parametrize("version", ["1.0", "2.4"])
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_old_files(kind, version, tmp_path):
    """Which store unsigned numbers of four bytes in eight."""
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"a": column(kind)}), path, **PLAIN, version=version)
    found, expected = filled(path)
    assert found is None or found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def test_columns_beside_nested_ones_are_left_to_arrow(tmp_path):
    table = pa.table({"n": [{"u": 1.0, "v": 2.0}] * 50, "a": np.arange(50.0)})
    pq.write_table(table, tmp_path / "a.parquet", **PLAIN)
    assert filled(str(tmp_path / "a.parquet"), at=1)[0] is None
    assert stored_type(pa.decimal128(9, 2)) is stored_type(pa.timestamp("us")) is stored_type(pa.string()) is None


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_damaged_header_never_gives_other_numbers(version, tmp_path):
    whole, damaged, values = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet"), rng.normal(size=400)
    pq.write_table(pa.table({"a": values}), whole, **PLAIN, data_page_version=version)
    content = open(whole, "rb").read()
    begin = content.find(values.tobytes())
    for at in range(4, begin):
        for byte in {0, 1, 127, 128, 255, content[at] ^ 1, content[at] ^ 16}:
            with open(damaged, "wb") as file:
                file.write(content[:at] + bytes([byte]) + content[at + 1:])
            found = filled(whole, plain_path=damaged)[0]
            assert found is None or np.array_equal(found, values)


def test_a_file_that_ends_early_is_told(tmp_path):
    whole, short = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
    pq.write_table(pa.table({"a": rng.normal(size=400)}), whole, **PLAIN)
    for n in (0, 3, 10, 60):
        with open(short, "wb") as file:
            file.write(open(whole, "rb").read()[:n])
        assert filled(whole, plain_path=short)[0] is None
    with open(short, "wb") as file:
        file.write(open(whole, "rb").read()[:2_000])
    with pytest.raises(OSError, match="b.parquet cannot be read to the end of a page"):
        filled(whole, plain_path=short)


def test_a_file_that_was_replaced_is_another(tmp_path):
    path, other = str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")
    pq.write_table(pa.table({"a": np.arange(9.0)}), path, **PLAIN)
    shutil.copy(path, other)
    with PlainFile(path) as plain:
        assert plain.is_at(path)
        shutil.move(other, path)
        assert not plain.is_at(path)


@pytest.mark.parametrize("mixed", [False, True])
def test_fits_of_plain_files_need_no_decoding(mixed, tmp_path, monkeypatch):
    X = rng.normal(size=(N, 3))
    y = (rng.random(N) < 1 / (1 + np.exp(-X[:, 0]))).astype("i1")
    table = pa.table({"a": X[:, 0], "b": X[:, 1].astype("f4"), "c": (X[:, 2] * 9).astype("i4"), "y": y})
    for i in range(3):
        how = {"compression": "zstd"} if mixed and i == 1 else PLAIN
        pq.write_table(table.slice(i * 1000, 1000), tmp_path / f"{i}.parquet", row_group_size=300, **how)
    expected = GLMClassifier().fit(table.select(["a", "b", "c"]).to_pandas(), y)
    if not mixed:
        monkeypatch.setattr(pq.ParquetFile, "read_row_groups", None)
    for how in ({}, {"blocksize": "1GiB", "aggregate_files": True}):
        frame = dd.read_parquet(sorted(map(str, tmp_path.glob("*"))), **how)
        found = GLMClassifier().fit(frame[["a", "b", "c"]], frame["y"])
        assert found.coef_ == pytest.approx(expected.coef_, rel=1e-9)
