"""What messages hold: models, bases and summaries as JSON and arrays.

=========  =============================================================================================================
survey     asked: model, design. Sent: rows, sums of weights, of the columns their means, sums of squares and guarded
           ranges (means of the least and largest rows), the response's likelihood constants, levels and classes with
           their weights, and the site's own fit: coefficients, score, informations and their derivatives there
moments    asked: model, design, basis, coefficients, and what covariance. Sent: score (k), expected information and,
           where it differs, the observed one (k (k + 1) / 2), deviance, Pearson's chi-squared, rows outside the domain;
           and the middle of a sandwich (k (k + 1) / 2) with the number of rows or clusters
effects    asked: model, design, basis, coefficients, variables. Sent: sums of effects and of their gradients
points     asked: model, design, basis, number of parts in a chunk of rows. Sent a part: rows, sums of weights, y,
           squares, columns, y times columns, and two spread vectors (collection of `representatives`)
score      asked: as moments. Sent: the clipped, noisy score (k) and the expected information
=========  =============================================================================================================
"""

import dataclasses

import numpy as np

from daskglm_rep import families, links
from daskglm_rep.kernels.block import Basis
from daskglm_rep.localised.messages import square, triangle
from daskglm_rep.models.glm import GLM
from daskglm_rep.models.multinomial import Multinomial
from daskglm_rep.summaries import Moments, Response, Spread

RESPONSE = ("n_rows", "n_kept", "weight", "weight_squared", "log_weight", "weight_log_y", "saturated", "deviance")


def pack_model(model):
    """A model as JSON; classes are counted."""
    if model.n_responses > 1:
        return {"multinomial": model.n_classes}
    family, link = model.family, model.link
    return {"family": family.facts.name, "family_parameters": _parameters(family), "link": link.name,
            "link_parameters": _parameters(link)}


def _parameters(formulas):
    return {name: float(value) for name, value in dataclasses.asdict(formulas).items()}


def unpack_model(values, n_classes=None):
    """Inverse of `pack_model`, for known families and links alone.

    Raises
    ------
    ValueError
        Unknown names.
    """
    if "multinomial" in values:
        return Multinomial(int(n_classes or values["multinomial"]))
    kinds = ((values["family"], families.FAMILIES, values["family_parameters"], families.get_family),
             (values["link"], links.LINKS, values["link_parameters"], links.get_link))
    return GLM(*(table[name](**parameters) if name in table and parameters else get(name)
                 for name, table, parameters, get in kinds))


def check_answer(answer, question):
    """Whether an answer holds finite numbers of the question's shapes, before they are added to other sites'.

    Raises
    ------
    ValueError
    """
    sizes = {name: a.size for name, a in answer.arrays.items()}
    if answer.kind == "survey":
        p = sizes.get("columns_mean", 0)
        wanted = {f"columns_{name}": p for name in ("mean", "squares", "low", "high")}
        wanted |= {"columns_weight": 1, "response": len(RESPONSE) + 3}
        q, k = sizes.get("local_columns", 0), sizes.get("local_coef", 0)
        if any(name.startswith("local_") for name in sizes):
            wanted |= {"local_center": q, "local_scale": q, "local_intercept": 1}
            wanted |= {"local_coef": k or 1, "local_score": k, "local_expected": k * (k + 1) // 2, "local_totals": 3}
    else:
        k = question.arrays["coef"].size
        wanted = {"moments": {"score": k, "totals": 3}, "score": {"score": k}}.get(answer.kind, {})
        wanted |= {name: k * (k + 1) // 2 for name in ("expected", "observed", "meat") if name in sizes}
    outside = answer.kind == "moments" and "expected" not in sizes             # the domain: NaN says so
    good = all(sizes.get(name) == n for name, n in wanted.items()) and (outside or all(
        np.isfinite(a).all() for a in answer.arrays.values()))
    counts = [answer.facts.get("rows")]
    if answer.kind == "survey":
        counts.append(answer.facts.get("n_missing"))
        good &= set(question.facts["design"]["factors"]) == set(answer.facts.get("levels") or ())
    if not good or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise ValueError(f"The answer of site {answer.facts['site']!r} ({answer.kind}) holds numbers of another shape "
                         "than was asked for, or such that are not finite: the file is damaged, ask for it again.")


def pack_basis(basis):
    """A basis as arrays."""
    return {"columns": basis.columns.astype(np.int64), "center": basis.center, "scale": basis.scale,
            "intercept": np.array([int(basis.intercept)])}


def unpack_basis(arrays):
    return Basis(arrays["columns"], arrays["center"], arrays["scale"], bool(arrays["intercept"][0]))


def pack_moments(m):
    """`Moments` as arrays: k (k + 1) / 2 + k + 3 numbers, and another triangle where the informations differ."""
    if m.expected is None or not np.isfinite(m.deviance):
        return {"totals": np.array([np.nan, np.nan, m.n_invalid]), "score": m.score}
    arrays = {"score": m.score, "expected": triangle(m.expected),
              "totals": np.array([m.deviance, m.pearson, m.n_invalid])}
    return arrays if m.observed is m.expected else arrays | {"observed": triangle(m.observed)}


def unpack_moments(arrays):
    deviance, pearson, n_invalid = map(float, arrays["totals"])
    if "expected" not in arrays:
        return Moments.invalid(arrays["score"].size, n_invalid)
    expected = square(arrays["expected"])
    observed = square(arrays["observed"]) if "observed" in arrays else expected
    return Moments(arrays["score"], expected, observed, deviance, pearson, n_invalid)


def pack_spread(spread, low, high):
    """A column `Spread` whose extremes are guarded ones."""
    return {"weight": np.array([spread.weight]), "mean": spread.mean, "squares": spread.squares, "low": low,
            "high": high}


def unpack_spread(arrays):
    return Spread(float(arrays["weight"][0]), arrays["mean"], arrays["squares"], arrays["low"], arrays["high"])


def pack_response(r):
    """A `Response` without its extremes."""
    mean, squares = (float(v[0]) if v.size else 0.0 for v in (r.spread.mean, r.spread.squares))
    return np.array([getattr(r, name) for name in RESPONSE] + [mean, squares, float(r.fractional)])


def unpack_response(values, family):
    """A `Response` whose extremes are its mean, since no one needs them here."""
    named = dict(zip(RESPONSE, map(float, values)))
    mean, squares, fractional = map(float, values[len(RESPONSE):])
    at, weight = np.array([mean]), named["weight"]
    return Response(family, low=mean, high=mean, n_outside=0.0, n_negative=0.0, fractional=bool(fractional),
                    spread=Spread(weight, at, np.array([squares]), at, at), **named)
