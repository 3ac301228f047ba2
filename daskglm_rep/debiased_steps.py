"""What is known after a step of debiasing: covariance, dispersion, and whether the penalties' pull is gone."""

import dataclasses
import math

import numpy as np

from daskglm_rep.debiasing import residual_freedom, sandwich
from daskglm_rep.inference.sandwich import Covariance
from daskglm_rep.telling import CovarianceWarning, tell

FAR = 1.0          # standard errors of a next step that are worth a warning


@dataclasses.dataclass(frozen=True)
class Step:
    """A debiased estimate.

    Attributes
    ----------
    point : Point
    covariance : Covariance
    dispersion : float
    reach : float
        What one more step would add to the worst coefficient, in standard errors: what is left of the penalties' pull,
        and noise where rows are few for the columns.
    """

    point: object
    covariance: Covariance
    dispersion: float
    reach: float


def tell_reach(reach):
    """Warn where the penalties' pull is not gone."""
    if reach > FAR:
        tell(f"One more debiasing step would move some coefficient by {reach:.1f} standard errors: the penalties' pull "
             "is not gone, or rows are few for the columns, and intervals of coefficients that are not zero may miss "
             "them more often than they say. Take more n_steps, nodewise='pooled', fewer partitions, a smaller alpha.",
             CovarianceWarning)


def measured(prepared, theta, noise, point, gram, meat, cov_type, weight, n_rows, note):
    """A debiased estimate with its covariance, its dispersion and what is left to do.

    Parameters
    ----------
    theta : (q, q) array
        NaN in rows that are not known.
    noise : (q, q) array
        M with b - beta = M score(beta) + bias; Theta after one step.
    point : Point
        At the estimate.
    gram : (q, q) array
        Information a unit of weight.
    meat : (q, q) array
        Sum of score rows' outer products; for cov_type="HC0".
    weight : float
        Of the rows behind the estimate.
    n_rows : float
        Rows that count.

    Returns
    -------
    Step
    """
    model, basis, safe = prepared.model, prepared.basis, np.nan_to_num(theta)
    rest = residual_freedom(noise, gram, n_rows)
    dispersion = 1.0 if model.dispersion_known else point.moments.pearson / rest if rest > 0 else math.nan
    total = prepared.found.columns.weight
    middle = meat / total if cov_type == "HC0" else dispersion * gram
    standardised = sandwich(noise, middle, weight)
    score = point.moments.score / total if point.valid else np.full(len(gram), math.nan)
    change, se = safe @ score, np.sqrt(np.diag(standardised))
    known, rounding = se > 0.0, 1e-12 * np.abs(point.coef).max(initial=0.0)         # perfect fits have hardly an error
    reach = float(np.max((np.abs(change) - rounding)[known] / se[known], initial=0.0))
    matrix, unknown = basis.covariance(standardised), np.isnan(theta).any(axis=1)
    standardised[unknown] = standardised[:, unknown] = math.nan
    if basis.intercept and unknown.any() and basis.center.any():
        unknown[0] = True                                           # the raw intercept is a combination of all
    matrix[unknown] = matrix[:, unknown] = math.nan
    df = None if model.dispersion_known or cov_type == "HC0" else rest
    return Step(point, Covariance(matrix, cov_type, df, note, standardised), dispersion, reach)
