"""The collection sweep: rows to parts, and what each part sends once."""

import dataclasses
import math

import numpy as np

from daskglm_rep import passes
from daskglm_rep.diagnostics import independent
from daskglm_rep.kernels.assignment import bisect, compress, join_small
from daskglm_rep.kernels.representatives import histograms, moment_sums
from daskglm_rep.kernels.survey import survey
from daskglm_rep.part_summaries import ColumnSketch, PartSums
from daskglm_rep.summaries import Pair, Total

N_SKETCHES = 2           # spread vectors a part: one leaves the surrogate's information twice as noisy, more cost bytes
FEWEST = 10              # rows on each side of a cut: a spread vector of fewer says little about its part
BINS, MEDIAN_SWEEPS = 64, 4


def guarded_survey(block, family, pilot, least, sketched):
    """The survey of a block and, where asked for, sketches of its columns; a guard lets no single row or value leave.

    The rows brought home are then means of groups of at least `least` rows, found by bisection.
    """
    found = survey(block, family, pilot)
    if least > 1 and found.pilot[0].n_rows:
        found = dataclasses.replace(found, pilot=(_grouped(_occupied(found.pilot[0]), least),), pilot_is_all=False)
    return Pair(found, ColumnSketch.of(block.X, least) if sketched else Total(0))


def _occupied(block):
    """The rows of positive weight: a guard must not count the others."""
    return block if (block.weight > 0).all() else block.take(np.flatnonzero(block.weight > 0))


def _grouped(rows, least):
    """Weighted means of groups of neighbouring rows, as a block."""
    if not rows.n_rows:
        return rows
    deviation = rows.X.std(axis=0)
    x = (rows.X - rows.X.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    codes = np.zeros(rows.n_rows, np.int64)
    codes = bisect(x, codes, max(1, rows.n_rows // (2 * least)), least).route(codes, x)
    n = int(codes.max()) + 1
    weight = np.bincount(codes, rows.weight, n)

    def mean(v):
        return np.bincount(codes, rows.weight * v, n) / weight

    X = np.stack([mean(rows.X[:, j]) for j in range(rows.X.shape[1])], 1)
    return dataclasses.replace(rows, X=X, y=mean(rows.y), weight=weight, offset=mean(rows.offset))


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a block's rows become parts: the same in every sweep.

    Attributes
    ----------
    basis : Basis
        Columns that the sums are taken in.
    has_offset : bool
        The offset then is one more column, whose coefficient is 1.
    layout : partitions.Layout
    assigner : partitions.Assigner
    least : int
        Rows of the smallest part that may leave a block.
    starts : (n_blocks,) array
        Number of the first row of each block in the data.
    seed : int or None
        Of the signs; None draws secret ones in the block.
    parts_per_row : float
        Above 0 every block cuts its parts until it has this share of its rows.
    cuts : tuple or None
        (keys, Bisections) of parts that span blocks.
    """

    basis: object
    has_offset: bool
    layout: object
    assigner: object
    least: int
    starts: np.ndarray
    seed: int
    parts_per_row: float = 0.0
    cuts: tuple = None

    def design(self, block):
        """(n, d) columns: the basis, and the offset."""
        Z = self.basis.design(block.X)
        return np.column_stack([Z, block.offset]) if self.has_offset else Z

    def rows(self, block):
        """The rows that count: under a guard those of positive weight."""
        return _occupied(block) if self.least > 1 else block

    def keys(self, block):
        """Keys of the rows' parts, and how many parts were too small to leave the block."""
        if not block.n_rows:
            return np.zeros(0, np.int64), 0
        if block.n_rows < self.least:
            raise ValueError(f"Block {block.index} has {block.n_rows} rows of positive weight, below min_block_size="
                             f"{self.least}: nothing of it may leave; merge this chunk with another of the same place, "
                             "or leave it out.")
        keys = self.assigner.keys(block)
        if self.cuts is not None:
            known, cuts = self.cuts
            place = np.minimum(np.searchsorted(known, keys), known.size - 1)
            rows = np.flatnonzero(known[place] == keys)
            moved = cuts.route(place[rows], self.layout.standardise(block.X[rows]))
            keys = np.array(keys)
            keys[rows] = np.where(moved == place[rows], keys[rows], -1 - moved)
        if self.least <= 1:
            return keys, 0
        return join_small(keys, self.layout.standardise(block.X), self.least)


def collect_block(block, plan):
    """Sums of a block's parts, `PartSums`; the total is the number of parts joined to others."""
    block = plan.rows(block)
    if not block.n_rows:
        return _nothing(plan)
    keys, n_joined = plan.keys(block)
    blocks = np.unique(keys[keys >= 0])
    if plan.parts_per_row:
        distinct, codes = compress(keys)
        x = plan.layout.standardise(block.X)
        target = max(distinct.size, math.ceil(plan.parts_per_row * block.n_rows))
        codes = bisect(x, codes, target, max(plan.least, FEWEST)).route(codes, x)
        keys = (np.int64(block.index) << 40) + codes
    distinct, codes = compress(keys)
    seed = np.random.default_rng().integers(2 ** 63) if plan.seed is None else plan.seed
    Z = plan.design(block)
    sums, low, high = moment_sums(Z, block.y, block.weight, codes, distinct.size, seed, int(plan.starts[block.index]),
                                  N_SKETCHES)
    delta = _diagonal(low, high, plan)
    if plan.least > 1:                       # extremes are values of single rows: a guarded block keeps them
        low, high = low[:, :0], high[:, :0]
    sent = (block.index, distinct.size, sums.nbytes + low.nbytes + high.nbytes + distinct.nbytes, delta)
    return PartSums(distinct, sums, low, high, (sent,), np.array([float(n_joined)]), blocks)


def _nothing(plan):
    d = plan.basis.n_coef + plan.has_offset
    empty = np.zeros((0, 0 if plan.least > 1 else d))
    return PartSums(np.zeros(0, np.int64), np.zeros((0, 4 + 2 * d + N_SKETCHES * (d + 1))), empty, empty,
                    totals=np.zeros(1))


def _diagonal(low, high, plan):
    """Largest diagonal of the parts' boxes in the units of X."""
    first = int(plan.basis.intercept)
    span = (high - low)[:, first:first + plan.basis.columns.size] * plan.basis.scale
    return float(np.sqrt(np.einsum("kj,kj->k", span, span)).max(initial=0.0))


@dataclasses.dataclass(frozen=True)
class Collection:
    """What was collected, per part, in the columns of a basis (the offset last where there is one).

    Attributes
    ----------
    basis : Basis
    has_offset : bool
    keys : (K,) int64 array
    rows, weight, mean_y : (K,) array
    mean : (K, d) array
    spread : (L, K, d) array
        z with mean z z' over signs equal to the part's covariance, exactly.
    covariance_y : (K, d) array
        sum w (y - mean y)(x - mean).
    within : (K,) array
        Mean squared distance to the mean.
    low, high : (K, d) array
        Without columns where the blocks keep them.
    """

    basis: object
    has_offset: bool
    keys: np.ndarray
    rows: np.ndarray
    weight: np.ndarray
    mean_y: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    covariance_y: np.ndarray
    within: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, parts, basis, has_offset):
        """From merged `PartSums`; parts without weight are left out."""
        kept = parts.sums[:, 1] > 0
        s, d = parts.sums[kept], basis.n_coef + has_offset
        weight = s[:, 1]
        mean, mean_y = s[:, 4:4 + d] / weight[:, None], s[:, 2] / weight
        cross = s[:, 4 + d:4 + 2 * d] - (weight * mean_y)[:, None] * mean
        sketches = s[:, 4 + 2 * d:].reshape(len(s), N_SKETCHES, d + 1)
        spread = (sketches[:, :, 1:] - sketches[:, :, :1] * mean[:, None, :]) / np.sqrt(weight)[:, None, None]
        within = np.maximum(s[:, 3] / weight - np.einsum("kj,kj->k", mean, mean), 0.0)
        return cls(basis, has_offset, parts.keys[kept], s[:, 0], weight, mean_y, mean,
                   np.ascontiguousarray(spread.transpose(1, 0, 2)), cross, within, parts.low[kept], parts.high[kept])

    def points(self, sketched=True):
        """Weighted points (weight, (n, q) columns, offset): the means, or mean +- each spread vector."""
        if not sketched:
            return self._split(self.weight, self.mean)
        n_sketches = len(self.spread)
        Z = np.concatenate([self.mean + sign * z for z in self.spread for sign in (1.0, -1.0)])
        return self._split(np.tile(self.weight / (2 * n_sketches), 2 * n_sketches), Z)

    def _split(self, weight, Z):
        if self.has_offset:
            return weight, np.ascontiguousarray(Z[:, :-1]), np.ascontiguousarray(Z[:, -1])
        return weight, Z, np.zeros(len(Z))

    def keep(self, which):
        """The collection in some of the basis's coefficients."""
        columns = np.r_[which, [self.basis.n_coef] * self.has_offset].astype(int)
        changes = {f: np.ascontiguousarray(getattr(self, f)[..., columns]) for f in ("mean", "spread", "covariance_y")}
        extremes = columns if self.low.shape[1] else slice(0, 0)
        return dataclasses.replace(self, basis=self.basis.keep(which), low=self.low[:, extremes],
                                   high=self.high[:, extremes], **changes)

    def independent(self, sketched):
        """Which coefficients the points can tell apart."""
        weight, Z, _ = self.points(sketched)
        return independent((Z * weight[:, None]).T @ Z)

    @property
    def delta(self):
        """Largest diagonal of a part's box, in the units of X (an upper bound of its diameter)."""
        first, k = int(self.basis.intercept), self.basis.columns.size
        span = (self.high - self.low)[:, first:first + k] * self.basis.scale
        return float(np.sqrt(np.einsum("kj,kj->k", span, span)).max(initial=0.0))


def collect(data, plan):
    """One sweep.

    Returns
    -------
    collection : Collection
    parts : PartSums
        As merged: what was sent, the blocks and the count of joined parts.
    """
    parts = passes.run(collect_block, data, plan)
    return Collection.of(parts, plan.basis, plan.has_offset), parts


def histogram_block(block, plan, keys, low, width):
    block = plan.rows(block)
    codes = np.searchsorted(keys, plan.keys(block)[0])
    rows = np.flatnonzero(block.weight > 0)
    sums = histograms(plan.design(block)[rows], block.weight[rows], codes[rows], low, width, BINS)
    distinct = np.arange(len(keys))
    none = np.zeros((len(keys), 0))
    return PartSums(distinct, sums, none, none, ((block.index, len(keys), sums.nbytes, 0.0),))


def medians(data, plan, collection):
    """Weighted median of every column in every part, by histograms that narrow 64-fold a sweep.

    Returns
    -------
    median : (K, d) array
        To 64^-4 of the part's range.
    sent : list of tuples
        What left the blocks, sweep by sweep.
    """
    low, high = collection.low, collection.high
    half, sent = 0.5 * collection.weight[:, None], []
    width = high - low
    for _ in range(MEDIAN_SWEEPS):
        reach = width * (1 + 1e-12)
        merged = passes.run(histogram_block, data, plan, collection.keys, low, reach)
        sent.append(merged.sent)
        counts = merged.sums.reshape(len(low), low.shape[1], BINS + 2)
        position = np.clip((np.cumsum(counts, axis=2)[:, :, :-1] < half[:, :, None]).sum(axis=2) - 1, 0, BINS - 1)
        width = reach / BINS
        low = low + position * width
    return np.where(width > 0, low + 0.5 * width, low), sent
