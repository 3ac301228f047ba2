"""The entry of every exact fit: what a family leaves to be estimated is resolved here, and only here."""

from daskglm_rep.solvers.negative_binomial import solve_with_alpha
from daskglm_rep.solvers.three_sweeps import solve_model


def solve(data, found, model, **settings):
    """Fit after a survey; a negative binomial without an alpha has it estimated.

    Parameters
    ----------
    data : design.Data
    found : summaries.Survey
    model : models.glm.GLM or models.multinomial.Multinomial
    settings : arguments of `three_sweeps.solve_model`

    Returns
    -------
    three_sweeps.Fitted
    """
    return (solve_with_alpha if model.estimates_alpha else solve_model)(data, found, model, **settings)
