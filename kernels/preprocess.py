"""`preprocess`: frames to PIXELS and MOTION, in the two stages that an edge host may split.

The u8 stages are part of the definition: whoever sends PIXELS_U8 and LUMA_U8 gets exactly the
answer for the frames that they were made of.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.checks import check_frames, check_rois
from fgmclip.kernels.color import nv12_luma, nv12_rgb, rgb_luma
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
    """Return PIXELS and MOTION of n samples, and of R tracks in each.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1]; the first is the sample before.
        parameters: The definition.
        rois: f32 [R,n+1,4], pixels x0, y0, x1, y1; None for the whole frame.
        color_matrix: Instead of the definition's.
        color_range: Instead of the definition's; matters for NV12 alone.

    Returns:
        PIXELS f32 [R n,3,S,S] and MOTION f32 [R n,3,M,M], track by track; MOTION is None for a
        model without motion.

    Raises:
        KernelError: Frames or boxes are not what they should be.
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

    Both frames of a pair are cut by the later one's region, so that a moving box does not look
    like a moving world. Arguments and errors are those of `preprocess`.
    """
    height, width = check_frames(frames)
    matrix = color_matrix or parameters.color_matrix
    value_range = color_range or parameters.color_range
    size, motion_size = parameters.image_size, parameters.motion_size
    regions = _regions(frames, rois, height, width, parameters)
    is_nv12 = frames.shape[3] == 1

    images = [
        nv12_rgb(frame[..., 0], matrix, value_range) if is_nv12 else frame for frame in frames[1:]
    ]
    pixels = np.stack(
        [resize(image, row[i], size) for row in regions for i, image in enumerate(images)]
    )
    if motion_size is None:
        return pixels, None

    planes = [
        nv12_luma(frame[..., 0], value_range) if is_nv12 else rgb_luma(frame, matrix)
        for frame in frames
    ]
    reduced: dict[tuple[int, Region], Bytes] = {}

    def reduce(index: int, region: Region) -> Bytes:
        # Without boxes a frame is the later one of a pair and the earlier one of the next.
        if (index, region) not in reduced:
            reduced[index, region] = luma(planes[index], region, size, motion_size)
        return reduced[index, region]

    pairs = [
        np.stack([reduce(i, region), reduce(i + 1, region)])
        for row in regions
        for i, region in enumerate(row)
    ]
    return pixels, np.stack(pairs)


def preprocess_edge(
    pixels_u8: Bytes, luma_u8: Bytes | None, parameters: PreprocessParameters
) -> tuple[Floats, Floats | None]:
    """Return PIXELS and MOTION from their u8 stages.

    Args:
        pixels_u8: PIXELS_U8 [N,S,S,3].
        luma_u8: LUMA_U8 [N,2,M,M]; None for a model without motion.
        parameters: The definition.

    Returns:
        PIXELS f32 [N,3,S,S] and MOTION f32 [N,3,M,M] = (luma difference / 255, u / M, v / M).

    Raises:
        KernelError: A tensor has another type or shape than the definition says.
    """
    size, motion_size = parameters.image_size, parameters.motion_size
    if pixels_u8.shape[1:3] != (size, size):
        raise KernelError(f"PIXELS_U8: expected [N,{size},{size},3], got {list(pixels_u8.shape)}")
    pixels = normalize(pixels_u8, parameters.mean, parameters.std)
    if motion_size is None or parameters.flow is None:
        return pixels, None
    if luma_u8 is None or luma_u8.shape != (len(pixels_u8), 2, motion_size, motion_size):
        came = "nothing" if luma_u8 is None else list(luma_u8.shape)
        raise KernelError(
            f"LUMA_U8: expected [{len(pixels_u8)},2,{motion_size},{motion_size}], got {came}"
        )
    motion = np.empty((len(luma_u8), 3, motion_size, motion_size), np.float32)
    motion[:, 0] = frame_difference(luma_u8)
    motion[:, 1:] = optical_flow(luma_u8, parameters.flow) / np.float32(motion_size)
    return pixels, motion


def _regions(
    frames: Bytes,
    rois: Floats | None,
    height: int,
    width: int,
    parameters: PreprocessParameters,
) -> list[list[Region]]:
    """Return the region of each track and new sample, [R][n]."""
    size, samples = parameters.image_size, len(frames) - 1
    if rois is None:
        return [[frame_region(height, width, size, parameters.crop)] * samples]
    boxes = check_rois(rois, len(frames), height, width)
    return [[roi_region(box, size) for box in track[1:]] for track in boxes]
