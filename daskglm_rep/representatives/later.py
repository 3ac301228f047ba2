"""Blocks that arrive later: their points and exact score join those of the old ones at the old optimum.

The old rows' score there is known from their last sweep, the new rows' is taken, so the sum is exact; the points of
both, corrected by what exact informations there are, say how it changes. One sweep over the new rows, none over the
old.
"""

import dataclasses

import numpy as np

from daskglm_rep.kernels.representatives import mean_rows
from daskglm_rep.kernels.survey import Pilot
from daskglm_rep.preparation import check, check_dense
from daskglm_rep.representatives import surrogate
from daskglm_rep.representatives.collection import Collection, collect_block, guarded_survey
from daskglm_rep.representatives.fitting import prepared_of
from daskglm_rep.representatives.rounds import Calibration, Rounds, exact_informations, square
from daskglm_rep.summaries import Pair


def collect_and_inform(block, plan, model, coef):
    """A block's parts, and its exact score and informations."""
    return Pair(collect_block(block, plan), exact_informations(plan.rows(block), model, plan.basis, (coef,)))


def append(data, prepared, exact, calibration, model, method, audit):
    """What was prepared and known of old rows, with new rows beside them.

    Parameters
    ----------
    data : Data
        The new rows.
    prepared : fitting.Prepared
    exact : rounds.Sweep
        Of the old rows, where their score is known.
    calibration : rounds.Calibration or None

    Returns
    -------
    Prepared
    Sweep
        At the old coefficients, of all rows.
    Calibration
    Sweep
        At the new coefficients: estimated deviance, unknown distance.
    """
    plan, q = prepared.plan, exact.coef.size
    found = audit.run(0, "survey", guarded_survey, data, model.family, Pilot(0, 0.0, 0, 0), plan.least, False).first
    check_dense(found, "representatives of sparse rows are dense")
    check(found, data, model.family)
    first = plan.first + len(plan.starts)
    starts = prepared.found.response.n_rows + np.r_[0, np.cumsum(found.lengths)[:-1]]
    later = dataclasses.replace(plan, first=first, starts=starts.astype(int),
                                has_offset=plan.has_offset or found.has_offset)
    if later.has_offset != plan.has_offset:
        raise ValueError("The new rows have an offset and the old ones had none: fit all rows.")
    row_model = model.for_responses(prepared.found.response.merge(found.response))
    pair = audit.run(0, "collection, scores and informations", collect_and_inform, data, later, row_model, exact.coef)
    new, = pair.second.each
    both = prepared_of(prepared.found.merge(found), later, prepared.parts.merge(pair.first), prepared.kept)
    points = surrogate.Points(*Collection.of(pair.first, later).points())
    at_points = points.information(mean_rows(model, points.eta(exact.coef))[2])
    informations = [square(t, q) - at_points for t in new.triangles]
    old = (0.0, 0.0) if calibration is None else (calibration.expected, calibration.observed)
    total = Calibration(old[0] + informations[0], old[1] + informations[-1], False, None)
    rounds = Rounds(data, later, both.collection, model, row_model, method, both.found.response.n_kept, 1e-300)
    rounds.calibration = total
    totals = np.array([exact.deviance, exact.pearson, exact.weight, 0.0]) + new.totals
    here = rounds.certified(exact.coef, exact.score + new.score, totals)
    coef = surrogate.step(rounds.points, model, here.coef, here.score, -total.observed)
    return both, here, total, rounds.moved(here, coef)
