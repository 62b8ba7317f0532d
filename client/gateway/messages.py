"""What a camera's worker process tells the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from fgmclip.client.events.event import Clock
from fgmclip.client.streams.samples import StreamSample


@dataclass(frozen=True, slots=True)
class Counts:
    """What a worker has counted since it began.

    Attributes:
        frames: Frames decoded.
        samples: Samples made of them.
        dropped: Samples that were thrown away because the gateway did not ask in time.
        gaps: Points of the grid that had no frame.
        reconnects: Times that the source was opened again after it was lost.
        lost: Frames that were damaged or missing.
    """

    frames: int = 0
    samples: int = 0
    dropped: int = 0
    gaps: int = 0
    reconnects: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A source, or the next recording of a folder, was opened.

    Attributes:
        what: The source for people, without secrets.
        width: Of its frames as shown, pixels.
        height: Of its frames as shown, pixels.
        clock: What the times of its samples count.
    """

    what: str
    width: int
    height: int
    clock: Clock


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Samples that wait, in order, the oldest first.

    Attributes:
        samples: At least one; `time` counts seconds of the clock that `Opened` said.
        captured: Unix seconds at which the last of them came out of the source.
        counts: The counts so far.
    """

    samples: tuple[StreamSample, ...]
    captured: float
    counts: Counts


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing new came in the time that the gateway gave.

    Attributes:
        counts: The counts so far.
    """

    counts: Counts


@dataclass(frozen=True, slots=True)
class Lost:
    """A live source broke off; the worker opens it again.

    Attributes:
        cause: Why, in one line, without secrets.
        retry_seconds: Until the next attempt.
    """

    cause: str
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class Damaged:
    """A recording came to its end, but a part of it could not be read.

    Attributes:
        what: Name of its file, for people.
        cause: How much, and why, in one line.
    """

    what: str
    cause: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing will follow.

    Attributes:
        cause: None at a good end; else why, in one line, without secrets.
        counts: The counts at the end.
    """

    cause: str | None
    counts: Counts


Message = Opened | Samples | Waiting | Lost | Damaged | Ended
