"""What a fit must tell rather than hide: the kinds of warnings, and `tell`, which points at the user's line."""

import sys
import warnings

PACKAGE = __name__.partition(".")[0]


class AliasWarning(UserWarning):
    """Some columns are linear combinations of earlier ones.

    Examples
    --------
    >>> import warnings
    >>> from daskglm_rep import AliasWarning, LinearRegression
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always", AliasWarning)
    ...     model = LinearRegression().fit([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]], [1.0, 2.0, 2.5])
    >>> str(told[0].message)[:65]
    '1 of 3 columns are constant or linear combinations of earlier one'
    """


class SeparationWarning(UserWarning):
    """Some linear combination of columns predicts part of the responses perfectly: coefficients run to infinity.

    Examples
    --------
    >>> import warnings
    >>> from daskglm_rep import LogisticRegression, SeparationWarning
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always", SeparationWarning)
    ...     model = LogisticRegression().fit([[1.0], [2.0], [3.0], [4.0]], [0, 0, 1, 1])
    >>> told[0].category.__name__
    'SeparationWarning'
    """


class CovarianceWarning(UserWarning):
    """A covariance matrix had to be repaired or could not be computed.

    Examples
    --------
    >>> import warnings
    >>> from daskglm_rep import CovarianceWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", CovarianceWarning)          # what would be told is raised
    """


class FormulaWarning(UserWarning):
    """A formula says something else than it seems to.

    Examples
    --------
    >>> import warnings
    >>> import pandas as pd
    >>> from daskglm_rep import FormulaWarning, lm
    >>> data = pd.DataFrame({"x": [1.0, 2.0, 3.0, 4.0], "y": [1.0, 3.0, 2.0, 5.0]})
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always", FormulaWarning)
    ...     results = lm("y ~ x + x**2", data)
    >>> list(results.params.index)
    ['Intercept', 'x']
    """


class ReadWarning(UserWarning):
    """Storage failed for a moment and was asked again.

    Examples
    --------
    >>> import warnings
    >>> from daskglm_rep import ReadWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", ReadWarning)          # what would be told is raised
    """


class PenaltyWarning(UserWarning):
    """A penalty that leaves nothing, cannot be scaled, or needs much memory.

    Examples
    --------
    >>> import warnings
    >>> from daskglm_rep import GLMRegressor, PenaltyWarning
    >>> with warnings.catch_warnings(record=True) as told:
    ...     warnings.simplefilter("always", PenaltyWarning)
    ...     model = GLMRegressor(alpha=1e3, l1_ratio=1.0).fit([[1.0], [2.0], [4.0]], [1.0, 3.0, 2.0])
    >>> [issubclass(warning.category, PenaltyWarning) for warning in told]
    [True]
    """


class VersionWarning(UserWarning):
    """A model was pickled by another version of the library than the one that loads it.

    Examples
    --------
    >>> import warnings
    >>> from daskglm_rep import VersionWarning
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", VersionWarning)          # what would be told is raised
    """


def tell(text, category):
    """Warn, with the place of the first caller outside this package: the line that a user wrote."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
