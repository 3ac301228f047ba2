"""Derivatives of design rows in a base variable, through any term, by checked central differences.

Formula libraries differentiate only some terms (and return 0 for others without saying so), so the design is rebuilt at
x + h and x - h under the frozen specification. Two step sizes give Richardson's extrapolation and an estimate of its
error row by row; rows that fail it, near a singularity such as log(0), are done again with smaller steps.
"""

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
    positions, coarse, _ = _central(terms, rows, name, x, h, None)
    _, fine, size = _central(terms, rows, name, x, h / 2, positions)
    values = (4.0 * fine - coarse) / 3.0
    wrong = np.flatnonzero(_disagree(coarse, fine, size, h))
    for _ in range(ROUNDS):
        if not wrong.size:
            return positions, values
        h *= SHRINK
        some = terms.take(rows, wrong)
        _, coarse, _ = _central(terms, some, name, x[wrong], h, positions)
        _, fine, size = _central(terms, some, name, x[wrong], h / 2, positions)
        values[wrong] = (4.0 * fine - coarse) / 3.0
        wrong = wrong[_disagree(coarse, fine, size, h)]
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


def _central(terms, rows, name, x, h, positions):
    """Columns that change, their central difference and their size."""
    above, below = x + h, x - h
    with np.errstate(all="ignore"):
        high = terms.matrix(terms.assign(rows, name, above))
        low = terms.matrix(terms.assign(rows, name, below))
        if positions is None:
            positions = changed(high, low)
        high, low = columns(high, positions), columns(low, positions)
        return positions, (high - low) / (above - below)[:, None], np.maximum(np.abs(high), np.abs(low))


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
