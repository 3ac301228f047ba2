"""Score and deviance of a block at many coefficient vectors at once: products of matrices around the row formulas."""

import dataclasses

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, OUT2, call, kernel, types
from daskglm_rep.kernels.folds import Cells
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.rows import ANY_MEAN, glm_rows

TILE_NUMBERS, TILE_ROWS = 2 ** 17, 2048          # linear predictors and rows of a tile: both stay in the L2 cache


@kernel
def _many_rows(family, link, canonical, check, eta, y, weight, residual, totals):
    """Residuals of each row of `eta` (a coefficient vector each); deviance, Pearson's and invalid rows to `totals`."""
    n = y.size
    expected, observed = np.empty(n), np.empty(n)
    nowhere = link.link(ANY_MEAN)
    for c in range(eta.shape[0]):
        for i in range(n):
            eta[c, i] = eta[c, i] if weight[i] > 0.0 else nowhere
        if totals[c, 2] == 0.0:
            glm_rows(family, link, canonical, check, eta[c], y, weight, residual[c], expected, observed, totals[c])
        if totals[c, 2] > 0.0:
            for i in range(n):
                residual[c, i] = 0.0


_ROWS = (types.float64, types.boolean, OUT2, FLOATS, FLOATS, OUT2, OUT2)


def many_scores(model, block, basis, coefs, n_scored=None):
    """Score and deviance at each of some coefficient vectors.

    Parameters
    ----------
    coefs : (C, q) array in the basis
    n_scored : int, optional
        Only the first so many get a score.

    Returns
    -------
    score : (n_scored, q) array
    totals : (C, 3) array
        Deviance, Pearson's chi-squared, rows outside the family's domain (from the first such tile on nothing counts).
    """
    n_scored = len(coefs) if n_scored is None else n_scored
    score, totals = np.zeros((n_scored, basis.n_coef)), np.zeros((len(coefs), 3))
    step = min(max(TILE_NUMBERS // max(len(coefs), 1), 128), TILE_ROWS)
    for start in range(0, block.n_rows if len(coefs) else 0, step):
        rows = slice(start, min(start + step, block.n_rows))
        Z = basis.design(block.X[rows])
        eta = (Z @ coefs.T).T if sparse.issparse(Z) else coefs @ Z.T
        eta = np.ascontiguousarray(eta + block.offset[rows])
        residual = np.empty_like(eta)
        call(_many_rows, _ROWS, model.family, model.link, model.canonical, not model.always_valid, eta, block.y[rows],
             block.weight[rows], residual, totals)
        score += (Z.T @ residual[:n_scored].T).T if sparse.issparse(Z) else residual[:n_scored] @ Z
    return score, totals


@dataclasses.dataclass(frozen=True)
class Plan:
    """Which coefficient vectors each cell of the rows is asked about.

    Attributes
    ----------
    layers : tuple of Cells
    vectors, slots : tuple of int arrays, one a cell
        Whose score and deviance are wanted, and where in the sums they are added.
    n_slots : int
    """

    layers: tuple[Cells, ...]
    vectors: tuple
    slots: tuple
    n_slots: int

    @classmethod
    def by_cell(cls, layers, n_cells, n_vectors):
        """All vectors everywhere, each cell's sums by themselves: slot = cell * n_vectors + vector."""
        every = np.arange(n_vectors)
        return cls(layers, (every,) * n_cells, tuple(every + a * n_vectors for a in range(n_cells)),
                   n_cells * n_vectors)

    @classmethod
    def by_split(cls, layers, train, test, split):
        """Each vector on the cells that its split trains on, slot c, and on those that it holds out, slot C + c.

        Parameters
        ----------
        train, test : (K + 1, n_cells) bool array
        split : (C,) int array
            Of each vector.
        """
        slots = tuple(np.flatnonzero(np.r_[train[split, a], test[split, a]]) for a in range(train.shape[1]))
        return cls(layers, tuple(own % len(split) for own in slots), slots, 2 * len(split))


@dataclasses.dataclass(frozen=True)
class Many:
    """Sums at many coefficient vectors.

    Attributes
    ----------
    score : (n_slots, q) array
    deviance, n_invalid : (n_slots,) array
    moments : dict of int to tuple of Moments
        By cell, at the vectors whose information was asked for.
    """

    score: np.ndarray
    deviance: np.ndarray
    n_invalid: np.ndarray
    moments: dict

    def merge(self, other):
        moments = dict(self.moments)
        for cell, new in other.moments.items():
            moments[cell] = tuple(a.merge(b) for a, b in zip(moments[cell], new)) if cell in moments else new
        return Many(self.score + other.score, self.deviance + other.deviance, self.n_invalid + other.n_invalid, moments)


def many_moments(block, model, basis, coefs, plan, informed=()):
    """`Many` of a block.

    Parameters
    ----------
    coefs : (C, q) array in the basis
    plan : Plan
    informed : (m, q) array
        Vectors whose information is wanted, cell by cell.
    """
    score, totals, moments = np.zeros((plan.n_slots, basis.n_coef)), np.zeros((plan.n_slots, 3)), {}
    for cell, rows in (piece for cells in plan.layers for piece in cells.pieces(block)):
        part, slots = block.take(rows), plan.slots[cell]
        own = many_scores(model, part, basis, coefs[plan.vectors[cell]])
        score[slots] += own[0]
        totals[slots] += own[1]
        if len(informed):
            moments[cell] = tuple(block_moments(part, model, basis, coef) for coef in informed)
    return Many(score, totals[:, 0], totals[:, 2], moments)
