"""`WatchConsole`: what `fgmclip watch` shows of cameras and events where it was started."""

from __future__ import annotations

import json
import threading
from collections import deque
from contextlib import suppress
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fgmclip.client.events.event import Event
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.snapshot import CameraSnapshot, CameraState, Snapshot
from fgmclip.storage.text import one_line

REFRESH_SECONDS = 0.5

WAITING = 1000
"""Events that wait to be printed; a reader that is slower than this misses events here."""

STYLES: dict[CameraState, str] = {
    "starting": "dim",
    "live": "green",
    "idle": "cyan",
    "stalled": "yellow",
    "reconnecting": "yellow",
    "ended": "dim",
    "failed": "bold red",
}


class WatchConsole:
    """Prints events as they come; in a terminal below them a table of the cameras.

    Printing has a thread of its own, so a reader that stops reading holds up no camera. Use it in
    a `with` statement.
    """

    def __init__(self, board: Board, console: Console, *, as_json: bool = False) -> None:
        """Take over where to print.

        Args:
            board: What to show.
            console: Where to print: a table in a terminal, plain lines anywhere else.
            as_json: One JSON object an event (`Event.to_json`) and nothing else.
        """
        self._board = board
        self._console = console
        self._as_json = as_json
        self._events: deque[Event] = deque()
        self._missed = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._states: dict[str, tuple[CameraState, str]] = {}
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)

    def __enter__(self) -> WatchConsole:
        """Begin to print."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Print what waits, and stop."""
        self._ending.set()
        self._wake.set()
        self._thread.join(timeout=5.0)

    def event(self, event: Event) -> None:
        """Print an event soon; returns at once."""
        with self._lock:
            if len(self._events) < WAITING:
                self._events.append(event)
            else:
                self._missed += 1
        self._wake.set()

    def _run(self) -> None:
        # Whoever read us has gone, or the disk is full: events go on to their sinks.
        with suppress(OSError, ValueError):
            if self._as_json or not self._console.is_terminal:
                self._loop(None)
                return
            with Live(
                console=self._console, auto_refresh=False, vertical_overflow="ellipsis"
            ) as live:
                self._loop(live)

    def _loop(self, live: Live | None) -> None:
        while True:
            ending = self._ending.is_set()
            self._wake.clear()
            self._print_events()
            if live is not None:
                live.update(table(self._board.snapshot()), refresh=True)
            elif not self._as_json:
                self._print_states()
            if ending:
                return
            self._wake.wait(REFRESH_SECONDS)
            if live is not None:
                # Events that come fast must not redraw the table as fast.
                self._ending.wait(REFRESH_SECONDS / 5)

    def _print_events(self) -> None:
        with self._lock:
            events, missed = list(self._events), self._missed
            self._events.clear()
            self._missed = 0
        for event in events:
            if self._as_json:
                self._write(json.dumps(event.to_json(), allow_nan=False))
            else:
                self._print(event_line(event))
        if missed and not self._as_json:
            self._print(Text(f"{missed} more events, not shown here"))

    def _print_states(self) -> None:
        cameras = self._board.snapshot().cameras
        for camera in cameras:
            # The gate opens and closes with every passer-by: not worth a line.
            state = "live" if camera.state == "idle" else camera.state
            if self._states.get(camera.name) != (state, camera.cause):
                self._states[camera.name] = (state, camera.cause)
                self._print(state_line(camera))
        for gone in self._states.keys() - {camera.name for camera in cameras}:
            del self._states[gone]

    def _print(self, line: Text) -> None:
        if self._console.is_terminal:
            self._console.print(line, soft_wrap=True)
        else:
            self._write(line.plain)

    def _write(self, line: str) -> None:
        # Not through rich, which would end the program where nobody reads any more.
        self._console.file.write(line + "\n")
        self._console.file.flush()


def event_line(event: Event) -> Text:
    """Return one line: camera, track, action, probability, and how long it took."""
    line = Text(f"{event.camera}  ", "bold")
    if event.track is not None:
        line.append(f"track {one_line(event.track)}  ")
    line.append(one_line(event.label), "bold green" if event.state == "open" else "")
    line.append(f"  {event.state}  {event.peak:.0%}")
    if event.end is not None:
        line.append(f"  {event.end - event.start:.1f} s", "dim")
    return line


def state_line(camera: CameraSnapshot) -> Text:
    """Return one line: camera, state, and why it is not live."""
    line = Text(f"{camera.name}  ", "bold")
    line.append(camera.state, STYLES[camera.state])
    if camera.cause:
        line.append(f": {one_line(camera.cause)}")
    return line


def table(snapshot: Snapshot) -> Group:
    """Return the cameras as a table, and a line on servers, outbox and sinks."""
    grid = Table(expand=True)
    grid.add_column("camera", no_wrap=True, ratio=2)
    grid.add_column("state", no_wrap=True)
    grid.add_column("action", no_wrap=True, ratio=4)
    for heading in ("decisions/s", "dropped", "skipped", "p95 ms"):
        grid.add_column(heading, justify="right", no_wrap=True)
    for camera in snapshot.cameras:
        latency = "" if camera.latency_p95 is None else f"{1000 * camera.latency_p95:.0f}"
        grid.add_row(
            camera.name,
            Text(camera.state, STYLES[camera.state]),
            _action(camera),
            f"{camera.decisions_per_second:.1f}",
            str(camera.dropped),
            str(camera.skipped),
            latency,
        )
    return Group(grid, _services(snapshot))


def _action(camera: CameraSnapshot) -> Text:
    if camera.cause:
        return Text(one_line(camera.cause), "yellow")
    return Text(", ").join(
        Text("" if action.track is None else f"{one_line(action.track)}: ")
        .append(one_line(action.label), "bold")
        .append(f" {action.probability:.0%}")
        for action in camera.actions
    )


def _services(snapshot: Snapshot) -> Text:
    healthy = sum(endpoint.healthy for endpoint in snapshot.endpoints)
    line = Text(f"servers {healthy}/{len(snapshot.endpoints)}", "" if healthy else "bold red")
    if snapshot.outbox is not None and snapshot.outbox.refused:
        line.append(f"   outbox full: {snapshot.outbox.refused} events refused", "bold red")
    for sink in snapshot.sinks:
        line.append(f"   {sink.sink}: {sink.delivered} delivered, {sink.waiting} waiting")
        if sink.last_error:
            line.append(f" ({one_line(sink.last_error)})", "yellow")
    return line
