"""From a pilot to the optimum in few sweeps: full Newton steps bent by the pilot's third derivative, and a proof.

A sweep at b gives the exact gradient g and Hessian H. The pilot's rows, in memory and weighted to stand for all, give
an approximation l_p of the objective. The surrogate

    m(d) = g'd + d'Hd / 2 + [l_p(b + d) - l_p(b) - g_p'd - d'H_p d / 2]

agrees with the objective in value, gradient and Hessian at b exactly and in all higher derivatives up to the pilot's
sampling error (Jordan, Lee & Yang 2019 correct the gradient alone). Its minimum is a third-order step.

When to stop. A pilot is blind to rows that it has not drawn, so what it predicts is no certificate. Let R = max_i
|z_i'd| over all rows, bounded by the columns' ranges. For canonical logit, Poisson and softmax, and for the log link
with the observed Hessian of gamma, negative binomial and tweedie, a row's third derivative is at most its second; then
(generalized self-concordance: Bach 2010, Electronic Journal of Statistics 4; Sun & Tran-Dinh 2019, Mathematical
Programming 178) e^-R H(b) <= H(b + d) <= e^R H(b), and the gradient left at b + d is at most |g + Hd| + psi(R) |d| in
the norms of H^-1 and H, psi(R) = (e^R - 1 - R) / R: a proof, whatever the tails. Where it is too weak, the pilot is
believed if its Hessian agrees with the full one in every direction: the unseen rows then hold a share delta of each
direction's information, so that delta psi(R) |d| bounds what they add to the bend it predicts. Else another sweep
measures. Moments are carried to the end of the step only where R, or delta R of a believed pilot, moves them by less
than `CARRIED`.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import passes, progress
from daskglm_rep.fitted import Fit, dispersion, distance_of, standard_errors
from daskglm_rep.objective import condition
from daskglm_rep.preparation import WIDE
from daskglm_rep.solvers import certificate, gradients
from daskglm_rep.solvers.newton import direction

FLOOR = 1e-8            # standard errors: below, a distance that no longer falls is the rounding of the sums
DIGITS = 1e-13          # relative error of a step by a rounded information of condition 1, with a wide margin
CANCELLED = 1e-4        # share of a sweep's deviance below which that at the end of an exact step is rounding
BELIEVED = 0.5          # largest disagreement of a pilot whose third derivative is used
CARRIED = 5e-6          # largest relative change of standard errors and Pearson's chi-squared that is left unseen
STILL = 0.1             # largest change of a linear predictor by the last step: more is no neighbourhood of an optimum
STUMBLES = 3            # rejected steps after which a start is given up for the constant model
EXPLODED = 3.0          # e-folds of the objective by which a trial step is too long for a cubic

@dataclasses.dataclass(frozen=True)
class Surrogate:
    """The pilot's objective with a linear and a quadratic term that match the full one's derivatives at a point.

    Attributes
    ----------
    objective : Objective
    point, here : Point
        The full objective and the pilot's at the same coefficients.
    """

    objective: object
    point: object
    here: object

    def evaluate(self, pilot, coef, informative=True):
        """`Point` of the surrogate; its gradient and Hessian at `point.coef` are the full objective's."""
        there = self.objective.evaluate(pilot, coef, informative)
        d, tilt = coef - self.point.coef, self.point.gradient - self.here.gradient
        bend = self.point.hessian - self.here.hessian
        changes = dict(value=there.value + tilt @ d + 0.5 * d @ bend @ d, gradient=there.gradient + tilt + bend @ d)
        if informative:
            changes |= dict(hessian=there.hessian + bend,
                            curvature=there.curvature + self.point.curvature - self.here.curvature)
        return dataclasses.replace(there, **changes)


def surrogate_step(objective, pilot, point, here, newton, tol):
    """Minimum of the surrogate by iterations of step -= H^-1 gradient, which need no new Hessian; they shrink alike, so
    that what is left after one is known before the next.

    Parameters
    ----------
    here : Point
        The pilot's objective at the start of the step.
    newton : (k,) array

    Returns
    -------
    (k,) array or None
        None where the iterations do not contract: the step is too long for the pilot's curvature, or for this one.
    """
    surrogate = Surrogate(objective, point, here)
    factored = point.by_curvature if point.by_hessian.factor is None else point.by_hessian
    solver = factored.matrix
    step, previous = newton, math.sqrt(max(newton @ solver @ newton, 0.0))
    enough = max(1e-4 * tol, 1e-14 * previous)
    for _ in range(15):
        there = surrogate.evaluate(pilot, point.coef + step, informative=False)
        change = factored.solve(-there.gradient) if there.valid else None
        size = math.inf if change is None else math.sqrt(max(change @ solver @ change, 0.0))
        if not size <= 0.5 * previous:
            return step if size <= FLOOR else None                   # lost in rounding, or not contracting
        left = size * size / previous
        step, previous, bend = step + change, size, step + change - newton
        if left <= max(enough, 1e-3 * math.sqrt(max(bend @ solver @ bend, 0.0))):      # far below the pilot's own error
            break
    return step


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
           safe=None, ceiling=math.inf, reach=None, separated=None, verbose=0, first=None, here=None):
    """Sweep until the distance to the optimum is below `tol` standard errors.

    1. Sweep at b: value, gradient, Hessian. A value above the last one: go back along the step.
    2. Newton's step, bent by a pilot that agrees with the data (`BELIEVED`).
    3. Stop where the end of that step, or b itself, is certified; else take it and repeat.

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
    safe : (k,) array, optional
        The constant model: where to begin instead if the objective at `coef` is above `ceiling` or not finite, or if
        steps from there stumble, and what to retreat towards where a start leaves the family's domain on some row.
    ceiling : float
        The objective at `safe`, as far as it is known.
    reach : certificate.Reach, optional
        Without it nothing is proved, and a last sweep measures.
    separated : callable, optional
        Asked after each sweep with its point and whether steps shrink in standard errors but keep moving linear
        predictors; true ends the loop.
    verbose : int
        Above 0 each sweep tells its deviance and distance, after one line on where sweeps run (`progress`).
    first : Point, optional
        The objective at `coef` as the sweep that surveyed the rows found it (without a null model); for the gradient
        alone where rows in memory are first swept so.
    here : Point, optional
        The pilot's objective at `coef`, where it is known.

    Returns
    -------
    Fit
    """
    if verbose:
        progress.say(passes.where(data))
    best, given_up, step, last, noise = None, None, np.zeros_like(coef), math.inf, 0.0
    stumbles, n_iter, null_end = 0, 0, None
    if None not in (pilot, reach) and data.collections is None and coef.size >= WIDE and not objective.model.is_linear:
        here = objective.evaluate(pilot, coef) if here is None else here
        coef, n_iter = gradients.sweeps(objective, data, pilot, here, n_rows, reach, CARRIED, max_iter, first)
        first, null_coef = None, _settled(null, data, null_coef, n_rows)          # one full sweep is to come
    while n_iter < max_iter:
        n_iter += 1
        if first is not None:
            point, first = first, None
        elif null is None:
            point = objective.evaluate(data, coef)
        else:
            point, null_point = objective.evaluate_with_null(data, coef, null, null_coef)
            null_end = _taylor(null, null_point, direction(null, null_point)) if null_point.valid else None
            null_coef = null_coef if null_end is None else null_end.coef
        if best is None and not (point.usable and point.value <= ceiling):
            nearer = _retreat(coef, safe, point)
            if nearer is None and given_up is None:
                return Fit(objective, point, step, math.inf, n_iter, False, null_end)
            if nearer is None:                                     # the constant model is no start: back, shorter
                best, safe, step = given_up, None, 0.3 * step
                nearer = best.coef + step
            coef, ceiling = nearer, math.inf
            continue
        if best is not None and not (point.usable and point.value <= best.value + 1e-11 * abs(best.value) + noise):
            stumbles += 1
            if stumbles == STUMBLES and safe is not None and np.any(coef != safe):
                best, given_up, coef, ceiling = None, best, safe, math.inf
                continue
            step = _shorter(best, point, step, reach)
            if np.max(np.abs(step), initial=0.0) < 1e-14:
                break
            coef = best.coef + step
            continue
        noise = max(noise, 1e-15 * abs(point.value))
        best, newton = point, direction(objective, point)
        if newton is None or not np.isfinite(newton).all() or _vanishing(objective, point, newton, n_rows):
            break
        aim = _aim(objective, pilot, point, newton, n_rows, reach, tol, last, here)
        here = None
        if verbose:
            left = aim.now if aim.end is None else aim.left
            progress.step(f"sweep {n_iter}", point.moments.deviance, left, tol)
        if aim.end is not None:
            return Fit(objective, aim.end, aim.step, aim.left, n_iter, True, null_end)
        coef, step, last = point.coef + aim.step, aim.step, aim.now
        if separated is not None and separated(point, aim.runs_away):
            break
    newton = None if best is None else direction(objective, best)
    if newton is None:
        return Fit(objective, point if best is None else best, step, math.inf, n_iter, False, null_end)
    now = distance_of(objective, newton, standard_errors(objective, best, n_rows, True), best.coef)
    return Fit(objective, best, newton, now, n_iter, False, null_end)


def _settled(null, data, coef, n_rows):
    """The null model's coefficients after sweeps of its own, which read no column; None where there is none."""
    last = math.inf
    for _ in range(10 if null is not None else 0):
        point = null.evaluate(data, coef)
        step = direction(null, point) if point.usable and point.value <= last else None
        if step is None or not -point.gradient @ step > 1e-4 * dispersion(null.model, point, n_rows):
            break
        coef, last = coef + step, point.value
    return coef


def _retreat(coef, safe, point):
    """The safe start where the objective is above its ceiling, halfway to it from outside the domain; None there."""
    if safe is None or np.max(np.abs(coef - safe), initial=0.0) <= 1e-12:
        return coef if point.usable else None
    return safe + 0.5 * (coef - safe) if point.moments.n_invalid else safe


def _shorter(best, trial, step, reach):
    """The rejected step cut to the minimum of both ends' cubic (Nocedal & Wright 2006, equation 3.59), or to 0.3.

    Where means grew exponentially with the step, value ~ A exp(R share): cut to where that part is e^-5 of the
    last value. R is slope / value at the step's end, or the reach where the slope overflowed.
    """
    folds = math.log(trial.value) - math.log(best.value) if trial.value > 0.0 and best.value > 0.0 else 0.0
    if folds > EXPLODED and not trial.moments.n_invalid:
        rate = trial.gradient @ step / trial.value if trial.usable else math.inf if reach is None else reach.bound(step)
        end = 1.0 - (folds + 5.0) / rate if folds < math.inf else 20.0 / rate
        return min(max(end, 2e-3), 0.7) * step
    share = 0.3
    if trial.usable:
        down, up = best.gradient @ step, trial.gradient @ step
        mixed = down + up - 3.0 * (trial.value - best.value)
        root = mixed * mixed - down * up
        if root >= 0.0:
            top = math.sqrt(root)
            share = 1.0 - (up + top - mixed) / max(up - down + 2.0 * top, 1e-300)
    return min(max(share, 0.05), 0.7) * step


def _vanishing(objective, point, newton, n_rows):
    """Whether the information is singular although nothing is left to gain: the likelihood is flat at infinity."""
    if not objective.penalty.is_smooth or -point.gradient @ newton >= 1e-6 * dispersion(objective.model, point, n_rows):
        return False
    return point.by_curvature.solve(point.gradient) is None


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a sweep decides.

    Attributes
    ----------
    step : (k,) array
        To take from here.
    end : Point or None
        The certified end of the fit; None: sweep again.
    left, now : float
        Standard errors from the optimum, bounded at `end` and measured before the step.
    runs_away : bool
        Steps shrink slowly in standard errors and not in linear predictors, as where the rows are separated.
    """

    step: np.ndarray
    end: object
    left: float
    now: float
    runs_away: bool = False


def _aim(objective, pilot, point, newton, n_rows, reach, tol, last, here=None):
    """Step, certificate and moments at the end, as the module's docstring says."""
    errors = standard_errors(objective, point, n_rows, least=True)
    now = distance_of(objective, newton, errors, point.coef)
    if objective.model.is_linear:
        end = _taylor(objective, point, newton)
        rest = direction(objective, end)
        left = math.inf if rest is None else distance_of(objective, rest, errors, end.coef)
        if now > tol and not math.isfinite(last):          # from the second sweep on, steps are short
            share = math.sqrt(end.moments.deviance / point.moments.deviance) if point.moments.deviance > 0.0 else 0.0
            length = distance_of(objective, newton, share * errors, point.coef)
            left = max(left, length * DIGITS * condition(point.hessian))
        exact = end.moments.deviance > CANCELLED * point.moments.deviance or now <= tol
        exact = exact or 0.5 * last <= now < math.inf          # a second exact step as long as the first is rounding
        return Aim(newton, end if left <= tol and exact else None, left, now)
    left, carried, moved = _bounds(objective, None, point, newton, newton, None, math.inf, errors, reach)
    if left <= tol and carried <= CARRIED:          # proved without the pilot
        return Aim(newton, _taylor(objective, point, newton), min(left, now), now)
    step, here, delta = _bent(objective, pilot, point, newton, tol, here)
    left, carried, moved = _bounds(objective, pilot, point, newton, step, here, delta, errors, reach)
    if left <= tol and carried <= CARRIED:
        end = _taylor(objective, point, step) if here is None else _carry(objective, pilot, point, here, step)
        if end is not None:
            return Aim(step, end, min(left, now), now)
    measured = now <= tol and (reach is None or moved <= CARRIED)
    rounding = 0.5 * last <= now < FLOOR and (reach is None or moved <= STILL)          # no sweep brings it nearer
    if measured or rounding:
        return Aim(newton, point, now, now)
    return Aim(step, None, left, now, now <= STILL < moved < math.inf and now >= 0.3 * last)


def _bent(objective, pilot, point, newton, tol, here=None):
    """The step, the pilot's point behind it (None: it is Newton's) and the pilot's disagreement with the data."""
    if pilot is None or not objective.penalty.is_smooth:
        return newton, None, math.inf
    if here is None or np.any(here.coef != point.coef):
        here = objective.evaluate(pilot, point.coef)
    delta = certificate.disagreement(here, point)
    bent = surrogate_step(objective, pilot, point, here, newton, tol) if delta <= BELIEVED else None
    return (newton, None, delta) if bent is None else (bent, here, delta)


def _bounds(objective, pilot, point, newton, step, here, delta, errors, reach):
    """Bounds of the distance left after the step, in standard errors of the worst coefficient, and of the relative
    error of informations carried to its end; and the reach of the step, in e-folds of the working weights."""
    if reach is None:
        return math.inf, math.inf, math.inf
    left, carried, steep = math.inf, math.inf, 1.0
    if not objective.model.is_steady and pilot is not None:
        steep = certificate.steepness(objective, pilot, point.coef)
    bend, worst, R = step - newton, certificate.worst_ratio(objective, point, errors), steep * reach.bound(step)
    size = math.sqrt(max(step @ point.hessian @ step, 0.0))
    if objective.model.is_steady and R < certificate.LONGEST:
        lost = math.sqrt(max(bend @ point.hessian @ bend, 0.0))
        left, carried = worst * math.exp(R) * (lost + certificate.psi(R) * size), R
    if here is not None:
        moved = steep * reach.estimate(step, pilot, objective.basis)
        believed = distance_of(objective, bend, errors, point.coef) + worst * delta * certificate.psi(moved) * size
        left, carried = min(left, believed), min(carried, delta * moved)
    return left, carried, R


def _taylor(objective, point, step):
    """The objective's quadratic model at the end of a step; its informations stay those of the sweep."""
    if step is None:
        return point
    m = point.moments
    moments = dataclasses.replace(m, score=m.score - m.observed @ step,
                                  deviance=max(m.deviance - 2 * m.score @ step + step @ m.observed @ step, 0.0))
    if objective.model.is_linear:
        moments = dataclasses.replace(moments, pearson=moments.deviance)
    return objective.point(point.coef + step, moments).factored_as(point)
