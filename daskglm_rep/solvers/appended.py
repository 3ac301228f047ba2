"""Rows that arrive later: the new ones exactly, the old ones by the summary that their fit left.

Near the old optimum b0 the old rows' log-likelihood is l0 + s0'd - d'H0 d / 2, d = b - b0, with the score s0 and the
information H0 of their last sweep; that is exact for linear models. For others what is left out is of third order in d:
with a fifth more rows some hundredths of a standard error.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import passes
from daskglm_rep.families import Bernoulli
from daskglm_rep.fitted import Fitted
from daskglm_rep.kernels.survey import Pilot, survey
from daskglm_rep.labels import encode_classes, shown
from daskglm_rep.models.glm import GLM
from daskglm_rep.preparation import check
from daskglm_rep.solvers.polish import polish

NOBODY = Pilot(0, 0.0, 0, 0)


@dataclasses.dataclass
class WithSummary:
    """New rows with the expansion of the old ones as data: sweeps are over the new rows.

    Attributes
    ----------
    data : Data
    fit : fitted.Fit
        Of the old rows.
    """

    data: object
    fit: object
    collections = None

    def ask(self, kernel, arguments):
        """`Moments` of both."""
        return passes.run(kernel, self.data, *arguments).merge(self.old(arguments[2]))

    def old(self, coef):
        """The old rows' `Moments` at other coefficients."""
        m, d = self.fit.point.moments, coef - self.fit.point.coef
        deviance = m.deviance - 2.0 * m.score @ d + d @ m.observed @ d
        return dataclasses.replace(m, score=m.score - m.observed @ d, deviance=max(deviance, 0.0),
                                   pearson=m.pearson + deviance - m.deviance)


def look(data, fitted, classes=None):
    """Survey of new rows, checked, merged with the old one's sums.

    Returns
    -------
    Data
        With class labels coded.
    Survey

    Raises
    ------
    ValueError
        What a survey refuses; labels that the fit has not seen.
    """
    family = None if classes is not None else fitted.survey.response.family       # the old survey's: sums of one kind
    found = passes.run(survey, data, family, NOBODY, classes is not None)
    check(found, data, family)
    if classes is not None:
        new = [label for label in found.labels if label not in set(classes)]
        if new:
            raise ValueError(f"The new rows hold the label {shown(new[0])!r}, which is none of the fit's "
                             f"{[shown(c) for c in classes[:10]]}: fit all rows again.")
        found = dataclasses.replace(found, labels={c: found.labels.get(c, 0.0) for c in classes})
        data, found = encode_classes(data, found, tuple(classes))
    return data, fitted.survey.merge(found)


def append(data, found, fitted, tol, max_iter, verbose=0):
    """The fit of old and new rows.

    Parameters
    ----------
    data : Data
        The new rows.
    found : Survey
        Of both.
    fitted : Fitted
        Of the old rows, unpenalised.

    Returns
    -------
    Fitted
        Its distance is to the optimum of the new rows' likelihood plus the old ones' expansion.
    """
    objective = fitted.fit.objective
    if found.response.fractional and isinstance(objective.model.family, Bernoulli):       # 0 and 1 alone until now
        objective = dataclasses.replace(objective, model=GLM(found.response.family, objective.model.link))
    n_rows = found.response.weight if fitted.frequency else found.response.n_kept
    both = WithSummary(data, fitted.fit)
    fit = polish(objective, both, None, fitted.fit.point.coef, n_rows, tol, max_iter, verbose=verbose)
    null = math.nan if found.has_offset else objective.model.null_deviance(found.response, objective.basis.intercept,
                                                                           found.labels)
    return Fitted(fit, found, fitted.names, fitted.kept, n_rows, data.n_passes, None, float(np.float64(null)),
                  fitted.frequency)
