"""Video as the field sends it: lost packets, bursts, wide pictures, woven fields, odd files."""

from __future__ import annotations

import http.server
import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import SecretStr
from rich.console import Console

from fgmclip.client import ActionClient, MockRequest, MockTransport
from fgmclip.client.clips import read_clips
from fgmclip.client.commands import run_classify
from fgmclip.client.gateway.messages import Damaged, Ended, Opened
from fgmclip.client.gateway.pipeline import CameraPipeline, Resume, WorkerTask
from fgmclip.client.gateway.settings import CameraSettings
from fgmclip.client.gateway.sources import RecordingTimes, parse_source
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.spec import Limits, PublicManifest, preset
from fgmclip.video.damage import Damage
from fgmclip.video.decode import decode, read_pictures
from fgmclip.video.errors import DamagedVideoError, LiveSourceError, VideoError
from fgmclip.video.live import SeenPicture, read_live
from fgmclip.video.windows import read_windows

SPEC = preset("demo")
RATE = 25
U8 = NDArray[np.uint8]


def moving(count: int, height: int = 96, width: int = 128) -> Iterator[U8]:
    """A bright square that moves over a texture, so that every packet has something to say."""
    texture = np.random.default_rng(0).integers(60, 120, (height, width, 3), np.uint8)
    for number in range(count):
        picture = texture.copy()
        left = (3 * number) % (width - 24)
        picture[20:60, left : left + 24] = 230
        yield picture


def write(
    path: Path,
    pictures: Iterable[U8],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    times: Sequence[float] | None = None,
) -> Path:
    with av.open(str(path), "w", options=container or {}) as file:
        stream: av.VideoStream | None = None
        for number, picture in enumerate(pictures):
            if stream is None:
                made = file.add_stream(codec, rate=RATE, options=options or {})
                assert isinstance(made, av.VideoStream)
                stream = made
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.time_base = Fraction(1, 1000 if times else RATE)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if times is None else round(times[number] * 1000)
            frame.time_base = stream.codec_context.time_base
            file.mux(stream.encode(frame))
        assert stream is not None
        file.mux(stream.encode(None))
    return path


def read(path: Path) -> tuple[list[float], Damage]:
    damage = Damage()
    return [item.time for item in read_pictures(path, layout="rgb", damage=damage)], damage


def packets(path: Path) -> list[tuple[int, int, bool]]:
    """Place, size and whether it is a key picture, of each packet."""
    with av.open(str(path)) as file:
        found = [item for item in file.demux(video=0) if item.size]
        return [(item.pos or 0, item.size, item.is_keyframe) for item in found]


def lose_one(path: Path) -> Path:
    """Take 188 bytes out of an MPEG-TS recording, amid a picture that is not a key picture."""
    data = path.read_bytes()
    start = next(item[0] for item in packets(path)[30:] if not item[2])
    stream = start + 188
    # The next one of the same stream that does not begin a picture.
    while data[stream + 1] != data[start + 1] & ~0x40 or data[stream + 2] != data[start + 2]:
        stream += 188
    path.write_bytes(data[:stream] + data[stream + 188 :])
    return path


@pytest.fixture
def ts(tmp_path: Path) -> Path:
    return write(tmp_path / "a.ts", moving(100), options={"g": "25", "bf": "0"})


# Classify without a server


def answered(request: MockRequest) -> dict[str, Any]:
    probabilities = np.full((1, len(SPEC.labels)), 0.01, np.float32)
    probabilities[0, 2] = 0.9
    return {
        "LOGITS": probabilities,
        "PROBABILITIES": probabilities,
        "EMBEDDING": np.zeros((1, 4), np.float32),
        "MODEL_TAG": np.array([b"m" * 16], dtype=object),
    }


@pytest.fixture
def transport() -> MockTransport:
    return MockTransport(
        PublicManifest(
            release=1,
            model_tag="m" * 16,
            embedding_tag="e" * 16,
            precision="fp32",
            dt=SPEC.clip.dt,
            spec=SPEC,
            limits=Limits(max_tracks=4, max_rows=64, max_side=4096, max_pixels=4096 * 2304),
        ),
        answered,
    )


@pytest.fixture
def classify(
    transport: MockTransport, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """Return a function that runs the command on files: exit code and what was printed."""
    made = ActionClient.__init__

    def init(self: ActionClient, url: str, **options: Any) -> None:
        made(self, url, transport=transport)

    monkeypatch.setattr(ActionClient, "__init__", init)

    def run(*paths: Path, as_json: bool = False) -> tuple[int, str]:
        console = Console(file=io.StringIO(), width=400)
        code = run_classify(paths, "nowhere:1", as_json, console)
        printed: Any = console.file
        return code, printed.getvalue()

    return run


# Damage


def test_a_lost_packet_costs_a_frame_or_two(
    ts: Path, classify: Callable[..., tuple[int, str]]
) -> None:
    whole = read(ts)[0]
    times, damage = read(lose_one(ts))
    assert len(whole) == 100
    # The demuxer and the decoder need not blame the same frame.
    assert damage.lost in (1, 2)
    assert len(times) == damage.frames == 100 - damage.lost
    assert times[-1] == pytest.approx(whole[-1])
    code, printed = classify(ts)
    assert code == 0
    assert printed.rstrip().endswith(f"{damage.lost} of 100 frames lost")
    answer = json.loads(classify(ts, as_json=True)[1])
    assert (answer["frames"], answer["frames_lost"]) == (damage.frames, damage.lost)
    # A sample takes the nearest frame: no window is missing.
    assert answer["windows"] == 7


def test_a_damaged_picture_of_an_mp4_costs_one_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving(60), options={"g": "20", "bf": "0"})
    data = bytearray(path.read_bytes())
    place, size, _ = packets(path)[31]
    data[place : place + min(size, 60)] = bytes(min(size, 60))
    path.write_bytes(data)
    times, damage = read(path)
    assert (len(times), damage.lost) == (59, 1)
    assert times == pytest.approx([i / RATE for i in range(60) if i != 31])


@pytest.mark.skipif("libx265" not in av.codecs_available, reason="this FFmpeg writes no HEVC")
def test_a_damaged_picture_of_hevc_costs_itself_alone(tmp_path: Path) -> None:
    # FFmpeg's decoder leaves out all up to the next key picture, and says nothing of it.
    path = write(
        tmp_path / "a.mp4",
        moving(60),
        codec="libx265",
        options={"x265-params": "log-level=none:keyint=250:bframes=0"},
    )
    data = bytearray(path.read_bytes())
    place, size, _ = packets(path)[20]
    # Not the length that MP4 puts before it: the picture itself.
    data[place + 12 : place + size] = bytes(size - 12)
    path.write_bytes(data)
    times, damage = read(path)
    assert damage.lost in (1, 2)
    assert len(times) == 60 - damage.lost
    assert times[-1] == pytest.approx(59 / RATE)


@pytest.mark.parametrize(("kept", "frames"), [(0.8, 48), (0.3, 18)])
def test_the_share_that_was_read_decides(
    tmp_path: Path, kept: float, frames: int, classify: Callable[..., tuple[int, str]]
) -> None:
    path = write(
        tmp_path / "a.mp4",
        moving(60),
        options={"g": "1"},
        container={"movflags": "faststart"},
    )
    cut = packets(path)[round(60 * kept)][0]
    path.write_bytes(path.read_bytes()[:cut])
    code, printed = classify(path, as_json=True)
    answer = json.loads(printed)
    if kept > 0.5:
        assert code == 0
        assert (answer["frames"], answer["frames_lost"]) == (frames, 60 - frames)
    else:
        assert code == 1
        assert f"only {frames} of 60 frames can be read" in answer["error"]
        assert "the file ends early" in answer["error"]


def jpegs(count: int, height: int = 96, width: int = 128) -> list[bytes]:
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, RATE)
    found = []
    for number, picture in enumerate(moving(count, height, width)):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuvj420p")
        frame.pts = number
        found += [bytes(packet) for packet in encoder.encode(frame)]
    return [*found, *(bytes(packet) for packet in encoder.encode(None))]


def test_half_a_jpeg_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=RATE)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuvj420p"
        for number, data in enumerate(jpegs(40)):
            packet = av.Packet(data[: len(data) // 2] if number % 10 == 5 else data)
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, RATE), stream
            packet.is_keyframe = True
            file.mux(packet)
    times, damage = read(path)
    assert (len(times), damage.lost) == (36, 4)
    assert 5 / RATE not in times


def pipeline_of(source: object, **fields: Any) -> CameraPipeline:
    settings = CameraSettings.of(name="door", source=SecretStr(str(source)), **fields)
    return CameraPipeline(WorkerTask(settings, parse_source(settings), SPEC, Resume()))


@contextmanager
def running(pipeline: CameraPipeline) -> Iterator[None]:
    thread = threading.Thread(target=pipeline.run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        pipeline.stop()
        thread.join(30)


def test_a_watched_recording_goes_on_and_says_what_it_lost(ts: Path) -> None:
    pipeline = pipeline_of(lose_one(ts))
    said: list[object] = []
    with running(pipeline):
        while not isinstance(item := pipeline.queue.take(30), Ended):
            assert item is not None
            said.append(item)
            pipeline.told(pipeline.resume)
    (damaged,) = (each for each in said if isinstance(each, Damaged))
    assert damaged.cause.startswith(f"{item.counts.lost} of 100 frames lost: ")
    assert item.cause is None
    assert item.counts.frames == 100 - item.counts.lost


# What classify sends


def test_clips_are_what_the_server_makes_of_windows(tmp_path: Path) -> None:
    # A gap, a short run at the end, an odd size, and frames of another size after it.
    times = [i / 25 for i in range(60)] + [4 + i / 25 for i in range(15)]
    path = write(
        tmp_path / "a.mkv", moving(75, 97, 131), codec="ffv1", pix_fmt="yuv444p", times=times
    )
    parameters = PreprocessParameters.from_spec(SPEC)
    clips = list(read_clips(path, SPEC, Damage()))
    windows = list(read_windows(path, SPEC.clip))
    assert len(clips) == len(windows) >= 3
    assert windows[-1].samples < SPEC.clip.frames
    for clip, window in zip(clips, windows, strict=True):
        pixels, luma = preprocess_u8(window.frames, parameters, color_matrix=window.color_matrix)
        np.testing.assert_array_equal(clip["PIXELS_U8"], pixels)
        assert luma is not None
        np.testing.assert_array_equal(clip["LUMA_U8"], luma)


def test_a_very_wide_picture_is_classified(
    tmp_path: Path, classify: Callable[..., tuple[int, str]]
) -> None:
    path = write(
        tmp_path / "a.mp4",
        (np.full((1728, 4608, 3), 10 * i, np.uint8) for i in range(3)),
        options={"preset": "ultrafast"},
    )
    code, printed = classify(path)
    assert code == 0
    assert SPEC.labels[2] in printed


# Interlaced pictures


def woven(count: int) -> Iterator[U8]:
    """Two moments in each picture: the square of the lower field is a step ahead."""
    for number in range(count):
        picture = np.full((96, 128, 3), 60, np.uint8)
        for field in (0, 1):
            left = (8 * number + 4 * field) % 96
            picture[field::2][10:40, left : left + 24] = 230
        yield picture


def combing(pixels: U8) -> float:
    rows = pixels[..., 1].astype(int)
    return float(np.abs(2 * rows[1:-1] - rows[:-2] - rows[2:]).mean())


INTERLACED = {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme", "qmin": "1", "qmax": "2"}}


def test_interlaced_pictures_are_deinterlaced(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", woven(25), **INTERLACED)  # type: ignore[arg-type]
    with av.open(str(path)) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    raw = [np.asarray(picture, np.uint8) for picture in pictures]
    frames = list(decode(path))
    assert len(frames) == len(raw) == 25
    assert np.diff([frame.time for frame in frames]) == pytest.approx(1 / RATE)
    woven_by = np.mean([combing(picture) for picture in raw[2:-2]])
    assert np.mean([combing(frame.pixels) for frame in frames[2:-2]]) < 0.4 * woven_by


def test_interlaced_cameras_are_deinterlaced_as_files_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", woven(25), **INTERLACED)  # type: ignore[arg-type]
    with served({"/": ("video/mp2t", [path.read_bytes()])}) as address:
        seen, cause = live(address + "/")
    # How FFmpeg says it depends on how the server closed.
    assert cause in ("the stream ended", "broke off: Input/output error")
    frames = list(decode(path))
    assert len(frames) - 1 <= len(seen) <= len(frames)
    # But the last, which looks for one after it.
    for picture, frame in zip(seen[:-1], frames, strict=False):
        np.testing.assert_array_equal(picture.picture.frame().pixels, frame.pixels)


def test_progressive_pictures_stay_as_they_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", woven(10), codec="ffv1", pix_fmt="yuv444p")
    for frame, picture in zip(decode(path), woven(10), strict=True):
        assert np.abs(frame.pixels.astype(int) - picture).max() <= 3


# Live sources


@contextmanager
def served(answers: Mapping[str, tuple[str, Sequence[bytes]]]) -> Iterator[str]:
    """Serve paths over HTTP: a content type, and what is sent one piece after another."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, pieces = answers[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            try:
                for piece in pieces:
                    self.wfile.write(piece)
            except OSError:
                return

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def live(address: str, damage: Damage | None = None) -> tuple[list[SeenPicture], str]:
    seen: list[SeenPicture] = []
    with pytest.raises(LiveSourceError) as raised:
        seen.extend(read_live(address, layout="rgb", stall_seconds=5, damage=damage))
    return seen, str(raised.value)


def multipart(pictures: Sequence[bytes], mode: str) -> Iterator[bytes]:
    for number, picture in enumerate(pictures):
        part = picture
        if mode == "half" and number % 10 == 5:
            part = picture[: len(picture) // 2]
        if mode == "empty" and number % 10 == 5:
            part = b""
        if mode == "no end":
            part = picture[:-2]
        head = b"" if mode == "no first boundary" else b"--frame\r\n"
        head += b"Content-Type: image/jpeg\r\n"
        if mode != "no length":
            head += b"Content-Length: %d\r\n" % len(part)
        tail = b"--frame\r\n" if mode == "no first boundary" else b""
        yield head + b"\r\n" + part + b"\r\n" + tail


@pytest.mark.parametrize(
    ("mode", "least", "lost"),
    [
        ("whole", 38, 0),
        ("half", 34, 4),
        ("empty", 34, 4),
        ("no end", 38, 0),
        ("no length", 38, 0),
        ("no first boundary", 37, 0),
    ],
)
def test_mjpeg_cameras_as_they_are(
    mode: str, least: int, lost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        """Pictures without times of their own are timed by their arrival."""

        monotonic = staticmethod(time.monotonic)
        ticks = itertools.count()

        @classmethod
        def time(cls) -> float:
            return 1_800_000_000 + next(cls.ticks) / RATE

    monkeypatch.setattr("fgmclip.video.live.time", Clock)
    kind = "multipart/x-mixed-replace;boundary=frame"
    damage = Damage()
    with served({"/": (kind, list(multipart(jpegs(40), mode)))}) as address:
        seen, _ = live(address + "/", damage)
    assert least <= len(seen) <= 40 - lost
    assert damage.lost == lost


def test_a_page_instead_of_a_camera_is_said_at_once() -> None:
    page = b"<html><body>Please log in</body></html>" * 50
    with served({"/": ("text/html", [page])}) as address:
        seen, cause = live(address + "/")
    assert not seen
    assert cause.startswith("cannot be opened: ")


def test_a_camera_without_tcp_names_the_setting_that_helps() -> None:
    description = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
        "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
    )

    def answer(connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            while (line := lines.readline()).strip():
                method = line.split()[0]
                number = b"1"
                while header := lines.readline().strip():
                    if header.lower().startswith(b"cseq:"):
                        number = header.split(b":")[1].strip()
                status, body = b"200 OK", b""
                if method == b"DESCRIBE":
                    body = description.encode()
                elif method == b"SETUP":
                    status = b"461 Unsupported transport"
                connection.sendall(
                    b"RTSP/1.0 %s\r\nCSeq: %s\r\nContent-Type: application/sdp\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (status, number, len(body), body)
                )

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: answer(server.accept()[0]), daemon=True)
        thread.start()
        _, cause = live(f"rtsp://127.0.0.1:{server.getsockname()[1]}/camera")
        thread.join(10)
    assert "expected RTSP over tcp" in cause
    assert "rtsp_transport: udp" in cause


def test_a_segment_that_comes_at_once_is_no_overload(tmp_path: Path) -> None:
    # Three segments of a second each, there all at once, as HLS gives them.
    write(
        tmp_path / "list.m3u8",
        moving(3 * RATE),
        options={"g": str(RATE), "bf": "0", "preset": "ultrafast"},
        container={"hls_time": "1", "hls_list_size": "0"},
    )
    files = {
        f"/{item.name}": ("application/octet-stream", [item.read_bytes()])
        for item in tmp_path.iterdir()
    }
    taken = 0
    with served(files) as address:
        pipeline = pipeline_of(address + "/list.m3u8")
        overloaded = pipeline_of(address + "/list.m3u8")
        with running(overloaded), running(pipeline):
            while not isinstance(item := pipeline.queue.take(30), Opened):
                assert item is not None
            while pipeline.counts.frames < 3 * RATE:
                item = pipeline.queue.take(0.05)
                taken += len(item[0]) if isinstance(item, tuple) else 0
                if item is not None and not isinstance(item, tuple):
                    break
            while overloaded.counts.frames < 3 * RATE:
                time.sleep(0.05)
    assert pipeline.queue.dropped == 0
    # Nobody took them: an overload still drops, and keeps no more than its bound.
    assert overloaded.queue.dropped > 0
    assert taken >= 3 / SPEC.clip.dt - 2


# Odd files


def test_a_clock_that_wraps_or_is_set_back_goes_on(tmp_path: Path) -> None:
    first = write(tmp_path / "a.ts", moving(50), options={"bf": "0"})
    wrapped = write(
        tmp_path / "wrap.ts",
        moving(50),
        options={"bf": "0"},
        container={"output_ts_offset": str(2**33 / 90_000 - 1)},
    )
    times, damage = read(wrapped)
    assert damage.lost == 0
    assert np.diff(times) == pytest.approx(1 / RATE)
    joined = tmp_path / "joined.ts"
    joined.write_bytes(2 * first.read_bytes())
    times, damage = read(joined)
    # Where two recordings meet, the counters of packets do not go on.
    assert len(times) + damage.lost == 100
    assert damage.lost <= 1
    assert min(np.diff(times)) > 0


def test_a_size_that_changes_in_a_recording_goes_on(
    tmp_path: Path, classify: Callable[..., tuple[int, str]]
) -> None:
    small = write(tmp_path / "a.ts", moving(50), options={"bf": "0"})
    large = write(tmp_path / "b.ts", moving(50, 192, 256), options={"bf": "0"})
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    assert {window.frames.shape[1] for window in read_windows(path, SPEC.clip)} == {96, 192}
    code, _ = classify(path)
    assert code == 0
    pipeline = pipeline_of(path)
    sizes = []
    with running(pipeline):
        while not isinstance(item := pipeline.queue.take(30), Ended):
            if isinstance(item, Opened):
                sizes.append((item.width, item.height))
            pipeline.told(pipeline.resume)
    assert sizes == [(128, 96), (256, 192)]
    assert item.cause is None


def test_a_recording_that_is_still_written(tmp_path: Path) -> None:
    growing = write(tmp_path / "a.ts", moving(60), options={"g": "10", "bf": "0"})
    data = growing.read_bytes()
    growing.write_bytes(data[: len(data) * 2 // 3 + 50])
    times, damage = read(growing)
    assert 30 < len(times) < 60
    assert damage.lost <= 1
    unfinished = write(tmp_path / "b.mp4", moving(30))
    data = unfinished.read_bytes()
    unfinished.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(DamagedVideoError, match=r"index \(moov\) is missing: .* not finished"):
        read(unfinished)


def test_a_folder_has_more_than_recordings(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", moving(30))
    for name in ("Thumbs.db", ".DS_Store", "._a.mp4", "desktop.ini", "b.mp4.part"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7junk")
    pipeline = pipeline_of(tmp_path)
    opened = []
    with running(pipeline):
        while not isinstance(item := pipeline.queue.take(0.1), Ended):
            opened += [item.what] if isinstance(item, Opened) else []
            pipeline.told(pipeline.resume)
    assert [Path(what).name for what in opened] == ["a.mp4"]
    assert item.cause is None


def test_a_counter_in_a_name_is_no_time_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"20261124T1015{second:02}-{second + 80:04}.mp4" for second in range(0, 60, 10)]
    times = RecordingTimes(None, names)
    begun = [times.begin(Path(name), 0.0)[1] for name in names]
    assert np.diff(begun).tolist() == [10.0] * 5
    zoned = RecordingTimes(None, ["20261124T101500-0500.mp4"])
    assert zoned.begin(Path("20261124T101500-0500.mp4"), 0.0) == ("wall", 1795533300.0)


def test_no_odd_kind_of_picture_stops_the_decoder(tmp_path: Path) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "full.mp4": {"pix_fmt": "yuvj420p"},
        "ten.mkv": {"codec": "ffv1", "pix_fmt": "yuv420p10le"},
        "alpha.mov": {"codec": "qtrle", "pix_fmt": "argb"},
        "odd.mkv": {"codec": "ffv1", "pix_fmt": "yuv444p"},
        "raw.h264": {},
        "one.mp4": {},
    }
    for name, options in kinds.items():
        count = 1 if name == "one.mp4" else 10
        size = (97, 131) if name == "odd.mkv" else (96, 128)
        path = write(tmp_path / name, moving(count, *size), **options)
        frames = list(decode(path))
        assert len(frames) == count, name
        expected = next(moving(1, *size)).mean()
        assert frames[0].pixels.mean() == pytest.approx(expected, abs=4), name
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="is empty"):
        read(tmp_path / "empty.mp4")
