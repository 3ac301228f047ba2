"""Whether a sum may leave: how many rows carry it, whether one dominates it, what two sums differ by."""

import dataclasses
import functools

import numpy as np
import pandas as pd

from daskglm_rep.inference.margins.sweep import tile_sums
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.survey import spread
from daskglm_rep.localised.design import Rows, usable
from daskglm_rep.localised.rules import Refused
from daskglm_rep.summaries import Total

NUDGE = 1e-4          # of linear predictors, for the rows that carry an information
MANY = 1000           # distinct values from which a column counts as continuous


@dataclasses.dataclass(frozen=True)
class Carried:
    """Sums, sums of squares and largest of the rows' contributions to some sums, each >= 0, (m,) arrays."""

    total: np.ndarray
    squares: np.ndarray
    largest: np.ndarray

    @classmethod
    def of(cls, contributions):
        """From (n, m) contributions."""
        c = np.abs(contributions)
        return cls(c.sum(axis=0), (c * c).sum(axis=0), c.max(axis=0, initial=0.0))

    def merge(self, other):
        return Carried(self.total + other.total, self.squares + other.squares, np.maximum(self.largest, other.largest))

    @property
    def effective(self):
        """Rows that would carry the sum if all gave alike, (sum c)^2 / sum c^2 (Kish 1965); infinite for no rows."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.squares > 0, self.total ** 2 / self.squares, np.inf)

    @property
    def share(self):
        """Of the largest row in the sum."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.total > 0, self.largest / self.total, 0.0)


@dataclasses.dataclass(frozen=True)
class Sets:
    """Hashes of rows."""

    hashes: tuple

    def merge(self, other):
        return Sets(self.hashes + other.hashes)

    @property
    def sorted(self):
        return np.sort(np.concatenate(self.hashes)) if self.hashes else np.zeros(0, np.uint64)


def hash_rows(frame):
    """(n,) uint64 hashes of whole table rows."""
    return pd.util.hash_pandas_object(frame, index=False).to_numpy(np.uint64)


@dataclasses.dataclass(frozen=True)
class Values:
    """Rows of each value of the columns, the response the last, None where values are many; and the rows' weights."""

    rows: tuple
    weight: Carried

    def merge(self, other):
        both = []
        for a, b in zip(self.rows, other.rows):
            total = None if a is None or b is None else {v: a.get(v, 0) + b.get(v, 0) for v in a | b}
            both.append(total if total is None or len(total) <= MANY else None)
        return Values(tuple(both), self.weight.merge(other.weight))

    def unusual(self):
        """Per column the rows that have not its most frequent value; infinite where values are many."""
        return np.array([np.inf if c is None else sum(c.values()) - max(c.values(), default=0) for c in self.rows])


def column_values(block):
    """Kernel: `Values` of the rows that count."""
    X, rows = np.column_stack([block.X, block.y])[block.weight > 0], []
    for j in range(X.shape[1]):
        found, n = np.unique(X[:, j], return_counts=True)
        rows.append(dict(zip(found.tolist(), n.tolist())) if found.size <= MANY else None)
    return Values(tuple(rows), Carried.of(block.weight[:, None]))


def carried_squares(block, center):
    """Kernel: what the rows give to each column's sum of squares about its mean."""
    return Carried.of(block.weight[:, None] * (block.X - center) ** 2)


def column_spread(block):
    """Kernel: moments of the columns."""
    return spread(block.X, block.weight)


def cells(block, columns):
    """Kernel: sums of w and w^2 over each pair of 0/1 columns or their complements, the first column of all ones: an
    information holds sums over pairs, and their differences."""
    D = np.column_stack([np.ones(block.n_rows), block.X[:, columns]])
    D, w = np.hstack([D, 1.0 - D]), block.weight[:, None]
    return Total(np.array([D.T @ (w * D), D.T @ (w * w * D)]))


def gram(block, basis):
    """Kernel: weighted products of the standardised columns."""
    Z = basis.design(block.X)
    return Total(Z.T @ (block.weight[:, None] * Z))


def leverages(block, basis, inverse):
    """Kernel: each row's largest share in any combination of the columns, its leverage."""
    Z = basis.design(block.X)
    return Carried.of((block.weight * np.einsum("ij,jk,ik->i", Z, inverse, Z))[:, None])


def bent(block, model, raw):
    """The block once an equation, weighted by its rows' part in the information at (E, 1 + p) raw coefficients."""
    step = np.zeros_like(raw)
    step[:, 0] = NUDGE
    curvature = np.abs(pulls(block, model, raw + step) - pulls(block, model, raw - step)) / (2.0 * NUDGE)
    return [dataclasses.replace(block, weight=w) for w in np.ascontiguousarray(curvature.T)]


def bent_gram(block, basis, model, raw):
    """Kernel: each equation's information, (E, k, k)."""
    return Total(np.array([gram(each, basis).value for each in bent(block, model, raw)]))


def bent_leverages(block, basis, model, raw, inverses):
    """Kernel: each row's largest share in any combination of an information's columns."""
    return functools.reduce(Carried.merge, [leverages(each, basis, inverse) for each, inverse in zip(
        bent(block, model, raw), inverses)])


def pulls(block, model, raw):
    """(n, E) derivatives of the rows' log-likelihoods in their linear predictors, at (E, 1 + p) raw coefficients."""
    p = block.X.shape[1]
    return row_scores(block, model, Basis(np.arange(p), np.zeros(p), np.ones(p), True), raw.ravel())[:, ::p + 1]


def check_cells(sums, names, rules):
    """Rules about pairs of 0/1 columns, `sums` of `cells`: both, one, the other, neither: no rows or enough of them.

    Raises
    ------
    Refused
    """
    weight, squares = sums
    effective = np.where(weight > 0, weight * weight / np.maximum(squares, 5e-324), np.inf)
    for a, b in np.argwhere(effective < rules.least_rows * (1.0 - 1e-9))[:1] % len(names):
        raise Refused(f"least_rows: fewer than {rules.least_rows} rows, as their weights count, make a cell of "
                      f"{names[a]!r} and {names[b]!r}")


def carried_changes(frame, points):
    """Kernel: which rows carry what the score at the first of some points has more or less than at the others.

    Parameters
    ----------
    points : list of (Merged, Design, model, coefficients)
        Scores are a design's columns times the rows' derivatives in the linear predictors, which are compared: other
        names, orders or idle columns change nothing. Sums count too, for classes may change places.
    """
    frame, found = frame.reset_index(drop=True), []
    for merged, design, _, _ in points:
        frame = frame.loc[usable(merged.frame(frame), design)[0].index]
    for merged, design, model, raw in points:
        block = Rows(design)((merged.frame(frame),), 0)
        found.append(pulls(block, model, with_intercept(raw, model, design.intercept)))
    now, *past = found
    return Carried.of(np.column_stack([_length(now - sign * then) for then in past for sign in (1, -1)]))


def with_intercept(raw, model, intercept):
    """(E, 1 + p) raw coefficients."""
    coef = np.reshape(raw, (model.n_equations, -1))
    return coef if intercept else np.insert(coef, 0, 0.0, axis=1)


def check_leverage(carried, rules, what):
    """`carried`: leverages, which are 1 at most but for rounding."""
    if rules.most_share < 1.0 and not carried.largest[0] <= rules.most_share:
        raise Refused(f"most_share: one row makes up more than {rules.most_share:g} of a combination of the {what}'s "
                      "columns")


def carried_effects(block, plan):
    """Kernel: what carries the sums of an `EffectPlan`, of rows as they are averaged: at levels that they have not."""
    rows, found = plan.terms.rows(block.extra["rows"]), []
    for start in range(0, block.n_rows, MANY):
        cut = slice(start, min(start + MANY, block.n_rows))
        edges = np.arange(cut.stop - start + 1)                                # each row a run of its own
        sums = tile_sums(plan, plan.terms.take(rows, cut), block.weight[cut], block.offset[cut], edges)
        found.append(Carried.of(np.array([np.r_[values.ravel(), gradient.ravel()] for values, gradient in sums])))
    return functools.reduce(Carried.merge, found)


def row_scores(block, model, basis, coef):
    """(n, k) score rows."""
    rows = np.zeros((block.n_rows, np.size(coef)))
    model.add_scores(block, basis, coef, np.arange(block.n_rows), rows)
    return rows


def carried_scores(block, model, basis, coef, past):
    """What carries the score, its squares and the information at `coef`, and differences from scores at past points.

    Parameters
    ----------
    basis : Basis
        The site's own: in one that a question brings, far centres could hide a row.
    past : list of (k,) arrays
        Coefficients of the same design.

    Returns
    -------
    Carried
        Score's rows, those of its squares, information's rows, the score's k numbers, and per past point the rows of
        the difference.
    """
    here = row_scores(block, model, basis, coef)
    size = _length(here)
    nudged = np.zeros((model.n_equations, basis.n_coef))
    nudged[:, 0 if basis.intercept else slice(None)] = NUDGE
    bent = _length(row_scores(block, model, basis, coef + nudged.ravel()) - here)
    changes = [_length(row_scores(block, model, basis, then) - here) for then in past]
    return Carried.of(np.column_stack([size, size * size, bent, here, *changes]))


def _length(rows):
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


def check_columns(values, squares, names, n_rows, n_coef, rules):
    """Rules about the rows of a model, before any coefficient.

    Parameters
    ----------
    values : Values
    squares : Carried

    Raises
    ------
    Refused
    """
    least, effective = rules.least_rows, float(values.weight.effective[0])
    if not min(n_rows, effective) >= least:
        raise Refused(f"least_rows: the rows' weights count as {min(effective, n_rows):.3g} rows, and the site answers "
                      f"about {least} at least")
    if n_rows < rules.rows_per_coefficient * n_coef:
        raise Refused(f"rows_per_coefficient: {n_coef} coefficients need {rules.rows_per_coefficient * n_coef:g} rows")
    unusual = values.unusual()
    if 0 < unusual[-1] < least:
        raise Refused(f"least_rows: all but {least - 1} rows or fewer have one value of the response")
    unusual = unusual[:-1]
    for j in np.flatnonzero((unusual > 0) & (unusual < least))[:1]:
        raise Refused(f"least_rows: all but {least - 1} rows or fewer have one value of {names[j]!r}")
    for j in np.flatnonzero(~(squares.share <= rules.most_share))[:1]:
        raise Refused(f"most_share: one row makes up more than {rules.most_share:g} of the spread of {names[j]!r}")


def check_scores(carried, n_past, n_coef, rules):
    """Rules about a score and an information at a coefficient vector.

    Raises
    ------
    Refused
    """
    least, share = rules.least_rows, carried.share
    for value, what in zip(carried.effective[[0, 2]], ("score", "information")):
        if not value >= least:                                             # NaN too
            raise Refused(f"least_rows: at these coefficients fewer than {least} rows carry the {what}")
    if not (share[1] <= rules.most_share and (share[3:3 + n_coef] <= rules.most_share).all()):
        raise Refused(f"most_share: one row makes up more than {rules.most_share:g} of a number of the score")
    check_changes(carried.effective[3 + n_coef:][:n_past], rules)


def check_changes(apart, rules):
    """`apart`: effective rows of differences of scores."""
    if not (apart >= rules.least_rows).all():
        raise Refused("difference: the score differs from one that was answered before by fewer than "
                      f"{rules.least_rows} rows")
