"""More rows than should lie in memory: Parquet files swept by a logit with a million clusters, beside a bare read.

    python benchmarks/outofcore.py 100_000_000      # writes the files once (5.3 GB at 1e8 rows), then measures
    python benchmarks/outofcore.py 100_000_000 FOLDER

The result is printed; the one kept is benchmarks/results/outofcore.md.
"""

import os
import platform
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from daskglm_rep import GLMClassifier, passes

A_FILE, N_CLUSTERS, P = 500_000, 1_000_000, 6
COLUMNS = [f"x{j}" for j in range(P)]
COEF = np.array([0.5, -0.3, 0.2, 0.1, -0.1, 0.05])


def write(folder, n_rows):
    """Files of 6 float64 columns, an int8 response and an int32 cluster: 53 bytes a row; those that are there stay."""
    for i in range(n_rows // A_FILE):
        path = folder / f"part.{i:04}.parquet"
        if path.exists():
            continue
        rng = np.random.default_rng(i)
        X = rng.standard_normal((P, A_FILE))
        y = (rng.random(A_FILE) < 1 / (1 + np.exp(0.5 - COEF @ X))).astype(np.int8)
        firm = rng.integers(0, N_CLUSTERS, A_FILE, dtype=np.int32)
        table = pa.table({**dict(zip(COLUMNS, X)), "y": y, "firm": firm})
        pq.write_table(table, path, compression="none", use_dictionary=False)


def bare_read(files, columns):
    """Seconds to read columns of files by pyarrow and nothing else, a thread a core."""
    start = time.perf_counter()
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda f: pq.read_table(f, columns=columns, use_threads=False).num_rows, files))
    return time.perf_counter() - start


class Sweeps:
    """Names and seconds of the sweeps over files."""

    def __init__(self):
        self.found, self.run = [], passes.run

    def __enter__(self):
        passes.run = self._timed
        return self

    def __exit__(self, *exception):
        passes.run = self.run

    def _timed(self, kernel, data, *arguments, **options):
        start = time.perf_counter()
        total = self.run(kernel, data, *arguments, **options)
        if data.source is not None:
            self.found.append((kernel.__name__, time.perf_counter() - start))
        return total


def _fit(frame):
    return GLMClassifier().fit(frame[COLUMNS], frame["y"], clusters=frame["firm"]).results_


def _peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(n_rows, folder):
    write(folder, n_rows)
    files = sorted(map(str, folder.glob("*.parquet")))[:n_rows // A_FILE]
    small = dd.read_parquet(files[:2])
    _fit(small)                                                                                # compiled before
    needed = [*COLUMNS, "y"]
    first, bare = bare_read(files, needed), min(bare_read(files, needed) for _ in range(2))
    total = dd.read_parquet(files)[needed].sum()
    start = time.perf_counter()
    total.compute(scheduler="threads")
    by_dask, base = time.perf_counter() - start, _peak()
    with Sweeps() as sweeps:
        start = time.perf_counter()
        results = _fit(dd.read_parquet(files))
        whole = time.perf_counter() - start
    size = sum(os.path.getsize(f) for f in files) / 1e9
    print(f"{n_rows:,} rows x {P + 2} columns, {len(files)} files, {size:.1f} GB, {os.cpu_count()} cores, "
          f"{platform.python_version()}\n\n| | seconds | of the bare read's rate |\n|---|---:|---:|")
    print(f"| bare read (pyarrow, {os.cpu_count()} threads), first / next | {first:.1f} / {bare:.1f} | 1 |")
    print(f"| dask's df.sum() | {by_dask:.1f} | {bare / by_dask:.2f} |")
    for name, seconds in sweeps.found:
        print(f"| sweep: {name} | {seconds:.1f} | {bare / seconds:.2f} |")
    print(f"| the fit, {N_CLUSTERS:,} clusters | {whole:.1f} | |\n\nPeak memory {_peak():.0f} MiB, "
          f"{_peak() - base:.0f} above that of the reads; largest error of a coefficient "
          f"{np.abs(results.params[1:] - COEF).max():.1e}, of {results.bse.max():.1e} standard error.")


if __name__ == "__main__":
    n = int(sys.argv[1].replace("_", "")) if len(sys.argv) > 1 else 20_000_000
    with tempfile.TemporaryDirectory() as temporary:
        where = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(temporary)
        where.mkdir(parents=True, exist_ok=True)
        main(n, where)
