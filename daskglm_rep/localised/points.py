"""Points of the sites' parts: many models of one response, without asking the sites again."""

import numpy as np
import pandas as pd

from daskglm_rep.part_summaries import PartSums
from daskglm_rep.partitions import KMeans, Natural
from daskglm_rep.representative_models import RepresentativeGLM
from daskglm_rep.representatives import fitting
from daskglm_rep.representatives.collection import Collection, Plan
from daskglm_rep.representatives.rounds import Sweep

N_SKETCHES = 2


def plan_of(basis, layout, n_parts, least, has_offset, starts, seed):
    """How a site's rows become parts: k-means in each of its chunks, joined to the rules' least rows."""
    inside = Natural(within=KMeans(max(n_parts, 1), standardize=True))
    assigner = None if layout is None else inside.assigner(layout, None, None)
    return Plan(basis, has_offset, layout, assigner, least, starts, seed, n_sketches=N_SKETCHES)


class SitePoints:
    """What was collected once, and the fits of other models on it.

    Attributes
    ----------
    model : RepresentativeGLM
        As if fitted on the points, with the exact fit's score: its `refit` makes the others.
    """

    def __init__(self, answers, results, has_offset):
        fitted = results.fitted
        fit, model, found = fitted.fit, fitted.fit.objective.model, fitted.survey
        basis, m = fit.objective.basis, fit.point.moments
        sums = np.vstack([a.arrays["sums"] for a in answers])
        none = np.zeros((len(sums), 0))
        parts = PartSums(np.arange(len(sums)), sums, none, none, totals=np.zeros(1))
        plan = plan_of(basis, None, 0, 0, has_offset, np.zeros(1, int), 0)
        collection = Collection.of(parts, plan)
        prepared = fitting.Prepared(found, plan, collection, fitted.kept, len(sums), 0, np.nan, parts)
        self.model = RepresentativeGLM(model.family, model.link, representative="moment-matched")
        self.model._prepared, self.model._fitted_model = prepared, model
        self.model._exact = Sweep(fit.point.coef, m.score, m.deviance, m.pearson, np.nan, m.expected, 0.0, None)
        self.model._columns, self.model.history_ = basis.columns, pd.DataFrame()
        self.model.n_features_in_, self.model.results_ = len(fitted.names), results

    @property
    def n_parts(self):
        return len(self.model._prepared.collection.keys)

    def refit(self, columns=None, link=None, alpha=0.0, l1_ratio=0.0):
        """Another model: fewer columns, another link, a penalty; parameters of `RepresentativeGLM.refit`.

        Returns
        -------
        GLMResults
            Estimates from the points, for screening: what is chosen is fitted by a `Coordinator` of its own.
        """
        return self.model.refit(columns, link, alpha, l1_ratio).results_
