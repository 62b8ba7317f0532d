"""A video as a surveillance camera sends it: 480p, 25 frames a second, action after action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from fgmclip.video.samples import ACTIONS, render

HEIGHT, WIDTH, RATE = 480, 854, 25

STILL_SECONDS = 0.6
"""How long a figure holds still after its action, before the next one is cut in."""

# As cameras do it: a key frame every two seconds and no frames out of order.
_H264 = {"preset": "veryfast", "tune": "zerolatency", "crf": "23", "g": str(2 * RATE)}


@dataclass(frozen=True, slots=True)
class Shot:
    """What is seen, and from when to when.

    Attributes:
        label: The action.
        start: Seconds of the video.
        end: Seconds of the video.
    """

    label: str
    start: float
    end: float


def camera_video(
    path: Path, *, seconds: float, seed: int = 1000, actions: Sequence[str] = ACTIONS
) -> list[Shot]:
    """Write generated actions, drawn at their own size and enlarged to 480p, as H.264.

    Args:
        path: The file.
        seconds: Shortest length; the last action is shown whole.
        seed: First seed; each shot has its own.
        actions: What is shown, in turn.

    Returns:
        The actions in order.
    """
    shots: list[Shot] = []
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=_H264)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        index = 0
        while index < seconds * RATE:
            label = actions[len(shots) % len(actions)]
            frames, rate = render(label, seed + len(shots))
            count = len(frames) * RATE // rate
            start = index / RATE
            still = np.full(round(STILL_SECONDS * RATE), len(frames) - 1)
            for position in (*(np.arange(count) * rate // RATE), *still):
                picture = av.VideoFrame.from_ndarray(frames[position], format="rgb24")
                picture = picture.reformat(WIDTH, HEIGHT, "yuv420p")
                picture.pts, picture.time_base = index, Fraction(1, RATE)
                container.mux(stream.encode(picture))
                index += 1
            shots.append(Shot(label, start, index / RATE))
        container.mux(stream.encode(None))
    return shots


def looped(source: Path, path: Path, *, times: int) -> None:
    """Write a video several times over, one after another, without coding it again.

    Args:
        source: What `camera_video` wrote.
        path: The file.
        times: How often.
    """
    with av.open(str(path), "w") as out:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as video:
                if stream is None:
                    stream = out.add_stream_from_template(video.streams.video[0])
                end = offset
                for packet in video.demux(video=0):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.stream = stream
                    packet.pts += offset
                    packet.dts += offset
                    end = packet.pts + (packet.duration or 0)
                    out.mux(packet)
                offset = end
