"""python -m benchmarks.paper --table 2 --rows 1e6 --replicates 20: rerun tables of the paper, printed beside ours.

Errors in units of 10^-3. Columns: the paper's mean and standard deviation over its 100 simulations; ours; the
Monte-Carlo error of our mean; their ratio; and the difference over its Monte-Carlo error (z). "MMR" is our
moment-matched method on the same partition after three rounds, which the paper does not have. Table A.2 comes with A.1.

With --records FILE each replicate is kept as it ends, and a later run goes on where this one stopped.
"""

import argparse
import datetime
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pandas as pd

from benchmarks.paper import tables, timing
from benchmarks.paper.report import side_by_side, text

TIMED = {"a7": timing.table_a7, "a8": timing.table_a8}
NAMES = {"a1": "Tables A.1 (from the truth) and A.2 (from the full fit)", "figure2": "Figure 2"}


def rerun(names, n_rows, n_replicates, settings=None, records=None, jobs=1, report=print):
    """Errors of tables, paper and ours side by side.

    Parameters
    ----------
    names : list of str
    settings : list of str, optional
        Row labels to keep.
    records : path, optional
        Where replicates are kept, and taken from if they are there.
    jobs : int
        Processes.

    Returns
    -------
    dict of table -> DataFrame
    """
    known = pd.read_csv(records, dtype={"row": str, "table": str}) if records and Path(records).exists() else None
    found = [] if known is None else [known]
    done = set() if known is None else set(zip(known["table"], known["row"], known["replicate"]))
    work = [(table, label, replicate, n_rows) for replicate in range(n_replicates) for table in names
            for label in tables.cells(table, n_rows, settings) if (table, label, replicate) not in done]
    for number, new in enumerate(_each(work, jobs), 1):
        frame = pd.DataFrame(new)
        found.append(frame)
        if records:
            frame.to_csv(records, mode="a", header=not Path(records).exists(), index=False)
        report(f"{number} of {len(work)}: table {new[0]['table']}, {new[0]['row']}, replicate {new[0]['replicate']}")
    found = pd.concat(found)
    return {table: side_by_side(found[found["table"] == table], tables.STUDIES[table].published) for table in names}


def _each(work, jobs):
    if jobs == 1:
        yield from (tables.run(*one) for one in work)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=tables.single_threaded) as pool:
        yield from (done.result() for done in as_completed([pool.submit(tables.run, *one) for one in work]))


def timed(table, n_rows, n_replicates, settings=None, report=print):
    """Processor times, paper and ours as ratios."""
    more = {"settings": settings} if table == "a7" else {}
    frame = pd.DataFrame(TIMED[table](n_rows, n_replicates, report=report, **more))
    return frame.groupby(["row", "method"], sort=False).agg(
        paper_ratio=("paper_ratio", "mean"), ours_ratio=("ratio", "mean"), mc_error=("ratio", "sem"),
        seconds=("seconds", "mean"), n=("seconds", "size")).reset_index()


def _progress(line):
    print(line, file=sys.stderr, flush=True)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    names = (*tables.STUDIES, *TIMED)
    parser.add_argument("--table", nargs="+", default=["2"], choices=names, metavar="TABLE", help=" ".join(names))
    parser.add_argument("--rows", type=float, default=1e6)
    parser.add_argument("--replicates", type=int, default=20)
    parser.add_argument("--settings", nargs="*", help="row labels to keep, as mzNormal T3")
    parser.add_argument("--short", action="store_true", help="2 replicates of 1e5 rows")
    parser.add_argument("--records", help="keep replicates in this file (csv) and go on from it")
    parser.add_argument("--jobs", type=int, default=1, help="processes for the tables of errors, one thread each")
    parser.add_argument("--out", help="append the text to this file")
    given = parser.parse_args(arguments)
    n_rows, n_replicates = (100_000, 2) if given.short else (int(given.rows), given.replicates)
    start = time.perf_counter()
    errors = [t for t in given.table if t not in TIMED]
    frames = {}
    if errors:
        frames = rerun(errors, n_rows, n_replicates, given.settings, given.records, given.jobs, _progress)
    for table in given.table:
        if table in TIMED:
            start, frames[table] = time.perf_counter(), timed(table, n_rows, n_replicates, given.settings, _progress)
        title = (f"{NAMES.get(table, f'Table {table.upper()}')}: {n_rows:,} rows (unless the row says), "
                 f"{datetime.date.today()}, {time.perf_counter() - start:.0f} s\n"
                 f"python -m benchmarks.paper {' '.join(sys.argv[1:] if arguments is None else arguments)}")
        shown = text(frames[table], title)
        print(shown, flush=True)
        if given.out:
            with open(given.out, "a") as file:
                file.write(shown + "\n")


if __name__ == "__main__":
    main()
