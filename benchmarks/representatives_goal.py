"""Distance to the full-data estimate after each round, in standard errors: the seven settings of Li & Yang, sec. 3.2.

    python benchmarks/representatives_goal.py --rows 1e5 --methods calibrated --rounds 2 --seed 1
    python benchmarks/representatives_goal.py --rows 1e6 --methods moment-matched,score-matching
    python benchmarks/representatives_goal.py --rows 1e6 --methods moment-matched --min-block-size 10
    python benchmarks/representatives_goal.py --rows 1e6 --methods mean,score-matching --polish

A line holds setting, partition, method, blocks -> parts, the true distance at rounds 0, 1, 2, 3 and the certificate's;
with --polish how many Newton rounds followed, and the true distance after them. "chunks" are 20 natural blocks of rows
in random order, cut by k-means inside; a guard and a cut of natural blocks both leave rows where they are.
"""

import argparse

import dask
import dask.array as da
import numpy as np

from daskglm_rep import LogisticRegression, RepresentativeGLM, datasets, partitions


def cases(X, y, subset):
    """Yield (name, partition, X, y)."""
    yield "equal-depth", partitions.EqualDepth(4), X, y
    yield "k-means", partitions.KMeans(1000, subset=subset), X, y
    n = -(-len(X) // 20)
    natural = partitions.Natural(within=partitions.KMeans(50))
    yield "chunks", natural, da.from_array(X, chunks=(n, X.shape[1])), da.from_array(y, chunks=n)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=float, default=1e5)
    parser.add_argument("--methods", default="calibrated,moment-matched,score-matching,response-aided,corrected")
    parser.add_argument("--settings", default=",".join(datasets.SETTINGS))
    parser.add_argument("--min-block-size", type=int, default=10)
    parser.add_argument("--polish", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    how = parser.parse_args(arguments)
    n_rows = int(how.rows)
    for setting in how.settings.split(","):
        X, y, _ = datasets.simulate_paper(setting, n_rows, random_state=how.seed)
        full = LogisticRegression(tol=1e-10).fit(X, y).results_

        def away(coef):
            return np.abs((coef - full.params.to_numpy()) / full.bse.to_numpy()).max(axis=-1)

        for name, partition, X_here, y_here in cases(X, y, min(n_rows // 5, 100_000)):
            for method in how.methods.split(","):
                est = RepresentativeGLM(representative=method, partition=partition, tol=1e-6 if how.polish else 1e-12,
                                        n_rounds=how.rounds, min_block_size=how.min_block_size,
                                        polish=how.polish).fit(X_here, y_here)
                print(f"{setting:9s} {name:11s} {method:14s} {est.n_blocks_:5d} -> {est.n_parts_:5d}  true",
                      *[f"{d:8.2g}" for d in away(est.coef_path_)], " certificate",
                      *[f"{d:8.2g}" for d in est.history_["distance"]], end="")
                if how.polish:
                    print(f"  Newton rounds {est.n_iter_}  true {away(np.r_[est.intercept_, est.coef_]):8.2g}", end="")
                print(flush=True)


if __name__ == "__main__":
    with dask.config.set(scheduler="sync"):
        main()
