"""What effects need to know about base variables: means, deviations, extremes, shares of levels, exact quantiles.

Quantiles of lazy data: a sweep collects the distinct values with their weights, and where these are too many keeps an
equal-weight digest with a known bound on rank errors. The digest brackets the wanted order statistics and a second
sweep collects the values inside the brackets. So the result is exact, as by sorting, after two sweeps at most unless a
bracket still holds more values than the limit (beyond about 10^9 rows), when one more sweep narrows it.
"""

import dataclasses
import math

import numpy as np
import pandas as pd

from daskglm_rep import passes
from daskglm_rep.kernels.survey import spread
from daskglm_rep.summaries import Spread

LIMIT, POINTS = 2 ** 15, 2 ** 13


@dataclasses.dataclass(frozen=True)
class Digest:
    """Sorted distinct values with weights.

    Attributes
    ----------
    value, weight : (m,) array
    below : float
        Weight of the values left of the bracket.
    total : float
        Weight of all values.
    error : float
        Bound on the error of cumulative weights; 0 while every distinct value is there.
    """

    value: np.ndarray
    weight: np.ndarray
    below: float
    total: float
    error: float = 0.0

    @classmethod
    def of(cls, x, weight, low=-math.inf, high=math.inf):
        inside = (x >= low) & (x <= high)
        below = float(weight[x < low].sum())
        return _compress(*_distinct(x[inside], weight[inside]), below, float(weight.sum()), 0.0)

    def merge(self, other):
        value, weight = _distinct(np.r_[self.value, other.value], np.r_[self.weight, other.weight])
        return _compress(value, weight, self.below + other.below, self.total + other.total, self.error + other.error)

    def order_statistic(self, target):
        """Smallest value whose cumulative weight exceeds `target`; exact where `error` is 0."""
        after = self.below + np.cumsum(self.weight)
        return self.value[min(int(np.searchsorted(after, target, side="right")), self.value.size - 1)]

    def bracket(self, low_target, high_target):
        """Values between which the order statistics of two targets must lie."""
        after = self.below + np.cumsum(self.weight)
        first = int(np.searchsorted(after, low_target - self.error, side="right")) - 1
        last = int(np.searchsorted(after, high_target + self.error, side="right"))
        return self.value[first] if first >= 0 else -math.inf, self.value[last] if last < self.value.size else math.inf


def _distinct(x, weight):
    value, code = np.unique(x, return_inverse=True)
    return value, np.bincount(code, weight, value.size)


def _compress(value, weight, below, total, error):
    if value.size <= LIMIT:
        return Digest(value, weight, below, total, error)
    after = np.cumsum(weight)
    step = after[-1] / POINTS
    last = np.r_[np.flatnonzero(np.diff(np.floor(after / step))), value.size - 1]      # the last value of each bin
    weight = np.diff(np.r_[0.0, after[last]])
    return Digest(value[last], weight, below, total, error + float(weight.max()))


@dataclasses.dataclass(frozen=True)
class VariableSurvey:
    """Merged facts on base variables.

    Attributes
    ----------
    n_rows : float
    spread : Spread
        Of the numeric variables asked for, then of the offset.
    binary : (p,) bool array
        Whether a variable takes only 0 and 1.
    levels : dict
        Factor -> {level: weight}.
    digests : dict
        Variable -> Digest.
    """

    n_rows: float
    spread: Spread
    binary: np.ndarray
    levels: dict
    digests: dict

    def merge(self, other):
        levels = {name: _added(counts, other.levels[name]) for name, counts in self.levels.items()}
        digests = {key: digest.merge(other.digests[key]) for key, digest in self.digests.items()}
        return VariableSurvey(self.n_rows + other.n_rows, self.spread.merge(other.spread), self.binary & other.binary,
                              levels, digests)


def _added(a, b):
    return {level: a.get(level, 0.0) + b.get(level, 0.0) for level in {**a, **b}}


def survey_variables(block, terms, numbers, factors, brackets):
    """Block kernel: `VariableSurvey` of a block.

    Parameters
    ----------
    numbers, factors : sequences of str
    brackets : sequence of (variable, low, high)
    """
    rows = terms.rows(block.extra["rows"])
    columns = [terms.column(rows, name) for name in numbers] + [block.offset]
    binary = np.array([bool(np.isin(column, (0.0, 1.0)).all()) for column in columns[:-1]], dtype=bool)
    values = {name: column for name, column in zip(numbers, columns)}
    digests = {bracket: Digest.of(values[bracket[0]], block.weight, *bracket[1:]) for bracket in brackets}
    levels = {}
    for name in factors:
        counts = pd.Series(block.weight).groupby(np.asarray(terms.column(rows, name))).sum()
        levels[name] = {level: float(weight) for level, weight in counts.items()}
    n_rows = float(np.count_nonzero(block.weight > 0))
    return VariableSurvey(n_rows, spread(np.column_stack(columns), block.weight), binary, levels, digests)


@dataclasses.dataclass(frozen=True)
class VariableFacts:
    """What a request may refer to, by variable: means, deviations (n - 1), extremes, shares, quantiles."""

    mean: dict
    deviation: dict
    low: dict
    high: dict
    binary: dict
    shares: dict
    quantiles: dict
    offset: float


def learn(data, terms, numbers, factors, quantiles, frequency):
    """One sweep, two with quantiles of more than 32,768 distinct values.

    Parameters
    ----------
    quantiles : set of (variable, probability)
    frequency : bool
        Weights count rows: the deviation divides by sum w - 1.

    Returns
    -------
    VariableFacts
    """
    numbers, factors = tuple(numbers), tuple(factors)
    wide = tuple((name, -math.inf, math.inf) for name in sorted({name for name, _ in quantiles}))
    found = passes.run(survey_variables, data, terms, numbers, factors, wide)
    n_rows = found.spread.weight if frequency else found.n_rows
    if not found.spread.weight > 0:
        raise ValueError("The data of these effects have no rows of positive weight.")
    spread_ = found.spread
    deviation = np.sqrt(spread_.squares / spread_.weight * (n_rows / max(n_rows - 1.0, 1.0)))
    by_name = [dict(zip(numbers, values))
               for values in (spread_.mean, deviation, spread_.low, spread_.high, found.binary)]
    shares = {name: {level: weight / sum(counts.values()) for level, weight in counts.items()}
              for name, counts in found.levels.items()}
    exact = _refine(data, terms, {key[0]: found.digests[key] for key in wide}, quantiles, n_rows)
    return VariableFacts(*by_name, shares, exact, float(spread_.mean[-1]))


def _refine(data, terms, digests, quantiles, n_rows):
    """Linear-interpolation quantiles (numpy's default); weights count rows after scaling to sum to their number."""
    digests = {request: digests[request[0]] for request in quantiles}
    targets = {}
    for request, digest in digests.items():
        position = (n_rows - 1.0) * request[1]
        whole, unit = math.floor(position), digest.total / n_rows
        targets[request] = whole * unit, (whole + 1) * unit, position - whole
    for _ in range(10):
        coarse = sorted(request for request, digest in digests.items() if digest.error)
        if not coarse:
            break
        brackets = {r: (r[0], *digests[r].bracket(*targets[r][:2])) for r in coarse}
        found = passes.run(survey_variables, data, terms, tuple(sorted({r[0] for r in coarse})), (),
                           tuple(sorted(set(brackets.values()))))
        digests |= {request: found.digests[bracket] for request, bracket in brackets.items()}
    result = {}
    for request, (first, second, share) in targets.items():
        low, high = digests[request].order_statistic(first), digests[request].order_statistic(second)
        result[request] = float(low + (high - low) * share)
    return result
