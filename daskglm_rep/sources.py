"""Tables (pandas, dask, Parquet, xarray) as chunks of pandas rows, and the roles of their columns."""

import dataclasses
import os

import dask.dataframe as dd
import pandas as pd
import xarray as xr

from daskglm_rep.design import Data, cuts
from daskglm_rep.recipes import weight_and_offset


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of columns beside those of a formula.

    Attributes
    ----------
    weights, offset, exposure : str or None
    clusters : tuple of str
    """

    weights: str = None
    offset: str = None
    exposure: str = None
    clusters: tuple = ()

    @classmethod
    def named(cls, weights, offset, exposure, clusters):
        """Columns as a user names them; clusters by one name, or several.

        Raises
        ------
        ValueError
            What is not a name.
        """
        names = {"weights": weights, "offset": offset, "exposure": exposure}
        for role, name in names.items():
            if name is not None and not isinstance(name, str):
                raise ValueError(f"{role} must be the name of a column of data, got a {type(name).__name__}.")
        clusters = () if clusters is None else (clusters,) if isinstance(clusters, str) else tuple(clusters)
        if len(clusters) > 2 or not all(isinstance(c, str) for c in clusters):
            raise ValueError("clusters must name one column of data, or two for two-way clustering, got "
                             f"{list(clusters)!r}.")
        return cls(weights, offset, exposure, clusters)

    @property
    def names(self):
        return [c for c in (self.weights, self.offset, self.exposure, *self.clusters) if c is not None]

    def weight_and_offset(self, frame, index):
        """Those of a chunk's rows, which have no missing value, (n,) arrays."""
        named = {"weights": self.weights, "offset": self.offset, "exposure": self.exposure}
        given = [None if name is None else frame[name] for name in named.values()]
        return weight_and_offset(given, [f"{role} column {name!r}" for role, name in named.items()], len(frame), index)


@dataclasses.dataclass(frozen=True)
class AsFrame:
    """Recipe: a part is a frame already."""

    def __call__(self, part, index):
        return part[0]


def open_table(data):
    """A pandas or dask DataFrame, an xarray Dataset, or a dask DataFrame over Parquet files; nothing is read yet.

    Parameters
    ----------
    data : pandas or dask DataFrame, xarray Dataset, dict of columns, or path(s)
        A path is a Parquet file, a folder or a glob pattern; a list of paths is read in its order.

    Raises
    ------
    ValueError
        Any other kind of object.
    """
    if isinstance(data, (str, os.PathLike)):
        return dd.read_parquet(os.fspath(data))
    if isinstance(data, (list, tuple)) and data and all(isinstance(p, (str, os.PathLike)) for p in data):
        return dd.read_parquet([os.fspath(p) for p in data])
    if isinstance(data, dict):
        return pd.DataFrame(data)
    if isinstance(data, (pd.DataFrame, dd.DataFrame, xr.Dataset)):
        return data
    raise ValueError(f"data is a {type(data).__name__}: a formula needs named columns; pass a pandas or dask "
                     "DataFrame, an xarray Dataset, or the path of Parquet files.")


def columns_of(table):
    """Names that a formula may use."""
    return [str(v) for v in table.variables] if isinstance(table, xr.Dataset) else list(table.columns)


def check_columns(names, table, formula):
    """Refuse names that are no columns of the table."""
    known = set(columns_of(table))
    for name in names:
        if name not in known:
            raise ValueError(f"data has no column {name!r}, which the call for {formula!r} names; its columns are "
                             f"{', '.join(map(repr, sorted(known)[:12]))}.")


def is_lazy_dataset(dataset):
    return any(variable.chunks for variable in dataset.variables.values())


def rows_of(table, columns):
    """The table's rows with some columns, a pandas or dask DataFrame; a Dataset's dimensions are unrolled row-major.

    Parameters
    ----------
    table : what `open_table` gave
    columns : list of str
    """
    if not isinstance(table, xr.Dataset):
        return table[columns]
    sizes = dict(table[[c for c in columns if c not in table.dims]].sizes) or dict(table.sizes)
    chosen = table[[c for c in columns if c not in table.dims]].reset_coords()
    if is_lazy_dataset(chosen):
        return chosen.unify_chunks().to_dask_dataframe(dim_order=list(sizes))[columns]
    return chosen.to_dataframe(dim_order=list(sizes)).reset_index()[columns]


def chunks(frame):
    """`Data` whose parts are (frame,): slices of a pandas frame, partitions of a dask one."""
    if isinstance(frame, pd.DataFrame):
        return Data([(frame.iloc[rows],) for rows in cuts(len(frame))], AsFrame(), [])
    frame = frame.optimize()
    return Data([(key,) for key in frame.__dask_keys__()], AsFrame(), [], [frame])


def complete(frame, columns):
    """A chunk's rows that miss none of some columns."""
    gaps = frame[columns].isna().any(axis=1).to_numpy()
    return frame[~gaps] if gaps.any() else frame


def read_with(data, prepare, names):
    """The same chunks read by another recipe; sweeps are counted on."""
    new = Data(data.parts, prepare, names, data.collections)
    new.n_passes, new.placed = data.n_passes, data.placed
    return new


def example(frame):
    """Two rows of the frame's columns and types; made-up values where it is lazy."""
    return frame.head(2) if isinstance(frame, pd.DataFrame) else frame._meta_nonempty
