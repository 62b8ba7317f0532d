"""`SamplePreparer`: from frames on the time grid to what a stream sends of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fgmclip.client.errors import RefusedError
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.spec import ModelSpec
from fgmclip.video.frames import Frame
from fgmclip.video.grid import Sample

Box = Sequence[float]
"""Pixels x0, y0, x1, y1."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamSample:
    """One point of a stream's time grid, ready to be sent.

    Attributes:
        index: Number of the point; a sample whose index follows the one before it continues the
            window, any other starts a new one.
        time: When it was seen, in seconds, on the clock of whoever made it.
        tracks: Names of the tracks in it, one row of each tensor a track; None for the whole frame.
        tensors: At the edge PIXELS_U8 u8 [R,S,S,3] and, for a model with motion, LUMA_U8 u8
            [R,2,M,M] (earlier, later). Else FRAMES u8 [2,H,W,3] RGB or [2,H*3/2,W,1] NV12, the
            sample before and this one, and with tracks ROI f32 [R,2,4].
        color: Request parameters `color_matrix` and `color_range`; empty at the edge.
    """

    index: int
    time: float
    tracks: tuple[str, ...] | None
    tensors: Mapping[str, NDArray[np.uint8] | NDArray[np.float32]]
    color: Mapping[str, str]

    @property
    def rows(self) -> int:
        """How many tracks it has; 1 for the whole frame."""
        return 1 if self.tracks is None else len(self.tracks)


class SamplePreparer:
    """Makes `StreamSample` of frames; keeps the frame before, so not for several streams."""

    def __init__(self, spec: ModelSpec, *, edge: bool = True, threads: int | None = None) -> None:
        """Start a stream.

        Args:
            spec: The model's spec.
            edge: Bring frames to the model's size here, by the server's own kernels.
            threads: Threads of the kernels; None for all that the process may use.
        """
        # The flow is the server's business, whatever version of it this host computes.
        self._parameters = replace(PreprocessParameters.from_spec(spec), flow=None)
        self._edge = edge
        self._threads = threads
        self._before: Sample[Frame] | None = None

    def prepare(
        self, sample: Sample[Frame], boxes: Mapping[str, Box] | None = None
    ) -> StreamSample:
        """Return what is sent of a sample.

        Args:
            sample: The next point of the grid. Where its index does not follow that of the one
                before, or its shape differs, the frame is its own "before".
            boxes: Box of each track in the frame's pixels, by name; None for the whole frame.

        Raises:
            RefusedError: The frame or a box cannot be used.
        """
        frame, before = sample.frame, sample.frame
        last = self._before
        if (
            last is not None
            and last.index + 1 == sample.index
            and last.frame.pixels.shape == frame.pixels.shape
        ):
            before = last.frame
        self._before = sample
        tracks = None if boxes is None else tuple(boxes)
        if tracks == ():
            return StreamSample(sample.index, sample.time, (), {}, {})
        pair = np.stack([before.pixels, frame.pixels])
        rois = None
        if boxes is not None:
            try:
                corners = np.array([list(box) for box in boxes.values()], np.float32)
            except (TypeError, ValueError) as error:
                raise RefusedError(f"boxes: expected 4 numbers a track, got {error}") from error
            if corners.ndim != 2 or corners.shape[1] != 4:
                raise RefusedError(
                    f"boxes: expected x0, y0, x1, y1 a track, got {list(corners.shape)}"
                )
            rois = np.repeat(corners[:, None], 2, axis=1)
        color = {}
        if frame.color_matrix is not None:
            color["color_matrix"] = str(frame.color_matrix)
        if frame.color_range is not None and pair.shape[3] == 1:
            color["color_range"] = str(frame.color_range)
        if not self._edge:
            tensors: dict[str, NDArray[np.uint8] | NDArray[np.float32]] = {"FRAMES": pair}
            if rois is not None:
                tensors["ROI"] = rois
            return StreamSample(sample.index, sample.time, tracks, tensors, color)
        try:
            pixels_u8, luma_u8 = preprocess_u8(
                pair,
                self._parameters,
                rois=rois,
                color_matrix=frame.color_matrix,
                color_range=frame.color_range if pair.shape[3] == 1 else None,
                threads=self._threads,
            )
        except KernelError as error:
            raise RefusedError(str(error)) from error
        tensors = {"PIXELS_U8": pixels_u8}
        if luma_u8 is not None:
            tensors["LUMA_U8"] = luma_u8
        return StreamSample(sample.index, sample.time, tracks, tensors, {})
