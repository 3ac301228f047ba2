"""Marginal effects of a logistic model with an interaction and a factor, from a folder of Parquet files.

    python benchmarks/margins.py [--rows 10000000] [--files 40] [--folder DIR]

Prints rows, sweeps over the data (file reads / files), seconds, and the peak memory of the process. The model is fitted
to the first file, so that the memory and time are those of the effects alone.
"""

import argparse
import pathlib
import resource
import tempfile
import time

import numpy as np
import pandas as pd

import daskglm_rep

FORMULA = "y ~ x0 * x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + g"


def write(folder, n_rows, n_files):
    """Nine normal columns, a factor of four levels and a binary response."""
    for i in range(n_files):
        rng = np.random.default_rng(i)
        n = n_rows // n_files
        frame = pd.DataFrame(rng.normal(size=(n, 9)), columns=[f"x{j}" for j in range(9)])
        frame["g"] = pd.Categorical.from_codes(rng.integers(0, 4, n), list("abcd"))
        eta = -0.3 + frame.to_numpy()[:, :9].astype(float) @ np.linspace(-0.5, 0.5, 9) + 0.3 * frame.x0 * frame.x1
        frame["y"] = (rng.random(n) < 1 / (1 + np.exp(-eta - 0.2 * frame.g.cat.codes))).astype(float)
        frame.to_parquet(folder / f"part-{i:04d}.parquet")


def run(n_rows=2_000_000, n_files=8, folder=None):
    """One line a request: sweeps, seconds, peak memory in GiB.

    Returns
    -------
    DataFrame
    """
    with tempfile.TemporaryDirectory(dir=folder) as name:
        folder = pathlib.Path(name)
        write(folder, n_rows, n_files)
        results = daskglm_rep.glm(FORMULA, str(folder / "part-0000.parquet"), family="binomial")
        requests = {"all variables": {}, "standard deviation changes": dict(change="sd"),
                    "quartile changes": dict(change="iqr"), "at means": dict(at="mean"), "by group": dict(over="g")}
        results.margins(str(folder / "part-0000.parquet"))          # compile
        rows = []
        for what, options in requests.items():
            start = time.perf_counter()
            effects = results.margins(str(folder), **options)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20
            rows.append((what, n_rows, len(effects.frame), effects.n_passes, time.perf_counter() - start, peak))
            print(f"{what:<28} {n_rows:>11,} rows  {len(effects.frame):>3} effects  {effects.n_passes} sweeps  "
                  f"{rows[-1][4]:7.1f} s  peak {peak:.2f} GiB", flush=True)
        return pd.DataFrame(rows, columns=["request", "rows", "effects", "sweeps", "seconds", "peak GiB"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--folder", default=None, help="where to write the Parquet files (default: a temporary folder)")
    arguments = parser.parse_args()
    run(arguments.rows, arguments.files, arguments.folder)
