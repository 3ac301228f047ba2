"""The reference cases of kind "fit" (tests/reference) as our estimators take them."""

import make_data
import numpy as np

from daskglm_rep import GLMRegressor, LogisticRegression

CASES = {name: case for name, case in make_data.cases().items() if case["kind"] == "fit"}
LINKS = {"1/mu^2": "inverse_squared"}


def link_of(model):
    """Our name of a case's link; None is the family's default."""
    return LINKS.get(model.get("link"), model.get("link"))


def fit(case):
    """Fitted results of a case and its columns, with the design's own intercept left to the estimator."""
    model, data = case["model"], make_data.build(case)
    intercept = model["design"][0][0] == "Intercept"
    data["X"] = data["X"][:, 1:] if intercept else data["X"]
    kind = "frequency" if model.get("weights_kind") == "frequency" else "prior"
    how = dict(fit_intercept=intercept, weights_kind=kind)
    if model["family"] == "multinomial":
        baseline = model["reference"] if len(model["levels"]) > 2 else None
        return LogisticRegression(baseline=baseline, **how).fit(data["X"], data["y"], data["weights"]).results_, data
    estimator = GLMRegressor(model["family"], link_of(model), **how)
    return estimator.fit(data["X"], data["y"], data["weights"], data["offset"]).results_, data


def expected(case, results, values):
    """Expected numbers in the order of our parameters: a multinomial case lists its classes in its own order."""
    model = case["model"]
    if model["family"] != "multinomial":
        return np.array(values)
    others = [level for level in model["levels"] if level != model["reference"]]
    return np.array([values[others.index(level)] for level in results.classes[1:]]).ravel()
