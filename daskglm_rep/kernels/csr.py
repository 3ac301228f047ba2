"""Weighted Gram matrix of sparse rows: a design of many dummy columns costs its stored numbers, not its width."""

import numpy as np

from daskglm_rep._jit import FLOATS, INDEX, OUT2, call, kernel


@kernel
def _csr_gram(data, indices, indptr, weight, total):
    """total += Z' diag(weight) Z, row by row over pairs of stored numbers; both triangles: a mirror costs more."""
    for i in range(weight.size):
        first, last = indptr[i], indptr[i + 1]
        for a in range(first, last):
            v, row = weight[i] * data[a], indices[a]
            total[row, row] += v * data[a]
            for b in range(first, a):
                column, product = indices[b], v * data[b]
                total[row, column] += product
                total[column, row] += product


def add_csr_gram(Z, weight, total):
    """total += Z' diag(weight) Z of a CSR matrix without duplicates; weights of any sign.

    Parameters
    ----------
    Z : (n, q) CSR matrix
    weight : (n,) array
    total : (q, q) array, changed in place
    """
    call(_csr_gram, (FLOATS, INDEX, INDEX, FLOATS, OUT2), Z.data, Z.indices.astype(np.int64), Z.indptr.astype(np.int64),
         weight, total)
