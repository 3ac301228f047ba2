"""One style for all pictures."""

import textwrap

import numpy as np

INK, LINE, ZERO, GRID, ACCENT = "#1f2430", "#b8bec9", "#6b7280", "#edeff2", "#2f6fb0"
CLASS_COLORS = ("#2f6fb0", "#c8553d", "#3a8f6b", "#8a63b5", "#b5892f", "#4c5564", "#c05a94", "#5f9ea8")
NAME_WIDTH = 34          # letters of a row's name in a line


def new_axes(ax, figsize, **grid):
    """The axes given, or new ones of pyplot.

    Raises
    ------
    ImportError
        matplotlib is not installed.
    """
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('Plots need matplotlib, which is not installed: pip install "daskglm_rep[plot]".') from error
    return pyplot.subplots(figsize=figsize, layout="constrained", **grid)[1]


def series_color(number, total):
    return ACCENT if total == 1 else CLASS_COLORS[number % len(CLASS_COLORS)]


def wrapped(names):
    """Long names of rows in lines of their own."""
    return [textwrap.fill(str(name), NAME_WIDTH, break_long_words=True) for name in names]


def labelled(ax, x=None, y=None):
    """Labels of the axes, which break into lines before they leave the figure."""
    if x is not None:
        ax.set_xlabel(x, color=INK, wrap=True)
    if y is not None:
        ax.set_ylabel(y, color=INK, wrap=True)
    return ax


def dressed(ax, title="", n_series=1, rows=False, **legend):
    """Ink, grid and legend of every picture; pictures of rows have no frame at their left."""
    ax.tick_params(colors=INK)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.spines["left"].set_visible(not rows)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(LINE)
    ax.grid(axis="x" if rows else "both", color=GRID, linewidth=0.8, zorder=0)
    if rows:
        ax.tick_params(axis="y", length=0)
    if n_series > 1:
        ax.legend(title=title or None, frameon=False, fontsize="small", **({"loc": "best"} | legend))
    return ax


def height_of(names, n_kinds):
    """Inches that a picture of rows needs: by their number, their series and the lines of their names."""
    lines = [name.count("\n") + 1 for name in wrapped(dict.fromkeys(names))]
    return max(2.0, 1.1 + sum(max(0.34 * max(1.0, 0.6 * n_kinds), 0.19 * n) for n in lines))


def draw_rows(ax, table, value, names, series, reference=None):
    """Dots and intervals, a row a name; series stand below each other in colours of their own.

    Parameters
    ----------
    table : DataFrame
        With columns `value`, ci_lower and ci_upper.
    names, series : Series of str
    reference : float, optional
        The value that means nothing: dots are hollow where the interval holds it.
    """
    rows, kinds = list(dict.fromkeys(names)), list(dict.fromkeys(series))
    tested = reference is not None and not table["ci_lower"].isna().all()      # a penalized fit has no intervals
    if reference is not None:
        ax.axvline(reference, color=ZERO, linewidth=1.0, zorder=0.6)
    for number, kind in enumerate(kinds):
        part, color = table[series == kind], series_color(number, len(kinds))
        y = row_heights(names[series == kind], rows, number, len(kinds))
        clear = (part["ci_lower"] > reference) | (part["ci_upper"] < reference) if tested else [True] * len(part)
        ax.hlines(y, part["ci_lower"], part["ci_upper"], color=color, linewidth=1.8, zorder=1)
        ax.scatter(part[value], y, s=34, zorder=2, linewidths=1.4, edgecolors=color,
                   facecolors=[color if c else "white" for c in clear], label=str(kind) or None)
    ax.set_yticks(range(len(rows)), wrapped(rows))
    ax.set_ylim(len(rows) - 0.4, -0.6)


def row_heights(names, rows, number, n_kinds):
    """Where a series' marks stand among the rows."""
    return np.array([rows.index(name) for name in names]) + (number - (n_kinds - 1) / 2) * 0.7 / n_kinds


def plain_log_scale(ax, axis, low, high):
    """A logarithmic axis with plain numbers at its ticks, some of them even where it spans less than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    getattr(ax, f"set_{axis}scale")("log")
    line = getattr(ax, f"{axis}axis")
    near = high < 8.0 * low
    line.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]) if near else LogLocator(subs=(1.0, 2.0, 5.0))
                           if high < 300.0 * low else LogLocator())
    line.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    line.set_minor_locator(NullLocator())


def ratio_scale(ax, table):
    """A logarithmic axis of the ratios in a table with limits."""
    values = table[["ci_lower", "ci_upper"]].to_numpy()
    values = values[np.isfinite(values) & (values > 0)]
    plain_log_scale(ax, "x", values.min(initial=1.0), values.max(initial=1.0))


BESIDE = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}          # where a legend hides no row
