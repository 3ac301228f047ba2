"""Codes 0, 1, ... of labels that come block by block: the same label has the same code in every block.

Whole numbers, whatever type holds them, are coded in compiled loops: by a table addressed by label where their range is
short, else by open addressing. Labels of any other type are coded once a block by pandas and then looked up one by one.
"""

import numpy as np
import pandas as pd

from daskglm_rep._jit import INDEX, call, kernel, types
from daskglm_rep.summaries import distinct

MISSING = -1
WASTE = 16          # entries of a table addressed by label, of 4 bytes each, a label or row that there is
EXACT = 2.0 ** 53          # floats below it hold every whole number

_CODES, _TABLE, _SLOTS = types.int64[::1], types.int32[::1], types.int64[:, ::1]


@kernel
def _by_address(values, low, place, count, codes):
    """Codes of integers from a table, new ones in order of appearance; returns how many there are then."""
    for i in range(values.size):
        v = values[i] - low
        code = place[v]
        if code < 0:
            code = count
            place[v] = code
            count += 1
        codes[i] = code
    return count


@kernel
def _by_hash(values, first, slots, shift, count, codes):
    """The same from a hash table of (label, code), linear probing after a multiplicative hash (Knuth, 6.4).

    Returns the count and where it stopped: the table is half full, or there are no more values.
    """
    last = slots.shape[0] - 1
    for i in range(first, values.size):
        v = values[i]
        at = np.int64((np.uint64(v) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(shift))
        while slots[at, 1] >= 0 and slots[at, 0] != v:
            at = (at + 1) & last
        if slots[at, 1] < 0:
            if 2 * count > last:
                return count, i
            slots[at, 0], slots[at, 1] = v, count
            count += 1
        codes[i] = slots[at, 1]
    return count, values.size


class WholeNumbers:
    """Codes of int64 labels. `count` is the number of distinct ones so far."""

    def __init__(self):
        self.count, self.low, self.place, self.slots = 0, 0, np.empty(0, np.int32), None
        self.range = None

    def codes(self, values):
        """(n,) int64 codes of an int64 array."""
        if not values.size:
            return np.empty(0, np.int64)
        low, high = int(values.min()), int(values.max())
        if self.range is not None:
            low, high = min(low, self.range[0]), max(high, self.range[1])
        self.range = low, high
        codes = np.empty(values.size, np.int64)
        if high - low < WASTE * max(self.count + values.size, 64):
            self._make_room(low, high)
            self.count = call(_by_address, (INDEX, types.int64, _TABLE, types.int64, _CODES), values, self.low,
                              self.place, self.count, codes)
        else:
            self._hash(values, codes)
        return codes

    def _make_room(self, low, high):
        if self.slots is not None or not self.place.size:
            self._address(self.labels, low, high)
            return
        end, more = self.low + self.place.size - 1, (high - low) // 2          # half as much again: rarely done again
        if low < self.low or high > end:
            self._address(self.labels, low - more if low < self.low else self.low, high + more if high > end else end)

    def _address(self, labels, low, high):
        low, high = max(low, -2 ** 63), min(high, 2 ** 63 - 1)
        self.low, self.slots, self.place = low, None, np.full(high - low + 1, MISSING, np.int32)
        self.place[labels - low] = np.arange(labels.size)

    def _hash(self, values, codes):
        if self.slots is None:
            labels, self.place, self.count = self.labels, np.empty(0, np.int32), 0
            self.slots = _empty_slots(max(64, 4 * labels.size))
            self._insert(labels, np.empty(labels.size, np.int64))
        self._insert(values, codes)

    def _insert(self, values, codes):
        done = 0
        while done < values.size:
            shift = 65 - len(self.slots).bit_length()
            self.count, done = call(_by_hash, (INDEX, types.int64, _SLOTS, types.int64, types.int64, _CODES), values,
                                    done, self.slots, shift, self.count, codes)
            if done < values.size:
                labels, self.slots, self.count = self.labels, _empty_slots(4 * len(self.slots)), 0
                self._insert(labels, np.empty(labels.size, np.int64))

    @property
    def labels(self):
        """(count,) int64 labels by code."""
        labels = np.empty(self.count, np.int64)
        if self.slots is not None:
            used = self.slots[self.slots[:, 1] >= 0]
            labels[used[:, 1]] = used[:, 0]
        else:
            used = np.flatnonzero(self.place >= 0)
            labels[self.place[used]] = used + self.low
        return labels


def _empty_slots(least):
    return np.full((1 << (int(least) - 1).bit_length(), 2), MISSING)


class Codebook:
    """Codes of the labels of one column; integers become labels of any type when the first other one comes."""

    def __init__(self):
        self.whole, self.known, self.dtype = WholeNumbers(), None, None

    @property
    def count(self):
        return self.whole.count if self.known is None else len(self.known)

    @property
    def labels(self):
        """(count,) labels by code: of the numbers' own type, or objects."""
        if self.known is None:
            return self.whole.labels.astype(self.dtype if isinstance(self.dtype, np.dtype) else np.int64, copy=False)
        labels = np.empty(len(self.known), object)
        labels[:] = list(self.known)
        return labels

    def codes(self, column):
        """(n,) int64 codes of labels none of which is missing."""
        numbers = whole_numbers(column)
        if numbers is not None and self.known is None:
            self.dtype = column.dtype if self.dtype in (None, column.dtype) else np.dtype(np.int64)
            return self.whole.codes(numbers)
        codes, labels = column_codes(column)
        if self.known is None and not len(labels):
            return codes
        if self.known is None and whole_numbers(labels) is not None:          # categories, objects
            return self.codes(labels)[codes]
        if self.known is None:
            self.known = {label: code for code, label in enumerate(self.labels.tolist())}
        found = [self.known.setdefault(label, len(self.known)) for label in _python_labels(labels)]
        return np.array(found, np.int64)[codes]


def _python_labels(labels):
    return pd.Index(labels, tupleize_cols=False).astype(object).tolist()


def column_codes(column):
    """Codes in order of appearance and distinct labels of one cluster column; `MISSING` marks a missing label."""
    if not isinstance(getattr(column, "dtype", None), pd.CategoricalDtype):
        return distinct(column)
    codes, present = distinct(np.asarray(column.cat.codes if hasattr(column, "cat") else column.codes, np.int64))
    labels = np.asarray(column.dtype.categories)
    missing = np.flatnonzero(present == -1)
    if missing.size:
        rows = codes == missing[0]
        codes = codes - (codes > missing[0])
        codes[rows] = MISSING
        present = np.delete(present, missing[0])
    return codes, labels[present]


def whole_numbers(column):
    """The labels as int64, where all of them are whole numbers in its range; None where they are not.

    Parameters
    ----------
    column : (n,) array or Series
        No label missing.
    """
    dtype = getattr(column, "dtype", None)
    if isinstance(column, pd.Series) or not isinstance(dtype, np.dtype):
        if not pd.api.types.is_integer_dtype(dtype) or pd.api.types.is_unsigned_integer_dtype(dtype):
            return None
        return column.to_numpy(np.int64)
    if dtype.kind == "f":
        if not (np.abs(column, dtype=np.promote_types(column.dtype, np.float32)) < EXACT).all():
            return None
        whole = column.astype(np.int64)
        return whole if np.array_equal(whole, column) else None
    if dtype == np.uint64 and column.size and column.max() >= 2 ** 63:
        return None
    return column.astype(np.int64, copy=False) if dtype.kind in "biu" else None


def is_missing(column):
    """(n,) bool array of missing labels, or None where there are none."""
    dtype = getattr(column, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind in "biu":
        return None
    missing = np.asarray(pd.isna(column), bool)
    return missing if missing.any() else None
