"""Score-matching representatives (Li & Yang, Algorithm 1) and response-aided ones, built at a coefficient vector."""

import dataclasses

import numpy as np

from daskglm_rep.kernels.assignment import compress, join_small
from daskglm_rep.kernels.representatives import mean_rows, score_sums
from daskglm_rep.kernels.rows import working_rows
from daskglm_rep.part_summaries import PartSums

MAX_RADIUS = 20.0      # in root-mean-square radii of a part
GRID, BISECTIONS, GOLDEN = 65, 60, 40
SPAN = 3.0             # standard deviations of a guarded part's linear predictors, in the place of their extremes


@dataclasses.dataclass(frozen=True)
class Representatives:
    """Weighted points that stand for the parts.

    Attributes
    ----------
    weight, y : (K,) array
    Z : (K, d) array
        In the basis, the intercept's column included (it need not be 1), the offset last where there is one.
    n_fallbacks : int
        Parts that took the mean representative instead.
    n_outside : int
        Parts whose representative is not a weighted mean of their rows with weights >= 0.
    """

    weight: np.ndarray
    Z: np.ndarray
    y: np.ndarray
    n_fallbacks: int = 0
    n_outside: int = 0


def score_block(block, plan, model, coef, split):
    """Score sums of a block's parts at `coef` (the offset's coefficient 1 last where there is one).

    Parameters
    ----------
    split : {"eta", "residual", None}
        Parts are divided by the sign of the linear predictor (Li & Yang, Remark 3.1), of the residual, or not.

    Returns
    -------
    PartSums
        Totals: deviance, Pearson chi-squared, sum of working weights, rows outside the family's domain. Extremes of
        the linear predictor, which under a guard stay in the block.
    """
    block = plan.rows(block)
    Z = plan.design(block)
    eta, totals = Z @ coef, np.zeros(3)
    keys, _ = plan.keys(block)
    _, expected, _ = working_rows(model, eta, block.y, block.weight, totals)
    mu, nu, _ = mean_rows(model, eta)
    if split is not None:
        at = eta if plan.split_at is None else Z @ plan.split_at
        side = at > 0 if split == "eta" else block.y > (mu if plan.split_at is None else mean_rows(model, at)[0])
        keys = _divide(keys, side, block, plan)
    distinct, codes = compress(keys)
    sums, low, high = score_sums(Z, eta, block.y, block.weight, mu, nu, codes, distinct.size)
    if plan.least > 1:
        low, high = low[:, :0], high[:, :0]
    return PartSums(distinct, sums, low, high, totals=np.r_[totals[:2], expected.sum(), totals[2]])


def _divide(keys, side, block, plan):
    """Split parts by a sign; halves below the guard join the nearest half of their own sign in the block."""
    keys = 2 * keys + side
    if plan.least > 1:
        x, whole = plan.layout.standardise(block.X), 2 * (keys >> 1)
        for sign in (False, True):
            rows = np.flatnonzero(side == sign)
            try:
                fresh = 2 * plan.local(block, 3 + sign)
                keys[rows] = join_small(keys[rows], x[rows], plan.least, block.weight[rows], fresh)[0]
            except ValueError:                               # too few of a sign in the whole block: do not split
                return whole
    return keys


def _columns(parts):
    kept = parts.sums[:, 1] > 0
    s = parts.sums[kept]
    d = (s.shape[1] - 10) // 2
    if parts.low.shape[1]:
        low, high = parts.low[kept, 0], parts.high[kept, 0]
    else:
        center = s[:, 7] / s[:, 1]
        reach = SPAN * np.sqrt(np.maximum(s[:, 9] / s[:, 1] - center ** 2, 0.0))
        low, high = center - reach, center + reach
    return s, s[:, 10:10 + d], s[:, 10 + d:], low, high


def score_matched(parts, model, max_radius=MAX_RADIUS):
    """Score-matching representatives of parts split at eta = 0 (Algorithm 1, one round).

    1. y~ = sum nu y eta / sum nu eta                                                                        (3.3)
    2. e solves n nu(e) (y~ - G(e)) e = sum nu (y - G) eta; of several roots the nearest to the mean eta      (3.2)
    3. X~ = sum nu (y - G) X / (n nu(e) (y~ - G(e)))                                                          (3.4)
    4. Where the denominator vanishes, or X~ lies further than `max_radius` radii from the part: the mean row, with the
       response that keeps the sum of nu (y - G).

    Step 4 is ours: the paper keeps such points, whose |X~| of 10^3 to 10^5 freeze the next fit. It reads "outside the
    hull" loosely, because over half of all X~ leave the hull by a little, and sending those to the mean destroys
    the match. An infinite radius is the algorithm as published.

    Parameters
    ----------
    parts : PartSums
        Of `score_block(..., split="eta")`.
    max_radius : float
        In root-mean-square radii of the part.

    Returns
    -------
    Representatives
    """
    s, WZ, RZ, low, high = _columns(parts)
    weight, mean_y, mean = s[:, 1], s[:, 2] / s[:, 1], WZ / s[:, 1:2]
    usable = np.abs(s[:, 4]) > 1e-12 * weight
    y = np.where(usable, s[:, 3] / np.where(usable, s[:, 4], 1.0), mean_y)
    eta, found = _root(model, y, s[:, 5] / weight, low, high, s[:, 7] / weight)
    mu, nu, _ = mean_rows(model, eta)
    denominator = weight * nu * (y - mu)
    with np.errstate(divide="ignore", invalid="ignore"):
        Z = RZ / denominator[:, None]
    radius = np.maximum(s[:, 8] / weight - np.einsum("kj,kj->k", mean, mean), 0.0)
    flat = radius <= 1e-20 * (s[:, 8] / weight + 1.0)                         # all rows alike: the mean is exact
    away = np.einsum("kj,kj->k", Z - mean, Z - mean)
    far = np.sqrt(away) > max_radius * np.sqrt(np.where(flat, np.inf, radius))
    bad = ~found | ~np.isfinite(away) | (np.abs(denominator) < 1e-9 * weight) | far
    out = bad | flat
    at_mean, nu_mean, _ = mean_rows(model, s[:, 7] / weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        level = at_mean + s[:, 6] / (weight * nu_mean)
    level = _inside(model, level, mean_y)
    signed = (np.sign(RZ[:, :1]) == np.sign(denominator[:, None])).all(axis=1)
    y = np.where(flat, mean_y, np.where(bad, level, y))
    return Representatives(weight, np.where(out[:, None], mean, Z), y, int((bad & ~flat).sum()),
                           int((~out & ~signed).sum()))


def _inside(model, y, mean_y):
    """Responses that the family can have: proportions are clipped, others fall back to the part's mean."""
    if model.family.facts.mean_range[1] == 1.0:
        y = np.clip(y, 0.0, 1.0)
    return np.where(np.isfinite(y) & model.family.accepts_response(y), y, mean_y)


def _root(model, y, target, low, high, near):
    """Root of nu(e) (y - G(e)) e = target in [low, high] nearest to `near`, and whether there is one.

    Signs on a grid bracket single roots. Two roots between neighbours leave the signs as they are, but the function
    then comes nearest to zero between them: its extremum beside each least |value| is looked for, and where the sign
    is another there, it separates two brackets.
    """

    def excess(e, k):
        mu, nu, _ = mean_rows(model, e)
        return nu * (y[k] - mu) * e - target[k]

    found, nearest = np.zeros(len(low), bool), 0.5 * (low + high)
    if not len(low):
        return nearest, found
    every = np.arange(len(low))
    points = low + (high - low) * np.linspace(0.0, 1.0, GRID)[:, None]
    values = np.array([excess(p, every) for p in points])
    j, k = np.nonzero(values[:-1] * values[1:] <= 0)
    brackets = [(points[j, k], points[j + 1, k], k), *_pairs(excess, points, values)]
    a, b, k = (np.concatenate(column) for column in zip(*brackets))
    value = excess(a, k)
    for _ in range(BISECTIONS):
        middle = 0.5 * (a + b)
        at = excess(middle, k)
        left = value * at <= 0
        b, a, value = np.where(left, middle, b), np.where(left, a, middle), np.where(left, value, at)
    roots = 0.5 * (a + b)
    order = np.lexsort((np.abs(roots - near[k]), k))
    k, first = np.unique(k[order], return_index=True)
    nearest[k], found[k] = roots[order][first], True
    return nearest, found


def _pairs(excess, points, values):
    """Brackets of pairs of roots between grid points of one sign, by golden sections (Kiefer 1953)."""
    size = np.abs(np.pad(values, ((1, 1), (0, 0)), constant_values=np.inf))
    same = np.pad(np.sign(values), ((1, 1), (0, 0)), mode="edge")
    least = (size[1:-1] <= size[:-2]) & (size[1:-1] <= size[2:]) & (same[:-2] == same[2:]) & (same[1:-1] == same[2:])
    j, k = np.nonzero(least)
    low, high = points[np.maximum(j - 1, 0), k], points[np.minimum(j + 1, len(points) - 1), k]
    a, b, sign, ratio = low.copy(), high.copy(), np.sign(values[j, k]), 0.5 * (np.sqrt(5.0) - 1.0)
    for _ in range(GOLDEN):
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        lower = sign * excess(c, k) < sign * excess(d, k)
        a, b = np.where(lower, a, c), np.where(lower, d, b)
    middle = 0.5 * (a + b)
    crossed = sign * excess(middle, k) < 0
    low, middle, high, k = low[crossed], middle[crossed], high[crossed], k[crossed]
    return [(low, middle, k), (middle, high, k)]


def response_aided(parts, model, coef):
    """Representatives of parts split by the sign of the residual: every weight in a part has one sign.

    X~ = sum r x / sum r lies in the part's hull; y~ is the part's mean response and the weight
    sum r / (nu(e) (y~ - G(e))) at e = X~'b matches the score. Where that weight is not positive (a mean response on the
    other side of G(e)), the weight stays and y~ = G(e) + sum r / (sum w nu(e)) matches it, if it is possible.

    Parameters
    ----------
    parts : PartSums
        Of `score_block(..., split="residual")`.
    """
    s, WZ, RZ, _, _ = _columns(parts)
    weight, mean_y, mean = s[:, 1], s[:, 2] / s[:, 1], WZ / s[:, 1:2]
    with np.errstate(divide="ignore", invalid="ignore"):
        Z = RZ / s[:, 6:7]
        Z = np.where(np.isfinite(Z), Z, mean)
        mu, nu, _ = mean_rows(model, Z @ coef)
        matched = s[:, 6] / (nu * (mean_y - mu))
        response = mu + s[:, 6] / (weight * nu)
    by_weight = np.isfinite(matched) & (matched > 0) & (matched < 1e6 * weight)
    by_response = ~by_weight & np.isfinite(response) & model.family.accepts_response(response)
    bad = ~by_weight & ~by_response
    return Representatives(np.where(by_weight, matched, weight), np.where(bad[:, None], mean, Z),
                           np.where(by_response, response, mean_y), int(bad.sum()), 0)
