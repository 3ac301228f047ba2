"""Where the fits of a path stand between sweeps, and the informations that they share."""

import dataclasses

import numpy as np

MOST_KNOTS = 8


@dataclasses.dataclass(frozen=True)
class Knots:
    """Informations at a few places along the path.

    Attributes
    ----------
    places : (m,) array
        Rising: the share of the null deviance that is explained there.
    trains : (m, K + 1, q, q) array
        Of the training rows of each split, all rows first.
    pilot : (m, q, q) array
    """

    places: np.ndarray
    trains: np.ndarray
    pilot: np.ndarray

    def add(self, place, trains, pilot):
        """With one more, in the stead of one at the same place, or of the first where there are many."""
        kept = np.flatnonzero(np.abs(self.places - place) >= 1e-3)[-MOST_KNOTS:]
        places = np.r_[self.places[kept], place]
        order = np.argsort(places)
        return Knots(places[order], np.concatenate([self.trains[kept], trains[None]])[order],
                     np.concatenate([self.pilot[kept], pilot[None]])[order])

    def mix(self, places):
        """Weights of the knots for Hessians between them, (C, m) array."""
        right = np.clip(np.searchsorted(self.places, places), 1, max(len(self.places) - 1, 1))
        weights = np.zeros((len(places), len(self.places)))
        if len(self.places) == 1:
            return weights + 1.0
        left = right - 1
        share = np.clip((places - self.places[left]) / (self.places[right] - self.places[left]), 0.0, 1.0)
        rows = np.arange(len(places))
        weights[rows, left], weights[rows, right] = 1.0 - share, share
        return weights


@dataclasses.dataclass
class Fits:
    """Where some fits stand: C coefficient vectors, each under a penalty of its own on the training rows of a split.

    Attributes
    ----------
    split : (C,) int array
    places : (C,) array
        Along the path, as for `Knots`.
    strengths : (C, 2) array
    coef, score : (C, q) array
        The best point so far, and the score of the training rows there.
    deviance, value : (C,) array
        Of the training rows, and the objective.
    held_score, held_deviance : (C, q) and (C,) array
        Of the rows held out.
    step : (C, q) array
        To take from there.
    size, left : (C,) array
        Its length in standard errors, and what is thought to be left after it.
    alone : (C,) bool array
        Whether a step led up or stalled: then the pilot is no longer asked, and Newton's method goes on with Hessians
        of its own.
    own : dict of int to (q, q) array
        Those, by fit.
    """

    split: np.ndarray
    places: np.ndarray
    strengths: np.ndarray
    coef: np.ndarray
    score: np.ndarray
    deviance: np.ndarray
    value: np.ndarray
    held_score: np.ndarray
    held_deviance: np.ndarray
    step: np.ndarray
    size: np.ndarray
    left: np.ndarray
    alone: np.ndarray
    own: dict

    @classmethod
    def at(cls, split, places, strengths, coef, score, deviance, value, held_score, held_deviance):
        size = np.full(len(split), np.inf)
        return cls(split, places, strengths, coef, score, deviance, value, held_score, held_deviance,
                   np.zeros_like(coef), size, size.copy(), np.zeros(len(split), bool), {})

    @property
    def end(self):
        """Coefficients after the last steps."""
        return self.coef + np.where(self.left < self.size, 1.0, 0.0)[:, None] * self.step

    def carried(self, deviance, score):
        """A deviance at the ends of the last steps, which are short."""
        return deviance - 2.0 * np.einsum("cq,cq->c", score, self.end - self.coef)
