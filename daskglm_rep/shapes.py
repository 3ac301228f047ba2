"""What users name as a penalty: the shape of one coefficient's penalty, or groups of coefficients.

alpha is the strength, t a coefficient in the unit that is penalised. One of your own is a subclass of `Shape` with
three formulas in plain Python arithmetic and `math`, which are compiled, and goes to any solver::

    import dataclasses
    from daskglm_rep.penalties import Shape

    @dataclasses.dataclass(frozen=True)
    class Capped(Shape):                                  # GLMRegressor(alpha=0.1, penalty=Capped(2.0))
        cap: float = 1.0

        def penalty(self, t, alpha):
            return alpha * min(t, self.cap)

        def slope(self, t, alpha):
            return alpha if t < self.cap else 0.0

        def shrink(self, t, step, alpha):
            near = min(max(t - step * alpha, 0.0), self.cap)
            far = max(t, self.cap)
            worse = step * alpha * (self.cap - near) + 0.5 * (far - t) ** 2 - 0.5 * (near - t) ** 2
            return near if worse > 0.0 else far
"""

import dataclasses

import numpy as np

from daskglm_rep._jit import ScalarModel, expose


@expose
@dataclasses.dataclass(frozen=True)
class Shape(ScalarModel):
    """The penalty of one coefficient: alpha |t|, the lasso's (Tibshirani 1996), and the interface of all.

    Parameters
    ----------
    l1_ratio : float in [0, 1], keyword
        Share of alpha that this shape gets; the rest is a ridge's, alpha (1 - l1_ratio) t^2 / 2.
    """

    l1_ratio: float = dataclasses.field(default=1.0, kw_only=True)

    def penalty(self, t, alpha):
        """P(t), t >= 0."""
        return alpha * t

    def slope(self, t, alpha):
        """P'(t), t >= 0; at 0 what a derivative must pass for the coefficient to enter."""
        return alpha

    def shrink(self, t, step, alpha):
        """argmin_x step P(|x|) + (x - t)^2 / 2, t >= 0."""
        return max(t - step * alpha, 0.0)


@dataclasses.dataclass(frozen=True)
class MCP(Shape):
    """Minimax concave penalty (Zhang 2010, Annals of Statistics 38, equation 2.1): no bias beyond gamma alpha.

    Parameters
    ----------
    gamma : float > 1

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import LinearRegression, penalties
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> y = X[:, 0] + np.random.default_rng(1).normal(size=200)
    >>> LinearRegression(alpha=0.2, penalty=penalties.MCP()).fit(X, y).coef_.round(2)
    array([0.95, 0.  , 0.  , 0.  , 0.  ])
    """

    gamma: float = 3.0

    def __post_init__(self):
        if not self.gamma > 1.0:
            raise ValueError(f"MCP's gamma must be a number > 1, got {self.gamma!r}.")

    def penalty(self, t, alpha):
        end = self.gamma * alpha
        return alpha * t - t * t / (2.0 * self.gamma) if t <= end else 0.5 * end * alpha

    def slope(self, t, alpha):
        return max(alpha - t / self.gamma, 0.0)

    def shrink(self, t, step, alpha):
        if step < self.gamma and t <= self.gamma * alpha:
            return max(t - step * alpha, 0.0) / (1.0 - step / self.gamma)
        far = max(t, self.gamma * alpha)                     # a step so long that between 0 and here lies no minimum
        value = step * 0.5 * self.gamma * alpha * alpha + 0.5 * (far - t) * (far - t)
        return far if step < self.gamma or value < 0.5 * t * t else 0.0


@dataclasses.dataclass(frozen=True)
class SCAD(Shape):
    """Smoothly clipped absolute deviation (Fan & Li 2001, JASA 96, equation 2.7): no bias beyond a alpha.

    Parameters
    ----------
    a : float > 2

    Examples
    --------
    >>> import numpy as np
    >>> from daskglm_rep import LinearRegression, penalties
    >>> X = np.random.default_rng(0).normal(size=(200, 5))
    >>> y = X[:, 0] + np.random.default_rng(1).normal(size=200)
    >>> LinearRegression(alpha=0.2, penalty=penalties.SCAD()).fit(X, y).coef_.round(2)
    array([0.95, 0.  , 0.  , 0.  , 0.  ])
    """

    a: float = 3.7

    def __post_init__(self):
        if not self.a > 2.0:
            raise ValueError(f"SCAD's a must be a number > 2, got {self.a!r}.")

    def penalty(self, t, alpha):
        if t <= alpha:
            return alpha * t
        if t <= self.a * alpha:
            return (2.0 * self.a * alpha * t - t * t - alpha * alpha) / (2.0 * (self.a - 1.0))
        return 0.5 * alpha * alpha * (self.a + 1.0)

    def slope(self, t, alpha):
        return alpha if t <= alpha else max(self.a * alpha - t, 0.0) / (self.a - 1.0)

    def shrink(self, t, step, alpha):
        near = min(max(t - step * alpha, 0.0), alpha)
        far = max(t, self.a * alpha)
        middle = near
        if step < self.a - 1.0:
            middle = ((self.a - 1.0) * t - step * self.a * alpha) / (self.a - 1.0 - step)
            middle = min(max(middle, alpha), self.a * alpha)
        best, least = near, step * self.penalty(near, alpha) + 0.5 * (near - t) * (near - t)
        value = step * self.penalty(middle, alpha) + 0.5 * (middle - t) * (middle - t)
        if value < least:
            best, least = middle, value
        value = step * self.penalty(far, alpha) + 0.5 * (far - t) * (far - t)
        return far if value < least else best


@dataclasses.dataclass(frozen=True)
class GroupLasso:
    """alpha sum_g sqrt(p_g) |b_g|: groups enter or leave whole, for all classes (Yuan & Lin 2006, JRSS B 68).

    Parameters
    ----------
    groups : sequence of p labels, or "columns", optional
        Features of one label are a group. Default: the terms of a formula, so that a factor is one; without a formula
        each column (several classes: glmnet's type.multinomial = "grouped"), as "columns" says for formulas too.
    l1_ratio : float in [0, 1]
        Share of alpha that the groups get; the rest is a ridge's.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from daskglm_rep import lm, penalties
    >>> rng = np.random.default_rng(0)
    >>> data = pd.DataFrame({"x": rng.normal(size=300), "g": rng.choice(list("abc"), 300)})
    >>> data["y"] = data["x"] + rng.normal(size=300)
    >>> lm("y ~ x + g", data, alpha=0.1, penalty=penalties.GroupLasso()).params.round(2).to_dict()
    {'Intercept': -0.06, 'x': 0.84, 'g[T.b]': 0.0, 'g[T.c]': 0.0}
    """

    groups: object = None
    l1_ratio: float = 1.0

    def labels(self, n_features, terms=None):
        """A label for each feature, (p,) int array; `terms` are a formula's lists of columns."""
        if self.groups is None and terms is not None:
            found = np.full(n_features, -1)
            for number, columns in enumerate(terms):
                found[columns] = number
            return found
        if self.groups is None or isinstance(self.groups, str) and self.groups == "columns":
            return np.arange(n_features)
        if isinstance(self.groups, str) or len(self.groups) != n_features:
            raise ValueError(f"GroupLasso's groups must hold one label for each of the {n_features} features, or be "
                             f'"columns", got {self.groups!r}.')
        return np.unique(np.asarray(self.groups), return_inverse=True)[1]


LASSO = Shape()
