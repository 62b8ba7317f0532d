"""What a stream reports: a `StreamDecision`, or a `WindowReset`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fgmclip.client.answers import Decision

ResetReason = Literal["gap", "restart", "frames", "release", "tracks"]
"""Why a window starts anew: samples are missing; the source began again; frames of another size,
layout or colour; a release that takes other samples; tracks that are no longer there."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamDecision:
    """The answer for the window that ends with a sample.

    Attributes:
        decision: The answer.
        time: Of the window's last sample, on the stream's clock.
        index: Of the window's last sample on the time grid.
        track: Name of the track; None for the whole frame.
        model_tag: Names the release that answered.
        samples: k, how many samples were encoded for it.
        skipped_decisions: How many were due since the one before and were not made, because the
            stream had moved on; the same for all tracks of a sample.
    """

    decision: Decision
    time: float
    index: int
    track: str | None
    model_tag: str
    samples: int
    skipped_decisions: int


@dataclass(frozen=True, slots=True)
class WindowReset:
    """A window, or the windows of some tracks, were given up; nothing mixes with what follows.

    Attributes:
        reason: Why.
        time: Of the sample with which the new window begins, or which lacks the tracks; of the
            last sample for `release`.
        missing: Points of the time grid without a sample, for `gap`.
        skipped_decisions: How many were due before and were not made.
        ended: Tracks that were there before and are not in this sample.
    """

    reason: ResetReason
    time: float
    missing: int
    skipped_decisions: int
    ended: tuple[str, ...]
