"""Paths of models of several classes: coordinate descent along each, warm-started, two or three sweeps a fit.

Rows that a split leaves out have weight 0 in its sweeps.
"""

import dataclasses

import numpy as np

from daskglm_rep import passes
from daskglm_rep.kernels.folds import cell_moments, class_weights, deviances, merge_cells
from daskglm_rep.objective import in_memory
from daskglm_rep.penalties import elastic_net
from daskglm_rep.recipes import OverRows
from daskglm_rep.solvers.composite import Problem
from daskglm_rep.solvers.path import EXACT, Paths, check_trains, falling
from daskglm_rep.solvers.proximal_newton import CoordinateDescent

BEYOND = 1e6          # times the largest gradient that rows can have: an alpha at which nothing enters


@dataclasses.dataclass(frozen=True)
class Masked(OverRows):
    """A recipe under which only the rows of some cells count.

    Attributes
    ----------
    layers : tuple of Cells
    stay : (n_cells,) bool array
    """

    layers: tuple
    stay: np.ndarray

    def __call__(self, part, index):
        block = self.rows(part, index)
        weight = np.zeros(block.n_rows)
        for cell, rows in (piece for cells in self.layers for piece in cells.pieces(block)):
            if self.stay[cell]:
                weight[rows] = block.weight[rows]
        return dataclasses.replace(block, weight=weight)


class Masks:
    """The rows of a fit, of which each split counts some; sweeps are counted with the fit's."""

    def __init__(self, prepared, splits):
        home = prepared.found.pilot_is_all          # as one block, in order
        self.source, self.layers = prepared.data, splits.layers
        self.data = in_memory(prepared.block, 1) if home else prepared.data
        if home:
            self.layers = tuple(dataclasses.replace(cells, starts=(0,)) for cells in splits.layers)

    def of(self, stay):
        """`Data` of some cells' rows."""
        data = self.data.read_with(Masked(self.data.prepare, self.layers, stay), self.data.names)
        data.lengths, data.n_passes = self.data.lengths, 0
        return data

    def count(self, data):
        """Add the sweeps over some cells' rows to the fit's, where they read anything anew."""
        if self.data is self.source:
            self.source.n_passes += data.n_passes
        return data.n_passes


def solve_classes(prepared, splits, settings):
    """All fits of a multinomial model along paths of penalties.

    Parameters
    ----------
    prepared : preparation.Prepared
    splits : splits.Splits
    settings : path.Settings

    Returns
    -------
    Paths
        `coefs` are the symmetric coefficients, class by class.
    """
    masks, J = Masks(prepared, splits), prepared.model.n_classes
    found = passes.run(cell_moments, masks.of(splits.train[0]), prepared.model, prepared.basis, (), masks.layers,
                       settings.standardize and splits.n_splits > 0).cells
    trains, tests = ([merge_cells(found, np.flatnonzero(row)) for row in rows] for rows in (splits.train, splits.test))
    check_trains(prepared, trains, tests[1:])
    _check_classes(passes.run(class_weights, masks.of(splits.train[0]), masks.layers, J).cells, splits)
    columns = [dataclasses.replace(prepared.found.columns if cell.columns is None else cell.columns,
                                   weight=cell.weight) for cell in trains]
    fits = [_Fits(prepared, masks.of(rows), of, cell.n_rows, settings)
            for rows, of, cell in zip(splits.train, columns, trains)]
    null = fits[0].null()
    ratios, alphas = settings.l1_ratios, _grid(null, prepared, settings)
    paths = [[fit.along(row, ratio) for row, ratio in zip(alphas, ratios)] for fit in fits]
    coefs = np.array([[[state.coef for state in row] for row in each] for each in paths])
    deviance = np.array([[state.moments.deviance for state in row] for row in paths[0]])
    held_out = []
    for k, test in enumerate(tests[1:], 1):
        out = masks.of(splits.test[k])
        equations = [fits[k].equations(coef) for coef in coefs[k].reshape(alphas.size, -1)]
        held_out.append(passes.run(deviances, out, prepared.model, prepared.basis, equations).value / test.weight)
        masks.count(out)
    n_sweeps = sum(masks.count(fit.data) for fit in fits)
    return Paths(np.array(ratios), alphas, coefs, deviance, float(null.moments.deviance),
                 np.array(held_out).reshape(-1, *alphas.shape), np.array([test.weight for test in tests[1:]]),
                 max(fit.distance for fit in fits), n_sweeps)


def _check_classes(totals, splits):
    """Refuse training rows that lack a class."""
    for k, row in enumerate(splits.train[1:]):
        weights = sum(totals[a].value for a in np.flatnonzero(row) if a in totals)
        if not (weights > 0).all():
            raise ValueError(f"The training rows of split {k} of cv have no row of class number "
                             f"{int(np.argmin(weights))} (sorted, from 0): use fewer or stratified folds.")


def _grid(null, prepared, settings):
    """Alphas, (R, L): the user's, or down from where the last coefficient enters, as `path.grid`."""
    if settings.alphas is not None:
        return np.tile(settings.alphas, (len(settings.l1_ratios), 1))
    eps = settings.eps or (1e-4 if prepared.found.response.n_kept > prepared.basis.n_coef else 1e-2)
    lasso = elastic_net(prepared.basis, prepared.model, prepared.found.columns, 1.0, 1.0, settings.standardize,
                        settings.penalty_factor)
    largest = max((1.0 + 1e-10) * lasso.entry(null.gradient), np.finfo(float).tiny ** 0.5)
    return falling(largest, eps, settings)


class _Fits:
    """Fits to the rows of one split."""

    def __init__(self, prepared, data, columns, n_rows, settings):
        self.prepared, self.data, self.columns, self.n_rows = prepared, data, columns, n_rows
        self.settings, self.distance = settings, 0.0
        self.tol = min(settings.tol, EXACT) if prepared.found.pilot_is_all else settings.tol
        self.start = np.zeros(prepared.model.n_classes * prepared.basis.n_coef)

    def problem(self, alpha, l1_ratio):
        penalty = elastic_net(self.prepared.basis, self.prepared.model, self.columns, max(alpha, 1e-300), l1_ratio,
                              self.settings.standardize, self.settings.penalty_factor, diagonal=True)
        return Problem(self.prepared.model, self.prepared.basis, penalty)

    def null(self):
        """`State` of the model without penalised columns, where the paths begin."""
        most = self.columns.weight * np.maximum(np.abs(self.columns.low), np.abs(self.columns.high)).max(initial=1.0)
        state = self._fit(self.problem(BEYOND * max(most, 1.0), 1.0), self.start)
        self.start = state.coef
        return state

    def along(self, alphas, l1_ratio):
        """`State` at each alpha."""
        states, coef = [], self.start
        for alpha in alphas:
            states.append(self._fit(self.problem(alpha, l1_ratio), coef))
            coef = states[-1].coef
        return states

    def _fit(self, problem, coef):
        reached = CoordinateDescent().minimise(problem, self.data, coef, self.n_rows, self.tol,
                                               self.settings.max_iter)
        self.distance = max(self.distance, reached.distance)
        return dataclasses.replace(reached.state, coef=problem.levelled(reached.state.coef))

    def equations(self, coef):
        """The model's coefficients of symmetric ones."""
        return (self.prepared.model.symmetry @ coef.reshape(self.prepared.model.n_classes, -1)).ravel()
