"""Sweeps for the gradient alone, where a Hessian costs many of them: quasi-Newton steps that start from a pilot's.

BFGS (Nocedal & Wright 2006, equation 6.17) in unit steps: the first inverse Hessian, of m rows, k coefficients, has
eigenvalues that are off by about sqrt(k / m), the rate at which steps shrink. A full sweep follows where its Newton
step is expected to be so short that informations may be carried to its end.
"""

import math

import numpy as np

from daskglm_rep.solvers import certificate

WORTH = 1 / 8           # sweeps for the gradient alone, a coefficient, that cost two for the Hessian too
SLOW = 0.6              # ratio of two steps' lengths from which gradients are given up


def updated(A, moved, turned):
    """The BFGS update of an inverse Hessian by a step and the change of the gradient along it."""
    along = moved @ turned
    if not along > 0.0:
        return A
    left = A @ turned
    change = np.outer(moved * (0.5 * (along + turned @ left) / along ** 2) - left / along, moved)
    return A + change + change.T


def approach(objective, data, point, A, tol):
    """A `Point` nearer to the optimum of rows in memory, without Hessian.

    Parameters
    ----------
    point : Point
        Where to begin.
    A : (k, k) array
        About the inverse Hessian.
    tol : float
        Squared length of a step, in the norm of the Hessian, below which to stop.
    """
    last = math.inf
    while point.usable and np.isfinite(A).all():
        step = -A @ point.gradient
        size = -point.gradient @ step
        if not tol < size <= SLOW ** 2 * last:
            break
        trial = objective.evaluate(data, point.coef + step, informative=False)
        if not (trial.usable and trial.value <= point.value):
            break
        A = updated(A, step, trial.gradient - point.gradient)
        point, last = trial, size
    return point


def sweeps(objective, data, pilot, here, n_rows, reach, carried, max_iter, first=None):
    """Sweeps for gradients from a pilot's optimum to where one full sweep is expected to end the fit.

    Parameters
    ----------
    here : Point
        The pilot's objective at its optimum.
    n_rows : float
        Of the data.
    reach : certificate.Reach
    carried : float
        Largest relative change of informations that may be left unseen.
    max_iter : int
    first : Point, optional
        The objective there, where it is known.

    Returns
    -------
    coef : (k,) array
    n_iter : int
        Sweeps.
    """
    A, coef, last, n_iter = here.by_curvature.inverse, here.coef, None, 0
    if not (here.usable and np.isfinite(A).all()):
        return coef, 0
    unseen = _Unseen(objective, pilot, here, n_rows, reach)
    size, rate = math.inf, unseen.share
    for n_iter in range(1, max_iter):
        point, first = first or objective.evaluate(data, coef, informative=False), None
        if not (point.usable and (last is None or point.value <= last.value + 1e-11 * abs(last.value))):
            return coef if last is None else last.coef, n_iter
        if last is not None:
            A = updated(A, coef - last.coef, point.gradient - last.gradient)
        step = -A @ point.gradient
        previous, size = size, math.sqrt(max(-point.gradient @ step, 0.0))
        rate = rate if last is None else size / max(previous, 1e-300)
        pace = 0.5 * rate if last is None else rate          # updates halve what eigenvalues differ by
        if rate > SLOW:
            return coef, n_iter
        left = rate * unseen(step)
        last, coef = point, coef + step
        if left <= 0.7 * carried or math.log(left / carried) > -math.log(pace) * WORTH * coef.size:
            break
    return coef, n_iter


class _Unseen:
    """How much informations may change along a step unseen: by the columns' ranges, or as the certificate's belief in
    the pilot will have it where that is worth two Hessians of the pilot (or nothing can be proved)."""

    def __init__(self, objective, pilot, here, n_rows, reach):
        self.basis, self.pilot, self.reach = objective.basis, pilot, reach
        k, steady = here.coef.size, objective.model.is_steady
        m = sum(block.n_rows for block in pilot.chunks)
        self.share = 2.0 * math.sqrt(k / m) + k / m          # by which eigenvalues of random informations differ
        self.proves, self.believes = steady, not steady or k * (2 * m + 10 * k) < 20 * n_rows
        self.steep = 1.0 if steady else certificate.steepness(objective, pilot, here.coef)

    def __call__(self, step):
        least = self.reach.bound(step) if self.proves else math.inf
        if self.believes:
            least = min(least, 1.5 * self.share * self.steep * self.reach.estimate(step, self.pilot, self.basis))
        return least
