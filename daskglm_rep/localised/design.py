"""What a model is made of, in words that may be sent: a response, products of columns and of levels, weights, clusters.

A formula is read as text by the coordinator and sent as lists of column names: a site never evaluates an expression
that comes from outside.
"""

import dataclasses
import re

import numpy as np
import pandas as pd

from daskglm_rep.inference.margins.terms import ArrayTerms
from daskglm_rep.kernels.block import Block
from daskglm_rep.recipes import encode, weight_and_offset

OTHER = "(other)"           # the rare levels of a factor
PLAIN, FACTOR = re.compile(r"^[^()\[\]{}:*+`]+$"), re.compile(r"^C\((.+)\)$")


@dataclasses.dataclass(frozen=True)
class Design:
    """A response and the columns that explain it.

    Attributes
    ----------
    response : str
    terms : tuple of tuples of str
        Each a product of columns; factors by their column's name.
    factors : tuple of str
    levels : dict of str to tuple of str
        Of the factors as text, the reference first; empty where they are still to be learnt.
    intercept : bool
    weights, offset, clusters : str or None
    classes : tuple of str or None
        Class labels as text, the baseline first.
    """

    response: str
    terms: tuple
    factors: tuple = ()
    levels: dict = dataclasses.field(default_factory=dict)
    intercept: bool = True
    weights: str | None = None
    offset: str | None = None
    clusters: str | None = None
    classes: tuple | None = None

    @classmethod
    def of(cls, formula, **columns):
        """From "y ~ age + C(ward) + age:C(ward)".

        Raises
        ------
        ValueError
            Anything but column names, C(column), products and 0 or 1 for the intercept.
        """
        from formulaic import Formula                              # late: 0.5 s
        from formulaic.errors import FormulaicError

        try:
            parsed = Formula(formula)
            left, right = parsed.lhs, parsed.rhs
            response, = (factor.expr for term in left for factor in term.factors)
        except (FormulaicError, SyntaxError, AttributeError, TypeError, ValueError):
            raise ValueError(f"The formula {formula!r} needs one response column and one right-hand side of column "
                             "names, C(column) and their products: 'y ~ age + C(ward)'.") from None
        terms, factors, intercept = [], {}, False
        for term in right:
            names = []
            for factor in (f.expr for f in term.factors):
                coded = FACTOR.match(factor)
                name = coded.group(1) if coded else factor
                if not PLAIN.match(name):
                    raise ValueError(f"The formula holds {factor!r}: sites take column names, C(column) and their "
                                     "products, and evaluate no other expression. Make the column at the sites.")
                if name not in ("1", "0"):
                    names.append(name)
                    factors |= {name: None} if coded else {}
            intercept |= not names
            if names:
                terms.append(tuple(names))
        return cls(response, tuple(terms), tuple(factors), intercept=intercept, **columns)

    @property
    def columns(self):
        """Names of all columns that are read."""
        return list(dict.fromkeys([self.response, *(name for term in self.terms for name in term),
                                   *(c for c in (self.weights, self.offset, self.clusters) if c is not None)]))

    def products(self):
        """Design columns: (name, tuple of pieces), a piece being (column, level or None)."""
        found = []
        for term in self.terms:
            pieces = [()]
            for name in term:
                own = [(name, level) for level in self.levels[name][1:]] if name in self.factors else [(name, None)]
                pieces = [before + (piece,) for before in pieces for piece in own]
            found += [(":".join(map(self.piece_name, each)), each) for each in pieces]
        return found

    def array_terms(self):
        """The design as marginal effects see it: which columns are products, and which the levels of one factor."""
        products, factors = {}, {}
        for name, pieces in self.products():
            if len(pieces) > 1:
                products[name] = tuple(map(self.piece_name, pieces))
                continue
            (column, level), = pieces
            if level is not None:
                own = factors.setdefault(column, {"reference": self.levels[column][0], "levels": {}})
                own["levels"][level] = name
        return ArrayTerms.of(self.names(), products, factors)

    @staticmethod
    def piece_name(piece):
        column, level = piece
        return column if level is None else f"C({column})[{level}]"

    def names(self):
        return [name for name, _ in self.products()]

    def to_json(self):
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values):
        """Inverse of `to_json`, whose lists become tuples again."""
        values = dict(values)
        values["terms"] = tuple(map(tuple, values["terms"]))
        values["factors"] = tuple(values["factors"])
        values["levels"] = {name: tuple(levels) for name, levels in values["levels"].items()}
        values["classes"] = None if values["classes"] is None else tuple(values["classes"])
        return cls(**values)


def as_text(column):
    """Levels and labels as text: whole numbers without a decimal point, so that 1 and 1.0 are one level."""
    codes, labels = pd.factorize(column)
    whole = (float, np.floating, bool, np.bool_)
    texts = [str(int(v)) if isinstance(v, whole) and np.isfinite(v) and v == int(v) else str(v) for v in labels]
    return np.array([*texts, "nan"], dtype=object)[codes]


@dataclasses.dataclass(frozen=True)
class Rows:
    """Recipe: a frame of a site to a Block of the design; incomplete rows and rare levels are left out.

    Attributes
    ----------
    design : Design
    extra : bool
        Keep the design's rows beside the block, for marginal effects.
    """

    design: Design
    extra: bool = False
    response = property(lambda self: self.design.response)
    groups = ()

    def __call__(self, part, index):
        design = self.design
        frame, n_missing = usable(part[0], design)
        n = len(frame)
        weight, offset = weight_and_offset([None if name is None else _numbers(frame, name) for name in
                                            (design.weights, design.offset, None)],
                                           ("weights", "offset", "exposure"), n, index)
        if design.classes is not None:
            y = encode(as_text(frame[design.response]), np.array(design.classes, dtype=object), weight)
        else:
            y = _numbers(frame, design.response)
        X, products = np.ones((n, len(design.products()))), design.products()
        texts = {name: as_text(frame[name]) for name in design.factors}
        for j, (_, pieces) in enumerate(products):
            for name, level in pieces:
                X[:, j] *= _numbers(frame, name) if level is None else texts[name] == level
        extra = {} if design.clusters is None else {"clusters": frame[design.clusters].to_numpy()}
        if self.extra:
            extra["rows"], weight = X, np.ones(n)
        return Block(X, y, weight, offset, index, extra, float(n_missing))


def usable(frame, design):
    """Rows without a missing value whose levels and class are the design's, and how many were left out."""
    absent = [name for name in design.columns if name not in frame.columns]
    if absent:
        raise ValueError(f"The site's table has no column {absent[0]!r}, which the question names: its columns are "
                         f"{', '.join(map(repr, list(frame.columns)[:20]))}.")
    keep = ~frame[design.columns].isna().any(axis=1).to_numpy()
    wanted = [(name, levels) for name, levels in design.levels.items()]
    wanted += [(design.response, design.classes)] if design.classes is not None else []
    for name, levels in wanted:
        keep &= np.isin(as_text(frame[name]), np.array(levels, dtype=object))
    return (frame if keep.all() else frame[keep]), int((~keep).sum())


def _numbers(frame, name):
    try:
        return np.ascontiguousarray(pd.to_numeric(frame[name]).to_numpy(), float)
    except (TypeError, ValueError):
        raise ValueError(f"Column {name!r} of the site holds text: name it C({name}) in the formula, or make it "
                         "numeric.") from None


@dataclasses.dataclass(frozen=True)
class Merged:
    """Recipe: a frame with the rare levels of some factors under one name."""

    rows: object
    rare: dict
    dropped: tuple = ()          # factors whose rare levels are few rows together, which are left out

    def __call__(self, part, index):
        return self.rows((self.frame(part[0]),), index) if self.rows is not None else self.frame(part[0])

    def frame(self, frame):
        for name, levels in self.rare.items():
            texts = as_text(frame[name])
            rare = np.isin(texts, np.array(levels, dtype=object)) & ~frame[name].isna().to_numpy()
            frame = frame.assign(**{name: np.where(rare, None if name in self.dropped else OTHER,
                                                     np.where(frame[name].isna(), None, texts))})
        return frame

    @property
    def response(self):
        return self.rows.response

    @property
    def groups(self):
        return ()


def in_order(counts):
    """Levels in the order of their numbers, or of their text."""
    try:
        return tuple(sorted(counts, key=float))
    except ValueError:
        return tuple(sorted(counts))
