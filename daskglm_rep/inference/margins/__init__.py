"""Marginal effects: discrete changes, derivatives and elasticities through all terms, with delta-method errors."""

from daskglm_rep.inference.margins.compute import average_predictions, margins
from daskglm_rep.inference.margins.effects import CHANGES
from daskglm_rep.inference.margins.table import MarginsResult

__all__ = ["CHANGES", "MarginsResult", "average_predictions", "margins"]
