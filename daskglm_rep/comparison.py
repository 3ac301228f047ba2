"""Models side by side: one table of several fits, for a terminal, Jupyter, LaTeX and Markdown."""

import math
from collections.abc import Iterable

import pandas as pd

from daskglm_rep.estimates import Estimates
from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.inference.restrictions import labels
from daskglm_rep.printing import Printable, number
from daskglm_rep.tables import covariance_of, response_of

STARS = (0.05, 0.01, 0.001)
BELOW = {"std err": "Standard errors in brackets.", "interval": "{level:g} % intervals in brackets.",
         "pvalue": "p-values in brackets.", "statistic": "t or z statistics in brackets.", None: ""}
COLUMNS = ("coef", "std err", "statistic", "pvalue", "ci_lower", "ci_upper")


def compare(models, names=None, exponentiate=False, stars=False, below="std err", level=0.95, alpha=None):
    """Put fitted models side by side.

    Parameters
    ----------
    models : sequence of results or fitted estimators, or dict of them by name
    names : sequence of str, optional
        Headings of the columns; default "(1)", "(2)", ...
    exponentiate : bool
        Odds, rate, risk or hazard ratios, as `summary_frame(exponentiate=True)` gives them.
    stars : bool or sequence of floats
        Marks of small p-values, on request only: True means 0.05, 0.01 and 0.001.
    below : {"std err", "interval", "pvalue", "statistic", None}
        What stands in brackets below each coefficient.
    level, alpha : float
        Of the intervals, as for `GLMResults.conf_int`.

    Returns
    -------
    Comparison
        Prints as text, shows as HTML in Jupyter; `as_latex()`, `as_markdown()`, `as_csv()`; `frame`, the numbers.

    Raises
    ------
    ValueError
        No models, other objects, names that are not as many or not distinct; exponentiate=True where a link has no
        ratios.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> from daskglm_rep import compare
    >>> small, large = [glm(text, data, family="poisson") for text in ("visits ~ age", "visits ~ age + C(plan)")]
    >>> table = compare([small, large], names=["age", "and plan"])
    >>> table.frame.round(3).loc["age", "age"].to_dict()
    {'coef': 0.048, 'std err': 0.019, 'statistic': 2.467, 'pvalue': 0.014, 'ci_lower': 0.01, 'ci_upper': 0.086}
    >>> table.as_markdown().splitlines()[0]
    '|  | age | and plan |'
    """
    if isinstance(models, dict):
        names, models = list(models) if names is None else names, models.values()
    fits = list(models) if isinstance(models, Iterable) else [models]
    models = [getattr(fit, "results_", fit) for fit in fits]
    strangers = [type(fit).__name__ for fit in models if not isinstance(fit, Estimates)]
    if strangers or not models:
        raise ValueError("compare takes fitted models of this library: a list of results or estimators, got "
                         f"{'a ' + strangers[0] if strangers else 'none'}.")
    names = [f"({j + 1})" for j in range(len(models))] if names is None else [str(name) for name in names]
    if len(names) != len(models) or len(set(names)) != len(names):
        raise ValueError(f"names must hold one heading a model, all different: got {names[:10]} for {len(models)} "
                         "models.")
    if below not in BELOW:
        raise ValueError(f"below={below!r} is not known: choose one of {', '.join(map(repr, BELOW))}.")
    cuts = STARS if stars is True else tuple(sorted(stars or (), reverse=True))
    return Comparison(models, names, exponentiate, cuts, below, confidence_level(level, alpha))


class Comparison(Printable):
    """Several fits in one table.

    Attributes
    ----------
    frame : DataFrame
        Coefficients by name; columns (model, statistic) with coef, std err, statistic, pvalue, ci_lower and ci_upper.
        NaN where a model has no such coefficient.
    statistics : DataFrame
        Fit statistics as words, a column a model.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> from daskglm_rep import compare
    >>> small, large = [glm(text, data, family="poisson") for text in ("visits ~ age", "visits ~ age + C(plan)")]
    >>> table = compare([small, large], names=["age", "and plan"])
    >>> table.statistics.loc["Rows"].tolist()
    ['8', '8']
    >>> table.as_markdown().splitlines()[0]
    '|  | age | and plan |'
    """

    def __init__(self, models, names, exponentiate, stars, below, level):
        self.names, self.stars, self.below, self.level = names, stars, below, level
        self.models = models
        tables = {}
        for name, model in zip(names, models):
            table = model.summary_frame(level, exponentiate=exponentiate)
            table.columns = list(COLUMNS)
            tables[name] = table.set_axis(labels(model.index))
        self._has = {name: set(table.index) for name, table in tables.items()}
        order = list(dict.fromkeys(label for table in tables.values() for label in table.index))
        self.frame = pd.concat({name: table.reindex(order) for name, table in tables.items()}, axis=1).rename_axis("")
        self.exponentiate = exponentiate
        self.statistics = self._statistics()

    def _statistics(self):
        columns = {}
        for name, r in zip(self.names, self.models):
            estimate = [("Estimate", r.model.ratio if self.exponentiate else "coefficient")]
            fit = ("R-squared", r.rsquared) if r.model.is_gaussian else ("Pseudo R-squared", r.prsquared)
            words = [("Model", str(r.model)), *response_of(r), *(estimate if self.exponentiate else []),
                     *covariance_of(r), ("Rows", f"{r.nobs:,.0f}"), ("Log-likelihood", f"{r.llf:,.2f}"),
                     ("AIC", f"{r.aic:,.2f}"), ("BIC", f"{r.bic:,.2f}"), (fit[0], f"{fit[1]:.4f}")]
            columns[name] = dict(words + ([("Alpha", f"{r.alpha:.4g}")] if hasattr(r, "alpha") else []))
        order = ["Model", "Response", "Baseline", "Estimate", "Covariance", "Clusters", "Correction", "Rows",
                 "Log-likelihood", "AIC", "BIC", "R-squared", "Pseudo R-squared", "Alpha"]
        found = [row for row in order if any(row in words for words in columns.values())]
        return pd.DataFrame({name: [words.get(row, "") for row in found] for name, words in columns.items()}, found)

    def _table(self):
        """Two rows a coefficient, then the fit statistics."""
        rows, index = [], []
        for label in self.frame.index:
            cells = [self.frame.loc[label, name] if label in self._has[name] else None for name in self.names]
            rows.append([self._estimate(cell) for cell in cells])
            index.append(label)
            if self.below is not None:
                rows.append([self._bracket(cell) for cell in cells])
                index.append("")
        table = pd.DataFrame(rows, index, columns=self.names)
        return pd.concat([table, self.statistics])

    @property
    def _ruled(self):
        return len(self.frame) * (1 if self.below is None else 2)

    def _estimate(self, cell):
        """Numbers stand above each other, stars to the right of them."""
        if cell is None:
            return ""
        marks = "*" * sum(cell["pvalue"] < cut for cut in self.stars)
        return _number(cell["coef"]) + marks.ljust(len(self.stars))

    def _bracket(self, cell):
        if cell is None or math.isnan(cell["coef"]):
            return ""
        values = cell[["ci_lower", "ci_upper"]] if self.below == "interval" else cell[[self.below]]
        if values.isna().all():
            return ""
        return f"({', '.join(map(_number, values))})" + " " * max(len(self.stars) - 1, 0)

    def _notes(self):
        marks = ", ".join(f"{'*' * (j + 1)} p < {cut:g}" for j, cut in enumerate(self.stars))
        return list(filter(None, (BELOW[self.below].format(level=100 * self.level), marks and f"{marks}.")))

    def as_csv(self):
        """`frame` as CSV, with all digits."""
        return self.frame.to_csv()


def _number(value):
    return "NaN" if math.isnan(value) else number(value)
