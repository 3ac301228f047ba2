"""Rebuild the inputs of every reference case.

    from make_data import load, build, cases
    c = cases()["glm_poisson_warpbreaks_log"]      # a dict read from cases/*.json
    d = build(c)                                     # X (n x p float array), names, y, weights, offset, clusters, frame

A case's "data" block holds either {"dataset": <csv name>} or {"recipe": <function name below>, "args": {...}},
and optionally "query" (a pandas query applied first) and "repeat" (a count column: rows are replicated).  Its "model"
block holds the response and the design as [name, expression] pairs; an expression is plain NumPy over the frame's
columns (see _NS), so nothing depends on a formula library.  "formula" (when present) is the same design in
R/formulaic syntax.  All designs list the intercept explicitly as ["Intercept", "1"].

Cases and data come from this folder first, then from `../../../shared/reference` where a checkout has that sibling:
the cases named madlib_* and their data live only there, so `cases()` holds them only where they are present.
"""
from __future__ import annotations

import json
import pathlib

import numpy as np
import pandas as pd

HERE = pathlib.Path(__file__).resolve().parent
SHARED = (HERE / "../../../shared/reference").resolve()  # optional; see README.md
DATA_DIRS = [HERE / "data", SHARED / "data"]
CASE_DIRS = [HERE / "cases", SHARED / "cases"]


def load(name: str) -> pd.DataFrame:
    for d in DATA_DIRS:
        p = d / f"{name}.csv"
        if p.exists():
            return pd.read_csv(p, keep_default_na=False, na_values=["", "NA"])
    raise FileNotFoundError(name)


def cases() -> dict[str, dict]:
    out = {}
    for d in CASE_DIRS:
        for p in sorted(d.glob("*.json")):
            c = json.loads(p.read_text())
            out.setdefault(c["name"], c)  # this folder's copy wins
    return out


# ---------------------------------------------------------------- seeded recipes (numpy RandomState = frozen stream)
def recipe_wide_gaussian(seed=20261122, n=20000, p=8):
    """Heteroskedastic linear model with 40 clusters, prior weights and a second, crossed clustering."""
    rs = np.random.RandomState(seed)
    X = rs.normal(size=(n, p))
    X[:, 1] += 0.6 * X[:, 0]
    g1 = rs.randint(0, 40, size=n)
    g2 = rs.randint(0, 25, size=n)
    u1 = rs.normal(size=40)[g1]
    u2 = rs.normal(size=25)[g2]
    beta = np.linspace(-1, 1, p)
    y = 0.5 + X @ beta + 0.7 * u1 + 0.4 * u2 + rs.normal(size=n) * (0.5 + np.abs(X[:, 0]))
    w = rs.uniform(0.2, 3.0, size=n)
    f = pd.DataFrame(X, columns=[f"x{j}" for j in range(p)])
    return f.assign(y=y, w=w, g1=g1, g2=g2)


def recipe_big_logit(seed=7, n=200000, p=10):
    rs = np.random.RandomState(seed)
    X = rs.normal(size=(n, p))
    X[:, -1] = (X[:, -1] > 0.8)
    beta = np.r_[np.linspace(-0.8, 0.8, p - 1), 0.7]
    eta = -1.2 + X @ beta
    y = (rs.uniform(size=n) < 1 / (1 + np.exp(-eta))).astype(float)
    g = rs.randint(0, 500, size=n)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y, g=g)


def recipe_counts(seed=11, n=5000, p=6):
    """Poisson counts with exposure and integer frequency weights."""
    rs = np.random.RandomState(seed)
    X = rs.normal(size=(n, p)) * 0.5
    expo = rs.uniform(0.3, 5.0, size=n)
    mu = expo * np.exp(-0.2 + X @ np.linspace(0.6, -0.6, p))
    y = rs.poisson(mu).astype(float)
    fw = rs.randint(1, 5, size=n)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y, exposure=expo, fw=fw)


def recipe_positive(seed=13, n=4000, p=4, family="gamma", mean="exp"):
    rs = np.random.RandomState(seed)
    X = rs.uniform(0.0, 1.0, size=(n, p))
    if mean == "exp":
        mu = np.exp(0.5 + X @ np.array([0.8, -0.5, 0.3, 0.0])[:p])
    else:  # "1/mu^2"
        mu = 1 / np.sqrt(0.2 + X @ np.array([0.5, 0.3, 0.1, 0.0])[:p])
    y = rs.gamma(shape=2.5, scale=mu / 2.5) if family == "gamma" else rs.wald(mean=mu, scale=6.0)
    w = rs.uniform(0.5, 2.0, size=n)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y, w=w)


def recipe_multinomial(seed=17, n=6000, p=4, k=4):
    rs = np.random.RandomState(seed)
    X = rs.normal(size=(n, p))
    B = rs.normal(size=(p, k - 1)) * 0.7
    eta = np.c_[np.zeros(n), np.array([0.3, -0.4, 0.1])[: k - 1] + X @ B]
    P = np.exp(eta)
    P /= P.sum(1, keepdims=True)
    y = (rs.uniform(size=n)[:, None] > P.cumsum(1)).sum(1)
    g = rs.randint(0, 60, size=n)
    w = rs.uniform(0.5, 2.0, size=n)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y, g=g, w=w)


def recipe_margins(seed=23, n=3000, family="logit"):
    """Continuous x, z; binary d; three-level factor c (levels a<b<c)."""
    rs = np.random.RandomState(seed)
    x = rs.normal(size=n)
    z = rs.gamma(3.0, 0.5, size=n)
    d = (rs.uniform(size=n) < 0.4).astype(float)
    c = np.array(list("abc"))[rs.randint(0, 3, size=n)]
    eta = -0.4 + 0.5 * x - 0.2 * x * x + 0.3 * z + 0.6 * d - 0.4 * x * d
    eta = eta + 0.5 * (c == "b") - 0.7 * (c == "c") + 0.35 * z * (c == "c")
    if family == "poisson":
        y = rs.poisson(np.exp(0.6 * eta)).astype(float)
    elif family == "linear":
        y = eta + rs.normal(size=n)
    elif family == "probit":
        y = (eta + rs.normal(size=n) > 0).astype(float)
    else:
        y = (rs.uniform(size=n) < 1 / (1 + np.exp(-eta))).astype(float)
    g = rs.randint(0, 50, size=n)
    w = rs.uniform(0.5, 2.0, size=n)
    return pd.DataFrame(dict(x=x, z=z, d=d, c=c, y=y, g=g, w=w))


def recipe_sm_distributed(seed=435265, n=50, p=3):
    """The data of statsmodels' own distributed-estimation tests (endog is 0/1 noise)."""
    rs = np.random.RandomState(seed)
    X = rs.normal(size=(n, p))
    y = rs.randint(0, 2, size=n)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y)


def recipe_sm_sparse(seed=435265, n=200, p=10, binary=False):
    """statsmodels' sparse-beta distributed test data; binary=True continues the same stream to a 0/1 response."""
    rs = np.random.RandomState(seed)
    beta = rs.normal(size=p)
    beta = beta * rs.randint(0, 2, p)
    X = rs.normal(size=(n, p))
    y = X.dot(beta) + rs.normal(size=n)
    if binary:
        prob = 1 / (1 + np.exp(-X.dot(beta) + rs.normal(size=n)))
        y = 1.0 * (prob > 0.5)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y)


def recipe_sparse_logit(seed=31, n=1200, p=12):
    rs = np.random.RandomState(seed)
    X = rs.normal(size=(n, p))
    X = 0.8 * X + 0.6 * rs.normal(size=(n, 1))
    beta = np.zeros(p)
    beta[[0, 3, 7]] = [1.0, -0.8, 0.6]
    y = (rs.uniform(size=n) < 1 / (1 + np.exp(-(X @ beta)))).astype(float)
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(p)]).assign(y=y)


def recipe_inline(columns):
    def conv(v):
        if any(isinstance(e, str) and e not in ("inf", "-inf") for e in v) or any(isinstance(e, bool) for e in v):
            return np.asarray(v)
        if all(isinstance(e, int) for e in v):
            return np.asarray(v)
        return np.asarray([np.nan if e is None else float(e) for e in v])
    return pd.DataFrame({k: conv(v) for k, v in columns.items()})


RECIPES = {k[len("recipe_"):]: v for k, v in list(globals().items()) if k.startswith("recipe_")}

# ---------------------------------------------------------------- building a case
_NS = {"np": np, "log": np.log, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs, "where": np.where}


def frame(case: dict) -> pd.DataFrame:
    d = case["data"]
    f = RECIPES[d["recipe"]](**d.get("args", {})) if "recipe" in d else load(d["dataset"])
    if d.get("query"):
        f = f.query(d["query"], engine="python")
    if d.get("repeat"):  # row-replicated counts
        f = f.loc[np.repeat(f.index, f[d["repeat"]])]
    return f.reset_index(drop=True)


def ev(expr, f: pd.DataFrame, dtype=float) -> np.ndarray:
    ns = dict(_NS)
    ns.update({c: f[c].to_numpy() for c in f.columns})
    v = np.asarray(eval(expr, {"__builtins__": {}}, ns))
    if v.ndim == 0:
        v = np.full(len(f), v)
    return v.astype(dtype) if dtype is not None else v


def design(f: pd.DataFrame, terms) -> np.ndarray:
    return np.column_stack([ev(e, f) for _, e in terms])


def build(case: dict) -> dict:
    f = frame(case)
    m = case["model"]
    out = dict(frame=f, X=design(f, m["design"]), names=[t[0] for t in m["design"]])
    multinomial = m.get("family") == "multinomial"
    out["y"] = ev(m["response"], f, None)
    if not multinomial and out["y"].dtype.kind in "biuf":
        out["y"] = out["y"].astype(float)
    for k in ("weights", "offset", "exposure", "trials"):
        out[k] = ev(m[k], f) if m.get(k) else None
    out["clusters"] = {k: ev(v, f, None) for k, v in m.get("clusters", {}).items()}
    return out
