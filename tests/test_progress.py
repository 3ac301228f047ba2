"""One bar a fit, asked for by verbose: sweeps, deviance, distance; compiling is said once; else there is silence."""

import re
import threading

import numba
import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import daskglm_rep as dg
from daskglm_rep import progress

N = 500


def sample():
    r = np.random.default_rng(8)
    X = r.normal(size=(N, 3))
    return X, r.poisson(np.exp(0.3 * X[:, 0])).astype(float)


X, Y = sample()
FRAME = pd.DataFrame(X, columns=["a", "b", "c"]).assign(y=Y)


def said(capsys):
    """What was said in order, without the bars themselves and repetitions."""
    captured = capsys.readouterr()
    assert captured.out.count("\n") <= 1          # where the sweeps run
    texts = [re.sub(r" *\|.*", "", line).strip() for line in captured.err.replace("\r", "\n").split("\n")]
    return [text for i, text in enumerate(texts) if text and text != texts[i - 1]]


FITS = {
    "estimator": lambda v: dg.PoissonRegressor(verbose=v).fit(X, Y),
    "formula": lambda v: dg.glm("y ~ a + b", FRAME, family="poisson", verbose=v),
    "classifier": lambda v: dg.LogisticRegression(verbose=v).fit(X, Y > 1),
    "classes": lambda v: dg.mnlogit("y ~ a", FRAME.assign(y=np.minimum(Y, 2).astype(str)), verbose=v),
    "overdispersion": lambda v: dg.NegativeBinomialRegressor(verbose=v).fit(X, Y),
    "lasso": lambda v: dg.GLMRegressor("poisson", alpha=0.05, l1_ratio=1.0, verbose=v).fit(X, Y),
    "first order": lambda v: dg.GLMRegressor("poisson", alpha=0.05, l1_ratio=1.0, solver="fista", verbose=v).fit(X, Y),
    "path": lambda v: dg.ElasticNetPath(family="poisson", n_alphas=5, verbose=v).fit(X, Y),
    "rounds": lambda v: dg.RepresentativeGLM("poisson", partition=dg.partitions.KMeans(30), verbose=v).fit(X, Y),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", FITS)
def test_a_fit_has_one_bar_where_it_is_asked_for(capsys, name):
    FITS[name](0)
    assert not said(capsys)
    FITS[name](1)
    texts = [text for text in said(capsys) if text != progress.COMPILING]
    assert texts.count("looking at the rows") <= 2                      # again below the line above it
    told = re.compile(r"(sweep|round|cycle) \d+: deviance [\d.]+, [\d.e+-]+ standard errors off")
    steps = [text for text in texts if told.match(text)]
    assert steps or name in ("first order", "path")          # of so few rows the survey brings home all
    assert len(steps) + texts.count("looking at the rows") == len(texts)


def test_the_bar_fills_to_the_optimum(capsys):
    FITS["estimator"](1)
    assert "██████████" in capsys.readouterr().err.split("\r")[-1]


def test_searches_and_pipelines_are_silent(capsys):
    pipeline = make_pipeline(StandardScaler(), dg.PoissonRegressor())
    GridSearchCV(pipeline, {"poissonregressor__alpha": [0.0, 1.0]}).fit(X, Y)
    captured = capsys.readouterr()
    assert not captured.out and not captured.err


def test_compiling_is_said_once(capsys):
    with progress.shown(1):
        for shift in (1, 2):
            numba.njit(lambda x, s=shift: x + s)(1.0)
    assert said(capsys).count(progress.COMPILING) == 1


def test_bars_of_threads_do_not_meet(capsys):
    with progress.shown(1):
        thread = threading.Thread(target=progress.step, args=("sweep 7", 1.0, 0.5, 1e-6))
        thread.start()
        thread.join()
        progress.step("sweep 2", 1.0, 0.5, 1e-6)
    texts = said(capsys)
    assert not any("sweep 7" in text for text in texts) and any("sweep 2" in text for text in texts)


def test_no_bar_stays_behind_an_error(capsys):
    with pytest.raises(ValueError):
        dg.PoissonRegressor(verbose=1).fit(X, -Y)
    capsys.readouterr()
    progress.step("sweep 1", 1.0, 0.5, 1e-6)
    assert not said(capsys)


def test_paths_have_a_bar_of_their_own(capsys):
    r = np.random.default_rng(9)
    wide = r.normal(size=(60_000, 4))
    counts = r.poisson(np.exp(0.3 * wide[:, 0]))
    dg.GLMCV(family="poisson", cv=2, n_alphas=5, verbose=1).fit(wide, counts)
    assert any(re.match(r"sweep \d+: \d+ fits at most [\d.e+-]+ standard errors off", text) for text in said(capsys))
