"""Multinomial logit against scikit-learn and statsmodels, in Grams.

    python benchmarks/multinomial.py --n 1000000 --p 20 --classes 5

One Gram is the time of one X.T @ X on the same matrix in the same run. The best of `--repeat` fits counts, of tools
that take more than three seconds one. The error is the worst coefficient's distance to our fit at tol=1e-10, in
standard errors. Ours and statsmodels' fits include standard errors, the others have none.
"""

import argparse
import time
import warnings

import numpy as np


SHORT = 3.0          # seconds of a fit that is repeated


def problem(n, p, n_classes, seed=0):
    """Rows of a multinomial model with moderate slopes, class codes as labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p))
    B = rng.normal(size=(p, n_classes - 1)) / np.sqrt(p)
    eta = np.c_[np.zeros(n), X @ B]
    P = np.exp(eta - eta.max(axis=1, keepdims=True)).cumsum(axis=1)
    return X, (rng.random(n)[:, None] * P[:, -1:] > P).sum(axis=1)


def seconds(work):
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def contrasts(intercept, coef):
    """(J - 1, p + 1) coefficients against class 0."""
    full = np.c_[intercept, coef]
    return (full - full[0])[1:]


def ours(X, y):
    from daskglm_rep import LogisticRegression

    est = LogisticRegression().fit(X, y)
    return contrasts(est.intercept_, est.coef_), f"{est.n_passes_:g} sweeps"


def by_sklearn(solver):
    def work(X, y):
        from sklearn.linear_model import LogisticRegression

        est = LogisticRegression(C=np.inf, solver=solver, tol=1e-8, max_iter=500).fit(X, y)
        return contrasts(est.intercept_, est.coef_), f"{int(np.max(est.n_iter_))} iterations"
    return work


def by_statsmodels(X, y):
    import statsmodels.api as sm

    fit = sm.MNLogit(y, sm.add_constant(X)).fit(method="newton", disp=0)
    return np.asarray(fit.params).T, f"{fit.mle_retvals['iterations']} iterations"


def run(n=1_000_000, p=20, n_classes=5, peers=("newton-cholesky", "lbfgs", "statsmodels"), repeat=3):
    """Rows of the table: tool, Grams, error in standard errors, note."""
    from daskglm_rep import LogisticRegression

    X, y = problem(n, p, n_classes)
    ours(X[:2000], y[:2000])                                          # compile before the clock runs
    gram = min(seconds(lambda: X.T @ X)[0] for _ in range(5))
    exact = LogisticRegression(tol=1e-10).fit(X, y).results_
    want, se = (v.to_numpy().reshape(n_classes - 1, -1) for v in (exact.params, exact.bse))
    tools = {"daskglm_rep": ours}
    tools |= {name: by_statsmodels if name == "statsmodels" else by_sklearn(name) for name in peers}
    table = []
    for name, tool in tools.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                took, (coef, note) = seconds(lambda: tool(X, y))
                for _ in range(repeat - 1 if took < SHORT else 0):
                    took = min(took, seconds(lambda: tool(X, y))[0])
        except ImportError:
            continue
        table.append((name, took / gram, float(np.max(np.abs(coef - want) / se)), note))
    return gram, table


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--p", type=int, default=20)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--peers", nargs="*", default=["newton-cholesky", "lbfgs", "statsmodels"])
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args(arguments)
    gram, table = run(given.n, given.p, given.classes, given.peers, given.repeat)
    print(f"multinomial n={given.n:,} p={given.p} J={given.classes}; one Gram is {gram:.4f} s")
    for name, grams, error, note in table:
        print(f"{name:<18}{grams:>10.1f} Grams   error {error:.1e} SE   {note}")
    return table


if __name__ == "__main__":
    main()
