"""Covariance of the coefficients: bread @ meat @ bread, one equation with one piece replaced.

Bread is the inverse information at dispersion 1, meat the sum of outer products of score rows (HC0 to HC4m), or of the
sums of score rows by cluster. The dispersion cancels.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import blas, passes
from daskglm_rep.inference.clustered import bias_reduced, clustered
from daskglm_rep.inference.sandwich import (Covariance, Options, bread, check_rows, degrees, dispersion, in_raw_columns,
                                            is_penalized)
from daskglm_rep.kernels.meat import Adjustment, block_meat
from daskglm_rep.telling import CovarianceWarning, tell

# squared score rows are divided by (1 - h)^d, d = a + min(b, h n / k) + min(c, h n / k); (a, b, c) of each kind:
POWERS = {"HC0": (0.0, 0.0, 0.0), "HC1": (0.0, 0.0, 0.0), "HC2": (1.0, 0.0, 0.0), "HC3": (2.0, 0.0, 0.0),
          "HC4": (0.0, 4.0, 0.0), "HC4m": (0.0, 1.0, 1.5)}
CLUSTERED = ("cluster", "CR2", "CR3")
COV_TYPES = ("nonrobust", *POWERS, *CLUSTERED)
PENALIZED = ("The fit is penalized: coefficients are shrunk on purpose, so that standard errors, tests and intervals "
             "are not defined (no standard errors after penalization).")


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


def model_based(fitted, information="expected", options=None):
    """Dispersion times inverse information; t with n - k degrees of freedom where the dispersion is estimated."""
    options = options or Options(information)
    basis = fitted.fit.objective.basis
    standardised = bread(fitted, options.information) * dispersion(fitted)
    df = degrees(fitted, options)
    if is_penalized(fitted):
        nothing = np.full_like(standardised, math.nan)
        return Covariance(nothing, "nonrobust", df, PENALIZED, nothing)
    return Covariance(basis.covariance(standardised), "nonrobust", df, "", standardised)


def compute(fitted, cov_type="nonrobust", data=None, **options):
    """Covariance of a fit.

    Parameters
    ----------
    fitted : fitted.Fitted
    cov_type : str
        One of `COV_TYPES`. HC0, HC1, HC2, HC3: White (1980), MacKinnon and White (1985); HC4: Cribari-Neto (2004);
        HC4m: Cribari-Neto and da Silva (2011); cluster: Liang and Zeger (1986), several columns by Cameron, Gelbach and
        Miller (2011); CR2, CR3: Bell and McCaffrey (2002).
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
        penalized fits; HC2 to HC4m of multinomial models.
    """
    options = Options(**options)
    if cov_type not in COV_TYPES:
        raise ValueError(f"cov_type={cov_type!r} is not known: choose one of {', '.join(COV_TYPES)}.")
    if cov_type == "nonrobust":
        with blas.for_coefficients(fitted.fit.point.coef.size):
            return model_based(fitted, options=options)
    if is_penalized(fitted):
        raise ValueError("Standard errors after penalization are not defined: fit with alpha=0 for "
                         f"cov_type={cov_type!r}.")
    if data is None:
        raise ValueError(f"cov_type={cov_type!r} needs the rows of the fit: results_.with_covariance({cov_type!r}, X, "
                         "y).")
    if not fitted.fit.point.valid:          # the fit has told that it stands outside the family's domain
        return dataclasses.replace(model_based(fitted, options=options), cov_type=cov_type, note="")
    if cov_type == "cluster":
        return clustered(fitted, data, options)
    if cov_type in CLUSTERED:
        return bias_reduced(fitted, data, cov_type, options)
    return heteroscedastic(fitted, data, cov_type, options)


def heteroscedastic(fitted, data, cov_type, options):
    """The HC kinds: one sweep."""
    model, basis, coef = fitted.fit.objective.model, fitted.fit.objective.basis, fitted.fit.point.coef
    if options.convention == "madlib" and cov_type != "HC0":
        raise ValueError("MADlib's robust variance is HC0: convention='madlib' does not go with "
                         f"cov_type={cov_type!r}.")
    power = POWERS[cov_type]
    if any(power) and not model.has_leverage:
        raise ValueError(f"cov_type={cov_type!r} is not defined for multinomial models here: use HC0, HC1, or CR2 with "
                         "every row its own cluster on small data.")
    n, k = fitted.n_rows, coef.size
    adjustment = Adjustment(power, bread(fitted) if any(power) else None, n / k, fitted.frequency)
    meat = passes.run(block_meat, data, model, basis, coef, adjustment)
    check_rows(fitted, meat.n_kept, meat.score)
    matrix = meat.matrix
    if meat.n_perfect:
        warn_perfect(meat, cov_type)
        matrix = np.full_like(matrix, math.nan)
    if cov_type == "HC1":
        matrix = matrix * (n / (n - k) if n > k else math.nan)
    A = bread(fitted, options.information)
    words = {"HC1": "n/(n-k)", "HC2": "1/(1-h)", "HC3": "1/(1-h)^2", "HC4": "(1-h)^-min(4, nh/k)",
             "HC4m": "(1-h)^-(min(1, nh/k) + min(1.5, nh/k))"}.get(cov_type, "none")
    return in_raw_columns(fitted, A @ matrix @ A, cov_type, degrees(fitted, options), correction=words)


def warn_perfect(meat, cov_type):
    """Name the rows that alone determine a coefficient."""
    starts = np.concatenate([[0], np.cumsum(meat.lengths)])
    rows = [int(starts[block]) + row for block, row in meat.perfect[:5]]
    more = f" and {int(meat.n_perfect) - len(rows)} more" if meat.n_perfect > len(rows) else ""
    tell(f"{cov_type} is not defined: row {', '.join(map(str, rows))}{more} (counted from 0) has leverage 1, "
         "its residual is zero whatever its response. Standard errors are NaN; drop the row or its column, or "
         "use HC0 or HC1.", CovarianceWarning)
