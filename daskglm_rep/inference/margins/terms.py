"""Design rows as functions of base variables: of array columns, and of frames under a frozen formula.

Both kinds of terms answer the same five questions about some rows: `take` them, their `column`, the same rows with a
variable `assign`ed, their design `matrix` and its `derivative` in a variable.
"""

import dataclasses

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep.inference.margins.differences import columns, derivative

NUMBER = None           # in `variables`: a numeric variable has no levels
SMALL = 1e-100          # a number that products are not divided by
WHOLE = None          # among rows by name of column: the design itself


@dataclasses.dataclass(frozen=True)
class ArrayTerms:
    """Design columns given as an array, some of them products of others or dummies of one factor.

    Rows are dicts of base columns and factors' codes; a factor that was not assigned keeps its dummies as observed. As
    long as nothing was assigned the design that they came from is among them, under `WHOLE`, if no column is a product.

    Attributes
    ----------
    names : tuple of str
        All design columns.
    products : dict
        Name of a product -> the names of its factors, repeated for powers: {"x:z": ("x", "z"), "x2": ("x", "x")}.
    factors : dict
        Name -> (reference level, {level: dummy column}).
    """

    names: tuple
    products: dict
    factors: dict

    @classmethod
    def of(cls, names, interactions=None, factors=None):
        """Check and complete what the user names.

        Parameters
        ----------
        interactions : dict, or sequence of str
            As `products`; names alone are read as "x:z" and "x**2", "I(x ** 2)", "x^2".
        factors : dict
            {"color": {"reference": "red", "levels": {"blue": "color_blue", "green": "color_green"}}}
        """
        names = tuple(names)
        if interactions is None or not isinstance(interactions, dict):
            interactions = {name: parse_product(name) for name in (interactions or ())}
        products = {name: (parts,) if isinstance(parts, str) else tuple(parts) for name, parts in interactions.items()}
        factors = {name: (f["reference"], dict(f["levels"])) for name, f in (factors or {}).items()}
        named = [("interactions", c) for product, parts in products.items() for c in (product, *parts)]
        named += [("factors", c) for _, dummies in factors.values() for c in dummies.values()]
        for option, column in named:
            if column not in names:
                raise ValueError(f"{option}= names the column {column!r}, which X does not have; its columns are "
                                 f"{', '.join(map(repr, names[:20]))}.")
        return cls(names, _expanded(products), factors)

    @property
    def variables(self):
        dummies = {c for _, levels in self.factors.values() for c in levels.values()}
        numbers = {c: NUMBER for c in self.names if c not in self.products and c not in dummies}
        return numbers | {name: [reference, *levels] for name, (reference, levels) in self.factors.items()}

    def rows(self, X):
        """Base columns of some rows of X, by name."""
        X = X.toarray() if sparse.issparse(X) else X
        rows = {name: X[:, j] for j, name in enumerate(self.names) if name not in self.products}
        return rows if self.products else rows | {WHOLE: X}

    def single(self, points):
        """Rows at values of the variables: a list of dicts."""
        rows = {name: np.zeros(len(points)) for name in self.names if name not in self.products}
        for name in self.variables:
            values = [point[name] for point in points]
            if name in self.factors:
                for level, dummy in self.factors[name][1].items():
                    rows[dummy] = np.array([float(v == level) for v in values])
            else:
                rows[name] = np.array(values, dtype=float)
        return rows

    def take(self, rows, index):
        return {name: column[index] for name, column in rows.items()}

    def length(self, rows):
        return len(next(iter(rows.values())))

    def column(self, rows, name):
        """Values of a variable: floats, or level labels of a factor."""
        if name not in self.factors:
            return rows[name]
        reference, dummies = self.factors[name]
        labels = np.full(self.length(rows), reference, dtype=object)
        for level, dummy in dummies.items():
            labels[rows[dummy] != 0] = level
        return labels

    def assign(self, rows, name, value):
        n = self.length(rows)
        rows = {column: values for column, values in rows.items() if column is not WHOLE}
        if name not in self.factors:
            return rows | {name: np.broadcast_to(np.asarray(value, float), (n,))}
        dummies = self.factors[name][1]
        return rows | {dummy: np.full(n, float(level == value)) for level, dummy in dummies.items()}

    def matrix(self, rows):
        """(n, p) design, products rebuilt."""
        if WHOLE in rows:
            return rows[WHOLE]
        X = np.empty((self.length(rows), len(self.names)))
        for j, name in enumerate(self.names):
            parts = self.products.get(name, (name,))
            X[:, j] = rows[parts[0]]
            for part in parts[1:]:
                X[:, j] *= rows[part]
        return X

    def part(self, rows, name):
        """Positions of the design columns that a variable enters, and these columns, (n, m)."""
        own = set(self.factors[name][1].values()) if name in self.factors else {name}
        positions = [j for j, column in enumerate(self.names) if own & set(self.products.get(column, (column,)))]
        names = tuple(self.names[j] for j in positions)
        products = {column: parts for column, parts in self.products.items() if column in names}
        rows = {column: values for column, values in rows.items() if column is not WHOLE}
        return np.array(positions, int), dataclasses.replace(self, names=names, products=products).matrix(rows)

    def derivative(self, rows, name, X=None):
        """Exact: products by the product rule."""
        n, positions, columns = self.length(rows), [], []
        for j, column in enumerate(self.names):
            parts = self.products.get(column, (column,))
            times = parts.count(name)
            if not times:
                continue
            value = np.full(n, float(times))
            for part in _without_one(parts, name):
                value *= rows[part]
            positions.append(j)
            columns.append(value)
        return np.array(positions, int), np.column_stack(columns) if columns else np.empty((n, 0))

    def constant_part(self, rows, name, value):
        """`part` of one row where the variable has a value, if no other variable enters these columns; else None."""
        own = set(self.factors[name][1].values()) if name in self.factors else {name}
        if any(own & set(parts) and set(parts) - own for parts in self.products.values()):
            return None
        positions, columns = self.part(self.assign(self.take(rows, slice(0, 1)), name, value), name)
        return positions, columns[0]

    def constant_derivative(self, rows, name):
        """(positions, values) of a derivative that is the same in all rows; None where it is not."""
        own = [j for j, column in enumerate(self.names) if name in self.products.get(column, (column,))]
        if any(self.products.get(self.names[j], (name,)) != (name,) for j in own):
            return None
        return np.array(own, int), np.ones(len(own))


def _without_one(parts, name):
    rest = list(parts)
    rest.remove(name)
    return rest


def _expanded(products):
    """Products of products down to base columns."""
    def base(name, depth=0):
        if name not in products or depth > 20:
            return (name,)
        return tuple(b for part in products[name] for b in base(part, depth + 1))

    for name, parts in products.items():
        if name in parts:
            raise ValueError(f"interactions= makes {name!r} a product of itself.")
    return {name: base(name) for name in products}


def parse_product(name):
    """Factors of a product's name: "x:z", "x*z", "x**2", "x^2", "I(x ** 2)"."""
    text = name[2:-1] if name.startswith("I(") and name.endswith(")") else name
    parts = []
    for piece in text.replace("**", "^").replace("*", ":").split(":"):
        base, _, power = piece.partition("^")
        if power.strip() and not power.strip().isdigit():
            raise ValueError(f"interactions= holds {name!r}, which is not a product of columns with whole powers; give "
                             "a dict such as {'x:z': ('x', 'z')}.")
        parts += [base.strip()] * (int(power) if power.strip() else 1)
    return tuple(parts)


@dataclasses.dataclass(frozen=True)
class FrameTerms:
    """Terms of a formula: rows are pandas frames, designs come from the frozen specification.

    Attributes
    ----------
    spec : formula specification
        With `matrix(frame)`, `names`, `variables`.
    scales : dict
        Standard deviations of variables, where known: the steps of numerical derivatives follow them.
    parts, constants : dict
        Variable -> what `using` found, and what is the same in all rows, filled as variables come up.
    """

    spec: object
    scales: dict = dataclasses.field(default_factory=dict)
    parts: dict = dataclasses.field(default_factory=dict)
    constants: dict = dataclasses.field(default_factory=dict)

    @property
    def names(self):
        return tuple(self.spec.names)

    @property
    def variables(self):
        return dict(self.spec.variables)

    def rows(self, frame):
        return frame

    def single(self, points):
        frame = pd.DataFrame(points)
        for name, levels in self.variables.items():
            if levels is NUMBER:
                frame[name] = frame[name].astype(float)
        return frame

    def take(self, rows, index):
        return rows.iloc[index]

    def length(self, rows):
        return len(rows)

    def column(self, rows, name):
        if self.spec.variables[name] is NUMBER:
            return rows[name].to_numpy(dtype=np.float64, na_value=np.nan)
        return rows[name].to_numpy()

    def assign(self, rows, name, value):
        if self.spec.variables[name] is NUMBER:
            return rows.assign(**{name: np.broadcast_to(np.asarray(value, float), (len(rows),))})
        dtype = rows[name].dtype
        if isinstance(dtype, pd.CategoricalDtype):
            categories = dtype.categories if value in dtype.categories else dtype.categories.append(pd.Index([value]))
            code = np.full(len(rows), categories.get_loc(value), dtype=np.int32)
            return rows.assign(**{name: pd.Categorical.from_codes(code, categories, ordered=dtype.ordered)})
        if isinstance(dtype, pd.StringDtype):          # what the formula makes of text, without n copies of it
            only = pd.Categorical.from_codes(np.zeros(len(rows), np.int8), pd.Index([value], dtype=dtype))
            return rows.assign(**{name: only})
        return rows.assign(**{name: pd.Series(value, index=rows.index, dtype=dtype)})

    def matrix(self, rows):
        return self.spec.matrix(rows)

    def using(self, name, rows):
        """(positions, terms of these columns alone, whether they are linear in the variable)."""
        if name not in self.parts:
            found = getattr(self.spec, "using", None)
            positions, spec, linear = (found(name, rows) if found
                                       else (np.arange(len(self.spec.names)), self.spec, False))
            self.parts[name] = positions, FrameTerms(spec, self.scales), linear
        return self.parts[name]

    def part(self, rows, name):
        """Positions of the design columns that a variable enters, and these columns, (n, m)."""
        positions, part, _ = self.using(name, rows)
        return positions, part.matrix(rows)

    def derivative(self, rows, name, X=None):
        """Exact where the columns are linear in the variable, else by central differences, checked row by row; X is
        the rows' design where it is known."""
        positions, part, linear = self.using(name, rows)
        if not linear:
            inner, values = derivative(part, rows, name)
            return positions[inner], values
        if X is None:
            return positions, columns(part.matrix(part.assign(rows, name, 1.0)), slice(None))          # all are 0 at 0
        x = self.column(rows, name)
        small = np.flatnonzero(np.abs(x) < SMALL)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = columns(X, positions) / x[:, None]
        if small.size:
            values[small] = self.derivative(self.take(rows, small), name)[1]
        return positions, values

    def constant_part(self, rows, name, value):
        """`part` of one row where the variable has a value, if no other variable enters these columns; else None."""
        def of_one(row):
            positions, values = self.part(self.assign(row, name, value), name)
            return positions, columns(values, slice(None))[0]
        return self._constant((name, value), rows, set(self.using(name, rows)[1].variables) == {name}, of_one)

    def constant_derivative(self, rows, name):
        """(positions, values) of a derivative that is the same in all rows; None where it is not."""
        def of_one(row):
            positions, values = self.derivative(row, name)
            return positions, values[0]
        _, part, linear = self.using(name, rows)
        return self._constant(name, rows, linear and set(part.variables) == {name}, of_one)

    def _constant(self, key, rows, is_constant, of_one):
        """What is the same in all rows, found from one of them and kept: a formula takes milliseconds for any."""
        if is_constant and key not in self.constants:
            self.constants[key] = of_one(self.take(rows, slice(0, 1)))
        return self.constants[key] if is_constant else None


@dataclasses.dataclass(frozen=True)
class MixedTerms:
    """One row as a mixture of rows: factors at their proportions.

    Attributes
    ----------
    terms : FrameTerms or ArrayTerms
    shares : (m,) array
        Of each of the m rows that one row of the design averages.
    """

    terms: object
    shares: np.ndarray

    @property
    def names(self):
        return self.terms.names

    @property
    def variables(self):
        return self.terms.variables

    def length(self, rows):
        return self.terms.length(rows) // self.shares.size

    def take(self, rows, index):
        every = np.arange(self.terms.length(rows)).reshape(-1, self.shares.size)[index]
        return self.terms.take(rows, every.ravel())

    def column(self, rows, name):
        return self.terms.column(rows, name)[::self.shares.size]

    def assign(self, rows, name, value):
        value = np.repeat(value, self.shares.size) if np.ndim(value) else value
        return self.terms.assign(rows, name, value)

    def matrix(self, rows):
        X = self.terms.matrix(rows)
        return self._mix(X.toarray() if sparse.issparse(X) else X)

    def part(self, rows, name):
        X = self.matrix(rows)
        return np.arange(X.shape[1]), X

    def derivative(self, rows, name, X=None):
        positions, values = self.terms.derivative(rows, name)
        return positions, self._mix(values)

    def constant_derivative(self, rows, name):
        """None: a mixture is one row."""

    def constant_part(self, rows, name, value):
        """None, too."""

    def _mix(self, X):
        return np.einsum("ikj,k->ij", X.reshape(-1, self.shares.size, X.shape[1]), self.shares)
