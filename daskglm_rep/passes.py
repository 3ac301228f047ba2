"""One pass: a block kernel on every block, a tree that merges the summaries. The only place that builds dask graphs.

Three ways to the same sum, chosen by where the rows are:

- rows in this process: neighbouring blocks are bundled, one task a bundle (a task costs more than a small block);
- lazy collections: one task a chunk on top of their own graph, merged by a tree of tasks;
- rows on the workers of a cluster: one bundle a worker, built once and softly pinned there.

Merges follow the order of the blocks in all three, so two runs agree to the last bit. Two graphs never share a key,
whichever processes build them: clients of one scheduler get each other's results for equal keys. Rows that a survey has
counted are counted in every later sweep: a block that comes with more or fewer is refused.
"""

import sys
import uuid
from functools import cache

import dask
import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from dask.system import CPU_COUNT
from threadpoolctl import ThreadpoolController

SPLIT_EVERY = 8
BUNDLES_PER_THREAD = 4


def fresh_name(what):
    """A name that no other graph has; dask's dashboard groups tasks by what stands before the token."""
    return f"{what}-{uuid.uuid4().hex}"


def merge_all(summaries):
    """Merge a sequence of summaries from the left."""
    total = None
    for summary in summaries:
        total = summary if total is None else total.merge(summary)
    return total


def fold(kernel, prepare, bundle, first, lengths, arguments):
    """Run a kernel over the parts of a bundle, whose first part is block number `first`, and merge."""
    return merge_all(kernel(counted(prepare(part, first + i), first + i, n), *arguments)
                     for i, (part, n) in enumerate(zip(bundle, lengths)))


def counted(block, index, expected):
    """The block, if it has the rows that the survey counted (None: nobody has).

    Raises
    ------
    ValueError
        More rows or fewer.
    """
    if expected is not None and block.n_rows != expected:
        raise ValueError(f"Block {index} has {block.n_rows} rows in this sweep and had {expected} in the first one: "
                         "the data change while they are fitted. Persist them (.persist()) if reading them twice gives "
                         "different rows, or stop what writes to their files, and fit again.")
    return block


def _fold_on_worker(*work):
    _one_blas_thread()
    return fold(*work)


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
    local = ("sync", "synchronous", "single-threaded", "threads", "threading", "processes")
    if "distributed" not in sys.modules or dask.config.get("scheduler", None) in local:
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

    Raises
    ------
    ValueError
        A block that has not the rows which `data.lengths` says.
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
        return fold(kernel, data.prepare, data.parts, 0, data.expected(), arguments)
    name = fresh_name(kernel.__name__)
    graph, keys = {}, []
    for i, (first, bundle) in enumerate(bundles(data.parts, BUNDLES_PER_THREAD * n_threads())):
        keys.append((name, i))
        lengths = data.expected(first, len(bundle))
        graph[name, i] = Task((name, i), _Bundle(kernel, data.prepare, bundle, first, lengths, arguments))
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
    name = fresh_name(kernel.__name__)
    layer = _chunk_tasks(name, (), kernel, data, arguments, client is not None)
    last = _merge_tree(layer, fresh_name(f"{kernel.__name__}-merge"))
    total = Delayed(last, HighLevelGraph.from_collections(name, layer, dependencies=data.collections), layer=name)
    if client is not None:
        return total.compute(optimize_graph=False)
    with _controller().limit(limits=1, user_api="blas"):
        return total.compute(optimize_graph=False)


def _chunk_tasks(name, tail, kernel, data, arguments, on_worker):
    """A task a chunk of lazy data, under keys (name, number, *tail)."""
    work, layer = _Chunk(kernel, data.prepare, arguments, on_worker), {}
    for i, (part, n) in enumerate(zip(data.parts, data.expected())):
        key = (name, i, *tail)
        layer[key] = Task(key, work, i, n, *[None if k is None else TaskRef(k) for k in part])
    return layer


def _merge_tree(layer, name):
    """Add to a layer of tasks the tree that merges them, in their order; returns the key of its root."""
    level, depth = list(layer), 0
    while len(level) > 1:
        groups = [level[i:i + SPLIT_EVERY] for i in range(0, len(level), SPLIT_EVERY)]
        level = [(name, depth, i) for i in range(len(groups))]
        layer.update({key: Task(key, _merge, *map(TaskRef, group)) for key, group in zip(level, groups)})
        depth += 1
    return level[0]


def _merge(*summaries):
    return merge_all(summaries)


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
    name = fresh_name(kernel.__name__)
    if data.collections is None:
        layer = {(name, i, 0): Task((name, i, 0), _Bundle(kernel, data.prepare, [part], i, [n], arguments))
                 for i, (part, n) in enumerate(zip(data.parts, data.expected()))}
    else:
        layer = _chunk_tasks(name, (0,), kernel, data, arguments, active_client() is not None)
    graph = HighLevelGraph.from_collections(name, layer, dependencies=data.collections or [])
    return da.Array(graph, name, chunks=(tuple(lengths), (width,)), dtype=float, meta=np.empty((0, 0)))


class _Chunk:
    def __init__(self, kernel, prepare, arguments, on_worker):
        self.kernel, self.prepare, self.arguments, self.on_worker = kernel, prepare, arguments, on_worker

    def __call__(self, index, expected, *part):
        if self.on_worker:
            _one_blas_thread()
        return self.kernel(counted(self.prepare(part, index), index, expected), *self.arguments)


def _run_placed(kernel, data, arguments, client):
    name, futures = fresh_name(kernel.__name__), []
    for i, (first, n, bundle, workers) in enumerate(data.placed):
        futures.append(client.submit(_fold_on_worker, kernel, data.prepare, bundle, first, data.expected(first, n),
                                     arguments, workers=workers, allow_other_workers=True, pure=False,
                                     key=f"{name}-{i}"))
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
    list of (first block, number of blocks, bundle future, workers)
    """
    where = client.who_has(list(futures.values()))
    home = []
    for part in parts:
        holders = [w for key in part if key is not None for w in where.get(futures[key].key, ())]
        home.append(holders[0] if holders else None)
    workers = sorted({w for w in home if w is not None})
    run_length = max(1, -(-len(parts) // max(1, 2 * len(workers))))
    name, placed = fresh_name("bundle"), []
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
                               key=f"{name}-{first}")
        placed.append((first, len(chosen), bundle, pin))
    return placed
