"""Rows are paired by position, and never where labels say that the order is another: one rule for all kinds."""

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import daskglm_rep as dg

N = 240
ORDER = np.arange(N)[::-1]
WORDS = "row labels of X in another order"


def sample():
    """Columns of a Poisson model: X, y, weights, offset, exposure and clusters, on an index that is not 0, 1, ..."""
    r = np.random.default_rng(0)
    index = pd.Index(np.arange(N) * 3 + 10, name="id")
    X = pd.DataFrame(r.normal(size=(N, 2)), index, columns=["a", "b"])
    more = pd.DataFrame({"sample_weight": r.uniform(0.5, 2, N), "offset": r.normal(size=N) / 3,
                         "exposure": r.uniform(1, 2, N), "clusters": r.integers(0, 12, N)}, index)
    mu = np.exp(X["a"] + more["offset"]) * more["exposure"]
    return X, pd.Series(r.poisson(mu) * 1.0, index, name="visits"), more


def array(a):
    dims = ("row", "column")[:np.ndim(a)]
    coords = {"row": a.index.to_numpy()} | ({"column": list(a.columns)} if a.ndim == 2 else {})
    return xr.DataArray(a.to_numpy(), dims=dims, coords=coords)


def lazy(a):
    """A dask frame of a source of its own, its partitions in the order given."""
    pieces = [dask.delayed(a.iloc[start:start + 60]) for start in range(0, N, 60)]
    return dd.from_delayed(pieces, meta=a.iloc[:0])


def within(a, kind):
    """The same labels and values in another order: over all rows, within its partitions where it is lazy."""
    if kind is lazy:
        return a.iloc[np.concatenate([start + np.random.default_rng(2).permutation(60) for start in range(0, N, 60)])]
    return a.iloc[ORDER]


KINDS = {"pandas": lambda a: a, "xarray": array, "lazy xarray": lambda a: array(a).chunk(row=50), "dask": lazy}
ROLES = ["sample_weight", "offset", "exposure", "clusters"]


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request):
    return request.param


@pytest.mark.parametrize("role", ["visits", *ROLES])
def test_another_order_of_the_same_labels_is_refused(kind, role):
    X, y, more = sample()
    columns = {name: kind(more[name]) for name in ROLES} | {"visits": kind(y)}
    moved = within(y if role == "visits" else more[role], kind)
    columns[role] = kind(moved)
    y = columns.pop("visits")
    words = WORDS if role != "visits" or kind is array else f"visits has the {WORDS}|y has the {WORDS}"
    with pytest.raises(ValueError, match=words):
        dg.PoissonRegressor().fit(kind(X), y, **columns)


def test_equal_labels_are_paired(kind):
    X, y, more = sample()
    truth = dg.PoissonRegressor().fit(X.to_numpy(), y.to_numpy(), **{name: more[name].to_numpy() for name in ROLES})
    fitted = dg.PoissonRegressor().fit(kind(X), kind(y), **{name: kind(more[name]) for name in ROLES})
    np.testing.assert_allclose(fitted.coef_, truth.coef_, rtol=1e-9)
    np.testing.assert_allclose(fitted.results_.bse, truth.results_.bse, rtol=1e-7)


def test_labels_of_another_set_are_left_aside(kind):
    """As in scikit-learn, after reset_index() on one side."""
    X, y, _ = sample()
    truth = dg.PoissonRegressor().fit(X, y)
    other = pd.Series(y.to_numpy(), index=np.arange(N) - 1000)
    np.testing.assert_allclose(dg.PoissonRegressor().fit(kind(X), kind(other)).coef_, truth.coef_, rtol=1e-9)


def test_later_looks_at_rows_keep_the_rule(kind):
    X, y, more = sample()
    firm, weight = more["clusters"], more["sample_weight"]
    fitted = dg.PoissonRegressor().fit(kind(X), kind(y))
    results, moved = fitted.results_, kind(within(y, kind))
    calls = [lambda: fitted.score(kind(X), moved), lambda: results.with_covariance("HC0", kind(X), moved),
             lambda: results.with_covariance("cluster", kind(X), kind(y), clusters=kind(within(firm, kind))),
             lambda: results.influence(kind(X), moved).leverage.compute(),
             lambda: results.margins(kind(X), weights=kind(within(weight, kind)))]
    for call in calls:
        with pytest.raises(ValueError, match=WORDS):
            call()


@pytest.mark.parametrize("role", ["offset", "exposure"])
def test_predictions_keep_the_rule(kind, role):
    X, y, more = sample()
    fitted = dg.PoissonRegressor().fit(kind(X), kind(y))
    good, moved = kind(more[role]), kind(within(more[role], kind))
    want = fitted.predict(X.to_numpy(), **{role: more[role].to_numpy()})
    np.testing.assert_allclose(np.asarray(fitted.predict(kind(X), **{role: good})), want, rtol=1e-12)
    for call in (lambda: fitted.predict(kind(X), **{role: moved}),
                 lambda: fitted.results_.get_prediction(kind(X), **{role: moved}).mean):
        with pytest.raises(ValueError, match=WORDS):
            np.asarray(call())


def test_formulas_keep_the_rule():
    X, y, more = sample()
    results = dg.glm("visits ~ a + b", X.assign(visits=y), family="poisson")
    with pytest.raises(ValueError, match=WORDS):
        results.predict(X, offset=more["offset"].iloc[ORDER])


def test_one_source_is_read_once_and_needs_no_check():
    X, y, more = sample()
    frame = dd.from_pandas(X.assign(visits=y, weight=more["sample_weight"]), npartitions=4)
    data = dg.design.build(frame[["a", "b"]], frame["visits"], frame["weight"])
    assert all(len(part) == 1 for part in data.chunks)
    fitted = dg.PoissonRegressor().fit(frame[["a", "b"]], frame["visits"], frame["weight"])
    np.testing.assert_allclose(fitted.coef_, dg.PoissonRegressor().fit(X, y, more["sample_weight"]).coef_, rtol=1e-9)


def test_two_parquet_sources_whose_columns_are_read_in_different_shares(tmp_path):
    """dask joins files of which few columns are read, X's and y's differently: blocks must still meet."""
    X, y, _ = sample()
    wide = X.assign(**{f"x{j}": 0.0 for j in range(20)})
    dd.from_pandas(wide, npartitions=8).to_parquet(tmp_path / "x")
    dd.from_pandas(pd.DataFrame({"y": y} | {f"z{j}": 0.0 for j in range(50)}), npartitions=8).to_parquet(tmp_path / "y")
    truth = dg.PoissonRegressor().fit(X, y)
    for columns in (["a", "b"], ["a", "b"] + [f"x{j}" for j in range(10)]):
        frame, response = dd.read_parquet(tmp_path / "x")[columns], dd.read_parquet(tmp_path / "y")["y"]
        fitted = dg.PoissonRegressor(alpha=1e-12).fit(frame, response)
        np.testing.assert_allclose(fitted.coef_[:2], truth.coef_, rtol=1e-6)


def test_persisted_frames_and_arrays_beside_frames():
    X, y, more = sample()
    truth = dg.PoissonRegressor().fit(X, y, more["sample_weight"])
    frame, response = dd.from_pandas(X, npartitions=4).persist(), dd.from_pandas(y, npartitions=4).persist()
    weight = da.from_array(more["sample_weight"].to_numpy(), chunks=60)
    np.testing.assert_allclose(dg.PoissonRegressor().fit(frame, response, weight).coef_, truth.coef_, rtol=1e-9)


def test_labels_of_several_kinds_and_levels():
    X, y, _ = sample()
    mixed = pd.Index([i if i % 2 else f"row {i}" for i in range(N)], dtype=object)
    pairs = pd.MultiIndex.from_product([range(N // 4), list("abcd")])
    for index in (mixed, pairs):
        a, b = X.set_axis(index), y.set_axis(index)
        with pytest.raises(ValueError, match=f"visits has the {WORDS}"):
            dg.PoissonRegressor().fit(a, b.iloc[ORDER])
        np.testing.assert_allclose(dg.PoissonRegressor().fit(a, b).coef_, dg.PoissonRegressor().fit(X, y).coef_)
        dg.PoissonRegressor().fit(a, y)


# ---------------------------------------------------------------- what an adversary found


def counts(n=300):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n), "w": rng.random(n)})
    return frame.assign(y=rng.poisson(np.exp(0.3 * frame.a)).astype(float))


def test_partitions_in_another_order_are_refused():
    whole = counts()
    frame = dd.from_pandas(whole, npartitions=3)
    moved = dd.concat([frame.partitions[2], frame.partitions[0], frame.partitions[1]])
    mixed = dd.from_pandas(whole.sample(frac=1, random_state=0), npartitions=3, sort=False)
    for other in (moved, mixed):
        with dask.config.set(scheduler="sync"), pytest.raises(ValueError, match="other row labels than X"):
            dg.PoissonRegressor().fit(frame[["a", "b"]], other.y)
    counted = dg.PoissonRegressor().fit(frame[["a", "b"]], frame.y.reset_index(drop=True))          # 0, 1, ...
    np.testing.assert_allclose(counted.coef_, dg.PoissonRegressor().fit(whole[["a", "b"]], whole.y).coef_, rtol=1e-8)


@pytest.mark.parametrize("labels", [
    lambda n: (pd.Index(range(n), dtype="Int64"), pd.RangeIndex(n)),
    lambda n: (pd.date_range("2020", periods=n, tz="UTC"), pd.date_range("2020", periods=n, tz="UTC").tz_convert(
        "Europe/Paris")),
    lambda n: (pd.Index(np.arange(n) // 3), pd.Index(np.sort(np.r_[np.arange(n // 3), np.zeros(n - n // 3, int)])))],
    ids=["nullable", "time zones", "other counts of repeated labels"])
def test_one_order_under_other_types_is_one_order(labels):
    frame = counts()
    first, second = labels(len(frame))
    fitted = dg.PoissonRegressor().fit(frame[["a", "b"]].set_axis(first), frame.y.set_axis(second))
    np.testing.assert_array_equal(fitted.coef_, dg.PoissonRegressor().fit(frame[["a", "b"]], frame.y).coef_)


def test_labels_of_y_count_where_X_has_none():
    frame = counts()
    with pytest.raises(ValueError, match="sample_weight has the row labels of y in another order"):
        dg.PoissonRegressor().fit(frame[["a", "b"]].to_numpy(), frame.y, sample_weight=frame.w[::-1])


def test_added_columns_and_the_order_of_columns_are_checked():
    frame = counts()
    results = dg.PoissonRegressor().fit(frame[["a"]], frame.y).results_
    with pytest.raises(ValueError, match="added has the row labels of X in another order"):
        results.score_test(frame.b[::-1], frame[["a"]], frame.y)
    results = dg.PoissonRegressor().fit(frame[["a", "b"]], frame.y).results_
    for call in (results.get_prediction, lambda X: results.influence(X, frame.y)):
        with pytest.raises(ValueError, match="'b' where the fit had 'a'"):
            call(frame[["b", "a"]])


@pytest.mark.parametrize("arguments, options, words", [
    (lambda f, d: (d.a, d.y), {}, "X must be two-dimensional"),
    (lambda f, d: (d[["a"]], d[["y", "b"]]), {}, "y has 2 columns|2 columns"),
    (lambda f, d: (f[["a", "a"]], f.y), {}, "2 columns called 'a'"),
    (lambda f, d: (f[["a", "b"]], f.y), dict(penalty_factor=[1, -1]), "penalty_factor must hold"),
    (lambda f, d: (f[["a", "b"]], f.y), dict(penalty_factor=[1]), "penalty_factor must hold")])
def test_one_sentence(arguments, options, words):
    frame = counts()
    with dask.config.set(scheduler="sync"), pytest.raises(ValueError, match=words):
        dg.PoissonRegressor(alpha=1.0, **options).fit(*arguments(frame, dd.from_pandas(frame, npartitions=3)))
