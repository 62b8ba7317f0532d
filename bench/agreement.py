"""How far an implementation of the operations is from its NumPy twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fgmclip.bench.bars import Bar
from fgmclip.bench.flow_table import SIDES
from fgmclip.bench.flow_truth import FlowPair
from fgmclip.bench.opencv_peer import nv12_frames
from fgmclip.kernels import native
from fgmclip.kernels.color import Color, frame_size
from fgmclip.kernels.frame_difference import frame_difference
from fgmclip.kernels.luma import luma
from fgmclip.kernels.normalize import normalize
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.resize import resize
from fgmclip.video.decode import decode

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

LEVEL_BAR = 1.0
FLOW_TOLERANCE = 1e-3
"""How far flow may be from the twin's, pixels."""

FLOW_BAR = 0.999
"""Share of pixels whose flow must be that near."""

_FLOAT_TOLERANCE = 1e-6
_RANDOM_SIZES = ((97, 131), (240, 320), (33, 500), (1080, 1920))
_RANDOM_SIDES = (16, 31, 75, 112, 224)


@dataclass(frozen=True, slots=True)
class Operations:
    """An implementation: the operations with their twins' arguments.

    Attributes:
        name: What it is called.
        resize: As `fgmclip.kernels.resize.resize`.
        luma: As `fgmclip.kernels.luma.luma`.
        normalize: As `fgmclip.kernels.normalize.normalize`.
        frame_difference: As `fgmclip.kernels.frame_difference.frame_difference`.
        optical_flow: As `fgmclip.kernels.optical_flow.optical_flow`.
    """

    name: str
    resize: Callable[[Bytes, Region, Color], Bytes]
    luma: Callable[[Bytes, Region, int, Color], Bytes]
    normalize: Callable[[Bytes, tuple[float, float, float], tuple[float, float, float]], Floats]
    frame_difference: Callable[[Bytes], Floats]
    optical_flow: Callable[[Bytes, FlowParameters], Floats]


TWIN = Operations("NumPy twin", resize, luma, normalize, frame_difference, optical_flow)
NATIVE = Operations(
    "C++",
    native.resize,
    native.luma,
    native.normalize,
    native.frame_difference,
    native.optical_flow,
)


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """What the implementations are compared on.

    Attributes:
        name: What they are called.
        frames: RGB u8 [H,W,3] and NV12 u8 [H*3/2,W,1].
        luma: LUMA_U8 [2,M,M] of any sizes M.
    """

    name: str
    frames: Sequence[Bytes]
    luma: Sequence[Bytes]


@dataclass(frozen=True, slots=True)
class Agreement:
    """One operation over some pictures.

    Attributes:
        implementation: Its name.
        pictures: Their name.
        operation: Its name.
        values: How many values were compared.
        largest: Largest difference: levels of u8 stages, pixels of flow.
        tolerance: Up to which difference a value agrees.
        share: Share of the values that agree.
    """

    implementation: str
    pictures: str
    operation: str
    values: int
    largest: float
    tolerance: float
    share: float

    def to_json(self) -> dict[str, float | int | str]:
        """Return all fields."""
        return {name: getattr(self, name) for name in self.__slots__}


def measure_agreement(
    operations: Operations, pictures: Pictures, parameters: PreprocessParameters
) -> list[Agreement]:
    """Compare an implementation with the twin, operation by operation.

    Args:
        operations: The implementation.
        pictures: To compare it on.
        parameters: Of a model with motion.
    """
    differences: dict[str, list[NDArray[Any]]] = {}
    for name, expected, got in _results(operations, pictures, parameters):
        difference = np.abs(got.astype(np.float64) - expected).ravel()
        differences.setdefault(name, []).append(difference)
    rows = []
    for name, parts in differences.items():
        values = np.concatenate(parts)
        tolerance = _tolerance(name)
        rows.append(
            Agreement(
                operations.name,
                pictures.name,
                name,
                values.size,
                float(values.max()),
                tolerance,
                float((values <= tolerance).mean()),
            )
        )
    return rows


def agreement_bars(rows: Sequence[Agreement]) -> list[Bar]:
    """Return the bars of each implementation: u8 stages and flow, on the worst pictures."""
    bars = []
    for name in dict.fromkeys(row.implementation for row in rows):
        mine = [row for row in rows if row.implementation == name]
        levels = max(row.largest for row in mine if row.operation in ("resize", "luma"))
        flows = [row for row in mine if row.operation == "optical_flow"]
        bars.append(
            Bar(f"{name} against the twin: u8 stages, levels", LEVEL_BAR, levels),
        )
        bars.append(
            Bar(
                f"{name} against the twin: flow within {FLOW_TOLERANCE:g} px, share",
                FLOW_BAR,
                min(row.share for row in flows),
                at_least=True,
                detail=f"largest difference {max(row.largest for row in flows):.2g} px",
            )
        )
    return bars


def agreement_table(rows: Sequence[Agreement]) -> Table:
    """Return all rows."""
    table = Table(title="Agreement with the NumPy twin", title_justify="left")
    for column in ("implementation", "pictures", "operation"):
        table.add_column(column, no_wrap=True)
    for column in ("values", "largest difference", "tolerance", "share within"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.implementation,
            row.pictures,
            row.operation,
            str(row.values),
            f"{row.largest:.2g}",
            f"{row.tolerance:g}",
            f"{row.share:.4%}",
        )
    return table


def random_pictures(
    sizes: Sequence[tuple[int, int]] = _RANDOM_SIZES, sides: Sequence[int] = _RANDOM_SIDES
) -> Pictures:
    """Return noise as frames, and noise smoothed to textures that move as luma."""
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    even = [frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
    frames += [nv12_frames(frame[None])[0] for frame in even]
    pairs = []
    for side in sides:
        noise = random.integers(0, 256, (side + 16, side + 16), dtype=np.uint8)
        wide = cv2.equalizeHist(cv2.GaussianBlur(noise, (0, 0), 2))
        row, column = random.integers(4, 13, 2)
        pairs.append(
            np.stack(
                [wide[8 : 8 + side, 8 : 8 + side], wide[row : row + side, column : column + side]]
            )
        )
    return Pictures("random", frames, pairs)


def real_pictures(clips: Sequence[Path], pairs: Sequence[FlowPair]) -> Pictures:
    """Return the first frame of each clip, in both layouts, and pairs of real frames as luma.

    Args:
        clips: Video files; their first two frames are a pair too.
        pairs: Pairs with known flow, taken at the sizes of `SIDES`.

    Raises:
        VideoError: A clip cannot be read.
    """
    frames: list[Bytes] = []
    luma_pairs = [pair.scaled(side).luma for pair in pairs for side in SIDES]
    for clip in clips:
        first, second = (frame.pixels for frame in islice(decode(clip), 2))
        # A copy, as the decoder's own array says that a row's single channel lies 0 bytes apart.
        frames += [first, next(decode(clip, layout="nv12")).pixels.copy()]
        region = frame_region(*frame_size(first), SIDES[0], "center")
        color = Color("bt601", "limited")
        luma_pairs.append(
            np.stack([native.luma(frame, region, SIDES[0], color) for frame in (first, second)])
        )
    return Pictures("real", frames, luma_pairs)


def _results(
    operations: Operations, pictures: Pictures, parameters: PreprocessParameters
) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yield operation, the twin's result and the implementation's."""
    size, motion_size = parameters.image_size, parameters.motion_size or parameters.image_size
    color = Color(parameters.color_matrix, parameters.color_range)
    for frame in pictures.frames:
        for region in _regions(*frame_size(frame), size):
            levels = TWIN.resize(frame, region, color)
            yield "resize", levels, operations.resize(frame, region, color)
            yield (
                "luma",
                TWIN.luma(frame, region, motion_size, color),
                operations.luma(frame, region, motion_size, color),
            )
            arguments = (levels[None], parameters.mean, parameters.std)
            yield "normalize", TWIN.normalize(*arguments), operations.normalize(*arguments)
    for pair in pictures.luma:
        batch = pair[None]
        yield (
            "frame_difference",
            TWIN.frame_difference(batch),
            operations.frame_difference(batch),
        )
        if parameters.flow is not None:
            expected = TWIN.optical_flow(batch, parameters.flow)
            # A pixel is as far off as its flow's longer difference.
            got = operations.optical_flow(batch, parameters.flow)
            yield "optical_flow", np.zeros(expected[:, 0].shape), np.abs(got - expected).max(axis=1)


def _regions(height: int, width: int, size: int) -> list[Region]:
    """Return whole-frame regions of every kind, and a box over the border."""
    box = np.array([-0.1 * width, 0.2 * height, 0.6 * width, 1.1 * height], np.float32)
    return [
        frame_region(height, width, size, "center"),
        frame_region(height, width, size, "letterbox"),
        frame_region(height, width, size, "squash"),
        roi_region(box, size),
    ]


def _tolerance(operation: str) -> float:
    if operation in ("resize", "luma"):
        return LEVEL_BAR
    return FLOW_TOLERANCE if operation == "optical_flow" else _FLOAT_TOLERANCE
