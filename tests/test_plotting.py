"""Plots of representatives: columns go by name, and other estimators get one sentence."""

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from daskglm_rep import GLMRegressor, RepresentativeGLM, partitions, plotting

pytest.importorskip("matplotlib").use("Agg")


def sample():
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(rng.normal(size=(400, 3)), columns=["a", "b", "c"])
    y = (frame["a"] + rng.logistic(size=400) > 0).to_numpy(float)
    return frame, y


FRAME, Y = sample()


@pytest.fixture(scope="module")
def fitted():
    return RepresentativeGLM(representative="mean", partition=partitions.KMeans(20)).fit(FRAME, Y)


@pytest.mark.parametrize("data", [FRAME, FRAME[["c", "b", "a"]], FRAME[["c", "b"]], FRAME.to_numpy(),
                                  FRAME.set_axis([0, 1, 2], axis=1), dd.from_pandas(FRAME[["c", "a", "b"]], 2)],
                         ids=["frame", "permuted", "two", "array", "numbered", "dask"])
def test_rows_underneath_are_the_columns_named(fitted, data):
    ax = plotting.plot_representatives(fitted, "b", "c", data)
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), FRAME[["b", "c"]])


def test_rounds_of_any_collection(fitted):
    assert len(plotting.plot_rounds(e for e in [fitted, fitted]).lines) == 2


@pytest.mark.parametrize("draw, error, words", [
    (lambda e: plotting.plot_representatives(e, "a", "b", FRAME[["a"]]), ValueError, "data has no column 'b'"),
    (lambda e: plotting.plot_representatives(e, "weight", "b", FRAME), ValueError, "data has no column 'weight'"),
    (lambda e: plotting.plot_representatives(e, "a", "b", FRAME.to_numpy()[:, :2]), ValueError, "data has 2 columns"),
    (lambda e: plotting.plot_rounds(GLMRegressor()), ValueError, "Only a RepresentativeGLM.*GLMRegressor"),
    (lambda e: plotting.plot_bytes([e, RepresentativeGLM()]), NotFittedError, "not fitted"),
    (lambda e: plotting.plot_representatives(RepresentativeGLM(), "a"), NotFittedError, "not fitted"),
])
def test_what_cannot_be_drawn(fitted, draw, error, words):
    with pytest.raises(error, match=words):
        draw(fitted)
