"""What solvers see of a penalty: a smooth part, whose derivatives join the objective's, and for some one with corners.

That part has thresholds (`prox`), a subdifferential (`residual`) and minima of quadratic models (`minimise`). It is of
coefficients in the basis of a fit, times the sum of weights; those of several classes are the symmetric ones, class by
class: `model.symmetry` takes them to the model's.
"""

import dataclasses

import numpy as np
from scipy import linalg

from daskglm_rep.kernels.coordinate_descent import (by_signs, descend, shrunk, shrunk_group, size_of, sizes, slopes,
                                                    solve_well, spectrum_of)
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
class OfContrasts(Ridge):
    """What contrasts of classes keep of a penalty with corners of symmetric coefficients: its smooth part.

    Parameters
    ----------
    loose : (k,) bool array
        Which have no penalty at all.
    """

    loose: np.ndarray = None

    def free(self, n_coef):
        return self.loose


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

    def bend(self, coef):
        """Second derivative of the part with corners where it has one, (k, k) array."""
        raise NotImplementedError

    def settle(self, hessian, gradient, coef, target):
        """Newton's method on the coefficients that are not zero, cut until it lowers the residual or the objective."""

        def look(b):
            d = b - coef
            at = gradient + hessian @ d
            return self.residual(b, at), 0.5 * d @ (gradient + at) + self.corners(b)

        residual, value = look(target)
        for _ in range(20):
            on = np.flatnonzero((target != 0.0) | (self.alpha == 0.0))
            move, share = solve_well((hessian + self.bend(target))[np.ix_(on, on)], -residual[on]), 1.0
            while move is not None and share > 1e-3:
                step = np.zeros_like(target)
                step[on] = share * move
                trial = self.landed(target, step)
                left, there = look(trial)
                nearer = size_of(left) < size_of(residual) and not self._turned(target, trial)
                if nearer or there < value + 1e-4 * share * residual[on] @ move:
                    break
                share *= 0.5
            else:
                return target
            target, residual, value = trial, left, there
        return target

    def landed(self, target, step):
        """The end of a step, or where it first leads through a group's least norm, that group at zero."""
        return target + step

    def _turned(self, target, trial):
        return bool((np.sign(trial) != np.sign(target))[self.alpha > 0.0].any())


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

    def bend(self, coef):
        """By differences of the slopes, which are piecewise linear mostly; 0 at corners and of absolute values."""
        if type(self.shape) is Shape:
            return 0.0
        wide = self._slopes(coef * (1.0 + 1e-6)) - self._slopes(coef * (1.0 - 1e-6))
        return np.diag(np.where(coef != 0.0, wide / np.where(coef != 0.0, 2e-6 * np.abs(coef), 1.0), 0.0))

    def minimise(self, hessian, gradient, coef):
        """Coordinate descent until the signs are nearly right, then an active-set method that ends exactly; more of the
        first where that fails (columns that others determine, penalties that are not convex)."""
        target = np.array(coef, float)
        scale = max(size_of(np.diag(hessian)), 1e-300) * max(size_of(coef) ** 2, 1e-6)
        for tol, sweeps in ((1e-12, 200), (1e-16, 1000), (SETTLED, 1000), (SETTLED, 5000), (SETTLED, 20_000)):
            at = gradient + hessian @ (target - coef)
            descend(self.shape, hessian, at, target, self.unit, self.alpha, self.total, tol * scale, sweeps)
            target = self.settle(hessian, gradient, coef, target)
            if type(self.shape) is Shape:
                target = by_signs(hessian, gradient, coef, target, self.absolute)
            at = gradient + hessian @ (target - coef)
            if size_of(self.residual(target, at)) <= _rounding(hessian, gradient, target, coef):
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
            spectrum = 1.0 / s, np.eye(s.size)
            out[where] = shrunk_group(spectrum, self.unit[where] * coef[where] / s, w) / self.unit[where]
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
        groups = []
        for where, w in self._groups():
            H = hessian[np.ix_(where, where)] / np.outer(self.unit[where], self.unit[where])
            groups.append((where, w, H, spectrum_of(H)))
        scale = max(float(np.abs(gradient).max(initial=0.0)), 1e-300)
        for sweep in range(1, 1000):
            before, whole = target.copy(), sweep % 5 == 1
            if free.size:
                change = np.linalg.pinv(hessian[np.ix_(free, free)], hermitian=True) @ -at[free]
                target[free], at = target[free] + change, at + hessian[:, free] @ change
            for where, w, H, spectrum in groups:
                unit, old = self.unit[where], target[where]
                if not (whole or old.any()):
                    continue
                target[where] = shrunk_group(spectrum, H @ (unit * old) - at[where] / unit, w) / unit
                at = at + hessian[:, where] @ (target[where] - old)
            moved = np.abs(hessian @ (target - before)).max(initial=0.0)
            if whole and moved <= 1e-14 * scale:
                break
            if sweep % 10 == 0 or moved <= 1e-7 * scale:
                target = self.settle(hessian, gradient, coef, target)
                at = gradient + hessian @ (target - coef)
                if size_of(self.residual(target, at)) <= _rounding(hessian, gradient, target, coef):
                    break
        return target

    def landed(self, target, step):
        t, move = self.unit * target, self.unit * step
        shares = [(-(t[where] @ move[where]) / (move[where] @ move[where]), where) for where, _ in self._groups()
                  if t[where] @ move[where] < 0.0]
        share, where = min(shares, key=lambda pair: pair[0], default=(1.0, None))
        end = target + min(share, 1.0) * step
        if share < 1.0:
            end[where] = 0.0
        return end

    def _turned(self, target, trial):
        return False                                          # `landed` saw to it

    def bend(self, coef):
        """Of the norms of the groups that are not zero."""
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


def _rounding(hessian, gradient, target, coef):
    """What a quadratic's gradient at `target` may be off by."""
    return 1e-13 * size_of(gradient) + 1e-15 * size_of(np.abs(hessian) @ (np.abs(target) + np.abs(coef)))
