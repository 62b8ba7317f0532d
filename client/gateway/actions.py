"""`Actions`: what a camera's tracks do now, and the newest decisions."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from fgmclip.client.gateway.snapshot import DecisionPoint, TrackAction

HISTORY = 120
"""Decisions of a camera that are kept for the line of probability over time."""

TRACKS = 32
"""Tracks of a camera whose current action is kept."""

TRACK_SECONDS = 2.0
"""A track that was decided so long before the camera's newest decision has left."""

TOP = 3
"""Likeliest actions that are kept of each track."""


class Numbers:
    """Numbers the decisions of all cameras."""

    def __init__(self) -> None:
        """Start at 1."""
        self._count = count(1)
        self.last = 0

    def next(self) -> int:
        """Return the next number."""
        # Two threads may store `last` in the wrong order: it then lags, and a decision is shown
        # twice, which its number tells, rather than not at all.
        number = next(self._count)
        self.last = number
        return number


@dataclass(frozen=True, slots=True)
class _Action:
    label: str
    probability: float
    top: tuple[tuple[str, float], ...]
    at: float


class Actions:
    """The decisions of one camera; not for several threads at once."""

    def __init__(self, numbers: Numbers) -> None:
        """Start without a decision.

        Args:
            numbers: Of decisions, shared by all cameras.
        """
        self._numbers = numbers
        self._current: OrderedDict[str | None, _Action] = OrderedDict()
        self._history: deque[DecisionPoint] = deque(maxlen=HISTORY)

    def add(
        self,
        now: float,
        time: float,
        label: str,
        probability: float,
        track: str | None,
        top: Sequence[tuple[str, float]],
    ) -> None:
        """Keep one decision.

        Args:
            now: Monotonic seconds.
            time: Of the last sample in its window, seconds of the camera's clock.
            label: The action.
            probability: Of the likeliest action.
            track: Name of the track; None for the whole frame.
            top: The likeliest actions with their probabilities, likeliest first.
        """
        self._current[track] = _Action(label, probability, tuple(top[:TOP]), now)
        self._current.move_to_end(track)
        if len(self._current) > TRACKS:
            self._current.popitem(last=False)
        self._history.append(DecisionPoint(self._numbers.next(), time, label, probability, track))

    def forget(self) -> None:
        """Begin anew: times of another clock have no place on the same axis."""
        self._history.clear()
        self._current.clear()

    def current(self, now: float) -> tuple[TrackAction, ...]:
        """Return what each track does, the likeliest first.

        Args:
            now: Monotonic seconds.
        """
        newest = max((action.at for action in self._current.values()), default=now)
        current = [
            TrackAction(track, action.label, action.probability, action.top, now - action.at)
            for track, action in self._current.items()
            if action.at >= newest - TRACK_SECONDS
        ]
        return tuple(sorted(current, key=lambda action: -action.probability))

    def history(self, after: int) -> tuple[DecisionPoint, ...]:
        """Return the kept decisions whose number is beyond `after`, oldest first."""
        return tuple(point for point in self._history if point.number > after)
