"""python -m benchmarks.paper --table 2 --rows 1e6 --replicates 20: rerun a table of the paper and print it beside ours.

Errors in units of 10^-3. Columns: the paper's mean and standard deviation over its 100 simulations; ours; the
Monte-Carlo error of our mean; their ratio; and the difference over the Monte-Carlo error of both (z). "MMR" is our
moment-matched method on the same partition after three rounds, which the paper does not have.
"""

import argparse
import datetime
import sys
import time

import pandas as pd

from benchmarks.paper import tables, timing
from benchmarks.paper.report import side_by_side, text

TABLES = (*tables.STUDIES, "a7", "a8", "figure2")


def rerun(table, n_rows, n_replicates, settings=None, methods=None, report=print):
    """One table as a frame, paper and ours side by side."""
    if table in ("a7", "a8"):
        more = {"settings": settings} if table == "a7" else {}
        frame = pd.DataFrame(getattr(timing, f"table_{table}")(n_rows, n_replicates, report=report, **more))
        return frame.groupby(["row", "method"], sort=False).agg(
            paper_ratio=("paper_ratio", "mean"), ours_ratio=("ratio", "mean"), mc_error=("ratio", "sem"),
            seconds=("seconds", "mean"), n=("seconds", "size")).reset_index()
    if table == "figure2":
        covariates = range(8) if settings is None else [int(k) for k in settings]
        return side_by_side(tables.figure_2(n_rows, n_replicates, covariates, report), "2", {}).drop(
            columns=["paper", "paper_sd", "ratio", "z"])
    study = tables.STUDIES[table]
    return side_by_side(tables.run(table, n_rows, n_replicates, settings, methods, report), table, study.published)


def _progress(line):
    print(line, file=sys.stderr, flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", nargs="+", default=["2"], choices=TABLES, metavar="TABLE", help=" ".join(TABLES))
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--settings", nargs="*", help="row labels to keep, as mzNormal T3")
    parser.add_argument("--short", action="store_true", help="2 replicates of 1e5 rows")
    parser.add_argument("--out", help="append the text to this file")
    given = parser.parse_args(arguments)
    n_rows, n_replicates = (100_000, 2) if given.short else (int(given.rows), given.replicates)
    for table in given.table:
        start = time.perf_counter()
        frame = rerun(table, n_rows, n_replicates, given.settings, report=_progress)
        name = "Figure 2" if table == "figure2" else f"Table {table.upper()}"
        title = (f"{name}: {n_rows:,} rows (unless the row says), {n_replicates} replicates, "
                 f"{datetime.date.today()}, {time.perf_counter() - start:.0f} s\n"
                 f"python -m benchmarks.paper {' '.join(sys.argv[1:] if arguments is None else arguments)}")
        shown = text(frame, title)
        print(shown, flush=True)
        if given.out:
            with open(given.out, "a") as file:
                file.write(shown + "\n")


if __name__ == "__main__":
    main()
