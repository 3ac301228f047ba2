"""Weighted Gram matrix of sparse rows: a design of many dummy columns costs its stored numbers, not its width."""

import numpy as np

from daskglm_rep._jit import FLOATS, INDEX, OUT2, call, kernel


@kernel
def _csr_gram(data, indices, indptr, weight, total):
    """Lower triangle of total += Z' diag(weight) Z, row by row over pairs of stored numbers."""
    for i in range(weight.size):
        first, last = indptr[i], indptr[i + 1]
        for a in range(first, last):
            v, row = weight[i] * data[a], indices[a]
            total[row, row] += v * data[a]
            for b in range(first, a):
                column = indices[b]
                if column < row:
                    total[row, column] += v * data[b]
                else:
                    total[column, row] += v * data[b]


def csr_gram(Z, weight):
    """Z' diag(weight) Z of a CSR matrix without duplicates, as a dense array; weights of any sign.

    Parameters
    ----------
    Z : (n, q) CSR matrix
    weight : (n,) array

    Returns
    -------
    (q, q) array
    """
    total = np.zeros((Z.shape[1], Z.shape[1]))
    call(_csr_gram, (FLOATS, INDEX, INDEX, FLOATS, OUT2), Z.data, Z.indices.astype(np.int64), Z.indptr.astype(np.int64),
         weight, total)
    lower = np.tril(total, -1)
    total += lower.T
    return total
