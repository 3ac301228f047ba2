"""Blocks fitted by themselves while they are collected: their weighted mean is a start near the optimum.

The mean of the blocks' estimates, each weighted by its information, is the divide-and-conquer estimate of Lin and Xi
(2011, Statistics and Its Interface 4). Where steep slopes or heavy tails let few rows carry the information, points see
too little of them for a first estimate, and every block sees its own.
"""

import dataclasses

import numpy as np

from daskglm_rep.diagnostics import undetermined
from daskglm_rep.objective import Objective, in_memory, solve
from daskglm_rep.representatives.collection import collect_block
from daskglm_rep.solvers import newton
from daskglm_rep.summaries import Pair

ROWS_PER_COEF = 10       # that a block needs to be fitted by itself


@dataclasses.dataclass(frozen=True)
class LocalFits:
    """Sum of the blocks' informations (lower triangle), that of information times estimate, and the rows fitted."""

    information: np.ndarray
    pull: np.ndarray
    n_rows: float

    def merge(self, other):
        return LocalFits(self.information + other.information, self.pull + other.pull, self.n_rows + other.n_rows)

    def mean(self):
        """The weighted mean, (q,) array; None where the informations are singular."""
        q = self.pull.size
        H = np.zeros((q, q))
        H[np.tril_indices(q)] = self.information
        return solve(H + np.tril(H, -1).T, self.pull)


def local_fit(block, model, basis):
    """`LocalFits` of a block; zeros where it has few rows, seems separated or has no valid start."""
    q = basis.n_coef
    nothing = LocalFits(np.zeros(q * (q + 1) // 2), np.zeros(q), 0.0)
    if block.n_rows < ROWS_PER_COEF * q:
        return nothing
    objective, data = Objective(model, basis), in_memory(block, 1)
    try:
        with np.errstate(all="ignore"):
            found = newton.minimise(objective, data, newton.start(objective, block, data), 1e-8, 50)
    except ValueError:
        return nothing
    point = found.point
    if not (found.converged and point.usable) or undetermined(objective, point):
        return nothing
    H = point.curvature
    return LocalFits(H[np.tril_indices(q)], H @ point.coef, float(block.n_rows))


def collect_and_fit(block, plan, model):
    """`collect_block`, and the block's own fit of the rows that count."""
    return Pair(collect_block(block, plan), local_fit(plan.rows(block), model, plan.basis))
