"""Every method of the tables, fitted to one simulated data set: name -> slopes."""

import dataclasses
import math
import warnings

import numpy as np

from benchmarks.paper.published_rivals import default_sgd, support_rows

from daskglm_rep import DivideAndConquerGLM, GLMRegressor, StochasticGLM, SubsampledGLM
from daskglm_rep.partitions import Assigner, EqualDepth, KMeans, Natural, Partition
from daskglm_rep.representative_models import RepresentativeGLM

OURS = "MMR"          # moment-matched representatives: the paper has no such column

FAMILIES = {"linear": ("gaussian", "identity"), "logistic": ("binomial", "logit"),
            "logistic-interactions": ("binomial", "logit"), "cloglog": ("binomial", "cloglog"),
            "poisson": ("poisson", "log")}


@dataclasses.dataclass(frozen=True)
class Data:
    """One replicate: rows, truth and how many points the rivals may use."""

    X: np.ndarray
    y: np.ndarray
    coef: np.ndarray
    model: str
    seed: int
    n_samples: int = 20_000
    n_pilot: int = None
    n_clusters: int = 1000
    n_splits: int = 4
    n_homogeneous: int = 7

    @property
    def family(self):
        family, link = FAMILIES[self.model]
        return {"family": family, "link": link}

    @property
    def n_dc(self):
        """Blocks of about 1000 rows, the paper's."""
        return max(1, len(self.y) // 1000)


class Found(Partition):
    """A partition that learns its blocks at the first fit and keeps them for the next ones."""

    def __init__(self, partition):
        self.partition, self.subset, self.needs_sketch = partition, partition.subset, partition.needs_sketch
        self.needs_rows, self.n_expected = partition.needs_rows, partition.n_expected
        self.learnt = None

    def assigner(self, layout, rows, sketch, random_state=0):
        if self.learnt is None:
            self.learnt = self.partition.assigner(layout, rows, sketch, random_state)
        return self.learnt


class Labels(Natural):
    """Blocks given as whole numbers by `fit(..., blocks=)`, each one block wherever its rows lie."""

    is_local = False

    def assigner(self, layout, rows, sketch, random_state=0):
        return _Labels()


@dataclasses.dataclass(frozen=True)
class _Labels(Assigner):
    def keys(self, block):
        labels, = block.extra.values()
        return np.ascontiguousarray(labels, np.int64)


def full(data):
    return {"full": GLMRegressor(**data.family).fit(data.X, data.y).coef_}


def representatives(data, partition, name, blocks=None, ours=True):
    """MR, SMR and, where its blocks may be cut further, ours; MR is where SMR begins, so one collection serves both.

    "SMR" is Algorithm 1 as published, without the library's guard, after three rounds and ("SMR 4") after four;
    "SMR guarded" is the library's, after three.
    """
    given = dict(data.family, certify=False, random_state=data.seed, min_block_size=1)
    labels = {} if blocks is None else {"blocks": blocks}
    smr = RepresentativeGLM(representative="score-matching", partition=partition, n_rounds=4, tol=1e-12,
                            max_radius=math.inf, **given).fit(data.X, data.y, **labels)
    guarded = RepresentativeGLM(representative="score-matching", partition=partition, n_rounds=3, **given)
    guarded.fit(data.X, data.y, **labels)
    result = {f"{name} MR": smr.coef_path_[0][1:], f"{name} SMR": smr.coef_path_[3][1:], f"{name} SMR 4": smr.coef_,
              f"{name} SMR guarded": guarded.coef_}
    if ours:
        mmr = RepresentativeGLM(representative="moment-matched", partition=partition, n_rounds=3, tol=1e-6, **given)
        result[f"{name} {OURS}"] = mmr.fit(data.X, data.y).coef_
    return result


def equal_depth(data):
    return representatives(data, EqualDepth(data.n_splits), "equal-depth")


def k_means(data):
    """Centres are found once, and where rows are in memory they are assigned once for MR and SMR.

    Ten Lloyd iterations, the default of the R function that the paper calls, in standard deviations of the columns:
    that matters for ueNormal alone, where distances in raw units all but ignore the columns of small variance.
    """
    partition = Found(KMeans(data.n_clusters, subset=100_000, standardize=True, max_iter=10))
    given = dict(data.family, certify=False, random_state=data.seed, partition=partition, min_block_size=1)
    mmr = RepresentativeGLM(representative="moment-matched", n_rounds=3, tol=1e-6, **given).fit(data.X, data.y)
    if not isinstance(data.X, np.ndarray):
        return representatives(data, partition, "k-means", ours=False) | {f"k-means {OURS}": mmr.coef_}
    blocks = partition.learnt.of_rows(data.X)
    return representatives(data, Labels(), "k-means", blocks, ours=False) | {f"k-means {OURS}": mmr.coef_}


def partly_homogeneous(data):
    """Figure 2: k covariates cut at their quartiles into 4^k blocks, each cut at random into 4^(7 - k)."""
    blocks = part_random_part_grid(data.X, data.n_homogeneous, data.seed)
    return {name.strip(): slopes for name, slopes in representatives(data, Labels(), "", blocks, ours=False).items()}


def part_random_part_grid(X, k, seed):
    """Cut the first k columns at their quartiles into 4^k blocks, then each block at random into 4^(7 - k)."""
    blocks = np.zeros(len(X), np.int64)
    for j in range(k):
        blocks = 4 * blocks + np.searchsorted(np.quantile(X[:, j], (0.25, 0.5, 0.75)), X[:, j])
    size = 4 ** (X.shape[1] - k)
    return blocks * size + np.random.default_rng(seed).integers(0, size, len(X))


def simple_representative(kind, name):
    def method(data):
        est = RepresentativeGLM(representative=kind, partition=EqualDepth(data.n_splits), certify=False,
                                random_state=data.seed, min_block_size=1, **data.family)
        return {f"equal-depth {name}": est.fit(data.X, data.y).coef_}

    return method


def subsample(kind, name):
    def method(data):
        est = SubsampledGLM(kind, n_samples=data.n_samples, n_pilot=data.n_pilot, random_state=data.seed, **data.family)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")              # a separated sample of 1000 rows shows in the table
            return {name: est.fit(data.X, data.y).coef_}

    return method


def divide_and_conquer(data):
    est = DivideAndConquerGLM(partitions=data.n_dc, certify=False, random_state=data.seed, **data.family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"DC": est.fit(data.X, data.y).coef_}


def stochastic(data):
    """The paper's SGD stops early ("SGD", see `default_sgd`); "SGD one pass" is ours, one epoch in one walk."""
    import dask.array as da

    X, y = da.from_array(data.X, chunks=data.X.shape), da.from_array(data.y, chunks=-1)
    stopped, _ = default_sgd(data.X, data.y, data.seed)
    return {"SGD": stopped[1:],
            "SGD one pass": StochasticGLM(random_state=data.seed, **data.family).fit(X, y).coef_}


def support_points(data):
    """Full fit to the rows nearest to the support points of X."""
    rows = support_rows(data.X, data.n_samples, data.seed)
    return {"Support": GLMRegressor(**data.family).fit(data.X[rows], data.y[rows]).coef_}


MID, MEDIAN = simple_representative("midpoint", "Mid"), simple_representative("median", "Med")
A_OPTIMAL, UNIFORM, IBOSS = subsample("a-optimal", "A-opt"), subsample("uniform", "SRS"), subsample("iboss", "IBOSS")


def fit_all(data, methods):
    """Slopes by name, from several of the functions above; one that fails is reported as NaN with its message."""
    found = {}
    for method in methods:
        try:
            found |= method(data)
        except (ValueError, np.linalg.LinAlgError) as error:
            print(f"  ! {getattr(method, '__name__', method)}: {error}", flush=True)
    return found
