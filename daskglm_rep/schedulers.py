"""Which scheduler of this machine a sweep takes: that of the `backend` block around it, else dask's configuration's.

dask's configuration is one for all threads. A block changes it, so that whatever is computed inside goes the same way,
and puts it back in whatever order blocks of several threads end; a thread that is in a block of its own takes that one.
"""

import contextlib
import contextvars
import importlib
import os
import sys
import threading
import weakref
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import dask
import dask.threaded
from dask.system import CPU_COUNT

CLUSTERS = ("distributed", "dask.distributed")
ONE_THREAD = ("sync", "synchronous", "single-threaded")
PROCESSES = ("processes", "multiprocessing")

_innermost = contextvars.ContextVar("daskglm_rep.backend", default=None)
_open, _lock = [], threading.Lock()


def _after_fork():
    """A forked process has none of its parent's threads, and waits for ever for those of a pool that dask has kept."""
    global _lock
    _lock = threading.Lock()
    dask.threaded.default_pool, dask.threaded.pools_lock = None, threading.Lock()
    dask.threaded.pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _StandIn:
    """A Client or an executor in dask's configuration: None in processes that get a copy of that, as new workers do."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def __call__(self, graph, keys, **how):
        return dask.base.get_scheduler(scheduler=self.scheduler)(graph, keys, **how)

    def __getattr__(self, name):
        return getattr(self.scheduler, name)                # dask asks for `persist`

    def __reduce__(self):
        return type(None), ()


class _Block:
    """Settings of dask's that hold until `left`, and what they were before."""

    def __init__(self, settings):
        self.around = _innermost.get()
        self.settings = {name: _StandIn(value) if name == "scheduler" and not isinstance(value, str) else value
                         for name, value in settings.items()}
        with _lock:
            self.before = {name: dask.config.get(name, None) for name in settings}
            dask.config.set(self.settings)
            _open.append(self)
        _innermost.set(self)

    def left(self):
        if _innermost.get() is self:
            _innermost.set(self.around)
        with _lock:
            later = _open[_open.index(self) + 1:]
            _open.remove(self)
            for name, before in self.before.items():
                heir = next((block.before for block in later if name in block.before), None)
                if heir is None:
                    dask.config.set({name: before})
                else:
                    heir[name] = before


@contextlib.contextmanager
def settings(**names):
    """Settings of dask's configuration while a block runs, for this thread and those without a block of their own."""
    block = _Block({name.replace("__", "."): value for name, value in names.items()})
    try:
        yield
    finally:
        block.left()


def _around():
    block = _innermost.get()
    while block is not None:
        yield block
        block = block.around


def setting(name):
    """What dask's configuration says of a name, for this thread: None where it says nothing."""
    value = _setting(name)
    return value.scheduler if isinstance(value, _StandIn) else value


def _setting(name):
    with _lock:
        value = dask.config.get(name, None)
        mine = [block for block in _around() if block in _open]
        saying = [block for block in _open if name in block.settings]
        if not mine or not saying or saying[-1].settings[name] is not value:          # set by hand inside a block
            return value
        ours = next((block for block in mine if block in saying), None)
        return saying[0].before[name] if ours is None else ours.settings[name]


def distributed():
    """The package, if something has imported it: whole, where another thread is importing it just now."""
    return importlib.import_module("distributed") if "distributed" in sys.modules else None


def n_threads():
    """Worker threads of the local scheduler."""
    scheduler = setting("scheduler")
    if isinstance(scheduler, str) and scheduler in ONE_THREAD:
        return 1
    if isinstance(scheduler, ThreadPoolExecutor):
        return scheduler._max_workers
    return setting("num_workers") or CPU_COUNT


def run_in_threads(graph, keys):
    """Values of keys of a graph, by threads of this process."""
    scheduler = setting("scheduler")
    if isinstance(scheduler, ThreadPoolExecutor):
        return _in_words(dask.base.get_scheduler(scheduler=scheduler))(graph, keys)
    return dask.threaded.get(graph, keys, num_workers=setting("num_workers"))


def run_lazy(source, graph, keys):
    """Values of keys of a graph, by the scheduler of this machine; a pool of processes is kept with the source."""
    return _in_words(_lazy_get(source))(graph, keys)


def _lazy_get(source):
    scheduler, n_workers = setting("scheduler"), setting("num_workers")
    if isinstance(scheduler, ProcessPoolExecutor):
        return partial(dask.multiprocessing.get, pool=scheduler, optimize_graph=False)
    if isinstance(scheduler, str) and scheduler in PROCESSES:
        return partial(dask.multiprocessing.get, pool=dask.config.get("pool", None) or _pool(source),
                       optimize_graph=False)
    get = dask.base.get_scheduler(scheduler="threads" if scheduler in (None, *CLUSTERS) else scheduler)
    return partial(get, num_workers=n_workers) if get is dask.threaded.get else get


def _in_words(get):
    """A scheduler that says what became of its executor."""
    def run(graph, keys):
        try:
            return get(graph, keys)
        except BrokenExecutor as error:
            raise RuntimeError(f"A process of this back end died in a sweep ({error}): most often there is too little "
                               "memory for a chunk. Make chunks smaller, or take fewer processes (n_workers)."
                               ) from error
        except (RuntimeError, CancelledError) as error:
            if not isinstance(error, CancelledError) and "cannot schedule new futures" not in str(error):
                raise
            raise RuntimeError("The back end of this fit was shut down before the fit ended: another thread left its "
                               "`with backend(...)` block or shut the executor down. Stay in the block until the fits "
                               "inside are done.") from error
    return run


def _pool(source):
    if getattr(source, "pool", None) is None:
        source.pool = process_pool(n_threads())
        weakref.finalize(source, source.pool.shutdown, wait=False)
    return source.pool


def process_pool(n_workers):
    """Processes as dask's scheduler starts them, to be used by several sweeps: starting them takes seconds."""
    start = partial(dask.multiprocessing.initialize_worker_process, user_initializer=None)
    return ProcessPoolExecutor(n_workers, mp_context=dask.multiprocessing.get_context(), initializer=start)
