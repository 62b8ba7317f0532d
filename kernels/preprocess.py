"""`preprocess`: frames to PIXELS and MOTION, in the two stages that an edge host may split.

The u8 stages are part of the definition: whoever sends PIXELS_U8 and LUMA_U8 gets exactly the
answer for the frames that they were made of.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.checks import (
    check_color,
    check_frames,
    check_luma,
    check_pixels,
    check_rois,
)
from fgmclip.kernels.color import Color
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.frame_difference import frame_difference
from fgmclip.kernels.luma import luma
from fgmclip.kernels.normalize import normalize
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import ColorMatrix, ColorRange, PreprocessParameters
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.resize import resize

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


def preprocess(
    frames: Bytes,
    parameters: PreprocessParameters,
    *,
    rois: Floats | None = None,
    color_matrix: ColorMatrix | None = None,
    color_range: ColorRange | None = None,
) -> tuple[Floats, Floats | None]:
    """Return PIXELS and MOTION of n samples, for each of R tracks.

    Both frames of a pair are cut by the later one's region, so that a moving box does not look
    like a moving world. The first sample's box is therefore not used.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1]; the first is the sample before.
        parameters: The definition.
        rois: f32 [R,n+1,4], pixels x0, y0, x1, y1; None for the whole frame (R = 1).
        color_matrix: Instead of the definition's.
        color_range: Instead of the definition's; matters for NV12 alone.

    Returns:
        PIXELS f32 [R n,3,S,S] and MOTION f32 [R n,3,M,M], track by track; MOTION is None for a
        model without motion.

    Raises:
        KernelError: Frames, boxes or colour are not what they should be.
    """
    pixels_u8, luma_u8 = preprocess_u8(
        frames, parameters, rois=rois, color_matrix=color_matrix, color_range=color_range
    )
    return preprocess_edge(pixels_u8, luma_u8, parameters)


def preprocess_u8(
    frames: Bytes,
    parameters: PreprocessParameters,
    *,
    rois: Floats | None = None,
    color_matrix: ColorMatrix | None = None,
    color_range: ColorRange | None = None,
) -> tuple[Bytes, Bytes | None]:
    """Return PIXELS_U8 [R n,S,S,3] and LUMA_U8 [R n,2,M,M]: all that needs whole frames.

    Arguments and errors are those of `preprocess`; LUMA_U8 is None for a model without motion.
    """
    frame_size = check_frames(frames)
    color = Color(color_matrix or parameters.color_matrix, color_range or parameters.color_range)
    check_color(color.matrix, color.range)
    tracks = _regions(len(frames), frame_size, rois, parameters)

    pixels = [
        resize(frame, region, color)
        for regions in tracks
        for frame, region in zip(frames[1:], regions, strict=True)
    ]
    size = parameters.motion_size
    if size is None:
        return np.stack(pixels), None

    planes: dict[tuple[int, Region], Bytes] = {}

    def plane(index: int, region: Region) -> Bytes:
        # Where the region stays, a frame is the later of one pair and the earlier of the next.
        if (index, region) not in planes:
            planes[index, region] = luma(frames[index], region, size, color)
        return planes[index, region]

    pairs = [
        np.stack([plane(earlier, region), plane(earlier + 1, region)])
        for regions in tracks
        for earlier, region in enumerate(regions)
    ]
    return np.stack(pixels), np.stack(pairs)


def preprocess_edge(
    pixels_u8: Bytes, luma_u8: Bytes | None, parameters: PreprocessParameters
) -> tuple[Floats, Floats | None]:
    """Return PIXELS and MOTION from their u8 stages.

    Args:
        pixels_u8: PIXELS_U8 [N,S,S,3], N at least 1.
        luma_u8: LUMA_U8 [N,2,M,M]; None for a model without motion.
        parameters: The definition.

    Returns:
        PIXELS f32 [N,3,S,S] and MOTION f32 [N,3,M,M] = (luma difference / 255, u / M, v / M).

    Raises:
        KernelError: A tensor has another type or shape than the definition says.
    """
    check_pixels(pixels_u8, parameters.image_size)
    count = len(pixels_u8)
    if count == 0:
        raise KernelError("PIXELS_U8: expected at least 1 sample, got 0; send a new sample")
    pixels = normalize(pixels_u8, parameters.mean, parameters.std)
    size, flow = parameters.motion_size, parameters.flow
    if size is None or flow is None:
        if luma_u8 is not None:
            raise KernelError(
                "LUMA_U8: expected none, as the model has no motion encoder, "
                f"got {list(luma_u8.shape)}; leave it out"
            )
        return pixels, None
    if luma_u8 is None:
        raise KernelError(
            f"LUMA_U8: expected [{count},2,{size},{size}], got none; "
            "send what preprocess_u8 returns"
        )
    check_luma(luma_u8, size, count)
    motion = np.empty((count, 3, size, size), np.float32)
    motion[:, 0] = frame_difference(luma_u8)
    motion[:, 1:] = optical_flow(luma_u8, flow) / np.float32(size)
    return pixels, motion


def _regions(
    count: int,
    frame_size: tuple[int, int],
    rois: Floats | None,
    parameters: PreprocessParameters,
) -> list[list[Region]]:
    """Return the region of each track and new sample, [R][n]."""
    height, width = frame_size
    size = parameters.image_size
    if rois is None:
        return [[frame_region(height, width, size, parameters.crop)] * (count - 1)]
    check_rois(rois, count, height, width)
    return [[roi_region(box, size) for box in track[1:]] for track in rois]
