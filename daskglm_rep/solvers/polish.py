"""From a pilot to the optimum in few sweeps: full Newton steps bent by the pilot's third derivative.

A sweep at b gives the exact gradient g and Hessian H. The pilot's rows, in memory and weighted to stand for all, give
an approximation l_p of the objective. The surrogate

    m(d) = g'd + d'Hd / 2 + [l_p(b + d) - l_p(b) - g_p'd - d'H_p d / 2]

agrees with the objective in value, gradient and Hessian at b exactly and in all higher derivatives up to the pilot's
sampling error (Jordan, Lee & Yang 2019 correct the gradient alone). Its minimum is a third-order step: with a pilot of
5 % the error after two sweeps falls from about 1e-2 to below 1e-4 standard errors, after three below 1e-8. How far it
lies from the Newton step bounds the error of what is left, as the pair of orders does in an ODE solver: that distance
certifies the result without another sweep.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep.objective import inverse, solve
from daskglm_rep.solvers import newton as newton_method
from daskglm_rep.solvers.newton import direction

FLOOR = 1e-8            # standard errors: below, a distance that no longer falls is the rounding of the sums
WIDE = 40               # columns from which rows in memory are first swept for the gradient alone
FOLLOWED = 100          # pilot rows a coefficient below which a long step is not left to the pilot
SETTLED = 1e-2          # standard errors: a last step longer than this is looked at again by a sweep


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fit's state when its loop ended.

    Attributes
    ----------
    objective : Objective
    point : Point
        At the returned coefficients; its moments are carried there from the last sweep by the surrogate.
    step : (k,) array
        The last step taken, in the basis.
    distance : float
        To the optimum, in standard errors (the worst coefficient), after that step.
    n_iter : int
        Sweeps that evaluated the objective.
    converged : bool
    null : Point or None
        The null model, where it was fitted alongside.
    """

    objective: object
    point: object
    step: np.ndarray
    distance: float
    n_iter: int
    converged: bool
    null: object = None


def standard_errors(objective, point, n_rows):
    """Standard errors of the raw coefficients from the expected information, (k,) array."""
    cov = objective.basis.covariance(inverse(point.curvature))
    return np.sqrt(np.maximum(np.diag(cov), 0.0) * dispersion(objective.model, point, n_rows))


def dispersion(model, point, n_rows):
    """1 where known, else Pearson's chi-squared over residual degrees of freedom."""
    if model.dispersion_known:
        return 1.0
    return point.moments.pearson / max(n_rows - point.coef.size, 1.0)


def distance_of(objective, step, se, coef):
    """Length of a step as the worst coefficient's share of its standard error (raw coefficients).

    Steps lost in the rounding of the coefficient itself count as nothing: a perfect fit has no standard error.
    """
    if step.size == 0:
        return 0.0
    raw, size = np.abs(objective.basis.raw(step)), np.abs(objective.basis.raw(coef))
    floor = 1e-13 * (size + size.max() * 1e-3)
    ratio = np.maximum(raw - floor, 0.0) / np.maximum(se, 1e-300)
    return float(np.max(ratio)) if np.isfinite(ratio).all() else math.inf


@dataclasses.dataclass(frozen=True)
class Surrogate:
    """The pilot's objective with a linear and a quadratic term that match the full one's derivatives at a point.

    Attributes
    ----------
    objective : Objective
    point, here : Point
        The full objective and the pilot's at the same coefficients.
    second_order : bool
        False leaves the quadratic term out: the gradient alone matches, and a convex pilot stays convex however far the
        step goes (Jordan, Lee & Yang 2019).
    """

    objective: object
    point: object
    here: object
    second_order: bool = True
    lasso = None

    def evaluate(self, pilot, coef, informative=True):
        """`Point` of the surrogate; its gradient and Hessian at `point.coef` are the full objective's."""
        there = self.objective.evaluate(pilot, coef, informative)
        d, tilt = coef - self.point.coef, self.point.gradient - self.here.gradient
        if not self.second_order:
            return dataclasses.replace(there, value=there.value + tilt @ d, gradient=there.gradient + tilt)
        bend = self.point.hessian - self.here.hessian
        changes = dict(value=there.value + tilt @ d + 0.5 * d @ bend @ d, gradient=there.gradient + tilt + bend @ d)
        if informative:
            changes |= dict(hessian=there.hessian + bend,
                            curvature=there.curvature + self.point.curvature - self.here.curvature)
        return dataclasses.replace(there, **changes)


def surrogate_step(objective, pilot, point, newton, tol):
    """Minimum of the surrogate: first by iterations of step -= H^-1 gradient, which need no new Hessian; where they do
    not contract, the step is a long one, and the minimum of the first-order surrogate is taken by damped Newton.

    Returns
    -------
    step : (k,) array or None
        None where the pilot has nothing to say here.
    here : Point or None
        The pilot's objective at the start of the step; None where the step is a long one.
    """
    if pilot is None:
        return None, None
    here = objective.evaluate(pilot, point.coef)
    if not here.valid:
        return None, None
    surrogate = Surrogate(objective, point, here)
    solver = point.hessian if solve(point.hessian, point.gradient) is not None else point.curvature
    step, previous = newton, math.sqrt(max(newton @ solver @ newton, 0.0))
    enough = max(1e-4 * tol, 1e-14 * previous)
    for _ in range(15):
        there = surrogate.evaluate(pilot, point.coef + step, informative=False)
        change = solve(solver, -there.gradient) if there.valid else None
        size = math.inf if change is None else math.sqrt(max(change @ solver @ change, 0.0))
        if not size <= 0.5 * previous:
            if size <= FLOOR:                                       # lost in rounding, not a long step
                break
            if sum(part.n_rows for part in pilot.parts) < FOLLOWED * newton.size:
                return None, None
            convex = dataclasses.replace(surrogate, second_order=False)
            far = newton_method.minimise(convex, pilot, point.coef, 1e-2, 30).point.coef
            return far - point.coef, None
        step, previous, bend = step + change, size, step + change - newton
        if size <= max(enough, 1e-3 * math.sqrt(max(bend @ solver @ bend, 0.0))):      # far below the pilot's own error
            break
    return step, here


def _carry(objective, pilot, point, here, step):
    """Moments at the end of a step: Taylor at the sweep's point, the remainder from the pilot."""
    there = objective.evaluate(pilot, point.coef + step)
    if not there.valid:
        return None
    m, a, b = point.moments, here.moments, there.moments
    taylor = -2 * m.score @ step + step @ m.observed @ step
    remainder = b.deviance - a.deviance + 2 * a.score @ step - step @ a.observed @ step
    expected = m.expected + b.expected - a.expected
    observed = expected if m.observed is m.expected else m.observed + b.observed - a.observed
    score = m.score - m.observed @ step + b.score - a.score + a.observed @ step
    moments = dataclasses.replace(m, score=score, expected=expected, observed=observed,
                                  deviance=max(m.deviance + taylor + remainder, 0.0),
                                  pearson=max(m.pearson + b.pearson - a.pearson, 0.0))
    return objective.point(point.coef + step, moments)


def polish(objective, data, pilot, coef, n_rows, tol=1e-6, max_iter=100, null=None, null_coef=None,
           safe=None, verbose=0):
    """Sweep until the distance to the optimum is below `tol` standard errors.

    1. Sweep at b: value, gradient, Hessian. A value above the last one: go back to the minimum of the cubic that both
       ends' values and slopes give.
    2. Newton step, and the surrogate's step.
    3. Take the surrogate's. What is left is bounded by the two steps' difference: stop when that is below tol and the
       step was short enough for the moments to be carried along; else repeat.

    Parameters
    ----------
    objective : Objective
    data : Data
    pilot : Data or None
        Pilot rows, weighted to stand for all rows.
    coef : (k,) array
    n_rows : float
        Rows that count, for the dispersion.
    null, null_coef : Objective, (j,) array, optional
        A null model to fit alongside.
    verbose : int
        Above 0 each sweep prints its deviance and distance.
    safe : (k,) array, optional
        Coefficients to retreat towards where the start leaves the family's domain on some row.

    Returns
    -------
    Fit
    """
    best, step, last, promised, n_iter = None, np.zeros_like(coef), None, math.inf, 0
    if pilot is not None and data.collections is None and coef.size >= WIDE and not objective.is_quadratic:
        n_iter, safe = 1, coef
        coef = _first_order(objective, data, pilot, coef)
    null_end = None
    while n_iter < max_iter:
        n_iter += 1
        if null is None:
            point = objective.evaluate(data, coef)
        else:
            point, null_point = objective.evaluate_with_null(data, coef, null, null_coef)
            null_end = _taylor(null, null_point, direction(null, null_point)) if null_point.valid else None
            null_coef = null_coef if null_end is None else null_end.coef
        if best is not None and not point.value <= best.value + 1e-9 + 1e-11 * abs(best.value):
            step, promised = _shorter(best, point, step), math.inf
            if np.max(np.abs(step), initial=0.0) < 1e-14:
                break
            coef = best.coef + step
            continue
        if not point.valid and safe is not None and np.max(np.abs(coef - safe), initial=0.0) > 1e-12:
            coef = safe + 0.5 * (coef - safe)
            continue
        if not point.valid:
            return Fit(objective, point, step, math.inf, n_iter, False, null_end)
        best, newton = point, direction(objective, point)
        if newton is None or not np.isfinite(newton).all() or _vanishing(point, newton):
            break
        se = standard_errors(objective, point, n_rows)
        now = distance_of(objective, newton, se, coef)
        if verbose:
            print(f"sweep {n_iter}: deviance {point.moments.deviance:.10g}, {now:.1e} standard errors from the optimum")
        step, end, left = _aim(objective, pilot, point, newton, se, tol, now, last, promised)
        floor = last is not None and 0.5 * last <= now < FLOOR          # no sweep brings it nearer: rounding
        if floor or now <= tol or (left <= tol and (now <= SETTLED or objective.is_quadratic)):
            return Fit(objective, end or point, step, min(now, left), n_iter, True, null_end)
        coef, last, promised = point.coef + step, now, left
    newton = direction(objective, best)
    if newton is None:
        return Fit(objective, best, step, math.inf, n_iter, False, null_end)
    now = distance_of(objective, newton, standard_errors(objective, best, n_rows), best.coef)
    return Fit(objective, best, newton, now, n_iter, now <= tol, null_end)


def _first_order(objective, data, pilot, coef):
    """One gradient-only sweep, and a step by the pilot's Hessian: a quarter of a full sweep's cost for many columns.

    Iterations of step -= H_p^-1 gradient of the first-order surrogate; the start again where they do not contract.
    """
    point, here = objective.evaluate(data, coef, informative=False), objective.evaluate(pilot, coef)
    if not (point.valid and here.valid):
        return coef
    surrogate, step, previous = Surrogate(objective, point, here, False), np.zeros_like(coef), math.inf
    for _ in range(10):
        there = surrogate.evaluate(pilot, coef + step, informative=False)
        change = solve(here.curvature, -there.gradient) if there.valid else None
        size = math.inf if change is None else math.sqrt(max(change @ here.curvature @ change, 0.0))
        if not size <= 0.5 * previous:
            return coef
        step, previous = step + change, size
        if size < 0.1:
            break
    return coef + step


def _shorter(best, trial, step):
    """The rejected step cut to the minimum of both ends' cubic (Nocedal & Wright 2006, equation 3.59), or to 0.3."""
    share = 0.3
    if trial.valid and np.isfinite(trial.gradient).all():
        down, up = best.gradient @ step, trial.gradient @ step
        mixed = down + up - 3.0 * (trial.value - best.value)
        root = mixed * mixed - down * up
        if root >= 0.0:
            top = math.sqrt(root)
            share = 1.0 - (up + top - mixed) / max(up - down + 2.0 * top, 1e-300)
    return min(max(share, 0.05), 0.7) * step


def _vanishing(point, newton):
    """Whether the information is singular although nothing is left to gain: the likelihood is flat at infinity."""
    return -point.gradient @ newton < 1e-6 and solve(point.curvature, point.gradient) is None


def _aim(objective, pilot, point, newton, se, tol, now, last, promised):
    """The step to take, the point at its end (None where it is not known or not close), a bound on the distance left.

    The bound is the bent step's difference from Newton's, times the share of it (tripled) that this sweep found left of
    the last step's difference: the pilot's accuracy, seen at work.
    """
    if objective.lasso is not None:
        return newton, None, math.inf
    if objective.is_quadratic:
        end = _taylor(objective, point, newton)
        rest = solve(point.hessian, point.gradient + point.hessian @ newton)
        return newton, end, distance_of(objective, rest, se, point.coef) if rest is not None else math.inf
    bent, here = surrogate_step(objective, pilot, point, newton, tol)
    if here is not None:
        left = distance_of(objective, bent - newton, se, point.coef)
        seen = min(1.0, 3.0 * now / promised) if 0.0 < promised < math.inf else 1.0
        done = now <= tol or (left * seen <= tol and now <= SETTLED)
        return bent, _carry(objective, pilot, point, here, bent) if done else None, left * seen if done else left
    return (newton if bent is None else bent), None, now * min(1.0, now / last) if last and now < 1e-3 else math.inf


def _taylor(objective, point, step):
    """The objective's quadratic model at the end of a step; its informations stay those of the sweep."""
    if step is None:
        return point
    m = point.moments
    moments = dataclasses.replace(m, score=m.score - m.observed @ step,
                                  deviance=max(m.deviance - 2 * m.score @ step + step @ m.observed @ step, 0.0))
    if objective.is_quadratic:
        moments = dataclasses.replace(moments, pearson=moments.deviance)
    return objective.point(point.coef + step, moments)
