"""What comes in goes out: every kind of table gives the same fit, and predictions of its own kind, lazily."""

import threading

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from daskglm_rep import GLMClassifier, PoissonRegressor, design

N, NAMES = 3_000, ["age", "dose", "group"]


def sample():
    rng = np.random.default_rng(5)
    X = np.c_[rng.normal(50, 9, N), rng.normal(size=N).round(2), rng.integers(0, 2, N)]
    exposure = rng.uniform(0.5, 3, N)
    offset = rng.normal(0, 0.2, N)
    weight = rng.integers(1, 4, N) * 0.5
    y = rng.poisson(exposure * np.exp(0.02 * X[:, 0] - 1 + 0.4 * X[:, 1] + offset)).astype(float)
    return X, exposure, offset, weight, y


X, EXPOSURE, OFFSET, WEIGHT, Y = sample()
FRAME = pd.DataFrame(X, columns=NAMES, index=pd.RangeIndex(100, 100 + 2 * N, 2, name="person"))
CHUNKS = (1, 700, 999, 0, 1300)


def model():
    return PoissonRegressor(tol=1e-9)


@pytest.fixture(scope="module")
def truth():
    return model().fit(X, Y, WEIGHT, OFFSET, EXPOSURE)


def read_only(a):
    a = a.copy()
    a.setflags(write=False)
    return a


def unknown(a):
    """A dask array whose chunk sizes are not known."""
    return a[da.ones(a.shape[0], chunks=a.chunks[0], dtype=bool)]


def lazy(a, chunks=(CHUNKS,)):
    return da.from_array(a, chunks=(chunks[0],) + (-1,) * (a.ndim - 1))


def dask_frame(n=4):
    whole = FRAME.assign(y=Y, weight=WEIGHT, offset=OFFSET, exposure=EXPOSURE)
    return dd.from_pandas(whole, npartitions=n)


def frame_columns(frame):
    return frame[NAMES], frame["y"], frame["weight"], frame["offset"], frame["exposure"]


def data_array(a, chunks=None):
    dims = ("row", "feature")[:a.ndim]
    coords = {"row": np.arange(N) * 10} | ({"feature": NAMES} if a.ndim == 2 else {})
    found = xr.DataArray(a, dims=dims, coords=coords)
    return found if chunks is None else found.chunk(row=chunks)


COLUMNS = (Y, WEIGHT, OFFSET, EXPOSURE)
KINDS = {
    "lists": lambda: (X.tolist(), Y.tolist(), WEIGHT.tolist(), OFFSET, EXPOSURE),
    "read-only numpy": lambda: map(read_only, (X, *COLUMNS)),
    "Fortran order": lambda: (np.asfortranarray(X), *COLUMNS),
    "strided view": lambda: (np.repeat(np.repeat(X, 2, 0), 2, 1)[::2, ::2], *COLUMNS),
    "reversed views": lambda: (X[::-1], *[c[::-1] for c in COLUMNS]),
    "integer y": lambda: (X, Y.astype(np.int32), WEIGHT, OFFSET, EXPOSURE),
    "objects": lambda: (X.astype(object), Y, WEIGHT, OFFSET, EXPOSURE),
    "pandas": lambda: (FRAME, *[pd.Series(c, FRAME.index) for c in COLUMNS]),
    "pandas of several dtypes": lambda: (FRAME.astype({"group": "Int64"}), *COLUMNS),
    "dask array": lambda: map(lazy, (X, *COLUMNS)),
    "persisted dask array": lambda: (lazy(c).persist() for c in (X, *COLUMNS)),
    "one row a chunk at the ends": lambda: (lazy(c, ((1, N - 2, 1),)) for c in (X, *COLUMNS)),
    "y chunked otherwise": lambda: (lazy(X), *[lazy(c, (500,)) for c in COLUMNS]),
    "y in memory": lambda: (lazy(X), *COLUMNS),
    "column chunks": lambda: (da.from_array(X, chunks=(1000, 2)), *[lazy(c, (1000,)) for c in COLUMNS]),
    "unknown sizes": lambda: (unknown(lazy(c)) for c in (X, *COLUMNS)),
    "read-only chunks": lambda: (lazy(c).map_blocks(read_only, dtype=float) for c in (X, *COLUMNS)),
    "dask frame": lambda: frame_columns(dask_frame()),
    "dask frame, one partition": lambda: frame_columns(dask_frame(1)),
    "dask frame to arrays": lambda: (c.to_dask_array() for c in frame_columns(dask_frame())),
    "xarray": lambda: map(data_array, (X, *COLUMNS)),
    "lazy xarray": lambda: (data_array(c, 800) for c in (X, *COLUMNS)),
    "xarray chunked in columns": lambda: (data_array(X, 800).chunk(feature=1), *[data_array(c, 800) for c in COLUMNS]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_table_gives_the_same_fit(kind, truth):
    given, *columns = KINDS[kind]()
    fitted = model().fit(given, *columns)
    assert fitted.results_.params.to_numpy() == pytest.approx(truth.results_.params.to_numpy(), rel=1e-9)
    assert fitted.results_.bse.to_numpy() == pytest.approx(truth.results_.bse.to_numpy(), rel=1e-9)
    assert fitted.results_.llf == pytest.approx(truth.results_.llf, rel=1e-10)
    assert fitted.n_features_in_ == 3
    assert fitted.score(given, *columns) == pytest.approx(truth.score(X, Y, WEIGHT, OFFSET, EXPOSURE), rel=1e-9)


@pytest.mark.parametrize("kind", ["pandas", "dask frame", "xarray", "lazy xarray"])
def test_column_names_are_kept(kind):
    given, *columns = KINDS[kind]()
    fitted = model().fit(given, *columns)
    assert list(fitted.feature_names_in_) == NAMES
    assert list(fitted.results_.params.index) == ["Intercept", *NAMES]


def test_response_name_comes_from_its_column():
    given, y, *_ = frame_columns(dask_frame())
    assert model().fit(given, y).results_.response == "y"
    assert model().fit(FRAME, pd.Series(Y, FRAME.index, name="visits")).results_.response == "visits"


def test_single_precision_is_computed_in_double():
    small = X.astype(np.float32)
    truth = model().fit(small.astype(float), Y)
    for given in (small, lazy(small), lazy(small).map_blocks(read_only, dtype=np.float32)):
        fitted = model().fit(given, Y)
        assert fitted.coef_ == pytest.approx(truth.coef_, rel=1e-9)
        assert fitted.coef_.dtype == np.float64


def test_scalars_serve_as_offset_and_weight():
    truth = model().fit(X, Y, np.full(N, 2.0), np.full(N, 0.3)).results_.params.to_numpy()
    for given in (X, lazy(X)):
        y = Y if given is X else lazy(Y)
        assert model().fit(given, y, 2.0, 0.3).results_.params.to_numpy() == pytest.approx(truth, rel=1e-9)


class Loader:
    """Partitions made on demand; counts how often each is loaded."""

    def __init__(self, n):
        self.edges = np.linspace(0, N, n + 1).astype(int)
        self.loads = [0] * n
        self.lock = threading.Lock()

    def __dask_tokenize__(self):
        return "loader", id(self)

    def __call__(self, i):
        with self.lock:
            self.loads[i] += 1
        rows = slice(self.edges[i], self.edges[i + 1])
        return FRAME.assign(y=Y, weight=WEIGHT, offset=OFFSET, exposure=EXPOSURE).iloc[rows]


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_a_sweep_reads_each_partition_once(scheduler, truth):
    loader = Loader(6)
    with dask.config.set(scheduler=scheduler):
        frame = dd.from_map(loader, range(6), meta=loader(0).iloc[:0])
        loader.loads = [0] * 6
        fitted = model().fit(*frame_columns(frame))
    assert loader.loads == [fitted.n_passes_] * 6 and fitted.n_passes_ <= 3
    assert fitted.coef_ == pytest.approx(truth.coef_, rel=1e-9)


def test_a_sweep_of_a_dask_array_loads_each_chunk_once():
    loads = []

    def load(block, block_info=None):
        loads.append(block_info[None]["chunk-location"][0])
        return block

    given = lazy(X).map_blocks(load, dtype=float)
    loads.clear()
    fitted = model().fit(given, lazy(Y), lazy(WEIGHT))
    assert sorted(loads) == sorted(list(range(len(CHUNKS))) * int(fitted.n_passes_))


def test_building_the_data_reads_nothing():
    loader = Loader(3)
    frame = dd.from_map(loader, range(3),
                        meta=FRAME.assign(y=Y, weight=WEIGHT, offset=OFFSET, exposure=EXPOSURE).iloc[:0])
    assert isinstance(model().fit(FRAME, Y).predict(frame[NAMES]), dd.Series)
    assert design.build(*frame_columns(frame)).n_blocks == 3
    assert sum(loader.loads) == 0


# ---------------------------------------------------------------- prediction


def means(fitted):
    return np.exp(np.log(EXPOSURE) + OFFSET + fitted.intercept_ + X @ fitted.coef_)


def test_predictions_of_numpy_and_pandas(truth):
    got = truth.predict(X, OFFSET, EXPOSURE)
    assert type(got) is np.ndarray and got == pytest.approx(means(truth), rel=1e-12)
    fitted = model().fit(FRAME, Y, WEIGHT, OFFSET, EXPOSURE)
    got = fitted.predict(FRAME, OFFSET, EXPOSURE)
    assert type(got) is np.ndarray and got == pytest.approx(means(truth), rel=1e-9)


def test_predictions_of_dask_arrays_stay_lazy(truth):
    for given, columns in ((lazy(X), (OFFSET, EXPOSURE)), (lazy(X), (lazy(OFFSET), lazy(EXPOSURE, (500,)))),
                           (da.from_array(X, chunks=(800, 2)), (OFFSET, EXPOSURE)),
                           (unknown(lazy(X)), (unknown(lazy(OFFSET)), unknown(lazy(EXPOSURE))))):
        got = truth.predict(given, *columns)
        assert isinstance(got, da.Array) and got.dtype == np.float64 and len(got.chunks[0]) == len(given.chunks[0])
        assert got.compute() == pytest.approx(means(truth), rel=1e-12)


def test_predictions_of_dask_frames_keep_index_and_divisions():
    frame = dask_frame()
    fitted = model().fit(*frame_columns(frame))
    got = fitted.predict(frame[NAMES], frame["offset"], frame["exposure"])
    assert isinstance(got, dd.Series) and got.divisions == frame.divisions
    found = got.compute()
    assert found.index.equals(FRAME.index) and found.to_numpy() == pytest.approx(means(fitted), rel=1e-12)


@pytest.mark.parametrize("chunks", [None, 800])
def test_predictions_of_xarray_keep_coordinates(chunks):
    given = data_array(X, chunks)
    fitted = model().fit(*[data_array(c, chunks) for c in (X, *COLUMNS)])
    got = fitted.predict(given, data_array(OFFSET, chunks), data_array(EXPOSURE, chunks))
    assert isinstance(got, xr.DataArray) and got.dims == ("row",)
    assert isinstance(got.data, da.Array) == (chunks is not None)
    assert (got["row"] == given["row"]).all() and got.to_numpy() == pytest.approx(means(fitted), rel=1e-12)


@pytest.fixture(scope="module")
def classifier():
    return GLMClassifier().fit(FRAME, np.where(Y > 2, "many", "few"))


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_classifiers_keep_the_kind_too(classifier, method):
    want = np.asarray(getattr(classifier, method)(FRAME))
    for given, kind in ((lazy(X), da.Array), (dask_frame()[NAMES], (dd.Series, dd.DataFrame)),
                        (data_array(X, 900), xr.DataArray)):
        got = getattr(classifier, method)(given)
        assert isinstance(got, kind)
        found = np.asarray(got.compute())
        assert (found == want).all() if method == "predict" else found == pytest.approx(want, rel=1e-12)
    if method == "predict_proba":
        frame = classifier.predict_proba(dask_frame()[NAMES])
        assert list(frame.columns) == ["few", "many"]
        assert frame.compute().index.equals(FRAME.index)
        array = classifier.predict_proba(data_array(X, 900))
        assert array.dims == ("row", "class") and list(array["class"].values) == ["few", "many"]


def test_labels_of_lazy_kinds():
    """Text, categories and booleans as responses in chunks, where a chunk may lack a class."""
    order = np.argsort(Y > 2, kind="stable")
    text = np.where(Y > 2, "many", "few")[order]
    truth = GLMClassifier().fit(X[order], text)
    frame = pd.DataFrame(X[order], columns=NAMES).assign(
        text=text, category=pd.Categorical(text, categories=["many", "few", "none"]), flag=text == "many")
    lazy_frame = dd.from_pandas(frame, npartitions=5)
    for column in ("text", "category", "flag"):
        fitted = GLMClassifier().fit(lazy_frame[NAMES], lazy_frame[column])
        assert fitted.coef_ == pytest.approx(truth.coef_, rel=1e-8), column
        assert list(fitted.classes_) == ([False, True] if column == "flag" else ["few", "many"])
    fitted = GLMClassifier().fit(lazy(X[order]), lazy(text.astype("U4")))
    assert fitted.coef_ == pytest.approx(truth.coef_, rel=1e-8)


def test_few_columns_of_many_parquet_files(tmp_path):
    """dask reads several files as one partition where few of their columns are used: no complaint, the same fit."""
    rng = np.random.default_rng(6)
    wide = FRAME.assign(y=Y, **{f"other{j}": rng.normal(size=N) for j in range(12)})
    for number, rows in enumerate(np.array_split(np.arange(N), 8)):
        wide.iloc[rows].to_parquet(tmp_path / f"part-{number}.parquet", index=False)
    frame = dd.read_parquet(tmp_path)
    fitted = model().fit(frame[["age", "dose"]], frame["y"])
    assert fitted.coef_ == pytest.approx(model().fit(X[:, :2], Y).coef_, rel=1e-9)
    assert len(fitted.predict(frame[["age", "dose"]])) == N
