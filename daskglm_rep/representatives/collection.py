"""The collection sweep: rows to parts, and what each part sends once."""

import dataclasses
import math

import numpy as np

from daskglm_rep.diagnostics import independent
from daskglm_rep.kernels.assignment import bisect, compress, join_small
from daskglm_rep.kernels.representatives import histograms, moment_sums
from daskglm_rep.kernels.survey import survey
from daskglm_rep.part_summaries import ColumnSketch, PartSums
from daskglm_rep.summaries import Pair, Total

FEWEST = 10              # rows on each side of a cut: a spread vector of fewer says little about its part
BINS, MEDIAN_SWEEPS = 64, 4


def guarded_survey(block, family, pilot, least, sketched):
    """The survey of a block and, where asked for, sketches of its columns; a guard lets no single row or value leave.

    The rows brought home are then means of groups of at least `least` rows, found by bisection, the columns' extremes
    means of their `least` smallest and largest values, and the response's are left out.
    """
    found = survey(block, family, pilot)
    if least > 1:
        rows = found.pilot[0]
        pilot_rows = _grouped(_occupied(rows), least) if rows.n_rows else rows
        found = dataclasses.replace(found, pilot=(pilot_rows,), pilot_rows=(pilot_rows.n_rows,), pilot_is_all=False,
                                    response=_blurred(found.response), columns=_guarded(found.columns, block, least))
    return Pair(found, ColumnSketch.of(block.X, least) if sketched else Total(0))


def _guarded(columns, block, least):
    """A `Spread` whose extremes are means of the `least` smallest and largest values."""
    X = block.X[block.weight > 0]
    if len(X) < least or not np.isfinite(X).all():
        return dataclasses.replace(columns, low=columns.mean, high=columns.mean)
    ends = np.sort(X, axis=0)
    low, high = ends[:least].mean(axis=0), ends[-least:].mean(axis=0)
    constant = ends[0] == ends[-1]
    return dataclasses.replace(columns, low=np.where(constant, ends[0], low), high=np.where(constant, ends[0], high))


def _blurred(response):
    """A `Response` without its extremes."""
    around = dataclasses.replace(response.spread, low=response.spread.mean, high=response.spread.mean)
    return dataclasses.replace(response, low=response.mean, high=response.mean, spread=around)


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
    if least > 1:
        codes = compress(guarded_keys(codes, x, rows, least)[0])[1]
    n = int(codes.max()) + 1
    weight = np.bincount(codes, rows.weight, n)

    def mean(v):
        return np.bincount(codes, rows.weight * v, n) / weight

    X = np.stack([mean(rows.X[:, j]) for j in range(rows.X.shape[1])], 1)
    return dataclasses.replace(rows, X=X, y=mean(rows.y), weight=weight, offset=mean(rows.offset))


def guarded_keys(keys, x, block, least, fresh=0):
    """`join_small` of a block's rows, whose complaint names the block."""
    try:
        return join_small(keys, x, least, block.weight, fresh)
    except ValueError as error:
        raise ValueError(f"Block {block.index}: {error}, below min_block_size={least}: nothing of it may leave; merge "
                         "this chunk with another of the same place, or leave it out (min_block_size=1 sets no guard)."
                         ) from None


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
    n_sketches : int
        Spread vectors a part; with 0 only rows, weights and means are sent.
    has_weights : bool
        False: all weights are 1, and their sums are the rows.
    has_extremes : bool
        Whether the parts' extremes are sent.
    split_at : (d,) array or None
        Under a guard, the coefficients whose linear predictors or residuals divide parts in every round: halves that
        were divided anew would differ by single rows.
    first : int
        Number of the first block, of data that came later.
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
    n_sketches: int = 0
    has_weights: bool = True
    has_extremes: bool = False
    split_at: np.ndarray = None
    first: int = 0

    def design(self, block):
        """(n, d) columns: the basis, and the offset."""
        Z = self.basis.design(block.X)
        return np.column_stack([Z, block.offset]) if self.has_offset else Z

    def rows(self, block):
        """The rows that count: under a guard those of positive weight; blocks that came later are numbered on."""
        block = _occupied(block) if self.least > 1 else block
        return dataclasses.replace(block, index=block.index + self.first) if self.first else block

    def keys(self, block):
        """Keys of the rows' parts, and how many parts were too small to leave the block."""
        if not block.n_rows:
            return np.zeros(0, np.int64), 0
        if block.n_rows < self.least:
            raise ValueError(f"Block {block.index} has {block.n_rows} rows of positive weight, below min_block_size="
                             f"{self.least}: nothing of it may leave; merge this chunk with another of the same place, "
                             "or leave it out (min_block_size=1 sets no guard).")
        keys = self.assigner.keys(block)
        if self.cuts is not None:
            known, cuts = self.cuts
            place = np.minimum(np.searchsorted(known, keys), known.size - 1)
            rows = np.flatnonzero(known[place] == keys)
            moved = cuts.route(place[rows], self.layout.standardise(block.X[rows]))
            keys = np.array(keys)
            keys[rows] = np.where(moved == place[rows], keys[rows], -1 - moved)
        return self.joined(keys, block)

    def joined(self, keys, block, number=0):
        """Keys after parts of too few effective rows went to others, under new keys where they are mostly small."""
        if self.least <= 1:
            return keys, 0
        fresh = self.local(block, 1 + number) - 1
        return guarded_keys(keys, self.layout.standardise(block.X), block, self.least, fresh)

    def local(self, block, number):
        """The largest of the negative keys that parts of one block may have by themselves, for some purpose."""
        return -((np.int64(block.index) * 8 + number + 1) << 36)


def collect_block(block, plan):
    """Sums of a block's parts, `PartSums`; the total is the number of parts joined to others."""
    block = plan.rows(block)
    if not block.n_rows:
        return _nothing(plan)
    keys, n_joined = plan.keys(block)
    blocks = np.unique(keys[(keys >= 0) | (keys < plan.local(block, 0))])       # without what was cut from a block
    if plan.parts_per_row:
        keys = _cut(keys, block, plan)
    distinct, codes = compress(keys)
    seed = np.random.default_rng().integers(2 ** 63) if plan.seed is None else plan.seed
    Z = plan.design(block)
    start = int(plan.starts[block.index - plan.first])
    sums, low, high = moment_sums(Z, block.y, block.weight, codes, distinct.size, seed, start, plan.n_sketches)
    delta = _diagonal(low, high, plan)
    if plan.least > 1:                       # extremes are values of single rows: a guarded block keeps them
        delta = math.nan
        unusual = _unusual(block.y, codes, sums[:, 0])
        rare = (unusual > 0) & (unusual < np.minimum(plan.least, sums[:, 0] - 1))
        d = Z.shape[1]                       # of one case among controls, sum w y z is that case's row
        sums[rare, 4 + d:4 + 2 * d] = (sums[rare, 2] / sums[rare, 1])[:, None] * sums[rare, 4:4 + d]
    if plan.least > 1 or not plan.has_extremes:
        low, high = low[:, :0], high[:, :0]
    return PartSums(distinct, sums[:, _sent_columns(plan)], low, high, np.array([float(n_joined)]), blocks, delta)


def _unusual(y, codes, n_rows):
    """Rows of each part that have not its most frequent response, (K,) array."""
    order = np.lexsort((y, codes))
    starts = np.flatnonzero(np.r_[True, (np.diff(codes[order]) != 0) | (np.diff(y[order]) != 0)])
    longest = np.zeros(n_rows.size)
    np.maximum.at(longest, codes[order][starts], np.diff(np.r_[starts, y.size]))
    return n_rows - longest


def _cut(keys, block, plan):
    """Keys after the widest parts were cut within the block; what is not cut off stays with its part elsewhere."""
    distinct, codes = compress(keys)
    x = plan.layout.standardise(block.X)
    target = max(distinct.size, math.ceil(plan.parts_per_row * block.n_rows))
    cut = bisect(x, codes, target, max(plan.least, FEWEST)).route(codes, x)
    kept = cut < distinct.size
    keys = np.where(kept, distinct[np.where(kept, cut, 0)], plan.local(block, 0) - cut)
    return plan.joined(keys, block, 1)[0]


def _sent_columns(plan):
    """Columns of `moment_sums` that leave: without spread vectors rows, weights where they differ, y and means."""
    d = plan.basis.n_coef + plan.has_offset
    if plan.n_sketches:
        return np.arange(4 + 2 * d + plan.n_sketches * (d + 1))
    return np.r_[0, [1] * plan.has_weights, 2, 4 + int(plan.basis.intercept):4 + d].astype(int)


def _all_columns(sums, plan):
    """Inverse of `_sent_columns`, zeros in what was not sent."""
    d = plan.basis.n_coef + plan.has_offset
    if plan.n_sketches:
        return sums
    full = np.zeros((len(sums), 4 + 2 * d))
    full[:, _sent_columns(plan)] = sums
    if not plan.has_weights:
        full[:, 1] = full[:, 0]
    if plan.basis.intercept:
        full[:, 4] = full[:, 1]
    return full


def _nothing(plan):
    d = plan.basis.n_coef + plan.has_offset
    empty = np.zeros((0, d if plan.has_extremes and plan.least <= 1 else 0))
    return PartSums(np.zeros(0, np.int64), np.zeros((0, _sent_columns(plan).size)), empty, empty, totals=np.zeros(1),
                    delta=math.nan if plan.least > 1 else 0.0)


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
    def of(cls, parts, plan):
        """From merged `PartSums` of a plan; parts without weight are left out."""
        basis, has_offset, s = plan.basis, plan.has_offset, _all_columns(parts.sums, plan)
        kept = s[:, 1] > 0
        s, d = s[kept], basis.n_coef + has_offset
        weight = s[:, 1]
        mean, mean_y = s[:, 4:4 + d] / weight[:, None], s[:, 2] / weight
        cross = s[:, 4 + d:4 + 2 * d] - (weight * mean_y)[:, None] * mean if plan.n_sketches else np.zeros_like(mean)
        sketches = s[:, 4 + 2 * d:].reshape(len(s), plan.n_sketches, d + 1)
        spread = (sketches[:, :, 1:] - sketches[:, :, :1] * mean[:, None, :]) / np.sqrt(weight)[:, None, None]
        within = np.maximum(s[:, 3] / weight - np.einsum("kj,kj->k", mean, mean), 0.0)
        return cls(basis, has_offset, parts.keys[kept], s[:, 0], weight, mean_y, mean,
                   np.ascontiguousarray(spread.transpose(1, 0, 2)), cross, within, parts.low[kept], parts.high[kept])

    def points(self, sketched=True):
        """Weighted points (weight, (n, q) columns, offset): the means, or mean +- each spread vector there is."""
        if not sketched or not len(self.spread):
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


def histogram_block(block, plan, keys, low, width):
    """Weights in bins of each part's columns, for the lower and the upper middle value: low, width (2, K, d)."""
    block = plan.rows(block)
    codes = np.searchsorted(keys, plan.keys(block)[0])
    rows = np.flatnonzero(block.weight > 0)
    Z, weight, codes = plan.design(block)[rows], block.weight[rows], codes[rows]
    return Total(np.array([histograms(Z, weight, codes, a, b, BINS) for a, b in zip(low, width)]))


def medians(data, plan, collection, audit):
    """Weighted median of every column in every part, by histograms that narrow 64-fold a sweep.

    The mean of the lower and the upper middle value, as numpy's: half the weight lies at or below the one, and more
    than half at or below the other.

    Returns
    -------
    (K, d) array
        To 64^-4 of the part's range.
    """
    low = np.array([collection.low] * 2)
    width, half = np.array([collection.high] * 2) - low, 0.5 * collection.weight[:, None, None]
    for _ in range(MEDIAN_SWEEPS):
        reach = width * (1 + 1e-12)
        sums = audit.run(0, "histograms", histogram_block, data, plan, collection.keys, low, reach).value
        below = np.cumsum(sums.reshape(2, *low.shape[1:], BINS + 2), axis=3)[..., :-1]
        slack = 1e-12 * half
        before = np.array([below[0] < half - slack, below[1] <= half + slack])
        position = np.clip(before.sum(axis=3) - 1, 0, BINS - 1)
        width = reach / BINS
        low = low + position * width
    return np.where(width > 0, low + 0.5 * width, low).mean(axis=0)
