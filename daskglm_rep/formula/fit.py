"""`glm`, `lm`, `logit` and `mnlogit`: formula and frame to results."""

import dataclasses

import dask.dataframe as dd
import numpy as np
import pandas as pd
import xarray as xr

from daskglm_rep import design, families, passes
from daskglm_rep.formula import sources
from daskglm_rep.formula.rows import Columns, FormulaRows, KeptRows, MapRows, Predict, keep
from daskglm_rep.formula.spec import learn_spec, parse
from daskglm_rep.inference import covariance
from daskglm_rep.kernels.block import Basis
from daskglm_rep.labels import encode_classes
from daskglm_rep.multinomial import Multinomial
from daskglm_rep.results import GLMResults
from daskglm_rep.settings import check_fit
from daskglm_rep.solvers.three_sweeps import solve_model, take_survey

KEEP_BYTES = 2 ** 30          # a design of rows in memory is kept between sweeps up to this size, rebuilt above


class FormulaResults(GLMResults):
    """Results of a formula, which know how to read new frames.

    Attributes
    ----------
    spec : FormulaSpec
    columns : Columns
        Weights, offset, exposure and clusters by name.
    n_missing : int
        Rows left out because a value was missing.
    classes : array or None
        Class labels, baseline first.
    """

    def __init__(self, fitted, cov, spec, columns, classes=None):
        super().__init__(fitted, cov, classes, spec.response)
        self.spec, self.columns = spec, columns
        self.n_missing = int(fitted.survey.n_missing)

    def _data(self, X, y=None, sample_weight=None, offset=None, exposure=None, clusters=None):
        """Rows of a frame as blocks under the fitted formula; columns named here replace the fit's."""
        if y is not None:
            raise ValueError("Pass the data frame alone: the formula names the response, and weights, offset, exposure "
                             "and clusters are column names.")
        given = _columns(sample_weight, offset, exposure, clusters)
        columns = Columns(*[a or b for a, b in zip(dataclasses.astuple(given), dataclasses.astuple(self.columns))])
        table = sources.open_table(X)
        used = list(dict.fromkeys(self.spec.columns + list(self.spec.response_columns) + columns.names))
        _check_columns(used, table, self.spec.formula)
        recipe = FormulaRows(self.spec, columns, None if self.classes is None else tuple(self.classes))
        return sources.read_with(sources.chunks(sources.rows_of(table, used)), recipe, self.spec.names)

    def _map_rows(self, X, offset, exposure, function, n_outputs, columns):
        """Apply a function of design rows and offsets to the rows of a frame."""
        apply = MapRows(self.spec, self.columns, None if n_outputs is None else tuple(columns), function)
        return _map_table(sources.open_table(X), apply, _offset_of(offset, exposure))

    def score_test(self, *arguments, **options):
        """Not for formulas: fit the larger formula and use `lr_test` or `wald_test`."""
        raise ValueError("score_test takes arrays; with a formula fit the larger model and use its wald_test or "
                         "lr_test.")

    @property
    def n_passes_(self):
        """Sweeps over the data, the one that learnt the formula's levels and transforms included."""
        return self.fitted.n_passes

    # ------------------------------------------------------------ prediction

    @property
    def class_labels(self):
        """Class labels in sorted (or declared) order; None without classes."""
        if self.classes is None:
            return None
        declared = self.spec.response_levels
        return tuple(c for c in declared if c in set(self.classes)) if declared else tuple(sorted(self.classes))

    def _predictor(self, linear=False):
        raw = np.nan_to_num(self.params.to_numpy())
        p = len(self.spec.names)
        basis = Basis(np.arange(p), np.zeros(p), np.ones(p), self.spec.intercept)
        multinomial = isinstance(self.model, Multinomial)
        labels = self.class_labels or ()
        order = tuple(list(self.classes).index(c) for c in labels) if multinomial else ()
        names = (labels if not linear else tuple(self.classes[1:])) if multinomial else None
        return Predict(self.spec, self.columns, names, basis, raw, None if multinomial else self.model.link, order,
                       linear)

    def predict(self, data, offset=None, exposure=None, linear=False):
        """Means of new rows, or probabilities of all classes; lazy for lazy frames, of the frame's kind.

        Parameters
        ----------
        data : what `glm` takes
            With the columns of the right-hand side; the fit's offset and exposure columns too, unless given here.
        offset, exposure : number, or (n,) column of the frame's kind, optional
            Replace the fit's columns.
        linear : bool
            Linear predictors instead of means.

        Returns
        -------
        Series (index and divisions kept), DataArray (coordinates kept), or a frame with a column per class
            NaN where a value is missing.

        Raises
        ------
        ValueError
            Missing columns; levels that the fit has not seen.
        """
        return _map_table(sources.open_table(data), self._predictor(linear), _offset_of(offset, exposure))

    def predict_proba(self, data, offset=None, exposure=None):
        """Probabilities of all classes, a frame with a column per class (Dataset: a "class" dimension).

        Parameters
        ----------
        data, offset, exposure
            As for `predict`.

        Raises
        ------
        ValueError
            The model has no classes.
        """
        if isinstance(self.model, Multinomial):
            return self.predict(data, offset, exposure)
        if self.classes is None:
            raise ValueError(f"{self.response} was numeric, so there are no classes: use predict for means.")
        mean = self.predict(data, offset, exposure)
        if isinstance(mean, xr.DataArray):
            return xr.concat([1 - mean, mean], pd.Index(list(self.classes), name="class")).transpose(..., "class")
        both = dd.concat if isinstance(mean, dd.Series) else pd.concat
        return both([(1 - mean).rename(self.classes[0]), mean.rename(self.classes[1])], axis=1)


def _offset_of(offset, exposure):
    return offset if exposure is None else (0.0 if offset is None else offset) + np.log(exposure)


def _map_table(table, function, offset):
    """Row-wise outputs of a table, of its kind and lazy where it is."""
    if isinstance(table, xr.Dataset):
        return _predict_dataset(table, function, offset)
    if not isinstance(table, dd.DataFrame):
        return function(table, offset)
    wanted = set(function.spec.columns)
    if offset is None:
        wanted |= {function.columns.offset, function.columns.exposure}
    meta = (pd.Series(np.zeros(0)) if function.classes is None
            else pd.DataFrame({c: np.zeros(0) for c in function.classes}))
    return table[[c for c in table.columns if c in wanted]].map_partitions(function, offset, meta=meta)


def _predict_dataset(table, function, offset):
    """Prediction over a Dataset's dimensions, block by block where it is chunked."""
    columns = [c for c in function.spec.columns + [function.columns.offset, function.columns.exposure] if c is not None]
    lost = [c for c in function.spec.columns if c not in table.variables]
    if lost:
        raise ValueError(f"data lacks the column {lost[0]!r}, which the formula {function.spec.formula!r} uses.")
    names = [c for c in columns if c in table.variables and c not in table.dims]
    chosen = table[names] if names else table
    if offset is not None:
        chosen = chosen.assign(__offset=offset)
        function = function.with_columns(Columns(offset="__offset"))
    if not sources.is_lazy_dataset(chosen):
        return _predict_block(chosen, function)
    chosen = chosen.unify_chunks()
    dims = list(chosen.sizes)
    shape = {d: chosen.sizes[d] for d in dims}
    chunks = {d: chosen.chunks[d] for d in dims if d in chosen.chunks}
    blank = next(iter(chosen.data_vars.values()))
    template = xr.zeros_like(blank.broadcast_like(chosen), dtype=float).transpose(*dims).chunk(chunks).rename(None)
    template = template.assign_coords({k: v for k, v in chosen.coords.items() if set(v.dims) <= set(shape)})
    if function.classes is not None:
        template = template.expand_dims({"class": list(function.classes)}, axis=-1)
    template.attrs = {}
    return xr.map_blocks(_predict_block, chosen, [function], template=template)


def _predict_block(block, function):
    dims = list(block.sizes)
    frame = block.reset_coords().to_dataframe(dim_order=dims).reset_index()
    out = function.values(frame)
    shape = tuple(block.sizes[d] for d in dims)
    coords = {k: v for k, v in block.coords.items()}
    if out.ndim == 1:
        return xr.DataArray(out.reshape(shape), coords, dims)
    return xr.DataArray(out.reshape(shape + (-1,)), coords | {"class": list(function.classes)}, dims + ["class"])


# ---------------------------------------------------------------- fitting


def glm(formula, data, family="gaussian", link=None, weights=None, offset=None, exposure=None, clusters=None,
        cov_type=None, na="drop", alpha=0.0, l1_ratio=0.0, standardize=False, penalty_factor=None, weights_kind="prior",
        tol=1e-6, max_iter=100, random_state=0, rank="warn", context=None, verbose=0):
    """Fit a generalized linear model given as a formula.

    Parameters
    ----------
    formula : str
        Wilkinson notation as formulaic reads it, such as "y ~ x1 * C(region) + I(x1 ** 2) + bs(z, df=5)". Text and
        categorical columns are factors. Levels and the state of center, scale, standardize, poly, bs, cr and cc are
        learnt over all rows, in one further sweep where the formula has some.
    data : pandas or dask DataFrame, xarray Dataset, or path
        A path names Parquet file(s): a file, a folder or a glob pattern. Only the columns used are read. A Dataset's
        dimensions are unrolled into rows.
    family, link : str or object
        As for `GLMRegressor`. A text, boolean or categorical response of two levels is coded 1 for the second level in
        the binomial family.
    weights, offset, exposure : str, optional
        Column names.
    clusters : str or list of two str, optional
        Column names; cov_type is then "cluster" unless given.
    cov_type : str, optional
        "nonrobust", "HC0", "HC1", "HC2", "HC3" or "cluster".
    na : {"drop", "raise"}
        What to do about rows with a missing value in any column used; dropped rows are counted in `n_missing`. Infinite
        values always raise.
    alpha, l1_ratio, standardize, penalty_factor, weights_kind, tol, max_iter, random_state, rank, verbose
        As for `GLMRegressor`.
    context : dict, optional
        Functions that the formula uses beside numpy's (np) and formulaic's; they must be picklable.

    Returns
    -------
    FormulaResults

    Raises
    ------
    ValueError
        Bad formulas, columns, values or parameters, each in one sentence.
    """
    model = families.GLM.of(family, link)
    options = dict(alpha=alpha, l1_ratio=l1_ratio, standardize=standardize, penalty_factor=penalty_factor,
                   weights_kind=weights_kind, tol=tol, max_iter=max_iter, rank=rank, verbose=verbose)
    columns = _columns(weights, offset, exposure, clusters)
    return _fit(formula, data, model, columns, cov_type, na, random_state, context, None, options)


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
    """
    return glm(formula, data, "binomial", "logit", **options)


def mnlogit(formula, data, baseline=None, weights=None, offset=None, clusters=None, cov_type=None, na="drop", alpha=0.0,
            standardize=False, penalty_factor=None, weights_kind="prior", tol=1e-6, max_iter=100, random_state=0,
            rank="warn", context=None, verbose=0):
    """Fit a multinomial logistic regression.

    Parameters
    ----------
    formula : str
        The left-hand side is a column of labels: text, numbers, booleans or categories.
    baseline : label, optional
        The class whose coefficients are zero; default the first in sorted order (in the declared order of a categorical
        response).
    data, weights, offset, clusters, cov_type, na, alpha, standardize, penalty_factor, weights_kind, tol, max_iter,
    random_state, rank, context, verbose
        As for `glm`.

    Returns
    -------
    FormulaResults
        `params` and its companions are indexed by (class, feature), the baseline left out.

    Raises
    ------
    ValueError
        As `glm`; a baseline that is no class; fewer than two classes.
    """
    options = dict(alpha=alpha, l1_ratio=0.0, standardize=standardize, penalty_factor=penalty_factor,
                   weights_kind=weights_kind, tol=tol, max_iter=max_iter, rank=rank, verbose=verbose)
    columns = _columns(weights, offset, None, clusters)
    return _fit(formula, data, Multinomial, columns, cov_type, na, random_state, context, baseline, options)


def _columns(weights, offset, exposure, clusters):
    names = {"weights": weights, "offset": offset, "exposure": exposure}
    for role, name in names.items():
        if name is not None and not isinstance(name, str):
            raise ValueError(f"{role} must be the name of a column of data, got a {type(name).__name__}.")
    clusters = () if clusters is None else (clusters,) if isinstance(clusters, str) else tuple(clusters)
    if len(clusters) > 2 or not all(isinstance(c, str) for c in clusters):
        raise ValueError("clusters must name one column of data, or two for two-way clustering, got "
                         f"{list(clusters)!r}.")
    return Columns(weights, offset, exposure, clusters)


def _check_columns(names, table, formula):
    known = set(sources.columns_of(table))
    for name in names:
        if name not in known:
            raise ValueError(f"data has no column {name!r}, which the call for {formula!r} names; its columns are "
                             f"{', '.join(map(repr, sorted(known)[:12]))}.")


def _fit(formula, data, model, columns, cov_type, na, random_state, context, baseline, options):
    """1. Learn the formula. 2. Survey. 3. Solve. 4. Covariance."""
    cov_type = cov_type or ("cluster" if columns.clusters else "nonrobust")
    _check_options(cov_type, columns, na, options)
    context = dict(context or {})
    table = sources.open_table(data)
    parsed = parse(formula, sources.columns_of(table), context)
    _check_columns(columns.names, table, formula)
    used = list(dict.fromkeys(parsed.rhs_columns + parsed.response_columns + columns.names))
    frame = sources.rows_of(table, used)
    rows = sources.chunks(frame)
    spec, learnt = learn_spec(parsed, rows, sources.example(frame), columns.names, context)
    if learnt is not None and learnt.missing and na == "raise":
        raise ValueError(_missing_text(learnt.missing, learnt.n_rows))
    wants_labels = model is Multinomial or (spec.response_levels is not None and _is_binomial(model))
    rows, n_missing = _readable(rows, spec, columns, wants_labels)
    found = take_survey(rows, None if wants_labels else model.family, random_state or 0, classify=wants_labels)
    found = dataclasses.replace(found, n_missing=found.n_missing + n_missing)
    if na == "raise" and found.n_missing:
        raise ValueError(_missing_text({}, sum(found.lengths) + found.n_missing, found.n_missing))
    classes = None
    if wants_labels:
        rows, found, model, classes = _code_labels(rows, found, spec, model, baseline)
    fitted = solve_model(rows, found, model, spec.intercept, **options)
    cov = covariance.compute(fitted, cov_type, rows)
    fitted = dataclasses.replace(fitted, n_passes=rows.n_passes)
    return FormulaResults(fitted, cov, spec, columns, classes)


def _check_options(cov_type, columns, na, options):
    if na not in ("drop", "raise"):
        raise ValueError(f"na={na!r} is not known: choose 'drop' or 'raise'.")
    if cov_type == "cluster" and not columns.clusters:
        raise ValueError("cov_type='cluster' needs cluster labels: name their column, clusters='firm'.")
    check_fit(options, cov_type)


def _missing_text(missing, n_rows, n_missing=None):
    if not missing:
        return (f"{int(n_missing)} of {int(n_rows)} rows have missing values (or a term is NaN there, such as "
                "log(-1)), and na='raise': fill them, or use na='drop'.")
    worst = ", ".join(f"{name!r} ({int(n)})" for name, n in sorted(missing.items(), key=lambda item: -item[1])[:5])
    return f"Values are missing in {worst} of {int(n_rows)} rows, and na='raise': fill them, or use na='drop'."


def _is_binomial(model):
    return isinstance(model.family, families.Binomial)


def _readable(rows, spec, columns, raw_labels):
    """The rows under the formula: designs in memory are built once and kept, lazy ones built in every sweep.

    Returns
    -------
    Data, n_missing
        The count of rows that were left out while building; 0 where the survey will count them.
    """
    built = sources.read_with(rows, FormulaRows(spec, columns, raw_labels=raw_labels), spec.names)
    width = 3 if spec.sparse else 1
    size = sum(len(part[0]) for part in rows.parts) if rows.collections is None else np.inf
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


def _code_labels(rows, found, spec, model, baseline):
    """Labels to codes, baseline 0; returns rows, survey, model and the labels in that order."""
    present = {label for label, weight in found.labels.items() if weight > 0}
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
    labels = tuple(ordered)
    rows, found = encode_classes(rows, found, labels)
    return rows, found, Multinomial(len(labels)) if model is Multinomial else model, np.asarray(labels)
