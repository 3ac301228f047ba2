"""Chunks that are columns of Parquet files as they stand: read without a frame between the file and the block.

A frame costs 3 ms a chunk and a copy of its rows. What a chunk's tasks do is followed on stand-ins, once; where they
only choose columns of files, every sweep reads those and leaves the tasks aside.
"""

import contextlib
import dataclasses
import operator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from dask._task_spec import Alias, DataNode, List, Task, TaskRef
from dask.dataframe import methods
from dask.dataframe.dask_expr._expr import Assign
from dask.dataframe.dask_expr.io import FusedParquetIO, ReadParquetPyarrowFS
from pyarrow.fs import LocalFileSystem

from daskglm_rep.graphs import Inner, Reader
from daskglm_rep.kernels.strips import FEW_COLUMNS
from daskglm_rep.parquet import LocalEngine, ParquetFunctionWrapper, chosen, is_plain
from daskglm_rep.plain_pages import PlainFile
from daskglm_rep.recipes import Columns, room

AT_ONCE = 2 ** 20          # bytes of columns: what is read and copied at a time stays in the cache


class NotPlain(Exception):
    """A chunk is more than columns of files."""


@dataclasses.dataclass(frozen=True)
class _Selected:
    """Stands for a frame: the (path, row groups) it is read from, and the files' names of its columns by its own."""

    parts: tuple
    names: dict

    def __getitem__(self, columns):
        if isinstance(columns, str):
            return _Selected(self.parts, {None: self.names[columns]})
        if not isinstance(columns, (list, pd.Index)) or len(set(columns)) < len(columns):
            raise NotPlain
        return _Selected(self.parts, {name: self.names[name] for name in columns})


def _assign(frame, *pairs):
    names = dict(frame.names)
    for name, column in zip(pairs[::2], pairs[1::2]):
        if not isinstance(column, _Selected) or column.parts != frame.parts or set(column.names) != {None}:
            raise NotPlain
        names[name] = column.names[None]
    return _Selected(frame.parts, names)


def _concat(frames):
    if not frames or any(frame.names != frames[0].names for frame in frames):
        raise NotPlain
    return _Selected(sum((frame.parts for frame in frames), ()), frames[0].names)


def _fragments(wrapped, columns):
    """Of files that Arrow's own file system finds."""
    found = []
    for fragment, filters in wrapped:
        fragment = getattr(fragment, "fragment", fragment)
        if filters is not None or not isinstance(fragment.filesystem, LocalFileSystem) or fragment.buffer is not None:
            raise NotPlain
        if not fragment.partition_expression.equals(pc.scalar(True)):
            raise NotPlain
        found.append((fragment.path, None))
    return _Selected(tuple(found), {name: name for name in columns})


RULES = {operator.getitem: operator.getitem, Assign.operation: _assign, methods.concat: _concat,
         ReadParquetPyarrowFS._fragment_to_table: lambda *, fragment_wrapper, filters, columns, schema: _fragments(
             [(fragment_wrapper, filters)], columns),
         ReadParquetPyarrowFS._table_to_pandas: lambda table, **how: table,
         FusedParquetIO._load_multiple_files: lambda wrapped, columns, schema, **how: _fragments(wrapped, columns)}


def _read(read, part):
    pieces = part if isinstance(part, list) else [part]
    if read.engine is not LocalEngine or not is_plain(**read.common_kwargs):
        raise NotPlain
    if any(p.get("kwargs") or not isinstance(p["piece"][0], str) for p in pieces):
        raise NotPlain
    files = tuple((p["piece"][0], p["piece"][1]) for p in pieces)
    categories = read.common_kwargs.get("categories") or ()
    return _Selected(files, {name: name for name in read.columns if name not in categories})


def _value(a, known):
    """What a task, or an argument of one, stands for."""
    if isinstance(a, (TaskRef, Alias)):
        return known[a.key if isinstance(a, TaskRef) else a.target]
    if isinstance(a, DataNode):
        return a.value
    if isinstance(a, Inner):
        return _outcome(a.reader, [known[key] for key in a.dependencies])
    if isinstance(a, List):
        return [_value(b, known) for b in a.args]
    if not isinstance(a, Task):
        return a
    arguments = [_value(b, known) for b in a.args]
    if isinstance(a.func, ParquetFunctionWrapper):
        return _read(a.func, *arguments)
    if a.func not in RULES:
        raise NotPlain
    return RULES[a.func](*arguments, **{name: _value(b, known) for name, b in a.kwargs.items()})


def _outcome(reader, given=()):
    known = dict(zip(reader.outer, given, strict=True))
    for key, task, _ in reader.steps:
        known[key] = _value(task, known)
    return known[reader.chunk[0]]


class _Part:
    """Some row groups of a file, open twice: for Arrow, and for columns that need no decoding."""

    def __init__(self, stack, path, row_groups, names):
        self.plain = stack.enter_context(PlainFile(path))
        self.file = file = stack.enter_context(pq.ParquetFile(path))
        self.row_groups, self.replaced = chosen(file, row_groups), not self.plain.is_at(path)
        self.n_rows = sum(file.metadata.row_group(i).num_rows for i in self.row_groups)
        schema = file.schema_arrow
        self.at = {name: schema.get_field_index(name) for name in names}
        self.types = [None if self.at[name] < 0 else schema.field(self.at[name]).type for name in names]

    def fill(self, name, kind, out):
        """Whether `out` was set to a column, which is so where its bytes in the file are the numbers."""
        return not self.replaced and self.plain.fill(self.file, self.row_groups, self.at[name], kind, out)

    def column(self, name, kind):
        """List of (m,) arrays."""
        out = np.empty(self.n_rows, kind.to_pandas_dtype())
        return [out] if self.fill(name, kind, out) else self.read([name])[0]

    def read(self, names):
        """Those columns, lists of (m,) arrays."""
        once = list(dict.fromkeys(names))
        table = self.file.read_row_groups(self.row_groups, once, use_threads=False)
        if sorted(table.column_names) != sorted(once) or any(column.null_count for column in table.columns):
            raise NotPlain
        arrays = {name: [chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks or [column.combine_chunks()]]
                  for name, column in zip(table.column_names, table.columns)}
        return [arrays[name] for name in names]


@dataclasses.dataclass(frozen=True)
class DirectReader(Reader):
    """A chunk as `recipes.Columns`; as the frame that its tasks make, where a column has gaps or is no number.

    Attributes
    ----------
    parts : tuple of (path, row groups)
    names : tuple of str
        Of columns in the files.
    n_features : int
        Those of X come first.
    """

    parts: tuple
    names: tuple
    n_features: int

    @classmethod
    def of(cls, reader, n_features):
        """The reader itself where its tasks do more than choose columns."""
        try:
            found = _outcome(reader)
        except (NotPlain, KeyError, ValueError, TypeError, AttributeError):
            return reader
        if not isinstance(found, _Selected) or None in found.names or len(reader.chunk) > 1:
            return reader
        return cls(reader.steps, reader.chunk, reader.outer, found.parts, tuple(found.names.values()), n_features)

    def __call__(self, *given):
        with contextlib.ExitStack() as stack:
            parts = [_Part(stack, path, row_groups, self.names) for path, row_groups in self.parts]
            kinds = parts[0].types
            if all(part.types == kinds for part in parts) and all(map(_is_number, kinds)):
                with contextlib.suppress(NotPlain):
                    return (Columns(self._matrix(parts, kinds), self._others(parts, kinds)),)
        return super().__call__(*given)

    def _matrix(self, parts, kinds):
        """X, column by column where columns are few, else row by row: the order that kernels walk through fastest.

        Arrow reads few columns at a time, which are in the cache still when they are copied.
        """
        X, start = room(self.n_features, sum(part.n_rows for part in parts)), 0
        for part in parts:
            own, step = X[:, start:start + part.n_rows], max(1, AT_ONCE // (8 * max(part.n_rows, 1)))
            rest = [j for j in range(self.n_features) if not part.fill(self.names[j], kinds[j], own[j])]
            for some in (rest[k:k + step] for k in range(0, len(rest), step)):
                for j, arrays in zip(some, part.read([self.names[j] for j in some])):
                    np.concatenate(arrays, out=own[j], casting="unsafe")
            start += part.n_rows
        if self.n_features <= FEW_COLUMNS:
            return X.T
        by_rows = room(*X.T.shape)
        by_rows[:] = X.T
        return by_rows

    def _others(self, parts, kinds):
        found = [sum((part.column(name, kind) for part in parts), [])
                 for name, kind in zip(self.names[self.n_features:], kinds[self.n_features:])]
        return tuple(arrays[0] if len(arrays) == 1 else np.concatenate(arrays) for arrays in found)


def _is_number(kind):
    return kind is not None and (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))
