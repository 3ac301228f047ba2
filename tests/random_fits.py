"""Random fits by seed: any family and link, ugly columns, weights, offsets, containers, chunkings, covariances.

`case(seed)` draws one, `fit(case)` asks the library, `naive.Problem` is the judge (see test_differential.py).
"""

import contextlib
import dataclasses
import warnings

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from scipy import special

import naive
import naive_models
from daskglm_rep import GLMClassifier, GLMRegressor, LogisticRegression, families, links

POSITIVE = ("log", "identity", "sqrt", "inverse", "inverse_squared", "power")
LINKS = {
    "gaussian": ("identity", "identity", "log", "sqrt", "inverse", "inverse_squared", "power"),
    "binomial": ("logit", "logit", "probit", "cloglog", "loglog", "cauchit", *POSITIVE),
    "poisson": ("log", "log", *POSITIVE),
    "gamma": ("log", *POSITIVE),
    "inverse_gaussian": ("log", *POSITIVE),
    "tweedie": ("log", *POSITIVE),
    "negative_binomial": ("log", *POSITIVE),
    "multinomial": (None,),
}
FAMILIES = ("gaussian", "binomial", "binomial", "binomial", "poisson", "poisson", "gamma", "inverse_gaussian",
            "tweedie", "negative_binomial", "multinomial")
CONTAINERS = ("numpy", "dask", "dask", "pandas", "ddf", "unknown")
COV_TYPES = ("nonrobust", "nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster")
TAILS = ("normal", "normal", "t2", "lognormal", "cauchy", "dummy", "rare")


@dataclasses.dataclass
class Case:
    """One random fit: rows as numpy arrays, and how the library is to get and fit them.

    `mild` says that the columns are normal, of unit scale and well apart: there the errors must be small.
    """

    seed: int
    family: str
    link: object
    parameter: float
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    exposure: np.ndarray
    clusters: np.ndarray
    intercept: bool
    kind: str
    ridge: float
    cov_type: str
    container: str
    chunks: list
    mild: bool

    def __str__(self):
        link = "" if self.link is None else f" {self.link if isinstance(self.link, str) else f'power({self.link[1]})'}"
        extra = [word for word, on in ((f"ridge={self.ridge:.1g}", self.ridge), ("no intercept", not self.intercept),
                                       ("offset", self.offset is not None), ("exposure", self.exposure is not None),
                                       ("mild", self.mild)) if on]
        weight = "" if self.weight is None else f" {self.kind} weights ~{np.median(self.weight):.0e}"
        n, p = self.X.shape
        return (f"seed {self.seed}: {self.family}{link} n={n} p={p}{weight} {self.cov_type} {self.container} "
                f"{' '.join(extra)}")

    @property
    def model(self):
        return naive_models.model_of(self.family, self.link, self.parameter)

    @property
    def shift(self):
        """Offset plus log exposure, or None."""
        if self.exposure is None:
            return self.offset
        return np.log(self.exposure) + (0.0 if self.offset is None else self.offset)


# ---------------------------------------------------------------------- drawing


def _column(rng, tail, n):
    if tail == "t2":
        return rng.standard_t(2, n)
    if tail == "lognormal":
        return rng.lognormal(0, 1.5, n)
    if tail == "cauchy":
        return rng.standard_cauchy(n)
    if tail in ("dummy", "rare"):
        return (rng.random(n) < (0.3 if tail == "dummy" else 0.01)).astype(float)
    return rng.normal(size=n)


def _design(rng, n, p):
    """Ugly columns, and the well-behaved ones they were made of."""
    mild = rng.random() < 0.35
    tails = ["normal" if mild else TAILS[rng.integers(len(TAILS))] for _ in range(p)]
    X = np.column_stack([_column(rng, tail, n) for tail in tails]) if p else np.zeros((n, 0))
    core = np.clip(X, -4, 4)
    if mild:
        return X, core, True
    for j in range(p):
        trick = rng.choice(["none", "none", "none", "scale", "shift", "near", "twin", "constant"])
        if trick == "scale":
            X[:, j] *= 10.0 ** rng.uniform(-8, 8)
        elif trick == "shift":
            X[:, j] += 1e6
        elif trick == "near" and j:
            X[:, j] = X[:, j - 1] + 10.0 ** rng.uniform(-4, -1) * np.std(X[:, j - 1]) * rng.normal(size=n)
        elif trick == "twin" and j and rng.random() < 0.5:
            X[:, j] = X[:, rng.integers(j)] * rng.choice([1.0, -3.0])
        elif trick == "constant" and rng.random() < 0.3:
            X[:, j] = rng.choice([0.0, 7.0])
    return X, core, False


def _level(rng, family):
    """A typical mean."""
    if family == "binomial":
        return 10.0 ** rng.uniform(-2.5, -1) if rng.random() < 0.15 else rng.uniform(0.1, 0.9)
    if family == "gaussian":
        return 10.0 ** rng.uniform(-2, 3)
    return 10.0 ** (rng.uniform(-6, 6) if rng.random() < 0.1 else rng.uniform(-0.5, 2))


def _means(rng, case, core):
    """Means that follow the link, kept inside the family's domain; sets the case's offset or exposure."""
    mu0, function = _level(rng, case.family), case.model.link
    eta0 = float(naive_models.eta_of(function, np.float64(mu0)))
    logs = case.link in ("log", "logit", "probit", "cloglog", "loglog", "cauchit")
    unit = 0.5 if logs else 0.15 * abs(eta0)
    index = core @ rng.normal(0, 1 / np.sqrt(max(core.shape[1], 1)), core.shape[1])
    eta = eta0 + unit * index if logs else eta0 + unit * np.clip(index, -5, 5)
    if rng.random() < 0.3 and case.link != "inverse":
        case.offset = 0.3 * unit * rng.normal(size=len(eta))
        eta = eta + case.offset
    elif case.link == "log" and rng.random() < 0.25:
        case.exposure = rng.uniform(0.2, 2.0, len(eta))
        eta = eta + np.log(case.exposure)
    with np.errstate(all="ignore"):
        mu = function(eta)[0].astype(float)
    if case.family == "binomial":
        return np.clip(np.nan_to_num(mu, nan=0.5), 1e-3, 1 - 1e-3)
    return mu if case.family == "gaussian" else np.clip(np.nan_to_num(mu, nan=mu0), 0.05 * mu0, 50 * mu0)


def _draw(rng, case, mu):
    family, n = case.family, len(mu)
    if family == "gaussian":
        noise = 10.0 ** rng.uniform(-3, 0.5) if case.link == "identity" else 10.0 ** rng.uniform(-3, -0.7)
        return mu + noise * np.abs(mu).mean() * rng.normal(size=n)
    if family == "binomial":
        if case.weight is not None and case.kind == "prior" and (case.weight == np.floor(case.weight)).all():
            trials = np.maximum(case.weight, 1).astype(int)
            return rng.binomial(trials, mu) / trials
        return (rng.random(n) < mu).astype(float)
    if family == "poisson":
        return rng.poisson(mu).astype(float)
    if family == "gamma":
        shape = rng.choice([0.5, 2.0, 20.0])
        return np.maximum(rng.gamma(shape, mu / shape), 1e-300)
    if family == "inverse_gaussian":
        return rng.wald(mu, mu * rng.choice([0.5, 5.0, 50.0]))
    if family == "negative_binomial":
        return rng.poisson(rng.gamma(1 / case.parameter, mu * case.parameter)).astype(float)
    p, phi = case.parameter, rng.choice([0.3, 1.0]) * np.median(mu) ** (2 - case.parameter)
    count = rng.poisson(mu ** (2 - p) / (phi * (2 - p)))
    shape = (2 - p) / (p - 1)
    return np.where(count > 0, rng.gamma(np.maximum(count, 1) * shape, phi * (p - 1) * mu ** (p - 1)), 0.0)


def _weights(rng, n):
    style = rng.choice(["none", "none", "none", "exponential", "integers", "copies", "zeros", "scaled"])
    if style == "none":
        return None, "prior"
    if style in ("integers", "copies"):
        return rng.integers(0 if rng.random() < 0.5 else 1, 6, n).astype(float), \
            "prior" if style == "integers" else "frequency"
    weight = rng.exponential(1.0, n)
    if style == "zeros":
        weight *= rng.random(n) < 0.7
    return weight * (10.0 ** rng.uniform(-9, 9) if style == "scaled" else 1.0), "prior"


def _chunks(rng, n):
    """Chunk lengths that sum to n, some of them empty."""
    cuts = np.sort(rng.integers(0, n + 1, rng.integers(0, 7)))
    return [int(v) for v in np.diff(np.r_[0, cuts, n])]


def _rows(rng):
    kind = rng.random()
    return int(rng.integers(1, 20)) if kind < 0.12 else int(10.0 ** rng.uniform(1.3, 3.7))


def case(seed):
    """The `Case` of a seed."""
    rng = np.random.default_rng([30, seed])
    family = FAMILIES[rng.integers(len(FAMILIES))]
    link = LINKS[family][rng.integers(len(LINKS[family]))]
    link = ("power", float(rng.choice([0.7, 1.5, -0.5, 3.0]))) if link == "power" else link
    parameter = {"tweedie": float(rng.choice([1.2, 1.5, 1.9])), "negative_binomial": float(rng.choice([0.1, 0.5, 2.0])),
                 "multinomial": int(rng.integers(3, 6))}.get(family)
    n, p = _rows(rng), int(rng.integers(1, 9)) if rng.random() < 0.97 else 0
    X, core, mild = _design(rng, n, p)
    weight, kind = _weights(rng, n)
    ridge = 10.0 ** rng.uniform(-4, 0) if rng.random() < 0.12 else 0.0
    cov_type = "nonrobust" if ridge else str(rng.choice(COV_TYPES))
    if family == "multinomial" and cov_type in ("HC2", "HC3") and seed % 4:
        cov_type = "HC1"                # the others are refused
    intercept, container = bool(rng.random() < 0.85), str(rng.choice(CONTAINERS))
    made = Case(seed, family, link, parameter, X, None, weight, None, None, None, intercept, kind, ridge, cov_type,
                container, _chunks(rng, n), mild)
    if cov_type == "cluster":
        made.clusters = rng.integers(0, max(2, min(n // 3, 40)), n)
    if family == "multinomial":
        if rng.random() < 0.2:
            made.offset = rng.normal(0, 0.3, n)
        slopes = rng.normal(0, 0.7, (core.shape[1], parameter)) / np.sqrt(max(p, 1))
        eta = core @ slopes + rng.normal(0, 0.7, parameter)
        made.y = (eta + rng.gumbel(size=eta.shape)).argmax(axis=1).astype(float)
        made.y = np.unique(made.y, return_inverse=True)[1].astype(float)
        made.parameter = int(made.y.max()) + 1
    else:
        made.y = _draw(rng, made, _means(rng, made, core))
    return made


# ---------------------------------------------------------------------- asking the library


def _packed(case):
    """X, y, weight, offset, exposure, clusters in the case's container."""
    arrays = [case.X, case.y, case.weight, case.offset, case.exposure, case.clusters]
    if case.container == "numpy":
        return arrays
    if case.container == "dask":
        chunks = tuple(case.chunks)
        return [a if a is None else da.from_array(a, chunks=(chunks,) + (-1,) * (a.ndim - 1)) for a in arrays]
    names = [f"x{j}" for j in range(case.X.shape[1])]
    frame = pd.DataFrame(case.X, columns=names)
    rest = ["y", "w", "o", "e", "g"]
    for name, a in zip(rest, arrays[1:]):
        if a is not None:
            frame[name] = a
    if case.container != "pandas":
        frame = dd.from_pandas(frame, npartitions=max(1, min(len(case.chunks), len(frame))))
    parts = [frame[names], *[frame[name] if a is not None else None for name, a in zip(rest, arrays[1:])]]
    if case.container == "unknown":
        parts = [part if part is None else part.to_dask_array() for part in parts]
    return parts


def _estimator(case):
    how = dict(alpha=case.ridge, fit_intercept=case.intercept, cov_type=case.cov_type, weights_kind=case.kind)
    if case.family == "multinomial":
        return LogisticRegression(**how)
    link = links.Power(case.link[1]) if not isinstance(case.link, str) else case.link
    if case.family == "binomial" and case.seed % 2 and np.isin(case.y, (0, 1)).all():
        return GLMClassifier(link, **how)
    given = {"tweedie": families.Tweedie, "negative_binomial": families.NegativeBinomial}
    family = given[case.family](case.parameter) if case.family in given else case.family
    return GLMRegressor(family, link, **how)


def fit(case):
    """The fitted estimator and its warnings, as (category name, message) pairs."""
    frames = case.container in ("ddf", "unknown")       # dask's frames catch warnings in threads, which loses ours
    scheduler = dask.config.set(scheduler="synchronous") if frames else contextlib.nullcontext()
    with warnings.catch_warnings(record=True) as told, scheduler:
        warnings.simplefilter("always")
        X, y, weight, offset, exposure, clusters = _packed(case)
        fitted = _estimator(case).fit(X, y, sample_weight=weight, offset=offset, exposure=exposure, clusters=clusters)
    return fitted, [(w.category.__name__, str(w.message)) for w in told]


# ---------------------------------------------------------------------- log-likelihoods


def log_likelihood(case, optimum):
    """Closed-form log-likelihood with R's conventions; NaN for Tweedie."""
    p, mu = optimum.problem, optimum.state.rows.mu
    y, w, D = p.y, p.w, naive.deviance(optimum)
    if case.family == "multinomial":
        return -D / 2
    if case.family == "poisson":
        return w @ (naive_models.xlogy(y, mu) - mu) - w.astype(float) @ special.gammaln(y.astype(float) + 1)
    if case.family == "binomial":
        a, b = (w * y).astype(float), (w * (1 - y)).astype(float)
        choose = special.gammaln(a + b + 1) - special.gammaln(a + 1) - special.gammaln(b + 1)
        if case.kind == "frequency":
            choose = w.astype(float) * 0.0
        return choose.sum() + (w @ (naive_models.xlogy(y, y) + naive_models.xlogy(1 - y, 1 - y))) - D / 2
    if case.family == "negative_binomial":
        r = 1 / case.parameter
        yf, muf = y.astype(float), mu.astype(float)
        rows = special.gammaln(yf + r) - special.gammaln(r) - special.gammaln(yf + 1)
        return w.astype(float) @ (rows + r * np.log(r / (r + muf)) + special.xlogy(yf, muf / (r + muf)))
    total = w.sum()
    if case.family == "gaussian":
        n = total if case.kind == "frequency" else len(y)
        logs = 0.0 if case.kind == "frequency" else np.log(w).sum()
        return (logs - n * np.log(2 * naive_models.PI * D / n) - n) / 2
    phi = D / total
    if case.family == "gamma":
        shape = float(1 / phi)
        rows = (shape - 1) * np.log(y) - y / (mu * phi) - shape * np.log(mu * phi)
        return w @ rows - float(total) * special.gammaln(shape)
    if case.family == "inverse_gaussian":
        return -(total * np.log(2 * naive_models.PI * phi) + 3 * (w @ np.log(y))) / 2 - total / 2
    return np.nan
