"""Tables A.7 and A.8: processor time on one thread, as ratios."""

import time
import warnings

import dask
import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.paper import methods as m
from benchmarks.paper.report import PUBLISHED
from benchmarks.paper.tables import SETTINGS, simulate
from daskglm_rep import GLMRegressor
from daskglm_rep.kernels.assignment import nearest
from daskglm_rep.representative_models import RepresentativeGLM
from sklearn.cluster import KMeans


def processor_time(work):
    """Seconds of processor time of one call on one thread."""
    with dask.config.set(scheduler="synchronous"), threadpool_limits(1):
        start = time.process_time()
        work()
        return time.process_time() - start


def table_a7(n_rows, n_replicates, settings=None, report=print):
    """Times of MR, one-round SMR, A-optimal subsampling and divide and conquer over the full fit's; partition given."""
    records = []
    _times(simulate(0, min(n_rows, 50_000), SETTINGS[0]))                   # compiles
    for setting in SETTINGS if settings is None else settings:
        for replicate in range(n_replicates):
            times = _times(simulate(replicate, n_rows, setting))
            for name, seconds in times.items():
                paper = PUBLISHED["table_a7"]["values"][setting]
                records.append(dict(row=setting, method=name, replicate=replicate, seconds=seconds,
                                    ratio=seconds / times["full"],
                                    paper_ratio=paper[name] / paper["full"] if name in paper else np.nan))
            report(f"table a7: {setting}, replicate {replicate + 1} of {n_replicates} done")
    return records


def _times(data):
    centers = KMeans(data.n_clusters, init="random", n_init=1, max_iter=5, random_state=0).fit(
        data.X[:20_000]).cluster_centers_
    blocks = nearest(data.X, centers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                                     # that one round leaves a distance
        return {name: processor_time(work) for name, work in _timed(data, blocks).items()}


def _timed(data, blocks):
    def representative(kind, n_rounds):
        est = RepresentativeGLM(representative=kind, partition=m.Labels(), n_rounds=n_rounds, certify=False,
                                min_block_size=1, **data.family)
        return lambda: est.fit(data.X, data.y, blocks=blocks)

    ours = RepresentativeGLM(representative="corrected", partition=m.Labels(), n_rounds=1, certify=False,
                             min_block_size=1, **data.family)
    return {"full": lambda: GLMRegressor(**data.family).fit(data.X, data.y), "MR": representative("mean", 0),
            "SMR": representative("score-matching", 1), "A-opt": lambda: m.A_OPTIMAL(data),
            "DC": lambda: m.divide_and_conquer(data),
            "corrected": lambda: ours.fit(data.X, data.y, blocks=blocks)}


def table_a8(n_rows, n_replicates, n_clusters=1000, subset=100_000, report=print):
    """Times of k-means on all rows and on a subset, and of assigning rows to given centres."""
    records = []
    for rows in (n for n in (100_000, 1_000_000, 10_000_000, 100_000_000) if n <= n_rows):
        for replicate in range(n_replicates):
            X = simulate(replicate, rows, "mzNormal").X
            found = KMeans(n_clusters, init="random", n_init=1, max_iter=10, random_state=replicate)
            times = {"subset_centers": processor_time(lambda: found.fit(X[:subset])),
                     "assignment_given_centers": processor_time(lambda: nearest(X, found.cluster_centers_))}
            if rows <= 1_000_000:
                everything = KMeans(n_clusters, init="random", n_init=1, max_iter=10, random_state=replicate)
                times["full_data_centers"] = processor_time(lambda: everything.fit(X))
            paper = PUBLISHED["table_a8"]["values"][str(rows)]
            records += [dict(row=str(rows), method=name, replicate=replicate, seconds=seconds,
                             ratio=seconds / times["subset_centers"],
                             paper_ratio=paper[name] / paper["subset_centers"]) for name, seconds in times.items()]
            report(f"table a8: {rows} rows, replicate {replicate + 1} of {n_replicates} done")
    return records
