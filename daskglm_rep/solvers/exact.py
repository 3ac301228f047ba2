"""The entry of every exact fit: what a family leaves to be estimated is resolved here, and only here."""

from daskglm_rep.penalties import NONE
from daskglm_rep.solvers import negative_binomial, three_sweeps


def solve(prepared, penalty=NONE, **settings):
    """Fit what was prepared; a negative binomial without an alpha has it estimated.

    Parameters
    ----------
    prepared : preparation.Prepared
    penalty : penalties.Penalty
    settings : arguments of `three_sweeps.solve`

    Returns
    -------
    fitted.Fitted
    """
    solver = negative_binomial if prepared.model.estimates_alpha else three_sweeps
    return solver.solve(prepared, penalty, **settings)
