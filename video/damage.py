"""Going on over damage: the good pictures of a stream's packets, and a count of what was lost."""

from __future__ import annotations

import os
from collections.abc import Iterator

import av
from av import Packet, VideoFrame
from av.container import InputContainer
from av.video.stream import VideoStream

from fgmclip.video.errors import DamagedVideoError

LEAST_SHARE = 0.5
"""A recording of which less can be read gives no answer: what is left may not be what it shows."""

DECODER_THREADS = 1
"""One camera, one thread. Frame threads would also report damage a few packets late, at a place
that depends on their number."""

# FFmpeg's JPEG decoder fills the rest of half a picture with grey and calls it good, unless asked.
# That for HEVC leaves all pictures out from a damaged one to the next key picture, unless asked,
# calls them all damaged then, and says nothing of those that it cannot decode at all.
_OPTIONS = {"mjpeg": {"err_detect": "explode"}, "hevc": {"flags": "+output_corrupt"}}


class Damage:
    """How much of a video was read; whoever reads it counts, whoever asked for it looks.

    Attributes:
        frames: Good frames so far.
        lost: Frames so far that are damaged or missing.
        cause: What was wrong with the first of those; empty while there is none.
    """

    def __init__(self) -> None:
        """Start before the first frame."""
        self.frames = 0
        self.lost = 0
        self.cause = ""

    def lose(self, cause: str, frames: int = 1) -> None:
        """Count frames that cannot be shown."""
        self.cause = self.cause or cause
        self.lost += frames

    def check(self, path: str | os.PathLike[str]) -> None:
        """Decide, at the end of a recording, whether what was read stands for it.

        Raises:
            DamagedVideoError: No frame could be read, or less than `LEAST_SHARE` of them.
        """
        if not self.frames:
            cause = self.cause or "it holds no picture"
            raise DamagedVideoError(path, f"no frame can be decoded: {cause}", 0)
        total = self.frames + self.lost
        if self.frames < LEAST_SHARE * total:
            raise DamagedVideoError(
                path,
                f"only {self.frames} of {total} frames can be read, expected at least "
                f"{LEAST_SHARE:.0%}; record it again or cut the damage out: {self.cause}",
                self.frames,
            )

    def __str__(self) -> str:
        """Return, for people, how many frames were lost and why."""
        return f"{self.lost} of {self.frames + self.lost} frames lost: {self.cause}"


class PacketDecoder:
    """Decodes one stream's packets and keeps its good pictures, as FFmpeg does over damage.

    The decoder is not reset: it shows what follows the damage by what it has, until the next key
    picture puts all right. Damage before the first key picture is not counted: a recording that
    was cut in the middle of a group of pictures begins with packets that are of no use.
    """

    def __init__(self, stream: VideoStream, damage: Damage) -> None:
        """Prepare the stream's decoder.

        Args:
            stream: Before its first packet.
            damage: Where to count.
        """
        context = stream.codec_context
        context.thread_count = DECODER_THREADS
        context.options = _OPTIONS.get(context.name, {})
        self._stream = stream
        self._damage = damage
        self._begun = False
        self._bad: set[int | None] = set()
        self._is_hevc = context.name == "hevc"
        self._follows_damage = False
        self._expected: set[int] = set()

    def decode(self, packet: Packet[VideoStream]) -> list[VideoFrame]:
        """Return the good pictures that a packet completes; nothing goes wrong here."""
        self._begun = self._begun or packet.is_keyframe
        if packet.is_corrupt:
            # It is decoded all the same: those after it are better with half of it than without.
            self._bad.add(packet.pts)
        if self._is_hevc and packet.pts is not None and not packet.is_discard:
            self._expected.add(packet.pts)
        try:
            decoded = packet.decode()
        except av.FFmpegError as error:
            self._bad.discard(packet.pts)
            self._expected -= {packet.pts}
            self._lose(str(error.strerror))
            return []
        return self._good(decoded)

    def drain(self) -> list[VideoFrame]:
        """Return the good ones of those that the decoder held back to order them."""
        try:
            decoded = self._stream.codec_context.decode(None)
        except av.FFmpegError:
            return []
        return self._good(decoded)

    def finish(self) -> None:
        """Count the pictures that never came, when no packet follows."""
        self._settle(None)

    def _good(self, decoded: list[VideoFrame]) -> list[VideoFrame]:
        good = []
        for frame in decoded:
            if frame.pts is not None:
                self._settle(frame.pts)
            damaged = frame.is_corrupt and not (self._is_hevc and self._follows_damage)
            self._follows_damage = frame.is_corrupt
            if frame.pts in self._bad:
                self._bad.discard(frame.pts)
                self._lose("a packet is damaged or cut short")
            elif damaged:
                self._lose("a picture is damaged")
            else:
                self._begun = True
                self._damage.frames += 1
                good.append(frame)
        return good

    def _settle(self, shown: int | None) -> None:
        """Count the pictures that were due before the one that is shown; None for the end."""
        due = self._expected.union(pts for pts in self._bad if pts is not None)
        passed = {pts for pts in due if shown is None or pts < shown}
        self._expected -= passed | {shown}
        self._bad -= passed
        # Those that lead the first key picture cannot be decoded, and are not missed.
        for _ in range(len(passed) if self._damage.frames else 0):
            self._lose("a picture is missing")

    def _lose(self, cause: str) -> None:
        if self._begun:
            self._damage.lose(cause)
        else:
            self._damage.cause = self._damage.cause or cause


def decode_recording(
    container: InputContainer, stream: VideoStream, path: str | os.PathLike[str], damage: Damage
) -> Iterator[VideoFrame]:
    """Yield the good pictures of a recording, then judge what it lost.

    Args:
        container: The opened file.
        stream: Its video.
        path: Names it in errors.
        damage: Where to count.

    Raises:
        DamagedVideoError: As `Damage.check`, after the good pictures.
    """
    decoder = PacketDecoder(stream, damage)
    packets = container.demux(stream)
    last: int | None = None
    broke_off = False
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.FFmpegError as error:
            broke_off = True
            yield from decoder.drain()
            damage.cause = damage.cause or str(error.strerror)
            break
        last = packet.dts if packet.dts is not None else last
        yield from decoder.decode(packet)
    decoder.finish()
    missing = _missing(container, stream, None if not broke_off else last)
    if missing:
        damage.lose("the file ends early", missing)
    damage.check(path)


def _missing(container: InputContainer, stream: VideoStream, broken_at: int | None) -> int:
    """Count the pictures that the index lists beyond the file's end, or after it broke off."""
    end = container.size
    # Not in every version of PyAV.
    return sum(
        not entry.is_discard
        and (entry.pos >= end or (broken_at is not None and entry.timestamp > broken_at))
        for entry in getattr(stream, "index_entries", ())
    )
