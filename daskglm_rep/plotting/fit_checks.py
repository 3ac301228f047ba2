"""Whether a fit suits its rows: calibration, residuals, their quantiles, and rows that weigh much."""

import numpy as np
from scipy import stats

from daskglm_rep.plotting.style import ACCENT, CLASS_COLORS, INK, LINE, ZERO, dressed, labelled, new_axes

WARM = CLASS_COLORS[1]


def plot_calibration(checks, ax=None):
    """Draw observed against fitted means, bin by bin, with the limits the model gives them.

    Parameters
    ----------
    checks : inference.fit_checks.FitChecks
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import PoissonRegressor, plotting
    >>> X = np.random.default_rng(0).normal(size=(200, 1))
    >>> y = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    >>> ax = plotting.plot_calibration(PoissonRegressor().fit(X, y).results_.fit_checks(X, y))
    """
    table, ax = checks.binned, new_axes(ax, (5.0, 4.4))
    ends = [min(table["fitted"].min(), table["observed"].min()), max(table["fitted"].max(), table["observed"].max())]
    ax.plot(ends, ends, color=ZERO, linewidth=1.0, zorder=0.6)
    half = checks.quantile * table["se"]
    ax.vlines(table["fitted"], table["fitted"] - half, table["fitted"] + half, color=LINE, linewidth=5.0, zorder=1)
    _dots(ax, table["fitted"], table["observed"], np.abs(table["observed"] - table["fitted"]) > half)
    return dressed(labelled(ax, f"fitted {checks.what}", f"observed {checks.observed}"))


def plot_residuals(checks, ax=None):
    """Draw mean residuals against fitted means, bin by bin (Gelman and Hill 2007), and limits the model gives them.

    Parameters
    ----------
    checks : inference.fit_checks.FitChecks
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import PoissonRegressor, plotting
    >>> X = np.random.default_rng(0).normal(size=(200, 1))
    >>> y = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    >>> ax = plotting.plot_residuals(PoissonRegressor().fit(X, y).results_.fit_checks(X, y))
    """
    table, ax = checks.binned, new_axes(ax, (5.0, 4.4))
    half, residual = checks.quantile * table["se"], table["observed"] - table["fitted"]
    ax.axhline(0.0, color=ZERO, linewidth=1.0, zorder=0.6)
    ax.fill_between(table["fitted"], -half, half, color=LINE, alpha=0.35, linewidth=0, zorder=0.8)
    _dots(ax, table["fitted"], residual, np.abs(residual) > half)
    return dressed(labelled(ax, f"fitted {checks.what}", "mean residual"))


def _dots(ax, x, y, outside):
    for chosen, color in ((~outside, ACCENT), (outside, WARM)):
        ax.scatter(x[chosen], y[chosen], s=26, color=color, linewidths=0, zorder=2)


def plot_quantiles(checks, ax=None):
    """Draw quantile residuals of a sample of rows against normal quantiles: a line where the family suits the rows.

    Parameters
    ----------
    checks : inference.fit_checks.FitChecks
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import PoissonRegressor, plotting
    >>> X = np.random.default_rng(0).normal(size=(200, 1))
    >>> y = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    >>> ax = plotting.plot_quantiles(PoissonRegressor().fit(X, y).results_.fit_checks(X, y))
    """
    found, ax = np.sort(checks.resid_quantile.dropna()), new_axes(ax, (5.0, 4.4))
    n = found.size
    order = np.arange(1, n + 1)
    normal = stats.norm.ppf((order - 0.5) / n)
    low, high = (stats.norm.ppf(stats.beta.ppf(p, order, n + 1 - order)) for p in (0.025, 0.975))
    ax.fill_between(normal, low, high, color=LINE, alpha=0.35, linewidth=0, zorder=0.6)
    ax.plot(normal, normal, color=ZERO, linewidth=1.0, zorder=0.8)
    ax.scatter(normal, found, s=9, color=ACCENT, linewidths=0, zorder=2)
    return dressed(labelled(ax, "normal quantile", "quantile residual"))


def plot_leverage(checks, ax=None):
    """Draw standardized residuals against leverages of a sample of rows and of those with the largest Cook's distances.

    The three largest are named by their number (counted from 0). Dashed lines are Cook's distances of 0.5 and 1, where
    they lie among the rows.

    Parameters
    ----------
    checks : inference.fit_checks.FitChecks
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import PoissonRegressor, plotting
    >>> X = np.random.default_rng(0).normal(size=(200, 1))
    >>> y = np.random.default_rng(1).poisson(np.exp(X[:, 0]))
    >>> ax = plotting.plot_leverage(PoissonRegressor().fit(X, y).results_.fit_checks(X, y))
    """
    table, ax = checks.rows.dropna(subset=["resid_standardized"]), new_axes(ax, (5.0, 4.4))
    ax.axhline(0.0, color=ZERO, linewidth=1.0, zorder=0.6)
    ax.scatter(table["leverage"], table["resid_standardized"], s=9, color=ACCENT, linewidths=0, zorder=2)
    largest = table.nlargest(3, "cooks_distance")
    ax.scatter(largest["leverage"], largest["resid_standardized"], s=26, color=WARM, linewidths=0, zorder=3)
    for row, h, r in zip(largest.index, largest["leverage"], largest["resid_standardized"]):
        ax.annotate(f"{row}", (h, r), xytext=(4, 4), textcoords="offset points", fontsize="small", color=WARM)
    ax.margins(0.09)
    ends = ax.get_xlim(), ax.get_ylim()
    h = np.linspace(max(ends[0][0], 1e-9), min(ends[0][1], 1.0 - 1e-9), 200)
    for distance in (0.5, 1.0):
        r = np.sqrt(distance * checks.n_coef * (1.0 - h) / h)
        for side in (r, -r):
            ax.plot(h, side, color=ZERO, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0.7)
    ax.set_xlim(max(ends[0][0], 0.0), ends[0][1])
    ax.set_ylim(*ends[1])
    return dressed(labelled(ax, "leverage", "standardized residual"))


PICTURES = {"calibration": plot_calibration, "residuals": plot_residuals, "quantiles": plot_quantiles,
            "leverage": plot_leverage}


def plot_all(checks):
    """The four pictures beside each other."""
    axes = new_axes(None, (9.6, 8.2), nrows=2, ncols=2)
    for ax, (kind, draw) in zip(axes.flat, PICTURES.items()):
        try:
            draw(checks, ax)
        except ValueError as error:                   # quantile residuals of a family without a distribution
            ax.text(0.5, 0.5, str(error), wrap=True, ha="center", va="center", color=ZERO, fontsize="small")
            ax.set_axis_off()
        ax.set_title(kind, color=INK, fontsize="medium")
    return axes
