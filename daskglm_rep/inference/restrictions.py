"""Linear hypotheses R b = q: from words, as "x1 = x2, x3 = 0", or from a matrix."""

import re

import numpy as np
import pandas as pd

_NUMBER = re.compile(r"\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?")


class _Reader:
    """Reads "x1 = x2, x3 + 2*x4 = 1" into rows of R and q; names are matched as they are, the longest first."""

    def __init__(self, text, names):
        self.text, self.position = text, 0
        self.names = sorted(names, key=len, reverse=True)
        self.index = {name: j for j, name in enumerate(names)}

    def _fail(self, why):
        around = self.text[self.position:self.position + 20]
        names = ", ".join(map(repr, list(self.index)[:8])) + (" ..." if len(self.index) > 8 else "")
        raise ValueError(f"The hypothesis {self.text!r} {why} at {around!r}: write it like \"x1 = x2, x3 = 0\" with "
                         f"the names {names}.")

    def _skip(self):
        while self.position < len(self.text) and self.text[self.position].isspace():
            self.position += 1

    def _take(self, symbols):
        self._skip()
        if self.position < len(self.text) and self.text[self.position] in symbols:
            self.position += 1
            return self.text[self.position - 1]
        return None

    def _name(self):
        rest = self.text[self.position:]
        for name in self.names:
            if rest.startswith(name):
                after, word = rest[len(name):len(name) + 1], name[-1].isalnum() or name[-1] == "_"
                if not (word and (after.isalnum() or after == "_")):
                    self.position += len(name)
                    return name
        return None

    def read(self):
        rows = []
        while True:
            sides = [self._sum()]
            while self._take("="):
                sides.append(self._sum())
            if len(sides) == 1:
                sides.append(np.zeros(len(self.index) + 1))
            rows += [left - right for left, right in zip(sides, sides[1:])]
            if self._take(",;"):
                continue
            if self.position < len(self.text):
                self._fail("cannot be read")
            rows = np.array(rows)
            return rows[:, :-1], -rows[:, -1]

    def _sum(self):
        total = self._product()
        while True:
            sign = self._take("+-")
            if sign is None:
                return total
            total = total + (1 if sign == "+" else -1) * self._product()

    def _product(self):
        total = self._factor()
        while True:
            sign = self._take("*/")
            if sign is None:
                return total
            other = self._factor()
            if sign == "/" or other[:-1].any() and total[:-1].any():
                if other[:-1].any():
                    self._fail("is not linear in the coefficients")
                total = total / other[-1]
            else:
                total = total * other[-1] if not other[:-1].any() else other * total[-1]

    def _factor(self):
        sign = self._take("+-")
        if sign:
            return (1 if sign == "+" else -1) * self._factor()
        self._skip()
        value = np.zeros(len(self.index) + 1)
        name = self._name()
        if name is not None:
            value[self.index[name]] = 1.0
            return value
        number = _NUMBER.match(self.text, self.position)
        if number:
            self.position = number.end()
            value[-1] = float(number.group())
            return value
        if self._take("("):
            value = self._sum()
            if not self._take(")"):
                self._fail("lacks a closing parenthesis")
            return value
        self._fail("has no coefficient or number")


def labels(index):
    """Names a hypothesis uses: the feature, or "class:feature" for multinomial models."""
    if isinstance(index, pd.MultiIndex):
        return [f"{cls}:{feature}" for cls, feature in index]
    return [str(name) for name in index]


def parse(text, index):
    """R and q of a hypothesis R b = q in words.

    Parameters
    ----------
    text : str
        Linear equations separated by commas, e.g. "x1 = x2, C(g)[T.b] + 2*x3 = 1"; an expression alone equals 0. In a
        multinomial model "class:feature" names one coefficient; equations of bare features hold for every class.
    index : pandas Index or MultiIndex of the parameters

    Returns
    -------
    R : (r, k) array
    q : (r,) array
    """
    if not isinstance(index, pd.MultiIndex):
        return _Reader(text, labels(index)).read()
    features = list(dict.fromkeys(index.get_level_values(1)))
    try:
        R, q = _Reader(text, features).read()
    except ValueError:
        return _Reader(text, labels(index)).read()
    n = len(index) // len(features)
    return np.kron(np.eye(n), R), np.tile(q, n)


def restrictions(R, q, index):
    """Checked R and q of any form a user may give.

    Parameters
    ----------
    R : str, (k,) or (r, k) array
    q : float or (r,) array, optional

    Raises
    ------
    ValueError
        Shapes that do not match; a q beside a string.
    """
    if isinstance(R, str):
        if q is not None:
            raise ValueError("q goes with a matrix R: write the right-hand sides into the string, \"x1 = 2\".")
        return parse(R, index)
    R = np.atleast_2d(np.asarray(R, float))
    if R.shape[1] != len(index):
        raise ValueError(f"R has {R.shape[1]} columns and there are {len(index)} parameters "
                         f"({', '.join(labels(index)[:5])}{' ...' if len(index) > 5 else ''}): one column each, the "
                         "intercept's too.")
    q = np.zeros(len(R)) if q is None else np.broadcast_to(np.asarray(q, float), (len(R),))
    return R, q
