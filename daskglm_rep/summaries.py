"""Summaries: what a block sends. Each has `merge(other)`: associative, and commutative up to rounding or order.

Those in which nothing tells the order of the blocks say `commutes = True`; those with one entry a block may be merged
in any order and sorted afterwards, `in_order(order)`; all others are merged in the order of the blocks.
"""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd


@dataclasses.dataclass(frozen=True)
class Moments:
    """Sums over rows at one coefficient vector, at dispersion 1.

    Attributes
    ----------
    score : (k,) array
        Gradient of the log-likelihood.
    expected, observed : (k, k) array or None
        Minus its second derivative, in expectation and as observed; the same array for canonical links; None after a
        gradient-only sweep.
    deviance : float
        Sum of w d(y, mu); inf where some row's mean left the family's domain.
    pearson : float
        Sum of w (y - mu)^2 / V(mu).
    n_invalid : float
        Rows whose mean is outside the domain (a lower bound: a block stops at the first tile that has some).
    """

    score: np.ndarray
    expected: np.ndarray | None
    observed: np.ndarray | None
    deviance: float
    pearson: float
    n_invalid: float = 0.0

    commutes = True

    @classmethod
    def invalid(cls, k, n_invalid):
        nothing = np.full((k, k), math.nan)
        return cls(np.full(k, math.nan), nothing, nothing, math.inf, math.nan, n_invalid)

    def with_sums(self, other):
        """The same informations, which other rows were added to, beside the sums of those rows too."""
        return dataclasses.replace(self, score=self.score + other.score, deviance=self.deviance + other.deviance,
                                   pearson=self.pearson + other.pearson)

    def merge(self, other):
        with np.errstate(invalid="ignore", over="ignore"):          # a trial step that overflows is cut by the solver
            expected = None if self.expected is None or other.expected is None else self.expected + other.expected
            if self.observed is None or other.observed is None:
                observed = None
            else:
                same = self.observed is self.expected and other.observed is other.expected
                observed = expected if same else self.observed + other.observed
            return Moments(self.score + other.score, expected, observed, self.deviance + other.deviance,
                           self.pearson + other.pearson, self.n_invalid + other.n_invalid)


@dataclasses.dataclass(frozen=True)
class Spread:
    """Weighted count, mean and centred second moment of columns (Chan, Golub & LeVeque 1979), with extremes.

    Attributes
    ----------
    weight : float
    mean, squares, low, high : (p,) array
        `squares` is sum w (x - mean)^2.
    """

    weight: float
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def merge(self, other):
        if other.weight == 0:
            return self
        if self.weight == 0:
            return other
        total = self.weight + other.weight
        with np.errstate(invalid="ignore", over="ignore"):          # infinite values are told by the survey
            shift = other.mean - self.mean
            return Spread(total, self.mean + shift * (other.weight / total),
                          self.squares + other.squares + shift * shift * (self.weight * other.weight / total),
                          np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    @property
    def deviation(self):
        """Population standard deviation."""
        return np.sqrt(self.squares / self.weight) if self.weight > 0 else np.zeros_like(self.squares)


@dataclasses.dataclass(frozen=True)
class Response:
    """Sums over the response that every log-likelihood needs beside the deviance.

    Around the weighted mean m of y, sum w d(y, mu) = sum w d(y, m) + W d(m, mu) for every mu: a unit deviance is a
    Bregman divergence in its first argument. So constant models need the deviance around the mean alone, and blocks
    merge by D = D_a + D_b + W_a d(m_a, m) + W_b d(m_b, m): positive terms, nothing cancels.

    Attributes
    ----------
    family : families.Family or None
        Whose deviance this is; None for labels that are not coded yet.
    n_rows, n_kept : float
        Rows seen, and those of positive weight.
    weight, weight_squared, log_weight, weight_log_y, saturated : float
        Sums of w, w^2, ln w, w ln y (where the family needs it) and the saturated log-likelihood (where it does not
        depend on the dispersion).
    low, high : float
        Extremes of y where w > 0.
    n_outside : float
        Rows whose y the family does not accept.
    n_negative : float
        Rows of negative weight.
    fractional : bool
        Whether some y is neither 0 nor 1.
    deviance : float
        Sum of w d(y, m) around the mean.
    spread : Spread
        Of y.
    """

    family: Any
    n_rows: float
    n_kept: float
    weight: float
    weight_squared: float
    log_weight: float
    weight_log_y: float
    saturated: float
    low: float
    high: float
    n_outside: float
    n_negative: float
    fractional: bool
    deviance: float
    spread: "Spread"

    @property
    def mean(self):
        """Weighted mean of y."""
        return float(self.spread.mean[0])

    def deviance_at(self, mu):
        """Sum of w d(y, mu) for one mean of all rows; NaN where it is no mean of the family or some y is none of it."""
        if not self.spread.weight or self.mean == mu:
            return self.deviance
        if self.n_outside or self.n_negative or not self.family.accepts_mean(mu):
            return math.nan
        return self.deviance + self.spread.weight * float(self.family.unit_deviance(self.mean, mu))

    def merge(self, other):
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)[1:-2]}
        both = Response(self.family, **(sums | dict(
            low=min(self.low, other.low), high=max(self.high, other.high), deviance=0.0,
            fractional=self.fractional or other.fractional, spread=self.spread.merge(other.spread))))
        if self.family is None:
            return both
        return dataclasses.replace(both, deviance=self.deviance_at(both.mean) + other.deviance_at(both.mean))


@dataclasses.dataclass(frozen=True)
class Survey:
    """What the first sweep learns, and the pilot rows it brings home.

    Attributes
    ----------
    lengths : tuple of int
        Rows of each block, in order.
    columns : Spread
    n_nan, n_infinite : (p,) array
        Per column of X.
    n_bad_y : (2,) array
        NaN and infinite responses.
    response : Response or None
    labels : dict
        Sum of weights per distinct label (classification), else empty.
    pilot : tuple of Block
        A random share of each block's rows; weights are scaled so that they stand for the whole block. Those of several
        blocks are one once `joined`.
    pilot_is_all : bool
        Whether the pilot is all rows.
    has_offset : bool
    n_missing : float
        Rows left out for a missing value.
    pilot_rows : tuple of int
        Rows of each block in the pilot.
    """

    lengths: tuple
    columns: Spread
    n_nan: np.ndarray
    n_infinite: np.ndarray
    n_bad_y: np.ndarray
    response: Response
    labels: dict
    pilot: tuple
    pilot_is_all: bool
    has_offset: bool
    n_missing: float = 0.0
    pilot_rows: tuple = ()

    def merge(self, other):
        labels = dict(self.labels)
        for label, weight in other.labels.items():
            labels[label] = labels.get(label, 0.0) + weight
        response = self.response and other.response and self.response.merge(other.response)
        return Survey(self.lengths + other.lengths, self.columns.merge(other.columns), self.n_nan + other.n_nan,
                      self.n_infinite + other.n_infinite, self.n_bad_y + other.n_bad_y, response, labels,
                      self.pilot + other.pilot, self.pilot_is_all and other.pilot_is_all,
                      self.has_offset or other.has_offset, self.n_missing + other.n_missing,
                      self.pilot_rows + other.pilot_rows)

    def joined(self):
        """The same with the pilot as one block: four arrays to send, and not four a block."""
        return dataclasses.replace(self, pilot=(self.pilot[0].followed_by(self.pilot[1:]),)) if self.pilot[1:] else self

    def in_order(self, order):
        """Merged in another order of the blocks: `order[i]` says which of them is block i."""
        lengths, n = (tuple(of[i] for i in order) if of else () for of in (self.lengths, self.pilot_rows))
        if not self.pilot:
            return dataclasses.replace(self, lengths=lengths)
        last = np.cumsum(self.pilot_rows)
        rows = np.concatenate([np.arange(last[i] - self.pilot_rows[i], last[i]) for i in order])
        return dataclasses.replace(self, lengths=lengths, pilot=(self.joined().pilot[0].take(rows),), pilot_rows=n)

    def without_rows(self):
        """The sums alone: what a fitted model may keep."""
        return dataclasses.replace(self, pilot=(), lengths=(), pilot_rows=())


def joined(summary):
    """A summary as it is sent: rows of several blocks as one block, where it has some."""
    return summary.joined() if hasattr(summary, "joined") else summary


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two summaries of one sweep."""

    first: Any
    second: Any

    @property
    def commutes(self):
        return all(getattr(part, "commutes", False) for part in (self.first, self.second))

    def merge(self, other):
        return Pair(self.first.merge(other.first), self.second.merge(other.second))

    def joined(self):
        return Pair(joined(self.first), joined(self.second))


@dataclasses.dataclass(frozen=True)
class Total:
    """A plain sum of an array or number."""

    value: Any

    commutes = True

    def merge(self, other):
        return Total(self.value + other.value)


@dataclasses.dataclass(frozen=True)
class Meat:
    """Middle of a sandwich summed over rows, and what tells whether the rows are those of the fit.

    Attributes
    ----------
    matrix : (k, k) array
        Sum of outer products of (adjusted) score rows, in the basis.
    score : (k,) array
        Sum of the score rows: zero at the fit's own rows.
    n_kept : float
        Rows that count (positive weight, or the sum of frequency weights).
    lengths : tuple of int
        Rows of each block, in order.
    perfect : tuple of (int, int)
        Block and row in it of leverages 1: at most a few a block.
    n_perfect : float
    """

    matrix: np.ndarray
    score: np.ndarray
    n_kept: float
    lengths: tuple
    perfect: tuple = ()
    n_perfect: float = 0.0

    def merge(self, other):
        shifted = tuple((block + len(self.lengths), row) for block, row in other.perfect)
        return Meat(self.matrix + other.matrix, self.score + other.score, self.n_kept + other.n_kept,
                    self.lengths + other.lengths, self.perfect + shifted, self.n_perfect + other.n_perfect)

    def in_order(self, order):
        """Merged in another order of the blocks: `order[i]` says which of them is block i."""
        place = np.argsort(order)
        return dataclasses.replace(self, lengths=tuple(self.lengths[i] for i in order), perfect=tuple(sorted(
            (int(place[block]), row) for block, row in self.perfect)))


def distinct(column):
    """Codes 0, 1, ... of labels of any type in order of appearance, -1 for a missing one, and the distinct labels.

    Parameters
    ----------
    column : (n,) array, or anything pandas can factorize

    Returns
    -------
    codes : (n,) int64 array
    labels : (G,) array
    """
    codes, labels = pd.factorize(column, use_na_sentinel=True)
    if not isinstance(labels, np.ndarray):
        labels = labels.to_numpy()
    return codes.astype(np.int64, copy=False), labels


def combine(codes, sizes):
    """Codes of the combinations of several columns of codes, and one row of each combination."""
    both = codes[0]
    for column, size in zip(codes[1:], sizes[1:]):
        both = both * size + column
    both, _ = distinct(both)
    first = np.full(both.max(initial=-1) + 1, -1)
    first[both[::-1]] = np.arange(both.size)[::-1]
    return both, first
