"""What single rows do to a fit: leverage, Cook's distance and residuals, lazily, row by row."""

import dataclasses

import dask.array as da
import numpy as np

from daskglm_rep import passes
from daskglm_rep.recipes import Rows, WithScalars
from daskglm_rep.inference.sandwich import bread, dispersion
from daskglm_rep.kernels.block import tiles
from daskglm_rep.kernels.leverage import PERFECT, quadratic_rows
from daskglm_rep.kernels.residuals import unit_deviances, quantile_residuals, signed_deviance
from daskglm_rep.kernels.rows import working_rows

COLUMNS = ("leverage", "cooks_distance", "resid_pearson", "resid_deviance", "resid_response", "resid_standardized")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the row kernels need of a fit; `kind` "prior" or "frequency" weights."""

    model: object
    basis: object
    coef: np.ndarray
    bread: np.ndarray
    dispersion: float
    frequency: bool
    seed: int = 0


def _eta(block, rule):
    eta = np.empty(block.n_rows)
    for rows, Z in tiles(block.X, rule.basis):
        eta[rows] = Z @ rule.coef + block.offset[rows]
    return eta


def influence_rows(block, rule):
    """Columns `COLUMNS` of a block, (n, 6) array.

    With frequency weights they are those of one copy of the row.
    """
    eta, y = _eta(block, rule), np.asarray(block.y)
    weight = np.ones(block.n_rows) if rule.frequency else np.asarray(block.weight)
    _, expected, _ = working_rows(rule.model, eta, y, weight)
    mu, variance, unit_deviance = unit_deviances(rule.model, eta, y)
    h = expected * quadratic_rows(block, rule.basis, rule.bread)
    rest = np.where(1.0 - h > PERFECT, 1.0 - h, np.nan)
    pearson = (y - mu) * np.sqrt(weight / variance)
    standardized = pearson / np.sqrt(rule.dispersion * rest)
    cooks = standardized ** 2 * h / (rest * rule.coef.size)
    return np.column_stack([h, cooks, pearson, signed_deviance(y, mu, unit_deviance, weight), y - mu, standardized])


def residual_rows(block, rule, name):
    """Residuals of a block, (n, 1) array: `name` is "resid_response", "resid_pearson" or "resid_deviance"."""
    eta, y = _eta(block, rule), np.asarray(block.y)
    weight = np.ones(block.n_rows) if rule.frequency else np.asarray(block.weight)
    mu, variance, unit_deviance = unit_deviances(rule.model, eta, y)
    if name == "resid_deviance":
        return signed_deviance(y, mu, unit_deviance, weight)[:, None]
    return ((y - mu) * (np.sqrt(weight / variance) if name == "resid_pearson" else 1.0))[:, None]


def fitted_rows(block, rule):
    """Means of a block's rows and their variance functions, two (n,) arrays."""
    return unit_deviances(rule.model, _eta(block, rule), np.asarray(block.y))[:2]


def quantile_rows(block, rule):
    """Quantile residuals of a block, (n, 1) array; the draws depend on the seed and the block's number alone."""
    eta, y = _eta(block, rule), np.asarray(block.y)
    mu = unit_deviances(rule.model, eta, y)[0]
    rng = np.random.default_rng((rule.seed, block.index))
    return quantile_residuals(rule.model.family, y, mu, np.asarray(block.weight), rule.dispersion, rule.frequency,
                              rng)[:, None]


def lengths_of(data):
    """Rows of each block where the inputs say so, else NaN."""
    if isinstance(data.prepare, (Rows, WithScalars)):
        if data.collections is None:
            return tuple(part[0].shape[0] for part in data.chunks)
        if isinstance(data.collections[0], da.Array):
            return data.collections[0].chunks[0]
    return (np.nan,) * len(data.chunks)


def rule_of(fitted, seed=0):
    """`Rule` of a fit.

    Raises
    ------
    ValueError
        Multinomial models.
    """
    objective = fitted.fit.objective
    if not objective.model.has_leverage:
        raise ValueError("Influence measures and residuals are for models with one equation, not for multinomial ones: "
                         "fit one binary model a class to look at its rows.")
    return Rule(objective.model, objective.basis, fitted.fit.point.coef, bread(fitted), dispersion(fitted),
                fitted.frequency, seed)


def residuals(fitted, data, name):
    """(n,) dask array of the residuals that `residual_rows` names."""
    return passes.rows(residual_rows, data, lengths_of(data), 1, rule_of(fitted), name)[:, 0]


class Influence:
    """Influence measures of the rows of a fit, one value a row, as dask arrays (nothing is read before compute).

    Attributes
    ----------
    leverage : (n,) dask array
        h_i, the diagonal of W^1/2 Z (Z'WZ)^-1 Z' W^1/2.
    cooks_distance : (n,) dask array
        r_i^2 h_i / (k phi (1 - h_i)^2) with Pearson residuals r (R's cooks.distance); NaN where h_i = 1.
    resid_response, resid_pearson, resid_deviance : (n,) dask array
        y - mu, sqrt(w / V) (y - mu), sign(y - mu) sqrt(w d).
    resid_standardized : (n,) dask array
        r_i / sqrt(phi (1 - h_i)) (R's rstandard(type="pearson")).
    resid_quantile : (n,) dask array
        Randomised quantile residuals (Dunn and Smyth 1996), standard normal under the model.

    Raises
    ------
    ValueError
        Multinomial models.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> influence = results.influence(data)
    >>> influence.leverage.compute().round(2).tolist()
    [0.29, 0.31, 0.24, 0.23, 0.79, 0.63, 0.24, 0.27]
    """

    def __init__(self, fitted, data, seed=0):
        rule = rule_of(fitted, seed)
        lengths = lengths_of(data)
        self._table = passes.rows(influence_rows, data, lengths, len(COLUMNS), rule)
        self.resid_quantile = passes.rows(quantile_rows, data, lengths, 1, rule)[:, 0]

    def __getattr__(self, name):
        if name not in COLUMNS:
            raise AttributeError(f"Influence has no {name!r}; it has {', '.join(COLUMNS)} and resid_quantile.")
        return self._table[:, COLUMNS.index(name)]

    def __dir__(self):
        return [*super().__dir__(), *COLUMNS]

    @property
    def table(self):
        """(n, 6) dask array of the columns in `COLUMNS`: all from one sweep."""
        return self._table
