"""Rows that lie on a cluster's workers already: bundled there once a fit, one bundle a worker thread.

A sweep then sends one task a bundle instead of one a chunk. Chunks stay where they are, so the chunks of a bundle need
not be neighbours; what must be merged in the order of the blocks travels as runs of neighbours (`Runs`).
"""

import dataclasses
import uuid

import numpy as np
import pandas as pd
from dask._task_spec import Task, TaskRef
from dask.highlevelgraph import HighLevelGraph, MaterializedLayer
from dask.sizeof import sizeof

from daskglm_rep import workers
from daskglm_rep.summaries import joined

LOAD = 2.0             # chunks move only from workers that hold more than this times their share
MOST_COPIED = 0.3      # of a worker's memory, that columns taken out of persisted chunks may fill


@dataclasses.dataclass(frozen=True)
class Placed:
    """One bundle: its future, the numbers of its blocks, ascending, and the worker that it lies on."""

    future: object
    blocks: tuple
    worker: str


class Bundle:
    """Chunks on one worker, as the kernels' recipes take them; persisted ones are referred to, not copied."""

    def __init__(self, blocks, chunks, n_bytes):
        self.blocks, self.chunks, self.n_bytes = blocks, chunks, n_bytes

    def __sizeof__(self):
        """Bytes beside those of the chunks, which the scheduler has counted."""
        return self.n_bytes


def _collect(blocks, readers, *values):
    values, chunks, n_bytes = iter(values), [], 0
    for reader in readers:
        chunk = reader(*[next(values) for _ in reader.outer])
        made = {key for key, *_ in reader.steps}
        n_bytes += sum(_own_bytes(value) for key, value in zip(reader.chunk, chunk) if key in made)
        chunks.append(chunk)
    return Bundle(blocks, chunks, n_bytes)


def _own_bytes(value):
    if isinstance(value, np.ndarray):
        return value.nbytes if value.base is None else 0
    return sizeof(value) if isinstance(value, (pd.DataFrame, pd.Series)) else 0


@dataclasses.dataclass(frozen=True)
class Runs:
    """Summaries of runs of neighbouring blocks, until their neighbours come.

    Attributes
    ----------
    runs : tuple of (first block, one past the last, summary)
        Ascending.
    """

    runs: tuple

    @classmethod
    def of(cls, block, summary):
        return cls(((block, block + 1, summary),))

    def merge(self, other):
        merged = []
        for run in sorted(self.runs + other.runs, key=lambda run: run[0]):
            if merged and merged[-1][1] == run[0]:
                first, _, before = merged.pop()
                run = (first, run[1], before.merge(run[2]))
            merged.append(run)
        return Runs(tuple(merged))

    def joined(self):
        return Runs(tuple((first, last, joined(summary)) for first, last, summary in self.runs))


@dataclasses.dataclass(frozen=True)
class Sorted:
    """A summary that can be sorted, merged in the order of `blocks`."""

    blocks: tuple
    summary: object

    def merge(self, other):
        return Sorted(self.blocks + other.blocks, self.summary.merge(other.summary))

    def joined(self):
        return Sorted(self.blocks, joined(self.summary))


def wrapped(block, summary):
    """The summary of one block, so that it may be merged in any order of the blocks."""
    if getattr(summary, "commutes", False):
        return summary
    return Sorted((block,), summary) if hasattr(summary, "in_order") else Runs.of(block, summary)


def unwrapped(total):
    """The merged summary of all blocks, in their order."""
    if isinstance(total, Sorted):
        return total.summary.in_order(np.argsort(total.blocks))
    if isinstance(total, Runs):
        (_, _, total), = total.runs
    return total


def place(client, source):
    """Bundle the chunks of a source on the workers that hold them; an empty list where that does not suit.

    It suits where every chunk follows from values on the cluster without reading, no worker has rows on disk, and
    there is room for the columns that are taken out.
    """
    if not source.is_persisted:
        return []
    needed = {key: source.futures[key] for reader in source.readers for key in reader.outer}
    workers.wait(client, list(needed.values()))
    if any(future.status != "finished" for future in needed.values()):
        return []
    known = workers.known(client)
    holders = client.who_has(list(needed.values()))
    if not known or not _there_is_room(client, source, holders, known):
        return []
    homes = _homes([[holders.get(key, ()) for key in reader.outer] for reader in source.readers],
                   {address: worker["nthreads"] for address, worker in known.items()})
    cut = [(worker, tuple(map(int, run))) for worker, blocks in sorted(homes.items())
           for run in np.array_split(blocks, min(known[worker]["nthreads"], len(blocks)))]
    return _build(client, source, sorted(cut, key=lambda bundle: bundle[1][0]))


def _there_is_room(client, source, holders, known):
    for worker in known.values():
        if worker["metrics"].get("spilled_bytes", {}).get("disk", 0):
            return False
    if not any(reader.steps for reader in source.readers):
        return True
    size, held = client.nbytes(summary=False), dict.fromkeys(known, 0)
    for key, where in holders.items():
        for worker in where:
            held[worker] = held.get(worker, 0) + size.get(key, 0)
    return all(held[address] <= MOST_COPIED * (worker.get("memory_limit") or np.inf)
               for address, worker in known.items())


def _homes(holders, threads):
    """Blocks of each worker: where most of their values lie, unless that worker has far more than its share."""
    most = {worker: int(np.ceil(LOAD * len(holders) * n / sum(threads.values()))) for worker, n in threads.items()}
    homes, rest = {}, []
    for block, lists in enumerate(holders):
        votes = [worker for workers_of_key in lists for worker in workers_of_key if worker in threads]
        choices = sorted(set(votes), key=lambda w: (-votes.count(w), len(homes.get(w, ())), w))
        home = next((w for w in choices if len(homes.get(w, ())) < most[w]), None)
        if home is None:
            rest.append(block)
        else:
            homes.setdefault(home, []).append(block)
    for block in rest:
        worker = min(threads, key=lambda w: (len(homes.get(w, ())) / threads[w], w))
        homes.setdefault(worker, []).append(block)
    return {worker: sorted(blocks) for worker, blocks in homes.items()}


def _build(client, source, cut):
    name = f"bundle-{uuid.uuid4().hex}"
    layer, pins = {}, {}
    for i, (worker, blocks) in enumerate(cut):
        readers = tuple(source.readers[b] for b in blocks)
        layer[name, i] = Task((name, i), _collect, blocks, readers,
                              *[TaskRef(key) for reader in readers for key in reader.outer])
        pins[name, i] = [worker]
    futures = client.get(pinned(name, layer, pins), list(layer), sync=False)
    return [Placed(future, blocks, worker) for future, (worker, blocks) in zip(futures, cut)]


def pinned(name, layer, pins):
    """A graph whose tasks prefer some workers: softly, so that they go elsewhere when a worker dies.

    Parameters
    ----------
    layer : dict of key to task
    pins : dict of key to list of worker addresses
        Of those that have a preference.
    """
    loose = dict.fromkeys(pins, True)
    tasks = MaterializedLayer(layer, annotations={"workers": pins.get, "allow_other_workers": loose.get})
    return HighLevelGraph({name: tasks}, {name: set()})
