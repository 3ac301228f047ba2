"""From what a user passes (numpy, pandas, dask, xarray) to aligned blocks of numbers.

`Data` holds references to chunks and a small picklable recipe (`prepare`) that turns one chunk into a validated
`Block` inside the task that uses it; nothing here reads rows ahead of a pass.
"""

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.core import flatten
from narwhals.dependencies import get_dask_dataframe
from scipy import sparse

from daskglm_rep.pairing import check_order
from daskglm_rep.graphs import Source, array_graph, optimized
from daskglm_rep.recipes import FrameRows, Rows, WithScalars, features, values

MIN_ROWS, N_EAGER = 16_384, 16          # rows in memory are cut in about 16 blocks, none below 16,384 rows
SMALL_ROWS, MANY_CHUNKS = 2048, 64          # more chunks than this, smaller on average than this, are joined
ROLES = ("X", "y", "sample_weight", "offset", "exposure")


class Data:
    """Aligned chunks and how to read them.

    Attributes
    ----------
    chunks : list of tuples
        Per chunk the values (in memory) or graph keys (lazy) that `prepare(chunk, index)` turns into a Block.
    source : graphs.Source or None
        The graph that the keys live in; None when the chunks are values.
    prepare : callable
    names : list of str
        Feature names.
    n_passes : int
        Sweeps so far.
    lengths : tuple of int or None
        Rows of each block, once a survey has counted them: every later sweep must find as many.
    """

    ask = None          # of data elsewhere: a function of kernel and arguments that gives the merged summary

    def __init__(self, chunks, prepare, names, source=None):
        self.chunks, self.prepare, self.names, self.source = chunks, prepare, list(names), source
        self.n_passes = 0
        self.lengths = None

    @property
    def collections(self):
        """The dask collections that the rows come from, or None."""
        return None if self.source is None else self.source.collections

    @property
    def n_blocks(self):
        return len(self.chunks)

    def with_prepare(self, **changes):
        """The same chunks read with some fields of the recipe changed; sweeps are counted on."""
        new = self.read_with(self.prepare.with_fields(**changes), self.names)
        new.lengths = self.lengths
        return new

    def read_with(self, prepare, names):
        """The same chunks read by another recipe; sweeps are counted on."""
        new = Data(self.chunks, prepare, names, self.source)
        new.n_passes = self.n_passes
        return new

    def only(self, number):
        """The data of one chunk, whose sweeps are counted apart."""
        source = None if self.source is None else self.source.only(number)
        return Data([self.chunks[number]], self.prepare, self.names, source)

    def expected(self, first=0, n=None):
        """Rows of n blocks from number `first` on, None where they were not counted."""
        n = self.n_blocks - first if n is None else n
        return (None,) * n if self.lengths is None else self.lengths[first:first + n]

    def with_names(self, names):
        """The same data under other feature names."""
        new = self.with_prepare(names=tuple(names))
        new.names = list(names)
        return new

    def coalesced(self):
        """The same rows in memory with runs of small neighbouring chunks joined: a sweep costs 0.1 ms a block.

        For fits that do not care where a block ends. Lazy chunks, and frames, stay as they are.
        """
        if self.source is not None or len(self.chunks) <= MANY_CHUNKS or not all(
                isinstance(v, np.ndarray) for chunk in self.chunks for v in chunk if v is not None):
            return self
        sizes = [chunk[0].shape[0] for chunk in self.chunks]
        if sum(sizes) / len(sizes) >= SMALL_ROWS:
            return self
        runs, rows = [[]], 0
        for chunk, size in zip(self.chunks, sizes):
            if rows >= MIN_ROWS:
                runs.append([])
                rows = 0
            runs[-1].append(chunk)
            rows += size
        chunks = [tuple(None if column[0] is None else np.concatenate(column) for column in zip(*run)) for run in runs]
        return Data(chunks, self.prepare, self.names)


def is_frame(a):
    """Whether a is a dask DataFrame or Series: where there is one, somebody imported what is slow to import."""
    dd = get_dask_dataframe()
    return dd is not None and isinstance(a, (dd.DataFrame, dd.Series))


def is_table(a):
    """Whether a is a dask DataFrame."""
    return is_frame(a) and a.ndim == 2


def are_co_aligned(a, b):
    """Whether the rows of two dask frames are those of one table, partition by partition."""
    from dask.dataframe.dask_expr import _expr

    return _expr.are_co_aligned(a.expr, b.expr)


def is_lazy(a):
    """Whether a is a dask collection, or labels around a dask array."""
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
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"X has {names.count(twice)} columns called {twice!r}: give each a name of its own.")
        return [str(name) for name in names], True
    return [f"x{j}" for j in range(X.shape[1] if X.ndim == 2 else 1)], False


def build(X, y=None, sample_weight=None, offset=None, exposure=None, clusters=None, blocks=None, response="y",
          **recipe):
    """Align inputs of any supported kind into `Data`, row by row as `pairing` says.

    Parameters
    ----------
    X : (n, p) numpy or dask array, pandas or dask DataFrame, xarray DataArray
    y, sample_weight, offset, exposure : (n,) of any of those kinds, optional
    clusters : (n,) or (n, 2), optional
    blocks : (n,), optional
        Labels of natural blocks, in the place of clusters.
    recipe : fields of `Rows`

    Returns
    -------
    Data

    Raises
    ------
    ValueError
        Lengths or chunks that do not match, row labels in another order, and inputs that are not tables of numbers.
    """
    check_order(X, zip((response, *ROLES[2:], "clusters", "blocks"),
                       (y, sample_weight, offset, exposure, clusters, blocks)))
    if np.ndim(X) != 2:
        raise ValueError(f"X must be two-dimensional (rows, features), got {np.ndim(X)} dimensions. Reshape your data, "
                         "or select a frame with one column: X[['a']].")
    names, _ = feature_names(X)
    columns = [X, y, sample_weight, offset, exposure]
    extra = {name: labels for name, labels in (("clusters", clusters), ("blocks", blocks)) if labels is not None}
    for name, labels in extra.items():
        if np.ndim(labels) == 0:
            raise ValueError(f"{name} must hold one label a row of X, got the single value {labels!r}.")
    columns += extra.values()
    columns = [c.data if isinstance(c, xr.DataArray) and is_lazy(c) else c for c in columns]
    columns = [None if c is None else c if is_lazy(c) or isinstance(c, (pd.DataFrame, pd.Series)) or sparse.issparse(c)
               else values(c) for c in columns]
    prepare = Rows(tuple(names), response, extra=tuple(extra), **recipe)
    if any(is_frame(c) for c in columns):
        return _frames(columns, prepare, names)
    if any(is_lazy(c) for c in columns):
        return _arrays(columns, prepare, names)
    return _eager(columns, prepare, names)


def _roles(prepare):
    """Names of the columns beside X."""
    return ROLES[1:] + prepare.extra


def recut(data, n_blocks):
    """The rows of data in memory in another number of blocks of equal size (a copy where there are several now)."""
    columns = [None if c[0] is None else c[0] if len(c) == 1 else _stacked(c) for c in zip(*data.chunks)]
    edges = np.linspace(0, columns[0].shape[0], n_blocks + 1).astype(int)
    chunks = [tuple(None if c is None else c[a:b] for c in columns) for a, b in zip(edges, edges[1:])]
    return Data(chunks, data.prepare, data.names)


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
    if is_table(X):
        added = as_frame(added, X, "added")
        columns = [added] if width == 1 and added.ndim == 1 else [added[c] for c in added.columns]
        return X.assign(**dict(zip(names, columns))), width
    if not any(np.isnan(a.shape[0]) for a in (X, added)) and X.shape[0] != added.shape[0]:
        raise ValueError(f"X has {X.shape[0]} rows and the added columns have {added.shape[0]}: pass one value a row "
                         "of X.")
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
    columns = [np.broadcast_to(c, (n,)) if c is not None and np.ndim(c) == 0 else c for c in columns]
    for name, c in zip(_roles(prepare), columns[1:]):
        if c is not None and len(c) != n:
            raise ValueError(f"Found input variables with inconsistent numbers of samples: X has {n} rows, {name} has "
                             f"{len(c)}.")
    X = sparse.csr_matrix(X) if sparse.issparse(X) else features(X, prepare.names, 0)
    columns = [X] + [values(c) if isinstance(c, pd.Series) else c for c in columns[1:]]
    return Data([tuple(None if c is None else c[rows] for c in columns) for rows in cuts(n)], prepare, names)


def cuts(n):
    """Slices of n rows in memory, one a block."""
    step = max(MIN_ROWS, -(-n // N_EAGER))
    return [slice(start, start + step) for start in range(0, max(n, 1), step)]


def _arrays(columns, prepare, names):
    if da.array_expr_enabled():
        raise ValueError("dask's array.query-planning is on, which breaks chunk access; set it to False before "
                         "dask.array is imported (dask.config.set({'array.query-planning': False})).")
    X = columns[0]
    if not is_lazy(X):
        name = next(name for name, c in zip(_roles(prepare), columns[1:]) if is_lazy(c))
        raise ValueError(f"{name} is a dask array but X is not: pass X as a dask array with the same row chunks too "
                         f"(da.from_array(X, chunks=...)), or {name} in memory.")
    if X.ndim != 2:
        raise ValueError(f"X must be two-dimensional (rows, features), got {X.ndim} dimensions.")
    if X.dtype.kind not in "biufO":
        raise ValueError(f"X must be numeric, got dtype {X.dtype}; encode text first, or fit with a formula.")
    X = X.rechunk({1: -1})
    known = not any(np.isnan(X.chunks[0]))
    aligned = [X]
    for name, c in zip(_roles(prepare), columns[1:]):
        if c is None or np.ndim(c) == 0:
            aligned.append(c)
            continue
        if isinstance(c, da.Array):
            c = c.rechunk({1: -1}) if c.ndim == 2 else c
            if known and not any(np.isnan(c.chunks[0])):
                _same_length(X, c, name)
                c = c.rechunk({0: X.chunks[0]})
            elif len(c.chunks[0]) != len(X.chunks[0]):
                raise ValueError(f"X has {len(X.chunks[0])} row chunks and {name} has {len(c.chunks[0])}, of unknown "
                                 "size: chunk them alike (compute_chunk_sizes() makes rechunk possible).")
        elif known:
            _same_length(X, c, name)
            c = da.from_array(values(c), chunks=(X.chunks[0],) + ((np.shape(c)[1],) if np.ndim(c) == 2 else ()))
        else:
            raise ValueError(f"X has chunks of unknown size, so {name} in memory cannot be cut to match: pass {name} "
                             "as a dask array with the same chunks, or call X.compute_chunk_sizes() first.")
        aligned.append(c)
    prepare, kept = _constants(prepare, aligned)
    keys = [None if c is None else list(flatten(c.__dask_keys__())) for c in kept]
    chunks = [tuple(None if k is None else k[i] for k in keys) for i in range(len(keys[0]))]
    lazy = [c for c in kept if c is not None]
    graph = array_graph(lazy)
    found = _in_memory(chunks, graph)
    return Data(chunks, prepare, names, Source(chunks, lazy, graph)) if found is None else Data(found, prepare, names)


def _same_length(X, c, name):
    if X.shape[0] != c.shape[0]:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: X has {X.shape[0]} rows, {name} "
                         f"has {c.shape[0]}.")


def _constants(prepare, columns):
    """Wrap the recipe so that scalar weights, offsets and exposures, which have no chunks, are filled in."""
    scalars = {i: c for i, c in enumerate(columns) if c is not None and np.ndim(c) == 0 and not is_lazy(c)}
    kept = [None if i in scalars else c for i, c in enumerate(columns)]
    return (WithScalars(prepare, tuple(scalars.items())) if scalars else prepare), kept


def _in_memory(chunks, graph):
    """Chunks that lie in this process (persisted, or cut from a numpy array), or None where some do not."""
    found = []
    for chunk in chunks:
        values = tuple(None if key is None else getattr(graph.get(key), "value", graph.get(key)) for key in chunk)
        if not all(key is None or isinstance(v, (np.ndarray, pd.DataFrame)) for key, v in zip(chunk, values)):
            return None
        found.append(values)
    return found


def _frames(columns, prepare, names):
    """dask DataFrames: all columns are joined before anything is read, so that a sweep reads each file once."""
    X = columns[0]
    if isinstance(X, (pd.DataFrame, np.ndarray)):
        name = next(name for name, c in zip(_roles(prepare), columns[1:]) if is_lazy(c))
        raise ValueError(f"{name} is a dask Series but X is in memory: pass X as a dask DataFrame too, or {name} in "
                         "memory.")
    if isinstance(X, da.Array):
        columns = [c.to_dask_array() if is_frame(c) else c for c in columns]
        return _arrays(columns, prepare, names)
    names_of_roles = (prepare.response, *_roles(prepare)[1:])
    prepare_scalars, columns = _constants(prepare, columns)
    frame, roles, position, others = X, [], len(names), []
    for name, c in zip(_roles(prepare), columns[1:]):
        if c is None:
            roles.append(None)
            continue
        c = as_frame(c, X, name)
        width = 1 if c.ndim == 1 else c.shape[1]
        if not are_co_aligned(X, c) or c.divisions != X.divisions:          # dask would reorder its rows
            others.append(c.simplify())
            roles.append((-len(others), width))
            continue
        if width == 1 and c.ndim == 1:
            frame = frame.assign(**{f"__{name}": c})
        else:
            frame = frame.assign(**{f"__{name}{j}": c[column] for j, column in enumerate(c.columns)})
        roles.append((position, width))
        position += width
    if frame.npartitions != X.npartitions:
        raise ValueError(f"X has {X.npartitions} partitions and with y, weights and offset beside it "
                         f"{frame.npartitions}: take all of them from one dask DataFrame.")
    span = (X.divisions[0], X.divisions[-1]) if others and X.known_divisions else None
    # optimize() may read several files as one partition where few of their columns are used: not beside other sources
    frame = frame.simplify() if others else optimized(frame)
    chunks = list(zip(*[collection.__dask_keys__() for collection in (frame, *others)]))
    read = FrameRows(prepare_scalars, len(names), tuple(roles), names_of_roles, span)
    graph = {key: task for c in (frame, *others) for key, task in c.__dask_graph__().items()}
    from daskglm_rep.direct_reads import DirectReader          # late: it imports dask.dataframe
    source = Source(chunks, [frame, *others], graph)
    source.readers = [DirectReader.of(reader, len(names)) for reader in source.readers]
    return Data(chunks, read, names, source)


def as_frame(c, X, name):
    """A dask collection as a frame with the partitions of the frame X."""
    if is_frame(c):
        if c.npartitions != X.npartitions:
            raise ValueError(f"X has {X.npartitions} partitions and {name} has {c.npartitions}: take them from one "
                             "dask DataFrame or repartition them alike.")
        return c
    if isinstance(c, da.Array):
        if c.numblocks[0] != X.npartitions:
            raise ValueError(f"X has {X.npartitions} partitions and {name} has {c.numblocks[0]} chunks: chunk them "
                             "alike.")
        columns = None if c.ndim == 1 else [str(j) for j in range(c.shape[1])]
        return c.to_dask_dataframe(columns, X.index)
    raise ValueError(f"X is a dask DataFrame, so {name} must be a dask Series or array with the same partitions, not "
                     f"{type(c).__name__}.")
