"""What a fit must tell rather than hide: aliased columns, coefficients that rows do not determine."""

import math

import numpy as np
from scipy import linalg

from daskglm_rep import passes
from daskglm_rep.kernels.gram import gram
from daskglm_rep.objective import inverse, thinned
from daskglm_rep.summaries import Total

LOST = 100.0             # standard errors, in standardised columns, beyond which rows do not determine a coefficient
ALIASED = 1e-11          # share of a column's variance that the earlier columns leave unexplained
SOME_ROWS = 4            # a column, that are tried first


def independent(G):
    """Which columns are no linear combination of earlier ones (R's habit), from their Gram matrix.

    Cholesky in the given order; a column is aliased where its pivot is below `ALIASED` of its diagonal.

    Returns
    -------
    (q,) bool array
    """
    d = np.diag(G)
    ok = d > 0
    s = 1.0 / np.sqrt(d[ok])
    C = G[np.ix_(ok, ok)] * np.outer(s, s)
    keep = ok.copy()
    try:
        pivots = np.diag(linalg.cholesky(C, lower=True))
        if (pivots ** 2 > 10 * ALIASED).all():
            return keep
    except linalg.LinAlgError:
        pass
    keep[ok] = _pivoted(C)
    return keep


def _pivoted(C):
    """Which columns of a matrix with unit diagonal have a pivot, column by column; the others stay zero in L."""
    L, rest = np.zeros_like(C), np.ones(len(C))
    for j in range(len(C)):
        if rest[j] > ALIASED:
            L[j:, j] = (C[j:, j] - L[j:, :j] @ L[j, :j]) / math.sqrt(rest[j])
            rest[j + 1:] -= L[j + 1:, j] ** 2
    return rest > ALIASED


def undetermined(objective, point, which=None):
    """Whether some coefficient's standard error is infinite in effect, as where the rows are separated.

    Parameters
    ----------
    which : (r,) int array, optional
        The coefficients asked about, the others held.
    """
    variance = np.diag(point.by_curvature.inverse if which is None else inverse(point.curvature[which][:, which]))
    return not np.isfinite(variance).all() or bool(
        objective.model.dispersion_known and np.max(variance, initial=0.0) > LOST ** 2)


def _weighted_gram(block, basis):
    return Total(gram(block.X, basis, (block.weight > 0).astype(float)))


def aliased(data, pilot, pilot_is_all, basis):
    """Columns of the basis that are combinations of earlier ones, on all rows.

    Some of the pilot's rows settle the common case of none: what is independent there is independent in all rows. Only
    where all of them leave a doubt does one more sweep build the Gram matrix of all rows.

    Returns
    -------
    (q,) bool array
        True for columns to keep.
    """
    few = thinned(pilot, SOME_ROWS * basis.n_coef)
    if few is not pilot and independent(passes.run(_weighted_gram, few, basis).value).all():
        return np.ones(basis.n_coef, bool)
    keep = independent(passes.run(_weighted_gram, pilot, basis).value)
    if keep.all() or pilot_is_all:
        return keep
    return independent(passes.run(_weighted_gram, data, basis).value)
