"""Two classic surveys that statsmodels ships, as folders of Parquet files."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq


def rand_hie(folder, n_files=8):
    """Write the RAND Health Insurance Experiment to a folder of Parquet files, once.

    20,190 rows of persons in years, as statsmodels ships them: lncoins, idp, lpi, fmde, physlm, disea, hlthg, hlthf and
    hlthp, with the number of outpatient visits to a doctor, `mdvis`, under the name `docvis`.

    Parameters
    ----------
    folder : path-like
        Where to write `part-0000.parquet` and so on, in row order; nothing is done where they are already.
    n_files : int, default 8
        Number of files.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ImportError
        statsmodels is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import dask.dataframe as dd
    >>> from daskglm_rep import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(dd.read_parquet(datasets.rand_hie(folder)))
    20190
    """
    return _write_parts(lambda: _survey("randhie").rename(columns={"mdvis": "docvis"}), 20_190, folder, n_files)


def affairs(folder, n_files=4):
    """Write Fair's survey on extramarital affairs to a folder of Parquet files, once.

    6,366 rows, as statsmodels ships them: rate_marriage, age, yrs_married, children, religious, educ, occupation,
    occupation_husb and affairs (time spent), with the indicator `affair` (0 or 1) that `affairs` is positive.

    Parameters
    ----------
    folder : path-like
        Where to write `part-0000.parquet` and so on, in row order; nothing is done where they are already.
    n_files : int, default 4
        Number of files.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ImportError
        statsmodels is not installed.

    Examples
    --------
    >>> import tempfile
    >>> import dask.dataframe as dd
    >>> from daskglm_rep import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(dd.read_parquet(datasets.affairs(folder)))
    6366
    """

    def frame():
        survey = _survey("fair")
        return survey.assign(affair=(survey["affairs"] > 0).astype(np.int8))

    return _write_parts(frame, 6_366, folder, n_files)


def _survey(name):
    try:
        from statsmodels import datasets
    except ImportError as error:
        raise ImportError(
            f'The {name} data come with statsmodels, which is not installed: pip install "daskglm_rep[demo]".'
        ) from error
    return getattr(datasets, name).load_pandas().data


def _write_parts(frame, n_rows, folder, n_files):
    folder = Path(folder)
    paths = [folder / f"part-{number:04d}.parquet" for number in range(n_files)]
    make_room(folder, paths)
    if all(path.exists() for path in paths) and sum(pq.read_metadata(path).num_rows for path in paths) == n_rows:
        return folder
    whole = frame()
    for path, rows in zip(paths, np.array_split(np.arange(n_rows), n_files), strict=True):
        whole.iloc[rows].to_parquet(path, index=False)
    return folder


def make_room(folder, paths):
    """Make a folder, and refuse one with other Parquet files than these."""
    folder.mkdir(parents=True, exist_ok=True)
    strangers = sorted({path.name for path in folder.glob("*.parquet")} - {path.name for path in paths})
    if strangers:
        raise FileExistsError(f"{folder} holds other Parquet files ({strangers[0]}, ...): choose another folder.")
