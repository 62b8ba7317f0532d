from __future__ import annotations

import gc
import pickle
import struct
import subprocess
import sys
import tracemalloc
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from fgmclip.video.damage import Damage
from fgmclip.video.decode import decode, read_pictures
from fgmclip.video.errors import (
    DamagedVideoError,
    LayoutError,
    LowFrameRateError,
    NotAVideoError,
    UnsupportedVideoError,
    VideoError,
    VideoNotFoundError,
)
from fgmclip.video.frames import Frame, Layout

WriteVideo = Callable[..., Path]
Pixels = NDArray[np.uint8]


def noise(count: int, height: int = 48, width: int = 64) -> list[Pixels]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (height, width, 3), np.uint8) for _ in range(count)]


def smooth(height: int, width: int) -> Pixels:
    """Return a picture whose colours change so slowly that chroma subsampling loses nothing."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([60 + x * 120 / width, 60 + y * 120 / height, 180 - x * 100 / width], -1)
    picture: Pixels = rgb.round().astype(np.uint8)
    return picture


def rgb_of_nv12(frame: Frame) -> Pixels:
    """Convert by the definition of ITU-R BT.601 and BT.709, chroma repeated."""
    rows, width, _ = frame.pixels.shape
    height = rows * 2 // 3
    luma = frame.pixels[:height, :, 0].astype(float)
    chroma = frame.pixels[height:].reshape(height // 2, width // 2, 2).astype(float) - 128
    cb, cr = np.moveaxis(chroma.repeat(2, 0).repeat(2, 1), -1, 0)
    if frame.color_range == "limited":
        luma, cb, cr = (luma - 16) * 255 / 219, cb * 255 / 224, cr * 255 / 224
    k_r, k_b = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[frame.color_matrix or ""]
    red, blue = luma + 2 * (1 - k_r) * cr, luma + 2 * (1 - k_b) * cb
    green = (luma - k_r * red - k_b * blue) / (1 - k_r - k_b)
    rgb: Pixels = np.clip(np.round(np.stack([red, green, blue], -1)), 0, 255).astype(np.uint8)
    return rgb


def mean_levels(frames: list[Frame]) -> list[float]:
    return [float(frame.pixels.mean()) for frame in frames]


# Times


def test_irregular_times_come_back_from_zero(write_video: WriteVideo) -> None:
    times = [1.4, 1.433, 1.5, 1.9, 1.901, 4.0]
    path = write_video("a.mkv", [60, 80, 100, 120, 140, 160], times)
    frames = list(decode(path))
    assert [frame.time for frame in frames] == pytest.approx([t - 1.4 for t in times], abs=1e-9)
    assert mean_levels(frames) == pytest.approx([60, 80, 100, 120, 140, 160], abs=1.5)


def test_missing_timestamps_follow_the_frame_rate(write_video: WriteVideo) -> None:
    times = [i / 30 for i in range(20)]
    path = write_video("raw.h264", range(60, 160, 5), times, codec="libx264", ticks=30)
    frames = list(decode(path))
    assert [frame.time for frame in frames] == pytest.approx(times)
    assert mean_levels(frames) == pytest.approx(list(range(60, 160, 5)), abs=2)


def test_reordered_frames_of_an_avi_are_all_kept_in_order(write_video: WriteVideo) -> None:
    times = [i / 30 for i in range(20)]
    path = write_video(
        "b.avi", range(60, 160, 5), times, codec="mpeg4", options={"bf": "2"}, ticks=30
    )
    frames = list(decode(path))
    assert [frame.time for frame in frames] == pytest.approx(times)
    assert mean_levels(frames) == pytest.approx(list(range(60, 160, 5)), abs=4)


def test_a_frame_that_repeats_a_time_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "repeated.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for i, time in enumerate([0, 100, 100, 200]):
            picture = np.full((32, 48, 3), 60 + 20 * i, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            for packet in stream.encode(frame):
                packet.pts = packet.dts = time
                packet.time_base = Fraction(1, 1000)
                container.mux(packet)
    frames = list(decode(path))
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2])
    assert mean_levels(frames) == pytest.approx([60, 80, 120], abs=1.5)


# Pixels

TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[Pixels], Pixels]]] = {
    "as it is": ((1, 0, 0, 1), lambda a: a),
    "clockwise": ((0, 1, -1, 0), lambda a: np.rot90(a, -1)),
    "half": ((-1, 0, 0, -1), lambda a: np.rot90(a, 2)),
    "counterclockwise": ((0, -1, 1, 0), lambda a: np.rot90(a, 1)),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda a: a.swapaxes(0, 1)),
    "mirrored and clockwise": ((0, -1, -1, 0), lambda a: np.rot90(a, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_the_display_matrix_is_applied(write_video: WriteVideo, turn: str) -> None:
    path = write_video(
        "a.mp4", [smooth(32, 48)] * 2, [0, 0.1], codec="libx264", options={"crf": "4"}
    )
    plain = next(decode(path)).pixels
    (a, b, c, d), expected = TURNS[turn]
    data = bytearray(path.read_bytes())
    track = data.index(b"tkhd") + 4
    matrix = struct.pack(">9i", *(v << 16 for v in (a, b, 0, c, d, 0, 0, 0)), 1 << 30)
    data[track + 40 : track + 76] = matrix
    path.write_bytes(data)
    upright = next(decode(path))
    np.testing.assert_array_equal(upright.pixels, expected(plain))
    nv12 = next(decode(path, layout="nv12"))
    error = np.abs(rgb_of_nv12(nv12).astype(int) - upright.pixels)
    assert error.max() <= 4


@pytest.mark.parametrize(
    ("matrix", "value_range", "stated"),
    [
        (Colorspace.ITU601, ColorRange.MPEG, ("bt601", "limited")),
        (Colorspace.ITU709, ColorRange.MPEG, ("bt709", "limited")),
        (Colorspace.ITU709, ColorRange.JPEG, ("bt709", "full")),
        (Colorspace.BT2020, ColorRange.MPEG, ("bt709", "limited")),
    ],
)
def test_colours_survive_every_matrix_and_range_in_both_layouts(
    write_video: WriteVideo, matrix: int, value_range: int, stated: tuple[str, str]
) -> None:
    picture = smooth(48, 64)
    path = write_video(
        "a.mp4",
        [picture] * 2,
        [0, 0.1],
        codec="libx264",
        options={"crf": "2"},
        color=(int(matrix), int(value_range)),
    )
    rgb, nv12 = next(decode(path)), next(decode(path, layout="nv12"))
    assert (rgb.color_matrix, rgb.color_range) == (stated[0], "full")
    assert (nv12.color_matrix, nv12.color_range) == stated
    assert np.abs(rgb.pixels.astype(int) - picture).max() <= 8
    assert np.abs(rgb_of_nv12(nv12).astype(int) - rgb.pixels).max() <= 8
    assert np.abs(rgb_of_nv12(nv12).astype(int) - rgb.pixels).mean() <= 2.5


@pytest.mark.parametrize(("height", "matrix"), [(576, "bt601"), (720, "bt709")])
def test_an_unstated_matrix_goes_by_the_shorter_side(
    write_video: WriteVideo, height: int, matrix: str
) -> None:
    path = write_video(
        "a.mp4", [smooth(height, 1280)], [0], codec="libx264", options={"preset": "ultrafast"}
    )
    assert next(decode(path)).color_matrix == matrix
    assert next(decode(path, layout="nv12")).color_matrix == matrix


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("ffv1", "yuv420p10le"),
        ("ffv1", "yuv444p"),
        ("ffv1", "yuv422p"),
        ("ffv1", "yuva420p"),
        ("ffv1", "bgr0"),
        ("mjpeg", "yuvj420p"),
        ("qtrle", "argb"),
    ],
)
@pytest.mark.parametrize("layout", ["rgb", "nv12"])
def test_pixel_formats(write_video: WriteVideo, codec: str, pix_fmt: str, layout: Layout) -> None:
    picture = smooth(48, 64)
    options = {"qmin": "1", "qmax": "1"} if codec == "mjpeg" else {}
    name = "a.mov" if codec == "qtrle" else "a.mkv"
    path = write_video(name, [picture] * 2, [0, 0.1], codec=codec, pix_fmt=pix_fmt, options=options)
    frame = next(decode(path, layout=layout))
    rgb = frame.pixels if layout == "rgb" else rgb_of_nv12(frame)
    assert np.abs(rgb.astype(int) - picture).max() <= 10
    assert np.abs(rgb.astype(int) - picture).mean() <= 2.5


def test_grey_video_keeps_its_levels(write_video: WriteVideo) -> None:
    path = write_video("a.mkv", [5, 128, 250], [0, 0.1, 0.2], pix_fmt="gray")
    assert mean_levels(list(decode(path))) == pytest.approx([5, 128, 250], abs=1.5)
    frame = list(decode(path, layout="nv12"))[2]
    assert frame.color_range == "full"
    assert rgb_of_nv12(frame).mean() == pytest.approx(250, abs=1.5)


def test_odd_sides_are_cropped_for_nv12_only(write_video: WriteVideo) -> None:
    path = write_video("a.mkv", [smooth(33, 47)], [0])
    rgb, nv12 = next(decode(path)), next(decode(path, layout="nv12"))
    assert rgb.pixels.shape == (33, 47, 3)
    assert nv12.pixels.shape == (48, 46, 1)
    error = np.abs(rgb_of_nv12(nv12).astype(int) - rgb.pixels[:32, :46])
    assert error.max() <= 8


def test_an_unknown_layout_is_refused(write_video: WriteVideo) -> None:
    path = write_video("a.mkv", [60], [0])
    with pytest.raises(LayoutError, match="layout must be 'rgb' or 'nv12', got 'bgr'"):
        next(decode(path, layout="bgr"))  # type: ignore[arg-type]


def test_pixels_belong_to_the_caller(write_video: WriteVideo) -> None:
    path = write_video("a.mkv", [60, 200], [0, 0.1])
    for layout in ("rgb", "nv12"):
        first, second = decode(path, layout=layout)
        kept = first.pixels.copy()
        second.pixels[:] = 0
        np.testing.assert_array_equal(first.pixels, kept)
        assert first.pixels.flags.c_contiguous
        assert first.pixels.dtype == np.uint8


# Files that are not as they should be


def test_metadata_that_is_not_utf8_is_no_obstacle(write_video: WriteVideo) -> None:
    path = write_video("a.mkv", [60, 80], [0, 0.1], title="REPLACED")
    data = path.read_bytes()
    assert b"REPLACED" in data
    path.write_bytes(data.replace(b"REPLACED", b"\xff\xfe\xe9\xe8\x80\x81\xc0\xc1"))
    assert len(list(decode(path))) == 2


@pytest.mark.parametrize("name", ["a:b.mkv", "50%03d.mkv", "new\nline.mkv", "\udcff.mkv", "-i.mkv"])
def test_odd_file_names(write_video: WriteVideo, tmp_path: Path, name: str) -> None:
    path = write_video("a.mkv", [60, 80], [0, 0.1]).rename(tmp_path / name)
    assert len(list(decode(path))) == 2
    with pytest.raises(VideoNotFoundError) as raised:
        next(decode(tmp_path / ("no" + name)))
    message = str(raised.value)
    assert message.isprintable()
    message.encode("utf-8")


@pytest.mark.parametrize("cut", ["zeros", "end"])
def test_a_damaged_file_gives_its_good_frames(
    write_video: WriteVideo, cut: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video(
        "a.mp4",
        noise(40),
        [i / 30 for i in range(40)],
        codec="libx264",
        options={"g": "1"},
        container_options={"movflags": "faststart"},
    )
    intact = {frame.time: frame.pixels for frame in decode(path)}
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    if cut == "zeros":
        data[middle : middle + 4000] = bytes(4000)
    else:
        del data[middle:]
    path.write_bytes(data)
    damage = Damage()
    good = [picture.frame() for picture in read_pictures(path, layout="rgb", damage=damage)]
    assert 20 < len(good) < 40
    assert (damage.frames, damage.lost) == (len(good), 40 - len(good))
    assert str(damage).startswith(f"{40 - len(good)} of 40 frames lost: ")
    for frame in good:
        np.testing.assert_array_equal(frame.pixels, intact[frame.time])
    assert capfd.readouterr().err == ""


def test_a_file_of_which_most_is_lost_is_refused_after_its_good_frames(
    write_video: WriteVideo,
) -> None:
    path = write_video(
        "a.mp4",
        noise(40),
        [i / 30 for i in range(40)],
        codec="libx264",
        container_options={"movflags": "faststart"},
    )
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    good: list[Frame] = []
    with pytest.raises(DamagedVideoError) as raised:
        good.extend(decode(path))
    error = raised.value
    assert 5 < len(good) < 20
    assert error.frames == len(good)
    assert str(error).startswith(f"{path}: only {len(good)} of 40 frames can be read, expected at")
    assert "\n" not in str(error)
    assert isinstance(error, ValueError)


def test_a_recording_cut_between_key_frames_starts_at_the_next(write_video: WriteVideo) -> None:
    path = write_video(
        "a.ts", noise(40), [i / 30 for i in range(40)], codec="libx264", options={"g": "20"}
    )
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 4 // 188 * 188 :])
    frames = list(decode(path))
    assert 10 < len(frames) < 40
    assert frames[0].time == 0.0


def test_a_file_of_which_nothing_can_be_decoded(write_video: WriteVideo) -> None:
    path = write_video("a.mp4", noise(4), [0, 0.1, 0.2, 0.3], codec="libx264")
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov")
    data[start : end - 4] = bytes(end - 4 - start)
    path.write_bytes(data)
    with pytest.raises(DamagedVideoError, match="no frame can be decoded") as raised:
        list(decode(path))
    assert raised.value.frames == 0


def test_a_change_of_frame_size_goes_on(write_video: WriteVideo, tmp_path: Path) -> None:
    small = write_video(
        "small.h264", noise(10, 48, 64), [i / 30 for i in range(10)], codec="libx264", ticks=30
    )
    large = write_video(
        "large.h264", noise(5, 64, 96), [i / 30 for i in range(5)], codec="libx264", ticks=30
    )
    joined = tmp_path / "joined.h264"
    joined.write_bytes(small.read_bytes() + large.read_bytes())
    frames = list(decode(joined))
    sizes = [frame.pixels.shape[:2] for frame in frames]
    assert sizes == [(48, 64)] * 10 + [(64, 96)] * 5
    assert [frame.time for frame in frames] == pytest.approx([i / 30 for i in range(15)])


def test_a_video_of_one_pixel_is_too_small_for_nv12_only(write_video: WriteVideo) -> None:
    picture = np.full((1, 1, 3), 100, np.uint8)
    path = write_video("a.mkv", [picture], [0], pix_fmt="yuv444p")
    assert next(decode(path)).pixels.shape == (1, 1, 3)
    with pytest.raises(UnsupportedVideoError, match="1x1 pixels are too small for NV12"):
        next(decode(path, layout="nv12"))


def test_what_is_not_a_video_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.txt").write_text("hello world\n" * 100, encoding="utf-8")
    (tmp_path / "text.mp4").write_text("hello world\n" * 100, encoding="utf-8")
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    with wave.open(str(tmp_path / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(8000))
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n", encoding="utf-8"
    )
    expected = {
        "folder.mp4": "is a folder",
        "empty.mp4": "is empty (0 bytes)",
        "text.txt": "is text, not a video",
        "text.mp4": "cannot be read as a video",
        "noise.mp4": "cannot be read as a video",
        "sound.wav": "has no video stream, only audio",
        "list.m3u8": "is a playlist",
    }
    for name, cause in expected.items():
        with pytest.raises(NotAVideoError) as raised:
            next(decode(tmp_path / name))
        message = str(raised.value)
        assert message.startswith(f"{tmp_path / name}: {cause}")
        assert "\n" not in message
        assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_still_image_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    codec, pix_fmt = ("mjpeg", "yuvj420p") if name == "a.jpg" else ("png", "rgb24")
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = 32, 32, pix_fmt
    context.time_base = Fraction(1, 25)
    picture = av.VideoFrame.from_ndarray(smooth(32, 32), format="rgb24").reformat(format=pix_fmt)
    picture.pts = 0
    data = b"".join(bytes(packet) for packet in [*context.encode(picture), *context.encode(None)])
    for content in (data, data[: len(data) * 2 // 3]):
        path.write_bytes(content)
        with pytest.raises(NotAVideoError, match="still image"):
            next(decode(path))


def test_cover_art_is_no_video_stream(tmp_path: Path) -> None:
    path = tmp_path / "song.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=44100)
        cover = container.add_stream("mjpeg")
        assert isinstance(sound, av.AudioStream)
        assert isinstance(cover, av.VideoStream)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(smooth(32, 32), format="rgb24")
        picture.pts = 0
        for packet in [*cover.encode(picture), *cover.encode(None)]:
            container.mux(packet)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((2, 44100), np.float32), format="fltp", layout="stereo"
        )
        silence.sample_rate = 44100
        for sound_packet in [*sound.encode(silence), *sound.encode(None)]:
            container.mux(sound_packet)
    with pytest.raises(NotAVideoError, match="has no video stream, only audio, video"):
        next(decode(path))


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    for name in ("none.mp4", "none/none.mp4", "a\0b", "x" * 5000):
        with pytest.raises(FileNotFoundError) as raised:
            next(decode(tmp_path / name))
        assert isinstance(raised.value, VideoError)
        assert str(raised.value).endswith(": no such file")


# Resources


def test_memory_does_not_grow_with_the_video(write_video: WriteVideo) -> None:
    def peak(count: int) -> int:
        path = write_video(
            f"{count}.mkv", [i % 200 for i in range(count)], [i / 30 for i in range(count)]
        )
        tracemalloc.start()
        try:
            assert sum(1 for _ in decode(path)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    frame = 32 * 48 * 3
    assert peak(600) < peak(60) + 20 * frame


def test_pictures_are_freed_without_the_garbage_collector(write_video: WriteVideo) -> None:
    path = write_video("a.mkv", range(100), [i / 30 for i in range(100)])
    gc.collect()
    gc.disable()
    # Other tests' tracebacks may hold pictures of their own: only the increase counts.
    before = living_pictures()
    try:
        for layout in ("rgb", "nv12"):
            assert sum(1 for _ in decode(path, layout=layout)) == 100
        alive = living_pictures()
    finally:
        gc.enable()
    assert alive - before < 10


def living_pictures() -> int:
    # isinstance would ask every object for its __class__, which some of other libraries' answer
    # with a warning.
    return sum(issubclass(type(item), av.VideoFrame) for item in gc.get_objects())


def test_errors_cross_process_boundaries(tmp_path: Path) -> None:
    errors = [
        VideoNotFoundError(tmp_path, "no such file"),
        DamagedVideoError(tmp_path, "broken", 7),
        LowFrameRateError(tmp_path, 1.0, 0.125),
    ]
    for error in errors:
        copy = pickle.loads(pickle.dumps(error))
        assert type(copy) is type(error)
        assert str(copy) == str(error)
        assert vars(copy) == vars(error)


def test_the_room_needs_no_torch() -> None:
    code = (
        "import sys, fgmclip.video.windows; "
        "sys.exit(any(name.split('.')[0] == 'torch' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
