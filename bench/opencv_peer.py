"""`preprocess` of one pair of whole frames as an OpenCV programmer writes it.

Both frames' grey pictures, the later frame's pixels and the motion between: what
`fgmclip.kernels.preprocess` computes of a pair. It crops before it converts, converts no more than
it needs, and writes into buffers that stay. OpenCV has no antialiased bicubic: `area` reads every
source pixel and does not alias either; `cubic` reads sixteen for each result, so it is quick and
aliases.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import PreprocessParameters

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Interpolation = Literal["area", "cubic"]

_FLAGS = {"area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """Let OpenCV use so many threads inside the block."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


class OpenCvPeer:
    """Preprocesses pairs of frames of one size.

    Attributes:
        pixels: f32 [1,3,S,S], PIXELS of the last pair.
        luma: u8 [2,M,M], LUMA_U8 of the last pair.
        motion: f32 [1,3,M,M], MOTION of the last pair; unchanged by `without_flow`.
    """

    def __init__(self, parameters: PreprocessParameters, interpolation: Interpolation) -> None:
        """Make the buffers of a model with motion and centre crop."""
        image, motion = parameters.image_size, parameters.motion_size or 0
        std = np.asarray(parameters.std, np.float32)
        self.pixels = np.empty((1, 3, image, image), np.float32)
        self.luma = np.empty((2, motion, motion), np.uint8)
        self.motion = np.empty((1, 3, motion, motion), np.float32)
        self._flag = _FLAGS[interpolation]
        self._scale = 1 / (255 * std)
        self._shift = -np.asarray(parameters.mean, np.float32) / std
        self._resized = np.empty((image, image, 3), np.uint8)
        self._planes = [np.empty((image, image), np.uint8) for _ in range(3)]
        self._square = np.empty((0, 0, 3), np.uint8)
        self._grey = np.empty((0, 0), np.uint8)
        black, white = (16, 235) if parameters.color_range == "limited" else (0, 255)
        levels = (np.arange(256) - black) * (255 / (white - black))
        self._full_range = np.rint(levels).clip(0, 255).astype(np.uint8)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def preprocess(self, frames: Bytes) -> None:
        """Compute PIXELS and MOTION of u8 RGB [2,H,W,3] or limited-range NV12 [2,H*3/2,W,1]."""
        self.without_flow(frames)
        earlier, later = self.luma
        difference, flow = self.motion[0, 0], self.motion[0, 1:]
        np.subtract(later, earlier, out=difference, dtype=np.float32)
        np.multiply(difference, np.float32(1 / 255), out=difference)
        # A flow of the right size would be taken as the initial one: no buffer here.
        found = self._flow.calc(earlier, later, None)  # type: ignore[call-overload]
        np.multiply(found.transpose(2, 0, 1), np.float32(1 / len(earlier)), out=flow)

    def without_flow(self, frames: Bytes) -> None:
        """Compute PIXELS and LUMA_U8 of what `preprocess` takes."""
        square = self._rgb(frames) if frames.shape[3] == 3 else self._nv12(frames)
        cv2.resize(square, self._resized.shape[:2], dst=self._resized, interpolation=self._flag)
        cv2.split(self._resized, self._planes)
        for plane, scale, shift, out in zip(
            self._planes, self._scale, self._shift, self.pixels[0], strict=True
        ):
            np.multiply(plane, scale, out=out)
            np.add(out, shift, out=out)

    def _rgb(self, frames: Bytes) -> Bytes:
        """Write the grey pictures and return the later frame's square, RGB."""
        square = _center(*frames.shape[1:3])
        self._make_buffers(square)
        for frame, out in zip(frames, self.luma, strict=True):
            cv2.cvtColor(frame[square], cv2.COLOR_RGB2GRAY, dst=self._grey)
            cv2.resize(self._grey, out.shape, dst=out, interpolation=cv2.INTER_AREA)
        later: Bytes = frames[1][square]
        return later

    def _nv12(self, frames: Bytes) -> Bytes:
        """Write the grey pictures and return the later frame's square, converted to RGB."""
        height, width = frames.shape[1] // 3 * 2, frames.shape[2]
        rows, columns = square = _center(height, width)
        self._make_buffers(square)
        for frame, out in zip(frames, self.luma, strict=True):
            # NV12 stores grey; its range is changed where that is cheap, on the small picture.
            cv2.resize(frame[rows, columns, 0], out.shape, dst=out, interpolation=cv2.INTER_AREA)
            cv2.LUT(out, self._full_range, dst=out)
        chroma = frames[1, height:].reshape(height // 2, width // 2, 2)
        halves = tuple(slice(side.start // 2, side.stop // 2) for side in square)
        cv2.cvtColorTwoPlane(
            frames[1][rows, columns, 0],
            chroma[halves],
            cv2.COLOR_YUV2RGB_NV12,
            dst=self._square,
        )
        return self._square

    def _make_buffers(self, square: tuple[slice, slice]) -> None:
        side = square[0].stop - square[0].start
        if len(self._grey) != side:
            self._grey = np.empty((side, side), np.uint8)
            self._square = np.empty((side, side, 3), np.uint8)


def nv12_frames(rgb: Bytes) -> Bytes:
    """Return limited-range BT.601 NV12 [n,H*3/2,W,1] of RGB [n,H,W,3] with even sides."""
    count, height, width, _ = rgb.shape
    frames = np.empty((count, height * 3 // 2, width, 1), np.uint8)
    for frame, out in zip(rgb, frames, strict=True):
        planes = cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).reshape(-1)
        out[:height, :, 0] = planes[: height * width].reshape(height, width)
        chroma = planes[height * width :].reshape(2, -1)
        out[height:] = chroma.T.reshape(height // 2, width, 1)
    return frames


def _center(height: int, width: int) -> tuple[slice, slice]:
    """Return rows and columns of the middle square, on even pixels for the sake of NV12."""
    side = min(height, width) // 2 * 2
    top, left = (height - side) // 4 * 2, (width - side) // 4 * 2
    return slice(top, top + side), slice(left, left + side)
