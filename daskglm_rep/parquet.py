"""Parquet files of this machine: the frames that dask would read, with fewer copies.

dask opens a file through Python, which copies its bytes once more, and gathers the columns of a type in one array,
which copies them again; the rows of a model are gathered later anyway.
"""

import pyarrow.parquet as pq
from dask._task_spec import List, Task
from dask.dataframe import methods
from dask.dataframe.io.parquet.arrow import ArrowDatasetEngine
from dask.dataframe.io.parquet.core import ParquetFunctionWrapper
from fsspec.implementations.local import LocalFileSystem

FEW_COLUMNS = 32          # as arrays of their own; pandas complains of more than a hundred


def is_plain(filters=None, partitions=None, read=None, dataset=None, **others):
    """Whether a reading is of whole row groups of files alone, by dask's keywords."""
    partitioning = (dataset or {}).get("partitioning")
    return not (filters or partitions or any((read or {}).values())) and (
        partitioning is None or isinstance(partitioning, (str, list)))


def chosen(file, row_groups):
    """Numbers of the row groups that a part of a data set has of a file."""
    return range(file.num_row_groups) if row_groups in (None, [None]) else list(row_groups)


class LocalEngine(ArrowDatasetEngine):
    """dask's engine of Parquet files, for those of this machine."""

    @classmethod
    def _read_table(cls, path_or_frag, fs, row_groups, columns, schema, filters, partitions, partition_keys, **kwargs):
        if isinstance(path_or_frag, str) and is_plain(filters, partitions, **kwargs):
            with pq.ParquetFile(path_or_frag) as file:
                return file.read_row_groups(chosen(file, row_groups), columns, use_threads=False,
                                            use_pandas_metadata=True)
        return super()._read_table(path_or_frag, fs, row_groups, columns, schema, filters, partitions, partition_keys,
                                   **kwargs)

    @classmethod
    def _arrow_table_to_pandas(cls, arrow_table, categories, **kwargs):
        apart = {"split_blocks": arrow_table.num_columns <= FEW_COLUMNS, "self_destruct": True}
        kwargs["arrow_to_pandas"] = apart | kwargs.get("arrow_to_pandas", {})
        return super()._arrow_table_to_pandas(arrow_table, categories, **kwargs)


def quick(task):
    """A task that reads Parquet as dask does, made to read it by `LocalEngine`; any other as it is."""
    if not isinstance(task, Task):
        return task
    read = task.func
    if isinstance(read, ParquetFunctionWrapper) and read.engine is ArrowDatasetEngine and isinstance(
            read.fs, LocalFileSystem):
        read = ParquetFunctionWrapper(LocalEngine, read.fs, read.meta, read.columns, read.index, read.dtype_backend, {},
                                      read.common_kwargs)
        return Task(task.key, read, *task.args, **task.kwargs)
    if read is methods.concat and len(task.args) == 1 and isinstance(task.args[0], List):
        return Task(task.key, read, List(*map(quick, task.args[0].args)), **task.kwargs)
    return task
