"""Survey, pilot, polish: the path of every exact fit.

1. Survey: one sweep checks the rows, learns lengths, moments and labels, and brings home pilot rows.
2. Pilot: the model is fitted to them in memory.
3. Polish: full sweeps from there until the distance to the optimum is certified.
"""

import dataclasses
import math

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import families, passes
from daskglm_rep.diagnostics import aliased
from daskglm_rep.fitted import Fitted
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.survey import Pilot, concatenate, spread, survey
from daskglm_rep.objective import Objective, in_memory
from daskglm_rep.penalties import elastic_net
from daskglm_rep.separation import Watch
from daskglm_rep.solvers import newton
from daskglm_rep.solvers.certificate import Reach
from daskglm_rep.solvers.polish import WIDE, polish
from daskglm_rep.telling import AliasWarning, SeparationWarning, tell

PILOT_ROWS, PILOT_SHARE, PILOT_BYTES = 20_000, 0.05, 2 ** 26


def pilot_plan(data, seed):
    """Rows to bring home: 5 %, at least 20,000 and 20 a coefficient in all, at most 64 MiB.

    Wide rows in memory, whose number is known, are content with 30 a coefficient: more cost more than they save.
    """
    n_blocks, n_features = data.n_blocks, len(data.names)
    least = max(PILOT_ROWS, 20 * (n_features + 1))
    if data.collections is None and n_features >= WIDE and sum(part[0].shape[0] for part in data.parts) > PILOT_ROWS:
        least = max(PILOT_ROWS // 2, 30 * (n_features + 1))
    most = max(least, PILOT_BYTES // (8 * (n_features + 1)))
    return Pilot(-(-least // n_blocks), PILOT_SHARE, -(-most // n_blocks), seed)


def take_survey(data, family, random_state, classify=False):
    """First sweep.

    Raises
    ------
    ValueError
        No rows; NaN or inf; y outside the family's domain; negative or all-zero weights.
    """
    plan = pilot_plan(data, random_state)
    result = passes.run(survey, data, family, plan, classify)
    check(result, data, family)
    return result


def check(found, data, family):
    """Turn what the survey saw into one clear sentence where it is bad; later sweeps must find as many rows."""
    n = sum(found.lengths)
    if n == 0 and found.n_missing:
        raise ValueError(f"No row of data is complete: all {int(found.n_missing)} rows have a missing value in some column "
                         "of the formula.")
    if n == 0:
        raise ValueError("Found array with 0 sample(s): X has no rows; a minimum of 1 is required.")
    if not data.names and not getattr(data.prepare, "intercept", False):
        raise ValueError(f"0 feature(s) (shape=({n}, 0)) while a minimum of 1 is required.")
    for counts, word in ((found.n_nan, "NaN"), (found.n_infinite, "infinite")):
        if counts.any():
            worst = [f"{data.names[j]!r} ({int(counts[j])} rows)" for j in np.flatnonzero(counts)[:5]]
            more = f" and {int((counts > 0).sum()) - 5} more columns" if (counts > 0).sum() > 5 else ""
            raise ValueError(f"X contains {word} values in column {', '.join(worst)}{more}: drop or impute these rows "
                             "before fitting (a formula drops NaN rows and counts them).")
    response = data.prepare.response
    for count, word in zip(found.n_bad_y, ("NaN", "infinite (infinity)")):
        if count:
            raise ValueError(f"{response} contains {word} values in {int(count)} of {n} rows: drop these rows.")
    r = found.response
    if r.n_negative:
        raise ValueError(f"Negative values in sample_weight: {int(r.n_negative)} of {n} rows; weights must be >= 0.")
    if not r.weight > 0:
        raise ValueError(f"All {n} values of sample_weight are zero: no row is left to fit.")
    if r.n_outside:
        raise ValueError(f"{response} has {int(r.n_outside)} of {n} rows outside the domain of the {family.facts.name} "
                         f"family, which takes {family.facts.response}: Some value(s) of y are out of the valid range.")
    data.lengths = found.lengths


def check_dense(found, why):
    """Refuse sparse rows, with the reason, where a method works on dense ones."""
    if sparse.issparse(found.pilot[0].X):
        raise ValueError(f"X is sparse, and {why}: pass dense columns, or fit with GLMRegressor.")


def basis_of(found, fit_intercept):
    """Standardised columns from the survey; a constant column beside an intercept stays unscaled (it is aliased)."""
    spread, p = found.columns, found.columns.mean.size
    if fit_intercept and not sparse.issparse(found.pilot[0].X):
        center, scale = spread.mean, spread.deviation
        scale = np.where(spread.high - spread.low > 0, scale, 0.0)
    else:
        center, scale = np.zeros(p), np.sqrt(spread.mean ** 2 + spread.deviation ** 2)
    return Basis(np.arange(p), center, np.where(scale > 0, scale, 1.0), bool(fit_intercept))


def solve_model(data, found, model, fit_intercept=True, alpha=0.0, l1_ratio=0.0, standardize=False, penalty_factor=None,
                weights_kind="prior", tol=1e-6, max_iter=100, start=None, rank="warn", verbose=0):
    """Fit after a survey.

    Parameters
    ----------
    start : (k,) array, optional
        Raw coefficients (intercept first, equation by equation) to begin at instead of the pilot's.

    Returns
    -------
    Fitted

    Raises
    ------
    ValueError
        No valid start; aliased columns with rank="error".
    """
    basis = basis_of(found, fit_intercept)
    n_rows = found.response.n_kept if weights_kind == "prior" else found.response.weight
    model = bernoulli(model, found)
    block = concatenate(found.pilot)
    pilot = in_memory(block)
    kept = np.ones(basis.n_coef, bool)
    if not alpha:
        kept = independent_columns(data, pilot, found, basis, rank)
        basis = basis.keep(np.flatnonzero(kept))
    penalty = elastic_net(basis, model, found.columns, alpha, l1_ratio, standardize, penalty_factor)
    objective = Objective(model, basis, penalty)
    null = objective.null() if found.has_offset else None
    watch = Watch(objective, data, pilot, found)
    if start is None:
        coef, null_coef = fit_pilot(objective, block, pilot, found.pilot_is_all, null, watch)
    else:
        coef, null_coef = basis.standardised(np.asarray(start, float).reshape(-1, kept.size)[:, kept]), None
        if null is not None:
            null_coef = fit_pilot(null, block, pilot, found.pilot_is_all, None)[0]
    safe, ceiling = _constant_model(objective, block, found)
    reach = Reach.of(found.columns, basis, spread(block.X, np.ones(block.n_rows)))
    fit = polish(objective, data, pilot, coef, n_rows, tol, max_iter, null=null, null_coef=null_coef, safe=safe,
                 ceiling=ceiling, reach=reach, separated=watch, verbose=verbose)
    separated = _separated(watch, fit)
    if separated is None and not fit.converged:
        _warn_not_converged(fit, tol, max_iter, model)
    if separated is not None:
        fit = dataclasses.replace(fit, distance=math.inf, converged=False)
        names = _coef_names(data.names, basis)
        _warn_separated(separated, [names[j] for j in separated.positions])
    return Fitted(fit, found, list(data.names), kept, n_rows, data.n_passes, separated,
                  _null_deviance(model, found, fit_intercept, fit.null), weights_kind == "frequency")


def _constant_model(objective, block, found):
    """The constant model's coefficients, and the objective there, which the survey knows (infinite: it does not)."""
    model, one_equation = objective.model, hasattr(objective.model, "link")
    intercept = objective.basis.intercept
    average = found.response.mean if one_equation and intercept else None
    safe = newton.constant_start(objective, block, average)
    if found.has_offset or not intercept:
        return safe, math.inf
    deviance = _null_deviance(model, found, one_equation, None)          # all classes alike at zero coefficients
    return safe, 0.5 * deviance * (1.0 + 1e-6) if math.isfinite(deviance) else math.inf


def bernoulli(model, found):
    """The cheaper twin of the binomial family where every response is 0 or 1."""
    if isinstance(getattr(model, "family", None), families.Binomial) and not found.response.fractional:
        return families.GLM(families.Bernoulli(), model.link)
    return model


def _coef_names(names, basis):
    return ["Intercept"] * basis.intercept + [names[j] for j in basis.columns]


def independent_columns(data, pilot, found, basis, rank):
    kept = aliased(data, pilot, found.pilot_is_all, basis)
    if not kept.any():
        raise ValueError(f"No coefficient is left to fit: without an intercept, and with X zero in all {kept.size} columns, "
                         "the model is a constant. Pass other columns, or fit_intercept=True.")
    if not kept.all():
        lost = [name for name, k in zip(_coef_names(data.names, basis), kept) if not k]
        text = (f"{len(lost)} of {kept.size} columns are constant or linear combinations of earlier ones: "
                f"{', '.join(map(repr, lost[:10]))}{' ...' if len(lost) > 10 else ''}.")
        n_rows = int(found.response.n_kept)
        if n_rows < kept.size:
            text = (f"X has {kept.size} columns (intercept included) but only {n_rows} rows that count, so the fit cannot "
                    f"have them all (a penalty, alpha > 0, could). {text}")
        if rank == "error":
            raise ValueError(f"{text} Drop them, or fit with rank='warn' to have them reported as NaN.")
        tell(f"{text} They are reported as NaN, the others are fitted; drop them to silence this.", AliasWarning)
    return kept


def fit_pilot(objective, block, pilot, pilot_is_all, null, watch=None):
    """Coefficients of the pilot rows, and of the null model on them.

    A pilot that is a share of the rows may be separated or singular where the whole is not, and a level of a factor may
    have few rows in it: a weak prior holds it, under which a column's whole range moves eta by 1.
    Its weight never passes a fiftieth of the pilot's rows, so the change stays below the pilot's sampling error.
    """
    held = objective
    if not pilot_is_all and objective.penalty.matrix is None:
        basis, unit = objective.basis, block.weight.sum() / max(block.n_rows, 1)
        span = spread(block.X, np.ones(block.n_rows))
        reach = (span.high - span.low)[basis.columns] / basis.scale
        ridge = np.diag(np.r_[[0.0] * basis.intercept, np.clip(reach ** 2, 1.0, max(block.n_rows / 50.0, 1.0))])
        matrix = np.kron(np.eye(objective.model.n_equations), ridge) * unit
        held = dataclasses.replace(objective, penalty=objective.penalty.with_ridge(matrix))
    coef = newton.start(held, block, pilot)
    tol = 1e-16 if pilot_is_all else 0.05 * objective.n_coef    # a twentieth of the pilot's sampling error, squared
    coef = newton.minimise(held, pilot, coef, tol, separated=watch if pilot_is_all else None).point.coef
    if null is None:
        return coef, None
    start = newton.start(null, block, pilot) if null.basis.n_coef else np.zeros(0)
    null_coef = newton.minimise(null, pilot, start, tol).point.coef if null.basis.n_coef else start
    return coef, null_coef


def _separated(watch, fit):
    """What is separated: looked for where a coefficient is unbounded in effect, or the fit did not settle."""
    if not watch(fit.point) and not fit.converged:
        watch.look(fit.point.coef)
    return watch.separated


def _warn_not_converged(fit, tol, max_iter, model):
    where = f"{fit.distance:.3g} standard errors from the optimum" if math.isfinite(fit.distance) else \
        "at coefficients whose means leave the family's domain" if not fit.point.valid else \
        "where the information is singular, so that its distance to the optimum is unknown"
    tell(f"The fit did not converge after {fit.n_iter} sweeps: it stands {where} (tol={tol:g}, "
         f"max_iter={max_iter}, {model}). Raise max_iter, rescale or drop columns, or try another link.",
         ConvergenceWarning)


def _warn_separated(separated, names):
    """Name the columns, ten at most, and what to do."""
    which = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more columns" if len(names) > 10 else "")
    which = "the intercept alone" if names == ["Intercept"] else f"a combination of {which}"
    what, whose = ("every response", "all coefficients") if separated.kind == "complete" else (
        "some responses", "the coefficients of these columns")
    tell(f"{separated.kind.capitalize()} separation: {which} predicts {what} perfectly, so {whose} run to infinity and "
         "their standard errors mean nothing. Penalize (alpha > 0), drop or merge these columns, or collect more rows.",
         SeparationWarning)


def _null_deviance(model, found, fit_intercept, null_point):
    """Deviance of the model without the features, which with an offset is a fit of its own."""
    if found.has_offset:
        return math.nan if null_point is None else null_point.moments.deviance
    if not hasattr(model, "link"):
        return _multinomial_null(found, fit_intercept)
    return null_deviance_of(model, found.response, fit_intercept)


def null_deviance_of(model, response, fit_intercept):
    """Deviance at the mean response, at eta = 0 without intercept (NaN where that is no mean of the family)."""
    if fit_intercept:
        return response.deviance
    return response.deviance_at(model.link.inverse(0.0) if model.link.accepts(0.0) else math.nan)


def _multinomial_null(found, fit_intercept):
    totals = np.array(list(found.labels.values()))
    share = totals / totals.sum() if fit_intercept else np.full(len(totals), 1.0 / len(totals))
    return float(-2.0 * np.sum(totals * np.log(np.where(totals > 0, share, 1.0))))
