"""Where fits run: `with backend("slurm", jobs=4, cores=8, memory="32GB"): glm(...)`; the answer is the same everywhere.

Rows in memory are always fitted by threads of this process: sending them would cost more than the sweeps. Lazy rows are
read where they are used.
"""

import contextlib
import logging
import multiprocessing
import threading
from concurrent.futures import Executor
from numbers import Integral, Real

from dask.multiprocessing import get as get_with_pool
from dask.system import CPU_COUNT

from daskglm_rep import schedulers

logger = logging.getLogger("daskglm_rep")
JOB_QUEUES = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster",
              "htcondor": "HTCondorCluster", "oar": "OARCluster", "moab": "MoabCluster"}


def backend(where, n_workers=None, timeout=None, **options):
    """Run what is fitted inside the `with` block somewhere.

    Threads may be in blocks of their own at once, each with its own back end; a thread without one takes the last that
    was entered, as does what dask computes inside (lazy predictions): its configuration is one for all threads. Blocks
    nest, and one may be entered again; what it started ends with it.

    Parameters
    ----------
    where : str, distributed.Client, a cluster that one can connect to, or concurrent.futures.Executor
        - "sequential": one thread; "threads"; "processes": a pool that is kept for the block.
        - "joblib": loky's reusable processes; "ipyparallel": its engines (`client=` an ipyparallel.Client, or
          `n_workers` engines are started).
        - "distributed": `client=` or `address=` of a scheduler, else the active Client, else a LocalCluster with these
          options; the address of its dashboard is printed.
        - "slurm", "pbs", "sge", "lsf", "htcondor", "oar", "moab": jobs that dask-jobqueue submits with these options
          (cores, memory, queue, walltime, ...).
        - "yarn": a cluster of a dask-gateway server (`address=`, `auth=`, and the server's cluster options). Its calls
          are tested, it was never run on a real YARN.
    n_workers : int, optional
        Threads, processes, engines or workers; for job queues the number of jobs (also `jobs=`). `adapt=(least, most)`
        lets a cluster grow and shrink instead.
    timeout : float, optional
        Seconds to wait for a scheduler, and for a cluster none of whose workers can work, before a TimeoutError;
        without it a word is said every minute.

    Returns
    -------
    context manager
        Of a distributed.Client, or of None.

    Raises
    ------
    ValueError, TypeError
        Another name, or options that are not taken.
    OSError
        No scheduler at an address.
    ImportError
        A package that the back end needs is missing.

    Examples
    --------
    >>> from daskglm_rep import PoissonRegressor, backend
    >>> with backend("sequential"):
    ...     model = PoissonRegressor().fit([[0.0], [1.0], [2.0]], [1, 2, 6])
    >>> model.coef_.round(3)
    array([0.955])
    """
    _check_sizes(where, n_workers, timeout)
    return _Backend(where, n_workers, timeout, options)


class _Backend(contextlib.ContextDecorator, threading.local):
    """What each thread has entered, and not left, of one back end; `threading.local` makes it anew for every thread."""

    def __init__(self, *how):
        self._how, self._entered = how, []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            client = _entered(*self._how, stack)
            self._entered.append(stack.pop_all())
        return client

    def __exit__(self, *error):
        return self._entered.pop().__exit__(*error)


def _entered(where, n_workers, timeout, options, stack):
    scheduler, client = _enter(where, n_workers, timeout, options, stack)
    settings = {"scheduler": scheduler, "daskglm_rep__timeout": timeout}
    if n_workers and client is None:
        settings["num_workers"] = n_workers
    stack.enter_context(schedulers.settings(**settings))
    return client


def _check_sizes(where, n_workers, timeout):
    """Refuse what is no number of workers or of seconds."""
    if n_workers is not None and (not isinstance(n_workers, Integral) or isinstance(n_workers, bool) or n_workers < 1):
        raise ValueError(f"n_workers must be a whole number of 1 or more, got {n_workers!r}.")
    if n_workers is not None and where == "sequential":
        raise ValueError("The back end 'sequential' is one thread and takes no n_workers: take 'threads'.")
    if timeout is not None and (not isinstance(timeout, Real) or isinstance(timeout, bool) or not timeout > 0):
        raise ValueError(f"timeout must be a number of seconds above 0, got {timeout!r}.")


def _enter(where, n_workers, timeout, options, stack):
    """Start what is needed; returns dask's scheduler and the client, where there is one."""
    if not isinstance(where, str):
        _refuse(n_workers, options)
        return (where, None) if isinstance(where, Executor) else [_connected(where, timeout, stack)] * 2
    if where in JOB_QUEUES:
        return [_job_queue(where, n_workers, timeout, options, stack)] * 2
    if where == "distributed":
        return [_distributed(n_workers, timeout, options, stack)] * 2
    if where == "yarn":
        return [_gateway(n_workers, options, stack)] * 2
    if where == "ipyparallel":
        return _ipyparallel(n_workers, stack, **options), None
    if where not in ("sequential", "threads", "processes", "joblib"):
        names = ["sequential", "threads", "processes", "joblib", "ipyparallel", "distributed", *JOB_QUEUES, "yarn"]
        raise ValueError(f"There is no back end {where!r}: take one of {', '.join(names)}, or pass a Client; "
                         "an address goes backend('distributed', address=...).")
    if options:
        raise ValueError(f"The back end {where!r} takes no option {', '.join(options)}.")
    if where in ("processes", "joblib") and multiprocessing.current_process().daemon:
        raise ValueError(f"The back end {where!r} starts processes, and a task of a cluster may not: take 'threads'.")
    if where == "processes":
        return Pool(where, stack.enter_context(schedulers.process_pool(n_workers or CPU_COUNT))), None
    if where == "joblib":
        from joblib.externals.loky import get_reusable_executor
        return Pool(where, get_reusable_executor(max_workers=n_workers or CPU_COUNT)), None
    return "sync" if where == "sequential" else where, None


class Pool:
    """dask's scheduler over an executor whose tasks run in other processes."""

    def __init__(self, name, executor, n_workers=None):
        self.name, self.executor, self.submit = name, executor, executor.submit
        self._max_workers = n_workers or executor._max_workers

    def __call__(self, graph, keys, **how):
        return get_with_pool(graph, keys, pool=self, **({"optimize_graph": False} | how))

    def __str__(self):
        return f"{self.name} ({self._max_workers} processes)"


def _ipyparallel(n_workers, stack, client=None):
    ipyparallel = _needed("ipyparallel", "ipyparallel")
    if client is None:
        client = stack.enter_context(ipyparallel.Cluster(n=n_workers or CPU_COUNT, log_level=logging.ERROR))
    if not isinstance(client, ipyparallel.Client) or not client.ids:
        raise ValueError(f"client= of 'ipyparallel' must be an ipyparallel.Client with engines, got {client!r}.")
    return Pool("ipyparallel", client.executor(), len(client.ids))


def _refuse(n_workers, options):
    if n_workers is not None or options:
        names = ", ".join(["n_workers"] * (n_workers is not None) + list(options))
        raise ValueError(f"A back end that is there already takes no {names}: say so where it is started.")


def _connected(cluster, timeout, stack):
    from distributed import Client
    if isinstance(cluster, Client):
        return cluster
    if not isinstance(cluster, str) and not hasattr(cluster, "scheduler_address"):
        raise TypeError(f"A back end is a name, a distributed.Client, a cluster or an executor, got {cluster!r}.")
    waits = {} if timeout is None or not isinstance(cluster, str) else {"timeout": timeout}
    return stack.enter_context(Client(cluster, set_as_default=False, **waits))


def _distributed(n_workers, timeout, options, stack):
    from distributed import Client, LocalCluster, get_client
    options = dict(options)
    there = [v for v in (options.pop("client", None), options.pop("address", None)) if v is not None]
    if there:
        _refuse(n_workers, options)
        return _connected(there[0], timeout, stack)
    with contextlib.suppress(ValueError):
        return get_client()                              # inside a task, the one of its worker
    adapt, how = options.pop("adapt", None), {"n_workers": n_workers, "dashboard_address": ":0"} | options
    try:
        cluster = stack.enter_context(LocalCluster(**how | ({} if adapt is None else {"n_workers": 0})))
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"No LocalCluster starts with {how}: {error.__cause__ or error}") from None
    if adapt is not None:
        _size(cluster, None, adapt)
    print(f"{len(cluster.workers)} workers started on this machine, dashboard {cluster.dashboard_link}", flush=True)
    return stack.enter_context(Client(cluster, set_as_default=False))


def _job_queue(name, n_workers, timeout, options, stack):
    module = _needed("dask_jobqueue", "dask-jobqueue")
    options, adapt = dict(options), options.get("adapt")
    jobs = options.pop("jobs", n_workers)
    options.pop("adapt", None)
    options.setdefault("scheduler_options", {"dashboard_address": ":0"})
    cluster = stack.enter_context(getattr(module, JOB_QUEUES[name])(**options))
    _size(cluster, None if jobs is None else {"jobs": jobs}, adapt)
    print(f"{name}: dashboard {cluster.dashboard_link}; each job is\n{cluster.job_script()}", flush=True)
    return _connected(cluster, timeout, stack)


def _gateway(n_workers, options, stack):
    module, options = _needed("dask_gateway", "dask-gateway"), dict(options)
    adapt, server = options.pop("adapt", None), {k: options.pop(k) for k in ("address", "auth") if k in options}
    gateway = stack.enter_context(module.Gateway(**server))
    try:
        cluster = stack.enter_context(gateway.new_cluster(**options))
    except OSError as error:
        raise OSError(f"No dask-gateway server answers at {gateway.address}: {error}.") from None
    _size(cluster, None if n_workers is None else {"n": n_workers}, adapt)
    print(f"yarn: dashboard {cluster.dashboard_link}", flush=True)
    return stack.enter_context(cluster.get_client(set_as_default=False))


def _size(cluster, scale, adapt):
    """Ask for workers: a number of them, or as many as there is work for between two numbers."""
    if adapt is not None:
        if not isinstance(adapt, (tuple, list)) or len(adapt) != 2 or not 0 <= adapt[0] <= adapt[1] >= 1:
            raise ValueError(f"adapt must be two numbers of workers, least and most, such as (0, 4); got {adapt!r}.")
        cluster.adapt(minimum=adapt[0], maximum=adapt[1])
    elif scale is not None:
        cluster.scale(**scale)
    else:
        raise ValueError("A cluster starts without workers: say how many (n_workers=4), or adapt=(0, 4).")


def _needed(module, package):
    import importlib
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"This back end needs {package}: pip install {package}.") from None
