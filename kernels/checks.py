"""What the operations refuse, in one place and with one wording."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError


def check_frames(frames: NDArray[np.uint8]) -> tuple[int, int]:
    """Return height and width of the frames.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1].

    Raises:
        KernelError: Type, rank, channels, count or size are not those of frames.
    """
    if frames.dtype != np.uint8:
        raise KernelError(f"FRAMES: expected u8, got {frames.dtype}; send values 0..255 as bytes")
    if frames.ndim != 4 or frames.shape[3] not in (1, 3):
        raise KernelError(
            f"FRAMES: expected RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1], got {list(frames.shape)}"
        )
    count, rows, width, channels = frames.shape
    if count < 2:
        raise KernelError(
            f"FRAMES: expected at least 2 frames, the sample before and a new one, got {count}"
        )
    if rows == 0 or width == 0:
        raise KernelError(f"FRAMES: expected pixels, got {list(frames.shape)}")
    if channels == 3:
        return rows, width
    if rows % 3 or width % 2:
        raise KernelError(
            "FRAMES: expected NV12 of an even height and width, H*3/2 rows of W bytes, "
            f"got {rows} rows of {width}; crop an odd row or column before converting"
        )
    return rows // 3 * 2, width


def check_rois(
    rois: NDArray[np.float32], count: int, height: int, width: int
) -> NDArray[np.float32]:
    """Return the boxes as f32.

    Args:
        rois: [R,n+1,4], pixels x0, y0, x1, y1.
        count: n + 1, the number of frames.
        height: Of the frames, pixels.
        width: Of the frames, pixels.

    Raises:
        KernelError: Shape or values are not those of boxes on these frames.
    """
    boxes = np.asarray(rois, dtype=np.float32)
    if boxes.ndim != 3 or boxes.shape[1:] != (count, 4):
        raise KernelError(
            f"ROI: expected [R,{count},4], one box a track and frame, got {list(boxes.shape)}"
        )
    if not np.isfinite(boxes).all():
        raise KernelError("ROI: expected finite pixels, got NaN or infinity; leave the track out")
    x0, y0, x1, y1 = np.moveaxis(boxes, 2, 0)
    for wrong, rule in (
        ((x1 <= x0) | (y1 <= y0), "x0 < x1 and y0 < y1"),
        ((x1 <= 0) | (y1 <= 0) | (x0 >= width) | (y0 >= height), f"a box on {width}x{height}"),
        (np.maximum(x1 - x0, y1 - y0) > 2 * max(height, width), "at most twice the frame"),
    ):
        if wrong.any():
            track, frame = (int(index) for index in np.argwhere(wrong)[0])
            raise KernelError(
                f"ROI: expected {rule}, got {boxes[track, frame].tolist()} in track {track}, "
                f"frame {frame}; leave the track out"
            )
    return boxes


def check_luma(luma_u8: NDArray[np.uint8]) -> None:
    """Refuse what is no LUMA_U8.

    Args:
        luma_u8: u8 [N,2,M,M].

    Raises:
        KernelError: Type or shape differ.
    """
    if luma_u8.dtype != np.uint8:
        raise KernelError(f"LUMA_U8: expected u8, got {luma_u8.dtype}")
    if luma_u8.ndim != 4 or luma_u8.shape[1] != 2 or luma_u8.shape[2] != luma_u8.shape[3]:
        raise KernelError(
            f"LUMA_U8: expected [N,2,M,M], earlier then later, got {list(luma_u8.shape)}"
        )
