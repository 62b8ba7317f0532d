"""`JsonLinesSink`: events appended to a file, one a line."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from fgmclip.client.events.event import Event
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.storage.atomic import flush_folder


class JsonLinesSink:
    """Appends to a file that others may read, rotate or remove meanwhile.

    A batch is on the disk before `deliver` returns. A line that a crash tore is ended first, so
    that a reader loses that line alone; its event is delivered again.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; it is opened, or made, by the first delivery.

        Args:
            path: The file; its folder must be there.
        """
        self._path = path
        self._file: int | None = None

    def deliver(self, events: Sequence[Event]) -> None:
        """Append the events; see `Sink.deliver`."""
        lines = "".join(json.dumps(event.to_json()) + "\n" for event in events)
        try:
            self._append(self._current(), lines.encode("ascii"))
        except OSError as error:
            self.close()
            raise SinkUnavailableError(f"{self._path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _current(self) -> int:
        """Return the file that stands at the path now, opened."""
        if self._file is not None:
            ours = os.fstat(self._file)
            try:
                there = os.stat(self._path)
            except FileNotFoundError:
                there = None
            if there is not None and (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                return self._file
            self.close()
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            self._append(self._file, b"\n")
        # A new file's name must survive a power cut as well as its lines do.
        flush_folder(self._path.parent)
        return self._file

    @staticmethod
    def _append(file: int, data: bytes) -> None:
        size = os.fstat(file).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fsync(file)
        except OSError:
            # On a full disk every attempt would leave another part of a line.
            os.ftruncate(file, size)
            raise
