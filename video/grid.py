"""The time grid: frames at any times become samples at t0 + i dt."""

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


class Grid(Generic[T]):
    """The grid of one source, for frames that are pushed as they come.

    A sample takes the nearest frame if that lies within dt/2, both ends included; of two equally
    near frames the earlier. Points without one are reported as gaps, so indices are contiguous: a
    hole, however long, is one `Gap`. A sample is returned as soon as a frame at or after its time
    has arrived, a gap with the sample after it. Memory is one frame.
    """

    def __init__(self, dt: float) -> None:
        """Start a grid; t0 is the first frame's time.

        Args:
            dt: Distance between samples in seconds.

        Raises:
            GridError: dt is not positive and finite.
        """
        if not (math.isfinite(dt) and dt > 0):
            raise GridError(f"dt must be a positive number of seconds, got {dt}")
        self._dt = dt
        self._origin = 0.0
        self._index = 0
        self._hole: int | None = None
        self._previous: T | None = None

    def add(self, frame: T) -> list[Sample[T] | Gap]:
        """Take the next frame and return the points that it settles, in order.

        Raises:
            GridError: Its time is not finite, does not advance, or lies more than `MAX_INDEX`
                samples after the first; the grid is as it was.
        """
        self._check(frame.time)
        if self._previous is None:
            self._origin = frame.time
        before = frame if self._previous is None else self._previous
        half = self._dt / 2
        settled: list[Sample[T] | Gap] = []
        while (time := self._time(self._index)) <= frame.time:
            since, until = time - before.time, frame.time - time
            if min(since, until) <= half:
                settled += self._close_hole()
                settled.append(Sample(self._index, time, before if since <= until else frame))
                self._index += 1
                continue
            if self._hole is None:
                self._hole = self._index
            # No point before the reach of this frame has one: skip them at once. The division
            # rounds, so the first point in reach is settled by the comparison used above.
            reach = math.ceil((frame.time - half - self._origin) / self._dt) - 1
            self._index = max(self._index + 1, reach)
            while frame.time - self._time(self._index) > half:
                self._index += 1
        self._previous = frame
        return settled

    def finish(self) -> list[Sample[T] | Gap]:
        """Return the points that are left when no frame follows; nothing past the last frame's."""
        left = self._close_hole()
        time = self._time(self._index)
        if self._previous is not None and time - self._previous.time <= self._dt / 2:
            left.append(Sample(self._index, time, self._previous))
            self._index += 1
        return left

    def _check(self, time: float) -> None:
        if not math.isfinite(time):
            raise GridError(f"frame times must be finite seconds, got {time}")
        if self._previous is None:
            return
        if time - self._origin > self._dt * MAX_INDEX:
            raise GridError(f"frame time {time} s is too far from {self._origin} s to count by dt")
        if time <= self._previous.time:
            raise GridError(
                f"frame times must increase, got {time} s after {self._previous.time} s; "
                "drop frames that do not advance"
            )

    def _close_hole(self) -> list[Sample[T] | Gap]:
        if self._hole is None:
            return []
        hole, self._hole = self._hole, None
        return [Gap(hole, self._time(hole), self._index - hole)]

    def _time(self, index: int) -> float:
        return self._origin + index * self._dt


def sample_grid(frames: Iterable[T], dt: float) -> Iterator[Sample[T] | Gap]:
    """Yield the samples at t0 + i dt, where t0 is the first frame's time, as `Grid` takes them.

    Args:
        frames: Frames at strictly increasing times; may be endless.
        dt: Distance between samples in seconds.

    Yields:
        Samples and gaps in the order of their indices.

    Raises:
        GridError: dt is not positive and finite, or a frame's time is not finite, does not
            advance, or lies more than `MAX_INDEX` samples after the first.
    """
    grid: Grid[T] = Grid(dt)
    for frame in frames:
        yield from grid.add(frame)
    yield from grid.finish()
