"""What a fitted model keeps and how it travels: numbers of the fit, no rows, and the library's version."""

import copy
import importlib.metadata
import pickle
import runpy
import tomllib
import types
import warnings
from pathlib import Path

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

import daskglm_rep
from daskglm_rep import (DivideAndConquerGLM, GLMClassifier, LogisticRegression, PoissonRegressor, RepresentativeGLM,
                         StochasticGLM, SubsampledGLM, logit, partitions, versions)
from daskglm_rep.kernels.block import Block

N, LONGEST = 30_000, 100
COLUMNS = list("abcd")
COLLECTIONS = (dict, list, tuple, set, frozenset)


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(N, 4)), columns=COLUMNS)
    eta = frame.to_numpy() @ [0.5, -0.3, 0.2, 0.0]
    return frame.assign(y=(rng.random(N) < 1 / (1 + np.exp(-eta))).astype(float), k=rng.poisson(np.exp(0.5 * eta)),
                        g=rng.choice(list("uvw"), N), firm=rng.integers(0, 40, N))


def parts_of(value, path="", seen=None):
    """Every object reachable from one, with the way to it."""
    seen = {} if seen is None else seen
    leaf = (str, bytes, int, float, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType, np.ufunc)
    if value is None or isinstance(value, leaf) or id(value) in seen:
        return
    seen[id(value)] = value
    yield path, value
    inside = list(getattr(value, "__dict__", {}).items())
    if isinstance(value, dict):
        inside = list(enumerate(value)) + list(value.items())
    elif isinstance(value, COLLECTIONS):
        inside = list(enumerate(value))
    elif isinstance(value, np.ndarray):
        inside = [("base", value.base)] + (list(enumerate(value.ravel())) if value.dtype == object else [])
    for name, part in inside:
        yield from parts_of(part, f"{path}.{name}", seen)


def longest(model):
    """The longest side of anything that a model keeps, and where it is."""
    sizes = [(path, v.shape if hasattr(v, "shape") else (len(v),) if isinstance(v, COLLECTIONS) else ())
             for path, v in parts_of(model)]
    return max((max(size), path) for path, size in sizes if size)


FITS = {
    "binary": lambda f: GLMClassifier().fit(f[COLUMNS], f["y"]),
    "lazy": lambda f: GLMClassifier(cov_type="HC3").fit(dd.from_pandas(f[COLUMNS], npartitions=9),
                                                        dd.from_pandas(f["y"], npartitions=9)),
    "clusters": lambda f: LogisticRegression(cov_type="cluster").fit(f[COLUMNS], f["y"], clusters=f["firm"]),
    "classes": lambda f: LogisticRegression().fit(f[COLUMNS], f["g"]),
    "offset": lambda f: PoissonRegressor().fit(f[COLUMNS], f["k"], offset=f["a"]),
    "formula": lambda f: logit("y ~ a * C(g) + bs(b, df=5) + poly(c, 2) + center(d)", f, clusters="firm"),
    "lazy formula": lambda f: logit("y ~ a * C(g) + bs(b, df=5) + center(d)", dd.from_pandas(f, npartitions=9)),
    "subsample": lambda f: SubsampledGLM(n_samples=2000).fit(f[COLUMNS], f["y"]),
    "parts": lambda f: DivideAndConquerGLM().fit(f[COLUMNS], f["y"]),
    "descent": lambda f: StochasticGLM().fit(f[COLUMNS], f["y"])}


@pytest.mark.parametrize("name", FITS)
def test_a_fitted_model_keeps_no_rows(frame, name):
    model = FITS[name](frame)
    assert longest(model)[0] < LONGEST, longest(model)
    assert not [path for path, value in parts_of(model) if isinstance(value, Block)]
    assert len(pickle.dumps(model)) < 50_000


def test_many_chunks_do_not_make_a_model_larger():
    X = np.random.default_rng(0).normal(size=(3000, 3))
    lazy = [da.from_array(a, chunks=(5,) + (-1,) * (a.ndim - 1)).map_blocks(np.copy, dtype=float)
            for a in (X[:, :2], abs(X[:, 2]))]
    assert longest(PoissonRegressor().fit(*lazy))[0] < LONGEST


@pytest.mark.parametrize("method", ["mean", "score-matching", "moment-matched"])
def test_representatives_keep_points_and_no_rows(frame, method):
    X = frame[COLUMNS].to_numpy()
    model = RepresentativeGLM(representative=method, partition=partitions.KMeans(30, subset=5000)).fit(X, frame["y"])
    assert not [path for path, value in parts_of(model) if isinstance(value, Block)]
    rows = {row.tobytes() for row in X}
    arrays = [(path, v) for path, v in parts_of(model) if isinstance(v, np.ndarray) and v.dtype == float]
    kept = [path for path, table in arrays if table.ndim == 2 for first in range(table.shape[1] - 3)
            for row in np.ascontiguousarray(table[:, first:first + 4]) if row.tobytes() in rows]
    assert not kept
    assert pickle.loads(pickle.dumps(model)).refit(columns=[0, 1]).coef_ == pytest.approx(
        model.refit(columns=[0, 1]).coef_)


def test_the_pickle_of_a_logit_of_200_000_rows_is_small_and_works():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200_000, 5))
    y = (rng.random(200_000) < 1 / (1 + np.exp(-X[:, 0]))).astype(float)
    model = GLMClassifier().fit(X, y)
    text = pickle.dumps(model)
    assert len(text) < 50_000
    again = pickle.loads(text)
    assert np.array_equal(again.predict_proba(X[:100]), model.predict_proba(X[:100]))
    a, b = again.results_, model.results_
    assert str(a.summary()) == str(b.summary()) and a.llf == b.llf and a.llnull == b.llnull
    for cov_type in ("HC1", "HC3"):
        assert a.with_covariance(cov_type, X, y).bse.equals(b.with_covariance(cov_type, X, y).bse)
    assert a.margins(X).frame.equals(b.margins(X).frame)
    added = rng.normal(size=len(X))
    assert a.score_test(added, X, y).statistic == b.score_test(added, X, y).statistic
    assert np.array_equal(a.influence(X, y).leverage[:50].compute(), b.influence(X, y).leverage[:50].compute())


def test_results_of_a_formula_work_after_a_pickle(frame):
    results = FITS["formula"](frame)
    again = pickle.loads(pickle.dumps(results))
    assert again.predict(frame[:50]).equals(results.predict(frame[:50]))
    assert again.margins(frame[:500], variables=["a", "g"]).frame.equals(
        results.margins(frame[:500], variables=["a", "g"]).frame)
    assert again.with_covariance("HC1", frame).bse.equals(results.with_covariance("HC1", frame).bse)
    assert again.anova().equals(results.anova())


# ---------------------------------------------------------------- versions


@pytest.fixture(scope="module")
def models(frame):
    return [FITS["binary"](frame), FITS["binary"](frame).results_, FITS["formula"](frame), FITS["parts"](frame)]


def test_the_version_is_the_one_of_the_project(monkeypatch):
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert daskglm_rep.__version__ == versions.__version__ == project["version"]

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert runpy.run_path(versions.__file__)["__version__"] == "0+unknown"


def test_pickles_of_this_version_and_copies_are_silent(models):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for model in models:
            again = [pickle.loads(pickle.dumps(model)), copy.copy(model), copy.deepcopy(model)]
            assert all(vars(v).keys() == vars(model).keys() for v in again)
        assert clone(models[0]).get_params() == models[0].get_params()


def test_a_pickle_of_another_version_says_so(models, monkeypatch):
    texts = [pickle.dumps(model) for model in models]
    assert all(versions.__version__.encode() in text for text in texts)
    monkeypatch.setattr(versions, "__version__", "9.9")
    for model, text in zip(models, texts):
        said = f"This {type(model).__name__} was pickled by daskglm_rep {daskglm_rep.__version__} and is loaded by 9.9:"
        with pytest.warns(versions.VersionWarning, match=said):
            assert vars(pickle.loads(text)).keys() == vars(model).keys()


def test_a_pickle_without_a_version_says_so(models):
    with pytest.warns(versions.VersionWarning, match="GLMClassifier was pickled by daskglm_rep an unknown version"):
        GLMClassifier().__setstate__(vars(models[0]))
