"""`OutboxFile`: the SQLite file of an outbox; its layout, its lock, its statements."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fgmclip.client.events.errors import OutboxError, OutboxInUseError

LOCK_SECONDS = 2.0
"""How long a gateway that has just ended may hold its lock on."""

WAL_PAGES = 256
"""The write-ahead log is emptied into the file at this length: 1 MiB of pages of 4 KiB."""

DEAD_ROWS = 1000
DEAD_BYTES = 2**20
"""What is kept of messages that a sink refused for good; the oldest go first."""

CHUNK = 500
"""Messages that one transaction deletes at most, as its size is that of the log."""

_APPLICATION = 0x46474D43
_LAYOUT = 1

_TABLES = """
CREATE TABLE messages (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL UNIQUE,
    accepted REAL NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE sinks (name TEXT PRIMARY KEY, sequence INTEGER NOT NULL);
CREATE TABLE open (id TEXT PRIMARY KEY, room INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE dead (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    sink TEXT NOT NULL,
    cause TEXT NOT NULL,
    body TEXT NOT NULL
)
"""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is damaged; every other cause has a subclass of its own."""
    return type(error) is sqlite3.DatabaseError


class OutboxFile:
    """The open file; whoever uses it sees to it that one thread does at a time.

    Every method may raise sqlite3.Error; see `is_damage`.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open the file and lock it; make it if there is none.

        Args:
            path: The file.
            max_bytes: Size at which SQLite refuses to let it grow.

        Raises:
            sqlite3.Error: It is damaged, or its disk fails.
            OutboxInUseError: Another gateway has it.
            OutboxError: It cannot be opened, or is something else.
        """
        try:
            self._database = sqlite3.connect(
                path, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise OutboxError(f"{path}: cannot be opened as the outbox: {error}") from error
        self._run = self._database.execute
        try:
            self._prepare(path, max_bytes)
        except sqlite3.OperationalError as error:
            self.close()
            if "locked" in str(error):
                raise OutboxInUseError(
                    f"{path}: another gateway has this outbox; end it, or give this one another "
                    "outbox.path (on a disk of this machine, if none has it: SQLite says the same "
                    "of a network share without locks)"
                ) from error
            raise OutboxError(f"{path}: cannot be used as the outbox: {error}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Empty the log into the file and release it."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what happens inside as a whole, or nothing of it."""
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            # A full disk may have ended the transaction already.
            if self._database.in_transaction:
                self._run("ROLLBACK")
            raise

    def used_bytes(self) -> int:
        """Return the bytes of the file that hold something."""
        pages, free, page_bytes = (
            self._pragma(name) for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * page_bytes

    def last(self) -> int:
        """Return the sequence number that was given last."""
        row = self._run("SELECT seq FROM sqlite_sequence WHERE name = 'messages'").fetchone()
        return int(row[0])

    def insert(self, message_id: str, body: str) -> None:
        """Add a message."""
        self._run(
            "INSERT INTO messages (message_id, accepted, body) VALUES (?, ?, ?)",
            (message_id, time.time(), body),
        )

    def is_waiting(self, message_id: str) -> bool:
        """Whether a message is there."""
        row = self._run("SELECT 1 FROM messages WHERE message_id = ?", (message_id,)).fetchone()
        return row is not None

    def pending(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Return sequence and body of the oldest messages after a place."""
        return self._run(
            "SELECT sequence, body FROM messages WHERE sequence > ? ORDER BY sequence LIMIT ?",
            (after, limit),
        ).fetchall()

    def count(self, after: int, up_to: int) -> int:
        """Return how many messages lie after one place, up to another."""
        row = self._run(
            "SELECT COUNT(*) FROM messages WHERE sequence > ? AND sequence <= ?", (after, up_to)
        ).fetchone()
        return int(row[0])

    def oldest(self) -> float | None:
        """Return when the oldest message was accepted, Unix seconds; None if there is none."""
        row = self._run("SELECT accepted FROM messages ORDER BY sequence LIMIT 1").fetchone()
        return None if row is None else float(row[0])

    def purge(self, up_to: int) -> int:
        """Delete the oldest `CHUNK` of the messages up to a place; return how many there were."""
        return self._run(
            "DELETE FROM messages WHERE sequence IN "
            "(SELECT sequence FROM messages WHERE sequence <= ? ORDER BY sequence LIMIT ?)",
            (up_to, CHUNK),
        ).rowcount

    def sinks(self) -> dict[str, int]:
        """Return the place up to which each sink has the messages."""
        return dict(self._run("SELECT name, sequence FROM sinks"))

    def set_sinks(self, places: Mapping[str, int]) -> None:
        """Replace all that is known of sinks."""
        self._run("DELETE FROM sinks")
        self._database.executemany("INSERT INTO sinks VALUES (?, ?)", places.items())

    def move_sink(self, name: str, place: int) -> None:
        """Change the place of one sink."""
        self._run("UPDATE sinks SET sequence = ? WHERE name = ?", (place, name))

    def add_open(self, event_id: str, room: int, body: str) -> None:
        """Take down that an event is open, and the bytes that its end will need."""
        self._run("INSERT INTO open VALUES (?, ?, ?)", (event_id, room, body))

    def remove_open(self, event_id: str) -> None:
        """Take down that an event is open no more."""
        self._run("DELETE FROM open WHERE id = ?", (event_id,))

    def open_rooms(self) -> dict[str, int]:
        """Return the bytes that the end of each open event will need, by id."""
        return dict(self._run("SELECT id, room FROM open"))

    def open_bodies(self) -> list[str]:
        """Return the open events."""
        return [body for (body,) in self._run("SELECT body FROM open ORDER BY rowid")]

    def bury(self, sink: str, cause: str, body: str) -> None:
        """Keep a message that a sink refused, and of older ones what the bounds allow."""
        self._run("INSERT INTO dead (sink, cause, body) VALUES (?, ?, ?)", (sink, cause, body))
        self._run(
            "DELETE FROM dead WHERE number NOT IN (SELECT number FROM (SELECT number, "
            "SUM(LENGTH(body) + LENGTH(cause)) OVER (ORDER BY number DESC) AS total FROM dead) "
            "WHERE total <= ? ORDER BY number DESC LIMIT ?)",
            (DEAD_BYTES, DEAD_ROWS),
        )

    def dead(self) -> list[tuple[str, str, str]]:
        """Return sink, cause and body of what was buried, oldest first."""
        return self._run("SELECT sink, cause, body FROM dead ORDER BY number").fetchall()

    def dead_count(self) -> int:
        """Return how much is buried."""
        return int(self._run("SELECT COUNT(*) FROM dead").fetchone()[0])

    def _pragma(self, name: str) -> int:
        return int(self._run(f"PRAGMA {name}").fetchone()[0])

    def _prepare(self, path: Path, max_bytes: int) -> None:
        run = self._run
        # Before the log is first looked at: then no other process can open the file until this
        # one ends, however it ends, and no reader can keep the log from being emptied.
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        run(f"PRAGMA journal_size_limit = {WAL_PAGES * self._pragma('page_size')}")
        run(f"PRAGMA max_page_count = {max_bytes // self._pragma('page_size')}")
        (state,) = run("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        found = self._pragma("application_id"), self._pragma("user_version")
        if found != (_APPLICATION, _LAYOUT):
            if run("SELECT 1 FROM sqlite_master").fetchone() is not None:
                raise OutboxError(
                    f"{path}: expected an outbox of layout {_LAYOUT}, got another database or "
                    f"layout ({found[0]:#x}, {found[1]}); move it away, or name another file in "
                    "outbox.path"
                )
            self._make()

    def _make(self) -> None:
        with self.transaction():
            for statement in _TABLES.split(";"):
                self._run(statement)
            # A number is never used again, also not by the file that takes a damaged one's place:
            # what a sink has stays what it has.
            self._run(
                "INSERT INTO sqlite_sequence VALUES ('messages', ?)", (time.time_ns() // 1_000_000,)
            )
            self._run(f"PRAGMA application_id = {_APPLICATION}")
            self._run(f"PRAGMA user_version = {_LAYOUT}")


def move_aside(path: Path) -> Path:
    """Give a damaged file another name, its write-ahead log as well; return the name.

    Raises:
        OutboxError: It cannot be renamed.
    """
    stem = f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    names = (path.with_name(f"{stem}-{number}") for number in range(1000))
    aside = next((name for name in names if not name.exists()), None)
    if aside is None:
        raise OutboxError(f"{path}: is damaged again and again; look at its disk")
    try:
        # The log first: beside a new file it would be taken for the new file's.
        for suffix in ("-wal", "-journal", ""):
            file = path.with_name(path.name + suffix)
            if file.exists():
                file.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise OutboxError(f"{path}: is damaged and cannot be moved aside: {error}") from error
    return aside
