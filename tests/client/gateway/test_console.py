"""The console: a table in a terminal, lines elsewhere, JSON where asked; it never holds up."""

from __future__ import annotations

import io
import json
import threading
import time
from dataclasses import replace

import pytest
from rich.console import Console

from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.events.courier import CourierStatus
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.console import WAITING, WatchConsole, event_line, table

EVENT = Event("e1", "door", "7", "wave", 10.0, None, 0.87, 11.0, "open", "wall", "tag")
ENDED = replace(EVENT, state="ended", end=12.5)


@pytest.fixture
def board() -> Board:
    board = Board()
    camera = board.camera("door")
    camera.became("live")
    camera.decided(1.0, "wave", 0.87, None, 0.2, 1)
    return board


def plain() -> Console:
    return Console(file=io.StringIO(), width=100, force_terminal=False)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def wait_for(condition: str, console: Console) -> None:
    until = time.monotonic() + 10
    while condition not in written(console):
        assert time.monotonic() < until, f"expected {condition!r}, got {written(console)!r}"
        time.sleep(0.01)


def test_lines_name_camera_track_action_state_and_length() -> None:
    assert event_line(EVENT).plain == "door  track 7  wave  open  87%"
    assert event_line(ENDED).plain == "door  track 7  wave  ended  87%  2.5 s"
    hostile = replace(EVENT, track=None, label="a\x1b[2J\nb")
    assert event_line(hostile).plain == "door  a\\x1b[2J\\nb  open  87%"


def test_events_and_states_are_lines_where_there_is_no_terminal(board: Board) -> None:
    console = plain()
    with WatchConsole(board, console) as watching:
        wait_for("door  live\n", console)
        watching.event(EVENT)
        board.camera("door").became("reconnecting", "timed out")
        wait_for("door  reconnecting: timed out\n", console)
        board.camera("door").became("idle")
        wait_for("timed out\ndoor  idle\n", console)
        # Idle is as good as live: gates open and close all day.
        board.camera("door").became("live")
        watching.event(ENDED)
    lines = written(console).splitlines()
    assert lines[0] == "door  live"
    assert "door  track 7  wave  open  87%" in lines
    assert lines[-1] == "door  track 7  wave  ended  87%  2.5 s"


def test_json_is_events_and_nothing_else(board: Board) -> None:
    console = plain()
    with WatchConsole(board, console, as_json=True) as watching:
        watching.event(EVENT)
        board.camera("door").became("failed", "broken")
        watching.event(ENDED)
    assert [json.loads(line) for line in written(console).splitlines()] == [
        EVENT.to_json(),
        ENDED.to_json(),
    ]


def test_a_terminal_has_a_table_below_the_events(board: Board) -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, legacy_windows=False)
    with WatchConsole(board, console) as watching:
        watching.event(EVENT)
        wait_for("decisions/s", console)
    assert written(console).index("track 7") < written(console).rindex("decisions/s")


def test_the_table_shows_actions_and_causes_servers_and_sinks(board: Board) -> None:
    board.camera("yard").became("stalled", "no frame for 10 s")
    board.watch("endpoints", lambda: (EndpointStatus("h:1", False, 0, 0, 0, 0, 0),))
    board.watch("sinks", lambda: {"mqtt": CourierStatus("mqtt", 4, 0, 1, "refused", 2)})
    console = plain()
    console.print(table(board.snapshot()))
    text = written(console)
    for part in ("wave 87%", "200", "no frame for 10 s", "servers 0/1", "2 waiting (refused)"):
        assert part in text, text


def test_markup_in_a_name_is_text(board: Board) -> None:
    board.camera("door").decided(1.0, "[red]wave[/red]", 0.5, None, 0.2, 1)
    console = plain()
    console.print(table(board.snapshot()))
    assert "[red]wave[/red]" in written(console)


class Stuck(io.StringIO):
    """A reader that stopped reading."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.free.wait(10)
        return super().write(text)


def test_a_reader_that_stopped_holds_nobody_up_and_nothing_grows(board: Board) -> None:
    stuck = Stuck()
    console = Console(file=stuck, width=100, force_terminal=False)
    with WatchConsole(board, console) as watching:
        for _ in range(3 * WAITING):
            watching.event(EVENT)
        assert len(watching._events) <= WAITING
        stuck.free.set()
        wait_for("more events, not shown here", console)


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_left_is_no_failure(board: Board) -> None:
    with WatchConsole(board, Console(file=Closed(), force_terminal=False)) as watching:
        watching.event(EVENT)
    watching.event(EVENT)
