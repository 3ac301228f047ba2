"""Penalties of parts of the data, whatever their weight, and of the node-wise regressions that debias their fits."""

import dataclasses
import math

import numpy as np

from daskglm_rep.debiasing import NodewisePenalty
from daskglm_rep.penalties import NONE, elastic_net
from daskglm_rep.summaries import Spread

ROWS_A_COEFFICIENT = 5.0


@dataclasses.dataclass(frozen=True)
class Shrinkage:
    """An elastic net for parts of any weight: alpha (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2) a unit of weight.

    Attributes
    ----------
    columns : Spread
        Of all rows.
    alpha : (p,) array
        Of every raw column.
    l1_ratio : float
    standardize : bool
        Penalize coefficients of columns of unit deviation.
    intercept : float
        Strength at the intercept, whose column must not be centred then; 0 leaves it free.
    """

    columns: Spread
    alpha: np.ndarray
    l1_ratio: float = 1.0
    standardize: bool = False
    intercept: float = 0.0

    def penalty(self, objective, weight):
        """The `Penalty` for rows of this sum of weights."""
        if not (self.alpha.any() or self.intercept):
            return NONE
        columns = dataclasses.replace(self.columns, weight=weight)
        return elastic_net(objective.basis, objective.model, columns, 1.0, self.l1_ratio, self.standardize, self.alpha,
                           intercept=self.intercept)

    def strength(self, objective):
        """(q,) array: what multiplies |b| in the basis for weight 1 and l1_ratio 1."""
        penalty = dataclasses.replace(self, l1_ratio=1.0).penalty(objective, 1.0)
        return np.zeros(objective.n_coef) if penalty is NONE else penalty.absolute

    def unit(self, objective):
        """(q,) array: `strength` of a penalty of 1, free columns included."""
        ones = dataclasses.replace(self, alpha=np.ones_like(self.alpha), intercept=0.0).strength(objective)
        ones[:int(objective.basis.intercept)] = 1.0
        return ones


def scaled(shrinkage, strength):
    """`shrinkage` times `strength`."""
    return dataclasses.replace(shrinkage, alpha=strength * shrinkage.alpha, intercept=strength * shrinkage.intercept)


def nodewise_penalty(prepared, shrinkage, alpha, constant, n_parts):
    """Penalties of the node-wise regressions.

    Parameters
    ----------
    prepared : Prepared
    shrinkage : Shrinkage
        Of the fits.
    alpha : float, "theory", "tuned" or "fits"
        "theory": constant sqrt(log q / n) of the scales of both columns, n the rows that a regression sees; "tuned":
        weakened from there as long as five rows are left for each coefficient used, which costs a quarter of the
        variance at most; "fits": those of the fits (Lee et al. 2015).
    constant : float
    n_parts : int
        That rows are spread over.

    Returns
    -------
    NodewisePenalty
    """
    objective = prepared.objective()
    if alpha in ("theory", "tuned"):
        free, q = objective.basis.intercept and not shrinkage.intercept, objective.n_coef
        strength = constant * rate(q, prepared.n_rows() / n_parts)
        most = prepared.n_rows() / n_parts / ROWS_A_COEFFICIENT if alpha == "tuned" else 0.0
        return NodewisePenalty(np.r_[[0.0] * free, np.full(q - free, strength)], np.ones(q), True, most)
    if alpha != "fits":
        shrinkage = dataclasses.replace(shrinkage, alpha=np.full_like(shrinkage.alpha, alpha),
                                        intercept=alpha if shrinkage.intercept else 0.0)
    return NodewisePenalty(shrinkage.strength(objective), shrinkage.unit(objective))


def rate(q, n):
    """sqrt(log q / n): the size of the largest of q means over n rows of noise."""
    return math.sqrt(math.log(max(q, 2)) / max(n, 1.0))
