"""From data and a partition to coefficients: survey, collection, rounds, and a fitted state that results understand."""

import dataclasses
import math

import numpy as np
import pandas as pd

from daskglm_rep.fitted import Fit, Fitted
from daskglm_rep.inference.covariance import Covariance
from daskglm_rep.kernels.assignment import bisect, compress
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.representatives import mean_rows
from daskglm_rep.kernels.survey import Pilot, concatenate
from daskglm_rep.objective import Objective, in_memory, inverse
from daskglm_rep.partitions import Layout
from daskglm_rep.penalties import NONE
from daskglm_rep.preparation import basis_of, check, check_dense
from daskglm_rep.representatives import surrogate
from daskglm_rep.representatives.collection import FEWEST, Collection, Plan, guarded_survey
from daskglm_rep.representatives.rounds import Rounds, Sweep
from daskglm_rep.representatives.score_matching import MAX_RADIUS, Representatives, score_block
from daskglm_rep.representatives.surrogate import Points
from daskglm_rep.solvers.polish import polish
from daskglm_rep.summaries import Moments
from daskglm_rep.telling import AliasWarning, SeparationWarning, tell

GROWTH = 1.5                                        # parts a block of the partition that a refined method cuts for
SUBSET_SIDE = 5                                     # rows of the subset on each side of a cut that all rows follow


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What the first two sweeps bring: survey (its rows left behind), plan, collection.

    Attributes
    ----------
    kept : (q,) bool array
        Coefficients that the points can tell apart.
    n_blocks : int
        Of the partition, before any cut.
    n_joined : int
        Blocks of a chunk that the guard joined to others.
    parts : PartSums
        What was collected, in all columns.
    fits : LocalFits or None
        The blocks' own.
    """

    found: object
    plan: Plan
    collection: object
    kept: np.ndarray
    n_blocks: int
    n_joined: int
    delta: float
    parts: object
    fits: object = None


def take_survey(data, family, partition, random_state, refined, fewest, audit):
    """First sweep: the survey, with a subset of rows or column sketches where the partition needs them."""
    least = 0 if partition.is_local else -(-partition.subset // data.n_blocks)
    if not (refined or partition.needs_rows):
        least = 0
    pilot = Pilot(least, 0.0, least, random_state or 0)
    pair = audit.run(0, "survey", guarded_survey, data, family, pilot, fewest, partition.needs_sketch)
    found, sketch = pair.first, pair.second if partition.needs_sketch else None
    check_dense(found, "representatives of sparse rows are dense")
    check(found, data, family)
    return found, sketch


def prepare(data, model, partition, method, audit, fit_intercept=True, least=1, random_state=0, n_parts=None):
    """Survey and collection.

    Parameters
    ----------
    data : design.Data
    model : models.glm.GLM
    partition : partitions.Partition
    method : methods.Method
    audit : Audit
    least : int
        Rows of the smallest part that may leave a block.
    random_state : int or None
        None: signs are drawn in secret inside each block.
    n_parts : int, optional
        Parts that a refined method cuts for; default a thousand, a hundred a coefficient, and half as many again as
        blocks.

    Returns
    -------
    Prepared
    """
    found, sketch = take_survey(data, model.family, partition, random_state, method.is_refined, least, audit)
    mean = found.response.mean
    if fit_intercept and not model.family.accepts_mean(mean):
        raise ValueError(f"All responses are {mean:g}: the likelihood of a {model} model has no maximum for them.")
    basis, layout = basis_of(found, fit_intercept), Layout.of(data.names, found.columns)
    rows = concatenate(found.pilot)
    assigner = partition.assigner(layout, rows, sketch, random_state or 0)
    starts = np.r_[0, np.cumsum(found.lengths)[:-1]]
    plan = Plan(basis, found.has_offset, layout, assigner, least, starts, random_state, n_sketches=method.n_sketches,
                has_weights=bool(found.response.weight != sum(found.lengths)), has_extremes=method.has_extremes)
    if method.is_refined and partition.is_local:
        n_rows = sum(found.lengths)
        within = GROWTH * partition.n_expected * data.n_blocks
        target = n_parts or max(method.parts, method.parts_per_coef * basis.n_coef, within)
        plan = dataclasses.replace(plan, parts_per_row=min(target / n_rows, 1.0 / FEWEST))
    elif method.is_refined and rows.n_rows:
        plan = dataclasses.replace(plan, cuts=_cuts(rows, assigner, layout, basis.n_coef, method, n_parts, least > 1))
    parts, fits = method.collect(data, plan, model.for_responses(found.response), audit)
    collection = Collection.of(parts, plan)
    kept = collection.independent(method.is_refined)
    _warn_aliased(kept, basis, data.names, len(collection.keys))
    return prepared_of(found, plan, parts, kept, fits)


def prepared_of(found, plan, parts, kept, fits=None):
    """`Prepared` from merged parts, in the coefficients that are kept."""
    collection = Collection.of(parts, plan).keep(np.flatnonzero(kept))
    return Prepared(found.without_rows(), dataclasses.replace(plan, basis=collection.basis), collection, kept,
                    parts.blocks.size, int(parts.totals[0]), parts.delta, parts, fits)


def _cuts(rows, assigner, layout, n_coef, method, n_parts, grouped):
    """Cuts of the widest parts, learnt on the subset; (keys of its blocks, Bisections)."""
    block = dataclasses.replace(rows, index=0)
    known, codes = compress(assigner.keys(block))
    target = n_parts or max(int(GROWTH * known.size), method.parts, method.parts_per_coef * n_coef)
    return known, bisect(layout.standardise(rows.X), codes, target, 1 if grouped else SUBSET_SIDE)


def _warn_aliased(kept, basis, names, n_parts):
    if kept.all():
        return
    labels = ["Intercept"] * basis.intercept + [names[j] for j in basis.columns]
    lost = [label for label, k in zip(labels, kept) if not k]
    tell(f"{len(lost)} of {kept.size} columns cannot be told from earlier ones by {n_parts} representatives: "
         f"{', '.join(map(repr, lost[:10]))}{' ...' if len(lost) > 10 else ''}. They are reported as NaN: "
         "drop them, or take a finer partition.", AliasWarning)


# ---------------------------------------------------------------- rounds


@dataclasses.dataclass(frozen=True)
class Solved:
    """A fit from representatives: the state for results, the loop's outcome, the representatives shown.

    `exact` holds coefficients at which score and deviance of all rows are known; `separated` says that a warning has
    named columns.
    """

    fitted: Fitted
    outcome: object
    representatives: Representatives
    exact: Sweep
    separated: bool


def solve(data, prepared, model, method, audit, n_rounds, tol, certify=True, polished=False, max_radius=MAX_RADIUS,
          verbose=0):
    """Rounds from the collection's first estimate, and Newton rounds on the rows where `polished`.

    Parameters
    ----------
    method : methods.Method
    audit : Audit

    Returns
    -------
    Solved
    """
    c, found = prepared.collection, prepared.found
    n_rows = found.response.n_kept
    row_model = model.for_responses(found.response)
    starts, shown = method.start(data, prepared, model, audit)
    if not method.is_iterated:
        n_rounds = 0
    null = null_deviance(prepared, model)
    null_dispersion = null / max(n_rows - 1.0, 1.0) if math.isfinite(null) and null > 0 else math.inf
    rounds = Rounds(data, prepared.plan, c, model, row_model, method, n_rows, tol, max_radius, null_dispersion, audit,
                    verbose)
    outcome = rounds.run(starts, n_rounds, certify or n_rounds == 0)
    best = outcome.best
    if best is None or not math.isfinite(outcome.exact.deviance):
        raise ValueError(f"The representatives' estimate leaves the domain of the {model} model for some rows: use a "
                         "link whose means always are inside (log, logit), or more blocks.")
    objective = Objective(model, c.basis)
    moments = Moments(best.score, best.information, best.information, best.deviance, best.pearson)
    step = best.coef - outcome.history[-2]["coef"] if len(outcome.history) > 1 else np.zeros_like(best.coef)
    fit = Fit(objective, objective.point(best.coef, moments), step, best.distance, len(outcome.history),
              outcome.converged)
    exact = outcome.exact
    if polished:
        fit = polish(objective, _Weighed(data, audit, len(outcome.history)), _pilot(c), best.coef, n_rows, tol)
        m = fit.point.moments
        exact = dataclasses.replace(exact, coef=fit.point.coef, score=m.score, deviance=m.deviance, pearson=m.pearson)
    separated = rounds.separated(outcome.exact)
    fit = _told_if_separated(fit, separated, c.basis, data.names)
    if outcome.representatives is not None:
        shown = outcome.representatives
    fitted = Fitted(fit, found, list(data.names), prepared.kept, n_rows, data.n_passes, None, null)
    return Solved(fitted, outcome, shown, exact, separated.size > 0)


def _told_if_separated(fit, coefficients, basis, names):
    """The fit without its certificate, and a warning, where it runs off along some coefficients."""
    if not coefficients.size:
        return fit
    which = ", ".join(repr(names[basis.columns[j - int(basis.intercept)]]) for j in coefficients[:10])
    tell(f"The likelihood still rises along {which}: the responses seem separated by it, and the estimate, its "
         "standard errors and its distance mean nothing. Penalize, drop or merge these columns, or look at the rows "
         "where they are.", SeparationWarning)
    return dataclasses.replace(fit, distance=math.inf, converged=False)


def fit_of(sweep, basis, model):
    """A `Fit` at a sweep's coefficients, not certified."""
    objective = Objective(model, basis)
    moments = Moments(sweep.score, sweep.information, sweep.information, sweep.deviance, sweep.pearson)
    point = objective.point(sweep.coef, moments)
    return Fit(objective, point, np.zeros_like(sweep.coef), sweep.distance, 0, False)


class _Weighed:
    """Data whose sweeps go through an audit."""

    def __init__(self, data, audit, number):
        self.data, self.audit, self.number = data, audit, number

    collections = property(lambda self: self.data.collections)

    def ask(self, kernel, arguments):
        self.number += 1
        return self.audit.run(self.number, "scores and informations", kernel, self.data, *arguments)


def null_deviance(prepared, model):
    """Of the model without slopes; unknown where there is an offset."""
    found, intercept = prepared.found, prepared.collection.basis.intercept
    return math.nan if found.has_offset else model.null_deviance(found.response, intercept)


def _pilot(collection):
    """The points as rows of X: an approximation of the likelihood's third derivative for the Newton rounds."""
    points, basis = Points(*collection.points()), collection.basis
    X = np.zeros((len(points.weight), int(basis.columns.max(initial=-1)) + 1))
    X[:, basis.columns] = points.Z[:, int(basis.intercept):] * basis.scale + basis.center
    y = np.tile(collection.mean_y, len(points.weight) // len(collection.mean_y))
    return in_memory(Block(X, y, points.weight, points.offset))


# ---------------------------------------------------------------- inference, tables


def clustered(data, prepared, model, fit, audit, number):
    """Sandwich with the partition's blocks as clusters, natural ones whole, from one sweep of their scores and the
    points' information.

    Returns
    -------
    Covariance
    """
    c, coef = prepared.collection, fit.point.coef
    q = c.basis.n_coef
    extended = np.r_[coef, 1.0] if c.has_offset else coef
    plan = dataclasses.replace(prepared.plan, assigner=prepared.plan.assigner.whole(), cuts=None)
    parts = audit.run(number, "scores of parts", score_block, data, plan, model, extended, None)
    scores = parts.sums[:, -(q + c.has_offset):][:, :q]
    n = len(scores)
    if n <= q:
        raise ValueError(f"cov_type='cluster' takes the {n} blocks as clusters; {q} coefficients need more of them.")
    bread = inverse(fit.point.moments.expected)
    matrix = c.basis.covariance(bread @ (scores.T @ scores) @ bread) * (n / (n - 1))
    return Covariance(matrix, "cluster", None, f"{n} blocks of the partition as clusters")


def table(representatives, collection, names, fit_intercept):
    """Representatives in the units of X as a DataFrame: weight, y, the columns (Intercept first), offset."""
    basis, Z = collection.basis, representatives.Z
    ours = {name: name + "_" * (name in names) for name in ("weight", "y", "Intercept", "offset")}
    frame = {ours["weight"]: representatives.weight, ours["y"]: representatives.y}
    one = Z[:, 0] if basis.intercept else np.ones(len(Z))
    if fit_intercept:
        frame[ours["Intercept"]] = one
    first = int(basis.intercept)
    for position, j in enumerate(basis.columns):
        center = basis.center[position] if basis.intercept else 0.0
        frame[names[j]] = Z[:, first + position] * basis.scale[position] + center * one
    if collection.has_offset:
        frame[ours["offset"]] = Z[:, -1]
    return pd.DataFrame(frame)


# ---------------------------------------------------------------- other models from one collection


def refit(prepared, model, which, exact, same_link, penalty=NONE):
    """Another model on the collection: other link, fewer columns, a penalty.

    Its deviance is that of the nearest model whose deviance is known, the fit's own or, for another link, the constant
    one, less twice the integral of the estimating equation from there; Pearson's chi-squared changes by as much.

    Parameters
    ----------
    which : (k,) int array
        Coefficients of the collection's basis that stay.
    exact : rounds.Sweep
        Of the model that was fitted.
    same_link : bool
        Whether `model` is that model but for coefficients and penalty.
    penalty : penalties.Penalty

    Returns
    -------
    Fit
        Its distance is unknown until a sweep certifies it.
    """
    c = prepared.collection
    whole = surrogate.Equation(c, model)
    start, deviance = surrogate.constant(c, model), null_deviance(prepared, model)
    coef = None
    if same_link:
        whole = whole.corrected(exact.coef, exact.score)
        start, deviance = exact.coef, exact.deviance
        coef = surrogate.root(whole.keep(which), exact.coef[which], penalty)
    small = c.keep(which)
    if coef is None:
        coef = surrogate.first_estimate(small, model, penalty)
    end = np.zeros(c.basis.n_coef)
    end[which] = coef
    deviance = deviance - 2.0 * whole.gain(start, end) if start is not None else math.nan
    pearson = exact.pearson + (deviance - exact.deviance if math.isfinite(deviance) else 0.0)
    points = Points(*small.points())
    information = points.information(mean_rows(model, points.eta(coef))[2])
    objective = Objective(model, small.basis, penalty)
    moments = Moments(np.zeros_like(coef), information, information, deviance, pearson)
    return Fit(objective, objective.point(coef, moments), np.zeros_like(coef), math.nan, 0, False)


def certified(fit, sweep, tol):
    """A `Fit` with what one exact sweep at its coefficients said."""
    moments = dataclasses.replace(fit.point.moments, score=sweep.score, deviance=sweep.deviance, pearson=sweep.pearson)
    return dataclasses.replace(fit, point=fit.objective.point(fit.point.coef, moments), distance=sweep.distance,
                               converged=sweep.distance <= tol)
