"""Paths of penalties and cross-validation, in Grams, beside adelie, scikit-learn and glum in the same run.

    python benchmarks/penalties.py [--small] [--adelie PYTHON] [--out benchmarks/results/penalties.md]

One Gram is the time of `X.T @ X` by NumPy on the same matrix, the best of many taken between the fits. A tool's time is
the best of up to eight runs, as many as begin within ten seconds.
PYTHON is an interpreter that has adelie, whose numpy is older than ours; without it adelie is left out. The error of a
path is the worst violation of the optimality conditions over all its fits and coefficients, over sqrt(h_jj): in
standard errors of a coefficient beside which all others are known. Ours end with the fit under the penalty chosen;
memory is the peak of the process above its size before the fit.
"""

import argparse
import datetime
import subprocess
import tempfile
import warnings
from pathlib import Path

import dask
import dask.dataframe as dd
import numpy as np
import pandas as pd
from fits import ROOT, Peak, gram, machine, table, timed
from scipy import special
from sklearn import linear_model, model_selection

from daskglm_rep import ElasticNetCV, ElasticNetPath, LogisticRegressionCV

RATIOS = [0.1, 0.5, 1.0]
ONE = "1 l1_ratio"          # of three: the others are slow
BUDGET = 10.0          # seconds after which no further run of a tool begins
TASKS = {"gaussian_cv": "gaussian CV, 10 folds x 100 alphas x 3 l1_ratios", "logistic_path": "logistic path of 50",
         "logistic_cv": "logistic CV, 10 folds x 50 alphas"}


def simulate(task, n, p):
    """Normal columns, a fifth of which matter."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p))
    eta = X[:, :p // 5] @ (rng.normal(size=p // 5) / np.sqrt(p / 5)) - 0.5
    y = eta + rng.normal(size=n) if task == "gaussian_cv" else (rng.random(n) < special.expit(eta)).astype(float)
    return X, y


def ours(task):
    if task == "gaussian_cv":
        return ElasticNetCV(l1_ratio=RATIOS, n_alphas=100, cv=10)
    if task == "logistic_path":
        return ElasticNetPath("binomial", n_alphas=50)
    return LogisticRegressionCV(l1_ratio=1.0, n_alphas=50, cv=model_selection.KFold(10))


def peers(task, alphas):
    """Name to a function that makes an unfitted estimator, for the tools installed."""
    if task == "gaussian_cv":
        return {f"scikit-learn, {ONE}": lambda: linear_model.LassoCV(eps=1e-4, cv=10, n_jobs=2)}
    try:
        import glum
    except ImportError:
        return {}
    if task == "logistic_cv":
        return {}
    return {"glum": lambda: glum.GeneralizedLinearRegressor(family="binomial", l1_ratio=1.0, alpha_search=True,
                                                            alphas=alphas)}


def violation(X, y, alphas, coefs, intercepts):
    """Of the optimality conditions of logistic lassos, in standard errors."""
    worst = 0.0
    for alpha, coef, intercept in zip(alphas, coefs.T, intercepts):
        mu = special.expit(X @ coef + intercept)
        gradient, information = X.T @ (mu - y), (X * X).T @ (mu * (1.0 - mu))
        bound = alpha * len(y)
        off = np.where(coef != 0.0, np.abs(gradient + bound * np.sign(coef)), np.maximum(np.abs(gradient) - bound, 0.0))
        worst = max(worst, np.max(off / np.sqrt(information)), abs((mu - y).sum()) / np.sqrt((mu * (1 - mu)).sum()))
    return worst


def measured(make, X, y, units):
    """Seconds, the fitted estimator, and memory: of the best run."""
    runs = []
    while len(runs) < 8 and sum(run[0] for run in runs) < BUDGET:
        units.append(gram(X))
        with Peak() as peak:
            seconds, fitted = timed(lambda: make().fit(X, y))
        runs.append((seconds, fitted, peak.mib))
    units.append(gram(X))
    return min(runs, key=lambda run: run[0])


def compare(task, n, p, adelie, units):
    """Rows of the table for one task in memory."""
    X, y = simulate(task, n, p)
    ours(task).fit(X[:40_000], y[:40_000])                               # compile
    seconds, path, memory = measured(lambda: ours(task), X, y, units)
    is_path = task == "logistic_path"
    error = violation(X, y, path.alphas_, path.coefs_, path.intercepts_) if is_path else None
    rows = [row(task, "daskglm_rep", seconds, error, path.n_passes_, memory)]
    alphas = path.alphas_ if is_path else None
    for name, make in peers(task, alphas).items():
        seconds, fitted, memory = measured(make, X, y, units)
        error = None if not is_path else violation(X, y, alphas, fitted.coef_path_.T, fitted.intercept_path_)
        rows.append(row(task, name, seconds, error, None, memory))
    if adelie:
        rows.append(by_adelie(task, X, y, alphas, adelie, units))
    return rows


def by_adelie(task, X, y, alphas, adelie, units):
    """The same by adelie, in its interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        np.save(f"{folder}/X.npy", X)
        np.save(f"{folder}/y.npy", y)
        if alphas is not None:
            np.save(f"{folder}/alphas.npy", alphas)
        script = Path(__file__).with_name("adelie_peer.py")
        answer = subprocess.run([adelie, script, folder, task], capture_output=True, text=True, check=True).stdout
        seconds, unit = map(float, answer.split()[-2:])
        units.append(unit)
        error = None
        if alphas is not None:
            found = np.load(f"{folder}/found.npz")
            error = violation(X, y, alphas, found["coefs"], found["intercepts"])
    return row(task, f"adelie, {ONE}" if task == "gaussian_cv" else "adelie", seconds, error, None, None)


def from_parquet(task, n, p, n_files):
    """A lazy folder of Parquet files, read anew by every sweep."""
    X, y = simulate(task, n, p)
    with tempfile.TemporaryDirectory() as folder:
        names = [f"x{j}" for j in range(p)]
        frame = pd.DataFrame(X, columns=names).assign(y=y)
        for number, rows in enumerate(np.array_split(np.arange(n), n_files)):
            frame.iloc[rows].to_parquet(f"{folder}/part-{number:03d}.parquet", index=False)
        del frame, X
        data = dd.read_parquet(folder)
        with Peak() as peak:
            seconds, fitted = timed(lambda: ours(task).fit(data[names], data["y"]))
    return row(task, f"daskglm_rep, {n_files} Parquet files", seconds, None, fitted.n_passes_, peak.mib)


def row(task, tool, seconds, error, passes, memory):
    return {"problem": TASKS[task], "tool": tool, "Grams": seconds, "seconds": f"{seconds:.2f}",
            "error (SE)": "" if error is None else f"{error:.0e}", "sweeps": "" if passes is None else f"{passes:g}",
            "memory (MiB)": "" if memory is None else f"{memory:.0f}"}


def main(arguments=None):
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--adelie", help="an interpreter that has adelie")
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "penalties.md"))
    options = parser.parse_args(arguments)
    n, p, n_files = (30_000, 20, 3) if options.small else (200_000, 100, 10)
    rows, units = [], []
    with dask.config.set(scheduler="threads"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for task in TASKS:
            rows += compare(task, n, p, options.adelie, units)
            rows.append(from_parquet(task, n, p, n_files))
            print(f"{TASKS[task]}: done", flush=True)
    for each in rows:
        each["Grams"] = f"{each['Grams'] / min(units):.1f}"
    text = (f"n = {n:,}, p = {p}, measured on {datetime.date.today():%d %B %Y}, {machine()}; one "
            f"Gram takes {1e3 * min(units):.0f} ms.\n\n{table(rows)}\n")
    out = Path(options.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("# Paths of penalties and cross-validation\n\n"
                   "`python benchmarks/penalties.py --adelie PYTHON`\n\n" + text)
    print(text)
    return rows


if __name__ == "__main__":
    main()
