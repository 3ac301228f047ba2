"""A site's memory: every question and what was answered, the row sets behind it, and the table that people read."""

import contextlib
import dataclasses
import io
import json
import os
import secrets
import threading
from pathlib import Path

import numpy as np
import pandas as pd

try:
    import fcntl
except ImportError:                  # Windows: one process a ledger is the site's to see to
    fcntl = None

_READING = threading.Lock()          # numpy reads headers by ast, which Python 3.11.7 cannot in two threads at once


@dataclasses.dataclass(frozen=True)
class Entry:
    """One message in and one out, a line of the audit.

    Attributes
    ----------
    study, number, kind
        Of the question.
    asked : str
        Digest of the question file.
    answer : str
        "answered", or the rule that refused it.
    rows : int
        Behind the answer.
    numbers, bytes_in, bytes_out : int
        Numbers sent, and both files' sizes.
    content : str
        What the numbers are.
    noisy : bool
        Whether noise was added to all of them but counts.
    rows_digest : str
        Names the set of rows.
    roles : dict or None
        Response, weights, offset and clusters of the question.
    at : dict or None
        Model, design, rare levels and coefficients where scores were taken: later ones must differ by more than few
        rows.
    """

    study: str
    number: int
    kind: str
    asked: str
    answer: str
    rows: int = 0
    numbers: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    content: str = ""
    noisy: bool = False
    rows_digest: str = ""
    roles: dict | None = None
    at: dict | None = None

    @property
    def was_answered(self):
        return self.answer == "answered"


class Ledger:
    """Entries, in memory or in a folder of the site, which never leaves it.

    Parameters
    ----------
    folder : path, optional
        Holds `ledger.jsonl`, the row sets and the secret of the noise.
    """

    def __init__(self, folder=None):
        self.folder, self.entries, self.sets = None if folder is None else Path(folder), [], {}
        self.secret = secrets.randbits(128)
        if self.folder is None:
            return
        (self.folder / "sets").mkdir(parents=True, exist_ok=True)
        with self.alone():
            secret = self.folder / "secret"
            if not secret.exists():
                _write(secret, str(self.secret).encode())
            self.secret = int(secret.read_text())

    @contextlib.contextmanager
    def alone(self):
        """Nobody else answers from the folder meanwhile, and what others answered before is read."""
        if self.folder is None:
            yield
            return
        with open(self.folder / "lock", "w") as file:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX)                       # ends with the process, however that ends
            self._read()
            yield

    def _read(self):
        text = self._lines.read_text() if self._lines.exists() else ""
        whole = text[:text.rfind("\n") + 1]
        if whole != text:                    # killed while it wrote: that answer never left
            _write(self._lines, whole.encode())
        self.entries = [Entry(**json.loads(line)) for line in whole.splitlines()]
        paths = (self.folder / "sets").glob("*.npy")
        with _READING:
            self.sets |= {path.stem: np.load(path) for path in paths if path.stem not in self.sets}

    @property
    def _lines(self):
        return self.folder / "ledger.jsonl"

    def add(self, entry, rows=None):
        """Write an entry, and the sorted hashes of its rows where they are new."""
        self.entries.append(entry)
        if rows is not None and entry.rows_digest not in self.sets:
            self.sets[entry.rows_digest] = rows
            if self.folder is not None:
                content = io.BytesIO()
                np.save(content, rows)
                _write(self.folder / "sets" / f"{entry.rows_digest}.npy", content.getvalue())
        if self.folder is not None:
            with open(self._lines, "a") as file:
                file.write(json.dumps(dataclasses.asdict(entry)) + "\n")

    @property
    def answered(self):
        return [e for e in self.entries if e.was_answered]

    def was_asked(self, digest):
        """Whether the very same question was answered: its answer tells nothing new."""
        return any(e.asked == digest for e in self.answered)

    @property
    def n_numbers(self):
        """Sent in answers to different questions."""
        return sum({e.asked: e.numbers for e in self.answered}.values())

    @property
    def n_questions(self):
        return len({e.asked for e in self.entries})

    @property
    def n_noisy(self):
        return len({e.asked for e in self.answered if e.noisy})

    def frozen(self, roles):
        """The first role of a question that an earlier one gave to another column, and that column; None, None.

        Weights and clusters are one column in the site's life, an offset one for each response: two questions that
        differ in them alone would subtract to the rows where they differ.
        """
        for before in (e.roles for e in self.answered):
            if before["weights"] != roles["weights"]:
                return "weights", before["weights"]
            if before["clusters"] and roles["clusters"] and before["clusters"] != roles["clusters"]:
                return "clusters", before["clusters"]
            if before["response"] == roles["response"] and before["offset"] != roles["offset"]:
                return "offset", before["offset"]
        return None, None

    def smallest_atom(self, rows):
        """Rows of the smallest set that unions, sections and differences of this row set and all answered ones make.

        Sums over the sets combine linearly to sums over these atoms and to nothing finer. Twins, rows that are alike,
        count by the ratios in which the sets hold them: none parts one that is in all of them twice from one in once.
        """
        sets = [*self.sets.values(), rows]
        distinct = np.unique(np.concatenate(sets))
        counts = np.zeros((distinct.size, len(sets)), np.int64)
        for j, each in enumerate(sets):
            found, n = np.unique(each, return_counts=True)
            counts[np.searchsorted(distinct, found), j] = n
        most = counts.max(axis=1, initial=1)
        _, atom = np.unique(counts / most[:, None], axis=0, return_inverse=True)
        return int(np.bincount(atom.ravel(), most).min(initial=len(rows)))

    def table(self):
        """A line a message, as a DataFrame: what a data-protection officer reads."""
        columns = [f.name for f in dataclasses.fields(Entry) if f.name not in ("at", "roles", "rows_digest")]
        return pd.DataFrame([[getattr(e, c) for c in columns] for e in self.entries], columns=columns)


def _write(path, content):
    """In one piece, or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(content)
    os.replace(part, path)
