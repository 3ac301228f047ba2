"""Which part a row belongs to: nearest centres, grid cells, distinct rows, bisections; and the guard of small parts."""

import dataclasses

import numpy as np
from scipy.spatial import cKDTree

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT2, call, kernel, types

_KEYS = types.int64[::1]


@kernel
def _nearest(X, centers, half_norm, out):
    """out[i] = argmin_k |c_k|^2 / 2 - x_i'c_k; `centers` is feature-major so that the loop over k vectorises."""
    n_centers = half_norm.size
    score = np.empty(n_centers)
    for i in range(X.shape[0]):
        for k in range(n_centers):
            score[k] = half_norm[k]
        for j in range(X.shape[1]):
            x = X[i, j]
            for k in range(n_centers):
                score[k] -= x * centers[j, k]
        best, where = score[0], 0
        for k in range(1, n_centers):
            if score[k] < best:
                best, where = score[k], k
        out[i] = where


def nearest(X, centers):
    """Index of the nearest centre of each row.

    Parameters
    ----------
    X : (n, p) array
    centers : (K, p) array

    Returns
    -------
    (n,) int64 array
    """
    out = np.empty(X.shape[0], np.int64)
    call(_nearest, (MATRIX, OUT2, FLOATS, _KEYS), X, np.ascontiguousarray(centers.T),
         0.5 * np.einsum("kj,kj->k", centers, centers), out)
    return out


@kernel
def _grid(X, edges, n_cells, out):
    for i in range(X.shape[0]):
        code = 0
        for j in range(X.shape[1]):
            position = 0
            for e in range(edges.shape[1]):
                position += 1 if X[i, j] >= edges[j, e] else 0
            code = code * n_cells + position
        out[i] = code


def grid(X, edges):
    """Cell number of each row in a grid, the digits of base m = edges a column + 1.

    Parameters
    ----------
    X : (n, p) array
    edges : (p, m - 1) array
        Cut points; a value on a cut belongs to the cell above it.

    Returns
    -------
    (n,) int64 array
    """
    out = np.empty(X.shape[0], np.int64)
    call(_grid, (MATRIX, MATRIX, types.int64, _KEYS), X, edges, edges.shape[1] + 1, out)
    return out


@kernel
def mix(x):
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@kernel
def _hash_rows(bits, out):
    for i in range(bits.shape[0]):
        h = np.uint64(0x9E3779B97F4A7C15)
        for j in range(bits.shape[1]):
            h = mix(h + np.uint64(0x9E3779B97F4A7C15) + mix(bits[i, j]))
        out[i] = np.int64(h >> np.uint64(2))


def hash_rows(X):
    """A 62-bit key of each row's values, the same wherever it lies (two of 10^6 keys collide with odds of 10^-7)."""
    bits = (np.ascontiguousarray(X, float) + 0.0).view(np.uint64)            # + 0.0: minus zero is zero
    out = np.empty(len(bits), np.int64)
    _hash_rows(bits, out)
    return out


def compress(keys):
    """Distinct keys in order, and each row's position among them, as `np.unique` but linear for small keys."""
    if keys.size and 0 <= keys.min() and keys.max() < 4 * keys.size + 65_536:
        present = np.zeros(int(keys.max()) + 1, bool)
        present[keys] = True
        number = np.cumsum(present) - 1
        return np.flatnonzero(present), number[keys]
    return np.unique(keys, return_inverse=True)


def part_means(x, codes, n_parts):
    """Rows and mean of each part: (K,) and (K, p) array."""
    n = np.bincount(codes, minlength=n_parts)
    total = np.stack([np.bincount(codes, x[:, j], minlength=n_parts) for j in range(x.shape[1])], 1)
    return n, total / np.maximum(n, 1)[:, None]


def effective_rows(codes, weight, n_parts):
    """Rows of each part, or fewer where weights are uneven: (sum w)^2 / sum w^2 (Kish 1965), (K,) array."""
    n = np.bincount(codes, minlength=n_parts).astype(float)
    if weight is None or weight.size and weight.min() == weight.max():
        return n
    squares = np.bincount(codes, weight * weight, n_parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        kish = np.bincount(codes, weight, n_parts) ** 2 / squares
    return np.minimum(n, np.where(squares > 0, kish * (1 + 1e-12), 0.0))


def join_small(keys, x, least, weight=None, fresh=0):
    """Give the rows of parts below `least` effective rows to the nearest part (by means) that has enough.

    Parameters
    ----------
    keys : (n,) int64 array
    x : (n, p) array
        Standardised columns.
    weight : (n,) array, optional
    fresh : int
        Where most rows are in small parts, as of a grid finer than the rows, neighbours among them are grouped instead,
        under new keys fresh - 1, fresh - 2, ...: no key is then that of a single row.

    Returns
    -------
    keys : (n,) int64 array
    n_joined : int
        Parts that were too small.

    Raises
    ------
    ValueError
        All rows together are too few.
    """
    if least <= 1 or not keys.size:
        return keys, 0
    distinct, codes = compress(keys)
    small = effective_rows(codes, weight, distinct.size) < least
    n_joined = int(small.sum())
    if not n_joined:
        return keys, 0
    loose = small[codes]
    if 2 * loose.sum() > len(keys):
        one = np.zeros(loose.sum(), np.int64)
        group = bisect(x[loose], one, one.size // least, least).route(one, x[loose])
        keys = np.array(keys)
        keys[loose] = fresh - 1 - group
        distinct, codes = compress(keys)
    return distinct[_joined(codes, x, least, weight, distinct.size)], n_joined


def _joined(codes, x, least, weight, n_parts):
    """Codes after small parts went to their nearest large one, again while heavy rows make large ones small."""
    for _ in range(n_parts):
        small = (effective_rows(codes, weight, n_parts) < least) & (np.bincount(codes, minlength=n_parts) > 0)
        if not small.any():
            return codes
        large = np.flatnonzero(~small & (np.bincount(codes, minlength=n_parts) > 0))
        home = np.arange(n_parts)
        if not large.size:
            break
        _, mean = part_means(x, codes, n_parts)
        home[small] = large[cKDTree(mean[large]).query(mean[small])[1]]
        codes = home[codes]
    one = np.zeros_like(codes)
    together = effective_rows(one, weight, 1)[0]
    if together < least:
        raise ValueError(f"its rows count as {together:.3g} by their weights")
    return one


# ---------------------------------------------------------------- bisection of wide parts


@dataclasses.dataclass(frozen=True)
class Bisections:
    """Binary cuts of parts by hyperplanes: rows of part `parent[t]` with axis[t]'x > threshold[t] move to `child[t]`.

    Applied in order; parts are numbered 0..K-1 before the first cut and the children go on from there.
    """

    parent: np.ndarray
    child: np.ndarray
    axis: np.ndarray
    threshold: np.ndarray
    first: int

    def route(self, codes, x):
        """Codes after all cuts."""
        out = np.array(codes, np.int64)
        if self.parent.size:
            n_parts = self.first + self.parent.size
            order = np.argsort(self.parent, kind="stable")
            starts = np.searchsorted(self.parent[order], np.arange(n_parts + 1))
            call(_route, (MATRIX, INDEX, INDEX, INDEX, MATRIX, FLOATS, _KEYS), x, order, starts, self.child, self.axis,
                 self.threshold, out)
        return out


@kernel
def _route(x, order, starts, child, axis, threshold, codes):
    for i in range(x.shape[0]):
        part = codes[i]
        t = starts[part]
        while t < starts[part + 1]:
            cut = order[t]
            value = 0.0
            for j in range(x.shape[1]):
                value += x[i, j] * axis[cut, j]
            if value > threshold[cut]:
                part = child[cut]
                t = starts[part]
            else:
                t += 1
        codes[i] = part


def _sums(values, starts):
    return np.add.reduceat(values, starts, axis=0)


def bisect(x, codes, target, least):
    """Cut the parts of largest n tr(S) at their mean across their principal axis, until there are `target` parts.

    n tr(S), the sum of squares within a part, bounds what a part's few points can get wrong; a grid's corner cell may
    hold a tenth of all rows.

    Parameters
    ----------
    x : (n, p) array
        Standardised columns.
    codes : (n,) int64 array
        Parts 0..K-1.
    target : int
    least : int
        Rows that each side keeps.

    Returns
    -------
    Bisections
    """
    n_parts = int(codes.max()) + 1 if codes.size else 0
    first, labels, found = n_parts, np.array(codes, np.int64), []
    rows, settled = np.argsort(labels, kind="stable"), 0.0
    for _ in range(30):
        if n_parts >= target or not rows.size:
            break
        lab, xr = labels[rows], x[rows]
        starts = np.r_[0, np.flatnonzero(np.diff(lab)) + 1]
        n = np.diff(np.r_[starts, rows.size])
        k = np.repeat(np.arange(starts.size), n)
        mean = _sums(xr, starts) / n[:, None]
        D = xr - mean[k]
        spread = _sums(np.einsum("ij,ij->i", D, D), starts)
        wide = (spread > (spread.sum() + settled) / target) & (n >= 2 * least)
        if wide.sum() > target - n_parts:
            wide &= spread >= np.sort(spread[wide])[-(target - n_parts)]
        if not wide.any():
            break
        settled += spread[~wide].sum()
        number = np.cumsum(wide) - 1
        keep = wide[k]
        rows, D, k = rows[keep], D[keep], number[k[keep]]
        axis, threshold, upper, good = _cuts(D, k, mean[wide], least)
        parents = lab[starts[wide]]
        child = np.full(good.size, -1)
        child[good] = n_parts + np.arange(good.sum())
        moved = upper & good[k]
        labels[rows[moved]] = child[k[moved]]
        found.append((parents[good], child[good], axis[good], threshold[good]))
        n_parts += int(good.sum())
        rows = rows[good[k]]
        rows = rows[np.argsort(labels[rows], kind="stable")]
    if not found:
        empty = np.zeros(0, np.int64)
        return Bisections(empty, empty, np.zeros((0, x.shape[1])), np.zeros(0), first)
    return Bisections(*(np.concatenate(column) for column in zip(*found)), first)


def _cuts(D, k, mean, least):
    """Principal axis and threshold of each part from its centred rows (sorted by part), the side of each row."""
    n_parts, p = mean.shape
    starts = np.searchsorted(k, np.arange(n_parts))
    n = np.diff(np.r_[starts, k.size])
    S = np.stack([_sums(D * D[:, j:j + 1], starts) for j in range(p)], 1)
    axis = np.linalg.eigh(S)[1][:, :, -1]
    axis *= np.sign(axis[np.arange(n_parts), np.abs(axis).argmax(1)])[:, None]        # a sign that rounding cannot flip
    value = np.einsum("ij,ij->i", D, axis[k])
    order = np.lexsort((value, k))
    below = _sums((value <= 0).astype(np.int64), starts)
    position = starts + np.clip(below, least, n - least) - 1
    cut = 0.5 * (value[order][position] + value[order][position + 1])
    upper = value > cut[k]
    n_upper = _sums(upper.astype(np.int64), starts)
    good = (n_upper >= least) & (n - n_upper >= least)
    return axis, cut + np.einsum("kj,kj->k", mean, axis), upper, good
