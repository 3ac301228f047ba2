"""What scikit-learn's classes check of their inputs: features by name and number, responses in memory, gaps."""

import numpy as np
import pandas as pd
import xarray as xr
from scipy.sparse import issparse
from sklearn.utils import column_or_1d
from sklearn.utils.validation import _check_sample_weight, check_consistent_length

from daskglm_rep import design


def lazy_or_labelled(X):
    """Inputs that scikit-learn's validation would turn into numpy: branch before it."""
    return design.is_lazy(X) or isinstance(X, xr.DataArray)


def remember_features(estimator, names, named):
    """Set scikit-learn's attributes of the features; made-up names are not among them."""
    estimator.n_features_in_ = len(names)
    if named:
        estimator.feature_names_in_ = np.asarray(names, dtype=object)
    elif hasattr(estimator, "feature_names_in_"):
        del estimator.feature_names_in_


def check_features(estimator, names, named):
    """Refuse other features than those of the fit, by number and name."""
    expected = estimator.n_features_in_
    if len(names) != expected:
        raise ValueError(f"X has {len(names)} features, but {type(estimator).__name__} is expecting {expected} "
                         "features as input.")
    fitted = getattr(estimator, "feature_names_in_", None)
    if named and fitted is not None and list(fitted) != names:
        wrong = next((a, b) for a, b in zip(fitted, names) if a != b)
        raise ValueError("The feature names should match those that were passed during fit: expected column "
                         f"{wrong[0]!r} where X has {wrong[1]!r}; select the columns in the order of fit.")


def eager_targets(X, y, sample_weight, numeric):
    """Checked y and weights for X in memory."""
    if design.is_lazy(y):
        raise ValueError("y is lazy but X is in memory: pass both as dask collections, chunked alike, or in memory.")
    if getattr(getattr(y, "dtype", None), "na_value", None) is pd.NA and not y.isna().any():
        y = y.to_numpy(dtype=getattr(y.dtype, "numpy_dtype", object))  # scikit-learn makes floats of nullable booleans
    y = column_or_1d(y, warn=True)
    if numeric and y.dtype.kind == "O":
        y = y.astype(np.float64)
    check_consistent_length(X, y)
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    return y, sample_weight


def refuse_gaps(X, estimator):
    """X in memory has no gaps: predictions of lazy rows are NaN there, which scikit-learn's tools cannot meet."""
    cells = X.data if issparse(X) else X
    if np.isfinite(cells.sum()) or np.isfinite(cells).all():
        return
    if issparse(X):
        bad = ~np.isfinite(cells)
        rows, columns = X.tocoo().row[bad], X.indices[bad]
    else:
        rows, columns = np.nonzero(~np.isfinite(X))
    named = getattr(estimator, "feature_names_in_", None)
    name = f"x{columns[0]}" if named is None else named[columns[0]]
    raise ValueError(f"X contains NaN or infinity in {len(set(rows))} of {X.shape[0]} rows, first in column "
                     f"{name!r}: drop these rows or fill them before predicting.")
