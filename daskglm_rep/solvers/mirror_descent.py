"""SMIDAS, stochastic mirror descent made sparse (Shalev-Shwartz & Tewari 2011, JMLR 12; the chapter's IGD).

Rows are walked through a few at a time in random order; steps are taken on theta, the dual of the coefficients under
the p-norm link with p = 2 log d, and truncated at delta lambda there, so that most coefficients are exactly zero. In
parallel each block walks for itself and the ends are averaged by rows after each epoch; else the blocks follow each
other. What averaging leaves of zeros is taken away by the chapter's rescaled threshold.

Two things are added to the chapter, so that an end can be certified. Gradients are corrected by those of the same rows
at the epoch's start, whose full gradient a sweep gives (Johnson & Zhang 2013): steps need not shrink, and the walk
comes to rest at the optimum alone. And the step is halved after an epoch that raised the objective.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import passes, progress
from daskglm_rep.kernels.mirror import Anchor, Link, mirror_epoch
from daskglm_rep.penalties import LASSO, ElasticNet
from daskglm_rep.solvers.composite import certify, left, unit

SHORTEST = 1e-9          # share of the first step below which halving ends a fit


@dataclasses.dataclass(frozen=True)
class MirrorDescent:
    """`solver="igd"`.

    Parameters
    ----------
    parallel : bool
        Blocks walk beside each other and are averaged after each epoch; False: one after the other.
    threshold : float
        A coefficient smaller than this share of the average absolute one, both times the deviations of their columns,
        is set to zero after an epoch.
    batch : int
        Rows a step.
    step : float, optional
        Delta; default 1 over (p - 1) times the rows' average working weight.
    seed : int
        Of the orders of rows.
    """

    parallel: bool = True
    threshold: float = 1e-10
    batch: int = 64
    step: float | None = None
    seed: int = 0
    name = "igd"

    def minimise(self, problem, data, coef, n_rows, tol, max_iter, active=None, verbose=0):
        """`CoordinateDescent.minimise`'s arguments and result; `max_iter` counts epochs of two sweeps."""
        _check(problem)
        free = problem.penalty.alpha + problem.penalty.ridge == 0.0
        link = Link(max(2.0, 2.0 * math.log(max((~free).sum(), 1))), free)
        best = problem.evaluate(data, coef, problem.used(coef))
        first = step = self.step or self._first_step(problem, best, link)
        goal, coef = 0.1 * tol, best.coef
        for epoch in range(1, max_iter + 1):
            state = problem.evaluate(data, coef, problem.used(coef), informative=False)
            if not state.value <= best.value + 1e-12 * abs(best.value):
                state, step = best, 0.5 * step
            elif epoch > 1:
                step = min(1.1 * step, 4.0 * first)
            best = state
            if step < SHORTEST * first:
                break
            if left(problem, state) <= goal * unit(problem, state, n_rows):
                reached = certify(problem, data, state, n_rows, tol, epoch)
                if verbose:
                    progress.step(f"epoch {epoch}", reached.state.moments.deviance, reached.distance, tol)
                if reached.converged:
                    return reached
                goal *= 0.3
            coef = self._epoch(problem, data, link, state, step, (self.seed, epoch))
        return certify(problem, data, best, n_rows, tol, epoch)

    def _first_step(self, problem, state, link):
        """Of length 1 in the geometry of the link, for the largest working weight and columns of variance 1."""
        total = problem.penalty.total
        weight = np.diag(state.moments.expected) if state.active.size else np.full(1, total)
        return 1.0 / ((link.order - 1.0) * max(float(weight.max()) / total, 1e-12))

    def _epoch(self, problem, data, link, state, step, seed):
        """The coefficients after a walk through all rows."""
        total, penalty = problem.penalty.total, problem.penalty
        n = sum(data.lengths) if data.lengths else sum(block.n_rows for block in data.chunks)          # or a pilot's
        anchor = Anchor(state.coef, state.gradient / total, penalty.absolute / total, penalty.ridge / total, step,
                        self.batch, n / total)
        if self.parallel:
            walked = passes.run(mirror_epoch, data, problem.model, problem.basis, link, anchor, state.coef, seed)
            coef = walked.coef / max(walked.n_rows, 1.0)
        else:
            coef = state.coef
            for number in range(data.n_blocks):
                walked = passes.run(mirror_epoch, data.only(number), problem.model, problem.basis, link, anchor, coef,
                                    (*seed, number))
                coef = walked.coef / walked.n_rows if walked.n_rows else coef
            data.n_passes += 1
        penalized = ~link.free
        size = np.abs(coef)
        small = penalized & (size < self.threshold * size[penalized].mean() if penalized.any() else False)
        return np.where(small, 0.0, coef)


def _check(problem):
    if not (isinstance(problem.penalty, ElasticNet) and type(problem.penalty.shape) is type(LASSO)):
        raise ValueError("solver='igd' truncates absolute values: use it with an elastic net, and 'cd' or 'fista' for "
                         "other penalties.")
    if not problem.model.always_valid:
        raise ValueError(f"solver='igd' walks through rows one by one, and the {problem.model} model has linear "
                         "predictors without a mean: use a link whose means always are (log, logit), or solver='cd'.")
