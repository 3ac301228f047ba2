"""The printed table of results: text in a terminal, HTML in Jupyter, LaTeX, Markdown and CSV on request."""

import math

from daskglm_rep.labels import shown
from daskglm_rep.printing import Printable


class Summary(Printable):
    """A printable table of results: `as_text`, `as_html`, `as_latex`, `as_markdown`, `as_csv`."""

    def __init__(self, results, level, exponentiate=False):
        self.results, self.level, self.exponentiate = results, level, exponentiate

    def _pairs(self):
        r, fit = self.results, self.results.fitted.fit
        left = [("Model", str(r.model)), *response_of(r), ("Rows", f"{r.nobs:,.0f}"),
                ("Residual df", f"{r.df_resid:,.0f}"), *covariance_of(r), ("Sweeps", f"{r.fitted.n_passes:g}"),
                ("Distance to optimum", f"{fit.distance:.1e} standard errors" if fit.distance else "0")]
        right = [("Log-likelihood", f"{r.llf:,.4f}"), ("Null log-likelihood", f"{r.llnull:,.4f}"),
                 ("AIC", f"{r.aic:,.2f}"), ("Deviance", f"{r.deviance:,.4f}"),
                 ("Pearson chi2", f"{r.pearson_chi2:,.4f}")]
        if not r.model.dispersion_known:
            right.append(("Dispersion", f"{r.scale:.6g}"))
        if hasattr(r, "alpha"):
            error = r.alpha_standard_error
            right += [("Alpha", f"{r.alpha:.6g}"), ("Alpha std err", "given" if math.isnan(error) else f"{error:.4g}")]
        right.append(("R-squared", f"{r.rsquared:.4f}") if r.model.is_gaussian else
                     ("Pseudo R-squared", f"{r.prsquared:.4f}"))
        return left, right

    def _notes(self):
        r = self.results
        notes = [r.fitted.status.sentence] if r.fitted.status.sentence else []
        if getattr(r, "n_missing", 0):
            notes.append(f"{r.n_missing:,} rows with missing values were left out.")
        if not r.fitted.kept.all():
            notes.append("NaN: columns that are constant, linear combinations of earlier ones, or left out of a refit.")
        if r.fitted.fit.objective.penalty and (r.params == 0).any():
            notes.append(f"{int((r.params == 0).sum())} of {r.params.size} coefficients are exactly zero.")
        if self.level != 0.95:
            notes.append(f"{100 * self.level:g} % intervals.")
        return notes + ([r.covariance.note] if r.covariance.note else [])

    def _table(self):
        return self.results.summary_frame(self.level, exponentiate=self.exponentiate)


def response_of(r):
    """What is modelled: pairs of words."""
    if r.classes is None or r.model.n_responses == 1:
        return [("Response", r.outcome)]
    return [("Response", r.response), ("Baseline", repr(shown(r.classes[0])))]


def covariance_of(r):
    """Name, clusters and small-sample correction of a covariance: pairs of words."""
    c = r.covariance
    pairs = [("Covariance", c.cov_type)]
    if c.n_clusters:
        pairs.append(("Clusters", " and ".join(f"{g:,}" for g in c.n_clusters)))
    return pairs + ([("Correction", c.correction)] if c.correction not in ("", "none") or c.n_clusters else [])
