"""What a fit must tell rather than hide: the kinds of warnings, and `tell`, which points at the user's line."""

import sys
import warnings

PACKAGE = __name__.partition(".")[0]


class AliasWarning(UserWarning):
    """Some columns are linear combinations of earlier ones."""


class SeparationWarning(UserWarning):
    """Some linear combination of columns predicts part of the responses perfectly: coefficients run to infinity."""


class CovarianceWarning(UserWarning):
    """A covariance matrix had to be repaired or could not be computed."""


class FormulaWarning(UserWarning):
    """A formula says something else than it seems to."""


class ReadWarning(UserWarning):
    """Storage failed for a moment and was asked again."""


class PenaltyWarning(UserWarning):
    """A penalty that leaves nothing, cannot be scaled, or needs much memory."""


class VersionWarning(UserWarning):
    """A model was pickled by another version of the library than the one that loads it."""


def tell(text, category):
    """Warn, with the place of the first caller outside this package: the line that a user wrote."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)
