"""`MotionGate`: when it is open, by what it sees and by the samples' times."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.client import RefusedError
from fgmclip.client.gateway.gate import MotionGate, motion
from fgmclip.client.gateway.settings import GateSettings
from fgmclip.client.streams.samples import SamplePreparer, StreamSample
from fgmclip.spec import preset
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Sample

DT = 0.125
M = 20
QUIET = GateSettings(threshold=0.01, difference=0.1, heartbeat_seconds=1000, linger_seconds=0)


def luma(moved: int, by: int = 255, tracks: int = 1) -> NDArray[np.uint8]:
    """Return LUMA_U8 [tracks,2,M,M] of which the last track has so many points that differ."""
    pair = np.zeros((tracks, 2, M, M), np.uint8)
    pair[-1, 1].reshape(-1)[:moved] = by
    return pair


def sample(
    index: int, moved: int = 0, *, by: int = 255, tracks: tuple[str, ...] | None = None
) -> StreamSample:
    rows = 1 if tracks is None else len(tracks)
    tensors = {"LUMA_U8": luma(moved, by, rows)} if rows else {}
    return StreamSample(index, 100 + index * DT, tracks, tensors, {})


def opened(gate: MotionGate, samples: Iterable[StreamSample]) -> list[int]:
    return [each.index for each in samples if gate.sees(each)]


def test_it_opens_at_motion_alone() -> None:
    gate = MotionGate(QUIET, DT, 0)
    moved = {3: 5, 4: 400, 7: 4, 9: 5}
    # One hundredth of 400 points is 4: five are more than that.
    assert opened(gate, (sample(i, moved.get(i, 0)) for i in range(12))) == [0, 3, 4, 9]
    assert gate.duty() == pytest.approx(4 / 12)


def test_a_small_difference_is_noise() -> None:
    gate = MotionGate(QUIET, DT, 0)
    # A tenth of white is 25.5 levels.
    assert opened(gate, [sample(0), sample(1, 400, by=25), sample(2, 400, by=26)]) == [0, 2]


def test_darker_counts_as_brighter() -> None:
    pair = luma(10)[:, ::-1]
    turned = StreamSample(1, 1.0, None, {"LUMA_U8": pair}, {})
    assert motion(turned, 0.1) == pytest.approx(10 / 400)


def test_it_lingers_after_motion() -> None:
    gate = MotionGate(QUIET.replace(linger_seconds=3 * DT), DT, 0)
    seen = opened(gate, (sample(i, 50 if i in (10, 12) else 0) for i in range(24)))
    assert seen == [0, 1, 2, 3, *range(10, 16)]


def test_it_lingers_until_the_motion_has_left_the_window() -> None:
    gate = MotionGate(QUIET.replace(linger_seconds=3 * DT), DT, 8)
    seen = opened(gate, (sample(i, 50 if i == 15 else 0) for i in range(40)))
    # T samples after the motion come the first T whose pairs are all still.
    assert seen == [*range(9), *range(15, 24)]
    gate = MotionGate(QUIET.replace(linger_seconds=9 * DT), DT, 8)
    assert opened(gate, (sample(i) for i in range(20))) == list(range(10))


def test_its_heart_beats_from_the_last_time_that_it_was_open() -> None:
    gate = MotionGate(QUIET.replace(heartbeat_seconds=1.0), DT, 0)
    seen = opened(gate, (sample(i, 50 if i == 11 else 0) for i in range(30)))
    assert seen == [0, 8, 11, 19, 27]


@given(
    beat=st.integers(1, 20),
    moves=st.sets(st.integers(1, 99)),
    start=st.floats(0, 2e9),
    dt=st.floats(0.03, 0.5),
)
def test_it_is_never_closed_for_longer_than_a_heartbeat(
    beat: int, moves: set[int], start: float, dt: float
) -> None:
    gate = MotionGate(QUIET.replace(heartbeat_seconds=beat * dt), dt, 0)
    samples = (
        StreamSample(i, start + i * dt, None, {"LUMA_U8": luma(50 if i in moves else 0)}, {})
        for i in range(100)
    )
    seen = opened(gate, samples)
    assert set(seen) >= moves
    assert max(np.diff([*seen, 99]), default=0) <= beat


def test_a_window_begins_with_an_open_gate() -> None:
    gate = MotionGate(QUIET, DT, 0)
    first = [sample(0), sample(1)]
    after_a_gap = [sample(7), sample(8)]
    clock_set_back = StreamSample(9, 3.0, None, {"LUMA_U8": luma(0)}, {})
    assert opened(gate, [*first, *after_a_gap, clock_set_back]) == [0, 7, 9]


def test_any_track_opens_it_and_so_does_a_new_one() -> None:
    gate = MotionGate(QUIET, DT, 0)
    one, two = ("ann",), ("ann", "bob")
    assert opened(
        gate,
        [
            sample(0, tracks=one),
            sample(1, tracks=one),
            sample(2, tracks=two),
            sample(3, tracks=two),
            sample(4, 50, tracks=two),
            sample(5, tracks=()),
            sample(6, tracks=()),
        ],
    ) == [0, 2, 4, 5]


def test_samples_without_luma_are_refused_with_the_remedy() -> None:
    gate = MotionGate(QUIET, DT, 0)
    raw = {"FRAMES": np.zeros((2, 8, 8, 3), np.uint8)}
    gate.sees(StreamSample(0, 0.0, None, {"LUMA_U8": luma(0)}, {}))
    with pytest.raises(RefusedError, match=r"expected samples with LUMA_U8, got FRAMES; prepare"):
        gate.sees(StreamSample(1, DT, None, raw, {}))


def test_what_a_camera_sees() -> None:
    spec = preset("demo")
    preparer = SamplePreparer(spec, threads=1)
    gate = MotionGate(GateSettings(linger_seconds=0), spec.clip.dt, 0)
    random = np.random.default_rng(0)
    still = random.integers(0, 256, (12, 16, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    seen = []
    for index in range(20):
        noise = random.normal(0, 2, still.shape)
        picture = np.clip(still + noise, 0, 255).astype(np.uint8)
        if 10 <= index < 13:
            picture[30:70, 20 * (index - 9) : 20 * (index - 9) + 30] = 255
        frame = Frame(index * spec.clip.dt, picture)
        seen.append(gate.sees(preparer.prepare(Sample(index, frame.time, frame))))
    # The patch comes, moves twice, and is gone.
    assert [index for index, is_open in enumerate(seen) if is_open] == [0, 10, 11, 12, 13]
