"""A site: rows, rules, a ledger, and the only code that looks at the rows."""

import dataclasses
import hashlib
import json

from daskglm_rep import sources
from daskglm_rep.localised.job import Job
from daskglm_rep.localised.ledger import Entry, Ledger
from daskglm_rep.localised.messages import Message
from daskglm_rep.localised.rules import Refused, Rules
from daskglm_rep.readers import open_table

CONTENT = {"survey": "counts, means, squares, guarded ranges, the site's own fit", "moments": "score, informations",
           "effects": "sums of effects and gradients", "points": "sums of parts", "score": "clipped score with noise"}


class Site:
    """Rows that stay, and answers about them.

    Parameters
    ----------
    data : DataFrame or path
        What `daskglm_rep.glm` takes: frames, files and folders of Parquet or CSV.
    rules : Rules or path of a TOML file, optional
        Default: the safe ones.
    name : str
        In answers.
    ledger : path, optional
        Folder, private to the site, where what was answered is remembered. Without it the memory ends with the process,
        and with it the protection against differences of answers.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from daskglm_rep.localised import Coordinator, Site
    >>> site = Site(pd.DataFrame({"x": np.arange(8.0), "y": np.arange(8.0) % 2}))
    >>> site.answer(Coordinator("y ~ x", "binomial").question()).facts["reason"]
    'least_rows: the site has fewer than 10 complete rows'
    """

    def __init__(self, data, rules=None, name="site", ledger=None):
        self.rules = Rules() if rules is None else rules if isinstance(rules, Rules) else Rules.read(rules)
        table = open_table(data)
        self.table = sources.rows_of(table, sources.columns_of(table))
        self.name, self.ledger = name, Ledger(ledger)

    @property
    def audit_(self):
        """A line a message, as a DataFrame."""
        return self.ledger.table()

    def answer(self, question):
        """Answer a question, or refuse it.

        Parameters
        ----------
        question : Message or bytes

        Returns
        -------
        Message
            Of kind "refusal", with the rule in its facts, where the rules forbid an answer.
        """
        content = question if isinstance(question, bytes) else question.to_bytes()
        question = Message.from_bytes(content)
        asked = hashlib.sha256(content).hexdigest()
        number = question.facts.get("number")
        head = {"study": str(question.facts.get("study"))[:100], "number": number if type(number) is int else 0,
                "site": self.name, "asked": asked}
        with self.ledger.alone():
            return self._answer(question, content, asked, head)

    def _answer(self, question, content, asked, head):
        rows, n_rows, at, roles = None, 0, None, None
        try:
            self._within_questions(asked)
            job = Job(self, question, asked)
            answer = job.answer()
            rows, n_rows, at, roles = job.rows, job.n_rows, job.at, job.roles
            self._within_budget(answer, job, asked)
            outcome = "answered"
        except Exception as error:           # of a question made by hand: it counts, and its text may quote a row
            outcome = str(error) if isinstance(error, Refused) else f"error: {_private(error)}"
            answer = Message("refusal", {"reason": outcome})
        answer = dataclasses.replace(answer, facts=answer.facts | head)
        sent = outcome == "answered"
        entry = Entry(head["study"], head["number"], question.kind, asked, outcome, n_rows if sent else 0,
                      answer.n_numbers if sent else 0, len(content), len(answer.to_bytes()),
                      CONTENT[answer.kind] if sent else "", answer.kind == "score",
                      hashlib.sha256(rows).hexdigest()[:16] if sent else "", roles if sent else None,
                      at if sent else None)
        self.ledger.add(entry, rows if sent else None)
        return answer

    def _within_questions(self, asked):
        """Refusals count too: each says something about the rows."""
        if all(e.asked != asked for e in self.ledger.entries) and self.ledger.n_questions >= self.rules.most_questions:
            raise Refused(f"most_questions: the site answers {self.rules.most_questions} questions in all")

    def _within_budget(self, answer, job, asked):
        if self.ledger.was_asked(asked):
            return
        most = self.rules.numbers_per_value * job.n_values
        if self.ledger.n_numbers + answer.n_numbers > most:
            raise Refused(f"numbers_per_value: {self.ledger.n_numbers} numbers were sent, {answer.n_numbers} more are "
                          f"asked for, and {most:.0f} may leave in all")


def _private(error):
    """The text of an error that names columns and rules; another one may quote a value of a row."""
    text = str(error)
    return text if text.startswith(("The site's table", "Column ", "The question")) else \
        "the site's rows do not suit the question; the site's own log says why"


def to_json(question):
    """A question as text, for people."""
    return json.dumps(question.facts, indent=1, sort_keys=True)
