"""Distance to the full-data estimate after each round, in standard errors: the seven settings of Li & Yang, sec. 3.2.

    python benchmarks/representatives_goal.py --rows 1e6 --methods moment-matched,score-matching

A line holds setting, partition, method, blocks -> parts, the true distance at rounds 0, 1, 2, 3 and the certificate's.
"""

import argparse

import dask
import numpy as np

from daskglm_rep import LogisticRegression, RepresentativeGLM, datasets, partitions


def distances(setting, partition, methods, n_rows, seed):
    """Yield (method, estimator, true distances) on one data set."""
    X, y, _ = datasets.simulate_paper(setting, n_rows, random_state=seed)
    full = LogisticRegression(tol=1e-10).fit(X, y).results_
    for method in methods:
        est = RepresentativeGLM(representative=method, partition=partition, tol=1e-12).fit(X, y)
        yield method, est, np.abs((est.coef_path_ - full.params.to_numpy()) / full.bse.to_numpy()).max(axis=1)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=float, default=1e5)
    parser.add_argument("--methods", default="moment-matched,score-matching,response-aided,corrected")
    parser.add_argument("--settings", default=",".join(datasets.SETTINGS))
    parser.add_argument("--seed", type=int, default=1)
    how = parser.parse_args(arguments)
    n_rows = int(how.rows)
    chosen = {"equal-depth": partitions.EqualDepth(4),
              "k-means": partitions.KMeans(1000, subset=min(n_rows // 5, 100_000))}
    with dask.config.set(scheduler="sync"):
        for setting in how.settings.split(","):
            for name, partition in chosen.items():
                for method, est, true in distances(setting, partition, how.methods.split(","), n_rows, how.seed):
                    print(f"{setting:9s} {name:11s} {method:14s} {est.n_blocks_:5d} -> {est.n_parts_:5d}  true",
                          *[f"{d:8.2g}" for d in true], " certificate",
                          *[f"{d:8.2g}" for d in est.history_["distance"]], flush=True)


if __name__ == "__main__":
    main()
