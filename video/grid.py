"""The time grid: frames at any times become samples at t0 + i dt (DESIGN "Time grid")."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from fgmclip.video.errors import GridError

MAX_INDEX = 2**48
"""Largest i; up to here t0 + i dt is exact to a small part of dt."""


class Timed(Protocol):
    """Anything with a time: a frame, a picture not yet converted, a test's stand-in."""

    @property
    def time(self) -> float:
        """When it is shown, in seconds."""


T = TypeVar("T", bound=Timed)


@dataclass(frozen=True, slots=True, eq=False)
class Sample(Generic[T]):
    """One point of the grid with its frame.

    Attributes:
        index: i.
        time: t0 + i dt in seconds; the frame's own time differs by up to dt/2.
        frame: The nearest frame; several samples may share one.
    """

    index: int
    time: float
    frame: T


@dataclass(frozen=True, slots=True)
class Gap:
    """Points of the grid, one after another, that have no frame within dt/2.

    Attributes:
        index: i of the first of them.
        time: t0 + i dt of the first of them, in seconds.
        count: How many they are.
    """

    index: int
    time: float
    count: int


def sample_grid(frames: Iterable[T], dt: float) -> Iterator[Sample[T] | Gap]:
    """Yield the samples at t0 + i dt, where t0 is the first frame's time.

    A sample takes the nearest frame if that lies within dt/2, both ends included; of two equally
    near frames the earlier. Points without one are reported as gaps, so indices are contiguous: a
    hole, however long, is one `Gap`. Nothing is yielded past the last frame's own samples. A sample
    is yielded as soon as a frame at or after its time has arrived, a gap with the sample after it.
    Memory is one frame.

    Args:
        frames: Frames at strictly increasing times; may be endless.
        dt: Distance between samples in seconds.

    Yields:
        Samples and gaps in the order of their indices.

    Raises:
        GridError: dt is not positive and finite, or a frame's time is not finite, does not
            advance, or lies more than `MAX_INDEX` samples after the first.
    """
    if not (math.isfinite(dt) and dt > 0):
        raise GridError(f"dt must be a positive number of seconds, got {dt}")
    half = dt / 2
    origin = 0.0
    index = 0
    hole: int | None = None
    previous: T | None = None
    for frame in frames:
        if not math.isfinite(frame.time):
            raise GridError(f"frame times must be finite seconds, got {frame.time}")
        if previous is None:
            origin = frame.time
        elif frame.time - origin > dt * MAX_INDEX:
            raise GridError(f"frame time {frame.time} s is too far from {origin} s to count by dt")
        elif frame.time <= previous.time:
            raise GridError(
                f"frame times must increase, got {frame.time} s after {previous.time} s; "
                "drop frames that do not advance"
            )
        before = frame if previous is None else previous
        while (time := origin + index * dt) <= frame.time:
            since, until = time - before.time, frame.time - time
            if min(since, until) <= half:
                if hole is not None:
                    yield Gap(hole, origin + hole * dt, index - hole)
                    hole = None
                yield Sample(index, time, before if since <= until else frame)
                index += 1
                continue
            if hole is None:
                hole = index
            # No point before the reach of this frame has one: skip them at once. The division
            # rounds, so the first point in reach is settled by the comparison used above.
            index = max(index + 1, math.ceil((frame.time - half - origin) / dt) - 1)
            while frame.time - (origin + index * dt) > half:
                index += 1
        previous = frame
    if hole is not None:
        yield Gap(hole, origin + hole * dt, index - hole)
    if previous is not None and (time := origin + index * dt) - previous.time <= half:
        yield Sample(index, time, previous)
