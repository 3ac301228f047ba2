"""Clustered covariances: score sums by cluster as meat, several cluster columns, few clusters."""

import dataclasses
import itertools
import math

import numpy as np
from scipy import linalg

from daskglm_rep import passes
from daskglm_rep.inference.sandwich import bread, check_rows, degrees, in_raw_columns
from daskglm_rep.kernels.clusters import cluster_moments, cluster_scores
from daskglm_rep.summaries import combine, distinct
from daskglm_rep.telling import CovarianceWarning, tell

FEW_FOR_SATTERTHWAITE = 100          # coefficients up to which each gets degrees of freedom of its own (k^3 numbers)
FEW_CLUSTERS = 40


@dataclasses.dataclass(frozen=True)
class Meats:
    """What a clustered covariance needs of the sums by cluster: numbers as many as coefficients, not as clusters.

    Attributes
    ----------
    n_missing, n_kept : float
        As of `kernels.cluster_sums.ClusterScores`.
    score : (k,) array
    sizes : tuple of int
        Clusters by column.
    parts : tuple of (int, int, (k, k) array)
        Of each non-empty set of columns: its size, its clusters, and the sum of outer products of their scores.
    """

    n_missing: float
    n_kept: float
    score: np.ndarray
    sizes: tuple
    parts: tuple

    @classmethod
    def of(cls, found, together):
        """From all sums; `together`: several columns name one cluster."""
        rows, score = found.occupied, found.score
        if together or found.n_columns == 1:
            return cls(found.n_missing, found.n_kept, score, (found.count,), ((1, found.count, rows.T @ rows),))
        labels, sums = found.total
        columns, parts = [distinct(column) for column in labels], []
        for size in range(1, len(columns) + 1):
            for chosen in itertools.combinations(columns, size):
                total = sums
                if size < len(columns):
                    codes, _ = combine([c for c, _ in chosen], [len(u) for _, u in chosen])
                    total = by_code(codes, sums)
                parts.append((size, len(total), total.T @ total))
        sizes = tuple(len(names) for _, names in columns)
        return cls(found.n_missing, found.n_kept, score, sizes, tuple(parts))

    def merge(self, other):
        """Of clusters that are not in the other, where a cluster is named by one column or by all together."""
        (size, n, meat), = self.parts
        (_, m, more), = other.parts
        return Meats(self.n_missing + other.n_missing, self.n_kept + other.n_kept, self.score + other.score, (n + m,),
                     ((size, n + m, meat + more),))


@dataclasses.dataclass(frozen=True)
class _ToMeats:
    """Of all sums by cluster, or of a share of them."""

    together: bool

    def __call__(self, found):
        return Meats.of(found, self.together)

    def adds_up(self, found):
        return self.together or found.n_columns == 1


def collect(fitted, data, kernel, finish=None):
    """One sweep of cluster sums, checked.

    Returns
    -------
    kernels.cluster_sums.ClusterScores, or what `finish` makes of it

    Raises
    ------
    ValueError
        Missing labels, or rows that are not the fit's.
    """
    objective, coef = fitted.fit.objective, fitted.fit.point.coef
    found = passes.run(kernel, data, objective.model, objective.basis, coef, fitted.frequency, finish=finish)
    if found.n_missing:
        raise ValueError(f"clusters has NaN or missing labels in {int(found.n_missing)} rows: drop these rows before "
                         "the fit, or give them a label.")
    check_rows(fitted, found.n_kept, found.score[:coef.size])
    return found


def _at_least_two(n_clusters):
    if min(n_clusters) < 2:
        raise ValueError("clusters has only one distinct label: a clustered covariance needs at least 2 clusters "
                         "(about 40 to be trusted).")


def correction(fitted, n_clusters, kind):
    """Small-sample factor of a clustered covariance."""
    if kind == "none":
        return 1.0
    groups = n_clusters / (n_clusters - 1.0)
    if kind == "clusters":
        return groups
    k = fitted.fit.objective.basis.n_coef if kind == "design" else fitted.fit.point.coef.size
    return groups * (fitted.n_rows - 1.0) / (fitted.n_rows - k) if fitted.n_rows > k else math.nan


WORDS = {"full": "G/(G-1) (n-1)/(n-k)", "design": "G/(G-1) (n-1)/(n-k), k of one equation", "clusters": "G/(G-1)",
         "none": "none"}          # of `correction`


def note_of(n_clusters, n_coef):
    """What a reader should know about the number of clusters."""
    least = min(n_clusters)
    if least >= FEW_CLUSTERS:
        return ""
    words = " and ".join(f"{g:,}" for g in n_clusters) + " clusters"
    rank = f"; with no more than {n_coef} coefficients' worth of clusters, joint tests of all of them are impossible" \
        if least <= n_coef else ""
    return (f"{words}: fewer than about {FEW_CLUSTERS}, so these standard errors are too small and the tests reject "
            f"too often; use cov_type='CR2', df='clusters' or wild_cluster_test{rank}")


def clustered(fitted, data, options):
    """Clusters by one column or several: Cov = sum over non-empty sets of columns of (-1)^(size + 1) V_set."""
    found = collect(fitted, data, cluster_scores, _ToMeats(options.convention == "madlib"))
    A, sizes, matrix = bread(fitted, options.information), found.sizes, 0.0
    _at_least_two(sizes)
    for size, n_clusters, meat in found.parts:
        G = min(sizes) if options.twoway == "min" else n_clusters
        matrix += (-1.0) ** (size + 1) * correction(fitted, G, options.correction) * (A @ meat @ A)
    covariance = in_raw_columns(fitted, matrix, "cluster", degrees(fitted, options, sizes), note_of(sizes, A.shape[0]),
                                sizes, WORDS[options.correction])
    return covariance if len(found.parts) == 1 else repaired(covariance, fitted)


def by_code(codes, sums):
    """Rows of sums added by code."""
    n = codes.max(initial=-1) + 1
    return np.column_stack([np.bincount(codes, sums[:, j], n) for j in range(sums.shape[1])])


def repaired(covariance, fitted):
    """Clip the negative eigenvalues of a multi-way covariance (Cameron, Gelbach and Miller 2011), and say so.

    Whether there are some is judged against the model-based covariance, so that units do not matter.
    """
    root = linalg.cholesky(fitted.fit.point.moments.expected, lower=True)
    values = np.linalg.eigvalsh(root.T @ covariance.standardised @ root)
    if values[0] >= -1e-9 * max(values[-1], 0.0):
        return covariance
    tell("The multi-way clustered covariance is not positive semidefinite: its negative eigenvalues are set "
         "to zero. Some standard errors may be too large or small; cluster by the coarser column alone to be "
         "safe.",
         CovarianceWarning)
    values, vectors = np.linalg.eigh(covariance.matrix)
    matrix = (vectors * np.maximum(values, 0.0)) @ vectors.T
    T = np.linalg.inv(fitted.fit.objective.basis.to_raw)
    T = np.kron(np.eye(len(matrix) // len(T)), T)
    return dataclasses.replace(covariance, matrix=matrix, standardised=T @ matrix @ T.T,
                               note="; ".join(filter(None, (covariance.note, "negative eigenvalues were set to zero"))))


def bias_reduced(fitted, data, cov_type, options):
    """CR2 and CR3 (Bell and McCaffrey 2002), for few clusters: score sums adjusted for the leverage of their cluster.

    With the bread A = C C' and a cluster's score s and information I, (I - H_gg)^-1/2 on the cluster's rows becomes
    C (I - C' I C)^-1/2 C' s on its sums: clusters may so be spread over chunks. As for the linear model with its
    own working covariance; for other families by the working linear model.
    """
    labels, sums = collect(fitted, data, cluster_moments).total
    if len(labels) > 1 and options.convention != "madlib":
        raise ValueError(f"cov_type={cov_type!r} takes one cluster column: use 'cluster' for two.")
    _at_least_two([len(sums)])
    k = fitted.fit.point.coef.size
    C = linalg.cholesky(bread(fitted), lower=True)
    power = 0.5 if cov_type == "CR2" else 1.0
    A = bread(fitted, options.information)
    onward = A @ linalg.solve_triangular(C, np.eye(k), lower=True).T
    rows = np.empty((len(sums), k))
    for g, row in enumerate(sums):
        _, vectors, scale = _leverages(C, row, power)
        rows[g] = onward @ (vectors @ (scale * (vectors.T @ (C.T @ row[:k]))))
    sizes = (len(sums),)
    df = degrees(fitted, options, sizes, "clusters")
    result = in_raw_columns(fitted, rows.T @ rows, cov_type, df, "", sizes, f"(I - H)^-{power:g}, by cluster")
    if options.df is not None or k > FEW_FOR_SATTERTHWAITE:
        return result
    return dataclasses.replace(result, df_each=satterthwaite(fitted, C, sums, power), note="t tests of single "
                               "coefficients have Bell and McCaffrey's degrees of freedom")


def _leverages(C, row, power):
    """Eigenvalues l and vectors of C' I C for the information I in a cluster's sums, and (1 - l)^-power."""
    k = len(C)
    values, vectors = np.linalg.eigh(C.T @ row[k:].reshape(k, k) @ C)
    rest = 1.0 - values                      # 0: the cluster alone determines this direction and fits it exactly
    return values, vectors, np.where(rest > 1e-9, np.maximum(rest, 1e-9) ** -power, 0.0)


def satterthwaite(fitted, C, sums, power):
    """Degrees of freedom of each raw coefficient's CR2 or CR3 variance (Bell and McCaffrey 2002).

    The variance estimate is a quadratic form in independent working errors with matrix entries
    p_g'p_h = [g = h] a_g - w_g'w_h, so df = (sum_g p_g'p_g)^2 / sum_gh (p_g'p_h)^2 (Pustejovsky and Tipton 2018). With
    A = C C', the eigenvalues l and vectors V of C' I_g C, and c = C'T_j for the raw coefficient's row T_j:
    w_g = V l (1 - l)^-power V'c and a_g = c'V l (1 - l)^(-2 power) V'c. No clusters x clusters matrix is formed.

    Returns
    -------
    (k,) array
    """
    k = len(C)
    basis = fitted.fit.objective.basis
    contrasts = C.T @ np.kron(np.eye(k // basis.n_coef), basis.to_raw).T
    trace, own, shared, between = np.zeros(k), np.zeros(k), np.zeros(k), np.zeros((k, k, k))
    for row in sums:
        values, vectors, scale = _leverages(C, row, power)
        P = vectors.T @ contrasts
        W = vectors @ ((values * scale)[:, None] * P)
        a, n = (values * scale ** 2) @ P ** 2, np.sum(W * W, axis=0)
        trace, own, shared = trace + a - n, own + (a - n) ** 2, shared + n ** 2
        between += np.einsum("ij,lj->jil", W, W)
    return trace ** 2 / (own + np.sum(between ** 2, axis=(1, 2)) - shared)
