"""Sums by fold: which part of a partition of the rows each row is in, by its position, whatever the blocks are."""

import dataclasses

import numpy as np

from daskglm_rep.kernels.moments import block_moments
from daskglm_rep.kernels.survey import spread
from daskglm_rep.summaries import Moments, Spread, Total


@dataclasses.dataclass(frozen=True)
class Cells:
    """A partition of all rows into numbered cells, by position.

    Attributes
    ----------
    starts : tuple of int
        Position of each block's first row.
    edges : (m + 1,) int array
        Where runs of rows of one cell begin; the last is the number of rows.
    codes : (m,) int array
        Their cells.
    """

    starts: tuple
    edges: np.ndarray
    codes: np.ndarray

    @classmethod
    def of(cls, codes, lengths):
        """From a cell a row, for blocks of these lengths."""
        codes = np.asarray(codes)
        changes = np.flatnonzero(np.diff(codes)) + 1
        first = np.r_[0, changes].astype(np.int64)[:max(codes.size, 0)]
        return cls(tuple(np.r_[0, np.cumsum(lengths)[:-1]].astype(int).tolist()), np.r_[first, codes.size],
                   codes[first].astype(np.int32))

    @property
    def each(self):
        """The cell of every row, (n,) array."""
        return np.repeat(self.codes, np.diff(self.edges))

    def pieces(self, block):
        """Yield (cell, rows) of a block: a slice where the cell's rows lie together, else their positions."""
        start = self.starts[block.index]
        stop = start + block.n_rows
        a, b = np.searchsorted(self.edges, [start, stop], side="right") - 1
        runs = slice(a, b + 1) if b < self.codes.size else slice(a, b)
        low = np.maximum(self.edges[:-1][runs], start) - start
        high = np.minimum(self.edges[1:][runs], stop) - start
        codes = self.codes[runs]
        for cell in np.unique(codes[high > low]):
            mine = (codes == cell) & (high > low)
            if mine.sum() == 1:
                yield int(cell), slice(int(low[mine][0]), int(high[mine][0]))
            else:
                yield int(cell), _positions(low[mine], high[mine])


def _positions(low, high):
    """The whole numbers of several ranges, in order."""
    size = high - low
    return np.repeat(low - np.r_[0, np.cumsum(size)[:-1]], size) + np.arange(size.sum())


@dataclasses.dataclass(frozen=True)
class Cell:
    """What one cell of the rows adds up to.

    Attributes
    ----------
    n_rows, weight : float
        Rows of positive weight, and the sum of weights.
    low, high : float
        Extremes of the responses that count.
    columns : Spread or None
        Of the raw columns, where it was asked for.
    moments : tuple of Moments
        At each of the coefficient vectors.
    """

    n_rows: float
    weight: float
    low: float
    high: float
    columns: Spread | None
    moments: tuple[Moments, ...]

    def merge(self, other):
        columns = None if self.columns is None else self.columns.merge(other.columns)
        return Cell(self.n_rows + other.n_rows, self.weight + other.weight, min(self.low, other.low),
                    max(self.high, other.high), columns,
                    tuple(a.merge(b) for a, b in zip(self.moments, other.moments)))


@dataclasses.dataclass(frozen=True)
class ByCell:
    """Summaries by number of the cell."""

    cells: dict

    def merge(self, other):
        both = dict(self.cells)
        for cell, summary in other.cells.items():
            both[cell] = both[cell].merge(summary) if cell in both else summary
        return ByCell(both)


def merge_cells(cells, which):
    """One `Cell` of several, in the order of their numbers; None where no row is in them."""
    total = None
    for cell in which:
        if cell in cells:
            total = cells[cell] if total is None else total.merge(cells[cell])
    return total


def cell_moments(block, model, basis, coefs, layers, with_columns=False):
    """`Moments` at some coefficient vectors, cell by cell.

    Parameters
    ----------
    coefs : (m, k) array in the basis
    layers : tuple of Cells
    with_columns : bool
        Whether to sum the columns too, for their standard deviations in a cell.

    Returns
    -------
    ByCell
    """
    found = {}
    for cell, rows in (piece for cells in layers for piece in cells.pieces(block)):
        found[cell] = cell_of(block.take(rows), model, basis, coefs, with_columns)
    return ByCell(found)


def cell_of(block, model, basis, coefs=(), with_columns=False):
    """`Cell` of all rows of a block, with `Moments` at some coefficient vectors."""
    counts = block.weight > 0.0
    y = block.y if counts.all() else block.y[counts]
    return Cell(float(counts.sum()), float(block.weight.sum()), float(y.min(initial=np.inf)),
                float(y.max(initial=-np.inf)), spread(block.X, block.weight) if with_columns else None,
                tuple(block_moments(block, model, basis, coef) for coef in coefs))


@dataclasses.dataclass(frozen=True)
class Columns:
    """Values of all rows, in their order."""

    columns: tuple

    def merge(self, other):
        return Columns(self.columns + other.columns)


def responses(block):
    """The responses of a block, for splitters that stratify by them."""
    return Columns((np.array(block.y),))


def class_weights(block, layers, n_classes):
    """Sums of weights by class, cell by cell."""
    return ByCell({cell: Total(np.bincount(block.y[rows].astype(np.int64), block.weight[rows], n_classes))
                   for cells in layers for cell, rows in cells.pieces(block)})


def deviances(block, model, basis, coefs):
    """Deviances of a block at some coefficient vectors, one after another."""
    return Total(np.array([block_moments(block, model, basis, coef, False).deviance for coef in coefs]))
