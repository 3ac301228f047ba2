"""The rounds: a sweep gives the exact score at b, a certificate of b and the next b; deviance damps the steps."""

import dataclasses
import math

import numpy as np

from daskglm_rep import passes, progress
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.representatives import mean_rows
from daskglm_rep.kernels.rows import inside, working_rows
from daskglm_rep.objective import inverse
from daskglm_rep.representatives import surrogate
from daskglm_rep.representatives.score_matching import MAX_RADIUS, response_aided, score_block, score_matched
from daskglm_rep.representatives.surrogate import Points

METHODS = ("mean", "median", "midpoint", "score-matching", "response-aided", "corrected", "moment-matched")
SPLITS = {"score-matching": "eta", "response-aided": "residual"}
ITERATED = ("score-matching", "response-aided", "corrected", "moment-matched")
AUTO_ROUNDS = 25


@dataclasses.dataclass(frozen=True)
class ExactScore:
    """Score (q,); deviance, Pearson chi-squared, sum of working weights, invalid rows (4,); what each block sent."""

    score: np.ndarray
    totals: np.ndarray
    sent: tuple

    def merge(self, other):
        return ExactScore(self.score + other.score, self.totals + other.totals, self.sent + other.sent)


def exact_score(block, model, basis, coef):
    """Score and totals of a block: all that leaves it in a round of the surrogate methods."""
    score, totals, weight = np.zeros(basis.n_coef), np.zeros(3), 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for rows, Z in tiles(block.X, basis):
            eta = Z @ coef + block.offset[rows]
            residual, expected, _ = working_rows(model, eta, block.y[rows], block.weight[rows], totals)
            score += Z.T @ residual
            weight += expected.sum()
    sent = ((block.index, 1, score.nbytes + 32, 0.0),)
    return ExactScore(score, np.r_[totals[:2], weight, totals[2]], sent)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One exact evaluation: where, the score there, the totals of the rows, and the certificate.

    Attributes
    ----------
    coef, score : (q,) array
    deviance, pearson, weight : float
    information : (q, q) array
        Of the collected points, expected.
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
    sent : list of (round, what, tuples)
    converged : bool
    exact : Sweep or None
        The last that counted: `best` itself, unless it was moved on without a certificate.
    """

    best: Sweep
    representatives: object
    history: list
    sent: list
    converged: bool
    exact: Sweep


class Rounds:
    """The loop of one method.

    Parameters
    ----------
    data, plan, collection, model
        What is fitted, in the collection's basis.
    row_model : models.glm.GLM
        The same model for the rows, whose responses may allow a cheaper twin.
    method : str
        One of `ITERATED`, or any other for a single certified sweep.
    n_rows : float
        For the dispersion.
    null_dispersion : float
        The constant model's. A bad start has a huge dispersion, that would shorten distances in standard errors: they
        are measured with the least seen.
    tol : float
        Standard errors.
    max_radius : float
        Of score-matching representatives.
    verbose : int
        Above 0 each round prints a line.
    """

    def __init__(self, data, plan, collection, model, row_model, method, n_rows, tol, max_radius=MAX_RADIUS,
                 null_dispersion=math.inf, verbose=0):
        self.data, self.plan, self.collection, self.model, self.row_model = data, plan, collection, model, row_model
        self.method, self.n_rows, self.tol, self.max_radius, self.verbose = method, n_rows, tol, max_radius, verbose
        self.dispersion = null_dispersion
        self.points = Points(*collection.points())
        self.means = Points(*collection.points(False))
        null = surrogate.constant(collection, model)
        self.null_weight = 0.0 if null is None else self.means.working_weight(model, null)
        self.history, self.sent, self.past = [], [], []
        self.representatives = None
        self.best = None

    def run(self, coef, n_rounds, certify=True):
        """From `coef`, at most `n_rounds` rounds, and a last sweep that certifies where they led.

        1. Sweep at b: exact score, deviance, certificate. Below `tol`: stop.
        2. Deviance above the best so far: go back to a cubic's minimum between the two.
        3. Else the method's next b: representatives fitted anew, or a step on the surrogate.
        """
        for number in range(n_rounds + 1):
            if number == n_rounds and not certify:
                break
            sweep = self._sweep(coef)
            worse = self.best is not None and not sweep.deviance <= self.best.deviance + 1e-9 * abs(self.best.deviance)
            self._record(number, sweep, worse)
            if worse:
                coef = self._back(sweep)
                continue
            self.best = sweep
            if sweep.distance <= self.tol or number == n_rounds:
                break
            coef = self._next(sweep)
        done = self.best is not None and self.best.distance <= self.tol
        best = exact = self.best
        if not (certify or done or best is None):
            best = self._moved(best, coef)
        return Outcome(best, self.representatives, self.history, self.sent, done, exact)

    def _sweep(self, coef):
        split = SPLITS.get(self.method)
        basis, parts = self.collection.basis, None
        if split is None:
            found = passes.run(exact_score, self.data, self.row_model, basis, coef)
            score = found.score
        else:
            found = parts = passes.run(score_block, self.data, self.plan, self.row_model, self._extended(coef), split)
            score = parts.sums[:, -(basis.n_coef + self.collection.has_offset):].sum(axis=0)[:basis.n_coef]
        self.sent.append((len(self.sent) + 1, "scores" if split is None else "score sums of parts", found.sent))
        deviance, pearson, weight, invalid = found.totals
        if invalid or not np.isfinite(deviance):
            return Sweep(coef, score, math.inf, math.nan, math.nan, None, math.inf, parts)
        information = self.points.information(mean_rows(self.model, self.points.eta(coef))[2])
        at_points = self.points.working_weight(self.model, coef) if inside(self.model, self.points.eta(coef)) \
            else math.nan
        away = surrogate.certificate(basis, information, score, self._dispersion(pearson), at_points, weight,
                                     self.null_weight)
        return Sweep(coef, score, float(deviance), float(pearson), float(weight), information, away, parts)

    def _extended(self, coef):
        return np.r_[coef, 1.0] if self.collection.has_offset else coef

    def _dispersion(self, pearson):
        if self.model.dispersion_known:
            return 1.0
        self.dispersion = min(self.dispersion, pearson / max(self.n_rows - self.collection.basis.n_coef, 1.0))
        return self.dispersion

    def _moved(self, best, coef):
        """The last sweep carried on to coefficients that no sweep has seen: estimated deviance, unknown distance."""
        change = -2.0 * surrogate.Equation(self.collection, self.model).corrected(best.coef, best.score).gain(
            best.coef, coef)
        eta = self.points.eta(coef)
        information = best.information if not inside(self.model, eta) else self.points.information(
            mean_rows(self.model, eta)[2])
        return dataclasses.replace(best, coef=coef, deviance=best.deviance + change, pearson=best.pearson + change,
                                   information=information, distance=math.nan)

    def _record(self, number, sweep, worse):
        moved = math.nan
        if self.history and sweep.information is not None:
            moved = surrogate.distance(self.collection.basis, sweep.coef - self.history[-1]["coef"],
                                       inverse(sweep.information), self._dispersion(sweep.pearson))
        built = self.representatives
        self.history.append({"round": number, "distance": math.inf if worse else sweep.distance,
                             "deviance": sweep.deviance,
                             "step": moved, "bytes": sum(s[2] for s in self.sent[-1][2]),
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

    def _next(self, sweep):
        if self.method in SPLITS:
            return self._refit(sweep)
        points = self.points if self.method == "moment-matched" else self.means
        curvature = self._secants(sweep) if self.method == "moment-matched" else None
        return surrogate.step(points, self.model, sweep.coef, sweep.score, curvature)

    def _refit(self, sweep):
        if self.method == "score-matching":
            built = score_matched(sweep.parts, self.model, self.max_radius)
        else:
            built = response_aided(sweep.parts, self.model, self._extended(sweep.coef))
        self.representatives = built
        q = self.collection.basis.n_coef
        offset = built.Z[:, q] if self.collection.has_offset else np.zeros(len(built.Z))
        points = Points(built.weight, np.ascontiguousarray(built.Z[:, :q]), offset)
        coef = surrogate.fit_weighted(points, built.y, self.model, sweep.coef)
        return sweep.coef if coef is None else coef

    def _secants(self, sweep):
        """Curvature that explains how the exact scores of past rounds differ from the points'."""
        if not math.isfinite(sweep.distance):
            return None
        self.past.append((sweep.coef, sweep.score))
        mu = mean_rows(self.model, self.points.eta(sweep.coef))[0]
        errors = []
        for coef, score in self.past:
            mu_past, nu, _ = mean_rows(self.model, self.points.eta(coef))
            errors.append(score - self.points.score(nu * (mu - mu_past)))
        return surrogate.secants([c for c, _ in self.past], errors, sweep.information)
