"""Predictions with standard errors and intervals, lazily, on the scale of the link and of the response."""

import dataclasses
import math

import numpy as np

from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.gram import linear_predictor
from daskglm_rep.models.glm import OBSERVATION
from daskglm_rep.rowwise import as_table

THEIRS = {"mean": "mean", "se": "mean_se", "ci_lower": "mean_ci_lower", "ci_upper": "mean_ci_upper",
          "obs_ci_lower": "obs_ci_lower", "obs_ci_upper": "obs_ci_upper"}          # statsmodels' names


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Rows and offsets to predicted numbers; picklable.

    Attributes
    ----------
    model : models.glm.GLM or models.multinomial.Multinomial
    basis : Basis
    coef : (k,) array in the basis
    cov : (k, k) array in the basis
    quantile : float
        Of the reference distribution: half widths of intervals in standard errors.
    dispersion : float
    order : tuple of int
        Positions of the sorted classes among the model's.
    chosen : tuple of str
        Which statistics to give.
    """

    model: object
    basis: object
    coef: np.ndarray
    cov: np.ndarray
    quantile: float
    dispersion: float
    order: tuple
    chosen: tuple

    def __call__(self, X, offset):
        parts = []
        for rows, Z in tiles(X, self.basis):
            found = self.model.predicted(Z, offset[rows], self.coef, self.cov, self.quantile, self.dispersion)
            shown = (found[name] for name in self.chosen)
            parts.append(np.column_stack([value[:, list(self.order)] if self.order else value for value in shown]))
        width = len(self.chosen) * self.model.n_responses
        out = np.concatenate(parts) if parts else np.empty((0, width))
        return out[:, 0] if width == 1 else out


@dataclasses.dataclass(frozen=True)
class Means:
    """Rows and offsets to means alone, or probabilities; fields as of `Predictor`."""

    model: object
    basis: object
    coef: np.ndarray
    order: tuple

    def __call__(self, X, offset):
        means = self.model.means(linear_predictor(X, self.basis, self.coef, offset))
        return means[:, list(self.order)] if self.order else means


class Prediction:
    """Predictions of some rows, each of the kind of X and lazy where X is.

    Attributes
    ----------
    mean, se, ci_lower, ci_upper : (n,), or (n, n_classes) for multinomial models
        Means, their standard errors by the delta method, and intervals: end points of the linear predictor's carried
        through the link (multinomial: the interval of the probability's logit), so that they stay in its range.
    linear, linear_se, linear_ci_lower, linear_ci_upper : (n,)
        The same of the linear predictor.
    obs_ci_lower, obs_ci_upper : (n,)
        Interval of a new observation of weight 1; gaussian family with the identity link only.
    frame : (n, 4 or more)
        All of them from one visit of the rows; columns named as above.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> prediction = results.get_prediction(data.head(2))
    >>> prediction.mean.round(3).tolist(), prediction.se.round(3).tolist()
    ([1.058, 0.832], [0.558, 0.505])
    >>> prediction.ci_lower.round(3).tolist()
    [0.377, 0.254]
    """

    def __init__(self, apply, predictor, classes=None, distribution=None):
        self._apply, self._predictor, self._classes, self._distribution = apply, predictor, classes, distribution

    @property
    def names(self):
        """The statistics this model has."""
        return self._predictor.model.statistics

    def __getattr__(self, name):
        if name.startswith("_") or name not in self.names:
            words = (" (observation intervals are for the gaussian family with the identity link)"
                     if name in OBSERVATION else "")
            raise AttributeError(f"This prediction has no {name!r}{words}; it has {', '.join(self.names)}.")
        predictor = dataclasses.replace(self._predictor, chosen=(name,))
        if self._classes is None:
            return self._apply(predictor, None, None)
        return self._apply(predictor, len(self._classes), list(self._classes))

    def __dir__(self):
        return [*super().__dir__(), *self.names]

    @property
    def frame(self):
        """All named quantities as columns, of the kind and laziness of the data predicted at."""
        return self._columns(self.names)

    @property
    def predicted_mean(self):
        """`mean`, by statsmodels' name."""
        return self.mean

    @property
    def se_mean(self):
        """`se`, by statsmodels' name."""
        return self.se

    def _at(self, level, alpha):
        """These predictions with intervals of another level."""
        if level is None and alpha is None:
            return self
        quantile = float(self._distribution.ppf(0.5 + confidence_level(level, alpha) / 2))
        return Prediction(self._apply, dataclasses.replace(self._predictor, quantile=quantile), self._classes,
                          self._distribution)

    def conf_int(self, level=None, alpha=None):
        """(n, 2) limits of the mean, of the kind of the data predicted at; (n, 2 J) for multinomial models.

        Parameters
        ----------
        level, alpha : float, optional
            Default the level that `get_prediction` was asked for.
        """
        return self._at(level, alpha)._columns(("ci_lower", "ci_upper"))

    def summary_frame(self, level=None, alpha=None):
        """statsmodels' table: mean, mean_se, mean_ci_lower, mean_ci_upper (and obs_ci_lower, obs_ci_upper).

        A DataFrame, lazy where the data are; with columns "mean_class" and so on for multinomial models.

        Parameters
        ----------
        level, alpha : float, optional
            Default the level that `get_prediction` was asked for.
        """
        return as_table(*self._at(level, alpha)._columns_named())

    def _columns(self, names, shown=None):
        return self._apply(dataclasses.replace(self._predictor, chosen=names), *self._labelled(shown or names))

    def _labelled(self, names):
        columns = list(names) if self._classes is None else [f"{name}_{label}" for name in names
                                                             for label in self._classes]
        return len(columns), columns

    def _columns_named(self):
        names = tuple(name for name in self.names if name in THEIRS)
        shown = [THEIRS[name] for name in names]
        return self._columns(names, shown), self._labelled(shown)[1]


def means_of(fitted, order):
    """`Means` of a fit."""
    objective = fitted.fit.objective
    return Means(objective.model, objective.basis, fitted.fit.point.coef, order)


def predictor_of(fitted, covariance, order, quantile, dispersion):
    """`Predictor` of a fit with a covariance; `order` holds the model's position of each class shown."""
    objective = fitted.fit.objective
    cov = covariance.standardised
    if cov is None:
        T = np.kron(np.eye(objective.model.n_equations), np.linalg.inv(objective.basis.to_raw))
        cov = T @ covariance.matrix @ T.T
    return Predictor(objective.model, objective.basis, fitted.fit.point.coef, cov, float(quantile),
                     float(dispersion) if math.isfinite(dispersion) else math.nan, order, ())
