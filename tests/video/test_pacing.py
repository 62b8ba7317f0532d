"""Bursts are played at their own pace; what comes as it is taken is not held up."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable

import pytest

from fgmclip.video.pacing import BURST_SECONDS, BurstPacer

PERIOD = 0.04


def play(available: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return when each frame is handed on, by its time.

    Args:
        available: Time of each frame, and when the network has it; it is read no earlier than the
            one before was handed on.
    """
    pacer = BurstPacer()
    handed: list[tuple[float, float]] = []
    now = 0.0
    for time, ready in available:
        now = max(now, ready)
        now += pacer.wait(time, now)
        handed.append((time, now))
    return handed


def segments(seconds: float, count: int, behind: int = 0) -> list[tuple[float, float]]:
    """Frames of HLS: a segment is there when it is whole, the first `behind` of them at once."""
    frames = round(seconds / PERIOD)
    return [
        (
            (segment * frames + frame) * PERIOD,
            max(segment - behind, 0) * seconds,
        )
        for segment in range(count)
        for frame in range(frames)
    ]


def rushed(handed: list[tuple[float, float]], after: float = 0.0) -> int:
    """How many frames came together with the one before."""
    return sum(
        second[1] - first[1] < PERIOD / 4
        for first, second in itertools.pairwise(handed)
        if first[0] >= after
    )


@pytest.mark.parametrize("seconds", [2.0, 4.0, 6.0])
def test_segments_are_played_one_frame_after_another(seconds: float) -> None:
    handed = play(segments(seconds, 10))
    assert rushed(handed) <= BURST_SECONDS / PERIOD + 1
    assert rushed(handed, after=1.0) == 0
    # Not further behind than the segment is long.
    assert all(now - time <= seconds + PERIOD for time, now in handed)


def test_what_was_kept_for_whoever_connects_is_caught_up() -> None:
    # Three segments at once, as HLS begins; then one each 4 s.
    handed = play(segments(4.0, 30, behind=2))
    assert rushed(handed, after=1.0) == 0
    # The whole of it is the segment that cannot be had earlier, no more.
    assert handed[-1][1] - handed[-1][0] < -3.0
    # A camera that sends its last group of pictures first, then each frame as it is taken.
    taken = [(number * PERIOD, max(3.0, number * PERIOD)) for number in range(1000)]
    assert play(taken)[-1][1] - taken[-1][0] < 2 * PERIOD


def test_a_stall_is_caught_up_without_a_jump() -> None:
    stalled = [
        (number * PERIOD, 20.0 if 12 <= number * PERIOD < 20 else number * PERIOD)
        for number in range(2000)
    ]
    handed = play(stalled)
    assert rushed(handed, after=12.6) == 0
    assert handed[-1][1] - handed[-1][0] < 2 * PERIOD


def test_jitter_is_not_held_up() -> None:
    generator = random.Random(0)
    jittery = [
        (number * PERIOD, number * PERIOD + generator.uniform(0, BURST_SECONDS * 0.9))
        for number in range(1000)
    ]
    now = 0.0
    for (_, handed), (_, ready) in zip(play(jittery), jittery, strict=True):
        now = max(now, ready)
        assert handed == now


def test_a_clock_that_drifts_is_no_burst() -> None:
    # A camera whose seconds are shorter by a thousandth is ahead by a second after 17 minutes.
    drifting = [(number * PERIOD * 1.001, number * PERIOD) for number in range(60_000)]
    assert all(
        handed == ready for (_, handed), (_, ready) in zip(play(drifting), drifting, strict=True)
    )
