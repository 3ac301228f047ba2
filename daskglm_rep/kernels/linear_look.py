"""The one sweep of a linear model: what a survey asks, and the sums of squares and products of its fit.

Half the deviance of a linear model is its own quadratic expansion at any coefficients c, a plane:

    D(c + d) = D - 2 S'd + d'G d,    S = Z'W r,    G = Z'W Z,    r = y - offset - Z c.

So every block may take a plane of its own, by least squares of some of its rows: residuals are small, and their squares
cancel no digits where those of y would. Sums around one plane are brought to another exactly, as those around one mean
are to another (Chan, Golub & LeVeque 1983, The American Statistician 37), and blocks merge.
"""

import dataclasses

import numpy as np
from scipy import linalg, sparse

from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.first_look import first_look
from daskglm_rep.kernels.gram import tile_gram
from daskglm_rep.kernels.survey import Pilot, spread, with_pilot
from daskglm_rep.summaries import Moments, Survey

ROWS = 500          # beside two a coefficient, that a plane is fitted to
DAMPING = 1e-8          # of the columns' squares: directions with less of their own are left at zero


@dataclasses.dataclass(frozen=True)
class Plane:
    """Where sums are taken: coefficients in the basis (1, x - center), which has no scale.

    Attributes
    ----------
    center : (p,) array
    coef : (q,) array
    """

    center: np.ndarray
    coef: np.ndarray

    def basis(self):
        return Basis(np.arange(self.center.size), self.center, np.ones(self.center.size),
                     self.coef.size > self.center.size)


@dataclasses.dataclass(frozen=True)
class LinearLook:
    """A `Survey`, and `Moments` of a linear model around a plane.

    Attributes
    ----------
    survey : Survey
    plane : Plane
    moments : Moments
    largest : float
        Deviances of the blocks, each the largest that it had around some plane: what rounding is relative to.
    """

    survey: Survey
    plane: Plane
    moments: Moments
    largest: float

    def merge(self, other):
        """Around the plane of the heavier of both: the lighter one's sums lose least by moving."""
        heavy, light = (self, other) if self.survey.response.weight >= other.survey.response.weight else (other, self)
        with np.errstate(invalid="ignore", over="ignore"):          # infinite values are told by the survey
            there = light.around(heavy.plane)
            largest = heavy.largest + max(light.largest, there.deviance)
            return LinearLook(self.survey.merge(other.survey), heavy.plane, heavy.moments.merge(there), largest)

    def around(self, plane):
        """The moments of the same rows around another plane."""
        if plane is self.plane:
            return self.moments
        shift, intercept = self.plane.center - plane.center, plane.coef.size - plane.center.size
        step = plane.coef - self.plane.coef
        if intercept:
            step[0] += shift @ plane.coef[1:]
        return recentred(moved(self.moments, step), np.r_[np.zeros(intercept), shift], np.ones(plane.coef.size))

    def joined(self):
        return dataclasses.replace(self, survey=self.survey.joined())

    def in_order(self, order):
        return dataclasses.replace(self, survey=self.survey.in_order(order))


def moved(moments, step):
    """`Moments` of a linear model after a step."""
    change = moments.expected @ step
    deviance = moments.deviance - 2.0 * moments.score @ step + step @ change
    return Moments(moments.score - change, moments.expected, moments.expected, deviance, deviance)


def recentred(moments, shift, scale):
    """`Moments` with (z + shift 1) / scale in the place of each column z; 1 is the first column where some moves."""
    if not shift.any():
        score, G = moments.score.copy(), moments.expected.copy()
    else:
        score, G = moments.score + shift * moments.score[0], moments.expected + np.outer(shift, moments.expected[0])
        G += np.outer(G[:, 0], shift)
    score, G = score / scale, G / np.outer(scale, scale)
    return Moments(score, G, G, moments.deviance, moments.pearson)


def without_columns(moments, coef, n):
    """The optimum of the first n coefficients, which do not overlap, without the others, and the `Moments` there."""
    bare = moved(moments, np.r_[np.zeros(n), -coef[n:]])
    rise = bare.score[:n] / np.diag(bare.expected)[:n]
    end = moved(bare, np.r_[rise, np.zeros(coef.size - n)])
    G, deviance = end.expected[:n, :n], max(end.deviance, 0.0)
    return coef[:n] + rise, Moments(end.score[:n], G, G, deviance, deviance)


def rows_of_plane(p):
    """How many rows a plane is fitted to."""
    return ROWS + 2 * (p + 1)


def plane_of(block, intercept):
    """`Plane` by least squares of some rows of a block; level where they are hardly more than the coefficients."""
    p, m = block.X.shape[1], rows_of_plane(block.X.shape[1])
    if block.n_rows > m:
        block = dataclasses.replace(block, extra={}).take(Pilot(m, 0.0, m, 0).rows(block.n_rows, block.index))
    columns, u, first = spread(block.X, block.weight), block.y - block.offset, int(intercept)
    with np.errstate(all="ignore"):          # rows that are no numbers are told by the survey
        center = columns.mean if intercept and not sparse.issparse(block.X) else np.zeros(p)
        scale = np.sqrt(columns.squares / columns.weight + (columns.mean - center) ** 2) if columns.weight else center
        scale = np.where(scale > 0, scale, 1.0)
        level = float(block.weight @ u) / columns.weight if intercept and columns.weight else 0.0
        coef = np.r_[[level] * first, np.zeros(p)]
        if block.n_rows > 2 * coef.size and columns.weight:
            Z = Basis(np.arange(p), center, scale, bool(intercept)).design(block.X)
            step = _damped(tile_gram(Z, block.weight), Z.T @ (block.weight * (u - level)))
            coef += step / np.r_[[1.0] * first, scale]
    if not (np.isfinite(center).all() and np.isfinite(coef).all()):
        return Plane(np.zeros(p), np.zeros(p + first))
    return Plane(center, coef)


def _damped(G, vector):
    """(G + a little of its diagonal)^-1 vector; zero where that is no solution."""
    G = G + np.diag(DAMPING * np.diag(G) + 1e-300)
    try:
        return linalg.cho_solve(linalg.cho_factor(G, lower=True, check_finite=False), vector, check_finite=False)
    except (linalg.LinAlgError, ValueError):
        return np.zeros(vector.size)


def linear_look(block, model, intercept, pilot, plane=None):
    """The sweep over a block.

    Parameters
    ----------
    block : Block
    model : models.glm.GLM
        A linear one.
    intercept : bool
    pilot : Pilot
    plane : Plane, optional
        Of all blocks; by default each takes its own.

    Returns
    -------
    LinearLook
        As of `first_look`, NaN and infinite values are not counted: they make the moments NaN.
    """
    plane = plane_of(block, intercept) if plane is None else plane
    both = first_look(block, model, plane.basis(), plane.coef, True, model.family)
    return LinearLook(with_pilot(both.second, block, pilot), plane, both.first, both.first.deviance)
