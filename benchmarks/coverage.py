"""Coverage of the intervals of `DistributedModel` on designs and seeds that nothing was tuned on.

    python benchmarks/coverage.py DESIGN FAMILY [--sets 20] [--first 1000] [--rows 10000] [--columns 200] [--parts 10]

Designs: "blocks", ten columns a block that correlate at 0.7; "t", independent columns of Student's t with 5 degrees of
freedom, cut at 8, so that a few rows have leverage; "uneven", blocks again, parts of 214 to 1,786 rows. The seeds of
data sets are first, ..., first + sets - 1, with the design. Prints a line of a table: the share of coefficients inside,
with its Monte-Carlo error, and the warnings that came.
"""

import argparse
import warnings
from collections import Counter

import dask.array as da
import numpy as np

from daskglm_rep import DistributedModel

DESIGNS = ("blocks", "t", "uneven")
STRONG = np.array([1.0, -1.0, 0.5, -0.5, 0.25])


def sample(design, family, n, p, seed):
    """Rows, a response and the coefficients; the strong ones stand in different blocks."""
    rng = np.random.default_rng((seed, DESIGNS.index(design)))
    if design == "t":
        X = np.clip(rng.standard_t(5, size=(n, p)), -8, 8) / np.sqrt(5 / 3)
    else:
        X = np.sqrt(0.3) * rng.normal(size=(n, p)) + np.sqrt(0.7) * np.repeat(rng.normal(size=(n, p // 10)), 10, axis=1)
    beta = np.zeros(p)
    beta[np.arange(5) * (p // 5)] = STRONG * (1.0 if family == "gaussian" else 0.5)
    eta = X @ beta
    if family == "gaussian":
        return X, eta + rng.normal(size=n), beta
    if family == "poisson":
        return X, rng.poisson(np.exp(eta - 0.5)).astype(float), beta
    return X, (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float), beta


def parts_of(design, n, parts):
    """Rows of each chunk."""
    share = np.linspace(3, 25, parts) if design == "uneven" else np.ones(parts)
    edges = np.round(np.cumsum(np.r_[0, share]) / share.sum() * n).astype(int)
    return tuple(int(k) for k in np.diff(edges))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("design", choices=DESIGNS)
    parser.add_argument("family", choices=["gaussian", "binomial", "poisson"])
    for name, value in (("sets", 20), ("first", 1000), ("rows", 10_000), ("columns", 200), ("parts", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    inside, strong, told = 0, 0, Counter()
    for seed in range(a.first, a.first + a.sets):
        X, y, beta = sample(a.design, a.family, a.rows, a.columns, seed)
        chunks = parts_of(a.design, a.rows, a.parts)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = DistributedModel(a.family).fit(*(da.from_array(v, chunks=(chunks, *v.shape[1:])) for v in (X, y)))
        told.update(type(w.message).__name__ for w in caught)
        limits = model.results_.conf_int().iloc[1:].to_numpy()
        hit = (limits[:, 0] <= beta) & (beta <= limits[:, 1])
        inside, strong = inside + hit[beta == 0].sum(), strong + hit[beta != 0].sum()
    zeros, others = a.sets * (a.columns - 5), a.sets * 5
    print(f"| {a.design} | {a.family} | {a.first} to {a.first + a.sets - 1} | {inside / zeros:.4f} "
          f"(± {np.sqrt(0.0475 / zeros):.4f}) | {strong / others:.3f} (± {np.sqrt(0.0475 / others):.3f}) | "
          f"{', '.join(f'{k} {v}' for k, v in told.items()) or 'none'} |")


if __name__ == "__main__":
    main()
