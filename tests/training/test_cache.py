from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_edge, preprocess_u8
from fgmclip.spec import ModelSpec
from fgmclip.training.cache import CacheRecipe, cache_videos
from fgmclip.training.commands import without_motion
from fgmclip.training.dataset import Dataset
from fgmclip.training.errors import DatasetError
from fgmclip.video.windows import read_windows

FASTSTART = {"movflags": "faststart"}


def _videos(dataset: Dataset, count: int) -> list[Path]:
    return [video.path for video in dataset.videos[:count]]


def test_served_windows_are_those_of_a_client(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    parameters = PreprocessParameters.from_spec(tiny_spec)
    frames = tiny_spec.clip.frames
    for cached, path in zip(
        cache_videos(
            _videos(squares, 2),
            CacheRecipe.from_spec(tiny_spec),
            tmp_path,
            workers=1,
            progress=False,
        ),
        _videos(squares, 2),
        strict=True,
    ):
        windows = list(read_windows(path, tiny_spec.clip))
        assert len(windows) == len(cached.served) > 1
        for start, window in zip(cached.served, windows, strict=True):
            pixels, luma = preprocess_u8(window.frames, parameters)
            _, motion = preprocess_edge(pixels, luma, parameters)
            assert motion is not None
            cached_motion = cached.motion()
            assert cached_motion is not None
            np.testing.assert_array_equal(cached.pixels()[start : start + frames], pixels)
            np.testing.assert_array_equal(
                cached_motion[start : start + frames], motion.astype(np.float16)
            )


def test_a_video_shorter_than_a_window_has_one_window(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    long = tiny_spec.replace(clip=tiny_spec.clip.replace(frames=16, window_seconds=2.0))
    (video,) = cache_videos(
        _videos(squares, 1), CacheRecipe.from_spec(long), tmp_path, workers=1, progress=False
    )
    assert video.served == video.starts == (0,)
    assert len(video.pixels()) == 16
    np.testing.assert_array_equal(video.pixels()[-1], video.pixels()[-2])
    motion = video.motion()
    assert motion is not None
    assert not motion[-1].any()


def test_phases_add_windows_and_keep_the_served_ones(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    spec = tiny_spec.replace(clip=tiny_spec.clip.replace(window_seconds=1.0))
    one, two = (
        cache_videos(
            _videos(squares, 1),
            CacheRecipe.from_spec(spec, phases=phases),
            tmp_path,
            workers=1,
            progress=False,
        )[0]
        for phases in (1, 2)
    )
    assert two.served == one.served
    assert two.first_grid == one.first_grid == len(one.pixels())
    assert len(two.starts) > len(one.starts)
    np.testing.assert_array_equal(two.pixels()[: one.first_grid], one.pixels())
    assert not np.array_equal(two.pixels()[one.first_grid], one.pixels()[0])
    assert all(0 <= start <= len(two.pixels()) - spec.clip.frames for start in two.starts)


def test_rows_are_computed_once_and_anew_when_what_decides_them_changes(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    assert tiny_spec.motion is not None
    path = tmp_path / "video.mp4"
    shutil.copy(squares.videos[0].path, path)

    def folder(spec: ModelSpec) -> Path:
        recipe = CacheRecipe.from_spec(spec)
        (cached,) = cache_videos([path], recipe, tmp_path / "rows", workers=1, progress=False)
        return cached.folder

    first = folder(tiny_spec)
    written = (first / "pixels.npy").stat().st_mtime_ns
    flow = tiny_spec.motion.flow
    same = [
        tiny_spec.replace(name="renamed", fusion=tiny_spec.fusion.replace(width=8)),
        tiny_spec.replace(visual=tiny_spec.visual.replace(mean=(0.5, 0.5, 0.5))),
    ]
    assert {folder(spec) for spec in same} == {first}
    assert (first / "pixels.npy").stat().st_mtime_ns == written
    others = [
        tiny_spec.replace(motion=tiny_spec.motion.replace(flow=flow.replace(iterations=5))),
        tiny_spec.replace(motion=tiny_spec.motion.replace(size=40)),
        tiny_spec.replace(clip=tiny_spec.clip.replace(window_seconds=0.6)),
        tiny_spec.replace(clip=tiny_spec.clip.replace(crop="squash")),
        tiny_spec.replace(visual=tiny_spec.visual.replace(image_size=48)),
        without_motion(tiny_spec),
    ]
    assert len({first, *(folder(spec) for spec in others)}) == 1 + len(others)
    shutil.copy(squares.videos[1].path, path)
    assert folder(tiny_spec) != first


def test_without_motion_there_is_none(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    recipe = CacheRecipe.from_spec(without_motion(tiny_spec))
    (video,) = cache_videos(_videos(squares, 1), recipe, tmp_path, workers=1, progress=False)
    assert video.motion() is None


def test_a_killed_computation_leaves_nothing_that_counts(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = CacheRecipe.from_spec(tiny_spec)
    videos = _videos(squares, 2)
    save, calls = np.save, []

    def dies(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        save(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(np, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        cache_videos(videos, recipe, tmp_path, workers=1, progress=False)
    monkeypatch.undo()
    assert not (tmp_path / recipe.key(videos[1])).exists()
    first, second = cache_videos(videos, recipe, tmp_path, workers=1, progress=False)
    assert len(first.pixels()) == len(second.pixels()) > 0


def test_processes_compute_what_one_computes(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    recipe = CacheRecipe.from_spec(tiny_spec)
    alone, together = (
        cache_videos(
            _videos(squares, 3), recipe, tmp_path / str(workers), workers=workers, progress=False
        )
        for workers in (1, 2)
    )
    for one, two in zip(alone, together, strict=True):
        assert replace(one, folder=two.folder) == two
        np.testing.assert_array_equal(one.pixels(), two.pixels())


@pytest.mark.parametrize("workers", [1, 2])
def test_a_video_that_cannot_be_read_is_named(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path, workers: int
) -> None:
    bad = [tmp_path / "bad.mp4", tmp_path / "worse.mp4"]
    for number, path in enumerate(bad):
        path.write_bytes(b"not a video" * (number + 1))
    with pytest.raises(DatasetError, match=r"bad\.mp4"):
        cache_videos(
            [*_videos(squares, 1), *bad],
            CacheRecipe.from_spec(tiny_spec),
            tmp_path / "rows",
            workers=workers,
            progress=False,
        )


def test_frames_that_a_video_lost_are_kept_with_its_rows(
    squares: Dataset, tiny_spec: ModelSpec, tmp_path: Path
) -> None:
    whole = _videos(squares, 1)[0]
    path = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w", options=FASTSTART) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with av.open(str(path)) as file:
        places = [packet.pos or 0 for packet in file.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: places[-3]])
    recipe = CacheRecipe.from_spec(tiny_spec)
    cached = cache_videos([whole, path], recipe, tmp_path / "rows", workers=1, progress=False)
    assert [video.frames_lost for video in cached] == [0, 3]
