"""Whether a fit suits its rows, from two sweeps: means by bins of the fitted ones, and a sample of single rows."""

import dataclasses
from functools import cached_property

import numpy as np
import pandas as pd

from daskglm_rep import passes
from daskglm_rep.inference.influence import COLUMNS, fitted_rows, influence_rows
from daskglm_rep.kernels.residuals import quantile_residuals
from daskglm_rep.plotting.fit_checks import PICTURES, plot_all

N_ROWS, N_LARGEST = 4000, 50          # of the sample: drawn at random, and with the largest Cook's distances
SAMPLE = ("position", "drawn", "response", "weight", "fitted", *COLUMNS)
DISTANCE = SAMPLE.index("cooks_distance")


@dataclasses.dataclass(frozen=True)
class RowSample:
    """Some rows of each block.

    Attributes
    ----------
    blocks : (m,) array
        Numbers of the rows' blocks.
    rows : (m, 11) array
        Number in the block, whether drawn at random, response, weight, mean, and `COLUMNS` of influence.
    lengths : dict
        Rows of each block.
    """

    blocks: np.ndarray
    rows: np.ndarray
    lengths: dict

    def merge(self, other):
        blocks, rows = np.r_[self.blocks, other.blocks], np.r_[self.rows, other.rows]
        return RowSample(blocks, rows, self.lengths | other.lengths).trimmed()

    def trimmed(self):
        """Of the rows that were not drawn only those with the largest distances."""
        kept = self.rows[:, 1] == 1.0
        others = np.flatnonzero(~kept)
        kept[others[np.argsort(-_sizes(self.rows[others, DISTANCE]), kind="stable")[:N_LARGEST]]] = True
        return RowSample(self.blocks[kept], self.rows[kept], self.lengths)


def _sizes(distances):
    return np.where(np.isnan(distances), np.inf, distances)


def sample_rows(block, rule, n):
    """Kernel: n rows of a block at random, and those with the largest Cook's distances."""
    rng = np.random.default_rng((rule.seed, block.index, 1))
    influence = influence_rows(block, rule)
    drawn = np.zeros(block.n_rows, bool)
    alive = np.flatnonzero(np.asarray(block.weight) > 0)
    drawn[rng.permutation(alive)[:n]] = True
    kept, distance = drawn.copy(), influence[alive, COLUMNS.index("cooks_distance")]
    kept[alive[np.argsort(-_sizes(distance), kind="stable")[:N_LARGEST]]] = True
    at = np.flatnonzero(kept)
    seen = (np.asarray(column)[at] for column in (block.y, block.weight, fitted_rows(block, rule)[0]))
    rows = np.column_stack([at, drawn[at], *seen, influence[at]])
    return RowSample(np.full(at.size, block.index), rows, {block.index: block.n_rows}).trimmed()


@dataclasses.dataclass(frozen=True)
class BinSums:
    """Sums over rows by bin of the fitted mean.

    Attributes
    ----------
    sums : (n_bins, 5) array
        Rows, sums of w, w mu, w y and w V(mu).
    """

    sums: np.ndarray

    def merge(self, other):
        return BinSums(self.sums + other.sums)


def sum_bins(block, rule, edges):
    """Kernel: `BinSums` of a block between inner edges."""
    mu, variance = fitted_rows(block, rule)
    weight, y = np.asarray(block.weight), np.asarray(block.y)
    bins, alive = np.searchsorted(edges, mu, side="right"), weight > 0
    columns = (alive.astype(float), weight, weight * mu, weight * y, weight * variance)
    return BinSums(np.column_stack([np.bincount(bins[alive], c[alive], edges.size + 1) for c in columns]))


class FitChecks:
    """Pictures and tables that show whether a fit suits its rows.

    Attributes
    ----------
    binned : DataFrame
        By bins of the fitted mean that hold about as many rows each: rows, fitted and observed means, se (of the
        observed mean under the model), z.
    rows : DataFrame
        Rows drawn at random and those with the largest Cook's distances, by their number (from 0): drawn, response,
        weight, fitted, leverage, cooks_distance, residuals.
    quantile : float
        Half width of the pictures' limits in standard errors.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> checks = results.fit_checks(data, n_bins=2)
    >>> list(checks.binned.columns)
    ['rows', 'fitted', 'observed', 'se', 'z']
    >>> axes = checks.plot()
    """

    def __init__(self, rule, data, what, observed, n_bins, quantile):
        self._rule, self._data, self._n_bins = rule, data, n_bins
        self.what, self.observed, self.quantile, self.n_coef = what, observed, quantile, rule.coef.size

    @cached_property
    def rows(self):
        found = passes.run(sample_rows, self._data, self._rule, -(-N_ROWS // self._data.n_blocks))
        starts = dict(zip(sorted(found.lengths), np.cumsum([0, *(n for _, n in sorted(found.lengths.items()))])))
        number = np.array([starts[b] for b in found.blocks], dtype=np.int64) + found.rows[:, 0].astype(np.int64)
        table = pd.DataFrame(found.rows, columns=SAMPLE).drop(columns="position").assign(row=number)
        return table.assign(drawn=table["drawn"] == 1.0).sort_values("row").set_index("row")

    @property
    def resid_quantile(self):
        """Quantile residuals of the rows drawn at random, a Series by row (see `GLMResults.influence`).

        Raises
        ------
        ValueError
            The family declares no distribution.
        """
        drawn, rule = self.rows[self.rows["drawn"]], self._rule
        y, mu, weight = (drawn[name].to_numpy() for name in ("response", "fitted", "weight"))
        values = quantile_residuals(rule.model.family, y, mu, weight, rule.dispersion, rule.frequency,
                                    np.random.default_rng(rule.seed))
        return pd.Series(values, drawn.index, name="resid_quantile")

    @cached_property
    def binned(self):
        drawn = self.rows.loc[self.rows["drawn"], "fitted"]
        edges = np.unique(np.quantile(drawn, np.arange(1, self._n_bins) / self._n_bins))
        sums = passes.run(sum_bins, self._data, self._rule, edges).sums
        n, w, fitted, observed, variance = sums[sums[:, 0] > 0].T
        se = np.sqrt(self._rule.dispersion * variance) / w
        table = pd.DataFrame({"rows": n.astype(int), "fitted": fitted / w, "observed": observed / w, "se": se})
        with np.errstate(divide="ignore", invalid="ignore"):
            return table.assign(z=(table["observed"] - table["fitted"]) / table["se"])

    def plot(self, kind=None, ax=None):
        """Draw them.

        Parameters
        ----------
        kind : {"calibration", "residuals", "quantiles", "leverage"}, optional
            Default all four beside each other.
        ax : matplotlib Axes, optional
            For one of them.

        Returns
        -------
        matplotlib Axes, or a (2, 2) array of them
        """
        if kind is None and ax is None:
            return plot_all(self)
        if kind not in PICTURES:
            raise ValueError(f"kind={kind!r} is not known: choose one of {', '.join(PICTURES)}.")
        return PICTURES[kind](self, ax)
