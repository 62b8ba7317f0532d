"""`Annotator`: a camera's video with its decisions drawn in."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from PIL import Image, ImageDraw, ImageFont

from fgmclip.client.streams.samples import Box
from fgmclip.storage.text import one_line
from fgmclip.video.live import SeenPicture
from fgmclip.video.pictures import PictureConverter

Shown = Mapping[str | None, tuple[str, float]]
"""Label and probability by track; None for the whole frame."""

WAIT_SECONDS = 10.0
WAIT_BYTES = 256 * 2**20
"""A frame whose decision has not come by then is written with what is known."""

MAX_FILE_BYTES = 4 * 2**30
"""A camera that runs for months must not fill the disk: the rest is not recorded."""

LONGEST_STEP_SECONDS = 10
"""A longer time between two frames, as between recordings, is shown as one second."""

_TICKS = 30_000  # MPEG-4 takes at most 65535 a second.
_SMALLEST_SIDE = 16
_SMALLEST_BOX = 4
_DECISIONS = 4096
_PLATE = (0, 0, 0, 190)
_COLORS = ("#ffb000", "#4cc3ff", "#ff6f91", "#7ddc6b", "#c99bff", "#ffd966")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    picture: SeenPicture
    boxes: Mapping[str, Box]
    size: int


class Annotator:
    """Holds frames until the decision for their time has come, then draws and encodes them.

    Frames come from the thread that decodes, decisions from another. An existing file is kept: the
    next free number is put into the name. What goes wrong stops the recording, not the camera.
    """

    def __init__(self, path: Path, window_seconds: float) -> None:
        """Start; the file is made with the first frame.

        Args:
            path: The video file; its suffix says the format.
            window_seconds: How long a decision's window is: it names the frames in it.
        """
        self._path = path
        self._window = window_seconds
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._decisions: deque[tuple[float, Shown]] = deque(maxlen=_DECISIONS)
        self._video: _VideoFile | None = None
        self._closed = False
        self._failure: str | None = None

    @property
    def failure(self) -> str | None:
        """Why the recording stopped early, in one line; None while all is well."""
        return self._failure

    def add(self, picture: SeenPicture, boxes: Mapping[str, Box]) -> None:
        """Append a frame.

        Args:
            picture: The frame; `seen` must increase.
            boxes: Box of each track in its pixels.
        """
        size = sum(plane.buffer_size for plane in picture.picture.decoded.planes)
        with self._lock:
            if self._closed:
                return
            self._waiting.append(_Waiting(picture, boxes, size))
            self._bytes += size
            self._write_ready()

    def show(self, time: float, shown: Shown) -> None:
        """Say what was decided; the frames up to then are drawn when the next frame comes.

        Args:
            time: `StreamSample.time` of the decision; must increase.
            shown: What was decided.
        """
        with self._lock:
            self._decisions.append((time, shown))

    def close(self) -> None:
        """Write what waits and finish the file."""
        with self._lock:
            if self._closed:
                return
            while self._waiting:
                self._write_oldest()
            self._finish()

    def _write_ready(self) -> None:
        newest = self._waiting[-1].picture.seen
        while self._waiting:
            seen = self._waiting[0].picture.seen
            decided = bool(self._decisions) and self._decisions[-1][0] >= seen
            full = newest - seen > WAIT_SECONDS or self._bytes > WAIT_BYTES
            if not (decided or full):
                return
            self._write_oldest()

    def _write_oldest(self) -> None:
        waiting = self._waiting.popleft()
        self._bytes -= waiting.size
        if self._closed:
            return
        try:
            if self._video is None:
                self._video = _VideoFile(_free_path(self._path), waiting.picture.picture.size)
            self._video.write(waiting.picture, waiting.boxes, self._shown(waiting.picture.seen))
            if self._video.bytes > MAX_FILE_BYTES:
                self._fail(f"reached {MAX_FILE_BYTES // 2**30} GiB")
        except (av.FFmpegError, OSError, ValueError) as error:
            self._fail(getattr(error, "strerror", None) or str(error))

    def _shown(self, seen: float) -> Shown:
        """Return the first decision at or after `seen` whose window holds it, else the last."""
        while len(self._decisions) > 1 and self._decisions[1][0] < seen:
            self._decisions.popleft()
        near = list(itertools.islice(self._decisions, 2))
        for time, shown in (item for item in near if item[0] >= seen):
            if time - seen <= self._window:
                return shown
        for time, shown in (item for item in near if item[0] < seen):
            if seen - time <= self._window:
                return shown
        return {}

    def _fail(self, cause: str) -> None:
        self._failure = one_line(f"{self._path}: recording stopped: {cause}")
        self._waiting.clear()
        self._finish()

    def _finish(self) -> None:
        self._closed = True
        video, self._video = self._video, None
        if video is None:
            return
        try:
            video.close()
        except (av.FFmpegError, OSError) as error:
            self._failure = self._failure or one_line(f"{self._path}: {error}")


class _VideoFile:
    """Encodes drawn frames at the times of their source."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        height, width = (max(_SMALLEST_SIDE, side & ~1) for side in size)
        self._size = (width, height)
        self._path = path
        self._broken = False
        self.bytes = 0
        # Fragments: what was written plays even if this process is killed.
        fragments = {
            "movflags": "frag_keyframe+empty_moov+default_base_moof",
            "flush_packets": "1",
        }
        is_mp4 = path.suffix.lower() in (".mp4", ".mov", ".m4v")
        self._container: OutputContainer = av.open(
            "file:" + str(path.absolute()), "w", options=fragments if is_mp4 else {}
        )
        try:
            self._stream = self._add_stream()
        except BaseException:
            self._container.close()
            raise
        self._converter = PictureConverter("rgb")
        self._last: float | None = None
        self._ticks = 0

    def _add_stream(self) -> VideoStream:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        options = {"preset": "veryfast", "crf": "23", "bf": "0"}
        if codec == "mpeg4":
            options = {"qmin": "3", "qmax": "8"}
        stream = self._container.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        stream.codec_context.thread_count = 1
        stream.codec_context.gop_size = 50
        return stream

    def write(self, picture: SeenPicture, boxes: Mapping[str, Box], shown: Shown) -> None:
        pixels = self._converter.convert(picture.picture.decoded, picture.time).pixels
        scale = (self._size[0] / pixels.shape[1], self._size[1] / pixels.shape[0])
        image = Image.fromarray(pixels)
        if image.size != self._size:
            image = image.resize(self._size)
        draw(image, boxes, shown, scale)
        frame = av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")
        if self._last is not None:
            step = picture.seen - self._last
            step = step if 0 < step <= LONGEST_STEP_SECONDS else 1.0
            self._ticks += max(1, round(step * _TICKS))
        self._last = picture.seen
        frame.pts, frame.time_base = self._ticks, Fraction(1, _TICKS)
        self._mux(frame)

    def close(self) -> None:
        try:
            # A packet after a header that failed, on a full disk for one, is written through a
            # null pointer: FFmpeg ends the whole process.
            if not self._broken:
                self._mux(None)
        finally:
            try:
                self._container.close()
            finally:
                self._remove_empty()

    def _mux(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self.bytes += packet.size
                self._container.mux(packet)
        except BaseException:
            self._broken = True
            raise

    def _remove_empty(self) -> None:
        """Remove a file that has no header even: it would be taken for a recording."""
        with suppress(OSError):
            if self._path.stat().st_size == 0:
                self._path.unlink()


def draw(
    image: Image.Image,
    boxes: Mapping[str, Box],
    shown: Shown,
    scale: tuple[float, float] = (1.0, 1.0),
) -> None:
    """Draw decisions into a picture: those of tracks at their boxes, the frame's below.

    Args:
        image: RGB; changed.
        boxes: Box of each track.
        shown: What was decided.
        scale: Pixels of the image in a pixel of the boxes, across and down.
    """
    width, height = image.size
    font_size = max(9, min(height // 16, width // 20))
    canvas = ImageDraw.Draw(image, "RGBA")
    font = ImageFont.load_default(font_size)
    for number, (track, box) in enumerate(boxes.items()):
        left, top, right, bottom = (float(edge) * scale[i % 2] for i, edge in enumerate(box))
        if right - left < _SMALLEST_BOX or bottom - top < _SMALLEST_BOX:
            continue
        color = _COLORS[number % len(_COLORS)]
        line = max(2, height // 240)
        canvas.rectangle((left, top, right, bottom), outline="black", width=line + 2)
        canvas.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=color, width=line)
        label = f"{track}  {_text(*shown[track])}" if track in shown else track
        _plate(canvas, (left, max(0.0, top - font_size * 1.5)), label, font, font_size, color)
    if None in shown:
        label, probability = shown[None]
        margin = font_size * 0.5
        length, thick = width * 0.35, max(3, font_size // 3)
        y = height - margin - thick
        above = (margin, y - font_size * 1.4)
        _plate(canvas, above, _text(label, probability), font, font_size, "white")
        canvas.rectangle((margin, y, margin + length, y + thick), fill=_PLATE)
        filled = length * min(1.0, max(0.0, probability))
        canvas.rectangle((margin, y, margin + filled, y + thick), fill=_COLORS[0])


def _text(label: str, probability: float) -> str:
    return f"{one_line(label)[:60]}  {probability:.0%}"


def _plate(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[float, float],
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    font_size: int,
    color: str,
) -> None:
    """Write text on a dark plate: readable on any background."""
    x, y = corner
    pad = font_size * 0.25
    right = canvas.textbbox((x + pad, y), text, font=font)[2] + pad
    canvas.rectangle((x, y, right, y + font_size * 1.4), fill=_PLATE)
    canvas.text((x + pad, y + pad * 0.6), text, font=font, fill=color)


def _free_path(path: Path) -> Path:
    free, number = path, 1
    while free.exists():
        number += 1
        free = path.with_stem(f"{path.stem}-{number}")
    return free
