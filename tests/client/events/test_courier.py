"""`Courier`: in order, at least once, for as long as it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fgmclip.client.events import courier
from fgmclip.client.events.courier import Courier, retry_seconds
from fgmclip.client.events.event import Event
from fgmclip.client.events.outbox import Outbox
from fgmclip.client.sinks.errors import SinkRefusedError, SinkUnavailableError


def opened(number: int) -> Event:
    return Event(
        id=f"{number:032x}",
        camera="door",
        track=None,
        label="hug",
        start=float(number),
        end=None,
        peak=0.9,
        peak_time=float(number),
        state="open",
        clock="wall",
        model_tag="m",
    )


class FakeSink:
    """Keeps what it is given; fails as it is told to."""

    def __init__(self) -> None:
        self.had: list[float] = []
        self.sizes: list[int] = []
        self.attempts: list[float] = []
        self.failure: Exception | None = None
        self.never: set[float] = set()
        self.closed = 0
        self.free = threading.Event()
        self.free.set()

    def deliver(self, events: Sequence[Event]) -> None:
        self.attempts.append(time.monotonic())
        self.free.wait()
        if self.failure is not None:
            raise self.failure
        if self.never & {event.start for event in events}:
            raise SinkRefusedError("422")
        self.had += [event.start for event in events]
        self.sizes.append(len(events))

    def close(self) -> None:
        self.closed += 1


def until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("waited for 5 s in vain")


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "outbox.sqlite", 2**20, ["sink"])
    yield made
    made.close()


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


@pytest.fixture
def running(outbox: Outbox, sink: FakeSink, monkeypatch: pytest.MonkeyPatch) -> Iterator[Courier]:
    monkeypatch.setattr(courier, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(courier, "LONGEST_RETRY_SECONDS", 0.05)
    made = Courier("sink", sink, outbox)
    made.start()
    yield made
    sink.free.set()
    made.stop(0)


def test_it_delivers_in_order_and_in_batches(
    running: Courier, outbox: Outbox, sink: FakeSink
) -> None:
    sink.free.clear()
    outbox.accept(opened(0))
    until(lambda: bool(sink.attempts))
    for number in range(1, 150):
        outbox.accept(opened(number))
    assert running.status().waiting == 150
    sink.free.set()
    until(lambda: outbox.waiting("sink") == 0)
    assert sink.had == list(range(150))
    assert sink.sizes == [1, courier.BATCH, 149 - courier.BATCH]
    status = running.status()
    assert (status.sink, status.delivered, status.failures, status.waiting) == ("sink", 150, 0, 0)


def test_it_does_not_wait_on_when_the_receiver_is_back(
    outbox: Outbox, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "FIRST_RETRY_SECONDS", 60.0)
    monkeypatch.setattr(courier, "LONGEST_RETRY_SECONDS", 60.0)
    sink.failure = SinkUnavailableError("nobody there")
    waiting = Courier("sink", sink, outbox)
    waiting.start()
    outbox.accept(opened(1))
    until(lambda: bool(sink.attempts))
    sink.failure = None
    waiting.hurry()
    until(lambda: sink.had == [1])
    waiting.stop(0)


@pytest.mark.parametrize("failure", [SinkUnavailableError("nobody there"), KeyError("s3cret")])
def test_it_goes_on_after_any_failure(
    running: Courier,
    outbox: Outbox,
    sink: FakeSink,
    failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink.failure = failure
    outbox.accept(opened(1))
    until(lambda: running.status().failures > 3)
    assert running.status().last_error in ("nobody there", "failed with KeyError")
    assert caplog.text.count("wait in the outbox") == 1
    assert "s3cret" not in caplog.text
    sink.failure = None
    until(lambda: running.status().delivered == 1)
    until(lambda: not running.status().last_error)
    assert sink.had == [1.0]


def test_a_message_that_is_refused_for_good_takes_no_other_along(
    running: Courier, outbox: Outbox, sink: FakeSink
) -> None:
    sink.never = {3.0}
    sink.free.clear()
    for number in range(6):
        outbox.accept(opened(number))
    sink.free.set()
    until(lambda: outbox.waiting("sink") == 0)
    assert sink.had == [0, 1, 2, 4, 5]
    assert [(name, cause, event.start) for name, cause, event in outbox.dead()] == [
        ("sink", "422", 3.0)
    ]
    assert (running.status().delivered, running.status().refused) == (5, 1)


def test_what_a_receiver_asks_for_is_waited_for_and_stop_waits_no_longer(
    running: Courier, outbox: Outbox, sink: FakeSink
) -> None:
    sink.failure = SinkUnavailableError("busy", retry_seconds=60)
    outbox.accept(opened(1))
    until(lambda: running.status().failures == 1)
    time.sleep(0.2)
    assert len(sink.attempts) == 1
    sink.failure = None
    running.stop(5)
    assert sink.had == [1.0]
    assert sink.closed == 1


def test_stop_drains_for_its_time_and_leaves_the_rest(
    running: Courier, outbox: Outbox, sink: FakeSink
) -> None:
    sink.failure = SinkUnavailableError("nobody there")
    outbox.accept(opened(1))
    outbox.accept(replace(opened(1), state="ended", end=1.0))
    running.stop(0.3)
    assert len(sink.attempts) > 2
    assert outbox.waiting("sink") == 2
    assert sink.closed == 1


def test_a_courier_that_never_began_stops(outbox: Outbox, sink: FakeSink) -> None:
    Courier("sink", sink, outbox).stop(1)
    assert sink.closed == 1


def test_waits_grow_with_jitter_to_a_bound() -> None:
    assert 0.25 <= retry_seconds(1) <= 0.5
    assert 1 <= retry_seconds(3) <= 2
    assert all(15 <= retry_seconds(failures) <= 30 for failures in (7, 100, 10**6))
    assert len({retry_seconds(5) for _ in range(10)}) > 1
