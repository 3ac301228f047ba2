"""Slow and obvious generalized linear models in long double: the judge of the fast ones.

Written from the textbook, not from the library: damped Newton on an orthonormal basis of the design, all rows in every
step, every sum in long double.
"""

import dataclasses

import numpy as np

from naive_models import EXTENDED, Rows, Scalar, Softmax, eta_of, model_of

__all__ = ["EXTENDED", "Optimum", "Problem", "fit", "model_of", "newton"]

# ---------------------------------------------------------------------- small linear algebra in any precision


def cholesky(A):
    """Lower factor, or None where A is not positive definite to rounding."""
    d = np.diag(A)
    if not (np.isfinite(A).all() and (d > 0).all()):
        return None
    s = 1 / np.sqrt(d)
    A, L = A * s[:, None] * s, np.zeros_like(A)
    for j in range(len(A)):
        rest = A[j, j] - L[j, :j] @ L[j, :j]
        if not rest > 100 * np.finfo(A.dtype).eps:
            return None
        L[j, j] = np.sqrt(rest)
        L[j + 1:, j] = (A[j + 1:, j] - L[j + 1:, :j] @ L[j, :j]) / L[j, j]
    return L / s[:, None]


def lower_inverse(L):
    out = np.zeros_like(L)
    for i in range(len(L)):
        out[i, i] = 1 / L[i, i]
        out[i, :i] = -(L[i, :i] @ out[:i, :i]) * out[i, i]
    return out


def inverse_of(A):
    """Inverse of a positive definite matrix, or None."""
    L = cholesky(A)
    if L is None:
        return None
    M = lower_inverse(L)
    return M.T @ M


ALIASED = 1e-10         # share of a column's squares beyond the intercept that the earlier ones leave unexplained


def orthonormal(Z, first, aliased=ALIASED):
    """Gram-Schmidt, twice, on the columns of Z, of which the first is an intercept if `first`.

    Returns
    -------
    Q (n, r), R (r, k) with Z = Q R, T (k, r) with coef = T gamma, kept (k,), shares left unexplained (k,)
    """
    n, k = Z.shape
    Q, R, kept, share = np.empty((k, n), Z.dtype), np.zeros((k, k), Z.dtype), np.zeros(k, bool), np.zeros(k)
    for j in range(k):
        v, r = Z[:, j].copy(), int(kept.sum())
        raw = base = np.sqrt(v @ v)
        for again in range(2):
            for i in range(r):
                c = Q[i] @ v
                R[i, j] += c
                v -= c * Q[i]
                if again == 0 and i == 0 and first:
                    base = np.sqrt(v @ v)
        size = np.sqrt(v @ v)
        share[j] = float((size / base) ** 2) if base > 1e-14 * raw > 0 else 0.0
        if share[j] > aliased:
            kept[j] = True
            R[r, j], Q[r] = size, v / size
    r = int(kept.sum())
    T = np.zeros((k, r), Z.dtype)
    T[kept] = lower_inverse(R[:r][:, kept].T).T
    return np.ascontiguousarray(Q[:r].T), R[:r], T, kept, share


# ---------------------------------------------------------------------- the fit


@dataclasses.dataclass
class State:
    """Rows and sums at one coefficient vector in the orthonormal basis."""

    coef: np.ndarray
    rows: Rows
    value: float
    score: np.ndarray
    expected: np.ndarray
    observed: np.ndarray


@dataclasses.dataclass
class Problem:
    """Rows of positive weight, an orthonormal basis of their design, the criterion D / 2 + gamma' penalty gamma / 2.

    `columns` (k,) bool, if given, says which columns to keep where no judge can tell.
    """

    model: object
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray = None
    offset: np.ndarray = None
    intercept: bool = True
    ridge: float = 0.0
    dtype: type = EXTENDED
    columns: np.ndarray = None

    def __post_init__(self):
        n = len(self.y)
        weight = np.ones(n) if self.weight is None else np.asarray(self.weight, float)
        offset = np.zeros(n) if self.offset is None else np.asarray(self.offset, float)
        self.rows_kept = weight > 0
        self.y = np.asarray(self.y)[self.rows_kept].astype(self.dtype)
        self.w, self.o = weight[self.rows_kept].astype(self.dtype), offset[self.rows_kept].astype(self.dtype)
        first, X = int(self.intercept), np.asarray(self.X)[self.rows_kept].astype(self.dtype)
        n, k, E = len(self.y), X.shape[1] + first, self.model.equations
        Z = np.hstack([np.ones((n, first), self.dtype), X])
        if self.columns is not None:            # the only ones that may be kept, the intercept's first
            Z = Z * self.columns
        free = np.ones(k, self.dtype)
        free[:first] = 0
        below = np.sqrt(self.ridge * self.w.sum()) * np.diag(free)        # the penalty's rows beneath the data's
        limit = ALIASED if self.columns is None and not self.ridge else 1e-34
        stacked = np.vstack([Z, below]) if self.ridge else Z
        Q, self.R, self.T, self.kept, self.share = orthonormal(stacked, first, limit)
        self.Q = np.ascontiguousarray(Q[:n])
        across = np.eye(E) - (0 if isinstance(self.model, Scalar) else 1 / self.dtype(E + 1))
        self.penalty = np.kron(across, Q[n:].T @ Q[n:]).astype(self.dtype)

    def eta(self, coef):
        return self.Q @ coef.reshape(self.model.equations, -1).T + self.o[:, None]

    def at(self, coef):
        """`State`, or None outside of the domain."""
        rows = self.model.rows(self.eta(coef), self.y)
        if rows is None:
            return None
        value = (self.w @ rows.deviance + coef @ self.penalty @ coef) / 2
        if not np.isfinite(value):
            return None
        score = ((self.w[:, None] * rows.score).T @ self.Q).ravel() - self.penalty @ coef
        expected = self.information(rows.expected) + self.penalty
        observed = expected if rows.observed is rows.expected else self.information(rows.observed) + self.penalty
        return State(coef, rows, value, score, expected, observed)

    def information(self, rows):
        E, r = self.model.equations, self.Q.shape[1]
        out = np.empty((E * r, E * r), self.dtype)
        for j in range(E):
            for l in range(j + 1):
                part = (self.Q * (self.w * rows[:, j, l])[:, None]).T @ self.Q
                out[j * r:(j + 1) * r, l * r:(l + 1) * r] = part
                out[l * r:(l + 1) * r, j * r:(j + 1) * r] = part.T
        return out

    def dispersion(self, state, frequency=False):
        if self.model.dispersion_known:
            return self.dtype(1)
        n = self.w.sum() if frequency else len(self.y)
        return (self.w @ state.rows.pearson) / (n - state.coef.size) if n > state.coef.size else self.dtype(np.nan)

    def raw(self, coef):
        """(E, k) raw coefficients, 0 where aliased."""
        return coef.reshape(self.model.equations, -1) @ self.T.T

    def basis_coef(self, raw):
        """Coordinates of raw coefficients, (E, k) or flat."""
        return (np.asarray(raw).astype(self.dtype).reshape(self.model.equations, -1) @ self.R.T).ravel()

    def covariance(self, C):
        """Of the raw coefficients, equation by equation."""
        A = np.kron(np.eye(self.model.equations), self.T)
        return A @ C @ A.T


def starts(problem, extra=()):
    """Places to begin: given ones, the constant mean, zero, weighted least squares on the responses' own links."""
    ones = np.ones(len(problem.y), problem.dtype)
    yield from extra
    zero = np.zeros(len(problem.penalty), problem.dtype)
    if isinstance(problem.model, Softmax):
        yield zero
        return
    mean = (problem.w @ problem.y) / problem.w.sum()
    for level in _etas(problem.model, mean):
        yield _projected(problem, level * ones - problem.o)
        yield _projected(problem, level * ones)
    yield zero
    yield _projected(problem, eta_of(problem.model.link, (problem.y + mean) / 2) - problem.o)


def _projected(problem, eta):
    """Coordinates of the linear predictor nearest to `eta`."""
    if not np.isfinite(eta).all():
        return np.full(problem.Q.shape[1], np.nan)
    return np.linalg.lstsq(problem.Q.astype(float), eta.astype(float), rcond=None)[0].astype(problem.dtype)


def _etas(model, mean):
    with np.errstate(all="ignore"):
        level = eta_of(model.link, mean)
    return [level] if np.isfinite(level) else []


@dataclasses.dataclass
class Optimum:
    """Where damped Newton ended.

    `reach` is the farthest any row's predictor moved in the last step: it does not shrink where the rows are separated.
    `decrement` is the last step's length in standard errors, `saddle` says that the observed information is indefinite.
    """

    problem: Problem
    state: State
    converged: bool
    n_iter: int
    reach: float
    decrement: float

    @property
    def saddle(self):
        return self.state.coef.size > 0 and cholesky(self.state.observed) is None

    @property
    def separated(self):
        """Whether the last step still moved predictors although it changed nothing: the optimum is at infinity."""
        return self.decrement < 1e-6 and self.reach > 1e-2

    @property
    def settled(self):
        """Converged, or creeping to a limit at the domain's edge that nothing can tell from where it is."""
        return not self.saddle and (self.converged or self.reach < 1e-6 and self.decrement < 1e-7)


def _direction(state):
    """Newton's step, Fisher's where the observed information is not positive definite; None where both are singular."""
    for H in (state.observed, state.expected):
        C = inverse_of(H)
        if C is not None:
            return C @ state.score
    return None


def newton(problem, state, max_iter=200):
    """Damped Newton from a state: the observed information where it is positive definite, else the expected one."""
    dtype, reach, decrement = problem.dtype, np.inf, np.inf
    eps = float(np.finfo(dtype).eps)
    if state.coef.size == 0:
        return Optimum(problem, state, True, 0, 0.0, 0.0)
    for n_iter in range(1, max_iter + 1):
        d = _direction(state)
        if d is None:
            return Optimum(problem, state, False, n_iter, np.inf, np.inf)
        gain = float(state.score @ d)
        phi = problem.dispersion(state)
        unit = float(phi) if phi > 0 else 1.0
        last, reach = reach, float(np.max(np.abs(problem.Q @ d.reshape(problem.model.equations, -1).T)))
        decrement = np.sqrt(max(gain, 0.0) / unit)
        if decrement < 1e-8 and reach > max(1e-2, 0.5 * last) and problem.model.dispersion_known:      # to infinity
            return Optimum(problem, state, False, n_iter, reach, decrement)
        flat = gain <= 100 * eps * abs(float(state.value)) + 1e-300
        share, trial = 1.0, None
        while share > 1e-14:
            trial = problem.at(state.coef + dtype(share) * d)
            if trial is not None and (trial.value <= state.value - dtype(1e-4 * share * gain) or flat):
                break
            share, trial = share / 2, None
        if trial is None:
            return Optimum(problem, state, bool(decrement < 1e-9 and reach < 1e-4), n_iter, reach, decrement)
        size = float(np.max(np.abs(d))) <= 100 * eps * float(np.max(np.abs(trial.coef)))
        scale = max(float(np.max(np.abs(problem.eta(trial.coef)))), 1e-3 if problem.model.dispersion_known else 0.0)
        done = share == 1.0 and (decrement < max(1e-11, 30 * eps * len(problem.y)) or size) and reach < 1e-5 * min(
            1.0 if problem.model.dispersion_known else np.inf, scale) + 1e-300
        state = trial
        if done or share == 1.0 and flat and reach < 1e-6 * scale:
            return Optimum(problem, state, True, n_iter, reach, decrement)
    return Optimum(problem, state, False, max_iter, reach, decrement)


def fit(problem, extra=(), max_iter=200):
    """The best of the optima that damped Newton reaches from the first valid start; None where no start is valid."""
    for coef in starts(problem, extra):
        if np.isfinite(coef).all():
            state = problem.at(coef)
            if state is not None:
                return newton(problem, state, max_iter)
    return None


# ---------------------------------------------------------------------- inference


def bread(optimum):
    return inverse_of(optimum.state.expected)


def standard_errors(optimum, frequency=False):
    """(E, k), 0 where aliased; None where the information is singular."""
    A = bread(optimum)
    if A is None:
        return None
    V = optimum.problem.covariance(A * optimum.problem.dispersion(optimum.state, frequency))
    return np.sqrt(np.diag(V)).reshape(optimum.problem.model.equations, -1)


def leverage(optimum, frequency=False):
    """Hat-matrix diagonal; of one copy of the row where weights count copies."""
    p, s = optimum.problem, optimum.state.rows
    one = np.ones_like(p.w) if frequency else p.w
    return one * s.expected[:, 0, 0] * np.einsum("ij,jk,ik->i", p.Q, bread(optimum), p.Q)


def robust(optimum, kind, frequency=False, clusters=None):
    """Covariance of the raw coefficients: HC0, HC1, HC2, HC3 or "cluster" (with G/(G-1) (n-1)/(n-k))."""
    p, s = optimum.problem, optimum.state.rows
    A = bread(optimum)
    E, q = p.model.equations, p.Q.shape[1]
    Z = (s.score[:, :, None] * p.Q[:, None, :]).reshape(len(p.y), E * q)
    n, k = (p.w.sum() if frequency else p.dtype(len(p.y))), E * q
    if kind == "cluster":
        labels = np.unique(np.asarray(clusters)[p.rows_kept], return_inverse=True)[1]
        sums = np.zeros((labels.max() + 1, k), p.dtype)
        np.add.at(sums, labels, p.w[:, None] * Z)
        G = len(sums)
        return p.covariance(A @ (sums.T @ sums) @ A) * (p.dtype(G) / (G - 1) * (n - 1) / (n - k))
    weight = p.w if frequency else p.w ** 2
    if kind in ("HC2", "HC3"):
        weight = weight / (1 - leverage(optimum, frequency)) ** (1 if kind == "HC2" else 2)
    V = A @ ((weight[:, None] * Z).T @ Z) @ A
    return p.covariance(V) * (n / (n - k) if kind == "HC1" else 1)


def pearson(optimum):
    return optimum.problem.w @ optimum.state.rows.pearson


def deviance(optimum):
    return optimum.problem.w @ optimum.state.rows.deviance


def null_deviance(problem):
    """Of the constant model with the offset; of eta = offset without an intercept; NaN where there is none."""
    alone = Problem(problem.model, np.zeros((len(problem.y), 0)), problem.y, problem.w, problem.o, problem.intercept,
                    dtype=problem.dtype)
    found = fit(alone)
    return deviance(found) if found is not None and found.converged else problem.dtype(np.nan)
