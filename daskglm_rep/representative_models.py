"""The estimator that fits on representatives of data which stay where they are."""

import copy
import dataclasses
import math
import numbers

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from daskglm_rep import families, links, progress
from daskglm_rep.appending import AppendsBlocks
from daskglm_rep.audit import Audit
from daskglm_rep.estimators import _BinomialProbabilities, _GLMRegressorBase
from daskglm_rep.inference.covariance import model_based
from daskglm_rep.models.glm import GLM
from daskglm_rep.penalties import elastic_net
from daskglm_rep.partitions import KMeans, Natural, Partition, column_numbers
from daskglm_rep.representatives import fitting
from daskglm_rep.representatives.methods import METHODS
from daskglm_rep.representatives.rounds import AUTO_ROUNDS, Rounds
from daskglm_rep.results import GLMResults
from daskglm_rep.settings import check_alpha, check_choice, check_flag, check_number
from daskglm_rep.telling import tell

COV_TYPES = ("nonrobust", "cluster")


@dataclasses.dataclass(eq=False, repr=False)
class RepresentativeGLM(AppendsBlocks, _BinomialProbabilities, _GLMRegressorBase):
    """Generalized linear model fitted on representatives of blocks of rows, with a certified distance to the MLE.

    Rows stay in their chunks. What leaves them is weighed and written down in `audit_`: sums of parts of at least
    `min_block_size` effective rows, and per round a score vector, with an information matrix in the first (or, for the
    score-matching methods, score sums of the parts).

    Grids and clusters that span chunks are learnt centrally, from column sketches and a subset of rows, which under the
    guard (`min_block_size` above 1) are means of at least so many values or rows; so are the extremes of columns. With
    `Natural(within=...)` each block learns its own, and nothing but its sums leaves it. Guarded score-matching divides
    parts as in its first round in every later one. The guard is of one fit: two fits whose `blocks=` or rows differ by
    one row subtract to that row, and only sites with a memory (`daskglm_rep.localised`) refuse that.

    ================== ================================================================================================
    mean               block means; one collection, no rounds (Li & Yang's MR); p + 2 numbers a part
    median, midpoint   the paper's comparisons
    score-matching     Algorithm 1 of Li & Yang (SMR): representatives that match each block's score, anew each round
    response-aided     blocks split by the sign of the residual; converges to the exact MLE linearly
    corrected          mean representatives as a surrogate likelihood, corrected by the exact score
    moment-matched     points at mean +- spread vectors, which carry each part's covariance, corrected by the exact
                       score and by secants of past rounds, with p + 5 numbers a block and round
    calibrated         the method to use: the same points give the change of curvature alone, from exact informations
                       at the first estimate (q (q + 1) / 2 numbers a block, q = p + 1) and at later ones that are
                       more than a standard error away. Below 1e-2 standard errors after 1 round, 1e-3 after 2
    ================== ================================================================================================

    Parameters
    ----------
    family : str or families.Family, default "binomial"
        With "binomial", y holds 0 and 1 or proportions; a negative binomial needs its alpha, NegativeBinomial(0.5).
    link : str or links.Link, default "logit"
        None takes the family's default; with a family other than binomial, "logit" counts as None.
    representative : str, default "calibrated"
        One of the above.
    partition : partitions.Partition, optional
        Default: KMeans(1000, subset=100_000).
    n_rounds : int or "auto", default 3
        Rounds at most; "auto" goes on until `tol` (25 at most).
    min_block_size : int, default 10
        Parts of fewer effective rows, (sum w)^2 / sum w^2, do not leave a chunk: they join the nearest part of their
        chunk (`n_joined_` counts them). 1 sets no guard: single rows may leave. From few rows' sums the rows follow:
        2 to 9 protect little.
    n_parts : int, optional
        Parts that "moment-matched" and "calibrated" cut for; default half as many again as there are blocks, at least
        1000 and 100 a coefficient, or 2500 and 250. A tenth of them costs a digit or two in each round.
    polish : bool, default False
        Follow with Newton rounds on the rows, to `tol`: q x q informations leave the blocks then.
    tol : float, default 1e-3
        Distance to the MLE, in standard errors, at which the rounds stop.
    certify : bool, default True
        End with a sweep that certifies the returned coefficients. Without it `distance_to_mle_` is NaN after rounds.
    cov_type : {"nonrobust", "cluster"}
        Model-based errors from the points' information, or a sandwich with the parts as clusters (one sweep more; the
        parts' scores leave the blocks).
    fit_intercept : bool, default True
    max_radius : float, default 20
        A score-matching representative further than this many root-mean-square radii from its part's mean is replaced
        by the mean row (`history_` counts them in n_fallbacks). `math.inf` is Algorithm 1 as published.
    random_state : int or None, default 0
        Subset of rows, centres, and the signs of spread vectors. Who knows the signs of a part of few discrete rows
        could search for them: None draws them in secret inside each block, and results then vary from run to run.
    verbose : int, default 0
        Above 0 a bar shows each round's deviance and its distance to the optimum.

    Attributes
    ----------
    coef_ : (n_features,) array
    intercept_ : float
    representatives_ : DataFrame
        Columns weight, y, the features (and "Intercept", which score-matching moves away from 1). Ours get an
        underscore where a feature has their name.
    n_blocks_ : int
        Blocks of the partition.
    n_parts_ : int
        Parts that were collected: more than blocks where wide ones were cut.
    block_sizes_ : Series
        Rows of each part.
    delta_ : float
        Largest diagonal of a part's box within a chunk, in the units of X: between its diameter there and sqrt(p) times
        it. NaN under the guard.
    n_joined_ : int
        Blocks of a chunk below `min_block_size` that were joined to others.
    history_ : DataFrame
        One row a sweep at coefficients: round, distance (standard errors), deviance, step (standard errors), bytes,
        n_fallbacks, n_outside, rejected. Round 0 stands for the collection's estimate.
    distance_to_mle_ : float
    converged_ : bool
        Whether a certificate says `tol` was reached.
    results_ : GLMResults
        Deviance exact at the coefficients; standard errors from the points' information.
    audit_ : DataFrame
        What left each block, a line a message: round, content, block, numbers, bytes; and the bytes received.
    n_iter_, n_passes_, dispersion_, n_features_in_, feature_names_in_

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, partitions
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 2))
    >>> y = (X[:, 0] + rng.logistic(size=2000) > 0).astype(float)
    >>> model = RepresentativeGLM(partition=partitions.KMeans(30)).fit(X, y)
    >>> model.distance_to_mle_ < 0.01
    True
    >>> list(model.representatives_.columns)[:3]
    ['weight', 'y', 'Intercept']
    """

    family: str | families.Family = "binomial"
    link: str | links.Link | None = "logit"
    _: dataclasses.KW_ONLY
    representative: str = "calibrated"
    partition: Partition | None = None
    n_rounds: int | str = 3
    min_block_size: int = 10
    n_parts: int | None = None
    polish: bool = False
    tol: float = 1e-3
    certify: bool = True
    cov_type: str = "nonrobust"
    fit_intercept: bool = True
    max_radius: float = 20.0
    random_state: int | None = 0
    verbose: int = 0

    def _glm(self):
        link = self.link
        if link == "logit" and families.get_family(self.family).facts.name != "binomial":
            link = None
        return GLM.of(self.family, link)

    def _check_parameters(self):
        check_choice("representative", self.representative, METHODS)
        check_choice("cov_type", self.cov_type, COV_TYPES)
        check_number("tol", self.tol, lambda v: v > 0, "> 0")
        check_number("max_radius", self.max_radius, lambda v: v > 0, "> 0")
        for name in ("certify", "polish"):
            check_flag(name, getattr(self, name))
        if not isinstance(self.partition, Partition | None):
            raise ValueError(f"partition must be a daskglm_rep.partitions object such as KMeans(1000), got "
                             f"{self.partition!r}.")
        whole = (numbers.Integral, np.integer)
        if not (self.n_rounds == "auto" or isinstance(self.n_rounds, whole) and self.n_rounds >= 0):
            raise ValueError(f"n_rounds must be a whole number >= 0 or 'auto', got {self.n_rounds!r}.")
        if not (self.n_parts is None or isinstance(self.n_parts, whole) and self.n_parts >= 1):
            raise ValueError(f"n_parts must be a whole number >= 1 or None, got {self.n_parts!r}.")
        if not (isinstance(self.min_block_size, whole) and self.min_block_size >= 1):
            raise ValueError(f"min_block_size must be a whole number >= 1, got {self.min_block_size!r}.")

    def fit(self, X, y, sample_weight=None, offset=None, exposure=None, blocks=None):
        """Collect representatives and improve them.

        Parameters
        ----------
        X : (n, p) numpy or dask array, pandas or dask DataFrame, xarray DataArray
        y : (n,) of any of those kinds
        sample_weight, offset, exposure : (n,), optional
        blocks : (n,), optional
            Labels of natural blocks, for `partition=Natural()`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Bad input or parameters; a chunk below `min_block_size`; links whose domain the fit leaves.
        """
        self._check_parameters()
        model = self._glm()
        check_alpha(model, type(self).__name__)
        partition = KMeans(1000, subset=100_000) if self.partition is None else self.partition
        if blocks is not None and not isinstance(partition, Natural):
            raise ValueError("blocks= labels natural blocks: pass partition=partitions.Natural() with them.")
        data = self._build(X, y, sample_weight, offset, exposure, blocks=blocks)
        method, audit = METHODS[self.representative], Audit()
        prepared = fitting.prepare(data, model, partition, method, audit, self.fit_intercept, int(self.min_block_size),
                                   self.random_state, self.n_parts)
        n_rounds = AUTO_ROUNDS if self.n_rounds == "auto" else int(self.n_rounds)
        quiet = np.errstate(over="ignore", invalid="ignore", divide="ignore")     # wild points are met and refused
        with progress.shown(self.verbose), quiet:
            solved = fitting.solve(data, prepared, model, method, audit, n_rounds, self.tol, self.certify,
                                   self.polish, float(self.max_radius), self.verbose)
        self._prepared, self._exact, self._fitted_model = prepared, solved.exact, model
        self._calibration = solved.outcome.calibration
        self._columns = prepared.collection.basis.columns
        self._conclude(data, prepared, solved, model, audit)
        return self

    def _conclude(self, data, prepared, solved, model, audit):
        fitted = solved.fitted
        if self.cov_type == "cluster":
            row_model = model.for_responses(prepared.found.response)
            number = len(solved.outcome.history) + 1
            covariance = fitting.clustered(data, prepared, row_model, fitted.fit, audit, number)
        else:
            covariance = model_based(fitted)
        fitted = dataclasses.replace(fitted, n_passes=data.n_passes)
        c = prepared.collection
        self.n_blocks_, self.n_parts_, self.n_joined_ = prepared.n_blocks, len(c.keys), prepared.n_joined
        self.delta_ = prepared.delta
        self.block_sizes_ = pd.Series(c.rows.astype(np.int64), name="rows")
        self.representatives_ = fitting.table(solved.representatives, c, data.names, self.fit_intercept)
        self.history_ = pd.DataFrame([{k: v for k, v in row.items() if k != "coef"} for row in solved.outcome.history])
        self.coef_path_ = np.array([c.basis.raw(row["coef"]) for row in solved.outcome.history])
        self.audit_ = audit.table()
        if not solved.separated:
            self._warn_if_far(fitted.fit.distance)
        self.n_passes_ = data.n_passes
        self._report(fitted, covariance, data.prepare.response)

    def _warn_if_far(self, distance):
        if not distance > 1.0:                   # NaN: nobody asked
            return
        if math.isinf(distance):
            what = "nothing certifies these coefficients"
            how = "the data may be separated, or the blocks too few: fit the rows (GLMRegressor) to see"
        else:
            what = f"the coefficients are {distance:.2g} standard errors from the maximum likelihood estimate"
            how = ("take representative='calibrated', " if self.representative != "calibrated" else "") + (
                "more rounds (n_rounds='auto', which names columns that separate the responses) or more blocks")
        n = len(self.history_)
        tell(f"After {n} sweep{'s' * (n > 1)} {what}: {how}.", ConvergenceWarning)

    def _report(self, fitted, covariance, response):
        self.results_ = GLMResults(fitted, covariance, None, response)
        self.distance_to_mle_ = self.distance_to_optimum_ = fitted.fit.distance
        self.converged_, self.n_iter_ = fitted.fit.converged, fitted.fit.n_iter
        self.dispersion_ = self.results_.scale
        self._publish(np.nan_to_num(self.results_.params.to_numpy()).reshape(1, -1))

    # ------------------------------------------------------------ other models

    def refit(self, columns=None, link=None, alpha=0.0, l1_ratio=0.0):
        """Fit another model of the same response on what was collected, without touching the data.

        Parameters
        ----------
        columns : list of str or int, optional
            Features that stay; default all. The others have coefficient 0, and NaN in `results_`.
        link : str or links.Link, optional
            Default: this fit's.
        alpha : float, default 0
            Strength of the penalty, as in `GLMRegressor`.
        l1_ratio : float in [0, 1], default 0
            Share of the lasso in the penalty; 0 is ridge.

        Returns
        -------
        RepresentativeGLM
            Fitted, its `distance_to_mle_` NaN until `certify_on(X, y)` was called. With this fit's link the exact
            score found here corrects it: along penalty paths errors are a hundredth to a tenth of those of the
            collection alone. With another link it agrees with the rows' fit as the first row of `history_` does. Take
            representative="moment-matched" for either. Deviance, information criteria and dispersion are estimates too.

        Raises
        ------
        ValueError
            Unknown columns; alpha < 0; l1_ratio outside [0, 1].
        """
        check_is_fitted(self)
        check_number("alpha", alpha, lambda v: 0 <= v < math.inf, ">= 0")
        check_number("l1_ratio", l1_ratio, lambda v: 0 <= v <= 1, "in [0, 1]")
        prepared, basis = self._prepared, self._prepared.collection.basis
        new = copy.copy(self)
        new._columns = self._chosen(columns)
        which = new._which()
        new.link = self.link if link is None else link
        model = new._glm()
        penalty = elastic_net(basis.keep(which), model, prepared.found.columns, alpha, l1_ratio)
        fit = fitting.refit(prepared, model, which, self._exact, model == self._fitted_model, penalty)
        kept = np.zeros_like(prepared.kept)
        kept[np.flatnonzero(prepared.kept)[which]] = True
        new.cov_type, new.history_, new.n_passes_ = "nonrobust", self.history_.iloc[:0], 0
        fitted = dataclasses.replace(self.results_.fitted, fit=fit, kept=kept, n_passes=0)
        covariance = model_based(fitted)
        note = covariance.note or "A refit on representatives: all numbers are estimates until certify_on(X, y)."
        new._report(fitted, dataclasses.replace(covariance, note=note), self.results_.response)
        return new

    def _chosen(self, columns):
        """Numbers of the columns to stay."""
        names = list(self.results_.fitted.names)
        if columns is None:
            return self._columns
        chosen = np.array(column_numbers(columns, names), int)
        lost = chosen[~np.isin(chosen, self._columns)]
        if lost.size:
            raise ValueError(f"Column {names[lost[0]]!r} was left out of this fit: refit from one that has it.")
        return chosen

    def _which(self):
        """Numbers of the collection's coefficients that are in this fit."""
        basis = self._prepared.collection.basis
        first = int(basis.intercept)
        return np.r_[np.arange(first), first + np.flatnonzero(np.isin(basis.columns, self._columns))].astype(int)

    def certify_on(self, X, y, sample_weight=None, offset=None, exposure=None):
        """Certificate of this fit's coefficients by two sweeps (survey, score) over all rows it stands for.

        Sets `distance_to_mle_`, `converged_`, and the deviance and dispersion of `results_`, which in a refit are
        estimates until then.

        Parameters
        ----------
        X, y, sample_weight, offset, exposure
            The data of `fit`.

        Returns
        -------
        float
            Distance to the maximum likelihood estimate of this model, in standard errors.

        Raises
        ------
        ValueError
            Other columns or another number of rows than in `fit`, missing values, a penalized refit.
        """
        check_is_fitted(self)
        prepared, fit = self._prepared, self.results_.fitted.fit
        if fit.objective.penalty:
            raise ValueError("A penalized refit has no distance to the maximum likelihood estimate: use alpha=0.")
        model, n_rows = self._glm(), self.results_.fitted.n_rows
        data = self._known_data(X, y, sample_weight, offset, exposure)
        found, _ = fitting.take_survey(data, model.family, Natural(), 0, False, int(self.min_block_size), Audit())
        if found.response.n_kept != n_rows:
            raise ValueError(f"The fit stands for {n_rows:.0f} rows of positive weight, and "
                             f"{found.response.n_kept:.0f} were given: a certificate needs them all.")
        rounds = Rounds(data, prepared.plan, prepared.collection.keep(self._which()), model,
                        model.for_responses(prepared.found.response), METHODS["mean"], n_rows, self.tol)
        sweep = rounds.run([fit.point.coef], 0).best
        if sweep is None or not math.isfinite(sweep.deviance):
            raise ValueError(f"The coefficients give some rows means outside the domain of the {model} model.")
        fitted = dataclasses.replace(self.results_.fitted, fit=fitting.certified(fit, sweep, self.tol))
        self._report(fitted, model_based(fitted), self.results_.response)
        return self.distance_to_mle_
