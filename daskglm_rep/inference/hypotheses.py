"""Wald, likelihood-ratio and score tests, tests by term, and the wild cluster score bootstrap."""

import dataclasses
import itertools
import math

import numpy as np
import pandas as pd
from scipy import stats

from daskglm_rep import passes
from daskglm_rep.inference.clustered import collect
from daskglm_rep.inference.sandwich import bread, dispersion, is_penalized
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.clusters import cluster_moments
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.objective import solve
from daskglm_rep.printing import Printable


@dataclasses.dataclass(frozen=True, repr=False)
class TestResult(Printable):
    """One test.

    Attributes
    ----------
    kind : str
        "Wald", "likelihood ratio", "score" or "wild cluster bootstrap".
    statistic : float
    df : float
        Restrictions tested.
    df_denom : float or None
        Denominator degrees of freedom of an F test; None for chi-squared (and for the bootstrap).
    pvalue : float
    distribution : {"chi2", "F", "bootstrap"}
    hypothesis : str

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> test = results.wald_test("age = 0")
    >>> round(float(test.statistic), 3), round(float(test.pvalue), 4)
    (5.952, 0.0147)
    """

    kind: str
    statistic: float
    df: float
    df_denom: float
    pvalue: float
    distribution: str
    hypothesis: str = ""

    __test__ = False          # pytest: not a class of tests

    def __str__(self):
        tail = f", {self.df_denom:g}" if self.df_denom is not None else ""
        law = "bootstrap" if self.distribution == "bootstrap" else f"{self.distribution}({self.df:g}{tail})"
        what = f" of {self.hypothesis}" if self.hypothesis else ""
        return f"{self.kind} test{what}: {law} = {self.statistic:.6g}, p = {self.pvalue:.4g}"

    @property
    def df_num(self):
        """`df`, by statsmodels' name; `fvalue` is its name for the statistic of an F test."""
        return self.df

    @property
    def fvalue(self):
        return self.statistic

    def _table(self):
        """One row: the test in columns."""
        df = {"df": f"{self.df:g}"} | ({} if self.df_denom is None else {"df_denom": f"{self.df_denom:g}"})
        what = {"test": self.kind, "hypothesis": self.hypothesis}
        return pd.DataFrame([what | {self.distribution: self.statistic} | df | {"pvalue": self.pvalue}])

    _index = False


def _test(kind, statistic, df, df_denom, hypothesis=""):
    """A quadratic form as chi-squared, or over df as F where the denominator has degrees of freedom."""
    if df_denom is None:
        return TestResult(kind, float(statistic), float(df), None, float(stats.chi2.sf(statistic, df)), "chi2",
                          hypothesis)
    value = float(statistic / df)
    return TestResult(kind, value, float(df), float(df_denom), float(stats.f.sf(value, df, df_denom)), "F", hypothesis)


# ---------------------------------------------------------------- Wald


def wald(params, matrix, R, q, df_denom=None, hypothesis=""):
    """(R b - q)' (R V R')^-1 (R b - q): chi-squared(r), or over r as F(r, df_denom).

    Parameters
    ----------
    params : (k,) array; NaN for aliased columns
    matrix : (k, k) covariance; NaN there
    R : (r, k) array
    q : (r,) array

    Raises
    ------
    ValueError
        Restrictions on aliased coefficients, redundant or contradictory ones, and more of them than the rank of V.
    """
    used = (R != 0).any(axis=0)
    if np.isnan(params[used]).any():
        raise ValueError("The hypothesis involves a coefficient that is not estimated (NaN: its column is a "
                         "combination of others): leave it out.")
    if not np.isfinite(matrix[np.ix_(used, used)]).all():
        return TestResult("Wald", math.nan, float(len(R)), df_denom, math.nan, "chi2" if df_denom is None else "F",
                          hypothesis)
    if not used.any() or np.linalg.matrix_rank(R) < len(R):
        raise ValueError(f"The {len(R)} restrictions of the hypothesis are redundant or contradictory: only "
                         f"{np.linalg.matrix_rank(R) if used.any() else 0} are independent; drop the others.")
    distance = R[:, used] @ params[used] - q
    middle = R[:, used] @ matrix[np.ix_(used, used)] @ R[:, used].T
    values = solve(middle, distance)
    scale = np.sqrt(np.maximum(np.diag(middle), 1e-300))
    if values is None or np.linalg.cond(middle / np.outer(scale, scale)) > 1e13:
        raise ValueError(f"The covariance of the {len(R)} tested combinations is singular (fewer clusters than "
                         "restrictions?): test fewer at a time, or use another cov_type.")
    return _test("Wald", distance @ values, len(R), df_denom, hypothesis)


def term_positions(spec, names, has_intercept, n_equations):
    """Positions among all parameters of each term; one term a feature without a formula."""
    slices = {name: [j] for j, name in enumerate(names)} if spec is None else spec.term_slices
    q = len(names) + has_intercept
    positions = {}
    for term, columns in slices.items():
        columns = np.arange(len(names))[columns] if isinstance(columns, slice) else np.asarray(list(columns), int)
        if columns.size and str(term) not in ("1", "Intercept"):
            positions[str(term)] = np.concatenate([e * q + has_intercept + columns for e in range(n_equations)])
    return positions


def anova(params, matrix, positions, df_denom=None):
    """Wald test of each term given all others (type III): a DataFrame indexed by term.

    Parameters
    ----------
    positions : dict of term to positions among the parameters

    Returns
    -------
    DataFrame with columns df, statistic, df_denom (F tests), pvalue
    """
    rows = {}
    for term, where in positions.items():
        where = where[~np.isnan(params[where])]
        R = np.eye(params.size)[where]
        test = wald(params, matrix, R, np.zeros(len(R)), df_denom) if where.size else None
        rows[term] = (float(where.size), math.nan, math.nan) if test is None else (test.df, test.statistic, test.pvalue)
    name = "chi2" if df_denom is None else "F"
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["df", name, "pvalue"])
    if df_denom is not None:
        table.insert(2, "df_denom", float(df_denom))
    return table.rename_axis("term")


# ---------------------------------------------------------------- likelihood ratio


def likelihood_ratio(larger, smaller, test="chi2", check=True):
    """Compare nested fits: 2 (llf - llf_0) ~ chi-squared(difference of parameters), or F of the deviances.

    Parameters
    ----------
    larger, smaller : results
        Fits of the same rows and family; each has its own dispersion or alpha where that is estimated.
    test : {"chi2", "F"}
        "F" is (D_0 - D) / (r phi) with the larger fit's dispersion phi, for families with an estimated one (R's
        anova(test="F")).
    check : bool
        Whether each column of the smaller fit must be one of the larger.

    Raises
    ------
    ValueError
        Other rows or responses, another family, no fewer parameters, a column of its own in the smaller fit, a penalty.
    """
    if not hasattr(smaller, "df_resid"):
        raise ValueError("lr_test compares this fit with another one: pass its results, not a "
                         f"{type(smaller).__name__}.")
    _check_comparable(larger, smaller)
    r = larger.n_parameters - smaller.n_parameters
    if not r > 0:
        raise ValueError(f"lr_test(smaller) needs a fit with fewer parameters: it has {-r:g} more; swap them."
                         if r < 0 else "lr_test(smaller): both fits have as many parameters, so they are not nested.")
    lost = _column_of_its_own(larger, smaller) if check else None
    if lost is not None:
        raise ValueError(f"The smaller fit is not nested in this one: its column {lost!r} is none of this fit's; where "
                         "other columns span it, pass check=False.")
    if test not in ("chi2", "F"):
        raise ValueError(f"test={test!r} is not known: choose 'chi2' or 'F'.")
    drop = smaller.deviance - larger.deviance
    if larger.fitted.overdispersion is None:
        _check_order(drop, abs(larger.deviance))
    elif test == "F":
        raise ValueError("test='F' compares deviances, which fits of different alpha do not share: use 'chi2'.")
    if test == "F":
        return _test("likelihood ratio", max(drop, 0.0) / larger.scale, r, larger.df_resid)
    statistic = 2.0 * (larger.llf - smaller.llf)
    if math.isnan(statistic):
        raise ValueError(f"The {larger.model} has no likelihood in closed form: use lr_test(smaller, test='F').")
    _check_order(statistic, abs(larger.llf))
    return _test("likelihood ratio", max(statistic, 0.0), r, None)


def _check_order(gain, size):
    if gain < -1e-8 * size:
        raise ValueError("The smaller fit has the larger likelihood, so it is not nested in this one.")


def _check_comparable(larger, smaller):
    """Refuse fits of other rows, responses or families, and penalized ones."""
    if not hasattr(smaller, "df_resid"):
        raise ValueError(f"lr_test compares with another fit: pass its results (est.results_), not a "
                         f"{type(smaller).__name__}.")
    if str(larger.model) != str(smaller.model) or larger.nobs != smaller.nobs or larger.response != smaller.response:
        raise ValueError(f"lr_test compares fits of the same model to the same rows: got {larger.model} on "
                         f"{larger.nobs:,.0f} rows of {larger.response} and {smaller.model} on {smaller.nobs:,.0f} of "
                         f"{smaller.response}.")
    if larger.model != smaller.model and larger.fitted.overdispersion is None:
        raise ValueError("lr_test compares fits of the same family: its parameters are given here, and are others or "
                         "estimated in the smaller fit.")
    one, other = larger.fitted.survey, smaller.fitted.survey
    a, b = _fingerprint(one), _fingerprint(other)
    if one.has_offset != other.has_offset or a.size != b.size or not np.allclose(a, b, 1e-9, 0.0):
        raise ValueError("lr_test compares fits of the same rows: responses, weights or offsets of the two differ.")
    if any(is_penalized(f.fitted) for f in (larger, smaller)):
        raise ValueError("Likelihood ratios of penalized fits have no chi-squared distribution: fit with alpha=0.")


def _fingerprint(survey):
    """Numbers that tell responses and weights apart, whatever the chunks."""
    r = survey.response
    moments = [r.spread.weight * r.spread.mean ** 2 + r.spread.squares] if r.spread.weight else []
    return np.r_[r.weight, r.weight_squared, [survey.labels[k] for k in sorted(survey.labels, key=str)], *moments]


def _column_of_its_own(larger, smaller):
    """Name of a column of the smaller fit that is none of the larger's; None where all are."""
    theirs, ours = smaller.fitted, larger.fitted
    columns, mine = theirs.survey.columns, ours.survey.columns
    first = theirs.kept.size - len(theirs.names)
    has_one = ours.kept.size > len(ours.names) or (mine.low == mine.high).any()
    if first and theirs.kept[0] and not has_one:
        return "Intercept"
    unnamed = any(f.names == [f"x{j}" for j in range(len(f.names))] for f in (theirs, ours))
    known = np.array([mine.low, mine.high, mine.mean, mine.deviation])
    for j in np.flatnonzero(theirs.kept[first:]):
        values = np.array([columns.low[j], columns.high[j], columns.mean[j], columns.deviation[j]])
        alike = np.abs(known - values[:, None]).max(axis=0) <= 1e-6 * np.abs(values).max()
        if not any(a and (unnamed or name == theirs.names[j]) for a, name in zip(alike, ours.names)):
            return theirs.names[j]
    return None


# ---------------------------------------------------------------- score


def score(fitted, data, n_added):
    """Rao's test of columns not in the model: U' (I_zz - I_zx I_xx^-1 I_xz)^-1 U / phi ~ chi-squared.

    Parameters
    ----------
    fitted : fitted.Fitted
    data : design.Data
        The fit's features and the added ones after them.
    n_added : int

    Returns
    -------
    TestResult

    Raises
    ------
    ValueError
        Added columns that are combinations of the others.
    """
    objective, coef = fitted.fit.objective, fitted.fit.point.coef
    basis, k = objective.basis, objective.model.n_equations
    p, q = len(fitted.names), objective.basis.n_coef
    wide = Basis(np.r_[basis.columns, np.arange(p, p + n_added)], np.r_[basis.center, np.zeros(n_added)],
                 np.r_[basis.scale, np.ones(n_added)], basis.intercept)
    start = np.hstack([coef.reshape(k, q), np.zeros((k, n_added))]).ravel()
    moments = passes.run(block_moments, data, objective.model, wide, start)
    added = np.tile(np.arange(q + n_added) >= q, k)
    information, U = moments.expected, moments.score[added]
    cross = information[np.ix_(~added, added)]
    middle = information[np.ix_(added, added)] - cross.T @ solve(information[np.ix_(~added, ~added)], cross)
    lost = np.diag(middle) <= 1e-10 * np.diag(information)[added]
    value = None if lost.any() else solve(middle, U)
    if value is None:
        raise ValueError("The added columns are constant or combinations of the model's and each other: leave those "
                         "out.")
    return _test("score", U @ value / dispersion(fitted), added.sum(), None, f"{n_added} added columns")


# ---------------------------------------------------------------- wild cluster bootstrap


def wild_weights(n_clusters, n_boot, kind, seed):
    """(n_boot, G) random weights of mean 0 and variance 1; all 2^G sign patterns where these are fewer."""
    if kind == "rademacher":
        if n_clusters < 31 and 2 ** n_clusters <= n_boot:
            return np.array(list(itertools.product((1.0, -1.0), repeat=n_clusters)))
        return np.random.default_rng(seed).choice([-1.0, 1.0], (n_boot, n_clusters))
    if kind == "webb":
        points = np.sqrt([0.5, 1.0, 1.5])
        return np.random.default_rng(seed).choice(np.r_[-points, points], (n_boot, n_clusters))
    raise ValueError(f"weights={kind!r} is not known: choose 'rademacher' or 'webb' (for fewer than 10 clusters).")


def wild_cluster(fitted, data, R, q, n_boot=9999, weights="rademacher", seed=0, hypothesis=""):
    """Wild cluster bootstrap of R b = q from the clusters' scores and informations: one sweep, no refit.

    The null is imposed by one scoring step, b_0 = b - A R' (R A R')^-1 (R b - q), exact for the linear model; scores
    and refits of the bootstrap samples are linear in the cluster sums: s*_g = v_g s_g(b_0) with random signs v_g,
    b* = b_0 + A sum s*_g, residual scores s*_g - I_g (b* - b_0). For the linear model this is the restricted wild
    cluster bootstrap (Cameron, Gelbach and Miller 2008) exactly, for other families the score bootstrap of Kline and
    Santos (2012).

    Parameters
    ----------
    fitted : fitted.Fitted
    data : design.Data
        The fit's rows with clusters.
    R : (r, k) array
        On the raw coefficients that are not aliased.
    q : (r,) array
    n_boot : int
    weights : {"rademacher", "webb"}
    seed : int

    Returns
    -------
    TestResult
        The Wald statistic with the uncorrected clustered covariance, and the share of bootstrap statistics at or above
        it.
    """
    columns, sums = collect(fitted, data, cluster_moments).total
    if len(columns) > 1:
        raise ValueError("wild_cluster_test takes one cluster column: pass the coarser one.")
    G, k = len(sums), fitted.fit.point.coef.size
    if G < 2:
        raise ValueError("clusters has only one distinct label: the wild cluster bootstrap needs at least 2 clusters.")
    basis = fitted.fit.objective.basis
    T = np.kron(np.eye(k // basis.n_coef), basis.to_raw)
    R = R @ T                                                    # restrictions on the coefficients of the basis
    s, informations, A = sums[:, :k], sums[:, k:].reshape(G, k, k), bread(fitted)
    distance = R @ fitted.fit.point.coef - q
    RA = R @ A
    back = RA.T @ solve(RA @ R.T, distance)                      # b - b_0
    restricted = s + informations @ back
    observed = _wald_statistic(distance[None], (s @ RA.T)[None])[0]
    v = wild_weights(G, n_boot, weights, seed)
    total = restricted @ A                                       # rows A s_g(b_0)
    step = v @ total                                             # b* - b_0
    deviations = step @ R.T
    lost = np.einsum("rk,gkl->grl", RA, informations)
    reference = np.empty(len(v))
    for start in range(0, len(v), 1000):
        part = slice(start, start + 1000)
        rows = v[part][:, :, None] * (restricted @ RA.T)[None] - np.einsum("grl,bl->bgr", lost, step[part])
        reference[part] = _wald_statistic(deviations[part], rows)
    share = float(np.mean(reference >= observed * (1 - 1e-10)))
    return TestResult("wild cluster bootstrap", float(observed), float(len(R)), None, share, "bootstrap", hypothesis)


def _wald_statistic(distance, rows):
    """d' (sum_g u_g u_g')^-1 d for each of some samples: distance (b, r), rows (b, G, r)."""
    middle = np.einsum("bgr,bgs->brs", rows, rows)
    if middle.shape[1] == 1:
        with np.errstate(divide="ignore", invalid="ignore"):
            return distance[:, 0] ** 2 / middle[:, 0, 0]
    return np.einsum("br,br->b", distance, (np.linalg.pinv(middle, hermitian=True) @ distance[..., None])[..., 0])
