"""Real clips: what is left of the earlier frame after the later one is warped back by the flow.

Nobody knows these clips' true flow, but a flow that is right takes each pixel of the earlier frame
to the same grey in the later one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from fgmclip.bench.bars import Bar
from fgmclip.bench.flow_methods import DIS_FAST, DIS_MEDIUM, OURS, FlowMethod, flow_methods
from fgmclip.bench.opencv_peer import opencv_threads
from fgmclip.bench.racing import geometric_mean
from fgmclip.kernels import native
from fgmclip.kernels.color import Color, frame_size
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.kernels.regions import frame_region
from fgmclip.spec import FgmclipError
from fgmclip.video.decode import decode
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Sample, sample_grid

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

DT = 1 / 8
"""Distance of samples, seconds, about that of the presets."""

ZERO = "zero flow"
SPACINGS = ("1/8 s", "next frame")
METHODS = (OURS, DIS_MEDIUM, DIS_FAST)
BAR = 1.0


class ClipDataError(FgmclipError):
    """The folder holds no clips."""


@dataclass(frozen=True, slots=True)
class PhotometricRow:
    """The pairs of all clips at one size and spacing.

    Attributes:
        side: M, pixels.
        spacing: How far apart in time the frames of a pair are.
        errors: Mean absolute difference of each pair by method, levels; zero flow's too.
    """

    side: int
    spacing: str
    errors: dict[str, tuple[float, ...]]

    @property
    def ratio(self) -> float:
        """Our mean error over DIS medium's."""
        return float(np.mean(self.errors[OURS]) / np.mean(self.errors[DIS_MEDIUM]))

    @property
    def geometric_ratio(self) -> float:
        """Geometric mean of the pairs' own ratios; pairs that do not change are left out."""
        pairs = zip(self.errors[OURS], self.errors[DIS_MEDIUM], strict=True)
        return geometric_mean([ours / theirs for ours, theirs in pairs if ours and theirs])

    @property
    def better(self) -> float:
        """Share of the pairs where our error is no larger."""
        pairs = zip(self.errors[OURS], self.errors[DIS_MEDIUM], strict=True)
        return float(np.mean([ours <= theirs for ours, theirs in pairs]))

    def to_json(self) -> dict[str, object]:
        """Return mean errors and ratios."""
        return {
            "side": self.side,
            "spacing": self.spacing,
            "pairs": len(self.errors[OURS]),
            "mean_levels": {name: float(np.mean(values)) for name, values in self.errors.items()},
            "over_dis_medium": self.ratio,
            "geometric_mean_over_dis_medium": self.geometric_ratio,
            "share_no_worse": self.better,
        }


def find_clips(folder: Path) -> list[Path]:
    """Return the clips below a folder, by name.

    Raises:
        ClipDataError: There are none.
    """
    clips = sorted(folder.rglob("*.avi"))
    if not clips:
        raise ClipDataError(
            f"{folder}: expected clips *.avi, got none; set FGMCLIP_TEST_DATA or --data to the "
            "folder that holds clips/ut_interaction"
        )
    return clips


def measure_clips(
    clips: Sequence[Path],
    parameters: FlowParameters,
    *,
    threads: int,
    per_clip: int,
    sides: Sequence[int],
    tick: Callable[[], None],
) -> list[PhotometricRow]:
    """Return a row for each size and spacing.

    Args:
        clips: Video files.
        parameters: Of our flow.
        threads: Of all methods.
        per_clip: Pairs of each clip, size and spacing at most, evenly over the clip.
        sides: Sizes M, pixels.
        tick: Called after each clip.

    Raises:
        VideoError: A clip cannot be read.
    """
    methods = {side: flow_methods(parameters, side, threads) for side in sides}
    errors: dict[tuple[int, str], dict[str, list[float]]] = {
        (side, spacing): {name: [] for name in (ZERO, *METHODS)}
        for side in sides
        for spacing in SPACINGS
    }
    with opencv_threads(threads):
        for clip in clips:
            for spacing, earlier, later in _frame_pairs(clip, per_clip):
                for side in sides:
                    luma = np.stack([_luma(frame, side) for frame in (earlier, later)])
                    for name, error in pair_errors(luma, methods[side]).items():
                        errors[side, spacing][name].append(error)
            tick()
    return [
        PhotometricRow(side, spacing, {name: tuple(values) for name, values in found.items()})
        for (side, spacing), found in errors.items()
    ]


def pair_errors(luma: Bytes, methods: Mapping[str, FlowMethod]) -> dict[str, float]:
    """Return the mean absolute difference of LUMA_U8 [2,M,M] by method, levels.

    Over every pixel, so that no method gains by pointing out of the picture.
    """
    earlier, later = luma.astype(np.float32)
    errors = {ZERO: float(np.abs(later - earlier).mean())}
    for name in METHODS:
        warped = warp_back(later, methods[name](luma))
        errors[name] = float(np.abs(warped - earlier).mean())
    return errors


def warp_back(later: Floats, flow: Floats) -> Floats:
    """Return what the later frame [M,M] shows where the flow [M,M,2] leads, border repeated."""
    rows, columns = np.indices(later.shape, np.float32)
    warped: NDArray[Any] = cv2.remap(
        later,
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return warped


def photometric_bars(rows: Sequence[PhotometricRow]) -> list[Bar]:
    """Return a bar for each row."""
    return [
        Bar(
            f"real clips at {row.side}, {row.spacing}: error over DIS medium's",
            BAR,
            row.ratio,
            detail=f"{len(row.errors[OURS])} pairs, geometric mean {row.geometric_ratio:.3f}, "
            f"no worse on {row.better:.0%}",
        )
        for row in rows
    ]


def photometric_table(rows: Sequence[PhotometricRow]) -> Table:
    """Return the mean errors."""
    table = Table(
        title="Real clips: mean absolute difference after warping, levels", title_justify="left"
    )
    table.add_column("apart", no_wrap=True)
    columns = ("size", "pairs", ZERO, *METHODS, "over DIS medium", "geometric mean", "no worse")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row.spacing,
            str(row.side),
            str(len(row.errors[OURS])),
            *(f"{np.mean(row.errors[name]):.3f}" for name in (ZERO, *METHODS)),
            f"{row.ratio:.3f}",
            f"{row.geometric_ratio:.3f}",
            f"{row.better:.0%}",
        )
    return table


def _frame_pairs(clip: Path, most: int) -> Iterator[tuple[str, Frame, Frame]]:
    """Yield spacing, earlier and later frame of a clip's pairs."""
    frames = list(decode(clip))
    samples = [item.frame for item in sample_grid(frames, DT) if isinstance(item, Sample)]
    for spacing, sequence in zip(SPACINGS, (samples, frames), strict=True):
        pairs = list(pairwise(sequence))
        # Evenly over the clip, its first pair included.
        for index in range(0, len(pairs), -(-len(pairs) // most) or 1):
            yield spacing, *pairs[index]


def _luma(frame: Frame, side: int) -> Bytes:
    region = frame_region(*frame_size(frame.pixels), side, "center")
    color = Color(frame.color_matrix or "bt601", frame.color_range or "limited")
    return native.luma(frame.pixels, region, side, color)
