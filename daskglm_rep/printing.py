"""One table in many markups: text for a terminal, HTML for Jupyter, LaTeX, Markdown and CSV."""

import itertools
import re
from html import escape

import numpy as np
import pandas as pd

LATEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
         "|": r"\textbar{}"}
STYLE = """<style>
.daskglm_rep table {border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.3em 0}
.daskglm_rep th, .daskglm_rep td {padding: 0.15em 0.7em; text-align: right; white-space: nowrap; border: none}
.daskglm_rep th.l, .daskglm_rep td.l {text-align: left}
.daskglm_rep th.m {padding-left: 2.5em}
.daskglm_rep thead th {border-bottom: 1px solid currentColor}
.daskglm_rep tr.r td, .daskglm_rep tr.r th {border-top: 1px solid currentColor}
.daskglm_rep div {max-width: 60em}
</style>"""


def number(value):
    """Four decimals; four digits of what is smaller than they show, six of what is huge."""
    size = abs(value)
    return f"{value:.4g}" if 0 < size < 1e-3 else f"{value:.6g}" if size >= 1e7 else f"{value:.4f}"


def latex(text):
    """Text with LaTeX's own characters escaped."""
    return "".join(LATEX.get(letter, letter) for letter in str(text))


class Printable:
    """What is printed: pairs of words above, a table, notes below. Subclasses fill in the three.

    `str` and Jupyter show it; `as_text`, `as_html`, `as_latex`, `as_markdown` and `as_csv` give it away.
    """

    _index = True         # whether the table's index is shown
    _ruled = None         # number of the row that a rule stands above

    def _pairs(self):
        """Two lists of (label, value), for the left and the right."""
        return [], []

    def _table(self):
        """DataFrame; numbers are formatted by `number`."""
        raise NotImplementedError

    def _notes(self):
        """List of sentences."""
        return []

    # ------------------------------------------------------------ layouts

    def _halves(self):
        """Rows (label, value, label, value) of the pairs."""
        left, right = self._pairs()
        return [(*a, *b) for a, b in itertools.zip_longest(left, right, fillvalue=("", ""))]

    def _cells(self):
        """Header and rows of the table as strings; how many columns are labels. Repeated labels are left out."""
        table = self._table()
        labels = table.index.nlevels if self._index else 0
        names = [name or "" for name in table.index.names] if labels else []
        header = [*map(str, names), *(_heading(c) for c in table.columns)]
        rows, last = [], None
        for key, values in zip(table.index, table.itertuples(index=False, name=None)):
            key = key if isinstance(key, tuple) else (key,)
            shown = ["" if last is not None and labels > 1 and key[:j + 1] == last[:j + 1] else str(k)
                     for j, k in enumerate(key)]
            rows.append((shown if labels else []) + [_cell(v) for v in values])
            last = key
        if not labels:                                             # columns of words count as labels
            labels = next((j for j, v in enumerate(table.dtypes) if v.kind == "f"), 0)
        return header, rows, labels

    def as_text(self):
        """The table as text of fixed width."""
        halves = self._halves()
        widths = [max(least, *(len(row[j]) for row in halves)) if halves else least
                  for j, least in enumerate((20, 28, 20, 16))]
        lines = ["".join((f"{a:<{widths[0]}}", f"{b:>{widths[1]}}", "   ", f"{c:<{widths[2]}}", f"{d:>{widths[3]}}"))
                 for a, b, c, d in halves]
        table = self._table().to_string(index=self._index, float_format=number).split("\n")
        width = max(map(len, lines + table))
        if self._ruled is not None:
            table.insert(len(table) - len(self._table()) + self._ruled, "-" * width)
        rule = ["-" * width] if lines else []
        lines = ["=" * width, *lines, *rule, *table, "=" * width, *self._notes()]
        return "\n".join(line.rstrip() for line in lines)

    def as_html(self):
        """The table as HTML, laid out as the text is."""
        top = "".join(_row(zip(row, ("th class='l'", "td", "th class='l m'", "td"))) for row in self._halves())
        header, rows, labels = self._cells()
        kinds, ruled = ["th class='l'"] * labels + ["td"] * (len(header) - labels), self._ruled
        head = _row(zip(header, [kind.replace("td", "th") for kind in kinds]))
        body = "".join(_row(zip(row, kinds), " class='r'" if j == ruled else "") for j, row in enumerate(rows))
        notes = "".join(f"<div>{escape(note)}</div>" for note in self._notes())
        top = f"<table><tbody>{top}</tbody></table>" if top else ""
        return (f"<div class='daskglm_rep'>{STYLE}{top}<table><thead>{head}</thead><tbody>{body}</tbody></table>{notes}"
                "</div>")

    def as_latex(self):
        """The table as LaTeX tabulars; needs the package booktabs."""
        header, rows, labels = self._cells()
        lines = [r"\begin{tabular}{" + "l" * labels + "r" * (len(header) - labels) + "}", r"\toprule",
                 " & ".join(map(latex, header)) + r" \\", r"\midrule",
                 *(" & ".join(map(latex, row)) + r" \\" for row in rows), r"\bottomrule", r"\end{tabular}"]
        if self._ruled is not None:
            lines.insert(4 + self._ruled, r"\midrule")
        halves = [" & ".join(map(latex, row)) + r" \\" for row in self._halves()]
        if halves:
            lines = [r"\begin{tabular}{lrlr}", r"\toprule", *halves, r"\bottomrule", r"\end{tabular}", "", *lines]
        return "\n".join(lines + [r"\par " + latex(note) for note in self._notes()]) + "\n"

    def as_markdown(self):
        """The table in Markdown."""
        header, rows, labels = self._cells()
        rows = [list(map(_markdown, row)) for row in [header, *rows]]
        lines = [rows[0], [":--"] * labels + ["--:"] * (len(header) - labels), *rows[1:]]
        pairs = [f"{a}: {b}" for a, b in itertools.chain(*self._pairs())]
        return "\n\n".join(filter(None, ["  \n".join(pairs), "\n".join(f"| {' | '.join(row)} |" for row in lines),
                                         *self._notes()])) + "\n"

    def as_csv(self):
        """The table alone as CSV, its numbers with all their digits."""
        return self._table().to_csv(index=self._index)

    def __str__(self):
        return self.as_text()

    __repr__ = __str__

    def _repr_html_(self):
        return self.as_html()


def _markdown(text):
    """Text that Markdown shows as it is, on one line: "I(x ** 2)" sets nothing in bold."""
    return re.sub(r"([\\`*<>|$~]|\b_|_\b)", r"\\\1", " ".join(text.splitlines()))


def _row(cells, kind=""):
    return f"<tr{kind}>" + "".join(f"<{tag}>{escape(v)}</{tag[:2]}>" for v, tag in cells) + "</tr>"


def _heading(column):
    return " ".join(str(part) for part in column if part != "") if isinstance(column, tuple) else str(column)


def _cell(value):
    if isinstance(value, (float, np.floating)):
        return "NaN" if pd.isna(value) else number(value)
    return str(value).strip()
