"""What the one- and two-sweep rivals share: a survey with few pilot rows, the basis, and the pilot's coefficients."""

import dataclasses

import numpy as np

from daskglm_rep import passes
from daskglm_rep.fitted import Fit, Fitted
from daskglm_rep.kernels.block import Block
from daskglm_rep.kernels.survey import Pilot, concatenate, survey
from daskglm_rep.objective import Objective, in_memory
from daskglm_rep.solvers.three_sweeps import basis_of, check, check_dense, fit_pilot, independent_columns


@dataclasses.dataclass(frozen=True)
class FirstLook:
    """A model ready to be fitted.

    Attributes
    ----------
    found : Survey
    objective : Objective
        In the basis of the columns that are not aliased.
    kept : (q,) bool array
    coef : (k,) array
        The pilot's coefficients.
    block : Block
        The pilot's rows, weighted to stand for all.
    """

    found: object
    objective: Objective
    kept: np.ndarray
    coef: np.ndarray
    block: Block

    @property
    def n_rows(self):
        """Rows of positive weight."""
        return self.found.response.n_kept

    def fitted(self, data, point, converged=True, step=None, distance=np.nan, n_iter=1, response=None):
        """`Fitted` at a point; `response` replaces the survey's sums where only some rows were fitted."""
        found = self.found if response is None else dataclasses.replace(self.found, response=response)
        step = np.zeros(point.coef.size) if step is None else step
        fit = Fit(self.objective, point, step, distance, n_iter, converged)
        null = self.objective.model.null_deviance(found.response, self.objective.basis.intercept)
        return Fitted(fit, found, list(data.names), self.kept, found.response.n_kept, data.n_passes, None, null)


def first_look(data, model, fit_intercept, n_pilot, seed, dense=False):
    """One sweep and a fit in memory.

    Parameters
    ----------
    n_pilot : int
        Pilot rows in all, at least one a block.
    dense : bool
        Refuse sparse rows.

    Returns
    -------
    FirstLook

    Raises
    ------
    ValueError
        What `three_sweeps.take_survey` refuses, and fewer rows than columns.
    """
    a_block = max(1, -(-n_pilot // data.n_blocks))
    found = passes.run(survey, data, model.family, Pilot(a_block, 0.0, a_block, seed), False)
    check(found, data, model.family)
    if dense:
        check_dense(found, "rows that are drawn or walked through one by one must be dense")
    model, basis = model.for_responses(found.response), basis_of(found, fit_intercept)
    block = concatenate(found.pilot)
    pilot = in_memory(block)
    kept = independent_columns(data, pilot, found, basis, "warn")
    basis = basis.keep(np.flatnonzero(kept))
    if found.response.n_kept < basis.n_coef:
        raise ValueError(f"X has {basis.n_coef} independent columns (intercept included) but n_samples = "
                         f"{int(found.response.n_kept)} rows: drop columns.")
    objective = Objective(model, basis)
    coef, _ = fit_pilot(objective, block, pilot, found.pilot_is_all, None)
    return FirstLook(found, objective, kept, coef, block)
