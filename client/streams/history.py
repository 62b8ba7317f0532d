"""`History`: embeddings of one track's latest samples, the arithmetic of a window that slides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.spec import ModelSpec

Rows = Mapping[str, NDArray[np.float32]]
"""Embeddings by the name of their history input."""

FILLER = 1.0
"""Stands where a young track has no history yet: a cosine with zeros would not be finite."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A kind of embedding that a stream keeps.

    Attributes:
        history: Input that takes the rows of samples encoded earlier.
        new: Output that gives the rows of new samples.
        width: Of a row.
    """

    history: str
    new: str
    width: int


def features(spec: ModelSpec) -> tuple[Feature, ...]:
    """Return the kinds of embedding that a model has."""
    visual = Feature("VISUAL_HISTORY", "VISUAL_NEW", spec.visual.width)
    if spec.motion is None:
        return (visual,)
    return (visual, Feature("MOTION_HISTORY", "MOTION_NEW", spec.motion.width))


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What one track has encoded of a window of T samples; at most T - 1 rows, a new value each.

    Attributes:
        length: T.
        rows: [m,width] of each feature, m up to T - 1, the latest last.
    """

    length: int
    rows: Rows

    @classmethod
    def empty(cls, spec: ModelSpec) -> History:
        """Return the history of a track that has encoded nothing."""
        rows = {item.history: np.empty((0, item.width), np.float32) for item in features(spec)}
        return cls(spec.clip.frames, rows)

    def before(self, new: int) -> dict[str, NDArray[np.float32]]:
        """Return the rows [T-k,width] that stand before k new samples, filled up at the front."""
        wanted = self.length - new
        found = {}
        for name, rows in self.rows.items():
            kept = rows[max(0, len(rows) - wanted) :]
            filler = np.full((wanted - len(kept), rows.shape[1]), FILLER, np.float32)
            found[name] = np.concatenate([filler, kept])
        return found

    def extended(self, rows: Rows) -> History:
        """Return the history after new samples were encoded, given their rows [n,width]."""
        joined = {}
        for name, kept in self.rows.items():
            both = np.concatenate([kept, rows[name]])
            joined[name] = both[max(0, len(both) - self.length + 1) :]
        return History(self.length, joined)
