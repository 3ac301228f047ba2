"""Marginal effects of a fitted model: what is asked, one sweep for what that refers to, one sweep for all effects."""

import itertools
import math
import numbers

import numpy as np
import pandas as pd

from daskglm_rep import passes
from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.inference.margins import data as sources
from daskglm_rep.inference.margins import effects as wanted
from daskglm_rep.inference.margins.survey import learn
from daskglm_rep.inference.margins.sweep import EffectPlan, RawCoefficients, effect_sums, tile_sums
from daskglm_rep.inference.margins.table import Form, MarginsResult
from daskglm_rep.inference.margins.terms import NUMBER, ArrayTerms, FrameTerms, MixedTerms

MAX_MIXTURE = 10_000
WORDS = ("mean", "median", "min", "max")
FACTORS_AT = ("reference", "mode", "proportions")


def margins(results, data, variables=None, at="overall", method="dydx", discrete="factors", change=None, contrast=None,
            over=None, weights=None, offset=None, exposure=None, interactions=None, factors=None,
            factors_at="reference", comparison="difference", exponentiate=False, level=0.95, alpha=None):
    """Marginal effects on E[y], averaged over rows or at chosen values, with delta-method errors.

    Effects are on base variables, through all terms: x, x^2, x:z, log(x), splines. All effects take one sweep over the
    data; what they refer to (means, deviations, extremes) takes one before it, exact quartiles and medians of more than
    32,768 distinct values another one.

    Parameters
    ----------
    results : GLMResults
    data : (n, p) array or frame with the columns of the fit; for a formula a frame or Parquet path
        The fitting data or other rows.
    variables : str or list of str, optional
        Base variables; default all.
    at : "overall", "mean", "median" or dict
        Average over the rows; one row at the means or medians (factors as `factors_at` says, the offset at its mean);
        or values, levels, lists of them (a grid), "mean", "median", "min" or "max" per variable, the other variables as
        observed.
    method : {"dydx", "eyex", "dyex", "eydx"}
        Derivative of E[y] or of ln E[y] (ey), in x or in ln x (ex), row by row and then averaged. For a discrete change
        "eydx" compares ln E[y].
    discrete : {"factors", "dummies", None}
        Which variables get discrete changes by default: factors (formula factors, booleans, `factors=`), also numeric
        columns that hold only 0 and 1, or none (a factor's dummies are then differentiated as if continuous).
    change : {"unit", "centered", "sd", "iqr", "minmax"} or (lo, hi), optional
        For numbers: x to x + 1; x -/+ 1/2; x -/+ sd/2 (n - 1); first to third quartile; lowest to highest;
        E[y | x + hi] - E[y | x + lo]. A dict gives each variable its own.
    contrast : (from, to), "reference", "pairwise" or "sequential", optional
        (a, b) sets the variable: E[y | x = b] - E[y | x = a], levels too. The words say which levels of a factor are
        compared; default every level against the reference. A dict gives each variable its own.
    over : str, list of str or (n,) array, optional
        Effects by group: columns; of a matrix, labels.
    weights : str or (n,) array, optional
        Weights of the average (survey weights). None: those of a formula's fit where they count rows, else rows alike.
    offset, exposure : str or (n,) array, optional
        As in the fit: they stay in E[y].
    interactions, factors : optional
        For models fitted on arrays: which columns are products, and dummies of one factor; see `ArrayTerms.of`.
    factors_at : {"reference", "mode", "proportions"}
        Factors in at="mean" and "median": their reference level, their most frequent one, or a mixture of the design's
        rows by share.
    comparison : {"difference", "ratio", "lift", "lnratio", "lnor"}
        How two averages a (low) and b (high) are compared: b - a, b / a, b / a - 1, ln(b / a), or the log odds ratio
        logit(b) - logit(a). Numbers are moved by 1 where neither `change` nor `contrast` says more. "ratio" is tested
        against 1, the others against 0.
    exponentiate : bool
        Of logarithms (comparison="lnratio" or "lnor", method="eydx"): show ratios, or odds ratios, with the
        exponentials of the limits, which stay positive.
    level, alpha : float
        Of the intervals: a level in [0.5, 1), or alpha = 1 - level in its place.

    Returns
    -------
    MarginsResult

    Raises
    ------
    ValueError
        An unknown variable or level; a change of a variable that does not vary; values outside the model's domain.

    Notes
    -----
    With f_i the effect on row i, the estimate is sum w f / sum w, its gradient S = sum w df/db / sum w and its
    covariance S V S' with the covariance V that the results carry (regression-design chapter, "Standard errors").

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> effects = results.margins(data, "age", method="eyex")
    >>> effects.frame[["effect", "se"]].round(3).iloc[0].tolist()
    [1.99, 0.816]
    """
    level = confidence_level(level, alpha)
    wanted.check_options(method, discrete, change, contrast, comparison)
    if exponentiate and method != "eydx" and comparison not in ("lnratio", "lnor"):
        raise ValueError("exponentiate=True shows ratios for logarithms: it goes with comparison='lnratio' or 'lnor', "
                         "or method='eydx'.")
    job = _Job(results, data, over, weights, offset, exposure, interactions, factors)
    explicit = variables is not None
    variables = wanted.check_variables(job.terms, variables)
    still = [name for name in variables
             if wanted.of(change, name) is None and not wanted.is_pair(wanted.of(contrast, name))]
    if comparison != "difference" and still:                          # numbers have no ratio of derivatives
        change = {name: "unit" if name in still else wanted.of(change, name) for name in variables}
        still = []
    numbers_, quantiles = wanted.needs(job.terms, variables, discrete, change)
    job.look(at, factors_at, numbers_, quantiles, still)
    effects = wanted.plan(job.terms, variables, method, discrete, change, contrast, job.facts, job.references, explicit,
                          wanted.label_of(comparison, exponentiate))
    form = Form(level, 1.0 if comparison == "ratio" else 0.0, exponentiate,
                wanted.words_of(method, comparison, exponentiate))
    return job.result(effects, form, comparison)


def average_predictions(results, data, at="overall", over=None, weights=None, offset=None, exposure=None,
                        interactions=None, factors=None, factors_at="reference", level=0.95, alpha=None):
    """Average of E[y] over rows, or E[y] at chosen values, with delta-method errors.

    Parameters are those of `margins`. A list of values in `at` gives one row each, which `.plot()` draws along the
    variable.

    Returns
    -------
    MarginsResult
        `variable` is "E[y]".

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> results.average_predictions(data, at={"age": [30, 60]}).frame["effect"].round(3).tolist()
    [1.093, 4.625]
    """
    level = confidence_level(level, alpha)
    job = _Job(results, data, over, weights, offset, exposure, interactions, factors)
    job.look(at, factors_at, (), set(), ())
    return job.result([wanted.Effect("E[y]", "", ((wanted.MeanPrediction(), 1.0),))], Form(level))


class _Job:
    """One request: terms, data, the facts learnt, the points at which effects are evaluated."""

    def __init__(self, results, data, over, weights, offset, exposure, interactions, factors):
        self.results, self.over = results, over
        spec = getattr(results, "spec", None)
        self.references = dict(getattr(spec, "references", None) or {})
        roles = _fit_roles(results, weights, offset, exposure)
        self.has_offset = roles["offset"] is not None or roles["exposure"] is not None
        if spec is None:
            self.terms = ArrayTerms.of(results.fitted.names, interactions, factors)
            self.data = sources.of_array(data, results.fitted.names, over, **roles)
            return
        if interactions is not None or factors is not None:
            raise ValueError("interactions= and factors= describe the columns of an array; this model has a formula, "
                             "which says it already.")
        survey = results.fitted.survey.columns
        known = dict(zip(results.fitted.names, survey.deviation))
        self.terms = FrameTerms(spec, {name: float(known[name]) for name, levels in spec.variables.items()
                                       if levels is NUMBER and known.get(name, 0.0) > 0})
        self.data = sources.of_frame(data, spec, over, **roles)

    # ------------------------------------------------------------ facts and points

    def look(self, at, factors_at, numbers_, quantiles, sloped):
        """Learn what the request refers to and lay out the points."""
        if factors_at not in FACTORS_AT:
            raise ValueError(f"factors_at={factors_at!r} is not known: choose one of {', '.join(FACTORS_AT)}.")
        numeric = [name for name, levels in self.terms.variables.items() if levels is NUMBER]
        factors = [name for name, levels in self.terms.variables.items() if levels is not NUMBER]
        grid = self._grid(at, numeric)
        self.single = grid is None or (set(grid) >= set(self.terms.variables) and not self.has_offset
                                       and self.over is None)
        if grid is None and self.over is not None:
            raise ValueError(f"at={at!r} is one row for all groups: give over= with at='overall' or with values.")
        words = {name: word for name, values in (grid or {}).items() for word in values
                 if isinstance(word, str) and name in numeric}
        numbers_, quantiles = set(numbers_) | set(words), set(quantiles)
        quantiles |= {(name, 0.5) for name, word in words.items() if word == "median"}
        if grid is None:
            numbers_ |= set(numeric)
            quantiles |= {(name, 0.5) for name in numeric} if at == "median" else set()
        if self.single and isinstance(self.terms, FrameTerms):      # steps of numerical derivatives at a single row
            numbers_ |= {name for name in sloped if name in numeric and name not in self.terms.scales}
        counted = factors if grid is None and factors_at != "reference" else ()
        self.facts = learn(self.data, self.terms, sorted(numbers_), counted, quantiles,
                           self.results.fitted.frequency) if numbers_ or counted or grid is None else None
        if self.facts and isinstance(self.terms, FrameTerms):
            self.terms.scales.update({k: v for k, v in self.facts.deviation.items() if v > 0})
        if grid is None:
            self._one_row(at, factors_at, numeric, factors)
        else:
            self._points(grid)

    def _grid(self, at, numeric):
        """{variable: list of values}; None for means and medians; {} for all rows as they are."""
        if isinstance(at, str):
            if at not in ("overall", "mean", "median"):
                raise ValueError(f"at={at!r} is not known: choose 'overall', 'mean', 'median', or a dict of values.")
            return {} if at == "overall" else None
        if not isinstance(at, dict):
            raise ValueError(f"at must be 'overall', 'mean', 'median' or a dict of values, got {type(at).__name__}.")
        wanted.check_variables(self.terms, list(at))
        grid = {}
        for name, values in at.items():
            values = list(values) if isinstance(values, (list, tuple, np.ndarray, pd.Series)) else [values]
            check = self._check_number if name in numeric else self._check_level
            grid[name] = [check(name, value) for value in values]
            if not grid[name]:
                raise ValueError(f"at= gives no value for {name!r}.")
        return grid

    def _check_number(self, name, value):
        if isinstance(value, str) and value in WORDS:
            return value
        if not (isinstance(value, numbers.Real) and math.isfinite(value)):
            raise ValueError(f"at= holds {name!r}: {value!r}, which is outside the domain of a numeric variable; give "
                             f"a finite number, a list of numbers, or one of {', '.join(WORDS)}.")
        return float(value)

    def _check_level(self, name, value):
        return wanted.known_level(name, self.terms.variables[name], value, "at=")

    def _points(self, grid):
        facts = {} if self.facts is None else {"mean": self.facts.mean, "min": self.facts.low, "max": self.facts.high}
        resolved = {}
        for name, values in grid.items():
            numeric = self.terms.variables[name] is NUMBER
            resolved[name] = [value if not (numeric and isinstance(value, str)) else self.facts.quantiles[name, 0.5]
                              if value == "median" else facts[value][name] for value in values]
        self.points = [dict(zip(resolved, values)) for values in itertools.product(*resolved.values())]
        self.at_names = [name for name, values in resolved.items() if len(values) > 1]
        self.rows = self.terms.single(self.points[:1]) if self.single else None

    def _one_row(self, at, factors_at, numeric, factors):
        values = {name: self.facts.quantiles[name, 0.5] if at == "median" else float(self.facts.mean[name])
                  for name in numeric}
        self.points, self.at_names = [{}], []
        if factors_at == "proportions" and factors:
            self._mixture(values, factors)
            return
        for name in factors:
            shares = self.facts.shares.get(name, {})
            values[name] = self.references.get(name, self.terms.variables[name][0]) if factors_at == "reference" else \
                max(self.terms.variables[name], key=lambda level, s=shares: s.get(level, 0.0))
        self.rows = self.terms.single([values])

    def _mixture(self, values, factors):
        shares = [self.facts.shares[name] for name in factors]
        if math.prod(map(len, shares)) > MAX_MIXTURE:
            raise ValueError(f"factors_at='proportions' mixes {math.prod(map(len, shares)):,} combinations of levels: "
                             "use 'mode' or 'reference'.")
        combinations = list(itertools.product(*[counts.items() for counts in shares]))
        self.rows = self.terms.single([values | dict(zip(factors, (level for level, _ in each)))
                                       for each in combinations])
        self.terms = MixedTerms(self.terms, np.array([math.prod(share for _, share in each) for each in combinations]))

    # ------------------------------------------------------------ evaluation

    def result(self, effects, form, comparison="difference"):
        """Run the sweep and combine the averages into effects."""
        averages = tuple(dict.fromkeys(average for effect in effects for average, _ in effect.parts))
        plan = EffectPlan(self.terms, RawCoefficients.of(self.results.fitted.fit), averages, tuple(self.points))
        groups = self._single_row(plan) if self.single else self._sweep(plan)
        C = np.zeros((len(effects), len(averages)))
        for row, effect in enumerate(effects):
            for average, coefficient in effect.parts:
                C[row, averages.index(average)] += coefficient
        shape = (len(self.points), len(averages))
        labels, values, gradients = [], [], []
        means = {key: (value.reshape(*shape, -1) / weight, gradient.reshape(*shape, *gradient.shape[1:]) / weight)
                 for key, (weight, value, gradient) in groups.items()}
        for row, effect in enumerate(effects):
            for key, (value, gradient) in means.items():
                for number, point in enumerate(self.points):
                    labels.append(self._label(effect, key, point))
                    compared = wanted.compare(C[row], value[number], gradient[number], comparison)
                    values.append(compared[0])
                    gradients.append(compared[1])
        return self._table(labels, np.array(values), np.array(gradients), form)

    def _single_row(self, plan):
        offset = np.array([self.facts.offset if self.facts is not None and self.has_offset else 0.0])
        return {(): (1.0, *tile_sums(plan, self.rows, np.ones(1), offset, np.array([0, 1]))[0])}

    def _sweep(self, plan):
        groups = passes.run(effect_sums, self.data, plan).groups
        if not groups or not all(weight > 0 for weight, _, _ in groups.values()):
            raise ValueError("The data of these effects have no complete rows of positive weight.")
        levels = [self.terms.variables.get(name) or () for name in self.data.prepare.groups]
        return dict(sorted(groups.items(), key=lambda item: _group_order(item[0], levels)))

    def _label(self, effect, key, point):
        names = self.data.prepare.groups
        return ({"variable": effect.variable, "contrast": effect.contrast}
                | {_free(name): value for name, value in zip(names, key)}
                | {f"at_{name}": point[name] for name in self.at_names})

    def _table(self, labels, values, gradients, form):
        """One row an effect, or an effect and class."""
        labels = pd.DataFrame(labels)
        n_responses = values.shape[1]
        order = list(self.results.class_order)
        if order:
            labels = labels.loc[labels.index.repeat(n_responses)].reset_index(drop=True)
            labels.insert(2, "class", np.tile(np.asarray(self.results.classes)[order], len(values)))
            values, gradients = values[:, order], gradients[:, order]
        return MarginsResult(labels, values.ravel(), gradients.reshape(values.size, -1), self.results, form,
                             self.data.n_passes)


def _fit_roles(results, weights, offset, exposure):
    """Columns of weights, offset and exposure; by default a formula's own, its weights where they count rows."""
    of_fit = getattr(results, "columns", None)
    if of_fit is not None:
        weights = of_fit.weights if weights is None and results.fitted.frequency else weights
        offset = of_fit.offset if offset is None else offset
        exposure = of_fit.exposure if exposure is None else exposure
    return {"weights": weights, "offset": offset, "exposure": exposure}


def _free(name):
    """A group's column name that no column of the table has."""
    return f"over_{name}" if name in ("variable", "contrast", "class", "effect", "se", "statistic", "pvalue") else name


def _group_order(key, levels):
    """Sort key of a group: the order of a factor's levels, of the labels otherwise."""
    return tuple((known.index(label), False, "") if label in known else (len(known), isinstance(label, str), label)
                 for label, known in zip(key, levels))
