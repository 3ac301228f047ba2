"""The rows a kernel sees (`Block`) and the columns it works in (`Basis`)."""

import dataclasses

import numpy as np
from scipy import sparse

from daskglm_rep._jit import FLOATS, INDEX, MATRIX, OUT2, call, kernel, types

TILE = 2048          # rows of a row-major tile: with 50-300 columns it and its weighted copy stay in the L2 cache


@kernel
def _load_rows(X, columns, center, inverse_scale, intercept, Z):
    first = 1 if intercept else 0
    for i in range(X.shape[0]):
        if intercept:
            Z[i, 0] = 1.0
        for j in range(columns.size):
            Z[i, first + j] = (X[i, columns[j]] - center[j]) * inverse_scale[j]


@dataclasses.dataclass(frozen=True)
class Block:
    """One chunk of rows, validated and ready.

    Attributes
    ----------
    X : (n_rows, n_features) float64 array, any strides, or scipy CSR matrix
    y : (n_rows,) float64 array; class codes 0..J-1 for labels
    weight, offset : (n_rows,) float64 array
    index : int
        Position of the block in the data: fixes random choices whatever the schedule.
    extra : dict of str to array or frame
        Columns that only some kernels ask for: clusters, groups, the rows of the source frame.
    n_missing : float
        Rows of the chunk left out for a missing value.
    """

    X: object
    y: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    index: int = 0
    extra: dict = dataclasses.field(default_factory=dict)
    n_missing: float = 0.0

    @property
    def n_rows(self):
        return self.X.shape[0]

    def followed_by(self, others):
        """One block of these rows and those of other blocks, in their order; it has no number and no extra columns."""
        blocks = (self, *others)
        stack = sparse.vstack if sparse.issparse(self.X) else np.concatenate
        return Block(stack([b.X for b in blocks]), np.concatenate([b.y for b in blocks]),
                     np.concatenate([b.weight for b in blocks]), np.concatenate([b.offset for b in blocks]))

    def take(self, rows, **changes):
        """The same block at some rows (an index or boolean array)."""
        extra = {name: value.iloc[rows] if hasattr(value, "iloc") else value[rows]
                 for name, value in self.extra.items()}
        new = dict(X=self.X[rows], y=self.y[rows], weight=self.weight[rows], offset=self.offset[rows], extra=extra)
        return dataclasses.replace(self, **(new | changes))


@dataclasses.dataclass(frozen=True)
class Basis:
    """Standardised design columns: (1, (x_j - center_j) / scale_j for j in columns).

    Fits run in this basis: a column of size 1e8 or a mean far from zero costs no digits. Parameters of a model with
    several equations are laid out equation by equation.

    Attributes
    ----------
    columns : (k,) int64 array
        The columns of X in use; aliased ones are left out.
    center, scale : (k,) float64 array
    intercept : bool
        Whether a column of ones comes first.
    """

    columns: np.ndarray
    center: np.ndarray
    scale: np.ndarray
    intercept: bool

    @property
    def n_coef(self):
        return self.columns.size + self.intercept

    @property
    def to_raw(self):
        """(q, q) matrix T with raw coefficients = T @ standardised ones; cov = T cov T'."""
        T = np.diag(np.r_[[1.0] * self.intercept, 1.0 / self.scale])
        if self.intercept:
            T[0, 1:] = -self.center / self.scale
        return T

    def raw(self, coef):
        """Raw coefficients, (n_equations * q,), of standardised ones."""
        raw = np.array(coef, float).reshape(coef.size // max(self.n_coef, 1), self.n_coef)
        raw[:, int(self.intercept):] /= self.scale
        if self.intercept:
            raw[:, 0] -= raw[:, 1:] @ self.center
        return raw.ravel()

    def standardised(self, raw):
        """Inverse of `raw`."""
        raw = np.asarray(raw, float).reshape(-1, self.n_coef).copy()
        if self.intercept:
            raw[:, 0] += raw[:, 1:] @ self.center
            raw[:, 1:] *= self.scale
        else:
            raw *= self.scale
        return raw.ravel()

    def covariance(self, cov):
        """Covariance T cov T' of raw coefficients from that of standardised ones."""
        return self._raw_rows(self._raw_rows(cov).T).T

    def variances(self, cov):
        """The diagonal of `covariance`, (k,)."""
        size, q = len(cov) // max(self.n_coef, 1), self.n_coef
        found = np.diag(cov).reshape(size, q).copy()
        found[:, int(self.intercept):] /= self.scale ** 2
        if self.intercept:
            one = np.r_[1.0, -self.center / self.scale]
            found[:, 0] = [one @ cov[e:e + q, e:e + q] @ one for e in range(0, size * q, q)]
        return found.ravel()

    def _raw_rows(self, matrix):
        """T @ matrix, for a few numbers an entry: T has ones' column and a diagonal."""
        first, size = int(self.intercept), matrix.shape[0] // max(self.n_coef, 1)
        rows = matrix.reshape(size, self.n_coef, matrix.shape[1]).copy()
        rows[:, first:] /= self.scale[:, None]
        if self.intercept:
            rows[:, 0] -= np.einsum("j,ejc->ec", self.center, rows[:, 1:])
        return rows.reshape(matrix.shape)

    def keep(self, which):
        """The basis of a subset: `which` indexes its q coefficients, the intercept first."""
        which = np.asarray(which, np.int64)
        intercept = bool(self.intercept and (which == 0).any())
        k = which[which >= self.intercept] - self.intercept
        return Basis(self.columns[k], self.center[k], self.scale[k], intercept)

    def plain(self):
        """The same columns, neither centred nor scaled."""
        return dataclasses.replace(self, center=np.zeros(self.columns.size), scale=np.ones(self.columns.size))

    def keeps_sparse(self, X):
        """Whether the design of some rows is sparse: a fit of dense rows has a centre, which fills every entry."""
        return sparse.issparse(X) and not self.center.any()

    def design(self, X):
        """(n, q) design matrix of some rows, sparse where `keeps_sparse` says so."""
        if sparse.issparse(X) and self.center.any():
            X = X.toarray()
        if sparse.issparse(X):
            Z = sparse.csr_matrix(X)[:, self.columns] @ sparse.diags_array(1.0 / self.scale)
            return sparse.csr_matrix(sparse.hstack([np.ones((X.shape[0], 1)), Z]) if self.intercept else Z)
        Z = np.empty((X.shape[0], self.n_coef))
        call(_load_rows, (MATRIX, INDEX, FLOATS, FLOATS, types.boolean, OUT2), X, self.columns, self.center,
             1.0 / self.scale, self.intercept, Z)
        return Z


def tiles(X, basis):
    """Yield (slice of rows, design of those rows): L2-sized tiles of a dense design, a sparse one whole."""
    n = X.shape[0]
    step = n if basis.keeps_sparse(X) else TILE
    for start in range(0, n, max(step, 1)):
        rows = slice(start, min(start + step, n))
        yield rows, basis.design(X[rows])
