"""`JsonLinesSink`: whole lines, whatever happens to the file."""

from __future__ import annotations

import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fgmclip.client.events.event import Event
from fgmclip.client.sinks.errors import SinkUnavailableError
from fgmclip.client.sinks.jsonl import JsonLinesSink

MakeEvent = Callable[..., Event]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


@pytest.fixture
def sink(path: Path) -> Iterator[JsonLinesSink]:
    made = JsonLinesSink(path)
    yield made
    made.close()
    made.close()


def events_in(path: Path) -> list[Event]:
    return [
        Event.from_json(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()
    ]


def test_events_are_lines_that_read_back(
    sink: JsonLinesSink, path: Path, make_event: MakeEvent
) -> None:
    events = [make_event(1, label='line\n"break" \u2028 \ud800'), make_event(2, track="7")]
    sink.deliver(events)
    sink.deliver([make_event(3)])
    assert path.read_bytes().count(b"\n") == 3
    assert events_in(path) == [*events, make_event(3)]
    assert (
        json.loads(path.read_text(encoding="utf-8").splitlines()[2])["message_id"]
        == make_event(3).message_id
    )


def test_a_line_torn_by_a_crash_costs_that_line_alone(path: Path, make_event: MakeEvent) -> None:
    path.write_text('{"id": "whole"}\n{"id": "to', encoding="utf-8")
    sink = JsonLinesSink(path)
    sink.deliver([make_event()])
    sink.close()
    assert path.read_text(encoding="utf-8").splitlines()[:2] == ['{"id": "whole"}', '{"id": "to']
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[2])["id"] == make_event().id


@pytest.mark.parametrize("how", ["moved", "removed", "emptied"])
def test_a_file_that_was_rotated_is_opened_again(
    sink: JsonLinesSink, path: Path, make_event: MakeEvent, how: str
) -> None:
    sink.deliver([make_event(1)])
    if how == "moved":
        path.rename(path.with_suffix(".1"))
    elif how == "removed":
        path.unlink()
    else:
        os.truncate(path, 0)
    sink.deliver([make_event(2)])
    assert events_in(path) == [make_event(2)]


def test_a_full_disk_leaves_no_half_lines(
    sink: JsonLinesSink, path: Path, make_event: MakeEvent
) -> None:
    sink.deliver([make_event(1)])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, hard))
    try:
        for _ in range(3):
            with pytest.raises(SinkUnavailableError, match="File too large"):
                sink.deliver([make_event(2)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert events_in(path) == [make_event(1)]
    sink.deliver([make_event(2)])
    assert events_in(path) == [make_event(1), make_event(2)]


def test_a_folder_that_is_not_there_is_waited_for(tmp_path: Path, make_event: MakeEvent) -> None:
    sink = JsonLinesSink(tmp_path / "later" / "events.jsonl")
    with pytest.raises(SinkUnavailableError, match="No such file"):
        sink.deliver([make_event()])
    (tmp_path / "later").mkdir()
    sink.deliver([make_event()])
    sink.close()
