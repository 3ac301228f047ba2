"""The multinomial logit: class probabilities by softmax with a baseline category."""

import dataclasses

import numpy as np
import pandas as pd
from scipy import special

from daskglm_rep.kernels.clusters import softmax_scores
from daskglm_rep.kernels.margins import ClassState
from daskglm_rep.kernels.meat import softmax_meat
from daskglm_rep.kernels.softmax import class_probabilities, softmax_moments, softmax_rows

MANY = ("mean", "se", "ci_lower", "ci_upper")


@dataclasses.dataclass(frozen=True)
class Multinomial:
    """J classes, J - 1 equations: eta_j = x'b_j for classes 1..J-1, eta_0 = 0; p_j = exp(eta_j) / sum_l exp(eta_l).

    Score rows are (1[y = j] - p_j) x, information rows (diag(p) - p p') kron x x' (regression-design chapter, with the
    sign of its off-diagonal weights and the exponent of its likelihood put right).

    Parameters
    ----------
    n_classes : int
        J >= 2; class codes are 0..J-1, code 0 the baseline.
    """

    n_classes: int
    canonical = 1.0
    is_canonical = True
    is_steady = True          # along any direction, with the largest difference of two linear predictors
    dispersion_known = True
    estimates_alpha = is_gaussian = is_linear = False
    always_valid = True
    starts_at_zero = True     # all classes alike
    has_leverage = False
    linear_scale = "log-odds"
    ratio = "odds ratio"
    overdispersion = None
    statistics = MANY
    moments, meat, add_scores = softmax_moments, softmax_meat, softmax_scores

    @property
    def n_equations(self):
        return self.n_classes - 1

    @property
    def n_responses(self):
        return self.n_classes

    @property
    def ridge_metric(self):
        """Across equations: with the baseline at zero, sum_j |b_j - mean b|^2 = B' (I - 11'/J) B."""
        return np.eye(self.n_equations) - 1.0 / self.n_classes

    @property
    def symmetry(self):
        """(J-1, J) matrix from symmetric coefficients, of all classes, to those against the baseline."""
        return np.hstack([-np.ones((self.n_equations, 1)), np.eye(self.n_equations)])

    def __str__(self):
        return f"multinomial logit, {self.n_classes} classes"

    def index(self, names, classes):
        """Labels of the parameters."""
        return pd.MultiIndex.from_product([list(classes[1:]), names], names=["class", "feature"])

    def for_responses(self, response):
        return self

    def null_deviance(self, response, intercept, labels):
        """Deviance at the shares of the classes, at equal ones without intercept; `labels` holds their weights."""
        totals = np.array(list(labels.values()))
        share = totals / totals.sum() if intercept else np.full(len(totals), 1.0 / len(totals))
        return float(-2.0 * np.sum(totals * np.log(np.where(totals > 0, share, 1.0))))

    def loglik(self, deviance, response, frequency):
        return -0.5 * deviance

    def at_limits(self, response):
        return True, False

    def constraint_values(self, y, values, sign):
        """Values of each constraint, (n, J), from those of the equations: the own class and each other."""
        full = np.c_[np.zeros(len(values)), values]
        return np.take_along_axis(full, y.astype(int)[:, None], axis=1) + sign * full

    def constrained(self, y):
        """Which constraints a row has, (n, J) bool: not to fall behind another class."""
        return y.astype(int)[:, None] != np.arange(self.n_classes)

    def constraint_rows(self, Z, y, entry):
        """The constraints' coefficients, (m, k), of rows Z at entries of `constrained`."""
        classes = np.arange(1, self.n_classes)
        sign = (y.astype(int)[:, None] == classes).astype(float) - (entry[:, None] == classes)
        return (sign[:, :, None] * Z[:, None, :]).reshape(len(Z), sign.shape[1] * Z.shape[1])

    def residuals(self, eta, y, weight):
        """(n, J-1) derivatives of the log-likelihood of some rows in their linear predictors."""
        return softmax_rows(eta, y, weight)[0]

    def means(self, eta):
        """(n, J) probabilities at (n, J-1) linear predictors, or (n,) ones of two classes."""
        return class_probabilities(eta if eta.ndim == 2 else eta[:, None])

    def mean_state(self, eta):
        """What marginal effects need of the probabilities at (n, J-1) linear predictors."""
        return ClassState(class_probabilities(eta))

    def predicted(self, Z, offset, coef, cov, quantile, dispersion):
        """Probabilities of rows Z of the design with errors and intervals, by name, as `GLM.predicted`."""
        q, k, dense = Z.shape[1], self.n_equations, Z.toarray() if hasattr(Z, "toarray") else Z
        P = class_probabilities(Z @ coef.reshape(k, q).T + offset[:, None])
        products = [[None] * k for _ in range(k)]
        for a in range(k):
            for b in range(a + 1):
                block = cov[a * q:(a + 1) * q, b * q:(b + 1) * q]
                products[a][b] = products[b][a] = np.asarray((Z @ block * dense).sum(axis=1)).ravel()
        V = np.array(products).transpose(2, 0, 1)                     # covariance of each row's linear predictors
        J = P[:, :, None] * (np.eye(k + 1)[:, 1:][None] - P[:, None, 1:])
        se = np.sqrt(np.maximum(np.einsum("nja,nab,njb->nj", J, V, J), 0.0))
        with np.errstate(divide="ignore", invalid="ignore"):
            logit, half = special.logit(P), quantile * se / (P * (1.0 - P))
            low, high = special.expit(logit - half), special.expit(logit + half)
        return dict(zip(MANY, (P, se, low, high)))
