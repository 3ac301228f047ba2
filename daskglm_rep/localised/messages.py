"""Question and answer files: one JSON text and named arrays in a NumPy archive, no pickle.

A message is an `.npz` archive (a zip of `.npy` arrays) that any language reads. Its array `message` holds UTF-8 JSON:

    {"format": "daskglm_rep localised", "version": 1, "kind": "survey" | "moments" | "effects" | "points" |
     "score" | "refusal", "study": text, "number": of the question, "site": name in answers, ...}

The other arrays are float64 or int64 numbers; symmetric matrices travel as their lower triangles, row by row. What each
kind holds is said in `wire`. Readers refuse other versions, kinds that they do not know and arrays of objects.
"""

import dataclasses
import io
import json
import os
import zipfile

import numpy as np

FORMAT, VERSION = "daskglm_rep localised", 1
MOST_BYTES = 2 ** 30
KINDS = ("survey", "moments", "effects", "points", "score", "refusal")


@dataclasses.dataclass(frozen=True)
class Message:
    """A question or an answer.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    facts : dict
        JSON's types: study, number, site and what the kind needs.
    arrays : dict of str to array
    """

    kind: str
    facts: dict
    arrays: dict = dataclasses.field(default_factory=dict)

    def to_bytes(self):
        """The file's content; equal messages give equal bytes."""
        head = {"format": FORMAT, "version": VERSION, "kind": self.kind} | self.facts
        text = np.frombuffer(json.dumps(head, sort_keys=True, allow_nan=False).encode(), np.uint8)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in sorted(({"message": text} | self.arrays).items()):
                entry = io.BytesIO()
                np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), entry.getvalue())         # no time of day inside
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content):
        """Read a message.

        Raises
        ------
        ValueError
            No such file, another version, an unknown kind, arrays of objects.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                if sum(entry.file_size for entry in archive.zip.infolist()) > MOST_BYTES:
                    raise ValueError("unpacks to more than any message holds")
                arrays = {name: archive[name] for name in archive.files}
            head = json.loads(arrays.pop("message").tobytes().decode())
            known = head.pop("format") == FORMAT
        except Exception:              # whatever a file made to do harm raises in numpy, zipfile, zlib and json
            known = False
        if not known:
            raise ValueError("This is no question or answer file of daskglm_rep's localised mode: ask the sender for "
                             "the file as it was written.")
        version, kind = head.pop("version", None), head.pop("kind", None)
        if version != VERSION:
            raise ValueError(f"The message has version {version!r} of the format and this library reads {VERSION}: "
                             "install the same version of daskglm_rep on both sides.")
        if kind not in KINDS:
            raise ValueError(f"The message is of kind {kind!r}, which is none of {', '.join(KINDS)}.")
        if any(a.dtype.kind not in "fi" for a in arrays.values()):
            raise ValueError(f"The {kind} message holds arrays that are no numbers.")
        return cls(kind, head, arrays)

    def write(self, path):
        """Write the file in one piece: who watches a shared folder never reads half of it."""
        part = f"{os.fspath(path)}.part"
        with open(part, "wb") as file:
            file.write(self.to_bytes())
        os.replace(part, path)

    @classmethod
    def read(cls, path):
        with open(path, "rb") as file:
            return cls.from_bytes(file.read())

    @property
    def n_numbers(self):
        """Numbers in its arrays and facts."""
        return sum(a.size for a in self.arrays.values()) + _count(self.facts)


def _count(value):
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_count, value))
    return int(isinstance(value, float))


def triangle(matrix):
    """Lower triangle of a symmetric (k, k) matrix, row by row."""
    return matrix[np.tril_indices(len(matrix))]


def square(triangle_):
    """The symmetric matrix of a lower triangle."""
    k = int((np.sqrt(8 * triangle_.shape[-1] + 1) - 1) / 2 + 0.5)
    matrix = np.empty(triangle_.shape[:-1] + (k, k))
    a, b = np.tril_indices(k)
    matrix[..., a, b] = matrix[..., b, a] = triangle_
    return matrix
