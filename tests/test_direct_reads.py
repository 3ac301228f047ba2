"""Columns of Parquet files go into blocks without a frame: where they may, with the frame's numbers to the last bit."""

import subprocess
import sys

import cloudpickle
import dask.dataframe as dd
import distributed  # noqa: F401  dask loses its settings where it is imported by read_parquet(filesystem=...)
import numpy as np
import pandas as pd
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from daskglm_rep import GLMClassifier, PoissonRegressor, ReadWarning, glm
from daskglm_rep.design import build
from daskglm_rep.direct_reads import DirectReader
from daskglm_rep.graphs import Reader
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.survey import spread
from daskglm_rep.models.glm import GLM
from daskglm_rep.parquet import quick
from daskglm_rep.recipes import Columns, encode, room

N, A_FILE = 2_400, 600
rng = np.random.default_rng(8)
F = pd.DataFrame({
    "a": rng.normal(size=N), "b": rng.normal(size=N).astype("f4"), "c": rng.integers(0, 9, N), "t": rng.random(N) < 0.4,
    "u": rng.integers(0, 200, N).astype("u1"), "w": rng.random(N) + 0.5, "g": rng.integers(0, 40, N).astype("i2"),
    "h": rng.integers(0, 6, N), "text": rng.choice(["left", "right"], N), "when": pd.Timestamp("2026-01-01"),
    "kind": pd.Categorical(rng.choice(["p", "q", "r"], N)),
    **{f"z{j}": rng.normal(size=N) for j in range(20)}})
F["y"] = (rng.random(N) < 1 / (1 + np.exp(-F.a))).astype("i1")
X, LOCAL = ["a", "b", "c", "t", "u"], pyarrow.fs.LocalFileSystem()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for i in range(N // A_FILE):
        F.iloc[i * A_FILE:(i + 1) * A_FILE].to_parquet(folder / f"part.{i}.parquet", row_group_size=250, index=i > 1)
    return sorted(map(str, folder.glob("*")))


WAYS = {
    "files": lambda files: dd.read_parquet(files),
    "row groups": lambda files: dd.read_parquet(files, split_row_groups=True),
    "runs of row groups": lambda files: dd.read_parquet(files, split_row_groups=2),
    "several files a chunk": lambda files: dd.read_parquet(files, blocksize="1GiB", aggregate_files=True),
    "Arrow's file system": lambda files: dd.read_parquet(files, filesystem=LOCAL),
    "repartitioned": lambda files: dd.read_parquet(files).repartition(npartitions=2),
    "assigned": lambda files: dd.read_parquet(files).assign(a=lambda f: f.c, b=lambda f: f.a),
    "an index": lambda files: dd.read_parquet(files, index="h"),
}


@pytest.mark.parametrize("columns", [X, ["a"], [f"z{j}" for j in range(20)], ["g", "c", "y"]], ids=len)
@pytest.mark.parametrize("way", WAYS)
def test_blocks_are_those_of_frames(way, columns, files):
    frame = WAYS[way](files)
    data = build(frame[columns], frame["y"], sample_weight=frame["w"], clusters=frame[["g", "c"]], raw_labels=True)
    assert len(data.source.readers) == data.n_blocks > 0
    for i, reader in enumerate(data.source.readers):
        assert type(reader) is DirectReader and type(reader()[0]) is Columns
        direct = data.prepare(cloudpickle.loads(cloudpickle.dumps(reader))(), i)
        framed = data.prepare(Reader.__call__(reader), i)
        for name in ("X", "y", "weight"):
            ours, theirs = getattr(direct, name), getattr(framed, name)
            assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
        assert np.array_equal(*(np.asarray(block.extra["clusters"]) for block in (direct, framed)))


def _fits(frame):
    return [GLMClassifier().fit(frame[X], frame["y"], sample_weight=frame["w"], clusters=frame["g"]).results_,
            PoissonRegressor().fit(frame[["a", "c"]], frame["u"], offset=frame["b"]).results_]


def test_fits_are_those_of_frames_to_the_last_bit(files, monkeypatch):
    direct = _fits(dd.read_parquet(files))
    with monkeypatch.context() as patch:
        patch.setattr(DirectReader, "__call__", Reader.__call__)
        framed = _fits(dd.read_parquet(files))
    for ours, theirs in zip(direct, framed):
        assert np.array_equal(ours.params, theirs.params) and np.array_equal(ours.bse, theirs.bse)
    local = GLMClassifier().fit(F[X].astype(float), F["y"], sample_weight=F["w"], clusters=F["g"]).results_
    for name in ("params", "bse"):
        assert np.asarray(getattr(direct[0], name)) == pytest.approx(np.asarray(getattr(local, name)), rel=1e-8)


NOT = {
    "a filter": lambda files: dd.read_parquet(files, filters=[("c", ">", 2)]),
    "a filter of Arrow's": lambda files: dd.read_parquet(files, filesystem=LOCAL, filters=[("c", ">", 2)]),
    "chosen rows": lambda files: (lambda f: f[f.c > 2])(dd.read_parquet(files)),
    "a function": lambda files: dd.read_parquet(files).map_partitions(lambda f: f),
    "an expression": lambda files: dd.read_parquet(files).assign(a=lambda f: f.a + 1),
    "memory": lambda files: dd.from_pandas(F, npartitions=3),
}


@pytest.mark.parametrize("way", NOT)
def test_more_than_columns_stays_with_the_tasks(way, files):
    frame = NOT[way](files)
    data = build(frame[["a", "c"]], frame["y"], raw_labels=True)
    assert not any(isinstance(reader, DirectReader) for reader in data.source.readers)
    rows = np.concatenate([np.column_stack([b.X, b.y]) for b in (data.prepare(reader(), i) for i, reader in
                                                                enumerate(data.source.readers))])
    assert np.array_equal(rows, frame[["a", "c", "y"]].compute(scheduler="threads").to_numpy(float))


@pytest.mark.parametrize("partition", ["hive", "y by hive"])
def test_columns_that_are_names_of_folders(partition, tmp_path):
    by = "g" if partition == "hive" else "y"
    dd.from_pandas(F[["a", "c", "g", "y"]], npartitions=2).to_parquet(tmp_path, partition_on=by)
    frame = dd.read_parquet(tmp_path)
    fitted = GLMClassifier().fit(frame[["a", "c"]], frame["y"].astype("int64"))
    assert fitted.coef_ == pytest.approx(GLMClassifier().fit(F[["a", "c"]], F["y"]).coef_, rel=1e-8)


def test_gaps_and_kinds_that_change_are_left_to_frames(tmp_path):
    wide = [F[["a", "c", "y"]].iloc[i * 500:(i + 1) * 500].copy() for i in range(4)]
    wide[1].loc[wide[1].index[7], "a"] = np.nan
    wide[2]["c"] = wide[2]["c"].astype("f8")
    wide[3]["c"] = wide[3]["c"].astype("Int64")
    for i, part in enumerate(wide):
        part.to_parquet(tmp_path / f"part.{i}.parquet")
    frame = dd.read_parquet(sorted(map(str, tmp_path.glob("*"))))
    data = build(frame[["a", "c"]], frame["y"], raw_labels=True)
    assert [type(reader()[0]) for reader in data.source.readers] == [Columns, pd.DataFrame, Columns, Columns]
    blocks = [data.prepare(reader(), i) for i, reader in enumerate(data.source.readers)]
    assert np.array_equal(np.vstack([b.X for b in blocks]), pd.concat(wide)[["a", "c"]].to_numpy(float), equal_nan=True)
    with pytest.raises(ValueError, match=r"X contains NaN values in column 'a' \(1 rows\)"):
        GLMClassifier().fit(frame[["a", "c"]], frame["y"])
    together = build(*(lambda f: (f[["a", "c"]], f["y"]))(frame.repartition(npartitions=1)), raw_labels=True)
    assert type(together.source.readers[0]()[0]) is pd.DataFrame


def test_text_is_told_and_a_text_response_fitted(files):
    frame = dd.read_parquet(files)
    with pytest.raises(ValueError, match=r"could not convert column 'text' of X to float: it holds text"):
        GLMClassifier().fit(frame[["a", "text"]], frame["y"])
    fitted = GLMClassifier().fit(frame[["a", "c"]], frame["text"])
    assert fitted.coef_ == pytest.approx(GLMClassifier().fit(F[["a", "c"]], F["text"]).coef_, rel=1e-8)


def test_chunks_of_two_origins_go_ways_of_their_own(files):
    frame = dd.concat([dd.read_parquet(files[:2]).assign(a=lambda f: -f.a), dd.read_parquet(files[2:])])
    data = build(frame[["a", "c"]], frame["y"], raw_labels=True)
    assert {type(reader) for reader in data.source.readers} == {Reader, DirectReader}
    blocks = [data.prepare(reader(), i) for i, reader in enumerate(data.source.readers)]
    rows = frame[["a", "c"]].compute(scheduler="threads").to_numpy(float)
    assert np.array_equal(np.vstack([b.X for b in blocks]), rows)


def test_a_read_that_fails_once_is_repeated(files, monkeypatch):
    monkeypatch.setattr("daskglm_rep.graphs.PAUSES", (0.0, 0.0))
    left, read = [1], pq.ParquetFile.read_row_groups

    def failing(self, *arguments, **how):
        if left and left.pop():
            raise OSError("stale file handle")
        return read(self, *arguments, **how)

    frame = dd.read_parquet(files)
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", failing)
    with pytest.warns(ReadWarning, match=r"1 reads failed and were repeated: block \d \(OSError: stale file handle\)"):
        GLMClassifier().fit(frame[X], frame["y"])
    left += [1] * 100
    with pytest.raises(OSError, match=r"Block \d cannot be read from .*part\.\d\.parquet: stale file handle"):
        GLMClassifier().fit(frame[X], frame["y"])


def test_empty_files_among_others(tmp_path):
    parts = [F.iloc[:0], F.iloc[:700], F.iloc[:0], F.iloc[700:]]
    for i, part in enumerate(parts):
        part[["a", "c", "y"]].to_parquet(tmp_path / f"part.{i}.parquet")
    frame = dd.read_parquet(sorted(map(str, tmp_path.glob("*"))))
    data = build(frame[["a", "c"]], frame["y"], raw_labels=True)
    assert [data.prepare(reader(), i).n_rows for i, reader in enumerate(data.source.readers)] == [0, 700, 0, N - 700]
    fitted = GLMClassifier().fit(frame[["a", "c"]], frame["y"])
    assert fitted.coef_ == pytest.approx(GLMClassifier().fit(F[["a", "c"]], F["y"]).coef_, rel=1e-8)


@pytest.mark.parametrize("how", [{}, {"index": "h"}, {"index": False}, {"split_row_groups": True},
                                 {"blocksize": "1GiB"}, {"categories": ["kind"]}, {"dtype_backend": "pyarrow"},
                                 {"calculate_divisions": True}], ids=str)
def test_frames_are_those_of_dask(how, files):
    frame = dd.read_parquet(files, **how).optimize()
    for task in dict(frame.__dask_graph__()).values():
        ours = quick(task)
        assert ours is not task and "LocalEngine" in str(ours.func.engine)
        pd.testing.assert_frame_equal(ours({}), task({}))


def test_formulas_of_lazy_files(files):
    whole, lazy = (glm("y ~ a + C(kind)", rows, "binomial") for rows in (F, dd.read_parquet(files)))
    assert lazy.params.to_numpy() == pytest.approx(whole.params.to_numpy(), rel=1e-8)


def test_memory_is_lent_again_when_its_last_view_is_gone():
    view = room(3, 5).T[1:]
    view[:] = 7.0
    other = room(3, 5)
    other[:] = 1.0
    assert not np.shares_memory(view, other) and (view == 7.0).all()
    address = view.__array_interface__["data"][0] - view.strides[0]
    del view
    assert room(2, 5).__array_interface__["data"][0] == address


@pytest.mark.parametrize("p", [1, 4, 7, 21])
def test_kernels_take_columns_in_any_layout(p):
    model, coef = GLM.of("binomial"), np.linspace(-0.2, 0.3, p + 1)
    basis = Basis(np.arange(p), np.full(p, 0.1), np.full(p, 1.5), True)
    rows, weight = rng.normal(size=(1_111, p)), np.ones(1_111)
    y = (rng.random(1_111) < 0.4).astype(float)
    spaced = np.empty((1_111, 2 * p))[:, ::2]
    spaced[:] = rows
    found = []
    for layout in (rows, np.asfortranarray(rows), spaced, np.asfortranarray(np.vstack([rows, rows]))[:1_111]):
        block = Block(layout, y, weight, np.zeros(len(y)))
        moments, columns = block_moments(block, model, basis, coef), spread(layout, weight)
        found.append(np.concatenate([moments.score, moments.expected.ravel(), columns.mean, columns.squares]))
    for other in found[1:]:
        assert other == pytest.approx(found[0], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("kind", ["i1", "u2", "f4", "f8", "?"])
@pytest.mark.parametrize("labels", [(0, 1), (1, 0), (0, 1, 2)])
def test_codes_of_zeros_and_ones(kind, labels):
    y = rng.integers(0, 2, 300).astype(kind)
    assert np.array_equal(encode(y, labels), np.array([labels.index(v) for v in y], float))
    for other in (3.0, np.nan):
        with pytest.raises(ValueError, match="y holds the label"):
            encode(np.append(y.astype(float), other), labels)
    wrong = np.append(y.astype(float), 3.0)
    assert np.array_equal(encode(wrong, labels, np.append(np.ones(300), 0.0))[:300], encode(y, labels))


def test_a_fit_leaves_the_configuration_of_dask_as_it_was(tmp_path):
    """In a process that has not imported distributed before it reads by Arrow's file system."""
    code = f"""
import dask, dask.dataframe as dd, pandas as pd
from daskglm_rep import GLMClassifier
pd.DataFrame({{"a": range(40), "y": [0, 1, 1, 0] * 10}}).to_parquet({str(tmp_path / "rows.parquet")!r})
frame = dd.read_parquet({str(tmp_path / "rows.parquet")!r}, filesystem="pyarrow")
GLMClassifier().fit(frame[["a"]], frame["y"])
assert dask.config.get("distributed.comm.timeouts.connect") and len(frame.compute()) == 40
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
