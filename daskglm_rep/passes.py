"""One pass: a block kernel on every block, a tree that merges the summaries. The only place that builds dask graphs.

Three ways to the same sum, chosen by where the rows are:

- rows in this process: neighbouring blocks are bundled, one task a bundle (a task costs more than a small block);
- lazy collections: one task a chunk on top of their own graph, merged by a `dask.array.reduction` tree;
- rows on the workers of a cluster: one bundle a worker, built once and softly pinned there.

Merges follow the order of the blocks in all three, so two runs agree to the last bit.
"""

import itertools
import sys
from functools import cache

import dask
import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph
from dask.system import CPU_COUNT
from threadpoolctl import ThreadpoolController

SPLIT_EVERY = 8
BUNDLES_PER_THREAD = 4
_serial = itertools.count()


def merge_all(summaries):
    """Merge a sequence of summaries from the left."""
    total = None
    for summary in summaries:
        total = summary if total is None else total.merge(summary)
    return total


def fold(kernel, prepare, bundle, first, arguments):
    """Run a kernel over the parts of a bundle, whose first part is block number `first`, and merge."""
    return merge_all(kernel(prepare(part, first + i), *arguments) for i, part in enumerate(bundle))


def _fold_on_worker(kernel, prepare, bundle, first, arguments):
    _one_blas_thread()
    return fold(kernel, prepare, bundle, first, arguments)


_blas_limit = []


def _one_blas_thread():
    """Tasks of a worker run beside each other: BLAS must not start threads of its own under them."""
    if not _blas_limit:
        _blas_limit.append(_controller().limit(limits=1, user_api="blas"))


@cache
def _controller():
    """Made once: looking for the BLAS libraries takes 7 ms, a quarter of a sweep over two million rows."""
    return ThreadpoolController()


def active_client():
    """The distributed client that dask would use by default, or None."""
    if "distributed" not in sys.modules or dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded",
                                                                                   "threads", "threading", "processes"):
        return None
    try:
        return sys.modules["distributed"].default_client()
    except ValueError:
        return None


def run(kernel, data, *arguments):
    """Merge `kernel(block, *arguments)` over all blocks of some data: one sweep.

    Parameters
    ----------
    kernel : callable
        Module-level function from a Block and the arguments to a summary with `merge`. Never a numba dispatcher: those
        are pickled by value.
    data : design.Data

    Returns
    -------
    The merged summary.
    """
    data.n_passes += 1
    client = active_client()
    if data.collections is None:
        if client is not None and data.placed:
            return _run_placed(kernel, data, arguments, client)
        return _run_local(kernel, data, arguments)
    if client is not None and data.place(client):
        return _run_placed(kernel, data, arguments, client)
    return _run_lazy(kernel, data, arguments, client)


def bundles(parts, n):
    """Cut a sequence into at most n runs of neighbours: (position of the first, run)."""
    edges = np.linspace(0, len(parts), min(n, len(parts)) + 1).astype(int)
    return [(int(a), parts[a:b]) for a, b in zip(edges, edges[1:]) if b > a]


def n_threads():
    """Worker threads of the local scheduler."""
    if dask.config.get("scheduler", None) in ("sync", "synchronous", "single-threaded"):
        return 1
    return dask.config.get("num_workers", None) or CPU_COUNT


def _run_local(kernel, data, arguments):
    if len(data.parts) == 1 or n_threads() == 1:
        return fold(kernel, data.prepare, data.parts, 0, arguments)
    name = f"{kernel.__name__}-{next(_serial)}"
    graph, keys = {}, []
    for i, (first, bundle) in enumerate(bundles(data.parts, BUNDLES_PER_THREAD * n_threads())):
        keys.append((name, i))
        graph[name, i] = Task((name, i), _Bundle(kernel, data.prepare, bundle, first, arguments))
    scheduler = dask.config.get("scheduler", None)
    get = dask.base.get_scheduler(scheduler="threads" if scheduler in (None, "distributed", "dask.distributed")
                                  else scheduler)
    with _controller().limit(limits=1, user_api="blas"):
        return merge_all(get(graph, keys))


class _Bundle:
    """A bundle's work as one callable: dask must not look for keys inside its rows."""

    def __init__(self, *work):
        self.work = work

    def __call__(self):
        return fold(*self.work)


def _run_lazy(kernel, data, arguments, client):
    name = f"{kernel.__name__}-{next(_serial)}"
    work = _Chunk(kernel, data.prepare, arguments, client is not None)
    layer = {(name, i): Task((name, i), work, i, *[None if key is None else TaskRef(key) for key in keys])
             for i, keys in enumerate(data.parts)}
    graph = HighLevelGraph.from_collections(name, layer, dependencies=data.collections)
    states = da.Array(graph, name, chunks=((1,) * len(layer),), dtype=object, meta=np.empty(0, object))
    total = da.reduction(states, chunk=_as_is, combine=_merge_states, aggregate=_merge_states, axis=0, concatenate=False,
                         split_every=SPLIT_EVERY, dtype=object, name=f"merge-{name}").to_delayed().item()
    if client is not None:
        return total.compute(optimize_graph=False)
    with _controller().limit(limits=1, user_api="blas"):
        return total.compute(optimize_graph=False)


def rows(kernel, data, lengths, width, *arguments):
    """Lay `kernel(block, *arguments)`, an (n, width) array a block, under each other as one lazy dask array.

    Parameters
    ----------
    kernel : callable
        Module-level function from a Block and the arguments to an (n, width) float array.
    data : design.Data
    lengths : sequence
        Rows of each block, NaN where unknown.
    width : int

    Returns
    -------
    (n, width) dask array, a chunk a block
    """
    name = f"{kernel.__name__}-{next(_serial)}"
    if data.collections is None:
        layer = {(name, i, 0): Task((name, i, 0), _Bundle(kernel, data.prepare, [part], i, arguments))
                 for i, part in enumerate(data.parts)}
    else:
        work = _Chunk(kernel, data.prepare, arguments, active_client() is not None)
        layer = {(name, i, 0): Task((name, i, 0), work, i, *[None if key is None else TaskRef(key) for key in keys])
                 for i, keys in enumerate(data.parts)}
    graph = HighLevelGraph.from_collections(name, layer, dependencies=data.collections or [])
    return da.Array(graph, name, chunks=(tuple(lengths), (width,)), dtype=float, meta=np.empty((0, 0)))


class _Chunk:
    def __init__(self, kernel, prepare, arguments, on_worker):
        self.kernel, self.prepare, self.arguments, self.on_worker = kernel, prepare, arguments, on_worker

    def __call__(self, index, *part):
        if self.on_worker:
            _one_blas_thread()
        return self.kernel(self.prepare(part, index), *self.arguments)


def _as_is(state, axis, keepdims):
    return state


def _merge_states(states, axis, keepdims):
    return merge_all(states if isinstance(states, list) else [states])


def _run_placed(kernel, data, arguments, client):
    futures = [client.submit(_fold_on_worker, kernel, data.prepare, bundle, first, arguments, workers=workers,
                             allow_other_workers=True, pure=False, key=f"{kernel.__name__}-{next(_serial)}-{i}")
               for i, (first, bundle, workers) in enumerate(data.placed)]
    return merge_all(client.gather(futures))


def _collect(*keys_and_parts):
    """Assemble a bundle on a worker: `layout` says which of the flat values forms which part."""
    layout, values = keys_and_parts[0], keys_and_parts[1:]
    return [tuple(None if k is None else values[k] for k in part) for part in layout]


def place(client, parts, futures):
    """Bundle the chunks that lie on a cluster's workers: one bundle a run of neighbours on the same worker.

    Parameters
    ----------
    parts : sequence of tuples of keys
    futures : dict of key to Future

    Returns
    -------
    list of (first block, bundle future, workers)
    """
    where = client.who_has(list(futures.values()))
    home = []
    for part in parts:
        holders = [w for key in part if key is not None for w in where.get(futures[key].key, ())]
        home.append(holders[0] if holders else None)
    workers = sorted({w for w in home if w is not None})
    run_length = max(1, -(-len(parts) // max(1, 2 * len(workers))))
    placed = []
    for first in range(0, len(parts), run_length):
        chosen = parts[first:first + run_length]
        homes = [w for w in home[first:first + run_length] if w is not None]
        worker = max(sorted(set(homes)), key=homes.count) if homes else None
        flat, layout = [], []
        for part in chosen:
            layout.append([None if key is None else len(flat) + sum(k is not None for k in part[:i])
                           for i, key in enumerate(part)])
            flat += [futures[key] for key in part if key is not None]
        pin = [worker] if worker else None
        bundle = client.submit(_collect, layout, *flat, workers=pin, allow_other_workers=True, pure=False,
                               key=f"bundle-{next(_serial)}")
        placed.append((first, bundle, pin))
    return placed
