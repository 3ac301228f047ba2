"""What solvers see of a penalty: a smooth part, whose derivatives join the objective's, and for some one with corners.

That part has thresholds (`prox`), a subdifferential (`residual`) and minima of quadratic models (`minimise`). It is of
coefficients in the basis of a fit, times the sum of weights; those of several classes are the symmetric ones, class by
class: `model.symmetry` takes them to the model's.
"""

import dataclasses
import math

import numpy as np
from scipy import linalg

from daskglm_rep.kernels.coordinate_descent import descend, shrunk, sizes, slopes
from daskglm_rep.shapes import LASSO, Shape

SETTLED = 1e-26         # share of the objective's scale that a sweep of coordinate descent may still promise


@dataclasses.dataclass(frozen=True)
class Penalty:
    """No penalty, and the interface of all: false where nothing is penalised."""

    matrix = None
    is_smooth = True

    def __bool__(self):
        return False

    def value(self, coef):
        """Of the whole penalty."""
        return 0.0

    def gradient(self, coef):
        """Of its smooth part, (k,)."""
        return 0.0

    def add_curvature(self, information):
        """A (k, k) information or Hessian with the smooth part's second derivative added; None stays None."""
        return information if information is None or self.matrix is None else information + self.matrix

    def rise(self, coef, step):
        """Change of the part with corners along a step."""
        return 0.0

    def free(self, n_coef):
        """Which of a model's coefficients are not penalised, (k,) bool array."""
        return np.ones(n_coef, bool)

    def with_ridge(self, matrix):
        """This penalty with another smooth part."""
        return Ridge(matrix)


NONE = Penalty()


@dataclasses.dataclass(frozen=True)
class Ridge(Penalty):
    """coef' matrix coef / 2.

    Parameters
    ----------
    matrix : (k, k) array, positive semidefinite
    """

    matrix: np.ndarray = None

    def __bool__(self):
        return True

    def value(self, coef):
        return 0.5 * coef @ self.matrix @ coef

    def gradient(self, coef):
        return self.matrix @ coef

    def free(self, n_coef):
        return np.diag(self.matrix) == 0.0


@dataclasses.dataclass(frozen=True)
class Corners(Penalty):
    """What penalties that set coefficients to zero have; `coef` is (m q,): m classes of q coefficients of the basis.

    Parameters
    ----------
    unit : (k,) array
        t = unit * coef is what is penalised.
    alpha : (k,) array
        Strengths of the part with corners in units of t; 0 for free coefficients.
    total : float
        Sum of weights.
    ridge : (k,) array
        The smooth part is sum ridge coef^2 / 2.
    strength : float
        alpha as the user gave it.
    """

    unit: np.ndarray
    alpha: np.ndarray
    total: float
    ridge: np.ndarray
    strength: float

    def __bool__(self):
        return True

    @property
    def is_smooth(self):
        return not self.alpha.any()

    @property
    def matrix(self):
        """The smooth part's second derivative, (k, k) array."""
        return np.diag(self.ridge)

    def value(self, coef):
        return 0.5 * float(self.ridge @ (coef * coef)) + self.corners(coef)

    def gradient(self, coef):
        return self.ridge * coef

    def add_curvature(self, information):
        return information if information is None else information + self.matrix

    def rise(self, coef, step):
        return self.corners(coef + step) - self.corners(coef)

    @property
    def loose(self):
        """Coefficients without any penalty, (k,) bool array."""
        return (self.alpha == 0.0) & (self.ridge == 0.0)

    def free(self, n_coef):
        return np.resize(self.loose, n_coef)                  # classes are alike

    def corners(self, coef):
        """Value of the part with corners."""
        raise NotImplementedError

    def prox(self, coef, step):
        """argmin_b corners(b) + |b - coef|^2 / (2 step), (k,) array."""
        raise NotImplementedError

    def residual(self, coef, gradient):
        """The least element of the subdifferential, given the gradient of all that is smooth, (k,) array."""
        raise NotImplementedError

    def entry(self, gradient):
        """The multiple of alpha from which on coefficients of 0 stay there, given the gradient at 0."""
        raise NotImplementedError

    def minimise(self, hessian, gradient, coef):
        """Minimum of the quadratic model with this penalty, whose smooth part is in the model, (k,) array."""
        raise NotImplementedError

    def whole(self, marked):
        """Marked coefficients and those that belong to them, (k,) bool arrays."""
        return marked

    def keep(self, which):
        """The penalty of a subset of coefficients; groups must stay whole."""
        return dataclasses.replace(self, unit=self.unit[which], alpha=self.alpha[which], ridge=self.ridge[which])

    def scaled(self, multiple):
        """The part with corners at a multiple of alpha."""
        return dataclasses.replace(self, alpha=multiple * self.alpha)

    def _settle(self, hessian, gradient, coef, target, bend):
        """Newton's method on the coefficients that are not zero, while it lowers the residual and keeps the signs."""
        residual = self.residual(target, gradient + hessian @ (target - coef))
        for _ in range(20):
            on = np.flatnonzero((target != 0.0) | (self.alpha == 0.0))
            trial, move = target.copy(), _solve((hessian + bend(target))[np.ix_(on, on)], -residual[on])
            if move is None:
                return target
            trial[on] += move
            left = self.residual(trial, gradient + hessian @ (trial - coef))
            turned = (np.sign(trial) != np.sign(target)) & (self.alpha > 0.0)
            if turned.any() or not np.abs(left).max(initial=0.0) < np.abs(residual).max(initial=0.0):
                return target
            target, residual = trial, left
        return target


@dataclasses.dataclass(frozen=True)
class ElasticNet(Corners):
    """total * sum shape.penalty(unit |coef|, alpha) + sum ridge coef^2 / 2.

    Parameters
    ----------
    shape : Shape
    """

    shape: Shape = LASSO

    @property
    def absolute(self):
        """Thresholds at 0: the weights of |coef| of a lasso, (k,) array."""
        return self._slopes(np.zeros_like(self.unit))

    def corners(self, coef):
        return float(sizes(self.shape, coef, self.unit, self.alpha, self.total).sum())

    def prox(self, coef, step):
        return shrunk(self.shape, coef, self.unit, self.alpha, self.total, step)

    def _slopes(self, coef):
        return slopes(self.shape, coef, self.unit, self.alpha, self.total)

    def residual(self, coef, gradient):
        slope = self._slopes(coef)
        at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - slope, 0.0)
        return np.where(coef != 0.0, gradient + slope * np.sign(coef), at_zero)

    def entry(self, gradient):
        slope = self.absolute
        return float(np.max(np.abs(gradient[slope > 0.0]) / slope[slope > 0.0], initial=0.0))

    def minimise(self, hessian, gradient, coef):
        target, at = np.array(coef, float), np.array(gradient, float)
        scale = max(float(np.abs(np.diag(hessian)).max(initial=0.0)), 1e-300)
        scale *= max(float(np.abs(coef).max(initial=0.0)) ** 2, 1e-6)
        convex = type(self.shape) is Shape
        for tol in (1e-14, 1e-18, SETTLED) if convex else (SETTLED,):
            descend(self.shape, hessian, at, target, self.unit, self.alpha, self.total, tol * scale,
                    100_000 if tol == SETTLED else 1000)
            if convex:
                target = self._settle(hessian, gradient, coef, target, lambda b: 0.0)
            at = gradient + hessian @ (target - coef)
            if np.abs(self.residual(target, at)).max(initial=0.0) <= 1e-13 * np.abs(gradient).max(initial=0.0):
                break
        return target


@dataclasses.dataclass(frozen=True)
class Grouped(Corners):
    """sum_g total alpha_g |unit_g coef_g| + sum ridge coef^2 / 2.

    Parameters
    ----------
    group : (k,) int array
        Numbers of the groups; -1 for free coefficients.
    """

    group: np.ndarray = None

    def whole(self, marked):
        return marked | (self.group >= 0) & np.isin(self.group, self.group[marked])

    def _groups(self):
        """Positions and strength of each group."""
        for number in np.unique(self.group[self.group >= 0]):
            where = np.flatnonzero(self.group == number)
            yield where, self.total * self.alpha[where[0]]

    def corners(self, coef):
        return sum(w * float(linalg.norm((self.unit * coef)[where])) for where, w in self._groups())

    def prox(self, coef, step):
        out = np.array(coef, float)
        for where, w in self._groups():
            s = step * self.unit[where] ** 2
            out[where] = _shrunk_group(np.diag(1.0 / s), self.unit[where] * coef[where] / s, w) / self.unit[where]
        return out

    def residual(self, coef, gradient):
        out = np.array(gradient, float)
        for where, w in self._groups():
            t, g = self.unit[where] * coef[where], gradient[where] / self.unit[where]
            size, steep = linalg.norm(t), linalg.norm(g)
            left = g + w * t / size if size > 0.0 else g * max(1.0 - w / steep, 0.0) if steep > 0.0 else g
            out[where] = left * self.unit[where]
        return out

    def entry(self, gradient):
        return max((linalg.norm(gradient[where] / self.unit[where]) / w for where, w in self._groups()), default=0.0)

    def minimise(self, hessian, gradient, coef):
        """Block coordinate descent, each group's minimum exact; then Newton's method on the groups that stay."""
        target, at = np.array(coef, float), np.array(gradient, float)
        free = np.flatnonzero(self.group < 0)
        groups = [(where, w, np.outer(1.0 / self.unit[where], 1.0 / self.unit[where]) * hessian[np.ix_(where, where)])
                  for where, w in self._groups()]
        scale = max(float(np.abs(gradient).max(initial=0.0)), 1e-300)
        for sweep in range(10_000):
            before = target.copy()
            if free.size:
                change = linalg.lstsq(hessian[np.ix_(free, free)], -at[free])[0]
                target[free], at = target[free] + change, at + hessian[:, free] @ change
            for where, w, H in groups:
                unit, old = self.unit[where], target[where]
                target[where] = _shrunk_group(H, H @ (unit * old) - at[where] / unit, w) / unit
                at = at + hessian[:, where] @ (target[where] - old)
            moved = np.abs(hessian @ (target - before)).max(initial=0.0)
            if moved <= 1e-14 * scale:
                break
            if sweep % 20 == 19 or moved <= 1e-7 * scale:
                target = self._settle(hessian, gradient, coef, target, self._bend)
                at = gradient + hessian @ (target - coef)
                if np.abs(self.residual(target, at)).max(initial=0.0) <= 1e-13 * scale:
                    break
        return target

    def _bend(self, coef):
        """Second derivative of the norms of the groups that are not zero, (k, k) array."""
        bend = np.zeros((coef.size,) * 2)
        for where, w in self._groups():
            t, unit = self.unit[where] * coef[where], self.unit[where]
            size = linalg.norm(t)
            if size > 0.0:
                across = np.eye(t.size) - np.outer(t, t) / size ** 2
                bend[np.ix_(where, where)] = w / size * np.outer(unit, unit) * across
        return bend

    def keep(self, which):
        return dataclasses.replace(super().keep(which), group=self.group[which])


def _solve(matrix, vector):
    """matrix^-1 vector; None where the matrix is not well positive definite."""
    diagonal = np.diag(matrix)
    if not (diagonal > 0.0).all():
        return None
    s = 1.0 / np.sqrt(diagonal)
    try:
        factor = linalg.cho_factor(s[:, None] * matrix * s, lower=True)
    except (linalg.LinAlgError, ValueError):
        return None
    return s * linalg.cho_solve(factor, s * vector) if np.diag(factor[0]).min(initial=1.0) > 1e-6 else None


def _shrunk_group(H, c, weight):
    """argmin_t t'Ht / 2 - c't + weight |t|: t = (H + weight / r I)^-1 c, r = |t| the root of |t(r)| = r by bisection in
    the eigenbasis of H, polished by Newton's method."""
    if linalg.norm(c) <= weight:
        return np.zeros_like(c)
    values, Q = linalg.eigh(H)
    d, values = Q.T @ c, np.maximum(values, 0.0)

    def excess(r):
        return float(np.sum((d / (values * r + weight)) ** 2)) - 1.0

    high = linalg.norm(c) / max(values[values > 1e-12 * values.max(initial=0.0)].min(initial=math.inf), 1e-300)
    low = 0.0
    while excess(high) > 0.0 and high < 1e300:
        high *= 2.0
    r = 0.0
    for _ in range(200):
        if high - low <= 1e-15 * high:
            break
        slope = -2.0 * float(np.sum(d * d * values / (values * r + weight) ** 3))
        newton = r - excess(r) / slope if slope < 0.0 else math.nan
        r = newton if low < newton < high else 0.5 * (low + high)
        low, high = (r, high) if excess(r) > 0.0 else (low, r)
    return Q @ (d * r / (values * r + weight))
