"""Rows of three hospitals that differ, for the localised mode's tests; as a script a site that answers in a folder.

    python tests/hospitals.py SITE FOLDER        # answers FOLDER/*/question-*.npz from site-SITE.csv until `stop`
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

SIZES = (1500, 1200, 900)


def hospital(number, n, seed=0):
    """Patients of one hospital: older, smoking more and dying more from one to the next."""
    rng = np.random.default_rng((seed, number))
    age = 50 + 3 * number + 12 * rng.normal(size=n)
    frame = pd.DataFrame({"age": age, "bmi": 25 + 4 * rng.normal(size=n) + 0.05 * age, "sex": rng.choice(["f", "m"], n),
                          "smoke": (rng.random(n) < 0.2 + 0.1 * number).astype(float),
                          "ward": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])})
    doctor = rng.integers(0, 30, n)
    eta = (-2 + 0.03 * (age - 50) + 0.05 * (frame.bmi - 27) + 0.6 * frame.smoke + 0.3 * (frame.sex == "m")
           + 0.4 * (frame.ward == "b") + 0.1 * number + 0.3 * rng.normal(size=30)[doctor]).to_numpy()
    scores = np.c_[np.zeros(n), eta + 1, 0.5 * eta + 0.02 * (age - 50)] + rng.gumbel(size=(n, 3))
    return frame.assign(doctor=[f"{number}-{d}" for d in doctor], died=(rng.random(n) < 1 / (1 + np.exp(-eta))) * 1,
                        visits=rng.poisson(np.exp(0.5 * eta + 1)), place=np.array(["home", "rehab", "ward"])[
                            scores.argmax(axis=1)])


def hospitals(seed=0, sizes=SIZES):
    return [hospital(number, n, seed) for number, n in enumerate(sizes)]


def serve(name, folder):
    from daskglm_rep.localised import Site

    folder, sites = Path(folder), {}
    while not (folder / "stop").exists():
        for question in sorted(folder.glob("*/question-*.npz")):
            out = question.parent / question.name.replace("question", "answer").replace(".npz", f"-{name}.npz")
            if out.exists():
                continue
            study = question.parent.name
            if study not in sites:
                sites[study] = Site(folder / f"site-{name}.csv", name=name, ledger=folder / f"{name}-{study}")
            sites[study].answer(question.read_bytes()).write(out)
        time.sleep(0.1)


if __name__ == "__main__":
    serve(*sys.argv[1:])
