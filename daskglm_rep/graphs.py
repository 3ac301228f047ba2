"""Where lazy chunks come from: what leads to one chunk alone is done inside the task that uses the chunk.

A sweep then sends one task a chunk and one merge for every `merging.SPLIT_EVERY` of them, however many steps dask needs
to make a chunk. A read that fails is tried again, and one that keeps failing says which file it was.
"""

import contextlib
import copy
import dataclasses
import importlib
import os
import sys
import time

import cloudpickle
from dask._task_spec import DataNode, GraphNode, TaskRef, _execute_subgraph, convert_legacy_graph
from dask.core import flatten
from dask.highlevelgraph import HighLevelGraph
from dask.optimization import cull
from dask.utils import ensure_dict

from daskglm_rep import schedulers

MOST_STEPS = 64                      # longer ways to a chunk stay tasks of their own: the scheduler can spread them
PAUSES = (0.1, 1.0)                  # seconds before the second and the third attempt
FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
SHARED = -1


def optimized(frame):
    """A dask frame's `optimize()`, which leaves dask's configuration as it is.

    Optimising a read of Parquet by Arrow's file system imports distributed within a `dask.config.set` of a setting of
    distributed's. Where that is the first import, what distributed has set goes with it at the end: every later
    `compute()` and `Client()` of the process is a KeyError.
    """
    from dask.dataframe.dask_expr.io import ReadParquetPyarrowFS

    if any(True for _ in frame.expr.find_operations(ReadParquetPyarrowFS)):
        with contextlib.suppress(ImportError):
            importlib.import_module("distributed")
    return frame.optimize()


class Note(str):
    """What a task wants to be told where the sweep was asked for."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """The values of one chunk from the values of the tasks before it.

    Attributes
    ----------
    steps : tuple of (key, task, keys that nothing needs afterwards)
        In an order in which they can be run.
    chunk : tuple
        Keys of the chunk's values; None where a role has none.
    outer : tuple
        Keys of the values that it is called with.
    """

    steps: tuple
    chunk: tuple
    outer: tuple

    def __call__(self, *given):
        values = dict(zip(self.outer, given))
        for key, task, done in self.steps:
            values[key] = task(values)
            for old in done:
                del values[old]
        return tuple(None if key is None else values[key] for key in self.chunk)

    @property
    def reads(self):
        """Whether some step begins with nothing: it reads or makes rows."""
        tasks = [task for _, task, _ in self.steps]
        return any(not task.dependencies and not isinstance(task, DataNode) or
                   isinstance(task, Inner) and task.reader.reads for task in tasks)

    def read(self, index, *given):
        """The chunk's values, tried again where storage fails for a moment, and a note if it did.

        Raises
        ------
        OSError, ValueError
            What keeps failing, with the chunk's number and its file; others with a note of these.
        """
        import pyarrow as pa
        for attempt, pause in enumerate((*PAUSES, None)):
            try:
                chunk = self(*given)
            except FINAL:
                raise
            except (OSError, pa.ArrowException) as error:
                if pause is None or not isinstance(error, OSError):
                    kind = OSError if isinstance(error, OSError) else ValueError
                    raise kind(f"Block {index} cannot be read{self._source()}: {error}") from error
                reason = f"{type(error).__name__}: {error}"
                time.sleep(pause)
            except Exception as error:
                self._explain(index, error)
                raise
            else:
                return chunk, Note(f"block {index} ({reason})") if attempt else None

    def _explain(self, index, error):
        """Say which block the user's own code failed on; a file without a column is no fault of that code."""
        source = self._source()
        if source and isinstance(error, KeyError):
            raise ValueError(f"Block {index}{source} has not the columns of the others: {error.args[0]}.") from error
        error.add_note(f"This was raised while block {index}{source} was made.")

    def _source(self):
        names = sorted({name for _, task, _ in self.steps for name in paths_in(task)})
        return f" from {', '.join(names[:3])}" if names else ""


@dataclasses.dataclass(frozen=True)
class Inner:
    """A task that dask made of several, with their order found once: dask looks for it in every call, for 0.1 ms."""

    reader: Reader
    dependencies: tuple

    @classmethod
    def of(cls, task):
        """The task itself where it is no such one."""
        if getattr(task, "func", None) is not _execute_subgraph or len(task.args[0]) > MOST_STEPS:
            return task
        inside, last, names, *given = task.args
        reader = _reader(inside, (last,), 0, dict.fromkeys(inside, 0))
        values = {name: ref.key for name, ref in zip(names, given)}
        if not all(isinstance(ref, TaskRef) for ref in given) or not values.keys() >= set(reader.outer):
            return task
        return cls(reader, tuple(values[name] for name in reader.outer))

    def __call__(self, values):
        return self.reader(*[values[key] for key in self.dependencies])[0]


def paths_in(a, depth=0):
    """Names of files among the arguments of a task."""
    if isinstance(a, (str, os.PathLike)):
        name = os.fspath(a)
        if "://" in name or os.path.isfile(name):
            yield name
    elif isinstance(a, Inner):
        yield from paths_in([task for _, task, _ in a.reader.steps], depth + 1)
    elif isinstance(a, GraphNode):
        yield from paths_in((*getattr(a, "args", ()), *getattr(a, "kwargs", {}).values(),
                             getattr(a, "value", None)), depth + 1)
    elif isinstance(a, dict) and depth < 12:
        yield from paths_in(list(a.values()), depth + 1)
    elif isinstance(a, (list, tuple)) and depth < 12:
        for value in a:
            yield from paths_in(value, depth + 1)
    elif hasattr(a, "fragment"):
        yield str(a.fragment.path)


class Source:
    """The graph behind lazy chunks, in the form that every sweep uses.

    Attributes
    ----------
    collections : list of dask collections
    readers : list of Reader
        One a chunk.
    rest : dict
        Tasks that several chunks need, those of ways too long to join, and futures: what `readers` are called with.
    futures : dict
        The futures among them: rows that lie on a cluster already, by key.
    packed : dict
        Runs of readers as they are sent, by the number of runs.
    placed : list of placement.Placed or None
        Bundles of them on the workers; empty where that does not suit, None before it was tried.
    """

    def __init__(self, chunks, collections, graph):
        self.collections, self.placed, self.told, self.packed = collections, None, False, {}
        self.futures = futures_in(collections)
        graph = convert_legacy_graph(graph)
        owner = _owners(graph, chunks, self.futures)
        self.readers = [_reader(graph, chunk, i, owner) for i, chunk in enumerate(chunks)]
        self.rest = _rest(graph, self.readers, self.futures)

    @property
    def is_persisted(self):
        """Whether every chunk follows, without reading, from values that lie on a cluster."""
        return bool(self.futures) and all(key in self.futures for reader in self.readers for key in reader.outer) and (
            not any(reader.reads for reader in self.readers) and all(reader.outer for reader in self.readers))


    def only(self, number):
        """The graph behind one of the chunks."""
        one, reader = copy.copy(self), self.readers[number]
        one.readers, one.placed, one.told, one.packed = [reader], [], True, {}
        one.rest = dict(cull(self.rest, list(reader.outer))[0]) if reader.outer else {}
        return one


class Packed:
    """A value that is pickled once, however often it is sent, and unpickled where it is used only."""

    def __init__(self, value=None, pickled=None):
        self._value, self._pickled = value, pickled

    def __reduce__(self):
        if self._pickled is None:
            self._pickled = cloudpickle.dumps(self._value)
        return Packed, (None, self._pickled)

    @property
    def value(self):
        return cloudpickle.loads(self._pickled) if self._value is None else self._value


def futures_in(collections):
    """Futures in the graphs of collections, by key."""
    distributed = schedulers.distributed()
    if distributed is None:
        return {}
    operands = [operand for c in collections if hasattr(c, "expr") for e in c.expr.walk() for operand in e.operands]
    scattered = [operand for operand in operands if isinstance(operand, distributed.Future)]
    return {future.key: future for future in distributed.futures_of([*collections, *scattered])}


def array_graph(arrays):
    """The optimised graph of dask arrays."""
    keys = list(flatten([a.__dask_keys__() for a in arrays]))
    whole = HighLevelGraph.merge(*[a.__dask_graph__() for a in arrays])
    return ensure_dict(arrays[0].__dask_optimize__(whole, keys))


def _owners(graph, chunks, futures):
    """Which chunk alone needs a task: its number, `SHARED` where several do."""
    owner = {}
    for i, chunk in enumerate(chunks):
        stack = [key for key in chunk if key is not None]
        while stack:
            key = stack.pop()
            if key in futures or key not in graph or owner.get(key) in (i, SHARED):
                continue
            owner[key] = SHARED if key in owner else i
            stack.extend(graph[key].dependencies)
    return owner


def _reader(graph, chunk, i, owner):
    order, seen = [], set()
    outer = {key: None for key in chunk if key is not None and owner.get(key) != i}
    stack = [(key, False) for key in chunk if owner.get(key) == i]
    while stack:
        key, ready = stack.pop()
        if ready:
            order.append(key)
        elif key not in seen:
            seen.add(key)
            stack.append((key, True))
            inside = [k for k in graph[key].dependencies if owner.get(k) == i]
            outer.update((k, None) for k in graph[key].dependencies if owner.get(k) != i)
            stack.extend((k, False) for k in inside)
    if len(order) > MOST_STEPS:
        return Reader((), chunk, tuple(dict.fromkeys(key for key in chunk if key is not None)))
    last = {k: key for key in order for k in graph[key].dependencies if k not in chunk}
    finished = {}
    for k, key in last.items():
        finished.setdefault(key, []).append(k)
    steps = tuple((key, Inner.of(_quick(graph[key])), tuple(finished.get(key, ()))) for key in order)
    return Reader(steps, chunk, tuple(outer))


def _quick(task):
    """The task, made to read Parquet files of this machine faster where it reads some."""
    if "dask.dataframe" not in sys.modules:
        return task
    from daskglm_rep.parquet import quick
    return quick(task)


def _rest(graph, readers, futures):
    """Everything below the keys that readers are called with."""
    rest, stack = {}, [key for reader in readers for key in reader.outer]
    while stack:
        key = stack.pop()
        if key in rest:
            continue
        if key in futures:
            rest[key] = futures[key]
        elif key in graph:
            rest[key] = graph[key]
            stack.extend(graph[key].dependencies)
    return rest
