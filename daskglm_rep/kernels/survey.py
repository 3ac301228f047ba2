"""The first sweep's kernel: finiteness, domain, moments, labels, and a random share of the rows."""

import dataclasses
import math

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep._jit import FLOATS, MATRIX, OUT, call, kernel, types
from daskglm_rep.domains import POSITIVE
from daskglm_rep.kernels.block import Block
from daskglm_rep.summaries import Response, Spread, Survey

STRIP = 256
MAX_LABELS = 1000


@kernel
def _column_sums(X, weight, shift, sums, squares, low, high):
    """Weighted sums of x - shift and its square, column by column of a feature-major tile; NaN and inf propagate."""
    n, p = X.shape
    column = np.empty(STRIP)
    for start in range(0, n, STRIP):
        m = min(STRIP, n - start)
        for j in range(p):
            for i in range(m):
                column[i] = X[start + i, j] - shift[j]
            a = b = 0.0
            for i in range(m):
                v = weight[start + i] * column[i]
                a += v
                b += v * column[i]
            least, most = low[j], high[j]
            for i in range(m):
                least = min(least, column[i])
                most = max(most, column[i])
            sums[j] += a
            squares[j] += b
            low[j], high[j] = least, most


def spread(X, weight):
    """Weighted moments and extremes of the columns of a block.

    Returns
    -------
    Spread
        NaN or inf in a column's mean or squares where it holds some.
    """
    n, p = X.shape
    total = float(np.sum(weight))
    if n == 0 or p == 0 or total == 0.0:
        return Spread(0.0, np.zeros(p), np.zeros(p), np.full(p, math.inf), np.full(p, -math.inf))
    if sparse.issparse(X):
        mean = (X.T @ weight) / total
        squares = (X.multiply(X).T @ weight) - total * mean * mean
        low, high = X.min(axis=0).toarray().ravel(), X.max(axis=0).toarray().ravel()
        return Spread(total, mean, np.maximum(squares, 0.0), low, high)
    shift = np.array(X[0], dtype=float)
    shift[~np.isfinite(shift)] = 0.0
    sums, squares, low, high = np.zeros(p), np.zeros(p), np.full(p, math.inf), np.full(p, -math.inf)
    call(_column_sums, (MATRIX, FLOATS, FLOATS) + (OUT,) * 4, X, weight, shift, sums, squares, low, high)
    with np.errstate(invalid="ignore", over="ignore"):          # infinite values are counted and told by the survey
        mean = sums / total
        return Spread(total, shift + mean, np.maximum(squares - total * mean * mean, 0.0), low + shift, high + shift)


@kernel
def _response_sums(family, y, weight, out):
    """Sums of w, w^2 and w y; counts of kept, outside, negative, non-finite; extremes; fractional."""
    n = y.size
    kept = total = squared = wy = outside = negative = nan = infinite = fractional = 0.0
    low, high = math.inf, -math.inf
    for i in range(n):
        w, v = weight[i], y[i]
        kept += 1.0 if w > 0.0 else 0.0
        negative += 1.0 if w < 0.0 else 0.0
        total += w
        squared += w * w
        wy += w * v
        if v != v:
            nan += 1.0
        elif v - v != 0.0:
            infinite += 1.0
        else:
            if not family.accepts_response(v):
                outside += 1.0
            if v != 0.0 and v != 1.0:
                fractional = 1.0
            if w > 0.0:
                low, high = min(low, v), max(high, v)
    # number by number: assigning an array compiles numba's message for shapes that differ, 6 s
    out[0], out[1], out[2], out[3], out[4], out[5] = kept, total, squared, wy, outside, negative
    out[6], out[7], out[8], out[9], out[10] = nan, infinite, fractional, low, high


@kernel
def _deviance_around(family, mean, y, weight):
    total = 0.0
    for i in range(y.size):
        d = family.unit_deviance(y[i], mean)
        total += weight[i] * d if weight[i] > 0.0 else 0.0
    return total


def response_totals(family, y, weight):
    """`Response` of a block, and its NaN and infinite counts as a (2,) array."""
    out = np.zeros(11)
    call(_response_sums, (FLOATS, FLOATS, OUT), family, y, weight, out)
    kept, total, squared, wy, outside, negative, nan, infinite, fractional, low, high = out
    log_weight = weight_log_y = saturated = deviance = 0.0
    around = spread(y[:, None], weight)
    if around.weight and not (outside or nan or infinite or negative):
        stride_0 = weight.strides == (0,)
        log_weight = 0.0 if stride_0 and weight[0] == 1.0 else float(np.sum(np.log(weight[weight > 0])))
        if POSITIVE.holds(family.response_range):
            weight_log_y = float(np.dot(weight, np.log(y)))
        values, weights = (y, weight) if fractional else (np.array([0.0, 1.0]), np.array([total - wy, wy]))
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
    if family.facts.name != "binomial" and y.size and 0 <= y.min() and y.max() < 10_000 and np.all(y == np.floor(y)):
        totals = np.bincount(y.astype(np.int64), weights=weight)
        values = np.flatnonzero(totals)
        return values.astype(float), totals[values]
    return y, weight


@kernel
def _distinct(y, found):
    """Distinct values in order of appearance, up to found.size; returns their number, or -1 when there are more."""
    count, last = 0, math.nan
    for i in range(y.size):
        v = y[i]
        if v == last:
            continue
        known = False
        for k in range(count):
            if found[k] == v:
                known = True
                break
        if not known:
            if count == found.size:
                return -1
            found[count] = v
            count += 1
        last = v
    return count


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


def labels_of(y, weight, limit=MAX_LABELS):
    """Sum of weights per distinct label of a block.

    Raises
    ------
    ValueError
        More than `limit` distinct labels: the response looks continuous.
    """
    y = np.asarray(y)
    if y.dtype.kind in "biuf":
        numbers = y.astype(np.float64)
        found = np.empty(min(limit, 64))
        n = _distinct(numbers, found) if not np.isnan(numbers).any() else -1
        if 0 <= n <= 2:
            high = found[:n].max() if n else 0.0
            share = float(np.dot(weight, numbers == high)) if n == 2 else float(np.sum(weight))
            totals = {high: share} | ({found[:n].min(): float(np.sum(weight)) - share} if n == 2 else {})
            return {y.dtype.type(label): total for label, total in totals.items()}
    codes, labels = pd.factorize(y, use_na_sentinel=True)
    if (codes < 0).any():
        raise ValueError(f"y contains NaN or missing labels in {int((codes < 0).sum())} rows of a block; drop these "
                         "rows.")
    if len(labels) > limit:
        raise ValueError(f"Unknown label type: y has more than {limit} distinct values, so it looks continuous; "
                         "use a regressor, or pass class labels.")
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


def survey(block, family, pilot, classify=False):
    """Look at a block once before any fit.

    Parameters
    ----------
    block : Block
        With raw labels in `y` when `classify`.
    family : Family or None
        Whose domain y must keep; None for labels.
    pilot : Pilot

    Returns
    -------
    Survey
    """
    columns = spread(block.X, block.weight)
    n_nan, n_infinite = _not_finite(block.X, columns)
    response, n_bad_y, labels = None, np.zeros(2), {}
    if classify:
        labels = labels_of(block.y, block.weight)
        kept, total = float(np.sum(block.weight > 0)), float(np.sum(block.weight))
        negative = float(np.sum(block.weight < 0))
        response = Response(None, float(block.n_rows), kept, total, float(np.dot(block.weight, block.weight)), 0.0, 0.0,
                            0.0, math.inf, -math.inf, 0.0, negative, False, 0.0, spread(np.empty((0, 1)), np.empty(0)))
    else:
        response, n_bad_y = response_totals(family, block.y, block.weight)
    rows = pilot.rows(block.n_rows, block.index)
    stand_for = block.n_rows / max(rows.size, 1)
    share = block if rows.size == block.n_rows else block.take(rows, weight=block.weight[rows] * stand_for)
    home = dataclasses.replace(share, X=share.X if sparse.issparse(share.X) else np.array(share.X), extra={})
    return Survey((block.n_rows,), columns, n_nan, n_infinite, n_bad_y, response, labels, (home,),
                  rows.size == block.n_rows, bool(np.any(block.offset)), float(block.n_missing))


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
    stack = sparse.vstack if sparse.issparse(blocks[0].X) else np.concatenate
    return Block(stack([b.X for b in blocks]), np.concatenate([b.y for b in blocks]),
                 np.concatenate([b.weight for b in blocks]), np.concatenate([b.offset for b in blocks]))
