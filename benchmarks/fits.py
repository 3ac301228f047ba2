"""How long an exact fit takes, in Grams, beside glum, scikit-learn, scikit-learn-intelex and statsmodels in one run.

    python benchmarks/fits.py [--small] [--only 0 1 ...] [--repeat 3] [--out benchmarks/results/fits.md] [--readme]

One Gram is the time of `X.T @ X` by NumPy on the same matrix in the same run. Tools take turns; the best time of each
counts (a turn lasts half a second, or a fit; statsmodels has one). Errors are the worst coefficient's distance to the
optimum in standard errors, the optimum found by Newton's method in NumPy. Ours and statsmodels' include standard
errors, the others do not have them. Memory is the peak of the process above its size before the fit. `--only` measures
some of the problems, by number; the table is of all measured so far (kept beside `--out` as JSON). `--readme` puts it
between the marks in README.md.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
from scipy import linalg, special

from daskglm_rep import GLMClassifier, PoissonRegressor

ROOT = Path(__file__).resolve().parent.parent
MARKS = "<!-- measured -->", "<!-- /measured -->"
PROBLEMS = [("logit", 2_000_000, 7), ("logit", 500_000, 50), ("logit", 100_000, 300), ("poisson", 2_000_000, 7)]
SMALL = [("logit", 20_000, 7), ("poisson", 20_000, 7)]
ROWS_OF_REFERENCE = 50_000
TURN = 0.5          # seconds that a tool's turn takes at least, in fits one after the other, as timeit does
STATSMODELS = "statsmodels GLM"
COLD = """
import time
start = time.perf_counter()
{imports}
imported = time.perf_counter()
import numpy as np
rng = np.random.default_rng(0)
X, y = rng.normal(size=(3000, 7)), (rng.random(3000) < 0.4).astype(float)
times = [imported - start]
for _ in range(2):
    start = time.perf_counter()
    {fit}
    times.append(time.perf_counter() - start)
print(*times)
"""
COLD_TOOLS = {
    "daskglm_rep": ("from daskglm_rep import GLMClassifier", "GLMClassifier().fit(X, y)"),
    "glum irls": ("import glum", "glum.GeneralizedLinearRegressor(family='binomial', alpha=0).fit(X, y)"),
    "scikit-learn lbfgs": ("from sklearn.linear_model import LogisticRegression",
                           "LogisticRegression(C=np.inf).fit(X, y)"),
    STATSMODELS: ("import statsmodels.api as sm",
                  "sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial()).fit()")}


def simulate(model, n, p):
    """Normal columns, coefficients of norm 1, intercept -0.5."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p))
    eta = X @ (rng.normal(size=p) / np.sqrt(p)) - 0.5
    y = (rng.random(n) < special.expit(eta)) if model == "logit" else rng.poisson(np.exp(eta))
    return X, y.astype(float)


def optimum(model, X, y, coef):
    """Newton's method in NumPy from coefficients near the optimum.

    Returns
    -------
    coef, se : (p + 1,) array, the intercept first
    """
    for _ in range(3):
        score, information = np.zeros(X.shape[1] + 1), np.zeros((X.shape[1] + 1,) * 2)
        for start in range(0, len(y), ROWS_OF_REFERENCE):
            rows = slice(start, start + ROWS_OF_REFERENCE)
            Z = np.c_[np.ones(len(X[rows])), X[rows]]
            mu = special.expit(Z @ coef) if model == "logit" else np.exp(Z @ coef)
            weight = mu * (1 - mu) if model == "logit" else mu
            score += Z.T @ (y[rows] - mu)
            information += Z.T @ (Z * weight[:, None])
        coef = coef + linalg.solve(information, score, assume_a="pos")
    return coef, np.sqrt(np.diag(linalg.inv(information)))


def ours(model):
    return GLMClassifier() if model == "logit" else PoissonRegressor()


def peers(model):
    """Name to a function that makes an unfitted estimator, for the tools installed."""
    from sklearn import linear_model

    def scikit(module=linear_model, **how):
        if model == "logit":
            return module.LogisticRegression(C=np.inf, max_iter=10_000, **how)
        return module.PoissonRegressor(alpha=0, max_iter=10_000, **how)

    tools = {"scikit-learn newton-cholesky": lambda: scikit(solver="newton-cholesky", tol=1e-8),
             "scikit-learn lbfgs, tol 1e-8": lambda: scikit(solver="lbfgs", tol=1e-8)}
    with contextlib.suppress(ImportError):
        import glum
        family = "binomial" if model == "logit" else "poisson"
        tools["glum irls"] = lambda: glum.GeneralizedLinearRegressor(family=family, alpha=0, solver="irls-ls",
                                                                     gradient_tol=1e-7)
    with contextlib.suppress(ImportError):
        from sklearnex import linear_model as extension
        if model == "logit":
            tools["scikit-learn-intelex lbfgs, tol 1e-8"] = lambda: scikit(extension, solver="lbfgs", tol=1e-8)
    with contextlib.suppress(ImportError):
        import statsmodels.api  # noqa: F401
        tools[STATSMODELS] = lambda: ByStatsmodels(model)
    return tools


class ByStatsmodels:
    """statsmodels' GLM with the attributes of an estimator."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        import statsmodels.api as sm

        family = sm.families.Binomial() if self.model == "logit" else sm.families.Poisson()
        result = sm.GLM(y, sm.add_constant(X), family=family).fit(tol=1e-10)
        self.intercept_, self.coef_ = result.params[0], result.params[1:]
        return self


class Peak:
    """The largest size of this process inside a `with`, above its size at the start, in MiB."""

    def __enter__(self):
        self.process, self.stop = psutil.Process(), threading.Event()
        self.start = self.most = self.process.memory_info().rss
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self):
        while not self.stop.wait(0.005):
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()
        self.mib = (self.most - self.start) / 2 ** 20


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def gram(X):
    return min(timed(lambda: X.T @ X)[0] for _ in range(3))


def coefficients(estimator):
    return np.r_[np.ravel(estimator.intercept_), np.ravel(estimator.coef_)]


def compare(model, n, p, repeat):
    """Rows of the table for one problem in memory."""
    X, y = simulate(model, n, p)
    tools = {"daskglm_rep": lambda: ours(model)} | peers(model)
    ours(model).fit(X[:40_000], y[:40_000])                               # compile, the pilot of a share included
    units, best = [], {}
    for _ in range(repeat):
        units.append(gram(X))
        for name, make in tools.items():
            if name == STATSMODELS and name in best:
                continue
            turn = time.perf_counter()
            while True:
                with Peak() as peak:
                    seconds, fitted = timed(lambda make=make: make().fit(X, y))
                if name not in best or seconds < best[name][0]:
                    best[name] = seconds, fitted, peak.mib
                if time.perf_counter() - turn > TURN:
                    break
    unit = min(units)
    coef, se = optimum(model, X, y, coefficients(best["daskglm_rep"][1]))
    return [row(f"{model} n={n:.0e} p={p}".replace("e+0", "e"), name, seconds / unit, seconds,
                np.max(np.abs(coefficients(fitted) - coef) / se), getattr(fitted, "n_passes_", None), memory)
            for name, (seconds, fitted, memory) in best.items()]


def from_parquet(n, p, n_files, repeat):
    """A lazy folder of Parquet files, read anew by every sweep; beside the time of reading the same columns thrice."""
    X, y = simulate("logit", n, p)
    unit = gram(X)
    with tempfile.TemporaryDirectory() as folder:
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y)
        for number, rows in enumerate(np.array_split(np.arange(n), n_files)):
            frame.iloc[rows].to_parquet(f"{folder}/part-{number:03d}.parquet", index=False)
        size = frame.memory_usage(index=False).sum() / 2 ** 20
        del frame
        data, files = dd.read_parquet(folder), sorted(map(str, Path(folder).iterdir()))
        runs, bare = [], []
        for _ in range(repeat):
            bare.append(timed(lambda: [read_files(files, list(data.columns)) for _ in range(3)])[0])
            with Peak() as peak:
                seconds, fitted = timed(lambda: ours("logit").fit(data[list(data.columns[:p])], data["y"]))
            runs.append((seconds, fitted, peak.mib))
    seconds, fitted, memory = min(runs, key=lambda r: r[0])
    coef, se = optimum("logit", X, y, coefficients(fitted))
    problem = f"logit n={n:.0e} p={p}, {n_files} Parquet files ({size:.0f} MiB)".replace("e+0", "e")
    return [row(problem, "daskglm_rep, lazy", seconds / unit, seconds,
                np.max(np.abs(coefficients(fitted) - coef) / se), fitted.n_passes_, memory),
            row(problem, "pyarrow, the bare files thrice", min(bare) / unit, min(bare), None, 3, None)]


def read_files(files, columns):
    """Read columns of Parquet files with pyarrow and nothing else, a thread a core."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return sum(threads.map(lambda f: pq.read_table(f, columns=columns, use_threads=False).num_rows, files))


def small_chunks(n_chunks, rows, p, repeat):
    """Many small chunks in memory: what a sweep costs on threads."""
    X, y = simulate("logit", n_chunks * rows, p)
    unit = gram(X)
    lazy = [da.from_array(a, chunks=(rows,) + (-1,) * (a.ndim - 1)).persist() for a in (X, y)]
    runs = [timed(lambda: ours("logit").fit(*lazy)) for _ in range(repeat)]
    seconds, fitted = min(runs, key=lambda r: r[0])
    coef, se = optimum("logit", X, y, coefficients(fitted))
    return row(f"logit, {n_chunks:,} chunks of {rows} rows, p={p}: {seconds / fitted.n_passes_:.2f} s a sweep",
               "daskglm_rep, persisted", seconds / unit, seconds, np.max(np.abs(coefficients(fitted) - coef) / se),
               fitted.n_passes_, None)


def cold(repeat):
    """A new process that imports, fits 3,000 rows and fits them again; compiled code is on disk since the first one."""
    rows = []
    for name, (imports, fit) in COLD_TOOLS.items():
        runs = []
        for _ in range(repeat):
            done = subprocess.run([sys.executable, "-c", COLD.format(imports=imports, fit=fit)], capture_output=True,
                                  text=True)
            if done.returncode:
                break
            runs.append([float(seconds) for seconds in done.stdout.split()])
        if runs:
            first = min(runs, key=sum)
            rows.append({"a new process": name} | {what: f"{seconds:.3f}" for what, seconds in
                                                   zip(("import, s", "first fit, s", "second fit, s"), first)})
    return rows


def row(problem, tool, grams, seconds, error, passes, memory):
    return {"problem": problem, "tool": tool, "Grams": f"{grams:.1f}", "seconds": f"{seconds:.2f}",
            "error (SE)": "" if error is None else f"{error:.0e}", "sweeps": "" if passes is None else f"{passes:g}",
            "memory (MiB)": "" if memory is None else f"{memory:.0f}"}


def table(rows):
    """Markdown."""
    head = list(rows[0])
    texts = 2 if "tool" in head else 1
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * texts + "---:|" * (len(head) - texts)]
    previous = None
    for r in rows:
        first = "" if r[head[0]] == previous else r[head[0]]
        previous = r[head[0]]
        lines.append("| " + " | ".join([first] + [f"**{r[h]}**" if r.get("tool", "").startswith("daskglm_rep")
                                                  and h == "Grams" else r[h] for h in head[1:]]) + " |")
    return "\n".join(lines)


def machine():
    """Its class: never a name."""
    memory = psutil.virtual_memory().total / 2 ** 30
    return (f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory:.0f} GiB, "
            f"Python {platform.python_version()}")


def jobs(small, repeat):
    """What there is to measure, in order: (name, function that gives rows)."""
    found = [(f"{model} {n} {p}", lambda each=(model, n, p): compare(*each, repeat))
             for model, n, p in (SMALL if small else PROBLEMS)]
    found.append(("parquet", lambda: from_parquet(*((20_000, 7, 4) if small else (2_000_000, 7, 20)), repeat)))
    found.append(("chunks", lambda: [small_chunks(*((200, 100, 7) if small else (10_000, 100, 7)), repeat)]))
    return [*found, ("cold", lambda: cold(repeat))]


def main(arguments=None):
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of problems, from 0; default all")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "fits.md"))
    parser.add_argument("--readme", action="store_true", help="update the table in README.md")
    options = parser.parse_args(arguments)
    out, order = Path(options.out), jobs(options.small, options.repeat)
    kept = out.with_suffix(".json")
    found = json.loads(kept.read_text()) if kept.exists() and options.only is not None else {}
    with dask.config.set(scheduler="threads"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (name, job) in enumerate(order):
            if options.only is None or number in options.only:
                found[name] = job()
                print(table(found[name]), flush=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found, indent=1) + "\n")
    rows = [row for name, _ in order if name != "cold" for row in found.get(name, ())]
    text = "\n\n".join([f"Measured on {datetime.date.today():%d %B %Y}, {machine()}; best of {options.repeat} runs in "
                        "turn; one Gram is the time of `X.T @ X`. Ours includes standard errors.",
                        *(table(some) for some in (rows, found.get("cold")) if some)]) + "\n"
    out.write_text("# Exact fits: time, error, sweeps, memory\n\n`python benchmarks/fits.py`\n\n" + text)
    if options.readme:
        readme = (ROOT / "README.md").read_text()
        before, rest = readme.split(MARKS[0])
        (ROOT / "README.md").write_text(before + MARKS[0] + "\n" + text + MARKS[1] + rest.split(MARKS[1])[1])
    return rows


if __name__ == "__main__":
    main()
