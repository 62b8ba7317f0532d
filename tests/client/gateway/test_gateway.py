"""`Gateway`: reloads while servers or the disk are out, without a server."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fgmclip.client.errors import SettingsError
from fgmclip.client.events.errors import OutboxError
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import Outbox
from fgmclip.client.events.outbox_file import OutboxFile
from fgmclip.client.gateway import gateway as gateway_module
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.gateway import Gateway
from fgmclip.client.gateway.settings import WatchSettings

PATIENCE_SECONDS = 30.0
"""For a busy machine; nothing here takes so long."""

EVENT = Event("1" * 32, "door", None, "hug", 1.0, None, 0.9, 1.5, "open", "wall", "m")

MakeSettings = Callable[..., WatchSettings]


@pytest.fixture(autouse=True)
def short_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(gateway_module, "DRAIN_SECONDS", 0.1)


@pytest.fixture
def make_settings(tmp_path: Path) -> MakeSettings:
    """Settings of a camera whose servers do not answer."""

    def make(port: int = 1, **fields: Any) -> WatchSettings:
        settings: dict[str, Any] = {
            "servers": {"urls": [f"127.0.0.1:{port}"], "decision_seconds": 2 * PATIENCE_SECONDS},
            "cameras": [{"name": "door", "source": str(tmp_path / "door.mp4")}],
            "outbox": {"path": tmp_path / "outbox.sqlite", "limit_mb": 1},
            "sinks": {"jsonl": {"path": tmp_path / "one.jsonl"}},
        }
        return WatchSettings.of(**settings | fields)

    return make


def fail(*arguments: object) -> None:
    raise sqlite3.OperationalError("database or disk is full")


def sinks(board: Board) -> list[str]:
    return [sink.sink for sink in board.snapshot().sinks]


def test_sinks_that_cannot_be_changed_go_on(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board, webhook = Board(), {"webhook": {"url": "http://127.0.0.1:1/"}}
    with Gateway(make_settings(), board, report=lambda event: None) as gateway:
        with monkeypatch.context() as patch:
            patch.setattr(OutboxFile, "set_sinks", fail)
            with pytest.raises(OutboxError, match="disk is full"):
                gateway.reload(make_settings(sinks=webhook))
            assert sinks(board) == ["jsonl"]
        refused = {"mqtt": {"url": "mqtts://127.0.0.1:1", "ca_file": tmp_path / "gone.pem"}}
        with monkeypatch.context() as patch:
            # Going back to the old ones must not be needed.
            patch.setattr(Outbox, "open_events", fail)
            with pytest.raises(SettingsError, match="ca_file"):
                gateway.reload(make_settings(sinks=refused))
        assert sinks(board) == ["jsonl"]
        gateway.reload(make_settings(sinks=webhook))
        assert sinks(board) == ["webhook"]


def test_a_reload_leaves_servers_that_are_out(make_settings: MakeSettings) -> None:
    with Gateway(make_settings(), Board(), report=lambda event: None) as gateway:
        reload = threading.Thread(target=gateway.reload, args=(make_settings(port=2),))
        reload.start()
        reload.join(PATIENCE_SECONDS)
        assert not reload.is_alive()


def test_an_end_that_the_disk_failed_over_is_told_once_it_is_there(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(tmp_path / "outbox.sqlite", 2**20, ["jsonl"])
    outbox.accept(EVENT)
    outbox.close()
    monkeypatch.setattr(gateway_module, "MAKE_UP_SECONDS", -1.0)
    board, told = Board(), list[Event]()
    with monkeypatch.context() as patch:
        patch.setattr(OutboxFile, "remove_open", fail)
        gateway = Gateway(make_settings(), board, report=told.append)
        gateway.__enter__()
    try:
        assert told == []
        gateway.wait(0.0)
        assert [(event.id, event.state) for event in told] == [(EVENT.id, "interrupted")]
        assert board.snapshot().events == tuple(told)
        gateway.wait(0.0)
        assert len(told) == 1
    finally:
        gateway.__exit__(None, None, None)
