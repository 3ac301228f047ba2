"""Proximal Newton: the quadratic model that a sweep merged is minimised with the penalty by coordinate descent.

Where columns are many, a sweep makes second derivatives of the active ones alone. Which those are is learnt from the
pilot: what is in use there, and what its gradient, with the error that a pilot has, cannot exclude (in place of the
strong rule's guess, Tibshirani et al. 2012). The gradient of all columns comes with every sweep and says which are
missing, so nothing is left out by mistake.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import progress
from daskglm_rep.solvers.composite import FEW, Reached, certify

FLOOR = 1e-8            # standard errors: below, a distance that no longer falls is the rounding of the sums
CANCELLED = 1e-4        # share of the deviance below which that at the end of an exact step is rounding
NEAR = 0.7              # share of its threshold that a gradient must reach for its column to stay active
QUICK = 1e8             # multiplications up to which all columns are active in any case
GROWTH = 50             # columns that may enter at once, or as many as there are


@dataclasses.dataclass(frozen=True)
class CoordinateDescent:
    """`solver="cd"`."""

    name = "cd"

    def minimise(self, problem, data, coef, n_rows, tol, max_iter, active=None, verbose=0):
        """1. Sweep: gradient of all columns, Hessian of the active ones. 2. Coordinate descent on the quadratic model.
        3. Stop where its minimum is within `tol` and no column outside wants to enter; else go there and repeat.

        Parameters
        ----------
        problem : composite.Problem
        data : Data
        coef : (k,) array
            Start.
        n_rows : float
        tol : float
            Standard errors.
        max_iter : int
            Sweeps.
        active : (a,) int array, optional
            Columns that are active in the first sweep, default those in use.

        Returns
        -------
        composite.Reached
        """
        few = problem.penalty.alpha.size <= FEW or n_rows * problem.penalty.alpha.size ** 2 <= QUICK
        best, step, last = None, None, math.inf
        active = problem.all_columns if few else problem.used(coef) if active is None else active
        for n_iter in range(1, max_iter + 1):
            state = problem.evaluate(data, coef, active)
            if best is None and not state.usable:
                return Reached(state, np.zeros_like(coef), math.inf, n_iter, False)
            if best is not None and not (state.usable and state.value <= best.value + 1e-12 * abs(best.value)):
                step = 0.3 * step
                if np.abs(step).max(initial=0.0) < 1e-14 * (1.0 + np.abs(best.coef).max(initial=0.0)):
                    break
                coef = best.coef + step
                continue
            best = state
            step, slope = problem.direction(state)
            wrong = problem.violators(state)
            now = problem.distance(state, step, n_rows)
            if verbose:
                progress.step(f"sweep {n_iter}", state.moments.deviance, now, tol,
                              f" of {active.size} active columns, {wrong.sum()} want to enter")
            if not wrong.any() and (now <= tol or 0.5 * last <= now < FLOOR):
                return Reached(state, step, now, n_iter, True)
            if problem.model.is_linear and active.size == problem.basis.n_coef:
                end = problem.after(state, step)
                rest, _ = problem.direction(end)
                if end.moments.deviance > CANCELLED * state.moments.deviance:
                    return Reached(end, rest, problem.distance(end, rest, n_rows), n_iter, True)
            coef, last = problem.levelled(state.coef + step), now
            active = active if few else self._next(problem, state, coef, slope, wrong)
        return certify(problem, data, best, n_rows, tol, max_iter)

    def _next(self, problem, state, coef, slope, wrong):
        """Active columns of the next sweep: in use, close to their threshold, or most in need to enter."""
        on = problem.places(state.active)
        near = np.zeros(coef.size, bool)
        near[on] = problem.penalty.keep(on).residual(np.zeros(on.size), slope / NEAR) != 0.0
        most = max(GROWTH, np.count_nonzero(coef))
        if wrong.sum() > most:
            excess = np.where(wrong, np.abs(problem.penalty.residual(coef, state.gradient)), -1.0)
            wrong = excess >= np.partition(excess, -most)[-most]
        in_use = (coef != 0.0) | (state.coef != 0.0) | (problem.penalty.alpha == 0.0)
        return problem.columns_of(near | wrong | in_use)
