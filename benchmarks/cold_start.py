"""What a new process waits for before its fits run at their speed.

    python benchmarks/cold_start.py [--repeat 3] [--out benchmarks/results/cold_start.md]

Each line is the best of `--repeat` new processes with compiled kernels on disk, but for the last: eight processes that
begin at once with an empty cache, whose answers must be equal up to rounding, and a ninth, which must find nothing left
to compile.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fits import machine, table

ROOT = Path(__file__).resolve().parent.parent
ROWS = """
import time
import numpy as np
rng = np.random.default_rng(0)
X = rng.normal(size=({rows}, 7))
y = (rng.random(len(X)) < 0.4).astype(float)

def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
"""
FIT = ROWS.format(rows=3000) + """
import dask.array
import sklearn.base
start = time.perf_counter()
from daskglm_rep import GLMClassifier
GLMClassifier().fit(X, y)
print(time.perf_counter() - start)
"""
SEARCH = ROWS.format(rows=3000) + """
from sklearn.model_selection import GridSearchCV
from daskglm_rep import GLMClassifier
{setup}
search = lambda n_jobs: GridSearchCV(model, grid, n_jobs=n_jobs).fit(X, y)
first, one = (seconds(lambda: search(1)) for _ in range(2))
print(seconds(lambda: search(2)) - one)
"""
OURS = SEARCH.replace("{setup}", "model, grid = GLMClassifier(), {'alpha': [0.0, 0.01, 0.1]}")
THEIRS = SEARCH.replace("{setup}", "from sklearn.linear_model import LogisticRegression\n"
                        "model, grid = LogisticRegression(), {'C': [1.0, 0.1, 0.01]}")
CLUSTER = ROWS.format(rows=200_000) + """
import dask.array as da
from distributed import Client, LocalCluster
from daskglm_rep import GLMClassifier
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with Client(cluster) as client:
            rows = client.persist([da.from_array(a, chunks=(20_000, -1)[:a.ndim]) for a in (X, y)])
            first, warm = (seconds(lambda: GLMClassifier().fit(*rows)) for _ in range(2))
    print(first - warm)
"""
COLD = ROWS.format(rows=3000) + """
from numba.core import event
from daskglm_rep import GLMClassifier
with event.install_recorder("numba:compile") as recorder:
    model = GLMClassifier().fit(X, y)
print(len(recorder.buffer), model.coef_.tolist())
"""


def begin(script, folder, **environment):
    """A new process with a script in a file of its own: processes that it starts import it."""
    path = Path(folder) / f"script{len(os.listdir(folder))}.py"
    path.write_text(script)
    return subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment)


def said(process):
    """The last line that a process prints."""
    out = process.communicate()[0]
    if process.returncode:
        raise RuntimeError(f"a script ended with status {process.returncode}")
    return out.strip().splitlines()[-1]


def reported(script, repeat):
    """Seconds that a script reports, the least of some runs."""
    with tempfile.TemporaryDirectory() as folder:
        return min(float(said(begin(script, folder))) for _ in range(repeat))


def demo(repeat):
    """Seconds of `python -m daskglm_rep demo`."""
    runs = []
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "daskglm_rep", "demo"], cwd=folder, check=True, capture_output=True,
                           env=os.environ | {"PYTHONPATH": str(ROOT)})
            runs.append(time.perf_counter() - start)
    return min(runs)


def at_once(n):
    """Seconds until `n` processes with an empty cache have compiled and fitted; they agree and leave nothing undone."""
    with tempfile.TemporaryDirectory() as scripts, tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        processes = [begin(COLD, scripts, DASKGLM_REP_CACHE=cache) for _ in range(n)]
        answers = [said(process).split(" ", 1) for process in processes]
        seconds = time.perf_counter() - start
        answers.append(said(begin(COLD, scripts, DASKGLM_REP_CACHE=cache)).split(" ", 1))
        coefs = np.array([json.loads(coef) for _, coef in answers])
        if answers[-1][0] != "0" or not np.allclose(coefs, coefs[-1], rtol=1e-13, atol=0.0):
            raise RuntimeError("the processes disagree, or left something to compile")
    return seconds


def main(arguments=None):
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "cold_start.md"))
    options = parser.parse_args(arguments)
    jobs = {"import and fit of 3,000 rows, beyond the imports of dask.array and sklearn.base":
            lambda: reported(FIT, options.repeat),
            "`python -m daskglm_rep demo`, all of it": lambda: demo(options.repeat),
            "`GridSearchCV(n_jobs=2)` beyond n_jobs=1": lambda: reported(OURS, options.repeat),
            "the same of scikit-learn's LogisticRegression": lambda: reported(THEIRS, options.repeat),
            "first fit on a LocalCluster of two processes beyond the second": lambda: reported(CLUSTER, options.repeat),
            "eight processes at once with an empty cache, all equal, nothing left to compile": lambda: at_once(8)}
    rows = []
    for what, job in jobs.items():
        rows.append({"a new process": what, "seconds": f"{job():.2f}"})
        print(rows[-1], flush=True)
    Path(options.out).write_text(
        f"# Cold start\n\n`python benchmarks/cold_start.py`\n\nMeasured on {datetime.date.today():%d %B %Y}, "
        f"{machine()}; compiled kernels on disk but for the last line; best of {options.repeat}.\n\n"
        f"{table(rows)}\n")


if __name__ == "__main__":
    main()
