"""Pictures of a live source: an address or a webcam, with the time at which each was seen."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from fgmclip.video.clock import RESET_SECONDS, PresentationClock
from fgmclip.video.damage import Damage, PacketDecoder
from fgmclip.video.decode import Picture, nominal_period, video_stream
from fgmclip.video.deinterlace import Deinterlacer
from fgmclip.video.errors import LiveSourceError
from fgmclip.video.frames import Layout
from fgmclip.video.pictures import PictureConverter

OPEN_SECONDS = 10.0
"""An address that has not said what it sends by then is given up."""

_ANALYZE_MICROSECONDS = 2_000_000

JUMP_SECONDS = 2.0
"""A frame cannot come before it was taken: one that is this much too early had its clock set."""

PATIENCE_SECONDS = 30.0
"""Frames that stay `JUMP_SECONDS` late for so long do not catch up: a clock was set."""

DRIFT = 1e-3
"""Seconds a second by which the smallest delay may grow; quartz drifts by a tenth of that."""

SLEW = 0.9
"""Seconds a second by which times are corrected, so that they always advance."""

_Times = tuple[float, float, float, int]
"""Of a frame: `time`, `seen`, `arrived` and `run` of `SeenPicture`."""

# Pictures one after another, without a time: FFmpeg would take them for 25 a second.
_FORMATS_WITHOUT_TIMES = frozenset({"mjpeg", "mpjpeg", "h264", "hevc"})

# FFmpeg opens what a stream names (HLS parts, RTSP's media), but never a file of this host.
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,rtcp,srtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,rtcp,srtp,udp,tcp,tls,crypto",
    "rtmp": "rtmp,tcp",
    "http": "http,https,httpproxy,tcp,tls,crypto",
    "https": "http,https,httpproxy,tcp,tls,crypto",
}


@dataclass(frozen=True, slots=True, eq=False)
class SeenPicture:
    """A picture and when it was seen.

    Attributes:
        time: Seconds since the first frame of its run.
        seen: The same moment on the clock of whoever asks: Unix seconds for a live source.
        arrived: Unix seconds at which it came out of the decoder.
        run: Number of the run: a new one begins where times or sizes do not go on.
        picture: The picture.
    """

    time: float
    seen: float
    arrived: float
    run: int
    picture: Picture


class ArrivalClock:
    """Maps the times of one run's frames to Unix seconds by when they arrive.

    A frame arrives late by what encoder and network add, and never early: the smallest delay so far
    is the truest. It may grow by `DRIFT`, so that the camera's drift is followed, and the mapping
    follows it by at most `SLEW`, so that times advance.
    """

    def __init__(self) -> None:
        """Start before the first frame."""
        self._smallest = 0.0
        self._offset = 0.0
        self._last: float | None = None
        self._late_since: float | None = None

    def map(self, time: float, arrived: float) -> float | None:
        """Return the Unix seconds of a frame, or None if a clock was set and a new run begins.

        Args:
            time: Seconds since the first frame of the run; must increase.
            arrived: Unix seconds at which it came.
        """
        delay = arrived - time
        if self._last is None:
            self._smallest = self._offset = delay
        else:
            passed = time - self._last
            if delay < self._smallest - JUMP_SECONDS:
                return None
            if delay <= self._smallest + JUMP_SECONDS:
                self._late_since = None
            elif self._late_since is None:
                self._late_since = time
            elif time - self._late_since > PATIENCE_SECONDS:
                return None
            self._smallest = min(delay, self._smallest + DRIFT * passed)
            correction = self._smallest - self._offset
            self._offset += max(-SLEW * passed, min(correction, SLEW * passed))
        self._last = time
        return time + self._offset


class LiveClock:
    """Cuts a live stream's frames into runs and times each of them; see `SeenPicture`."""

    def __init__(self, time_base: Fraction, period: Fraction) -> None:
        """Start a stream.

        Args:
            time_base: Seconds of one timestamp unit.
            period: Nominal duration of a frame that states none, in seconds.
        """
        self._time_base = time_base
        self._period = period
        self._stamp: Fraction | None = None
        self.run = -1
        self.new_run()

    def new_run(self) -> None:
        """Count times from the next frame on."""
        self._presentation = PresentationClock(self._time_base, self._period)
        self._arrival = ArrivalClock()
        self.run += 1

    def advance(
        self, timestamp: int | None, duration: int, arrived: float
    ) -> tuple[float, float] | None:
        """Return a frame's time in its run and its Unix seconds, or None if it is to be dropped.

        Args:
            timestamp: Presentation timestamp in units of the time base, or None if missing.
            duration: The frame's duration in the same units; 0 if unknown.
            arrived: Unix seconds at which it came.
        """
        if timestamp is not None:
            stamp = timestamp * self._time_base
            if self._stamp is not None and stamp - self._stamp <= -RESET_SECONDS:
                self.new_run()
            self._stamp = stamp
        time = self._presentation.advance(timestamp, duration)
        if time is None:
            return None
        seen = self._arrival.map(time, arrived)
        if seen is None:
            self.new_run()
            time = self._presentation.advance(timestamp, duration) or 0.0
            seen = self._arrival.map(time, arrived)
        return time, arrived if seen is None else seen


def read_live(
    address: str,
    *,
    layout: Layout,
    stall_seconds: float,
    rtsp_transport: str = "tcp",
    damage: Damage | None = None,
) -> Iterator[SeenPicture]:
    """Yield the pictures of a live source until it breaks off.

    Damage is passed over, and interlaced pictures are deinterlaced, as in a file. A clock that was
    set, at the camera or here, and another frame size begin a new run.

    Args:
        address: rtsp, rtsps, rtmp, http or https; or a `/dev/video` device.
        layout: `rgb` or `nv12`, see `decode`.
        stall_seconds: How long it may send no frame.
        rtsp_transport: `tcp` or `udp`.
        damage: Counts what is read and what is lost, for callers that report it.

    Yields:
        Pictures, unconverted. There is no end without an error.

    Raises:
        LiveSourceError: It does not answer, breaks off or stalls; the message names no address.
        VideoError: What it sends is not moving pictures.
        LayoutError: The layout is neither of the two.
    """
    converter = PictureConverter(layout)
    # No leaf of VideoError may carry the address: it can hold a password.
    name = "stream"
    with _open(address, stall_seconds, rtsp_transport) as container:
        stream = video_stream(container, name)
        decoder = PacketDecoder(stream, damage or Damage())
        frames = _frames(container, stream, decoder, stall_seconds)
        timed = _timed(container, stream, frames, converter)
        for decoded, (at, seen, arrived, run) in Deinterlacer[_Times]().run(timed):
            picture = Picture.of(at, decoded, converter, name)
            yield SeenPicture(at, seen, arrived, run, picture)


def _timed(
    container: InputContainer,
    stream: VideoStream,
    frames: Iterable[av.VideoFrame],
    converter: PictureConverter,
) -> Iterator[tuple[av.VideoFrame, _Times]]:
    """Yield frames with their times; those without a time of their own are dropped."""
    time_base = Fraction(stream.time_base or 1)
    clock = LiveClock(time_base, nominal_period(stream))
    has_times = container.format.name not in _FORMATS_WITHOUT_TIMES
    size: tuple[int, int] | None = None
    for decoded in frames:
        arrived = time.time()
        shown = converter.shown_size(decoded)
        if size is not None and shown != size:
            clock.new_run()
        size = shown
        timestamp = decoded.pts if has_times else int(arrived / time_base)
        times = clock.advance(timestamp, decoded.duration or 0, arrived)
        if times is not None:
            yield decoded, (*times, arrived, clock.run)


def live_options(address: str, rtsp_transport: str) -> Mapping[str, str]:
    """Return FFmpeg's options for an address."""
    scheme = address.partition("://")[0]
    options = {
        "protocol_whitelist": _PROTOCOLS[scheme],
        "analyzeduration": str(_ANALYZE_MICROSECONDS),
    }
    if scheme in ("rtsp", "rtsps"):
        options["rtsp_transport"] = rtsp_transport
    return options


def _open(address: str, stall_seconds: float, rtsp_transport: str) -> InputContainer:
    began = time.monotonic()
    try:
        if address.startswith("/dev/"):
            return av.open(address, "r", format="v4l2", timeout=(OPEN_SECONDS, stall_seconds))
        options = live_options(address, rtsp_transport)
        try:
            return _open_address(address, stall_seconds, options)
        except av.InvalidDataError:
            if not address.startswith("http"):
                raise
            container = _open_bare_mjpeg(address, stall_seconds, options)
            if container is None:
                raise
            return container
    except (av.FFmpegError, OSError, ValueError) as error:
        # FFmpeg names the end of its patience differently in each protocol.
        if time.monotonic() - began >= OPEN_SECONDS:
            raise LiveSourceError(f"no answer in {OPEN_SECONDS:g} s") from error
        if address.startswith("rtsp") and getattr(error, "errno", 0) == errno.EPROTONOSUPPORT:
            other = "udp" if rtsp_transport == "tcp" else "tcp"
            raise LiveSourceError(
                f"cannot be opened: expected RTSP over {rtsp_transport}, which the camera does not "
                f"offer; set rtsp_transport: {other} for it in watch.yaml"
            ) from error
        raise LiveSourceError(f"cannot be opened: {error_cause(error)}") from error


def _open_address(
    address: str, stall_seconds: float, options: Mapping[str, str], format_name: str | None = None
) -> InputContainer:
    return av.open(
        address,
        "r",
        format=format_name,
        options=dict(options),
        metadata_errors="replace",
        timeout=(OPEN_SECONDS, stall_seconds),
    )


def _open_bare_mjpeg(
    address: str, stall_seconds: float, options: Mapping[str, str]
) -> InputContainer | None:
    """Open JPEG pictures whatever stands between them; None where none come.

    Some cameras send `multipart/x-mixed-replace` without the boundary before its first part, which
    FFmpeg's demuxer takes for the wrong format.
    """
    try:
        container = _open_address(address, stall_seconds, options, "mjpeg")
    except av.FFmpegError:
        return None
    if container.streams.video and container.streams.video[0].codec_context.width:
        return container
    container.close()
    return None


def error_cause(error: Exception) -> str:
    """Return what an error of FFmpeg says without the address that its text ends in."""
    said = getattr(error, "strerror", None)
    return str(said) if said else type(error).__name__


def _frames(
    container: InputContainer, stream: VideoStream, decoder: PacketDecoder, stall_seconds: float
) -> Iterator[av.VideoFrame]:
    """Yield good frames; raise where the source ends, breaks off, or sends none for too long."""
    heard = time.monotonic()
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            raise LiveSourceError("the stream ended") from None
        except av.ExitError as error:
            raise LiveSourceError(f"nothing came for {stall_seconds:g} s") from error
        except av.FFmpegError as error:
            raise LiveSourceError(f"broke off: {error_cause(error)}") from error
        for frame in decoder.decode(packet):
            heard = time.monotonic()
            yield frame
        if time.monotonic() - heard > stall_seconds:
            raise LiveSourceError(f"no frame could be decoded for {stall_seconds:g} s")
