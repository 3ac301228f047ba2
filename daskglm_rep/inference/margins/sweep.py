"""The block kernel of marginal effects: sums of values and gradients in the coefficients, all effects at once."""

import dataclasses

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep.inference.margins.differences import columns
from daskglm_rep.inference.margins.effects import Slope
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.margins import weighted_moments

TILE_NUMBERS = 2 ** 20          # numbers of one design tile: 8 MiB, a few of them alive at a time
MIN_TILE, MAX_TILE = 1024, 2 ** 16


@dataclasses.dataclass(frozen=True)
class RawCoefficients:
    """Raw coefficients of the columns that are not aliased, and how they meet a design.

    Attributes
    ----------
    model : models.glm.GLM or models.multinomial.Multinomial
    kept : (m,) int array
        Design columns in use.
    intercept : bool
    coef : (E, intercept + m) array
    """

    model: object
    kept: np.ndarray
    intercept: bool
    coef: np.ndarray

    @classmethod
    def of(cls, fit):
        """From a `fitted.Fit`."""
        basis, model = fit.objective.basis, fit.objective.model
        raw = basis.raw(fit.point.coef).reshape(model.n_equations, basis.n_coef)
        return cls(model, basis.columns, bool(basis.intercept), raw)

    def full(self, n_columns):
        """(n_columns, E) slopes with zeros for aliased columns."""
        B = np.zeros((n_columns, self.coef.shape[0]))
        B[self.kept] = self.coef[:, int(self.intercept):].T
        return B

    def eta(self, X, offset):
        """(n, E) linear predictors."""
        eta = np.asarray(X @ self.full(X.shape[1]))
        constant = self.coef[:, 0] if self.intercept else 0.0
        if offset.strides == (0,) and offset.size:          # one for all rows
            eta += constant + offset[0]
        else:
            eta += constant
            eta += offset[:, None]
        return eta


@dataclasses.dataclass(frozen=True)
class EffectPlan:
    """Everything a block needs to know.

    Attributes
    ----------
    terms : terms.FrameTerms, ArrayTerms or MixedTerms
    predictor : RawCoefficients
    averages : tuple of effects.MeanPrediction or effects.Slope
    points : tuple of dict
        Values at which variables are held, for each point in turn.
    """

    terms: object
    predictor: RawCoefficients
    averages: tuple
    points: tuple = ({},)

    @property
    def shape(self):
        """Of the sums: (averages at all points, responses) and the number of coefficients."""
        return len(self.points) * len(self.averages), self.predictor.model.n_responses, self.predictor.coef.size


@dataclasses.dataclass(frozen=True)
class Margins:
    """Sums over rows by group.

    Attributes
    ----------
    groups : dict
        Group -> (sum of weights, (A, R) sums of w f, (A, R, k) sums of w df/db).
    """

    groups: dict

    commutes = True

    def merge(self, other):
        groups = dict(self.groups)
        for key, sums in other.groups.items():
            groups[key] = tuple(a + b for a, b in zip(groups[key], sums)) if key in groups else sums
        return Margins(groups)


def effect_sums(block, plan):
    """Block kernel: `Margins` of a block, tile by tile."""
    rows, groups = plan.terms.rows(block.extra["rows"]), block.extra.get("groups")
    weight, offset = block.weight, block.offset
    codes, keys = None, [()]
    if groups is not None:
        codes, keys = pd.MultiIndex.from_frame(groups.reset_index(drop=True)).factorize()
        order = np.argsort(codes, kind="stable")
        codes, rows, weight, offset = codes[order], plan.terms.take(rows, order), weight[order], offset[order]
        keys = [tuple(key) for key in keys]
    found, straight = Margins({}), straight_slopes(plan, rows) if block.n_rows else {}
    n_outputs = plan.predictor.model.n_responses * plan.predictor.coef.shape[0]
    width = min(len(plan.terms.names), 128) + n_outputs          # wider designs of formulas are sparse
    step = int(np.clip(TILE_NUMBERS // width, MIN_TILE, MAX_TILE))
    for start in range(0, block.n_rows, step):
        cut = slice(start, min(start + step, block.n_rows))
        within = [] if codes is None else np.flatnonzero(np.diff(codes[cut])) + 1
        edges = [0, *within, cut.stop - cut.start]
        sums = tile_sums(plan, plan.terms.take(rows, cut), weight[cut], offset[cut], edges, straight)
        for (first, last), each in zip(zip(edges, edges[1:]), sums):
            key = () if codes is None else keys[codes[start + first]]
            found = found.merge(Margins({key: (float(weight[start + first:start + last].sum()), *each)}))
    return found


def straight_slopes(plan, rows):
    """Slopes whose direction is the same in all rows of a one-equation model: all are multiples of one average.

    Returns
    -------
    dict
        `relative` -> (positions among the averages, (m, q) directions in the raw coefficients).
    """
    found, predictor = {}, plan.predictor
    for at, average in enumerate(plan.averages):
        if not isinstance(average, Slope) or average.levels is not None or average.times_x or len(predictor.coef) > 1:
            continue
        direction = plan.terms.constant_derivative(rows, average.variable)
        if direction is not None:
            full = np.zeros(len(plan.terms.names))
            full[direction[0]] = direction[1]
            places, directions = found.setdefault(average.relative, ([], []))
            places.append(at)
            directions.append(np.r_[np.zeros(int(predictor.intercept)), full[predictor.kept]])
    return {relative: (np.array(places), np.array(D)) for relative, (places, D) in found.items()}


def tile_sums(plan, rows, weight, offset, edges, straight=None):
    """Per run of rows between edges: ((A, R) sums of values, (A, R, k) sums of gradients)."""
    n_averages, n_responses, n_coef = plan.shape
    straight = straight_slopes(plan, rows) if straight is None else straight
    along = {at for places, _ in straight.values() for at in places}
    totals = [(np.zeros((n_averages, n_responses)), np.zeros((n_averages, n_responses, n_coef))) for _ in edges[1:]]
    for number, point in enumerate(plan.points):
        tile, first_at = _Tile(plan, rows, offset, point), number * len(plan.averages)
        for relative, (places, D) in straight.items():
            t = (D @ plan.predictor.coef[0])[:, None]
            for (values, gradients), (value, gradient, slope) in zip(totals, _along_one(tile, relative, weight, edges)):
                values[first_at + places] += t * value
                gradients[first_at + places] += (t * gradient + slope * D)[:, None]
        for at, average in enumerate(plan.averages):
            if at in along:
                continue
            value, pieces = tile.slope(average) if isinstance(average, Slope) else tile.prediction(average)
            for (values, gradients), first, last in zip(totals, edges, edges[1:]):
                run = slice(first, last)
                values[first_at + at] += weight[run] @ value[run]
                gradients[first_at + at] += _gradient(plan.predictor, pieces, weight, run)
    return totals


def _along_one(tile, relative, weight, edges):
    """Per run of rows: sums of the effect of a unit change of eta, of its gradient in b through eta, and of its factor
    of the direction."""
    if len(edges) == 2:
        found = tile.slope_sums(relative, weight)
        if found is not None:
            slope, gradient = found
            return [(np.array([slope]), gradient[None, :], slope)]
    X, state = tile.base
    value, u, v = state.derivative(np.ones((len(weight), 1)), relative)
    runs = [slice(first, last) for first, last in zip(edges, edges[1:])]
    pieces = [(np.arange(X.shape[1]), X, u)]
    return [(weight[run] @ value[run], _gradient(tile.predictor, pieces, weight, run), weight[run] @ v[run, 0, 0])
            for run in runs]


def _gradient(predictor, pieces, weight, run):
    """(R, k) sum of w df/db over a run of rows, from pieces (positions, design, factor (n, R, E)).

    A design that is the same in all rows is one row, (m,).
    """
    E, q = predictor.coef.shape
    total = np.zeros((pieces[0][2].shape[1], E, q))
    place = np.full(max(predictor.kept.max(initial=-1), *(int(p.max(initial=-1)) for p, _, _ in pieces)) + 1, -1)
    place[predictor.kept] = np.arange(predictor.kept.size) + predictor.intercept
    for number, (positions, X, factor) in enumerate(pieces):
        first = predictor.intercept and number == 0          # this piece stands for x, whose first column is 1
        whole = np.einsum("n,nre->re", weight[run], factor[run]) if first or X.ndim == 1 else None
        sums = whole[:, :, None] * X if X.ndim == 1 else weighted_moments(X[run], factor[run], weight[run])
        into = place[positions]
        total[:, :, into[into >= 0]] += sums[:, :, into >= 0]
        if first:
            total[:, :, 0] += whole
    return total.reshape(total.shape[0], -1)


class _Tile:
    """Some rows at one point: the design as it is, built when first asked for, and variants of it."""

    def __init__(self, plan, rows, offset, point):
        self.terms, self.predictor, self.offset, self.point = plan.terms, plan.predictor, offset, point
        for name, value in point.items():
            rows = plan.terms.assign(rows, name, value)
        self.rows, self._design, self._base, self.eta, self._rest = rows, None, None, None, {}

    @property
    def design(self):
        """(n, p) columns at the point."""
        if self._design is None:
            with np.errstate(all="ignore"):
                self._design = self.terms.matrix(self.rows)
        return self._design

    def slope_sums(self, relative, weight):
        """Sums of a unit change of eta and of its gradient in one visit of the rows; None where that does not go."""
        predictor = self.predictor
        m = predictor.kept.size
        basis = Basis(predictor.kept, np.zeros(m), np.ones(m), predictor.intercept)
        return predictor.model.slope_sums(self.design, basis, predictor.coef[0], self.offset, weight, relative)

    @property
    def base(self):
        """(design, state of the response) at the point.

        Raises
        ------
        ValueError
            They are not finite.
        """
        if self._base is None:
            X = self.design
            with np.errstate(all="ignore"):
                self.eta = self.predictor.eta(X, self.offset)
            words = f"at={self.point!r}" if self.point else "The data"
            self._base = X, self._state(self.eta, self.terms.names, X, words)
        return self._base

    def _state(self, eta, names, X, words):
        if not np.isfinite(eta).all():
            raise ValueError(_not_finite(names, X if X.ndim == 2 else np.broadcast_to(X, (len(eta), X.size)), words))
        return self.predictor.model.mean_state(eta)

    def prediction(self, average):
        """Values and pieces of E[y] or ln E[y]."""
        X, state = self.base
        if average.variable is None:
            value, u = state.prediction(average.log)
            return value, [(np.arange(X.shape[1]), X, u)]
        gone, positions, M = self._moved(average)
        B, p = self.predictor.full(X.shape[1])[positions], X.shape[1]
        with np.errstate(all="ignore"):
            eta = (self._without(positions) if gone else self.eta) + M @ B
        words = f"{average.variable} = {average.value}" if average.how == "set" else \
            f"{average.variable} moved by {average.value:g}"
        state = self._state(eta, [self.terms.names[j] for j in positions], M, words)
        value, u = state.prediction(average.log)
        stay = np.arange(p)
        if gone:
            stay[positions] = p          # no column of the design
        return value, [(stay, X, u), (positions, M, u)]

    def _without(self, positions):
        """Linear predictors without some columns, which all levels of a factor share."""
        key = tuple(positions)
        if key not in self._rest:
            X, _ = self.base
            self._rest[key] = self.eta - X[:, positions] @ self.predictor.full(X.shape[1])[positions]
        return self._rest[key]

    def _moved(self, average):
        """Whether columns of the design are replaced, or added to; which, and by what: (n, m), or (m,) for all rows."""
        name, value = average.variable, average.value
        constant = self.terms.constant_part(self.rows, name, value) if average.how == "set" else \
            self.terms.constant_derivative(self.rows, name)
        if constant is not None:
            return average.how == "set", constant[0], constant[1] * (1.0 if average.how == "set" else value)
        if average.how == "shift":
            value = self.terms.column(self.rows, name) + value
        with np.errstate(all="ignore"):
            return True, *self.terms.part(self.terms.assign(self.rows, name, value), name)

    def slope(self, average):
        """Values and pieces of a derivative."""
        X, state = self.base
        if average.levels is None:
            positions, D = self.terms.derivative(self.rows, average.variable, X)
        else:
            (positions, low), (_, high) = (self.terms.part(self.terms.assign(self.rows, average.variable, level),
                                                           average.variable) for level in average.levels)
            D = columns(high - low, slice(None))
        t = D @ self.predictor.full(X.shape[1])[positions]
        value, u, v = state.derivative(t, average.relative)
        if average.times_x:
            x = self.terms.column(self.rows, average.variable)
            value, u, v = value * x[:, None], u * x[:, None, None], v * x[:, None, None]
        return value, [(np.arange(X.shape[1]), X, u), (positions, D, v)]


def _not_finite(names, X, words):
    X = X.toarray() if sparse.issparse(X) else X
    bad = ~np.isfinite(X)
    column = names[int(np.argmax(bad.any(axis=0)))] if bad.any() else "the linear predictor"
    return (f"{words}: the term {column!r} is not finite at {int(bad.any(axis=1).sum())} of {len(X)} rows: outside the "
            "domain of the model; choose values inside it.")
