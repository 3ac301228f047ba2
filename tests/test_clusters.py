"""Sums by cluster: one answer for every way to name clusters, cut rows and merge tables; a dictionary is the judge."""

import pickle
import warnings

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest

from daskglm_rep import LogisticRegression, families, links, passes
from daskglm_rep.inference.clustered import Meats
from daskglm_rep.kernels.block import Basis, Block
from daskglm_rep.kernels.cluster_sums import ClusterScores, _ByCode, _ByLabel
from daskglm_rep.kernels.clusters import cluster_moments, cluster_scores
from daskglm_rep.kernels.labels import Codebook
from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.models.glm import GLM

LOGIT = GLM(families.Bernoulli(), links.Logit())
N, P = 900, 3
RNG = np.random.default_rng(14)
G = RNG.integers(0, 40, N)
X = RNG.normal(size=(N, P))
Y = (RNG.random(N) < 0.4).astype(float)
WEIGHT = RNG.integers(0, 3, N).astype(float)
OFFSET = 0.1 * RNG.normal(size=N)
BASIS = Basis(np.arange(P), X.mean(axis=0), X.std(axis=0), True)
COEF = np.array([0.1, -0.4, 0.3, 0.2])
WIDE = np.random.default_rng(5).integers(-2 ** 63, 2 ** 63 - 1, 40)
HOLES = np.array([None, np.nan, pd.NaT, None], object)

NAMES = {"integers": G, "negative": -G - 5, "huge": G + np.iinfo(int).min, "far": G * (2 ** 57), "hashes": WIDE[G],
         "floats": G.astype(float), "halves": G / 2 - 7.25, "text": np.array([f"firm {g}" for g in G]),
         "objects": np.array([f"firm {g}" if g % 3 else int(g) for g in G], object), "int8": G.astype(np.int8),
         "unsigned": G.astype(np.uint64) + np.uint64(2 ** 63), "dates": np.datetime64("1970-01-01") + G * 400,
         "series": pd.Series(WIDE[G]), "nullable": pd.Series(G, dtype="Int64"), "strings": pd.Series(G.astype(str)),
         "categories": pd.Series(pd.Categorical([f"g{g}" for g in G])), "tuples": pd.Series(list(zip(G, G))),
         "ordinal": pd.Series(pd.Categorical(G * 1000))}


def score_rows():
    Z = np.c_[np.ones(N), (X - BASIS.center) / BASIS.scale]
    return Z * (WEIGHT * (Y - 1.0 / (1.0 + np.exp(-(Z @ COEF + OFFSET)))))[:, None]


def slow_sums(codes, rows):
    """Sorted rows of sums by code over rows of positive weight."""
    sums = {}
    for code, row, weight in zip(codes, rows, WEIGHT):
        if weight > 0:
            sums[code] = sums.get(code, 0.0) + row
    return in_order(np.array(list(sums.values())))


def in_order(sums):
    return sums[np.lexsort(np.round(sums, 8).T)]


def blocks(labels, cut):
    edges = np.unique([0, *cut, N])
    take = labels.iloc.__getitem__ if hasattr(labels, "iloc") else labels.__getitem__
    return [Block(X[a:b], Y[a:b], WEIGHT[a:b], OFFSET[a:b], extra={"clusters": take(slice(a, b))})
            for a, b in zip(edges, edges[1:])]


def grown(parts, kernel=cluster_scores):
    total = None
    for block in parts:
        total = kernel(block, LOGIT, BASIS, COEF, **({} if total is None else {"total": total}))
    return total


def check(total, want, labels=None):
    (names, *_), sums = total.total
    assert total.count == len(sums) == len(want)
    np.testing.assert_allclose(in_order(sums), want, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total.rows.sum(axis=0), want.sum(axis=0), atol=1e-11)
    assert labels is None or set(pd.Series(names)) == set(pd.Series(labels)[WEIGHT > 0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [[], [1, 2, 450], range(0, N, 7)], ids=["whole", "uneven", "small"])
def test_every_name_of_a_cluster_and_every_cut(name, cut):
    want, parts = slow_sums(G, score_rows()), blocks(NAMES[name], cut)
    check(grown(parts), want, NAMES[name])
    alone = [grown([block]) for block in parts]
    check(passes.merge_all(alone), want, NAMES[name])                              # a tree's node
    check(passes.merge_all(alone[::-1], owned=True), want, NAMES[name])          # threads' own tables, in place
    travelled = [pickle.loads(pickle.dumps(grown(parts[i::3]), protocol=5)) for i in range(min(3, len(parts)))]
    check(passes.merge_all(travelled), want, NAMES[name])


def test_merging_leaves_what_is_merged():
    """Dask may run a task of the merge tree again on the same summaries."""
    for name in ("integers", "text", "hashes"):
        parts = blocks(NAMES[name], [300, 600])
        tables = [grown([block]) for block in parts]
        before = [np.array(t.total[1]) for t in tables]
        first, again = passes.merge_all(tables), passes.merge_all(tables)
        np.testing.assert_array_equal(first.total[1], again.total[1])
        assert all(np.array_equal(t.total[1], b) for t, b in zip(tables, before))


@pytest.mark.parametrize("order", [range(4), range(3, -1, -1)], ids=["forth", "back"])
def test_labels_change_their_type_between_blocks(order):
    """As columns read from several files do: integers, floats for want of some, text; numbers that are equal agree."""
    kinds = [G, G.astype(float), G.astype(object), pd.Series(G, dtype="Int64")]
    parts = [blocks(kind, [225, 450, 675])[i] for i, kind in enumerate(kinds)]
    check(grown([parts[i] for i in order]), slow_sums(G, score_rows()), G)
    text = np.array([f"{g}" if i % 2 else int(g) for i, g in enumerate(G)], object)          # 7 and "7" are two
    mixed = [blocks(k, [225, 450, 675])[i] for i, k in enumerate([G, G.astype(str), G.astype(float), text])]
    codes = [*G[:225], *G[225:450].astype(str), *G[450:675], *text[675:]]
    check(grown([mixed[i] for i in order]), slow_sums(codes, score_rows()))


def test_missing_labels_and_weightless_rows():
    labels = np.array(G, object)
    labels[[0, 5, 300, 301]] = HOLES
    floats = np.where(np.isin(np.arange(N), [0, 5, 300, 301]), np.nan, G)
    n_missing = np.count_nonzero(WEIGHT[[0, 5, 300, 301]] > 0)
    want = slow_sums(np.where(np.isnan(floats), -1.0, floats), score_rows() * ~np.isnan(floats)[:, None])
    for each in (labels, floats, pd.Series(G, dtype="Int64").mask(np.isnan(floats))):
        for cut in ([], [1, 6, 302]):
            total = grown(blocks(each, cut))
            assert total.n_missing == n_missing and total.n_kept == np.count_nonzero(WEIGHT > 0)
            inside = want[np.abs(want).max(axis=1) > 0]
            np.testing.assert_allclose(in_order(total.total[1]), inside, rtol=1e-12)
    alone = np.where(WEIGHT > 0, 1, np.arange(N) + 10)          # labels that only rows without weight have
    assert grown(blocks(alone, [100])).count == 1


@pytest.mark.parametrize("labels", [np.arange(N), np.arange(N) * 3, np.arange(N)[::-1].copy(), np.zeros(N, int),
                                    np.sort(RNG.integers(0, 10 ** 9, N)), np.arange(N) ** 3 - 500])
def test_one_row_each_one_label_and_sorted_ones(labels):
    for cut in ([], range(0, N, 50), [899]):
        parts = blocks(labels, cut)
        check(grown(parts), slow_sums(labels, score_rows()), labels)
        check(passes.merge_all([grown(parts[::2]), grown(parts[1::2])], owned=True) if len(parts) > 1 else grown(parts),
              slow_sums(labels, score_rows()), labels)


@pytest.mark.parametrize("kinds", [(int, int), (str, int), (float, str), (int, str, int)])
def test_several_columns(kinds):
    columns = [(G * (j + 3) + j) % (7 + 4 * j) for j in range(len(kinds))]
    frame = pd.DataFrame({f"c{j}": c.astype(k) for j, (c, k) in enumerate(zip(columns, kinds))})
    codes = list(zip(*columns))
    for cut in ([], range(0, N, 100)):
        parts = blocks(frame, cut)
        for total in (grown(parts), passes.merge_all([grown([b]) for b in parts])):
            check(total, slow_sums(codes, score_rows()))
            found = set(zip(*[pd.Series(labels).astype(k) for labels, k in zip(total.total[0], kinds)]))
            assert found == set(zip(*[frame[c][WEIGHT > 0] for c in frame]))


def test_moments_of_clusters_grow_as_scores_do():
    want = grown(blocks(G, []), cluster_moments)
    for parts in (blocks(G, range(0, N, 60)), blocks(G.astype(str), [10, 500])):
        check(grown(parts, cluster_moments), in_order(want.total[1]))
    whole = block_moments(blocks(G, [])[0], LOGIT, BASIS, COEF)
    np.testing.assert_allclose(want.rows.sum(axis=0), np.r_[whole.score, whole.expected.ravel()], rtol=1e-11, atol=1e-9)


def test_codes_are_the_same_in_every_block():
    """Against a dictionary, through every change of the index: short range, far labels, short again, text."""
    rng = np.random.default_rng(1)
    book, known = Codebook(), {}
    for draw in [lambda: rng.integers(0, 50, 80), lambda: rng.integers(-3000, 3000, 500),
                 lambda: rng.integers(-2 ** 62, 2 ** 62, 300), lambda: rng.integers(0, 2 ** 20, 4000),
                 lambda: rng.integers(-50, 50, 10), lambda: np.empty(0, int), lambda: np.arange(2 ** 16),
                 lambda: np.array([-2 ** 63, 2 ** 63 - 1, 0]), lambda: np.array(["a", "b", "a"]),
                 lambda: rng.integers(0, 60, 90)]:
        for _ in range(3):
            labels = draw()
            want = [known.setdefault(label, len(known)) for label in labels.tolist()]
            assert book.codes(labels).tolist() == want and book.count == len(known)
            assert list(book.labels) == list(known)


def test_tables_suit_their_labels():
    """Rows by label where the range is short, and back where a label lies far away."""
    total = ClusterScores(1, 2)
    total.add_sums((np.arange(10),), np.ones((10, 2)))
    assert isinstance(total._table, _ByLabel)
    total.add_sums((np.array([5, 12, 10 ** 15]),), np.ones((3, 2)))
    assert isinstance(total._table, _ByCode) and total.count == 12
    (labels,), sums = total.total
    assert dict(zip(labels.tolist(), sums[:, 0])) == {**dict.fromkeys([*range(10), 12, 10 ** 15], 1.0), 5: 2.0}
    total = ClusterScores(1, 2)
    total.add_sums((np.array([1, 10 ** 6]),), np.ones((2, 2)))
    assert isinstance(total._table, _ByCode)
    total.add_sums((np.arange(10 ** 6),), np.ones((10 ** 6, 2)))
    assert isinstance(total._table, _ByLabel) and total.count == 10 ** 6 + 1 and total.total[1][1, 0] == 2.0
    assert total._table.rows.ctypes.data % 64 == 0


def test_few_tables_whatever_the_number_of_chunks(monkeypatch):
    """A table costs memory: threads have one or two each, not one a chunk."""
    born = []
    monkeypatch.setattr(ClusterScores, "__init__", _counted(ClusterScores.__init__, born))
    drawn = da.map_blocks(_drawn, chunks=((9,) * 100, (P + 2,)), dtype=float)
    rows = drawn[:, :P], drawn[:, P], drawn[:, P + 1]
    model = LogisticRegression().fit(*rows[:2])
    with dask.config.set(scheduler="threads", num_workers=2):
        born.clear()
        many = model.results_.with_covariance("cluster", *rows[:2], clusters=rows[2])
    assert 1 <= len(born) <= 2 * 2 + 1
    x, y, g = dask.compute(*rows)
    one = model.results_.with_covariance("cluster", x, y, clusters=g)
    np.testing.assert_allclose(many.bse, one.bse, rtol=1e-12)


def _counted(init, born):
    def counted(self, *arguments, **options):
        born.append(1)
        init(self, *arguments, **options)
    return counted


def _drawn(block_info=None):
    rng = np.random.default_rng(block_info[None]["chunk-location"][0])
    rows = rng.normal(size=(9, P))
    return np.c_[rows, rng.random(9) < 0.5, rng.integers(0, 30, 9)]


@pytest.mark.parametrize("dtype", [np.float16, ">f8", ">i4"])
def test_labels_of_rare_types(dtype):
    labels = np.arange(2000) % 60
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(Codebook().codes(labels.astype(dtype)), labels)


def test_sums_are_finished_where_they_are_merged():
    """One and two columns of clusters: the same errors as in memory, and only small matrices come home."""
    rng = np.random.default_rng(8)
    x, other = rng.normal(size=(600, 2)), rng.integers(0, 25, 600)
    y, g = (rng.random(600) < 0.5) + 0.0, rng.integers(0, 30, 600)
    one = LogisticRegression().fit(x, y).results_
    cut = [da.map_blocks(lambda a: a, da.from_array(a, chunks=(100, *a.shape[1:]))) for a in (x, y, np.c_[g, other])]
    for labels, lazy in ((g, cut[2][:, 0]), (np.c_[g, other], cut[2])):
        got = one.with_covariance("cluster", *cut[:2], clusters=lazy)
        want = one.with_covariance("cluster", x, y, clusters=labels)
        np.testing.assert_allclose(got.cov_params(), want.cov_params(), rtol=1e-9)
        assert got.covariance.n_clusters == want.covariance.n_clusters
    meats = Meats.of(grown(blocks(np.arange(N), [])), together=False)
    assert len(pickle.dumps(meats)) < 2000 and meats.sizes == (np.count_nonzero(WEIGHT > 0),)
