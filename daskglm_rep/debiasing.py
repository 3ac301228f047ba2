"""Debiased estimates: the equations of Lee, Liu, Sun & Taylor (2015) and van de Geer et al. (2014), a function each.

Of a part of the data with n rows (n: the sum of weights), a penalized estimate b and the losses' curvatures h_i there:

    W = diag(h)^(1/2) X                                                       wexog
    G = W'W / n                                                               its Gram matrix
    gamma_j = argmin |W_j - W_-j gamma|^2 / (2 n) + sum_l penalty_l |gamma_l|      nodewise_row
    tau_j^2 = |W_j - W_-j gamma_j|^2 / n + sum_l penalty_l |gamma_jl|              nodewise_weight
    Theta_j = (-gamma_j1, ..., 1, ..., -gamma_jp) / tau_j^2                        approx_inv_cov
    b + Theta score(b) / n                                                    debiased
    dispersion Theta G Theta' / n                                             sandwich, its covariance

Theta estimates the inverse of G's limit. Lassos are solved on G, so rows are read once whatever p.
"""

import dataclasses
import math

import numpy as np
from scipy import linalg

from daskglm_rep.kernels.coordinate_descent import nodewise_lasso
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.models.glm import GLM
from daskglm_rep.objective import inverse

EXACT = 1e-9             # of a column's scale: how far a row may be from its lasso's optimality conditions
ALONE = 1e-11            # share of a column's square that the others must leave unexplained
HALVINGS = 12            # of a penalty that is weakened


def wexog(X, params, family="gaussian", link=None, sample_weight=None, offset=None):
    """Weighted design matrix: rows sqrt(h_i) x_i with h_i = w_i G'(eta_i)^2 / V(mu_i), the expected curvature.

    Parameters
    ----------
    X : (n, p) array
        With a column of ones where the model has an intercept.
    params : (p,) array
    family, link
        As in `GLMRegressor`.
    sample_weight, offset : (n,) array, optional

    Returns
    -------
    (n, p) array

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import debiasing
    >>> X = np.array([[1.0, 0.0], [1.0, 2.0]])
    >>> debiasing.wexog(X, [0.0, np.log(4.0) / 2.0], "poisson")
    array([[1., 0.],
           [2., 4.]])
    """
    X = np.asarray(X, float)
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight, float)
    eta = X @ np.asarray(params, float) + (0.0 if offset is None else np.asarray(offset, float))
    model = GLM.of(family, link)
    at_means = np.array([model.link.inverse(e) for e in eta])          # any response: only the curvature is asked for
    return np.sqrt(working_rows(model, eta, at_means, weight)[1])[:, None] * X


def nodewise_row(gram, j, penalty, start=None):
    """The lasso of column j on all others: gamma_j, exactly solved.

    Coordinate descent finds the support, the linear equations on it finish: the optimality conditions then hold to
    rounding, which coordinate descent alone reaches slowly where columns are correlated.

    Parameters
    ----------
    gram : (p, p) array
        G.
    j : int
    penalty : float or (p,) array
        Of each coefficient's absolute value; its entry j is not used.
    start : (p,) array, optional

    Returns
    -------
    (p,) array
        gamma_j, 0 at j. `nodewise_error` measures it.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import debiasing
    >>> gram = np.array([[2.0, 1.0], [1.0, 1.0]])
    >>> debiasing.nodewise_row(gram, 0, penalty=0.25)
    array([0.  , 0.75])
    """
    penalty = np.broadcast_to(np.asarray(penalty, float), len(gram)).copy()
    penalty[j] = math.inf
    row = np.zeros(len(gram)) if start is None else np.array(start, float)
    row[j] = 0.0
    for tol in (1e-12, 1e-20, 1e-28):
        row = nodewise_lasso(gram, j, row, penalty, tol)
        finished = _on_support(gram, j, row, penalty)
        if nodewise_error(gram, finished, j, penalty) <= EXACT:
            return finished
        if nodewise_error(gram, row, j, penalty) <= EXACT:
            return row
    return row


def _on_support(gram, j, row, penalty):
    """The minimum among rows of this support and these signs."""
    support = np.flatnonzero(row)
    target = gram[support, j] - penalty[support] * np.sign(row[support])
    try:
        values = linalg.solve(gram[np.ix_(support, support)], target, assume_a="pos") if support.size else target
    except linalg.LinAlgError:
        return row
    finished = np.zeros_like(row)
    finished[support] = values
    return finished


def nodewise_error(gram, row, j, penalty):
    """Distance of a row from the lasso's optimality conditions, in units of sqrt(G_jj G_ll), the worst coordinate."""
    penalty = np.broadcast_to(np.asarray(penalty, float), len(gram))
    others = np.arange(len(gram)) != j
    slope = (gram[j] - gram @ row)[others]
    row, penalty = row[others], penalty[others]
    off = np.where(row != 0.0, np.abs(slope - penalty * np.sign(row)), np.maximum(np.abs(slope) - penalty, 0.0))
    scale = np.sqrt(np.maximum(gram[j, j] * np.diag(gram)[others], 0.0))
    return float(np.max(off / np.maximum(scale, 1e-300), initial=0.0, where=scale > 0.0))


def nodewise_weight(gram, row, j, penalty):
    """tau_j, the scale of what the other columns leave of column j.

    Parameters
    ----------
    gram, j, penalty
        As for `nodewise_row`.
    row : (p,) array
        Its result.

    Returns
    -------
    float
        The root of |W_j - W gamma|^2 / n + sum penalty_l |gamma_l|.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import debiasing
    >>> gram = np.array([[2.0, 1.0], [1.0, 1.0]])
    >>> round(debiasing.nodewise_weight(gram, np.array([0.0, 0.75]), 0, penalty=0.25) ** 2, 9)
    1.25
    """
    penalty = np.broadcast_to(np.asarray(penalty, float), len(gram))
    used = np.flatnonzero(row)
    rest = gram[j, j] - 2.0 * gram[j] @ row + row @ gram @ row + penalty[used] @ np.abs(row[used])
    return math.sqrt(max(rest, 0.0))


def approx_inv_cov(rows, weights, which=None):
    """Theta from node-wise rows and weights: Theta_j = (e_j - gamma_j) / tau_j^2.

    Parameters
    ----------
    rows : (r, p) array
        gamma_j, one a row.
    weights : (r,) array
        tau_j.
    which : sequence of int, optional
        The columns j; default all p in order.

    Returns
    -------
    (r, p) array

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import debiasing
    >>> debiasing.approx_inv_cov(np.array([[0.0, 0.75], [0.5, 0.0]]), np.array([1.0, 2.0]))
    array([[ 1.   , -0.75 ],
           [-0.125,  0.25 ]])
    """
    p = rows.shape[1]
    return (np.eye(p)[np.arange(p) if which is None else list(which)] - rows) / np.square(weights)[:, None]


def rows_of_part(p, n_parts, part):
    """The columns whose node-wise regressions part number `part` does: ceil(p / n_parts) neighbours."""
    share = -(-p // n_parts)
    return range(min(part * share, p), min((part + 1) * share, p))


@dataclasses.dataclass(frozen=True)
class NodewisePenalty:
    """Penalties of the node-wise regressions in the columns of a fit.

    Attributes
    ----------
    strength : (q,) array
        Of the coefficients in a column's own regression; 0 for one that is free (the intercept).
    unit : (q,) array
        What column j, as a response, is measured in: row j's penalty is strength unit_j.
    relative : bool
        Take strength sqrt(G_jj G_ll) in place of that: the same for columns of any scale.
    most : float
        Where it is above 0, penalties are weakened row by row, for less bias, as long as no more coefficients are used:
        to nothing where there are no more.
    """

    strength: np.ndarray
    unit: np.ndarray
    relative: bool = False
    most: float = 0.0

    def of_row(self, gram, j):
        """(q,) array."""
        if self.relative:
            return self.strength * np.sqrt(np.maximum(gram[j, j] * np.diag(gram), 0.0))
        return self.strength * self.unit[j]


def theta_rows(gram, which, penalty):
    """Rows of Theta from one part's Gram matrix.

    Parameters
    ----------
    gram : (q, q) array
    which : sequence of int
    penalty : NodewisePenalty

    Returns
    -------
    (len(which), q) array
        NaN where a column is a combination of others that no penalty keeps apart, or a lasso did not converge.
    """
    least_squares = inverse(gram) if len(which) else None
    rows = [_theta_row(gram, j, penalty, least_squares[j]) for j in which]
    return np.array(rows).reshape(len(which), len(gram))


def _theta_row(gram, j, penalty, unpenalized):
    """Row j; `unpenalized` is that of the inverse, NaN where there is none."""
    strength = penalty.of_row(gram, j)
    start = None
    if np.isfinite(unpenalized).all():
        start = -unpenalized / unpenalized[j]
        start[j] = 0.0
        if not np.delete(strength, j).any():
            return _checked(gram, start, j, strength)
        if len(gram) - 1 <= penalty.most:
            return unpenalized
    row = nodewise_row(gram, j, strength, _nearer(gram, j, strength, start))
    found = _checked(gram, row, j, strength)
    for _ in range(HALVINGS if penalty.most else 0):
        strength = 0.5 * strength
        row = nodewise_row(gram, j, strength, row)
        weaker = _checked(gram, row, j, strength)
        if np.count_nonzero(row) > penalty.most or not np.isfinite(weaker).all():
            break
        found = weaker
    return found


def _checked(gram, row, j, strength):
    """Theta_j of a node-wise row, NaN where it is not one."""
    tau = nodewise_weight(gram, row, j, strength)
    if tau ** 2 > ALONE * gram[j, j] and nodewise_error(gram, row, j, strength) <= 1e3 * EXACT:
        return approx_inv_cov(row[None], np.array([tau]), [j])[0]
    return np.full_like(row, math.nan)


def _nearer(gram, j, penalty, start):
    """Where to begin a lasso: at least squares or at zero, wherever its objective is less."""
    if start is None:
        return None
    used = np.flatnonzero(start)
    value = 0.5 * start @ gram @ start - gram[j] @ start + penalty[used] @ np.abs(start[used])
    return start if value < 0.0 else None


def debiased(params, theta, score):
    """b + Theta score: one step from a penalized estimate that takes the penalty's pull back.

    Parameters
    ----------
    params : (p,) array
        b, an average over parts.
    theta : (p, p) array
    score : (p,) array
        Mean over rows of the log-likelihood's gradient at dispersion 1, at the parts' own estimates.

    Returns
    -------
    (p,) array

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import debiasing
    >>> debiasing.debiased(np.array([1.0, 0.0]), np.eye(2), np.array([0.1, 0.02]))
    array([1.1 , 0.02])
    """
    return params + theta @ score


def sandwich(theta, middle, n):
    """Theta middle Theta' / n: the debiased estimate's covariance.

    Parameters
    ----------
    theta : (p, p) array
    middle : (p, p) array
        Mean over rows of the outer product of score rows, or what it is in expectation: dispersion times G.
    n : float
        The sum of weights.

    Returns
    -------
    (p, p) array

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import debiasing
    >>> debiasing.sandwich(np.eye(2), 4.0 * np.eye(2), 100)
    array([[0.04, 0.  ],
           [0.  , 0.04]])
    """
    matrix = theta @ middle @ theta.T / n
    return 0.5 * (matrix + matrix.T)


def residual_freedom(theta, gram, n):
    """Degrees of freedom that a debiased fit leaves to the residuals of n rows: |I - A|^2 with A = W Theta W' / n.

    Debiased fitted values are A y plus a negligible part, so Pearson's chi-squared over this is unbiased for the
    dispersion; n - p where Theta is the inverse, and positive for any p.

    Returns
    -------
    float
    """
    product = theta @ gram
    return float(n - 2.0 * np.trace(product) + np.sum(product * (gram @ theta)))
