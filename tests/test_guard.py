"""What leaves a guarded block: seven attacks that must find no row, and what the audit says was sent."""

import itertools

import dask
import dask.array as da
import numpy as np
import pytest
from scipy.special import expit

from daskglm_rep import RepresentativeGLM, audit, partitions, passes
from daskglm_rep.kernels.assignment import effective_rows, hash_rows, join_small
from daskglm_rep.objective import ready
from daskglm_rep.part_summaries import PartSums

N, P = 4_000, 3


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="sync"):
        yield


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(N, P))
    return X, (rng.random(N) < expit(X.sum(axis=1))).astype(float)


class Wire:
    """All summaries that leave blocks, as an eavesdropper at the one door sees them."""

    def __init__(self, monkeypatch):
        self.sent, self.inside, run = [], False, passes.run

        def listening(kernel, data, *arguments, **options):
            if self.inside or data.prepare is ready:            # a block sweeps its own rows, a fit its own points
                return run(kernel, data, *arguments, **options)

            def tapped(block, *rest):
                self.inside = True
                found = kernel(block, *rest)
                self.inside = False
                self.sent.append(getattr(found, "summary", found))
                return found

            tapped.__name__ = kernel.__name__
            return run(tapped, data, *arguments, **options)

        monkeypatch.setattr(passes, "run", listening)

    def numbers(self):
        return np.concatenate([a.astype(float).ravel() for a in arrays(self.sent)])

    def parts(self):
        found = [s for s in (getattr(s, "first", s) for s in self.sent) if isinstance(s, PartSums)]
        assert found
        return found


@pytest.fixture
def wire(monkeypatch):
    return Wire(monkeypatch)


def arrays(value):
    """Every array of numbers in a value."""
    if isinstance(value, np.ndarray):
        return [value] if value.dtype.kind in "fi" else []
    if isinstance(value, (float, int)):
        return [np.array([value])]
    if isinstance(value, dict):
        value = [*value, *value.values()]
    elif hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, f) for f in value.__dataclass_fields__]
    return [a for v in value for a in arrays(v)] if isinstance(value, (list, tuple)) else []


def chunked(X, y, n=1_000):
    return da.from_array(X, chunks=(n, X.shape[1])), da.from_array(y, chunks=n)


def matches(candidates, rows, tol=1e-6):
    """How many rows are among the candidates, (m, p)."""
    from scipy.spatial import cKDTree
    candidates = np.asarray(candidates, float)
    candidates = candidates[np.isfinite(candidates).all(axis=1)]
    if not len(candidates):
        return 0
    distance, _ = cKDTree(candidates).query(rows)
    return int((distance < tol * np.abs(rows).max()).sum())


def raw(est, Z):
    """Columns of the basis, (m, p) without the intercept, as raw ones."""
    basis = est._prepared.plan.basis
    return Z * basis.scale + basis.center


PARTITIONS = [partitions.KMeans(40, subset=2_000), partitions.EqualDepth(4),
              partitions.Natural(within=partitions.KMeans(20))]


def differences(wire, width):
    """Sums of score parts of one block, of all rounds, less each other: (weight, y, w z) of what changed side."""
    found, n_blocks = [], N // 1_000
    scores = [part for part in wire.parts() if part.sums.shape[1] == 10 + 2 * width]
    for block in range(n_blocks):
        for a, b in itertools.pairwise(scores[block::n_blocks]):
            for s in a.sums:
                delta = b.sums - s
                near = np.abs(delta[:, 0]) == 1                             # one row more or less
                with np.errstate(all="ignore"):
                    found.append(delta[near, 11:10 + width] / delta[near, 1:2])
    return np.vstack(found) if found else np.zeros((0, width - 1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("least", [1, 10])
def test_attack_1_rounds_of_score_matching_differ_by_single_rows(rows, wire, least):
    X, y = rows
    est = RepresentativeGLM(representative="score-matching", partition=partitions.Natural(within=partitions.KMeans(20)),
                            min_block_size=least, n_rounds=3, tol=1e-12)
    est.fit(*chunked(X, y))
    found = matches(raw(est, differences(wire, P + 1)), X)
    assert found == 0 if least == 10 else found > 5                       # without the guard the attack works


@pytest.mark.parametrize("method", ["mean", "moment-matched", "calibrated", "score-matching", "response-aided"])
def test_attack_2_and_3_no_part_is_carried_by_few_rows(rows, wire, method):
    """Weights of 1e-9 beside one of 1 make a mean that row."""
    X, y = rows
    weight = np.where(np.arange(N) % 40 == 0, 1.0, 1e-9)
    est = RepresentativeGLM(representative=method, partition=PARTITIONS[0])
    est.fit(X, y, sample_weight=weight)
    for part in wire.parts():
        assert part.sums[:, 0].min() >= 10
        with np.errstate(all="ignore"):
            first = 10 if part.sums.shape[1] == 10 + 2 * (P + 1) else 4
            width = P if method == "mean" else P + 1
            first = 3 if method == "mean" else first
            means = part.sums[:, first:first + width][:, width - P:] / part.sums[:, 1:2]
        assert matches(raw(est, means), X[weight == 1.0]) == 0
    with pytest.raises(ValueError, match="count as 1 by their weights"):
        RepresentativeGLM(representative=method, partition=PARTITIONS[0]).fit(
            X[:40], y[:40], sample_weight=np.r_[1.0, np.full(39, 1e-9)])


def test_effective_rows_decide_what_is_joined():
    rng = np.random.default_rng(0)
    x, keys = rng.normal(size=(400, 2)), np.repeat(np.arange(20), 20)
    weight = np.where(np.arange(400) % 20 == 0, 1e6, 1.0) * (keys < 10) + 1.0 * (keys >= 10)
    joined, n_joined = join_small(keys, x, 10, weight)
    codes = np.unique(joined, return_inverse=True)[1]
    assert n_joined == 10 and effective_rows(codes, weight, codes.max() + 1).min() >= 10
    np.testing.assert_allclose(effective_rows(np.zeros(3, int), np.array([1.0, 1.0, 2.0]), 1), [16 / 6])


@pytest.mark.parametrize("partition", PARTITIONS, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("method", ["mean", "calibrated", "score-matching"])
def test_attack_4_nothing_sent_is_a_value_of_a_row(rows, wire, method, partition):
    """Not in the survey's subset, sketches or extremes, not in parts, not in scores; raw, centred or scaled."""
    X, y = rows
    est = RepresentativeGLM(representative=method, partition=partition)
    with np.errstate(all="ignore"):
        est.fit(*chunked(X, y))
    basis, sent = est._prepared.plan.basis, wire.numbers()
    sent = np.sort(sent[np.isfinite(sent)])
    for values in (X, X - basis.center, (X - basis.center) / basis.scale):
        v = values.ravel()
        near = np.clip(np.searchsorted(sent, v), 1, sent.size - 1)
        gap = np.minimum(np.abs(sent[near] - v), np.abs(sent[near - 1] - v))
        chance = np.quantile(np.diff(sent), 0.5) * 1e-6          # numbers that fall together by accident
        assert (gap <= min(chance, 1e-13)).sum() == 0
    assert min(part.sums[:, 0].min() for part in wire.parts()) >= 10


def test_attack_5_keys_are_no_hashes_of_rows(wire):
    """Cells of few rows are joined under new keys: a dictionary of possible rows finds none of them."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, (3_000, 3)).astype(float)                     # 729 cells of four rows
    y = (rng.random(3_000) < 0.5).astype(float)
    RepresentativeGLM(representative="mean", partition=partitions.Cells()).fit(X, y)
    distinct, n = np.unique(X, axis=0, return_counts=True)
    keys = np.concatenate([part.keys for part in wire.parts()])
    known = np.isin(hash_rows(distinct), keys)
    assert n[known].min(initial=10) >= 10                                 # only cells that ten rows share


def test_attack_6_labels_leave_parts_of_ten_rows(rows, wire):
    """Of one fit: a label of one row is joined to others. Of two fits only sites with a ledger can say no."""
    X, y = rows
    labels = np.r_[[-1], np.arange(1, N) % 50]
    est = RepresentativeGLM(representative="mean", partition=partitions.Natural()).fit(X, y, blocks=labels)
    assert est.block_sizes_.min() >= 10 and est.n_joined_ == 1
    assert "subtract" in RepresentativeGLM.__doc__


def test_attack_7_natural_blocks_stay_whole_across_chunks(rows):
    """Blocks of ten rows and more in several chunks are one part each, not cut into crumbs."""
    X, y = rows
    labels = np.arange(N) % 200
    est = RepresentativeGLM(partition=partitions.Natural(), min_block_size=1).fit(*chunked(X, y), blocks=labels)
    assert est.n_parts_ < 4 * 200 and est.block_sizes_.min() >= 5
    assert RepresentativeGLM(representative="mean").fit(X, y).n_blocks_ > 50            # joined ones are blocks too
    est = RepresentativeGLM(partition=partitions.Natural()).fit(*chunked(X, y), blocks=np.arange(N) % 50)
    assert est.block_sizes_.min() >= 10


# ---------------------------------------------------------------- the audit


def test_the_audit_weighs_what_is_sent(rows, wire):
    X, y = rows
    est = RepresentativeGLM(representative="calibrated", partition=PARTITIONS[2], tol=1e-12, n_rounds=2)
    est.fit(*chunked(X, y))
    assert est.audit_["bytes"].sum() == sum(audit.weight_of(s)[1] for s in wire.sent)
    q = P + 1
    scores = est.audit_[est.audit_["content"] == "scores"]
    assert (scores["numbers"] == q + 4).all() and (scores["received"] == 8 * (q + 3 * P + 1)).all()
    first = est.audit_[est.audit_["round"] == 1]
    assert (first["numbers"] == 2 * (q + 4 + q * (q + 1) // 2)).all()         # at two starts
    assert set(est.audit_["block"]) == set(range(4))


def test_mean_representatives_are_few_numbers():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(5_000, 7)), (rng.random(5_000) < 0.5).astype(float)
    est = RepresentativeGLM(representative="mean", partition=partitions.KMeans(50, subset=2_000)).fit(X, y)
    line = est.audit_[est.audit_["content"] == "collection"].iloc[0]
    assert line["numbers"] <= (9 + 2) * est.n_parts_ + 2                      # rows, y, seven means; the keys, twice
