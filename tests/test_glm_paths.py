"""Paths and cross-validation of generalized linear models: separate fits, scikit-learn, shared sweeps."""

import dask
import dask.array as da
import joblib
import numpy as np
import pytest
from distributed import Client
from scipy import sparse
from sklearn import linear_model, model_selection
from sklearn.base import clone
from sklearn.metrics import log_loss

from daskglm_rep import (ElasticNetPath, GLMCV, GLMRegressor, LogisticRegression, LogisticRegressionCV, design, links,
                         preparation)
from daskglm_rep.kernels.survey import Pilot
from daskglm_rep.models.glm import GLM
from daskglm_rep.solvers.joint_path import solve_joint
from daskglm_rep.solvers.path import Settings
from daskglm_rep.solvers.rows_path import solve_in_memory
from daskglm_rep.solvers.splits import check_splitter, split_rows

MODELS = [("binomial", None), ("poisson", None), ("gamma", "log"), ("binomial", "probit"), ("binomial", "cloglog"),
          ("tweedie", None), ("inverse_gaussian", "log"), ("gaussian", "log"), ("poisson", links.Power(0.5))]


def responses(family, eta, rng):
    """Draws of a family at its usual mean for these linear predictors."""
    mu = np.exp(eta)
    return {"binomial": lambda: (rng.random(eta.size) < 1.0 / (1.0 + np.exp(-eta))).astype(float),
            "poisson": lambda: rng.poisson(mu).astype(float), "gamma": lambda: rng.gamma(2.0, mu / 2.0),
            "tweedie": lambda: rng.poisson(mu) * rng.gamma(2.0, 0.5, eta.size),
            "inverse_gaussian": lambda: rng.wald(mu, 2.0),
            "gaussian": lambda: mu + 0.5 * rng.normal(size=eta.size)}[family]()


def sample(family="binomial", n=600, p=6, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) @ (np.eye(p) + 0.2) * rng.uniform(0.5, 2.0, p) + rng.normal(size=p)
    centred = X - X.mean(axis=0)
    y = responses(family, centred @ np.r_[0.4, -0.3, 0.2, np.zeros(p - 3)] + 0.3, rng)
    return X, y, rng.uniform(0.5, 2.0, n), 0.2 * rng.normal(size=n)


def prepared(family, link, arrays, plan=None, chunk=None):
    X, y, weight, offset = arrays
    if chunk:
        X, y, weight, offset = (da.from_array(a, chunks=(chunk, *a.shape[1:])) for a in arrays)
    return preparation.prepare(design.build(X, y, weight, offset), GLM.of(family, link), plan=plan, penalized=True)


def solved(solver, ready, cv=3, **settings):
    splits = split_rows(check_splitter(cv), ready.data.lengths)
    return solver(ready, splits, Settings(**{"n_alphas": 8, "eps": 1e-3} | settings))


@pytest.mark.parametrize("family, link", MODELS, ids=str)
def test_a_path_is_its_separate_fits(family, link):
    X, y, weight, offset = sample(family)
    offset = None if link == "log" and family == "gaussian" or isinstance(link, links.Power) else offset
    how = dict(l1_ratio=0.8, standardize=True, penalty_factor=[0, 1, 2, 1, 1, 1])
    path = ElasticNetPath(family, link, n_alphas=5, eps=1e-3, **how).fit(X, y, weight, offset)
    assert not path.coefs_[1:, 0].any() and path.n_passes_ == 1
    for l, alpha in enumerate(path.alphas_):
        one = GLMRegressor(family, link, alpha=alpha, **how).fit(X, y, weight, offset)
        np.testing.assert_allclose(path.coefs_[:, l], one.coef_, rtol=1e-5, atol=1e-7)
        assert path.intercepts_[l] == pytest.approx(one.intercept_, rel=1e-5, abs=1e-7)
        assert path.dev_ratio_[l] == pytest.approx(1.0 - one.results_.deviance / one.results_.null_deviance, abs=1e-9)


@pytest.mark.parametrize("family, link", MODELS[:-2], ids=str)
@pytest.mark.parametrize("how", [dict(), dict(standardize=True, penalty_factor=[1, 1, 0, 2, 1, 1],
                                              l1_ratios=(0.5, 0.0))], ids=["lasso", "nets"])
def test_shared_sweeps_end_where_rows_in_memory_do(family, link, how):
    """A pilot of a tenth of the rows, folds and alphas together, against each fold's rows by themselves."""
    arrays = list(sample(family, n=4000))
    if link is not None:                                         # offsets would leave the domain of some of these links
        arrays[3] = np.zeros(4000)
    exact = solved(solve_in_memory, prepared(family, link, arrays, Pilot(10 ** 6, 1.0, 10 ** 6, 0)), **how)
    ready = prepared(family, link, arrays, Pilot(100, 0.1, 100, 0), chunk=1000)
    joint = solved(solve_joint, ready, tol=1e-5, **how)
    np.testing.assert_allclose(joint.alphas, exact.alphas, rtol=1e-6)
    free = GLMRegressor(family, link).fit(*arrays).results_.fitted.fit
    errors = np.sqrt(np.diag(np.linalg.inv(free.point.curvature)))
    assert np.max(np.abs(joint.coefs - exact.coefs) / errors) < 2e-4
    assert joint.distance <= 1e-5 and ready.data.n_passes <= (24 if link is None else 60)
    np.testing.assert_allclose(joint.held_out, exact.held_out, rtol=1e-6)
    np.testing.assert_allclose(joint.deviance, exact.deviance, rtol=1e-6)
    assert joint.null_deviance == pytest.approx(exact.null_deviance, rel=1e-9)
    assert ((joint.coefs == 0.0) == (exact.coefs == 0.0)).mean() > 0.995


@pytest.mark.parametrize("n_chunks", [1, 5])
def test_a_lazy_path_of_fifty_takes_few_sweeps(n_chunks, monkeypatch):
    monkeypatch.setattr(preparation, "PILOT_ROWS", 500)
    X, y, weight, _ = sample(n=20_000, p=12)
    parts = [da.from_array(a, chunks=(20_000 // n_chunks, *a.shape[1:])).map_blocks(np.copy) for a in (X, y, weight)]
    path = ElasticNetPath("binomial", n_alphas=50).fit(*parts)
    whole = ElasticNetPath("binomial", alphas=path.alphas_).fit(X, y, weight)
    assert path.n_passes_ <= 5 and path.converged_ and path.distance_to_optimum_ <= 5e-3
    np.testing.assert_allclose(path.coefs_, whole.coefs_, atol=5e-5)              # a standard error is 0.02
    selected = LogisticRegressionCV(l1_ratio=1.0, n_alphas=50, cv=model_selection.KFold(4)).fit(*parts)
    assert selected.n_passes_ <= 9 and selected.converged_


@pytest.mark.parametrize("shuffle", [False, True])
def test_logistic_cross_validation_agrees_with_scikit_learn(shuffle):
    X, y, _, _ = sample()
    cv = model_selection.StratifiedKFold(4, shuffle=shuffle, random_state=0 if shuffle else None)
    alphas = np.geomspace(1.0, 1e-4, 7)
    labels = np.where(y > 0, "yes", "no")
    ours = LogisticRegressionCV(alphas=alphas, cv=cv if shuffle else 4).fit(X, labels)
    for k, (train, test) in enumerate(cv.split(X, y)):
        for l, alpha in enumerate(ours.alphas_):
            one = linear_model.LogisticRegression(C=1.0 / (alpha * 450), solver="newton-cholesky", tol=1e-12)
            loss = log_loss(y[test], one.fit(X[train], y[train]).predict_proba(X[test]))
            assert ours.deviance_path_[l, k] == pytest.approx(2.0 * loss, rel=1e-6)
    assert ours.alpha_ == ours.alphas_[np.argmin(ours.deviance_path_.mean(axis=1))]
    assert list(ours.classes_) == ["no", "yes"] and ours.coef_.shape == (1, 6) and ours.score(X, labels) > 0.55
    np.testing.assert_allclose(ours.coef_[0], ours.coefs_[:, ours.alphas_ == ours.alpha_][:, 0], rtol=1e-6)


def test_stratified_folds_of_lazy_labels_are_those_of_labels_in_memory():
    X, y, _, _ = sample()
    lazy = LogisticRegressionCV(cv=3).fit(da.from_array(X, chunks=(250, 6)), da.from_array(y, chunks=250))
    np.testing.assert_allclose(lazy.deviance_path_, LogisticRegressionCV(cv=3).fit(X, y).deviance_path_, rtol=1e-9)


def test_folds_without_events_are_told():
    X, y, _, _ = sample()
    order = np.argsort(y)
    with pytest.raises(ValueError, match="training rows of split 1 of cv have one response"):
        GLMCV("binomial", cv=[(np.arange(300), np.arange(300, 600)), (order[:100], order[500:])]).fit(X, y)
    counts = np.where(np.arange(600) < 150, 1.0, 0.0)
    with pytest.raises(ValueError, match="no events"):
        GLMCV("poisson", cv=4).fit(X, counts)
    with pytest.raises(ValueError, match="training rows of split 0 of cv have no row of class number 2"):
        LogisticRegressionCV(cv=[(np.arange(400), np.arange(400, 600))]).fit(X, np.repeat([0, 1, 2], [300, 100, 200]))


def test_early_stops_are_told(monkeypatch):
    monkeypatch.setattr(preparation, "PILOT_ROWS", 300)
    X, y, _, _ = sample("poisson", n=6000)
    parts = da.from_array(X, chunks=(2000, 6)).map_blocks(np.copy), da.from_array(y, chunks=2000)
    with pytest.warns(UserWarning, match="Some fits of the path did not converge after 2 sweeps"):
        path = ElasticNetPath("poisson", max_iter=2, tol=1e-9).fit(*parts)
    assert not path.converged_ and path.distance_to_optimum_ > 1e-9


def test_separated_rows_have_a_path():
    X, _, _, _ = sample()
    y = (X[:, 0] > X[:, 0].mean()).astype(float)
    path = ElasticNetPath("binomial").fit(X, y)
    assert np.isfinite(path.coefs_).all() and (np.diff(path.dev_ratio_) > -1e-9).all() and path.dev_ratio_[-1] > 0.97


def test_more_columns_than_rows():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(80, 150)), (rng.random(80) < 0.5).astype(float)
    path = ElasticNetPath("binomial", n_alphas=20).fit(X, y)
    mu = 1.0 / (1.0 + np.exp(-(path.intercepts_ + X @ path.coefs_)))
    gradient = -X.T @ (y[:, None] - mu) / 80
    off = np.where(path.coefs_ != 0, np.abs(gradient + path.alphas_ * np.sign(path.coefs_)),
                   np.abs(gradient) - path.alphas_)
    assert off.max() < 1e-7 and path.alphas_[-1] == pytest.approx(0.01 * path.alphas_[0])


def test_grid_search_runs_on_dask_workers():
    X, y, _, _ = sample(n=300)
    grid = {"alpha": [0.3, 0.03, 0.003], "l1_ratio": [0.2, 1.0]}
    def search():
        return model_selection.GridSearchCV(LogisticRegression(), grid, cv=3, scoring="neg_log_loss").fit(X, y)
    with dask.config.set(scheduler="synchronous"):
        here = search()
    with Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None):
        with joblib.parallel_backend("dask"):
            there = search()
    assert there.best_params_ == here.best_params_
    np.testing.assert_allclose(there.cv_results_["mean_test_score"], here.cv_results_["mean_test_score"], rtol=1e-9)
    ours = LogisticRegressionCV(alphas=grid["alpha"], l1_ratio=grid["l1_ratio"], cv=3).fit(X, y)
    assert (ours.alpha_, ours.l1_ratio_) == (here.best_params_["alpha"], here.best_params_["l1_ratio"])


def three_classes(n=300):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(n, 4)) * [1.0, 3.0, 0.5, 1.0]
    eta = np.c_[X[:, 0], -0.4 * X[:, 1], np.zeros(n)] + rng.gumbel(size=(n, 3))
    return X, np.array(["a", "b", "c"])[eta.argmax(axis=1)]


@pytest.mark.parametrize("lazy", [False, True])
def test_several_classes_are_separate_fits(lazy, monkeypatch):
    X, y = three_classes()
    how = dict(l1_ratio=[0.6, 1.0], alphas=[0.1, 0.02, 0.004], cv=3, standardize=True, tol=1e-6)
    given = (X, y)
    if lazy:
        monkeypatch.setattr(preparation, "PILOT_ROWS", 100)
        given = da.from_array(X, chunks=(120, 4)).map_blocks(np.copy), da.from_array(y, chunks=120).map_blocks(np.copy)
    model = LogisticRegressionCV(**how).fit(*given)
    assert model.deviance_path_.shape == (2, 3, 3) and model.coefs_.shape == (3, 4, 3) and model.converged_
    for k, (train, test) in enumerate(model_selection.StratifiedKFold(3).split(X, y)):
        for r, ratio in enumerate(how["l1_ratio"]):
            for l, alpha in enumerate(model.alphas_[r]):
                one = LogisticRegression(alpha=alpha, l1_ratio=ratio, standardize=True).fit(X[train], y[train])
                loss = log_loss(y[test], one.predict_proba(X[test]))
                assert model.deviance_path_[r, l, k] == pytest.approx(2.0 * loss, rel=1e-5)
    chosen = list(model.alphas_[0]).index(model.alpha_)
    np.testing.assert_allclose(model.coefs_[:, :, chosen], model.coef_, atol=1e-6)
    one = LogisticRegression(alpha=model.alpha_, l1_ratio=model.l1_ratio_, standardize=True).fit(X, y)
    np.testing.assert_allclose(model.coef_, one.coef_, atol=1e-6)
    np.testing.assert_array_equal(model.coef_ == 0.0, one.coef_ == 0.0)


def test_paths_of_several_classes_begin_at_zero():
    X, y = three_classes()
    model = LogisticRegressionCV(l1_ratio=1.0, n_alphas=6, eps=1e-2).fit(X, y)
    assert not model.coefs_[:, :, 0].any() and model.coefs_[:, :, 1].any()
    assert "a: x0" in [text.get_text() for text in model.plot("path").get_legend().get_texts()]


@pytest.mark.parametrize("model", [ElasticNetPath("poisson", n_alphas=5), GLMCV(n_alphas=5, standardize=True),
                                   LogisticRegressionCV(n_alphas=5, l1_ratio=1.0, tol=1e-6)], ids=repr)
def test_sparse_rows_are_dense_rows(model, monkeypatch):
    monkeypatch.setattr(preparation, "PILOT_ROWS", 300)
    X = sparse.random(2000, 15, 0.2, format="csr", random_state=0)
    y = responses("binomial", 2.0 * X.toarray()[:, :3].sum(axis=1), np.random.default_rng(0))
    thin, full = clone(model).fit(X, y), clone(model).fit(X.toarray(), y)
    np.testing.assert_allclose(thin.coefs_, full.coefs_, atol=2e-4)
    assert thin.n_passes_ == full.n_passes_


def test_more_second_moments_than_memory_are_refused():
    X = np.random.default_rng(0).normal(size=(60, 6000))
    with pytest.raises(ValueError, match=r"Second moments of 6001 coefficients for 60 splits .* take 16.1 GiB"):
        GLMCV(cv=60).fit(X, X[:, 0])


def random_case(seed):
    """A family, rows of odd scales, tails and chunks, settings of a path, and the pilot's rows."""
    rng = np.random.default_rng(seed)
    family, n = rng.choice(["binomial", "poisson", "gamma", "tweedie"]), rng.choice([300, 3000, 8000])
    p = rng.integers(1, 13)
    X = rng.normal(size=(n, p)) if rng.random() < 0.5 else rng.standard_t(3.0, size=(n, p))
    if rng.random() < 0.3:
        X[:, 0] = rng.random(n) < 0.02
    eta = np.clip((X - X.mean(axis=0)) @ (rng.normal(size=p) * (rng.random(p) < 0.5)) * 0.5, -3.0, 3.0)
    X = X * 10.0 ** rng.integers(-3, 4, p)
    weight = rng.uniform(0.0, 2.0, n) * (rng.random(n) < 0.9) if rng.random() < 0.5 else np.ones(n)
    offset = 0.3 * rng.normal(size=n) if rng.random() < 0.5 else np.zeros(n)
    how = dict(l1_ratio=float(rng.choice([1.0, 0.5, 0.0])), standardize=True)
    if p > 1 and rng.random() < 0.3:
        how["penalty_factor"] = np.r_[0.0, rng.uniform(0.5, 2.0, p - 1)]
    arrays = X, responses(family, eta, rng), weight, offset
    return family, arrays, how, int(rng.choice([n, n // 7])), int(rng.choice([400, 20_000]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(40))
def test_random_paths_end_where_single_fits_do(seed, monkeypatch):
    family, arrays, how, chunk, n_pilot = random_case(seed)
    monkeypatch.setattr(preparation, "PILOT_ROWS", n_pilot)
    lazy = [da.from_array(a, chunks=(chunk, *a.shape[1:])).map_blocks(np.copy) for a in arrays]
    cv = model_selection.KFold(3, shuffle=True, random_state=0)
    model = GLMCV(family, n_alphas=5, eps=1e-3, cv=cv, **how).fit(*lazy)
    train, test = next(cv.split(arrays[0]))
    for l in (1, 3, 4):
        one = GLMRegressor(family, alpha=model.alphas_[l], **how).fit(*arrays)
        scale = arrays[0].std(axis=0)
        size = max(1.0, np.max(np.abs(one.coef_) * scale))
        assert np.max(np.abs(model.coefs_[:, l] - one.coef_) * scale) < 1e-3 * size
        part = GLMRegressor(family, alpha=model.alphas_[l], **how).fit(*(a[train] for a in arrays))
        mean = part.predict(arrays[0][test], arrays[3][test])
        loss = [GLM.of(family).family.unit_deviance(a, b) for a, b in zip(arrays[1][test], mean)]
        assert model.deviance_path_[l, 0] == pytest.approx(np.average(loss, weights=arrays[2][test]), rel=5e-3)
    assert model.converged_


@pytest.mark.slow
def test_the_benchmark_runs_small(tmp_path):
    import penalties as benchmark
    rows = benchmark.main(["--small", "--out", str(tmp_path / "penalties.md")])
    assert "logistic path of 50" in (tmp_path / "penalties.md").read_text()
    assert float(next(r for r in rows if r["problem"].startswith("logistic path"))["error (SE)"]) < 0.02


def test_no_penalty_is_chosen_where_all_leave_the_domain():
    """Offsets that pull the square root of the mean below zero: said, not chosen among infinite deviances."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(240, 8))
    y, offset = rng.poisson((1.0 + 0.3 * X[:, 0]) ** 2).astype(float), rng.normal(size=240)
    model = GLMCV("poisson", link="sqrt", l1_ratio=0.6, alphas=[0.2, 0.01], cv=3)
    with pytest.raises(ValueError, match="No penalty gives all rows held out means inside the family's domain"):
        model.fit(X, y, offset=offset)


def test_a_ridge_grid_reaches_down_to_maximum_likelihood():
    """With many rows a column the best ridge is nearly none, and the grid has it."""
    rng = np.random.default_rng(4)
    X = rng.normal(size=(20_000, 3))
    y = (rng.random(20_000) < 1 / (1 + np.exp(-X @ [1.0, -0.5, 0.2]))).astype(int)
    found = LogisticRegressionCV(cv=3, n_alphas=30).fit(X, y)
    assert found.alphas_[-1] < found.alpha_ < found.alphas_[0]
    np.testing.assert_allclose(found.coef_[0], [1.0, -0.5, 0.2], atol=0.06)
