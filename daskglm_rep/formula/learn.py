"""What a formula must know of all partitions before its design can be built, in one sweep: levels, transform states."""

import ast
import dataclasses
import inspect
import numbers

import numpy as np
import pandas as pd
from formulaic.model_spec import ModelSpec
from formulaic.transforms import TRANSFORMS
from formulaic.utils.stateful_transforms import stateful_eval

from daskglm_rep.formula.terms import Evaluator
from daskglm_rep.kernels.survey import spread
from daskglm_rep.summaries import Spread

MOMENTS_SUFFICE = ("center", "scale", "standardize")
MAX_VALUES = 2 ** 24         # distinct values kept of a column that needs quantiles or orthogonal polynomials


@dataclasses.dataclass(frozen=True)
class Levels:
    """Levels of a factor seen so far.

    Merging is blind to order: where all partitions declare the same categories (or none) their order holds; where the
    category lists differ the union is sorted.

    Attributes
    ----------
    declared : tuple or None
        The categories that all partitions declare, in their order.
    seen : frozenset
        Levels that occur in rows without missing values.
    """

    declared: tuple
    seen: frozenset

    def merge(self, other):
        return Levels(self.declared if self.declared == other.declared else None, self.seen | other.seen)

    def ordered(self, name):
        """The seen levels, in declared or sorted order.

        Raises
        ------
        ValueError
            Levels of types that do not compare.
        """
        if self.declared is not None:
            return tuple(level for level in self.declared if level in self.seen)
        try:
            return tuple(sorted(self.seen))
        except TypeError:
            kinds = ", ".join(sorted({type(v).__name__ for v in self.seen}))
            raise ValueError(f"{name} mixes values of types {kinds}, which have no common order: convert the column, "
                             "for example with astype(str).") from None


def levels_of(values, name, plain):
    """`Levels` of a column's rows.

    Parameters
    ----------
    values : Series
    name : str
    plain : bool
        The column stands alone in the formula, not in C(): then objects must be text.

    Raises
    ------
    ValueError
        Objects that are neither text nor numbers, or numbers stored as objects without C().
    """
    if isinstance(values.dtype, pd.CategoricalDtype):
        categories = values.cat.categories.tolist()
        codes = np.unique(values.cat.codes.to_numpy())
        return Levels(tuple(categories), frozenset(categories[c] for c in codes if c >= 0))
    try:
        found = pd.Index(values.unique()).tolist()
    except TypeError:
        found = [values.iloc[0]]
    odd = [v for v in found if not np.isscalar(v) and not isinstance(v, (pd.Timestamp, pd.Timedelta))]
    if odd:
        raise ValueError(f"{name} holds {type(odd[0]).__name__} objects such as {odd[0]!r}: a formula takes columns of "
                         "numbers, text or categories; convert it first.")
    numeric = any(isinstance(v, numbers.Number) and not isinstance(v, bool) for v in found)
    if plain and values.dtype == object and numeric:
        kinds = {type(v).__name__ for v in found}
        raise ValueError(f"{name} is a column of objects ({', '.join(sorted(kinds))}), not of numbers: convert it with "
                         f"astype(float), or write C({name}) for categories.")
    return Levels(None, frozenset(found))


@dataclasses.dataclass(frozen=True)
class Values:
    """Distinct values of a column with their counts, sorted.

    Above `MAX_VALUES` neighbours are joined two by two, the extremes kept: quantiles are then off by a share 1e-7 of
    the ranks, and a polynomial basis spans the same space but is orthogonal only to that precision.
    """

    values: np.ndarray
    counts: np.ndarray

    def merge(self, other):
        values = np.concatenate([self.values, other.values])
        distinct, place = np.unique(values, return_inverse=True)
        return Values(distinct, np.bincount(place, np.concatenate([self.counts, other.counts]))).thinned()

    def thinned(self):
        if self.values.size <= MAX_VALUES:
            return self
        inner, counts = self.values[1:-1], self.counts[1:-1]
        starts = np.arange(0, inner.size, 2)
        return Values(np.r_[self.values[0], inner[starts], self.values[-1]],
                      np.r_[self.counts[0], np.add.reduceat(counts, starts), self.counts[-1]])

    def column(self):
        """All values (in proportion, where they are too many for memory), as if the partitions lay in one."""
        total = self.counts.sum()
        share = min(1.0, 2 * MAX_VALUES / max(total, 1.0))
        return np.repeat(self.values, np.maximum(np.rint(self.counts * share), 1).astype(np.int64))


@dataclasses.dataclass(frozen=True)
class Learnt:
    """Summary of a learning sweep.

    Attributes
    ----------
    n_rows : float
    missing : dict
        Missing values per column, those without any left out.
    levels : dict of str to Levels
    arguments : dict of str to Spread or Values
        Of stateful transforms' arguments, by state key.
    head : pandas DataFrame
        A first complete row.
    """

    n_rows: float
    missing: dict
    levels: dict
    arguments: dict
    head: pd.DataFrame

    def merge(self, other):
        missing = {k: self.missing.get(k, 0) + other.missing.get(k, 0) for k in self.missing | other.missing}
        return Learnt(self.n_rows + other.n_rows, missing, _merged(self.levels, other.levels),
                      _merged(self.arguments, other.arguments), self.head if len(self.head) else other.head)


def _merged(a, b):
    return {key: a[key].merge(b[key]) if key in a and key in b else a.get(key, b.get(key)) for key in a | b}


def learn(frame, columns, factors, calls, context, state):
    """Look at one partition: the kernel of the learning sweep.

    Parameters
    ----------
    frame : pandas DataFrame
    columns : list of str
        Rows missing in any of them do not count.
    factors : dict of str to formulaic Factor
        Whose levels are wanted.
    calls : list of Call
        Stateful transforms whose arguments can be evaluated by now.
    context, state : dict

    Returns
    -------
    Learnt
    """
    gaps = frame[columns].isna()
    counts = gaps.sum()
    complete = frame[~gaps.any(axis=1).to_numpy()] if counts.any() else frame
    evaluator = Evaluator(complete, context, state)
    if not len(complete):
        return Learnt(float(len(frame)), counts[counts > 0].to_dict(), {}, {}, complete)
    levels = {name: levels_of(evaluator.values(f), name, f.expr in frame.columns) for name, f in factors.items()}
    arguments = {call.key: _argument(call, evaluator.expression(call.argument)) for call in calls}
    return Learnt(float(len(frame)), counts[counts > 0].to_dict(), levels, arguments, complete.head(1))


def _argument(call, values):
    if call.function in MOMENTS_SUFFICE and values.ndim == 1:
        return spread(values[:, None], np.ones(len(values)))
    if values.ndim != 1:
        raise ValueError(f"{call.key} takes one column, not {values.shape[1]}.")
    distinct, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    return Values(distinct, counts.astype(float)).thinned()


def state_of(call, argument, context):
    """State of a stateful transform from its argument over all partitions.

    Centring and scaling follow from merged moments; any other transform is run, once, on the column that the merged
    values give, so that its state is the one formulaic learns on the data in one piece.
    """
    if isinstance(argument, Spread):
        return _scale_state(call, argument)
    state = {}
    env = dict(TRANSFORMS) | dict(context) | {"__values__": argument.column()}
    try:
        stateful_eval(call.on("__values__"), env, {}, state, ModelSpec(formula=[]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{call.key} in the formula cannot be evaluated: {error}") from None
    return next(iter(state.values()))


def _scale_state(call, moments):
    """mean, sqrt(sum (x - center)^2 / (n - ddof)) in the layout of formulaic's scale()."""
    node = ast.parse(call.on("None"), mode="eval").body
    signature = inspect.signature(inspect.unwrap(TRANSFORMS[call.function]))
    bound = signature.bind(*map(ast.literal_eval, node.args),
                           **{k.arg: ast.literal_eval(k.value) for k in node.keywords})
    bound.apply_defaults()
    options = bound.arguments
    center = options.get("center", True)
    scale = False if call.function == "center" else options.get("scale", options.get("rescale", True))
    ddof = options.get("ddof", 1)
    n, mean = moments.weight, float(moments.mean[0])
    center = (mean if center else None) if isinstance(center, bool) else float(center)
    squares = float(moments.squares[0]) + n * (mean - (center or 0.0)) ** 2
    if isinstance(scale, bool):
        scale = float(np.sqrt(squares / (n - ddof))) if scale else None
    return {"ddof": ddof, "center": center, "scale": scale}
