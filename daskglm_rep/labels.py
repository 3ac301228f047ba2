"""Class labels, once the survey has found them: chunks, pilot and sums in the model's codes."""

import dataclasses

import numpy as np

from daskglm_rep.families import Binomial
from daskglm_rep.kernels.survey import response_totals
from daskglm_rep.recipes import encode


def encode_classes(data, found, labels):
    """Rows and survey with labels replaced by their codes 0, 1, ...

    Parameters
    ----------
    data : design.Data
        Read with raw labels.
    found : summaries.Survey
    labels : tuple
        In the model's order, baseline first.

    Returns
    -------
    Data, Survey
    """
    pilot = tuple(dataclasses.replace(b, y=encode(b.y, labels, b.weight)) for b in found.pilot)
    response = found.response
    if len(labels) == 2:          # sums over labels become sums over codes: the null deviance needs them
        totals = np.array([found.labels[label] for label in labels], float)
        codes, _ = response_totals(Binomial(), np.array([0.0, 1.0]), totals)
        response = dataclasses.replace(response, family=codes.family, low=codes.low, high=codes.high,
                                       deviance=codes.deviance, spread=codes.spread)
    return (data.with_prepare(raw_labels=False, labels=labels),
            dataclasses.replace(found, pilot=pilot, response=response))


def shown(label):
    """A class label as Python prints it: no NumPy type, whole numbers without a point."""
    label = label.item() if hasattr(label, "item") else label
    return int(label) if isinstance(label, float) and label.is_integer() else label
