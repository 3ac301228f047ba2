"""The parts of a sandwich: bread, dispersion, degrees of freedom, and a check that rows are those of the fit."""

import dataclasses
import math

import numpy as np

from daskglm_rep.objective import inverse

CORRECTIONS = ("full", "design", "clusters", "none")
STRANGER = 1e-2          # standard errors: a score farther from zero than this is not the one of the fit's rows
ROUNDING = 1e-10         # of linear predictors: what a score may be off by where the fit is perfect


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
    correction : str
        The small-sample correction, in words.
    """

    matrix: np.ndarray
    cov_type: str
    df: float = None
    note: str = ""
    standardised: np.ndarray = None
    n_clusters: tuple = ()
    df_each: np.ndarray = None
    correction: str = ""


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
    point = fitted.fit.point
    matrix = point.moments.expected if information == "expected" else point.moments.observed
    return point.by_curvature.inverse if matrix is point.curvature else inverse(matrix)


def is_penalized(fitted):
    return bool(fitted.fit.objective.penalty)


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


def in_raw_columns(fitted, standardised, cov_type, df, note="", n_clusters=(), correction=""):
    """`Covariance` from a matrix in the basis of the fit."""
    standardised = 0.5 * (standardised + standardised.T)
    matrix = fitted.fit.objective.basis.covariance(standardised)
    return Covariance(matrix, cov_type, df, note, standardised, n_clusters, correction=correction)


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
    A, H, coef = bread(fitted), fitted.fit.point.moments.expected, fitted.fit.point.coef
    if not np.isfinite(A).all():
        return
    phi = np.nan_to_num(dispersion(fitted))                          # NaN where no degree of freedom is left
    noise = ROUNDING * np.sqrt(np.diag(H)) @ (np.abs(coef) + 1.0)
    distance = math.sqrt(max(score @ A @ score, 0.0))
    if not distance <= math.sqrt(phi) * (STRANGER * math.sqrt(score.size) + fitted.fit.distance) + noise:
        raise ValueError("The score of these rows at the fitted coefficients is not zero, so they are not the rows of "
                         "the fit: pass the same X, y, sample_weight, offset and exposure.")
