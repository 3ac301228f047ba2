"""Results of a formula, and predictions for tables of any kind."""

import dataclasses

import dask.dataframe as dd
import numpy as np
import pandas as pd
import xarray as xr

from daskglm_rep import sources
from daskglm_rep.formula.rows import FormulaRows, MapRows, Predict, RowResiduals
from daskglm_rep.inference import covariance
from daskglm_rep.inference.influence import residual_rows, rule_of
from daskglm_rep.kernels.block import Basis
from daskglm_rep.preparation import prepare
from daskglm_rep.readers import Foreign, Texts, open_table
from daskglm_rep.results import GLMResults
from daskglm_rep.settings import check_cov_type
from daskglm_rep.solvers.selection import refit
from daskglm_rep.sources import Columns


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
    alpha_, l1_ratio_, curve_
        As of `GLMCV`, where the penalty was chosen by alpha="cv".

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> results.spec.names, results.n_missing
    (['age', 'C(plan)[T.b]'], 0)
    >>> results.predict(data.head(2)).round(3).tolist()
    [1.058, 0.832]
    >>> results.predict(data.head(2), linear=True).round(3).tolist()
    [0.057, -0.184]
    """

    def __init__(self, fitted, cov, spec, columns, classes=None, selection=None):
        cov = cov if selection is None else dataclasses.replace(cov, note=selection.note)
        super().__init__(fitted, cov, classes, spec.response)
        if selection is not None:
            self.alpha_, self.l1_ratio_, self.curve_ = selection.alpha, selection.l1_ratio, selection.curve
        self.spec, self.columns = spec, columns
        self.n_missing = int(fitted.survey.n_missing)

    def _data(self, X, y=None, sample_weight=None, offset=None, exposure=None, clusters=None):
        """Rows of a frame as blocks under the fitted formula; columns named here replace the fit's."""
        if y is not None:
            raise ValueError("Pass the data frame alone: the formula names the response, and weights, offset, exposure "
                             "and clusters are column names.")
        table, recipe, used = self._opened(X, sample_weight, offset, exposure, clusters)
        return sources.chunks(sources.rows_of(table, used)).read_with(recipe, self.spec.names)

    def _opened(self, X, weights, offset, exposure, clusters=None):
        """A table, how its rows are read, and the columns used; those named here replace the fit's."""
        table, given = sources.beside(open_table(X), weights, offset, exposure, clusters)
        columns = Columns(*[a or b for a, b in zip(dataclasses.astuple(given), dataclasses.astuple(self.columns))])
        used = list(dict.fromkeys(self.spec.columns + list(self.spec.response_columns) + columns.names))
        sources.check_columns(used, table, self.spec.formula)
        return table, FormulaRows(self.spec, columns, None if self.classes is None else tuple(self.classes)), used

    def _map_rows(self, X, offset, exposure, function, n_outputs, columns):
        """Apply a function of design rows and offsets to the rows of a frame."""
        apply = MapRows(self.spec, self.columns, None if n_outputs is None else tuple(columns), function)
        return _map_table(open_table(X), apply, _offset_of(offset, exposure))

    def _residuals(self, name, X, y, sample_weight, offset, exposure):
        if y is not None:
            raise ValueError("Pass the data frame alone: the formula names the response.")
        table, recipe, used = self._opened(X, sample_weight, offset, exposure)
        function = RowResiduals(self.spec, recipe.columns, None, recipe, residual_rows, (rule_of(self.fitted), name))
        return _map_table(table, function, None, used)

    def refit(self, data, clusters=None, cov_type=None):
        """Fit the columns of a penalised fit that are not zero without a penalty: right on rows that did not select
        them.

        Parameters
        ----------
        data : what `glm` takes
        clusters : str or list of two str, optional
            Column names, in the place of the fit's.
        cov_type : str, optional
            As for `glm`.

        Returns
        -------
        FormulaResults
            NaN for the columns left out.
        """
        rows = self._data(data, clusters=clusters)
        cov_type = check_cov_type(cov_type, bool(clusters or self.columns.clusters), "name their column")
        used = np.nan_to_num(self.params.to_numpy()).reshape(self.model.n_equations, -1) != 0.0
        prepared = prepare(rows, self.model, self.spec.intercept, penalized=True)
        fitted, note = refit(prepared, used.any(axis=0)[int(self.spec.intercept):])
        found = covariance.compute(fitted, cov_type, prepared.data)
        note = f"{found.note}\n{note}" if found.note else note
        fitted = dataclasses.replace(fitted, n_passes=prepared.data.n_passes)
        return FormulaResults(fitted, dataclasses.replace(found, note=note), self.spec, self.columns, self.classes)

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
        order = self.class_order
        names = (self.class_labels if not linear else tuple(self.classes[1:])) if order else None
        return Predict(self.spec, self.columns, names, basis, raw, self.model, order, linear)

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
        return _map_table(open_table(data), self._predictor(linear), _offset_of(offset, exposure))

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
        if self.class_order:
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


def _map_table(table, function, offset, used=None):
    """Row-wise outputs of a table, of its kind and lazy where it is; `used` names the columns, else the predictors."""
    if isinstance(table, xr.Dataset):
        return _predict_dataset(table, function, offset, used)
    wanted = set(used or function.spec.columns)
    if used is None and offset is None:
        wanted |= {function.columns.offset, function.columns.exposure}
    if isinstance(table, (Foreign, Texts)):
        return table.like(function(table.read([c for c in table.columns if c in wanted]), offset))
    if not isinstance(table, dd.DataFrame):
        return function(table, offset)
    meta = (pd.Series(np.zeros(0)) if function.classes is None
            else pd.DataFrame({c: np.zeros(0) for c in function.classes}))
    return table[[c for c in table.columns if c in wanted]].map_partitions(function, offset, meta=meta)


def _predict_dataset(table, function, offset, used=None):
    """Prediction over a Dataset's dimensions, block by block where it is chunked."""
    named = used or function.spec.columns + [function.columns.offset, function.columns.exposure]
    columns = [c for c in named if c is not None]
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
    template = xr.zeros_like(blank.broadcast_like(chosen), dtype=float).transpose(*dims).chunk(chunks)
    coords = {k: v for k, v in chosen.coords.items() if set(v.dims) <= set(shape)}
    template = template.rename(function.__name__).assign_coords(coords)
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
        return xr.DataArray(out.reshape(shape), coords, dims, function.__name__)
    coords["class"] = list(function.classes)
    return xr.DataArray(out.reshape(shape + (-1,)), coords, dims + ["class"], function.__name__)
