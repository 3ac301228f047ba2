"""The first sweep's kernel: finiteness, domain, moments, labels, and a random share of the rows."""

import dataclasses
import math

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT, OUT2, STRIDED, call, greatest, kernel, least, types, whole_row
from daskglm_rep.domains import POSITIVE
from daskglm_rep.kernels.strips import (FEW_COLUMNS, STRIP, add_spread, copy_strip, new_strip, strip_extremes,
                                        transpose, unseen)
from daskglm_rep.summaries import Response, Spread, Survey

MAX_LABELS = 1000
COUNTS = 10_000          # integers below it are counted in a table

_SUMS = (MATRIX, INDEX, STRIDED, FLOATS, OUT2)


@kernel
def _strip_sums(X, columns, weight, shift, seen):
    """`strips.add_spread` of a block, by strips."""
    Z, own = new_strip(columns.size), np.empty(STRIP)
    for start in range(0, X.shape[0], STRIP):
        m = min(STRIP, X.shape[0] - start)
        copy_strip(weight, start, m, own)
        transpose(X, start, 0, m, columns, 0, Z)
        add_spread(Z, 0, m, own, shift, seen)


@kernel
def _row_sums(X, columns, weight, shift, seen):
    """The same of rows that lie whole, four at a time, read as memory is read ahead."""
    own, sums, squares, low, high = np.empty(STRIP), seen[0], seen[1], seen[2], seen[3]
    for start in range(0, X.shape[0], STRIP):
        m = min(STRIP, X.shape[0] - start)
        copy_strip(weight, start, m, own)
        for i in range(0, m, 4):
            i1, i2, i3 = min(i + 1, m - 1), min(i + 2, m - 1), min(i + 3, m - 1)
            x0, x1 = whole_row(X, start + i), whole_row(X, start + i1)
            x2, x3 = whole_row(X, start + i2), whole_row(X, start + i3)
            a, b = own[i], own[i1] if i1 == i + 1 else 0.0
            c, d = own[i2] if i2 == i + 2 else 0.0, own[i3] if i3 == i + 3 else 0.0
            for j in range(columns.size):
                v0, v1, v2, v3 = x0[j] - shift[j], x1[j] - shift[j], x2[j] - shift[j], x3[j] - shift[j]
                sums[j] += a * v0 + b * v1 + c * v2 + d * v3
                squares[j] += a * v0 * v0 + b * v1 * v1 + c * v2 * v2 + d * v3 * v3
                low[j] = least(least(low[j], least(x0[j], x1[j])), least(x2[j], x3[j]))
                high[j] = greatest(greatest(high[j], greatest(x0[j], x1[j])), greatest(x2[j], x3[j]))


def spread(X, weight):
    """Weighted moments and extremes of the columns of a block.

    Returns
    -------
    Spread
        NaN or inf in a column's mean or squares where it holds some.
    """
    n, p = X.shape
    total = weight_sums(weight)[0]
    if n == 0 or p == 0 or total == 0.0:
        return Spread(0.0, np.zeros(p), np.zeros(p), np.full(p, math.inf), np.full(p, -math.inf))
    if sparse.issparse(X):
        mean = (X.T @ weight) / total
        squares = (X.multiply(X).T @ weight) - total * mean * mean
        low, high = X.min(axis=0).toarray().ravel(), X.max(axis=0).toarray().ravel()
        return Spread(total, mean, np.maximum(squares, 0.0), low, high)
    shift = np.array(X[0], dtype=float)
    shift[~np.isfinite(shift)] = 0.0
    seen, whole = unseen(p), p > FEW_COLUMNS and X.strides[1] == 8 and X.strides[0] >= 8 * p
    call(_row_sums if whole else _strip_sums, _SUMS, X, np.arange(p), weight, shift, seen)
    return spread_of(seen, shift, total)


def spread_of(seen, shift, total):
    """`Spread` of columns from the sums of `strips.add_spread` around `shift`, of rows that weigh `total`."""
    with np.errstate(invalid="ignore", over="ignore"):          # infinite values are counted and told by the survey
        mean = seen[0] / total
        return Spread(total, shift + mean, np.maximum(seen[1] - total * mean * mean, 0.0), seen[2], seen[3])


@kernel
def _weight_sums(weight, out):
    total = squared = kept = negative = 0.0
    own = np.empty(STRIP)
    for start in range(0, weight.size, STRIP):
        m = min(STRIP, weight.size - start)
        copy_strip(weight, start, m, own)
        for i in range(m):
            w = own[i]
            total += w
            squared += w * w
            kept += 1.0 if w > 0.0 else 0.0
            negative += 1.0 if w < 0.0 else 0.0
    out[0], out[1], out[2], out[3] = total, squared, kept, negative


def weight_sums(weight):
    """Sums of w and w^2, counts of w > 0 and of w < 0."""
    out = np.zeros(4)
    call(_weight_sums, (STRIDED, OUT), weight, out)
    return out.tolist()


@kernel
def _response_sums(family, y, weight, shift, out):
    """Sums of w (y - shift) and its square; counts of finite ones outside, of fractional; extremes where w > 0."""
    first = second = outside = fractional = 0.0
    low, high = math.inf, -math.inf
    own_y, own_weight, inside = np.empty(STRIP), np.empty(STRIP), np.empty(STRIP)
    for start in range(0, y.size, STRIP):
        m = min(STRIP, y.size - start)
        copy_strip(y, start, m, own_y)
        copy_strip(weight, start, m, own_weight)
        some = 0.0
        for i in range(m):
            v, d = own_y[i], own_y[i] - shift
            first += own_weight[i] * d
            second += own_weight[i] * d * d
            some += 1.0 if own_weight[i] > 0.0 else 0.0
            outside += 0.0 if family.accepts_response(v) else (1.0 if v - v == 0.0 else 0.0)
            fractional += 0.0 if v * v == v else 1.0
        if some == m:
            low, high = strip_extremes(own_y, m, low, high)
            continue
        for i in range(m):
            inside[i] = own_y[i] if own_weight[i] > 0.0 else math.inf
        low = strip_extremes(inside, m, low, -math.inf)[0]
        for i in range(m):
            inside[i] = own_y[i] if own_weight[i] > 0.0 else -math.inf
        high = strip_extremes(inside, m, math.inf, high)[1]
    # number by number: assigning an array compiles numba's message for shapes that differ, 6 s
    out[0], out[1], out[2], out[3], out[4], out[5] = first, second, outside, fractional, low, high


@kernel
def _count_weights(y, weight, table):
    """Add weights to a table by response, rows in turn to four columns; returns whether all are integers in it."""
    for i in range(y.size):
        v = y[i]
        if not 0.0 <= v < table.shape[0]:
            return False
        k = int(v)
        if k != v:
            return False
        table[k, i & 3] += weight[i]
    return True


@kernel
def _deviance_around(family, mean, y, weight):
    total = 0.0
    for i in range(y.size):
        d = family.unit_deviance(y[i], mean)
        total += weight[i] * d if weight[i] > 0.0 else 0.0
    return total


def response_totals(family, y, weight):
    """`Response` of a block, and its NaN and infinite counts as a (2,) array."""
    out, shift = np.zeros(6), float(y[0]) if y.size and math.isfinite(y[0]) else 0.0
    total, squared, kept, negative = weight_sums(weight)
    call(_response_sums, (STRIDED, STRIDED, types.float64, OUT), family, y, weight, shift, out)
    first, second, outside, fractional, low, high = out.tolist()
    finite = math.isfinite(second)
    nan, infinite = (0.0, 0.0) if finite else (float(np.isnan(y).sum()), float(np.isinf(y).sum()))
    log_weight = weight_log_y = saturated = deviance = 0.0
    around = Spread(0.0, np.zeros(1), np.zeros(1), np.full(1, math.inf), np.full(1, -math.inf))
    if total:
        mean = first / total
        around = Spread(total, np.array([shift + mean]), np.array([max(second - total * mean * mean, 0.0)]),
                        np.array([low]), np.array([high]))
    if total and not (outside or nan or infinite or negative):
        stride_0 = weight.strides == (0,)
        log_weight = 0.0 if stride_0 and weight[0] == 1.0 else float(np.sum(np.log(weight[weight > 0])))
        if POSITIVE.holds(family.response_range):
            weight_log_y = float(np.dot(weight, np.log(y)))
        ones = first + shift * total
        values, weights = (y, weight) if fractional else (np.array([0.0, 1.0]), np.array([total - ones, ones]))
        if family.facts.dispersion_known and (fractional or family.facts.name != "binomial"):
            values, weights = _compressed(family, values, weights)
            saturated = float(family.row_saturated(values, weights))
        if low < high:          # a constant block has none, also at a mean that the family cannot have
            deviance = call(_deviance_around, (types.float64, FLOATS, FLOATS), family, float(around.mean[0]), values,
                            weights)
    return Response(family, float(y.size), kept, total, squared, log_weight, weight_log_y, saturated, low, high,
                    outside, negative, bool(fractional), deviance, around), np.array([nan, infinite])


def _compressed(family, y, weight):
    """Counts are few distinct values: sum their weights first, so that the gamma functions are evaluated once each."""
    table = np.zeros((COUNTS, 4))
    if family.facts.name == "binomial" or not call(_count_weights, (STRIDED, STRIDED, OUT2), y, weight, table):
        return y, weight
    totals = table.sum(axis=1)
    values = np.flatnonzero(totals)
    return values.astype(float), totals[values]


@kernel
def _two_labels(y, weight, out):
    """Whether y has one or two distinct values: they, and the sum of weights of the second, go to out."""
    first = second = y[0]
    for i in range(y.size):
        if y[i] != first:
            second = y[i]
            break
    others = share = 0.0
    own_y, own_weight = np.empty(STRIP), np.empty(STRIP)
    for start in range(0, y.size, STRIP):
        m = min(STRIP, y.size - start)
        copy_strip(y, start, m, own_y)
        copy_strip(weight, start, m, own_weight)
        for i in range(m):
            share += own_weight[i] if own_y[i] == second else 0.0
            others += 0.0 if own_y[i] == second else (0.0 if own_y[i] == first else 1.0)
        if others > 0.0:
            return False
    out[0], out[1], out[2] = first, second, share
    return True


@kernel
def _codes(y, labels, codes):
    """Positions of y among the labels; returns whether each was found."""
    found = 0
    for i in range(y.size):
        code = -1.0
        for j in range(labels.size):
            code = float(j) if y[i] == labels[j] else code
        codes[i] = code
        found += 1 if code >= 0.0 else 0
    return found == y.size


def codes_of(y, labels):
    """Codes 0..J-1 of numeric labels, or None where some y is no label.

    Parameters
    ----------
    y : (n,) float64 array
    labels : (J,) float64 array
    """
    codes = np.empty(y.size)
    return codes if call(_codes, (FLOATS, FLOATS, OUT), y, labels, codes) else None


def check_number(labels, limit=MAX_LABELS):
    """Refuse labels so many that the response looks continuous: of a block, and of all blocks together."""
    if len(labels) > limit:
        raise ValueError(f"Unknown label type: y has more than {limit} distinct values, so it looks continuous; "
                         "use a regressor, or pass class labels.")


def labels_of(y, weight, limit=MAX_LABELS):
    """Sum of weights per distinct label of a block.

    Raises
    ------
    ValueError
        More than `limit` distinct labels: the response looks continuous.
    """
    y = np.asarray(y)
    if y.dtype.kind in "biuf":
        numbers = y.astype(np.float64, copy=False)
        out = np.zeros(3)
        if y.size and call(_two_labels, (STRIDED, STRIDED, OUT), numbers, weight, out):
            first, second, share = out.tolist()
            rest = weight_sums(weight)[0] - share
            return {y.dtype.type(second): share} | ({} if first == second else {y.dtype.type(first): rest})
    codes, labels = pd.factorize(y.astype(y.dtype.newbyteorder("="), copy=False), use_na_sentinel=True)
    if (codes < 0).any():
        raise ValueError(f"y contains NaN or missing labels in {int((codes < 0).sum())} rows of a block; drop these "
                         "rows.")
    check_number(labels, limit)
    totals = np.bincount(codes, weights=weight, minlength=len(labels))
    return dict(zip(labels, totals.tolist()))


@dataclasses.dataclass(frozen=True)
class Pilot:
    """How many rows a block sends home: a share of its rows, at least `least`, at most `most`."""

    least: int
    share: float
    most: int
    seed: int

    def rows(self, n, index):
        """Sorted random rows of a block of n: one from each of m equal strata, so that sorted rows are all covered."""
        m = min(n, self.most, max(self.least, math.ceil(self.share * n)))
        if m >= n or m == 0:
            return np.arange(m)
        edges = np.arange(m) * (n / m)
        jitter = np.random.default_rng((self.seed, index)).random(m) * (n / m)
        return np.minimum((edges + jitter).astype(np.int64), n - 1)

    def of(self, block):
        """The rows of a block, weighted to stand for all of it; a copy."""
        rows = self.rows(block.n_rows, block.index)
        if rows.size < block.n_rows:
            weight = block.weight[rows] * (block.n_rows / max(rows.size, 1))
            return dataclasses.replace(block.take(rows, weight=weight), extra={})
        return dataclasses.replace(block, X=block.X if sparse.issparse(block.X) else np.array(block.X), extra={})


def survey(block, family, pilot, classify=False):
    """Look at a block once before any fit.

    Parameters
    ----------
    block : Block
        With raw labels in `y` when `classify`.
    family : Family or None
        Whose domain y must keep; None for labels.
    pilot : Pilot or None
        None brings no rows home.

    Returns
    -------
    Survey
    """
    columns = spread(block.X, block.weight)
    n_nan, n_infinite = _not_finite(block.X, columns)
    response, n_bad_y, labels = None, np.zeros(2), {}
    if classify:
        labels = labels_of(block.y, block.weight)
        response = label_totals(block.weight)
    else:
        response, n_bad_y = response_totals(family, block.y, block.weight)
    none = Survey((block.n_rows,), columns, n_nan, n_infinite, n_bad_y, response, labels, (), False, has_offset(block),
                  float(block.n_missing))
    return none if pilot is None else with_pilot(none, block, pilot)


def with_pilot(found, block, pilot):
    """The `Survey` of a block with the rows that it sends home."""
    home = pilot.of(block)
    return dataclasses.replace(found, pilot=(home,), pilot_is_all=home.n_rows == block.n_rows,
                               pilot_rows=(home.n_rows,))


def has_offset(block):
    """Whether some row's offset is not zero; one for all rows is looked at once."""
    return bool(np.any(block.offset[:1] if block.offset.strides == (0,) else block.offset))


def label_totals(weight):
    """The `Response` of labels that are no numbers: sums of their weights alone."""
    total, squared, kept, negative = weight_sums(weight)
    return Response(None, float(weight.size), kept, total, squared, 0.0, 0.0, 0.0, math.inf, -math.inf, 0.0, negative,
                    False, 0.0, spread(np.empty((0, 1)), np.empty(0)))


def _not_finite(X, columns):
    p = X.shape[1]
    sums = columns.mean + columns.squares
    if np.isfinite(sums).all() and X.shape[0] and columns.weight:
        return np.zeros(p), np.zeros(p)
    if sparse.issparse(X):
        X = X.toarray()
    return np.isnan(X).sum(axis=0).astype(float), np.isinf(X).sum(axis=0).astype(float)


def concatenate(blocks):
    """One block of the rows of several."""
    if len(blocks) == 1:
        return blocks[0]
    first, *others = blocks
    return first.followed_by(others)
