"""`Outbox`: what was accepted is there, whatever happens, and the disk has its limit."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fgmclip.client.errors import SettingsError
from fgmclip.client.events import outbox_file
from fgmclip.client.events.errors import OutboxError, OutboxInUseError
from fgmclip.client.events.event import Event, event_id
from fgmclip.client.events.outbox import BEYOND_BYTES, SMALLEST_BYTES, Outbox

LIMIT = 2**20


def opened(number: int, label: str = "hug") -> Event:
    return Event(
        id=event_id("door", None, label, number, "wall", "m"),
        camera="door",
        track=None,
        label=label,
        start=float(number),
        end=None,
        peak=0.9,
        peak_time=number + 0.25,
        state="open",
        clock="wall",
        model_tag="m",
    )


def ended(event: Event) -> Event:
    return replace(event, state="ended", end=event.start + 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.sqlite"


@pytest.fixture
def make(path: Path) -> Iterator[Callable[..., Outbox]]:
    made: list[Outbox] = []

    def make_one(*sinks: str, limit: int = LIMIT) -> Outbox:
        for one in made:
            one.close()
        made.append(Outbox(path, limit, sinks))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


def waiting(outbox: Outbox, sink: str) -> list[str]:
    return [message.event.message_id for message in outbox.pending(sink, 10_000)]


def test_messages_come_in_order_and_go_once_every_sink_has_them(
    make: Callable[..., Outbox], path: Path
) -> None:
    outbox = make("a", "b")
    events = [opened(number) for number in range(5)]
    assert all(outbox.accept(event) for event in events)
    first = outbox.pending("a", 3)
    assert [message.event for message in first] == events[:3]
    outbox.delivered("a", first[-1].sequence)
    outbox.delivered("b", first[0].sequence)
    assert waiting(outbox, "a") == [event.message_id for event in events[3:]]
    assert waiting(outbox, "b") == [event.message_id for event in events[1:]]
    assert outbox.status().waiting == {"a": 2, "b": 4} == {s: outbox.waiting(s) for s in "ab"}
    outbox.close()
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT COUNT(*) FROM messages").fetchone() == (4,)
    database.close()


def test_a_message_is_there_once_and_an_end_needs_its_event(make: Callable[..., Outbox]) -> None:
    outbox = make("a")
    event = opened(1)
    assert not outbox.accept(ended(event))
    assert outbox.accept(event)
    assert outbox.accept(event)
    assert outbox.accept(ended(event))
    assert outbox.accept(ended(event))
    assert waiting(outbox, "a") == [event.message_id, ended(event).message_id]
    assert (outbox.status().open, outbox.status().refused) == (0, 0)


def test_a_recording_that_is_watched_again_opens_its_event_again(
    make: Callable[..., Outbox],
) -> None:
    outbox = make("a")
    event = opened(1)
    outbox.accept(event)
    outbox.interrupt_open()
    assert outbox.accept(event)
    assert outbox.accept(ended(event))
    assert waiting(outbox, "a") == [f"{event.id}:{s}" for s in ("open", "interrupted", "ended")]


def test_what_an_earlier_run_left_open_ends_as_interrupted(make: Callable[..., Outbox]) -> None:
    outbox = make("a")
    events = [opened(number) for number in range(3)]
    for event in events:
        outbox.accept(event)
    outbox.accept(ended(events[0]))
    outbox = make("a")
    assert outbox.open_events() == events[1:]
    interrupted = outbox.interrupt_open()
    assert interrupted == [
        replace(event, state="interrupted", end=event.peak_time) for event in events[1:]
    ]
    assert waiting(outbox, "a")[-2:] == [event.message_id for event in interrupted]
    assert outbox.open_events() == outbox.interrupt_open() == []


def test_sinks_come_and_go_between_runs_and_within_one(make: Callable[..., Outbox]) -> None:
    outbox = make("a", "b")
    outbox.accept(opened(1))
    outbox.delivered("a", outbox.pending("a", 1)[0].sequence)
    outbox = make("a", "c")
    assert outbox.status().waiting == {"a": 0, "c": 0}
    assert outbox.status().oldest_seconds == 0
    outbox.accept(opened(2))
    assert waiting(outbox, "a") == waiting(outbox, "c") == [opened(2).message_id]
    assert outbox.pending("b", 1) == []
    outbox.delivered("b", 10**18)
    outbox.set_sinks([])
    assert outbox.accept(opened(3))
    assert outbox.status().oldest_seconds == 0
    outbox.set_sinks(["a"])
    assert waiting(outbox, "a") == []


def test_a_second_gateway_is_refused_and_so_is_what_is_no_outbox(
    make: Callable[..., Outbox], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_file, "LOCK_SECONDS", 0.1)
    outbox = make("a")
    outbox.accept(opened(1))
    script = (
        "import sys; from pathlib import Path\n"
        "from fgmclip.client.events import outbox_file\n"
        "from fgmclip.client.events.outbox import Outbox\n"
        "outbox_file.LOCK_SECONDS = 0.1\n"
        "try: Outbox(Path(sys.argv[1]), 2**20, ['a'])\n"
        "except OSError as error: sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert "OutboxInUseError" in done.stderr
    assert "another gateway" in done.stderr
    with pytest.raises(OutboxInUseError):
        Outbox(path, LIMIT, ["a"])
    assert waiting(outbox, "a") == [opened(1).message_id]
    other = path.with_name("other.sqlite")
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE cats (name)")
    database.close()
    with pytest.raises(OutboxError, match="expected an outbox"):
        Outbox(other, LIMIT, ["a"])
    with pytest.raises(OutboxError, match="cannot be"):
        Outbox(path.with_name("missing") / "outbox.sqlite", LIMIT, ["a"])
    with pytest.raises(SettingsError, match=r"at least 0\.25"):
        Outbox(path, SMALLEST_BYTES - 1, ["a"])


def size(path: Path) -> int:
    files = (path, path.with_name(path.name + "-wal"))
    return sum(file.stat().st_size for file in files if file.exists())


@pytest.mark.parametrize("label", ["hug", "a long name of an action, " * 100])
def test_the_limit_refuses_events_but_never_the_end_of_one(
    make: Callable[..., Outbox], path: Path, label: str
) -> None:
    outbox = make("a", limit=SMALLEST_BYTES)
    events = [opened(number, label) for number in range(1000)]
    accepted = [event for event in events if outbox.accept(event)]
    refused = len(events) - len(accepted)
    assert 10 < len(accepted) < len(events)
    assert (outbox.status().accepted, outbox.status().refused) == (len(accepted), refused)
    assert not outbox.accept(ended(events[-1]))
    assert outbox.status().refused == refused
    for event in accepted:
        assert outbox.accept(ended(event))
    assert outbox.status().bytes == size(path)
    assert path.stat().st_size <= SMALLEST_BYTES
    assert outbox.waiting("a") == 2 * len(accepted)
    # What was delivered makes room again.
    outbox.delivered("a", outbox.pending("a", 10_000)[-1].sequence)
    while outbox.pending("a", 1):
        outbox.delivered("a", outbox.pending("a", 10_000)[-1].sequence)
    assert outbox.accept(events[-1])


def test_room_is_used_again_however_long_it_runs(make: Callable[..., Outbox], path: Path) -> None:
    outbox = make("a", "b", limit=SMALLEST_BYTES)
    largest = 0
    for number in range(600):
        event = opened(number, "a name of some length, " * 8)
        assert outbox.accept(event)
        assert outbox.accept(ended(event))
        if number % 20 == 19:
            for sink in ("a", "b"):
                outbox.delivered(sink, outbox.pending(sink, 100)[-1].sequence)
        largest = max(largest, size(path))
    assert outbox.status().refused == 0
    assert path.stat().st_size <= SMALLEST_BYTES
    assert largest <= SMALLEST_BYTES + BEYOND_BYTES


def test_messages_that_a_sink_refused_are_kept_within_bounds(
    make: Callable[..., Outbox], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_file, "DEAD_ROWS", 3)
    outbox = make("a", "b")
    for number in range(5):
        outbox.accept(opened(number))
        outbox.put_aside("a", outbox.pending("a", 1)[0], f"refused {number}")
    assert outbox.dead() == [("a", f"refused {n}", opened(n)) for n in (2, 3, 4)]
    assert (outbox.status().dead, outbox.waiting("a"), outbox.waiting("b")) == (3, 0, 5)
    monkeypatch.setattr(outbox_file, "DEAD_BYTES", 700)
    outbox.accept(opened(9))
    outbox.put_aside("a", outbox.pending("a", 1)[0], "x" * 10_000)
    assert [event.start for _, _, event in outbox.dead()] == [9.0]
    assert len(outbox.dead()[0][1]) < 500


def damage(path: Path, how: str) -> None:
    if how == "text":
        path.write_text("not a database at all, " * 1000, encoding="utf-8")
    else:
        data = bytearray(path.read_bytes())
        data[4096 : len(data)] = random.Random(0).randbytes(len(data) - 4096)
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["text", "pages"])
def test_a_damaged_file_is_moved_aside_and_said(
    make: Callable[..., Outbox], path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = make("a")
    outbox.accept(opened(1))
    outbox.close()
    damage(path, how)
    damaged = path.read_bytes()
    outbox = make("a")
    aside = outbox.status().damaged
    assert aside is not None
    assert Path(aside).read_bytes() == damaged
    assert aside in caplog.text
    assert outbox.accept(opened(2))
    assert waiting(outbox, "a") == [opened(2).message_id]


def test_a_file_that_is_damaged_while_it_runs_is_replaced(
    make: Callable[..., Outbox], path: Path
) -> None:
    outbox = make("a", limit=2**25)
    # More than SQLite keeps in memory.
    for number in range(200):
        outbox.accept(opened(number, "a long name of an action, " * 800))
    outbox = make("a", limit=2**25)
    old = outbox.pending("a", 1)
    damage(path, "pages")
    assert len(outbox.pending("a", 200)) < 200
    events = [opened(number) for number in range(1000, 1100)]
    assert all(outbox.accept(event) for event in events)
    assert outbox.status().damaged is not None
    # What a sink had of the old file says nothing about the new one.
    outbox.delivered("a", old[-1].sequence)
    assert waiting(outbox, "a") == [event.message_id for event in events]
    assert outbox.waiting("a") == len(events)
    assert not outbox.accept(ended(opened(0)))


FULL = """
import json, resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_outbox import ended, opened
from fgmclip.client.events.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), 2**23, ["a"])
long = opened(0)
assert outbox.accept(long)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
accepted = [outbox.accept(opened(number)) for number in range(1, 300)]
late = outbox.accept(ended(long))
waiting = outbox.pending("a", 1)
outbox.delivered("a", waiting[0].sequence)
status = outbox.status()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
again = outbox.accept(opened(1000))
print(json.dumps({
    "accepted": sum(accepted), "refused": status.refused, "late": late, "again": again,
    "waiting": [message.event.message_id for message in outbox.pending("a", 1000)],
}))
"""


def test_a_full_disk_refuses_and_the_end_of_an_event_is_made_up_for(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(Path(__file__).parent)],
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert 0 < told["accepted"] < 299
    assert told["refused"] == 299 - told["accepted"]
    assert not told["late"]
    assert told["again"]
    assert told["waiting"][-2:] == [ended(opened(0)).message_id, opened(1000).message_id]
    assert opened(0).message_id not in told["waiting"]


def test_many_threads_accept_and_deliver_at_once(make: Callable[..., Outbox]) -> None:
    outbox = make("a", "b")
    taken: dict[str, list[str]] = {"a": [], "b": []}
    done = threading.Event()

    def produce(camera: int) -> None:
        for number in range(40):
            event = opened(1000 * camera + number)
            assert outbox.accept(event)
            assert outbox.accept(ended(event))

    def consume(sink: str) -> None:
        while not (done.is_set() and outbox.waiting(sink) == 0):
            for message in outbox.pending(sink, 7):
                taken[sink].append(message.event.message_id)
                outbox.delivered(sink, message.sequence)

    producers = [threading.Thread(target=produce, args=(camera,)) for camera in range(4)]
    consumers = [threading.Thread(target=consume, args=(sink,)) for sink in taken]
    for thread in producers + consumers:
        thread.start()
    for thread in producers:
        thread.join()
    done.set()
    for thread in consumers:
        thread.join()
    for messages in taken.values():
        assert len(messages) == len(set(messages)) == 4 * 40 * 2


CRASHES = """
import os, random, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_outbox import ended, opened
from fgmclip.client.events.outbox import Outbox

path, known, random = Path(sys.argv[1]), set(), random.Random(0)

def work(write, start):
    outbox = Outbox(path, 2**26, ["a", "b"])
    for event in outbox.interrupt_open():
        os.write(write, (event.message_id + "\\n").encode())
    def produce(first):
        for number in range(first, first + 10_000):
            for event in (opened(number), ended(opened(number))):
                if outbox.accept(event):
                    os.write(write, (event.message_id + "\\n").encode())
    for first in (start, start + 10_000):
        threading.Thread(target=produce, args=(first,)).start()
    while True:
        for message in outbox.pending("b", 5):
            outbox.delivered("b", message.sequence)

for round in range(24):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(write, round * 100_000)
        finally:
            os._exit(1)
    os.close(write)
    said = bytearray()
    wait = threading.Timer(random.uniform(0.005, 0.12), os.kill, (child, signal.SIGKILL))
    wait.start()
    while data := os.read(read, 65536):
        said += data
    wait.join()
    os.close(read)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the child ended by itself"
    # A line that was not written whole was accepted as well, but nobody was told.
    known |= set(said.decode().split("\\n")[:-1])
outbox = Outbox(path, 2**26, ["a", "b"])
there = [message.event.message_id for message in outbox.pending("a", 10**9)]
assert len(there) == len(set(there))
assert outbox.status().damaged is None
print(len(known), len(known - set(there)), len(there))
"""


def test_what_was_accepted_survives_kill_9(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CRASHES, str(path), str(Path(__file__).parent)],
        capture_output=True,
        check=False,
        timeout=60,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    accepted, missing, there = map(int, done.stdout.split())
    assert missing == 0
    # At most the message of each thread at each of 24 crashes was there and not reported.
    assert 100 < accepted <= there <= accepted + 24 * 3 + 24
