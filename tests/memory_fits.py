"""Random fits of rows in memory by seed, against the same rows read lazily and against plain Newton.

    python tests/memory_fits.py 0 200              n of a few thousand with a pilot as small
    python tests/memory_fits.py --full 0 30        n and pilot as users have them

Rows in memory take other ways than lazy ones (two looks, gradients from one Hessian): the case tries to mislead them.
"""

import contextlib
import dataclasses
import re
import sys
import tempfile
import time
import traceback
import warnings
from unittest import mock

import dask
import dask.array as da
import naive
import numpy as np
import pandas as pd
import random_fits
from scipy import sparse

from daskglm_rep import design, preparation

CARRIED = 5e-6          # the relative change of informations that the library leaves unseen
UGLY = 1e-4          # relative error of standard errors on ugly data, as in test_differential.py
REACH = 2e-6            # standard errors, twice tol
SMALL = {"rows": 1200, "cut": 900}          # of a pilot and of a block, where cases are small
FAMILIES = ("binomial", "binomial", "binomial", "poisson", "poisson", "gamma", "inverse_gaussian", "tweedie",
            "negative_binomial", "multinomial", "gaussian")
CONTAINERS = ("numpy", "numpy", "Fortran", "strided", "big-endian", "read-only", "memmap", "frame", "nullable", "csr",
              "list", "persisted", "many chunks", "uneven")
ORDERS = ("as drawn", "as drawn", "by y", "by a column", "trend", "period")
TRICKS = ("none", "none", "block scaled", "late column", "few ones", "few ones", "twin but a row", "outlier", "tails",
          "idle chunk", "constant but a row")
FLAWS = ("NaN in X", "inf in X", "NaN in y", "inf in y", "y outside", "negative weight", "NaN weight", "inf weight",
         "NaN offset", "inf offset", "no exposure", "idle chunk with NaN", "idle chunk with bad y")
LABELS = ("numbers", "text", "objects", "bools", "third late", "third without weight")


@dataclasses.dataclass
class Case:
    """Rows as numpy arrays in `rows` (a `random_fits.Case`), how they are wrapped, and what was done to them."""

    seed: int
    rows: random_fits.Case
    container: str
    chunks: list
    done: tuple
    labels: str = ""
    flaw: str = ""

    def __str__(self):
        return f"{self.seed}: {self.rows} {self.container} [{', '.join(self.done)}] {self.labels} {self.flaw}"


# ---------------------------------------------------------------------- drawing


def _wide_design(rng, n):
    p = int(rng.choice([16, 17, 39, 40, 45, 60]))
    X = rng.normal(size=(n, p)) @ (np.eye(p) + rng.normal(0, 0.2 / np.sqrt(p), (p, p)))
    if rng.random() < 0.5:
        for j in rng.integers(0, p, p // 2):
            X[:, j] = random_fits._column(rng, str(rng.choice(random_fits.TAILS)), n) * 10.0 ** rng.uniform(-3, 3)
        return X, np.clip(X / np.maximum(X.std(axis=0), 1e-300), -4, 4), False
    return X, X.copy(), True


def _ordered(rng, how, X, core, made):
    n = len(X)
    if how == "by a column":
        order = np.argsort(X[:, 0])
        return X[order], core[order]
    if how == "trend":
        X[:, -1] = core[:, -1] = np.linspace(-2, 2, n) + 0.1 * rng.normal(size=n)
    if how == "period":
        m = int(rng.choice([2, 4, 8, 16, 32, 64, 50]))
        X[:, 0] = core[:, 0] = np.tile(rng.normal(size=m), n // m + 1)[:n]
    return X, core


def _tricked(rng, trick, X, y):
    n, j = len(X), int(rng.integers(X.shape[1]))
    late = slice(n - int(rng.integers(3, 40)), n)
    row = int(rng.integers(n))
    if trick == "block scaled":
        at = int(rng.integers(n))
        X[at:at + n // 16] *= 10.0 ** rng.uniform(1, 8)
    elif trick == "late column":
        X[:, j] = 0.0
        X[late, j] = rng.normal(size=late.stop - late.start)
    elif trick == "few ones":
        X[:, j] = 0.0
        X[rng.integers(0, n, int(rng.integers(2, 30))), j] = 1.0
    elif trick == "twin but a row" and X.shape[1] > 1:
        X[:, j] = X[:, j - 1]
        X[rng.integers(0, n, int(rng.integers(1, 6))), j] += 10.0 ** rng.uniform(-3, 3)
    elif trick == "outlier":
        X[row, j] = rng.choice([-1.0, 1.0]) * 10.0 ** rng.uniform(1, 12)
    elif trick == "constant but a row":
        X[:, j] = rng.choice([0.0, 5.0])
        X[row, j] += 10.0 ** rng.uniform(-3, 6)


def _spoiled(rng, flaw, made):
    """Make one row bad, or a chunk without weight."""
    n = len(made.y)
    row, j, bad = int(rng.integers(n)), int(rng.integers(made.X.shape[1])), np.nan if "NaN" in flaw else np.inf
    if "weight" in flaw or "idle" in flaw:
        made.weight = np.ones(n) if made.weight is None else made.weight
    if "idle" in flaw:
        made.weight[:n // 3] = 0.0
        row = int(rng.integers(n // 8))
    if flaw in ("NaN in X", "inf in X", "idle chunk with NaN"):
        made.X[row, j] = bad * rng.choice([-1, 1])
    elif flaw in ("NaN in y", "inf in y"):
        made.y[row] = bad
    elif flaw in ("y outside", "idle chunk with bad y"):
        made.y[row] = -0.5 if made.family != "gaussian" else np.nan
    elif flaw == "negative weight":
        made.weight[row] = -1e-3
    elif flaw in ("NaN weight", "inf weight"):
        made.weight[row] = bad
    elif flaw in ("NaN offset", "inf offset"):
        made.offset = np.zeros(n) if made.offset is None else made.offset
        made.offset[row] = bad
    elif flaw == "no exposure":
        made.exposure = np.ones(n)
        made.exposure[row] = 0.0


def _labelled(rng, style, made):
    y = made.y.astype(int)
    row = int(rng.integers(len(y)))
    if style in ("third late", "third without weight"):
        y = y.copy()
        few = rng.integers(0, len(y), 3)
        y[few] = 2
        if style == "third without weight":
            made.weight = np.ones(len(y)) if made.weight is None else made.weight
            made.weight[few] = 0.0
        return y if row % 2 else np.array(["a", "bb", "zzz"])[y]
    if style == "text":
        return np.array(["zero", "first", "second", "third", "x", "y"])[y]
    if style == "objects":
        return np.array(["zero", "first", "second", "third", "x", "y"], object)[y]
    if style == "bools" and y.max() == 1:
        return y == 1
    return y + 3 if row % 2 else y.astype(float)


def case(seed, full=False):
    """The `Case` of a seed."""
    rng = np.random.default_rng([12, seed])
    family = FAMILIES[rng.integers(len(FAMILIES))]
    links = random_fits.LINKS[family]
    link = links[rng.integers(len(links))] if rng.random() < 0.5 else links[0]
    link = ("power", float(rng.choice([0.7, 1.5, -0.5, 3.0]))) if link == "power" else link
    parameter = {"tweedie": float(rng.choice([1.2, 1.5, 1.9])), "negative_binomial": float(rng.choice([0.1, 0.5, 2.0])),
                 "multinomial": int(rng.integers(3, 6))}.get(family)
    n = int(rng.integers(2000, 9000)) * (12 if full else 1)
    wide = rng.random() < 0.25
    X, core, mild = _wide_design(rng, n) if wide else random_fits._design(rng, n, int(rng.integers(1, 8)))
    weight, kind = random_fits._weights(rng, n)
    order, tricks = str(rng.choice(ORDERS)), [str(t) for t in rng.choice(TRICKS, 2)]
    cov_type = str(rng.choice(random_fits.COV_TYPES)) if not wide else "nonrobust"
    if family == "multinomial" and cov_type in ("HC2", "HC3"):
        cov_type = "HC1"
    made = random_fits.Case(seed, family, link, parameter, X, None, weight, None, None, None, bool(rng.random() < 0.85),
                            kind, 0.0, cov_type, "numpy", [], mild)
    X, core = _ordered(rng, order, X, core, made)
    if "tails" in tricks:
        X[:, 0] = rng.standard_t(1, n)
        core[:, 0] = np.clip(X[:, 0], -4, 4)
    made.X = X
    if cov_type == "cluster":
        made.clusters = rng.integers(0, 40, n)
    if family == "multinomial":
        slopes = rng.normal(0, 0.7, (core.shape[1], parameter)) / np.sqrt(X.shape[1])
        eta = core @ slopes + rng.normal(0, 0.7, parameter)
        made.y = np.unique((eta + rng.gumbel(size=eta.shape)).argmax(axis=1), return_inverse=True)[1].astype(float)
        made.parameter = int(made.y.max()) + 1
    else:
        made.y = random_fits._draw(rng, made, random_fits._means(rng, made, core))
    for trick in tricks:
        _tricked(rng, trick, X, made.y)
    if "idle chunk" in tricks:
        made.weight = np.ones(n) if made.weight is None else made.weight
        made.weight[:n // 3] = 0.0
    if order == "by y":
        by = np.argsort(made.y)
        for name in ("X", "y", "weight", "offset", "exposure", "clusters"):
            value = getattr(made, name)
            setattr(made, name, value if value is None else value[by])
    container = str(rng.choice(CONTAINERS))
    found = Case(seed, made, container, _chunks(rng, n, container), (order, *tricks))
    binary = family == "binomial" and made.link == "logit" and np.isin(made.y, (0, 1)).all()
    if family == "multinomial" or binary and rng.random() < 0.5:
        made.seed = seed | 1
        found.labels = str(rng.choice(LABELS))
        if "third" in found.labels and family == "multinomial":
            found.labels = "text"
    if rng.random() < 0.15:
        found.flaw = str(rng.choice(FLAWS))
        found.container = "persisted"
        _spoiled(rng, found.flaw, made)
    if not found.labels or "third" not in found.labels:
        return found, _labelled(rng, found.labels, made) if found.labels and not found.flaw.endswith("y") and \
            found.flaw != "y outside" else made.y
    return found, _labelled(rng, found.labels, made)


def _chunks(rng, n, container):
    if container in ("persisted", "many chunks"):
        step = int(rng.integers(n // 9, n // 2)) if container == "persisted" else int(rng.integers(40, 300))
        return [step] * (n // step) + ([n % step] if n % step else [])
    if container == "uneven":
        return random_fits._chunks(rng, n)
    return [s.stop - s.start if s.stop <= n else n - s.start for s in design.cuts(n)]


# ---------------------------------------------------------------------- asking the library


def _as_held(case, name, a):
    """One array in the case's container."""
    if a is None:
        return a
    kind = case.container
    if kind in ("persisted", "many chunks", "uneven"):
        return _dask(case, a).persist(scheduler="synchronous")
    if kind == "Fortran":
        return np.asfortranarray(a)
    if kind == "strided":
        return np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim == 2 else np.repeat(a, 3)[::3]
    if kind == "big-endian" and a.dtype.kind in "iuf":
        return a.astype(a.dtype.newbyteorder(">"))
    if kind == "read-only":
        a = a.copy()
        a.setflags(write=False)
        return a
    if kind == "memmap" and a.dtype == float:
        held = np.memmap(tempfile.TemporaryFile(), float, "w+", shape=a.shape)
        held[:] = a
        return held
    if kind in ("frame", "nullable"):
        if name == "X":
            frame = pd.DataFrame(a, columns=[f"x{j}" for j in range(a.shape[1])])
            return frame.convert_dtypes() if kind == "nullable" else frame
        return pd.Series(a)
    if kind == "csr" and name == "X":
        return sparse.csr_matrix(a)
    return a.tolist() if kind == "list" and name in ("X", "y") else a


def _dask(case, a):
    chunks = (tuple(case.chunks),) + (-1,) * (a.ndim - 1)
    return da.from_array(a, chunks=chunks)


def _lazy(case, name, a):
    if a is None:
        return a
    made = _dask(case, a).map_blocks(np.copy)
    if name == "X" and case.container == "csr":
        made = made.map_blocks(sparse.csr_matrix)
    return made


def fit(case, y, lazily=False, **options):
    """(estimator or None, warnings as (category, text), error or None)."""
    r = case.rows
    wrap = _lazy if lazily else _as_held
    arrays = {"X": r.X, "y": y, "sample_weight": r.weight, "offset": r.offset, "exposure": r.exposure,
              "clusters": r.clusters}
    arrays = {name: wrap(case, name, a) for name, a in arrays.items()}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        estimator = random_fits._estimator(r).set_params(**options)
        try:
            estimator.fit(arrays.pop("X"), arrays.pop("y"), **arrays)
            error = None
        except Exception as caught:
            error = caught
    return estimator, sorted({(w.category.__name__, str(w.message)) for w in told}), error


@contextlib.contextmanager
def small_pilots():
    """Pilots and blocks small enough for two looks at a few thousand rows."""
    with (mock.patch.object(preparation, "PILOT_ROWS", SMALL["rows"]),
          mock.patch.object(design, "MIN_ROWS", SMALL["cut"])):
        yield


# ---------------------------------------------------------------------- judging


def judge(seed, full=False):
    """The case, words on what disagrees (empty if nothing does), and what came of it."""
    with contextlib.nullcontext() if full else small_pilots():
        this, y = case(seed, full)
        quick, told, error = fit(this, y)
        slow, also, refused = fit(this, y, lazily=True)
    if error is not None or refused is not None:
        return this, _refusals(error, refused), f"refused: {type(error).__name__}"
    wrong = []
    if [(name, gist(text)) for name, text in told] != [(name, gist(text)) for name, text in also]:
        wrong.append(f"told {told} in memory, {also} lazily")
    a, b = quick.results_, slow.results_
    if len(a.params) != len(b.params) or (np.isnan(a.params.to_numpy()) != np.isnan(b.params.to_numpy())).any():
        return this, [*wrong, "other coefficients are NaN"], "shapes"
    names = {name for name, _ in told}
    if names & {"SeparationWarning", "ConvergenceWarning"}:
        kind = "told: " + " ".join(sorted(names))
        return this, wrong, kind
    wrong += _differences(a, b)
    words = f"{quick.n_passes_} sweeps in memory, {slow.n_passes_} lazily"
    wrong += _off_the_truth(this, y, quick)
    kind = "two looks" if quick.n_passes_ < slow.n_passes_ else "as lazily" if quick.n_passes_ == slow.n_passes_ \
        else "more sweeps"
    return this, [f"{w} ({words})" for w in wrong], kind


def gist(text):
    """A message without its numbers and names."""
    return re.sub(r"\s+", " ", re.sub(r"'[^']*'(, )?|[-+]?[\d][\d.,e+-]*", "#", text)).replace("##", "#")


def _refusals(error, refused):
    if error is None or refused is None:
        found = f"{type(error or refused).__name__}: {str(error or refused)[:150]}"
        return [f"refused {'lazily' if error is None else 'in memory'} alone: {found}"]
    if str(error) != str(refused) or type(error) is not type(refused):
        return [f"in memory {error!r:.200}, lazily {refused!r:.200}"]
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    if not isinstance(error, ValueError) or "daskglm_rep" not in where and "sklearn" not in where:
        return [f"bare {error!r:.200}"]
    return []


def _differences(a, b):
    wrong = []
    for name in ("nobs", "llf", "deviance", "null_deviance", "pearson_chi2", "scale"):
        x, z = getattr(a, name), getattr(b, name)
        if not (np.isnan(x) and np.isnan(z)) and abs(x - z) > 2 * CARRIED * abs(z) + 1e-9:
            wrong.append(f"{name} {x:.10g}, lazily {z:.10g}")
    return wrong


def _off_the_truth(this, y, fitted):
    """Against Newton from the fit's own coefficients."""
    r, results = this.rows, fitted.results_
    if this.labels and "third" in this.labels:
        return []
    kept, dtype = results.fitted.kept, np.float64 if r.X.shape[1] > 8 else naive.EXTENDED
    problem = naive.Problem(r.model, r.X, r.y, r.weight, r.shift, r.intercept, dtype=dtype,
                            columns=None if kept.all() else kept)
    if this.labels:          # the labels' order is the model's
        codes = {label: code for code, label in enumerate(fitted.classes_.tolist())}
        coded = np.array([codes[label] for label in np.asarray(y).tolist()], float)
        problem = naive.Problem(r.model, r.X, coded, r.weight, r.shift, r.intercept, dtype=dtype,
                                columns=None if kept.all() else kept)
    share = problem.share[problem.kept].min(initial=1.0)
    if share < 1e-8 or not problem.kept[kept].all():
        return []
    with np.errstate(all="ignore"):
        state = problem.at(problem.basis_coef(np.nan_to_num(results.params.to_numpy())))
        best = None if state is None else naive.newton(problem, state, 60)
        if best is None or not best.settled:
            return ["no optimum is near"] if best is None or not best.separated else ["separated, untold"]
        raw, J = problem.raw(best.state.coef), r.model.equations
        V = naive.inverse_of(best.state.observed) * problem.dispersion(best.state, r.kind == "frequency")
        se = np.sqrt(np.diag(problem.covariance(V))).reshape(J, -1)
        rounding = 1e-12 * np.abs(raw)
        if r.intercept:
            largest = np.abs(r.X[problem.rows_kept]).max(axis=0, initial=0.0)
            rounding[:, 0] += 1e-12 * (np.abs(raw[:, 1:]) * largest).sum(axis=1)
        coef = np.nan_to_num(results.params.to_numpy()).reshape(J, -1)
        far = (np.maximum(np.abs(coef - raw) - rounding, 0)[:, problem.kept] / se[:, problem.kept]).max(initial=0.0)
        right = naive.standard_errors(best, r.kind == "frequency") if r.cov_type == "nonrobust" else np.sqrt(np.diag(
            naive.robust(best, r.cov_type, r.kind == "frequency", r.clusters))).reshape(J, -1)
        off = np.abs(results.bse.to_numpy().reshape(J, -1)[:, problem.kept] / right[:, problem.kept].astype(float) - 1)
    wrong = [f"{far:.1e} standard errors from the optimum"] if far > REACH else []
    limit = max(2 * CARRIED if r.mild else UGLY, 1e-13 / share)
    if r.cov_type in ("HC2", "HC3"):
        limit = max(limit, 1e-9 / float(np.min(1 - naive.leverage(best, r.kind == "frequency"))))
    if off.max(initial=0.0) > limit:
        wrong.append(f"{r.cov_type} standard errors off by {off.max():.1e}")
    for name, right in (("deviance", naive.deviance(best)), ("pearson_chi2", naive.pearson(best)),
                        ("null_deviance", naive.null_deviance(problem))):
        value = getattr(results, name)
        if abs(value - float(right)) > 2 * CARRIED * abs(float(right)) + 1e-9 * float(problem.w.sum()):
            wrong.append(f"{name} {value:.10g}, right {float(right):.10g}")
    return wrong


def main(words):
    full = "--full" in words
    loud = "-v" in words
    first, last = [int(w) for w in words if w[0] != "-"]
    counts, bad = {}, []
    with dask.config.set(num_workers=2):
        for seed in range(first, last):
            began = time.perf_counter()
            try:
                this, wrong, kind = judge(seed, full)
            except Exception:
                print("JUDGE", seed, traceback.format_exc(), flush=True)
                continue
            counts[kind] = counts.get(kind, 0) + 1
            if wrong:
                bad.append(seed)
            if wrong or loud:
                words = f"WRONG: {'; '.join(wrong)}" if wrong else "ok"
                print(f"{time.perf_counter() - began:4.1f} s {this}: {kind}; {words}", flush=True)
    print(counts, "wrong:", bad)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
