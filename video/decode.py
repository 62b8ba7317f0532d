"""Streaming decoding of a video file: PyAV on the CPU, bounded memory, errors of one line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from fgmclip.video.clock import PresentationClock
from fgmclip.video.damage import Damage, decode_recording
from fgmclip.video.deinterlace import Deinterlacer
from fgmclip.video.errors import (
    DamagedVideoError,
    NotAVideoError,
    UnsupportedVideoError,
    VideoAccessError,
    VideoNotFoundError,
)
from fgmclip.video.frames import Frame, Layout
from fgmclip.video.pictures import PictureConverter

DECODING_VERSION = 2
"""Part of the key of every cache of frames: rises when a file gives other frames than before."""

# Refused unopened: FFmpeg would go and read the files that they name.
_PLAYLIST_STARTS = (b"#EXTM3U", b"ffconcat")

DEFAULT_RATE = Fraction(25)
"""Frames a second where neither container nor codec states a rate, as FFmpeg assumes."""

# AVI stores no presentation times: FFmpeg guesses them and errs on reordered frames, but AVI's
# decoding times count the frames that come out.
FORMATS_WITHOUT_PRESENTATION_TIMES = frozenset({"avi"})

_STILL_IMAGE = "is a still image; a video needs moving pictures"
_REFUSED_FORMATS = {
    "image2": _STILL_IMAGE,
    "ico": _STILL_IMAGE,
    "tty": "is text, not a video",
    "bin": "is text, not a video",
}


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture whose conversion, which costs time, waits until it is wanted.

    Attributes:
        time: When it is shown, in seconds since the first frame.
    """

    time: float
    _decoded: av.VideoFrame
    _converter: PictureConverter
    _path: Path

    @classmethod
    def of(
        cls,
        time: float,
        decoded: av.VideoFrame,
        converter: PictureConverter,
        path: str | os.PathLike[str],
    ) -> Picture:
        """Make one; `path` names its source in errors."""
        return cls(time, decoded, converter, Path(path))

    @property
    def decoded(self) -> av.VideoFrame:
        """The picture as the decoder gave it: not upright, of any pixel format."""
        return self._decoded

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as shown, pixels."""
        return self._converter.shown_size(self._decoded)

    def frame(self) -> Frame:
        """Convert the picture.

        Raises:
            UnsupportedVideoError: Its pixel format cannot be converted.
        """
        try:
            return self._converter.convert(self._decoded, self.time)
        except av.FFmpegError as error:
            name = self._decoded.format.name
            raise UnsupportedVideoError(
                self._path, f"pixel format {name} cannot be converted: {error.strerror}"
            ) from error


def decode(path: str | os.PathLike[str], *, layout: Layout = "rgb") -> Iterator[Frame]:
    """Yield the frames of a file's first video stream in presentation order.

    Times are seconds since the first frame and strictly increase; `PresentationClock` states what
    happens to missing, repeated and backward timestamps. Frames are turned upright by the display
    matrix, and interlaced ones deinterlaced. A stream that states no matrix is BT.601 if its
    shorter side is below 720 pixels, else BT.709; one that states no range is limited. Damage is
    passed over, see `PacketDecoder`. Memory holds a few frames, however long the video.

    Args:
        path: A regular file.
        layout: `rgb` for pixels u8 [H,W,3] or `nv12` for u8 [H*3/2,W,1].

    Yields:
        Frames, of one size unless the video changes its own.

    Raises:
        VideoError: A leaf of it: the file is missing, unreadable, not a video, unsupported, or
            damaged, so that most of it cannot be read: the latter after the good frames.
        LayoutError: The layout is neither of the two.
    """
    for picture in read_pictures(path, layout=layout):
        yield picture.frame()


def read_pictures(
    path: str | os.PathLike[str], *, layout: Layout, damage: Damage | None = None
) -> Iterator[Picture]:
    """Yield what `decode` yields, unconverted; arguments and errors are those of `decode`.

    Args:
        path: See `decode`.
        layout: See `decode`.
        damage: Counts what is read and what is lost, for callers that report it.
    """
    converter = PictureConverter(layout)
    _check_file(path)
    with _open(path) as container:
        stream = video_stream(container, path)
        decoded = decode_recording(container, stream, path, damage or Damage())
        for picture, time in Deinterlacer[float]().run(_timed(container, stream, decoded)):
            height, width = converter.shown_size(picture)
            if layout == "nv12" and min(height, width) < 2:
                raise UnsupportedVideoError(
                    path,
                    f"frames of {width}x{height} pixels are too small for NV12, which "
                    "needs at least 2x2; read it as rgb",
                )
            yield Picture.of(time, picture, converter, path)


def _timed(
    container: InputContainer, stream: VideoStream, pictures: Iterable[av.VideoFrame]
) -> Iterator[tuple[av.VideoFrame, float]]:
    """Yield pictures with their times; those without a time of their own are dropped."""
    clock = PresentationClock(Fraction(stream.time_base or 1), nominal_period(stream))
    by_decoding_time = container.format.name in FORMATS_WITHOUT_PRESENTATION_TIMES
    for picture in pictures:
        timestamp = picture.dts if by_decoding_time else picture.pts
        time = clock.advance(timestamp, picture.duration or 0)
        if time is not None:
            yield picture, time


def _check_file(path: str | os.PathLike[str]) -> None:
    try:
        status = os.stat(path)
    except PermissionError as error:
        raise VideoAccessError(path, "permission denied") from error
    except (OSError, ValueError) as error:
        raise VideoNotFoundError(path, "no such file") from error
    if stat.S_ISDIR(status.st_mode):
        raise NotAVideoError(path, "is a folder; give one video file")
    if not stat.S_ISREG(status.st_mode):
        raise NotAVideoError(path, "is not a regular file")
    if status.st_size == 0:
        raise NotAVideoError(path, "is empty (0 bytes)")
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise VideoAccessError(path, error.strerror or "cannot be read") from error
    if start.removeprefix(b"\xef\xbb\xbf").startswith(_PLAYLIST_STARTS):
        raise NotAVideoError(path, "is a playlist, not a video; give the file that it names")


def _open(path: str | os.PathLike[str]) -> InputContainer:
    # The prefix keeps a colon in a file's name from being read as a protocol, and the whitelist
    # keeps a file from naming an address that FFmpeg would then fetch.
    try:
        return av.open(
            "file:" + os.path.abspath(path),
            "r",
            options={"protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except PermissionError as error:
        raise VideoAccessError(path, "permission denied") from error
    except av.FFmpegError as error:
        if _is_unfinished_mp4(path):
            raise DamagedVideoError(
                path,
                "its index (moov) is missing: the recording is not finished; wait until it is, or "
                "record MPEG-TS, Matroska or fragmented MP4, which can be read at any time",
                0,
            ) from error
        raise NotAVideoError(path, f"cannot be read as a video: {error.strerror}") from error


def _is_unfinished_mp4(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as MP4 does and has no `moov` among its boxes."""
    at = 0
    with open(path, "rb") as file:
        while len(head := file.read(16)) >= 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            if kind == b"moov" or (not at and kind != b"ftyp"):
                return False
            if length < 8:
                break
            at += length
            file.seek(at)
    return at > 0


def video_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    """Return the first stream of moving pictures.

    Raises:
        NotAVideoError: There is none.
        UnsupportedVideoError: This build of FFmpeg cannot decode it.
    """
    name = container.format.name
    if name.endswith("_pipe"):
        raise NotAVideoError(path, _STILL_IMAGE)
    if name in _REFUSED_FORMATS:
        raise NotAVideoError(path, _REFUSED_FORMATS[name])
    cover = av.stream.Disposition.attached_pic
    streams = [item for item in container.streams.video if not item.disposition & cover]
    if not streams:
        kinds = ", ".join(sorted({item.type for item in container.streams}))
        raise NotAVideoError(path, f"has no video stream, only {kinds or 'nothing'}")
    stream = streams[0]
    if stream.codec_context is None:
        raise UnsupportedVideoError(path, "no decoder for its codec; re-encode it, e.g. to H.264")
    return stream


def nominal_period(stream: VideoStream) -> Fraction:
    """Return the seconds between frames that a stream states, or `DEFAULT_RATE`'s."""
    rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
    return 1 / Fraction(rate) if rate > 0 else 1 / DEFAULT_RATE
