"""Hard fits by seed: heavy tails, rare events, rare dummies, uneven weights, against a long-double optimum.

    python tests/hard_fits.py 0 300             one line a fit, then what broke the promise
    python tests/hard_fits.py --ordinary 0 40   ordinary data: sweeps and errors
    python tests/hard_fits.py --against old.txt 0 300      also which seeds need more sweeps than in a saved run

PYTHONPATH=. in front judges the package of the current directory, else it is the one installed.
Truths are kept in $HARD_TRUTHS (/tmp/hard_truths) by a hash of the data.
"""

import argparse
import hashlib
import os
import pathlib
import re
import sys
import time
import warnings

import naive
import naive_models
import numpy as np
from scipy import special

TRUTHS = pathlib.Path(os.environ.get("HARD_TRUTHS", "/tmp/hard_truths"))
ERRORS = ("distance", "se", "deviance", "pearson")
TOL = 1e-6              # the library's default, in standard errors
KINDS = ("logit", "logit", "logit", "probit", "poisson", "poisson", "gamma", "multinomial")
COLUMNS = ("cauchy", "t1.5", "lognormal", "dummies", "mixed", "pareto")


# ---------------------------------------------------------------------- data


def _columns(rng, style, n):
    """(n, p) covariates of a style, and the units in which a slope is of moderate size."""
    p = int(rng.integers(1, 5))
    if style == "cauchy":
        return rng.standard_cauchy((n, p)), 1.0
    if style == "t1.5":
        return rng.standard_t(1.5, (n, p)), 1.0
    if style == "lognormal":
        return np.exp(rng.normal(0, rng.uniform(1.5, 3.0), (n, p))), 5.0
    if style == "dummies":
        rates = 10.0 ** rng.uniform(-3.3, -1.5, p)
        return np.c_[rng.normal(size=(n, 2)), rng.random((n, p)) < rates], 1.0
    if style == "mixed":
        rate = 10.0 ** rng.uniform(-3.0, -2.0)
        return np.c_[rng.standard_cauchy(n), rng.lognormal(0, 2, n), rng.normal(size=n), rng.random(n) < rate], 2.0
    return rng.pareto(1.2, (n, p)) * rng.choice([-1.0, 1.0], (n, p)), 1.0


def _weights(rng, n):
    style = rng.choice(["none", "none", "none", "pareto", "integers", "zeros"])
    if style == "none":
        return None
    if style == "pareto":
        return 1.0 + rng.pareto(1.1, n)
    if style == "integers":
        return rng.integers(1, 5, n).astype(float)
    return rng.exponential(1.0, n) * (rng.random(n) > 0.3)


def _index(rng, X, unit):
    """A linear predictor without its constant, whose heavy part is bounded so that the responses stay in range."""
    slope = rng.normal(0, 1, X.shape[1]) * rng.choice([0.0, 0.02, 0.3])
    return np.clip(X / unit, -20, 20) @ slope


def _response(rng, kind, eta):
    n, rate = len(eta), 10.0 ** rng.uniform(np.log10(5e-4), np.log10(5e-3))
    if rng.random() < 0.3:
        rate = rng.uniform(0.05, 0.5)
    if kind == "logit":
        return (rng.random(n) < special.expit(eta + special.logit(rate))).astype(float)
    if kind == "probit":
        return (rng.random(n) < special.ndtr(0.4 * eta + special.ndtri(rate))).astype(float)
    if kind == "poisson":
        return rng.poisson(np.exp(np.minimum(eta + np.log(rate * 10), 8))).astype(float)
    if kind == "gamma":
        shape = rng.choice([0.5, 1.0, 3.0])
        return np.maximum(rng.gamma(shape, np.exp(np.clip(eta, -8, 8)) / shape), 1e-12)
    rare = special.logit(np.array([rate, min(2 * rate, 0.4)]))
    full = np.c_[np.zeros(n), eta + rare[0], rare[1] - 0.5 * eta]
    return (full + rng.gumbel(size=full.shape)).argmax(axis=1).astype(float)


def case(seed):
    """One hard fit.

    Returns
    -------
    dict
        name, kind, X, y, weight (None or (n,)), chunk (rows a dask chunk; 0: numpy).
    """
    rng = np.random.default_rng([10, seed])
    kind, style = KINDS[seed % len(KINDS)], COLUMNS[int(rng.integers(len(COLUMNS)))]
    n = int(rng.integers(20_000, 100_001))
    X, unit = _columns(rng, style, n)
    y = _response(rng, kind, _index(rng, X, unit))
    weight = _weights(rng, n)
    weighted = "" if weight is None else " weighted"
    return dict(seed=seed, name=f"{kind} {style} n={n} p={X.shape[1]}{weighted}", kind=kind, X=X.astype(float), y=y,
                weight=weight, chunk=int(rng.choice([0, 10_000, 25_000])))


ORDINARY = ("logit", "poisson", "probit", "gamma", "multinomial", "gaussian", "logit", "poisson")


def ordinary(seed):
    """One fit of normal covariates at a moderate rate: a dict as `case` gives."""
    rng = np.random.default_rng([20, seed])
    kind = ORDINARY[seed % len(ORDINARY)]
    n, p = int(10 ** rng.uniform(np.log10(2e4), np.log10(3e5))), int(rng.choice([3, 7, 15, 30, 60]))
    if kind == "multinomial":
        n, p = min(n, 100_000), min(p, 15)
    mixing = np.eye(p) + rng.normal(0, 0.3 / np.sqrt(p), (p, p))
    X = rng.normal(size=(n, p)) @ mixing
    eta = X @ rng.normal(0, 0.5 / np.sqrt(p), p)
    rate = rng.uniform(0.1, 0.5)
    if kind == "multinomial":
        full = np.c_[np.zeros(n), eta, -0.5 * eta + special.logit(rate)]
        y = (full + rng.gumbel(size=full.shape)).argmax(axis=1).astype(float)
    elif kind == "gaussian":
        y = eta + rng.normal(size=n)
    elif kind == "gamma":
        y = rng.gamma(2.0, np.exp(eta) / 2)
    elif kind == "poisson":
        y = rng.poisson(np.exp(eta + rng.uniform(-1, 1.5))).astype(float)
    else:
        mean = {"logit": special.expit, "probit": special.ndtr}[kind]
        y = (rng.random(n) < mean(eta + {"logit": special.logit, "probit": special.ndtri}[kind](rate))).astype(float)
    weight = rng.exponential(1.0, n) if seed % 5 == 4 else None
    return dict(seed=seed, name=f"{kind} ordinary n={n} p={p}{'' if weight is None else ' weighted'}", kind=kind, X=X,
                y=y, weight=weight, chunk=int(rng.choice([0, 20_000])))


# ---------------------------------------------------------------------- truth


MODELS = {"logit": ("binomial", "logit"), "probit": ("binomial", "probit"), "poisson": ("poisson", "log"),
          "gamma": ("gamma", "log"), "gaussian": ("gaussian", "identity")}


def _model(case):
    if case["kind"] == "multinomial":
        return naive_models.model_of("multinomial", None, int(case["y"].max()) + 1)
    return naive_models.model_of(*MODELS[case["kind"]])


def _solve(case):
    """Newton in double, then in long double from there (ordinary wide data: double alone, good to 1e-10)."""
    parts = (_model(case), case["X"], case["y"], case["weight"])
    problem = naive.Problem(*parts, dtype=np.float64)
    found = naive.fit(problem)
    n_newton, done = (0, False) if found is None else (found.n_iter, found.converged)
    if case["X"].shape[1] <= 8:
        quick, problem = problem, naive.Problem(*parts)
        found = naive.fit(problem, [problem.basis_coef(quick.raw(found.state.coef))] if done else [])
        n_newton = n_newton if done or found is None else found.n_iter
    if found is None or not found.converged:
        return dict(exists=False)
    se, coef = naive.standard_errors(found), problem.raw(found.state.coef)
    return dict(exists=True, coef=coef.ravel().astype(float), se=se.ravel().astype(float), kept=problem.kept,
                deviance=float(naive.deviance(found)), pearson=float(naive.pearson(found)), n_newton=n_newton)


def truth(case):
    """The optimum: a dict of exists (False where separated), coef, se, deviance, pearson, n_newton (steps).

    Coefficients lie equation by equation, the intercept first.
    """
    digest = hashlib.sha256(b"4")
    for part in (case["kind"].encode(), case["X"].tobytes(), case["y"].tobytes(),
                 b"" if case["weight"] is None else case["weight"].tobytes()):
        digest.update(part)
    file = TRUTHS / f"{digest.hexdigest()[:24]}.npz"
    if file.exists():
        with np.load(file) as saved:
            return {name: saved[name][()] for name in saved.files}
    found = _solve(case)
    TRUTHS.mkdir(parents=True, exist_ok=True)
    own = file.with_suffix(f".{os.getpid()}.npz")
    np.savez(own, **found)
    own.replace(file)
    return found


# ---------------------------------------------------------------------- the library


def fit(case, **options):
    """The library's fit of a case; returns the estimator and the names of its warnings."""
    import dask.array as da

    import daskglm_rep as g

    makers = {"logit": g.GLMClassifier, "probit": lambda **how: g.GLMClassifier("probit", **how),
              "poisson": g.PoissonRegressor, "gamma": g.GammaRegressor, "gaussian": g.LinearRegression,
              "multinomial": g.LogisticRegression}
    arrays = [case["X"], case["y"], case["weight"]]
    if case["chunk"]:
        arrays = [a if a is None else da.from_array(a, chunks=(case["chunk"],) + (-1,) * (a.ndim - 1)) for a in arrays]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        fitted = makers[case["kind"]](**options).fit(arrays[0], arrays[1], sample_weight=arrays[2])
    return fitted, sorted({w.category.__name__ for w in told})


def compare(case, **options):
    """Fit, and measure against the truth.

    Returns
    -------
    dict
        claimed, distance (in true standard errors), se, deviance, pearson (relative errors), sweeps, passes, newton
        (steps of plain damped Newton), converged, warned, exists, seconds.
    """
    right = truth(case)
    began = time.perf_counter()
    fitted, warned = fit(case, **options)
    out = dict(exists=bool(right["exists"]), claimed=fitted.distance_to_optimum_, sweeps=fitted.n_iter_,
               passes=fitted.n_passes_, converged=fitted.converged_, warned=warned, seconds=time.perf_counter() - began)
    if not out["exists"]:
        return out
    r, out["newton"] = fitted.results_, int(right["n_newton"])
    with np.errstate(all="ignore"):
        coef, se = r.params.to_numpy(), r.bse.to_numpy()
        used = right["se"] > 0
        out["distance"] = float(np.max(np.abs(coef - right["coef"])[used] / right["se"][used]))
        out["se"] = float(np.max(np.abs(se[used] / right["se"][used] - 1)))
    out["deviance"] = abs(r.deviance / right["deviance"] - 1)
    limit = 1e290           # beyond, 1 / mu has left the doubles
    out["pearson"] = abs(min(r.pearson_chi2, limit) / min(right["pearson"], limit) - 1)
    return out


def verdict(result, ordinary=False):
    """What a fit did wrong, in words; empty where it kept its promise."""
    if not result["exists"]:
        return [] if "SeparationWarning" in result["warned"] else ["separated, not named"]
    if not result["converged"]:
        return ["stuck"]
    limit, wrong = (1e-6 if ordinary else 1e-4), []
    if not result["distance"] <= 2 * TOL:
        wrong.append("false certificate")
    wrong += [name for name in ("se", "deviance", "pearson") if not result[name] <= limit]
    return wrong


def line(case, result):
    """One printed line."""
    head = f"{case['seed']:4d} {case['name'][:44]:44s} {result['passes']:5.1f} sweeps {result['seconds']:6.2f} s "
    head += f"claimed {result['claimed']:8.1e}"
    if result["exists"]:
        head += f" newton {result['newton']:3d}" + "".join(f" {name} {result[name]:7.1e}" for name in ERRORS)
    else:
        head += " no optimum (separated or at infinity)"
    return f"{head} {'' if result['converged'] else 'NOT CONVERGED '}{' '.join(result['warned'])}"


def sweeps_of(text):
    """Sweeps by seed from a run's output."""
    found = re.findall(r"^ *(\d+) .*? (\d+\.\d) sweeps ", text, re.MULTILINE)
    return {int(seed): float(sweeps) for seed, sweeps in found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=int)
    parser.add_argument("stop", type=int)
    parser.add_argument("--ordinary", action="store_true")
    parser.add_argument("--truths", action="store_true", help="compute and keep the truths only")
    parser.add_argument("--against", type=pathlib.Path, help="an earlier run's output, for its sweeps")
    chosen = parser.parse_args()
    before = {} if chosen.against is None else sweeps_of(chosen.against.read_text())
    if not chosen.truths:
        import daskglm_rep

        print("judging", daskglm_rep.__file__, flush=True)
    make, counts, bad, passes, worst = (ordinary if chosen.ordinary else case), {}, {}, [], {}
    for seed in range(chosen.start, chosen.stop):
        this = make(seed)
        if chosen.truths:
            print(seed, this["name"], bool(truth(this)["exists"]), flush=True)
            continue
        result = compare(this)
        wrong = verdict(result, chosen.ordinary)
        print(line(this, result), "<<", ", ".join(wrong) if wrong else "ok", flush=True)
        passes.append(result["passes"])
        if result["passes"] > before.get(seed, np.inf):
            bad.setdefault("more sweeps than before", []).append(seed)
        if result["exists"] and result["passes"] > 2 * result["newton"] + 6:
            bad.setdefault("more than twice damped Newton's sweeps", []).append(seed)
        for name in wrong or ["right" if result["exists"] else "separated, named"]:
            counts[name] = counts.get(name, 0) + 1
            if wrong:
                bad.setdefault(name, []).append(seed)
        if result["converged"] and result["exists"]:
            for name in ERRORS:
                worst[name] = max(worst.get(name, 0.0), result[name])
    if passes:
        print(f"\n{len(passes)} fits; " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
        print("worst of the converged: " + ", ".join(f"{name} {value:.1e}" for name, value in worst.items()))
        print(f"sweeps: sum {sum(passes):.0f}, median {np.median(passes):.1f}, most {max(passes):.0f}")
        for name, seeds in bad.items():
            print(f"  {name}: {' '.join(map(str, seeds))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
