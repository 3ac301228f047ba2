"""Summaries: what a block sends. Each has `merge(other)`: associative, and commutative up to rounding or order."""

import dataclasses
import math

import numpy as np


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
    expected: np.ndarray
    observed: np.ndarray
    deviance: float
    pearson: float
    n_invalid: float = 0.0

    @classmethod
    def invalid(cls, k, n_invalid):
        nothing = np.full((k, k), math.nan)
        return cls(np.full(k, math.nan), nothing, nothing, math.inf, math.nan, n_invalid)

    def merge(self, other):
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

    Attributes
    ----------
    n_rows, n_kept : float
        Rows seen, and those of positive weight.
    weight, weight_squared, weight_y, log_weight, weight_log_y, saturated : float
        Sums of w, w^2, w y, ln w, w ln y (where the family needs it) and the saturated log-likelihood (where it does not
        depend on the dispersion).
    low, high : float
        Extremes of y where w > 0.
    n_outside : float
        Rows whose y the family does not accept.
    n_negative : float
        Rows of negative weight.
    fractional : bool
        Whether some y is neither 0 nor 1.
    reference_deviance : float
        Sum of w d(y, 1/2), from which the deviance at any constant mean follows.
    spread : Spread
        Of y.
    """

    n_rows: float
    n_kept: float
    weight: float
    weight_squared: float
    weight_y: float
    log_weight: float
    weight_log_y: float
    saturated: float
    low: float
    high: float
    n_outside: float
    n_negative: float
    fractional: bool
    reference_deviance: float
    spread: "Spread"

    def merge(self, other):
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in dataclasses.fields(self)[:-1]}
        sums["spread"] = self.spread.merge(other.spread)
        return Response(**(sums | dict(low=min(self.low, other.low), high=max(self.high, other.high),
                                       fractional=self.fractional or other.fractional)))


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
        A random share of each block's rows; weights are scaled so that they stand for the whole block.
    pilot_is_all : bool
        Whether the pilot is all rows.
    has_offset : bool
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

    def merge(self, other):
        labels = dict(self.labels)
        for label, weight in other.labels.items():
            labels[label] = labels.get(label, 0.0) + weight
        response = self.response and other.response and self.response.merge(other.response)
        return Survey(self.lengths + other.lengths, self.columns.merge(other.columns), self.n_nan + other.n_nan,
                      self.n_infinite + other.n_infinite, self.n_bad_y + other.n_bad_y, response, labels,
                      self.pilot + other.pilot, self.pilot_is_all and other.pilot_is_all,
                      self.has_offset or other.has_offset)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two summaries of one sweep."""

    first: object
    second: object

    def merge(self, other):
        return Pair(self.first.merge(other.first), self.second.merge(other.second))


@dataclasses.dataclass(frozen=True)
class Total:
    """A plain sum of an array or number."""

    value: object

    def merge(self, other):
        return Total(self.value + other.value)
