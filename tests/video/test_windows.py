from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgmclip.spec import ClipSpec
from fgmclip.video.damage import Damage
from fgmclip.video.errors import LowFrameRateError
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Gap, Sample
from fgmclip.video.windows import Window, read_windows, windows_from_samples

CLIP = ClipSpec(frames=4, window_seconds=0.4)


def sample(index: int, side: int = 1) -> Sample[Frame]:
    pixels = np.full((side, side, 3), index % 256, np.uint8)
    return Sample(index, index * 0.1, Frame(index * 0.1, pixels))


def samples(*runs: int) -> list[Sample[Frame] | Gap]:
    """Return runs of so many samples with a gap of three between them."""
    items: list[Sample[Frame] | Gap] = []
    index = 0
    for length in runs:
        if items:
            items.append(Gap(index, index * 0.1, 3))
            index += 3
        items += [sample(index + i) for i in range(length)]
        index += length
    return items


def contents(window: Window) -> list[int]:
    return [int(value) for value in window.frames[:, 0, 0, 0]]


def cut(*runs: int, frames: int = 4) -> list[Window]:
    clip = ClipSpec(frames=frames, window_seconds=frames / 10)
    return list(windows_from_samples(samples(*runs), clip))


def test_windows_slide_by_half_a_clip_and_know_the_sample_before() -> None:
    windows = cut(9)
    assert [contents(window) for window in windows] == [
        [0, 0, 1, 2, 3],
        [1, 2, 3, 4, 5],
        [3, 4, 5, 6, 7],
    ]
    assert [window.start for window in windows] == pytest.approx([0.0, 0.2, 0.4])
    assert {window.samples for window in windows} == {4}


def test_a_clip_of_one_sample_slides_by_one() -> None:
    assert [contents(window) for window in cut(3, frames=1)] == [[0, 0], [0, 1], [1, 2]]


def test_a_short_video_repeats_its_last_frame() -> None:
    (window,) = cut(1)
    assert contents(window) == [0] * 5
    assert (window.samples, window.gap_before) == (1, False)
    (window,) = cut(3)
    assert contents(window) == [0, 0, 1, 2, 2]


def test_no_window_crosses_a_gap_and_gaps_are_reported() -> None:
    windows = cut(6, 4, 2, 1, 5)
    assert [contents(window) for window in windows] == [
        [0, 0, 1, 2, 3],
        [1, 2, 3, 4, 5],
        [9, 9, 10, 11, 12],
        [16, 16, 17, 17, 17],
        # The run of one sample, 21, is skipped: another run gives windows.
        [25, 25, 26, 27, 28],
    ]
    assert [window.gap_before for window in windows] == [False, False, True, True, True]


def test_the_longest_short_run_is_taken_if_there_is_no_other() -> None:
    windows = cut(1, 3, 2, 3, frames=8)
    assert [contents(window) for window in windows] == [[4, 4, 5, 6, 6, 6, 6, 6, 6]]
    assert windows[0].gap_before


def test_a_gap_at_the_end_changes_nothing() -> None:
    items = samples(5)
    with_gap = [*items, Gap(5, 0.5, 2)]
    assert [contents(w) for w in windows_from_samples(with_gap, CLIP)] == [[0, 0, 1, 2, 3]]


def test_no_samples_no_windows() -> None:
    assert cut() == []


@given(st.lists(st.integers(1, 40), max_size=6), st.integers(1, 9))
def test_windows_hold_consecutive_samples_of_one_run(runs: list[int], frames: int) -> None:
    windows = cut(*runs, frames=frames)
    assert bool(windows) == bool(runs)
    present = {item.index for item in samples(*runs) if isinstance(item, Sample)}
    covered: set[int] = set()
    for window in windows:
        values = contents(window)
        own = values[1 : 1 + window.samples]
        assert own == list(range(own[0], own[0] + len(own)))
        assert set(own) <= present
        assert values[1 + window.samples :] == [own[-1]] * (frames - window.samples)
        assert values[0] == (own[0] - 1 if own[0] - 1 in present else own[0])
        assert window.start == pytest.approx(own[0] * 0.1)
        covered.update(own)
    # Only runs below half a clip and less than a slide at a run's end are left out.
    index = 0
    for length in runs:
        left = set(range(index, index + length)) - covered
        assert len(left) < max(1, frames // 2) or len(left) == length < (frames + 1) / 2
        index += length + 3


def test_an_endless_source_gives_windows_as_they_fill() -> None:
    read = 0

    def endless() -> Iterator[Sample[Frame]]:
        nonlocal read
        for i in itertools.count():
            read += 1
            yield sample(i)

    windows = windows_from_samples(endless(), CLIP)
    next(windows)
    assert read == 4
    next(windows)
    assert read == 6


def test_frames_of_another_size_begin_a_run_of_their_own() -> None:
    sides = [1] * 5 + [2] * 4
    items = [sample(index, side=side) for index, side in enumerate(sides)]
    first, second = windows_from_samples(items, CLIP)
    assert (first.frames.shape[1], second.frames.shape[1]) == (1, 2)
    assert (first.gap_before, second.gap_before) == (False, True)
    assert second.start == items[5].time
    np.testing.assert_array_equal(second.frames[0], second.frames[1])


def test_a_file_gives_the_windows_of_its_grid(write_video: Callable[..., Path]) -> None:
    # 30 frames a second sampled each tenth: every third frame.
    path = write_video("a.mkv", [60 + 4 * i for i in range(25)], [i / 30 for i in range(25)])
    windows = list(read_windows(path, CLIP))
    assert [window.frames.shape for window in windows] == [(5, 32, 48, 3)] * 3
    expected = [[0, 0, 3, 6, 9], [3, 6, 9, 12, 15], [9, 12, 15, 18, 21]]
    for window, frames in zip(windows, expected, strict=True):
        levels = window.frames.mean(axis=(1, 2, 3))
        assert levels == pytest.approx([60 + 4 * i for i in frames], abs=2)
    nv12 = list(read_windows(path, CLIP, layout="nv12"))
    assert [window.frames.shape for window in nv12] == [(5, 48, 48, 1)] * 3
    assert {(window.color_matrix, window.color_range) for window in nv12} == {("bt601", "limited")}


def test_a_stall_in_a_file_cuts_its_windows(write_video: Callable[..., Path]) -> None:
    times = [i / 20 for i in range(12)] + [3 + i / 20 for i in range(12)]
    path = write_video("a.mkv", [60 + 4 * i for i in range(24)], times)
    windows = list(read_windows(path, CLIP))
    assert [window.gap_before for window in windows] == [False, False, True, False]
    assert [window.start for window in windows] == pytest.approx([0.0, 0.2, 3.0, 3.2])
    assert windows[2].frames[0].mean() == pytest.approx(60 + 4 * 12, abs=2)


def test_a_short_stalling_file_still_gives_a_window(write_video: Callable[..., Path]) -> None:
    path = write_video("a.mkv", [60, 80, 100, 120], [0.0, 0.05, 0.1, 2.0])
    (window,) = read_windows(path, ClipSpec(frames=8, window_seconds=0.8))
    assert window.samples == 2


def test_a_frame_rate_too_low_for_dt_is_refused(write_video: Callable[..., Path]) -> None:
    path = write_video("slow.mkv", [60, 80, 100, 120], [0, 1, 2, 3])
    with pytest.raises(LowFrameRateError) as raised:
        list(read_windows(path, CLIP))
    assert raised.value.rate == pytest.approx(1)
    assert str(raised.value).startswith(f"{path}: has 1 frames a second, but samples 0.1 s apart")
    # The same file serves a model with a larger dt.
    assert len(list(read_windows(path, ClipSpec(frames=4, window_seconds=4)))) == 1


def test_a_file_cut_short_gives_its_windows_and_says_what_is_missing(
    write_video: Callable[..., Path],
) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (32, 48, 3), np.uint8) for _ in range(60)]
    path = write_video(
        "a.mp4",
        pictures,
        [i / 30 for i in range(60)],
        codec="libx264",
        options={"bf": "0"},
        container_options={"movflags": "faststart"},
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])
    damage = Damage()
    windows = list(read_windows(path, CLIP, damage=damage))
    assert damage.frames + damage.lost == 60
    assert 10 < damage.lost < 20
    assert len(windows) == 1 + int((damage.frames / 3 - 4) // 2)
