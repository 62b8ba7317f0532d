"""Decisions drawn into video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from fgmclip.client.gateway import annotate
from fgmclip.client.gateway.annotate import Annotator, draw
from fgmclip.video.decode import read_pictures
from fgmclip.video.live import SeenPicture

WriteRecording = Callable[..., Path]
START = 1_800_000_000.0


def seen(path: Path, start: float = START) -> Iterator[SeenPicture]:
    for picture in read_pictures(path, layout="rgb"):
        yield SeenPicture(picture.time, start + picture.time, 0.0, 0, picture)


def frames(path: Path) -> tuple[list[float], list[NDArray[np.uint8]]]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    pictures = [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in decoded]
    return [frame.time or 0.0 for frame in decoded], pictures


def bar(picture: NDArray[np.uint8]) -> float:
    """Return how much of the picture is of the bar's orange."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return float(((red > 170) & (green > 110) & (green < 210) & (blue < 110)).mean())


@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "h264"), ("mkv", "h264"), ("mp4", "mpeg4")])
def test_every_frame_is_written_at_its_time(
    write_recording: WriteRecording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    codec: str,
) -> None:
    recording = write_recording("a.mp4", 2.0)
    if codec == "mpeg4":
        monkeypatch.setattr(av, "codecs_available", av.codecs_available - {"libx264"})
    out = tmp_path / f"out.{suffix}"
    annotator = Annotator(out, 1.0)
    for picture in seen(recording):
        annotator.add(picture, {})
    annotator.close()
    assert annotator.failure is None
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == codec
    times, pictures = frames(out)
    assert times == pytest.approx([i / 25 for i in range(50)], abs=0.002)
    assert pictures[0].shape == (48, 64, 3)
    assert max(map(bar, pictures)) == 0


def test_a_frame_waits_for_the_decision_of_its_time(
    write_recording: WriteRecording, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    annotator = Annotator(out, 0.5)
    pictures = list(seen(write_recording("a.mp4", 3.0, size=(120, 160))))
    for picture in pictures:
        annotator.add(picture, {})
    # Windows of half a second end at 1.0 and 1.25 s.
    annotator.show(START + 1.0, {None: ("wave", 0.2)})
    annotator.show(START + 1.25, {None: ("wave", 0.9)})
    annotator.close()
    times, drawn = frames(out)
    length = dict(zip((round(time, 2) for time in times), map(bar, drawn), strict=True))
    short = [length[time] for time in (0.52, 0.8, 1.0)]
    long = [length[time] for time in (1.04, 1.24, 1.6)]
    assert min(short) > 0
    assert min(long) > 3 * max(short)
    assert all(length[time] == 0 for time in (0.0, 0.44, 1.84, 2.92))


def test_what_waits_is_bounded(
    write_recording: WriteRecording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotate, "WAIT_SECONDS", 0.4)
    out = tmp_path / "out.mp4"
    annotator = Annotator(out, 1.0)
    for picture in seen(write_recording("a.mp4", 2.0)):
        annotator.add(picture, {})
        assert len(annotator._waiting) <= 11
    monkeypatch.setattr(annotate, "WAIT_BYTES", 10_000)
    for picture in seen(write_recording("a.mp4", 0.3), START + 60):
        annotator.add(picture, {})
        assert len(annotator._waiting) <= 2
    annotator.close()
    assert len(frames(out)[0]) == 58


def test_recordings_and_sizes_follow_one_another(
    write_recording: WriteRecording, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    annotator = Annotator(out, 1.0)
    for picture in seen(write_recording("a.mp4", 0.4)):
        annotator.add(picture, {})
    for picture in seen(write_recording("b.mp4", 0.4, size=(60, 34)), START + 86_400):
        annotator.add(picture, {})
    annotator.close()
    times, pictures = frames(out)
    assert times[9] == pytest.approx(0.36, abs=0.002)
    assert times[10] == pytest.approx(1.36, abs=0.002)
    assert {picture.shape for picture in pictures} == {(48, 64, 3)}


def test_what_was_written_plays_although_nobody_closed_it(
    write_recording: WriteRecording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotate, "WAIT_SECONDS", 0.0)
    out = tmp_path / "out.mp4"
    annotator = Annotator(out, 1.0)
    for picture in seen(write_recording("a.mp4", 8.0)):
        annotator.add(picture, {})
    copy = tmp_path / "as-if-killed.mp4"
    copy.write_bytes(out.read_bytes())
    annotator.close()
    assert len(frames(copy)[0]) >= 50


def test_an_existing_file_is_kept(write_recording: WriteRecording, tmp_path: Path) -> None:
    source = write_recording("a.mp4", 0.2)
    for name in ("out.mp4", "out-2.mp4"):
        (tmp_path / name).write_bytes(b"kept")
    annotator = Annotator(tmp_path / "out.mp4", 1.0)
    for picture in seen(source):
        annotator.add(picture, {})
    annotator.close()
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "out-2.mp4").read_bytes() == b"kept"
    assert len(frames(tmp_path / "out-3.mp4")[0]) == 5


def test_a_failure_ends_the_recording_and_is_said(
    write_recording: WriteRecording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_recording("a.mp4", 1.0)
    annotator = Annotator(tmp_path / "none" / "out.mp4", 1.0)
    for picture in seen(source):
        annotator.add(picture, {})
    annotator.close()
    assert annotator.failure is not None
    assert "recording stopped: No such file or directory" in annotator.failure

    monkeypatch.setattr(annotate, "MAX_FILE_BYTES", 500)
    monkeypatch.setattr(annotate, "WAIT_SECONDS", 0.0)
    annotator = Annotator(tmp_path / "out.mp4", 1.0)
    for picture in seen(source):
        annotator.add(picture, {})
    annotator.close()
    assert "reached" in (annotator.failure or "")
    assert 0 < len(frames(tmp_path / "out.mp4")[0]) < 25


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (320, 180), (90, 400)])
@pytest.mark.parametrize("ground", ["black", "white", "#ffb000"])
def test_drawing_is_seen_on_any_ground_and_size(size: tuple[int, int], ground: str) -> None:
    image = Image.new("RGB", size, ground)
    before = np.asarray(image).copy()
    boxes: dict[str, list[float]] = {
        "a": [size[0] * 0.2, size[1] * 0.3, size[0] * 0.8, size[1] * 0.9],
        "inverted": [9, 9, 1, 1],
        "outside": [-50, -50, 2 * size[0], 2 * size[1]],
    }
    draw(image, boxes, {None: ("stand up\n", 1.7), "a": ("wave", 0.5), "gone": ("x", 0.1)})
    if min(size) >= 16:
        assert (np.asarray(image) != before).mean() > 0.02
    assert image.size == size
