"""Estimators that trade accuracy for time: subsampling, divide and conquer, stochastic descent. No numerics.

They are what representatives and the exact three-sweep fits are judged against. All report how far they are from the
full-data maximum likelihood estimate where they can know.
"""

import dataclasses
import numbers

from daskglm_rep import combining, design, families, links, subsampling
from daskglm_rep.estimators import _BinomialProbabilities, _GLMRegressorBase
from daskglm_rep.models.glm import GLM
from daskglm_rep.preparation import check_dense, prepare, small_plan
from daskglm_rep.settings import check_alpha, check_choice, check_flag, check_number
from daskglm_rep.solvers import implicit_descent
from daskglm_rep.solvers.three_sweeps import fit_pilot

COMMON = """    family : str or families.Family
        A negative binomial with its alpha, families.NegativeBinomial(0.5).
    link : str or links.Link, optional
        Default: the family's.
    fit_intercept : bool, default True
    random_state : int, default 0
        Fixes every random choice, together with the chunks of the data.
"""

FITTED = """    coef_ : (p,) array
    intercept_ : float
    results_ : GLMResults
    n_passes_ : float
        Sweeps over the data.
    dispersion_ : float
    n_features_in_, feature_names_in_
"""


def _check_dense(found):
    check_dense(found, "rows that are drawn or walked through one by one must be dense")


def _documented(cls):
    cls.__doc__ = cls.__doc__.replace("    {common}\n", COMMON).replace("    {fitted}\n", FITTED)
    return cls


@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class _RivalBase(_BinomialProbabilities, _GLMRegressorBase):
    """Shared fit: a survey with few pilot rows, then the rival's own sweeps."""

    family: str | families.Family = "binomial"
    link: str | links.Link | None = None
    fit_intercept: bool = True
    random_state: int = 0

    _takes_sparse = False

    def _glm(self):
        return GLM.of(self.family, self.link)

    def _check_parameters(self):
        if not isinstance(self.random_state, numbers.Integral) or self.random_state < 0:
            raise ValueError(f"random_state must be an integer >= 0, got {self.random_state!r}.")
        for name, least in self._counts().items():
            value = getattr(self, name)
            if not (isinstance(value, numbers.Integral) and value >= least):
                raise ValueError(f"{name} must be an integer >= {least}, got {value!r}.")

    def _counts(self):
        """Parameters that are integers, and the least each may be."""
        return {}

    def fit(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Fit the model.

        Parameters
        ----------
        X : (n, p) numpy or dask array, pandas or dask DataFrame, xarray DataArray
            Row chunks are the blocks.
        y : (n,) of any of those kinds
            Numbers; 0 and 1 for binary responses.
        sample_weight, offset, exposure : (n,), optional
            As in `GLMRegressor.fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad input or parameters, each in one sentence.
        """
        self._check_parameters()
        model = self._glm()
        check_alpha(model, type(self).__name__)
        self._fit(self._chunked(self._build(X, y, sample_weight, offset, exposure)), model)
        return self

    def _fit(self, data, model):
        prepared = self._prepare(data, model)
        outcome = self._run(prepared, fit_pilot(prepared, prepared.objective()))
        self._set_results(prepared, outcome.fitted, outcome.covariance)
        self.distance_to_mle_ = outcome.fitted.fit.distance

    def _prepare(self, data, model):
        plan = small_plan(data, self._n_pilot(len(data.names) + 1), int(self.random_state))
        prepared = prepare(data, model, self.fit_intercept, plan, verify=None if self._takes_sparse else _check_dense)
        self._check_rank(prepared)
        return prepared

    def _check_rank(self, prepared):
        if prepared.n_rows() < prepared.basis.n_coef:
            raise ValueError(f"X has {prepared.basis.n_coef} independent columns (intercept included) but n_samples = "
                             f"{int(prepared.n_rows())} rows: drop columns.")

    def _chunked(self, data):
        return data

    def _n_pilot(self, n_coef):
        return max(1000, 20 * n_coef)


@_documented
@dataclasses.dataclass(eq=False, repr=False)
class SubsampledGLM(_RivalBase):
    """Generalized linear model fitted to a subsample of the rows, chosen to tell most about the coefficients.

    Parameters
    ----------
    method : {"a-optimal", "l-optimal", "iboss", "uniform"}
        A-optimal: probabilities that minimise the trace of the coefficients' covariance; L-optimal: the same for the
        score, cheaper to compute (Wang, Zhu & Ma 2018; Ai et al. 2021). IBOSS: the most extreme rows of every column
        (Wang, Yang & Stufken 2019), made for linear models. Uniform: a simple random sample.
    n_samples : int, default 20_000
        Rows to fit; expected number for the optimal methods, an upper bound for IBOSS.
    n_pilot : int, optional
        Rows of the pilot that gives the probabilities; default 1000, or 20 a coefficient where that is more.
    {common}
    uniform_share : float in [0, 1), default 0.1
        Share of the optimal samples that is drawn uniformly: bounds the weights where the pilot errs.

    Attributes
    ----------
    {fitted}
    n_samples_ : int
        Rows fitted.
    covariance_to_mle_ : (k, k) array
        Covariance of the estimate about the full-data MLE; the standard errors in `results_` are about the truth.
    distance_to_mle_ : float
        Root mean square distance to the full-data MLE to be expected, in standard errors of the full-data MLE (the
        worst coefficient); NaN for IBOSS. Infinite, and all errors NaN, where the sampled rows do not determine the
        coefficients, of which a warning tells.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import SubsampledGLM
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 2))
    >>> y = (X[:, 0] + rng.logistic(size=2000) > 0).astype(float)
    >>> model = SubsampledGLM("a-optimal", n_samples=500).fit(X, y)
    >>> model.n_samples_, model.distance_to_mle_ < 4
    (496, True)
    """

    method: str = "a-optimal"
    _: dataclasses.KW_ONLY
    n_samples: int = 20_000
    n_pilot: int | None = None
    uniform_share: float = 0.1

    def _counts(self):
        return {"n_samples": 1} | ({} if self.n_pilot is None else {"n_pilot": 1})

    def _check_parameters(self):
        super()._check_parameters()
        check_choice("method", self.method, subsampling.METHODS)
        check_number("uniform_share", self.uniform_share, lambda v: 0 <= v < 1, "in [0, 1)")

    def _n_pilot(self, n_coef):
        return super()._n_pilot(n_coef) if self.n_pilot is None else self.n_pilot

    def _run(self, prepared, start):
        found = subsampling.solve(prepared, start, self.method, self.n_samples, self.uniform_share,
                                  int(self.random_state))
        self.n_samples_, self.covariance_to_mle_ = found.n_samples, found.about_full
        return found


@_documented
@dataclasses.dataclass(eq=False, repr=False)
class DivideAndConquerGLM(_RivalBase):
    """Generalized linear model fitted block by block, the fits combined: one sweep, and no rows move.

    Blocks that cannot be fitted on their own (too few rows, a constant column, separation) are left out with a warning
    that counts them.

    Parameters
    ----------
    join : {"estimating-equations", "mean"}
        Aggregated estimating equations, (sum A_k)^-1 sum A_k b_k with the blocks' informations A_k (Lin & Xi 2011), or
        means of the estimates weighted by rows.
    partitions : int, optional
        Blocks in all: chunks are cut at random into parts. Default: the chunks. (In memory, rows are cut into exactly
        this many.)
    {common}
    cov_type : {"nonrobust", "HC0"}
    certify : bool, default True
        One more sweep at the result, for the exact deviance and the distance to the full-data MLE.

    Attributes
    ----------
    {fitted}
    n_blocks_ : int
        Blocks combined.
    n_left_out_, rows_left_out_ : int
        Blocks, and the rows in them, that could not be fitted.
    distance_to_mle_ : float
        In standard errors (the worst coefficient), by the Newton step at the result; NaN without `certify`.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import DivideAndConquerGLM
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 2))
    >>> y = (X[:, 0] + rng.logistic(size=2000) > 0).astype(float)
    >>> model = DivideAndConquerGLM(partitions=8).fit(X, y)
    >>> model.n_blocks_, model.distance_to_mle_ < 0.5
    (8, True)
    """

    join: str = "estimating-equations"
    _: dataclasses.KW_ONLY
    partitions: int | None = None
    cov_type: str = "nonrobust"
    certify: bool = True

    _takes_sparse = True

    def _counts(self):
        return {} if self.partitions is None else {"partitions": 1}

    def _check_parameters(self):
        super()._check_parameters()
        check_choice("join", self.join, combining.JOINS)
        check_choice("cov_type", self.cov_type, combining.COV_TYPES)
        check_flag("certify", self.certify)

    def _chunked(self, data):
        if self.partitions is None or self.partitions >= data.n_blocks or data.collections is not None:
            return data
        return design.recut(data, self.partitions)

    def _run(self, prepared, start):
        n_parts = combining.parts_of(prepared.found.lengths, self.partitions)
        found = combining.solve(prepared, start, self.join, n_parts, self.cov_type, self.certify,
                                int(self.random_state))
        self.n_blocks_ = found.n_blocks
        self.n_left_out_, self.rows_left_out_ = found.n_left_out, found.rows_left_out
        return found


@_documented
@dataclasses.dataclass(eq=False, repr=False, kw_only=True)
class StochasticGLM(_RivalBase):
    """Generalized linear model by averaged implicit stochastic gradient descent (Tran, Toulis & Airoldi 2015).

    Each block walks through its rows in random order, in standardised columns; blocks walk beside each other and are
    averaged after each epoch. One chunk is the sequential algorithm.

    Parameters
    ----------
    {common}
    n_epochs : int, default 1
        Sweeps of descent.
    learning_rate, decay : float
        Rate learning_rate (1 + learning_rate t)^-decay at step t.

    Attributes
    ----------
    {fitted}
    distance_to_mle_ : float
        In standard errors (the worst coefficient), by the Newton step at the result. Infinite, and all errors NaN,
        where the responses are seen to be separated, of which a warning tells; another one tells of more than 10.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import StochasticGLM
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 2))
    >>> y = (X[:, 0] + rng.logistic(size=2000) > 0).astype(float)
    >>> model = StochasticGLM(n_epochs=2).fit(X, y)
    >>> model.distance_to_mle_ < 2
    True
    """

    n_epochs: int = 1
    learning_rate: float = 1.0
    decay: float = 2 / 3

    def _counts(self):
        return {"n_epochs": 1}

    def _check_parameters(self):
        super()._check_parameters()
        for name in ("learning_rate", "decay"):
            check_number(name, getattr(self, name), lambda v: v > 0, "> 0")

    def _run(self, prepared, start):
        return implicit_descent.solve(prepared, start, self.n_epochs, float(self.learning_rate), float(self.decay),
                                      int(self.random_state))
