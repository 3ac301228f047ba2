"""Writes effects_by_marginaleffects.json: what marginaleffects (0.6, on statsmodels' fits) says of two models.

pip install marginaleffects "polars<2" pyarrow statsmodels, then run this file.
"""

import json
from pathlib import Path

import marginaleffects as me
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf

HERE = Path(__file__).parent
MODELS = {"low birth weight": ("birthwt", "low ~ age * lwt + smoke + C(race)", "race", sm.families.Binomial()),
          "days absent": ("quine", "Days ~ C(Eth) * C(Age) + C(Lrn)", "Eth", sm.families.Poisson())}
COMPARISONS = ("difference", "ratio", "lnratio")
ASKED = {"low birth weight": {
    "avg_slopes": [{}, {"variables": ["age", "lwt"], "slope": "eyex"}, {"variables": "age", "by": "race"}],
    "avg_comparisons": [*({"comparison": c} for c in (*COMPARISONS, "lnor")), {"variables": {"age": 5, "lwt": "sd"}},
                        {"variables": {"lwt": [100, 150], "race": "pairwise"}, "comparison": "lnor"},
                        {"variables": "smoke", "by": "race", "comparison": "ratio"}],
    "avg_predictions": [{}, {"by": "race"}],
    "hypotheses": ["age * lwt = 0", "age / lwt = 2", "smoke ** 2 = 1"]},
         "days absent": {
    "avg_comparisons": [{"comparison": c} for c in COMPARISONS] + [{"by": "Eth", "variables": "Lrn"}],
    "avg_predictions": [{"by": "Eth"}],
    "hypotheses": []}}


def table(found, by):
    """Rows of a result: names, the group, estimate, error."""
    frame = found.to_pandas() if hasattr(found, "to_pandas") else found
    columns = {"term": "variable", "contrast": "contrast", by: "group", "estimate": "effect", "std_error": "se"}
    frame = frame[[c for c in columns if c in frame]].rename(columns=columns)
    return json.loads(frame.to_json(orient="records", double_precision=15))


def main():
    answers = []
    for model, (data, formula, by, family) in MODELS.items():
        frame = pd.read_csv(HERE / "data" / f"{data}.csv")
        frame[by] = frame[by].astype(str)
        frame = frame.astype({c: "category" for c in frame if frame[c].dtype.kind in "OU" or c == by})
        frame["Days" if data == "quine" else "low"] *= 1.0
        fit = smf.glm(formula, frame, family=family).fit(tol=1e-14)
        for name, calls in ASKED[model].items():
            for call in calls:
                if name == "hypotheses":
                    found = me.hypotheses(fit, hypothesis=call)
                else:
                    found = getattr(me, name)(fit, **call)
                answers.append({"model": model, "data": data, "formula": formula, "family": family.__class__.__name__,
                                "call": name, "options": call, "rows": table(found, by)})
    (HERE / "effects_by_marginaleffects.json").write_text(json.dumps(answers, indent=1) + "\n")


if __name__ == "__main__":
    main()
