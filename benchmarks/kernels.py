"""Nanoseconds a row of each kernel that walks over rows, on one thread, beside a plain sum of the same array.

    python benchmarks/kernels.py [--rows 1000000] [--features 7 50 300] [--repeats 7]

The least of some repeats in turn, in CPU time, so that a busy machine changes it little. `sum` is X.sum() by NumPy,
about what reading X once takes; `Gram` is X.T @ X.
"""

import argparse
import dataclasses
import time

import numpy as np
from threadpoolctl import threadpool_limits

from daskglm_rep import families, links
from daskglm_rep.inference.margins.effects import Slope
from daskglm_rep.inference.margins.sweep import EffectPlan, RawCoefficients, effect_sums
from daskglm_rep.inference.margins.terms import ArrayTerms
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.clusters import cluster_scores
from daskglm_rep.kernels.first_look import first_look
from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.kernels.meat import Adjustment, block_meat
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.survey import Pilot, survey
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.preparation import WIDE

N_CLASSES, N_CLUSTERS = 5, 1000
MODELS = {"logit": GLM(families.Bernoulli(), links.Logit()), "probit": GLM(families.Bernoulli(), links.Probit()),
          "cloglog": GLM(families.Bernoulli(), links.Cloglog()), "poisson": GLM(families.Poisson(), links.Log()),
          "gamma": GLM(families.Gamma(), links.Log()), "gaussian": GLM(families.Gaussian(), links.Identity())}


def rows(n, p, seed=0):
    """X, its basis, and a block of responses for each kind of model."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    basis = Basis(np.arange(p), X.mean(axis=0), X.std(axis=0), True)
    binary, counts = (rng.random(n) < 0.4).astype(float), rng.poisson(1.5, n).astype(float)
    responses = {"poisson": counts, "gamma": counts + 0.5, "gaussian": X[:, 0] + 1.0,
                 "softmax": rng.integers(0, N_CLASSES, n).astype(float)}
    one, zero = np.broadcast_to(1.0, (n,)), np.broadcast_to(0.0, (n,))
    clusters = rng.integers(0, N_CLUSTERS, n)
    return X, basis, {name: Block(X, responses.get(name, binary), one, zero, 0, {"clusters": clusters})
                      for name in (*MODELS, "softmax")}


def jobs(n, p):
    """Name -> a call of one kernel on n rows of p columns."""
    X, basis, blocks = rows(n, p)
    coef, many = np.full(p + 1, 0.1 / np.sqrt(p)), Multinomial(N_CLASSES)
    work = {"sum": X.sum, "Gram": lambda: X.T @ X}
    for name, model in MODELS.items():
        work[name] = lambda block=blocks[name], model=model: block_moments(block, model, basis, coef)
        work[f"{name}, gradient"] = lambda block=blocks[name], model=model: block_moments(block, model, basis, coef,
                                                                                          False)
    if p <= 50:
        wide = np.tile(coef, N_CLASSES - 1)
        work["softmax"] = lambda: block_moments(blocks["softmax"], many, basis, wide)
        work["softmax, gradient"] = lambda: block_moments(blocks["softmax"], many, basis, wide, False)
    logit, block, pilot = MODELS["logit"], blocks["logit"], Pilot(1, 0.0, 1, 0)
    bread = np.linalg.inv(block_moments(block, logit, basis, coef).expected)
    for name in ("logit", "poisson"):
        work[f"first look, {name}"] = lambda block=blocks[name], model=MODELS[name]: first_look(
            block, model, basis, coef, p < WIDE, model.family)
    work["survey"] = lambda: survey(block, logit.family, pilot)
    work["survey, poisson"] = lambda: survey(blocks["poisson"], MODELS["poisson"].family, pilot)
    work["survey, labels"] = lambda: survey(block, None, pilot, True)
    work["meat, HC0"] = lambda: block_meat(block, logit, basis, coef, Adjustment())
    work["meat, HC3"] = lambda: block_meat(block, logit, basis, coef, Adjustment((2.0, 0.0, 0.0), bread))
    work["clusters"] = lambda: cluster_scores(block, logit, basis, coef)
    names = tuple(f"x{j}" for j in range(p))
    plan = EffectPlan(ArrayTerms.of(names), RawCoefficients(logit, basis.columns, True, coef[None]),
                      tuple(Slope(name) for name in names))
    if p <= 50:
        work["margins"] = lambda: effect_sums(dataclasses.replace(block, extra={"rows": X}), plan)
    work["predict"] = lambda: logit.means(linear_predictor(X, basis, coef, block.offset))
    return work


def measure(n, p, repeats):
    """Name -> nanoseconds a row."""
    work, least = jobs(n, p), {}
    with threadpool_limits(1):
        for repeat in range(repeats + 1):
            for name, job in work.items():
                start = time.thread_time()
                job()
                if repeat:          # the first one compiles
                    least[name] = min(least.get(name, np.inf), time.thread_time() - start)
    return {name: seconds / n * 1e9 for name, seconds in least.items()}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of seven columns; of more as many numbers")
    parser.add_argument("--features", type=int, nargs="*", default=[7, 50, 300])
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args(arguments)
    found = {p: measure(max(given.rows * 7 // p, 2000), p, given.repeats) for p in given.features}
    names = list(dict.fromkeys(name for column in found.values() for name in column))
    print("ns a row, one thread".ljust(24) + "".join(f"p = {p}".rjust(12) for p in found))
    for name in names:
        print(name.ljust(24) + "".join(f"{column[name]:12.1f}" if name in column else " " * 12
                                       for column in found.values()))
    return found


if __name__ == "__main__":
    main()
