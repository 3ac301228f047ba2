"""Row formulas of marginal effects: values f(eta, t) and the factors of their derivatives in the coefficients.

A row's design is x, its derivative in a base variable D, eta = x'b and t = D'b. Every effect here has
df/db_e = u_e x + v_e D for the equations e, so that a block sends X'(w u) and D'(w v): arrays (n, R, E) for R responses
(the J classes of a multinomial model, else 1) and E equations. `MeanState` and `ClassState` hold what this needs of
some rows' means. Formulas: regression-design chapter, sections "Marginal effects for regression methods" and "Standard
errors"; the multinomial ones here give the baseline class too.
"""

import dataclasses

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT, STRIDED, call, formula, kernel, types
from daskglm_rep.kernels.gram import basis_arguments
from daskglm_rep.kernels.strips import STRIP, add_moment, copy_strip, load_and_predict, new_strip


@formula
def _mean_rows(link, eta, mu, slope, curvature):
    outside = 0
    for i in range(eta.size):
        if not link.accepts(eta[i]):
            outside += 1
    for i in range(eta.size):
        mu[i] = link.inverse(eta[i])
    for i in range(eta.size):
        slope[i] = link.inverse_derivative(eta[i])
    for i in range(eta.size):
        curvature[i] = link.inverse_second_derivative(eta[i])
    return outside


@kernel
def _slope_sums(link, X, columns, center, inverse_scale, intercept, weight, offset, coef, relative, total, gradient):
    """Strips of rows; returns False at the first one with a row that has no such effect."""
    Z, slope_of, none = new_strip(coef.size), np.empty(coef.size), np.empty((4, 0))
    eta, own_weight, own_offset = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    mu, slope, curvature = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    for start in range(0, X.shape[0], STRIP):
        m = min(STRIP, X.shape[0] - start)
        copy_strip(weight, start, m, own_weight)
        copy_strip(offset, start, m, own_offset)
        for i in range(m):
            eta[i] = own_offset[i]
        load_and_predict(X, start, m, columns, center, inverse_scale, intercept, coef, slope_of, own_weight, none, Z,
                         eta)
        lost = 0
        for i in range(m):
            lost += not abs(eta[i]) < np.inf
        if lost + _mean_rows(link, eta[:m], mu, slope, curvature) > 0:
            return False
        if relative:
            for i in range(m):
                lost += mu[i] == 0.0
                slope[i] /= mu[i]
                curvature[i] = curvature[i] / mu[i] - slope[i] ** 2
            if lost > 0:
                return False
        here = 0.0
        for i in range(m):
            here += own_weight[i] * slope[i]
            curvature[i] *= own_weight[i]
        total[0] += here
        add_moment(Z, m, curvature, gradient)
    return True


def slope_sums(link, X, basis, coef, offset, weight, relative):
    """Sums over rows of w h'(eta) and of w h''(eta) z; of ln h for h where they are `relative`.

    All effects of variables that enter one column each, linearly, are these numbers times their coefficients.

    Returns
    -------
    float, (q,) array; or None where rows have no such effect
    """
    total, gradient = np.zeros(1), np.zeros(coef.size)
    found = call(_slope_sums, (MATRIX, INDEX, FLOATS, FLOATS, types.boolean, STRIDED, STRIDED, FLOATS, types.boolean,
                               OUT, OUT), link, X, *basis_arguments(basis), weight, offset, coef, relative, total,
                 gradient)
    return (total[0], gradient) if found else None


def mean_states(link, eta):
    """`MeanState` of some rows.

    Raises
    ------
    ValueError
        The inverse link is not defined at some eta.
    """
    mu, slope, curvature = np.empty((3, eta.size))
    outside = call(_mean_rows, (FLOATS, OUT, OUT, OUT), link, eta, mu, slope, curvature)
    if outside:
        raise ValueError(f"The {link.name} link has no mean at {outside} of {eta.size} rows (linear predictor "
                         f"{eta[0]:.4g} at the first): the values asked for lie outside its domain; move variables "
                         "less, or use another link.")
    return MeanState(mu, slope, curvature)


@dataclasses.dataclass(frozen=True)
class MeanState:
    """Means of some rows of a one-equation model and their first two derivatives in eta, (n,) arrays."""

    mu: np.ndarray
    slope: np.ndarray
    curvature: np.ndarray

    def prediction(self, log=False):
        """E[y], or its logarithm.

        Returns
        -------
        value : (n, R) array
        u : (n, R, E) array
            Its derivative in eta.
        """
        value, u = (_positive_log(self.mu), self.slope / self.mu) if log else (self.mu, self.slope)
        return value[:, None], u[:, None, None]

    def derivative(self, t, relative=False):
        """dE[y]/dx along a direction of the design, or d ln E[y]/dx.

        Parameters
        ----------
        t : (n, E) array
            Derivatives of the linear predictors in x.

        Returns
        -------
        value : (n, R) array
        u, v : (n, R, E) array
            Derivatives in eta and in t.
        """
        mu, slope, curvature, along = self.mu, self.slope, self.curvature, t[:, 0]
        if relative:
            if not mu.all():
                raise ValueError("Relative effects (eyex, eydx) divide by E[y], which is 0 at some rows; use "
                                 "method='dydx' or 'dyex'.")
            curvature = curvature / mu - (slope / mu) ** 2
            slope = slope / mu
        return (slope * along)[:, None], (curvature * along)[:, None, None], slope[:, None, None]


@dataclasses.dataclass(frozen=True)
class ClassState:
    """Class probabilities of some rows, (n, J); methods as of `MeanState`."""

    probability: np.ndarray

    def prediction(self, log=False):
        P = self.probability
        u = np.eye(P.shape[1])[None, :, 1:] - P[:, None, 1:]
        return (np.log(P), u) if log else (P, P[:, :, None] * u)

    def derivative(self, t, relative=False):
        P = self.probability
        full = np.hstack([np.zeros((len(t), 1)), t])
        rate = full - np.sum(P * full, axis=1, keepdims=True)           # d ln P_l / dx
        effect = P * rate
        v = np.eye(P.shape[1])[None, :, 1:] - P[:, None, 1:]
        if relative:
            return rate, np.broadcast_to(-effect[:, None, 1:], v.shape), v
        u = v * effect[:, :, None] - P[:, :, None] * effect[:, None, 1:]
        return effect, u, P[:, :, None] * v


def _positive_log(mu):
    if not (mu > 0).all():
        raise ValueError(f"method='eydx' of a discrete change compares ln E[y], and E[y] is not positive at "
                         f"{int((~(mu > 0)).sum())} of {mu.size} rows; use method='dydx'.")
    return np.log(mu)


def weighted_moments(X, u, weight):
    """(R, E, columns) sums of w u x over rows; X dense or sparse."""
    n, n_responses, n_equations = u.shape
    flat = np.ascontiguousarray(u.reshape(n, -1)) * weight[:, None]
    product = X.T @ flat
    product = product.toarray() if sparse.issparse(product) else np.asarray(product)
    return product.T.reshape(n_responses, n_equations, X.shape[1])
