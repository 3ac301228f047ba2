"""Models from formulas on data frames: `glm`, `lm`, `logit`, `mnlogit`."""

from daskglm_rep.formula.fit import glm, lm, logit, mnlogit
from daskglm_rep.formula.results import FormulaResults
from daskglm_rep.formula.spec import FormulaSpec

__all__ = ["FormulaResults", "FormulaSpec", "glm", "lm", "logit", "mnlogit"]
