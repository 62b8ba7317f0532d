"""`FairQueue` and `FairGate`: who goes next, how many at once, and for how long anybody waits."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmclip.client import OverloadedError
from fgmclip.client.endpoints.errors import NoSlotError
from fgmclip.client.endpoints.fairness import FairGate, FairQueue

LONG = 20.0


@given(
    works=st.dictionaries(
        st.sampled_from("abcdef"), st.lists(st.integers(1, 64), min_size=1, max_size=8), min_size=2
    ),
    rounds=st.integers(1, 80),
)
def test_cameras_that_always_wait_are_given_equal_work(
    works: dict[str, list[int]], rounds: int
) -> None:
    queue = FairQueue()
    given_work = dict.fromkeys(works, 0.0)
    turns = dict.fromkeys(works, 0)
    for key, own in works.items():
        queue.join(key, own[0])
    for _ in range(rounds):
        ticket = queue.next()
        assert ticket is not None
        key = ticket.key
        given_work[key] += ticket.work
        turns[key] += 1
        queue.join(key, works[key][turns[key] % len(works[key])])
        # The bound of start-time fair queueing: the largest request of either.
        for one, other in ((a, b) for a in works for b in works):
            apart = given_work[one] - given_work[other]
            assert apart <= max(works[one]) + max(works[other])


@given(
    steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans()), max_size=60)
)
def test_whatever_comes_each_request_goes_once(
    steps: list[tuple[str, int, bool]],
) -> None:
    queue = FairQueue()
    waiting: set[int] = set()
    for key, work, take in steps:
        waiting.add(queue.join(key, work).number)
        if take:
            ticket = queue.next()
            assert ticket is not None
            waiting.remove(ticket.number)
    while (ticket := queue.next()) is not None:
        waiting.remove(ticket.number)
    assert not waiting
    assert len(queue) == 0


def test_cameras_that_came_and_went_are_forgotten() -> None:
    gate = FairGate(2)
    assert gate.enter("stays", 1, LONG)
    for number in range(300):
        assert gate.enter(f"camera {number}", 1, LONG)
        gate.leave()
        assert gate.enter("steady", 1, LONG)
        gate.leave()
    assert len(gate._queue._ends) <= 3
    gate.leave()
    assert not gate._queue._ends


def test_a_refill_does_not_starve_single_frames() -> None:
    queue = FairQueue()
    for _ in range(3):
        queue.join("tracks", 40)
    order = []
    for number in range(12):
        queue.join(f"{number % 2}", 1)
    while (turn := queue.next()) is not None:
        order.append(turn.key)
    assert order[0] == "tracks"
    assert order[1:13] == ["0", "1"] * 6


def test_who_was_idle_has_no_credit() -> None:
    queue = FairQueue()
    for _ in range(50):
        queue.join("busy", 10)
        queue.next()
    queue.join("busy", 10)
    for _ in range(10):
        queue.join("idle", 10)
    order = [ticket.key for _ in range(11) if (ticket := queue.next()) is not None]
    assert order.index("busy") <= 1


def test_who_left_is_not_charged() -> None:
    queue = FairQueue()
    left = [queue.join("a", 1000) for _ in range(5)]
    for gone in left:
        queue.leave(gone)
    queue.join("b", 1)
    queue.join("a", 1)
    queue.join("b", 1)
    order = [ticket.key for _ in range(3) if (ticket := queue.next()) is not None]
    assert order == ["b", "a", "b"]


def test_never_more_than_the_slots_at_once() -> None:
    gate = FairGate(3)
    inside = most = 0
    lock = threading.Lock()

    def pass_through(number: int) -> None:
        nonlocal inside, most
        assert gate.enter(f"camera {number % 5}", 1 + number % 7, LONG)
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)
        with lock:
            inside -= 1
        gate.leave()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(pass_through, range(100)))
    assert most == 3
    assert (gate.in_flight, gate.waiting) == (0, 0)


def test_a_wait_has_an_end_and_leaves_the_others_their_turn() -> None:
    gate = FairGate(1)
    assert gate.enter("a", 1, LONG)
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(gate.enter, "b", 100, LONG)
        while gate.waiting < 1:
            time.sleep(0.001)
        with pytest.raises(
            NoSlotError, match=r"all 1 slots were taken for 0.05 s; send less"
        ) as no:
            gate.enter("c", 1, 0.05)
        assert isinstance(no.value, OverloadedError)
        assert gate.waiting == 1
        gate.leave()
        assert patient.result()
    gate.leave()
    assert gate.in_flight == 0


def test_all_who_wait_are_turned_away_and_none_inside() -> None:
    gate = FairGate(1)
    assert gate.enter("inside", 1, LONG)
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(gate.enter, f"{number}", 1, LONG) for number in range(4)]
        while gate.waiting < 4:
            time.sleep(0.001)
        gate.turn_away()
        assert [each.result() for each in waiting] == [False] * 4
    assert (gate.in_flight, gate.waiting) == (1, 0)
    gate.leave()
    assert gate.enter("later", 1, LONG)
