"""The board: totals never fall, nothing grows, and what is broken elsewhere does not break it."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from fgmclip.client.endpoints.endpoint import EndpointStatus
from fgmclip.client.events.courier import CourierStatus
from fgmclip.client.events.event import Event
from fgmclip.client.gateway.actions import HISTORY, TRACKS
from fgmclip.client.gateway.board import LATEST_EVENTS, Board
from fgmclip.client.gateway.messages import Counts
from fgmclip.client.gateway.tallies import OTHER

EVENT = Event("e1", "door", None, "wave", 10.0, None, 0.9, 11.0, "open", "wall", "tag")


class Time:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def board(clock: Time) -> Board:
    return Board(clock=clock, wall=lambda: 1_000_000 + clock.now)


def decide(board: Board, label: str = "wave", track: str | None = None, **changes: float) -> None:
    board.camera("door").decided(
        changes.get("time", 1.0), label, changes.get("probability", 0.9), track, 0.2, 1
    )


def test_a_name_has_one_camera_in_the_order_of_adding(board: Board) -> None:
    assert board.camera("b") is board.camera("b")
    board.camera("a")
    assert [camera.name for camera in board.snapshot().cameras] == ["b", "a"]
    board.remove("b")
    board.remove("b")
    assert [camera.name for camera in board.snapshot().cameras] == ["a"]


def test_a_removed_camera_may_still_be_told_things(board: Board) -> None:
    camera = board.camera("door")
    board.remove("door")
    camera.became("ended")
    camera.skipped(1)
    assert board.snapshot().cameras == ()


def test_a_state_keeps_its_time_when_only_the_cause_changes(board: Board, clock: Time) -> None:
    camera = board.camera("door")
    camera.became("reconnecting", "timed out")
    clock.now += 5
    camera.became("reconnecting", "refused")
    shown = camera.snapshot()
    assert (shown.state, shown.cause, shown.state_seconds) == ("reconnecting", "refused", 5.0)
    camera.became("live")
    assert (camera.snapshot().cause, camera.snapshot().state_seconds) == ("", 0.0)


def test_no_secret_of_an_address_is_shown(board: Board) -> None:
    camera = board.camera("door")
    camera.became("reconnecting", "rtsp://admin:hunter2@cam/live?token=s3cret: timed out")
    camera.opened("rtsp://admin:hunter2@cam/live", 640, 480, "wall")
    board.watch(
        "sinks", lambda: {"w": CourierStatus("w", 0, 0, 1, "https://h/?key=s3cret: 500", 1)}
    )
    shown = json.dumps(board.snapshot().to_json())
    assert "hunter2" not in shown
    assert "s3cret" not in shown


def test_totals_go_on_when_a_worker_is_replaced(board: Board) -> None:
    camera = board.camera("door")
    camera.counted(Counts(frames=100, samples=30, dropped=2, reconnects=1))
    camera.counted(Counts(frames=120, samples=36, dropped=2, reconnects=1))
    camera.counted(Counts(frames=5, samples=1))
    camera.counted(Counts(frames=7, samples=2))
    shown = camera.snapshot()
    assert (shown.frames, shown.samples, shown.dropped, shown.reconnects) == (127, 38, 2, 1)


def test_percentiles_and_rate_are_those_of_late(board: Board, clock: Time) -> None:
    camera = board.camera("door")
    assert camera.snapshot().latency_p50 is None
    camera.decided(0.0, "wave", 0.5, None, 9.0, 1)
    clock.now += 200
    for hundredths in range(1, 101):
        clock.now += 0.1
        camera.decided(0.0, "wave", 0.5, None, hundredths / 100, 1)
    shown = camera.snapshot()
    assert (shown.latency_p50, shown.latency_p95) == (0.5, 0.95)
    assert shown.decisions_per_second == pytest.approx(10.0, abs=0.2)
    assert shown.decisions == 101
    assert shown.decision_latency.sum_seconds == pytest.approx(59.5)
    clock.now += 121
    shown = camera.snapshot()
    assert (shown.latency_p95, shown.decisions_per_second) == (None, 0.0)


def test_a_flood_of_decisions_is_bounded_and_its_rate_right(board: Board, clock: Time) -> None:
    camera = board.camera("door")
    clock.now += 20
    for number in range(20_000):
        clock.now += 0.001
        camera.decided(number, f"label {number % 7}", 0.5, str(number), 0.2, 1)
    shown = camera.snapshot()
    assert len(shown.history) == HISTORY
    assert len(shown.actions) == TRACKS
    assert shown.decisions == 20_000
    assert shown.decisions_per_second == pytest.approx(1000, rel=0.01)


def test_buckets_hold_every_latency_once(board: Board) -> None:
    camera = board.camera("door")
    for latency in (0.0, 0.025, 0.026, 29.9, 1e6):
        camera.decided(0.0, "wave", 0.5, None, latency, 1)
    histogram = camera.snapshot().decision_latency
    assert sum(histogram.counts) == 5
    assert histogram.counts[:2] == (2, 1)
    assert histogram.counts[-2:] == (1, 1)


def test_the_current_action_is_the_newest_of_each_track_that_is_still_there(
    board: Board, clock: Time
) -> None:
    decide(board, "wave", "1")
    clock.now += 3
    decide(board, "kick", "2", probability=0.4)
    decide(board, "push", "3", probability=0.8)
    decide(board, "wave", "2", probability=0.6)
    clock.now += 60
    actions = board.snapshot().cameras[0].actions
    assert [(a.track, a.label, a.age_seconds) for a in actions] == [
        ("3", "push", 60.0),
        ("2", "wave", 60.0),
    ]


def test_three_likeliest_actions_are_kept(board: Board) -> None:
    top = tuple((f"label {n}", 0.2) for n in range(5))
    board.camera("door").decided(0.0, "label 0", 0.2, None, 0.1, 1, top)
    assert board.snapshot().cameras[0].actions[0].top == top[:3]


def test_a_later_snapshot_leaves_out_what_an_earlier_one_had(board: Board) -> None:
    decide(board, "wave")
    first = board.snapshot()
    decide(board, "kick")
    second = board.snapshot(after=first.number)
    assert [point.label for point in second.cameras[0].history] == ["kick"]
    assert [point.label for point in board.snapshot().cameras[0].history] == ["wave", "kick"]
    assert board.snapshot(after=second.number).cameras[0].history == ()


def test_another_clock_begins_another_axis(board: Board) -> None:
    camera = board.camera("door")
    camera.opened("a.mp4", 640, 480, "media")
    decide(board)
    camera.opened("b.mp4", 640, 480, "media")
    assert len(camera.snapshot().history) == 1
    camera.opened("2026-11-24.mp4", 640, 480, "wall")
    assert camera.snapshot().history == ()


def test_the_gate_counts_the_time_that_it_is_open(board: Board, clock: Time) -> None:
    camera = board.camera("door")
    clock.now += 50
    assert camera.snapshot().gate_open is None
    camera.gate(True)
    clock.now += 3
    camera.gate(True)
    camera.gate(False)
    clock.now += 9
    shown = camera.snapshot()
    assert (shown.gate_open, shown.gate_open_seconds, shown.gate_seconds) == (False, 3.0, 12.0)


def test_reasons_and_kinds_beyond_a_number_share_a_count(board: Board) -> None:
    camera = board.camera("door")
    for number in range(100):
        camera.reset(f"reason {number}")
        camera.failed_request("timeout")
    shown = camera.snapshot()
    assert sum(shown.resets.values()) == 100
    assert shown.resets[OTHER] == 84
    assert shown.server_errors == {"timeout": 100}


def test_an_event_has_one_place_in_its_newest_state(board: Board) -> None:
    camera = board.camera("door")
    ended = replace(EVENT, state="ended", end=12.0)
    camera.evented(EVENT, 0.3)
    camera.evented(replace(EVENT, id="e2"), 0.3)
    camera.evented(ended, 0.3)
    shown = board.snapshot()
    assert [event.id for event in shown.events] == ["e2", "e1"]
    assert shown.events[1].state == "ended"
    assert {(e.state, e.count) for e in shown.cameras[0].events} == {("open", 2), ("ended", 1)}
    assert sum(shown.cameras[0].event_latency.counts) == 3
    camera.evented(replace(EVENT, state="interrupted"))
    assert sum(board.snapshot().cameras[0].event_latency.counts) == 3


def test_only_the_newest_events_are_kept(board: Board) -> None:
    for number in range(LATEST_EVENTS + 5):
        board.camera("door").evented(replace(EVENT, id=str(number)), 0.1)
    events = board.snapshot().events
    assert len(events) == LATEST_EVENTS
    assert events[0].id == str(LATEST_EVENTS + 4)


def test_a_status_that_fails_is_said_and_does_not_take_the_board_with_it(
    board: Board, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> tuple[EndpointStatus, ...]:
        raise OSError("disk")

    board.watch("endpoints", broken)
    assert board.snapshot().endpoints == ()
    assert "no status of endpoints: OSError: disk" in caplog.text


def test_ready_needs_a_healthy_server_and_living_threads(board: Board) -> None:
    assert board.unready() == ("no server is healthy",)
    healthy = [False, True]
    board.watch("endpoints", lambda: [EndpointStatus("h:1", up, 0, 0, 0, 0, 0) for up in healthy])
    board.camera("door").became("live")
    board.camera("file").became("ended")
    assert board.unready() == ()
    board.watch("dead", lambda: ["door", "file"])
    assert board.unready() == ("the thread of camera door ended",)
    healthy[1] = False
    assert len(board.unready()) == 2


def test_many_threads_lose_no_count(board: Board) -> None:
    def work(name: str) -> None:
        for _ in range(500):
            board.camera(name).decided(0.0, "wave", 0.5, None, 0.1, 2)
            board.camera(name).skipped(1)

    seen: list[int] = []
    threads = [threading.Thread(target=work, args=(f"camera {n % 3}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    sent = 0
    while any(thread.is_alive() for thread in threads):
        snapshot = board.snapshot(after=sent)
        sent = snapshot.number
        seen += [point.number for camera in snapshot.cameras for point in camera.history]
    for thread in threads:
        thread.join()
    cameras = board.snapshot().cameras
    assert [camera.decisions for camera in cameras] == [1000] * 3
    assert sum(camera.encoded for camera in cameras) == 6000
    assert sum(camera.skipped for camera in cameras) == 3000
    numbers = [point.number for camera in cameras for point in camera.history]
    assert len(set(numbers)) == len(numbers)
    assert max(numbers) == 3000
