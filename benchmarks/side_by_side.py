"""Results beside statsmodels' and marginaleffects', word by word: the largest relative differences, as a table.

`python benchmarks/side_by_side.py` fits birth weights (189 rows) and days absent (146 rows) of tests/reference/data.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf

import daskglm_rep as dg

REFERENCE = Path(__file__).parents[1] / "tests" / "reference"
LOGIT, LINE = "low ~ age * lwt + smoke + C(race)", "bwt ~ age + lwt + smoke + C(race)"
TEST = "age = lwt, smoke = 0.5"


def difference(ours, theirs):
    ours, theirs = np.asarray(ours, float), np.asarray(theirs, float)
    return float(np.max(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1e-12)))


def statsmodels_rows(frame):
    """(word, largest difference) beside statsmodels' fits."""
    theirs = smf.glm(LOGIT, frame, family=sm.families.Binomial()).fit(tol=1e-14)
    ours = dg.glm(LOGIT, frame, family="binomial", tol=1e-11)
    line, our_line = smf.ols(LINE, frame).fit(cov_type="HC1", use_t=True), dg.lm(LINE, frame, cov_type="HC1")
    names = list(ours.params.index)
    t, their_t = ours.t_test(TEST), theirs.t_test(TEST)
    f, their_f = our_line.f_test(TEST), line.f_test(TEST)
    yield "params, bse, conf_int", max(
        difference(ours.params, theirs.params[names]), difference(ours.bse, theirs.bse[names]),
        difference(ours.conf_int(alpha=0.1), theirs.conf_int(alpha=0.1).loc[names]))
    yield "t_test", max(difference(getattr(t, n), getattr(their_t, n)) for n in ("effect", "sd", "tvalue", "pvalue"))
    yield "f_test", difference([f.fvalue, f.pvalue], [their_f.fvalue, their_f.pvalue])
    yield "get_prediction().summary_frame()", difference(ours.get_prediction(frame).summary_frame(),
                                                         theirs.get_prediction(frame).summary_frame())
    yield "resid_response, _pearson, _deviance", max(
        difference(getattr(ours, name)(frame), getattr(theirs, name))
        for name in ("resid_response", "resid_pearson", "resid_deviance"))
    yield "rsquared_adj, fvalue, f_pvalue", difference(
        [our_line.rsquared_adj, our_line.fvalue, our_line.f_pvalue], [line.rsquared_adj, line.fvalue, line.f_pvalue])


def marginaleffects_rows(frames):
    """(word, largest difference of estimates, of errors) beside the committed answers."""
    fits, found = {}, {}
    for answer in json.loads((REFERENCE / "effects_by_marginaleffects.json").read_text()):
        frame = frames[answer["data"]]
        if answer["model"] not in fits:
            fits[answer["model"]] = dg.glm(answer["formula"], frame, family=answer["family"].lower(), tol=1e-11)
        fit = fits[answer["model"]]
        if answer["call"] == "hypotheses":
            table = fit.hypotheses(answer["options"])
            ours = pd.DataFrame({"effect": table.effect, "se": table.sd})
        else:
            ours = getattr(fit, answer["call"])(frame, **answer["options"]).frame
        theirs = pd.DataFrame(answer["rows"])
        by_size = [table.sort_values("effect").reset_index(drop=True) for table in (ours, theirs)]
        now = [difference(by_size[0][c], by_size[1][c]) for c in ("effect", "se")]
        found[answer["call"]] = np.maximum(found.get(answer["call"], 0.0), now)
    return found


def main():
    frames = {name: pd.read_csv(REFERENCE / "data" / f"{name}.csv") for name in ("birthwt", "quine")}
    frames["birthwt"]["race"] = frames["birthwt"]["race"].astype(str)
    print("| word | beside | largest relative difference |\n|---|---|---:|")
    for word, worst in statsmodels_rows(frames["birthwt"]):
        print(f"| `{word}` | statsmodels | {worst:.0e} |")
    for word, (effect, se) in marginaleffects_rows(frames).items():
        print(f"| `{word}` | marginaleffects | {effect:.0e}, errors {se:.0e} |")


if __name__ == "__main__":
    main()
