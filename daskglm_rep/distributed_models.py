"""`DistributedModel`: one-shot estimation over parts, naive or debiased, as a scikit-learn class. No numerics."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from daskglm_rep import combining, design, distributed_estimation as estimation, families, penalty_strength
from daskglm_rep.debiased_results import DebiasedResults
from daskglm_rep.rival_models import _RivalBase
from daskglm_rep.settings import check_choice, check_flag, check_number
from daskglm_rep.shrinkage import nodewise_penalty
from daskglm_rep.solvers.three_sweeps import fit_pilot
from daskglm_rep.telling import tell

METHODS = ("debiased", "regularized", "unregularized")


@dataclasses.dataclass(eq=False, repr=False)
class DistributedModel(_RivalBase):
    """Generalized linear model fitted part by part in one sweep, the estimates averaged (statsmodels' framework).

    Parts that cannot be fitted on their own are left out with a warning that counts them.

    Parameters
    ----------
    family : str or families.Family, default "gaussian"
        A negative binomial with its alpha, families.NegativeBinomial(0.5).
    method : {"debiased", "regularized", "unregularized"}
        Averages of penalized fits, debiased by the averaged gradient and an approximate inverse covariance from
        node-wise lassos, which the parts share among them (Lee, Liu, Sun & Taylor 2015); averages of penalized fits;
        averages of maximum likelihood fits. The first and the last have standard errors.
    alpha : float, (n_features,) array, "theory" or "cv", default "theory"
        Penalty of the parts' fits, the intercept free:
        `(1 / sum w) sum w d(y, mu) / 2 + alpha (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2)`.
        An array holds one for each feature. "theory": theory_constant sigma sqrt(log p / n), n the rows
        of a part, for columns of unit deviation, sigma by the scaled lasso on p pilot rows. "cv": the least held-out
        deviance over folds inside the parts, one sweep more.
    l1_ratio : float in [0, 1], default 1
    threshold : float, default 0
        Coefficients below it are 0 in `coef_`. `results_` of debiased estimates are those before: their intervals hold.
    partitions : int, optional
        Parts in all. Default: the chunks. Rows in memory are cut into runs of equal length; lazy chunks, of which there
        may not be more, at random.
    link : str or links.Link, optional
        Default: the family's.
    fit_intercept : bool, default True
    penalize_intercept : bool, optional
        Default False; True with convention="statsmodels".
    nodewise_alpha : float, "theory" or "tuned", optional
        Penalty of the node-wise lassos of the weighted columns. "theory": theory_constant sqrt(log p / n) of the scales
        of both columns; "tuned": weakened from there, row by row, as long as five rows are left for each coefficient
        used: less bias for at most a quarter of variance, and no penalty where rows are many. Default: `alpha` where
        that is given as numbers (the document's), else "tuned".
    nodewise : {"split", "pooled"}, optional
        Where node-wise regressions are done: each part its share, on its own rows (the document's), or all at home on
        the information of all rows, in the same sweeps: closer to its inverse, for less bias. Default: "split" where
        alpha is given as numbers, else "pooled".
    n_steps : int, optional
        Steps of debiasing: the first one from the parts' own scores (the document's), each further one from the score
        of all rows at the estimate, a sweep more. Default: 1 where alpha is given as numbers, else until the next one
        would not matter (10 at most); where rows are many that ends at maximum likelihood.
    standardize : bool, default False
        Penalize coefficients of columns of unit deviation ("theory" and "cv" do).
    cov_type : {"nonrobust", "HC0"}
    convention : {None, "statsmodels"}
        "statsmodels": parts count alike whatever their rows, the score of linear models is that of their profile
        likelihood, the constant alpha (1 - l1_ratio) / n is taken from each mean score, the intercept is penalized.
    theory_constant : float, default 1
    n_folds : int, default 5
        Of "cv".
    random_state : int, default 0
        Fixes every random choice, together with the chunks of the data.

    Attributes
    ----------
    coef_ : (p,) array
    intercept_ : float
    results_ : DebiasedResults or GLMResults
    approx_inv_cov_ : (k, k) array
        Theta, the intercept first; debiased estimates only.
    alpha_ : float or (p,) array
        Penalty used, of raw columns.
    reach_ : float
        How far one more step of debiasing would move the worst coefficient, in standard errors: small where the
        penalties' pull is gone and rows are many. Above 1 a warning tells.
    n_parts_, n_left_out_, rows_left_out_ : int
        Parts averaged; parts, and the rows in them, that could not be fitted.
    n_passes_ : float
        Sweeps: a survey, the parts' fits, one a step of debiasing (or at the average); one more for "cv".
    dispersion_ : float
    n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import DistributedModel
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 10))
    >>> model = DistributedModel(alpha=0.05, partitions=4).fit(X, X[:, 0] + rng.normal(size=2000))
    >>> model.coef_[:2].round(1)
    array([1., 0.])
    """

    family: str | families.Family = "gaussian"
    method: str = "debiased"
    _: dataclasses.KW_ONLY
    alpha: float | str | Sequence[float] | np.ndarray = "theory"
    l1_ratio: float = 1.0
    threshold: float = 0.0
    partitions: int | None = None
    penalize_intercept: bool | None = None
    nodewise_alpha: float | str | None = None
    nodewise: str | None = None
    n_steps: int | None = None
    standardize: bool = False
    cov_type: str = "nonrobust"
    convention: str | None = None
    theory_constant: float = 1.0
    n_folds: int = 5

    _takes_sparse = True

    def _counts(self):
        return {"n_folds": 2} | {name: 1 for name in ("partitions", "n_steps") if getattr(self, name) is not None}

    def _check_parameters(self):
        super()._check_parameters()
        for name, allowed in (("method", METHODS), ("cov_type", combining.COV_TYPES),
                              ("nodewise", ("split", "pooled")), ("convention", ("statsmodels",))):
            if getattr(self, name) is not None or name in ("method", "cov_type"):
                check_choice(name, getattr(self, name), allowed)
        check_number("l1_ratio", self.l1_ratio, lambda v: 0 <= v <= 1, "in [0, 1]")
        check_number("threshold", self.threshold, lambda v: v >= 0, ">= 0")
        check_number("theory_constant", self.theory_constant, lambda v: v > 0, "> 0")
        check_flag("standardize", self.standardize)
        if self.penalize_intercept is not None:
            check_flag("penalize_intercept", self.penalize_intercept)
        for name, words in (("alpha", ("theory", "cv")), ("nodewise_alpha", ("theory", "tuned", None))):
            value = getattr(self, name)
            if np.ndim(value) == 0 and value not in words:
                said = " or ".join(repr(word) for word in words if word)
                check_number(name, value, lambda v: 0 <= v < np.inf, f">= 0, or {said}")

    def _fit(self, data, model):
        found = (self._unregularized if self.method == "unregularized" else self._shrunk)(data, model)
        self.n_left_out_, self.rows_left_out_ = found.n_left_out, found.rows_left_out
        self._cut_off()

    def _chunked(self, data):
        return data if self.partitions is None or data.collections is not None else design.recut(data, self.partitions)

    def _unregularized(self, data, model):
        seed, prepared = int(self.random_state), self._prepare(data, model)
        n_parts = combining.parts_of(prepared.found.lengths, self.partitions)
        start = fit_pilot(prepared, prepared.objective())
        found = combining.solve(prepared, start, "mean", n_parts, self.cov_type, True, seed,
                                self.convention == "statsmodels")
        self._set_results(prepared, found.fitted, found.covariance)
        self.n_parts_ = found.n_blocks
        return found

    def _shrunk(self, data, model):
        seed, found_by_us = int(self.random_state), isinstance(self.alpha, str)
        split = self.nodewise == "split" or self.nodewise is None and not found_by_us
        prepared = estimation.first_sweep(data, model, self.fit_intercept, self._intercept_penalized, seed, found_by_us)
        n_parts = combining.parts_of(prepared.found.lengths, self.partitions)
        shrinkage = penalty_strength.choose(prepared, n_parts, self.alpha, self.l1_ratio, self.standardize,
                                            self._intercept_penalized, self.theory_constant, self.n_folds, seed)
        nodewise = None
        if self.method == "debiased":
            strength = ("tuned" if found_by_us else "fits") if self.nodewise_alpha is None else self.nodewise_alpha
            nodewise = nodewise_penalty(prepared, shrinkage, strength, self.theory_constant,
                                        sum(n_parts) if split else 1)
        n_steps = 1 if self.n_steps is None and not found_by_us else self.n_steps
        scheme = estimation.Scheme(prepared.objective(), shrinkage, nodewise, n_parts, n_steps, split,
                                   self.convention == "statsmodels", seed)
        found = estimation.solve(prepared, scheme, self.cov_type, self.threshold)
        self._set_results(prepared, found.fitted, found.covariance)
        if nodewise is not None:
            self.results_ = DebiasedResults(self.results_.fitted, found.covariance, data.prepare.response, found.theta,
                                            found.dispersion)
            self.approx_inv_cov_, self.reach_ = found.theta, found.fitted.fit.distance
        self.dispersion_, self.n_parts_ = found.dispersion, found.n_parts
        self.alpha_ = shrinkage.alpha if np.ptp(shrinkage.alpha) else float(shrinkage.alpha[0])
        return found

    @property
    def _intercept_penalized(self):
        asked = self.convention == "statsmodels" if self.penalize_intercept is None else self.penalize_intercept
        return bool(asked and self.fit_intercept)

    def _cut_off(self):
        """Coefficients below the threshold are 0 in what predicts."""
        below = np.abs(self.coef_) < self.threshold
        if below.any() and self.method != "regularized":
            cov = self.results_.covariance
            note = f"{cov.note} {below.sum()} of {below.size} estimates are below the threshold and 0 in coef_."
            self.results_.covariance = dataclasses.replace(cov, note=note)
        self.coef_ = np.where(below, 0.0, self.coef_)
        if self._intercept_penalized and abs(self.intercept_) < self.threshold:
            self.intercept_ = 0.0
        if below.all() and self.threshold:
            tell(f"All {below.size} coefficients are below threshold={self.threshold:g} and are 0 now: choose a "
                 "smaller threshold.", ConvergenceWarning)
