"""Partitions against slow obvious NumPy, and their laws."""

import dataclasses
import warnings

import numpy as np
import pytest

from daskglm_rep import partitions
from daskglm_rep.kernels.assignment import bisect, compress, grid, hash_rows, join_small, nearest
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.survey import spread
from daskglm_rep.part_summaries import SKETCH, ColumnSketch, PartSums


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(3).normal(size=(4000, 3)) * [1.0, 5.0, 0.2]


def block_of(X, index=0, **extra):
    return Block(X, np.zeros(len(X)), np.ones(len(X)), np.zeros(len(X)), index, extra)


def layout_of(X):
    return partitions.Layout.of([f"x{j}" for j in range(X.shape[1])], spread(X, np.ones(len(X))))


def test_nearest_is_the_least_distance(X):
    centers = np.random.default_rng(0).normal(size=(37, 3))
    slow = ((X[:, None, :] - centers) ** 2).sum(axis=2).argmin(axis=1)
    assert (nearest(X, centers) == slow).all()


def test_equal_depth_grid_is_numpys_quantile_cells(X):
    sketch = ColumnSketch.of(X[:1500]).merge(ColumnSketch.of(X[1500:]))
    assigner = partitions.EqualDepth(4).assigner(layout_of(X), None, sketch)
    edges = np.quantile(X, [0.25, 0.5, 0.75], axis=0).T
    slow = sum(np.searchsorted(edges[j], X[:, j], side="right") * 4 ** (2 - j) for j in range(3))
    assert (assigner.keys(block_of(X)) == slow).all()
    assert (np.bincount(slow // 16) == 1000).all()


def test_grid_midpoints_are_the_middles_of_their_cells(X):
    assigner = partitions.EqualDepth(2).assigner(layout_of(X), None, ColumnSketch.of(X))
    keys, codes = compress(assigner.keys(block_of(X)))
    middle = assigner.midpoints(keys)
    median = np.median(X, axis=0)
    for k in range(len(keys)):
        rows = X[codes == k]
        upper = rows.mean(axis=0) > median
        want = 0.5 * np.where(upper, median + X.max(axis=0), X.min(axis=0) + median)
        np.testing.assert_allclose(middle[k], want, rtol=1e-12)


def test_sketch_keeps_ranks_when_it_must_shorten():
    values = np.random.default_rng(1).exponential(size=(3 * SKETCH, 1))
    sketch = ColumnSketch.of(values[:SKETCH])
    for start in (SKETCH, 2 * SKETCH):
        sketch = sketch.merge(ColumnSketch.of(values[start:start + SKETCH]))
    assert sketch.values[0].size <= SKETCH
    found = sketch.quantiles([0.1, 0.5, 0.99])[0]
    rank = [(values < q).mean() for q in found]
    np.testing.assert_allclose(rank, [0.1, 0.5, 0.99], atol=3.0 / SKETCH)


def test_guarded_sketch_sends_no_single_value():
    x = np.random.default_rng(1).normal(size=(1003, 1))
    sketch = ColumnSketch.of(x, 10)
    assert not np.isin(sketch.values[0], x).any() and sketch.weight[0].min() >= 10 and sketch.weight[0].sum() == 1003


def test_equal_keys_are_equal_rows():
    X = np.random.default_rng(2).integers(0, 4, (5000, 3)).astype(float)
    X[X == 0] *= np.random.default_rng(3).choice([-1.0, 1.0], (X == 0).sum())          # minus zero is zero
    _, slow = np.unique(X + 0.0, axis=0, return_inverse=True)
    _, codes = np.unique(hash_rows(X), return_inverse=True)
    assert len(set(zip(slow.ravel(), codes))) == codes.max() + 1 == slow.max() + 1


def test_compress_agrees_with_unique():
    for keys in (np.array([5, 5, 2, 9, 2]), np.array([-4, 2 ** 60, -4]), np.zeros(0, np.int64)):
        for a, b in zip(compress(keys), np.unique(keys, return_inverse=True)):
            assert (a == b).all()


@pytest.mark.parametrize("least", [5, 40])
def test_join_small_leaves_no_small_part(X, least):
    keys = grid(X, np.quantile(X, [0.02, 0.3, 0.9], axis=0).T)
    joined, n_joined = join_small(keys, X, least)
    assert np.unique(joined, return_counts=True)[1].min() >= least
    assert n_joined == (np.unique(keys, return_counts=True)[1] < least).sum()
    untouched = np.isin(keys, np.unique(keys)[np.unique(keys, return_counts=True)[1] >= least])
    assert (joined[untouched] == keys[untouched]).all()


def test_bisections_reach_the_target_cut_the_widest_and_route_new_rows(X):
    codes = (X[:, 0] > 2.0).astype(np.int64)
    cuts = bisect(X, codes, 50, 20)
    after = cuts.route(codes, X)
    sizes = np.bincount(after)
    assert len(sizes) == 50 and sizes.min() >= 20
    assert len(set(zip(codes, after))) == 50                           # parts are cut, never mixed

    def within(labels):
        return max(((X[labels == k] - X[labels == k].mean(axis=0)) ** 2).sum() for k in range(labels.max() + 1))

    assert within(after) < 0.2 * within(codes)
    assert (cuts.route(codes[::-1], X[::-1]) == after[::-1]).all()


def test_identical_rows_are_never_cut():
    X, codes = np.ones((100, 2)), np.zeros(100, np.int64)
    assert bisect(X, codes, 10, 2).parent.size == 0


def test_natural_blocks_are_chunks_values_or_labels(X):
    layout = layout_of(X)
    a, b = (partitions.Natural().assigner(layout, None, None).keys(block_of(X, i)) for i in (0, 1))
    assert len(np.unique(a)) == 1 and a[0] != b[0]
    G = np.c_[X[:, :2], np.arange(len(X)) % 7]
    keys = partitions.Natural("x2").assigner(layout_of(G), None, None).keys(block_of(G))
    assert len(set(zip(keys, G[:, 2]))) == 7
    labels = np.array(["a", "b", "c", "d"] * 1000)
    keys = partitions.Natural().assigner(layout, None, None).keys(block_of(X, clusters=labels))
    assert len(set(zip(keys, labels))) == 4


def test_sub_partition_keeps_to_its_natural_block(X):
    layout, label = layout_of(X), np.arange(len(X)) % 2
    block = block_of(X, 5, clusters=label)
    assigner = partitions.Natural(within=partitions.KMeans(10)).assigner(layout, None, None)
    keys = assigner.keys(block)
    assert len(np.unique(keys)) == 20 and len(set(zip(keys, label))) == 20
    assert (assigner.keys(block) == keys).all()


def test_part_sums_merge_by_key_in_any_order():
    rng = np.random.default_rng(0)

    def some():
        keys = np.sort(rng.choice(20, 8, replace=False))
        x = rng.normal(size=(8, 2))
        return PartSums(keys, x, x, x)

    a, b, c = some(), some(), some()
    left, right = a.merge(b).merge(c), c.merge(a.merge(b))
    assert (left.keys == right.keys).all()
    np.testing.assert_allclose(left.sums, right.sums)
    for key, low, high in zip(left.keys, left.low, left.high):
        rows = np.concatenate([p.sums[p.keys == key] for p in (a, b, c)])
        assert (low == rows.min(axis=0)).all() and (high == rows.max(axis=0)).all()


def test_centres_are_distinct_rows_that_count(X):
    discrete = (X > 0).astype(float)
    weight = (X[:, 0] > 0).astype(float)
    layout, block = layout_of(discrete), block_of(discrete)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = partitions.KMeans(60).assigner(layout, block, None)
        heavy = partitions.KMeans(60).assigner(layout, dataclasses.replace(block, weight=weight), None)
        inside = partitions.Natural(within=partitions.KMeans(60)).assigner(layout, None, None)
        fewer = partitions.KMeans(7).assigner(layout, block, None, random_state=2 ** 40)
        nothing = partitions.KMeans(60).assigner(layout, dataclasses.replace(block, weight=0.0 * weight), None)
    assert [len(a.centers) for a in (whole, heavy, fewer, nothing)] == [8, 4, 7, 8]
    assert len(np.unique(inside.keys(block))) == 8
    slow = np.unique(discrete, axis=0) - layout.center
    np.testing.assert_allclose(whole.centers[np.lexsort(whole.centers.T[::-1])], slow)


def test_one_column_may_be_named_alone(X):
    layout = layout_of(X)
    for columns in ("x1", 1, -2, ["x1"], np.array([1])):
        assigner = partitions.EqualDepth(4, columns=columns).assigner(layout, None, ColumnSketch.of(X))
        assert assigner.columns.tolist() == [1]
    assert partitions.column_numbers("x1", layout.names) == [1] == partitions.column_numbers(1, layout.names)


def both_labels(labels, column=None):
    X = np.arange(12.0).reshape(6, 2)
    return partitions.Natural(column).assigner(layout_of(X), None, None).keys(block_of(X, blocks=labels))


@pytest.mark.parametrize("make, words", [
    (lambda: partitions.KMeans(True), "n_clusters.*True"), (lambda: partitions.Cells("a"), "max_cells.*'a'"),
    (lambda: partitions.EqualDepth(4, subset=0), "subset"), (lambda: partitions.EqualDepth(columns=[]), "no column"),
    (lambda: partitions.EqualDepth(4, "zz")._chosen(layout_of(np.zeros((2, 2)))), "no column 'zz'"),
    (lambda: partitions.Natural(True).assigner(layout_of(np.zeros((2, 2))), None, None), "no column True"),
    (lambda: both_labels(np.arange(6), 1), "blocks= labels them too"),
    (lambda: both_labels(np.ones((6, 2))), "blocks has 2 columns"),
    (lambda: partitions.EqualDepth(1), "n_splits"), (lambda: partitions.KMeans(0), "n_clusters"),
    (lambda: partitions.Natural(within=partitions.Natural()), "within"),
    (lambda: partitions.Cells(10).assigner(None, None, None).of_rows(np.arange(20.0)[:, None]), "discrete"),
    (lambda: partitions.EqualDepth(4).assigner(layout_of(np.zeros((2, 40))), None, None), "2\\^62"),
    (lambda: partitions.Natural("z").assigner(layout_of(np.zeros((2, 2))), None, None), "no column 'z'")])
def test_bad_input_is_told(make, words):
    with pytest.raises(ValueError, match=words):
        make()
