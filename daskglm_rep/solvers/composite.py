"""A smooth objective plus a penalty with corners: what coordinate descent, FISTA and mirror descent minimise.

Of p columns only the active ones have second derivatives, those whose coefficient is or may become something else than
zero: a sweep gives the gradient of all, and informations of the active ones, so that no p x p array is made.

One certificate serves all solvers: the length of the proximal Newton step from where they are, which takes the least
element of the subdifferential through the Hessian of the columns in use, in standard errors of those columns.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep import passes
from daskglm_rep.corners import Corners, ElasticNet, OfContrasts
from daskglm_rep.fitted import Fit, distance_of, standard_errors
from daskglm_rep.kernels.block import Basis
from daskglm_rep.kernels.moments import block_moments, screened_moments
from daskglm_rep.objective import Objective, Point, solve
from daskglm_rep.shapes import Shape

FEW = 300          # coefficients up to which all are active
ROOM = 2 ** 33     # bytes of second derivatives that are refused
INFLATED = 1e3     # errors of columns alone in the model beyond which those of all together are rounding: no measure
LEVEL = 1e-7       # largest weight of a proximal term on the common level of several classes, in units of curvature


@dataclasses.dataclass(frozen=True)
class State:
    """The objective after a sweep.

    Attributes
    ----------
    coef : (k,) array
    value : float
    gradient : (k,) array
        Of the smooth part.
    active : (a,) int array
        Columns of the basis that `moments` has informations of.
    moments : Moments
    """

    coef: np.ndarray
    value: float
    gradient: np.ndarray
    active: np.ndarray
    moments: object

    @property
    def usable(self):
        return math.isfinite(self.value) and bool(np.isfinite(self.gradient).all())


@dataclasses.dataclass(frozen=True)
class Problem:
    """Half the deviance plus a penalty with corners, in k = m q coefficients: m (symmetric) classes of q columns.

    Parameters
    ----------
    model : models.glm.GLM or models.multinomial.Multinomial
    basis : Basis
    penalty : penalties.Corners
    """

    model: object
    basis: Basis
    penalty: Corners

    @property
    def m(self):
        return self.model.symmetry.shape[1]

    @property
    def all_columns(self):
        return np.arange(self.basis.n_coef)

    def equations(self, coef):
        """The model's coefficients, (n_equations * q,)."""
        return (self.model.symmetry @ coef.reshape(self.m, -1)).ravel()

    def symmetric(self, coef):
        """Symmetric coefficients, (m q,), of the model's: their sum over classes is zero."""
        if self.m == 1:
            return coef
        full = np.vstack([np.zeros(self.basis.n_coef), coef.reshape(self.m - 1, -1)])
        return (full - full.mean(axis=0)).ravel()

    def levelled(self, coef):
        """The same contrasts of classes at each column's best level: nothing that the data know of.

        Free coefficients sum to zero; of the levels at which absolute values are alike, that with most zeros.
        """
        if self.m == 1 or not (isinstance(self.penalty, ElasticNet) and type(self.penalty.shape) is Shape):
            return coef
        B, k = coef.reshape(self.m, -1), np.arange(self.m + 1)
        slope, ridge = (v.reshape(self.m, -1)[0] for v in (self.penalty.absolute, self.penalty.ridge))
        mean = B.mean(axis=0)
        best = B - mean
        for j in np.flatnonzero((slope > 0.0) & B.any(axis=0)):
            between = mean[j] + slope[j] * (self.m - 2 * k) / (self.m * ridge[j]) if ridge[j] else ()
            trials = [B[:, j] - c for c in (0.0, *B[:, j], *between)]
            costs = np.array([slope[j] * np.abs(b).sum() + 0.5 * ridge[j] * b @ b for b in trials])
            least = [b for b, cost in zip(trials, costs) if cost <= costs.min() * (1.0 + 1e-14)]
            best[:, j] = min(least, key=lambda b: (np.count_nonzero(b), b @ b))
        return best.ravel()

    def places(self, columns):
        """Where the coefficients of some columns are among the k."""
        return (np.arange(self.m)[:, None] * self.basis.n_coef + columns).ravel()

    def columns_of(self, marked):
        """Columns with a marked coefficient in some class, groups whole; (k,) bool to sorted int array."""
        return np.flatnonzero(self.penalty.whole(marked).reshape(self.m, -1).any(axis=0))

    def used(self, coef):
        """Columns whose coefficients are not zero, or free."""
        return self.columns_of((coef != 0.0) | (self.penalty.alpha == 0.0))

    def violators(self, state):
        """Columns outside the active ones whose zeros the gradient contradicts, (k,) bool."""
        wrong = self.penalty.residual(state.coef, state.gradient) != 0.0
        wrong[self.places(state.active)] = False
        return wrong

    def keep(self, columns):
        """The problem of some columns, the others at zero."""
        return Problem(self.model, self.basis.keep(columns), self.penalty.keep(self.places(columns)))

    def evaluate(self, data, coef, active=None, informative=True):
        """One sweep; `active` (default all) must hold `used(coef)`."""
        active, at = self.all_columns if active is None else active, self.equations(coef)
        n_bytes = informative * 8 * (self.model.n_equations * active.size) ** 2
        if n_bytes > ROOM:
            raise ValueError(f"{active.size} of {self.basis.n_coef} columns are in use at "
                             f"alpha={self.penalty.strength:g}, and their second derivatives would take "
                             f"{n_bytes / 2 ** 30:.0f} GiB: raise alpha or l1_ratio, so that fewer stay.")
        if active.size == self.basis.n_coef:
            moments = passes.run(block_moments, data, self.model, self.basis, at, informative)
        else:
            moments = passes.run(screened_moments, data, self.model, self.basis, at, active, informative)
        return self.state(coef, active, moments)

    def state(self, coef, active, moments):
        """Add the penalty's part to the data's."""
        score = self.model.symmetry.T @ moments.score.reshape(self.model.n_equations, -1)
        with np.errstate(over="ignore", invalid="ignore"):          # an epoch that overflowed: its solver takes it back
            return State(coef, 0.5 * moments.deviance + self.penalty.value(coef),
                         self.penalty.gradient(coef) - score.ravel(), active, moments)

    def after(self, state, step):
        """A linear model's state at the end of a step, all columns active."""
        d, m = self.equations(step), state.moments
        moments = dataclasses.replace(m, score=m.score - m.observed @ d,
                                      deviance=max(m.deviance - 2 * m.score @ d + d @ m.observed @ d, 0.0))
        moments = dataclasses.replace(moments, pearson=moments.deviance)
        return self.state(state.coef + step, state.active, moments)

    def hessian(self, state):
        """Of the smooth part, the active columns' coefficients: the observed one where it is positive definite."""
        m, S, a = state.moments, self.model.symmetry, state.active.size
        information = m.observed
        if m.observed is not m.expected and solve(m.observed, np.zeros(len(m.observed))) is None:
            information = m.expected
        if self.m > 1:
            blocks = information.reshape(len(S), a, len(S), a)
            information = np.einsum("ej,eafb,fl->jalb", S, blocks, S, optimize=True)
            size, free = np.einsum("jaja->a", information), self.penalty.alpha[state.active] == 0.0
            far = np.abs(state.coef.reshape(self.m, -1)[:, state.active]).max(axis=0)
            pull = self.penalty.total * (self.penalty.unit * self.penalty.alpha)[state.active] / (1.0 + far)
            level = np.where(free, 1.0, np.clip(1e-3 * pull / np.maximum(size, 1e-300), 1e-11, LEVEL))
            for j in range(a):          # the data leave a column's level open, and steps that keep it are as good
                information[:, j, :, j] += level[j] * (size[j] + (size[j] == 0.0))
            information = information.reshape(self.m * a, -1)
        return information + np.diag(self.penalty.ridge[self.places(state.active)])

    def direction(self, state):
        """The proximal Newton step among the active columns, (k,) array, and the quadratic model's gradient there."""
        on = self.places(state.active)
        H, step = self.hessian(state), np.zeros_like(state.coef)
        kept = self.penalty.keep(on)
        step[on] = kept.minimise(H, state.gradient[on], state.coef[on]) - state.coef[on]
        return step, state.gradient[on] + H @ step[on]

    def point(self, state, columns):
        """The model's `Point` and `Objective` on some of the active columns."""
        E, q, a = self.model.n_equations, self.basis.n_coef, state.active.size
        rows = np.arange(E)[:, None]
        inner = (rows * a + np.searchsorted(state.active, columns)).ravel()
        outer, m = (rows * q + columns).ravel(), state.moments
        expected = m.expected[np.ix_(inner, inner)]
        observed = expected if m.observed is m.expected else m.observed[np.ix_(inner, inner)]
        moments = dataclasses.replace(m, score=m.score[outer], expected=expected, observed=observed)
        penalty = self.penalty.keep(self.places(columns))
        ridge = np.kron(self.model.ridge_metric, np.diag(penalty.ridge[:columns.size]))
        if self.m > 1:
            penalty = OfContrasts(ridge, penalty.free(outer.size))
        point = Point(self.equations(state.coef)[outer], moments, state.value, -moments.score, observed + ridge,
                      expected + ridge)
        return Objective(self.model, self.basis.keep(columns), penalty), point

    def distance(self, state, step, n_rows):
        """Length of a step among active columns in standard errors of the worst coefficient."""
        columns = self.columns_of((state.coef != 0.0) | (step != 0.0) | (self.penalty.alpha == 0.0))
        if not columns.size:
            return 0.0
        objective, point = self.point(state, columns)
        outer = (np.arange(self.model.n_equations)[:, None] * self.basis.n_coef + columns).ravel()
        alone = dataclasses.replace(point, curvature=np.diag(np.maximum(np.diag(point.curvature), 1e-300)))
        errors = np.minimum(standard_errors(objective, point, n_rows, least=True),
                            INFLATED * standard_errors(objective, alone, n_rows, least=True))
        return distance_of(objective, self.equations(step)[outer], errors, point.coef)


@dataclasses.dataclass(frozen=True)
class Reached:
    """Where a solver stopped.

    Attributes
    ----------
    state : State
        Informations of all columns in use.
    step : (k,) array
        What the certificate measured.
    distance : float
        In standard errors.
    n_iter : int
    converged : bool
    """

    state: State
    step: np.ndarray
    distance: float
    n_iter: int
    converged: bool


def certify(problem, data, state, n_rows, tol, n_iter):
    """`Reached` by one sweep with informations of the columns in use and those that should be."""
    wrong = problem.penalty.residual(state.coef, state.gradient) != 0.0
    active = problem.columns_of(wrong | (state.coef != 0.0) | (problem.penalty.alpha == 0.0))
    state = problem.evaluate(data, state.coef, active)
    step, _ = problem.direction(state)
    distance = problem.distance(state, step, n_rows)
    return Reached(state, step, distance, n_iter, distance <= tol)


def left(problem, state):
    """Largest element of the least subgradient."""
    return float(np.abs(problem.penalty.residual(state.coef, state.gradient)).max(initial=0.0))


def unit(problem, state, n_rows):
    """A gradient's element at which its column, alone in the model, would be one standard error away: what solvers
    without second derivatives go by until `certify` tells."""
    dispersion = 1.0
    if not problem.model.dispersion_known:
        dispersion = state.moments.pearson / max(n_rows - np.count_nonzero(state.coef), 1.0)
    return math.sqrt(max(dispersion * problem.penalty.total, 1e-300))


def fit_of(problem, reached, solver):
    """`Fit` on the columns in use, and which of all they are, (q,) bool array."""
    state = reached.state
    columns = problem.used(state.coef)
    objective, point = problem.point(state, columns)
    outer = (np.arange(problem.model.n_equations)[:, None] * problem.basis.n_coef + columns).ravel()
    kept = np.zeros(problem.basis.n_coef, bool)
    kept[columns] = True
    symmetric = state.coef.reshape(problem.m, -1)[:, columns] if problem.m > 1 else None
    return Fit(objective, point, problem.equations(reached.step)[outer], reached.distance, reached.n_iter,
               reached.converged, solver=solver, symmetric=symmetric), kept
