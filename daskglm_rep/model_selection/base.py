"""What paths and cross-validated estimators share: parameters, checks, and the fits that were found. No numerics."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from daskglm_rep.estimators import _GLMBase
from daskglm_rep.preparation import prepare
from daskglm_rep.settings import check_alpha, check_choice, check_number, check_seed
from daskglm_rep.solvers.path import Settings

PARAMETERS = """
    Parameters
    ----------
{head}    alphas : (n_alphas,) array, optional
        Penalty strengths, in any order. Default: `n_alphas` of them down from where all coefficients are zero, equally
        far apart in their logarithms.
    n_alphas : int, default 100
    eps : float in (0, 1), optional
        The smallest alpha of the grid over the largest; default 1e-4, and 1e-2 where columns outnumber rows (a ridge's
        grid begins a thousand times higher and ends where a lasso's does).
    fit_intercept : bool, default True
    standardize : bool, default False
        Penalize coefficients of columns scaled to unit population standard deviation: in each training set its own.
    penalty_factor : (n_features,) array, optional
        Multiplies each coefficient's penalty; 0 leaves it free.
    weights_kind : {{"prior", "frequency"}}
        Prior weights scale a row's precision; frequency weights count copies of a row.
    tol : float, default 5e-3
        Distance to its optimum at which a fit of a path is good, in standard errors of the worst coefficient. Linear
        models, rows that the survey brought home, and the fit that a cross-validation ends with are exact anyway.
    max_iter : int, default 100
        Sweeps at most.
    random_state : int, default 0
        Fixes the pilot rows.
    verbose : int, default 0
        Above 0 a bar shows how far the fits are from their optima.
"""


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class _PathBase(_GLMBase):
    """Parameters of a path of penalties."""

    alphas: Sequence[float] | np.ndarray | None = None
    n_alphas: int = 100
    eps: float | None = None
    fit_intercept: bool = True
    standardize: bool = False
    penalty_factor: Sequence[float] | np.ndarray | None = None
    weights_kind: str = "prior"
    tol: float = 5e-3
    max_iter: int = 100
    random_state: int | None = 0
    verbose: int = 0

    _classify, _takes_sparse = False, True

    def _l1_ratios(self):
        """Of the penalties to try, a tuple."""
        return tuple(np.atleast_1d(self.l1_ratio).tolist())

    def _settings(self):
        """Checked settings of the paths."""
        check_number("tol", self.tol, lambda v: v > 0, "> 0")
        check_number("max_iter", self.max_iter, lambda v: v >= 1, ">= 1")
        check_choice("weights_kind", self.weights_kind, ("prior", "frequency"))
        check_seed(self.random_state)
        ratios, alphas = self._l1_ratios(), self.alphas
        if not ratios:
            raise ValueError("l1_ratio names no value to try: pass a number in [0, 1], or several.")
        for ratio in ratios:
            check_number("l1_ratio", ratio, lambda v: 0 <= v <= 1, "in [0, 1]")
        if alphas is None:
            check_number("n_alphas", self.n_alphas, lambda v: v >= 1 and v == int(v), "that is whole and >= 1")
            if self.eps is not None:
                check_number("eps", self.eps, lambda v: 0 < v < 1, "in (0, 1)")
        else:
            alphas = np.unique(np.asarray(alphas, float))[::-1]
            if not (alphas.size and np.isfinite(alphas).all() and alphas[-1] >= 0.0):
                raise ValueError(f"alphas must be finite numbers >= 0, at least one, got {self.alphas!r}.")
        return Settings(ratios, alphas, int(self.n_alphas), self.eps, self.standardize, self.penalty_factor, self.tol,
                        self.max_iter, self.verbose)

    def _prepare(self, data):
        model = self._glm()
        check_alpha(model, type(self).__name__)
        return prepare(data, model, self.fit_intercept, seed=self.random_state,
                       choose=self._choose if self._classify else None, penalized=True)

    def _publish_path(self, prepared, coefs, alphas):
        """Set coefs_, intercepts_ and alphas_ from (L, k) symmetric coefficients in the basis."""
        raw = np.array([prepared.basis.raw(coef) for coef in coefs]).reshape(len(coefs), -1, prepared.basis.n_coef)
        first = int(self.fit_intercept)
        self.alphas_, self.coefs_ = alphas, np.moveaxis(raw[:, :, first:], 0, -1).copy()
        self.intercepts_ = raw[:, :, 0].T.copy() if first else np.zeros(raw.shape[1::-1])
        if len(self.coefs_) == 1:
            self.coefs_, self.intercepts_ = self.coefs_[0], self.intercepts_[0]
