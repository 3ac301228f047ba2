"""Penalty paths and cross-validation curves."""

import numpy as np

from daskglm_rep.plotting.style import ACCENT, CLASS_COLORS, LINE, ZERO, dressed, labelled, new_axes, series_color


def plot_path(estimator, ax=None):
    """Draw coefficients along a path of penalties, against the alpha.

    Columns that are never selected are left out, the eight largest are named, and a line marks the alpha chosen,
    where one was.

    Parameters
    ----------
    estimator : a fitted ElasticNetPath, or a cross-validated estimator
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import ElasticNetPath
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> ax = ElasticNetPath(n_alphas=20).fit(X, X[:, 0] + X[:, 1] ** 2).plot()
    """
    coefs = estimator.coefs_
    names = getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(coefs.shape[-2])])
    if coefs.ndim == 3:
        names = [f"{label}: {name}" for label in estimator.classes_ for name in names]
        coefs = coefs.reshape(-1, coefs.shape[-1])
    alphas = np.ravel(estimator.curve_.alphas[estimator.curve_.best[0]] if hasattr(estimator, "curve_")
                      else estimator.alphas_)
    order = np.argsort(-np.abs(coefs[:, -1]), kind="stable")
    shown = [j for j in order if np.any(coefs[j] != 0.0)]
    ax = new_axes(ax, (6.4, 4.0))
    ax.axhline(0.0, color=ZERO, linewidth=1.0, zorder=0.6)
    for number, j in enumerate(shown):
        named = number < len(CLASS_COLORS)
        ax.plot(alphas, coefs[j], color=CLASS_COLORS[number] if named else LINE, linewidth=1.6 if named else 0.9,
                zorder=2 if named else 1, label=str(names[j]) if named else None)
    return _along_alpha(ax, estimator, "coefficient", len(shown), loc="upper left", bbox_to_anchor=(1.01, 1.0))


def plot_curve(estimator, ax=None):
    """Draw the mean held-out deviance of a cross-validated estimator against the alpha, with its standard error.

    Lines mark the least mean and the largest alpha within one standard error of it; l1_ratios have their colours.

    Parameters
    ----------
    estimator : a fitted cross-validated estimator
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import LassoCV
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> ax = LassoCV(n_alphas=20).fit(X, X[:, 0] + X[:, 1] ** 2).plot()
    """
    curve = estimator.curve_
    ax = new_axes(ax, (6.4, 4.0))
    for r, ratio in enumerate(curve.l1_ratios):
        color = series_color(r, len(curve.l1_ratios))
        ax.fill_between(curve.alphas[r], curve.mean[r] - curve.error[r], curve.mean[r] + curve.error[r], color=color,
                        alpha=0.14, linewidth=0)
        ax.plot(curve.alphas[r], curve.mean[r], color=color, linewidth=2.0, label=f"l1_ratio {ratio:g}")
    for position in (curve.best, curve.sparser):
        ax.axvline(curve.alphas[position], color=LINE, linewidth=1.0, linestyle=(0, (4, 3)), zorder=0.6)
    return _along_alpha(ax, estimator, "mean held-out deviance", len(curve.l1_ratios))


def _along_alpha(ax, estimator, label, n_series, **legend):
    """Axes of a picture against falling penalties."""
    if hasattr(estimator, "alpha_"):
        ax.axvline(estimator.alpha_, color=ACCENT, linewidth=1.2, zorder=0.7)
    ax.set_xscale("log")
    ax.invert_xaxis()
    return dressed(labelled(ax, "alpha", label), "", n_series, **legend)
