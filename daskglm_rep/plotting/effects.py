"""Marginal effects and average predictions with their intervals."""

import numpy as np

from daskglm_rep.plotting.style import (BESIDE, draw_rows, dressed, height_of, labelled, new_axes, ratio_scale,
                                        series_color)


def plot_margins(effects, ax=None):
    """Draw marginal effects with their intervals, one row an effect; along a variable where `at=` held numbers.

    Classes and groups have colours of their own; groups of average predictions are rows. A filled dot marks an interval
    that leaves out the value that means no effect (0, or 1 for ratios).

    Parameters
    ----------
    effects : inference.margins.MarginsResult
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> from daskglm_rep import lm
    >>> data = {"y": [1.0, 2.0, 2.0, 4.0], "x": [0.0, 1.0, 2.0, 3.0]}
    >>> ax = lm("y ~ x", data).margins(data).plot()
    """
    table, tags = effects.frame, [c for c in effects.labels.columns if c not in ("variable", "contrast")]
    along = next((c for c in tags if c.startswith("at_") and np.issubdtype(table[c].dtype, np.number)), None)
    tags = [c for c in tags if c != along]
    predicted = (table["variable"] == "E[y]").all()
    mean = _mean(effects.results)
    what = mean.removeprefix("the ") if predicted else f"{effects.form.words} {mean}"
    what += f"\n({100 * effects.level:g} % interval)"
    if along is not None:
        return _plot_along(ax, effects, along, tags, what)
    rows = [tag for tag in tags if tag != "class"] if predicted else []
    tags = [tag for tag in tags if tag not in rows]
    names, series = _row_names(table, rows), _joined(table, tags)
    n_series = series.nunique()
    ax = new_axes(ax, (6.4, height_of(names, n_series)))
    draw_rows(ax, table, "effect", names, series, None if predicted else effects.null)
    if effects.null == 1.0:
        ratio_scale(ax, table)
    labelled(ax, what, _title(rows) if rows else None)
    return dressed(ax, _title(tags), n_series, rows=True, **BESIDE)


def _mean(results):
    """E[y] in words."""
    if results.classes is None:
        return f"the mean of {results.response}"
    return results.outcome if results.model.n_responses == 1 else f"the probability of the {results.outcome}"


def _title(tags):
    return ", ".join(tag.removeprefix("at_") for tag in tags)


def _joined(table, tags):
    """What tells rows apart, as one word a row."""
    return table[tags].astype(str).agg(", ".join, axis=1) if tags else table["variable"].map(lambda _: "")


def _row_names(table, groups):
    if groups:
        return _joined(table, groups)
    plain = (table["contrast"] == "dY/dX") | (table["contrast"] == "")
    return table["variable"] + np.where(plain, "", ": " + table["contrast"])


def _plot_along(ax, effects, along, tags, what):
    table, kinds = effects.frame, _joined(effects.frame, tags)
    lines = table["variable"] + np.where(table["contrast"] == "", "", " " + table["contrast"])
    several = lines.nunique() > 1
    if several:
        kinds = lines.str.cat(kinds, ", ") if tags else lines
    names = list(dict.fromkeys(kinds))
    ax = new_axes(ax, (6.4, 4.0))
    for number, kind in enumerate(names):
        part, color = table[kinds == kind].sort_values(along), series_color(number, len(names))
        ax.fill_between(part[along], part["ci_lower"], part["ci_upper"], color=color, alpha=0.18, linewidth=0)
        ax.plot(part[along], part["effect"], color=color, linewidth=2.0, label=kind or None)
    return dressed(labelled(ax, along.removeprefix("at_"), what), "" if several else _title(tags), len(names))
