"""How long linear models take, in Grams, beside scikit-learn, glum and statsmodels in one run.

    python benchmarks/linear.py [--small] [--repeat 3] [--out benchmarks/results/linear.md]

One Gram is the time of `X.T @ X` by NumPy on the same matrix in the same run; tools take turns of a third of a second,
or a fit, and the best time of each counts. Errors are the worst coefficient's distance to the optimum, by
refined normal equations in NumPy, in standard errors. Ours and statsmodels' include standard errors.
"""

import argparse
import contextlib
import datetime
import tempfile
import time
import warnings
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
from fits import ROOT, coefficients, gram, machine, table, timed
from scipy import linalg
from sklearn import linear_model

from daskglm_rep import LinearRegression

PROBLEMS, SMALL = [(2_000_000, 7), (500_000, 50), (100_000, 300)], [(20_000, 7), (5_000, 50)]
ALPHA, TURN, SLOW = 0.1, 0.3, 20.0


def simulate(n, p):
    """Normal columns of which some are far from zero, coefficients of norm 1, R-squared a half."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, p))
    X[:, ::5] += 10.0
    return X, X @ (rng.normal(size=p) / np.sqrt(p)) + rng.standard_normal(n)


def optimum(X, y, alpha):
    """Coefficients of least squares with a ridge, the intercept first, and their standard errors without it."""
    mean = X.mean(axis=0)
    Z = X - mean
    G, coef = Z.T @ Z, np.zeros(X.shape[1])
    H = G + alpha * len(y) * np.eye(len(G))
    for _ in range(3):
        residual = y - y.mean() - Z @ coef
        coef = coef + linalg.solve(H, Z.T @ residual - alpha * len(y) * coef, assume_a="pos")
    scale = residual @ residual / (len(y) - X.shape[1] - 1)
    inverse = linalg.inv(G)
    first = scale * (1.0 / len(y) + mean @ inverse @ mean)
    return np.r_[y.mean() - mean @ coef, coef], np.sqrt(np.r_[first, scale * np.diag(inverse)])


class ByStatsmodels:
    """statsmodels' OLS with the attributes of an estimator."""

    def fit(self, X, y):
        import statsmodels.api as sm

        params = sm.OLS(y, sm.add_constant(X)).fit().params
        self.intercept_, self.coef_ = params[0], params[1:]
        return self


def tools(alpha):
    """Name to a function that makes an unfitted estimator."""
    found = {"daskglm_rep": lambda: LinearRegression(alpha=alpha)}
    if alpha:
        found["scikit-learn Ridge, cholesky"] = lambda: linear_model.Ridge(alpha=alpha, solver="cholesky")
    else:
        found["scikit-learn LinearRegression"] = linear_model.LinearRegression
    with contextlib.suppress(ImportError):
        import glum
        found["glum irls"] = lambda: glum.GeneralizedLinearRegressor(family="normal", alpha=alpha, solver="irls-ls")
    if not alpha:
        with contextlib.suppress(ImportError):
            import statsmodels.api  # noqa: F401
            found["statsmodels OLS"] = ByStatsmodels
    return found


def compare(n, p, alpha, repeat):
    """Rows of the table for one problem in memory; scikit-learn's alpha is a sum over rows, ours and glum's a mean."""
    X, y = simulate(n, p)
    coef, se = optimum(X, y, alpha)
    LinearRegression(alpha=alpha).fit(X[:5000], y[:5000])
    units, best = [], {}
    for _ in range(repeat):
        units.append(gram(X))
        for name, make in tools(alpha).items():
            turn = time.perf_counter()
            while name not in best or best[name][0] < SLOW:
                estimator = make()
                if name.startswith("scikit-learn Ridge"):
                    estimator.alpha = alpha * n
                seconds, fitted = timed(lambda estimator=estimator: estimator.fit(X, y))
                if name not in best or seconds < best[name][0]:
                    best[name] = seconds, fitted
                if time.perf_counter() - turn > TURN:
                    break
    what = f"{'ridge' if alpha else 'least squares'} n={n:.0e} p={p}".replace("e+0", "e")
    return [row(what, name, seconds, min(units), fitted, coef, se) for name, (seconds, fitted) in best.items()]


def from_parquet(n, p, n_files, repeat):
    """A lazy folder of Parquet files beside reading all of it once."""
    X, y = simulate(n, p)
    unit, (coef, se) = gram(X), optimum(X, y, 0.0)
    names = [f"x{j}" for j in range(p)]
    with tempfile.TemporaryDirectory() as folder:
        frame = pd.DataFrame(X, columns=names).assign(y=y)
        for number, rows in enumerate(np.array_split(np.arange(n), n_files)):
            frame.iloc[rows].to_parquet(f"{folder}/part-{number:03d}.parquet", index=False)
        data = dd.read_parquet(folder)
        runs = [timed(lambda: LinearRegression().fit(data[names], data["y"])) for _ in range(repeat)]
        read = min(timed(lambda: data.map_partitions(len, meta=int).compute(scheduler="threads"))[0]
                   for _ in range(repeat))
    seconds, fitted = min(runs, key=lambda run: run[0])
    what = f"least squares n={n:.0e} p={p}, {n_files} Parquet files".replace("e+0", "e")
    return [row(what, "daskglm_rep, lazy", seconds, unit, fitted, coef, se),
            {"problem": "", "tool": "pandas reads them, two threads", "Grams": f"{read / unit:.2f}",
             "seconds": f"{read:.3f}", "error (SE)": "", "sweeps": "1"}]


def row(problem, tool, seconds, unit, fitted, coef, se):
    sweeps = getattr(fitted, "n_passes_", None)
    return {"problem": problem, "tool": tool, "Grams": f"{seconds / unit:.2f}", "seconds": f"{seconds:.3f}",
            "error (SE)": f"{np.max(np.abs(coefficients(fitted) - coef) / se):.0e}",
            "sweeps": "" if sweeps is None else f"{sweeps:g}"}


def main(arguments=None):
    """Run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", default=str(ROOT / "benchmarks" / "results" / "linear.md"))
    options = parser.parse_args(arguments)
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for n, p in SMALL if options.small else PROBLEMS:
            for alpha in (0.0, ALPHA):
                rows += compare(n, p, alpha, options.repeat)
                print(table(rows), flush=True)
        rows += from_parquet(*((20_000, 7, 4) if options.small else (2_000_000, 7, 20)), options.repeat)
    Path(options.out).write_text(
        f"# Linear models: time, error, sweeps\n\n`python benchmarks/linear.py`\n\nMeasured on "
        f"{datetime.date.today():%d %B %Y}, {machine()}; best of {options.repeat} turns; one Gram is the time of "
        f"`X.T @ X`. Ours and statsmodels' include standard errors.\n\n{table(rows)}\n")


if __name__ == "__main__":
    main()
