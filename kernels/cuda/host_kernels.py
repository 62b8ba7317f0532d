"""The operations of the CUDA source on this CPU: arrays in and arrays out, as their twins.

For tests and benches; a server hands over memory (`fgmclip.kernels.cuda.launches`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.color import Color, frame_size
from fgmclip.kernels.cuda.host import HostDevice, HostMemory, HostPart
from fgmclip.kernels.cuda.launches import CudaKernels, DeviceFrames, Float
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region

Bytes = NDArray[np.uint8]


class HostKernels:
    """The operations, each a method with the arguments of its twin.

    Attributes:
        device: Where they run.
    """

    def __init__(self, device: HostDevice | None = None) -> None:
        """Take the device; one with threads in the order of their numbers if None."""
        self.device = device or HostDevice()
        self._kernels = CudaKernels(self.device)

    def resize(self, frame: Bytes, region: Region, color: Color) -> Bytes:
        """Return PIXELS_U8 [S,S,3] of one frame."""
        out = self._room(np.uint8, (region.size, region.size, 3))
        self._kernels.resize(self.frames(frame[None]), region, color, out.memory)
        return out.read()

    def luma(self, frame: Bytes, region: Region, size: int, color: Color) -> Bytes:
        """Return LUMA_U8 [M,M] of one frame."""
        out = self._room(np.uint8, (size, size))
        self._kernels.luma(self.frames(frame[None]), region, size, color, out.memory)
        return out.read()

    def normalize(
        self,
        pixels_u8: Bytes,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        dtype: Float = np.float32,
    ) -> NDArray[Any]:
        """Return PIXELS [N,3,S,S] of PIXELS_U8 [N,S,S,3]."""
        count, size = pixels_u8.shape[:2]
        out = self._room(dtype, (count, 3, size, size))
        levels = self.device.upload(pixels_u8)
        self._kernels.normalize(levels, count, size, mean, std, out.memory, dtype=dtype)
        return out.read()

    def frame_difference(self, luma_u8: Bytes, dtype: Float = np.float32) -> NDArray[Any]:
        """Return the difference [N,M,M] of LUMA_U8 [N,2,M,M]."""
        count, _, size, _ = luma_u8.shape
        out = self._room(dtype, (count, size, size))
        luma = self.device.upload(luma_u8)
        self._kernels.frame_difference(luma, count, size, out.memory, dtype=dtype)
        return out.read()

    def optical_flow(self, luma_u8: Bytes, parameters: FlowParameters) -> NDArray[np.float32]:
        """Return the flow [N,2,M,M] of LUMA_U8 [N,2,M,M]."""
        count, _, size, _ = luma_u8.shape
        out = self._room(np.float32, (count, 2, size, size))
        luma = self.device.upload(luma_u8)
        self._kernels.optical_flow(luma, count, size, parameters, out.memory)
        return out.read()

    def motion(
        self, luma_u8: Bytes, parameters: FlowParameters, dtype: Float = np.float32
    ) -> NDArray[Any]:
        """Return MOTION [N,3,M,M] of LUMA_U8 [N,2,M,M]."""
        count, _, size, _ = luma_u8.shape
        out = self._room(dtype, (count, 3, size, size))
        luma = self.device.upload(luma_u8)
        self._kernels.motion(luma, count, size, parameters, out.memory, dtype=dtype)
        return out.read()

    def preprocess_u8(
        self,
        frames: Bytes | DeviceFrames,
        tracks: Sequence[Sequence[Region]],
        motion_size: int | None,
        color: Color,
    ) -> tuple[Bytes, Bytes | None]:
        """Return PIXELS_U8 [R n,S,S,3] and LUMA_U8 [R n,2,M,M], or None without motion."""
        count, size = sum(map(len, tracks)), tracks[0][0].size
        pixels = self._room(np.uint8, (count, size, size, 3))
        side = motion_size or 0
        luma = self._room(np.uint8, (count, 2, side, side))
        self._kernels.preprocess_u8(
            self.frames(frames),
            tracks,
            motion_size,
            color,
            pixels_u8=pixels.memory,
            luma_u8=None if motion_size is None else luma.memory,
        )
        return pixels.read(), None if motion_size is None else luma.read()

    def preprocess(
        self,
        frames: Bytes | DeviceFrames,
        tracks: Sequence[Sequence[Region]],
        parameters: PreprocessParameters,
        dtype: Float = np.float32,
    ) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """Return PIXELS [R n,3,S,S] and MOTION [R n,3,M,M], or None without motion."""
        count, size = sum(map(len, tracks)), parameters.image_size
        pixels = self._room(dtype, (count, 3, size, size))
        side = parameters.motion_size or 0
        motion = self._room(dtype, (count, 3, side, side))
        self._kernels.preprocess(
            self.frames(frames),
            tracks,
            parameters,
            Color(parameters.color_matrix, parameters.color_range),
            pixels=pixels.memory,
            motion=motion.memory if side else None,
            dtype=dtype,
        )
        return pixels.read(), motion.read() if side else None

    def frames(
        self, frames: Bytes | DeviceFrames, *, offset: int = 0, padding: int = 0
    ) -> DeviceFrames:
        """Put frames into the device's memory.

        Args:
            frames: u8 RGB [n,H,W,3] or NV12 [n,H*3/2,W,1]; or what is there already.
            offset: Bytes of the memory before the first frame.
            padding: Bytes after each row.
        """
        if isinstance(frames, DeviceFrames):
            return frames
        count, rows, width, channels = frames.shape
        row = width * channels + padding
        spread = np.zeros(offset + count * rows * row, np.uint8)
        inside = spread[offset:].reshape(count, rows, row)
        inside[:, :, : width * channels] = frames.reshape(count, rows, width * channels)
        height, _ = frame_size(frames[0])
        memory = HostPart(self.device.upload(spread), offset)
        return DeviceFrames(memory, count, height, width, channels == 1, rows * row, row)

    def _room(self, dtype: type[np.generic], shape: tuple[int, ...]) -> _Room:
        return _Room(self.device.empty(np.dtype(dtype).itemsize * math.prod(shape)), dtype, shape)


@dataclass(frozen=True, slots=True)
class _Room:
    """Memory for a result."""

    memory: HostMemory
    dtype: type[np.generic]
    shape: tuple[int, ...]

    def read(self) -> NDArray[Any]:
        return self.memory.read(self.dtype, self.shape)
