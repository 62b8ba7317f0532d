from __future__ import annotations

import itertools
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fgmclip.video.clock import PATIENCE_FRAMES, PresentationClock

MILLISECOND = Fraction(1, 1000)
TENTH = Fraction(1, 10)


def times(stamps: list[int | None], duration: int = 0) -> list[float | None]:
    clock = PresentationClock(MILLISECOND, TENTH)
    return [clock.advance(stamp, duration) for stamp in stamps]


@given(
    st.lists(st.none() | st.integers(-(2**62), 2**62), max_size=40),
    st.lists(st.integers(-5, 500), min_size=40, max_size=40),
)
def test_times_increase_whatever_the_timestamps(
    stamps: list[int | None], durations: list[int]
) -> None:
    clock = PresentationClock(MILLISECOND, TENTH)
    got = [clock.advance(*pair) for pair in zip(stamps, durations, strict=False)]
    kept = [time for time in got if time is not None]
    assert all(later > earlier for earlier, later in itertools.pairwise(kept))
    assert len(kept) >= len(stamps) / PATIENCE_FRAMES


@given(st.integers(-(10**9), 10**9), st.lists(st.integers(1, 10**6), max_size=40))
def test_timestamps_that_advance_are_kept_relative_to_the_first(
    first: int, steps: list[int]
) -> None:
    stamps = [first]
    for step in steps:
        stamps.append(stamps[-1] + step)
    assert times([*stamps]) == [float((stamp - first) * MILLISECOND) for stamp in stamps]


def test_missing_timestamps_continue_by_the_nominal_duration() -> None:
    assert times([None, None, None]) == [0.0, 0.1, 0.2]
    assert times([500, None, 800]) == [0.0, 0.1, 0.3]
    assert times([500, None, 800], duration=50) == [0.0, 0.05, 0.3]
    assert times([None, None, 7000, 7100]) == [0.0, 0.1, 0.2, 0.3]


def test_frames_that_repeat_a_time_or_step_back_a_little_are_dropped() -> None:
    assert times([0, 100, 100, 200, 150, 300]) == [0.0, 0.1, None, 0.2, None, 0.3]


def test_a_reset_clock_goes_on_after_the_last_frame() -> None:
    assert times([50_000, 50_100, 0, 100, 200]) == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_an_absurd_leap_is_a_reset() -> None:
    assert times([0, 100, 2**62, 2**62 + 100]) == [0.0, 0.1, 0.2, 0.3]


def test_a_clock_that_stands_still_is_given_up() -> None:
    got = times([0] * 30)
    assert got[0] == 0.0
    assert got[1:PATIENCE_FRAMES] == [None] * (PATIENCE_FRAMES - 1)
    assert got[PATIENCE_FRAMES:] == [float((i + 1) * TENTH) for i in range(30 - PATIENCE_FRAMES)]
