"""What waits between decoder and gateway."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from fgmclip.client.gateway import queue as queue_module
from fgmclip.client.gateway.messages import Counts, Ended, Lost, Opened
from fgmclip.client.gateway.queue import SampleQueue
from fgmclip.client.gateway.settings import Policy
from fgmclip.client.streams.samples import StreamSample

WINDOW = 4


def sample(index: int, size: int = 8) -> StreamSample:
    return StreamSample(index, index / 8, None, {"PIXELS_U8": np.zeros((1, size), np.uint8)}, {})


def drain(queue: SampleQueue) -> list[list[int]]:
    taken = []
    while isinstance(item := queue.take(0), tuple):
        taken.append([each.index for each in item[0]])
    return taken


def test_latest_hands_over_what_waits_and_keeps_a_window_and_one() -> None:
    queue = SampleQueue("latest", WINDOW)
    for index in range(20):
        assert queue.put(sample(index), 100.0 + index)
    item = queue.take(0)
    assert isinstance(item, tuple)
    samples, captured = item
    assert [each.index for each in samples] == [15, 16, 17, 18, 19]
    assert captured == 119.0
    assert queue.dropped == 15
    assert queue.take(0) is None


def test_drop_oldest_hands_over_one_by_one_and_drops_only_when_full() -> None:
    queue = SampleQueue("drop-oldest", WINDOW)
    for index in range(20):
        queue.put(sample(index), 0.0)
    assert queue.dropped == 0
    queue.put(sample(20), 0.0)
    assert queue.dropped == 1
    assert drain(queue) == [[index] for index in range(1, 21)]


def test_drop_oldest_is_bounded_in_bytes_but_keeps_a_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(queue_module, "MAX_BYTES", 100)
    queue = SampleQueue("drop-oldest", WINDOW)
    for index in range(12):
        queue.put(sample(index, size=10), 0.0)
    assert drain(queue) == [[index] for index in range(2, 12)]
    for index in range(12):
        queue.put(sample(index, size=1000), 0.0)
    assert drain(queue) == [[index] for index in range(7, 12)]


def test_block_waits_and_drops_nothing() -> None:
    queue = SampleQueue("block", WINDOW)
    done = threading.Event()

    def make() -> None:
        for index in range(50):
            assert queue.put(sample(index), 0.0)
        done.set()

    maker = threading.Thread(target=make)
    maker.start()
    assert not done.wait(0.05)
    taken: list[int] = []
    while len(taken) < 50:
        item = queue.take(1.0)
        assert isinstance(item, tuple)
        assert len(item[0]) == 1
        taken.append(item[0][0].index)
    maker.join()
    assert taken == list(range(50))
    assert queue.dropped == 0


def test_closing_lets_a_waiting_maker_go() -> None:
    queue = SampleQueue("block", WINDOW)
    for index in range(WINDOW + 1):
        queue.put(sample(index), 0.0)
    results: list[bool] = []
    maker = threading.Thread(target=lambda: results.append(queue.put(sample(9), 0.0)))
    maker.start()
    queue.close()
    maker.join()
    assert results == [False]
    assert drain(queue) == [[index] for index in range(WINDOW + 1)]


@pytest.mark.parametrize("policy", ["latest", "drop-oldest"])
def test_notices_keep_their_place_between_samples(policy: Policy) -> None:
    queue = SampleQueue(policy, WINDOW)
    opened = Opened("a", 4, 4, "wall")
    lost = Lost("gone", 1.0)
    queue.tell(opened)
    queue.put(sample(0), 0.0)
    queue.tell(lost)
    queue.put(sample(5), 0.0)
    queue.tell(Ended(None, Counts()))
    assert queue.take(0) == opened
    assert drain(queue) == [[0]]
    # `drain` took the notice that stopped it.
    assert drain(queue) == [[5]]


def test_notices_are_bounded_and_the_newest_stay() -> None:
    queue = SampleQueue("latest", WINDOW)
    for number in range(100):
        queue.tell(Lost(str(number), 0.0))
        queue.put(sample(number), 0.0)
    items = []
    while (item := queue.take(0)) is not None:
        items.append(item)
    assert len(items) <= 16 + WINDOW + 1
    assert [item for item in items if isinstance(item, Lost)][-1].cause == "99"


def test_waking_ends_a_wait_early() -> None:
    queue = SampleQueue("latest", WINDOW)
    taken: list[object] = []
    taker = threading.Thread(target=lambda: taken.append(queue.take(60.0)))
    taker.start()
    queue.wake()
    taker.join(10)
    assert taken == [None]
