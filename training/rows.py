"""One video's rows: every sample's PIXELS_U8 and its MOTION since the sample before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import dropwhile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_edge, preprocess_u8
from fgmclip.spec import ClipSpec
from fgmclip.video.damage import Damage
from fgmclip.video.decode import decode
from fgmclip.video.frames import Frame
from fgmclip.video.grid import sample_grid
from fgmclip.video.windows import Window, read_windows, windows_from_samples


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of all time grids, one grid after another.

    Attributes:
        pixels: PIXELS_U8 [rows,S,S,3].
        motion: MOTION [rows,3,M,M] f16; None without motion.
        starts: Rows at which a window may begin.
        served: Rows at which `read_windows` begins one.
        first_grid: Number of rows of the first grid.
        frames_lost: Frames of the video that are damaged or missing.
    """

    pixels: npt.NDArray[np.uint8]
    motion: npt.NDArray[np.float16] | None
    starts: tuple[int, ...]
    served: tuple[int, ...]
    first_grid: int
    frames_lost: int


def compute_rows(
    path: Path, parameters: PreprocessParameters, clip: ClipSpec, phases: int = 1
) -> Rows:
    """Decode a video and preprocess each sample once.

    Args:
        path: The video.
        parameters: Pixels and motion.
        clip: The time grid.
        phases: Number of grids; grid p begins p/phases of dt after the first. The later ones only
            give windows that the video fills.

    Raises:
        VideoError: The video cannot be decoded.
        KernelError: Its frames are refused.
    """
    builder = _Builder(parameters, clip)
    damage = Damage()
    builder.add_grid(read_windows(path, clip, damage=damage), served=True)
    first_grid = builder.count
    for phase in range(1, phases):
        windows = _windows_from(decode(path), phase / phases * clip.dt, clip)
        builder.add_grid(
            (window for window in windows if window.samples == clip.frames), served=False
        )
    return Rows(
        pixels=np.concatenate(builder.pixels),
        motion=np.concatenate(builder.motion) if builder.motion else None,
        starts=tuple(builder.starts),
        served=tuple(builder.served),
        first_grid=first_grid,
        frames_lost=damage.lost,
    )


def _windows_from(frames: Iterable[Frame], offset: float, clip: ClipSpec) -> Iterator[Window]:
    late = dropwhile(lambda frame: frame.time < offset, frames)
    return windows_from_samples(sample_grid(late, clip.dt), clip)


@dataclass
class _Builder:
    """Turns overlapping windows into rows, each new sample once."""

    parameters: PreprocessParameters
    clip: ClipSpec
    count: int = 0
    pixels: list[npt.NDArray[np.uint8]] = field(default_factory=list)
    motion: list[npt.NDArray[np.float16]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    served: list[int] = field(default_factory=list)

    def add_grid(self, windows: Iterable[Window], *, served: bool) -> None:
        """Append all windows of one time grid."""
        for number, window in enumerate(windows):
            self._add(window, begins=number == 0 or window.gap_before)
            if served:
                self.served.append(self.starts[-1])

    def _add(self, window: Window, *, begins: bool) -> None:
        """Append the samples that the window before this one did not have."""
        frames = self.clip.frames
        new = frames if begins else max(1, frames // 2)
        # One frame more than samples: the "before" of the first pair.
        # One thread: videos are what runs side by side.
        pixels, luma = preprocess_u8(
            window.frames[-new - 1 :],
            self.parameters,
            color_matrix=window.color_matrix,
            color_range=window.color_range,
            threads=1,
        )
        self.pixels.append(pixels)
        _, motion = preprocess_edge(pixels, luma, self.parameters, threads=1)
        if motion is not None:
            self.motion.append(motion.astype(np.float16))
        self.count += new
        last = self.count - frames
        self.starts.extend([last] if begins else range(last - new + 1, last + 1))
