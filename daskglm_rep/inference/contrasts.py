"""Combinations of coefficients, one by one: estimates, errors, tests, intervals; nonlinear ones by the delta method."""

import ast
import operator

import numpy as np
import pandas as pd
from scipy import stats

from daskglm_rep.inference.intervals import confidence_level
from daskglm_rep.inference.restrictions import labels
from daskglm_rep.printing import Printable

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.Pow: operator.pow, ast.UAdd: operator.pos, ast.USub: operator.neg}
FUNCTIONS = {"exp": np.exp, "log": np.log, "sqrt": np.sqrt}
STEP = 1e-30          # along the imaginary axis: no difference is taken, so nothing is lost to rounding


class Contrasts(Printable):
    """Combinations of coefficients with their errors, each tested by itself.

    Attributes
    ----------
    effect, sd, tvalue, pvalue : (r,) array
        Estimates, standard errors, (effect - null) / sd and two-sided p-values.
    null : (r,) array
    df_denom : (r,) array or None
        Degrees of freedom of t tests; None for normal ones.

    Examples
    --------
    >>> import pandas as pd
    >>> from daskglm_rep import glm
    >>> data = pd.DataFrame({"visits": [2, 0, 1, 3, 5, 4, 1, 2], "plan": list("aabbabba")})
    >>> data["age"] = [30, 25, 41, 38, 62, 57, 33, 45]
    >>> results = glm("visits ~ age + C(plan)", data, family="poisson")
    >>> contrasts = results.hypotheses("exp(10 * age) = 1, C(plan)[T.b] = 0")
    >>> contrasts.names
    ['exp(10 * age) = 1', 'C(plan)[T.b] = 0']
    >>> contrasts.summary_frame().shape
    (2, 6)
    """

    def __init__(self, names, effect, cov, null, df, level=0.95):
        self.names, self.effect, self.cov, self.null = list(names), effect, cov, null
        self.df_denom, self.level = df, level
        variance = np.diag(cov)
        self.sd = np.sqrt(np.where(variance >= 0, variance, np.nan))
        with np.errstate(divide="ignore", invalid="ignore"):
            self.tvalue = (effect - null) / self.sd
        self.pvalue = 2.0 * self._law.sf(np.abs(self.tvalue))

    @property
    def _law(self):
        return stats.norm() if self.df_denom is None else stats.t(self.df_denom)

    @property
    def statistic(self):
        """`tvalue`, by statsmodels' other name."""
        return self.tvalue

    def conf_int(self, level=None, alpha=None):
        """(r, 2) confidence limits of `effect`."""
        half = self._law.ppf(0.5 + self._level(level, alpha) / 2) * self.sd
        return np.column_stack([self.effect - half, self.effect + half])

    def _level(self, level, alpha):
        return self.level if level is None and alpha is None else confidence_level(level, alpha)

    def summary_frame(self, level=None, alpha=None):
        """DataFrame with a row a combination: coef, std err, t or z, pvalue, ci_lower, ci_upper.

        Parameters
        ----------
        level, alpha : float
            As for `GLMResults.conf_int`.
        """
        limits = self.conf_int(level, alpha)
        columns = ("coef", "std err", "z" if self.df_denom is None else "t", "pvalue", "ci_lower", "ci_upper")
        values = (self.effect, self.sd, self.tvalue, self.pvalue, limits[:, 0], limits[:, 1])
        return pd.DataFrame(dict(zip(columns, values)), pd.Index(self.names, name="hypothesis"))

    @property
    def frame(self):
        """`summary_frame()`."""
        return self.summary_frame()

    def _table(self):
        return self.summary_frame()

    def _notes(self):
        return [f"{100 * self.level:g} % intervals; tests of each row by itself."]


def linear(params, matrix, R, q, df, names):
    """`Contrasts` R b against q.

    Parameters
    ----------
    params : (k,) array; NaN for aliased columns
    matrix : (k, k) covariance; NaN there
    R : (r, k) array
    q : (r,) array
    df : (r,) array or None
    names : list of str

    Raises
    ------
    ValueError
        A combination of coefficients that are not estimated.
    """
    used = (R != 0).any(axis=0)
    if np.isnan(params[used]).any():
        raise ValueError("The hypothesis involves a coefficient that is not estimated (NaN: its column is a "
                         "combination of others): leave it out.")
    return Contrasts(names, R[:, used] @ params[used], R[:, used] @ matrix[np.ix_(used, used)] @ R[:, used].T, q, df)


def nonlinear(text, params, matrix, index, degrees):
    """`Contrasts` f(b) against 0 for each equation of a text, by the delta method: Var f = f'(b) V f'(b).

    Parameters
    ----------
    text : str
        Equations separated by commas, such as "exp(x1) = 2, x1 * x2 = 1, x1 / x2"; f is the left-hand side less the
        right-hand side. Names are those that `wald_test` takes; functions are exp, log and sqrt.
    degrees : callable
        Jacobian to degrees of freedom by row, or None.

    Raises
    ------
    ValueError
        What cannot be read; a coefficient that is not estimated.
    """
    expressions = _read(equations(text), index)
    values = [e(params.astype(complex)).real for e in expressions]
    J = np.array([e.gradient(params) for e in expressions])
    used = (J != 0).any(axis=0) | np.isnan(J).any(axis=0)
    if np.isnan(values).any() or np.isnan(params[used]).any():
        raise ValueError(f"The hypothesis {text!r} has no value at the estimates: it involves a coefficient that is "
                         "not estimated (NaN), or leaves the domain of log or sqrt.")
    cov = J[:, used] @ matrix[np.ix_(used, used)] @ J[:, used].T
    return Contrasts([e.text for e in expressions], np.array(values), cov, np.zeros(len(J)), degrees(J))


def _read(parts, index):
    """Expressions of equations; those of bare features hold for every class of a multinomial model."""
    try:
        return [_Expression(part, labels(index)) for part in parts]
    except ValueError:
        if not isinstance(index, pd.MultiIndex):
            raise
        features = list(dict.fromkeys(index.get_level_values(1)))
        try:
            return [_Expression(part, features, k * len(features), f"{cls}: ") for part in parts
                    for k, cls in enumerate(dict.fromkeys(index.get_level_values(0)))]
        except ValueError:
            return [_Expression(part, labels(index)) for part in parts]


def equations(text):
    """Equations between the commas that stand in no bracket."""
    depth, start, parts = 0, 0, []
    for j, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if letter in ",;" and depth == 0:
            parts.append(text[start:j])
            start = j + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


class _Expression:
    """A function of the coefficients, read from words."""

    def __init__(self, text, names, first=0, prefix=""):
        self.text, plain, self.places = prefix + text, text, {}
        for name in sorted(names, key=len, reverse=True):
            plain = self._replace(plain, name, first + names.index(name))
        left, equal, right = plain.partition("=")
        try:
            self.tree = ast.parse(f"({left}) - ({right})" if equal else left.strip(), mode="eval").body
            self._value(self.tree, np.ones(first + len(names), complex))
        except (SyntaxError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
            few = ", ".join(map(repr, names[:8])) + (" ..." if len(names) > 8 else "")
            raise ValueError(f"The hypothesis {text!r} cannot be read: write it like \"exp(x1) = 2 * x2\" with the "
                             f"names {few}, and exp, log or sqrt.") from error

    def _replace(self, text, name, position):
        """The text with a coefficient's name, where it stands by itself, turned into a Python name."""
        parts, start = [], 0
        while (at := text.find(name, start)) >= 0:
            before, after = text[at - 1:at], text[at + len(name):at + len(name) + 1]
            whole = not ((name[0].isalnum() or name[0] == "_") and (before.isalnum() or before == "_")
                         or (name[-1].isalnum() or name[-1] == "_") and (after.isalnum() or after == "_"))
            whole = whole and not (name in FUNCTIONS and text[at + len(name):].lstrip().startswith("("))
            token = f" \N{LATIN SMALL LETTER ETH}{position}\N{LATIN SMALL LETTER ETH} " if whole else name
            if whole:
                self.places[token.strip()] = position
            parts += [text[start:at], token]
            start = at + len(name)
        return "".join([*parts, text[start:]])

    def _value(self, node, b):
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](self._value(node.left, b), self._value(node.right, b))
        if isinstance(node, ast.UnaryOp):
            return OPERATORS[type(node.op)](self._value(node.operand, b))
        if isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            return FUNCTIONS[node.func.id](self._value(node.args[0], b))
        if isinstance(node, ast.Name):
            return b[self.places[node.id]]
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return complex(node.value)
        raise SyntaxError("not an expression of coefficients")

    def __call__(self, b):
        with np.errstate(all="ignore"):
            value = np.complex128(self._value(self.tree, b))
        return value if abs(value.imag) <= 1e-12 * max(abs(value), 1e-300) or abs(value.imag) < 1e-20 else np.nan

    def gradient(self, params):
        """(k,) derivatives at real coefficients, by a step along the imaginary axis."""
        found = np.zeros(params.size)
        for j in set(self.places.values()):
            b = params.astype(complex)
            b[j] += 1j * STEP
            with np.errstate(all="ignore"):
                found[j] = np.imag(self._value(self.tree, b)) / STEP
        return found
