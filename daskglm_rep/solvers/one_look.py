"""One look: a linear model's survey is its fit as well.

One sweep brings home what a survey asks and the sums of squares and products around a plane (`kernels.linear_look`),
of which Newton's step is exact. Its end is certified in `polish`; where the sums lost digits (a fit a hundred times
closer than the plane, columns that nearly determine each other, blocks that lie far apart) sweeps go on from there.
What has to be refused is left to the survey of `preparation.prepare`, whose sentences are heard.
"""

import dataclasses

import numpy as np

from daskglm_rep import blas, passes, preparation
from daskglm_rep.diagnostics import aliased, independent
from daskglm_rep.kernels.linear_look import linear_look, moved, plane_of, recentred, rows_of_plane
from daskglm_rep.objective import solve
from daskglm_rep.solvers import two_looks
from daskglm_rep.summaries import Moments

MOST = 2000          # columns whose squares and products each block may send without being asked
HOME = 1000          # rows that come home, for later sweeps to begin with
EVEN = 1e-9          # relative difference of weights that are equal
LOST = 1e3           # times as large deviances around the blocks' planes as around one: the fit may be exact in each
AWAY = 10.0          # deviations between a column's mean and where its squares were centred: two digits


def prepare(data, model=None, fit_intercept=True, seed=0, choose=None, verify=None, n_missing=0.0, penalized=False,
            rank="warn", start=None):
    """`preparation.prepare`, for linear models with the first sweep of the fit, which is the last as a rule.

    Parameters
    ----------
    data, model, fit_intercept, seed, choose, verify, n_missing, rank
        As `preparation.prepare` takes them.
    penalized : bool or "ridge"
        "ridge": by a penalty that has second derivatives.
    start : (k,) array, optional
        For other models, as `two_looks.prepare` takes it.

    Returns
    -------
    Prepared
    """
    linear = model is not None and model.is_linear and penalized in (False, "ridge")
    prepared = None
    if linear and data.ask is None and 0 < len(data.names) <= MOST:
        with blas.for_coefficients(len(data.names)):
            prepared = _looked(data, model, fit_intercept, seed or 0, verify, n_missing, penalized, rank)
    if prepared is None:
        return two_looks.prepare(data, model, fit_intercept, seed, choose, verify, n_missing, bool(penalized), rank,
                                 start)
    return prepared


def _looked(data, model, fit_intercept, seed, verify, n_missing, penalized, rank):
    """`Prepared` by one sweep; without `first` where its sums lost digits; None where a survey has to look."""
    home = preparation.small_plan(data, HOME, seed)
    plane = _plane(data, fit_intercept, seed) if two_looks.by_index(data) else None
    seen = passes.run(linear_look, data, model, fit_intercept, home, plane)
    found, moments = dataclasses.replace(seen.survey, n_missing=seen.survey.n_missing + n_missing), seen.moments
    if not (two_looks.is_clean(found) and np.isfinite(moments.expected).all() and np.isfinite(moments.score).all()
            and np.isfinite(moments.deviance)):
        return None
    preparation.check(found, data, model.family)
    if verify is not None:
        verify(found)
    prepared = preparation.of_survey(data, found, model, fit_intercept)
    basis = prepared.basis
    if np.any(np.abs(seen.plane.center - basis.center) > AWAY * basis.scale):
        return prepared if penalized else preparation.without_aliased(prepared, rank)
    prepared = dataclasses.replace(prepared, first=_in_basis(seen, basis))
    prepared = prepared if penalized else _without_aliased(prepared, rank)
    if prepared.first and seen.largest > LOST * moments.deviance:
        coef, moments = prepared.first
        step = solve(moments.expected, moments.score)
        prepared = dataclasses.replace(prepared, first=(coef if step is None else coef + step, None))
    return prepared


def _plane(data, fit_intercept, seed):
    """One for all blocks in memory, from rows drawn by index; None where they would be most of the rows."""
    block = two_looks.drawn(data, preparation.small_plan(data, rows_of_plane(len(data.names)), seed))
    return None if block is None else plane_of(block, fit_intercept)


def _in_basis(seen, basis):
    """The plane's coefficients and the sums around it in the basis of the survey."""
    first = int(basis.intercept)
    shift, slope = seen.plane.center - basis.center, seen.plane.coef[first:]
    coef = np.r_[seen.plane.coef[:first] - shift @ slope, basis.scale * slope]
    ones = np.ones(first)
    return coef, recentred(seen.moments, np.r_[0.0 * ones, shift], np.r_[ones, basis.scale])


def _without_aliased(prepared, rank):
    """`preparation.without_aliased` by the sums that are there, and those without the aliased columns."""
    (coef, moments), r = prepared.first, prepared.found.response
    kept = independent(moments.expected)
    if kept.all():
        return prepared
    if prepared.found.pilot_is_all:          # hardly more rows than coefficients, perhaps: fitted at home
        return preparation.without_aliased(dataclasses.replace(prepared, first=None), rank)
    if r.weight ** 2 < (1.0 - EVEN) * r.n_kept * r.weight_squared:          # each row that counts has one voice
        kept = aliased(prepared.data, prepared.pilot, prepared.found.pilot_is_all, prepared.basis)
    moments = moved(moments, np.where(kept, 0.0, -coef))
    G = moments.expected[np.ix_(kept, kept)]
    first = coef[kept], Moments(moments.score[kept], G, G, max(moments.deviance, 0.0), max(moments.pearson, 0.0))
    return dataclasses.replace(preparation.without_aliased(prepared, rank, kept), first=first)
