"""`BoxesFile`: the boxes that a detector or tracker found in a recording."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from fgmclip.client.gateway.errors import BoxesError
from fgmclip.client.streams.samples import Box
from fgmclip.storage.errors import TextError
from fgmclip.storage.text import one_line, open_text

LONGEST_LINE = 2**20
"""Characters; some thousand boxes."""

LONGEST_TRACK = 128


class _Entry(NamedTuple):
    time: float
    boxes: Mapping[str, Box]


class BoxesFile:
    """Reads the file along with its recording: two lines are in memory, however long it is.

    Each line is an object with `time`, seconds since the first frame, and `boxes`, an object of
    [x0, y0, x1, y1] in pixels by track name; times must not decrease.
    """

    def __init__(self, path: Path, dt: float) -> None:
        """Open a file.

        Args:
            path: The file.
            dt: Distance between samples in seconds.

        Raises:
            BoxesError: It cannot be read.
        """
        self._path = path
        self._reach = dt / 2
        try:
            self._file = open_text(path)
        except TextError as error:
            raise BoxesError(one_line(str(error))) from error
        except OSError as error:
            raise BoxesError(f"{one_line(str(path))}: {error.strerror}") from error
        self._entries = self._read()
        self._before: _Entry | None = None
        self._after: _Entry | None = next(self._entries, None)

    def __enter__(self) -> BoxesFile:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def at(self, time: float) -> Mapping[str, Box]:
        """Return the boxes of the entry nearest to `time` within dt/2, else none.

        Args:
            time: Seconds since the first frame; must not decrease from call to call.

        Raises:
            BoxesError: A line on the way is not what it should be.
        """
        while self._after is not None and self._after.time <= time:
            self._before, self._after = self._after, next(self._entries, None)
        near = [entry for entry in (self._before, self._after) if entry is not None]
        nearest = min(near, key=lambda entry: abs(entry.time - time), default=None)
        if nearest is None or abs(nearest.time - time) > self._reach:
            return {}
        return nearest.boxes

    def _read(self) -> Iterator[_Entry]:
        last = -math.inf
        number = 0
        try:
            while line := self._file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise BoxesError(f"expected at most {LONGEST_LINE} characters a line, got more")
                if not line.strip():
                    continue
                entry = _entry(json.loads(line))
                if entry.time < last:
                    raise BoxesError(f"expected times in order, got {entry.time:g} after {last:g}")
                last = entry.time
                yield entry
        except (OSError, ValueError, RecursionError) as error:
            where = f"{one_line(str(self._path))}, line {number}"
            raise BoxesError(f"{where}: {one_line(str(error))}") from error


def _entry(value: object) -> _Entry:
    if not isinstance(value, dict) or not isinstance(value.get("boxes"), dict):
        raise BoxesError('expected {"time": SECONDS, "boxes": {TRACK: [x0, y0, x1, y1]}}')
    time: object = value.get("time")
    if not isinstance(time, (int, float)) or not _is_number(time):
        raise BoxesError(f"time: expected seconds, got {str(time)[:40]}")
    for track, box in value["boxes"].items():
        if not 0 < len(track) <= LONGEST_TRACK:
            raise BoxesError(f"expected track names of 1 to {LONGEST_TRACK} characters")
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise BoxesError(f"box of {track}: expected 4 numbers, got {str(box)[:40]}")
    return _Entry(float(time), value["boxes"])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
