"""Rounds of moments from the sites, until the exact score of all rows says that the optimum is reached.

1. Moments at b, summed over sites. A value above the last one: back along the step.
2. Newton's step, bent by the third derivative of the sites' own expansions as `solvers.polish` bends it by a pilot's.
3. A step that is foretold to end within `NEAR` of the optimum is the last: there the middle of the sandwich is asked
   for too. Where the distance then is below `tol`, one Newton step more, shorter than `tol`, ends the fit.
"""

import math

import numpy as np

from daskglm_rep.diagnostics import undetermined
from daskglm_rep.fitted import Fit, distance_of, standard_errors
from daskglm_rep.objective import inverse, solve
from daskglm_rep.solvers.newton import direction
from daskglm_rep.solvers.polish import _bent, _carry, _retreat, _shorter, _taylor
from daskglm_rep.telling import SeparationWarning, tell

NEAR = 1e-3              # standard errors
MOST_ROUNDS = 30
PATIENCE = 8             # rounds after which a fit that hardly nears its optimum is looked at for separation


class Rounds:
    """The loop of one fit.

    Parameters
    ----------
    objective : Objective
    models : LocalModels or None
        The sites' own expansions.
    found : Survey
        Merged.
    moments : callable
        From coefficients, whether the sandwich's middle is wanted, and the inverse information for leverages, to merged
        moments and that middle (None where it was not wanted).
    is_robust : bool
    tol : float
    names : list of str
        Of the columns, for messages.
    """

    def __init__(self, objective, models, found, moments, is_robust, tol, names):
        self.objective, self.models, self.found, self.moments = objective, models, found, moments
        self.is_robust, self.tol, self.names, self.n_rows = is_robust, tol, names, found.response.n_kept

    def run(self):
        """Returns
        -------
        Fit
        middle of the sandwich, or None
        """
        objective, safe, ceiling = self.objective, self.constant(), self._ceiling()
        coef = None if self.models is None else self.models.start(objective)
        coef = safe if coef is None or not np.isfinite(coef).all() else coef
        best, step, noise, near, bread, now = None, np.zeros_like(coef), 0.0, False, None, math.inf
        for n_iter in range(1, MOST_ROUNDS + 1):
            moments, meat = self.moments(coef, near and self.is_robust, bread)
            point = objective.point(coef, moments)
            if best is None and not (point.usable and point.value <= ceiling):
                coef, ceiling = self._nearer(coef, safe, point), math.inf
                continue
            if best is not None and not (point.usable and point.value <= best.value + 1e-11 * abs(best.value) + noise):
                step, near = _shorter(best, point, step, None), False
                coef = best.coef + step
                continue
            noise, best, newton = max(noise, 1e-15 * abs(point.value)), point, direction(objective, point)
            if newton is None or not np.isfinite(newton).all():
                break
            before, errors = now, standard_errors(objective, point, self.n_rows, least=True)
            now = distance_of(objective, newton, errors, coef)
            if now <= self.tol and (meat is not None or not self.is_robust):
                return Fit(objective, _taylor(objective, point, newton), newton, now, n_iter, True), meat
            if n_iter > PATIENCE and now > 0.3 * before and undetermined(objective, point):
                break
            step, left, bread = self._step(point, newton, errors, now)
            near, coef = left <= NEAR, coef + step
        self._tell_stuck(best, now)
        return Fit(objective, best, step, now, n_iter, False), None

    def _step(self, point, newton, errors, now):
        """The bent step, how far its end is foretold to be from the optimum, and the inverse information there."""
        bent, here, _ = _bent(self.objective, self.models, point, newton, self.tol)
        if here is None:
            return newton, now if now <= NEAR else math.inf, inverse(point.moments.expected)
        end = _carry(self.objective, self.models, point, here, bent)
        left = min(now, distance_of(self.objective, bent - newton, errors, point.coef))
        return bent, left, inverse((point if end is None else end).moments.expected)

    def noisy(self, scores, rounds):
        """So many Fisher steps on scores with noise; (coefficients, information, covariance that the noise adds).

        Parameters
        ----------
        scores : callable
            From coefficients to (score, expected information, standard deviation of the noise in each number).
        rounds : int
        """
        coef = self.constant()
        for _ in range(rounds):
            score, information, deviation = scores(coef)
            step = solve(information, score)
            if step is None:
                raise ValueError("The sites' information is singular: leave columns out, or collect more rows.")
            coef = coef + step
        A = inverse(information)
        return coef, information, deviation ** 2 * (A @ A)

    def _nearer(self, coef, safe, point):
        nearer = _retreat(coef, safe, point)
        if nearer is None:
            raise ValueError(f"The {self.objective.model} model has no valid start on the sites' rows: use a link "
                             "whose means always are inside the family's domain (log, logit).")
        return nearer

    def constant(self):
        """The constant model."""
        model, coef = self.objective.model, np.zeros(self.objective.n_coef)
        if not model.starts_at_zero and self.objective.basis.intercept:
            low, high = model.family.mean_range
            inner = max(self.found.response.mean, low + 1e-8)
            coef[0] = model.link.link(min(inner, high - 1e-6) if math.isfinite(high) else inner)
        return coef

    def _ceiling(self):
        """The objective at the constant model, infinite where the survey does not tell."""
        model, found = self.objective.model, self.found
        if found.has_offset or not self.objective.basis.intercept or model.starts_at_zero:
            return math.inf
        return 0.5 * model.null_deviance(found.response, True, found.labels) * (1.0 + 1e-6)

    def _tell_stuck(self, point, now):
        basis = self.objective.basis
        size = np.abs(point.coef.reshape(-1, basis.n_coef)).max(axis=0)[int(basis.intercept):]
        worst = repr(self.names[basis.columns[int(np.argmax(size))]]) if size.size else "the intercept"
        tell(f"The fit ends {now:.3g} standard errors from the optimum and its coefficients run off, that of {worst} "
             "the furthest: it may separate the responses. Leave it out, merge its levels, or look at it at the sites.",
             SeparationWarning)
