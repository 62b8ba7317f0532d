"""What signals do to `run_watch`, with a stand-in for the gateway."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fgmclip.client.events.errors import OutboxError
from fgmclip.client.gateway import commands
from fgmclip.client.gateway.commands import WatchArguments, run_watch
from fgmclip.client.gateway.settings import WatchSettings

MOST_WAITS = 6


class FakeGateway:
    """Gets a signal twice in each wait; ends by itself after some."""

    page_url = None
    failed: tuple[str, ...] = ()

    def __init__(self, settings: WatchSettings, board: object, *, report: object) -> None:
        self.waits = 0
        self.reloaded = 0
        FakeGateway.latest = self

    latest: FakeGateway
    number = signal.SIGHUP

    def __enter__(self) -> FakeGateway:
        return self

    def __exit__(self, *exception: object) -> None: ...

    def wait(self, seconds: float) -> bool:
        self.waits += 1
        for _ in range(2):
            signal.raise_signal(self.number)
        return self.waits == MOST_WAITS

    def reload(self, settings: WatchSettings) -> None:
        self.reloaded += 1
        raise OutboxError("outbox.sqlite: database or disk is full")


@pytest.fixture(autouse=True)
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(commands, "Gateway", FakeGateway)
    before = signal.getsignal(signal.SIGHUP)
    # As if this were not there: nobody hears of it.
    signal.signal(signal.SIGHUP, lambda *_: None)
    yield
    signal.signal(signal.SIGHUP, before)


def watch(sources: tuple[str, ...], arguments: WatchArguments) -> FakeGateway:
    console: Any = Console(file=io.StringIO())
    code = run_watch(sources, arguments, log_format="text", as_json=True, console=console)
    assert code == 0
    return FakeGateway.latest


def test_a_reload_that_the_disk_refuses_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "watch.yaml"
    cameras = [{"name": "door", "source": "door.mp4"}]
    config.write_text(
        json.dumps({"servers": {"urls": ["a:1"]}, "cameras": cameras}), encoding="utf-8"
    )
    told = watch((), WatchArguments(config=config))
    assert told.waits == MOST_WAITS
    assert told.reloaded >= MOST_WAITS - 1
    assert "not reloaded, the old settings go on: outbox.sqlite" in capsys.readouterr().err


def test_a_closed_terminal_ends_what_has_no_file_to_read_again() -> None:
    told = watch(("door.mp4",), WatchArguments(urls=("a:1",)))
    assert (told.waits, told.reloaded) == (1, 0)


def test_nohup_goes_on() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    told = watch(("door.mp4",), WatchArguments(urls=("a:1",)))
    assert (told.waits, told.reloaded) == (MOST_WAITS, 0)


def test_a_child_and_its_group_may_be_told_to_end_but_a_second_time_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeGateway, "number", signal.SIGTERM)
    monkeypatch.setattr(commands, "ONE_END_SECONDS", 60.0)
    assert watch(("door.mp4",), WatchArguments(urls=("a:1",))).waits == 1
    monkeypatch.setattr(commands, "ONE_END_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        watch(("door.mp4",), WatchArguments(urls=("a:1",)))
