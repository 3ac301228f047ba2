"""Data to try the library on: the paper's simulations, its airline study in miniature, and two classic surveys.

The simulations follow Li and Yang, "Score-Matching Representative Approach for Big Data Analysis with Generalized
Linear Models" (sections and tables are quoted by their numbers there). Rows are drawn in streams of `STREAM_ROWS` rows,
each with a seed of its own, so a row depends on `random_state` and its position alone: not on the chunks, not on the
number of rows asked for, not on whether arrays are eager or lazy.
"""

import calendar
from itertools import combinations
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
from scipy.special import expit, ndtri
from scipy.stats import poisson

from daskglm_rep.real_data import affairs, make_room, rand_hie

__all__ = ["AIRLINE_COEFFICIENTS", "AIRLINE_COEFFICIENTS_INFLATED", "MODELS", "SETTINGS", "affairs", "airline_design",
           "paper_coefficients", "rand_hie", "simulate_airline_months", "simulate_paper"]

SETTINGS = ("mzNormal", "nzNormal", "ueNormal", "mixNormal", "T3", "EXP", "BETA")
MODELS = ("linear", "logistic", "logistic-interactions", "cloglog", "poisson")
STREAM_ROWS = 5_000  # divides the round chunk sizes people choose, so that no stream is drawn for two chunks

AIRLINE_COEFFICIENTS = {
    "Intercept": -2.322,
    "QUARTER2": 7.083e-02, "QUARTER3": 3.215e-02, "QUARTER4": -1.396e-01,
    "DAY_OF_WEEK2": -1.251e-01, "DAY_OF_WEEK3": -1.178e-01, "DAY_OF_WEEK4": 4.755e-02, "DAY_OF_WEEK5": 4.443e-02,
    "DAY_OF_WEEK6": -2.268e-01, "DAY_OF_WEEK7": -1.022e-01,
    "DEP_TIME_BLK2": 4.229e-01, "DEP_TIME_BLK3": 1.019, "DEP_TIME_BLK4": 1.230,
    "DISTANCE": 7.955e-05,
}
"""Oracle coefficients of the airline model, Table A.9."""

AIRLINE_COEFFICIENTS_INFLATED = AIRLINE_COEFFICIENTS | {"DISTANCE": 7.955e-04}
"""Table A.9's second column: the coefficient of DISTANCE times ten."""


# ---------------------------------------------------------------- the simulations of section 3 and appendix A


def simulate_paper(setting, n_rows, n_features=7, model="logistic", coef=None, random_state=0, chunks=None):
    """Simulate one of the paper's data sets (section 3.2, Table 3, section A.1).

    With C the matrix of ones on the diagonal and 0.5 off it, d covariates are drawn from

    ========== =====================================================================
    mzNormal   N(0, C)
    nzNormal   N(1.5, C); imbalanced responses
    ueNormal   N(0, C_u), variances 1², ..., d² and covariances 0.5
    mixNormal  half N(1, C), half N(-1, C); bimodal
    T3         multivariate t with 3 degrees of freedom, scale C, divided by 10
    EXP        independent exponentials of rate 2
    BETA       independent Beta(0.5, 0.5)
    ========== =====================================================================

    Parameters
    ----------
    setting : str
        One of `SETTINGS`, the distribution of the covariates.
    n_rows : int
        Number of rows.
    n_features : int, default 7
        Columns of X. Equal to d, except for "logistic-interactions", where the columns are all products of distinct
        covariates (x1, x2, x3, x1 x2, x1 x3, x2 x3, x1 x2 x3 for 7): 2**d - 1.
    model : str, default "logistic"
        "linear" (unit error variance), "logistic", "logistic-interactions", "cloglog" or "poisson" (log link).
    coef : array of shape (n_features + 1,), optional
        True coefficients, intercept first; by default 0 and then 0.5 throughout. See also `paper_coefficients`.
    random_state : int or None, default 0
        Seed; None draws one from the operating system.
    chunks : int, tuple of int or "auto", optional
        Row chunks. None gives numpy arrays, anything else lazy dask arrays with the same values.

    Returns
    -------
    X : array of shape (n_rows, n_features)
        Design without the intercept column.
    y : array of shape (n_rows,)
        Response, as floats.
    coef : ndarray of shape (n_features + 1,)
        True coefficients, intercept first.

    Raises
    ------
    ValueError
        An unknown setting or model, or a number of features or coefficients that does not fit.

    Examples
    --------
    >>> from daskglm_rep import datasets
    >>> made = datasets.simulate_paper("mixNormal", 1000, chunks=250)
    >>> made[0].shape, made[0].numblocks
    ((1000, 7), (4, 1))
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}; got {setting!r}.")
    if model not in MODELS:
        raise ValueError(f"model must be one of {', '.join(MODELS)}; got {model!r}.")
    if model == "logistic-interactions" and (n_features + 1).bit_count() != 1:
        raise ValueError(f"d covariates and their interactions make 2**d - 1 features; got n_features={n_features}.")
    coef = np.r_[0.0, np.full(n_features, 0.5)] if coef is None else np.asarray(coef, dtype=float)
    if coef.shape != (n_features + 1,):
        raise ValueError(f"coef must hold the intercept and {n_features} slopes; got shape {coef.shape}.")
    seed = np.random.SeedSequence(random_state).entropy
    design = dict(setting=setting, model=model, n_features=n_features, seed=seed)
    response = dict(model=model, coef=tuple(coef.tolist()), seed=seed)
    if chunks is None:
        X = _design_rows(0, n_rows, **design)
        return X, _response_rows(X, 0, **response), coef
    chunks = da.core.normalize_chunks((chunks, n_features), shape=(n_rows, n_features), dtype=np.float64)
    X = da.map_blocks(_design_chunk, chunks=chunks, dtype=np.float64, meta=np.empty((0, 0)), **design)
    y = da.map_blocks(_response_chunk, X, drop_axis=1, dtype=np.float64, meta=np.empty(0), **response)
    return X, y, coef


def paper_coefficients(n_features, norm=3.0, random_state=0):
    """Draw true coefficients in a random direction, as where the paper varies the dimension (section 5, A.7).

    Parameters
    ----------
    n_features : int
        Number of slopes.
    norm : float, default 3.0
        Euclidean norm of the whole vector, which keeps the spread of the linear predictor as the dimension grows.
    random_state : int, default 0
        Seed.

    Returns
    -------
    ndarray of shape (n_features + 1,)
        Intercept first.

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import datasets
    >>> round(float(np.linalg.norm(datasets.paper_coefficients(7))), 6)
    3.0
    """
    direction = np.random.default_rng(random_state).standard_normal(n_features + 1)
    return norm * direction / np.linalg.norm(direction)


def _design_chunk(block_info=None, **design):
    start, stop = block_info[None]["array-location"][0]
    return _design_rows(start, stop, **design)


def _response_chunk(X, block_info=None, **response):
    start, _ = block_info[0]["array-location"][0]
    return _response_rows(X, start, **response)


def _streams(start, stop, seed, kind):
    """Yield (generator, rows of the stream, rows of the output) for every stream that rows [start, stop) touch."""
    for number in range(start // STREAM_ROWS, -(-stop // STREAM_ROWS)):
        first = number * STREAM_ROWS
        low, high = max(start, first), min(stop, first + STREAM_ROWS)
        # the key is that of SeedSequence(seed).spawn(...)[kind].spawn(...)[number]
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(kind, number)))
        yield generator, slice(low - first, high - first), slice(low - start, high - start)


def _design_rows(start, stop, setting, model, n_features, seed):
    X = np.empty((stop - start, n_features))
    n_covariates = n_features.bit_length() if model == "logistic-interactions" else n_features
    for generator, of_stream, of_output in _streams(start, stop, seed, kind=0):
        X[of_output, :n_covariates] = _covariates(setting, STREAM_ROWS, n_covariates, generator)[of_stream]
    if model == "logistic-interactions":
        products = [c for size in range(2, n_covariates + 1) for c in combinations(range(n_covariates), size)]
        for column, factors in enumerate(products, start=n_covariates):
            X[:, column] = X[:, factors].prod(axis=1)
    return X


def _covariates(setting, n_rows, n_covariates, generator):
    shape = (n_rows, n_covariates)
    if setting == "EXP":
        return generator.exponential(scale=1 / 2, size=shape)
    if setting == "BETA":
        return generator.beta(0.5, 0.5, size=shape)
    # covariances of 0.5 are one shared factor of variance 0.5; no matrix product, so no rounding that depends on shapes
    variance = np.arange(1, n_covariates + 1) ** 2 if setting == "ueNormal" else np.ones(n_covariates)
    Z = generator.standard_normal(shape) * np.sqrt(variance - 0.5)
    Z += np.sqrt(0.5) * generator.standard_normal((n_rows, 1))
    if setting == "nzNormal":
        Z += 1.5
    elif setting == "mixNormal":
        Z += generator.choice([-1.0, 1.0], size=(n_rows, 1))
    elif setting == "T3":
        Z /= 10 * np.sqrt(generator.chisquare(3, size=(n_rows, 1)) / 3)
    return Z


def _response_rows(X, start, model, coef, seed):
    # one uniform a row and its quantile, so that a row's response never depends on the rows before it
    uniform = np.empty(X.shape[0])
    for generator, of_stream, of_output in _streams(start, start + X.shape[0], seed, kind=1):
        uniform[of_output] = generator.random(STREAM_ROWS)[of_stream]
    uniform = uniform.clip(min=2.0**-54)  # random() can be 0, whose quantiles lie outside the support
    eta = np.full(X.shape[0], coef[0])
    for column, slope in enumerate(coef[1:]):  # not X @ coef: its last bit depends on the chunk's shape
        eta += slope * X[:, column]
    if model == "linear":
        return eta + ndtri(uniform)
    if model == "poisson":
        return _poisson_quantile(uniform, np.exp(eta))
    return (uniform < (-np.expm1(-np.exp(eta)) if model == "cloglog" else expit(eta))).astype(np.float64)


def _poisson_quantile(uniform, mu):
    # scipy's quantile is NaN for means above about 1e10; from 1e4 on Cornish-Fisher is off by one in 3 of 10,000 rows
    z = ndtri(uniform)
    y = np.floor(mu + np.sqrt(mu) * z + (z * z - 1) / 6 + 0.5)
    small = mu < 1e4
    y[small] = poisson.ppf(uniform[small], mu[small])
    return y


# ---------------------------------------------------------------- the airline study of sections 4 and A.9


def simulate_airline_months(folder, n_months=12, rows_per_month=50_000, random_state=0, coefficients=None, replicate=0):
    """Write simulated months of US flights, one Parquet file each, from October 1987 on (section 4).

    Covariates are made up to look like the real ones: dates follow the calendar with thinner Saturdays, two flights in
    a hundred leave before 6 am, distances are those of 2,000 routes whose traffic changes from month to month and grows
    longer over the years. Each file holds one value of QUARTER: a natural partition whose blocks differ. Responses are
    drawn from the logistic model with the oracle coefficients.

    Parameters
    ----------
    folder : path-like
        Where to write `flights_YYYY_MM.parquet`; made if missing. Files of the same months are written anew.
    n_months : int, default 12
        Number of files; the paper has 387, until December 2019. Ten or more see all four quarters.
    rows_per_month : int, default 50_000
        Flights a month; the real data has 487,573 on average.
    random_state : int, default 0
        Seed. Month m is the same whatever n_months is.
    coefficients : dict, optional
        Coefficients by name; default `AIRLINE_COEFFICIENTS`.
    replicate : int, default 0
        Another number draws other responses for the same flights, as the paper's ten replicates do.

    Returns
    -------
    pathlib.Path
        The folder. Columns of the files: YEAR, MONTH, QUARTER (1-4), DAY_OF_WEEK (1 is Monday), DEP_TIME_BLK (1-4,
        cut at 6, 12 and 18 hours), DISTANCE (miles), ArrDel15 (1: fifteen minutes late or more).

    Raises
    ------
    FileExistsError
        The folder holds other Parquet files, which a reader of the folder would take for months.

    Examples
    --------
    >>> import tempfile
    >>> import dask.dataframe as dd
    >>> from daskglm_rep import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = datasets.simulate_airline_months(folder, n_months=2, rows_per_month=100)
    ...     len(dd.read_parquet(folder))
    200
    """
    folder = Path(folder)
    months = [divmod(1987 * 12 + 9 + m, 12) for m in range(n_months)]
    paths = [folder / f"flights_{year}_{month + 1:02d}.parquet" for year, month in months]
    make_room(folder, paths)
    coefficients = AIRLINE_COEFFICIENTS if coefficients is None else coefficients
    for number, ((year, month), path) in enumerate(zip(months, paths, strict=True)):
        flights = _month_of_flights(number, year, month + 1, rows_per_month, random_state)
        design = airline_design(flights)
        probability = expit(sum(coefficients[name] * design[name] for name in design))
        generator = np.random.default_rng(np.random.SeedSequence(random_state, spawn_key=(2, number, replicate)))
        flights["ArrDel15"] = (generator.random(rows_per_month) < probability).astype(np.int8)
        flights.to_parquet(path, index=False)
    return folder


def airline_design(flights):
    """Expand flights into the 14 columns of the airline model.

    Parameters
    ----------
    flights : pandas.DataFrame
        With QUARTER, DAY_OF_WEEK, DEP_TIME_BLK and DISTANCE; any part of the data, since the levels are known.

    Returns
    -------
    pandas.DataFrame
        Floats, one column for each name of `AIRLINE_COEFFICIENTS`, in that order.

    Examples
    --------
    >>> import tempfile
    >>> import dask.dataframe as dd
    >>> from daskglm_rep import datasets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = datasets.simulate_airline_months(folder, n_months=2, rows_per_month=100)
    ...     found = datasets.airline_design(dd.read_parquet(folder).compute())
    >>> found.shape
    (200, 14)
    """
    columns = {}
    for name in AIRLINE_COEFFICIENTS:
        if name == "Intercept":
            columns[name] = np.ones(len(flights))
        elif name == "DISTANCE":
            columns[name] = flights[name].to_numpy(dtype=np.float64)
        else:
            columns[name] = (flights[name[:-1]] == int(name[-1])).to_numpy(dtype=np.float64)
    return pd.DataFrame(columns, index=flights.index)


def _month_of_flights(number, year, month, n_rows, random_state):
    generator = np.random.default_rng(np.random.SeedSequence(random_state, spawn_key=(0, 0)))
    distance = np.exp(generator.normal(6.3, 0.8, size=2_000)).round().clip(8, 4983)  # miles, near the real log-moments
    traffic = generator.pareto(1.2, size=2_000) + 0.05

    generator = np.random.default_rng(np.random.SeedSequence(random_state, spawn_key=(1, number)))
    traffic = traffic * generator.gamma(4.0, 0.25, size=2_000) * (distance / 600) ** (0.3 * number / 387)
    route = generator.choice(2_000, size=n_rows, p=traffic / traffic.sum())

    first_weekday, n_days = calendar.monthrange(year, month)
    weekday_of_day = (first_weekday + np.arange(n_days)) % 7 + 1
    busyness = np.where(weekday_of_day == 6, 0.85, 1.0)
    weekday = generator.choice(weekday_of_day, size=n_rows, p=busyness / busyness.sum())

    cuts = np.where(distance[route, None] < 1_500, [0.015, 0.395, 0.765], [0.045, 0.405, 0.755])  # night flights go far
    block = 1 + (generator.random((n_rows, 1)) >= cuts).sum(axis=1)
    columns = {
        "YEAR": np.full(n_rows, year, dtype=np.int16),
        "MONTH": np.full(n_rows, month, dtype=np.int8),
        "QUARTER": np.full(n_rows, (month + 2) // 3, dtype=np.int8),
        "DAY_OF_WEEK": weekday.astype(np.int8),
        "DEP_TIME_BLK": block.astype(np.int8),
        "DISTANCE": distance[route],
    }
    return pd.DataFrame(columns)
