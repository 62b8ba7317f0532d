"""The chain in NumPy: what the C++ and CUDA builds are held to, and what runs where neither does.

Its parts are the operations' own modules; arguments were checked before they come here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.color import Color
from fgmclip.kernels.frame_difference import frame_difference
from fgmclip.kernels.luma import luma
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.kernels.regions import Region
from fgmclip.kernels.resize import resize

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def preprocess_u8(
    frames: Bytes, tracks: Sequence[Sequence[Region]], motion_size: int | None, color: Color
) -> tuple[Bytes, Bytes | None]:
    """Return PIXELS_U8 [R n,S,S,3] and LUMA_U8 [R n,2,M,M], or None without motion.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1].
        tracks: Region of each track and new sample, [R][n].
        motion_size: M, pixels; None for a model without motion.
        color: What the frames' numbers mean.
    """
    pixels = [
        resize(frame, region, color)
        for regions in tracks
        for frame, region in zip(frames[1:], regions, strict=True)
    ]
    if motion_size is None:
        return np.stack(pixels), None
    planes: dict[tuple[int, Region], Bytes] = {}

    def plane(index: int, region: Region) -> Bytes:
        # Where the region stays, a frame is the later of one pair and the earlier of the next.
        if (index, region) not in planes:
            planes[index, region] = luma(frames[index], region, motion_size, color)
        return planes[index, region]

    pairs = [
        np.stack([plane(earlier, region), plane(earlier + 1, region)])
        for regions in tracks
        for earlier, region in enumerate(regions)
    ]
    return np.stack(pixels), np.stack(pairs)


def motion(luma_u8: Bytes, flow: FlowParameters) -> Floats:
    """Return MOTION f32 [N,3,M,M] of LUMA_U8 [N,2,M,M]."""
    count, _, size, _ = luma_u8.shape
    result = np.empty((count, 3, size, size), np.float32)
    result[:, 0] = frame_difference(luma_u8)
    result[:, 1:] = optical_flow(luma_u8, flow) / np.float32(size)
    return result
