"""Separation: whether the likelihood rises forever along some direction, settled by rows that say no.

A direction d is one of recession where no row's likelihood falls along it however far one goes. A row whose response
is the limit of the mean at one end of the linear predictor may move towards that end and not back; any other row may
not move at all; a row of several classes may raise its own class against each other one. With a for +z or -z (z kron
class differences) all of this reads a'd >= 0 in every constraint, and the maximum likelihood estimate exists if and
only if no d but 0 keeps them all (Albert & Anderson 1984; Konis 2007). Which coefficients are infinite: those that d
moves, for a generic d (Geyer 2009).

Rows settle this one way or the other, by cutting planes: a linear program finds a direction that the rows at hand
allow; a sweep looks for rows that contradict it; these join the rows at hand. No direction left: the estimate exists,
whatever the other rows say. No row that contradicts: the rows are separated. The pilot's rows come first and cost no
sweep.
"""

import dataclasses

import numpy as np
from scipy import linalg, optimize, sparse

from daskglm_rep import passes
from daskglm_rep.kernels.block import TILE, Basis

UNBOUNDED = 20.0         # standard error of what a column's whole range does to eta: a lone event in a level has 1 to 2
ROUNDING = 1e-8          # share of a row's terms up to which their sum is taken for zero
NOISE = 1e-11            # share of the largest coefficient up to which one that should not move is rounding
COST = 1e-6              # of moving a linear predictor by 1: a row that asks for more than a million is left alone
ROUNDS = 100
MOST_ROWS = 500          # of those that contradict, brought home from a block


@dataclasses.dataclass(frozen=True)
class Separated:
    """What is separated.

    Attributes
    ----------
    kind : str
        "complete" or "quasi-complete".
    positions : (m,) array
        Coefficients of one equation that are infinite, in the basis, those with the largest effects first.
    """

    kind: str
    positions: np.ndarray


@dataclasses.dataclass(frozen=True)
class Along:
    """Rows along a direction.

    Attributes
    ----------
    against, strict, some, total : float
        Rows that contradict it, that it moves in all their constraints, in some of them; rows that count.
    rows : (m, k) array
        Constraints that contradict it: all where they are few, else some for each coefficient.
    direction : (k,) array
    """

    against: float
    strict: float
    some: float
    total: float
    rows: np.ndarray
    direction: np.ndarray

    def merge(self, other):
        rows = _hardest(np.vstack([self.rows, other.rows]), self.direction)
        return Along(self.against + other.against, self.strict + other.strict, self.some + other.some,
                     self.total + other.total, rows, self.direction)


def _hardest(rows, direction):
    """All where they are few; else for each coefficient the row that contradicts a direction most through it."""
    if len(rows) <= MOST_ROWS:
        return rows
    terms = rows * direction
    size = np.abs(terms).sum(axis=1)
    share = np.abs(terms) * (-terms.sum(axis=1) / np.maximum(size, 1e-300) ** 2)[:, None]
    return rows[np.unique(share.argmax(axis=0)[share.max(axis=0) > 0.0])]


def _tile(model, Z, y, kept, direction):
    D = direction.reshape(-1, Z.shape[1]).T
    gap = model.constraint_values(y, Z @ D, -1.0)
    size = model.constraint_values(y, abs(Z) @ np.abs(D), 1.0)
    slack = ROUNDING * size
    bound = model.constrained(y) & kept[:, None]
    wrong, right = bound & (gap < -slack), bound & (gap > slack)
    row, entry = np.nonzero(wrong)
    if row.size > MOST_ROWS:
        worst = np.argpartition(gap[row, entry] / size[row, entry], MOST_ROWS)[:MOST_ROWS]
        row, entry = row[worst], entry[worst]
    rows = Z[row]
    rows = rows.toarray() if sparse.issparse(rows) else rows
    return Along(float(wrong.any(axis=1).sum()), float(((right | ~bound).all(axis=1) & kept).sum()),
                 float(right.any(axis=1).sum()), float(kept.sum()),
                 model.constraint_rows(rows, y[row], entry), direction)


def along(block, box, direction, model):
    """`Along` of a block: the pass kernel that looks for rows which contradict a direction.

    Parameters
    ----------
    box : Basis
        Columns in units of their range.
    direction : (k,) array in that basis
    """
    kept, parts = block.weight > 0, []
    for start in range(0, max(block.n_rows, 1), TILE):
        rows = slice(start, start + TILE)
        parts.append(_tile(model, box.design(block.X[rows]), block.y[rows], kept[rows], direction))
    return passes.merge_all(parts)


def reach(objective, found):
    """Range of each column in use, (p,) array; 1 where it has none."""
    columns = objective.basis.columns
    low, high = found.columns.low[columns], found.columns.high[columns]
    if not _centred(objective.basis):
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    return np.where(high > low, high - low, 1.0)


def _centred(basis):
    return basis.intercept and bool(np.any(basis.center))


def suspects(objective, point, found):
    """Coefficients whose standard error times their column's range is unbounded in effect: cheap and free of units.

    Along a direction of recession the information falls below the square of the Newton decrement, whatever the units,
    so a fit that is nearly settled shows it here. Honest errors as large are rare; `Watch` then decides.

    Parameters
    ----------
    objective : Objective
    point : Point
        After any sweep that evaluated the informations.
    found : Survey

    Returns
    -------
    (n_equations * q,) bool array
    """
    basis, model = objective.basis, objective.model
    with np.errstate(all="ignore"):
        variance = np.diag(point.by_curvature.inverse).reshape(-1, basis.n_coef)
        unit = min(1.0, found.response.weight / max(found.response.n_kept, 1.0))
        if not model.dispersion_known:
            unit = point.moments.pearson / max(found.response.n_kept, 1.0)
        size = np.r_[[0.0] * basis.intercept, reach(objective, found) / basis.scale]
        bounded = variance * size ** 2 * unit <= UNBOUNDED ** 2
    return ~bounded.ravel()


def _equilibrated(rows):
    """Columns in units of their median, then rows of their largest: one extreme value must not hide the rest."""
    size = np.ma.masked_equal(np.abs(rows), 0.0)
    column = (1.0 / np.ma.median(size, axis=0)).filled(1.0) if len(rows) else np.ones(rows.shape[1])
    scaled = rows * column
    return scaled / np.maximum(np.abs(scaled).max(axis=1, initial=0.0), 1e-300)[:, None], column


def _program(scaled):
    """argmax_d sum_i min(a_i'd, 1) - COST |d|_1 under A d >= 0; None where no algorithm solves it."""
    m, k = scaled.shape
    if not m:
        return np.zeros(k)
    moves = sparse.hstack([sparse.csr_array(-scaled), sparse.csr_array(scaled), sparse.eye_array(m)], format="csc")
    for method in ("highs-ds", "highs-ipm"):
        found = optimize.linprog(
            np.r_[np.full(2 * k, COST), np.full(m, -1.0)], A_ub=moves, b_ub=np.zeros(m), method=method,
            bounds=[(0.0, None)] * (2 * k) + [(0.0, 1.0)] * m,
            options=dict(primal_feasibility_tolerance=1e-10, dual_feasibility_tolerance=1e-10))
        if found.success:
            return found.x[:k] - found.x[k:2 * k]
    return None


def allowed(rows, guess):
    """A direction that no row contradicts, generic among those: every coefficient that may move does.

    The linear program moves as many rows as it can by 1, then with the least coefficients. Rows that it leaves at 0
    have to stay there, so what is allowed spans their null space; the guess says where to go in it, as far as leaves
    the rows that move nine tenths of their move.

    Parameters
    ----------
    rows : (m, k) array
        Constraints a'd >= 0.
    guess : (k,) array of -1 and 1

    Returns
    -------
    (k,) array, all 0 where the program failed; None where there is no direction
    """
    k = rows.shape[1]
    scaled, column = _equilibrated(rows)
    d = _program(scaled)
    if d is None:
        return np.zeros(k)
    moved = scaled @ d > 1e-6
    space = linalg.null_space(linalg.qr(scaled[~moved], mode="r")[0][:k], rcond=1e-10) if (~moved).any() else np.eye(k)
    if space.shape[1] == 0:
        return None
    towards = space @ (space.T @ (guess * (0.5 + np.random.default_rng(0).random(k))))
    if moved.any():
        d = space @ (space.T @ d)
        move, change = (scaled @ d)[moved], (scaled @ towards)[moved]
        d = d + 0.1 / max(np.max(np.abs(change) / move), 1e-300) * towards
    else:
        d = towards
    d = np.where(np.abs(d) > NOISE * np.abs(d).max(), d, 0.0) * column
    return d / np.abs(d).max()


class Watch:
    """Finds out once, when a coefficient first looks unbounded, whether the rows of a fit are separated.

    Parameters
    ----------
    objective : Objective
    data, pilot : Data
    found : Survey

    Attributes
    ----------
    separated : Separated or None
    done : bool
        Whether there is nothing more to find out.
    """

    def __init__(self, objective, data, pilot, found):
        self.objective, self.found, self.separated = objective, found, None
        self.stages = (pilot,) if found.pilot_is_all else (pilot, data)
        some, all_alike = objective.model.at_limits(found.response)
        self.done = not some
        if all_alike and objective.basis.intercept:
            self.done, self.separated = True, Separated("complete", np.zeros(1, int))
        basis = objective.basis
        low = found.columns.low[basis.columns] if _centred(basis) else np.zeros(basis.columns.size)
        self.box = Basis(basis.columns, low, reach(objective, found), basis.intercept)

    def __call__(self, point, near=True):
        """Whether to stop after a sweep: at complete separation, or at any once the finite coefficients are near.

        Looks at rows only where some coefficient is suspect.
        """
        if not self.done and suspects(self.objective, point, self.found).any():
            self.look(point.coef)
        return self.separated is not None and (near or self.separated.kind == "complete")

    def look(self, coef):
        """Cutting planes, from the pilot's rows on to all.

        The fit's own coefficients come first: once they separate all rows no program is needed. They are no proof of
        less, being no generic direction among those allowed.

        Parameters
        ----------
        coef : (k,) array
            Their signs say where unbounded ones run.
        """
        if self.done:
            return
        self.done, free = True, self._free()
        direction = np.where(free, np.nan_to_num(self.box.standardised(self.objective.basis.raw(coef))), 0.0)
        rows, guess, proposed = np.zeros((0, free.sum())), np.where(direction < 0.0, -1.0, 1.0)[free], False
        for stage in self.stages:
            for _ in range(ROUNDS):
                seen = passes.run(along, stage, self.box, direction, self.objective.model)
                kind = "complete" if seen.strict == seen.total else "quasi-complete"
                if not seen.against and (proposed or kind == "complete"):
                    break
                rows, proposed = np.vstack([rows, seen.rows[:, free]]), True
                d = allowed(rows, guess)
                if d is None or not d.any():
                    return
                direction[free] = d
            else:
                return
        if seen.some:
            self.separated = Separated(kind, self._positions(direction))

    def _free(self):
        """Coefficients without a penalty: the others cannot run to infinity."""
        return self.objective.penalty.free(self.objective.n_coef)

    def _positions(self, direction):
        """Coefficients that the direction moves, by effect; the intercept only where it is alone."""
        basis = self.objective.basis
        effect = np.abs(direction).reshape(-1, basis.n_coef).max(axis=0)
        effect[basis.intercept:] *= (self.found.columns.deviation[basis.columns] / self.box.scale)
        order = np.argsort(-effect, kind="stable")
        order = order[effect[order] > 0.0]
        slopes = order[order >= basis.intercept]
        return slopes if slopes.size else order
