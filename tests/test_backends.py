"""One answer from every back end: each is run on lazy rows; those that need a server are called as they should."""

import asyncio
import contextlib
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import cloudpickle
import dask
import dask.array as da
import numpy as np
import pytest
from dask.multiprocessing import get_context
from threadpoolctl import threadpool_info

from daskglm_rep import GLMClassifier, backend, passes, schedulers
from daskglm_rep.design import build

cloudpickle.register_pickle_by_value(sys.modules[__name__])          # engines do not see this folder
N = 4_000
rng = np.random.default_rng(11)
X = rng.normal(size=(N, 3))
Y = (rng.random(N) < 1 / (1 + np.exp(-X @ [0.8, -0.5, 0.2]))).astype(float)


def _same(block):
    return block


def lazy():
    return [da.from_array(a, chunks=(700,) + (-1,) * (a.ndim - 1)).map_blocks(_same, dtype=float) for a in (X, Y)]


def fit(*data):
    return GLMClassifier(cov_type="HC0", tol=1e-10).fit(*data).results_


@pytest.fixture(scope="module")
def truth():
    return fit(X, Y)


def same(results, truth):
    return results.params.to_numpy() == pytest.approx(truth.params.to_numpy(), rel=1e-9, abs=1e-11) and (
        results.bse.to_numpy() == pytest.approx(truth.bse.to_numpy(), rel=1e-9)) and (
        results.llf == pytest.approx(truth.llf, rel=1e-9))


@contextlib.contextmanager
def _executor(make, **how):
    with make(1, **how) as executor, dask.config.set(scheduler=executor):
        yield


@contextlib.contextmanager
def _loky_as_scheduler():
    loky = pytest.importorskip("loky", reason="loky is not installed")
    with dask.config.set(scheduler=loky.get_reusable_executor(max_workers=1)):
        yield


@contextlib.contextmanager
def _named(name, **options):
    if name == "ipyparallel":
        pytest.importorskip("ipyparallel", reason="ipyparallel is not installed")
    with backend(name, **options):
        yield


RUN = {"sequential": lambda: _named("sequential"),
       "threads": lambda: _named("threads", n_workers=2),
       "processes": lambda: _named("processes", n_workers=1),
       "joblib": lambda: _named("joblib", n_workers=1),
       "ipyparallel": lambda: _named("ipyparallel", n_workers=1),
       "distributed": lambda: _named("distributed", n_workers=1, threads_per_worker=1, silence_logs=50),
       "dask's processes": lambda: dask.config.set(scheduler="processes", num_workers=1),
       "ThreadPoolExecutor": lambda: _executor(ThreadPoolExecutor),
       "ProcessPoolExecutor": lambda: _executor(ProcessPoolExecutor, mp_context=get_context()),
       "loky's executor": _loky_as_scheduler}
ELSEWHERE = ("processes", "joblib", "ipyparallel", "distributed", "dask's processes", "ProcessPoolExecutor",
             "loky's executor")


def _process(block):
    return _Processes(frozenset({os.getpid()}))


class _Processes:
    commutes = True

    def __init__(self, ids):
        self.ids = ids

    def merge(self, other):
        return _Processes(self.ids | other.ids)


SLOW = ("dask's processes", "ProcessPoolExecutor", "loky's executor")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in RUN])
def test_a_back_end_gives_the_answer_and_runs_where_it_says(name, truth):
    with RUN[name]():
        assert same(fit(*lazy()), truth)
        assert same(fit(X, Y), truth)
        used = passes.run(_process, build(*lazy())).ids
    assert (os.getpid() in used) == (name not in ELSEWHERE)


def test_a_client_and_a_cluster_are_back_ends(truth):
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0",
                      silence_logs=50) as cluster:
        with backend(cluster) as client:
            assert same(fit(*lazy()), truth) and client.cluster is cluster
        with Client(cluster) as active, backend("distributed") as client:
            assert client is active
        with Client(cluster, set_as_default=False) as other, backend(other):
            assert passes.workers.active_client() is other and same(fit(*lazy()), truth)


def test_the_pool_of_daskglms_processes_lives_as_long_as_the_data():
    with dask.config.set(scheduler="processes", num_workers=1):
        data = build(*lazy())
        first = passes.run(_process, data).ids
        assert passes.run(_process, data.with_prepare()).ids == first and len(first) == 1


def test_blas_gets_its_threads_back():
    from distributed import Client, LocalCluster
    before = [found["num_threads"] for found in threadpool_info()]
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0",
                      silence_logs=50) as cluster, Client(cluster):
        fit(*lazy())
    assert [found["num_threads"] for found in threadpool_info()] == before


def test_a_local_cluster_prints_its_dashboard(capsys):
    with backend("distributed", n_workers=1, processes=False, silence_logs=50) as client:
        assert client.dashboard_link in capsys.readouterr().out


def _words(act):
    with pytest.raises(ValueError) as told:
        with act():
            pass
    return str(told.value)


def test_what_is_no_back_end_is_told():
    assert "no back end 'spark': take one of sequential, threads" in _words(lambda: backend("spark"))
    assert "'threads' takes no option cores" in _words(lambda: backend("threads", cores=2))
    pytest.importorskip("dask_jobqueue")
    assert "say how many" in _words(lambda: backend("slurm", cores=1, memory="1GB"))


@pytest.mark.parametrize("where, how, kind, words", [
    ("threads", {"n_workers": 0}, ValueError, "n_workers must be a whole number of 1 or more, got 0"),
    ("threads", {"n_workers": -1}, ValueError, "got -1"), ("processes", {"n_workers": "2"}, ValueError, "got '2'"),
    ("joblib", {"n_workers": 2.5}, ValueError, "got 2.5"), ("distributed", {"n_workers": True}, ValueError, "got True"),
    ("sequential", {"n_workers": 2}, ValueError, "takes no n_workers"),
    ("distributed", {"timeout": "1 min"}, ValueError, "timeout must be a number of seconds above 0, got '1 min'"),
    (None, {}, TypeError, "an executor, got None"), (3, {}, TypeError, "got 3"), (["threads"], {}, TypeError, "got"),
    ("distributed", {"address": 3}, TypeError, "got 3"),
    ("distributed", {"address": "tcp://127.0.0.1:1", "n_workers": 2}, ValueError, "already takes no n_workers"),
    ("distributed", {"address": "tcp://127.0.0.1:1", "timeout": 0.5}, OSError, "tcp://127.0.0.1:1 after 0.5 s"),
    ("tcp://127.0.0.1:1", {}, ValueError, r"address goes backend\('distributed', address="),
    ("distributed", {"processes": False, "adapt": 3}, ValueError, "adapt must be two numbers"),
    ("distributed", {"processes": False, "adapt": (2, 1)}, ValueError, r"got \(2, 1\)")])
def test_what_no_back_end_takes_is_told(where, how, kind, words):
    with pytest.raises(kind, match=words), backend(where, **how):
        pass


def test_an_executor_is_a_back_end(truth):
    with ThreadPoolExecutor(1) as executor, backend(executor):
        assert same(fit(*lazy()), truth)
    with pytest.raises(ValueError, match="there already takes no n_workers"), backend(executor, n_workers=2):
        pass


def test_local_workers_come_with_the_work(truth):
    with backend("distributed", adapt=(0, 1), processes=False, threads_per_worker=1, silence_logs=50):
        assert same(fit(*lazy()), truth)


def _fit_in_a_task(where, how=None):
    with backend(where, **how or {}) as client:
        return None if client is None else client.scheduler.address, fit(*lazy()).params.to_numpy()


def test_back_ends_inside_a_task(truth):
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0",
                      silence_logs=50) as cluster, Client(cluster, set_as_default=False) as client:
        for where, address in (("distributed", cluster.scheduler_address), ("threads", None)):
            used, params = client.submit(_fit_in_a_task, where).result()
            assert used == address and params == pytest.approx(truth.params.to_numpy(), rel=1e-9)


@pytest.mark.parametrize("name", ["processes", "joblib"])
def test_processes_are_not_started_by_workers(name, monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    assert "take 'threads'" in _words(lambda: backend(name))


def test_clients_that_cannot_wait_or_are_closed_are_told(truth):
    from distributed import Client, LocalCluster
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0",
                      silence_logs=50) as cluster:

        async def inside_a_loop():
            async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
                with backend(client):
                    with pytest.raises(RuntimeError, match="asynchronous, .* await asyncio.to_thread"):
                        fit(*lazy())
                    return fit(X, Y), await asyncio.to_thread(fit, *lazy())

        assert all(same(results, truth) for results in asyncio.run(inside_a_loop()))
        with Client(cluster, set_as_default=False) as client, backend(client):
            persisted = dask.persist(*lazy())
        with pytest.raises(RuntimeError, match="The client of these rows is closed"):
            fit(*persisted)
        with backend(client), pytest.raises(RuntimeError, match="is closed"):
            fit(*lazy())
        with backend(cluster), pytest.raises(RuntimeError, match="or a client that was closed released them"):
            fit(*persisted)


# ---------------------------------------------------------------- what cannot run here is asked for its configuration


JOB_LINES = {"slurm": "#SBATCH -p short", "pbs": "#PBS -q short", "sge": "#$ -q short", "lsf": "#BSUB -q short",
             "oar": "#OAR -q short", "moab": "#PBS -q short"}


@pytest.mark.parametrize("name", JOB_LINES)
def test_a_job_queue_gets_its_script(name, capsys, monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    asked = []
    monkeypatch.setattr(jobqueue.core.JobQueueCluster, "scale", lambda self, n=None, **how: asked.append(how))
    with backend(name, jobs=3, cores=4, memory="8GB", queue="short", walltime="01:00:00",
                 silence_logs="error") as client:
        script = capsys.readouterr().out
        assert passes.workers.active_client() is client
    assert JOB_LINES[name] in script and "--nthreads" in script and asked[0] == {"jobs": 3}


def test_condor_gets_its_submit_file(capsys, monkeypatch):
    jobqueue = pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    asked = []
    monkeypatch.setattr(jobqueue.core.JobQueueCluster, "adapt", lambda self, **how: asked.append(how))
    with backend("htcondor", adapt=(0, 3), cores=4, memory="8GB", disk="10GB", processes=1,
                 job_extra_directives={"+MaxRuntime": "3600"}, silence_logs="error") as client:
        script = capsys.readouterr().out.splitlines()
        assert passes.workers.active_client() is client
        arguments = next(line for line in script if line.startswith("Arguments"))
        assert client.scheduler.address in arguments and "--nthreads 4" in arguments
    wanted = {"MY.DaskWorkerCores = 4", "MY.DaskWorkerMemory = 8000000000", "MY.DaskWorkerDisk = 10000000000",
              "+MaxRuntime = 3600", "Queue"}
    assert wanted <= set(script) and asked[0] == {"minimum": 0, "maximum": 3}


class _Gateway:
    """What `backend("yarn")` asks of a dask-gateway server."""

    asked = []

    def __init__(self, **server):
        self.asked.append(server)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.asked.append("closed")

    dashboard_link = "http://gateway/clusters/1/status"

    def new_cluster(self, **options):
        self.asked.append(options)
        return self

    def adapt(self, **how):
        self.asked.append(how)

    def get_client(self, set_as_default):
        from distributed import Client
        return Client(processes=False, n_workers=1, dashboard_address=":0", silence_logs=50,
                      set_as_default=set_as_default)


def test_yarn_goes_through_a_gateway(monkeypatch, truth):
    gateway = pytest.importorskip("dask_gateway", reason="dask-gateway is not installed")
    real = gateway.Gateway
    monkeypatch.setattr(gateway, "Gateway", _Gateway)
    with backend("yarn", address="http://gateway:8000", auth="kerberos", adapt=(0, 4), worker_cores=2):
        assert same(fit(*lazy()), truth)
    assert _Gateway.asked == [{"address": "http://gateway:8000", "auth": "kerberos"}, {"worker_cores": 2},
                              {"minimum": 0, "maximum": 4}, "closed", "closed"]
    assert {"new_cluster", "close", "__enter__"} <= set(dir(real))
    assert {"scale", "adapt", "get_client"} <= set(dir(gateway.GatewayCluster))


# ---------------------------------------------------------------- where


def test_one_line_says_where_a_fit_runs(caplog, capsys):
    with caplog.at_level("INFO", "daskglm_rep"), backend("threads"):
        GLMClassifier(verbose=1).fit(*lazy())
    assert caplog.messages[0] in capsys.readouterr().out
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("6 lazy chunks, made again in every sweep")
    assert "no cluster" in caplog.messages[0]
    assert fit(X, Y).where == passes.where(build(X, Y)) and fit(X, Y).where.startswith("1 block")


def test_results_say_where_the_fit_ran():
    with backend("distributed", n_workers=1, threads_per_worker=2, processes=False, silence_logs=50) as client:
        lazily, placed = fit(*lazy()), fit(*dask.persist(*lazy()))
        assert lazily.where.startswith("6 lazy chunks") and "(2 threads)" in lazily.where
        cluster = f"cluster {client.scheduler.address} (2 threads)"
        assert placed.where.startswith(f"6 chunks persisted on {cluster}: 2 bundles")


def test_a_cluster_is_asked_for_its_workers_whatever_the_client_remembers(monkeypatch):
    with backend("distributed", n_workers=1, threads_per_worker=2, processes=False, silence_logs=50) as client:
        monkeypatch.setattr(type(client), "scheduler_info", lambda self, **how: {"workers": {}})     # as polls leave it
        assert passes.workers.n_threads(client) == 2
    assert passes.workers.known(client) == {}


# ---------------------------------------------------------------- several threads, and back ends that end early


def _ours():
    return [getattr(schedulers.setting("scheduler"), "name", schedulers.setting("scheduler")),
            schedulers.setting("num_workers"), schedulers.setting("daskglm_rep.timeout")]


def test_threads_are_in_back_ends_of_their_own(truth):
    """They enter and leave in any order; a thread without one takes the last; in the end all is as it was."""
    before, steps, found = _ours(), threading.Barrier(3, timeout=60), {}

    def work(name, leaves_first, **how):
        with backend(name, **how):
            steps.wait()
            found[name] = _ours(), fit(*lazy())
            steps.wait()
            if not leaves_first:
                steps.wait()          # the other has left
                found[name, "alone"] = _ours()
        steps.wait()
        if leaves_first:
            steps.wait()

    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(work, "sequential", True, timeout=7), pool.submit(work, "threads", False, n_workers=1)]
        for _ in range(4):
            steps.wait()
        [job.result(60) for job in jobs]
    assert found["sequential"][0] == ["sync", None, 7] and found["threads"][0] == ["threads", 1, None]
    assert found["threads", "alone"] == found["threads"][0] and _ours() == before
    assert all(same(found[name][1], truth) for name in ("sequential", "threads"))


def test_a_back_end_may_be_entered_again_and_left_by_an_error(truth):
    before, here = _ours(), backend("threads", n_workers=1)
    with here:
        with backend("sequential"), pytest.raises(KeyError), here:
            assert _ours()[:2] == ["threads", 1]
            raise KeyError
        assert _ours()[:2] == ["threads", 1] and same(fit(*lazy()), truth)
    assert _ours() == before


def test_settings_by_hand_inside_a_back_end_hold():
    with backend("threads"), dask.config.set(scheduler="sync"):
        assert _ours()[0] == "sync"
    with dask.config.set(scheduler="sync"), backend("threads"):
        assert _ours()[0] == "threads"


@pytest.mark.parametrize("kind", ["executor", "back end"])
def test_a_back_end_that_is_shut_down_under_a_fit_is_told(kind):
    started, gone = threading.Event(), threading.Event()

    def slow(block):
        started.set()
        gone.wait(60)
        return block

    rows = [da.from_array(a, chunks=(200,) + (-1,) * (a.ndim - 1)).map_blocks(slow, dtype=float) for a in (X, Y)]
    executor = ThreadPoolExecutor(1)
    with ThreadPoolExecutor(1) as other, backend(executor):
        job = other.submit(fit, *rows)
        assert started.wait(60)
        executor.shutdown(wait=False, cancel_futures=kind == "executor")
        gone.set()
        with pytest.raises(RuntimeError, match="back end of this fit was shut down before the fit ended"):
            job.result(60)


def _fit_in_a_fork(answers):
    answers.put(fit(*lazy()).params.to_numpy())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
@pytest.mark.parametrize("where", ["no back end", "threads"])
def test_a_forked_process_fits_after_its_parent_did(where, truth):
    with backend("threads", n_workers=2) if where == "threads" else contextlib.nullcontext():
        fit(*lazy())
        fork = multiprocessing.get_context("fork")
        answers = fork.Queue()
        child = fork.Process(target=_fit_in_a_fork, args=(answers,))
        child.start()
        try:
            assert answers.get(timeout=60) == pytest.approx(truth.params.to_numpy(), rel=1e-9)
        finally:
            child.kill()
            child.join()


def test_workers_that_start_inside_a_block_are_not_sent_its_scheduler(truth):
    """New workers get a copy of dask's configuration: with an executor's locks none would start (adapt, scale)."""
    with ThreadPoolExecutor(1) as executor, backend(executor):
        assert cloudpickle.loads(cloudpickle.dumps(dask.config.config))["scheduler"] is None
        assert same(fit(*lazy()), truth) and schedulers.setting("scheduler") is executor
