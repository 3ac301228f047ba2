"""A formula learnt over all partitions: the design of any rows, frozen and small enough to travel with a task."""

import dataclasses

import numpy as np
import pandas as pd
from scipy import sparse

from daskglm_rep.formula.terms import Evaluator, dense_product, names_of, sparse_product


@dataclasses.dataclass(frozen=True, eq=False)
class FormulaSpec:
    """How rows of a frame become design columns.

    Attributes
    ----------
    formula : str
    names : list of str
        Design columns, without the intercept.
    intercept : bool
    variables : dict of str to list or None
        Columns that the right-hand side uses: sorted levels of factors (text, categories, booleans, C(...)), None for
        numbers.
    response : str
        Left-hand side.
    response_levels : list or None
        Levels of a categorical response, in order.
    references : dict of str to level
        The level of each factor that the design codes by zeros; the first one where none is.
    term_slices : dict of str to list of int
        Term to positions among `names`.
    sparse : bool
        Whether `matrix` gives CSR matrices.
    """

    formula: str
    names: list
    intercept: bool
    variables: dict
    response: str
    response_levels: list
    response_columns: tuple
    term_slices: dict
    sparse: bool
    products: tuple          # (pieces, scale); a piece is (expression, reduced)
    factors: dict            # expression -> formulaic Factor
    codings: dict            # expression -> Coding, for categorical factors
    state: dict
    context: dict
    response_factor: object

    @property
    def columns(self):
        """Columns of the right-hand side."""
        return list(self.variables)

    @property
    def references(self):
        """Reference level by factor: the level whose dummies are all 0 (treatment coding)."""
        found = {}
        for name, coding in self.codings.items():
            columns = [c for c in names_of(self.factors[name]) if c in self.variables]
            if coding.reduced is not None and len(columns) == 1:
                zero = np.flatnonzero(coding.reduced.getnnz(axis=1) == 0)
                if zero.size == 1:
                    found[columns[0]] = coding.levels[zero[0]]
        return found

    def matrix(self, frame):
        """Design columns of some rows, without the intercept.

        Parameters
        ----------
        frame : pandas DataFrame with the columns of `variables`

        Returns
        -------
        (n, p) float64 array or CSR matrix
            NaN in rows with a missing value.

        Raises
        ------
        ValueError
            A missing column, a level that the fit has not seen (named, with its column), terms that cannot be
            evaluated.
        """
        lost = [c for c in self.columns if c not in frame.columns]
        if lost:
            raise ValueError(f"data lacks the column {lost[0]!r}, which the formula {self.formula!r} uses.")
        if not self.columns:
            return np.empty((len(frame), 0))
        frame = frame[self.columns]
        complete = ~frame.isna().any(axis=1).to_numpy()
        if complete.all():
            return self._build(frame)
        return _spread_rows(self._build(frame[complete]), complete)

    def _build(self, frame):
        evaluator = Evaluator(frame, self.context, self.state)
        codes = self._codes(evaluator)
        blocks = [self._product(pieces, scale, evaluator, codes) for pieces, scale in self.products]
        if self.sparse:
            return sparse.csr_matrix(sparse.hstack(blocks, format="csr"))
        out = np.empty((len(frame), len(self.names)), order="F")
        start = 0
        for block in blocks:
            out[:, start:start + block.shape[1]] = block
            start += block.shape[1]
        return out

    def _codes(self, evaluator):
        """Level codes of the categorical factors, by expression."""
        return {name: coding.codes(evaluator.values(self.factors[name]), name) for name, coding in self.codings.items()}

    def _product(self, pieces, scale, evaluator, codes):
        columns = []
        for name, reduced in pieces:
            if name in codes:
                rows = self.codings[name].rows(reduced)
                columns.append(rows[codes[name]] if self.sparse else rows.toarray()[codes[name]])
            else:
                columns.append(evaluator.numbers(self.factors[name], reduced))
        return sparse_product(columns, scale) if self.sparse else dense_product(columns, scale)

    def using(self, column, frame):
        """The design columns that a variable enters, as a specification of their own: cheaper to rebuild.

        Parameters
        ----------
        column : str
            One of `variables`.
        frame : pandas DataFrame
            At least one complete row; it tells how many columns each product has.

        Returns
        -------
        positions : (m,) int array
            Among `names`.
        spec : FormulaSpec
        linear : bool
            Whether these columns are linear in the variable: it stands alone in each product, as it is.
        """
        frame = frame.iloc[:1]
        evaluator = Evaluator(frame[self.columns], self.context, self.state)
        codes = self._codes(evaluator)
        positions, products, linear, used, start = [], [], self.variables[column] is None, {}, 0
        for pieces, scale in self.products:
            width = self._product(pieces, scale, evaluator, codes).shape[1]
            entered = [name for name, _ in pieces if column in names_of(self.factors[name])]
            if entered:
                positions += range(start, start + width)
                products.append((pieces, scale))
                linear = linear and entered == [column]
                used |= {name: self.factors[name] for name, _ in pieces}
            start += width
        needed = {name for factor in used.values() for name in names_of(factor)}
        part = dataclasses.replace(self, names=[self.names[j] for j in positions], products=tuple(products),
                                   factors=used, variables={k: v for k, v in self.variables.items() if k in needed},
                                   codings={k: v for k, v in self.codings.items() if k in used})
        return np.array(positions, int), part, linear

    def response_values(self, frame):
        """Left-hand side of some rows, as it is: numbers or labels.

        Returns
        -------
        (n,) array
        """
        values = Evaluator(frame, self.context, self.state).values(self.response_factor)
        return values.to_numpy() if not isinstance(values.dtype, pd.CategoricalDtype) else np.asarray(values)


def _spread_rows(built, complete):
    """Built rows at their places among all rows, NaN elsewhere."""
    if not sparse.issparse(built):
        out = np.full((complete.size, built.shape[1]), np.nan)
        out[complete] = built
        return out
    lengths = np.ones(complete.size, np.int64)
    lengths[complete] = np.diff(built.indptr)
    indptr = np.r_[0, np.cumsum(lengths)]
    gaps = indptr[:-1][~complete]
    data, indices = np.empty(indptr[-1]), np.zeros(indptr[-1], np.int64)
    filled = np.ones(indptr[-1], bool)
    filled[gaps] = False
    data[filled], data[gaps], indices[filled] = built.data, np.nan, built.indices
    return sparse.csr_matrix((data, indices, indptr), (complete.size, built.shape[1]))
