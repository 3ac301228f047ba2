"""What leaves each block, and what comes to it, weighed in the sweep that sends it: one line a block and message."""

import dataclasses

import numpy as np
import pandas as pd

from daskglm_rep import passes

COLUMNS = ["round", "content", "block", "numbers", "bytes", "received"]


@dataclasses.dataclass(frozen=True)
class Weighed:
    """A summary with what it weighed when it left its blocks.

    Attributes
    ----------
    summary : any summary
    lines : tuple of (block, numbers, bytes)
    """

    summary: object
    lines: tuple

    def merge(self, other):
        return Weighed(self.summary.merge(other.summary), self.lines + other.lines)


class _Weighing:
    """A kernel whose summaries are weighed, under its own name."""

    def __init__(self, kernel):
        self.kernel, self.__name__ = kernel, kernel.__name__

    def __call__(self, block, *arguments):
        summary = self.kernel(block, *arguments)
        return Weighed(summary, ((block.index, *weight_of(summary)),))


def weight_of(value):
    """(numbers, bytes) of all arrays, numbers and texts in a value; what a class says of itself weighs nothing."""
    if isinstance(value, np.ndarray):
        return value.size, value.nbytes
    if isinstance(value, (bool, int, float, np.number)):
        return 1, 8
    if isinstance(value, (str, bytes)):
        return 0, len(value)
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    elif dataclasses.is_dataclass(value):
        value = [getattr(value, f.name) for f in dataclasses.fields(value)]
    if not isinstance(value, (list, tuple)):
        return 0, 0
    parts = [weight_of(v) for v in value]
    return sum(n for n, _ in parts), sum(b for _, b in parts)


class Audit:
    """Sweeps that are weighed.

    Attributes
    ----------
    lines : list of (round, content, block, numbers, bytes, received)
    """

    def __init__(self):
        self.lines = []

    def run(self, number, content, kernel, data, *arguments):
        """`passes.run`, whose summaries and arguments are weighed.

        Parameters
        ----------
        number : int
            Of the round.
        content : str
            What the summaries hold.
        """
        found = passes.run(_Weighing(kernel), data, *arguments)
        received = weight_of(arguments)[1]
        self.lines += sorted((number, content, *line, received) for line in found.lines)
        return found.summary

    def bytes_of(self, number):
        """Bytes that left all blocks in a round."""
        return sum(line[4] for line in self.lines if line[0] == number)

    def table(self):
        """The lines as a DataFrame."""
        return pd.DataFrame(self.lines, columns=COLUMNS)
