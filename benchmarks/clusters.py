"""Time and tasks of a sweep by number of chunks: lazy and persisted, on threads and on a cluster, beside dask's sums.

A sweep reads X and y: beside it stand X.sum() and y.sum() computed together, and X.sum() alone.

    python benchmarks/clusters.py                   # 10 to 10,000 chunks; writes benchmarks/results/clusters.md
    python benchmarks/clusters.py 10 100            # these, printed only
"""

import datetime
import os
import platform
import sys
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.callbacks import Callback
from distributed import Client, LocalCluster, SchedulerPlugin, wait

from daskglm_rep import GLMClassifier, passes
from daskglm_rep.design import build
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.models.glm import GLM

ROWS, LEAST, P = 400_000, 100, 7
CHUNKS = (10, 100, 1_000, 10_000)
RESULT = Path(__file__).parent / "results" / "clusters.md"


def _rows(block_info=None, what=None):
    """Rows of one chunk, drawn in a task."""
    (start, stop), *_ = block_info[None]["array-location"]
    rng = np.random.default_rng(start)
    X = rng.normal(size=(stop - start, P))
    return X if what == "X" else (rng.random(stop - start) < 1 / (1 + np.exp(-X @ np.linspace(-0.5, 0.5, P)))) * 1.0


def problem(n_chunks):
    """Lazy X and y of a logit."""
    rows = (max(LEAST, ROWS // n_chunks),) * n_chunks
    return (da.map_blocks(_rows, what="X", chunks=(rows, P), dtype=float, meta=np.empty((0, 0))),
            da.map_blocks(_rows, what="y", chunks=(rows,), dtype=float, meta=np.empty(0)))


class _Counted(SchedulerPlugin):
    def __init__(self):
        self.n = 0

    def update_graph(self, scheduler, *, tasks, **how):
        self.n += len(tasks)


def _best(act, count=None, budget=6.0):
    """Least time of a call, of up to four in so many seconds, and its tasks where they are counted."""
    times, n_tasks = [], None
    while len(times) < 4 and sum(times) < budget:
        start = time.perf_counter()
        if count and n_tasks is None:
            n_tasks = count(act)
        else:
            act()
        times.append(time.perf_counter() - start)
    return min(times), n_tasks


def measure(X, y, count):
    """Seconds and tasks of a sweep and of X.sum() with y.sum(), seconds of X.sum(), the first sweep and a fit."""
    data = build(X, y)
    basis = Basis(np.arange(P), np.zeros(P), np.ones(P), True)
    work = (block_moments, data, GLM.of("binomial"), basis, np.zeros(P + 1))
    start = time.perf_counter()
    passes.run(*work)
    first = time.perf_counter() - start
    (sweep, tasks), (sums, sum_tasks), (alone, _) = (_best(act, count) for act in (
        lambda: passes.run(*work), lambda: dask.compute(X.sum(), y.sum()), lambda: X.sum().compute()))
    return dict(first=first, sweep=sweep, tasks=tasks, sums=sums, sum_tasks=sum_tasks, alone=alone,
                fit=_best(lambda: GLMClassifier().fit(X, y))[0])


def _count_here(act):
    keys = []
    with Callback(pretask=lambda key, *rest: keys.append(key)):
        act()
    return len(keys)


def run(counts):
    lines = ["| where | rows | chunks | sweep, s | tasks | X.sum() and y.sum(), s | their tasks | sweep / sums | "
             "sweep / X.sum() | first sweep, s | fit, s |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"]
    print(*lines, sep="\n", flush=True)

    def add(where, kind, n_chunks, found):
        lines.append(f"| {where} | {kind} | {n_chunks:,} | {found['sweep']:.3f} | {found['tasks']:,} | "
                     f"{found['sums']:.3f} | {found['sum_tasks']:,} | {found['sweep'] / found['sums']:.2f} | "
                     f"{found['sweep'] / found['alone']:.2f} | "
                     f"{found['first']:.2f} | {found['fit']:.2f} |")
        print(lines[-1], flush=True)

    for n_chunks in counts:
        X, y = problem(n_chunks)
        with dask.config.set(scheduler="threads"):
            add("threads", "lazy", n_chunks, measure(X, y, _count_here))
            add("threads", "persisted", n_chunks, measure(*dask.persist(X, y), _count_here))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as client:
        counted = _Counted()
        cluster.scheduler.add_plugin(counted, name="counted")

        def count(act):
            before = counted.n
            act()
            return counted.n - before

        for act in (lambda: GLMClassifier().fit(*problem(10)),) * 2:          # workers import and compile
            act()
        for n_chunks in counts:
            X, y = problem(n_chunks)
            add("cluster", "lazy", n_chunks, measure(X, y, count))
            placed = dask.persist(X, y)
            wait(placed)
            add("cluster", "persisted", n_chunks, measure(*placed, count))
            del placed
            client.run(lambda: None)
    return lines


if __name__ == "__main__":
    asked = tuple(int(a) for a in sys.argv[1:])
    table = run(asked or CHUNKS)
    if not asked:
        RESULT.write_text(
            f"# A sweep by number of chunks\n\n`python benchmarks/clusters.py`, {datetime.date.today():%d %B %Y}, "
            f"{os.cpu_count()} cores, {platform.python_implementation()} {platform.python_version()}, dask "
            f"{dask.__version__}. Logit, {ROWS:,} rows of {P} columns in all (at least {LEAST} a chunk); the cluster "
            "is two workers of one thread on this machine. A sweep is score, information and deviance at one "
            "coefficient vector; the first sweep over persisted rows bundles them. Lazy rows are drawn anew in each "
            "sweep, X and y, so the sums are of both, computed together. Times are the best of up to four calls in "
            "6 s; a fit is three or four sweeps and, of persisted rows, bundles them anew.\n\n"
            + "\n".join(table) + "\n")
