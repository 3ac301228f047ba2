"""A site's log-likelihood as a polynomial: its own fit, made before anyone asks, and the sum of the sites' as a pilot.

A site sends with its survey the score s, the informations and their derivatives dH_j at coefficients b_k of its own.
With d = b - b_k its log-likelihood is l + s'd - d'Hd / 2 - sum_j d_j d'dH_j d / 6 up to fourth derivatives, for every
family and link. The sum over sites starts the fit and stands in the pilot's place in `solvers.polish`'s steps.
"""

import dataclasses
import math

import numpy as np

from daskglm_rep.kernels.block import Basis
from daskglm_rep.localised.messages import square, triangle
from daskglm_rep.localised.wire import pack_moments, unpack_moments
from daskglm_rep.objective import solve
from daskglm_rep.solvers.three_sweeps import fit_pilot
from daskglm_rep.summaries import Moments

DIFFERENCE = 1e-3          # in standardised coefficients, for the informations' derivatives


@dataclasses.dataclass(frozen=True)
class LocalModel:
    """Third-order expansion of a site's log-likelihood.

    Attributes
    ----------
    basis : Basis
    coef : (k,) array
    moments : Moments
    expected_slope, observed_slope : (k, k, k) array
        Derivatives of the informations, that in coefficient j first.
    """

    basis: Basis
    coef: np.ndarray
    moments: Moments
    expected_slope: np.ndarray
    observed_slope: np.ndarray

    @classmethod
    def of(cls, prepared, third=True):
        """A site's own fit on a random share of its rows, and the expansion there; None where it has no start.

        Parameters
        ----------
        prepared : preparation.Prepared
        third : bool
            False leaves the derivatives of the informations zero.
        """
        objective, pilot, basis = prepared.objective(), prepared.pilot, prepared.basis
        held = dataclasses.replace(prepared, found=dataclasses.replace(prepared.found, pilot_is_all=False))
        try:
            coef = fit_pilot(held, objective)              # as of a share of the rows: held by a weak prior
        except ValueError:
            return None
        point = objective.evaluate(prepared.data, coef)
        if not point.usable:
            return None
        k = coef.size
        slopes = np.zeros((2, k, k, k))
        for j in range(k if third else 0):
            step = np.zeros(k)
            step[j] = DIFFERENCE
            ahead, behind = (objective.evaluate(pilot, coef + sign * step).moments for sign in (1.0, -1.0))
            if not (math.isfinite(ahead.deviance) and math.isfinite(behind.deviance)):
                return cls(basis, coef, point.moments, np.zeros((k, k, k)), np.zeros((k, k, k)))
            slopes[0, j] = (ahead.expected - behind.expected) / (2.0 * DIFFERENCE)
            slopes[1, j] = (ahead.observed - behind.observed) / (2.0 * DIFFERENCE)
        return cls(basis, coef, point.moments, *slopes)

    def pack(self):
        """As arrays; derivatives that are zero, or one for both informations, are sent once or not at all."""
        arrays = {"coef": self.coef} | pack_moments(self.moments)
        if self.expected_slope.any():
            arrays["expected_slope"] = np.array([triangle(m) for m in self.expected_slope])
            if self.moments.observed is not self.moments.expected:
                arrays["observed_slope"] = np.array([triangle(m) for m in self.observed_slope])
        return arrays

    @classmethod
    def unpack(cls, arrays, basis):
        k = arrays["coef"].size
        expected = square(arrays["expected_slope"]) if "expected_slope" in arrays else np.zeros((k, k, k))
        observed = square(arrays["observed_slope"]) if "observed_slope" in arrays else expected
        return cls(basis, arrays["coef"], unpack_moments(arrays), expected, observed)

    def at(self, d):
        """`Moments` a way d from its coefficients."""
        m = self.moments
        with np.errstate(over="ignore", invalid="ignore"):
            bend = np.tensordot(d, self.observed_slope, axes=1)
            score = m.score - m.observed @ d - 0.5 * bend @ d
            deviance = m.deviance - 2.0 * m.score @ d + d @ m.observed @ d + d @ bend @ d / 3.0
            expected = m.expected + np.tensordot(d, self.expected_slope, axes=1)
            observed = expected if m.observed is m.expected else m.observed + bend
        return Moments(score, expected, observed, float(deviance), m.pearson)


def own_basis(spread, intercept):
    """As `preparation.basis_of`, from guarded ranges of columns."""
    p = spread.mean.size
    if intercept:
        center, scale = spread.mean, np.where(spread.high - spread.low > 0, spread.deviation, 0.0)
    else:
        center, scale = np.zeros(p), np.sqrt(spread.mean ** 2 + spread.deviation ** 2)
    return Basis(np.arange(p), center, np.where(scale > 0, scale, 1.0), bool(intercept))


def onto(own, basis, n_equations):
    """The matrix from coefficients in a basis to those in a site's own, of all columns."""
    first, columns = int(basis.intercept), []
    for unit in np.eye(basis.n_coef):
        raw, full = basis.raw(unit), np.zeros(own.n_coef)
        full[:first], full[int(own.intercept) + basis.columns] = raw[:first], raw[first:]
        columns.append(own.standardised(full))
    return np.kron(np.eye(n_equations), np.array(columns).T)


class LocalModels:
    """The sites' expansions as data: a sweep over them is their sum at the coefficients asked for.

    Parameters
    ----------
    models : list of LocalModel
    share : float
        Of all weight that these sites hold: sums are divided by it.
    """

    collections, lengths = None, None

    def __init__(self, models, share):
        self.models, self.share, self.n_passes = models, share, 0

    def ask(self, kernel, arguments):
        """`Moments`, whatever moments are asked for."""
        model, basis, coef = arguments[:3]
        total = None
        for local in self.models:
            A = onto(local.basis, basis, model.n_equations)
            m = local.at(A @ coef - local.coef)
            expected = A.T @ m.expected @ A
            observed = expected if m.observed is m.expected else A.T @ m.observed @ A
            m = Moments(A.T @ m.score, expected, observed, m.deviance, m.pearson)
            total = m if total is None else total.merge(m)
        c, same = 1.0 / self.share, total.observed is total.expected
        expected = c * total.expected
        return Moments(c * total.score, expected, expected if same else c * total.observed, c * total.deviance,
                       c * total.pearson)

    def information(self, model, basis):
        """The sum of the sites' informations, each at its own coefficients."""
        matrices = [onto(local.basis, basis, model.n_equations) for local in self.models]
        return sum(A.T @ local.moments.expected @ A for A, local in zip(matrices, self.models))

    def start(self, objective):
        """Where the sum is stationary: from the quadratic models' mean by Newton's method; None where that runs off.

        Returns
        -------
        (k,) array or None
        """
        pulls, weights = 0.0, 0.0
        for local in self.models:
            A = onto(local.basis, objective.basis, objective.model.n_equations)
            H = local.moments.expected
            pulls, weights = pulls + A.T @ (H @ local.coef + local.moments.score), weights + A.T @ H @ A
        coef = solve(weights, pulls)
        if coef is None:
            return None
        best, size = coef, math.inf
        for _ in range(20):
            m = self.ask(None, (objective.model, objective.basis, coef))
            step = solve(m.observed, m.score)
            now = math.inf if step is None else step @ m.observed @ step
            if not now < size:
                return best
            best, size, coef = coef, now, coef + step
            if now < 1e-20:
                break
        return best
