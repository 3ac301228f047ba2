"""One epoch of sparse stochastic mirror descent on a block, and its link between coefficients and their dual."""

import dataclasses

import numpy as np

STEPS = 16          # through a block, at least


@dataclasses.dataclass(frozen=True)
class Link:
    """The p-norm link of the regularization chapter on penalised coefficients, the identity on free ones.

        w_j = sign(theta_j) |theta_j|^(p - 1) / |theta|_p^(p - 2)

    and its inverse, the same with the conjugate exponent q = p / (p - 1).

    Attributes
    ----------
    order : float >= 2
        p.
    free : (k,) bool array
    """

    order: float
    free: np.ndarray

    def coef(self, theta):
        return self._map(theta, self.order)

    def dual(self, coef):
        return self._map(coef, self.order / (self.order - 1.0))

    def _map(self, values, p):
        size = np.where(self.free, 0.0, np.abs(values))
        top = size.max(initial=0.0)
        if not top < np.inf:                                          # the solver takes such an epoch back
            return np.full(values.shape, np.nan)
        if top == 0.0:
            return np.where(self.free, values, 0.0)
        size = size / top                                             # powers neither overflow nor vanish at once
        norm = np.sum(size ** p) ** (1.0 / p)
        return np.where(self.free, values, np.sign(values) * top * size ** (p - 1.0) * norm ** (2.0 - p))


@dataclasses.dataclass(frozen=True)
class Anchor:
    """Where an epoch begins, what its steps correct, and how long they are.

    Attributes
    ----------
    coef : (k,) array
        Symmetric coefficients.
    gradient : (k,) array
        Of the smooth part at `coef` over all rows, per sum of weights.
    threshold, ridge : (k,) array
        Of absolute values and squares, per sum of weights.
    step : float
    batch : int
        Rows a step, at most.
    scale : float
        Rows over sum of weights.
    """

    coef: np.ndarray
    gradient: np.ndarray
    threshold: np.ndarray
    ridge: np.ndarray
    step: float
    batch: int
    scale: float


@dataclasses.dataclass(frozen=True)
class Walked:
    """Sum over blocks of rows times the coefficients at their walks' ends."""

    coef: np.ndarray
    n_rows: float

    def merge(self, other):
        return Walked(self.coef + other.coef, self.n_rows + other.n_rows)


def mirror_epoch(block, model, basis, link, anchor, begin, seed):
    """Walk once through a block's rows in random order, a few at a time.

    Each step is theta <- soft(theta - delta v, delta threshold) with v the gradient at the walk's coefficients less
    that of the same rows at the anchor plus that of all rows there: no noise is left at the optimum (Johnson & Zhang
    2013).

    Parameters
    ----------
    begin : (k,) array
        Coefficients at the first step.
    seed : tuple of int

    Returns
    -------
    Walked
    """
    order, S = np.random.default_rng((*seed, block.index)).permutation(block.n_rows), model.symmetry
    theta, coef, q = link.dual(begin), begin, basis.n_coef
    at_anchor = S @ anchor.coef.reshape(-1, q)
    batch = max(1, min(anchor.batch, block.n_rows // STEPS))
    with np.errstate(over="ignore", invalid="ignore"):          # an epoch whose step was too long is taken back
        for start in range(0, block.n_rows, batch):
            rows = order[start:start + batch]
            Z, y, weight, offset = basis.design(block.X[rows]), block.y[rows], block.weight[rows], block.offset[rows]
            here, there = (_residuals(model, Z, B, y, weight, offset) for B in (S @ coef.reshape(-1, q), at_anchor))
            change = S.T @ (Z.T @ (there - here)).T * (anchor.scale / rows.size)
            v = change.ravel() + anchor.gradient + anchor.ridge * (coef - anchor.coef)
            theta = theta - anchor.step * v
            theta = np.sign(theta) * np.maximum(np.abs(theta) - anchor.step * anchor.threshold, 0.0)
            coef = link.coef(theta)
    return Walked(block.n_rows * coef, float(block.n_rows))


def _residuals(model, Z, B, y, weight, offset):
    eta = Z @ B.T + offset[:, None]
    return model.residuals(eta if len(B) > 1 else eta[:, 0], y, weight)
