"""One epoch of implicit stochastic gradient ascent on a block, with the average of its iterates."""

import dataclasses

import numpy as np

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT, call, formula, types


@formula
def _score_factor(family, link, y, eta):
    """(y - mu) G'(eta) / V(mu), NaN outside the domain."""
    if not link.accepts(eta):
        return float("nan")
    mu = link.inverse(eta)
    if not family.accepts_mean(mu):
        return float("nan")
    return (y - mu) * link.inverse_derivative(eta) / family.variance_at(mu, link.complement(eta))


@formula
def _implicit_step(family, link, y, eta, length, rate):
    """Root xi of xi = rate f(eta + length xi): the step's size along the row, by bisection between 0 and rate f(eta).

    The score factor f falls in eta (where the log-likelihood is concave), so the root lies there and is unique.
    """
    a = rate * _score_factor(family, link, y, eta)
    if not (abs(a) < 1e300):
        return 0.0
    low, high = min(a, 0.0), max(a, 0.0)
    for _ in range(60):
        if high - low <= 1e-10 * (abs(a) + 1e-300):
            break
        xi = 0.5 * (low + high)
        f = _score_factor(family, link, y, eta + length * xi)
        # NaN: the step left the domain on the far side of eta, come back
        beyond = xi > rate * f if f == f else xi > 0.0
        if beyond:
            high = xi
        else:
            low = xi
    return 0.5 * (low + high)


@formula
def descent_rows(family, link, Z, y, weight, offset, order, rate, decay, clock, coef, average, totals):
    """Walk through the rows in the given order; `average` gets the mean of the iterates, totals[0] the steps done."""
    q, n = Z.shape[1], order.size
    for k in range(n):
        i = order[k]
        eta, length = offset[i], 0.0
        for j in range(q):
            eta += Z[i, j] * coef[j]
            length += Z[i, j] * Z[i, j]
        if weight[i] > 0.0:
            gamma = weight[i] * rate * (1.0 + rate * (clock + k)) ** (-decay)
            xi = _implicit_step(family, link, y[i], eta, length, gamma)
            for j in range(q):
                coef[j] += xi * Z[i, j]
        for j in range(q):
            average[j] += (coef[j] - average[j]) / (k + 1.0)
    totals[0] += n


ROWS = (MATRIX, FLOATS, FLOATS, FLOATS, INDEX) + (types.float64,) * 3 + (OUT,) * 3


@dataclasses.dataclass(frozen=True)
class Walks:
    """Where the blocks' walks ended, weighted by their rows.

    Attributes
    ----------
    last, average : (q,) array
        sum n_k last_k and sum n_k average_k.
    n_rows : float
    """

    last: np.ndarray
    average: np.ndarray
    n_rows: float

    commutes = True

    def merge(self, other):
        return Walks(*(getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)))


def epoch(block, model, basis, coef, rate, decay, clocks, seed):
    """One epoch on a block, from shared coefficients: a random order that seed and block index fix.

    Parameters
    ----------
    rate, decay : float
        Learning rate rate (1 + rate t)^-decay at step t (Tran, Toulis & Airoldi 2015, equation 7).
    clocks : tuple of int
        Steps done before, for every block.
    seed : tuple of int

    Returns
    -------
    Walks
    """
    n = block.n_rows
    if n == 0:
        return Walks(0.0 * coef, 0.0 * coef, 0.0)
    order = np.random.default_rng((*seed, block.index, 4)).permutation(n)
    last, average = np.array(coef, float), np.zeros(coef.size)
    call(descent_rows, ROWS, model.family, model.link, basis.design(block.X), block.y, block.weight, block.offset,
         order, rate, decay, float(clocks[block.index]), last, average, np.zeros(1))
    return Walks(n * last, n * average, float(n))
