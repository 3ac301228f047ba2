"""Paths of any model, and which penalty to take: the mean held-out deviance, its standard error, and two rules."""

import dataclasses

import dask
import numpy as np

from daskglm_rep import passes
from daskglm_rep.kernels.folds import responses
from daskglm_rep.preparation import without_aliased
from daskglm_rep.recipes import values
from daskglm_rep.solvers.classes_path import solve_classes
from daskglm_rep.solvers.exact import solve
from daskglm_rep.solvers.joint_path import solve_joint
from daskglm_rep.solvers.linear_path import solve_linear
from daskglm_rep.solvers.path import Paths
from daskglm_rep.solvers.rows_path import solve_in_memory
from daskglm_rep.solvers.splits import split_rows, wants_responses

RULES = ("min", "1se")
TOL = 1e-6          # standard errors from its optimum, of the fit under the penalty chosen


def solve_paths(prepared, splits, settings):
    """`Paths` of any model: from the Gram, from rows that are all at home, or by sweeps at many coefficient vectors."""
    if prepared.model.n_equations > 1:
        return solve_classes(prepared, splits, settings)
    if prepared.model.is_linear:
        return solve_linear(prepared, splits, settings)
    return (solve_in_memory if prepared.found.pilot_is_all else solve_joint)(prepared, splits, settings)


@dataclasses.dataclass(frozen=True)
class Curve:
    """Held-out deviance along paths: R l1_ratios, L alphas, K splits.

    Attributes
    ----------
    l1_ratios : (R,) array
    alphas : (R, L) array
    mean, error : (R, L) array
        Of the splits' mean deviances, weighted by what they hold out; and its standard error.
    best, sparser : (r, l)
        Position of the least mean, and of the largest alpha of the same l1_ratio within one standard error of it.
    """

    l1_ratios: np.ndarray
    alphas: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    best: tuple
    sparser: tuple

    @classmethod
    def of(cls, paths):
        """From `Paths` with splits; means and errors are glmnet's (Friedman, Hastie & Tibshirani 2010)."""
        weight = paths.weight / paths.weight.sum()
        mean = np.tensordot(weight, paths.held_out, 1)
        spread = np.where(np.isfinite(mean), paths.held_out, np.nan) - np.where(np.isfinite(mean), mean, np.nan)
        error = np.sqrt(np.tensordot(weight, spread ** 2, 1) / max(len(weight) - 1, 1))
        finite = np.where(np.isfinite(mean), mean, np.inf)
        if np.isinf(finite).all():
            raise ValueError("No penalty gives all rows held out means inside the family's domain, so none can be "
                             "chosen: use a link that keeps means inside it, fewer folds or other alphas.")
        r, l = (int(i) for i in np.unravel_index(np.argmin(finite), mean.shape))
        within = finite[r] <= finite[r, l] + error[r, l]
        return cls(paths.l1_ratios, paths.alphas, mean, error, (r, l), (r, int(np.argmax(within))))

    def chosen(self, rule):
        """Position of the penalty that a rule takes."""
        return self.best if rule == "min" else self.sparser


@dataclasses.dataclass(frozen=True)
class Selection:
    """A penalty that was chosen by cross-validation, and all that was looked at.

    Attributes
    ----------
    paths : Paths
    curve : Curve
    rule : str
    """

    paths: Paths
    curve: Curve
    rule: str

    @property
    def position(self):
        """Of the penalty chosen: (r, l)."""
        return self.curve.chosen(self.rule)

    @property
    def alpha(self):
        return float(self.paths.alphas[self.position])

    @property
    def l1_ratio(self):
        return float(self.paths.l1_ratios[self.position[0]])

    @property
    def note(self):
        """What results must say of it."""
        return (f"alpha={self.alpha:.4g}, l1_ratio={self.l1_ratio:g} were chosen on these rows by "
                f"{len(self.paths.weight)} splits (rule {self.rule!r}):\nno standard errors, for none would know of "
                "the choice, nor would those of a fit of the\nselected columns to the same rows. refit(...) on other "
                "rows has some.")

    def fit(self, prepared, settings, **how):
        """`Fitted` to all rows under the penalty, by the solver of single fits, from where the path is."""
        penalty = prepared.elastic_net(self.alpha, self.l1_ratio, settings.standardize, settings.penalty_factor)
        symmetric = self.paths.coefs[(0, *self.position)].reshape(-1, prepared.basis.n_coef)
        start = prepared.raw((prepared.model.symmetry @ symmetric).ravel())
        return solve(prepared, penalty, start=start, **how)


def select(prepared, splitter, settings, rule, groups=None):
    """Fit the paths of all splits and choose a penalty; a stratified splitter takes a sweep more to see the responses.

    Parameters
    ----------
    prepared : preparation.Prepared
    splitter : what `splits.check_splitter` gives
    settings : path.Settings
    rule : {"min", "1se"}
    groups : (n,) array, lazy or not, optional

    Returns
    -------
    Selection
    """
    if groups is not None:
        groups = values(dask.compute(groups)[0])
    y = None
    if wants_responses(splitter):
        y = np.concatenate(passes.run(responses, prepared.data).columns)
    paths = solve_paths(prepared, split_rows(splitter, prepared.data.lengths, y, groups), settings)
    return Selection(paths, Curve.of(paths), rule)


def refit(prepared, selected, **how):
    """`Fitted` without a penalty to some columns, and what results must say of it.

    Parameters
    ----------
    prepared : preparation.Prepared
        With all columns.
    selected : (p,) bool array
    """
    first = np.ones(int(prepared.basis.intercept), bool)
    fitted = solve(without_aliased(prepared.keep(np.r_[first, selected])), **how)
    note = (f"The {int(selected.sum())} columns of {selected.size} that a penalty had left, fitted without one: "
            "standard errors and tests\nhold where these rows are others than those that chose the columns.")
    return fitted, note
