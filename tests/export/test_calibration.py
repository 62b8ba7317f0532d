"""Calibration clips: real preprocessing, kept apart by group, read once."""

from __future__ import annotations

import resource
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.export import calibration
from fgmclip.export.calibration import read_clips, split_groups
from fgmclip.export.errors import ExportError
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.model.network import FgmClip
from fgmclip.video.labelled import LabelledVideo, read_labelled
from fgmclip.video.samples import generate_samples
from fgmclip.video.windows import Window, read_windows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of two actions."""
    path = tmp_path_factory.mktemp("videos")
    generate_samples(path, per_class=2, seed=5, actions=("wave", "jump"))
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "fgmclip"


def test_clips_are_what_the_server_would_see(tiny: FgmClip, folder: Path) -> None:
    first, second = read_clips(tiny.spec, folder, count=9, report=lambda what: None)
    assert len(first.pixels) == len(second.pixels) == 2
    paths = {video.path for video in split_groups(read_labelled(folder))[0]}
    video = sorted(paths)[0]
    windows = list(read_windows(video, tiny.spec.clip))
    window = windows[len(windows) // 2]
    pixels, motion = preprocess(
        window.frames,
        PreprocessParameters.from_spec(tiny.spec),
        color_matrix=window.color_matrix,
        color_range=window.color_range,
    )
    np.testing.assert_array_equal(first.pixels[0], pixels)
    assert first.motion is not None
    assert motion is not None
    np.testing.assert_array_equal(first.motion[0], motion)
    assert first.labels[0] == video.parent.name


def test_clips_that_find_no_room_in_the_cache_are_used_all_the_same(
    tiny: FgmClip, folder: Path, cache: Path
) -> None:
    limit, said = resource.getrlimit(resource.RLIMIT_FSIZE), list[str]()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        first, second = read_clips(tiny.spec, folder, count=9, report=said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert len(first.pixels) == len(second.pixels) == 2
    assert [line for line in said if "the clips are not kept" in line and "File too large" in line]
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_clips_are_read_once(
    tiny: FgmClip, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_clips(tiny.spec, folder, count=2, report=lambda what: None)
    assert len(list(cache.glob("clips/*.npz"))) == 2
    monkeypatch.setattr(calibration, "read_windows", None)
    after = read_clips(tiny.spec, folder, count=2, report=lambda what: None)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.labels == other.labels


def test_no_group_is_on_both_sides(tmp_path: Path) -> None:
    videos = [LabelledVideo(tmp_path / f"{n}.mp4", "x", f"actor {n % 5}") for n in range(20)]
    first, second = split_groups(videos)
    assert len(first) + len(second) == 20
    assert not {video.group for video in first} & {video.group for video in second}


def test_generated_clips_differ_between_the_sides(tiny: FgmClip) -> None:
    first, second = read_clips(tiny.spec, None, count=2, report=lambda what: None)
    assert first.labels == second.labels
    assert not np.array_equal(first.pixels, second.pixels)


def test_a_source_that_cannot_judge_is_refused(tiny: FgmClip, tmp_path: Path) -> None:
    def refuse(source: Path, words: str) -> None:
        with pytest.raises(ExportError, match=words):
            read_clips(tiny.spec, source, count=2, report=lambda what: None)

    refuse(tmp_path / "nothing", "no such file or folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    refuse(empty, "no videos in it")
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    table = tmp_path / "index.csv"
    table.write_text("file,label\na.mp4,x\n", encoding="utf-8")
    refuse(table, "column path missing")
    table.write_text("path,label\ngone.mp4,x\n", encoding="utf-8")
    refuse(table, "line 2 names .*gone.mp4, which is not a file")
    table.write_text("path,label,group\na.mp4,x,g\nb.mp4,x,g\n", encoding="utf-8")
    refuse(table, "2 groups or more")


def test_a_long_video_is_never_in_memory(
    tiny: FgmClip, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[weakref.ref[NDArray[np.uint8]]] = []
    most = 0

    def long(*arguments: Any, **keywords: Any) -> Iterator[Window]:
        nonlocal most
        for _ in range(10):
            for window in read_windows(*arguments, **keywords):
                seen.append(weakref.ref(window.frames))
                most = max(most, sum(frames() is not None for frames in seen))
                yield window

    monkeypatch.setattr(calibration, "read_windows", long)
    read_clips(tiny.spec, folder, count=2, report=lambda what: None)
    # One that is read, and one that is being preprocessed.
    assert 0 < most <= 3
