"""Sweeps: keys that no other process has, rows that must not change from one sweep to the next."""

import multiprocessing

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask.utils import key_split

from daskglm_rep import (DivideAndConquerGLM, GLMClassifier, PoissonRegressor, RepresentativeGLM, glm, logit, passes,
                         placement)
from daskglm_rep.design import build
from daskglm_rep.partitions import Natural
from daskglm_rep.summaries import Total

N_FITS, N_CHUNKS = 6, 12


def _same(block):
    return block


def _rows_of(seed, n=3000):
    """Lazy rows of a logit: as many chunks whatever the seed, other numbers."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    y = (rng.random(n) < 1 / (1 + np.exp(-X @ rng.normal(size=3)))).astype(float)
    return [da.from_array(a, chunks=(n // N_CHUNKS,) + (-1,) * (a.ndim - 1)).map_blocks(_same, dtype=float)
            for a in (X, y)]


# ---------------------------------------------------------------- keys


def _client_of_a_shared_scheduler(address, first_seed, n_fits, together, answers):
    """One process: fits on the scheduler, each begun when the other process begins one; then the same fits alone."""
    from distributed import Client
    with Client(address):
        shared = []
        for i in range(n_fits):
            together.wait(120)
            shared.append(GLMClassifier().fit(*_rows_of(first_seed + i)).results_.params.to_numpy())
    with dask.config.set(scheduler="sync"):
        alone = [GLMClassifier().fit(*_rows_of(first_seed + i)).results_.params.to_numpy() for i in range(n_fits)]
    answers.put((np.array(shared), np.array(alone)))


def fits_of_two_processes(n_fits):
    """Coefficients of fits by two processes at once on one scheduler, and of the same fits alone."""
    from distributed import LocalCluster
    context = multiprocessing.get_context("spawn")
    together, answers = context.Barrier(2), context.Queue()
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", host="127.0.0.1",
                      dashboard_address=":0", silence_logs=50) as cluster:
        clients = [context.Process(target=_client_of_a_shared_scheduler, daemon=True,
                                   args=(cluster.scheduler_address, 100 * k, n_fits, together, answers))
                   for k in (1, 2)]
        for client in clients:
            client.start()
        found = [answers.get(timeout=300) for _ in clients]
        for client in clients:
            client.join(30)
    return [np.concatenate(both) for both in zip(*found)]


def test_two_processes_on_one_scheduler_get_their_own_estimates():
    shared, alone = fits_of_two_processes(N_FITS)
    assert shared.shape == (2 * N_FITS, 4)
    assert np.abs(shared - alone).max(axis=1) == pytest.approx(np.zeros(2 * N_FITS), abs=1e-10)


def _sum(block):
    return Total(float(block.X.sum()))


def test_the_function_stands_before_the_token():
    first, second = passes.fresh_name("block_moments"), passes.fresh_name("block_moments")
    assert first != second and key_split(first) == key_split((first, 0)) == "block_moments"


def _keys_of(fit):
    keys = []
    with dask.callbacks.Callback(pretask=lambda key, graph, state: keys.append(key)), dask.config.set(scheduler="sync"):
        fit()
    return {key for key in keys if "_same" not in str(key[0])}          # the data's own are theirs


def test_two_fits_share_no_key():
    data = _rows_of(0)
    first, second = (_keys_of(lambda: GLMClassifier(cov_type="HC0").fit(*data)) for _ in range(2))
    assert first and len(first) == len(second) and not first & second
    kernels = ("survey", "block_moments", "block_meat")
    assert {key_split(key) for key in first} == {f"{kernel}{step}" for kernel in kernels for step in ("", "-merge")}


def test_lazy_rows_and_predictions_have_keys_of_their_own():
    X, y = _rows_of(0)
    frame = dd.from_pandas(pd.DataFrame(X.compute(), columns=list("abc")).assign(y=y.compute()), npartitions=2)
    models = [GLMClassifier(alpha=a).fit(X, y) for a in (0.0, 0.1)]
    formulas = [logit("y ~ a + b", frame, alpha=a) for a in (0.0, 0.1)]
    tables = [models[0].results_.influence(X, y) for _ in range(2)]
    assert len({name for t in tables for name in (t.leverage.name, t.table.name, t.resid_quantile.name)}) == 6
    assert models[0].predict_proba(X).name != models[1].predict_proba(X).name
    assert formulas[0].predict(frame)._name != formulas[1].predict(frame)._name


@pytest.fixture
def placed():
    """Data whose chunks lie on a worker in bundles."""
    from distributed import Client, LocalCluster
    X = da.from_array(np.arange(40.0).reshape(20, 2), chunks=((7, 1, 12), 2)).map_blocks(_same, dtype=float)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0",
                      silence_logs=50) as cluster, Client(cluster) as client:
        yield client, build(X.persist())


def test_bundles_on_a_cluster_have_keys_of_their_own(placed):
    client, data = placed
    both = placement.place(client, data.source), placement.place(client, data.source)
    keys = [[bundle.future.key for bundle in found] for found in both]
    assert not set(keys[0]) & set(keys[1]) and {key_split(key) for found in keys for key in found} == {"bundle"}
    assert passes.run(_sum, data).value == np.arange(40.0).sum()


# ---------------------------------------------------------------- rows that change between sweeps


def test_bundles_on_a_cluster_are_counted(placed):
    _, data = placed
    data.lengths = (7, 1, 12)
    assert passes.run(_sum, data).value == np.arange(40.0).sum()
    data.lengths = (7, 2, 12)
    with pytest.raises(ValueError, match="Block 1 has 1 rows in this sweep and had 2 in the first one"):
        passes.run(_sum, data)


def _write(folder, seed, rows=(700, 800, 900), missing=0):
    """Parquet files, one a partition; the second one can lack rows or hold missing values."""
    rng = np.random.default_rng(seed)
    for i, n in enumerate(rows):
        frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
        frame["g"] = rng.choice(["u", "v"], n)
        frame["y"] = rng.poisson(np.exp(0.3 * frame["a"]))
        frame.loc[frame.index[:missing if i == 1 else 0], "b"] = np.nan
        frame.to_parquet(folder / f"part.{i}.parquet")


def _before(monkeypatch, kernel, change):
    """Call `change` before the first sweep of a kernel over lazy data."""
    run, seen = passes.run, []

    def watching(function, data, *arguments, **options):
        if function.__name__ == kernel and data.collections is not None and not seen:
            seen.append(kernel)
            change()
        return run(function, data, *arguments, **options)

    monkeypatch.setattr(passes, "run", watching)


ENTRIES = {
    "estimator": ("block_moments", lambda f: PoissonRegressor().fit(f[["a", "b"]], f["y"])),
    "formula": ("block_moments", lambda f: glm("y ~ a + b", f, "poisson")),
    "covariance": ("block_meat", lambda f: PoissonRegressor(cov_type="HC0").fit(f[["a", "b"]], f["y"])),
    "parts": ("fit_parts", lambda f: DivideAndConquerGLM(family="poisson").fit(f[["a", "b"]], f["y"])),
    "representatives": ("collect_block", lambda f: RepresentativeGLM("poisson", representative="mean",
                                                                     partition=Natural()).fit(f[["a", "b"]], f["y"]))}


@pytest.mark.parametrize("n", [500, 801])
@pytest.mark.parametrize("entry", ENTRIES)
def test_rows_that_change_between_sweeps_are_refused(entry, n, tmp_path, monkeypatch):
    kernel, fit = ENTRIES[entry]
    _write(tmp_path, 0)
    _before(monkeypatch, kernel, lambda: _write(tmp_path, 0, (700, n, 900)))
    with pytest.raises(ValueError, match=f"Block 1 has {n} rows in this sweep and had 800 in the first one: the data "
                                         "change while they are fitted.*persist"):
        fit(dd.read_parquet(tmp_path))


def test_a_value_that_goes_missing_between_sweeps_is_a_row_less(tmp_path, monkeypatch):
    _write(tmp_path, 0)
    _before(monkeypatch, "block_moments", lambda: _write(tmp_path, 0, missing=3))
    with pytest.raises(ValueError, match="Block 1 has 797 rows in this sweep and had 800"):
        glm("y ~ a + b", dd.read_parquet(tmp_path), "poisson")


def test_levels_learnt_on_other_rows_are_refused(tmp_path, monkeypatch):
    _write(tmp_path, 0)
    _before(monkeypatch, "survey", lambda: _write(tmp_path, 0, (700, 500, 900)))
    with pytest.raises(ValueError, match="data had 2400 rows in the sweep that learnt .* and has 2100 in the next one"):
        glm("y ~ a + C(g)", dd.read_parquet(tmp_path), "poisson")


def test_a_source_that_gives_other_rows_each_time_is_refused():
    reads = []

    def fewer(frame):
        reads.append(len(frame))
        return frame[:len(frame) - len(reads) // 3]

    whole = pd.DataFrame(np.random.default_rng(0).normal(size=(600, 3)), columns=["a", "b", "y"]).abs()
    frame = dd.from_pandas(whole, npartitions=3).map_partitions(fewer, meta=whole.iloc[:0])
    with dask.config.set(scheduler="sync"), pytest.raises(ValueError, match="Block . has 19. rows in this sweep"):
        PoissonRegressor().fit(frame[["a", "b"]], frame["y"])
