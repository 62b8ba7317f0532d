"""`preprocess` of one 1080p pair against OpenCV doing the same steps.

Both sides compute both frames' luma, the later frame's pixels and, with flow, the motion between:
a stream's decision, which sends the sample before along with the new one. Frames come from a
stream longer than the processor's cache, as new frames do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fgmclip.bench.bars import Bar
from fgmclip.bench.opencv_peer import Interpolation, OpenCvPeer, nv12_frames, opencv_threads
from fgmclip.bench.racing import Ratio, Timing, race
from fgmclip.kernels import native
from fgmclip.kernels.color import Color
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_into
from fgmclip.kernels.regions import frame_region

Bytes = NDArray[np.uint8]

HEIGHT, WIDTH = 1080, 1920
STREAM = 9
"""Frames of the stream: 56 MB of RGB."""

OURS = "fgmclip"
INTERPOLATIONS: tuple[Interpolation, ...] = ("area", "cubic")
LAYOUTS = ("RGB", "NV12")
PARTS = ("with flow", "without flow")
SPEED_BAR = 3.0
NV12_BAR = 1.0


@dataclass(frozen=True, slots=True)
class PreprocessRace:
    """Times by part, layout and competitor.

    Attributes:
        times: By names such as `with flow, RGB, OpenCV area`.
    """

    times: dict[str, Timing]

    def ratio(self, part: str, layout: str, peer: str) -> Ratio:
        """Return how many times longer a competitor took than ours."""
        return Ratio.of(self.times[f"{part}, {layout}, {peer}"], self._ours(part, layout))

    def faster_peer(self, part: str, layout: str) -> str:
        """Return the OpenCV competitor with the lower median."""
        peers = [f"OpenCV {name}" for name in INTERPOLATIONS]
        return min(peers, key=lambda peer: self.times[f"{part}, {layout}, {peer}"].median)

    def bars(self) -> list[Bar]:
        """Return the bars: against the faster OpenCV, and NV12 against RGB."""
        bars = []
        for part in PARTS:
            for layout in LAYOUTS:
                peer = self.faster_peer(part, layout)
                ratio = self.ratio(part, layout, peer)
                name = f"preprocess {layout} {part}: {peer} over ours"
                bars.append(Bar(name, SPEED_BAR, ratio.median, True, "x", _spread(ratio)))
        for part in PARTS:
            ratio = Ratio.of(self._ours(part, "NV12"), self._ours(part, "RGB"))
            name = f"preprocess {part}: NV12 over RGB"
            bars.append(Bar(name, NV12_BAR, ratio.median, detail=_spread(ratio)))
        return bars

    def table(self) -> Table:
        """Return all times."""
        table = Table(
            title=f"preprocess of one pair of frames {WIDTH}x{HEIGHT}",
            title_justify="left",
            caption="Each side computes the luma of both frames and the pixels of the later one, "
            "and with flow the motion between, from frames that are new to the cache.",
            caption_justify="left",
        )
        for column in ("part", "layout", "by"):
            table.add_column(column, no_wrap=True)
        for column in ("median ms", "fastest ms", "over ours (quartiles)", "fastest over ours"):
            table.add_column(column, justify="right")
        for key, timing in self.times.items():
            part, layout, name = key.split(", ")
            ratio = self.ratio(part, layout, name)
            table.add_row(
                part,
                layout,
                name,
                f"{timing.median:.3f}",
                f"{timing.fastest:.3f}",
                "" if name == OURS else str(ratio),
                "" if name == OURS else f"{ratio.fastest:.2f}",
                style="bold" if name == OURS else None,
                end_section=name == f"OpenCV {INTERPOLATIONS[-1]}",
            )
        return table

    def to_json(self) -> dict[str, dict[str, float]]:
        """Return the times by name."""
        return {name: timing.to_json() for name, timing in self.times.items()}

    def _ours(self, part: str, layout: str) -> Timing:
        return self.times[f"{part}, {layout}, {OURS}"]


def race_preprocess(
    parameters: PreprocessParameters,
    *,
    threads: int,
    rounds: int,
    tick: Callable[[], None],
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> PreprocessRace:
    """Race ours and OpenCV, with both interpolations, over both layouts and parts.

    Args:
        parameters: Of a model with motion and centre crop.
        threads: Of both sides.
        rounds: Turns of each competitor.
        tick: Called after each round.
        size: Height and width of the frames, pixels, even.
    """
    rgb = moving_stream(STREAM, *size)
    streams = {"RGB": rgb, "NV12": nv12_frames(rgb)}
    competitors: dict[str, Callable[[int], object]] = {}
    for part in PARTS:
        for layout, stream in streams.items():
            ours = _ours(stream, part, parameters, threads)
            competitors[f"{part}, {layout}, {OURS}"] = ours
            for name in INTERPOLATIONS:
                peer = OpenCvPeer(parameters, name)
                call = peer.preprocess if part == PARTS[0] else peer.without_flow
                competitors[f"{part}, {layout}, OpenCV {name}"] = _over(stream, call)
    with opencv_threads(threads):
        return PreprocessRace(race(competitors, rounds=rounds, tick=tick))


def moving_stream(count: int, height: int, width: int) -> Bytes:
    """Return RGB frames [count,H,W,3] of a texture that moves right and down under fine noise."""
    random = np.random.default_rng(0)
    step = max(1, width // 256)
    room = step * count
    coarse = random.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8)
    wide = cv2.resize(coarse, (width + room, height + room), interpolation=cv2.INTER_CUBIC)
    noise = random.integers(0, 8, wide.shape, dtype=np.uint8)
    wide = cv2.add(wide, noise)
    return np.stack(
        [wide[room - i * step :, room - i * step :][:height, :width] for i in range(count)]
    )


def _ours(
    stream: Bytes, part: str, parameters: PreprocessParameters, threads: int
) -> Callable[[int], object]:
    image, motion_size = parameters.image_size, parameters.motion_size or 0
    pixels = np.empty((1, 3, image, image), np.float32)
    motion = np.empty((1, 3, motion_size, motion_size), np.float32)
    luma = np.empty((1, 2, motion_size, motion_size), np.uint8)
    rows, width, channels = stream.shape[1:]
    height = rows if channels == 3 else rows // 3 * 2
    color = Color(parameters.color_matrix, parameters.color_range)

    def with_flow(frames: Bytes) -> None:
        preprocess_into(frames, parameters, pixels, motion, threads=threads)

    def without_flow(frames: Bytes) -> None:
        # The region as the whole call finds it, each time: OpenCV's side finds its square too.
        region = frame_region(height, width, image, parameters.crop)
        native.preprocess_into(
            frames, [[region]], parameters, color, pixels=pixels, luma_u8=luma, threads=threads
        )

    return _over(stream, with_flow if part == PARTS[0] else without_flow)


def _over(stream: Bytes, call: Callable[[Bytes], object]) -> Callable[[int], object]:
    """Return a call that takes the next pair of the stream each time."""
    pairs = len(stream) - 1

    def turn(number: int) -> object:
        first = number % pairs
        return call(stream[first : first + 2])

    return turn


def _spread(ratio: Ratio) -> str:
    return f"quartiles {ratio.low:.2f}-{ratio.high:.2f}, fastest calls {ratio.fastest:.2f}"
