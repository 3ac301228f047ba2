"""Covariance of the coefficients: bread @ meat @ bread, one equation with one piece replaced.

Bread is the inverse information at dispersion 1, meat the sum of outer products of score rows (HC0 to HC4), or of the
sums of score rows by cluster. The dispersion cancels.
"""

import dataclasses
import itertools
import math
import warnings

import numpy as np
from scipy import linalg

from daskglm_rep import passes
from daskglm_rep.kernels.clusters import cluster_moments, cluster_scores
from daskglm_rep.kernels.meat import Adjustment, block_meat
from daskglm_rep.objective import inverse
from daskglm_rep.summaries import combine, distinct

COV_TYPES = ("nonrobust", "HC0", "HC1", "HC2", "HC3", "HC4", "cluster", "CR2", "CR3")
CLUSTERED = ("cluster", "CR2", "CR3")
FEW_FOR_SATTERTHWAITE = 100          # coefficients up to which each gets degrees of freedom of its own (k^3 numbers)
POWERS = {"HC0": 0.0, "HC1": 0.0, "HC2": 1.0, "HC3": 2.0, "HC4": -1.0}
CORRECTIONS = ("full", "design", "clusters", "none")
FEW_CLUSTERS = 40
STRANGER = 1e-2          # standard errors: a score farther from zero than this is not the one of the fit's rows


class CovarianceWarning(UserWarning):
    """A covariance matrix had to be repaired or could not be computed."""


@dataclasses.dataclass(frozen=True)
class Covariance:
    """A covariance matrix and what its tests need.

    Attributes
    ----------
    matrix : (k, k) array
        Of the raw coefficients that are not aliased, equation by equation.
    cov_type : str
    df : float or None
        Degrees of freedom of t tests; None for normal tests.
    note : str
        What a reader of the table should know.
    standardised : (k, k) array or None
        The same in the basis of the fit, where predictions lose no digits.
    n_clusters : tuple of int
        Distinct labels of each cluster column.
    df_each : (k,) array or None
        Degrees of freedom of single coefficients where they differ.
    """

    matrix: np.ndarray
    cov_type: str
    df: float = None
    note: str = ""
    standardised: np.ndarray = None
    n_clusters: tuple = ()
    df_each: np.ndarray = None


@dataclasses.dataclass(frozen=True)
class Options:
    """Conventions of a covariance; the defaults are this library's.

    Attributes
    ----------
    information : {"expected", "observed"}
        The bread: R, MADlib and statsmodels' GLM take the expected one, Stata and statsmodels' Logit and Probit the
        observed one. They differ for non-canonical links only. Leverages always use the expected one.
    correction : {"full", "design", "clusters", "none"}
        Of clustered covariances: G/(G-1) (n-1)/(n-k) (Stata, statsmodels, MADlib), the same with k the columns of one
        equation of a multinomial model, G/(G-1) (R's vcovCL of a glm), or 1.
    twoway : {"own", "min"}
        G of the three terms of a two-way covariance: each term's own (R, statsmodels), or the least (fixest).
    df : {None, "residual", "clusters", "normal"} or float
        Degrees of freedom of tests: n - k, least G - 1, infinite. None: n - k where a dispersion is estimated, else
        normal; G - 1 for CR2 and CR3.
    convention : {None, "madlib"}
        "madlib": several cluster columns mean clusters of their combination; robust means HC0.
    """

    information: str = "expected"
    correction: str = "full"
    twoway: str = "own"
    df: object = None
    convention: str = None

    def __post_init__(self):
        number = isinstance(self.df, (int, float)) and self.df > 0
        for name, allowed in (("information", ("expected", "observed")), ("correction", CORRECTIONS),
                              ("twoway", ("own", "min")), ("convention", (None, "madlib")),
                              ("df", (None, "residual", "clusters", "normal"))):
            value = getattr(self, name)
            if value not in allowed and not (name == "df" and number):
                raise ValueError(f"{name}={value!r} is not known: choose one of {', '.join(map(repr, allowed))}"
                                 f"{' or a number > 0' if name == 'df' else ''}.")


def options_of(use_correction, options):
    """`Options` as keywords from the switch users know and the named ones."""
    if not use_correction and "correction" in options and options["correction"] != "none":
        raise ValueError("use_correction=False means correction='none': pass one of them.")
    named = {f.name for f in dataclasses.fields(Options)}
    unknown = set(options) - named
    if unknown:
        raise ValueError(f"with_covariance has no option {sorted(unknown)[0]!r}: choose among "
                         f"{', '.join(sorted(named))}.")
    return options if use_correction else options | {"correction": "none"}


def dispersion(fitted):
    """Pearson's chi-squared over residual degrees of freedom, or 1 where the family's is known."""
    fit = fitted.fit
    if fit.objective.model.dispersion_known:
        return 1.0
    rest = fitted.n_rows - fit.point.coef.size
    return fit.point.moments.pearson / rest if rest > 0 else math.nan


def bread(fitted, information="expected"):
    """Inverse information at dispersion 1, in the basis.

    Parameters
    ----------
    information : {"expected", "observed"}
    """
    moments = fitted.fit.point.moments
    return inverse(moments.expected if information == "expected" else moments.observed)


def is_penalized(fitted):
    return fitted.fit.objective.ridge is not None or fitted.fit.objective.lasso is not None


def degrees(fitted, options, n_clusters=(), default=None):
    """Degrees of freedom of t tests, None for normal ones."""
    choice = default if options.df is None else options.df
    if choice is None:
        choice = "normal" if fitted.fit.objective.model.dispersion_known else "residual"
    if choice == "clusters":
        if not n_clusters:
            raise ValueError("df='clusters' needs a clustered covariance: cov_type='cluster', 'CR2' or 'CR3'.")
        return float(min(n_clusters) - 1)
    if choice == "residual":
        return max(fitted.n_rows - fitted.fit.point.coef.size, 0.0)
    return None if choice == "normal" else float(choice)


def model_based(fitted, information="expected", options=None):
    """Dispersion times inverse information; t with n - k degrees of freedom where the dispersion is estimated."""
    options = options or Options(information)
    basis = fitted.fit.objective.basis
    standardised = bread(fitted, options.information) * dispersion(fitted)
    df = degrees(fitted, options)
    if is_penalized(fitted):
        nothing = np.full_like(standardised, math.nan)
        return Covariance(nothing, "nonrobust", df, "no standard errors after penalization: the estimates are biased "
                                                    "by design", nothing)
    return Covariance(basis.covariance(standardised), "nonrobust", df, "", standardised)


def compute(fitted, cov_type="nonrobust", data=None, **options):
    """Covariance of a fit.

    Parameters
    ----------
    fitted : solvers.three_sweeps.Fitted
    cov_type : str
        One of `COV_TYPES`. HC0, HC1, HC2, HC3: White (1980), MacKinnon and White (1985); HC4: Cribari-Neto (2004);
        cluster: Liang and Zeger (1986), several columns by Cameron, Gelbach and Miller (2011); CR2, CR3: Bell and
        McCaffrey (2002).
    data : design.Data, optional
        The rows of the fit; needed by every type but nonrobust, with cluster labels for the clustered ones.
    options : fields of `Options`

    Returns
    -------
    Covariance

    Raises
    ------
    ValueError
        Unknown types and options; no data or clusters; missing labels, a single cluster; rows that are not the fit's;
        penalized fits; HC2 to HC4 of multinomial models.
    """
    options = Options(**options)
    if cov_type not in COV_TYPES:
        raise ValueError(f"cov_type={cov_type!r} is not known: choose one of {', '.join(COV_TYPES)}.")
    if cov_type == "nonrobust":
        return model_based(fitted, options=options)
    if is_penalized(fitted):
        raise ValueError("Standard errors after penalization are not defined: fit with alpha=0 for "
                         f"cov_type={cov_type!r}.")
    if data is None:
        raise ValueError(f"cov_type={cov_type!r} needs the rows of the fit: results_.with_covariance({cov_type!r}, X, "
                         "y).")
    if cov_type == "cluster":
        return clustered(fitted, data, options)
    if cov_type in CLUSTERED:
        return bias_reduced(fitted, data, cov_type, options)
    return heteroscedastic(fitted, data, cov_type, options)


# ---------------------------------------------------------------- independent rows


def heteroscedastic(fitted, data, cov_type, options):
    """HC0 to HC4: one sweep."""
    model, basis, coef = fitted.fit.objective.model, fitted.fit.objective.basis, fitted.fit.point.coef
    if options.convention == "madlib" and cov_type != "HC0":
        raise ValueError("MADlib's robust variance is HC0: convention='madlib' does not go with "
                         f"cov_type={cov_type!r}.")
    power = POWERS[cov_type]
    if power and not hasattr(model, "link"):
        raise ValueError(f"cov_type={cov_type!r} is not defined for multinomial models here: use HC0, HC1, or CR2 with "
                         "every row its own cluster on small data.")
    n, k = fitted.n_rows, coef.size
    adjustment = Adjustment(power, bread(fitted) if power else None, n / k, fitted.frequency)
    meat = passes.run(block_meat, data, model, basis, coef, adjustment)
    check_rows(fitted, meat.n_kept, meat.score)
    matrix = meat.matrix
    if meat.n_perfect:
        warn_perfect(meat, cov_type)
        matrix = np.full_like(matrix, math.nan)
    if cov_type == "HC1":
        matrix = matrix * (n / (n - k) if n > k else math.nan)
    A = bread(fitted, options.information)
    return _covariance(fitted, A @ matrix @ A, cov_type, degrees(fitted, options))


def _covariance(fitted, standardised, cov_type, df, note="", n_clusters=()):
    standardised = 0.5 * (standardised + standardised.T)
    matrix = fitted.fit.objective.basis.covariance(standardised)
    return Covariance(matrix, cov_type, df, note, standardised, n_clusters)


def warn_perfect(meat, cov_type):
    """Name the rows that alone determine a coefficient."""
    starts = np.concatenate([[0], np.cumsum(meat.lengths)])
    rows = [int(starts[block]) + row for block, row in meat.perfect[:5]]
    more = f" and {int(meat.n_perfect) - len(rows)} more" if meat.n_perfect > len(rows) else ""
    warnings.warn(f"{cov_type} is not defined: row {', '.join(map(str, rows))}{more} (counted from 0) has leverage 1, "
                  "its residual is zero whatever its response. Standard errors are NaN; drop the row or its column, or "
                  "use HC0 or HC1.", CovarianceWarning, stacklevel=6)


def check_rows(fitted, n_kept, score):
    """The score at the optimum vanishes on the rows of the fit and, but for accidents, on no others.

    Raises
    ------
    ValueError
        Another number of rows, or a score that is not zero: weights or offset forgotten, other rows.
    """
    if abs(n_kept - fitted.n_rows) > 1e-9 * max(fitted.n_rows, 1.0):
        raise ValueError(f"The fit had {fitted.n_rows:,.10g} rows and this data has {n_kept:,.10g} that count: pass "
                         "the rows, sample_weight and offset of the fit.")
    if not fitted.fit.converged or fitted.separated is not None:
        return
    noise = 0.0 if fitted.fit.objective.model.dispersion_known else 1e-20 * abs(fitted.null_deviance)
    distance = math.sqrt(max(score @ bread(fitted) @ score, 0.0))
    if not distance <= STRANGER * math.sqrt(dispersion(fitted) * score.size + noise) + fitted.fit.distance:
        raise ValueError("The score of these rows at the fitted coefficients is not zero, so they are not the rows of "
                         "the fit: pass the same X, y, sample_weight, offset and exposure.")


# ---------------------------------------------------------------- clusters


def collect(fitted, data, kernel):
    """One sweep of cluster sums, checked: one array of labels a column, and the (G, m) sums.

    Raises
    ------
    ValueError
        Missing labels, or rows that are not the fit's.
    """
    objective, coef = fitted.fit.objective, fitted.fit.point.coef
    found = passes.run(kernel, data, objective.model, objective.basis, coef, fitted.frequency)
    if found.n_missing:
        raise ValueError(f"clusters has NaN or missing labels in {int(found.n_missing)} rows: drop these rows before "
                         "the fit, or give them a label.")
    labels, sums = found.total
    check_rows(fitted, found.n_kept, sums[:, :coef.size].sum(axis=0))
    return labels, sums


def _at_least_two(n_clusters):
    if min(n_clusters) < 2:
        raise ValueError("clusters has only one distinct label: a clustered covariance needs at least 2 clusters "
                         "(about 40 to be trusted).")


def correction(fitted, n_clusters, kind):
    """Small-sample factor of a clustered covariance."""
    if kind == "none":
        return 1.0
    groups = n_clusters / (n_clusters - 1.0)
    if kind == "clusters":
        return groups
    k = fitted.fit.objective.basis.n_coef if kind == "design" else fitted.fit.point.coef.size
    return groups * (fitted.n_rows - 1.0) / (fitted.n_rows - k) if fitted.n_rows > k else math.nan


def note_of(n_clusters, n_coef):
    """What a reader should know about the number of clusters."""
    least = min(n_clusters)
    words = " and ".join(f"{g:,}" for g in n_clusters) + " clusters"
    if least >= FEW_CLUSTERS:
        return words
    rank = f"; with no more than {n_coef} coefficients' worth of clusters, joint tests of all of them are impossible" \
        if least <= n_coef else ""
    return (f"{words}: fewer than about {FEW_CLUSTERS}, so these standard errors are too small and the tests reject "
            f"too often; use cov_type='CR2', df='clusters' or wild_cluster_test{rank}")


def clustered(fitted, data, options):
    """Clusters by one column or several: Cov = sum over non-empty sets of columns of (-1)^(size + 1) V_set."""
    labels, sums = collect(fitted, data, cluster_scores)
    A = bread(fitted, options.information)
    if options.convention == "madlib" or len(labels) == 1:
        _at_least_two([len(sums)])
        matrix = A @ (sums.T @ sums) @ A * correction(fitted, len(sums), options.correction)
        sizes = (len(sums),)
        return _covariance(fitted, matrix, "cluster", degrees(fitted, options, sizes), note_of(sizes, A.shape[0]),
                           sizes)
    columns = [distinct(column) for column in labels]
    sizes = tuple(len(found) for _, found in columns)
    _at_least_two(sizes)
    matrix = np.zeros_like(A)
    for size in range(1, len(columns) + 1):
        for chosen in itertools.combinations(columns, size):
            if size == len(columns):
                total = sums
            else:
                codes, _ = combine([c for c, _ in chosen], [len(u) for _, u in chosen])
                total = by_code(codes, sums)
            G = min(sizes) if options.twoway == "min" else len(total)
            factor = correction(fitted, G, options.correction)
            matrix += (-1.0) ** (size + 1) * factor * (A @ (total.T @ total) @ A)
    covariance = _covariance(fitted, matrix, "cluster", degrees(fitted, options, sizes), note_of(sizes, A.shape[0]),
                             sizes)
    return repaired(covariance, fitted)


def by_code(codes, sums):
    """Rows of sums added by code."""
    n = codes.max(initial=-1) + 1
    return np.column_stack([np.bincount(codes, sums[:, j], n) for j in range(sums.shape[1])])


def repaired(covariance, fitted):
    """Clip the negative eigenvalues of a multi-way covariance (Cameron, Gelbach and Miller 2011), and say so.

    Whether there are some is judged against the model-based covariance, so that units do not matter.
    """
    root = linalg.cholesky(fitted.fit.point.moments.expected, lower=True)
    values = np.linalg.eigvalsh(root.T @ covariance.standardised @ root)
    if values[0] >= -1e-9 * max(values[-1], 0.0):
        return covariance
    warnings.warn("The multi-way clustered covariance is not positive semidefinite: its negative eigenvalues are set "
                  "to zero. Some standard errors may be too large or small; cluster by the coarser column alone to be "
                  "safe.",
                  CovarianceWarning, stacklevel=6)
    values, vectors = np.linalg.eigh(covariance.matrix)
    matrix = (vectors * np.maximum(values, 0.0)) @ vectors.T
    T = np.linalg.inv(fitted.fit.objective.basis.to_raw)
    T = np.kron(np.eye(len(matrix) // len(T)), T)
    return dataclasses.replace(covariance, matrix=matrix, standardised=T @ matrix @ T.T,
                               note=covariance.note + "; negative eigenvalues were set to zero")


def bias_reduced(fitted, data, cov_type, options):
    """CR2 and CR3 (Bell and McCaffrey 2002), for few clusters: score sums adjusted for the leverage of their cluster.

    With the bread A = C C' and a cluster's score s and information I, (I - H_gg)^-1/2 on the cluster's rows becomes
    C (I - C' I C)^-1/2 C' s on its sums: clusters may so be spread over chunks. As for the linear model with its
    own working covariance; for other families by the working linear model.
    """
    labels, sums = collect(fitted, data, cluster_moments)
    if len(labels) > 1 and options.convention != "madlib":
        raise ValueError(f"cov_type={cov_type!r} takes one cluster column: use 'cluster' for two.")
    _at_least_two([len(sums)])
    k = fitted.fit.point.coef.size
    C = linalg.cholesky(bread(fitted), lower=True)
    power = 0.5 if cov_type == "CR2" else 1.0
    A = bread(fitted, options.information)
    onward = A @ linalg.solve_triangular(C, np.eye(k), lower=True).T
    rows = np.empty((len(sums), k))
    for g, row in enumerate(sums):
        values, vectors = np.linalg.eigh(C.T @ row[k:].reshape(k, k) @ C)
        rest = 1.0 - values                      # 0: the cluster alone determines this direction and fits it exactly
        scale = np.where(rest > 1e-9, np.maximum(rest, 1e-9) ** -power, 0.0)
        rows[g] = onward @ (vectors @ (scale * (vectors.T @ (C.T @ row[:k]))))
    sizes = (len(sums),)
    note = f"{len(sums):,} clusters"
    result = _covariance(fitted, rows.T @ rows, cov_type, degrees(fitted, options, sizes, "clusters"), note, sizes)
    if options.df is not None or k > FEW_FOR_SATTERTHWAITE:
        return result
    return dataclasses.replace(result, df_each=satterthwaite(fitted, C, sums, power), note=f"{note}; t tests of single "
                               "coefficients with Bell and McCaffrey's degrees of freedom")


def satterthwaite(fitted, C, sums, power):
    """Degrees of freedom of each raw coefficient's CR2 or CR3 variance (Bell and McCaffrey 2002).

    The variance estimate is a quadratic form in independent working errors with matrix entries
    p_g'p_h = [g = h] a_g - w_g'w_h, so df = (sum_g p_g'p_g)^2 / sum_gh (p_g'p_h)^2 (Pustejovsky and Tipton 2018). With
    A = C C', the eigenvalues l and vectors V of C' I_g C, and c = C'T_j for the raw coefficient's row T_j:
    w_g = V l (1 - l)^-power V'c and a_g = c'V l (1 - l)^(-2 power) V'c. No clusters x clusters matrix is formed.

    Returns
    -------
    (k,) array
    """
    k = len(C)
    basis = fitted.fit.objective.basis
    contrasts = C.T @ np.kron(np.eye(k // basis.n_coef), basis.to_raw).T
    trace, own, shared, between = np.zeros(k), np.zeros(k), np.zeros(k), np.zeros((k, k, k))
    for row in sums:
        values, vectors = np.linalg.eigh(C.T @ row[k:].reshape(k, k) @ C)
        rest = 1.0 - values
        scale = np.where(rest > 1e-9, np.maximum(rest, 1e-9) ** -power, 0.0)
        P = vectors.T @ contrasts
        W = vectors @ ((values * scale)[:, None] * P)
        a, n = (values * scale ** 2) @ P ** 2, np.sum(W * W, axis=0)
        trace, own, shared = trace + a - n, own + (a - n) ** 2, shared + n ** 2
        between += np.einsum("ij,lj->jil", W, W)
    return trace ** 2 / (own + np.sum(between ** 2, axis=(1, 2)) - shared)
