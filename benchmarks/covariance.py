"""What a robust covariance costs: HC0, HC3 and clustered as multiples of one sweep of the fit (score and information).

    python benchmarks/covariance.py [--rows 2000000] [--features 7 50] [--clusters 1000 1000000] [--repeats 5]
                                    [--family binomial] [--where memory cluster]

Prints the least of some repeats in turn: seconds of one sweep, and ratios to it. Rows in memory are timed in CPU time
of all threads, so that a busy machine changes it little; "cluster" is rows persisted on two workers of one thread,
by the clock. The results kept are in benchmarks/results/covariance.txt.
"""

import argparse
import contextlib
import time

import dask
import dask.array as da
import numpy as np
from distributed import Client, LocalCluster, wait

from daskglm_rep import GLMRegressor, design, passes
from daskglm_rep.inference import covariance
from daskglm_rep.kernels.moments import block_moments


def problem(n, p, n_clusters, family, where="memory", seed=0):
    """A fitted model and its rows with integer cluster labels in random order."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    mean = 1.0 / (1.0 + np.exp(-(X[:, 0] - 0.5 * X[:, 1])))
    y = (rng.random(n) < mean).astype(float) if family == "binomial" else rng.poisson(mean).astype(float)
    clusters = rng.integers(0, n_clusters, n)
    fitted = GLMRegressor(family).fit(X, y).results_.fitted
    if where == "cluster":
        X, y, clusters = dask.persist(*(da.from_array(a, chunks=(-(-n // 20), *a.shape[1:])) for a in (X, y, clusters)))
        wait([X, y, clusters])
    return fitted, design.build(X, y, clusters=clusters)


def measure(n, p, n_clusters, family="binomial", repeats=5, where="memory"):
    """Seconds of each kind of sweep, the least of some repeats in turn.

    Returns
    -------
    dict of str to float
    """
    fitted, data = problem(n, p, n_clusters, family, where)
    objective, coef = fitted.fit.objective, fitted.fit.point.coef
    jobs = {"sweep": lambda: passes.run(block_moments, data, objective.model, objective.basis, coef)}
    for kind in ("HC0", "HC3", "cluster"):
        jobs[kind] = lambda kind=kind: covariance.compute(fitted, kind, data)
    times, clock = {name: [] for name in jobs}, time.process_time if where == "memory" else time.perf_counter
    for repeat in range(repeats + 1):
        for name, job in jobs.items():
            start = clock()
            job()
            if repeat:                                    # the first round compiles
                times[name].append(clock() - start)
    return {name: min(values) for name, values in times.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, nargs="+", default=[7, 50])
    parser.add_argument("--clusters", type=int, nargs="+", default=[1000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--family", default="binomial", choices=["binomial", "poisson"])
    parser.add_argument("--where", nargs="+", default=["memory"], choices=["memory", "cluster"])
    args = parser.parse_args(arguments)
    print(f"{'where':>8} {'rows':>10} {'features':>8} {'clusters':>9} {'sweep s':>8} {'HC0':>6} {'HC3':>6} "
          f"{'cluster':>8}   (in sweeps)")
    for where in args.where:
        with workers() if where == "cluster" else contextlib.nullcontext():
            for p in args.features:
                n = args.rows if p <= 20 else max(args.rows // 4, 1)
                for n_clusters in args.clusters:
                    t = measure(n, p, n_clusters, args.family, args.repeats, where)
                    ratios = " ".join(f"{t[kind] / t['sweep']:>{w}.2f}" for kind, w in (("HC0", 6), ("HC3", 6),
                                                                                       ("cluster", 8)))
                    print(f"{where:>8} {n:>10,} {p:>8} {n_clusters:>9,} {t['sweep']:>8.3f} {ratios}", flush=True)


@contextlib.contextmanager
def workers():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster):
        yield


if __name__ == "__main__":
    main()
