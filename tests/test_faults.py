"""What goes wrong outside: storage that fails, workers that die, do not come or are too small. Each is told."""

import threading
import types

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from daskglm_rep import PoissonRegressor, ReadWarning, backend, glm, passes, workers
from daskglm_rep.design import build

N, CHUNK = 2_000, 250
rng = np.random.default_rng(6)
X = rng.normal(size=(N, 2))
Y = rng.poisson(np.exp(X @ [0.3, -0.2])).astype(float)


def _same(block):
    return block


def lazy(a):
    return da.from_array(a, chunks=(CHUNK,) + (-1,) * (a.ndim - 1)).map_blocks(_same, dtype=float)


@pytest.fixture
def cluster():
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0",
                      silence_logs=50) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def truth():
    return PoissonRegressor().fit(X, Y).coef_


class _Storage:
    """Rows whose third chunk fails to be read at first."""

    def __init__(self, failures, error):
        self.left, self.error, self.lock = failures, error, threading.Lock()

    def __call__(self, block, block_info=None):
        with self.lock:
            if block_info and block_info[0]["chunk-location"][0] == 2 and self.left:
                self.left -= 1
                raise self.error
        return block

    def __reduce__(self):
        return _storage, ()


def _storage():
    return STORAGE[0]


STORAGE = []


def failing(n, error):
    STORAGE[:] = [_Storage(n, error)]
    return da.from_array(X, chunks=(CHUNK, 2)).map_blocks(STORAGE[0], dtype=float), lazy(Y)


@pytest.mark.parametrize("where", ["threads", "cluster"])
@pytest.mark.parametrize("failures", [1, 2])
def test_a_read_that_fails_is_repeated_and_told(where, failures, truth, request, monkeypatch):
    monkeypatch.setattr("daskglm_rep.graphs.PAUSES", (0.0, 0.0))
    if where == "cluster":
        request.getfixturevalue("cluster")
    data = failing(failures, ConnectionResetError("the bucket hung up"))
    with pytest.warns(ReadWarning, match=r"1 reads failed and were repeated: block 2 \(Connection.*the bucket hung up"):
        fitted = PoissonRegressor().fit(*data)
    assert fitted.coef_ == pytest.approx(truth, rel=1e-10) and STORAGE[0].left == 0


def test_a_read_that_keeps_failing_names_its_block(monkeypatch):
    monkeypatch.setattr("daskglm_rep.graphs.PAUSES", (0.0, 0.0))
    with pytest.raises(OSError, match="Block 2 cannot be read: stale file handle"):
        PoissonRegressor().fit(*failing(100, OSError("stale file handle")))
    assert STORAGE[0].left == 97


def test_what_will_not_come_back_is_not_repeated():
    with pytest.raises(FileNotFoundError, match="gone.csv"):
        PoissonRegressor().fit(*failing(100, FileNotFoundError("gone.csv")))
    with pytest.raises(ZeroDivisionError):
        PoissonRegressor().fit(*failing(100, ZeroDivisionError()))
    assert STORAGE[0].left == 99


def test_lazy_rows_of_a_fit_are_repeated_too(monkeypatch):
    monkeypatch.setattr("daskglm_rep.graphs.PAUSES", (0.0, 0.0))
    results = PoissonRegressor().fit(X, Y).results_
    table = results.influence(*failing(1, OSError("once")))
    with dask.config.set(scheduler="sync"):
        assert np.asarray(table.leverage).sum() == pytest.approx(3.0) and STORAGE[0].left == 0


def _write(folder, n_files=4):
    for i in range(n_files):
        rows = slice(i * 500, (i + 1) * 500)
        pd.DataFrame(X[rows], columns=["a", "b"]).assign(y=Y[rows]).to_parquet(folder / f"part.{i}.parquet")


@pytest.mark.parametrize("way", ["estimator", "formula"])
def test_a_truncated_file_is_named(way, tmp_path):
    _write(tmp_path)
    frame = dd.read_parquet(tmp_path)
    broken = tmp_path / "part.2.parquet"
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises((ValueError, OSError), match=r"Block 2 cannot be read from \S*part\.2\.parquet: .*[Pp]arquet"):
        if way == "estimator":
            PoissonRegressor().fit(frame[["a", "b"]], frame["y"])
        else:
            glm("y ~ a + b", frame, "poisson")


def test_a_file_without_a_column_is_named(tmp_path):
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y})
    for i, columns in enumerate((["a", "b", "y"], ["a", "y"])):
        frame[columns].iloc[i * 1000:(i + 1) * 1000].to_parquet(tmp_path / f"part{i}.parquet")
    lazily = dd.read_parquet(tmp_path)
    with pytest.raises(ValueError, match=r"Block 1 from .*part1.parquet has not the columns of the others: .*'b'"):
        PoissonRegressor().fit(lazily[["a", "b"]], lazily["y"])
    with pytest.raises(ValueError, match=r"Block 1 from .*part1.parquet has not the columns of the others: .*'b'"):
        glm("y ~ a + b", lazily, "poisson")


def _breaks(block, block_info=None):
    return 1 / 0 if block_info and block_info[0]["chunk-location"][0] == 3 else block


def test_errors_of_the_user_s_code_say_on_which_block():
    with pytest.raises(ZeroDivisionError) as told:
        PoissonRegressor().fit(da.from_array(X, chunks=(CHUNK, 2)).map_blocks(_breaks, dtype=float), lazy(Y))
    assert told.value.__notes__ == ["This was raised while block 3 was made."]


# ---------------------------------------------------------------- workers


def _scattered(client, a):
    pieces = client.scatter([a[i:i + CHUNK] for i in range(0, N, CHUNK)], hash=False)
    return da.concatenate([da.from_delayed(dask.delayed(f), (CHUNK,) + a.shape[1:], float) for f in pieces])


@pytest.mark.parametrize("when", ["before", "between sweeps"])
def test_scattered_rows_whose_only_copy_dies(when, cluster, monkeypatch):
    data = _scattered(cluster, X), _scattered(cluster, Y)
    run, killed = passes.run, []

    def kill():
        if not killed:
            killed.append(True)
            cluster.sync(cluster.cluster.workers[0].close)

    def killing(*arguments, **options):
        total = run(*arguments, **options)
        kill()
        return total

    monkeypatch.setattr(passes, "run", killing)
    if when == "before":
        kill()
    with pytest.raises(RuntimeError, match=r"Rows are lost: \d+ of 16 chunks that were put on the workers, the first "
                                           r"of them 'ndarray-\w+', had their only copy on a worker that died"):
        PoissonRegressor().fit(*data)


def test_persisted_rows_are_made_again_when_a_worker_dies(cluster, truth, monkeypatch):
    data = dask.persist(lazy(X), lazy(Y))
    run, killed = passes.run, []

    def killing(*arguments, **options):
        total = run(*arguments, **options)
        if not killed:
            killed.append(True)
            cluster.sync(cluster.cluster.workers[0].close)
        return total

    monkeypatch.setattr(passes, "run", killing)
    assert PoissonRegressor().fit(*data).coef_ == pytest.approx(truth, rel=1e-9)


def test_workers_that_never_come_are_told_and_not_waited_for_beyond_the_timeout():
    from distributed import LocalCluster
    with LocalCluster(n_workers=0, processes=False, dashboard_address=":0", silence_logs=50) as cluster:
        with backend(cluster, timeout=0.5), pytest.raises(TimeoutError, match="No worker has come to .*timeout=0.5"):
            PoissonRegressor().fit(lazy(X), lazy(Y))


def test_a_word_while_workers_are_waited_for(caplog, monkeypatch, truth):
    from distributed import LocalCluster
    monkeypatch.setattr(workers, "POLL", 0.1)
    monkeypatch.setattr(workers, "PATIENCE", 0.3)
    with LocalCluster(n_workers=0, threads_per_worker=2, processes=False, dashboard_address=":0",
                      silence_logs=50) as cluster, backend(cluster):
        later = threading.Timer(1.0, cluster.scale, (1,))
        later.start()
        assert PoissonRegressor().fit(lazy(X), lazy(Y)).coef_ == pytest.approx(truth, rel=1e-9)
        later.join()
    said = [text for text in caplog.messages if text.startswith("No worker has come")]
    assert said and "timeout=seconds" in said[0]


def _client_with(limit, status="running"):
    worker = {"memory_limit": limit, "status": status, "nthreads": 1}
    return types.SimpleNamespace(sync=lambda ask, n_workers: {"workers": {"a": worker}},
                                 scheduler=types.SimpleNamespace(address="tcp://here:1", identity=None))


def test_workers_too_small_for_a_chunk():
    assert workers.check_memory(_client_with(10 ** 9), 10 ** 8) is None
    assert workers.check_memory(_client_with(0), 10 ** 12) is None
    told = workers.check_memory(_client_with(10 ** 9), 6 * 10 ** 8)
    assert told.startswith("The largest chunk has 572.20 MiB and the smallest worker 0.93 GiB")
    assert "paused for want of memory (0.93 GiB a worker)" in workers._trouble(_client_with(10 ** 9, "paused"))


def test_a_fit_tells_that_its_chunks_are_too_large(cluster, monkeypatch):
    monkeypatch.setattr(workers, "check_memory", lambda client, largest: f"{largest} bytes")
    with pytest.warns(ResourceWarning, match=f"{CHUNK * 3 * 8} bytes"):
        passes.run(_rows, build(lazy(X), lazy(Y)))


def _rows(block):
    from daskglm_rep.summaries import Total
    return Total(block.n_rows)
