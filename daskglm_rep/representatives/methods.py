"""The methods, a small class each: where they start, what a round's sweep asks, and the next coefficients.

A method that rounds improve says `is_iterated`; `n_sketches` spread vectors a part are collected for its points, and
`is_refined` cuts parts until there are enough of them. A new one is a subclass here: it enters `METHODS` by its name.
"""

import math

import numpy as np

from daskglm_rep.kernels.representatives import mean_rows
from daskglm_rep.objective import solve
from daskglm_rep.representatives import surrogate
from daskglm_rep.representatives.collection import collect_block, medians
from daskglm_rep.representatives.local_fits import collect_and_fit
from daskglm_rep.representatives.score_matching import Representatives, response_aided, score_block, score_matched
from daskglm_rep.representatives.surrogate import Points

METHODS = {}             # name -> method
RECALIBRATED = 1.0       # standard errors from the optimum: from farther away the next information is exact again


class Method:
    """Block means, fitted once: Li & Yang's MR, and what all methods share."""

    name = "mean"
    is_iterated = is_refined = has_extremes = False
    n_sketches = 0
    parts, parts_per_coef = 1000, 100            # that a refined method cuts for, at least
    split = None

    def __init_subclass__(cls):
        METHODS[cls.name] = cls()

    def collect(self, data, plan, model, audit):
        """One sweep: merged `PartSums`, and `LocalFits` where the method wants them."""
        return audit.run(0, "collection", collect_block, data, plan), None

    def start(self, data, prepared, model, audit):
        """First estimates, of which the rows choose, and the representatives they are of.

        Returns
        -------
        coefs : list of (q,) arrays
        Representatives
        """
        c, Z = prepared.collection, self.rows(data, prepared, audit)
        q = c.basis.n_coef
        offset = np.ascontiguousarray(Z[:, q]) if c.has_offset else np.zeros(len(Z))
        points = Points(c.weight, np.ascontiguousarray(Z[:, :q]), offset)
        coef = surrogate.fit_weighted(points, c.mean_y, model)
        if coef is None or (model.always_valid and np.abs(points.eta(coef)).max(initial=0.0) > 2 * surrogate.WILD):
            coef = surrogate.first_estimate(c, model)
        return [coef], Representatives(c.weight, Z, c.mean_y)

    def rows(self, data, prepared, audit):
        """(K, d) columns of the representatives."""
        return prepared.collection.mean

    def sweep(self, rounds, coef):
        """The exact sweep of a round."""
        return rounds.informed(coef)

    def next(self, rounds, sweep):
        """The coefficients after it."""
        return sweep.coef


METHODS[Method.name] = Method()


class Median(Method):
    """Block medians, column by column."""

    name, has_extremes = "median", True

    def rows(self, data, prepared, audit):
        _needs_extremes(prepared.collection, self.name)
        return medians(data, prepared.plan, prepared.collection, audit)


class Midpoint(Method):
    """Middles of the grid's cells where the partition is a grid of all columns, else of the rows' boxes."""

    name, has_extremes = "midpoint", True

    def rows(self, data, prepared, audit):
        c, plan = prepared.collection, prepared.plan
        _needs_extremes(c, self.name)
        Z = 0.5 * (c.low + c.high)
        raw = plan.assigner.midpoints(c.keys)
        if raw is not None:
            first, k = int(plan.basis.intercept), plan.basis.columns.size
            Z[:, first:first + k] = (raw[:, plan.basis.columns] - plan.basis.center) / plan.basis.scale
        return Z


def _needs_extremes(collection, method):
    if not collection.low.shape[1]:
        raise ValueError(f"representative={method!r} needs the extremes of each block, which are values of single rows "
                         "and do not leave a guarded block: use min_block_size=1, or another representative.")


class ScoreMatching(Method):
    """Li & Yang's Algorithm 1, anew each round."""

    name, split, is_iterated, n_sketches = "score-matching", "eta", True, 2

    def sweep(self, rounds, coef):
        if rounds.plan.least > 1 and rounds.plan.split_at is None:
            rounds.freeze(coef)
        found = rounds.audit.run(rounds.number, "score sums of parts", score_block, rounds.data, rounds.plan,
                                 rounds.row_model, rounds.extended(coef), self.split)
        q = rounds.collection.basis.n_coef
        score = found.sums[:, -(q + rounds.collection.has_offset):].sum(axis=0)[:q]
        return rounds.certified(coef, score, found.totals, parts=found)

    def next(self, rounds, sweep):
        built = rounds.representatives = self.built(rounds, sweep)
        q = rounds.collection.basis.n_coef
        offset = built.Z[:, q] if rounds.collection.has_offset else np.zeros(len(built.Z))
        points = Points(built.weight, np.ascontiguousarray(built.Z[:, :q]), offset)
        coef = surrogate.fit_weighted(points, built.y, rounds.model, sweep.coef)
        return sweep.coef if coef is None else coef

    def built(self, rounds, sweep):
        """Representatives from the parts' score sums."""
        return score_matched(sweep.parts, rounds.model, rounds.max_radius)


class ResponseAided(ScoreMatching):
    """Blocks split by the sign of the residual."""

    name, split = "response-aided", "residual"

    def built(self, rounds, sweep):
        return response_aided(sweep.parts, rounds.model, rounds.extended(sweep.coef))


class Corrected(Method):
    """Mean representatives as a surrogate likelihood, corrected by the exact score."""

    name, is_iterated, n_sketches = "corrected", True, 2

    def sweep(self, rounds, coef):
        return rounds.score(coef)

    def next(self, rounds, sweep):
        return surrogate.step(rounds.means, rounds.model, sweep.coef, sweep.score)


class MomentMatched(Method):
    """Points at mean +- spread vectors, corrected by the exact score and by secants of past rounds."""

    name, is_iterated, is_refined, n_sketches = "moment-matched", True, True, 2

    def start(self, data, prepared, model, audit):
        c = prepared.collection
        points = Points(*c.points())
        repeated = np.tile(c.mean_y, len(points.weight) // len(c.mean_y))
        Z = np.column_stack([points.Z, points.offset]) if c.has_offset else points.Z
        return [surrogate.first_estimate(c, model)], Representatives(points.weight, Z, repeated)

    def sweep(self, rounds, coef):
        return rounds.score(coef)

    def next(self, rounds, sweep):
        return surrogate.step(rounds.points, rounds.model, sweep.coef, sweep.score, self.curvature(rounds, sweep))

    def curvature(self, rounds, sweep, known=None):
        """What past exact scores, and a known matrix, say of how the rows' curvature differs from the points'."""
        if not math.isfinite(sweep.distance):
            return None
        rounds.past.append((sweep.coef, sweep.score))
        mu, errors = mean_rows(rounds.model, rounds.points.eta(sweep.coef))[0], []
        for coef, score in rounds.past:
            mu_past, nu, _ = mean_rows(rounds.model, rounds.points.eta(coef))
            explained = 0.0 if known is None else known @ coef
            errors.append(score - rounds.points.score(nu * (mu - mu_past)) - explained)
        return surrogate.secants([c for c, _ in rounds.past], errors, sweep.information)


class Calibrated(MomentMatched):
    """The same with exact informations while far away, H(b) = H(b0) + H_points(b) - H_points(b0) thereafter."""

    name, n_sketches, parts, parts_per_coef = "calibrated", 4, 2500, 250

    def collect(self, data, plan, model, audit):
        pair = audit.run(0, "collection and the block's own fit", collect_and_fit, data, plan, model)
        return pair.first, pair.second

    def start(self, data, prepared, model, audit):
        coefs, shown = super().start(data, prepared, model, audit)
        mean = prepared.fits.mean() if prepared.kept.all() else None
        return coefs if mean is None else coefs + [mean], shown

    def sweep(self, rounds, coef):
        c, best = rounds.calibration, rounds.best
        near = c is not None and not c.strange and best is not None and best.distance <= RECALIBRATED
        return rounds.score(coef) if near else rounds.informed(coef)

    def next(self, rounds, sweep):
        c = rounds.calibration
        if c is None:
            return super().next(rounds, sweep)
        newton = solve(c.exact, sweep.score) if c.strange else None
        if newton is not None:
            return sweep.coef + newton
        known = -c.observed
        more = self.curvature(rounds, sweep, known)
        return surrogate.step(rounds.points, rounds.model, sweep.coef, sweep.score,
                              known if more is None else known + more)


ITERATED = tuple(name for name, method in METHODS.items() if method.is_iterated)
