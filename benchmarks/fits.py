"""How long an exact fit takes, in Grams, beside glum and scikit-learn in the same run.

    python benchmarks/fits.py [--small] [--repeat 3] [--out benchmarks/results/fits.md] [--readme]

One Gram is the time of `X.T @ X` by NumPy on the same matrix in the same run. Tools take turns; the best time of each
counts. Errors are the worst coefficient's distance to the optimum in standard errors, the optimum found by Newton's
method in NumPy. Ours includes standard errors, the others do not have them. Memory is the peak of the process above
its size before the fit. `--readme` puts the table between the marks in README.md.
"""

import argparse
import datetime
import os
import platform
import tempfile
import threading
import time
import warnings
from pathlib import Path

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import psutil
from scipy import linalg, special

from daskglm_rep import GLMClassifier, PoissonRegressor

ROOT = Path(__file__).resolve().parent.parent
MARKS = "<!-- measured -->", "<!-- /measured -->"
PROBLEMS = [("logit", 2_000_000, 7), ("logit", 500_000, 50), ("logit", 100_000, 300), ("poisson", 2_000_000, 7)]
SMALL = [("logit", 20_000, 7), ("poisson", 20_000, 7)]
ROWS_OF_REFERENCE = 50_000


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

    def scikit(**how):
        if model == "logit":
            return linear_model.LogisticRegression(C=np.inf, max_iter=10_000, **how)
        return linear_model.PoissonRegressor(alpha=0, max_iter=10_000, **how)

    tools = {"scikit-learn newton-cholesky": lambda: scikit(solver="newton-cholesky", tol=1e-8),
             "scikit-learn lbfgs, tol 1e-8": lambda: scikit(solver="lbfgs", tol=1e-8)}
    try:
        import glum
    except ImportError:
        return tools
    family = "binomial" if model == "logit" else "poisson"
    return {"glum irls": lambda: glum.GeneralizedLinearRegressor(family=family, alpha=0, solver="irls-ls",
                                                                  gradient_tol=1e-7)} | tools


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
            with Peak() as peak:
                seconds, fitted = timed(lambda make=make: make().fit(X, y))
            if name not in best or seconds < best[name][0]:
                best[name] = seconds, fitted, peak.mib
    unit = min(units)
    coef, se = optimum(model, X, y, coefficients(best["daskglm_rep"][1]))
    return [row(f"{model} n={n:.0e} p={p}".replace("e+0", "e"), name, seconds / unit, seconds,
                np.max(np.abs(coefficients(fitted) - coef) / se), getattr(fitted, "n_passes_", None), memory)
            for name, (seconds, fitted, memory) in best.items()]


def from_parquet(n, p, n_files, repeat):
    """A lazy folder of Parquet files, read anew by every sweep."""
    X, y = simulate("logit", n, p)
    unit = gram(X)
    with tempfile.TemporaryDirectory() as folder:
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y)
        for number, rows in enumerate(np.array_split(np.arange(n), n_files)):
            frame.iloc[rows].to_parquet(f"{folder}/part-{number:03d}.parquet", index=False)
        size = frame.memory_usage(index=False).sum() / 2 ** 20
        del frame
        data = dd.read_parquet(folder)
        runs = []
        for _ in range(repeat):
            with Peak() as peak:
                seconds, fitted = timed(lambda: ours("logit").fit(data[list(data.columns[:p])], data["y"]))
            runs.append((seconds, fitted, peak.mib))
    seconds, fitted, memory = min(runs, key=lambda r: r[0])
    coef, se = optimum("logit", X, y, coefficients(fitted))
    return row(f"logit n={n:.0e} p={p}, {n_files} Parquet files ({size:.0f} MiB)".replace("e+0", "e"),
               "daskglm_rep, lazy", seconds / unit, seconds, np.max(np.abs(coefficients(fitted) - coef) / se),
               fitted.n_passes_, memory)


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


def row(problem, tool, grams, seconds, error, passes, memory):
    return {"problem": problem, "tool": tool, "Grams": f"{grams:.1f}", "seconds": f"{seconds:.2f}",
            "error (SE)": f"{error:.0e}", "sweeps": "" if passes is None else f"{passes:g}",
            "memory (MiB)": "" if memory is None else f"{memory:.0f}"}


def table(rows):
    """Markdown."""
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|---|---|" + "---:|" * (len(head) - 2)]
    previous = None
    for r in rows:
        first = "" if r["problem"] == previous else r["problem"]
        previous = r["problem"]
        lines.append("| " + " | ".join([first] + [f"**{r[h]}**" if r["tool"].startswith("daskglm_rep") and h == "Grams"
                                                  else r[h] for h in head[1:]]) + " |")
    return "\n".join(lines)


def machine():
    """Its class: never a name."""
    memory = psutil.virtual_memory().total / 2 ** 30
    return (f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory:.0f} GiB, "
            f"Python {platform.python_version()}")


def main(arguments=None):
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "fits.md"))
    parser.add_argument("--readme", action="store_true", help="update the table in README.md")
    options = parser.parse_args(arguments)
    rows = []
    with dask.config.set(scheduler="threads"), warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        for problem in SMALL if options.small else PROBLEMS:
            rows += compare(*problem, options.repeat)
            print(table(rows[-4:]), flush=True)
        rows.append(from_parquet(*((20_000, 7, 4) if options.small else (2_000_000, 7, 20)), options.repeat))
        rows.append(small_chunks(*((200, 100, 7) if options.small else (10_000, 100, 7)), options.repeat))
    text = (f"Measured on {datetime.date.today():%d %B %Y}, {machine()}; best of {options.repeat} runs in turn; one "
            "Gram is the time of `X.T @ X`. Ours includes standard errors.\n\n" + table(rows) + "\n")
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("# Exact fits: time, error, sweeps, memory\n\n`python benchmarks/fits.py`\n\n" + text)
    if options.readme:
        readme = (ROOT / "README.md").read_text()
        before, rest = readme.split(MARKS[0])
        (ROOT / "README.md").write_text(before + MARKS[0] + "\n" + text + MARKS[1] + rest.split(MARKS[1])[1])
    print(text)
    return rows


if __name__ == "__main__":
    main()
