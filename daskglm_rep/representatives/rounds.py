"""The rounds: a sweep gives the exact score at b, a certificate of b and the next b; deviance damps the steps."""

import dataclasses
import math

import numpy as np
from scipy import linalg

from daskglm_rep import progress
from daskglm_rep.audit import Audit
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.representatives import mean_rows
from daskglm_rep.kernels.rows import inside, working_rows
from daskglm_rep.objective import inverse
from daskglm_rep.representatives import surrogate
from daskglm_rep.representatives.score_matching import MAX_RADIUS
from daskglm_rep.representatives.surrogate import Points
from daskglm_rep.solvers.polish import BELIEVED

AUTO_ROUNDS = 25
LEAP, VAGUE = 0.5, 9.0   # a step within a standard error that moves a point's linear predictor so far, or a variance of
                         # it: no neighbourhood of an optimum, the rows are separated


@dataclasses.dataclass(frozen=True)
class ExactScore:
    """Score (q,); deviance, Pearson chi-squared, sum of working weights, invalid rows (4,); lower triangles of the
    expected and, where it differs, the observed information, (0 or 1 or 2, q (q + 1) / 2)."""

    score: np.ndarray
    totals: np.ndarray
    triangles: np.ndarray

    def merge(self, other):
        return ExactScore(self.score + other.score, self.totals + other.totals, self.triangles + other.triangles)


def exact_score(block, model, basis, coef):
    """Score and totals of a block: all that leaves it in a round of the surrogate methods."""
    score, totals, weight = np.zeros(basis.n_coef), np.zeros(3), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, Z in tiles(block.X, basis):
            eta = Z @ coef + block.offset[rows]
            residual, expected, _ = working_rows(model, eta, block.y[rows], block.weight[rows], totals)
            score += Z.T @ residual
            weight += expected.sum()
    q = basis.n_coef
    return ExactScore(score, np.r_[totals[:2], weight, totals[2]], np.zeros((0, q * (q + 1) // 2)))


@dataclasses.dataclass(frozen=True)
class Each:
    """`ExactScore`s at several coefficient vectors."""

    each: tuple

    def merge(self, other):
        return Each(tuple(a.merge(b) for a, b in zip(self.each, other.each)))


def exact_informations(block, model, basis, coefs):
    """The same with the informations, at each of some coefficient vectors."""
    return Each(tuple(_exact_information(block, model, basis, coef) for coef in coefs))


def _exact_information(block, model, basis, coef):
    """q (q + 1) / 2 numbers more than a score, twice as many for links that are not canonical."""
    m, q = block_moments(block, model, basis, coef), basis.n_coef
    weight = m.expected[0, 0] if basis.intercept else math.nan
    kinds = (m.expected,) if m.observed is m.expected else (m.expected, m.observed)
    triangles = np.array([kind[np.tril_indices(q)] for kind in kinds])
    if not math.isfinite(m.deviance):
        return ExactScore(np.zeros(q), np.array([0.0, 0.0, 0.0, m.n_invalid]), np.zeros_like(triangles))
    return ExactScore(m.score, np.array([m.deviance, m.pearson, weight, m.n_invalid]), triangles)


def square(triangle, q):
    """The symmetric matrix of a lower triangle."""
    matrix = np.zeros((q, q))
    matrix[np.tril_indices(q)] = triangle
    return matrix + np.tril(matrix, -1).T


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One exact evaluation: where, the score there, the totals of the rows, and the certificate.

    Attributes
    ----------
    coef, score : (q,) array
    deviance, pearson, weight : float
    information : (q, q) array
        Expected: of the collected points, corrected by an exact one where there is one.
    distance : float
        To the maximum likelihood estimate, in standard errors.
    parts : PartSums or None
        Score sums of the parts, for methods that need them.
    """

    coef: np.ndarray
    score: np.ndarray
    deviance: float
    pearson: float
    weight: float
    information: np.ndarray
    distance: float
    parts: object


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Where the rounds ended.

    Attributes
    ----------
    best : Sweep
        Of least deviance.
    representatives : Representatives or None
        The last ones built at a coefficient vector.
    history : list of dict
        One a round.
    converged : bool
    exact : Sweep or None
        The last that counted: `best` itself, unless it was moved on without a certificate.
    calibration : Calibration or None
    """

    best: Sweep
    representatives: object
    history: list
    converged: bool
    exact: Sweep
    calibration: object = None


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What exact informations at one coefficient vector add to those of the points.

    Attributes
    ----------
    expected, observed : (q, q) array
        Exact less the points'.
    strange : bool
        Whether the points' information is so far from the exact one in some direction that their change of curvature is
        not to be believed.
    exact : (q, q) array
        The observed information itself.
    """

    expected: np.ndarray
    observed: np.ndarray
    strange: bool
    exact: np.ndarray


def _disagree(points, exact):
    """Whether two informations differ by more than `BELIEVED` in some direction."""
    try:
        ratio = linalg.eigh(points, exact, eigvals_only=True)
    except linalg.LinAlgError:
        return True
    return not (np.abs(ratio - 1.0) <= BELIEVED).all()


class Rounds:
    """The loop of one method.

    Parameters
    ----------
    data, plan, collection, model
        What is fitted, in the collection's basis.
    row_model : models.glm.GLM
        The same model for the rows, whose responses may allow a cheaper twin.
    method : methods.Method
    n_rows : float
        For the dispersion.
    null_dispersion : float
        The constant model's. A bad start has a huge dispersion, that would shorten distances in standard errors: they
        are measured with the least seen.
    tol : float
        Standard errors.
    max_radius : float
        Of score-matching representatives.
    audit : Audit, optional
    verbose : int
        Above 0 each round prints a line.
    """

    def __init__(self, data, plan, collection, model, row_model, method, n_rows, tol, max_radius=MAX_RADIUS,
                 null_dispersion=math.inf, audit=None, verbose=0):
        self.data, self.plan, self.collection, self.model, self.row_model = data, plan, collection, model, row_model
        self.method, self.n_rows, self.tol, self.max_radius, self.verbose = method, n_rows, tol, max_radius, verbose
        self.dispersion, self.audit = null_dispersion, audit or Audit()
        self.points = Points(*collection.points())
        self.means = Points(*collection.points(False))
        null = surrogate.constant(collection, model)
        self.null_weight = 0.0 if null is None else self.means.working_weight(model, null)
        self.history, self.past = [], []
        self.representatives = self.best = self.calibration = None

    def run(self, starts, n_rounds, certify=True):
        """From the best of some starts, at most `n_rounds` rounds, and a last sweep that certifies where they led.

        1. Sweep at b: exact score, deviance, certificate. Below `tol`: stop.
        2. Deviance above the best so far: go back to a cubic's minimum between the two.
        3. Else the method's next b: representatives fitted anew, or a step on the surrogate.
        """
        coef = starts[0]
        for number in range(n_rounds + 1):
            if number == n_rounds and not certify:
                break
            sweep = self.informed(*starts) if number == 0 and len(starts) > 1 else self.method.sweep(self, coef)
            coef = sweep.coef
            worse = self.best is not None and not sweep.deviance <= self.best.deviance + 1e-9 * abs(self.best.deviance)
            self._record(number, sweep, worse)
            if worse:
                coef = self._back(sweep)
                continue
            self.best = sweep
            if sweep.distance <= self.tol or number == n_rounds:
                break
            coef = self.method.next(self, sweep)
        done = self.best is not None and self.best.distance <= self.tol
        best = exact = self.best
        if not (certify or done or best is None):
            best = self.moved(best, coef)
        return Outcome(best, self.representatives, self.history, done, exact, self.calibration)

    @property
    def number(self):
        """Of the sweep to come, counted from 1."""
        return len(self.history) + 1

    def freeze(self, coef):
        """Under a guard: divide parts by these coefficients in every round."""
        self.plan = dataclasses.replace(self.plan, split_at=self.extended(coef))

    def score(self, coef):
        """A sweep for the exact score alone."""
        basis = self.collection.basis
        found = self.audit.run(self.number, "scores", exact_score, self.data, self.row_model, basis, coef)
        return self.certified(coef, found.score, found.totals)

    def informed(self, *coefs):
        """A sweep for the exact score and informations, which correct those of the points from here on; of several
        coefficients at those of least deviance."""
        q = self.collection.basis.n_coef
        several = self.audit.run(self.number, "scores and informations", exact_informations, self.data, self.row_model,
                                 self.collection.basis, coefs).each
        value = [math.inf if f.totals[3] or not math.isfinite(f.totals[0]) else f.totals[0] for f in several]
        best = int(np.argmin(value))
        found, coef = several[best], coefs[best]
        points = self._at_points(coef)
        if not found.totals[3] and points is not None:
            exact = [square(t, q) for t in found.triangles]
            strange = _disagree(points, exact[0])
            self.calibration = Calibration(exact[0] - points, exact[-1] - points, strange, exact[-1])
        return self.certified(coef, found.score, found.totals, points is not None)

    def certified(self, coef, score, totals, exact=False, parts=None):
        """A `Sweep`: what was found, and how far it is from the optimum."""
        deviance, pearson, weight, invalid = totals
        if invalid or not np.isfinite(deviance):
            return Sweep(coef, score, math.inf, math.nan, math.nan, None, math.inf, parts)
        information = self.information(coef)
        at_points = math.nan
        if exact:
            weight = at_points = 1.0 if math.isnan(weight) else weight
        elif self.calibration is not None and self.collection.basis.intercept:
            at_points = information[0, 0]
        elif inside(self.model, self.points.eta(coef)):
            at_points = self.points.working_weight(self.model, coef)
        away = surrogate.certificate(self.collection.basis, information, score, self._dispersion(pearson), at_points,
                                     weight, self.null_weight)
        return Sweep(coef, score, float(deviance), float(pearson), float(weight), information, away, parts)

    def _at_points(self, coef):
        eta = self.points.eta(coef)
        return self.points.information(mean_rows(self.model, eta)[2]) if inside(self.model, eta) else None

    def information(self, coef):
        """Of the points, corrected where that leaves it positive definite."""
        points = self.points.information(mean_rows(self.model, self.points.eta(coef))[2])
        if self.calibration is None:
            return points
        corrected = points + self.calibration.expected
        scale = np.sqrt(np.maximum(np.diag(corrected), 1e-300))
        return corrected if np.linalg.eigvalsh(corrected / np.outer(scale, scale))[0] > 1e-12 else points

    def extended(self, coef):
        return np.r_[coef, 1.0] if self.collection.has_offset else coef

    def _dispersion(self, pearson):
        if self.model.dispersion_known:
            return 1.0
        self.dispersion = min(self.dispersion, pearson / max(self.n_rows - self.collection.basis.n_coef, 1.0))
        return self.dispersion

    def moved(self, best, coef):
        """The last sweep carried on to coefficients that no sweep has seen: estimated deviance, unknown distance."""
        change = -2.0 * surrogate.Equation(self.collection, self.model).corrected(best.coef, best.score).gain(
            best.coef, coef)
        information = best.information if not inside(self.model, self.points.eta(coef)) else self.information(coef)
        return dataclasses.replace(best, coef=coef, deviance=best.deviance + change, pearson=best.pearson + change,
                                   information=information, distance=math.nan)

    def separated(self, sweep):
        """Numbers of the coefficients along which the likelihood still rises although steps are short in standard
        errors, or whose points' linear predictors nothing determines; empty where an optimum is near."""
        if sweep is None or not self.model.dispersion_known or sweep.information is None:
            return np.zeros(0, int)
        A = inverse(sweep.information)
        if not np.isfinite(A).all():
            return np.zeros(0, int)
        step, Z = A @ sweep.score, self.points.Z
        size = np.maximum(1.0, 0.05 * np.abs(self.points.eta(sweep.coef)))      # far points move far by little
        moved, vague = np.abs(Z @ step) / size, np.einsum("ij,jk,ik->i", Z, A, Z) / size ** 2
        if not (vague.max(initial=0.0) > VAGUE or moved.max(initial=0.0) > LEAP and sweep.distance <= 1.0):
            return np.zeros(0, int)
        first = int(self.collection.basis.intercept)
        size = np.abs(step[first:])
        return first + np.flatnonzero(size >= 0.5 * size.max()) if size.size else np.zeros(0, int)

    def _record(self, number, sweep, worse):
        moved = math.nan
        if self.history and sweep.information is not None:
            moved = surrogate.distance(self.collection.basis, sweep.coef - self.history[-1]["coef"],
                                       inverse(sweep.information), self._dispersion(sweep.pearson))
        built = self.representatives
        self.history.append({"round": number, "distance": math.inf if worse else sweep.distance,
                             "deviance": sweep.deviance,
                             "step": moved, "bytes": self.audit.bytes_of(number + 1),
                             "n_fallbacks": built.n_fallbacks if built is not None else 0,
                             "n_outside": built.n_outside if built is not None else 0,
                             "rejected": bool(worse), "coef": sweep.coef})
        if self.verbose:
            progress.step(f"round {number}", sweep.deviance, self.history[-1]["distance"], self.tol,
                          " (rejected)" if worse else "")

    def _back(self, worse):
        """Between the best b and a worse one: the minimum of the cubic with both ends' deviances and slopes."""
        best, move = self.best, worse.coef - self.best.coef
        share = 0.5
        if math.isfinite(worse.deviance):
            a, b = -2.0 * best.score @ move, -2.0 * worse.score @ move
            bend = a + b - 3.0 * (worse.deviance - best.deviance)
            root = bend * bend - a * b
            if root > 0:
                share = 1.0 - (b + math.sqrt(root) - bend) / (b - a + 2.0 * math.sqrt(root))
        return best.coef + min(max(share if math.isfinite(share) else 0.1, 0.02), 0.7) * move
