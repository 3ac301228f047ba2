"""A fit's JSON file: written by the command `fit`, put side by side by `compare`."""

import json
import math
from pathlib import Path

import pandas as pd

from daskglm_rep.printing import Printable, number
from daskglm_rep.versions import __version__

FIT = ("nobs", "df_model", "df_resid", "llf", "llnull", "aic", "bic", "deviance", "null_deviance", "pearson_chi2",
       "scale")
SHOWN = {"nobs": "Rows", "llf": "Log-likelihood", "aic": "AIC", "bic": "BIC"}
BELOW = {"std err": "Standard errors in brackets.", "pvalue": "p-values in brackets."}


def record(results, level, margins=None):
    """What the JSON file holds, as dicts and lists.

    Parameters
    ----------
    results : FormulaResults
    level : float
    margins : DataFrame, optional

    Returns
    -------
    dict
    """
    fitted = results.fitted
    names = FIT + (("alpha", "alpha_standard_error") if hasattr(results, "alpha") else ())
    found = {"daskglm_rep": __version__, "formula": results.spec.formula, "model": str(results.model),
             "response": results.response, "cov_type": results.cov_type, "level": level,
             "converged": results.converged, "n_passes": fitted.n_passes, "distance_to_optimum_se": fitted.fit.distance,
             "n_missing": results.n_missing, "fit": {name: getattr(results, name) for name in names},
             "coefficients": results.summary_frame(level).reset_index().to_dict("records"),
             "covariance": results.cov_params().to_numpy().tolist()}
    return found if margins is None else found | {"margins": margins.to_dict("records")}


def write(path, found):
    """Write a record as JSON: NaN and infinities are null."""
    Path(path).write_text(json.dumps(_plain(found), indent=1) + "\n")


def _plain(value):
    """JSON's types: numpy scalars unwrapped, NaN and infinities null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def read(path):
    """A record that `write` wrote.

    Raises
    ------
    ValueError
        Another kind of file.
    """
    try:
        found = json.loads(Path(path).read_text())
        return found if {"coefficients", "fit", "model"} <= found.keys() else _refuse(path, "it has no coefficients")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        _refuse(path, str(error))


def _refuse(path, why):
    raise ValueError(f"{path} is no record of a fit ({why}): write one with fit ... --out FILE.json.")


class SideBySide(Printable):
    """Records in one table: two rows a coefficient, then what tells the fits apart.

    Parameters
    ----------
    records : dict of str to record
        By the heading of their column.
    below : {"std err", "pvalue"}
        What stands in brackets.
    """

    def __init__(self, records, below="std err"):
        self.records, self.below = records, below

    def _table(self):
        columns = {name: _coefficients(found) for name, found in self.records.items()}
        labels = dict.fromkeys(label for found in columns.values() for label in found)
        rows = [(label, [f"{number(found[label]['coef'])}" if label in found else "" for found in columns.values()])
                for label in labels]
        under = [("", [f"({number(found[label][self.below])})" if label in found else "" for found in columns.values()])
                 for label in labels]
        rows = [row for pair in zip(rows, under) for row in pair]
        fits = self.records.values()
        rows += [("Model", [f["model"] for f in fits]), ("Response", [f["response"] for f in fits]),
                 ("Covariance", [f["cov_type"] for f in fits])]
        rows += [(words, [_statistic(f["fit"].get(name), name) for f in fits]) for name, words in SHOWN.items()]
        return pd.DataFrame([cells for _, cells in rows], [label for label, _ in rows], list(self.records))

    def _notes(self):
        late = [name for name, found in self.records.items() if not found.get("converged", True)]
        return [BELOW[self.below]] + [f"{name} did not converge." for name in late]


def _coefficients(found):
    """Rows of the coefficient table by name; of a multinomial model by class and name."""
    rows = {}
    for row in found["coefficients"]:
        label = f"{row['class']}: {row['feature']}" if "class" in row else row["feature"]
        rows[label] = {key: math.nan if value is None else value for key, value in row.items()}
    return rows


def _statistic(value, name):
    return "" if value is None else f"{value:,.0f}" if name == "nobs" else f"{value:,.2f}"
