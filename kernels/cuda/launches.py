"""The operations as launches: same names as their twins, written to memory that the caller has.

Types and shapes were checked before they come here. An empty batch launches nothing. Memory that a
launch took for itself is let go right after it: a device gives it to later work only.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgmclip.kernels.color import Color
from fgmclip.kernels.cuda.abi import (
    color_record,
    flow_record,
    frame_layout_record,
    normalization_record,
)
from fgmclip.kernels.cuda.device import Device, Memory
from fgmclip.kernels.cuda.plan import (
    Job,
    Plan,
    Scale,
    flow_scratch,
    jobs,
    plan_of,
    scale_of,
    tiles_of,
)
from fgmclip.kernels.parameters import FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region

Float = type[np.float32] | type[np.float16]

_SUFFIX: dict[type[np.generic], str] = {np.float32: "f32", np.float16: "f16", np.uint8: "u8"}

_THREADS = 256
_FLOW_THREADS = 512
_PER_THREAD = 4
"""Pixels of a thread where an operation looks at each pixel alone."""

_KEPT_TABLES = 64
"""Scales whose weights stay in the device's memory; cameras do not change their size."""

_NOWHERE = np.uint64(0)
"""The address of a result that is not wanted."""


@dataclass(frozen=True, slots=True)
class DeviceFrames:
    """Frames of one request in a device's memory.

    Attributes:
        memory: u8 RGB [count,height,width,3] or NV12 [count,height*3/2,width,1].
        count: n + 1, how many frames.
        height: Of a frame, pixels.
        width: Of a frame, pixels.
        nv12: NV12, else RGB.
        frame_stride: From frame to frame, bytes.
        row_stride: From row to row, bytes.
    """

    memory: Memory
    count: int
    height: int
    width: int
    nv12: bool
    frame_stride: int
    row_stride: int


class CudaKernels:
    """The operations on one device; keeps the weights of the regions that came last."""

    def __init__(self, device: Device) -> None:
        """Take the device that all launches go to."""
        self._device = device
        self._tables: OrderedDict[Scale, Memory] = OrderedDict()

    def preprocess(
        self,
        frames: DeviceFrames,
        tracks: Sequence[Sequence[Region]],
        parameters: PreprocessParameters,
        color: Color,
        *,
        pixels: Memory,
        motion: Memory | None,
        dtype: Float = np.float32,
    ) -> None:
        """Write PIXELS [R n,3,S,S] and, unless it is None, MOTION [R n,3,M,M], both `dtype`.

        Args:
            frames: The frames.
            tracks: Region of each track and new sample, [R][n].
            parameters: The definition.
            color: What the frames' numbers mean.
            pixels: Where PIXELS go.
            motion: Where MOTION goes; None for a model without motion.
            dtype: f32 or f16.
        """
        count = sum(len(regions) for regions in tracks)
        size, flow = parameters.motion_size, parameters.flow
        how = normalization_record(parameters.mean, parameters.std)
        if count == 0 or motion is None or size is None or flow is None:
            work = list(jobs(tracks, motion=False))
            self._preprocess(frames, work, color, dtype, pixels, None, 0, how)
            return
        luma_u8 = self._device.empty(count * 2 * size * size)
        work = list(jobs(tracks, motion=True))
        self._preprocess(frames, work, color, dtype, pixels, luma_u8, size, how)
        self.motion(luma_u8, count, size, flow, motion, dtype=dtype)

    def preprocess_u8(
        self,
        frames: DeviceFrames,
        tracks: Sequence[Sequence[Region]],
        motion_size: int | None,
        color: Color,
        *,
        pixels_u8: Memory,
        luma_u8: Memory | None,
    ) -> None:
        """Write PIXELS_U8 [R n,S,S,3] and, unless it is None, LUMA_U8 [R n,2,M,M]."""
        size = 0 if luma_u8 is None or motion_size is None else motion_size
        work = list(jobs(tracks, motion=size > 0))
        self._preprocess(frames, work, color, np.uint8, pixels_u8, luma_u8, size)

    def resize(self, frames: DeviceFrames, region: Region, color: Color, out: Memory) -> None:
        """Write PIXELS_U8 of each frame, [count,S,S,3]."""
        work = [Job(frame, region, pixels=frame) for frame in range(frames.count)]
        self._preprocess(frames, work, color, np.uint8, out, None, 0)

    def luma(
        self, frames: DeviceFrames, region: Region, size: int, color: Color, out: Memory
    ) -> None:
        """Write the luma of each frame, u8 [count,M,M]."""
        work = [Job(frame, region, luma=frame) for frame in range(frames.count)]
        self._preprocess(frames, work, color, np.uint8, None, out, size)

    def normalize(
        self,
        pixels_u8: Memory,
        count: int,
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        out: Memory,
        *,
        dtype: Float = np.float32,
    ) -> None:
        """Write PIXELS [count,S,S,3] as `dtype` [count,3,S,S]."""
        self._pixelwise(
            "normalize", dtype, pixels_u8, count, size, normalization_record(mean, std), out
        )

    def frame_difference(
        self, luma_u8: Memory, count: int, size: int, out: Memory, *, dtype: Float = np.float32
    ) -> None:
        """Write (later - earlier) / 255 of LUMA_U8 [count,2,M,M] as `dtype` [count,M,M]."""
        self._pixelwise("frame_difference", dtype, luma_u8, count, size, out)

    def optical_flow(
        self, luma_u8: Memory, count: int, size: int, parameters: FlowParameters, out: Memory
    ) -> None:
        """Write the flow of LUMA_U8 [count,2,M,M] as f32 [count,2,M,M], pixels of the M-grid."""
        self._flow("optical_flow_f32", luma_u8, count, size, parameters, out)

    def motion(
        self,
        luma_u8: Memory,
        count: int,
        size: int,
        parameters: FlowParameters,
        out: Memory,
        *,
        dtype: Float = np.float32,
    ) -> None:
        """Write MOTION of LUMA_U8 [count,2,M,M] as `dtype` [count,3,M,M]."""
        self._flow(f"motion_{_SUFFIX[dtype]}", luma_u8, count, size, parameters, out)

    def _preprocess(
        self,
        frames: DeviceFrames,
        work: Sequence[Job],
        color: Color,
        dtype: Float | type[np.uint8],
        pixels: Memory | None,
        luma: Memory | None,
        motion_size: int,
        how: np.void | None = None,
    ) -> None:
        if not work:
            return
        value_bytes = 0 if pixels is None else np.dtype(dtype).itemsize
        frame = frames.height, frames.width
        tiles, shared = [], 0
        for job in work:
            scale = scale_of(job, motion_size, frames.nv12, value_bytes, frame)
            plan = plan_of(scale)
            tiles.append(tiles_of(job, plan, self._upload(scale, plan), frames.nv12))
            shared = max(shared, plan.shared)
        records = np.concatenate(tiles)
        layout = frame_layout_record(
            frames.frame_stride, frames.row_stride, frames.height, frames.width, frames.nv12
        )
        self._device.launch(
            f"preprocess_{_SUFFIX[dtype]}",
            (len(records), 1, 1),
            _THREADS,
            shared,
            [
                self._device.upload(records),
                frames.memory,
                layout,
                color_record(color),
                normalization_record((0, 0, 0), (1, 1, 1)) if how is None else how,
                np.int32(work[0].region.size),
                np.int32(motion_size),
                _NOWHERE if pixels is None else pixels,
                _NOWHERE if luma is None else luma,
            ],
        )
        # Only now: one request may need more of them.
        while len(self._tables) > _KEPT_TABLES:
            self._tables.popitem(last=False)

    def _upload(self, scale: Scale, plan: Plan) -> int:
        """Return where the plan's tables are in the device's memory."""
        if scale not in self._tables:
            self._tables[scale] = self._device.upload(plan.tables)
        self._tables.move_to_end(scale)
        return self._tables[scale].address

    def _pixelwise(
        self, name: str, dtype: Float, source: Memory, count: int, size: int, *rest: Any
    ) -> None:
        if count == 0:
            return
        blocks = -(-size * size // (_THREADS * _PER_THREAD))
        self._device.launch(
            f"{name}_{_SUFFIX[dtype]}",
            (blocks, min(count, 65535), 1),
            _THREADS,
            0,
            [source, np.int32(count), np.int32(size * size), *rest],
        )

    def _flow(
        self,
        kernel: str,
        luma_u8: Memory,
        count: int,
        size: int,
        parameters: FlowParameters,
        out: Memory,
    ) -> None:
        if count == 0:
            return
        floats = flow_scratch(size, parameters)
        scratch = self._device.empty(4 * count * floats)
        self._device.launch(
            kernel,
            (count, 1, 1),
            _FLOW_THREADS,
            0,
            [luma_u8, np.int32(size), flow_record(parameters), scratch, np.int64(floats), out],
        )
