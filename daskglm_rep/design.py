"""From what a user passes (numpy, pandas, dask, xarray) to aligned blocks of numbers.

`Data` holds references to chunks and a small picklable recipe (`prepare`) that turns one chunk into a validated
`Block` inside the task that uses it; nothing here reads rows ahead of a pass.
"""

import dataclasses
import sys

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import xarray as xr
from dask.core import flatten
from scipy import sparse

from daskglm_rep import passes
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.survey import codes_of

MIN_ROWS, N_EAGER = 16_384, 16          # rows in memory are cut in about 16 blocks, none below 16,384 rows
SMALL_ROWS, MANY_PARTS = 2048, 64          # more chunks than this, smaller on average than this, are joined
FEW_LABELS = 16          # up to this many numeric labels are found by comparing, in 1 ns a row
ROLES = ("X", "y", "sample_weight", "offset", "exposure")


class Data:
    """Aligned chunks and how to read them.

    Attributes
    ----------
    parts : list of tuples
        Per chunk the values (in memory) or graph keys (lazy) that `prepare(part, index)` turns into a Block.
    collections : list of dask collections or None
        Whose graphs the keys live in; None when the parts are values.
    prepare : callable
    names : list of str
        Feature names.
    n_passes : int
        Sweeps so far.
    """

    def __init__(self, parts, prepare, names, collections=None):
        self.parts, self.prepare, self.names, self.collections = parts, prepare, list(names), collections
        self.n_passes = 0
        self.placed = None

    @property
    def n_blocks(self):
        return len(self.parts)

    def with_prepare(self, **changes):
        """The same chunks read with some fields of the recipe changed; sweeps are counted on."""
        new = Data(self.parts, self.prepare.with_fields(**changes), self.names, self.collections)
        new.n_passes, new.placed = self.n_passes, self.placed
        return new

    def with_names(self, names):
        """The same data under other feature names."""
        new = self.with_prepare(names=tuple(names))
        new.names = list(names)
        return new

    def coalesced(self):
        """The same rows in memory with runs of small neighbouring chunks joined: a sweep costs 0.1 ms a block.

        For fits that do not care where a block ends. Lazy chunks, and frames, stay as they are.
        """
        if self.collections is not None or len(self.parts) <= MANY_PARTS or not all(
                isinstance(v, np.ndarray) for part in self.parts for v in part if v is not None):
            return self
        sizes = [part[0].shape[0] for part in self.parts]
        if sum(sizes) / len(sizes) >= SMALL_ROWS:
            return self
        runs, rows = [[]], 0
        for part, size in zip(self.parts, sizes):
            if rows >= MIN_ROWS:
                runs.append([])
                rows = 0
            runs[-1].append(part)
            rows += size
        parts = [tuple(None if column[0] is None else np.concatenate(column) for column in zip(*run)) for run in runs]
        return Data(parts, self.prepare, self.names)

    def place(self, client):
        """Bundle chunks that lie on the cluster's workers already; say whether they do."""
        if self.placed is None:
            futures = {f.key: f for f in sys.modules["distributed"].futures_of(self.collections)}
            keys = [key for part in self.parts for key in part if key is not None]
            self.placed = passes.place(client, self.parts, futures) if all(k in futures for k in keys) else []
        return bool(self.placed)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Recipe: a part (X, y, sample_weight, offset, exposure, *extra) to a Block.

    Attributes
    ----------
    names : tuple of str
        Feature names, for messages.
    response : str
        Name of y, for messages.
    labels : tuple or None
        Sorted class labels: y becomes their codes. None leaves y numeric.
    raw_labels : bool
        Leave y as it came (the survey looks for labels).
    extra : tuple of str
        Names of the extra values.
    """

    names: tuple
    response: str = "y"
    labels: tuple = None
    raw_labels: bool = False
    extra: tuple = ()

    def with_fields(self, **changes):
        return dataclasses.replace(self, **changes)

    def __call__(self, part, index):
        X, y, weight, offset, exposure, *extra = part
        X = features(X, self.names, index)
        n = X.shape[0]
        y = np.zeros(n) if y is None else self._response(y, n, index)
        weight = _column(weight, "sample_weight", n, index, 1.0)
        offset = _column(offset, "offset", n, index, 0.0)
        if exposure is not None:
            exposure = _column(exposure, "exposure", n, index, 1.0)
            if not (exposure > 0).all():
                raise ValueError(f"exposure must be > 0: {int((~(exposure > 0)).sum())} of {n} rows of block {index} "
                                 "are not; drop them or correct them.")
            offset = offset + np.log(exposure)
        values = {name: _extra(value, name, n, index) for name, value in zip(self.extra, extra)}
        return Block(X, y, weight, offset, index, values)

    def _response(self, y, n, index):
        y = values(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if len(y) != n:
            raise ValueError(f"X and {self.response} differ in length at block {index}: {n} and {len(y)} rows; chunk them "
                             "alike.")
        if self.raw_labels:
            return y
        if self.labels is not None:
            return encode(y, self.labels)
        return _numeric(y, self.response, index)


def values(a):
    """The array inside a pandas or xarray object, as it is."""
    if isinstance(a, (pd.Series, pd.DataFrame, pd.Index)):
        return a.to_numpy()
    return a.to_numpy() if isinstance(a, xr.DataArray) else np.asarray(a)


def _numeric(a, name, index):
    if a.dtype == np.float64:
        return a
    if a.dtype.kind in "biuf":
        return a.astype(np.float64)
    try:
        return a.astype(np.float64)
    except (TypeError, ValueError):
        example = next((v for v in a.ravel() if not isinstance(v, (int, float))), a.ravel()[0])
        raise ValueError(f"{name} must be numeric, but block {index} holds {str(example)!r}; encode it first, or name it in a "
                         "formula (daskglm_rep.glm).") from None


def _column(a, name, n, index, default):
    if a is None:
        return np.broadcast_to(np.float64(default), (n,))
    a = _numeric(values(a), name, index)
    if a.ndim == 0:
        return np.broadcast_to(a, (n,))
    if a.ndim == 2 and a.shape[1] == 1:
        a = a[:, 0]
    if a.shape != (n,):
        raise ValueError(f"{name} has shape {a.shape} at block {index} where X has {n} rows; give one value a row, "
                         "chunked like X.")
    bad = int((~np.isfinite(a)).sum())
    if bad:
        raise ValueError(f"{name} has {bad} NaN or infinite values in block {index}; drop these rows or fill them.")
    return a


def _extra(a, name, n, index):
    a = a if isinstance(a, (pd.DataFrame, pd.Series)) else values(a)
    if len(a) != n:
        raise ValueError(f"{name} has {len(a)} rows at block {index} where X has {n}; chunk it like X.")
    return a


def features(X, names, index):
    """A chunk of X as float64, checked for text and for the number of columns; CSR stays CSR."""
    if sparse.issparse(X):
        return sparse.csr_matrix(X, dtype=np.float64)
    if isinstance(X, pd.DataFrame):
        text = [c for c, dtype in zip(X.columns, X.dtypes) if not pd.api.types.is_numeric_dtype(dtype)]
        if text and not all(_converts(X[c]) for c in text):
            raise ValueError(f"could not convert column {text[0]!r} of X to float: it holds text or categories (block "
                             f"{index}); encode it, or fit with a formula: daskglm_rep.glm('y ~ C({text[0]})', ...).")
        X = X.to_numpy(dtype=np.float64, na_value=np.nan)
    X = values(X)
    if X.ndim != 2:
        raise ValueError(f"X must be two-dimensional (rows, features), got {X.ndim} dimensions. Reshape your data.")
    if np.iscomplexobj(X):
        raise ValueError("Complex data not supported: X must be real.")
    if X.shape[1] != len(names):
        raise ValueError(f"X has {X.shape[1]} features, but {len(names)} were expected (block {index}).")
    if X.dtype != np.float64:
        try:
            X = X.astype(np.float64)
        except (TypeError, ValueError) as error:
            kind = type(error)
            raise kind(f"could not convert X to float at block {index}: {error}; encode text columns, or fit with a "
                       "formula (daskglm_rep.glm).") from None
    return X


def _converts(column):
    try:
        column.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


def encode(y, labels):
    """Codes 0..J-1 of labels, as floats.

    Raises
    ------
    ValueError
        A value is not among the labels.
    """
    labels = np.asarray(labels)
    y = np.asarray(y)
    if y.dtype.kind in "biuf" and labels.dtype.kind in "biuf" and len(labels) <= FEW_LABELS:
        codes = codes_of(np.asarray(y, np.float64), labels.astype(np.float64))
        if codes is not None:
            return codes
    if y.dtype.kind == "O":
        codes = np.clip(pd.Index(labels).get_indexer(y), 0, len(labels) - 1)
    else:
        order = np.argsort(labels)
        codes = order[np.clip(np.searchsorted(labels[order], y), 0, len(labels) - 1)]
    wrong = labels[codes] != y
    if np.any(wrong):
        raise ValueError(f"y holds the label {np.asarray(y)[wrong][0]!r}, which is none of {list(labels)[:10]}.")
    return codes.astype(np.float64)


# ---------------------------------------------------------------- building


def is_frame(a):
    return isinstance(a, (dd.DataFrame, dd.Series))


def is_lazy(a):
    return isinstance(a, da.Array) or is_frame(a) or (isinstance(a, xr.DataArray) and isinstance(a.data, da.Array))


def feature_names(X):
    """Names of the columns of X, and whether they came with it (strings) or were made up (x0, x1, ...)."""
    if hasattr(X, "columns"):
        names = list(X.columns)
    elif isinstance(X, xr.DataArray) and X.ndim == 2 and X.dims[1] in X.coords:
        names = list(X.coords[X.dims[1]].values)
    else:
        names = []
    if names and all(isinstance(name, str) for name in names):
        return [str(name) for name in names], True
    return [f"x{j}" for j in range(X.shape[1] if X.ndim == 2 else 1)], False


def build(X, y=None, sample_weight=None, offset=None, exposure=None, clusters=None, response="y", **recipe):
    """Align inputs of any supported kind into `Data`.

    Parameters
    ----------
    X : (n, p) numpy or dask array, pandas or dask DataFrame, xarray DataArray
    y, sample_weight, offset, exposure : (n,) of any of those kinds, optional
    clusters : (n,) or (n, 2), optional
    recipe : fields of `Rows`

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        Lengths or chunks that do not match, and inputs that are not tables of numbers.
    """
    names, _ = feature_names(X)
    columns = [X, y, sample_weight, offset, exposure]
    extra = ()
    if clusters is not None:
        columns.append(clusters)
        extra = ("clusters",)
    columns = [c.data if isinstance(c, xr.DataArray) and is_lazy(c) else c for c in columns]
    columns = [None if c is None else c if is_lazy(c) or isinstance(c, (pd.DataFrame, pd.Series)) or sparse.issparse(c)
               else values(c) for c in columns]
    prepare = Rows(tuple(names), response, extra=extra, **recipe)
    if any(is_frame(c) for c in columns):
        return _frames(columns, prepare, names)
    if any(is_lazy(c) for c in columns):
        return _arrays(columns, prepare, names)
    return _eager(columns, prepare, names)


def recut(data, n_blocks):
    """The rows of data in memory in another number of blocks of equal size (a copy where there are several now)."""
    columns = [None if c[0] is None else c[0] if len(c) == 1 else _stacked(c) for c in zip(*data.parts)]
    edges = np.linspace(0, columns[0].shape[0], n_blocks + 1).astype(int)
    parts = [tuple(None if c is None else c[a:b] for c in columns) for a, b in zip(edges, edges[1:])]
    return Data(parts, data.prepare, data.names)


def _stacked(pieces):
    if isinstance(pieces[0], (pd.DataFrame, pd.Series)):
        return pd.concat(pieces)
    return sparse.vstack(pieces, "csr") if sparse.issparse(pieces[0]) else np.concatenate(pieces)


def beside(X, added):
    """X with more columns at its right, and how many: both of one kind, lazy if they are.

    Parameters
    ----------
    X : (n, p) numpy or dask array, pandas or dask DataFrame, xarray DataArray
    added : (n,) or (n, m) of the same kind

    Raises
    ------
    ValueError
        Lengths that differ.
    """
    X, added = (a.data if isinstance(a, xr.DataArray) else a for a in (X, added))
    width = 1 if added.ndim == 1 else added.shape[1]
    names = [f"added{j}" for j in range(width)]
    if isinstance(X, dd.DataFrame):
        added = _as_frame(added, X, "added")
        columns = [added] if width == 1 and added.ndim == 1 else [added[c] for c in added.columns]
        return X.assign(**dict(zip(names, columns))), width
    if not any(np.isnan(a.shape[0]) for a in (X, added)) and X.shape[0] != added.shape[0]:
        raise ValueError(f"X has {X.shape[0]} rows and the added columns have {added.shape[0]}: pass one value a row of X.")
    if isinstance(X, da.Array):
        if not isinstance(added, da.Array):
            added = da.from_array(values(added), chunks=(X.chunks[0],) + ((width,) if added.ndim == 2 else ()))
        return da.concatenate([X, added[:, None] if added.ndim == 1 else added], axis=1,
                              allow_unknown_chunksizes=True), width
    if sparse.issparse(X):
        return sparse.csr_matrix(sparse.hstack([X, values(added).reshape(X.shape[0], -1)])), width
    if isinstance(X, pd.DataFrame):
        more = pd.DataFrame(values(added).reshape(len(X), -1), index=X.index, columns=names)
        return pd.concat([X, more], axis=1), width
    return np.column_stack([np.asarray(X), values(added)]), width


def _eager(columns, prepare, names):
    X = columns[0]
    n = X.shape[0]
    labels = ROLES + ("clusters",)
    columns = [np.broadcast_to(c, (n,)) if c is not None and np.ndim(c) == 0 else c for c in columns]
    for name, c in zip(labels[1:], columns[1:]):
        if c is not None and len(c) != n:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: X has {n} rows, {name} has "
                             f"{len(c)}.")
    X = sparse.csr_matrix(X) if sparse.issparse(X) else features(X, prepare.names, 0)
    columns = [X] + [values(c) if isinstance(c, pd.Series) else c for c in columns[1:]]
    step = max(MIN_ROWS, -(-n // N_EAGER))
    parts = [tuple(None if c is None else c[start:start + step] for c in columns) for start in range(0, max(n, 1), step)]
    return Data(parts, prepare, names)


def _arrays(columns, prepare, names):
    if da.array_expr_enabled():
        raise ValueError("dask's array.query-planning is on, which breaks chunk access; set it to False before dask.array "
                         "is imported (dask.config.set({'array.query-planning': False})).")
    X = columns[0]
    if not is_lazy(X):
        raise ValueError("y is a dask array but X is not: pass X as a dask array with the same row chunks too "
                         "(da.from_array(X, chunks=...)).")
    if X.ndim != 2:
        raise ValueError(f"X must be two-dimensional (rows, features), got {X.ndim} dimensions.")
    if X.dtype.kind not in "biufO":
        raise ValueError(f"X must be numeric, got dtype {X.dtype}; encode text first, or fit with a formula.")
    X = X.rechunk({1: -1})
    known = not any(np.isnan(X.chunks[0]))
    aligned = [X]
    for name, c in zip((ROLES + ("clusters",))[1:], columns[1:]):
        if c is None or np.ndim(c) == 0:
            aligned.append(c)
            continue
        if isinstance(c, da.Array):
            c = c.rechunk({1: -1}) if c.ndim == 2 else c
            if known and not any(np.isnan(c.chunks[0])):
                _same_length(X, c, name)
                c = c.rechunk({0: X.chunks[0]})
            elif len(c.chunks[0]) != len(X.chunks[0]):
                raise ValueError(f"X has {len(X.chunks[0])} row chunks and {name} has {len(c.chunks[0])}, of unknown size: "
                                 "chunk them alike (compute_chunk_sizes() makes rechunk possible).")
        elif known:
            _same_length(X, c, name)
            c = da.from_array(values(c), chunks=(X.chunks[0],) + ((np.shape(c)[1],) if np.ndim(c) == 2 else ()))
        else:
            raise ValueError(f"X has chunks of unknown size, so {name} in memory cannot be cut to match: pass {name} as a "
                             "dask array with the same chunks, or call X.compute_chunk_sizes() first.")
        aligned.append(c)
    lazy = [c for c in aligned if isinstance(c, da.Array)]
    optimised = iter(dask.optimize(*lazy))
    aligned = [next(optimised) if isinstance(c, da.Array) else c for c in aligned]
    prepare, kept = _constants(prepare, aligned)
    keys = [None if c is None else list(flatten(c.__dask_keys__())) for c in kept]
    parts = [tuple(None if k is None else k[i] for k in keys) for i in range(len(keys[0]))]
    return _in_memory(Data(parts, prepare, names, [c for c in kept if c is not None]))


def _same_length(X, c, name):
    if X.shape[0] != c.shape[0]:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: X has {X.shape[0]} rows, {name} has "
                         f"{c.shape[0]}.")


def _constants(prepare, columns):
    """Wrap the recipe so that scalar weights, offsets and exposures, which have no chunks, are filled in."""
    scalars = {i: c for i, c in enumerate(columns) if c is not None and np.ndim(c) == 0 and not is_lazy(c)}
    kept = [None if i in scalars else c for i, c in enumerate(columns)]
    return (WithScalars(prepare, tuple(scalars.items())) if scalars else prepare), kept


@dataclasses.dataclass(frozen=True)
class WithScalars:
    """A recipe with some values the same for every chunk."""

    rows: Rows
    scalars: tuple

    def __call__(self, part, index):
        part = list(part)
        for i, value in self.scalars:
            part[i] = value
        return self.rows(part, index)

    def with_fields(self, **changes):
        return dataclasses.replace(self, rows=self.rows.with_fields(**changes))

    @property
    def response(self):
        return self.rows.response


def _in_memory(data):
    """Take chunks that lie in this process (persisted, or cut from a numpy array) out of the graph."""
    graphs = {}
    for collection in data.collections:
        for layer in collection.__dask_graph__().layers.values():
            if not getattr(layer, "mapping", None):
                return data
            graphs.update(layer.mapping)
    parts = []
    for part in data.parts:
        found = tuple(None if key is None else getattr(graphs.get(key), "value", graphs.get(key)) for key in part)
        if not all(key is None or isinstance(v, (np.ndarray, pd.DataFrame)) for key, v in zip(part, found)):
            return data
        parts.append(found)
    return Data(parts, data.prepare, data.names)


@dataclasses.dataclass(frozen=True)
class FrameRows:
    """Recipe for a partition that carries X and the other columns side by side."""

    rows: Rows
    n_features: int
    roles: tuple          # per role: (position, width) of its columns after X's, or None

    def __call__(self, part, index):
        frame = part[0]
        pick = [None if r is None else frame.iloc[:, r[0]] if r[1] == 1 else frame.iloc[:, r[0]:r[0] + r[1]]
                for r in self.roles]
        return self.rows((frame.iloc[:, :self.n_features], *pick), index)

    def with_fields(self, **changes):
        return dataclasses.replace(self, rows=self.rows.with_fields(**changes))

    @property
    def response(self):
        return self.rows.response


def _frames(columns, prepare, names):
    """dask DataFrames: all columns are joined before anything is read, so that a sweep reads each file once."""
    X = columns[0]
    if isinstance(X, (pd.DataFrame, np.ndarray)):
        raise ValueError("y is a dask Series but X is in memory: pass X as a dask DataFrame too.")
    if isinstance(X, da.Array):
        columns = [c.to_dask_array() if is_frame(c) else c for c in columns]
        return _arrays(columns, prepare, names)
    prepare_scalars, columns = _constants(prepare, columns)
    frame, roles, position = X, [], X.shape[1]
    for name, c in zip((ROLES + ("clusters",))[1:], columns[1:]):
        if c is None:
            roles.append(None)
            continue
        c = _as_frame(c, X, name)
        width = 1 if c.ndim == 1 else c.shape[1]
        if width == 1 and c.ndim == 1:
            frame = frame.assign(**{f"__{name}": c})
        else:
            frame = frame.assign(**{f"__{name}{j}": c[column] for j, column in enumerate(c.columns)})
        roles.append((position, width))
        position += width
    if frame.npartitions != X.npartitions:
        raise ValueError(f"X has {X.npartitions} partitions and with y, weights and offset beside it {frame.npartitions}: "
                         "take all of them from one dask DataFrame.")
    frame = frame.optimize()            # may read several files as one partition where only few of their columns are used
    parts = [(key,) for key in frame.__dask_keys__()]
    return Data(parts, FrameRows(prepare_scalars, X.shape[1], tuple(roles)), names, [frame])


def _as_frame(c, X, name):
    if is_frame(c):
        if c.npartitions != X.npartitions:
            raise ValueError(f"X has {X.npartitions} partitions and {name} has {c.npartitions}: take them from one dask "
                             "DataFrame or repartition them alike.")
        return c
    if isinstance(c, da.Array):
        if c.numblocks[0] != X.npartitions:
            raise ValueError(f"X has {X.npartitions} partitions and {name} has {c.numblocks[0]} chunks: chunk them alike.")
        return dd.from_dask_array(c, index=X.index, columns=None if c.ndim == 1 else [str(j) for j in range(c.shape[1])])
    raise ValueError(f"X is a dask DataFrame, so {name} must be a dask Series or array with the same partitions, not "
                     f"{type(c).__name__}.")


# ---------------------------------------------------------------- prediction keeps the kind of the input


def map_rows(X, function, n_outputs, names, columns=None, offset=None, exposure=None):
    """Apply `function(features, offset) -> (n,) or (n, n_outputs) array` row-wise; X's kind comes back, lazy if X is.

    Parameters
    ----------
    function : callable on a (n, p) float64 array (or CSR matrix) and an (n,) array
        Picklable.
    n_outputs : int or None
        None for one value a row.
    names : list of str
        Feature names, for messages.
    columns : list, optional
        Labels of the outputs.
    offset, exposure : (n,) of X's kind, or numbers, optional

    Returns
    -------
    (n,) or (n, n_outputs) numpy or dask array, dask Series or DataFrame with X's divisions, or DataArray with X's
    coordinates
    """
    apply = _Apply(function, tuple(names), columns if n_outputs is not None else None)
    given = [X, offset, exposure]
    if isinstance(X, xr.DataArray):
        result = map_rows(X.data, function, n_outputs, names, columns,
                          *[c.data if isinstance(c, xr.DataArray) else c for c in given[1:]])
        dims = X.dims[:1] if n_outputs is None else (X.dims[0], "class")
        coords = {k: v for k, v in X.coords.items() if set(v.dims) <= {X.dims[0]}}
        if n_outputs is not None and columns is not None:
            coords["class"] = list(columns)
        return xr.DataArray(result, dims=dims, coords=coords)
    if isinstance(X, dd.DataFrame):
        return _map_frame(given, apply, n_outputs)
    if isinstance(X, da.Array):
        return _map_array(given, apply, n_outputs)
    return apply(*given)


def _map_frame(given, apply, n_outputs):
    X = given[0]
    given[1:] = [_as_frame(c, X, name) if c is not None and np.ndim(c) else c
                 for c, name in zip(given[1:], ("offset", "exposure"))]
    outputs = apply.function(np.zeros((1, len(apply.names))), np.zeros(1))
    meta = pd.Series([], dtype=outputs.dtype) if n_outputs is None else pd.DataFrame(
        {c: pd.Series([], dtype=outputs.dtype) for c in (apply.columns if apply.columns is not None else range(n_outputs))})
    return X.map_partitions(apply, *given[1:], meta=meta)


def _map_array(given, apply, n_outputs):
    X = given[0].rechunk({1: -1})
    columns = []
    for c, name in zip(given[1:], ("offset", "exposure")):
        if c is None or np.ndim(c) == 0:
            columns.append(c)
            continue
        if not is_lazy(c):
            if np.isnan(X.chunks[0]).any():
                raise ValueError(f"X has chunks of unknown size, so {name} in memory cannot be cut to match: pass a dask "
                                 "array, or call X.compute_chunk_sizes() first.")
            c = da.from_array(values(c), chunks=(X.chunks[0],))
        c = c.to_dask_array() if is_frame(c) else c
        columns.append(c if np.isnan(X.chunks[0]).any() else c.rechunk((X.chunks[0],)))
    dtype = apply.function(np.zeros((1, X.shape[1])), np.zeros(1)).dtype
    arrays = [a for c in columns for a in (c, None if c is None or np.ndim(c) == 0 else "i")]
    out, chunks = ("i", {}) if n_outputs is None else ("ik", {"k": n_outputs})
    return da.blockwise(apply, out, X, "ij", *arrays, new_axes=chunks, concatenate=True, dtype=dtype,
                        meta=np.empty((0,) * len(out), dtype), name=None)


@dataclasses.dataclass(frozen=True)
class _Apply:
    """One chunk's prediction: checked features, offset plus log exposure, the frame's index kept."""

    function: object
    names: tuple
    columns: object

    __name__ = "predict"

    def __call__(self, X, offset=None, exposure=None):
        index = X.index if isinstance(X, pd.DataFrame) else None
        X = features(X, self.names, 0)
        offset = _column(offset, "offset", X.shape[0], 0, 0.0)
        if exposure is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                offset = offset + np.log(_column(exposure, "exposure", X.shape[0], 0, 1.0))
        out = self.function(X, offset)
        if index is None:
            return out
        return pd.Series(out, index=index) if out.ndim == 1 else pd.DataFrame(out, index=index, columns=self.columns)
