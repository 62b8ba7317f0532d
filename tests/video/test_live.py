"""Live sources: clocks, runs, and what a stream can do to its reader."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import pytest

from fgmclip.video import live
from fgmclip.video.errors import LiveSourceError, NotAVideoError
from fgmclip.video.grid import Gap, sample_grid
from fgmclip.video.live import ArrivalClock, LiveClock, SeenPicture, live_options, read_live

WriteVideo = Callable[..., Path]

START = 1_800_000_000.0
DT = 0.125


class Timed(NamedTuple):
    run: int
    time: float
    seen: float


def watch(frames: Iterable[tuple[float, float]]) -> list[Timed]:
    """Return what a `LiveClock` makes of (timestamp, arrival) in seconds."""
    clock = LiveClock(Fraction(1, 90_000), Fraction(1, 25))
    seen = []
    for stamp, arrived in frames:
        times = clock.advance(round(stamp * 90_000), 0, START + arrived)
        if times is not None:
            seen.append(Timed(clock.run, times[0], times[1] - START))
    return seen


def runs(seen: Iterable[Timed]) -> list[list[Timed]]:
    return [list(group) for _, group in groupby(seen, key=lambda frame: frame.run)]


# Times


def test_jitter_of_the_network_does_not_shake_times() -> None:
    delays = [0.0, 0.2, 0.05, 0.3, 0.0, 0.15] * 20
    seen = watch((5 + i / 25, i / 25 + delay) for i, delay in enumerate(delays))
    assert len(runs(seen)) == 1
    assert [frame.seen for frame in seen] == pytest.approx(
        [i / 25 for i in range(len(delays))], abs=0.01
    )


def test_what_was_buffered_before_is_corrected_and_times_advance() -> None:
    # A second of video comes at once, then each frame when it is taken.
    arrivals = [1.0 + 0.001 * i if i < 25 else i / 25 for i in range(100)]
    seen = watch((i / 25, arrival) for i, arrival in enumerate(arrivals))
    times = [frame.seen for frame in seen]
    assert all(after > before for before, after in pairwise(times))
    assert times[-1] == pytest.approx(99 / 25, abs=0.05)
    assert max(time - arrival for time, arrival in zip(times, arrivals, strict=True)) < 0.15


@pytest.mark.parametrize("drift", [1 + 2e-4, 1 - 2e-4])
def test_drift_of_the_camera_is_followed(drift: float) -> None:
    hour = 3600 * 5
    seen = watch((i / 5 * drift, i / 5 + 0.02 * (i % 3)) for i in range(hour))
    assert len(runs(seen)) == 1
    assert seen[-1].seen == pytest.approx((hour - 1) / 5, abs=0.05)


def test_a_stall_of_the_network_keeps_the_run_and_its_times() -> None:
    # Taken evenly, but nothing arrives between 2 and 7 s, and then all of it.
    stamps = [i / 25 for i in range(500)]
    seen = watch((stamp, 7.0 if 2 < stamp < 7 else stamp) for stamp in stamps)
    assert len(runs(seen)) == 1
    assert [frame.seen for frame in seen] == pytest.approx(stamps, abs=0.02)


@pytest.mark.parametrize("jump", [3600.0, 5.0, -5.0, -3600.0])
def test_a_clock_jump_of_the_camera_begins_a_run(jump: float) -> None:
    seen = watch((10_000 + i / 25 + (jump if i >= 50 else 0), i / 25) for i in range(100))
    first, second = runs(seen)
    assert [frame.time for frame in first] == pytest.approx([i / 25 for i in range(50)])
    assert [frame.time for frame in second] == pytest.approx([i / 25 for i in range(50)])
    assert [frame.seen for frame in seen] == pytest.approx([i / 25 for i in range(100)], abs=0.01)


def test_a_clock_that_this_host_sets_forward_is_believed_after_a_while() -> None:
    seen = watch((i / 5, i / 5 + (600 if i >= 50 else 0)) for i in range(500))
    assert len(runs(seen)) == 2
    assert seen[-1].seen == pytest.approx(499 / 5 + 600, abs=0.05)


def test_windows_of_known_timestamps_are_right_through_a_stall_and_a_jump() -> None:
    variable = [0.0, 0.03, 0.12, 0.14, 0.26, 0.37, 0.5]
    stalled = [2.5 + i / 25 for i in range(14)]
    jumped = [i / 25 for i in range(14)]
    frames = [
        *((100 + time, time) for time in variable),
        *((100 + time, time) for time in stalled),
        *((9000 + time, 3.1 + time) for time in jumped),
    ]
    grids = [
        [
            (item.index, item.count) if isinstance(item, Gap) else (item.index, item.frame.time)
            for item in sample_grid(group, DT)
        ]
        for group in runs(watch(frames))
    ]
    assert grids == [
        [
            (0, 0.0),
            (1, pytest.approx(0.12)),
            (2, pytest.approx(0.26)),
            (3, pytest.approx(0.37)),
            (4, pytest.approx(0.5)),
            (5, 15),
            (20, pytest.approx(2.5)),
            (21, pytest.approx(2.62)),
            (22, pytest.approx(2.74)),
            (23, pytest.approx(2.86)),
            (24, pytest.approx(2.98)),
        ],
        [
            (0, 0.0),
            (1, pytest.approx(0.12)),
            (2, pytest.approx(0.24)),
            (3, pytest.approx(0.36)),
            (4, pytest.approx(0.48)),
        ],
    ]


def test_an_arrival_clock_refuses_a_frame_from_the_future() -> None:
    clock = ArrivalClock()
    assert clock.map(0.0, 100.0) == 100.0
    assert clock.map(10.0, 100.1) is None


# Through FFmpeg: files behind an HTTP address


@pytest.fixture
def serve_file() -> Iterator[Callable[[Path], str]]:
    """Return a function that serves a file at an HTTP address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(path: Path) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(path.stat().st_size))
                self.end_headers()
                self.wfile.write(path.read_bytes())

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/{path.name}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def read_to_end(address: str) -> tuple[list[SeenPicture], str]:
    seen: list[SeenPicture] = []
    with pytest.raises(LiveSourceError) as raised:
        seen.extend(read_live(address, layout="rgb", stall_seconds=5.0))
    return seen, str(raised.value)


def write_pictures(path: Path, widths: Iterable[int]) -> Path:
    """Write JPEG pictures one after another, as some cameras send them."""
    with path.open("wb") as file:
        for width in widths:
            encoder = av.CodecContext.create("mjpeg", "w")
            assert isinstance(encoder, av.VideoCodecContext)
            encoder.width, encoder.height, encoder.pix_fmt = width, 32, "yuvj420p"
            encoder.time_base = Fraction(1, 25)
            frame = av.VideoFrame(width, 32, "yuvj420p")
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.pts = 0
            for packet in [*encoder.encode(frame), *encoder.encode(None)]:
                file.write(bytes(packet))
    return path


def test_known_timestamps_come_through_the_live_path(
    write_video: WriteVideo,
    serve_file: Callable[[Path], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Variable rate, a stall of 2 s that arrivals show too, and a jump that they do not.
    times = [0.0, 0.03, 0.12, 0.26, 0.37, 0.5, 2.5, 2.62, 2.74, 102.8, 102.92, 103.05]
    arrivals = iter([*times[:9], 2.86, 2.98, 3.11])
    levels = [20 * (i + 1) for i in range(len(times))]

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def time() -> float:
            return START + next(arrivals)

    address = serve_file(write_video("a.mkv", levels, times))
    monkeypatch.setattr(live, "time", Clock)
    seen, cause = read_to_end(address)
    assert cause == "the stream ended"
    assert [picture.run for picture in seen] == [0] * 9 + [1] * 3
    assert [picture.time for picture in seen[:9]] == pytest.approx(times[:9], abs=0.001)
    assert [picture.time for picture in seen[9:]] == pytest.approx([0.0, 0.12, 0.25], abs=0.001)
    assert [picture.seen - START for picture in seen] == pytest.approx(
        [*times[:9], 2.86, 2.98, 3.11], abs=0.01
    )
    frames = [picture.picture.frame() for picture in seen]
    assert [frame.pixels.mean() for frame in frames] == pytest.approx(levels, abs=2)


def test_pictures_without_times_are_timed_by_their_arrival(
    tmp_path: Path, serve_file: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = iter([0.0, 0.1, 0.25, 0.5])

    class Clock:
        monotonic = staticmethod(time.monotonic)

        @staticmethod
        def time() -> float:
            return START + next(arrivals)

    address = serve_file(write_pictures(tmp_path / "a.mjpeg", [64] * 4))
    monkeypatch.setattr(live, "time", Clock)
    seen, _ = read_to_end(address)
    assert [picture.time for picture in seen] == pytest.approx([0.0, 0.1, 0.25, 0.5], abs=1e-5)


def test_another_frame_size_begins_a_run(tmp_path: Path, serve_file: Callable[[Path], str]) -> None:
    path = write_pictures(tmp_path / "a.mjpeg", [64, 64, 48, 48])
    seen, _ = read_to_end(serve_file(path))
    assert [(picture.run, picture.picture.size) for picture in seen] == [
        (0, (32, 64)),
        (0, (32, 64)),
        (1, (32, 48)),
        (1, (32, 48)),
    ]


def test_a_stream_cannot_make_ffmpeg_open_a_file_of_this_host(
    tmp_path: Path, write_video: WriteVideo, serve_file: Callable[[Path], str]
) -> None:
    secret = write_video("secret.ts", [100] * 30, [i / 25 for i in range(30)], codec="libx264")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:0\n"
        f"#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        encoding="utf-8",
    )
    with pytest.raises((LiveSourceError, NotAVideoError)):
        next(read_live(serve_file(playlist), layout="rgb", stall_seconds=2.0))


def test_protocols_never_include_files() -> None:
    for scheme in ("rtsp", "rtsps", "rtmp", "http", "https"):
        protocols = live_options(f"{scheme}://h", "tcp")["protocol_whitelist"].split(",")
        assert not {"file", "concat", "pipe", "data", "subfile"} & set(protocols)
        assert scheme in protocols


def test_an_address_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "OPEN_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        for scheme in ("rtsp", "http"):
            with pytest.raises(LiveSourceError, match=r"no answer in 0\.5 s"):
                next(read_live(f"{scheme}://127.0.0.1:{port}/a", layout="rgb", stall_seconds=1.0))


def test_an_error_names_no_address() -> None:
    with pytest.raises(LiveSourceError) as raised:
        next(read_live("rtsp://u:hunter2@127.0.0.1:9/a", layout="rgb", stall_seconds=1.0))
    assert "hunter2" not in str(raised.value)
    assert str(raised.value) == "cannot be opened: Connection refused"


def test_sound_alone_is_not_a_camera(tmp_path: Path, serve_file: Callable[[Path], str]) -> None:
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame(format="s16", layout="mono", samples=8000)
        frame.sample_rate = 8000
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(NotAVideoError, match="no video stream"):
        next(read_live(serve_file(path), layout="rgb", stall_seconds=1.0))


def test_a_webcam_is_read_by_its_driver(
    write_video: WriteVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No test machine has one: a file stands in for what av.open gives for the device.
    path = write_video("a.mkv", [50, 100, 150], [0.0, 0.1, 0.2])
    real = av.open
    asked: list[tuple[str, str | None]] = []

    def fake(file: str, mode: str = "r", *, format: str | None = None, **rest: object) -> object:
        asked.append((file, format))
        return real(str(path))

    monkeypatch.setattr(av, "open", fake)
    seen, cause = read_to_end("/dev/video3")
    assert asked == [("/dev/video3", "v4l2")]
    assert [picture.time for picture in seen] == pytest.approx([0.0, 0.1, 0.2])
    assert cause == "the stream ended"
