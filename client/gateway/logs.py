"""Logs of the gateway: text or JSON lines, without secrets, and bounded by time.

Code logs as everywhere, `log.warning("source lost: %s", cause, extra={"camera": name})`; `camera`
and `event` (an `Event`) in `extra` become fields.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TextIO

from fgmclip.client.events.event import Event
from fgmclip.client.gateway.secrets import redact
from fgmclip.storage.text import one_line

LogFormat = Literal["text", "json"]

FIRST_PAUSE_SECONDS = 60.0
"""A warning that was written is not written again for so long, then twice as long, ..."""

LONGEST_PAUSE_SECONDS = 3600.0

_KEYS = 1024
_DURATION = re.compile(r"\d+(?:\.\d+)?(?= ?(?:ms|s|seconds?|minutes?)\b)")
Hide = Callable[[str], str]
"""Returns a text without the secrets in it."""

_QUIET = ("asyncio", "httpcore", "httpx", "paho", "uvicorn")
"""Libraries that tell of every request at level INFO."""


def _fields(record: logging.LogRecord, hide: Hide) -> dict[str, Any]:
    """Return what a line says, without secrets."""
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
            timespec="milliseconds"
        ),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": hide(record.getMessage()),
    }
    camera, event = getattr(record, "camera", None), getattr(record, "event", None)
    if camera is not None:
        fields["camera"] = hide(str(camera))
    if isinstance(event, Event):
        fields["event"] = event.to_json()
        fields.setdefault("camera", event.camera)
    if repeated := getattr(record, "repeated", 0):
        fields["repeated"] = repeated
    if trace := _trace(record):
        fields["exception"] = hide(trace)
    return fields


def _trace(record: logging.LogRecord) -> str:
    if record.exc_info and not record.exc_text:
        record.exc_text = logging.Formatter().formatException(record.exc_info)
    return record.exc_text or ""


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def __init__(self, hide: Hide = redact) -> None:
        """Take over what hides secrets."""
        super().__init__()
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """Return the line: time (ISO 8601, UTC), level, logger, message, camera, event, ..."""
        return json.dumps(_fields(record, self._hide), default=str)


class TextFormatter(logging.Formatter):
    """One line a record, for people; a traceback follows indented."""

    def __init__(self, hide: Hide = redact) -> None:
        """Take over what hides secrets."""
        super().__init__()
        self._hide = hide

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = _fields(record, self._hide)
        camera = f" [{one_line(fields['camera'])}]" if "camera" in fields else ""
        line = f"{fields['time']} {fields['level']}{camera}: {one_line(fields['message'])}"
        if "repeated" in fields:
            line += f" (and {fields['repeated']} more like it since the last)"
        if "exception" in fields:
            line += "\n" + "\n".join("  " + part for part in fields["exception"].splitlines())
        return line


@dataclass(slots=True)
class _Repeats:
    record: logging.LogRecord
    until: float
    pause: float
    held_back: int = 0


class GatewayHandler(logging.StreamHandler[TextIO]):
    """Writes lines, and a warning that repeats itself ever more rarely, with a count.

    Two warnings are the same where logger, level, camera and text agree but for durations: a
    camera that is down for a day takes about thirty lines.
    """

    def __init__(
        self,
        log_format: LogFormat,
        stream: TextIO | None = None,
        *,
        hide: Hide = redact,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to a stream.

        Args:
            log_format: Text for people or JSON lines for machines.
            stream: Where to write; standard error if None.
            hide: Every text passes through it.
            clock: Monotonic seconds.
        """
        super().__init__(stream)
        self._standard_error = stream is None
        self._clock = clock
        self._repeats: OrderedDict[tuple[str, int, str, str], _Repeats] = OrderedDict()
        self.setFormatter(JsonFormatter(hide) if log_format == "json" else TextFormatter(hide))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it where it was written not long ago."""
        if self._standard_error:
            # Looked up anew: a live table in the terminal puts itself in between.
            self.stream = sys.stderr
        now = self._clock()
        self._settle(now)
        if record.levelno < logging.WARNING:
            super().emit(record)
            return
        try:
            # As text, so that a record that is kept keeps no frames and no arguments alive.
            record.msg, record.args = record.getMessage(), None
            record.exc_text, record.exc_info = _trace(record), None
        except Exception:
            self.handleError(record)
            return
        text = _DURATION.sub("#", record.msg)
        key = (record.name, record.levelno, str(getattr(record, "camera", "")), text)
        repeats = self._repeats.get(key)
        if repeats is None:
            self._repeats[key] = _Repeats(record, now + FIRST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS)
            if len(self._repeats) > _KEYS:
                self._tell(self._repeats.popitem(last=False)[1])
            super().emit(record)
        else:
            repeats.held_back += 1
            repeats.record = record

    def close(self) -> None:
        """Write what was held back."""
        with self.lock or nullcontext():
            for repeats in self._repeats.values():
                self._tell(repeats)
            self._repeats.clear()
        super().close()

    def _settle(self, now: float) -> None:
        """Write what repeated itself in pauses that are over; forget what did not."""
        for key, repeats in list(self._repeats.items()):
            if now < repeats.until:
                continue
            if repeats.held_back == 0:
                del self._repeats[key]
                continue
            self._tell(repeats)
            repeats.held_back = 0
            repeats.pause = min(2 * repeats.pause, LONGEST_PAUSE_SECONDS)
            repeats.until = now + repeats.pause

    def _tell(self, repeats: _Repeats) -> None:
        if repeats.held_back:
            if repeats.held_back > 1:
                repeats.record.__dict__["repeated"] = repeats.held_back - 1
            super().emit(repeats.record)


@contextmanager
def gateway_logs(
    log_format: LogFormat,
    *,
    hide: Hide = redact,
    level: int = logging.INFO,
    stream: TextIO | None = None,
) -> Iterator[None]:
    """Send all logs of this process to one place while the block runs.

    Args:
        log_format: Text for people or JSON lines for machines.
        hide: Every text passes through it, `Secrets.redact` for example.
        level: Lowest level that is written.
        stream: Where to write; standard error if None.
    """
    handler = GatewayHandler(log_format, stream, hide=hide)
    root = logging.getLogger()
    before = (root.level, {name: logging.getLogger(name).level for name in _QUIET})
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        root.setLevel(before[0])
        for name, old in before[1].items():
            logging.getLogger(name).setLevel(old)
