"""What marginal effects cost as multiples of a fit's sweep over the same rows in the same place.

    python benchmarks/margins_by_place.py [arrays] [frame] [parquet] [cluster] [--rows 2000000]

"cluster" is two workers of one thread: lazy and persisted frames and arrays in 100 chunks. Seconds are CPU time of all
threads and workers, the least of four calls; the sweep of a frame in memory is the one that builds its design.
"""

import argparse
import contextlib
import tempfile
import time

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from distributed import Client, LocalCluster, wait

from daskglm_rep import GLMClassifier, glm, passes

FORMULA, PLACES = "y ~ x0 * x1 + x2 + C(g)", ("arrays", "frame", "parquet", "cluster")
ASKED = {"all": None, "two numbers": ["x0", "x1"], "the factor": "g"}
SWEEPS = ("keep", "block_moments")


class Clock:
    """CPU seconds of sweeps by the name of their kernel, of this process or of a cluster's workers."""

    def __init__(self, client=None):
        self.client, self.found, self.run = client, [], passes.run

    def __enter__(self):
        passes.run = self._timed
        return self

    def __exit__(self, *exception):
        passes.run = self.run

    def _now(self):
        return time.process_time() if self.client is None else sum(self.client.run(time.process_time).values())

    def _timed(self, kernel, data, *arguments, **options):
        start = self._now()
        total = self.run(kernel, data, *arguments, **options)
        self.found.append((kernel.__name__, self._now() - start))
        return total


def measure(name, fit, data, asked, client=None):
    """Print a line a request."""
    fit()
    with Clock(client) as clock:
        results = fit()
    names = [n for n in SWEEPS if n in dict(clock.found)][:1]
    sweep = max(seconds for n, seconds in clock.found if n in names)
    for what, variables in asked.items():
        with Clock(client) as clock:
            for _ in range(4):
                results.margins(data, variables)
        least = min(seconds for n, seconds in clock.found if n == "effect_sums")
        print(f"{name:<28} {what:<12} {least:7.3f} s  {least / sweep:5.2f} sweeps of {sweep:.3f} s", flush=True)


def frame_of(n):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["x0", "x1", "x2"])
    frame["g"] = rng.choice(list("abcde"), n)
    eta = frame.x0 - 0.5 * frame.x1 + 0.3 * frame.x0 * frame.x1
    return frame.assign(y=(rng.random(n) < 1 / (1 + np.exp(-eta))) * 1.0)


def arrays_of(n):
    X = da.random.default_rng(1).normal(size=(n, 7), chunks=(n // 100, 7))
    return X, (X[:, 0] + da.random.default_rng(2).normal(size=n, chunks=n // 100) > 0) * 1.0


def main(places, n):
    whole = {"all": None}
    for place in places:
        with contextlib.ExitStack() as stack:
            if place == "arrays":
                X, y = dask.compute(*arrays_of(n))
                measure(place, lambda: GLMClassifier().fit(X, y).results_, X, whole)
                continue
            frame = frame_of(n)
            if place == "frame":
                measure(place, lambda: glm(FORMULA, frame, family="binomial"), frame, ASKED)
                continue
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            dd.from_pandas(frame, npartitions=20 if place == "parquet" else 100).to_parquet(folder)
            lazy = dd.read_parquet(folder)
            if place == "parquet":
                measure(place, lambda: glm(FORMULA, lazy, family="binomial"), lazy, ASKED)
                continue
            cluster = stack.enter_context(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0"))
            client = stack.enter_context(Client(cluster))
            persisted, (X, y) = lazy.persist(), arrays_of(n)
            measure("cluster, lazy frame", lambda: glm(FORMULA, lazy, family="binomial"), lazy, ASKED, client)
            wait(persisted)
            measure("cluster, persisted frame", lambda: glm(FORMULA, persisted, family="binomial"), persisted, ASKED,
                    client)
            measure("cluster, lazy arrays", lambda: GLMClassifier().fit(X, y).results_, X, whole, client)
            placed = dask.persist(X, y)
            wait(placed)
            measure("cluster, persisted arrays", lambda: GLMClassifier().fit(*placed).results_, placed[0], whole,
                    client)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("places", nargs="*", help=f"of {PLACES}, default all")
    parser.add_argument("--rows", type=int, default=2_000_000)
    given = parser.parse_args()
    main(given.places or PLACES, given.rows)
