"""`Outbox` on a disk that fails for a while: what ended meanwhile is made up for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fgmclip.client.events.errors import OutboxError
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import Outbox
from fgmclip.client.events.outbox_file import OutboxFile

LIMIT = 2**20

MakeEvent = Callable[..., Event]


def ended(event: Event) -> Event:
    return replace(event, state="ended", end=event.start + 1)


class Disk:
    """Where statements fail as long as `failure` is set."""

    def __init__(self) -> None:
        self.failure: sqlite3.Error | None = None

    def checked(self, statement: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            if self.failure is not None:
                raise self.failure
            return statement(*arguments)

        return run


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk()
    for name in ("remove_open", "set_sinks"):
        monkeypatch.setattr(OutboxFile, name, made.checked(getattr(OutboxFile, name)))
    return made


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "outbox.sqlite", LIMIT, ["a"])
    yield made
    made.close()


def waiting(outbox: Outbox, sink: str = "a") -> list[Event]:
    return [message.event for message in outbox.pending(sink, 100)]


@pytest.fixture
def refused(outbox: Outbox, disk: Disk, make_event: MakeEvent) -> Event:
    """An event over whose end the disk failed; it works again."""
    event = make_event(1)
    assert outbox.accept(event)
    disk.failure = sqlite3.OperationalError("database or disk is full")
    assert not outbox.accept(ended(event))
    assert outbox.make_up() == []
    disk.failure = None
    return event


def test_an_end_needs_no_later_message(outbox: Outbox, refused: Event) -> None:
    heard: list[None] = []
    outbox.subscribe("a", lambda: heard.append(None))
    assert outbox.make_up() == [ended(refused)]
    assert waiting(outbox) == [refused, ended(refused)]
    assert len(heard) == 1
    assert outbox.make_up() == []


def test_couriers_hear_of_an_end_that_a_refused_message_brought_along(
    outbox: Outbox, refused: Event, make_event: MakeEvent
) -> None:
    heard: list[None] = []
    outbox.subscribe("a", lambda: heard.append(None))
    assert not outbox.accept(ended(make_event(2)))
    assert waiting(outbox) == [refused, ended(refused)]
    assert len(heard) == 1
    assert outbox.make_up() == [ended(refused)]


def test_an_end_is_made_up_for_at_the_latest_when_the_outbox_closes(
    outbox: Outbox, refused: Event, tmp_path: Path
) -> None:
    outbox.close()
    again = Outbox(tmp_path / "outbox.sqlite", LIMIT, ["a"])
    try:
        assert again.interrupt_open() == []
        assert waiting(again) == [refused, ended(refused)]
    finally:
        again.close()


def test_sinks_that_could_not_be_written_down_are_not_gone_over_to(
    outbox: Outbox, disk: Disk, make_event: MakeEvent
) -> None:
    disk.failure = sqlite3.OperationalError("attempt to write a readonly database")
    with pytest.raises(OutboxError, match="readonly"):
        outbox.set_sinks(["b"])
    disk.failure = None
    assert outbox.accept(make_event(1))
    assert (waiting(outbox, "a"), waiting(outbox, "b")) == ([make_event(1)], [])


def test_sinks_change_even_if_no_room_can_be_made(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch, make_event: MakeEvent
) -> None:
    full = Disk()
    full.failure = sqlite3.OperationalError("database or disk is full")
    assert outbox.accept(make_event(1))
    monkeypatch.setattr(OutboxFile, "purge", full.checked(OutboxFile.purge))
    outbox.set_sinks(["b"])
    assert outbox.accept(make_event(2))
    assert (waiting(outbox, "a"), waiting(outbox, "b")) == ([], [make_event(2)])
