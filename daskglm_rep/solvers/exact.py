"""The entry of every exact fit: what a family leaves to be estimated and a penalty asks for is resolved here alone."""

from daskglm_rep import blas
from daskglm_rep.penalties import NONE, Corners
from daskglm_rep.solvers import negative_binomial, penalized, three_sweeps
from daskglm_rep.solvers.fista import Fista
from daskglm_rep.solvers.mirror_descent import MirrorDescent
from daskglm_rep.solvers.proximal_newton import CoordinateDescent

SOLVERS = {"auto": None, "cd": CoordinateDescent(), "fista": Fista(), "igd": MirrorDescent()}


def solver_of(solver):
    """A solver by name, or itself; None is "auto".

    Raises
    ------
    ValueError
        What is no solver.
    """
    if isinstance(solver, str) and solver in SOLVERS:
        return SOLVERS[solver]
    if isinstance(solver, (CoordinateDescent, Fista, MirrorDescent)):
        return solver
    raise ValueError(f"solver={solver!r} is not known: choose one of {', '.join(SOLVERS)}, or an object such as "
                     "solvers.fista.Fista(warm_up=False) or solvers.mirror_descent.MirrorDescent(parallel=False).")


def is_first_order(solver):
    """Whether a solver wants no second derivatives, so that a ridge too comes as its diagonal."""
    return isinstance(solver_of(solver), (Fista, MirrorDescent))


def penalizes(alpha, l1_ratio, penalty, solver):
    """What `prepare` must know of a penalty: False where there is none, "ridge" where it has second derivatives."""
    if not isinstance(alpha, str) and not alpha > 0:
        return False
    smooth = not isinstance(alpha, str) and l1_ratio == 0 and penalty is None and not is_first_order(solver)
    return "ridge" if smooth else True


def solve(prepared, penalty=NONE, solver="auto", **settings):
    """Fit what was prepared; a negative binomial without an alpha has it estimated.

    Parameters
    ----------
    prepared : preparation.Prepared
    penalty : penalties.Penalty
    solver : str or object
        Of penalised fits.
    settings : arguments of `three_sweeps.solve`

    Returns
    -------
    fitted.Fitted
    """
    at_alpha = three_sweeps.solve
    if isinstance(penalty, Corners):
        at_alpha, settings = penalized.solve, settings | {"solver": solver_of(solver)}
    with blas.for_coefficients(prepared.basis.n_coef * prepared.model.n_equations):
        if prepared.model.estimates_alpha:
            return negative_binomial.solve(prepared, at_alpha, penalty, **settings)
        return at_alpha(prepared, penalty, **settings)
