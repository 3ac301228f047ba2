"""The tables as data: which data sets, which methods, compared with what."""

import dataclasses

import dask
import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.paper import methods as m
from daskglm_rep import datasets

LAZY = 20_000_000        # rows from which on a data set is drawn chunk by chunk in every sweep, and has no full fit


@dataclasses.dataclass(frozen=True)
class Study:
    """One or two tables of errors from the same fits.

    Attributes
    ----------
    cells : dict of row label -> settings of `simulate`
    methods : list of callables
    published : dict of "true", "full" -> (table, key) in published.json
    prefix : str
        Of our names, that the paper's table leaves out.
    """

    cells: dict
    methods: list
    published: dict
    prefix: str = ""


SETTINGS = datasets.SETTINGS
REPRESENTATIVES = [m.equal_depth, m.k_means]


def both(table):
    return {"true": (table, "rmse_from_true"), "full": (table, "rmse_from_full")}


STUDIES = {
    "2": Study({s: dict(setting=s) for s in SETTINGS},
               [m.full, *REPRESENTATIVES, m.A_OPTIMAL, m.divide_and_conquer, m.stochastic], {"true": ("2", "values")}),
    "3": Study({s: dict(setting="mzNormal", model=s) for s in ("cloglog", "poisson", "logistic-interactions")},
               [m.full, m.k_means], both("3"), "k-means "),
    "4": Study({str(n): dict(setting="mzNormal", n_rows=n) for n in (10 ** 5, 10 ** 6, 10 ** 7, 10 ** 8)},
               [m.full, m.k_means, m.A_OPTIMAL, m.divide_and_conquer], both("4"), "k-means "),
    "a1": Study({s: dict(setting=s, model="linear") for s in SETTINGS},
                [m.full, m.MID, m.MEDIAN, *REPRESENTATIVES, m.IBOSS],
                {"true": ("a1", "values"), "full": ("a2", "values")}),
    "a4": Study({s: dict(setting=s, n_rows=10_000, n_samples=1_000, n_pilot=200) for s in SETTINGS},
                [m.full, m.k_means, m.A_OPTIMAL, m.UNIFORM, m.support_points], {"full": ("a4", "values")}, "k-means "),
    "a5": Study({str(k): dict(setting="mzNormal", n_splits=k) for k in (2, 3, 4, 5)}, [m.full, m.equal_depth],
                both("a5"), "equal-depth "),
    "a6": Study({str(k): dict(setting="mzNormal", n_clusters=k) for k in (500, 1000, 2000, 3000)},
                [m.full, m.k_means], both("a6"), "k-means "),
    "figure2": Study({str(k): dict(setting="mzNormal", n_homogeneous=k) for k in range(8)},
                     [m.full, m.partly_homogeneous, m.A_OPTIMAL, m.divide_and_conquer], {"full": ("figure_2", "")}),
}


def cells(table, n_rows, settings=None):
    """Row labels of a table that fit into `n_rows` rows and are among `settings`."""
    return [label for label, options in STUDIES[table].cells.items()
            if (settings is None or label in settings) and options.get("n_rows", n_rows) <= max(n_rows, 10_000)]


def simulate(replicate, n_rows, setting, model="logistic", **options):
    """One replicate as `methods.Data`; the seed is the replicate's number."""
    chunks = 1_000_000 if n_rows > LAZY else None
    X, y, coef = datasets.simulate_paper(setting, n_rows, 7, model, random_state=replicate, chunks=chunks)
    return m.Data(X, y, coef, model, replicate, **options)


def single_threaded():
    """For a process that is one of several."""
    dask.config.set(scheduler="synchronous")
    threadpool_limits(1)


def rmse(slopes, target):
    """sqrt(mean over the slopes of squared differences), the paper's measure; the intercept is left out."""
    return float(np.sqrt(np.mean((slopes - target) ** 2)))


def run(table, label, replicate, n_rows):
    """Errors of one replicate of one row of a table.

    Parameters
    ----------
    table : str
        A key of `STUDIES`.
    label : str
        A row of it.
    n_rows : int
        Where the table does not say.

    Returns
    -------
    list of dict
        table, against, row, method, replicate, error.
    """
    study = STUDIES[table]
    options = {"n_rows": n_rows} | study.cells[label]
    data = simulate(replicate, **options)
    methods = [f for f in study.methods if not (f is m.full and options["n_rows"] > LAZY)]
    found = m.fit_all(data, methods)
    records = []
    for against in study.published:
        target = data.coef[1:] if against == "true" else found.get("full")
        records += [dict(table=table, against=against, row=label, method=name.removeprefix(study.prefix),
                         replicate=replicate, error=rmse(slopes, target))
                    for name, slopes in found.items() if target is not None and (against, name) != ("full", "full")]
    return records
