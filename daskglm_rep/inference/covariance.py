"""Covariance of the coefficients: bread @ meat @ bread, one equation with one piece replaced."""

import dataclasses
import math

import numpy as np

from daskglm_rep.objective import inverse

COV_TYPES = ("nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster")


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
    """

    matrix: np.ndarray
    cov_type: str
    df: float = None
    note: str = ""


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


def model_based(fitted, information="expected"):
    """Dispersion times inverse information; t with n - k degrees of freedom where the dispersion is estimated."""
    fit = fitted.fit
    matrix = fit.objective.basis.covariance(bread(fitted, information)) * dispersion(fitted)
    df = None if fit.objective.model.dispersion_known else max(fitted.n_rows - fit.point.coef.size, 0.0)
    if fit.objective.ridge is not None or fit.objective.lasso is not None:
        matrix = np.full_like(matrix, math.nan)
        return Covariance(matrix, "nonrobust", df, "no standard errors after penalization: the estimates are biased by "
                                                   "design")
    return Covariance(matrix, "nonrobust", df)


def compute(fitted, cov_type="nonrobust", data=None):
    """Covariance of a fit.

    Parameters
    ----------
    fitted : solvers.three_sweeps.Fitted
    cov_type : str
        One of `COV_TYPES`.
    data : design.Data, optional
        The rows; needed by every type but nonrobust.

    Returns
    -------
    Covariance
    """
    if cov_type == "nonrobust":
        return model_based(fitted)
    raise ValueError(f"cov_type={cov_type!r} is not known: choose one of {', '.join(COV_TYPES)}.")
