"""The printed table of results: text in a terminal, HTML in Jupyter."""

import math
from html import escape


class Summary:
    """A printable table of results."""

    def __init__(self, results, level):
        self.results, self.level = results, level

    def _header(self):
        r, fit = self.results, self.results.fitted.fit
        rows = [("Model", str(r.model)), ("Response", r.response), ("Rows", f"{r.nobs:,.0f}"),
                ("Residual df", f"{r.df_resid:,.0f}"), ("Covariance", r.cov_type),
                ("Sweeps", f"{r.fitted.n_passes:g}"),
                ("Distance to optimum", f"{fit.distance:.1e} standard errors"),
                ("Log-likelihood", f"{r.llf:,.4f}"), ("Null log-likelihood", f"{r.llnull:,.4f}"),
                ("AIC", f"{r.aic:,.2f}"), ("Deviance", f"{r.deviance:,.4f}"),
                ("Pearson chi2", f"{r.pearson_chi2:,.4f}")]
        if not r.model.dispersion_known:
            rows.append(("Dispersion", f"{r.scale:.6g}"))
        if hasattr(r, "alpha"):
            error = r.alpha_standard_error
            rows += [("Alpha", f"{r.alpha:.6g}"), ("Alpha std err", "given" if math.isnan(error) else f"{error:.4g}")]
        rows.append(("R-squared", f"{r.rsquared:.4f}") if r.model.is_gaussian else
                    ("Pseudo R-squared", f"{r.prsquared:.4f}"))
        return rows

    def _notes(self):
        r = self.results
        unknown = math.isnan(r.fitted.fit.distance)
        notes = [] if r.converged or unknown else ["The fit did not converge: see the warning."]
        if r.fitted.separated is not None:
            notes.append(self._separation())
        if getattr(r, "n_missing", 0):
            notes.append(f"{r.n_missing:,} rows with missing values were left out.")
        if not r.fitted.kept.all():
            notes.append("NaN: columns that are constant, linear combinations of earlier ones, or left out of a refit.")
        return notes + ([r.covariance.note] if r.covariance.note else [])

    def _separation(self):
        """Whose numbers mean nothing."""
        separated, f = self.results.fitted.separated, self.results.fitted
        if separated.kind == "complete":
            return "Complete separation: all coefficients are infinite, and their standard errors mean nothing."
        every = ["Intercept"] * (f.kept.size - len(f.names)) + f.names
        names = [name for name, kept in zip(every, f.kept) if kept]
        which = ", ".join(names[j] for j in separated.positions[:10]) + " ..." * (separated.positions.size > 10)
        return f"Quasi-complete separation: of {which} coefficients are infinite, and standard errors mean nothing."

    def _table(self):
        return self.results.summary_frame(self.level)

    def __str__(self):
        rows = self._header()
        half = -(-len(rows) // 2)
        left, right = rows[:half], rows[half:] + [("", "")] * (2 * half - len(rows))
        lines = [f"{a:<20}{b:>28}   {c:<20}{d:>16}" for (a, b), (c, d) in zip(left, right)]
        table = self._table().to_string(float_format=lambda v: f"{v:.4g}" if abs(v) < 1e-3 and v != 0 else f"{v:.4f}")
        width = max(len(line) for line in lines + table.split("\n"))
        return "\n".join(["=" * width, *lines, "-" * width, table, "=" * width, *self._notes()])

    __repr__ = __str__

    def _repr_html_(self):
        rows = "".join(f"<tr><th style='text-align:left'>{escape(a)}</th><td>{escape(b)}</td></tr>"
                       for a, b in self._header())
        notes = "".join(f"<p>{escape(n)}</p>" for n in self._notes())
        return f"<table>{rows}</table>{self._table().to_html(float_format=lambda v: f'{v:.4g}')}{notes}"
