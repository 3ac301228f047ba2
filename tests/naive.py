"""Slow and obvious generalized linear models in long double: the judge of the fast ones.

Written from the textbook, not from the library: damped Newton on an orthonormal basis of the design, all rows in every
step, every sum in long double (Phi alone is only as good as double's erfcx). Links give log mu, log(1 - mu), G'/mu,
G'/(1 - mu) and G''/G', so that no mean near an end loses its digits.
"""

import dataclasses

import numpy as np
from scipy import special

EXTENDED = np.longdouble
PI = EXTENDED("3.14159265358979323846264338327950288")


def xlogy(a, b):
    """a log(b), 0 where a = 0."""
    return np.where(a == 0, 0, a * np.log(np.where(a == 0, 1, b)))


# ---------------------------------------------------------------------- links: eta -> mu, lm, lc, up, down, bend


def logit(eta):
    lm, lc = -np.logaddexp(0, -eta), -np.logaddexp(0, eta)
    mu, rest = np.exp(lm), np.exp(lc)
    return mu, lm, lc, rest, mu, rest - mu


def probit(eta):
    z = eta.astype(float)
    top = np.sqrt(2 / np.pi)
    up, down = [(top / special.erfcx(s * z / np.sqrt(2))).astype(eta.dtype) for s in (-1, 1)]
    lm, lc = [special.log_ndtr(s * z).astype(eta.dtype) for s in (1, -1)]
    return np.exp(lm), lm, lc, up, down, -eta


def _log_of_expm1(t):
    """log(1 - e^-t) for t > 0."""
    return np.where(t < 0.7, np.log(-np.expm1(-t)), np.log1p(-np.exp(-t)))


def cloglog(eta):
    t = np.exp(eta)
    lm = _log_of_expm1(t)
    return np.exp(lm), lm, -t, t / np.expm1(t), t, 1 - t


def loglog(eta):
    t = np.exp(-eta)
    return np.exp(-t), -t, _log_of_expm1(t), t, t / np.expm1(t), t - 1


def cauchit(eta):
    pi = PI.astype(eta.dtype) if eta.dtype == EXTENDED else np.pi
    mu, rest, slope = np.arctan2(1, -eta) / pi, np.arctan2(1, eta) / pi, 1 / (pi * (1 + eta * eta))
    return mu, np.log(mu), np.log(rest), slope / mu, slope / rest, -2 * eta / (1 + eta * eta)


def _plain(mu, slope, bend):
    return mu, np.log(mu), np.log1p(-mu), slope / mu, slope / (1 - mu), bend


def identity(eta):
    return _plain(eta, np.ones_like(eta), np.zeros_like(eta))


def log(eta):
    mu, lc = np.exp(eta), np.log(-np.expm1(eta))
    return mu, eta, lc, np.ones_like(eta), mu / -np.expm1(eta), np.ones_like(eta)


def power(p):
    """eta = mu^p."""

    def link(eta):
        mu = eta ** (1 / EXTENDED(p)).astype(eta.dtype)
        return _plain(mu, mu / (eta * p), (1 / EXTENDED(p) - 1).astype(eta.dtype) / eta)

    return link


def inverse(eta):
    return _plain(1 / eta, -1 / (eta * eta), -2 / eta)


def inverse_squared(eta):
    return power(-2)(eta)


def sqrt(eta):
    return _plain(eta * eta, 2 * eta, 1 / eta)


LINKS = {f.__name__: f for f in (identity, log, logit, probit, cloglog, loglog, cauchit, inverse, inverse_squared, sqrt)}
POSITIVE_ETA = (sqrt, inverse_squared)


# ---------------------------------------------------------------------- families: mu / V, mu V' / V, d


@dataclasses.dataclass(frozen=True)
class Family:
    """mu / V, the variance's elasticity mu V' / V and the unit deviance; V = 1 for real means. No 0 / 0 where mu is lost
    in underflow."""

    pull: object
    elasticity: object
    deviance: object
    dispersion_known: bool
    low: float = 0.0
    high: float = np.inf


def _log_ratio(y, mu):
    """log(y / mu), with all digits where they are close."""
    near = np.abs(mu - y) < 0.5 * y
    return np.where(near, -np.log1p((mu - y) / np.where(near, y, 1)), np.log(y / mu))


def _count(y, mu):
    return np.where(y == 0, 0, y * _log_ratio(np.where(y == 0, 1, y), np.where(y == 0, 1, mu)))


def tweedie(p):
    p = EXTENDED(p)

    def deviance(y, mu):
        a, b = 1 - p, 2 - p
        return 2 * (y ** b / (a * b) - y * mu ** a / a + mu ** b / b)

    return Family(lambda mu: mu ** (1 - p), lambda mu: p, deviance, False)


def negative_binomial(alpha):
    a = EXTENDED(alpha)

    def deviance(y, mu):
        return 2 * (_count(y, mu) + (y + 1 / a) * np.log1p(a * (mu - y) / (1 + a * y)))

    return Family(lambda mu: 1 / (1 + a * mu), lambda mu: (1 + 2 * a * mu) / (1 + a * mu), deviance, True)


FAMILIES = {
    "gaussian": Family(None, None, lambda y, mu: (y - mu) ** 2, False, -np.inf),
    "binomial": Family(None, None, None, True, 0.0, 1.0),
    "poisson": Family(lambda mu: 1, lambda mu: 1, lambda y, mu: 2 * (_count(y, mu) - (y - mu)), True),
    "gamma": Family(lambda mu: 1 / mu, lambda mu: 2, lambda y, mu: 2 * ((y - mu) / mu - _log_ratio(y, mu)), False),
    "inverse_gaussian": Family(lambda mu: mu ** -2, lambda mu: 3, lambda y, mu: (y - mu) ** 2 / (y * mu * mu), False),
}


# ---------------------------------------------------------------------- rows


@dataclasses.dataclass(frozen=True)
class Rows:
    """Per row at weight 1: deviance, Pearson, (n, E) score, (n, E, E) expected and observed information, (n,) means."""

    deviance: np.ndarray
    pearson: np.ndarray
    score: np.ndarray
    expected: np.ndarray
    observed: np.ndarray
    mu: np.ndarray


@dataclasses.dataclass(frozen=True)
class Scalar:
    """A family and a link: one linear predictor a row."""

    family: Family
    link: object
    equations = 1

    @property
    def dispersion_known(self):
        return self.family.dispersion_known

    def rows(self, eta, y):
        """`Rows`, or None where a mean leaves the domain."""
        eta = eta[:, 0]
        if self.link in POSITIVE_ETA and not (eta > 0).all() or self.link.__name__ == "link" and not (eta > 0).all():
            return None
        with np.errstate(all="ignore"):
            mu, lm, lc, up, down, bend = self.link(eta)
            if not ((mu > self.family.low) | np.isfinite(lm)).all() or not (mu >= self.family.low).all():
                return None
            if not (mu <= self.family.high).all() or not np.isfinite(mu).all():
                return None
            if self.family is FAMILIES["binomial"]:
                found = self._binomial(y, mu, lm, lc, up, down, bend)
            else:
                found = self._general(y, mu, up, bend)
        return found if np.isfinite(found.deviance).all() and np.isfinite(found.observed).all() else None

    def _binomial(self, y, mu, lm, lc, up, down, bend):
        score = y * up - (1 - y) * down
        observed = -(y * up * (bend - up) - (1 - y) * down * (bend + down))
        deviance = 2 * (xlogy(y, y) - y * lm + xlogy(1 - y, 1 - y) - (1 - y) * lc)
        odds = np.exp((lc - lm) / 2)
        pearson = np.where(y == 1, odds, np.where(y == 0, 1 / odds, y * odds - (1 - y) / odds)) ** 2
        return Rows(deviance, pearson, score[:, None], (up * down)[:, None, None], observed[:, None, None], mu)

    def _general(self, y, mu, up, bend):
        if self.family is FAMILIES["gaussian"]:
            slope = np.ones_like(mu) if self.link is identity else up * mu
            score, expected, twist, pearson = (y - mu) * slope, slope * slope, 0, (y - mu) ** 2
        else:
            pull, twist = self.family.pull(mu), self.family.elasticity(mu) * up
            score, expected = (y - mu) * up * pull, up * up * mu * pull
            pearson = (y - mu) ** 2 * pull / mu
            pearson = np.where(y == 0, mu * pull, pearson)
        observed = expected - score * (bend - twist)
        return Rows(self.family.deviance(y, mu), pearson, score[:, None], expected[:, None, None],
                    observed[:, None, None], mu)


@dataclasses.dataclass(frozen=True)
class Softmax:
    """Multinomial logit, y codes 0..J-1, baseline 0."""

    equations: int
    dispersion_known = True

    def rows(self, eta, y):
        full = np.hstack([np.zeros_like(eta[:, :1]), eta])
        top = full.max(axis=1, keepdims=True)
        lp = full - top - np.log(np.exp(full - top).sum(axis=1, keepdims=True))
        p = np.exp(lp)
        code = y.astype(int)
        own = np.zeros_like(p)
        own[np.arange(len(y)), code] = 1
        lp_own = lp[np.arange(len(y)), code]
        information = -p[:, 1:, None] * p[:, None, 1:]
        for j in range(1, p.shape[1]):
            information[:, j - 1, j - 1] = p[:, j] * np.delete(p, j, axis=1).sum(axis=1)
        others = np.where(own == 1, 0, p)
        residual = np.where(own == 1, others.sum(axis=1, keepdims=True), -p)[:, 1:]
        return Rows(-2 * lp_own, others.sum(axis=1) / np.exp(lp_own), residual, information, information, p)


def model_of(family, link=None, parameter=None):
    """A model by names; `parameter` is alpha, Tweedie's power or the number of classes; link ("power", p)."""
    if family == "multinomial":
        return Softmax(parameter - 1)
    made = {"tweedie": tweedie, "negative_binomial": negative_binomial}
    family = made[family](parameter) if family in made else FAMILIES[family]
    return Scalar(family, LINKS[link] if isinstance(link, str) else power(link[1]))


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
    """Rows of positive weight, an orthonormal basis of their design, and the criterion D / 2 + gamma' penalty gamma / 2.

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
    yield _projected(problem, _eta_of(problem.model.link, (problem.y + mean) / 2) - problem.o)


def _projected(problem, eta):
    """Coordinates of the linear predictor nearest to `eta`."""
    if not np.isfinite(eta).all():
        return np.full(problem.Q.shape[1], np.nan)
    return np.linalg.lstsq(problem.Q.astype(float), eta.astype(float), rcond=None)[0].astype(problem.dtype)


def _etas(model, mean):
    with np.errstate(all="ignore"):
        level = _eta_of(model.link, mean)
    return [level] if np.isfinite(level) else []


def _eta_of(link, mu):
    """g(mu): where g^-1 is one of the textbook's."""
    name = link.__name__
    table = {"identity": lambda m: m, "log": np.log, "logit": lambda m: np.log(m / (1 - m)), "sqrt": np.sqrt,
             "probit": lambda m: special.ndtri(np.asarray(m, float)), "inverse": lambda m: 1 / m,
             "cloglog": lambda m: np.log(-np.log1p(-m)), "loglog": lambda m: -np.log(-np.log(m)),
             "cauchit": lambda m: -1 / np.tan(PI * m), "inverse_squared": lambda m: m ** -2.0}
    with np.errstate(all="ignore"):
        return table[name](mu) if name in table else mu ** link.__closure__[0].cell_contents


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
        """Converged, or creeping to a limit at the domain's edge that no row's predictor and no error can tell apart."""
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
        if decrement < 1e-8 and reach > 1e-2 and reach > 0.5 * last and problem.model.dispersion_known:          # separated: it runs to infinity
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
