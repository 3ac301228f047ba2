"""Paths of generalized linear models in a handful of sweeps: folds and alphas advance together.

1. Survey, and the null model with its information, cell by cell of the splits.
2. The path is fitted to the pilot's rows in memory.
3. A sweep takes all its coefficient vectors at once: exact scores and deviances, cell by cell, and the information at
   the last. Hessians change slowly along a path: each fit's is mixed from its neighbours among these knots.
4. Steps: coordinate descent on each quadratic. Beside the score stands what the pilot says of the rest, g_p(b + d) -
   g_p(b) - H_p d with H_p mixed from the same knots: the third derivative, the error of mixing, and what the expected
   information lacks, up to the pilot's own sampling error.
5. Again from 3 until what the last contraction leaves of the step is below the tolerance.
6. Every split begins at the path of all rows, where its score is known by then, and advances as 3 to 5 say.

A step that does not lower its objective is halved. Steps that stop contracting get a knot of their own.
"""

import numpy as np

from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import passes, progress, schedulers
from daskglm_rep.kernels.folds import cell_moments, merge_cells
from daskglm_rep.kernels.many import Plan, many_moments, many_scores
from daskglm_rep.kernels.path_descent import quadratic_minima
from daskglm_rep.objective import in_memory, solve_damped
from daskglm_rep.solvers.joint_state import MOST_KNOTS, Fits, Knots
from daskglm_rep.solvers.path import Paths, Problem, check_cells, check_trains, grid, in_threads
from daskglm_rep.solvers.rows_path import curvature, dispersion_unit, null_fit, path_on_rows
from daskglm_rep.telling import tell

PILOT_TOL = 0.3          # of the pilot's fits, in their standard errors: far below its sampling error
PILOT_FITS = 20          # of a path; between them coefficients are interpolated
CONTRACTING = 0.3          # a step longer than this share of the last one asks for a knot
STALLED = 0.5          # and beyond this share a fit goes on alone
CAUTION = 4.0          # how much worse the next contraction may be than the last
LONG = 1.0          # standard errors, from which the pilot is asked twice


class Joint:
    """The fits of a path and its splits, which share sweeps.

    Parameters
    ----------
    prepared : preparation.Prepared
    splits : splits.Splits
    settings : path.Settings
    """

    def __init__(self, prepared, splits, settings):
        self.prepared, self.splits, self.settings = prepared, splits, settings
        self.model, self.basis, self.data = prepared.model, prepared.basis, prepared.data
        self.n_cells, self.n_sweeps = splits.train.shape[1], 0
        self.n_rows = prepared.found.response.n_kept
        check_cells(splits, self.basis.n_coef, knots=3)
        self.block = _thinned(prepared.block, sum(self.data.lengths), self.basis.n_coef)
        self.pilot = in_memory(self.block)

    def cells(self, k):
        return np.flatnonzero(self.splits.train[k])

    # ------------------------------------------------------------ before the path

    def begin(self):
        """The null model on all rows, the problems and their grid; the first knot."""
        prepared, settings, response = self.prepared, self.settings, self.prepared.found.response
        half = prepared.elastic_net(1.0, 0.5, settings.standardize, settings.penalty_factor)
        free = half.free(self.basis.n_coef)
        coef = null_fit(prepared.objective(), prepared.block, free, response)
        found, total = self._null_sweeps(coef, np.flatnonzero(free))
        trains = [merge_cells(found, self.cells(k)) for k in range(len(self.splits.train))]
        self.tests = [merge_cells(found, np.flatnonzero(row)) for row in self.splits.test[1:]]
        check_trains(prepared, trains, self.tests)
        self.null, self.null_cells, self.null_total = coef, found, total
        self.problems = [Problem.of(prepared, cell, settings) for cell in trains]
        self.alphas = grid(total, coef, self.problems[0], response, settings)
        self.unit = dispersion_unit(self.model, total, self.problems[0].weight, trains[0].n_rows)
        q, n_problems = coef.size, len(self.problems)
        self.knots = Knots(np.zeros(0), np.zeros((0, n_problems, q, q)), np.zeros((0, q, q)))
        self._add_knot(0.0, coef, {a: cell.moments[0] for a, cell in found.items()})

    def _null_sweeps(self, coef, which):
        """Newton's method for the free coefficients, moved in place: one sweep where an intercept alone is free."""
        alone = self.settings.standardize and self.splits.n_splits > 0
        while True:
            found = passes.run(cell_moments, self.data, self.model, self.basis, coef[None], self.splits.layers,
                               alone).cells
            self.n_sweeps += 1
            m = merge_cells(found, self.cells(0)).moments[0]
            step = solve_damped(m.expected[np.ix_(which, which)], m.score[which])
            if not which.size or step is None or step @ m.score[which] <= 1e-12 * m.pearson / max(self.n_rows, 1.0) \
                    or self.n_sweeps >= self.settings.max_iter:
                return found, m
            coef[which] += step

    def null_deviance(self):
        """Of the intercept alone."""
        prepared, first = self.prepared, int(self.basis.intercept)
        if not prepared.found.has_offset:
            return self.model.null_deviance(prepared.found.response, self.basis.intercept)
        if not (self.problems[0].absolute[first:] == 0.0).any():
            return self.null_total.deviance
        free = np.arange(self.basis.n_coef) < first
        coef = null_fit(prepared.objective(), prepared.block, free)
        return self._null_sweeps(coef, np.flatnonzero(free))[1].deviance

    def from_pilot(self):
        """Coefficients of the pilot's rows along each path, (R, L, q), and their places."""
        problem, alphas = self.problems[0], self.alphas
        L = alphas.shape[1]
        chosen = np.unique(np.linspace(0, L - 1, min(L, PILOT_FITS)).astype(int))

        def fit(each):
            row, ratio = each
            found = path_on_rows(self.model, self.basis, self.block, problem,
                                 problem.strengths(row[chosen], ratio), self.null, self.unit, PILOT_TOL)
            return np.array([np.interp(-row, -row[chosen], column) for column in found.T]).T

        coefs = np.array(in_threads(fit, list(zip(alphas, self.settings.l1_ratios))))
        deviance = self._pilot_sums(coefs.reshape(-1, self.basis.n_coef))[1].reshape(alphas.shape)
        null = self._pilot_sums(self.null[None])[1][0]
        return coefs, np.clip(1.0 - deviance / max(null, 1e-300), 0.0, 1.0)

    def _pilot_sums(self, coefs):
        """Scores and deviances of the pilot's rows."""
        found = in_threads(lambda part: many_scores(self.model, part, self.basis, coefs), self.pilot.chunks)
        score, totals = map(sum, zip(*found))
        return score, np.where(totals[:, 2] > 0, np.inf, totals[:, 0])

    # ------------------------------------------------------------ fits

    def fit_all_rows(self):
        """The paths of all rows; scores and deviances by cell stay behind for the splits."""
        coefs, places = self.from_pilot()
        R, L = self.alphas.shape
        C, q, problem = R * L, self.basis.n_coef, self.problems[0]
        strengths = np.concatenate([problem.strengths(row, ratio)
                                    for row, ratio in zip(self.alphas, self.settings.l1_ratios)])
        start, total = np.tile(self.null, (C, 1)), self.null_total
        self.cell_score, self.cell_deviance = np.zeros((self.n_cells, C, q)), np.zeros((self.n_cells, C))
        for a, cell in self.null_cells.items():
            self.cell_score[a], self.cell_deviance[a] = cell.moments[0].score, cell.moments[0].deviance
        deviance = np.full(C, total.deviance)
        fits = Fits.at(np.zeros(C, int), places.ravel(), strengths, start, np.tile(total.score, (C, 1)), deviance,
                       np.full(C, np.inf), np.zeros((C, q)), np.zeros(C))      # any point inside the domain is a start
        fits.step = coefs.reshape(C, q) - start
        above = np.abs(total.score)[None] <= strengths[:, :1] * problem.absolute        # the null model is their fit
        above = above.all(axis=1, where=problem.absolute[None] > 0.0)
        fits.step[above], fits.size[above], fits.left[above] = 0.0, 0.0, 0.0
        self.advance(fits, np.array([np.argmax(fits.places)]), by_cell=True)
        return fits

    def fit_splits(self, whole):
        """The paths of the training rows of all splits, which begin at those of all rows."""
        K, C = self.splits.n_splits, len(whole.split)
        train, test = self.splits.train.astype(float), self.splits.test.astype(float)
        split = np.repeat(np.arange(1, K + 1), C)
        strengths = np.concatenate([whole.strengths * (p.weight / self.problems[0].weight) for p in self.problems[1:]])
        score, held_score = (np.einsum("ka,acq->kcq", which[1:], self.cell_score).reshape(K * C, -1)
                             for which in (train, test))
        deviance, held_deviance = ((which[1:] @ self.cell_deviance).ravel() for which in (train, test))
        coef = np.tile(whole.coef, (K, 1))
        fits = Fits.at(split, np.tile(whole.places, K), strengths, coef, score, deviance,
                       self._value(deviance, coef, strengths, split), held_score, held_deviance)
        self._aim(fits, np.arange(K * C))
        fits.left = np.maximum(fits.left, np.where(fits.size > 0.0, np.inf, 0.0))          # nothing is measured yet
        self.advance(fits, np.zeros(0, int), by_cell=False)
        return fits

    def advance(self, fits, informed, by_cell):
        """Sweeps until what is left of every fit is below the tolerance."""
        while True:
            active = np.flatnonzero(fits.left > self.settings.tol)
            if not active.size or self.n_sweeps >= self.settings.max_iter:
                return
            better = self._sweep(fits, active, informed, by_cell)
            mine, worse, before = active[better], active[~better], fits.size[active[better]]
            self._aim(fits, mine)
            misled = worse[~fits.alone[worse]]
            fits.step[worse[fits.alone[worse]]] *= 0.5
            fits.alone[misled] = True
            self._aim(fits, misled)
            lost = worse[fits.size[worse] < 1e-7]                                   # rounding: no step lowers it
            fits.left[lost] = fits.size[lost]
            slow = mine[fits.size[mine] > np.maximum(CONTRACTING * before, self.settings.tol)]
            fits.alone[mine[fits.size[mine] > np.maximum(STALLED * before, self.settings.tol)]] = True
            informed = self._to_inform(fits, slow)
            if self.settings.verbose:
                left = fits.left.max()
                progress.show(f"sweep {self.n_sweeps}: {active.size} fits at most {left:.1e} standard errors off", left,
                              self.settings.tol)

    def _to_inform(self, fits, slow):
        """Fits whose information the next sweep brings: the longest steps of two slow places, and of those alone."""
        order = slow[np.argsort(-fits.size[slow])]
        order = order[~fits.alone[order]]
        apart = order[np.abs(fits.places[order] - fits.places[order[:1]]) > 0.05]
        alone = np.flatnonzero(fits.alone & (fits.left > self.settings.tol))
        return np.r_[order[:1], apart[:1], alone[np.argsort(-fits.size[alone])][:MOST_KNOTS]]

    def _sweep(self, fits, active, informed, by_cell):
        """Evaluate the ends of the steps; those that are better are the fits' points from now on. Returns which."""
        trial, C = fits.coef[active] + fits.step[active], active.size
        plan = Plan.by_cell(self.splits.layers, self.n_cells, C) if by_cell else Plan.by_split(
            self.splits.layers, self.splits.train, self.splits.test, fits.split[active])
        there = fits.coef[informed] + fits.step[informed]
        found = passes.run(many_moments, self.data, self.model, self.basis, trial, plan, there)
        self.n_sweeps += 1
        score, deviance = found.score, np.where(found.n_invalid > 0, np.inf, found.deviance)
        score, deviance = score.reshape(-1, C, score.shape[1]), deviance.reshape(-1, C)
        if by_cell:
            cell_score, cell_deviance, every = score, deviance, self.cells(0)
            score, deviance = score[every].sum(axis=0), deviance[every].sum(axis=0)
        else:
            (score, held_score), (deviance, held_deviance) = score, deviance
        value = self._value(deviance, trial, fits.strengths[active], fits.split[active])
        better = value <= fits.value[active] + 1e-13 * np.abs(fits.value[active])
        mine = active[better]
        fits.coef[mine], fits.score[mine], fits.deviance[mine] = trial[better], score[better], deviance[better]
        fits.value[mine] = value[better]
        if by_cell:
            self.cell_score[:, mine], self.cell_deviance[:, mine] = cell_score[:, better], cell_deviance[:, better]
        else:
            fits.held_score[mine], fits.held_deviance[mine] = held_score[better], held_deviance[better]
        for i, fit in enumerate(informed):
            self._inform(fits, fit, there[i], {a: own[i] for a, own in found.moments.items()}, fit in mine)
        return better

    def _inform(self, fits, fit, coef, moments, taken):
        """Use the information at a fit's trial: its own where it goes on alone, else a knot."""
        if not fits.alone[fit]:
            self._add_knot(fits.places[fit], coef, moments)
        elif taken:
            self._informed(fits, fit, moments)

    def _informed(self, fits, fit, moments):
        fits.own[fit] = curvature(self._merged(fits.split[fit], moments))
        fits.size[fit] = np.inf                                        # lengths by another Hessian compare with none

    def _merged(self, k, moments):
        """`Moments` of the training rows of a split from those of the cells."""
        return passes.merge_all(moments[a] for a in self.cells(k) if a in moments)

    def _add_knot(self, place, coef, moments):
        """The information at one place: for the pilot, all rows and all training rows the same mixture."""
        pilot = self.model.moments(self.block, self.basis, coef)
        totals = [self._merged(k, moments) for k in range(len(self.problems))]
        at_home, *trains = curvature(pilot, totals)
        if np.isfinite(at_home).all() and all(np.isfinite(matrix).all() for matrix in trains):
            self.knots = self.knots.add(place, np.array(trains), at_home)

    # ------------------------------------------------------------ steps

    def _aim(self, fits, which):
        """Steps of some fits, their lengths, and what the last contraction leaves of them."""
        if not which.size:
            return
        before, mix, gradient = fits.size[which], self.knots.mix(fits.places[which]), -fits.score[which]
        share = np.array([p.weight for p in self.problems])[fits.split[which]] / self.problems[0].weight
        target, length = straight, far = self._minima(fits, which, mix, gradient)
        asked = np.flatnonzero(~fits.alone[which])
        looks = 0 if not asked.size else 2 if far.max() > LONG ** 2 * self.unit else 1
        for _ in range(looks):
            bend = np.zeros_like(gradient)
            bend[asked] = self._bend(fits.coef[which[asked]], target[asked] - fits.coef[which[asked]], mix[asked])
            target, length = self._minima(fits, which, mix, gradient + bend * share[:, None])
        wild = ~(length <= 4.0 * far)                                    # too long for the pilot to be asked
        target[wild], length[wild] = straight[wild], far[wild]
        fits.step[which] = target - fits.coef[which]
        fits.size[which] = size = np.sqrt(length / self.unit)
        rate = np.where(np.isfinite(before) & (before > 0.0), CAUTION * size / np.maximum(before, 1e-300), 1.0)
        fits.left[which] = np.where(size <= self.settings.tol, np.minimum(rate, 1.0), rate) * size

    def _minima(self, fits, which, mix, gradient):
        """Minima of the quadratic models, split by split."""
        target, length, pieces = np.empty((which.size, self.basis.n_coef)), np.empty(which.size), []
        by_itself = np.isin(which, list(fits.own))
        for i in np.flatnonzero(by_itself):
            pieces.append((fits.split[which[i]], fits.own[which[i]][None], np.ones((1, 1)), np.array([i])))
        for k in np.unique(fits.split[which[~by_itself]]):
            mine = np.flatnonzero(~by_itself & (fits.split[which] == k))
            knots = self.knots.trains[:, k]
            cuts = np.array_split(mine, min(2 * schedulers.n_threads(), mine.size))
            pieces += [(k, knots, mix[own], own) for own in cuts]
        tol = (1e-2 * self.settings.tol) ** 2 * self.unit

        def solve(piece):
            k, knots, weights, own = piece
            problem = self.problems[k]
            target[own], length[own] = quadratic_minima(knots, weights, gradient[own], fits.coef[which[own]],
                                                        problem.absolute, problem.square, fits.strengths[which[own]],
                                                        tol)

        in_threads(solve, pieces)
        return target, length

    def _bend(self, coefs, steps, mix):
        """What the pilot says the gradient changes by beyond the mixed Hessian's part, (C, q); 0 where it cannot."""
        C = len(coefs)
        score, deviance = self._pilot_sums(np.concatenate([coefs, coefs + steps]))
        change = score[:C] - score[C:]
        for a, pilot in enumerate(self.knots.pilot):
            change -= mix[:, a:a + 1] * (steps @ pilot)
        return np.where(np.isfinite(deviance[:C] + deviance[C:])[:, None], change, 0.0)

    def _value(self, deviance, coef, strengths, split):
        """The objectives, (C,) array."""
        absolute, square = (np.array([getattr(p, name) for p in self.problems])[split]
                            for name in ("absolute", "square"))
        return 0.5 * deviance + strengths[:, 0] * np.einsum("cq,cq->c", absolute, np.abs(coef)) \
            + 0.5 * strengths[:, 1] * np.einsum("cq,cq->c", square, coef * coef)


def _thinned(block, n_rows, k):
    """Every so many rows of a pilot: of all rows a twentieth, of each coefficient 20, are enough to begin with."""
    every = max(1, int(block.n_rows // max(2_000, 20 * k, n_rows // 20)))
    rows = np.arange(0, block.n_rows, every)
    return block if every == 1 else block.take(rows, weight=block.weight[rows] * (block.n_rows / rows.size))


def solve_joint(prepared, splits, settings):
    """All fits of a generalized linear model along paths of penalties, by sweeps that they share.

    Parameters
    ----------
    prepared : preparation.Prepared
    splits : splits.Splits
    settings : path.Settings

    Returns
    -------
    Paths
    """
    joint = Joint(prepared, splits, settings)
    joint.begin()
    whole = joint.fit_all_rows()
    shape, K = joint.alphas.shape, splits.n_splits
    fits = joint.fit_splits(whole) if K else None
    coefs = np.concatenate([whole.end] + ([fits.end] if K else [])).reshape(K + 1, *shape, -1)
    weight = np.array([test.weight for test in joint.tests])
    held_out = np.zeros((0, *shape)) if not K else fits.carried(fits.held_deviance, fits.held_score).reshape(K, *shape)
    deviance = whole.carried(whole.deviance, whole.score)
    left = max(whole.left.max(), fits.left.max() if K else 0.0)
    if not left <= settings.tol:
        tell(f"Some fits of the path did not converge after {joint.n_sweeps} sweeps: the worst stands about {left:.2g} "
             f"standard errors from its optimum (tol={settings.tol:g}, max_iter={settings.max_iter}, "
             f"{prepared.model}). Raise max_iter, or eps, for the smallest penalties are the hardest.",
             ConvergenceWarning)
    return Paths(np.array(settings.l1_ratios), joint.alphas, coefs, deviance.reshape(shape), joint.null_deviance(),
                 held_out / weight[:, None, None], weight, float(left), joint.n_sweeps)
