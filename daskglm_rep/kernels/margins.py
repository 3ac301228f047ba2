"""Row formulas of marginal effects: values f(eta, t) and the factors of their derivatives in the coefficients.

A row's design is x, its derivative in a base variable D, eta = x'b and t = D'b. Every effect here has
df/db_e = u_e x + v_e D for the equations e, so that a block sends X'(w u) and D'(w v): arrays (n, R, E) for R responses
(the J classes of a multinomial model, else 1) and E equations. Formulas: regression-design chapter, sections "Marginal
effects for regression methods" and "Standard errors"; the multinomial ones here give the baseline class too.
"""

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, OUT, call, formula
from daskglm_rep.kernels.softmax import class_probabilities


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


def mean_rows(link, eta):
    """Means of some rows and their first two derivatives in eta.

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
    return mu, slope, curvature


def response_state(model, eta):
    """What the formulas below need of some rows: means and their derivatives, or class probabilities.

    Parameters
    ----------
    model : families.GLM or multinomial.Multinomial
    eta : (n, E) array
    """
    return mean_rows(model.link, eta[:, 0]) if hasattr(model, "link") else (class_probabilities(eta),)


def prediction_rows(state, log=False):
    """E[y] of some rows, or its logarithm.

    Parameters
    ----------
    state : from `response_state`

    Returns
    -------
    value : (n, R) array
    u : (n, R, E) array
        Its derivative in eta.
    """
    if len(state) == 3:
        mu, slope, _ = state
        value, u = (_positive_log(mu), slope / mu) if log else (mu, slope)
        return value[:, None], u[:, None, None]
    P = state[0]
    u = np.eye(P.shape[1])[None, :, 1:] - P[:, None, 1:]
    return (np.log(P), u) if log else (P, P[:, :, None] * u)


def slope_rows(state, t, relative=False):
    """dE[y]/dx of some rows along a direction of the design, or d ln E[y]/dx.

    Parameters
    ----------
    state : from `response_state`
    t : (n, E) array
        Derivatives of the linear predictors in x.

    Returns
    -------
    value : (n, R) array
    u, v : (n, R, E) array
        Derivatives in eta and in t.
    """
    if len(state) == 3:
        mu, slope, curvature = state
        if relative:
            if not mu.all():
                raise ValueError("Relative effects (eyex, eydx) divide by E[y], which is 0 at some rows; use "
                                 "method='dydx' or 'dyex'.")
            curvature = curvature / mu - (slope / mu) ** 2
            slope = slope / mu
        along = t[:, 0]
        return (slope * along)[:, None], (curvature * along)[:, None, None], slope[:, None, None]
    P = state[0]
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
