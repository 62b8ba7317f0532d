"""Logs: one line a record, no secrets, and a warning that repeats itself fills no disk."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from fgmclip.client.events.event import Event
from fgmclip.client.gateway.logs import (
    FIRST_PAUSE_SECONDS,
    GatewayHandler,
    LogFormat,
    gateway_logs,
)
from fgmclip.client.gateway.secrets import Secrets

EVENT = Event("e1", "door", None, "wave", 10.0, None, 0.9, 11.0, "open", "wall", "tag")


class Time:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Logs:
    """A logger of its own, what it wrote, and a clock."""

    def __init__(self, log_format: LogFormat) -> None:
        self.stream = io.StringIO()
        self.clock = Time()
        self.handler = GatewayHandler(log_format, self.stream, clock=self.clock)
        self.log = logging.Logger("fgmclip.test")
        self.log.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()

    @property
    def fields(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@pytest.fixture
def text() -> Iterator[Logs]:
    logs = Logs("text")
    yield logs
    logs.handler.close()


@pytest.fixture
def as_json() -> Iterator[Logs]:
    logs = Logs("json")
    yield logs
    logs.handler.close()


def test_json_has_time_level_camera_event_and_message(as_json: Logs) -> None:
    as_json.log.warning("source lost: %s", "timed\nout", extra={"camera": "door"})
    as_json.log.info("event", extra={"event": EVENT})
    lost, event = as_json.fields
    assert datetime.fromisoformat(lost.pop("time")).utcoffset() is not None
    assert lost == {
        "level": "warning",
        "logger": "fgmclip.test",
        "camera": "door",
        "message": "source lost: timed\nout",
    }
    assert event["camera"] == "door"
    assert event["event"] == EVENT.to_json()


def test_text_is_one_line_whatever_is_in_it(text: Logs) -> None:
    text.log.info("first\nsecond \x1b[31mred", extra={"camera": "door"})
    (line,) = text.lines
    assert line.endswith("+00:00 info [door]: first\\nsecond \\x1b[31mred")


def test_a_traceback_follows_its_line(text: Logs, as_json: Logs) -> None:
    for logs in (text, as_json):
        try:
            raise ValueError("rtsp://a:hunter2@cam/ broke")
        except ValueError:
            logs.log.exception("camera failed")
    assert text.lines[1].startswith("  Traceback")
    assert "ValueError: rtsp://" in as_json.fields[0]["exception"]
    assert "hunter2" not in text.stream.getvalue() + as_json.stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_written(log_format: LogFormat) -> None:
    secrets = Secrets()
    secrets.add("correct horse")
    stream = io.StringIO()
    with gateway_logs(log_format, hide=secrets.redact, stream=stream):
        log = logging.getLogger("somebody.else")
        log.warning("login %s", "correct horse", extra={"camera": "correct horse"})
        log.warning("rtsp://admin:hunter2@cam/live?token=s3cret9 timed out")
        try:
            raise RuntimeError("correct horse")
        except RuntimeError:
            log.exception("failed")
    written = stream.getvalue()
    assert "timed out" in written
    for secret in ("correct horse", "hunter2", "s3cret9"):
        assert secret not in written


def test_a_camera_that_is_down_for_a_day_takes_few_lines(as_json: Logs) -> None:
    for attempt in range(8640):
        as_json.clock.now = 10.0 * attempt
        as_json.log.warning(
            "source lost: refused; next attempt in %.1f s", attempt % 30, extra={"camera": "door"}
        )
    as_json.handler.close()
    lines = as_json.fields
    assert len(lines) < 40
    # Every warning was written or counted.
    assert len(lines) + sum(line.get("repeated", 0) for line in lines) == 8640


def test_other_cameras_texts_and_levels_are_written(text: Logs) -> None:
    for camera in ("door", "yard"):
        text.log.warning("lost: %s", "refused", extra={"camera": camera})
        text.log.warning("lost: %s", "10.0.0.1:8001", extra={"camera": camera})
        text.log.warning("lost: %s", "10.0.0.2:8001", extra={"camera": camera})
        text.log.error("lost: %s", "refused", extra={"camera": camera})
    assert len(text.lines) == 8


def test_news_are_never_held_back(text: Logs) -> None:
    for _ in range(3):
        text.log.info("reloaded")
    assert len(text.lines) == 3


def test_what_was_held_back_is_told_by_whatever_comes_next(text: Logs) -> None:
    for _ in range(4):
        text.log.warning("disk full")
    assert len(text.lines) == 1
    text.clock.now = FIRST_PAUSE_SECONDS + 1
    text.log.info("hello")
    assert text.lines[1].endswith("warning: disk full (and 2 more like it since the last)")
    assert text.lines[2].endswith("info: hello")


def test_a_warning_that_comes_back_after_a_pause_is_written_at_once(text: Logs) -> None:
    text.log.warning("disk full")
    text.clock.now = FIRST_PAUSE_SECONDS + 1
    text.log.warning("disk full")
    assert len(text.lines) == 2


def test_a_flood_of_different_warnings_is_not_remembered_for_ever(text: Logs) -> None:
    for number in range(3000):
        text.log.warning("strange %d", number)
    assert len(text.handler._repeats) <= 1024


def test_a_kept_record_keeps_nothing_else_alive(text: Logs) -> None:
    import weakref

    class Frames:
        pass

    frames = Frames()
    gone = weakref.ref(frames)
    try:
        raise ValueError("broken")
    except ValueError:
        text.log.exception("%s", frames)
    del frames
    assert gone() is None


def test_a_broken_record_stops_nobody(text: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    text.log.warning("%d", "no number")
    text.log.warning("next")
    assert len(text.lines) == 1


def test_everything_is_as_it_was_afterwards() -> None:
    root, httpx = logging.getLogger(), logging.getLogger("httpx")
    before = (root.level, list(root.handlers), httpx.level)
    stream = io.StringIO()
    with gateway_logs("text", stream=stream):
        logging.getLogger("fgmclip").info("seen")
        httpx.info("GET https://host/?key=1")
    assert (root.level, root.handlers, httpx.level) == before
    assert "seen" in stream.getvalue()
    assert "GET" not in stream.getvalue()


def test_standard_error_is_looked_up_when_it_is_written_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with gateway_logs("text"):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        logging.getLogger("fgmclip").warning("hello")
        assert "hello" in stream.getvalue()
