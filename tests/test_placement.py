"""Rows on a cluster: every persisted kind is bundled where it lies, lazy ones cost a task a chunk; the answer stays."""

import contextlib
import dataclasses
import os
import signal

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest

from daskglm_rep import PoissonRegressor, SubsampledGLM, glm, merging, passes, placement
from daskglm_rep.design import build
from daskglm_rep.graphs import MOST_STEPS
from daskglm_rep.kernels.survey import Pilot, survey
from daskglm_rep.models.glm import GLM
from daskglm_rep.summaries import Meat, Pair, Total

N, CHUNK = 6_000, 300
CHUNKS = N // CHUNK
rng = np.random.default_rng(4)
X = rng.normal(size=(N, 3))
Y = rng.poisson(np.exp(X @ [0.3, -0.2, 0.1])).astype(float)
TABLE = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=Y)


def _same(block):
    return block


def lazy(a):
    return da.from_array(a, chunks=(CHUNK,) + (-1,) * (a.ndim - 1)).map_blocks(_same, dtype=float)


@contextlib.contextmanager
def cluster_of(n_workers, threads, **how):
    from distributed import Client, LocalCluster
    how = dict(processes=False, dashboard_address=":0", silence_logs=50) | how
    with LocalCluster(n_workers=n_workers, threads_per_worker=threads, **how) as cluster, Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def client():
    with cluster_of(2, 2) as client:
        yield client


@pytest.fixture(scope="module")
def truth():
    return PoissonRegressor(tol=1e-10, cov_type="HC1").fit(X, Y).results_


def same(results, truth):
    results = getattr(results, "results_", results)
    return results.params.to_numpy() == pytest.approx(truth.params.to_numpy(), rel=1e-9, abs=1e-11) and (
        results.bse.to_numpy() == pytest.approx(truth.bse.to_numpy(), rel=1e-6))


def _fit(*data):
    return PoissonRegressor(tol=1e-10, cov_type="HC1").fit(*data)


def _whole():
    return da.concatenate([lazy(X), lazy(Y)[:, None]], axis=1).rechunk((CHUNK, 4)).persist()


def _pieces(client, a):
    return client.scatter([a[i:i + CHUNK] for i in range(0, N, CHUNK)], hash=False)


def _scattered(client, a):
    return da.concatenate([da.from_delayed(dask.delayed(f), (CHUNK,) + a.shape[1:], float)
                           for f in _pieces(client, a)])


def _frame():
    return dd.from_pandas(TABLE, npartitions=CHUNKS).persist()


def _fit_frame(frame):
    return _fit(frame[["a", "b", "c"]], frame["y"])


def _slices():
    whole = _whole()
    return _fit(whole[:, :3], whole[:, 3])


PERSISTED = {
    "X and y together": lambda client: _fit(*dask.persist(lazy(X), lazy(Y))),
    "X and y apart": lambda client: _fit(lazy(X).persist(), lazy(Y).persist()),
    "y in memory": lambda client: _fit(lazy(X).persist(), Y),
    "slices": lambda client: _slices(),
    "computed from persisted": lambda client: _fit(2.0 * (0.5 * lazy(X)).persist(), lazy(Y).persist()),
    "frame": lambda client: _fit_frame(_frame()),
    "formula": lambda client: glm("y ~ a + b + c", _frame(), "poisson", cov_type="HC1", tol=1e-10),
    "scattered": lambda client: _fit(_scattered(client, X), _scattered(client, Y)),
    "scattered frame": lambda client: _fit_frame(dd.from_delayed(_pieces(client, TABLE)))}


@pytest.fixture
def sweeps(monkeypatch):
    """Of every sweep over lazy data, the number of bundles (0: it was read chunk by chunk)."""
    found, run = [], passes.run

    def watching(kernel, data, *arguments, **options):
        total = run(kernel, data, *arguments, **options)
        if data.source is not None:
            found.append(len(data.source.placed or ()))
        return total

    monkeypatch.setattr(passes, "run", watching)
    return found


@pytest.mark.parametrize("kind", PERSISTED)
def test_every_persisted_kind_of_rows_is_bundled_one_a_thread(kind, client, truth, sweeps):
    assert same(PERSISTED[kind](client), truth)
    assert len(sweeps) >= 3 and set(sweeps) == {4}


NOT_PERSISTED = {
    "lazy": lambda: _fit(lazy(X), lazy(Y)),
    "y lazy": lambda: _fit(lazy(X).persist(), lazy(Y)),
    "all chunks behind each": lambda: _fit(_shifted(lazy(X).persist()), lazy(Y).persist())}


def _shifted(rows):
    return rows - (rows.mean(axis=0) - X.mean(axis=0))


@pytest.mark.parametrize("kind", NOT_PERSISTED)
def test_what_must_be_made_first_is_not_bundled(kind, client, truth, sweeps):
    assert same(NOT_PERSISTED[kind](), truth) and set(sweeps) == {0}


def _tasks(client, act):
    """How many tasks the scheduler was sent while something was done."""
    scheduler = client.cluster.scheduler
    before = set(scheduler.tasks)
    seen = set()
    update = scheduler._create_taskstate_from_graph

    def counting(*args, **how):
        seen.update(how.get("dsk", {}))
        return update(*args, **how)

    scheduler._create_taskstate_from_graph = counting
    try:
        act()
    finally:
        del scheduler._create_taskstate_from_graph
    return len(seen - before)


def _sum(block):
    return Total(float(block.X.sum() + block.y.sum()))


def _first_rows(block):
    return _Ordered(((block.index, float(block.X[0, 0])),))


class _Ordered:
    """A summary that keeps the order of its blocks."""

    def __init__(self, rows):
        self.rows = rows

    def merge(self, other):
        return _Ordered(self.rows + other.rows)


def test_a_lazy_sweep_sends_little_more_than_a_task_a_chunk(client):
    frame = dd.from_pandas(TABLE, npartitions=CHUNKS).map_partitions(_same)
    merges = -(-CHUNKS // merging.SPLIT_EVERY) + 1
    for data in (build(lazy(X), lazy(Y)), build(frame[["a", "b", "c"]], frame["y"])):
        assert _tasks(client, lambda: passes.run(_sum, data)) == CHUNKS + merges


def test_many_lazy_chunks_share_tasks_and_keep_their_order(client):
    chunks = (0, 0, 1) * 1_000 + (0,) * 1_000
    many = da.from_array(X[:1_000], chunks=(chunks, 3)).map_blocks(_same, dtype=float)
    data, n_tasks = build(many), passes.TASKS_PER_THREAD * 4
    assert _tasks(client, lambda: passes.run(_sum, data)) < 1.2 * n_tasks
    assert passes.run(_lengths, data).rows == chunks
    with dask.config.set(scheduler="threads", num_workers=2):
        assert passes.run(_lengths, data).rows == chunks
    data.lengths = (*chunks[:-1], 1)
    with pytest.raises(ValueError, match="Block 3999 has 0 rows in this sweep and had 1"):
        passes.run(_lengths, data)


def _lengths(block):
    return _Ordered((block.n_rows,))


def test_a_sweep_over_bundles_sends_a_task_a_bundle(client):
    data = build(*dask.persist(lazy(X), lazy(Y)))
    assert passes.run(_sum, data).value == pytest.approx(X.sum() + Y.sum())
    assert _tasks(client, lambda: passes.run(_sum, data)) == 4 + 1


def test_long_ways_to_a_chunk_stay_tasks_of_their_own(client):
    joined = da.concatenate([lazy(X)] * 2).rechunk((N, 3))
    data = build(joined)
    assert CHUNKS < MOST_STEPS < 4 * CHUNKS
    assert data.source.readers[0].steps or data.source.rest
    assert passes.run(_first_rows, data).rows == ((0, X[0, 0]), (1, X[0, 0]))


def test_what_several_chunks_need_is_made_once(client):
    data = build(_shifted(lazy(X)))
    assert data.source.rest and len(data.source.readers) == CHUNKS
    assert passes.run(_sum, data).value == pytest.approx(X.sum())


# ---------------------------------------------------------------- homes


def _where(client, a):
    return {key: workers[0] for key, workers in client.who_has(client.futures_of(a)).items()}


def test_bundles_lie_where_their_chunks_lie_and_order_is_kept(client):
    workers = sorted(placement.workers.known(client))
    parts = [client.persist(lazy(X[i:i + CHUNK]), workers=[workers[(i // CHUNK) % 2]]) for i in range(0, N, CHUNK)]
    rows = da.concatenate(parts)
    data = build(rows)
    found = passes.run(_first_rows, data).rows
    assert found == tuple((i, x) for i, x in enumerate(X[::CHUNK, 0]))
    homes = _where(client, rows)
    assert {placed.worker for placed in data.source.placed} == set(workers)
    for placed in data.source.placed:
        assert {homes[data.source.readers[b].outer[0]] for b in placed.blocks} == {placed.worker}
    assert all(len(at) == 1 for at in client.who_has(client.futures_of(rows)).values())


def test_chunks_move_only_from_workers_that_hold_far_more_than_their_share():
    on_one = placement._homes([[["a"]]] * 8, {"a": 1, "b": 1, "c": 2})
    assert on_one == {"a": [0, 1, 2, 3], "b": [4, 7], "c": [5, 6]}
    apart = placement._homes([[["a"]], [["b"]], [["a", "b"]], [["c"], ["c"], ["a"]]], {"a": 1, "b": 1, "c": 1})
    assert apart["c"] == [3] and sorted(apart["a"] + apart["b"]) == [0, 1, 2]


def test_persisted_rows_are_not_counted_twice(client):
    rows = lazy(X).persist()
    data = build(rows)
    passes.run(_sum_x, data)
    size = client.nbytes(summary=False)
    assert sum(size[placed.future.key] for placed in data.source.placed) < 0.01 * X.nbytes
    data = build(2.0 * rows)
    passes.run(_sum_x, data)
    size = client.nbytes(summary=False)
    assert sum(size[placed.future.key] for placed in data.source.placed) == pytest.approx(X.nbytes, rel=0.01)


def _sum_x(block):
    return Total(float(block.X.sum()))


def test_rows_are_not_bundled_where_memory_is_short(client):
    plain, computed = (build(rows).source for rows in (lazy(X).persist(), 2.0 * lazy(X).persist()))
    for source, limit, spilled, fits in ((plain, 1, 0, True), (plain, 10 ** 9, 1, False), (computed, 10 ** 9, 0, True),
                                         (computed, X.nbytes, 0, False)):
        known = {address: worker | {"memory_limit": limit, "metrics": {"spilled_bytes": {"disk": spilled}}}
                 for address, worker in placement.workers.known(client).items()}
        needed = [source.futures[key] for reader in source.readers for key in reader.outer]
        placement.workers.wait(client, needed)
        assert placement._there_is_room(client, source, client.who_has(needed), known) == fits


def test_runs_join_when_their_neighbours_come():
    pieces = [placement.Runs.of(i, _Ordered((i,))) for i in range(9)]
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(9)
        (first, last, whole), = passes.merge_all(pieces[i] for i in order).runs
        assert (first, last, whole.rows) == (0, 9, tuple(range(9)))
    two = placement.Runs(((0, 1, _Ordered((0,))), (4, 6, _Ordered((4, 5)))))
    assert len(two.merge(pieces[3]).runs) == 2


def test_what_has_an_entry_a_block_is_sorted_after_merging():
    meat = [Meat(np.eye(2) * i, np.ones(2), 1.0, (10 * i,), ((0, i),), 1.0) for i in range(6)]
    straight = passes.merge_all(meat)
    order = [4, 1, 5, 0, 3, 2]
    shuffled = passes.merge_all(placement.wrapped(i, meat[i]) for i in order)
    for f in dataclasses.fields(Meat):
        assert np.array_equal(getattr(placement.unwrapped(shuffled), f.name), getattr(straight, f.name))
    data = build(da.from_array(X, chunks=(CHUNK, 3)), da.from_array(Y, chunks=CHUNK))
    look = [survey(data.prepare(part, i), GLM.of("poisson").family, Pilot(5, 0.0, 5, 0)) for i, part in
            enumerate(data.chunks)]
    found = placement.unwrapped(passes.merge_all(placement.wrapped(i, look[i]) for i in (2, 0, 3, 1)))
    rows, = found.pilot
    assert found.lengths == (CHUNK,) * 4 and found.pilot_rows == (5,) * 4
    for i, of_block in enumerate(look[:4]):
        assert np.array_equal(rows.X[5 * i:5 * i + 5], of_block.pilot[0].X)
    assert not Pair(look[0], Total(1.0)).commutes and Pair(Total(1.0), Total(1.0)).commutes


def test_a_survey_travels_with_its_pilot_as_one_block(client, monkeypatch):
    sent, joined = [], merging.joined
    monkeypatch.setattr(merging, "joined", lambda value: sent.append(joined(value)) or sent[-1])
    for data in (build(lazy(X), lazy(Y)), build(*dask.persist(lazy(X), lazy(Y)))):
        found = passes.run(survey, data, GLM.of("poisson").family, Pilot(5, 0.0, 5, 0))
        assert found.pilot_rows == (5,) * CHUNKS and len(found.pilot) == 1 and found.pilot[0].n_rows == 5 * CHUNKS
    assert len(sent) > 4 and {len(getattr(s, "summary", s).pilot) for s in sent} == {1}


# ---------------------------------------------------------------- what order decides, and workers that die


def test_a_sample_from_bundles_is_the_sample_from_chunks(client):
    draw = dict(family="poisson", method="uniform", n_samples=1_000, random_state=3)
    here = SubsampledGLM(**draw).fit(lazy(X), lazy(Y))
    there = SubsampledGLM(**draw).fit(*dask.persist(lazy(X), lazy(Y)))
    assert there.coef_ == pytest.approx(here.coef_, rel=1e-12)


@pytest.mark.parametrize("kind", ["X and y together", pytest.param("slices", marks=pytest.mark.slow),
                                  pytest.param("frame", marks=pytest.mark.slow)])
def test_a_worker_killed_between_sweeps_changes_nothing(kind, truth, monkeypatch):
    run, killed = passes.run, []

    def killing(kernel, data, *arguments, **options):
        total = run(kernel, data, *arguments, **options)
        if data.source is not None and not killed:
            address = data.source.placed[0].worker
            killed.append(placement.workers.known(client)[address]["id"])
            os.kill(client.run(os.getpid, workers=[address])[address], signal.SIGKILL)
        return total

    monkeypatch.setattr(passes, "run", killing)
    with cluster_of(2, 1, processes=True) as client:
        assert same(PERSISTED[kind](client), truth) and len(killed) == 1


LABELS = {"every number": lambda rng: rng.integers(-40, 900, N),
          "few, far apart": lambda rng: rng.integers(0, 9, N) * 10 ** 15,
          "text": lambda rng: rng.integers(0, 300, N).astype(str), "halves": lambda rng: rng.integers(0, 300, N) / 2,
          "one share alone": lambda rng: np.repeat([5, 6], [N - 10, 10]),
          "two columns": lambda rng: rng.integers(0, 40, (N, 2))}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("rows", ["persisted", "lazy"])
def test_large_tables_of_clusters_are_merged_by_shares(kind, rows, client, monkeypatch):
    """Each worker its share of the labels: the same errors as in memory."""
    monkeypatch.setattr(merging, "LARGE", 0)
    shares, edges = [], merging._edges
    monkeypatch.setattr(merging, "_edges", lambda *given: shares.append(edges(*given)) or shares[-1])
    labels = LABELS[kind](np.random.default_rng(2))
    want = PoissonRegressor(tol=1e-10, cov_type="cluster").fit(X, Y, clusters=labels).results_
    cut = [da.from_array(a, chunks=(CHUNK,) + (-1,) * (a.ndim - 1)).map_blocks(_same) for a in (X, Y, labels)]
    cut = dask.persist(*cut) if rows == "persisted" else cut
    got = PoissonRegressor(tol=1e-10, cov_type="cluster").fit(*cut[:2], clusters=cut[2]).results_
    np.testing.assert_allclose(got.bse, want.bse, rtol=1e-8)
    assert got.covariance.n_clusters == want.covariance.n_clusters
    assert len(shares) == (kind not in ("text", "halves", "two columns"))
