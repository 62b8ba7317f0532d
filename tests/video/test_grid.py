from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmclip.video.errors import GridError
from fgmclip.video.grid import Gap, Grid, Sample, sample_grid


@dataclass(frozen=True)
class At:
    time: float


def grid(times: list[float], dt: float) -> list[Sample[At] | Gap]:
    return list(sample_grid([At(time) for time in times], dt))


def filled(items: list[Sample[At] | Gap]) -> dict[int, At | None]:
    """Return the frame, or None, at each index; fails unless indices are contiguous."""
    points: dict[int, At | None] = {}
    for item in items:
        assert item.index == len(points)
        if isinstance(item, Gap):
            points.update(dict.fromkeys(range(item.index, item.index + item.count)))
        else:
            points[item.index] = item.frame
    return points


TIMES = st.tuples(
    st.floats(-1e6, 1e6),
    st.lists(st.sampled_from([0.001, 0.02, 1 / 30, 0.05, 0.1, 0.125, 0.7, 3.0]), max_size=60),
    st.lists(st.floats(1e-4, 2.0), max_size=20),
).map(lambda parts: list(itertools.accumulate([parts[0], *parts[1], *parts[2]])))


@given(TIMES, st.sampled_from([0.04, 0.1, 0.125, 1 / 3, 1.0]) | st.floats(0.02, 2.0))
def test_each_sample_is_the_nearest_frame_and_gaps_have_none(times: list[float], dt: float) -> None:
    items = grid(times, dt)
    points = filled(items)
    for index, frame in points.items():
        target = times[0] + index * dt
        nearest = min(abs(time - target) for time in times)
        if frame is None:
            assert nearest > dt / 2
        else:
            assert abs(frame.time - target) == nearest <= dt / 2
            earlier = [time for time in times if abs(time - target) == nearest]
            assert frame.time == earlier[0]
    # The grid ends with the last point that the last frame can reach.
    end = times[0] + len(points) * dt
    assert end > times[-1]
    assert abs(end - times[-1]) > dt / 2
    assert all(item.time == times[0] + item.index * dt for item in items)
    assert not any(isinstance(a, Gap) and isinstance(b, Gap) for a, b in itertools.pairwise(items))


def test_of_two_equally_near_frames_the_earlier_is_taken() -> None:
    items = grid([0.0, 0.75, 1.25], 1.0)
    assert [item.frame.time for item in items if isinstance(item, Sample)] == [0.0, 0.75]


def test_half_a_step_is_within_reach() -> None:
    assert filled(grid([0.0, 1.5], 1.0)) == {0: At(0.0), 1: At(1.5), 2: At(1.5)}
    assert filled(grid([0.0, 1.5625], 1.0)) == {0: At(0.0), 1: None, 2: At(1.5625)}


def test_a_slow_video_serves_neighbouring_samples_from_one_frame() -> None:
    assert filled(grid([0.0, 0.5, 0.9], 0.5)) == {0: At(0.0), 1: At(0.5), 2: At(0.9)}
    shared = filled(grid([0.0, 0.25, 0.75], 0.5))
    assert shared == {0: At(0.0), 1: At(0.25), 2: At(0.75)}


def test_a_hole_of_years_is_one_gap() -> None:
    items = grid([0.0, 1e9, 1e9 + 0.125], 0.125)
    assert [type(item) for item in items] == [Sample, Gap, Sample, Sample]
    gap = items[1]
    assert isinstance(gap, Gap)
    assert (gap.index, gap.time, gap.count) == (1, 0.125, 8 * 10**9 - 1)


def test_no_drift_after_hours() -> None:
    # 30000/1001 frames a second for ten hours at dt = 1/8 s.
    frames = (At(i * 1001 / 30000) for i in range(36000 * 30))
    count = 0
    for item in sample_grid(frames, 0.125):
        assert isinstance(item, Sample)
        assert item.time == count * 0.125
        # Only the very last sample has no frame after it to choose.
        assert abs(item.frame.time - item.time) <= 1001 / 60000 + 1e-9 or item.time == 36036
        count += 1
    assert count == 36036 * 8 + 1


def test_an_endless_source_is_read_no_further_than_needed() -> None:
    read = 0

    def endless() -> Iterator[At]:
        nonlocal read
        for i in itertools.count():
            read += 1
            yield At(i * 0.1)

    samples = list(itertools.islice(sample_grid(endless(), 0.25), 5))
    assert [item.index for item in samples] == [0, 1, 2, 3, 4]
    assert read == 11


@pytest.mark.parametrize("dt", [0.0, -1.0, math.nan, math.inf])
def test_dt_must_be_positive(dt: float) -> None:
    with pytest.raises(GridError, match="dt must be a positive number"):
        grid([0.0], dt)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.0, 0.1, 0.1], "must increase"),
        ([0.0, 0.1, 0.05], "must increase"),
        ([math.nan], "finite"),
        ([0.0, math.inf], "finite"),
        ([0.0, 1e300], "too far"),
    ],
)
def test_bad_times_are_refused(times: list[float], message: str) -> None:
    with pytest.raises(GridError, match=message):
        grid(times, 0.1)


def test_no_frames_no_samples() -> None:
    assert grid([], 0.1) == []


def test_a_sample_is_settled_by_the_first_frame_at_or_after_it() -> None:
    pushed: Grid[At] = Grid(1.0)
    assert [item.index for item in pushed.add(At(5.0))] == [0]
    assert pushed.add(At(5.9)) == []
    (late,) = pushed.add(At(6.2))
    assert isinstance(late, Sample)
    assert (late.time, late.frame) == (6.0, At(5.9))
    gap, after = pushed.add(At(9.0))
    assert isinstance(gap, Gap)
    assert (gap.index, gap.time, gap.count, after.index) == (2, 7.0, 2, 4)
    assert pushed.add(At(9.75)) == []
    assert [item.index for item in pushed.finish()] == [5]


@pytest.mark.parametrize("time", [math.nan, math.inf, 1e300, 0.1, -5.0])
def test_a_refused_frame_leaves_the_grid_as_it_was(time: float) -> None:
    pushed: Grid[At] = Grid(0.1)
    pushed.add(At(0.0))
    pushed.add(At(0.1))
    with pytest.raises(GridError):
        pushed.add(At(time))
    (sample,) = pushed.add(At(0.2))
    assert isinstance(sample, Sample)
    assert (sample.index, sample.frame) == (2, At(0.2))


def test_nothing_is_left_twice() -> None:
    pushed: Grid[At] = Grid(1.0)
    pushed.add(At(0.0))
    pushed.add(At(0.75))
    assert len(pushed.finish()) == 1
    assert pushed.finish() == []
