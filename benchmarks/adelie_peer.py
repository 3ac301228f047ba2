"""The penalties of `penalties.py` by adelie, in an interpreter of its own: its numpy is older than ours.

    PYTHON benchmarks/adelie_peer.py FOLDER TASK

FOLDER holds X.npy, y.npy and, for the path, alphas.npy; what was found is written beside them. Prints the seconds of
the fit and of one Gram.
"""

import sys
import time
from pathlib import Path

import adelie
import numpy as np


def timed(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main(folder, task):
    """Run one task: gaussian_cv, logistic_path or logistic_cv."""
    X, y = np.asfortranarray(np.load(folder / "X.npy")), np.load(folder / "y.npy")
    kind = adelie.glm.gaussian if task == "gaussian_cv" else adelie.glm.binomial
    glm, how = kind(y=y, dtype=np.float64), dict(n_threads=2, progress_bar=False, early_exit=False)
    gram = min(timed(lambda: X.T @ X)[0] for _ in range(3))
    if task == "logistic_path":
        alphas = np.load(folder / "alphas.npy")
        runs = [timed(lambda: adelie.grpnet(X=X, glm=glm, lmda_path=alphas, **how)) for _ in range(3)]
        seconds, state = min(runs, key=lambda run: run[0])
        np.savez(folder / "found.npz", coefs=state.betas.toarray().T, intercepts=np.array(state.intercepts))
    else:
        length = 100 if task == "gaussian_cv" else 50
        seconds, _ = timed(lambda: adelie.cv_grpnet(X=X, glm=glm, n_folds=10, lmda_path_size=length, min_ratio=1e-4,
                                                    **how))
    print(seconds, min(gram, *(timed(lambda: X.T @ X)[0] for _ in range(3))))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
