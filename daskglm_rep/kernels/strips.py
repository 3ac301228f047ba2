"""Strips of rows, feature-major: a strip of a block with few columns is loaded once and stays in the cache.

Loops over the rows of a strip are contiguous, so LLVM vectorises them, sums included.
"""

import math

import numpy as np

from daskglm_rep._jit import (FLOATS, INDEX, MATRIX, greatest, kernel, least, load_quad, types, whole_column,
                              whole_row)

STRIP = 256          # rows of a strip
LENGTH = STRIP + 8          # of its columns in memory: at a power of two all would share a few sets of the cache
FEW_COLUMNS = 16          # up to this many rows lie so close that memory is read ahead in any order

BASIS = (MATRIX, INDEX, FLOATS, FLOATS, types.boolean)          # matrix, columns, center, 1 / scale, intercept


def columns_of_strip(q):
    """Columns to make room for: `load_strip` and `add_gram` work by fours and touch a few beyond a design's q."""
    return (q + 6) // 4 * 4


@kernel
def _lies_whole(X, columns):
    """Whether the columns are all of X, in order, and each row is one run of memory."""
    for j in range(columns.size):
        if columns[j] != j:
            return False
    return columns.size == X.shape[1] and X.strides[1] == 8 and X.strides[0] >= 8 * X.shape[1]


@kernel
def new_strip(q):
    """Room for a strip of q columns.

    Zeros: sums by fours touch rows beyond q, and what lies in memory may be numbers so small that each costs a hundred.
    """
    return np.zeros(((q + 6) // 4 * 4, LENGTH))


@kernel
def copy_strip(vector, start, m, own):
    """own[:m] = vector[start:start + m], of any stride: loops vectorise where arrays are contiguous.

    One value for all rows is copied with the first strip, which no other is longer than.
    """
    if vector.strides[0] != 0 or start == 0:
        for i in range(m):
            own[i] = vector[start + i]


@kernel
def transpose(X, start, low, high, columns, first, Z):
    """Z[first:, low:high] = X[start + low:start + high, columns].T."""
    if _lies_whole(X, columns):
        while low + 4 <= high and start + low + 7 <= X.shape[0]:          # a quad reads up to three rows ahead
            for j in range(0, columns.size, 4):
                load_quad(X, start + low, j, Z, first + j, low)
            low += 4
    for j in range(columns.size):
        if X.strides[0] == 8:
            copy_strip(whole_column(X, columns[j])[start + low:], 0, high - low, Z[first + j, low:])
            continue
        column = columns[j]
        for i in range(low, high):
            Z[first + j, i] = X[start + i, column]


@kernel
def _standardise(m, center, inverse_scale, intercept, Z):
    first = 0
    if intercept:
        first = 1
        for i in range(m):
            Z[0, i] = 1.0
    for j in range(center.size):
        c, s = center[j], inverse_scale[j]
        for i in range(m):
            Z[first + j, i] = (Z[first + j, i] - c) * s


@kernel
def load_strip(X, start, m, columns, center, inverse_scale, intercept, Z):
    """Copy m standardised rows into Z, feature-major."""
    transpose(X, start, 0, m, columns, 1 if intercept else 0, Z)
    _standardise(m, center, inverse_scale, intercept, Z)


@kernel
def strip_extremes(column, m, low, high):
    """Least and greatest of m numbers and of `low` and `high`; arbitrary where one is NaN."""
    for i in range(m):
        low, high = least(column[i], low), greatest(column[i], high)
    return low, high


@kernel
def add_spread(Z, first, m, weight, shift, seen):
    """Add to `seen`, (4, p): weighted sums of x - shift and of its square; extremes. NaN and inf propagate to sums."""
    for j in range(shift.size):
        column, mid = Z[first + j], shift[j]
        a = b = 0.0
        for i in range(m):
            d = column[i] - mid
            v = weight[i] * d
            a += v
            b += v * d
        seen[0, j] += a
        seen[1, j] += b
        seen[2, j], seen[3, j] = strip_extremes(column, m, seen[2, j], seen[3, j])


def unseen(p):
    """What `add_spread` adds to, for p columns: (4, p)."""
    return np.repeat([[0.0], [0.0], [math.inf], [-math.inf]], p, axis=1)


@kernel
def predict_rows(X, start, m, center, slope, eta):
    """eta += (x - center)'slope of m rows that lie whole."""
    for i in range(m):
        x, total = whole_row(X, start + i), 0.0
        for j in range(center.size):
            total += (x[j] - center[j]) * slope[j]
        eta[i] += total


@kernel
def load_and_predict(X, start, m, columns, center, inverse_scale, intercept, coef, slope, weight, seen, Z, eta):
    """`load_strip`, and eta += Z'coef; `slope` is room for the coefficients by column.

    `add_spread` of the rows on the way, around the center, if `seen` has columns.

    Rows of many columns are walked through one after the other, as memory is read ahead, and transposed from the cache.
    """
    first = 1 if intercept else 0
    if columns.size > FEW_COLUMNS and _lies_whole(X, columns):
        for j in range(columns.size):
            slope[j] = coef[first + j] * inverse_scale[j]
        for low in range(0, m, 32):
            high = min(low + 32, m)
            predict_rows(X, start + low, high - low, center, slope, eta[low:high])
            transpose(X, start, low, high, columns, first, Z)
        if seen.shape[1] > 0:
            add_spread(Z, first, m, weight, center, seen)
        _standardise(m, center, inverse_scale, intercept, Z)
        if intercept:
            for i in range(m):
                eta[i] += coef[0]
        return
    transpose(X, start, 0, m, columns, first, Z)
    if seen.shape[1] > 0:
        add_spread(Z, first, m, weight, center, seen)
    _standardise(m, center, inverse_scale, intercept, Z)
    j = 0
    while j + 4 <= coef.size:
        a, b, c, d = coef[j], coef[j + 1], coef[j + 2], coef[j + 3]
        for i in range(m):
            eta[i] += (a * Z[j, i] + b * Z[j + 1, i]) + (c * Z[j + 2, i] + d * Z[j + 3, i])
        j += 4
    while j < coef.size:
        for i in range(m):
            eta[i] += coef[j] * Z[j, i]
        j += 1


@kernel
def add_moment(Z, m, residual, score):
    """score += Z r."""
    for j in range(score.size):
        total = 0.0
        for i in range(m):
            total += Z[j, i] * residual[i]
        score[j] += total


@kernel
def add_quad(left, right, m, out):
    """out += left right' of four rows each, or of as many as out has: 16 sums in registers share 8 loads."""
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = 0.0
    for i in range(m):
        a, b, c, d = left[0, i], left[1, i], left[2, i], left[3, i]
        v0, v1, v2, v3 = right[0, i], right[1, i], right[2, i], right[3, i]
        a0 += a * v0
        a1 += a * v1
        a2 += a * v2
        a3 += a * v3
        b0 += b * v0
        b1 += b * v1
        b2 += b * v2
        b3 += b * v3
        c0 += c * v0
        c1 += c * v1
        c2 += c * v2
        c3 += c * v3
        d0 += d * v0
        d1 += d * v1
        d2 += d * v2
        d3 += d * v3
    sums = (a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3)
    for j in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[j, k] += sums[4 * j + k]


@kernel
def add_gram(Z, m, weight, weighted, information):
    """Lower triangle of information += Z diag(weight) Z', by blocks of four by four; `weighted` is (4, LENGTH)."""
    q = information.shape[0]
    for j in range(0, q, 4):
        for a in range(4):
            for i in range(m):
                weighted[a, i] = Z[j + a, i] * weight[i]
        for k in range(0, j + 1, 4):
            add_quad(weighted, Z[k:k + 4], m, information[j:j + 4, k:k + 4])
