"""Tables of other kinds (files, polars, Arrow, duckdb, records), of which only the columns used are read."""

import dataclasses
import glob
import os
from pathlib import Path

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import xarray as xr

from daskglm_rep.design import is_table

PARQUET, CSV = (".parquet", ".parq", ".pq"), (".csv", ".tsv", ".csv.gz", ".tsv.gz")
CSV_BYTES = 2 ** 28          # larger texts are read in blocks, whose types a sample of the first must tell


@dataclasses.dataclass(frozen=True)
class Foreign:
    """A table of another library: an eager one, or a query, which runs once for each reading of its columns.

    Attributes
    ----------
    table : narwhals DataFrame or LazyFrame
    """

    table: object

    @property
    def columns(self):
        return self.table.collect_schema().names()

    def read(self, columns):
        """Those columns as a pandas frame."""
        return _to_pandas(self.table.select(*columns))

    def like(self, outputs):
        """A pandas Series or frame of this table's rows as the table's library has them; of a query's as they are."""
        if isinstance(self.table, nw.LazyFrame):
            return outputs
        one = isinstance(outputs, pd.Series)
        columns = outputs.to_frame("predict") if one else outputs
        made = nw.from_dict({str(c): columns[c].to_numpy() for c in columns}, backend=self.table.implementation)
        return (made["predict"] if one else made).to_native()


@dataclasses.dataclass(frozen=True)
class Texts:
    """CSV files of one header, small enough for memory.

    Attributes
    ----------
    paths : tuple of str
    columns : list of str
    """

    paths: tuple
    columns: list

    def read(self, columns):
        """Those columns as a pandas frame."""
        frames = [pd.read_csv(p, sep=_separator(p)) for p in self.paths]          # usecols would hide lines too long
        return pd.concat([frame[columns] for frame in frames], ignore_index=True)

    def like(self, outputs):
        return outputs


def open_table(data):
    """A pandas or dask DataFrame, an xarray Dataset, a dask DataFrame over files, or what `read`s columns later.

    Parameters
    ----------
    data : pandas, polars or dask DataFrame, polars LazyFrame, pyarrow Table, duckdb relation, xarray Dataset, records,
        dict of columns, or path(s)
        A path is a Parquet or CSV file, a folder of either or a glob pattern; a list of paths is read in its order.

    Raises
    ------
    ValueError
        Any other kind of object; files of several data sets.
    FileNotFoundError
    """
    if isinstance(data, (str, os.PathLike)):
        return _open_files([os.path.expanduser(data)])
    if isinstance(data, (list, tuple)) and data and all(isinstance(p, (str, os.PathLike)) for p in data):
        return _open_files([os.path.expanduser(p) for p in data])
    if isinstance(data, dict) or isinstance(data, np.ndarray) and data.dtype.names:
        return pd.DataFrame(data)
    if isinstance(data, (pd.DataFrame, xr.Dataset, Foreign, Texts)) or is_table(data):
        return data
    try:
        return Foreign(nw.from_native(data))
    except TypeError:
        library = type(data).__module__.partition(".")[0]
        kind = f"{'' if library == 'builtins' else library + '.'}{type(data).__name__}"
        raise ValueError(f"data is a {kind}: a formula needs named columns; pass a pandas, polars or dask DataFrame, a "
                         "pyarrow Table, a duckdb relation, an xarray Dataset, or the path of Parquet or CSV "
                         "files.") from None


def as_features(X):
    """X of an estimator, where a table of another library or a Dataset stands for its matrix; else as it is.

    A Dataset's variables are columns; queries (LazyFrame, duckdb relation) are run into memory.

    Raises
    ------
    ValueError
        A Dataset whose variables do not share one dimension.
    """
    if isinstance(X, xr.Dataset):
        dims = {variable.dims for variable in X.data_vars.values()}
        if len(dims) != 1 or len(next(iter(dims))) != 1:
            raise ValueError(f"X is a Dataset over the dimensions {', '.join(map(str, X.sizes))}: an estimator takes "
                             "variables along one, the rows; stack them first, X.stack(row=[...]), or name the "
                             "variables in a formula (daskglm_rep.glm).")
        return X.to_dataarray("feature").transpose(next(iter(dims))[0], "feature")
    if isinstance(X, pd.DataFrame) or is_table(X):
        return X
    table = nw.from_native(X, pass_through=True)
    return _to_pandas(table) if isinstance(table, (nw.DataFrame, nw.LazyFrame)) else X


def _to_pandas(table):
    table = table.collect() if isinstance(table, nw.LazyFrame) else table
    if table.implementation.is_polars():          # whose categories are in the order in which a process met them
        table = table.with_columns(nw.selectors.categorical().cast(nw.String))
    return table.to_pandas()


def plain_objects(frame):
    """A frame in memory whose columns of Decimals are numbers, and of True, False and gaps are nullable booleans."""
    plain = {"decimal": "float64", "boolean": "boolean"}
    kinds = {c: pd.api.types.infer_dtype(frame[c], skipna=True) for c, dtype in frame.dtypes.items()
             if dtype == np.dtype("O")}
    types = {c: plain[kind] for c, kind in kinds.items() if kind in plain}
    return frame.astype(types) if types else frame


# ---------------------------------------------------------------- files


def _open_files(given):
    """What a list of files, folders and patterns holds: one data set of one kind."""
    if len(given) == 1 and "~" in given[0] and not os.path.exists(given[0]):
        raise ValueError(f"data is {given[0]!r}, which reads as a formula: that comes first, glm(formula, data).")
    paths = [path for name in given for path in _files_of(name)]
    texts = [path for path in paths if path.endswith(CSV)]
    if texts and len(texts) < len(paths):
        raise ValueError(f"data mixes {len(texts)} CSV files and {len(paths) - len(texts)} others: name those of one "
                         f"kind, for example {_pattern(texts)}.")
    local = all("://" not in path for path in paths)
    if local:
        _refuse_mixtures({path: _header(path) for path in paths if not os.path.isdir(path)})
    if not texts:
        return _parquet(given[0] if len(given) == 1 else paths)
    if local and sum(os.path.getsize(path) for path in paths) <= CSV_BYTES:
        return Texts(tuple(paths), list(_header(paths[0])))
    whole = paths[0].endswith(".gz")
    import dask.dataframe as dd          # late: it takes long

    return dd.read_csv(paths, sep=_separator(paths[0]), assume_missing=True, sample=2 ** 22,
                       blocksize=None if whole else "64MiB")


def _parquet(paths):
    import dask.dataframe as dd          # late: it takes long

    try:
        return dd.read_parquet(paths)
    except (ValueError, OSError) as error:
        first = paths if isinstance(paths, str) else paths[0]
        raise ValueError(f"{first} cannot be read as Parquet: {str(error).splitlines()[-1]}") from None


def _files_of(name):
    """Files below a folder, those of a pattern, or the one named; in order."""
    if "://" in name:
        return [name]
    if os.path.isdir(name):
        found = [str(p) for p in sorted(Path(name).glob("**/*")) if str(p).endswith(PARQUET + CSV) and p.is_file()
                 and not any(part.startswith(("_", ".")) for part in p.relative_to(name).parts)]
    else:
        found = sorted(glob.glob(name, recursive=True)) if glob.has_magic(name) else [name]
    if not found or not os.path.exists(found[0]):
        raise FileNotFoundError(f"no Parquet or CSV file at {name}: give files (data/*.parquet) or a folder of them.")
    return found


def _header(path):
    """Column names of a file.

    Raises
    ------
    ValueError
        Not a file of its kind.
    """
    try:
        if path.endswith(CSV):
            return tuple(pd.read_csv(path, sep=_separator(path), nrows=0).columns)
        return tuple(pq.read_schema(path).names)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a {'CSV' if path.endswith(CSV) else 'Parquet'} file: "
                         f"{str(error).splitlines()[0]}") from None


def _refuse_mixtures(headers):
    """Refuse files that have not the same columns, naming the parts."""
    parts = {}
    for path, names in headers.items():
        parts.setdefault(frozenset(names), []).append(path)
    if len(parts) > 1:
        told = [f"{_pattern(paths)} ({len(paths)} file{'s' * (len(paths) > 1)}: "
                f"{', '.join(sorted(names)[:6])}{', ...' * (len(names) > 6)})" for names, paths in parts.items()]
        raise ValueError(f"data mixes {len(parts)} data sets, whose columns differ: {'; '.join(told[:5])}"
                         f"{'; ...' * (len(told) > 5)}. Name the files of one of them.")


def _pattern(paths):
    """A short name for some files: their common folder, or the one."""
    return paths[0] if len(paths) == 1 else os.path.join(os.path.commonpath([os.path.dirname(p) or "." for p in paths]),
                                                         "*" + "".join(Path(paths[0]).suffixes[-1:]))


def _separator(path):
    """What a CSV file's first line is cut by: most often a comma."""
    first = pd.read_csv(path, sep="\0", nrows=1, header=None, dtype=str, encoding_errors="replace").iat[0, 0]
    return max(",;\t", key=first.count)
