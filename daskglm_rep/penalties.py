"""Penalties: what is added to half the deviance, from what a user names (`shapes`) to what solvers see (`corners`)."""

import numpy as np

from daskglm_rep.corners import NONE, Corners, ElasticNet, Grouped, Penalty, Ridge
from daskglm_rep.shapes import LASSO, MCP, SCAD, GroupLasso, Shape
from daskglm_rep.telling import PenaltyWarning, tell

__all__ = ["MCP", "NONE", "SCAD", "Corners", "ElasticNet", "GroupLasso", "Grouped", "Penalty", "Ridge", "Shape",
           "elastic_net"]

WIDE = 5000             # coefficients beyond which a ridge is kept as its diagonal, for solvers without Hessians


def _factor(penalty_factor, n_features):
    factor = np.ones(n_features) if penalty_factor is None else np.asarray(penalty_factor, float)
    if factor.shape != (n_features,) or not ((factor >= 0.0) & np.isfinite(factor)).all():
        raise ValueError(f"penalty_factor must hold one finite number >= 0 for each of the {n_features} features, got "
                         f"{penalty_factor!r}.")
    return factor


def _units(columns, used, standardize):
    """What turns raw coefficients into penalised ones, (p,) array; told where that is not what was asked for."""
    constant = ((columns.high <= columns.low) | (columns.deviation == 0.0))[used]
    if standardize and constant.any():
        tell(f"standardize=True cannot scale {int(constant.sum())} constant column(s) of X, the first of which is "
             f"number {used[constant][0]} counted from 0; they count as of deviation 1. Drop them.", PenaltyWarning)
    return np.where(constant, 1.0, columns.deviation[used]) if standardize else np.ones(used.size)


def elastic_net(basis, model, columns, alpha, l1_ratio=0.0, standardize=False, penalty_factor=None, kind=None,
                terms=None, diagonal=False, intercept=0.0):
    """alpha (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2) as a `Penalty` in the basis.

    Parameters
    ----------
    columns : summaries.Spread
        Of the raw columns: `standardize` penalises s_j b_j with its standard deviations s_j, whatever the basis is
        scaled by (a constant column counts as of deviation 1).
    penalty_factor : (p,) array, optional
    kind : Shape or GroupLasso, optional
        In the place of the absolute value; its own l1_ratio counts.
    terms : list of lists of columns, optional
        A formula's, the groups of `GroupLasso`.
    diagonal : bool
        A ridge too as `Corners`, for solvers that want no matrix.
    intercept : float
        The intercept's factor; 0 leaves it free.
    """
    if not alpha:
        return NONE
    share, m, one = l1_ratio if kind is None else kind.l1_ratio, model.symmetry.shape[1], [1.0] * basis.intercept
    factor = np.r_[intercept * np.array(one), _factor(penalty_factor, columns.mean.size)[basis.columns]]
    unit = np.r_[one, _units(columns, basis.columns, standardize) / basis.scale]
    ridge = (1 - share) * alpha * columns.weight * factor * unit ** 2
    if share == 0 and basis.n_coef <= WIDE and not diagonal:
        return Ridge(np.kron(model.ridge_metric, np.diag(ridge)))
    if share == 0 or not isinstance(kind, GroupLasso):
        return ElasticNet(np.tile(unit, m), np.tile(share * alpha * factor, m), columns.weight, np.tile(ridge, m),
                          float(alpha), kind if isinstance(kind, Shape) else LASSO)
    label = np.r_[np.full(len(one), -1), kind.labels(columns.mean.size, terms)[basis.columns]]
    label = np.where(factor > 0, label, -1)
    size = m * np.bincount(label + 1, minlength=1)[label + 1]
    strength = np.where(label >= 0, share * alpha * np.sqrt(size), 0.0)
    unit = np.where(label >= 0, factor, 1.0) * unit
    return Grouped(np.tile(unit, m), np.tile(strength, m), columns.weight, np.tile(ridge, m), float(alpha),
                   np.tile(label, m))
