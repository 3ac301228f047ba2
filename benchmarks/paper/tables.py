"""The tables as data: which data sets, which methods, compared with what."""

import dataclasses

import numpy as np

from benchmarks.paper import methods as m
from daskglm_rep import datasets


@dataclasses.dataclass(frozen=True)
class Study:
    """One table of errors.

    Attributes
    ----------
    cells : list of (row label, settings of `simulate`)
    methods : list of callables
    against : tuple of "true", "full"
    published : dict of against -> key in the table of published.json
    """

    cells: list
    methods: list
    against: tuple = ("true",)
    published: dict = dataclasses.field(default_factory=lambda: {"true": "values"})
    prefix: str = ""


SETTINGS = datasets.SETTINGS
REPRESENTATIVES = [m.equal_depth, m.k_means]
BOTH = {"true": "rmse_from_true", "full": "rmse_from_full"}

STUDIES = {
    "2": Study([(s, dict(setting=s)) for s in SETTINGS],
               [m.full, *REPRESENTATIVES, m.A_OPTIMAL, m.divide_and_conquer, m.stochastic]),
    "3": Study([(s, dict(setting="mzNormal", model=s)) for s in ("cloglog", "poisson", "logistic-interactions")],
               [m.full, m.k_means], ("true", "full"), BOTH, "k-means "),
    "4": Study([(str(n), dict(setting="mzNormal", n_rows=n)) for n in (100_000, 1_000_000, 10_000_000)],
               [m.full, m.k_means, m.A_OPTIMAL, m.divide_and_conquer], ("true", "full"), BOTH, "k-means "),
    "a1": Study([(s, dict(setting=s, model="linear")) for s in SETTINGS],
                [m.full, m.MID, m.MEDIAN, *REPRESENTATIVES, m.IBOSS]),
    "a2": Study([(s, dict(setting=s, model="linear")) for s in SETTINGS], [m.full, *REPRESENTATIVES], ("full",),
                {"full": "values"}),
    "a4": Study([(s, dict(setting=s, n_rows=10_000, n_samples=1_000, n_pilot=200)) for s in SETTINGS],
                [m.full, m.k_means, m.A_OPTIMAL, m.UNIFORM], ("full",), {"full": "values"}, "k-means "),
    "a5": Study([(str(k), dict(setting="mzNormal", n_splits=k)) for k in (2, 3, 4, 5)], [m.full, m.equal_depth],
                ("true", "full"), BOTH, "equal-depth "),
    "a6": Study([(str(k), dict(setting="mzNormal", n_clusters=k)) for k in (500, 1000, 2000, 3000)],
                [m.full, m.k_means], ("true", "full"), BOTH, "k-means "),
}


def simulate(replicate, n_rows, setting, model="logistic", **options):
    """One replicate as `methods.Data`; the seed is the replicate's number."""
    n_features = 7
    X, y, coef = datasets.simulate_paper(setting, n_rows, n_features, model, random_state=replicate)
    return m.Data(X, y, coef, model, replicate, **options)


def rmse(slopes, target):
    """sqrt(mean over the slopes of squared differences), the paper's measure; the intercept is left out."""
    return float(np.sqrt(np.mean((slopes - target) ** 2)))


def run(table, n_rows, n_replicates, settings=None, methods=None, report=print):
    """Errors of every replicate of a table.

    Parameters
    ----------
    table : str
        A key of `STUDIES`.
    n_rows : int
        Rows, and the largest number of rows where the table varies it.
    settings : list of str, optional
        Row labels to keep.
    methods : list of callables, optional
        Instead of the table's.

    Returns
    -------
    list of dict
        against, row, method, replicate, error.
    """
    study, records = STUDIES[table], []
    for label, options in study.cells:
        rows = options.get("n_rows", n_rows)
        if settings is not None and label not in settings or rows > max(n_rows, 10_000):
            continue
        rest = {k: v for k, v in options.items() if k != "n_rows"}
        for replicate in range(n_replicates):
            data = simulate(replicate, rows, **rest)
            found = m.fit_all(data, study.methods if methods is None else methods)
            for against in study.against:
                target = data.coef[1:] if against == "true" else found["full"]
                for name, slopes in found.items():
                    if not (against == "full" and name == "full"):
                        short = name.removeprefix(study.prefix)
                        records.append(dict(against=against, row=label, method=short, replicate=replicate,
                                            error=rmse(slopes, target)))
            report(f"table {table}: {label}, replicate {replicate + 1} of {n_replicates} done")
    return records


# ---------------------------------------------------------------- figure 2


def figure_2(n_rows, n_replicates, covariates=range(8), report=print):
    """Errors against k, the number of covariates under equal-depth partitions (section 5)."""
    records = []
    for replicate in range(n_replicates):
        data = simulate(replicate, n_rows, "mzNormal")
        base = m.fit_all(data, [m.full, m.A_OPTIMAL, m.divide_and_conquer])
        for k in covariates:
            blocks = part_random_part_grid(data.X, k, replicate)
            found = m.representatives(data, m.Labels(), "", blocks, ours=False)
            found = {name.strip(): slopes for name, slopes in found.items()} | {n: base[n] for n in ("A-opt", "DC")}
            records += [dict(against="full", row=str(k), method=name, replicate=replicate,
                             error=rmse(slopes, base["full"]))
                        for name, slopes in found.items()]
            report(f"figure 2: k = {k}, replicate {replicate + 1} of {n_replicates} done")
    return records


def part_random_part_grid(X, k, seed):
    """Cut the first k columns at their quartiles into 4^k blocks, then each block at random into 4^(7 - k)."""
    blocks = np.zeros(len(X), np.int64)
    for j in range(k):
        blocks = 4 * blocks + np.searchsorted(np.quantile(X[:, j], (0.25, 0.5, 0.75)), X[:, j])
    size = 4 ** (X.shape[1] - k)
    return blocks * size + np.random.default_rng(seed).integers(0, size, len(X))
