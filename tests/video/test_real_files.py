from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fgmclip.spec import ClipSpec
from fgmclip.video.damage import Damage
from fgmclip.video.decode import decode, read_pictures
from fgmclip.video.errors import LowFrameRateError, NotAVideoError, VideoError
from fgmclip.video.frames import Layout
from fgmclip.video.windows import read_windows

pytestmark = pytest.mark.data

# Frames, and windows of ClipSpec(), or the error.
HOSTILE: dict[str, tuple[int, int] | type[VideoError]] = {
    "Megamind_bugy.avi": (270, 17),
    "audio_only.mp3": NotAVideoError,
    "av1_video.mkv": (125, 9),
    "bad_huffman.jpg": NotAVideoError,
    "corrupt34_2.jpg": NotAVideoError,
    "corrupted.mp4": (48, 7),
    "empty_0_bytes.webm": NotAVideoError,
    "h264_10bits.mp4": (30, 1),
    "mask_200x200.mp4": (300, 19),
    "no_duration.webm": (74, 9),
    "one_pixel_yuv444.mp4": LowFrameRateError,
    "rot_0.mov": (3, 1),
    "rot_90.mov": (3, 1),
    "transparent.webm": (150, 9),
    "two_audio_streams.mp4": (325, 25),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_every_hostile_file_gives_windows_or_one_line(
    test_data: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = test_data / "hostile" / name
    expected = HOSTILE[name]
    if isinstance(expected, tuple):
        times = [frame.time for frame in decode(path, layout="nv12")]
        assert len(times) == expected[0]
        assert times == sorted(set(times))
        assert times[0] == 0
        windows = list(read_windows(path, ClipSpec()))
        assert len(windows) == expected[1]
        assert all(window.frames.shape[0] == 9 for window in windows)
    else:
        with pytest.raises(expected) as raised:
            list(read_windows(path, ClipSpec()))
        assert str(raised.value).startswith(f"{path}: ")
        assert "\n" not in str(raised.value)
    assert capfd.readouterr().err == ""


def test_no_hostile_file_is_left_out(test_data: Path) -> None:
    assert {path.name for path in (test_data / "hostile").iterdir()} == set(HOSTILE)


@pytest.mark.parametrize("layout", ["rgb", "nv12"])
def test_the_damaged_file_gives_the_frames_around_its_damage(
    test_data: Path, layout: Layout
) -> None:
    damage = Damage()
    path = test_data / "hostile" / "corrupted.mp4"
    good = [picture.frame() for picture in read_pictures(path, layout=layout, damage=damage)]
    assert (damage.frames, damage.lost) == (len(good), 2) == (48, 2)
    # FFmpeg shows one more, of which a part is made up.
    times = [i / 10 for i in range(50) if i not in (30, 32)]
    assert [frame.time for frame in good] == pytest.approx(times)


def test_the_rotated_file_is_upright(test_data: Path) -> None:
    plain = next(decode(test_data / "hostile" / "rot_0.mov")).pixels
    turned = next(decode(test_data / "hostile" / "rot_90.mov")).pixels
    assert plain.shape == (320, 568, 3)
    assert turned.shape == (568, 320, 3)
    # Both show a keyboard: gaps between its rows are dark lines across, not down.
    for picture in (plain, turned):
        grey = picture.mean(axis=2)
        assert grey.mean(axis=1).std() > grey.mean(axis=0).std()


def test_the_bugged_avi_is_evenly_timed(test_data: Path) -> None:
    times = [frame.time for frame in decode(test_data / "hostile" / "Megamind_bugy.avi")]
    assert np.diff(times) == pytest.approx(1 / 30)


def test_real_clips_have_as_many_frames_as_listed(test_data: Path) -> None:
    with (test_data / "index.csv").open(newline="", encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if row["file"].startswith("clips/")]
    datasets = sorted({row["dataset"] for row in rows})
    chosen = [row for name in datasets for row in [r for r in rows if r["dataset"] == name][:2]]
    assert len(chosen) >= 15
    for row in chosen:
        frames = list(decode(test_data / row["file"]))
        assert len(frames) == int(row["frames_pyav"]), row["file"]
        height, width, _ = frames[0].pixels.shape
        assert sorted((height, width)) == sorted((int(row["height"]), int(row["width"])))
        seconds = frames[-1].time + 1 / float(row["fps"])
        assert seconds == pytest.approx(float(row["seconds"]), abs=0.3), row["file"]
