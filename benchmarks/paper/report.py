"""The paper's value, ours, and the Monte-Carlo error of the difference, side by side."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

N_PUBLISHED = 100
PUBLISHED = json.loads((Path(__file__).parent / "published.json").read_text())


def published_value(table, key, row, method):
    """(mean, standard deviation) of the simulations, or None."""
    printed = PUBLISHED.get(f"table_{table}", {})
    rows = printed.get(key) or {}
    cell = rows.get(row, {}).get(method)
    if cell is None:
        return None
    if not isinstance(cell, list):
        return cell, math.nan
    return cell[0], cell[1] * (math.sqrt(N_PUBLISHED) if "parentheses" in printed else 1.0)


def side_by_side(records, published, unit=1e-3, n_published=N_PUBLISHED):
    """A frame with one line for each row, method and comparison of a table.

    Parameters
    ----------
    records : DataFrame
        Of what `tables.run` gives.
    published : dict
        Comparison -> (table, key) in published.json.

    Returns
    -------
    DataFrame
        paper, paper_sd; ours, ours_sd, mc_error (of the mean of ours), n; ratio ours / paper; z: difference over its
        Monte-Carlo error, from the pooled standard deviation.
    """
    lines = []
    for (against, row, method), group in records.groupby(["against", "row", "method"], sort=False):
        error = group["error"].to_numpy() / unit
        n, ours = error.size, error.mean()
        sd = error.std(ddof=1) if n > 1 else math.nan
        printed = published_value(*published[against], row, method)
        paper, paper_sd = printed if printed is not None else (math.nan, math.nan)
        pooled = ((n_published - 1) * paper_sd ** 2 + (n - 1) * np.nan_to_num(sd) ** 2) / (n_published + n - 2)
        spread = pooled * (1 / n_published + 1 / n)
        z = (ours - paper) / math.sqrt(spread) if spread > 0 else math.nan
        lines.append(dict(against=against, row=row, method=method, paper=paper, paper_sd=paper_sd, ours=ours,
                          ours_sd=sd, mc_error=(sd if n > 1 else paper_sd) / math.sqrt(n), n=n,
                          ratio=ours / paper, z=z))
    return pd.DataFrame(lines)


def text(frame, title):
    """Fixed-width text of such a frame; a dash where the paper prints nothing."""
    def number(v):
        return "-" if pd.isna(v) else f"{v:.4g}" if abs(v) < 1 else f"{v:.2f}"

    shown = frame.copy()
    for column in shown.columns.difference(["against", "row", "method", "n"]):
        shown[column] = shown[column].map(number)
    return f"{title}\n{shown.to_string(index=False)}\n"
