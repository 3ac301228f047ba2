"""Labelled arrays in, labelled arrays out."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from dask.utils import key_split

import daskglm_rep as dg

RNG = np.random.default_rng(0)
CUBE = xr.Dataset({"y": (("site", "time"), RNG.normal(size=(12, 30))),
                   "x": (("site", "time"), RNG.normal(size=(12, 30))),
                   "region": ("site", np.array(list("ab"))[RNG.integers(0, 2, 12)])},
                  coords={"site": np.arange(12) * 2.0, "time": np.arange(30)})


def test_dataset_and_formula_keep_coordinates():
    frame = CUBE.to_dataframe().reset_index()
    want = dg.lm("y ~ x + region + time", frame)
    for data in (CUBE, CUBE.chunk(site=5, time=10)):
        r = dg.lm("y ~ x + region + time", data)
        np.testing.assert_allclose(r.params, want.params, rtol=1e-9)
        p = r.predict(data)
        assert p.dims == ("site", "time") and list(p.coords) == ["site", "time"]
        np.testing.assert_allclose(p.to_numpy().ravel(), want.predict(frame), rtol=1e-9)
    assert p.chunks == ((5, 5, 2), (10, 10, 10))


def test_effects_read_a_dataset_as_the_fit_does():
    """Variables chunked each in its own way, and one that the formula leaves aside with a dimension of its own."""
    frame = CUBE.to_dataframe().reset_index()
    r = dg.lm("y ~ x * region", frame)
    want = r.margins(frame, over="region").frame
    cube = CUBE.chunk(site=5, time=10).assign(x=CUBE["x"].chunk(site=4, time=30), layer=("depth", np.arange(3.0)))
    for data in (CUBE.assign(layer=cube["layer"]), cube):
        numbers = ["effect", "se"]
        np.testing.assert_allclose(r.margins(data, over="region").frame[numbers], want[numbers], rtol=1e-9)


def test_classes_become_a_dimension():
    cube = CUBE.assign(k=(("site", "time"), RNG.choice(["r", "s", "t"], (12, 30))))
    r = dg.mnlogit("k ~ x", cube)
    for data in (cube, cube.chunk(site=4)):
        p = r.predict_proba(data)
        assert p.dims == ("site", "time", "class") and p["class"].values.tolist() == ["r", "s", "t"]
        np.testing.assert_allclose(p.sum("class"), 1.0)
    table = r.to_xarray()
    assert table["coef"].dims == ("class", "feature")
    np.testing.assert_allclose(table["std_err"].sel({"class": "t", "feature": "x"}), r.bse["t", "x"])


@pytest.mark.parametrize("chunks", [None, 25])
def test_estimator_on_a_data_array(chunks):
    X = xr.DataArray(RNG.normal(size=(100, 2)), dims=("obs", "feature"),
                     coords={"obs": np.arange(100) + 5, "feature": ["a", "b"]})
    y = xr.DataArray(RNG.normal(size=100), dims="obs", coords={"obs": X.obs})
    if chunks:
        X, y = X.chunk(obs=chunks), y.chunk(obs=chunks)
    est = dg.LinearRegression().fit(X, y)
    p = est.predict(X)
    assert isinstance(p, xr.DataArray) and p.obs.equals(X.obs)
    table = est.results_.to_xarray(level=0.9)
    assert table.feature.values.tolist() == ["Intercept", "a", "b"]
    np.testing.assert_allclose(table["coef"].values[1:], est.coef_)
    np.testing.assert_allclose(table["ci_lower"], est.results_.conf_int(0.9)["ci_lower"])


def test_predictions_and_residuals_are_named():
    cube = CUBE.chunk(site=5)
    r = dg.lm("y ~ x", cube)
    for data in (CUBE, cube):
        assert r.predict(data).name == "predict" and r.resid_response(data).name == "residuals"
    assert {"predict", "predict_block"} & {key_split(key) for key in r.predict(cube).__dask_graph__()}
    X = xr.DataArray(da.from_array(RNG.normal(size=(100, 2)), chunks=(25, 2)), dims=("obs", "feature"))
    est = dg.LinearRegression().fit(X, RNG.normal(size=100))
    assert est.predict(X).name == "predict" and key_split(est.predict(X.data).name) == "predict"
