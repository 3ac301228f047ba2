"""Sums by cluster over all blocks: one table that block after block is added to."""

import dataclasses

import numpy as np

from daskglm_rep._jit import INDEX, MATRIX, OUT2, call, kernel, types
from daskglm_rep.kernels.labels import Codebook, WholeNumbers, is_missing, whole_numbers

SPARE = 2          # rows that a table has room for, by rows in use
SPARSE = 4          # rows of a table addressed by label, by labels that there are
EARLY, SMALL = 16, 2 ** 24          # the same of a table of so few numbers: more of its labels come with more blocks
SAMPLE = 256          # labels, or one more, from which those of a table are cut into shares
SHORT = 2 ** 12          # rows of such a table that are few anyway
FEW_COLUMNS = 128          # of such a table: looking up a code costs little beside a longer row


class ClusterScores:
    """Sums of rows of numbers by cluster: keyed addition, O(clusters) memory, no shuffle.

    A summary to which blocks are added in place: a million clusters of eight numbers take 64 MB, so that a table a
    block would cost far more than the sweep. The tables of a few threads are merged at the end.

    Parameters
    ----------
    n_columns : int
        Cluster columns; a cluster is a combination of their labels.
    width : int
        m, numbers a cluster.

    Attributes
    ----------
    n_missing : float
        Rows whose label is missing; they are in no sum.
    n_kept : float
        As in `summaries.Meat`.
    """

    commutes = True                     # the order of the labels alone depends on that of the blocks

    def __init__(self, n_columns, width, n_missing=0.0, n_kept=0.0):
        self.n_columns, self.n_missing, self.n_kept = n_columns, n_missing, n_kept
        self._table = _AtRest((np.empty(0, np.int64),) * n_columns, np.empty((0, width)))

    @classmethod
    def of(cls, labels, sums, n_missing=0.0, n_kept=0.0):
        """From distinct labels, a tuple of one (G,) array a cluster column, and their (G, m) sums."""
        new = cls(len(labels), sums.shape[1], n_missing, n_kept)
        new._table = _AtRest(tuple(labels), sums)
        return new

    def __reduce__(self):
        table, counts = self._table, (self.n_missing, self.n_kept)
        if isinstance(table, _ByLabel) and 2 * table.count > len(table.occupied):
            return ClusterScores._by_label, (*table.whole, *counts)
        return ClusterScores.of, (*self.total, *counts)

    @classmethod
    def _by_label(cls, start, present, rows, *counts):
        new = cls(1, rows.shape[1], *counts)
        new._table = _ByLabel.of(start, present, rows)
        return new

    def __sizeof__(self):
        return self._table.occupied.nbytes

    @property
    def count(self):
        """G, the number of clusters."""
        return self._table.count

    @property
    def rows(self):
        """The sums in the rows that codes point to, a view; rows of zeros may lie around and between them."""
        return self._table.rows

    @property
    def occupied(self):
        """From the first to the last of these rows that a cluster has: memory that nobody touched is not read."""
        return self._table.occupied

    @property
    def score(self):
        """(m,) array, the sum over all clusters."""
        rows = self.occupied
        return np.ones(len(rows)) @ rows          # BLAS: half the time of a sum

    @property
    def total(self):
        """Labels, a tuple of one (G,) array a cluster column, and (G, m) sums."""
        return self._table.labels, self._table.sums

    def sample(self):
        """Every so many-th label, whole numbers in any order; None where labels are others, or several columns."""
        return self._table.sample() if self.n_columns == 1 else None

    def between(self, low, high):
        """The clusters with low <= label < high, whole numbers; rows without a label are in those of the least."""
        first = low <= -2 ** 63
        new = ClusterScores(1, self.rows.shape[1], *((self.n_missing, self.n_kept) if first else (0.0, 0.0)))
        new._table = self._table.between(low, high)
        return new

    def codes(self, columns):
        """(n,) int64 codes of rows with these labels, none of them missing; the table gets their rows."""
        if isinstance(self._table, _AtRest):
            labels, sums = self.total
            self._move(_new_table(labels if len(sums) else columns, sums.shape[1]))
        codes = self._table.codes(columns)
        if codes is None:
            self._move(_ByCode(1, self.rows.shape[1]))
            codes = self._table.codes(columns)
        if isinstance(self._table, _ByCode) and self._table.is_dense and whole_numbers(columns[0]) is not None:
            self._move(_ByLabel(*self._table.books[0].whole.range, self.rows.shape[1]))
            codes = self._table.codes(columns)
        return codes

    def _move(self, table):
        """Go on in another kind of table."""
        labels, sums = self.total
        self._table = table
        codes = table.codes(labels)
        call(_add_rows, (MATRIX, INDEX, OUT2), sums, codes, table.rows)

    def open_rows(self, columns, weight):
        """Codes of a block's rows, which count from now on.

        Parameters
        ----------
        columns : list of (n,) labels of any type
        weight : (n,) array
            Rows of weight 0 belong to no cluster.

        Returns
        -------
        (n,) int64 array
            -1 for rows without weight and rows with a missing label.
        """
        outside = [mask for mask in map(is_missing, columns) if mask is not None]
        missing = np.any(outside, axis=0) if outside else None
        weightless = bool(weight.size) and (weight[:1] if weight.strides == (0,) else weight).min() <= 0
        if missing is None and not weightless:
            return self.codes(columns)
        counted = weight > 0
        if missing is not None:
            self.n_missing += float(np.count_nonzero(missing & counted))
            counted &= ~missing
        inside, codes = np.flatnonzero(counted), np.full(weight.size, -1)
        codes[inside] = self.codes([column[inside] if isinstance(column, np.ndarray) else column.take(inside)
                                    for column in columns])
        return codes

    def add_sums(self, labels, sums):
        """Add the sums of distinct labels."""
        codes = self.codes(labels)
        call(_add_rows, (MATRIX, INDEX, OUT2), sums, codes, self.rows)

    def absorb(self, other):
        """Add another's sums to this table, which must be the caller's own."""
        self.n_missing, self.n_kept = self.n_missing + other.n_missing, self.n_kept + other.n_kept
        both = isinstance(self._table, _ByLabel) and isinstance(other._table, _ByLabel)
        if not (both and self._table.add(other._table)):
            self.add_sums(*other.total)
        return self

    def merge(self, other):
        if not isinstance(self._table, _ByLabel):
            return ClusterScores.of(*self.total, self.n_missing, self.n_kept).absorb(other)
        new = ClusterScores(1, self.rows.shape[1], self.n_missing, self.n_kept)
        new._table = _ByLabel(self._table.low, self._table.high, self.rows.shape[1])
        new._table.add(self._table)
        return new.absorb(other)


@kernel
def _add_rows(rows, codes, sums):
    for i in range(codes.size):
        for j in range(sums.shape[1]):
            sums[codes[i], j] += rows[i, j]


class _Table:
    """Sums in `rows`, those of clusters with `labels` in `sums`."""

    def sample(self):
        numbers = whole_numbers(self.labels[0])
        return None if numbers is None else numbers[::numbers.size // SAMPLE + 1]

    def between(self, low, high):
        numbers = whole_numbers(self.labels[0])
        mine = (numbers >= low) & (numbers < high)
        return _AtRest((self.labels[0][mine],), self.sums[mine])


@dataclasses.dataclass(frozen=True)
class _AtRest(_Table):
    """Sums that nothing is added to: as they come from elsewhere, perhaps read-only."""

    labels: tuple
    sums: np.ndarray

    @property
    def count(self):
        return len(self.sums)

    @property
    def rows(self):
        return self.sums

    occupied = rows


def _new_table(columns, width):
    """An empty table that suits some labels."""
    numbers = whole_numbers(columns[0]) if len(columns) == 1 and width <= FEW_COLUMNS else None
    if numbers is not None and numbers.size:
        limits = int(numbers.min()), int(numbers.max())
        if _is_short(limits, numbers.size, width):
            present = np.zeros(limits[1] - limits[0] + 1, bool)
            _marked(numbers, limits[0], present)
            if _is_short(limits, np.count_nonzero(present), width):
                return _ByLabel(*limits, width)
    return _ByCode(len(columns), width)


class _ByCode(_Table):
    """Labels of any type, coded in order of appearance."""

    def __init__(self, n_columns, width):
        self.books, self.pairs = [Codebook() for _ in range(n_columns)], [WholeNumbers() for _ in range(n_columns - 1)]
        self.table = _aligned(0, width)

    def codes(self, columns):
        """Of rows with these labels."""
        codes = self.books[0].codes(columns[0])
        for book, pair, column in zip(self.books[1:], self.pairs, columns[1:]):
            codes = pair.codes(codes << 32 | book.codes(column))
        return codes

    @property
    def count(self):
        return (self.pairs or self.books)[-1].count

    @property
    def is_dense(self):
        """Whether one row a number between the least and the greatest label is not much more than one a label."""
        book, few = self.books[0], not self.pairs and self.table.shape[1] <= FEW_COLUMNS
        return few and book.known is None and bool(self.count) and _is_short(book.whole.range, self.count,
                                                                             self.table.shape[1])

    @property
    def rows(self):
        if self.count > len(self.table):
            table = _aligned(SPARE * self.count, self.table.shape[1])
            table[:len(self.table)] = self.table
            self.table = table
        return self.table[:self.count]

    sums = occupied = rows

    @property
    def labels(self):
        codes, found = np.arange(self.count), []
        for book, pair in zip(self.books[:0:-1], self.pairs[::-1]):
            both = pair.labels[codes]
            found.append(book.labels[both & 0xFFFFFFFF])
            codes = both >> 32
        return (self.books[0].labels[codes], *found[::-1])


@kernel
def _mark(values, low, present, codes):
    for i in range(values.size):
        codes[i] = values[i] - low
        present[codes[i]] = True


def _marked(values, start, present):
    """(n,) codes of whole numbers in a range that begins with `start`; the numbers are marked as present."""
    codes = np.empty(values.size, np.int64)
    call(_mark, (INDEX, types.int64, types.boolean[::1], types.int64[::1]), values, start, present, codes)
    return codes


def _is_short(limits, count, width):
    """Whether a row a number between two limits is not much more than one a label, of which there are so many."""
    length = limits[1] - limits[0]
    return length < max(SPARSE * count, SHORT) or length < min(EARLY * count, SMALL // width)


class _ByLabel(_Table):
    """Whole numbers in a short range: a row a number, which no code has to be looked up for, and merges are sums."""

    def __init__(self, low, high, width):
        self._set(low, np.zeros(0, bool), _aligned(0, width))
        self._reach(low, high)

    @classmethod
    def of(cls, start, present, rows):
        """From sums that nothing is added to."""
        new = object.__new__(cls)
        new._set(start, present, rows)
        return new

    def _set(self, start, present, rows):
        self.low, self.high, self.start = start, start + present.size - 1, start
        self.present, self.rows = present, rows

    def _reach(self, low, high):
        """Make room for a range, and half as much on either side: memory that nobody touched is none."""
        more = (high - low) // 2 + 1
        start, stop = max(low - more, -2 ** 63), min(high + more, 2 ** 63 - 1)
        present, rows = np.zeros(stop - start + 1, bool), _aligned(stop - start + 1, self.rows.shape[1])
        if self.present.size:
            old, new = (slice(self.low - s, self.high + 1 - s) for s in (self.start, start))
            present[new], rows[new] = self.present[old], self.rows[old]
        self.present, self.rows, self.start, self.low, self.high = present, rows, start, low, high

    def _extend(self, low, high, more=0):
        low, high = min(low, self.low), max(high, self.high)
        if low < self.start or high >= self.start + len(self.rows):
            if not _is_short((low, high), self.count + more, self.rows.shape[1]):
                return False
            self._reach(low, high)
        self.low, self.high = low, high
        return True

    def codes(self, columns):
        """Of rows with these labels; None where some are no whole numbers or lie too far away."""
        values = whole_numbers(columns[0])
        if values is None or values.size and not self._extend(int(values.min()), int(values.max())):
            return None
        return _marked(values, self.start, self.present)

    def add(self, other):
        """Whether another such table could be added."""
        if not self._extend(other.low, other.high, other.count):
            return False
        mine, theirs = (slice(other.low - s, other.high + 1 - s) for s in (self.start, other.start))
        self.rows[mine] += other.rows[theirs]
        self.present[mine] |= other.present[theirs]
        return True

    @property
    def occupied(self):
        return self.rows[self.low - self.start:self.high + 1 - self.start]

    @property
    def whole(self):
        """What `of` takes."""
        return self.low, self.present[self.low - self.start:self.high + 1 - self.start], self.occupied

    @property
    def count(self):
        return int(np.count_nonzero(self.present))

    def between(self, low, high):
        a, b = max(low, self.low) - self.start, min(high, self.high + 1) - self.start
        return _ByLabel.of(self.start + a, self.present[a:b], self.rows[a:b]) if a < b else _AtRest(
            (np.empty(0, np.int64),), self.rows[:0])

    @property
    def labels(self):
        return (np.flatnonzero(self.present) + self.start,)

    @property
    def sums(self):
        return self.rows[self.present]


def _aligned(n, width):
    """(n, width) zeros that begin with a line of the cache: rows of eight numbers then lie in one line and not two."""
    flat = np.zeros(n * width + 7)
    first = -(flat.ctypes.data // 8) % 8
    return flat[first:first + n * width].reshape(n, width)
