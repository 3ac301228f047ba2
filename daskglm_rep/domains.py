"""Intervals of numbers: where links and families are defined, as tests of a number and as words."""

import math
from typing import NamedTuple


class Interval(NamedTuple):
    """An interval, open at its ends unless said otherwise.

    Attributes
    ----------
    low, high : float
    low_inclusive, high_inclusive : bool
    """

    low: float = -math.inf
    high: float = math.inf
    low_inclusive: bool = False
    high_inclusive: bool = False

    def holds(self, other):
        """Whether another interval lies in this one."""
        low = other.low > self.low or other.low == self.low and self.low_inclusive >= other.low_inclusive
        high = other.high < self.high or other.high == self.high and self.high_inclusive >= other.high_inclusive
        return low and high

    def words(self, noun="numbers"):
        """What lies in it, as in "counts >= 0", "proportions in [0, 1]", "finite numbers"."""
        bounded = math.isfinite(self.low), math.isfinite(self.high)
        if all(bounded):
            return (f"{noun} in {'[' if self.low_inclusive else '('}{self.low:g}, {self.high:g}"
                    f"{']' if self.high_inclusive else ')'}")
        if bounded[0]:
            return f"{noun} {'>=' if self.low_inclusive else '>'} {self.low:g}"
        return f"{noun} {'<=' if self.high_inclusive else '<'} {self.high:g}" if bounded[1] else f"finite {noun}"

    def member(self, argument):
        """The method (self, argument) -> bool that tests membership, for Python, arrays and jitted code alike.

        Its bounds are literals: compiled code has no access to attributes of a class. `interval` on it tells where it
        came from.
        """
        tests = [f"({argument} {sign}{'=' * inclusive} {end!r})" for sign, end, inclusive in (
            (">", float(self.low), self.low_inclusive), ("<", float(self.high), self.high_inclusive))
            if math.isfinite(end)]
        method = eval(f"lambda self, {argument}: {' & '.join(tests) or True}")
        method.interval = self
        return method


LINE = Interval()
POSITIVE = Interval(0.0)
NOT_NEGATIVE = Interval(0.0, low_inclusive=True)
UNIT = Interval(0.0, 1.0, True, True)


def declare(cls, ranges, registry):
    """Complete a subclass's facts: its name, the tests that follow from its ranges, its place in the registry.

    Parameters
    ----------
    cls : type
        A link or a family, just defined; without a name of its own it gets its class's, in lower case.
    ranges : dict
        Attribute that declares a range -> (method that tests it, its argument). A method written by hand is kept.
    registry : dict
        Name -> class. A class defined again, as a cell of a notebook run twice, takes its own place.

    Raises
    ------
    ValueError
        Another class has the name.
    """
    for attribute, (method, argument) in ranges.items():
        if attribute in vars(cls) and method not in vars(cls):
            setattr(cls, method, Interval(*vars(cls)[attribute]).member(argument))
    if cls.name is not None and "name" not in vars(cls):
        return                                   # a variant of a registered class, such as Bernoulli of Binomial
    own, cls.name = cls.name, cls.name or cls.__name__.lower()
    known = registry.get(cls.name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        if own is None:
            return
        raise ValueError(f"The name {cls.name!r} belongs to {known.__module__}.{known.__qualname__}: give "
                         f"{cls.__qualname__} another one (name = ...).")
    registry[cls.name] = cls


def find(given, base, registry, word, module):
    """An object of a registered class from its name; objects of the base class as they are.

    Raises
    ------
    ValueError
        What is neither.
    """
    if isinstance(given, base):
        return given
    if isinstance(given, str) and given in registry:
        return registry[given]()
    raise ValueError(f"Unknown {word} {given!r}: choose one of {', '.join(sorted(registry))}, or pass a {module} "
                     "object.")
