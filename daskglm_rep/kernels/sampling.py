"""Rows that leave a block as a subsample: at random with given probabilities, or because they are extreme."""

import dataclasses

import numpy as np

from daskglm_rep.kernels.block import Basis, Block, tiles
from daskglm_rep.kernels.rows import working_rows

ROW_BITS = 40          # a row's key is block index * 2^40 + position: blocks of up to 10^12 rows


@dataclasses.dataclass(frozen=True)
class Sample:
    """Rows drawn so far and their probabilities of being drawn.

    Attributes
    ----------
    blocks : tuple of Block
        With the rows' own weights.
    probability : tuple of (n,) array
        Of each row to be in the sample.
    """

    blocks: tuple
    probability: tuple

    def merge(self, other):
        return Sample(self.blocks + other.blocks, self.probability + other.probability)


@dataclasses.dataclass(frozen=True)
class SimpleDraw:
    """Simple random sampling without replacement: how many rows each block gives.

    Attributes
    ----------
    counts : tuple of int
        Drawn once for all blocks from the multivariate hypergeometric distribution, so that the sample as a whole is
        a simple random sample.
    share : float
        Sampled share of all rows.
    seed : int
    """

    counts: tuple
    share: float
    seed: int

    def rows(self, block, generator):
        chosen = np.sort(generator.choice(block.n_rows, self.counts[block.index], replace=False, shuffle=False))
        return chosen, np.full(chosen.size, self.share)


@dataclasses.dataclass(frozen=True)
class ImportanceDraw:
    """Poisson sampling: row i enters on its own with probability min(1, rate q_i + floor).

    Attributes
    ----------
    model, basis, coef
        Where the importances q_i are evaluated, see `importance`.
    matrix : (q, q) array
    rate : float
        Infinite to take every row.
    floor : float
        Least probability: bounds the weights 1 / probability.
    seed : int
    """

    model: object
    basis: Basis
    coef: np.ndarray
    matrix: np.ndarray
    rate: float
    floor: float
    seed: int

    def rows(self, block, generator):
        if np.isinf(self.rate):
            return np.arange(block.n_rows), np.ones(block.n_rows)
        q = importance(block, self.model, self.basis, self.coef, self.matrix)
        probability = np.minimum(1.0, self.rate * q + self.floor)
        chosen = np.flatnonzero(generator.random(block.n_rows) < probability)
        return chosen, probability[chosen]


def importance(block, model, basis, coef, matrix):
    """q_i = |w_i (y_i - mu_i) G'(eta_i) / V(mu_i)| |matrix z_i| of the rows of a block.

    With matrix = T H^-1 (T to raw coordinates, H the information) the score row's length in units of the raw
    coefficients: the A-optimal importance (Wang, Zhu & Ma 2018, Theorem 3; Ai et al. 2021, equation 2.8); with
    matrix = T'^-1 the length of the raw score row: the L-optimal one.

    Returns
    -------
    (n,) array

    Raises
    ------
    ValueError
        The coefficients give some row of the block a mean outside the family's domain.
    """
    q, totals = np.empty(block.n_rows), np.zeros(3)
    for rows, Z in tiles(block.X, basis):
        residual, _, _ = working_rows(model, Z @ coef + block.offset[rows], block.y[rows], block.weight[rows], totals)
        q[rows] = np.abs(residual) * np.sqrt(np.einsum("ij,ij->i", *[Z @ matrix.T] * 2))
    if totals[2]:
        raise ValueError(f"The pilot's coefficients give rows of block {block.index} means outside the domain of the "
                         f"{model} model: use method='uniform', a larger n_pilot, or another link.")
    return q


def draw(block, plan):
    """The rows of a block that a plan picks, as a `Sample`; the generator depends on seed and block index alone."""
    chosen, probability = plan.rows(block, np.random.default_rng((plan.seed, block.index, 1)))
    return Sample((_home(block, chosen),), (probability,))


def _home(block, rows):
    """A copy of some rows: the sample must not keep the block alive."""
    new = block.take(rows)
    return dataclasses.replace(new, X=np.array(new.X), extra={})


@dataclasses.dataclass(frozen=True)
class Extremes:
    """Per column the rows of least and of largest values, ties in the order of the rows.

    Attributes
    ----------
    depths : tuple of int
        How many rows are kept at each end of each column.
    ends : tuple of (values, keys)
        Least of column 0, largest of column 0, least of column 1, ...; values are negated at the upper end.
    """

    depths: tuple
    ends: tuple

    def merge(self, other):
        ends = []
        for j, (a, b) in enumerate(zip(self.ends, other.ends)):
            values, keys = np.concatenate([a[0], b[0]]), np.concatenate([a[1], b[1]])
            order = np.lexsort((keys, values))[:self.depths[j // 2]]
            ends.append((values[order], keys[order]))
        return Extremes(self.depths, tuple(ends))


def extremes(block, columns, depths):
    """`Extremes` of a block among its rows of positive weight."""
    rows = np.flatnonzero(block.weight > 0)
    first = np.int64(block.index) << ROW_BITS
    ends = []
    for j, depth in zip(columns, depths):
        for sign in (1.0, -1.0):
            values = sign * block.X[rows, j]
            if depth < values.size:
                limit = np.partition(values, depth - 1)[depth - 1]
                inside = np.flatnonzero(values < limit)
                near = np.r_[inside, np.flatnonzero(values == limit)[:depth - inside.size]]
            else:
                near = np.arange(values.size)
            order = near[np.lexsort((near, values[near]))]
            ends.append((values[order], first + rows[order]))
    return Extremes(tuple(depths), tuple(ends))


def rows_of_keys(block, keys):
    """The rows of a block among sorted keys (see `ROW_BITS`), as a `Sample` of probability 1."""
    first = np.int64(block.index) << ROW_BITS
    a, b = np.searchsorted(keys, [first, first + (1 << ROW_BITS)])
    rows = (keys[a:b] - first).astype(np.int64)
    return Sample((_home(block, rows),), (np.ones(rows.size),))


def joined(sample):
    """One block of a sample's rows, and their probabilities."""
    blocks = sample.blocks
    block = Block(np.concatenate([b.X for b in blocks]), np.concatenate([b.y for b in blocks]),
                  np.concatenate([b.weight for b in blocks]), np.concatenate([b.offset for b in blocks]))
    return block, np.concatenate(sample.probability)
