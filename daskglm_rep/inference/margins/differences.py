"""Derivatives of design rows in a base variable, through any term, by checked central differences.

Formula libraries differentiate only some terms (and return 0 for others without saying so), so the design is rebuilt at
x + h and x - h under the frozen specification. Two step sizes give Richardson's extrapolation and an estimate of its
error row by row; rows that fail it, near a singularity such as log(0), are done again with smaller steps. A step that
would leave the range of a term (a spline's boundary knots) stays inside, with a one-sided formula of higher order.
"""

import dataclasses

import numpy as np
from scipy import sparse

STEP = 2.0 ** -8          # of the standard deviation: truncation after extrapolation is near 1e-12 for smooth terms
SHRINK = 2.0 ** -4
ROUNDS = 6
AGREE = 2e-5              # relative difference of the two steps; the extrapolated error is about its square
NOISE = 64 * np.finfo(float).eps


def derivative(terms, rows, name):
    """d design / d name of some rows.

    Parameters
    ----------
    terms : terms with `column`, `assign`, `matrix`, `take`, and `scales`, known standard deviations by variable
    rows : rows of these terms
    name : str
        A numeric base variable.

    Returns
    -------
    positions : (m,) int array
        Design columns that depend on the variable.
    values : (n, m) array

    Raises
    ------
    ValueError
        A term jumps at some rows' values: it has no derivative there.
    """
    x = terms.column(rows, name)
    h = STEP * 2.0 ** np.round(np.log2(terms.scales.get(name) or _scale(x)))     # a power of two: x + h loses no digit
    try:
        return _checked(terms, rows, name, x, h, CENTRAL)
    except OutOfRange:
        return _by_sides(terms, rows, name, x, h)


class OutOfRange(ValueError):
    """A term cannot be evaluated at the ends of a step."""


@dataclasses.dataclass(frozen=True)
class Stencil:
    """A difference quotient of step h: sum weights f(x + nodes h) / h, its error of the given order in h."""

    nodes: tuple
    weights: tuple
    order: int


CENTRAL = Stencil((-1.0, 1.0), (-0.5, 0.5), 2)
UP = Stencil((0.0, 0.25, 0.5, 0.75, 1.0), (-25 / 3, 16.0, -12.0, 16 / 3, -1.0), 4)
DOWN = Stencil(tuple(-v for v in UP.nodes), tuple(-v for v in UP.weights), 4)


def _by_sides(terms, rows, name, x, h):
    """One-sided differences for the rows whose step leaves the range of a term, such as a spline's boundary knots."""
    up, down = (_takes(terms, rows, name, x + step) for step in (h, -h))
    groups = [(np.flatnonzero(which), stencil) for which, stencil in ((up & down, CENTRAL), (up & ~down, UP),
                                                                      (down & ~up, DOWN)) if which.any()]
    if not (up | down).all():
        raise ValueError(f"{terms.names[0]!r} and its companions cannot be evaluated on either side of {name} = "
                         f"{x[~(up | down)][0]:g}, so they have no derivative there; ask for a discrete change instead "
                         "(change= or contrast=).")
    some = [(terms.take(rows, where), x[where], stencil) for where, stencil in groups]
    positions = np.unique(np.concatenate([_quotient(terms, taken, name, at, h, stencil)[0]
                                          for taken, at, stencil in some]))
    values = np.empty((x.size, positions.size))
    for (where, _), (taken, at, stencil) in zip(groups, some):
        values[where] = _checked(terms, taken, name, at, h, stencil, positions)[1]
    return positions, values


def _takes(terms, rows, name, values):
    """Which rows' terms can be evaluated at some values of a variable: those between the ends of its range."""
    good, runs = np.ones(values.size, bool), [np.argsort(values, kind="stable")]

    def fails(run):
        try:
            _at(terms, terms.take(rows, run), name, values[run])
        except OutOfRange:
            return True
        return False

    while runs:
        run = runs.pop()
        if not run.size or not fails(run):
            continue
        if fails(run[:1]) and fails(run[-1:]):
            good[run] = False
            continue
        runs += [run[:run.size // 2], run[run.size // 2:]]
    return good


def _checked(terms, rows, name, x, h, stencil, positions=None):
    """Richardson's extrapolation of two steps; rows where they disagree are done again with smaller ones."""
    gain = 2.0 ** stencil.order

    def estimate(rows, x, h, positions):
        positions, coarse, _ = _quotient(terms, rows, name, x, h, stencil, positions)
        _, fine, size = _quotient(terms, rows, name, x, h / 2, stencil, positions)
        return positions, (gain * fine - coarse) / (gain - 1.0), _disagree(coarse, fine, size, h)

    positions, values, bad = estimate(rows, x, h, positions)
    wrong = np.flatnonzero(bad)
    for _ in range(ROUNDS):
        if not wrong.size:
            return positions, values
        h *= SHRINK
        _, values[wrong], bad = estimate(terms.take(rows, wrong), x[wrong], h, positions)
        wrong = wrong[bad]
    if wrong.size:
        column = terms.names[positions[np.argmax(np.abs(values[wrong[0]]))]]
        raise ValueError(f"The term {column!r} has no derivative in {name!r} at {wrong.size} of {x.size} rows, for "
                         f"instance at {name} = {x[wrong[0]]:g}, where it jumps; ask for a discrete change instead "
                         "(change= or contrast=).")
    return positions, values


def _scale(x):
    """Standard deviation of some values; their size where they do not vary."""
    size = np.max(np.abs(x), initial=0.0)
    deviation = float(np.std(x)) if x.size else 0.0
    return deviation if deviation > 1e-6 * size else size if size > 0 else 1.0


def _at(terms, rows, name, values):
    try:
        with np.errstate(all="ignore"):
            return terms.matrix(terms.assign(rows, name, values))
    except ValueError as error:
        raise OutOfRange(str(error)) from None


def _quotient(terms, rows, name, x, h, stencil, positions=None):
    """Columns that change (where not given), their difference quotient and their size."""
    ends = [x + node * h for node in stencil.nodes]
    designs = [_at(terms, rows, name, values) for values in ends]
    if positions is None:
        positions = changed(designs[-1], designs[0])
    designs = [columns(X, positions) for X in designs]
    width = (ends[-1] - ends[0]) / (stencil.nodes[-1] - stencil.nodes[0])          # h, as rounding left it
    with np.errstate(invalid="ignore", over="ignore"):
        total = sum(weight * X for weight, X in zip(stencil.weights, designs))
        return positions, total / width[:, None], np.abs(designs).max(axis=0)


def _disagree(coarse, fine, size, h):
    """Rows whose two estimates differ by more than truncation allows and rounding explains."""
    with np.errstate(invalid="ignore"):
        limit = AGREE * np.abs(fine).max(axis=1, initial=0.0) + NOISE / h * size.max(axis=1, initial=0.0)
        return ~(np.abs(fine - coarse).max(axis=1, initial=0.0) <= limit)


def changed(a, b):
    """Positions of the columns in which two designs differ."""
    if sparse.issparse(a):
        return np.flatnonzero(np.diff((a - b).tocsc().indptr))
    return np.flatnonzero((a != b).any(axis=0))


def columns(X, positions):
    """Some columns, dense."""
    X = X[:, positions]
    return X.toarray() if sparse.issparse(X) else np.asarray(X)
