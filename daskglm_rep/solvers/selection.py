"""Paths of any model, and which penalty to take: the mean held-out deviance, its standard error, and two rules."""

import dataclasses

import numpy as np

from daskglm_rep.solvers.joint_path import solve_joint
from daskglm_rep.solvers.linear_path import solve_linear
from daskglm_rep.solvers.rows_path import solve_in_memory

RULES = ("min", "1se")


def solve_paths(prepared, splits, settings):
    """`Paths` of any model: from the Gram, from rows that are all at home, or by sweeps at many coefficient vectors."""
    if prepared.model.is_linear:
        return solve_linear(prepared, splits, settings)
    return (solve_in_memory if prepared.found.pilot_is_all else solve_joint)(prepared, splits, settings)


@dataclasses.dataclass(frozen=True)
class Curve:
    """Held-out deviance along paths: R l1_ratios, L alphas, K splits.

    Attributes
    ----------
    l1_ratios : (R,) array
    alphas : (R, L) array
    mean, error : (R, L) array
        Of the splits' mean deviances, weighted by what they hold out; and its standard error.
    best, sparser : (r, l)
        Position of the least mean, and of the largest alpha of the same l1_ratio within one standard error of it.
    """

    l1_ratios: np.ndarray
    alphas: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    best: tuple
    sparser: tuple

    @classmethod
    def of(cls, paths):
        """From `Paths` with splits; means and errors are glmnet's (Friedman, Hastie & Tibshirani 2010)."""
        weight = paths.weight / paths.weight.sum()
        mean = np.tensordot(weight, paths.held_out, 1)
        error = np.sqrt(np.tensordot(weight, (paths.held_out - mean) ** 2, 1) / max(len(weight) - 1, 1))
        finite = np.where(np.isfinite(mean), mean, np.inf)
        r, l = (int(i) for i in np.unravel_index(np.argmin(finite), mean.shape))
        within = finite[r] <= finite[r, l] + error[r, l]
        return cls(paths.l1_ratios, paths.alphas, mean, error, (r, l), (r, int(np.argmax(within))))

    def chosen(self, rule):
        """Position of the penalty that a rule takes."""
        return self.best if rule == "min" else self.sparser
