"""Two looks: rows that can be reached by index are fitted without a survey before.

1. Pilot rows, drawn by index, give a survey for the time being: classes, a basis, no column aliased. They are fitted.
2. One sweep at their coefficients answers the survey's questions about all rows, and is the first of the fit.

What the pilot leaves open (aliased columns, one class, an offset), and rows that it misjudged (NaN, a response outside
the domain, a label that it has not drawn, means that overflow) are left to the survey of `preparation.prepare`, whose
sentences are heard: nothing is refused here.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep import blas, passes, preparation
from daskglm_rep.diagnostics import aliased
from daskglm_rep.kernels.first_look import first_look
from daskglm_rep.kernels.survey import survey
from daskglm_rep.penalties import NONE
from daskglm_rep.preparation import WIDE
from daskglm_rep.solvers.three_sweeps import pilot_optimum

FEWEST = 2          # times as many rows as the pilot: fewer are surveyed as soon
FEW_CLASSES = 20          # with more a survey costs little beside a pilot's fit, and may find too many
AWAY, UNLIKE = 1.0, 1e3          # of a column's mean from the pilot's, in deviations, and of the deviations' ratio


def prepare(data, model=None, fit_intercept=True, seed=0, choose=None, verify=None, n_missing=0.0, penalized=False,
            rank="warn", start=None):
    """`preparation.prepare`, for rows in memory in one sweep that is the first of the fit as well.

    Parameters
    ----------
    data, model, fit_intercept, seed, choose, verify, n_missing, penalized, rank
        As `preparation.prepare` takes them.
    start : (k,) array, optional
        Raw coefficients at which the fit will begin instead of the pilot's.

    Returns
    -------
    Prepared
    """
    prepared = None
    if not penalized and by_index(data):
        with blas.for_coefficients(len(data.names)):
            guess = _guessed(data, model, fit_intercept, seed or 0, choose, start)
            if guess is not None:
                prepared = _looked(guess, data, model, fit_intercept, choose, verify, n_missing)
    if prepared is None:
        return preparation.prepare(data, model, fit_intercept, None, seed, choose, verify, n_missing, penalized, rank)
    return prepared if prepared.first else preparation.without_aliased(prepared, rank)


def by_index(data):
    """Whether the rows lie in this process, in chunks of which some rows can be taken."""
    return data.ask is None and data.source is None and bool(data.names) and all(
        value is None or isinstance(value, (np.ndarray, pd.DataFrame, pd.Series, sparse.csr_matrix))
        for chunk in data.chunks for value in chunk)


def _guessed(data, model, fit_intercept, seed, choose, start):
    """`Prepared` from the pilot's rows, with its coefficients; None where they leave something open."""
    if model is not None and (model.is_linear or model.estimates_alpha):
        return None
    try:
        block = drawn(data, preparation.pilot_plan(data, seed))
        if block is None:
            return None
        found = survey(block, None if choose else model.family, None, choose is not None)
        if not is_clean(found) or found.has_offset:
            return None
        found = dataclasses.replace(found, pilot=(block,), pilot_is_all=False)
        guess = preparation.of_survey(data, found, model, fit_intercept, choose)
        if choose is not None and len(guess.classes) > FEW_CLASSES:
            return None
        if not aliased(data, guess.pilot, True, guess.basis).all():
            return None
        here = pilot_optimum(guess, guess.objective(NONE)) if start is None else None
        coef = guess.standardised(start) if here is None else here.coef
    except ValueError:          # whatever it is, the survey will say it of all rows
        return None
    return dataclasses.replace(guess, first=(coef, None), fitted_pilot=here)


def drawn(data, plan):
    """Pilot rows of data in memory as one block, weighted to stand for all; None where they were most of the rows."""
    sizes = [chunk[0].shape[0] for chunk in data.chunks]
    rows = [plan.rows(n, index) for index, n in enumerate(sizes)]
    if sum(sizes) < FEWEST * sum(r.size for r in rows):
        return None
    columns = [_joined(column, rows) for column in zip(*data.chunks)]
    block = data.prepare(tuple(columns), 0)
    stand_for = np.repeat([n / max(r.size, 1) for n, r in zip(sizes, rows)], [r.size for r in rows])
    if block.n_rows < stand_for.size:          # a formula left some out
        return None
    return dataclasses.replace(block, weight=block.weight * stand_for, extra={})


def _joined(values, rows):
    """Some rows of each chunk of a column, one under the other."""
    if values[0] is None:
        return None
    if not all(isinstance(v, np.ndarray) and v.dtype == values[0].dtype for v in values):
        taken = [v.iloc[r] if hasattr(v, "iloc") else v[r] for v, r in zip(values, rows)]
        if sparse.issparse(taken[0]):
            return sparse.vstack(taken, "csr")
        return pd.concat(taken) if hasattr(taken[0], "iloc") else np.concatenate(taken)
    ends = np.cumsum([0] + [r.size for r in rows])
    joined = np.empty((ends[-1], *values[0].shape[1:]), values[0].dtype)
    for v, r, low, high in zip(values, rows, ends, ends[1:]):          # two thirds faster than v[r]
        v.take(r, axis=0, out=joined[low:high], mode="clip")
    return joined


def is_clean(found):
    """Whether a survey has nothing to refuse."""
    r, spread = found.response, found.columns
    return bool(r.weight > 0 and not (r.n_negative or r.n_outside or found.n_bad_y.any() or found.n_nan.any()
                                      or found.n_infinite.any())
                and np.isfinite(spread.mean).all() and np.isfinite(spread.squares).all())


def _looked(guess, data, model, fit_intercept, choose, verify, n_missing):
    """`Prepared` by one sweep at the pilot's coefficients; without `first` where the pilot misjudged the rows, so that
    the fit begins anew from what was found; None where a survey has to look."""
    coef = guess.first[0]
    labels = None if guess.classes is None else tuple(guess.classes.tolist())
    informative = coef.size < WIDE
    try:
        seen = passes.run(first_look, guess.data, guess.model, guess.basis, coef, informative,
                          None if choose else model.family, labels)
    except ValueError:
        return None
    finally:
        data.n_passes = guess.data.n_passes
    moments = seen.first
    found = dataclasses.replace(seen.second, pilot=guess.found.pilot, n_missing=seen.second.n_missing + n_missing)
    if not is_clean(found) or moments.n_invalid or not (np.isfinite(moments.score).all()
                                                         and np.isfinite(moments.deviance)):
        return None
    preparation.check(found, guess.data, None if choose else model.family)
    if verify is not None:
        verify(found)
    model = guess.model if guess.classes is not None else model.for_responses(found.response)
    if found.has_offset or model != guess.model or is_far(guess.basis, found.columns):
        return dataclasses.replace(guess, found=found, model=model, basis=preparation.basis_of(found, fit_intercept),
                                   first=None, fitted_pilot=None)
    return dataclasses.replace(guess, found=found, first=(coef, moments))


def is_far(basis, spread):
    """Whether the pilot's means and deviations are none of all rows' in some column."""
    centred = basis.center.any()
    size = spread.deviation if centred else np.sqrt(spread.mean ** 2 + spread.deviation ** 2)
    ratio, away = size / basis.scale, np.abs(spread.mean - basis.center) * centred
    return not np.all((away <= AWAY * size) & (1.0 / UNLIKE <= ratio) & (ratio <= UNLIKE))
