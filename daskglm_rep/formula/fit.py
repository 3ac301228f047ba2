"""`glm`, `lm`, `logit` and `mnlogit`: formula and frame to results."""

import dataclasses
from functools import partial

import numpy as np

from daskglm_rep import design, families, passes, progress, sources
from daskglm_rep.formula.assembly import check_text, learn_spec, parse
from daskglm_rep.formula.results import FormulaResults
from daskglm_rep.formula.rows import FormulaRows, KeptRows, keep
from daskglm_rep.inference import covariance
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.solvers.one_look import prepare
from daskglm_rep.readers import open_table
from daskglm_rep.settings import check_alpha, check_choice, check_cov_type, check_fit, check_seed
from daskglm_rep.solvers.exact import is_first_order, penalizes, solve
from daskglm_rep.solvers.path import Settings
from daskglm_rep.solvers.selection import RULES, select
from daskglm_rep.solvers.splits import check_splitter

PENALTY = ("alpha", "l1_ratio", "standardize", "penalty_factor")
SOLVER = ("solver", "weights_kind", "tol", "max_iter", "verbose")
KEEP_BYTES = 2 ** 30          # a design of rows in memory is kept between sweeps up to this size, rebuilt above


def glm(formula, data, family="gaussian", link=None, weights=None, offset=None, exposure=None, clusters=None,
        cov_type=None, na="drop", alpha=0.0, l1_ratio=0.0, standardize=False, penalty_factor=None, weights_kind="prior",
        tol=1e-6, max_iter=100, random_state=0, rank="warn", context=None, verbose=0, penalty=None, solver="auto",
        allow="code", cv=None, rule="min"):
    """Fit a generalized linear model given as a formula.

    Parameters
    ----------
    formula : str
        Wilkinson notation as formulaic reads it, such as "y ~ x1 * C(region) + I(x1 ** 2) + bs(z, df=5)". Text and
        categorical columns are factors. Levels and the state of center, scale, standardize, poly, bs, cr and cc are
        learnt over all rows, in one further sweep where the formula has some.
    data : pandas, polars or dask DataFrame, polars LazyFrame, pyarrow Table, duckdb relation, xarray Dataset, or path
        A path names Parquet or CSV file(s): a file, a folder or a glob pattern. Only the columns used are read; of what
        a LazyFrame or a relation asks for, once, into memory. A Dataset's dimensions are unrolled into rows. Lazy rows
        are read in every sweep and must be the same each time: another number of rows is refused, other values are not
        seen.
    family, link : str or object
        As for `GLMRegressor`. A text, boolean or categorical response of two levels is coded 1 for the second level in
        the binomial family.
    weights, offset, exposure : str, or (n,) Series or array, optional
        Column names, or what has a value for each row of data (of the same kind where data is lazy).
    clusters : str or list of two str, or (n,) or (n, 2) Series, frame or array, optional
        Likewise; cov_type is then "cluster" unless given.
    cov_type : str, optional
        "nonrobust", "HC0" to "HC4", "HC4m", "cluster", "CR2" or "CR3".
    na : {"drop", "raise"}
        What to do about rows with a missing value in any column used; dropped rows are counted in `n_missing`. Infinite
        values always raise.
    alpha, l1_ratio, standardize, penalty_factor, weights_kind, tol, max_iter, random_state, rank, verbose, solver
        As for `GLMRegressor`.
        alpha="cv" chooses it by cross-validation, of several l1_ratios the best with it; the results then have
        `alpha_`, `l1_ratio_`, `curve_` and `refit(data)`, and no standard errors.
    cv, rule
        As for `GLMCV`, where alpha="cv".
    penalty : object, optional
        As for `GLMRegressor`; the groups of `penalties.GroupLasso()` are the terms, so that a factor enters or leaves
        whole.
    context : dict, optional
        Functions that the formula uses beside numpy's (np) and formulaic's; they must be picklable.
    allow : {"code", "terms"}
        Formulas are Python: I(...), {...} and calls run what they say, as in patsy and statsmodels. "terms" is for
        formulas of people you do not trust: columns, operators and known functions (C, poly, bs, log, ...), and all
        else is refused before anything is evaluated.

    Returns
    -------
    FormulaResults

    Raises
    ------
    ValueError
        Bad formulas, columns, values or parameters, each in one sentence.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson", cov_type="HC1")
    >>> print(results.summary_frame().round(3).iloc[:, :4].to_string())
                   coef  std err      z  pvalue
    feature
    Intercept    -1.386    0.959 -1.446   0.148
    age           0.048    0.016  3.065   0.002
    C(plan)[T.b]  0.063    0.314  0.200   0.841
    >>> results.predict(data.head(2)).round(3).tolist()
    [1.058, 0.832]
    """
    model = GLM.of(family, link)
    options = dict(alpha=alpha, l1_ratio=l1_ratio, penalty=penalty, solver=solver, standardize=standardize,
                   penalty_factor=penalty_factor, weights_kind=weights_kind, tol=tol, max_iter=max_iter, rank=rank,
                   verbose=verbose, cv=cv, rule=rule)
    columns = (weights, offset, exposure, clusters)
    with progress.shown(verbose):
        return _fit(formula, data, model, columns, cov_type, na, random_state, context, None, options, allow)


def lm(formula, data, **options):
    """Fit a linear model by least squares: `glm` with the gaussian family.

    Parameters
    ----------
    formula, data
        As for `glm`.
    **options
        Keywords of `glm` but family.

    Returns
    -------
    FormulaResults

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import lm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = lm("visits ~ age", data)
    >>> round(results.rsquared, 4)
    0.7603
    """
    return glm(formula, data, "gaussian", **options)


def logit(formula, data, **options):
    """Fit a logistic regression: `glm` with the binomial family and the logit link.

    Parameters
    ----------
    formula, data
        As for `glm`.
    **options
        Keywords of `glm` but family and link.

    Returns
    -------
    FormulaResults

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import logit
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = logit("plan ~ age", data)
    >>> results.predict_proba(data.head(2)).round(3).to_dict("list")
    {'a': [0.534, 0.549], 'b': [0.466, 0.451]}
    """
    return glm(formula, data, "binomial", "logit", **options)


def mnlogit(formula, data, baseline=None, weights=None, offset=None, clusters=None, cov_type=None, na="drop", alpha=0.0,
            l1_ratio=0.0, standardize=False, penalty_factor=None, weights_kind="prior", tol=1e-6, max_iter=100,
            random_state=0, rank="warn", context=None, verbose=0, penalty=None, solver="auto", allow="code"):
    """Fit a multinomial logistic regression.

    Parameters
    ----------
    formula : str
        The left-hand side is a column of labels: text, numbers, booleans or categories.
    baseline : label, optional
        The class whose coefficients are zero; default the first in sorted order (in the declared order of a categorical
        response).
    data, weights, offset, clusters, cov_type, na, alpha, l1_ratio, standardize, penalty_factor, weights_kind, tol,
    max_iter, random_state, rank, context, verbose, penalty, solver, allow
        As for `glm`. A penalty is of the symmetric coefficients of all classes.

    Returns
    -------
    FormulaResults
        `params` and its companions are indexed by (class, feature), the baseline left out.

    Raises
    ------
    ValueError
        As `glm`; a baseline that is no class; fewer than two classes.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import mnlogit
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> data["town"] = ["x", "y", "z", "x", "z", "y", "y", "x"]
    >>> results = mnlogit("town ~ age", data, baseline="y")
    >>> results.params.round(3).to_dict()
    {('x', 'Intercept'): 0.235, ('x', 'age'): -0.006, ('z', 'Intercept'): -4.849, ('z', 'age'): 0.099}
    """
    options = dict(alpha=alpha, l1_ratio=l1_ratio, penalty=penalty, solver=solver, standardize=standardize,
                   penalty_factor=penalty_factor, weights_kind=weights_kind, tol=tol, max_iter=max_iter, rank=rank,
                   verbose=verbose)
    columns = (weights, offset, None, clusters)
    with progress.shown(verbose):
        return _fit(formula, data, Multinomial, columns, cov_type, na, random_state, context, baseline, options, allow)


def _fit(formula, data, model, columns, cov_type, na, random_state, context, baseline, options, allow):
    """1. Learn the formula. 2. Prepare. 3. Solve. 4. Covariance."""
    cov_type = check_cov_type(cov_type, columns[-1] is not None, "name their column, clusters='firm'")
    _check_options(cov_type, na, options)
    check_seed(random_state)
    context = dict(context or {})
    check_text(formula)
    table, columns = sources.beside(open_table(data), *columns)
    parsed = parse(formula, sources.columns_of(table), context, allow)
    sources.check_columns(columns.names, table, formula)
    used = list(dict.fromkeys(parsed.rhs_columns + parsed.response_columns + columns.names))
    frame = sources.rows_of(table, used)
    rows = sources.chunks(frame)
    spec, learnt = learn_spec(parsed, rows, sources.example(frame), columns.names, context)
    if learnt is not None and learnt.missing and na == "raise":
        raise ValueError(_missing_text(learnt.missing, learnt.n_rows))
    wants_labels = model is Multinomial or (
        spec.response_levels is not None and isinstance(model.family, families.Binomial))
    rows, n_missing = _readable(rows, spec, columns, wants_labels)
    def verify(found):
        _check_learnt(learnt, sum(found.lengths) + found.n_missing)
        if na == "raise" and found.n_missing:
            raise ValueError(_missing_text({}, sum(found.lengths) + found.n_missing, found.n_missing))

    prepared = prepare(rows, model, spec.intercept, seed=random_state, n_missing=n_missing, verify=verify,
                       choose=partial(_choose, spec, model, baseline) if wants_labels else None,
                       penalized=penalizes(*(options[name] for name in ("alpha", "l1_ratio", "penalty", "solver"))),
                       rank=options["rank"])
    fitted, selection = _solve(prepared, spec, options)
    cov = covariance.compute(fitted, cov_type, prepared.data)
    fitted = dataclasses.replace(fitted, n_passes=prepared.data.n_passes)
    return FormulaResults(fitted, cov, spec, columns, prepared.classes, selection)


def _solve(prepared, spec, options):
    """`Fitted`, and the `Selection` of its penalty where alpha="cv"."""
    how = {name: options[name] for name in SOLVER}
    if options["alpha"] != "cv":
        penalty = prepared.elastic_net(*(options[name] for name in PENALTY), kind=options["penalty"],
                                       terms=spec.term_slices.values(), diagonal=is_first_order(options["solver"]))
        return solve(prepared, penalty, **how), None
    check_alpha(prepared.model, 'alpha="cv"')
    splitter = check_splitter(options["cv"], prepared.classes is not None)
    if splitter == "chunks" and prepared.data.collections is None:
        raise ValueError("cv='chunks' holds out the partitions of a lazy frame, and data are in memory: pass a number "
                         "of folds.")
    settings = Settings(tuple(np.atleast_1d(options["l1_ratio"]).tolist()), standardize=options["standardize"],
                        penalty_factor=options["penalty_factor"], max_iter=options["max_iter"])
    selection = select(prepared, splitter, settings, options["rule"])
    return selection.fit(prepared, settings, **how), selection


def _check_options(cov_type, na, options):
    if na not in ("drop", "raise"):
        raise ValueError(f"na={na!r} is not known: choose 'drop' or 'raise'.")
    if options["alpha"] != "cv":
        return check_fit(options, cov_type)
    check_choice("rule", options["rule"], RULES)
    if options["penalty"] is not None:
        raise ValueError('alpha="cv" chooses the strength of an elastic net: leave the penalty out, or give an alpha.')
    for ratio in np.atleast_1d(options["l1_ratio"]).tolist() or [None]:
        check_fit(options | {"alpha": 1.0, "l1_ratio": ratio}, cov_type)


def _check_learnt(learnt, n_rows):
    """Refuse levels and states that were learnt on other rows than the survey's."""
    if learnt is not None and learnt.n_rows != n_rows:
        raise ValueError(f"data had {int(learnt.n_rows)} rows in the sweep that learnt the formula's levels and "
                         f"transforms and has {int(n_rows)} in the next one: they change while they are fitted. "
                         "Persist them (.persist()), or stop what writes to their files, and fit again.")


def _missing_text(missing, n_rows, n_missing=None):
    if not missing:
        return (f"{int(n_missing)} of {int(n_rows)} rows have missing values (or a term is NaN there, such as "
                "log(-1)), and na='raise': fill them, or use na='drop'.")
    worst = ", ".join(f"{name!r} ({int(n)})" for name, n in sorted(missing.items(), key=lambda item: -item[1])[:5])
    return f"Values are missing in {worst} of {int(n_rows)} rows, and na='raise': fill them, or use na='drop'."


def _readable(rows, spec, columns, raw_labels):
    """The rows under the formula: designs in memory are built once and kept, lazy ones built in every sweep.

    Returns
    -------
    Data, n_missing
        The count of rows that were left out while building; 0 where the survey will count them.
    """
    built = rows.read_with(FormulaRows(spec, columns, raw_labels=raw_labels), spec.names)
    width = 3 if spec.sparse else 1
    size = sum(len(part[0]) for part in rows.chunks) if rows.collections is None else np.inf
    share = len(spec.products) * width if spec.sparse else len(spec.names)
    if size * max(share, 1) * 8 > KEEP_BYTES:
        return built, 0.0
    kept = passes.run(keep, built)
    if kept.n_missing and not any(len(part[1]) for part in kept.parts):
        raise ValueError(f"No row of data is complete: all {int(kept.n_missing)} rows have a missing value in some "
                         "column of the formula.")
    data = design.Data(list(kept.parts), KeptRows.of(spec, columns, raw_labels), spec.names)
    data.n_passes = built.n_passes
    return data, kept.n_missing


def _choose(spec, model, baseline, weights, response):
    """Labels in the model's order, baseline first, and the model, as `preparation.prepare` asks."""
    present = {label for label, weight in weights.items() if weight > 0}
    declared = spec.response_levels
    ordered = [c for c in declared if c in present] if declared else sorted(present)
    if len(ordered) < 2:
        raise ValueError(f"{spec.response} has only one class, {ordered[0]!r}: at least 2 classes with positive weight "
                         "are needed.")
    if model is not Multinomial and len(ordered) > 2:
        raise ValueError(f"{spec.response} has {len(ordered)} levels, and the binomial family takes two: use mnlogit.")
    if baseline is not None:
        if baseline not in ordered:
            raise ValueError(f"baseline={baseline!r} is none of the classes {ordered[:10]}.")
        ordered = [baseline] + [c for c in ordered if c != baseline]
    return ordered, Multinomial(len(ordered)) if model is Multinomial else model
