"""Coefficients with their intervals."""

import numpy as np

from daskglm_rep.labels import shown
from daskglm_rep.plotting.style import (BESIDE, ZERO, draw_rows, dressed, height_of, labelled, new_axes, ratio_scale,
                                        row_heights, series_color)


def plot_coefficients(results, level=0.95, intercept=False, per="unit", exponentiate=False, ax=None):
    """Draw estimates with their confidence intervals, one row a coefficient.

    A filled dot marks an interval that leaves out zero. Aliased columns (NaN) are left out; separated ones, which are
    infinite, are arrows at the margin. Classes of a multinomial model stand below each other in colours of their own.

    Parameters
    ----------
    results : GLMResults
    level : float in (0, 1), default 0.95
    intercept : bool, default False
        Whether to draw the intercept, whose size is of another kind.
    per : {"unit", "sd"}, default "unit"
        Coefficients as they are, or times the population standard deviation of their column, which makes columns of
        different units comparable.
    exponentiate : bool
        Odds, rate, risk or hazard ratios on a logarithmic axis.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        `per` is neither "unit" nor "sd"; exponentiate=True where the link has no ratios.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> from daskglm_rep import lm, plotting
    >>> ax = plotting.plot_coefficients(lm("y ~ x", {"y": [1.0, 2.0, 2.0, 4.0], "x": [0.0, 1.0, 2.0, 3.0]}))
    """
    if per not in ("unit", "sd"):
        raise ValueError(f"per={per!r} is not known: choose 'unit' (coefficients as they are) or 'sd' (per standard "
                         "deviation of the column).")
    if exponentiate and results.model.ratio is None:
        raise ValueError(f"exponentiate=True needs a log, logit or cloglog link: this model is {results.model}.")
    table = _table(results, level, intercept, per)
    if exponentiate:
        with np.errstate(over="ignore"):
            table = table.assign(**np.exp(table[["coef", "ci_lower", "ci_upper"]]))
    infinite = table["feature"].isin(results.separated_names)
    n_classes = table["class"].nunique()
    ax = new_axes(ax, (6.4, height_of(table["feature"], n_classes)))
    finite = table.copy()
    finite.loc[infinite, ["coef", "ci_lower", "ci_upper"]] = np.nan
    bare = finite["ci_lower"].isna().all()
    draw_rows(ax, finite, "coef", table["feature"], table["class"], 1.0 if exponentiate else 0.0)
    if exponentiate:
        ratio_scale(ax, finite)
    if infinite.any():
        _arrows(ax, table, infinite, 1.0 if exponentiate else 0.0)
    unit = "unit" if per == "unit" else "standard deviation"
    labelled(ax, f"{_what(results, exponentiate)} per {unit}" + ("" if bare else f"\n({100 * level:g} % interval)"))
    return dressed(ax, "class", n_classes, rows=True, **BESIDE)


def _what(results, exponentiate):
    """What a coefficient changes, in words."""
    if results.model.n_responses > 1:
        baseline = f"against {shown(results.classes[0])!r}"
        return f"{results.model.ratio} {baseline}" if exponentiate else f"change of the log-odds {baseline}"
    if exponentiate:
        return f"{results.model.ratio} of {results.outcome}"
    scale = results.model.linear_scale.removesuffix(" of the mean")
    if results.classes is not None:
        return f"change of the {scale} of {results.outcome}"
    mean = results.response if scale == "log-odds" else f"the mean of {results.response}"
    return f"change of {mean}" if scale == "mean" else f"change of the {scale} of {mean}"


def _table(results, level, intercept, per):
    """Estimates and limits in long form: feature, class, coef, ci_lower, ci_upper."""
    frame = results.conf_int(level)
    frame.insert(0, "coef", results.params)
    frame = frame.reset_index()
    frame["class"] = frame["class"].map(str) if "class" in frame else ""
    if not intercept:
        frame = frame[frame["feature"] != "Intercept"]
    if per == "sd":
        deviation = dict(zip(results.fitted.names, results.fitted.survey.columns.deviation))
        factor = frame["feature"].map(deviation).fillna(1.0)
        frame[["coef", "ci_lower", "ci_upper"]] = frame[["coef", "ci_lower", "ci_upper"]].mul(factor, axis=0)
    return frame[np.isfinite(frame["coef"])]


def _arrows(ax, table, infinite, reference):
    """Separated coefficients: arrows at the margin they run to."""
    from matplotlib.transforms import blended_transform_factory

    across = blended_transform_factory(ax.transAxes, ax.transData)
    rows, kinds = list(dict.fromkeys(table["feature"])), list(dict.fromkeys(table["class"]))
    for number, kind in enumerate(kinds):
        part = table[infinite & (table["class"] == kind)]
        for up, y in zip(part["coef"] > reference, row_heights(part["feature"], rows, number, len(kinds))):
            ax.plot([0.985 if up else 0.015], [y], marker=">" if up else "<", markersize=7, transform=across,
                    color=series_color(number, len(kinds)), clip_on=False, linestyle="none")
            ax.text(0.96 if up else 0.04, y, "infinite (separated)", transform=across, fontsize="small", color=ZERO,
                    ha="right" if up else "left", va="center")
    if infinite.all():
        ax.set_xlim((0.1, 10.0) if reference else (-1.0, 1.0))
