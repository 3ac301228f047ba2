"""Summaries of the parts of a partition: keyed sums, what each block sent, and quantile sketches of columns."""

import dataclasses

import numpy as np

SKETCH = 65_536          # values of a column kept as they are; above, half as many equally spaced quantiles


@dataclasses.dataclass(frozen=True)
class PartSums:
    """Sums and extremes over the rows of each part; equal keys are the same part.

    Attributes
    ----------
    keys : (K,) int64 array
        Ascending.
    sums : (K, c) array
    low, high : (K, d) array
        May have no columns.
    totals : (t,) array
        Plain sums beside those of the parts.
    blocks : (m,) int64 array
        Keys of the partition's blocks, where they are not the parts.
    delta : float
        Largest diagonal of a part's box within a block of rows, in the units of X; NaN where blocks keep it.
    """

    keys: np.ndarray
    sums: np.ndarray
    low: np.ndarray
    high: np.ndarray
    totals: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0))
    blocks: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    delta: float = 0.0

    def merge(self, other):
        common = dict(totals=self.totals + other.totals, blocks=np.union1d(self.blocks, other.blocks),
                      delta=max(self.delta, other.delta))
        if not self.keys.size or not other.keys.size or self.keys[-1] < other.keys[0]:
            joined = (np.concatenate([getattr(self, f), getattr(other, f)]) for f in ("keys", "sums", "low", "high"))
            return PartSums(*joined, **common)
        keys = np.union1d(self.keys, other.keys)
        here, there = np.searchsorted(keys, self.keys), np.searchsorted(keys, other.keys)
        sums = np.zeros((keys.size, self.sums.shape[1]))
        low = np.full((keys.size, self.low.shape[1]), np.inf)
        high = -low
        sums[here] = self.sums
        sums[there] += other.sums
        low[here], high[here] = self.low, self.high
        low[there] = np.minimum(low[there], other.low)
        high[there] = np.maximum(high[there], other.high)
        return PartSums(keys, sums, low, high, **common)


@dataclasses.dataclass(frozen=True)
class ColumnSketch:
    """Sorted values of each column with the number of rows each stands for.

    Exact up to `SKETCH` rows; beyond, a merge keeps SKETCH / 2 equally spaced quantiles, which moves a rank by at most
    1 / SKETCH of the rows.

    Attributes
    ----------
    values : tuple of (m,) array
    weight : tuple of (m,) array
    """

    values: tuple
    weight: tuple

    @classmethod
    def of(cls, X, least=1):
        """Of a block's columns; with `least` above 1 only means of that many neighbouring values leave the block."""
        n, p = X.shape
        starts = np.arange(0, max(n - least + 1, min(n, 1)), least)
        size = np.diff(np.r_[starts, n]).astype(float)
        values = [np.sort(X[:, j]) for j in range(p)]
        if least > 1:
            values = [np.add.reduceat(v, starts) / size if n else v for v in values]
        return cls(tuple(values), (size,) * p)._short()

    def _short(self):
        pairs = [_shorten(v, w) for v, w in zip(self.values, self.weight)]
        return ColumnSketch(tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))

    def merge(self, other):
        values, weight = [], []
        for a, b, v, w in zip(self.values, other.values, self.weight, other.weight):
            x = np.concatenate([a, b])
            order = np.argsort(x, kind="stable")
            values.append(x[order])
            weight.append(np.concatenate([v, w])[order])
        return ColumnSketch(tuple(values), tuple(weight))._short()

    def quantiles(self, shares):
        """Quantiles of every column, (p, len(shares)): numpy's linear ones where the sketch is exact."""
        out = []
        for v, w in zip(self.values, self.weight):
            if np.all(w == 1.0):
                out.append(np.quantile(v, shares))
            else:
                rank = np.cumsum(w) - 0.5 * w
                out.append(np.interp(np.asarray(shares) * w.sum(), rank, v))
        return np.array(out)


def _shorten(values, weight):
    if values.size <= SKETCH:
        return values, weight
    m, total = SKETCH // 2, weight.sum()
    rank = (np.arange(m) + 0.5) * (total / m)
    return values[np.searchsorted(np.cumsum(weight), rank)], np.full(m, total / m)
