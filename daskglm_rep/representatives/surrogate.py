"""Steps on the likelihood of points, corrected by the exact score.

At b_t the surrogate is

    Q(a) = sum_j w_j loglik(G(z_j'b_t); z_j'a) + s(b_t)'(a - b_t) + (a - b_t)'J (a - b_t) / 2

over points z_j of weight w_j, whose responses are their own fitted means, plus the exact score s of all rows (Jordan,
Lee & Yang 2019, with representatives in the role of their first machine). Its score at b_t is the exact one, so b_t is
stationary only where s = 0: the fixed point is the maximum likelihood estimate for every family and link. With H~ the
information of the points and H the exact one the error contracts by I - H~^-1 H a round. Points at the parts' means
miss the information within the parts; points at m_k +- z_k, where E z_k z_k' is the part's covariance, do not:
relative error about sqrt((q + 1) / (K L)) times the share of the information that lies within parts.

J is free: E(b) = s(b) - s_Q(b) is known at b_0..b_t, and J is the symmetric matrix of least change in the metric of H~
that explains those differences (multi-secant Powell-symmetric-Broyden).
"""

import dataclasses
import math

import numpy as np

from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.gram import gram
from daskglm_rep.kernels.representatives import mean_rows
from daskglm_rep.kernels.rows import inside
from daskglm_rep.objective import Objective, inverse, in_memory, solve, solve_damped
from daskglm_rep.penalties import NONE
from daskglm_rep.solvers import newton

COLLAPSED = 1e-6         # share of the constant model's working weight
REACH = 8.0              # no point's linear predictor moves further in one round
WILD = 30.0              # an estimate with linear predictors beyond this comes from separated points,
WILD_SHARE = 1e-3        # if more than this share of the weight is there


@dataclasses.dataclass(frozen=True)
class Points:
    """Weighted points in a basis: weight (n,), Z (n, q) with the intercept's column, offset (n,)."""

    weight: np.ndarray
    Z: np.ndarray
    offset: np.ndarray

    def eta(self, coef):
        return self.Z @ coef + self.offset

    def score(self, factor):
        return self.Z.T @ (self.weight * factor)

    def information(self, omega):
        q = self.Z.shape[1]
        return gram(self.Z, Basis(np.arange(q), np.zeros(q), np.ones(q), False), self.weight * omega)

    def working_weight(self, model, coef):
        return float(self.weight @ mean_rows(model, self.eta(coef))[2])


def fit_weighted(points, y, model, start=None, penalty=NONE):
    """Maximum likelihood of weighted points; None where no start keeps all means in the domain.

    Returns
    -------
    (q,) array or None
    """
    q = points.Z.shape[1]
    block = Block(points.Z, y, points.weight, points.offset)
    objective = Objective(model, Basis(np.arange(q), np.zeros(q), np.ones(q), False), penalty)
    data = in_memory(block, 1)
    try:
        if start is None or not inside(model, points.eta(start)):
            start = newton.start(objective, block, data)
        point = newton.minimise(objective, data, start, 1e-24, 60).point
    except ValueError:
        return None
    last = newton.direction(objective, point)
    if last is not None and abs(newton.decrease(objective, point, last)) < 1e-6:
        return point.coef + last              # the search stops where rounding hides a decrease; this step is safe
    return point.coef


class Equation:
    """The estimating equation of a collection, and its information.

        g(b) = sum_j w_j nu(e_j)(mean y_k - G(e_j)) z_j + sum_k nu(m_k'b) c_k,

    c_k the part's covariance of x and y. For canonical links the response's side is exact, and for every link all of it
    where the slopes are 0. Where an exact score is known, `corrected` takes the share f(b) of the error found there
    off, f in [0, 1] the regression coefficient of the linear predictors at b on those at that point: along penalty
    paths that leaves 1 to 10 % of the error, on subsets of the columns mostly 20 to 60 %.

    Parameters
    ----------
    collection : Collection
    model : models.glm.GLM
    error : (q,) array, optional
        Of the equation at some coefficients.
    along : (n,) array, optional
        Linear form on the points' linear predictors that gives f.
    """

    def __init__(self, collection, model, error=None, along=None):
        self.collection, self.model, self.error, self.along = collection, model, error, along
        self.points, self.means = Points(*collection.points()), Points(*collection.points(False))
        self.y = np.tile(collection.mean_y, self.points.weight.size // self.means.weight.size)

    def __call__(self, coef):
        """(g, information) at coefficients; (None, None) outside the family's domain."""
        eta, at_means = self.points.eta(coef), self.means.eta(coef)
        if not (inside(self.model, eta) and inside(self.model, at_means)):
            return None, None
        mu, nu, omega = mean_rows(self.model, eta)
        g = self.points.score(nu * (self.y - mu))
        g = g + self.collection.covariance_y[:, :coef.size].T @ mean_rows(self.model, at_means)[1]
        if self.error is not None:
            g = g + min(max(self.along @ (self.points.Z @ coef), 0.0), 1.0) * self.error
        return g, self.points.information(omega)

    def corrected(self, coef, score):
        """The same, with the exact score known at some coefficients; itself where they are outside the domain."""
        here, _ = self(coef)
        if here is None:
            return self
        eta = self.points.Z @ coef
        away = self.points.weight * (eta - self.points.weight @ eta / self.points.weight.sum())
        return Equation(self.collection, self.model, score - here, away / max(away @ eta, 1e-300))

    def keep(self, which):
        """The equation of the model with some of the coefficients."""
        error = None if self.error is None else self.error[which]
        return Equation(self.collection.keep(which), self.model, error, self.along)

    def gain(self, start, end):
        """Log-likelihood at `end` less that at `start`, up to the dispersion: the integral of g along the line."""
        nodes, weights = np.polynomial.legendre.leggauss(8)
        values = [self(start + 0.5 * (1.0 + t) * (end - start))[0] for t in nodes]
        if any(g is None for g in values):
            return math.nan
        return 0.5 * float(weights @ np.array(values) @ (end - start))


def first_estimate(collection, model, penalty=NONE):
    """Coefficients from the collection alone: the root of its `Equation`.

    Where that fails (the points are separated, or outside the family's domain) the mean representatives' fit, and where
    they are separated too the constant model.

    Parameters
    ----------
    penalty : penalties.Penalty
        Weights of the coefficients' absolute values.

    Returns
    -------
    (q,) array

    Raises
    ------
    ValueError
        No coefficients are inside the family's domain at the points.
    """
    means = Points(*collection.points(False))
    null = constant(collection, model)
    by_means = fit_weighted(means, collection.mean_y, model, penalty=penalty)
    tame = by_means is not None and not _is_wild(means, by_means, 2 * WILD) or not model.always_valid
    start = by_means if by_means is not None and tame else null
    if start is None:
        raise ValueError(f"No coefficients keep the means of the {model} model inside its domain at the points: "
                         "use a link whose means always are (log, logit), or more blocks.")
    refined = root(Equation(collection, model), start, penalty)
    return start if refined is None else refined


def _is_wild(points, coef, limit):
    """Whether more than a thousandth of the weight has linear predictors beyond a limit.

    Not the largest one: heavy-tailed columns put a few far points beyond any limit with nothing separated.
    """
    return points.weight @ (np.abs(points.eta(coef)) > limit) > WILD_SHARE * points.weight.sum()


def constant(collection, model):
    """The model of the mean response; None without an intercept where it needs one."""
    coef = np.zeros(collection.basis.n_coef)
    if not collection.basis.intercept:
        return coef if model.always_valid else None
    weight = collection.weight
    level = model.link.link(float(weight @ collection.mean_y / weight.sum()))
    coef[0] = level - float(weight @ collection.points(False)[2] / weight.sum())
    return coef if math.isfinite(level) else None


def root(equation, coef, penalty=NONE):
    """Root of an `Equation` less the penalties' gradients by Fisher scoring; None where that leads nowhere.

    Parameters
    ----------
    coef : (q,) array
        Start.
    penalty : penalties.Penalty
    """
    def scoring(b):
        """The step from b, and its squared length in the metric of the information."""
        g, H = equation(b)
        if g is None:
            return None, math.inf
        g, H = g - penalty.gradient(b), penalty.add_curvature(H)
        step = solve(H, g) if penalty.is_smooth else penalty.minimise(H, -g, b) - b
        return step, math.inf if step is None else float(step @ H @ step)

    step, size = scoring(coef)
    for _ in range(50):
        if step is None:
            return None
        share = 1.0
        while True:
            there = coef + share * step
            change, left = scoring(there)
            if left <= size:
                break
            share *= 0.5
            if share < 1e-4:
                return None
        coef, step, size = there, change, left
        if size < 1e-18:
            break
    wild = equation.model.always_valid and _is_wild(equation.means, coef, WILD)
    return None if wild or not size < 1e-6 else coef


def secants(coefs, errors, information):
    """J with J (b_s - b_t) = E_s - E_t, symmetric, least in the metric of the information; None without a past.

    Eigenvalues are kept in [-2, 1/2] of the information, so that the surrogate stays concave.
    """
    if len(coefs) < 2:
        return None
    scale = np.sqrt(np.diag(information))
    try:
        L = scale[:, None] * np.linalg.cholesky(information / np.outer(scale, scale))
    except np.linalg.LinAlgError:
        return None
    D = L.T @ np.stack([b - coefs[-1] for b in coefs[:-1]], 1)
    F = np.linalg.solve(L, np.stack([e - errors[-1] for e in errors[:-1]], 1))
    size = np.linalg.norm(D, axis=0)
    used = size > 1e-10
    if not used.any():
        return None
    D, F = D[:, used] / size[used], F[:, used] / size[used]
    P = np.linalg.pinv(D, rcond=1e-3)
    J = F @ P
    J = J + P.T @ F.T @ (np.eye(len(J)) - D @ P)
    value, vector = np.linalg.eigh(0.5 * (J + J.T))
    return L @ ((vector * np.clip(value, -2.0, 0.5)) @ vector.T) @ L.T


def step(points, model, coef, score, curvature=None, max_iter=60):
    """Maximum of the surrogate by Newton's method, damped on the size of its score.

    Parameters
    ----------
    points : Points
    coef, score : (q,) array
        Where the exact score was taken.
    curvature : (q, q) array, optional
        J.

    Returns
    -------
    (q,) array
    """
    mu_here = mean_rows(model, points.eta(coef))[0]

    def at(a):
        eta = points.eta(a)
        if not inside(model, eta):
            return None, None
        mu, nu, omega = mean_rows(model, eta)
        g, H = points.score(nu * (mu_here - mu)) + score, points.information(omega)
        return (g, H) if curvature is None else (g + curvature @ (a - coef), H - curvature)

    a, (g, H) = coef, at(coef)
    for _ in range(max_iter):
        move = None if g is None else solve(H, g)
        if move is None:
            break
        size, share, better = g @ move, 1.0, None
        while better is None and share > 1e-5:
            trial = at(a + share * move)
            change = None if trial[0] is None else solve(trial[1], trial[0])
            if change is not None and trial[0] @ change <= size:
                better = trial
            else:
                share *= 0.5
        if better is None:
            break
        a, (g, H) = a + share * move, better
        if g @ change < 1e-24:
            break
    if a is coef:
        H = points.information(mean_rows(model, points.eta(coef))[2])
        fallback = solve_damped(H, score)
        a = coef if fallback is None else coef + fallback
    far = np.abs(points.Z @ (a - coef)).max(initial=0.0)
    return a if far <= REACH else coef + (a - coef) * (REACH / far)


def certificate(basis, information, score, dispersion, points_weight, full_weight, null_weight=0.0):
    """Distance to the maximum of the likelihood, max_j |(H~^-1 s)_j| / se_j over the raw coefficients.

    Infinite where it would mean nothing: a singular information, points whose total working weight is not within a
    factor 2 of the rows', or rows that have lost nearly all of the weight they have in the constant model (both happen
    under separation).
    """
    if not 0.5 < points_weight / max(full_weight, 1e-300) < 2.0 or full_weight < COLLAPSED * null_weight:
        return math.inf
    bread = inverse(information)
    if not np.isfinite(bread).all():
        return math.inf
    scale = np.sqrt(np.diag(information))
    if np.linalg.eigvalsh(information / np.outer(scale, scale))[0] < 1e-10:
        return math.inf
    return distance(basis, bread @ score, bread, dispersion)


def distance(basis, move, bread, dispersion):
    """Length of a move of the coefficients in standard errors of the worst raw one."""
    se = np.sqrt(np.maximum(np.diag(basis.covariance(bread)), 0.0) * dispersion)
    return float(np.max(np.abs(basis.raw(move)) / np.maximum(se, 1e-300), initial=0.0))
