"""FISTA (Beck & Teboulle 2009, SIAM Journal on Imaging Sciences 2): gradients alone, O(p) memory, many sweeps.

The regression-design chapter's variant. With f the smooth part and the step delta,

    w_k = prox_delta(v_k - delta grad f(v_k)),  t_{k+1} = (1 + sqrt(1 + 4 t_k^2)) / 2,
    v_{k+1} = w_k + (t_k - 1) / t_{k+1} (w_k - w_{k-1}),

delta is first raised by `growth` and then cut until f(w) <= f(v) + grad f(v)'(w - v) + |w - v|^2 / (2 delta). After a
complete cycle over all columns only the active ones are iterated; done when another complete cycle changes none. The
momentum is dropped where it points uphill (O'Donoghue & Candes 2015), which keeps the rate linear. The chapter's
threshold (of u, not v) and its lambda inside and outside the bracket are put right.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import progress
from daskglm_rep.solvers.composite import certify, left, unit

WARM_UPS = 10           # alphas of the warm-up, falling evenly in logarithms


@dataclasses.dataclass(frozen=True)
class Fista:
    """`solver="fista"`.

    Parameters
    ----------
    warm_up : bool
        Come down a sequence of alphas from the one at which all is zero: fewer columns are active on the way.
    growth : float > 1
        By which a step may grow, and is cut (eta of the chapter).
    max_inner : int
        Iterations on the active columns between two complete cycles.
    """

    warm_up: bool = False
    growth: float = 1.5
    max_inner: int = 100
    name = "fista"

    def minimise(self, problem, data, coef, n_rows, tol, max_iter, active=None, verbose=0):
        """`CoordinateDescent.minimise`'s arguments and result; `max_iter` counts complete cycles."""
        state = problem.evaluate(data, coef, problem.used(coef), informative=False)
        delta, goal = 1.0 / max(problem.penalty.total, 1e-300), 0.1 * tol
        for multiple in self._multiples(problem, state):
            eased = dataclasses.replace(problem, penalty=problem.penalty.scaled(multiple))
            state = eased.state(state.coef, state.active, state.moments)
            enough = 1e-2 if multiple > 1.0 else goal
            state, delta, _ = self._cycles(eased, data, state, delta, enough, max_iter, n_rows)
        reached, used = certify(problem, data, state, n_rows, tol, 1), 1
        while not reached.converged and used < max_iter:
            goal *= 0.1
            state, delta, n = self._cycles(problem, data, reached.state, delta, goal, max_iter - used, n_rows)
            used += n
            last, reached = reached, certify(problem, data, state, n_rows, tol, used)
            if verbose:
                progress.step(f"cycle {used}", reached.state.moments.deviance, reached.distance, tol)
            if goal < 1e-6 * tol and not reached.distance < 0.5 * last.distance:
                break
        return dataclasses.replace(reached, n_iter=used)

    def _multiples(self, problem, state):
        """Of alpha, falling to 1."""
        if not self.warm_up:
            return [1.0]
        most = problem.penalty.entry(state.gradient)
        return [*np.geomspace(max(most, 1.0), 1.0, WARM_UPS)[1:-1], 1.0]

    def _cycles(self, problem, data, state, delta, goal, max_cycles, n_rows):
        """Complete cycles, iterating on the active columns between them, until the gradient is small.

        Small is what moves the worst coefficient by less than `goal` of the error that its column alone would have.
        """
        scale = goal * unit(problem, state, n_rows)
        for cycle in range(1, max_cycles + 1):
            state, delta = self._iterate(problem, data, state, delta, 1, scale)
            active = problem.columns_of((state.coef != 0.0) | (problem.penalty.alpha == 0.0)
                                        | (problem.penalty.residual(state.coef, state.gradient) != 0.0))
            small, on = problem.keep(active), problem.places(active)
            inner = small.evaluate(data, state.coef[on], informative=False)
            inner, delta = self._iterate(small, data, inner, delta, self.max_inner, scale)
            coef = np.zeros_like(state.coef)
            coef[on] = inner.coef
            state = problem.evaluate(data, coef, problem.used(coef), informative=False)
            if left(problem, state) <= scale:
                break
        return state, delta, cycle

    def _iterate(self, problem, data, state, delta, max_iter, scale):
        """Iterations of the docstring above, from a state at w_0."""
        at, before, t = state, state, 1.0
        for _ in range(max_iter):
            delta *= self.growth
            after, delta = self._step(problem, data, at, delta)
            if after is None:
                return before, delta
            if left(problem, after) <= scale:
                return after, delta
            moved = after.coef - before.coef
            if (at.coef - after.coef) @ moved > 0.0:
                t = 1.0
            t, last = 0.5 * (1.0 + math.sqrt(1.0 + 4.0 * t * t)), t
            before, at = after, after
            if last > 1.0 and max_iter > 1:
                v = after.coef + (last - 1.0) / t * moved
                at = problem.evaluate(data, v, problem.used(v), informative=False)
                at = at if at.usable else after
        return before, delta

    def _step(self, problem, data, at, delta):
        """The proximal step and the largest delta tried that the smooth part allows; None where none does."""
        smooth = at.value - problem.penalty.corners(at.coef)
        for _ in range(200):
            w = problem.penalty.prox(at.coef - delta * at.gradient, delta)
            after = problem.evaluate(data, w, problem.used(w), informative=False)
            d = w - at.coef
            if after.usable:
                rise, most = after.value - problem.penalty.corners(w) - smooth, 0.5 * d @ d / delta
                if abs(rise) <= 1e-10 * abs(at.value):          # where values drown in rounding, by the gradients
                    rise = at.gradient @ d + (after.gradient - at.gradient) @ d
                if rise <= at.gradient @ d + most:
                    return after, delta
            delta /= self.growth
        return None, delta
