"""Representatives, and how near their rounds and bytes come."""

from collections.abc import Iterable

import numpy as np
from sklearn.utils.validation import check_is_fitted

from daskglm_rep.design import feature_names
from daskglm_rep.plotting.style import CLASS_COLORS, LINE, dressed, labelled, new_axes, plain_log_scale
from daskglm_rep.recipes import values


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

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, plotting
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> ax = plotting.plot_representatives(RepresentativeGLM("gaussian").fit(X, X[:, 0]), "x0", "x1")
    """
    _check_kind(estimator)
    points, y = estimator.representatives_, y or "y"
    for name in (x, y):
        if name not in points:
            raise ValueError(f"representatives_ has no column {name!r}: choose one of "
                             f"{', '.join(points.columns[:20])}.")
    features = estimator.results_.fitted.names
    under = None if data is None or y not in features else [_column(data, name, features) for name in (x, y)]
    ax = new_axes(ax, (6.0, 4.5))
    if under is not None:
        ax.scatter(*under, s=3, color=LINE, linewidths=0, zorder=1)
    area = 120.0 * points["weight"] / points["weight"].max()
    drawn = ax.scatter(points[x], points[y], s=np.maximum(area, 2.0), c=points["y"], cmap="coolwarm", alpha=0.7,
                       linewidths=0, zorder=2)
    ax.figure.colorbar(drawn, ax=ax, label="response of the representative").outline.set_visible(False)
    return dressed(labelled(ax, x, "response" if y == "y" else y))


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

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, plotting
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> ax = plotting.plot_rounds(RepresentativeGLM("gaussian").fit(X, X[:, 0]))
    """
    ax = _distances(estimators, lambda e: e.history_["round"], "round", ax)
    ax.xaxis.get_major_locator().set_params(integer=True)
    return ax


def plot_bytes(estimators, ax=None):
    """Draw what `plot_rounds` draws, with its parameters, against the bytes that had left all blocks by then.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import RepresentativeGLM, plotting
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> ax = plotting.plot_bytes(RepresentativeGLM("gaussian").fit(X, X[:, 0]))
    """

    def moved(estimator):
        total = estimator.audit_.groupby("round")["bytes"].sum().cumsum()
        return total.iloc[1:1 + len(estimator.history_)]

    from matplotlib.ticker import EngFormatter, MaxNLocator

    ax = _distances(estimators, moved, "bytes that left the blocks", ax)
    low, high = ax.dataLim.intervalx
    if low > 0 and high > 100 * low:
        ax.set_xscale("log")          # powers of ten
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.xaxis.set_major_formatter(EngFormatter("B"))
    return ax


def _distances(estimators, position, label, ax):
    estimators = list(estimators) if isinstance(estimators, Iterable) else [estimators]
    for estimator in estimators:
        _check_kind(estimator)
    ax = new_axes(ax, (6.0, 4.0))
    for number, estimator in enumerate(estimators):
        ax.plot(np.asarray(position(estimator)), estimator.history_["distance"].to_numpy(), marker="o", markersize=4,
                color=CLASS_COLORS[number % len(CLASS_COLORS)], label=estimator.representative)
    distances = np.concatenate([e.history_["distance"].to_numpy() for e in estimators])
    distances = distances[np.isfinite(distances) & (distances > 0)]
    plain_log_scale(ax, "y", distances.min(initial=1.0), distances.max(initial=1e-300))
    return dressed(labelled(ax, label, "standard errors from the MLE"), "", 2)
