"""Penalties: what is added to half the deviance, in the basis of a fit and times the sum of weights."""

import dataclasses

import numpy as np

from daskglm_rep.kernels.coordinate_descent import quadratic_minimum


@dataclasses.dataclass(frozen=True)
class Penalty:
    """No penalty, and the interface of all: false where nothing is penalised.

    A smooth part, coef' matrix coef / 2, whose derivatives join the objective's; and for some a part with corners,
    which `minimise` knows.
    """

    matrix = None
    is_smooth = True

    def __bool__(self):
        return False

    def value(self, coef):
        """Of the whole penalty."""
        return 0.0

    def gradient(self, coef):
        """Of its smooth part, (k,)."""
        return 0.0

    def add_curvature(self, information):
        """A (k, k) information or Hessian with the smooth part's second derivative added; None stays None."""
        return information if information is None or self.matrix is None else information + self.matrix

    def rise(self, coef, step):
        """Change of the part with corners along a step."""
        return 0.0

    def free(self, n_coef):
        """Which coefficients are not penalised, (k,) bool array."""
        return np.ones(n_coef, bool)

    def with_ridge(self, matrix):
        """This penalty with another smooth part."""
        return Ridge(matrix)


NONE = Penalty()


@dataclasses.dataclass(frozen=True)
class Ridge(Penalty):
    """coef' matrix coef / 2.

    Parameters
    ----------
    matrix : (k, k) array, positive semidefinite
    """

    matrix: np.ndarray = None

    def __bool__(self):
        return True

    def value(self, coef):
        return 0.0 if self.matrix is None else 0.5 * coef @ self.matrix @ coef

    def gradient(self, coef):
        return 0.0 if self.matrix is None else self.matrix @ coef

    def free(self, n_coef):
        return np.ones(n_coef, bool) if self.matrix is None else np.diag(self.matrix) == 0.0


@dataclasses.dataclass(frozen=True)
class ElasticNet(Ridge):
    """sum absolute |coef| + coef' matrix coef / 2.

    Parameters
    ----------
    matrix : (k, k) array or None
    absolute : (k,) array
        Weights of the absolute values; 0 for free coefficients.
    """

    absolute: np.ndarray = None
    is_smooth = False

    def value(self, coef):
        return super().value(coef) + self.absolute @ np.abs(coef)

    def rise(self, coef, step):
        return self.absolute @ (np.abs(coef + step) - np.abs(coef))

    def minimise(self, hessian, gradient, coef):
        """Minimum of the quadratic model with this penalty, whose smooth part is in the model, (k,) array."""
        return quadratic_minimum(hessian, gradient, coef, self.absolute)

    def free(self, n_coef):
        return super().free(n_coef) & (self.absolute == 0.0)

    def with_ridge(self, matrix):
        return dataclasses.replace(self, matrix=matrix)


def _factor(penalty_factor, n_features):
    factor = np.ones(n_features) if penalty_factor is None else np.asarray(penalty_factor, float)
    if factor.shape != (n_features,) or not ((factor >= 0.0) & np.isfinite(factor)).all():
        raise ValueError(f"penalty_factor must hold one finite number >= 0 for each of the {n_features} features, got "
                         f"{penalty_factor!r}.")
    return factor


def elastic_net(basis, model, columns, alpha, l1_ratio=0.0, standardize=False, penalty_factor=None):
    """alpha (l1_ratio |b|_1 + (1 - l1_ratio) / 2 |b|^2) as a `Penalty` in the basis; the intercept is free.

    Parameters
    ----------
    columns : summaries.Spread
        Of the raw columns: `standardize` penalises s_j b_j with its standard deviations s_j, whatever the basis is
        scaled by (a constant column counts as of deviation 1).
    penalty_factor : (p,) array, optional
    """
    if not alpha:
        return NONE
    factor = _factor(penalty_factor, columns.mean.size)[basis.columns]
    constant = (columns.high <= columns.low) | (columns.deviation == 0.0)
    unit = (np.where(constant, 1.0, columns.deviation)[basis.columns] if standardize else 1.0) / basis.scale
    strength, J = alpha * columns.weight, model.n_equations
    free = [0.0] * basis.intercept
    matrix = None
    if l1_ratio < 1:
        matrix = np.kron(model.ridge_metric, (1 - l1_ratio) * strength * np.diag(np.r_[free, factor * unit ** 2]))
    if l1_ratio == 0:
        return Ridge(matrix)
    return ElasticNet(matrix, np.tile(l1_ratio * strength * np.r_[free, factor * unit], J))
