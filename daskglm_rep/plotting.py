"""Pictures of results, with matplotlib (`pip install "daskglm_rep[plot]"`)."""

from collections.abc import Iterable

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskglm_rep.design import feature_names
from daskglm_rep.recipes import values

INK, LINE, ACCENT = "#1f2430", "#b8bec9", "#2f6fb0"
CLASS_COLORS = ("#2f6fb0", "#c8553d", "#3a8f6b", "#8a63b5", "#b5892f", "#4c5564", "#c05a94", "#5f9ea8")


def _axes(ax, figsize):
    """The axes given, or new ones of pyplot."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('Plots need matplotlib, which is not installed: pip install "daskglm_rep[plot]".') from error
    return pyplot.subplots(figsize=figsize, layout="constrained")[1]


def plot_coefficients(results, level=0.95, intercept=False, per="unit", ax=None):
    """Draw estimates with their confidence intervals, one row a coefficient.

    A filled dot marks an interval that leaves out zero. Aliased columns (NaN) are left out; classes of a multinomial
    model stand below each other in colours of their own.

    Parameters
    ----------
    results : GLMResults
    level : float in (0, 1), default 0.95
    intercept : bool, default False
        Whether to draw the intercept, whose size is of another kind.
    per : {"unit", "sd"}, default "unit"
        Coefficients as they are, or times the population standard deviation of their column, which makes columns of
        different units comparable.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        `per` is neither "unit" nor "sd".
    ImportError
        matplotlib is not installed.
    """
    if per not in ("unit", "sd"):
        raise ValueError(f"per={per!r} is not known: choose 'unit' (coefficients as they are) or 'sd' (per standard "
                         "deviation of the column).")
    table = _table(results, level, intercept, per)
    n_rows, n_classes = table["feature"].nunique(), table["class"].nunique()
    ax = _axes(ax, (6.4, 1.0 + 0.32 * n_rows * max(1.0, 0.6 * n_classes)))
    _draw_rows(ax, table, "coef", table["feature"], table["class"], zero=True)
    unit = "unit" if per == "unit" else "standard deviation"
    ax.set_xlabel(f"change of the {results.model.linear_scale} per {unit}\n({100 * level:g} % interval)", color=INK)
    ax.tick_params(axis="y", length=0)
    return _dressed(ax, "class", n_classes, loc="best")


def _table(results, level, intercept, per):
    """Estimates and limits in long form: feature, class, coef, ci_lower, ci_upper."""
    frame = results.conf_int(level)
    frame.insert(0, "coef", results.params)
    frame = frame.reset_index()
    if "class" not in frame:
        frame["class"] = ""
    if not intercept:
        frame = frame[frame["feature"] != "Intercept"]
    if per == "sd":
        deviation = dict(zip(results.fitted.names, results.fitted.survey.columns.deviation))
        factor = frame["feature"].map(deviation).fillna(1.0)
        frame[["coef", "ci_lower", "ci_upper"]] = frame[["coef", "ci_lower", "ci_upper"]].mul(factor, axis=0)
    return frame[np.isfinite(frame["coef"])]


def _draw_rows(ax, table, value, names, series, zero):
    """Dots and intervals, a row a name; series stand below each other in colours of their own."""
    rows, kinds = list(dict.fromkeys(names)), list(dict.fromkeys(series))
    if zero:
        ax.axvline(0.0, color="#6b7280", linewidth=1.0, zorder=0.6)
    for number, kind in enumerate(kinds):
        part, color = table[series == kind], _series_color(number, len(kinds))
        y = np.array([rows.index(name) for name in names[series == kind]]) + \
            (number - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
        clear = (part["ci_lower"] > 0) | (part["ci_upper"] < 0)
        ax.hlines(y, part["ci_lower"], part["ci_upper"], color=color, linewidth=1.8, zorder=1)
        ax.scatter(part[value], y, s=34, zorder=2, linewidths=1.4, edgecolors=color,
                   facecolors=[color if c else "white" for c in clear], label=str(kind) or None)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="x", color="#edeff2", linewidth=0.8, zorder=0)


def _series_color(number, total):
    return ACCENT if total == 1 else CLASS_COLORS[number % len(CLASS_COLORS)]


def _dressed(ax, title, n_series, **legend):
    ax.tick_params(colors=INK)
    ax.set_axisbelow(True)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(LINE)
    if n_series > 1:
        ax.legend(title=title or None, frameon=False, fontsize="small", **legend)
    return ax


# ---------------------------------------------------------------- marginal effects


def plot_margins(effects, ax=None):
    """Draw marginal effects with their intervals, one row an effect; along a variable where `at=` held numbers.

    Classes and groups have colours of their own. A filled dot marks an interval that leaves out zero.

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
    """
    table, tags = effects.frame, [c for c in effects.labels.columns if c not in ("variable", "contrast")]
    along = next((c for c in tags if c.startswith("at_") and np.issubdtype(table[c].dtype, np.number)), None)
    tags = [c for c in tags if c != along]
    predicted = (table["variable"] == "E[y]").all()
    series = table[tags].astype(str).agg(", ".join, axis=1) if tags else table["variable"].map(lambda _: "")
    title = ", ".join(tag.removeprefix("at_") for tag in tags)
    what = f"mean of {effects.results.response}" if predicted else f"effect on the mean of {effects.results.response}"
    what += f" ({100 * effects.level:g} % interval)"
    if along is not None:
        lines = table["variable"] + np.where(table["contrast"] == "", "", " " + table["contrast"])
        several = lines.nunique() > 1
        kinds = lines.str.cat(series, ", ") if several and tags else lines if several else series
        return _plot_along(ax, table, along, kinds, title if not several else "", what)
    plain = (table["contrast"] == "dY/dX") | (table["contrast"] == "")
    names = table["variable"] + np.where(plain, "", ": " + table["contrast"])
    n_rows, n_series = names.nunique(), series.nunique()
    ax = _axes(ax, (6.4, max(1.9, 1.0 + 0.34 * n_rows * max(1.0, 0.6 * n_series))))
    _draw_rows(ax, table, "effect", names, series, zero=not predicted)
    ax.set_xlabel(what, color=INK)
    return _dressed(ax, title, n_series, loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _plot_along(ax, table, along, series, title, what):
    kinds = list(dict.fromkeys(series))
    ax = _axes(ax, (6.4, 4.0))
    for number, kind in enumerate(kinds):
        part, color = table[series == kind].sort_values(along), _series_color(number, len(kinds))
        ax.fill_between(part[along], part["ci_lower"], part["ci_upper"], color=color, alpha=0.18, linewidth=0)
        ax.plot(part[along], part["effect"], color=color, linewidth=2.0, label=kind or None)
    ax.set_xlabel(along.removeprefix("at_"), color=INK)
    ax.set_ylabel(what, color=INK)
    ax.grid(color="#edeff2", linewidth=0.8, zorder=0)
    return _dressed(ax, title, len(kinds))


# ---------------------------------------------------------------- representatives


def plot_representatives(estimator, x, y=None, data=None, ax=None):
    """Draw representatives, areas by weight and colours by response, over rows of the data.

    Parameters
    ----------
    estimator : RepresentativeGLM
    x, y : str
        Columns of `representatives_`; y by default the response.
    data : (n, p) array or DataFrame, optional
        Rows to lie underneath, where they may be seen; needs y to be a feature. Columns of a frame go by their names.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        No such column; another kind of estimator.
    """
    _check_kind(estimator)
    points, y = estimator.representatives_, y or "y"
    for name in (x, y):
        if name not in points:
            raise ValueError(f"representatives_ has no column {name!r}: choose one of "
                             f"{', '.join(points.columns[:20])}.")
    features = estimator.results_.fitted.names
    under = None if data is None or y not in features else [_column(data, name, features) for name in (x, y)]
    ax = _axes(ax, (6.0, 4.5))
    if under is not None:
        ax.scatter(*under, s=3, color=LINE, linewidths=0, zorder=1)
    area = 120.0 * points["weight"] / points["weight"].max()
    drawn = ax.scatter(points[x], points[y], s=np.maximum(area, 2.0), c=points["y"], cmap="coolwarm", alpha=0.7,
                       linewidths=0, zorder=2)
    ax.figure.colorbar(drawn, ax=ax, label="response of the representative")
    ax.set_xlabel(x, color=INK)
    ax.set_ylabel("response" if y == "y" else y, color=INK)
    return ax


def _column(data, name, features):
    """One column of rows: by its name where the data have names, else by its place among the features."""
    columns, named = feature_names(data)
    columns = columns if named else list(features)
    if name not in columns:
        raise ValueError(f"data has no column {name!r} to draw: its columns are {', '.join(columns[:20])}.")
    if not named and data.shape[1] != len(features):
        raise ValueError(f"data has {data.shape[1]} columns without names, the fit had {len(features)} features: pass "
                         "all of them, or a DataFrame.")
    j = columns.index(name)
    return values(data.iloc[:, j] if hasattr(data, "iloc") else data[:, j])


def _check_kind(estimator):
    if not hasattr(estimator, "representative"):
        raise ValueError(f"Only a RepresentativeGLM has representatives and rounds to draw, got a "
                         f"{type(estimator).__name__}.")
    check_is_fitted(estimator)


def plot_rounds(estimators, ax=None):
    """Draw the distance to the maximum likelihood estimate, in standard errors, against the rounds.

    Parameters
    ----------
    estimators : RepresentativeGLM or several of them
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    ValueError
        Another kind of estimator.
    """
    return _distances(estimators, lambda e: e.history_["round"], "round", ax)


def plot_bytes(estimators, ax=None):
    """Draw what `plot_rounds` draws, with its parameters, against the bytes that had left all blocks by then."""

    def moved(estimator):
        total = estimator.audit_.groupby("round")["bytes"].sum().cumsum()
        return total.iloc[1:1 + len(estimator.history_)]

    ax = _distances(estimators, moved, "bytes that left the blocks", ax)
    ax.set_xscale("log")
    return ax


def _distances(estimators, position, label, ax):
    estimators = list(estimators) if isinstance(estimators, Iterable) else [estimators]
    for estimator in estimators:
        _check_kind(estimator)
    ax = _axes(ax, (6.0, 4.0))
    for number, estimator in enumerate(estimators):
        ax.plot(np.asarray(position(estimator)), estimator.history_["distance"].to_numpy(), marker="o", markersize=4,
                color=CLASS_COLORS[number % len(CLASS_COLORS)], label=estimator.representative)
    ax.set_yscale("log")
    ax.set_xlabel(label, color=INK)
    ax.set_ylabel("standard errors from the MLE", color=INK)
    ax.legend(frameon=False, fontsize="small")
    return ax


# ---------------------------------------------------------------- penalties


def plot_path(estimator, ax=None):
    """Draw coefficients along a path of penalties, against the alpha.

    Columns that are never selected are left out; of many the ten largest are named, and a line marks the alpha chosen,
    where one was.

    Parameters
    ----------
    estimator : a fitted ElasticNetPath, or a cross-validated estimator
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    coefs = estimator.coefs_
    p = len(coefs)
    names = getattr(estimator, "feature_names_in_", [f"x{j}" for j in range(p)])
    alphas = np.ravel(estimator.curve_.alphas[estimator.curve_.best[0]] if hasattr(estimator, "curve_")
                      else estimator.alphas_)
    order = np.argsort(-np.abs(coefs[:, -1]), kind="stable")
    shown = [j for j in order if np.any(coefs[j] != 0.0)]
    ax = _axes(ax, (6.4, 4.0))
    ax.axhline(0.0, color="#6b7280", linewidth=1.0, zorder=0.6)
    for number, j in enumerate(shown):
        color = CLASS_COLORS[number % len(CLASS_COLORS)] if number < 10 else LINE
        ax.plot(alphas, coefs[j], color=color, linewidth=1.6 if number < 10 else 0.9, zorder=2 if number < 10 else 1,
                label=str(names[j]) if number < 10 else None)
    return _along_alpha(ax, estimator, "coefficient", len(shown))


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
    """
    curve = estimator.curve_
    ax = _axes(ax, (6.4, 4.0))
    for r, ratio in enumerate(curve.l1_ratios):
        color = _series_color(r, len(curve.l1_ratios))
        ax.fill_between(curve.alphas[r], curve.mean[r] - curve.error[r], curve.mean[r] + curve.error[r], color=color,
                        alpha=0.14, linewidth=0)
        ax.plot(curve.alphas[r], curve.mean[r], color=color, linewidth=2.0, label=f"l1_ratio {ratio:g}")
    for position in (curve.best, curve.sparser):
        ax.axvline(curve.alphas[position], color=LINE, linewidth=1.0, linestyle=(0, (4, 3)), zorder=0.6)
    return _along_alpha(ax, estimator, "mean held-out deviance", len(curve.l1_ratios))


def _along_alpha(ax, estimator, label, n_series):
    """Axes of a picture against falling penalties."""
    if hasattr(estimator, "alpha_"):
        ax.axvline(estimator.alpha_, color=ACCENT, linewidth=1.2, zorder=0.7)
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.set_xlabel("alpha", color=INK)
    ax.set_ylabel(label, color=INK)
    ax.grid(color="#edeff2", linewidth=0.8, zorder=0)
    return _dressed(ax, "", n_series, loc="best")
