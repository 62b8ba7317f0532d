"""`Outbox`: accepted events wait on disk until every sink has them."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fgmclip.client.errors import SettingsError
from fgmclip.client.events.errors import OutboxError
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox_file import CHUNK, OutboxFile, is_damage, move_aside
from fgmclip.client.events.outbox_status import OutboxStatus

SMALLEST_BYTES = 256 * 1024
"""A smaller limit would leave no room for events beside the tables themselves."""

BEYOND_BYTES = 4 * 2**20
"""File and write-ahead log together stay within the limit and this."""

_FILE_BEYOND_BYTES = 2 * 2**20
_ROW_BYTES = 256

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message in the outbox.

    Attributes:
        sequence: Its place; later messages have higher ones.
        event: The event as it was accepted.
    """

    sequence: int
    event: Event


def checked_limit(limit_bytes: int) -> int:
    """Return a limit of the disk that an outbox may take.

    Raises:
        SettingsError: It is too small to be of use.
    """
    if limit_bytes < SMALLEST_BYTES:
        raise SettingsError(
            f"outbox.limit_mb: expected at least {SMALLEST_BYTES / 2**20:g}, "
            f"got {limit_bytes / 2**20:g}"
        )
    return limit_bytes


class Outbox:
    """One SQLite file, for one process and any number of its threads.

    The file does not shrink; the room of what was delivered is used again. A damaged file is moved
    aside, also while running, and a new one takes its place.
    """

    def __init__(self, path: Path, limit_bytes: int, sinks: Iterable[str]) -> None:
        """Open the file, or make it.

        Args:
            path: The file.
            limit_bytes: Disk that it may take, up to `BEYOND_BYTES` more. An event is accepted
                only where the message of its end will have room as well.
            sinks: Names of the sinks; see `set_sinks`.

        Raises:
            SettingsError: `limit_bytes` is too small to be of use.
            OutboxInUseError: Another gateway has the file.
            OutboxError: The file cannot be used.
        """
        self._path = path
        self._limit = checked_limit(limit_bytes)
        self._lock = threading.RLock()
        self._sinks = tuple(dict.fromkeys(sinks))
        self._listeners: dict[str, Callable[[], None]] = {}
        self._places: dict[str, int] = {}
        self._waiting: dict[str, int] = {}
        self._rooms: dict[str, int] = {}
        self._late: dict[str, Event] = {}
        self._made_up: list[Event] = []
        self._accepted = self._refused = 0
        self._damaged: str | None = None
        self._open_file: OutboxFile | None = None
        self._closed = False
        self._run(lambda: None)

    def accept(self, event: Event) -> bool:
        """Put an event's message on the disk.

        Args:
            event: Opened, or an accepted event that ended or was interrupted. A message that
                waits already is not put there twice.

        Returns:
            True once it is committed. False for an opened event where the limit or the disk leaves
            no room, which is counted, and for the end of an event that is not open here. Where the
            disk fails over the end of an open event, that is tried again: see `make_up`.
        """
        with self._lock:
            try:
                accepted = self._run(lambda: self._accept(event))
            except OutboxError as error:
                _log.error("outbox: %s", error)
                accepted = False
                if event.state != "open" and event.id in self._rooms:
                    self._late[event.id] = event
            if event.state == "open":
                self._accepted += accepted
                self._refused += not accepted
            return accepted

    def make_up(self) -> list[Event]:
        """Try again over the ends that the disk failed over; to be called now and then.

        Returns:
            Those that are committed since the last call, by this one or along with a message.
        """
        with self._lock:
            if self._late:
                # Why it failed was said when it first did.
                with suppress(OutboxError):
                    self._run(self._end_late)
            made_up, self._made_up = self._made_up, []
            return made_up

    def pending(self, sink: str, limit: int) -> list[Waiting]:
        """Return the oldest messages that a sink does not have.

        Args:
            sink: Its name.
            limit: How many at most.

        Raises:
            OutboxError: The disk cannot be read.
        """
        with self._lock:
            if sink not in self._places:
                return []
            rows = self._run(lambda: self._file.pending(self._places[sink], limit))
        return [Waiting(sequence, _event(body)) for sequence, body in rows]

    def delivered(self, sink: str, up_to: int) -> None:
        """Take down that a sink has all messages up to a place; they go once every sink has them.

        Where the disk fails over it, it is written with the next one; until then a restart
        delivers them again.
        """
        self._advance(sink, up_to, lambda: None)

    def put_aside(self, sink: str, message: Waiting, cause: str) -> None:
        """Take down that a sink refused a message for good; it and all before it count as handled.

        Args:
            sink: Its name.
            message: The message.
            cause: Why, without secrets.
        """
        body = _body(message.event)
        self._advance(
            sink, message.sequence, lambda: self._file.bury(sink, cause[:_ROW_BYTES], body)
        )

    def dead(self) -> list[tuple[str, str, Event]]:
        """Return sink, cause and event of what is kept of refused messages, oldest first.

        Raises:
            OutboxError: The disk cannot be read.
        """
        rows = self._run(lambda: self._file.dead())
        return [(sink, cause, _event(body)) for sink, cause, body in rows]

    def open_events(self) -> list[Event]:
        """Return the accepted events that have not ended, as they were accepted.

        Raises:
            OutboxError: The disk cannot be read.
        """
        return [_event(body) for body in self._run(lambda: self._file.open_bodies())]

    def interrupt_open(self) -> list[Event]:
        """Interrupt what an earlier run left open; to be called before a run's first event.

        Returns:
            The events, interrupted. Their end is the last time that is known of them, `peak_time`.

        Raises:
            OutboxError: The disk cannot be read.
        """
        events = [
            replace(event, state="interrupted", end=event.peak_time) for event in self.open_events()
        ]
        return [event for event in events if self.accept(event)]

    def set_sinks(self, sinks: Iterable[str]) -> None:
        """Change which sinks there are.

        A new sink gets what is accepted from now on; what waits for one that is gone is dropped.

        Args:
            sinks: Their names.

        Raises:
            OutboxError: The disk cannot be written.
        """
        with self._lock:
            before, self._sinks = self._sinks, tuple(dict.fromkeys(sinks))
            try:
                self._run(lambda: self._load(self._file))
            except OutboxError:
                self._sinks = before
                raise

    def subscribe(self, sink: str, heard: Callable[[], None]) -> None:
        """Call a function after each message that is committed, until the sink is gone.

        Args:
            sink: Its name; it has one function at a time.
            heard: Must return at once; called by the committing thread.
        """
        with self._lock:
            self._listeners[sink] = heard

    def waiting(self, sink: str) -> int:
        """Return how many messages wait for a sink; 0 for one that is gone."""
        with self._lock:
            return self._waiting.get(sink, 0)

    def status(self) -> OutboxStatus:
        """Return how it stands.

        Raises:
            OutboxError: The disk cannot be read.
        """
        with self._lock:
            oldest, dead = self._run(lambda: (self._file.oldest(), self._file.dead_count()))
            files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
            return OutboxStatus(
                accepted=self._accepted,
                refused=self._refused,
                open=len(self._rooms),
                waiting=dict(self._waiting),
                oldest_seconds=0.0 if oldest is None else max(0.0, time.time() - oldest),
                dead=dead,
                bytes=sum(file.stat().st_size for file in files if file.exists()),
                limit_bytes=self._limit,
                damaged=self._damaged,
            )

    def close(self) -> None:
        """Release the file; a second call does nothing."""
        with self._lock:
            if not self._closed:
                self.make_up()
            self._closed = True
            self._drop_file()

    @property
    def _file(self) -> OutboxFile:
        """The file, opened if it is not."""
        if self._open_file is None:
            if self._closed:
                raise OutboxError(f"{self._path}: the outbox is closed")
            file = OutboxFile(self._path, self._limit + _FILE_BEYOND_BYTES)
            try:
                self._load(file)
            except BaseException:
                file.close()
                raise
            self._open_file = file
        return self._open_file

    def _drop_file(self) -> None:
        if self._open_file is not None:
            self._open_file.close()
            self._open_file = None

    def _run(self, work: Callable[[], _T]) -> _T:
        """Do something with the file; if it turns out damaged, with a new one."""
        with self._lock:
            for fresh in (False, True):
                try:
                    assert self._file is not None
                    return work()
                except sqlite3.Error as error:
                    if fresh or not is_damage(error):
                        raise OutboxError(f"{self._path}: {error}") from error
                    self._set_aside(error)
            raise AssertionError("unreachable")

    def _set_aside(self, cause: sqlite3.Error) -> None:
        self._drop_file()
        aside = move_aside(self._path)
        self._damaged = str(aside)
        _log.error(
            "outbox %s: damaged (%s); moved aside to %s with what waited in it, and begun anew",
            self._path,
            cause,
            aside,
        )

    def _load(self, file: OutboxFile) -> None:
        """Bring the file's sinks in line with ours, and what is counted here with the file."""
        with file.transaction():
            known, last = file.sinks(), file.last()
            # In memory a sink may be further than on a disk that failed.
            places = {
                name: max(known.get(name, last), min(self._places.get(name, 0), last))
                for name in self._sinks
            }
            file.set_sinks(places)
        kept, purged = min(places.values(), default=last), CHUNK
        # Only makes room: what a full disk keeps of it goes with what is delivered next.
        with suppress(sqlite3.OperationalError):
            while purged == CHUNK:
                with file.transaction():
                    purged = file.purge(kept)
        self._places = places
        self._waiting = {name: file.count(place, last) for name, place in places.items()}
        self._rooms = file.open_rooms()
        self._listeners = {k: v for k, v in self._listeners.items() if k in places}

    def _accept(self, event: Event) -> bool:
        self._end_late()
        return self._open(event) if event.state == "open" else self._end(event)

    def _end_late(self) -> None:
        for late in list(self._late.values()):
            if self._end(late):
                self._made_up.append(late)
            del self._late[late.id]

    def _open(self, event: Event) -> bool:
        if event.id in self._rooms:
            return True
        body = _body(event)
        # A row takes up to twice its length where pages are badly filled.
        room = 2 * (len(body) + _ROW_BYTES)
        needed = sum(self._rooms.values()) + 3 * room
        if self._file.used_bytes() + needed > self._limit:
            return False
        new = self._is_new(event)
        with self._file.transaction():
            self._file.add_open(event.id, room, body)
            if new:
                self._file.insert(event.message_id, body)
        self._rooms[event.id] = room
        self._tell_new(new)
        return True

    def _end(self, event: Event) -> bool:
        if event.id not in self._rooms:
            return self._file.is_waiting(event.message_id)
        new = self._is_new(event)
        with self._file.transaction():
            self._file.remove_open(event.id)
            if new:
                self._file.insert(event.message_id, _body(event))
        del self._rooms[event.id]
        self._tell_new(new)
        return True

    def _is_new(self, event: Event) -> bool:
        return bool(self._places) and not self._file.is_waiting(event.message_id)

    def _tell_new(self, new: bool) -> None:
        if not new:
            return
        for name in self._waiting:
            self._waiting[name] += 1
        for heard in self._listeners.values():
            heard()

    def _advance(self, sink: str, up_to: int, beside: Callable[[], None]) -> None:
        """Move a sink's place on, and do something else in the same transaction."""
        with self._lock:
            had: int | None = None

            def write() -> None:
                nonlocal had
                had = None
                place = self._places.get(sink, up_to)
                if up_to <= place:
                    return
                had = self._file.count(place, up_to)
                with self._file.transaction():
                    beside()
                    self._file.move_sink(sink, up_to)
                    others = [place for name, place in self._places.items() if name != sink]
                    self._file.purge(min([up_to, *others]))

            try:
                self._run(write)
            except OutboxError as error:
                _log.error("outbox: what %s has could not be written down: %s", sink, error)
            if had is not None and sink in self._places:
                self._places[sink] = max(self._places[sink], up_to)
                self._waiting[sink] -= had


def _body(event: Event) -> str:
    return json.dumps(event.to_json(), separators=(",", ":"))


def _event(body: str) -> Event:
    return Event.from_json(json.loads(body))
