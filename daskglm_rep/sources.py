"""Tables as chunks of pandas rows, and the roles of their columns: weights, offset, exposure, clusters."""

import dataclasses

import narwhals as nw
import numpy as np
import pandas as pd
import xarray as xr

from daskglm_rep.design import Data, are_co_aligned, cuts, is_frame, is_table
from daskglm_rep.graphs import Source, optimized
from daskglm_rep.pairing import check_order
from daskglm_rep.readers import Foreign, Texts, plain_objects
from daskglm_rep.recipes import weight_and_offset


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of columns beside those of a formula; those of columns given as such end in "=" (`beside`).

    Attributes
    ----------
    weights, offset, exposure : str or None
    clusters : tuple of str
    """

    weights: str = None
    offset: str = None
    exposure: str = None
    clusters: tuple = ()

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


def beside(table, weights, offset, exposure, clusters):
    """A table with the columns that were given beside it, and what all of them are called.

    Parameters
    ----------
    table : what `open_table` gave
    weights, offset, exposure : str, or (n,) Series or array, optional
        A name is a column of the table; anything else has a value for each of its rows.
    clusters : str, (n,) or (n, 2) Series, frame or array, or two of those, optional

    Returns
    -------
    table, Columns

    Raises
    ------
    ValueError
        What is neither; lengths and row labels that are not the table's.
    """
    named = {}
    for role, given in {"weights": weights, "offset": offset, "exposure": exposure}.items():
        table, named[role] = (table, given) if given is None else _placed(table, role, given)
    names = []
    for i, given in enumerate(_ways(clusters)):
        table, name = _placed(table, "clusters", given, i)
        names.append(name)
    if len(names) > 2:
        raise ValueError(f"clusters must name one column of data, or two for two-way clustering, got {len(names)}.")
    return table, Columns(**named, clusters=tuple(names))


def _ways(clusters):
    """The ways of clustering, one column each."""
    if clusters is None:
        return []
    if isinstance(clusters, (list, tuple)) and all(isinstance(c, str) or np.ndim(c) == 1 for c in clusters):
        return list(clusters)
    if isinstance(clusters, pd.DataFrame) or is_table(clusters):
        return [clusters[c] for c in clusters.columns]
    return list(np.asarray(clusters).T) if np.ndim(clusters) == 2 else [clusters]


def _placed(table, role, given, i=0):
    """A table that has a role's column, and the column's name."""
    if isinstance(given, str):
        return table, given
    given = nw.from_native(given, series_only=True, pass_through=True)
    given = given.to_pandas() if isinstance(given, nw.Series) else given
    name = f"{role}{i + 1 if i else ''}="
    if role != "clusters" and isinstance(given, (list, tuple)):
        given = np.asarray(given)
    if isinstance(given, np.ndarray) and given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if np.ndim(given) != 1 or not hasattr(given, "shape"):
        raise ValueError(f"{role} must be the name of a column of data, or a Series or array with a value for each of "
                         f"its rows, got a {type(given).__name__}.")
    if is_table(table):
        if not is_frame(given) or not are_co_aligned(table, given):
            raise ValueError(f"data is a dask DataFrame, so {role} must be the name of one of its columns, or a dask "
                             f"Series made of them, not a {type(given).__name__}: data.assign({role}=...).")
        return table.assign(**{name: given}), name
    if isinstance(table, xr.Dataset):
        return _placed_in_dataset(table, role, given, name)
    table = table if isinstance(table, pd.DataFrame) else table.read(table.columns)
    check_order(table, [(role, given)])
    if len(given) != len(table):
        raise ValueError(f"data has {len(table)} rows and {role} has {len(given)}: give one value a row.")
    return table.assign(**{name: getattr(given, "array", np.asarray(given))}), name


def _placed_in_dataset(table, role, given, name):
    if not isinstance(given, xr.DataArray):
        raise ValueError(f"data is a Dataset, so {role} must be the name of a variable, or a DataArray, not a "
                         f"{type(given).__name__}.")
    try:
        return xr.merge([table, given.reset_coords(drop=True).rename(name)], join="exact"), name
    except ValueError:
        raise ValueError(f"{role} has other coordinates than data: give a DataArray over data's own.") from None


def columns_of(table):
    """Names that a formula may use."""
    return [str(v) for v in table.variables] if isinstance(table, xr.Dataset) else list(table.columns)


def check_columns(names, table, formula):
    """Refuse names that are no columns of the table."""
    known = set(columns_of(table))
    for name in names:
        if name not in known and name.endswith("="):
            raise ValueError(f"The fit was given its {name[:-1]} beside data, as a Series or array: give those of "
                             f"these rows the same way, {name}...")
        if name not in known:
            hint = ": compute it first, as a column of its own" if "(" in name else ""
            raise ValueError(f"data has no column {name!r}, which the call for {formula!r} names{hint}; its columns "
                             f"are {', '.join(map(repr, sorted(known)[:12]))}.")


def is_lazy_dataset(dataset):
    return any(variable.chunks for variable in dataset.variables.values())


def rows_of(table, columns):
    """The table's rows with some columns, a pandas or dask DataFrame; a Dataset's dimensions are unrolled row-major.

    Parameters
    ----------
    table : what `open_table` gave
    columns : list of str

    Raises
    ------
    ValueError
        Two columns of one of the names.
    """
    known = pd.Index(columns_of(table))
    twice = set(known[known.duplicated()]) & set(columns)
    if twice:
        name = min(twice)
        raise ValueError(f"data has {list(known).count(name)} columns called {name!r}: give each a name of its own.")
    if isinstance(table, (Foreign, Texts)):
        return plain_objects(table.read(columns))
    if not isinstance(table, xr.Dataset):
        return plain_objects(table[columns]) if isinstance(table, pd.DataFrame) else table[columns]
    sizes = dict(table[[c for c in columns if c not in table.dims]].sizes) or dict(table.sizes)
    chosen = table[[c for c in columns if c not in table.dims]].reset_coords()
    if is_lazy_dataset(chosen):
        return chosen.unify_chunks().to_dask_dataframe(dim_order=list(sizes))[columns]
    return chosen.to_dataframe(dim_order=list(sizes)).reset_index()[columns]


def chunks(frame):
    """`Data` whose parts are (frame,): slices of a pandas frame, partitions of a dask one."""
    if isinstance(frame, pd.DataFrame):
        return Data([(frame.iloc[rows],) for rows in cuts(len(frame))], AsFrame(), [])
    frame = optimized(frame)
    parts = [(key,) for key in frame.__dask_keys__()]
    return Data(parts, AsFrame(), [], Source(parts, [frame], dict(frame.__dask_graph__())))


def complete(frame, columns):
    """A chunk's rows that miss none of some columns."""
    gaps = frame[columns].isna().any(axis=1).to_numpy()
    return frame[~gaps] if gaps.any() else frame


def example(frame):
    """Two rows of the frame's columns and types; made-up values where it is lazy."""
    return frame.head(2) if isinstance(frame, pd.DataFrame) else frame._meta_nonempty
