"""The first sweep over rows in memory: what a survey asks, and the sums of a fit at a pilot's coefficients."""

import dataclasses

import numpy as np

from daskglm_rep.families import Binomial
from daskglm_rep.kernels.moments import sees
from daskglm_rep.kernels.strips import unseen
from daskglm_rep.kernels.survey import has_offset, label_totals, response_totals, spread, spread_of, weight_sums
from daskglm_rep.summaries import Pair, Survey


def first_look(block, model, basis, coef, informative=True, family=None, labels=None):
    """`Moments` at a pilot's coefficients beside the `Survey` of a block.

    Parameters
    ----------
    block : Block
        With class codes in `y` where there are labels.
    model, basis, coef, informative
        As `moments.block_moments` takes them.
    family : Family, optional
        Whose domain y must keep; None for labels.
    labels : tuple, optional
        In the order of their codes.

    Returns
    -------
    Pair of Moments and Survey
        Without a pilot's rows; NaN and infinite values of X are not counted: they make the moments NaN.
    """
    if sees(model, block, basis, informative):
        seen = unseen(basis.columns.size)
        moments = model.moments(block, basis, coef, informative, seen)
        columns = spread_of(seen, basis.center, weight_sums(block.weight)[0])
    else:
        moments, columns = model.moments(block, basis, coef, informative), spread(block.X, block.weight)
    return Pair(moments, _looked(block, columns, family, labels))


def _looked(block, columns, family, labels):
    """The `Survey` of a block whose columns' `Spread` is known."""
    n_bad_y, weights = np.zeros(2), {}
    if labels is None:
        response, n_bad_y = response_totals(family, block.y, block.weight)
    elif len(labels) == 2:
        response = dataclasses.replace(response_totals(Binomial(), block.y, block.weight)[0], log_weight=0.0)
        ones = response.weight * response.mean
        weights = dict(zip(labels, (response.weight - ones, ones)))
    else:
        response = label_totals(block.weight)
        weights = dict(zip(labels, np.bincount(block.y.astype(np.int64), block.weight, len(labels)).tolist()))
    none = np.zeros(block.X.shape[1])
    return Survey((block.n_rows,), columns, none, none, n_bad_y, response, weights, (), False, has_offset(block),
                  float(block.n_missing))
