"""A cluster as sweeps see it: which client, waiting for its workers aloud, and what it lost, in words."""

import contextlib
import logging
import time
from concurrent.futures import CancelledError

from dask.utils import format_bytes

from daskglm_rep import schedulers

logger = logging.getLogger("daskglm_rep")
POLL = 5.0                           # seconds between looks at a cluster that does not answer
PATIENCE = 60.0                      # seconds between two words about it
GUESS = 16                           # threads of a cluster whose workers are still to come


def active_client():
    """The distributed client that dask would use by default, or None."""
    scheduler, distributed = schedulers.setting("scheduler"), schedulers.distributed()
    if distributed is None:
        return None
    if isinstance(scheduler, distributed.Client):
        return scheduler
    if scheduler is not None and scheduler not in schedulers.CLUSTERS:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None


def check_client(client):
    """Refuse a client that is closed, or that an event loop runs in which a sweep would wait for it.

    Raises
    ------
    RuntimeError
    """
    if client.status in ("closed", "closing"):
        raise RuntimeError("The client of these rows is closed, and what was persisted through it is gone: connect a "
                           "client, and persist or scatter the data anew.")
    if client.asynchronous:
        raise RuntimeError("The client is asynchronous, and a fit waits for its sweeps, which would block the event "
                           "loop for ever: await asyncio.to_thread(model.fit, X, y).")


def known(client):
    """What the scheduler knows of its workers, by address; asked here, as a poll empties the client's own copy."""
    with contextlib.suppress(OSError):          # the scheduler is gone
        return client.sync(client.scheduler.identity, n_workers=-1)["workers"] if client.scheduler else {}
    return {}


def n_threads(client):
    """Threads of a cluster's workers; of one with none yet, a guess."""
    return sum(worker["nthreads"] for worker in known(client).values()) or GUESS


def compute(client, graph, keys, futures=()):
    """Values of keys of a graph, computed on a cluster.

    Parameters
    ----------
    keys : key or list of keys
    futures : collection of Future
        Rows that the graph needs, to say which of them were lost.

    Raises
    ------
    RuntimeError
        Rows whose only copy died with a worker.
    TimeoutError
        No worker could work for `daskglm_rep.timeout` seconds (dask's configuration; without it they are waited for).
    """
    with held(client, graph, keys, futures) as wanted:
        return client.gather(wanted)


@contextlib.contextmanager
def held(client, graph, keys, futures=()):
    """Futures of keys of a graph, once they are computed; released in the end. Parameters and errors of `compute`."""
    from distributed import KilledWorker
    with _seceded():
        wanted = client.get(graph, keys, sync=False)
        try:
            wait(client, wanted)
            yield wanted
        except CancelledError:
            raise RuntimeError(lost(client, futures)) from None
        except KilledWorker as error:
            error.add_note(f"Most often a worker has too little memory for a chunk ({_memory(client)}): make chunks "
                           "smaller, or give workers more memory.")
            raise
        finally:
            for future in wanted if isinstance(wanted, list) else [wanted]:
                future.release()


def holders(client, futures):
    """Addresses of the workers that hold the values of futures, in the order of these."""
    where = client.who_has(futures)
    return list(dict.fromkeys(addresses[0] for addresses in map(where.get, (f.key for f in futures)) if addresses))


@contextlib.contextmanager
def _seceded():
    """Inside a task of a worker: leave its thread to other tasks while this one waits for them."""
    from distributed import rejoin, secede
    from distributed.worker import thread_state
    left = False
    if getattr(thread_state, "key", False):
        with contextlib.suppress(Exception):
            secede()
            left = True
    try:
        yield
    finally:
        if left:
            rejoin()


def wait(client, futures):
    """Wait for futures; where no worker can work, say so every minute and stop after `daskglm_rep.timeout` seconds."""
    limit = schedulers.setting("daskglm_rep.timeout")
    poll = POLL if limit is None else min(POLL, limit / 4)
    stuck = said = None
    left = list(futures) if isinstance(futures, list) else [futures]
    while left:
        if left[-1].status != "pending":
            left.pop()
            continue
        try:
            left[-1].exception(timeout=poll)
            continue
        except TimeoutError:
            now, trouble = time.monotonic(), _trouble(client)
        if trouble is None:
            stuck = None
            continue
        stuck, said = (now, now) if stuck is None else (stuck, said)
        if limit is not None and now - stuck >= limit:
            raise TimeoutError(f"{trouble} (waited {now - stuck:.0f} s, timeout={limit:g}).")
        if now - said >= PATIENCE:
            said = now
            logger.warning("%s; waiting for %.0f s so far (daskglm_rep.backend(..., timeout=seconds) stops waiting).",
                           trouble, now - stuck)


def _trouble(client):
    """Why nothing can run on the cluster, or None."""
    workers = known(client)
    address = client.scheduler.address if client.scheduler else "the cluster"
    if not workers:
        return (f"No worker has come to {address}: see whether its jobs wait in the queue or failed, and start workers "
                "(cluster.scale)")
    if all(w.get("status") == "paused" for w in workers.values()):
        return (f"All {len(workers)} workers of {address} are paused for want of memory ({_memory(client)}): make "
                "chunks smaller, or give workers more memory")
    return None


def _memory(client):
    limits = {w["memory_limit"] for w in known(client).values() if w.get("memory_limit")}
    return f"{format_bytes(min(limits))} a worker" if limits else "no worker is left"


def lost(client, futures):
    """One sentence on rows that no worker has any more."""
    futures = list(futures)
    gone = [f for f in futures if f.status in ("cancelled", "lost")]
    if gone:
        return (f"Rows are lost: {len(gone)} of {len(futures)} chunks that were put on the workers, the first of them "
                f"{gone[0].key!r}, had their only copy on a worker that died, or a client that was closed released "
                "them, and no task can make them again: scatter them anew (with broadcast=True they survive a worker), "
                "or read them from files.")
    return ("The scheduler cancelled this sweep: it was restarted, or the client was closed. Connect a client, load "
            "the data again, and fit again.")


def check_memory(client, largest):
    """A sentence where a chunk of some bytes is too large for a worker, or None."""
    limits = [w["memory_limit"] for w in known(client).values() if w.get("memory_limit")]
    if not limits or 2 * largest <= min(limits):
        return None
    return (f"The largest chunk has {format_bytes(largest)} and the smallest worker {format_bytes(min(limits))}: below "
            "twice the chunk workers pause or die. Make chunks smaller (rechunk, repartition), or give workers more "
            "memory.")
