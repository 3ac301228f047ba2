"""The records of a fit, and what all solvers measure it by: dispersion, standard errors, distance to the optimum."""

import dataclasses
import math
from typing import Any

import numpy as np

from daskglm_rep.objective import Objective, Point
from daskglm_rep.summaries import Survey


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fit's state when its loop ended.

    Attributes
    ----------
    objective : Objective
    point : Point
        At the returned coefficients; its moments are carried there from the last sweep by the surrogate.
    step : (k,) array
        The last step taken, in the basis.
    distance : float
        To the optimum, in standard errors (the worst coefficient), after that step.
    n_iter : int
        Sweeps that evaluated the objective.
    converged : bool
    null : Point or None
        The null model, where it was fitted alongside.
    solver : str
    symmetric : (J, q) array or None
        Coefficients in the basis of all classes, where a penalty that sets some to zero tells them apart.
    """

    objective: Objective
    point: Point
    step: np.ndarray
    distance: float
    n_iter: int
    converged: bool
    null: Point | None = None
    solver: str = "newton"
    symmetric: np.ndarray | None = None

    @property
    def selects(self):
        """Whether columns that are not in the basis were set to zero."""
        return self.solver != "newton"


@dataclasses.dataclass(frozen=True)
class Status:
    """How a fit ended.

    Attributes
    ----------
    name : {"converged", "not converged", "separated"}
    sentence : str
        What there is to tell; empty where all is well.
    advice : str
        What to do about it.
    """

    name: str
    sentence: str = ""
    advice: str = ""


@dataclasses.dataclass(frozen=True)
class Overdispersion:
    """What estimating a negative binomial's alpha adds to a fit.

    Attributes
    ----------
    standard_error : float
        Of alpha.
    llnull : float
        Log-likelihood of the model without the features, whose alpha is its own.
    """

    standard_error: float
    llnull: float


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Everything that results and inference need of a fit: numbers, no rows.

    Attributes
    ----------
    fit : Fit
    survey : Survey
        Its sums; the pilot's rows and the blocks' lengths are left behind.
    names : list of str
        All feature names, the aliased ones included.
    kept : (q,) bool array
        Which coefficients (the intercept first) are not aliased.
    n_rows : float
        Rows that count: positive weight, or the sum of frequency weights.
    n_passes : float
    separated : separation.Separated or None
    null_deviance : float
    frequency : bool
        Whether weights count rows.
    overdispersion : Overdispersion or None
        Where alpha was estimated.
    where : str
        One line: where its sweeps ran.
    """

    fit: Fit
    survey: Survey
    names: list
    kept: np.ndarray
    n_rows: float
    n_passes: float
    separated: Any
    null_deviance: float
    frequency: bool = False
    overdispersion: Overdispersion | None = None
    where: str = ""

    def __post_init__(self):
        object.__setattr__(self, "survey", self.survey.without_rows())

    @property
    def status(self):
        """`Status`: separated, stopped early, or converged (also where a method has no distance to go by)."""
        if self.separated is not None:
            return _separation(self)
        fit = self.fit
        if fit.converged or math.isnan(fit.distance):
            return Status("converged")
        where = f"{fit.distance:.3g} standard errors from the optimum" if math.isfinite(fit.distance) else \
            "at coefficients whose means leave the family's domain" if not fit.point.valid else \
            "where the information is singular, so that its distance to the optimum is unknown"
        return Status("not converged", f"The fit did not converge after {fit.n_iter} sweeps: it stands {where}.",
                      "Raise max_iter, rescale or drop columns, or try another link.")

    @property
    def separated_names(self):
        """Coefficients of an equation that run to infinity because the data are separated; none where they are not."""
        every = ["Intercept"] * (self.kept.size - len(self.names)) + self.names
        names = [name for name, kept in zip(every, self.kept) if kept]
        return [] if self.separated is None else [names[j] for j in self.separated.positions]


def _separation(fitted):
    """The columns by name, ten at most, and whose numbers mean nothing."""
    separated, names = fitted.separated, fitted.separated_names
    which = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more columns" if len(names) > 10 else "")
    which = "the intercept alone" if names == ["Intercept"] else f"a combination of {which}"
    what, whose = ("every response", "all coefficients") if separated.kind == "complete" else (
        "some responses", "the coefficients of these columns")
    return Status("separated", f"{separated.kind.capitalize()} separation: {which} predicts {what} perfectly, so "
                  f"{whose} run to infinity and their standard errors mean nothing.",
                  "Penalize (alpha > 0), drop or merge these columns, or collect more rows.")


def standard_errors(objective, point, n_rows, least=False):
    """Standard errors of the raw coefficients from the expected information, (k,) array.

    Parameters
    ----------
    least : bool
        Take the deviance for Pearson's chi-squared where it is smaller: far from the optimum one row can blow up the
        dispersion, and every distance would look short. Columns that others determine count by themselves.
    """
    cov = point.by_curvature.inverse
    if least and not np.isfinite(cov).all():
        cov = np.diag(1.0 / np.maximum(np.diag(point.curvature), 1e-300))
    scale = dispersion(objective.model, point, n_rows)
    if least and not objective.model.dispersion_known:
        scale = min(scale, point.moments.deviance / max(n_rows - point.coef.size, 1.0))
    return np.sqrt(np.maximum(objective.basis.variances(cov) * scale, 0.0))


def dispersion(model, point, n_rows):
    """1 where known, else Pearson's chi-squared over residual degrees of freedom."""
    if model.dispersion_known:
        return 1.0
    return point.moments.pearson / max(n_rows - point.coef.size, 1.0)


def distance_of(objective, step, se, coef):
    """Length of a step as the worst coefficient's share of its standard error (raw coefficients).

    Steps lost in the rounding of the coefficient itself count as nothing: a perfect fit has no standard error.
    """
    if step.size == 0:
        return 0.0
    raw, size = np.abs(objective.basis.raw(step)), np.abs(objective.basis.raw(coef))
    floor = 1e-13 * (size + size.max() * 1e-3)
    with np.errstate(over="ignore"):
        ratio = np.maximum(raw - floor, 0.0) / np.maximum(se, 1e-300)
    return float(np.max(ratio)) if np.isfinite(ratio).all() else math.inf
