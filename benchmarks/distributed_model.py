"""Distributed estimation beside statsmodels' DistributedModel on the same data and the same parts, in one process.

    python benchmarks/distributed_model.py [--rows 20000] [--features 40] [--parts 10] [--repeats 3] [--out FILE]
                                     [--wide 500]

Each as it is by default: theirs one part after the other, ours on the threads at hand; ours includes the survey and the
standard errors, which statsmodels has not. Answers are compared under convention="statsmodels": with statsmodels as it
is, whose lasso leaves a coefficient at zero once it has been there, and with its node-wise lassos solved by
scikit-learn. The last lines are `--wide` columns, ours alone.
"""

import argparse
import platform
import time
import warnings
from pathlib import Path

import numpy as np
import statsmodels
import statsmodels.api as sm
from sklearn.linear_model import Lasso
from statsmodels.base import distributed_estimation as theirs
from statsmodels.genmod.families import Binomial

from daskglm_rep import DistributedModel

ALPHA = 0.05
STATSMODELS = {"unregularized": (theirs._est_unregularized_naive, theirs._join_naive),
               "regularized": (theirs._est_regularized_naive, theirs._join_naive),
               "debiased": (theirs._est_regularized_debiased, theirs._join_debiased)}


def problem(n, p, family, seed=0):
    """Correlated columns, five coefficients that are not zero."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    for j in range(1, p):
        X[:, j] = 0.5 * X[:, j - 1] + np.sqrt(0.75) * X[:, j]
    eta = X[:, :5] @ [1.0, -1.0, 0.5, -0.5, 0.25]
    if family == "gaussian":
        return X, eta + rng.standard_normal(n)
    return X, (rng.random(n) < 1.0 / (1.0 + np.exp(-eta))).astype(float)


def statsmodels_fit(X, y, family, method, parts):
    estimate, join = STATSMODELS[method]
    binary = family == "binomial"
    model = theirs.DistributedModel(parts, model_class=sm.GLM if binary else sm.OLS, estimation_method=estimate,
                                    init_kwds={"family": Binomial()} if binary else {}, join_method=join)
    kwds = {} if method == "unregularized" else {"alpha": ALPHA}
    pieces = zip(np.array_split(y, parts), np.array_split(X, parts))
    return model.fit(pieces, fit_kwds=kwds).params


def exact_row(exog, j, alpha):
    """The lasso of column j on the others."""
    lasso = Lasso(alpha, fit_intercept=False, tol=1e-12, max_iter=100_000)
    return lasso.fit(np.delete(exog, j, axis=1), exog[:, j]).coef_


def their_exact_fit(*problem):
    """statsmodels' answer, its node-wise lassos solved to the end."""
    own, theirs._calc_nodewise_row = theirs._calc_nodewise_row, exact_row
    try:
        return statsmodels_fit(*problem)
    finally:
        theirs._calc_nodewise_row = own


def our_fit(X, y, family, method, parts):
    return DistributedModel(family, method, alpha=ALPHA, partitions=parts, fit_intercept=False,
                            convention="statsmodels").fit(X, y).coef_


def best(fit, *arguments, repeats):
    """Least seconds over repeats, and the answer."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = fit(*arguments)
        seconds.append(time.perf_counter() - start)
    return min(seconds), answer


def compared(rows, features, parts, repeats):
    """One line a family and method."""
    yield "| family | method | statsmodels, s | ours, s | times faster | largest difference | with exact lassos |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for family in ("gaussian", "binomial"):
        X, y = problem(rows, features, family)
        for method in STATSMODELS:
            our_fit(X[:50 * parts], y[:50 * parts], family, method, 2)                        # compiles
            slow, their_answer = best(statsmodels_fit, X, y, family, method, parts, repeats=1)
            fast, our_answer = best(our_fit, X, y, family, method, parts, repeats=repeats)
            exact = their_exact_fit(X, y, family, method, parts) if method == "debiased" else their_answer
            gaps = (np.max(np.abs(our_answer - answer)) for answer in (their_answer, exact))
            numbers = (f"{slow:.2f}", f"{fast:.3f}", f"{slow / fast:.0f}")
            cells = (family, method, *numbers, *(f"{gap:.1e}" for gap in gaps))
            yield f"| {' | '.join(cells)} |"


def wide(rows, features, parts):
    """Ours alone, where node-wise regressions are many."""
    yield "| family | how | seconds | sweeps |"
    yield "|---|---|---:|---:|"
    for family in ("gaussian", "binomial"):
        X, y = problem(rows, features, family)
        for name, how in (("the document's scheme, alpha 0.05", dict(alpha=ALPHA)),
                          ("the document's scheme, alpha 0.005", dict(alpha=ALPHA / 10)), ('alpha "theory"', {})):
            start = time.perf_counter()
            est = DistributedModel(family, partitions=parts, **how).fit(X, y)
            yield f"| {family} | {name} | {time.perf_counter() - start:.1f} | {est.n_passes_:g} |"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=40)
    parser.add_argument("--parts", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--wide", type=int, default=500)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    lines = [f"{args.rows:,} rows, {args.features} columns, {args.parts} parts, alpha {ALPHA}; {platform.machine()}, "
             f"Python {platform.python_version()}, statsmodels {statsmodels.__version__}", ""]
    for line in lines:
        print(line)
    for line in compared(args.rows, args.features, args.parts, args.repeats):
        print(line, flush=True)
        lines.append(line)
    if args.wide:
        title = f"\n{args.rows:,} rows, {args.wide} columns, {2 * args.parts} parts, ours alone\n"
        print(title)
        lines += title.split("\n")
        for line in wide(args.rows, args.wide, 2 * args.parts):
            print(line, flush=True)
            lines.append(line)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
