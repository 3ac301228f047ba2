"""Predictions with standard errors and intervals, lazily, on the scale of the link and of the response."""

import dataclasses
import math

import numpy as np
from scipy import special

from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.leverage import tile_quadratic
from daskglm_rep.kernels.residuals import slope_rows
from daskglm_rep.kernels.rows import inverse_link
from daskglm_rep.kernels.softmax import class_probabilities

ONE = ("mean", "se", "ci_lower", "ci_upper", "linear", "linear_se", "linear_ci_lower", "linear_ci_upper")
OBSERVATION = ("obs_ci_lower", "obs_ci_upper")
MANY = ONE[:4]


@dataclasses.dataclass(frozen=True)
class Predictor:
    """Rows and offsets to predicted numbers; picklable.

    Attributes
    ----------
    model : families.GLM or multinomial.Multinomial
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
        make = self._one if hasattr(self.model, "link") else self._many
        parts = []
        for rows, Z in tiles(X, self.basis):
            found = make(Z, offset[rows])
            parts.append(np.column_stack([found[name] for name in self.chosen]))
        width = len(self.chosen) * (1 if hasattr(self.model, "link") else len(self.order))
        out = np.concatenate(parts) if parts else np.empty((0, width))
        return out[:, 0] if width == 1 else out

    def _one(self, Z, offset):
        eta = Z @ self.coef + offset
        se = np.sqrt(np.maximum(tile_quadratic(Z, self.cov), 0.0))
        half, link = self.quantile * se, self.model.link
        low, high = eta - half, eta + half
        ends = np.sort([inverse_link(link, low), inverse_link(link, high)], axis=0)       # links may fall
        found = dict(zip(ONE, (inverse_link(link, eta), np.abs(slope_rows(link, eta)) * se, ends[0], ends[1], eta, se,
                               low, high)))
        if set(self.chosen) & set(OBSERVATION):
            spread = self.quantile * np.sqrt(se ** 2 + self.dispersion)
            found |= dict(zip(OBSERVATION, (eta - spread, eta + spread)))
        return found

    def _many(self, Z, offset):
        q, k = self.basis.n_coef, self.model.n_equations
        P = class_probabilities(Z @ self.coef.reshape(k, q).T + offset[:, None])
        products = [[None] * k for _ in range(k)]
        for a in range(k):
            for b in range(a + 1):
                block = self.cov[a * q:(a + 1) * q, b * q:(b + 1) * q]
                products[a][b] = products[b][a] = np.asarray((Z @ block * _dense(Z)).sum(axis=1)).ravel()
        V = np.array(products).transpose(2, 0, 1)                     # covariance of each row's linear predictors
        J = P[:, :, None] * (np.eye(k + 1)[:, 1:][None] - P[:, None, 1:])
        se = np.sqrt(np.maximum(np.einsum("nja,nab,njb->nj", J, V, J), 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            logit, half = special.logit(P), self.quantile * se / (P * (1.0 - P))
            low, high = special.expit(logit - half), special.expit(logit + half)
        return {name: value[:, list(self.order)] for name, value in zip(MANY, (P, se, low, high))}


def _dense(Z):
    return Z.toarray() if hasattr(Z, "toarray") else Z


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
    """

    def __init__(self, apply, predictor, classes=None):
        self._apply, self._predictor, self._classes = apply, predictor, classes

    @property
    def names(self):
        """The statistics this model has."""
        model = self._predictor.model
        if not hasattr(model, "link"):
            return MANY
        gaussian = model.family.facts.name == "gaussian" and model.link.name == "identity"
        return ONE + (OBSERVATION if gaussian else ())

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
        predictor = dataclasses.replace(self._predictor, chosen=self.names)
        columns = list(self.names)
        if self._classes is not None:
            columns = [f"{name}_{label}" for name in self.names for label in self._classes]
        return self._apply(predictor, len(columns), columns)


def predictor_of(fitted, covariance, order, quantile, dispersion):
    """`Predictor` of a fit with a covariance; `order` holds the model's position of each class shown."""
    objective = fitted.fit.objective
    cov = covariance.standardised
    if cov is None:
        T = np.linalg.inv(objective.basis.to_raw)
        T = np.kron(np.eye(objective.model.n_equations), T)
        cov = T @ covariance.matrix @ T.T
    return Predictor(objective.model, objective.basis, fitted.fit.point.coef, cov, float(quantile),
                     float(dispersion) if math.isfinite(dispersion) else math.nan, order, ())
