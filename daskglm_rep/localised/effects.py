"""Average marginal effects over the sites' rows: the library's own, with the sites in the place of the data."""

import dataclasses

from daskglm_rep.inference.margins.compute import _Job
from daskglm_rep.inference.margins.effects import Slope, check_variables
from daskglm_rep.inference.margins.effects import plan as plan_effects
from daskglm_rep.inference.margins.sweep import Margins
from daskglm_rep.inference.margins.table import Form
from daskglm_rep.localised import wire


class SiteRows:
    """The sites' rows as data of marginal effects.

    Parameters
    ----------
    terms : ArrayTerms
    fit : Fit
    question : callable
        From kind, facts and arrays to the sites' answers.
    """

    groups = ()

    def __init__(self, terms, fit, question):
        self.terms, self.fit, self.question, self.n_passes = terms, fit, question, 0
        self.prepare = self

    def ask(self, kernel, arguments):
        """The sites' `Margins`: the door through which `passes.run` comes here."""
        plan, = arguments
        facts = {"averages": [{"is": "slope" if isinstance(a, Slope) else "prediction"} | dataclasses.asdict(a)
                              for a in plan.averages]}
        arrays, total = wire.pack_basis(self.fit.objective.basis) | {"coef": self.fit.point.coef}, None
        for answer in self.question("effects", facts, arrays):
            a = answer.arrays
            part = Margins({(): (float(a["weight"][0]), a["value"], a["gradient"])})
            total = part if total is None else total.merge(part)
        return total


class _SiteJob(_Job):
    """A request for averages over all rows, which refers to nothing that would have to be learnt first."""

    def __init__(self, results, terms, data):
        self.results, self.terms, self.data, self.over, self.references = results, terms, data, None, {}
        self.has_offset, self.single, self.points, self.at_names, self.facts = False, False, [{}], [], None


def average_effects(results, design, question, variables=None):
    """Slopes of numbers, levels of factors against the reference.

    Parameters
    ----------
    results : GLMResults
    design : Design
    question : callable
        As of `SiteRows`.
    variables : list of str, optional
        Default all.

    Returns
    -------
    MarginsResult
    """
    terms = design.array_terms()
    job = _SiteJob(results, terms, SiteRows(terms, results.fitted.fit, question))
    chosen = check_variables(terms, variables)
    return job.result(plan_effects(terms, chosen, "dydx", "factors", None, None, None, {}, True), Form(0.95))
