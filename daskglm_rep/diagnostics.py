"""What a fit looks for in its columns: those that are combinations of others, and separation of the responses."""

import dataclasses
import math

import numpy as np
from scipy import linalg

from daskglm_rep import passes
from daskglm_rep.kernels.gram import gram, linear_predictor
from daskglm_rep.objective import inverse
from daskglm_rep.summaries import Total

LOST = 100.0             # standard errors, in standardised columns, beyond which rows do not determine a coefficient
ALIASED = 1e-11          # share of a column's variance that the earlier columns leave unexplained


def independent(G):
    """Which columns are no linear combination of earlier ones (R's habit), from their Gram matrix.

    Cholesky in the given order; a column is aliased where its pivot is below `ALIASED` of its diagonal.

    Returns
    -------
    (q,) bool array
    """
    d = np.diag(G)
    ok = d > 0
    s = np.where(ok, 1.0 / np.sqrt(np.where(ok, d, 1.0)), 0.0)
    C = G * np.outer(s, s)
    if ok.all():
        try:
            pivots = np.diag(linalg.cholesky(C, lower=True))
            if (pivots ** 2 > 10 * ALIASED).all():
                return ok
        except linalg.LinAlgError:
            pass
    keep, L = np.zeros(len(C), bool), np.zeros_like(C)
    rest = np.diag(C).copy()
    for j in range(len(C)):
        if rest[j] > ALIASED:
            keep[j] = True
            k = np.flatnonzero(keep[:j])
            L[:, j] = (C[:, j] - L[:, k] @ L[j, k]) / math.sqrt(rest[j])
            rest = rest - np.where(np.arange(len(C)) > j, L[:, j] ** 2, 0.0)
    return keep


def undetermined(objective, point):
    """Whether some coefficient's standard error is infinite in effect, as where the rows are separated."""
    variance = np.diag(inverse(point.curvature))
    return not np.isfinite(variance).all() or bool(
        objective.model.dispersion_known and np.max(variance, initial=0.0) > LOST ** 2)


def _weighted_gram(block, basis):
    return Total(gram(block.X, basis, (block.weight > 0).astype(float)))


def aliased(data, pilot, pilot_is_all, basis):
    """Columns of the basis that are combinations of earlier ones, on all rows.

    The pilot's rows settle the common case of none: what is independent there is independent in all rows. Only where
    they leave a doubt does one more sweep build the Gram matrix of all rows.

    Returns
    -------
    (q,) bool array
        True for columns to keep.
    """
    keep = independent(passes.run(_weighted_gram, pilot, basis).value)
    if keep.all() or pilot_is_all:
        return keep
    return independent(passes.run(_weighted_gram, data, basis).value)


@dataclasses.dataclass(frozen=True)
class Separation:
    """Rows along a direction: how many contradict it, how many it separates strictly, how many there are."""

    against: float
    strict: float
    total: float

    def merge(self, other):
        return Separation(self.against + other.against, self.strict + other.strict, self.total + other.total)


def _along(block, basis, direction, model, tolerance):
    kept = block.weight > 0
    change = linear_predictor(block.X, basis, direction)
    if change.ndim == 2:                                         # own class against every other, the baseline at 0
        full = np.c_[np.zeros(len(change)), change]
        own = np.take_along_axis(full, block.y.astype(int)[:, None], axis=1)
        gap = own - full
        against, strict = (gap < -tolerance).any(axis=1), (gap > tolerance).any(axis=1)
    elif model.family.facts.mean_range[1] == 1.0:
        up, down = block.y > 0, block.y < 1
        against = (up & (change < -tolerance)) | (down & (change > tolerance))
        strict = np.abs(change) > tolerance
    else:                                                        # counts: means run to 0 where only zeros are
        against = ((block.y > 0) & (np.abs(change) > tolerance)) | (change > tolerance)
        strict = change < -tolerance
    return Separation(float(np.sum(against & kept)), float(np.sum(strict & ~against & kept)), float(np.sum(kept)))


def separation(data, fit):
    """Check whether the last Newton step is a direction along which the likelihood rises forever.

    Returns
    -------
    (kind, coefficient positions) or None
        kind is "complete" or "quasi-complete".
    """
    model, basis, step = fit.objective.model, fit.objective.basis, fit.step
    link = getattr(model, "link", None)
    if link is not None and (link.mean_range[1] != 1.0 and link.name != "log"):
        return None
    size = np.max(np.abs(step), initial=0.0)
    if size == 0.0 or not np.isfinite(size):
        return None
    direction = np.where(np.abs(step) > 1e-4 * size, step / size, 0.0)
    found = passes.run(_along, data, basis, direction, model, 1e-6)
    if found.against or not found.strict:
        return None
    by_coef = np.abs(direction).reshape(-1, basis.n_coef)
    positions = np.flatnonzero((by_coef > 1e-3).any(axis=0))
    slopes = positions[positions >= basis.intercept]
    return ("complete" if found.strict == found.total else "quasi-complete"), (slopes if slopes.size else positions)
