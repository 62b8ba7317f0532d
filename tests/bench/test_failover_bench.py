"""`bench/failover.py`: what is counted, when, and what is a miss."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from fgmclip.bench.failover import Camera, Decided, bars_of, phases_of
from fgmclip.client import ConnectError, StreamDecision

DT = 0.125


def camera(due: list[float], decided: list[tuple[float, float]]) -> Camera:
    made = [Decided(when, latency) for when, latency in decided]
    nothing: Any = None
    return Camera(nothing, np.zeros((1, 2, 2, 3), np.uint8), DT, 8, 0.0, due, made)


def test_a_decision_counts_where_its_frame_was_due() -> None:
    due = [5.0, 15.0, 29.9, 30.0, 39.9, 40.0, 55.0, 70.0]
    # The one due just before the kill was made long after it.
    decided = [(when, 0.01) for when in due if when != 29.9] + [(29.9, 12.0)]
    before, during, after = phases_of([camera(due, decided)] * 2, 10, 30, 60)
    assert [phase.expected for phase in (before, during, after)] == [4, 4, 4]
    assert [phase.made for phase in (before, during, after)] == [4, 4, 4]
    assert [phase.late for phase in (before, during, after)] == [2, 0, 0]
    assert before.longest_ms == pytest.approx(12_000)
    assert during.p50_ms == pytest.approx(10)


def test_a_lost_decision_and_a_slower_server_miss_their_bars() -> None:
    due = [15.0, 35.0, 45.0]
    good = phases_of([camera(due, [(15.0, 0.01), (35.0, 0.09), (45.0, 0.011)])], 10, 30, 60)
    assert all(bar.reached for bar in bars_of(good))
    lost = phases_of([camera(due, [(15.0, 0.01), (45.0, 0.01)])], 10, 30, 60)
    assert [bar.reached for bar in bars_of(lost)] == [False, True]
    slow = phases_of([camera(due, [(15.0, 0.01), (35.0, 0.01), (45.0, 0.013)])], 10, 30, 60)
    assert [bar.reached for bar in bars_of(slow)] == [True, False]
    nothing = phases_of([camera(due, [(15.0, 0.01), (35.0, 0.01)])], 10, 30, 60)
    assert not any(bar.reached for bar in bars_of(nothing))


def test_a_failed_request_is_asked_again_until_it_is_decided() -> None:
    stop = threading.Event()
    answered: list[str] = []

    class Stream:
        due = False

        def push(self, frame: Any, time: float) -> list[Any]:
            self.due = True
            raise ConnectError("no server")

        def decide(self) -> list[Any]:
            answered.append("asked")
            if len(answered) < 3:
                raise ConnectError("no server")
            self.due = False
            stop.set()
            nothing: Any = None
            return [StreamDecision(nothing, 0.0, 0, None, "tag", 1, 0)]

    stream: Any = Stream()
    one = Camera(stream, np.zeros((1, 2, 2, 3), np.uint8), DT, 1, 0.0)
    one.run(stop)
    assert (len(one.due), len(one.decided), len(one.failures)) == (1, 1, 3)
