"""One pass: a block kernel on every block, a tree that merges the summaries. The only place that sweeps.

Three ways to the same sum, chosen by where the rows are:

- rows in this process: neighbouring blocks are bundled, one task a bundle (a task costs more than a small block);
- lazy collections: tasks that make a chunk and forget it before the next, one chunk a task or, where they are many,
  a run of neighbours, merged by a tree of tasks;
- rows on the workers of a cluster: one bundle a worker thread, built once and softly pinned there.

Merges follow the order of the blocks in the first two, so two runs agree to the last bit; on a cluster they follow the
places of persisted chunks, and runs agree to rounding. Two graphs never share a key, whichever processes build them:
clients of one scheduler get each other's results for equal keys. Rows that a survey has counted are counted in every
later sweep: a block that comes with more or fewer is refused.
"""

import logging
from functools import lru_cache, partial

import cloudpickle
import dask.array as da
import numpy as np
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph

from daskglm_rep import placement, schedulers, workers
from daskglm_rep.blas import ONE_BLAS_THREAD
from daskglm_rep.graphs import Packed
from daskglm_rep.merging import Noted, fresh_name, merge_all, merge_tree, merged_by_shares, sent, told
from daskglm_rep.telling import tell

logger = logging.getLogger("daskglm_rep")
BUNDLES_PER_THREAD = 4
TASKS_PER_THREAD = 32                # of lazy chunks: more cost more than the balance that they bring
TABLES_PER_THREAD = 2                # of them, of a kernel whose summary is large: one a task


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


class _Work:
    """A kernel with what it is called with beside a block: one callable, so that dask looks for no keys in it.

    A kernel that `grows`, with these arguments, takes the `total` of other blocks and adds its block to it in place:
    its summary is large. Pickled once a sweep and unpickled once a process: what arguments learn from rows is kept.
    """

    def __init__(self, kernel, prepare, arguments, finish=None):
        self.kernel, self.prepare, self.arguments, self.finish = kernel, prepare, arguments, finish
        grows = getattr(kernel, "grows", False)
        self.grows = grows(*arguments) if callable(grows) else grows
        self.pickled = None

    def __reduce__(self):
        if self.pickled is None:
            self.pickled = cloudpickle.dumps((self.kernel, self.prepare, self.arguments))
        return _unpickled, (self.pickled,)

    def one(self, chunk, index, expected, **total):
        return self.kernel(counted(self.prepare(chunk, index), index, expected), *self.arguments, **total)

    def _folded(self, calls):
        """Merged over neighbouring blocks, each a call of `one` or `chunk`."""
        if not self.grows:
            return merge_all(call() for call in calls)
        total, notes = None, []
        for call in calls:
            total = call(total=total)
            if isinstance(total, Noted):
                total, notes = total.summary, notes + total.notes
        return Noted(total, notes) if notes else total

    def fold(self, chunks, first, lengths):
        """Merged over neighbouring chunks, the first of which is block number `first`."""
        return self._folded(partial(self.one, chunk, first + i, n) for i, (chunk, n) in enumerate(zip(chunks, lengths)))

    def chunk(self, index, expected, reader, *given, **total):
        """Of a lazy chunk, made here."""
        with ONE_BLAS_THREAD:
            chunk, note = reader.read(index, *given)
            found = self.one(chunk, index, expected, **total)
        return Noted(found, [note]) if note else found

    def chunks(self, first, lengths, readers):
        """Merged over neighbouring lazy chunks, one in memory at a time."""
        return sent(self._folded(partial(self.chunk, first + i, n, reader)
                                  for i, (n, reader) in enumerate(zip(lengths, readers.value))))

    def rows(self, *chunk):
        """Of a lazy chunk whose outcome is rows: what storage did is left aside."""
        found = self.chunk(*chunk)
        return found.summary if isinstance(found, Noted) else found

    def bundle(self, lengths, bundle):
        """Of a bundle on a worker; runs of neighbours where the order of blocks matters."""
        calls = [partial(self.one, chunk, block, n) for chunk, block, n in zip(bundle.chunks, bundle.blocks, lengths)]
        with ONE_BLAS_THREAD:
            if self.grows:
                return self._folded(calls)
            return sent(merge_all(placement.wrapped(block, call()) for block, call in zip(bundle.blocks, calls)))


@lru_cache(maxsize=2)
def _unpickled(pickled):
    work = _Work(*cloudpickle.loads(pickled))
    work.pickled = pickled
    return work


def run(kernel, data, *arguments, finish=None):
    """Merge `kernel(block, *arguments)` over all blocks of some data: one sweep.

    Parameters
    ----------
    kernel : callable
        Module-level function from a Block and the arguments to a summary with `merge`. Never a numba dispatcher: those
        are pickled by value. Summaries whose blocks may come in any order say so by `commutes = True`.
    data : design.Data
    finish : callable, optional
        Of the summary of a kernel that `grows`, pickled to where the last merges are made: a large summary stays there.
        Its `adds_up(summary)` says whether it may be called on shares of the summary, and the outcomes merged.

    Returns
    -------
    The merged summary, or what `finish` makes of it.

    Raises
    ------
    ValueError
        A block that has not the rows which `data.lengths` says.
    """
    if data.ask is not None:
        return data.ask(kernel, arguments)
    data.n_passes += 1
    work, name = _Work(kernel, data.prepare, arguments, finish), fresh_name(kernel.__name__)
    if data.source is None:
        total = _run_local(name, work, data)
        return total if finish is None else finish(total)
    client = client_of(data.source)
    if client is not None and data.source.placed is None:
        data.source.placed = placement.place(client, data.source)
    if not data.source.told:
        data.source.told = True
        if logger.isEnabledFor(logging.INFO):
            logger.info("%s", where(data))
        _tell_large_chunks(data, client)
    if client is not None and data.source.placed:
        return told(_run_placed(name, work, data, client))
    return told(_run_lazy(name, work, data, client))


def where(data):
    """One line: where the sweeps over some data run, and why."""
    if data.source is None:
        return (f"{data.n_blocks} blocks of rows in this process: {schedulers.n_threads()} threads of it, whatever the "
                "scheduler.")
    client, chunks = client_of(data.source), f"{data.n_blocks} lazy chunks"
    if client is None:
        scheduler = schedulers.setting("scheduler") or "threads"
        name = scheduler if isinstance(scheduler, str) else type(scheduler).__name__
        return f"{chunks}, made again in every sweep in this machine's {name!r} scheduler: no cluster is connected."
    threads = sum(w["nthreads"] for w in workers.known(client).values())
    cluster = f"cluster {client.scheduler.address} ({threads} threads)"
    if data.source.placed:
        return f"{data.n_blocks} chunks persisted on {cluster}: {len(data.source.placed)} bundles, a task each a sweep."
    reason = (" because workers are short of memory" if data.source.is_persisted else
              "; X.persist() keeps them there if they fit its memory")
    return f"{chunks}, made again in every sweep on {cluster}{reason}."


def _tell_large_chunks(data, client):
    """Warn of chunks, of known size, that no worker can hold."""
    arrays = [c for c in data.source.collections if isinstance(c, da.Array)]
    if client is None or data.source.placed or not arrays or np.isnan(arrays[0].chunks[0]).any():
        return
    trouble = workers.check_memory(client, max(arrays[0].chunks[0]) * sum(
        a.dtype.itemsize * (a.shape[1] if a.ndim > 1 else 1) for a in arrays))
    if trouble:
        tell(trouble, ResourceWarning)


def client_of(source):
    """The client to run lazy chunks with: the one that dask would use, or that of their futures; or None."""
    client = workers.active_client()
    if client is None and source.futures and schedulers.setting("scheduler") is None:
        client = next(iter(source.futures.values())).client
    if client is not None:
        workers.check_client(client)
    return client


def bundles(chunks, n):
    """Cut a sequence into at most n runs of neighbours: (position of the first, run)."""
    edges = np.linspace(0, len(chunks), min(n, len(chunks)) + 1).astype(int)
    return [(int(a), chunks[a:b]) for a, b in zip(edges, edges[1:]) if b > a]


def _run_local(name, work, data):
    """Rows of this process are not sent to others, whatever the scheduler: that would cost more than the sweep."""
    n_threads = schedulers.n_threads()
    if len(data.chunks) == 1 or n_threads == 1:
        return work.fold(data.chunks, 0, data.expected())
    graph, keys = {}, []
    for i, (first, bundle) in enumerate(bundles(data.chunks, n_threads * (1 if work.grows else BUNDLES_PER_THREAD))):
        keys.append((name, i))
        graph[name, i] = Task((name, i), _Bound(work.fold, bundle, first, data.expected(first, len(bundle))))
    with ONE_BLAS_THREAD:
        return merge_all(schedulers.run_in_threads(graph, keys), owned=True)


class _Bound:
    """A call with its arguments as one callable: dask must not look for keys inside the rows."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __call__(self):
        return self.function(*self.arguments)


def _run_lazy(name, work, data, client):
    layer = _lazy_tasks(name, work, data, schedulers.n_threads() if client is None else workers.n_threads(client))
    rest, futures = data.source.rest, data.source.futures
    if client is not None:
        rest = {key: task for key, task in rest.items() if key not in futures}
        return _on_cluster(work, layer, lambda layer: _graph(name, layer, rest), client, futures)
    last = merge_tree(layer, list(layer), _merge_name(work), work.finish)
    with ONE_BLAS_THREAD:
        return schedulers.run_lazy(data.source, layer | rest, last)


def _merge_name(work):
    return fresh_name(f"{work.kernel.__name__}-merge")


def _on_cluster(work, layer, graph_of, client, futures):
    """Merge the outcomes of a layer of tasks on the workers."""
    if work.finish is not None:
        return merged_by_shares(client, graph_of, layer, _merge_name(work), work.finish, futures.values())
    last = merge_tree(layer, list(layer), _merge_name(work))
    return workers.compute(client, graph_of(layer), last, futures.values())


def _graph(name, layer, rest):
    below = f"{name}-below"
    return HighLevelGraph({name: layer, below: rest}, {name: {below}, below: set()})


def _lazy_tasks(name, work, data, threads):
    readers = data.source.readers
    if any(reader.outer for reader in readers):
        return _chunk_tasks(name, (), work.chunk, data)
    n = min(len(readers), (TABLES_PER_THREAD if work.grows else TASKS_PER_THREAD) * threads)
    if n not in data.source.packed:
        data.source.packed[n] = [(first, len(run), Packed(run)) for first, run in bundles(readers, n)]
    return {(name, i): Task((name, i), work.chunks, first, data.expected(first, length), run)
            for i, (first, length, run) in enumerate(data.source.packed[n])}


def _chunk_tasks(name, tail, function, data):
    """A task a chunk of lazy data, under keys (name, number, *tail)."""
    layer = {}
    for i, (reader, n) in enumerate(zip(data.source.readers, data.expected())):
        key = (name, i, *tail)
        layer[key] = Task(key, function, i, n, reader, *map(TaskRef, reader.outer))
    return layer


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
    name, work = fresh_name(kernel.__name__), _Work(kernel, data.prepare, arguments)
    if data.source is None:
        layer, rest = {(name, i, 0): Task((name, i, 0), _Bound(work.one, chunk, i, n))
                       for i, (chunk, n) in enumerate(zip(data.chunks, data.expected()))}, {}
    else:
        layer, rest = _chunk_tasks(name, (0,), work.rows, data), data.source.rest
    return da.Array(_graph(name, layer, rest), name, chunks=(tuple(lengths), (width,)), dtype=float,
                    meta=np.empty((0, 0)))


def _run_placed(name, work, data, client):
    layer, pins, lengths = {}, {}, data.expected()
    for i, placed in enumerate(data.source.placed):
        layer[name, i] = Task((name, i), work.bundle, [lengths[b] for b in placed.blocks], TaskRef(placed.future.key))
        pins[name, i] = [placed.worker]
    total = _on_cluster(work, layer, lambda layer: placement.pinned(name, layer, pins), client,
                        data.source.futures)
    return placement.unwrapped(merge_all([total]))
