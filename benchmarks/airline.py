"""The airline study (section 4, tables 5 and A.10): full fit, MR, SMR, corrected and moment-matched side by side.

    python benchmarks/airline.py --folder DIR --months 60 120 --rows-per-month 170000
    python benchmarks/airline.py --folder DIR --months 60 120 --inflated
    python benchmarks/airline.py --flights flights_200k.parquet

Month files are written once into the folder (about 1 byte a row and column) and are the natural partition: rows never
leave their file. Inside each, blocks are the distinct values of DAY_OF_WEEK and DEP_TIME_BLK times eight equal-depth
intervals of DISTANCE, at most 7 * 4 * 8 = 224 a file, as in the paper.
The real flights (columns delay, distance, time; their row groups are the natural partition) have no date: day and
quarter are left out there.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from daskglm_rep import GLMRegressor
from daskglm_rep.datasets import (AIRLINE_COEFFICIENTS, AIRLINE_COEFFICIENTS_INFLATED, airline_design,
                                  simulate_airline_months)
from daskglm_rep.partitions import Natural
from daskglm_rep.representative_models import RepresentativeGLM

COLUMNS = [name for name in AIRLINE_COEFFICIENTS if name != "Intercept"]
METHODS = {"MR": ("mean", 0), "SMR": ("score-matching", 3), "corrected": ("corrected", 3),
           "moment-matched": ("moment-matched", 3)}
DISTANCE_CUTS = 8
PUBLISHED = json.loads((Path(__file__).parent / "paper" / "published.json").read_text())


def month_rows(flights):
    """Design, response and block of one file's flights: 13 columns, ArrDel15, and a label unique to file and block."""
    rows = airline_design(flights).drop(columns="Intercept")
    cuts = np.quantile(flights["DISTANCE"], np.arange(1, DISTANCE_CUTS) / DISTANCE_CUTS) if len(flights) else [0.0]
    near = np.searchsorted(cuts, flights["DISTANCE"])
    month = flights["YEAR"].to_numpy(np.int64) * 12 + flights["MONTH"].to_numpy(np.int64)
    block = ((month * 10 + flights["DAY_OF_WEEK"]) * 10 + flights["DEP_TIME_BLK"]) * 10 + near
    return rows.assign(late=flights["ArrDel15"].astype(float), block=block.astype(np.int64))


def months(folder, n_months):
    """Lazy X, y and block labels of the first months, one partition a file."""
    paths = sorted(Path(folder).glob("flights_*.parquet"))[:n_months]
    frame = dd.from_map(pd.read_parquet, paths).map_partitions(month_rows)
    return frame[COLUMNS], frame["late"], frame["block"]


def real_rows(group, path):
    """Design, response and block of one row group of the real flights."""
    flights = pq.ParquetFile(path).read_row_group(group).to_pandas()
    part = 1 + np.searchsorted([6, 12, 18], flights["time"], side="right")
    rows = pd.DataFrame({f"DEP_TIME_BLK{k}": (part == k).astype(float) for k in (2, 3, 4)})
    rows["DISTANCE"] = flights["distance"].to_numpy(float)
    near = np.searchsorted(np.quantile(rows["DISTANCE"], np.arange(1, DISTANCE_CUTS) / DISTANCE_CUTS), rows["DISTANCE"])
    return rows.assign(late=(flights["delay"].to_numpy() >= 15).astype(float),
                       block=np.int64(group) * 100 + part * 10 + near)


def real(path):
    """Lazy X, y and block labels, one partition a row group."""
    groups = range(pq.ParquetFile(path).metadata.num_row_groups)
    frame = dd.from_map(real_rows, groups, path=path)
    return frame.drop(columns=["late", "block"]), frame["late"], frame["block"]


def compare(X, y, blocks, oracle=None):
    """One line a method: error against the oracle and the full fit, the certificate, sweeps, bytes, seconds."""
    start = time.perf_counter()
    full = GLMRegressor("binomial").fit(X, y)
    lines = [_line("full", full, full, oracle, time.perf_counter() - start)]
    for name, (kind, n_rounds) in METHODS.items():
        est = RepresentativeGLM(representative=kind, partition=Natural(), n_rounds=n_rounds, tol=1e-9,
                                min_block_size=1)
        start = time.perf_counter()
        est.fit(X, y, blocks=blocks)
        lines.append(_line(name, est, full, oracle, time.perf_counter() - start))
    return pd.DataFrame(lines)


def _line(name, est, full, oracle, seconds):
    params = est.results_.params
    away = float(np.max(np.abs(params - full.results_.params) / full.results_.bse))
    line = dict(method=name)
    if oracle is not None:
        truth = pd.Series(oracle)[params.index]
        line["rmse_oracle"] = 1e3 * float(np.sqrt(np.mean((params - truth)[1:] ** 2)))
    audit = getattr(est, "audit_", None)
    error = 1e3 * float(np.sqrt(np.mean((params - full.results_.params)[1:] ** 2)))
    return line | dict(rmse_full=error, se_from_full=away, certificate=est.distance_to_optimum_, sweeps=est.n_passes_,
                       blocks=getattr(est, "n_blocks_", np.nan),
                       megabytes=np.nan if audit is None else float(audit["bytes"].sum()) / 1e6, seconds=seconds)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the month files are, or will be written")
    parser.add_argument("--months", type=int, nargs="+", default=[60, 120])
    parser.add_argument("--rows-per-month", type=int, default=170_000)
    parser.add_argument("--inflated", action="store_true", help="the coefficient of DISTANCE times ten (table A.10)")
    parser.add_argument("--flights", help="a Parquet file of real flights instead")
    parser.add_argument("--out", help="append the text to this file")
    given = parser.parse_args(arguments)
    oracle = AIRLINE_COEFFICIENTS_INFLATED if given.inflated else AIRLINE_COEFFICIENTS
    if given.flights:
        _tell(f"Real flights, {Path(given.flights).name}", compare(*real(given.flights)), given.out)
    if given.folder:
        folder = Path(given.folder) / ("inflated" if given.inflated else "oracle")
        if len(list(folder.glob("flights_*.parquet"))) < max(given.months):
            simulate_airline_months(folder, max(given.months), given.rows_per_month, coefficients=oracle)
        for n_months in given.months:
            rows = sum(pq.read_metadata(p).num_rows for p in sorted(folder.glob("flights_*.parquet"))[:n_months])
            table = "table_a10" if given.inflated else "table_5"
            paper = PUBLISHED[table]["values"].get(str(n_months), {})
            printed = ", ".join(f"{k} {v[0]} ({v[1]})" for k, v in paper.items() if v)
            title = (f"{n_months} months, {rows:,} rows ({'inflated' if given.inflated else 'plain'} oracle; the "
                     f"paper's RMSE from it, at 487,573 rows a month: {printed or 'none printed'})")
            _tell(title, compare(*months(folder, n_months), oracle), given.out)


def _tell(title, frame, out):
    shown = frame.to_string(index=False, float_format=lambda v: f"{v:.3g}")
    text = f"{title}, {datetime.date.today()}; errors times 1000, distances in standard errors\n{shown}\n"
    print(text, flush=True)
    if out:
        with open(out, "a") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    main()
