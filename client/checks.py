"""What a request must look like, checked before it is sent, in the server's own words.

The server checks again: these save the way to it, not its trouble.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from fgmclip.client.errors import RefusedError
from fgmclip.spec import Limits

Frames = NDArray[np.uint8]
Boxes = NDArray[np.float32]

FRAMES_LAYOUTS = "RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1]"
MATRICES = ("bt601", "bt709")
RANGES = ("limited", "full")


def check_frames(frames: object, limits: Limits, *, fewest: int, most: int) -> Frames:
    """Return FRAMES, or refuse them.

    Args:
        frames: u8 RGB [n+1,H,W,3] or NV12 [n+1,H*3/2,W,1]: the sample before, then n new ones.
        limits: Limits of the server.
        fewest: Smallest n.
        most: Largest n.

    Raises:
        RefusedError: Type, shape or a limit does not hold.
    """
    if not _is_u8(frames):
        came = str(frames.dtype) if isinstance(frames, np.ndarray) else type(frames).__name__
        raise RefusedError(f"FRAMES: expected u8 {FRAMES_LAYOUTS}, got {came}; send values 0..255")
    if frames.ndim != 4 or frames.shape[3] not in (1, 3):
        raise RefusedError(f"FRAMES: expected {FRAMES_LAYOUTS}, got {list(frames.shape)}")
    if not fewest <= frames.shape[0] - 1 <= most:
        new = f"{most} new ones" if fewest == most else f"{fewest} to {most} new ones"
        count = f"{most + 1}" if fewest == most else f"{fewest + 1} to {most + 1}"
        raise RefusedError(
            f"FRAMES: expected {count} frames (the sample before, then {new}), "
            f"got {frames.shape[0]}"
        )
    _check_size(frames, limits)
    return frames


def check_rois(rois: object, frames: Frames, limits: Limits) -> Boxes:
    """Return ROI as f32 [R,n+1,4], or refuse it.

    Args:
        rois: [R,n+1,4], pixels x0, y0, x1, y1: one box a track and frame.
        frames: The FRAMES that they belong to.
        limits: Limits of the server.

    Raises:
        RefusedError: Shape, a value or a limit does not hold.
    """
    count = frames.shape[0]
    try:
        boxes = np.asarray(rois, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise RefusedError(f"ROI: expected numbers [R,{count},4], got {error}") from error
    if boxes.ndim != 3 or boxes.shape[1:] != (count, 4):
        raise RefusedError(
            f"ROI: expected [R,{count},4], one box a track and frame, got {list(boxes.shape)}"
        )
    tracks = boxes.shape[0]
    if not 1 <= tracks <= limits.max_tracks:
        raise RefusedError(f"ROI: expected 1 to {limits.max_tracks} tracks, got {tracks}")
    if tracks * (count - 1) > limits.max_rows:
        raise RefusedError(
            f"ROI: expected at most {limits.max_rows} tracks times samples, got {tracks} x "
            f"{count - 1}; send fewer tracks in a request"
        )
    if not np.isfinite(boxes).all():
        raise RefusedError("ROI: expected finite pixels x0, y0, x1, y1, got NaN or infinity")
    if not (boxes[..., :2] < boxes[..., 2:]).all():
        raise RefusedError("ROI: expected x0 < x1 and y0 < y1 in every box, got an empty one")
    return boxes


def color_parameters(color_matrix: str | None, color_range: str | None) -> dict[str, str]:
    """Return the request parameters of a colour choice; None leaves the model's default.

    Raises:
        RefusedError: The server knows no such matrix or range.
    """
    parameters: dict[str, str] = {}
    for key, value, allowed in (
        ("color_matrix", color_matrix, MATRICES),
        ("color_range", color_range, RANGES),
    ):
        if value is None:
            continue
        if value not in allowed:
            raise RefusedError(f"{key}: expected {' or '.join(allowed)}, got {value!r}")
        parameters[key] = value
    return parameters


def _check_size(frames: Frames, limits: Limits) -> None:
    height, width = frames.shape[1:3]
    if frames.shape[3] == 1:
        if height % 3 or width % 2:
            raise RefusedError(
                f"FRAMES: expected NV12 [n+1,H*3/2,W,1] with even H and W, got {list(frames.shape)}"
            )
        height = height * 2 // 3
    if min(height, width) < limits.min_side:
        raise RefusedError(
            f"FRAMES: expected sides of at least {limits.min_side} pixels, "
            f"got {width}x{height}; send a larger frame"
        )
    if max(height, width) > limits.max_side or height * width > limits.max_pixels:
        raise RefusedError(
            f"FRAMES: expected sides up to {limits.max_side} and {limits.max_pixels} pixels in "
            f"all, got {width}x{height}; scale the frame down before sending"
        )


def _is_u8(value: object) -> TypeGuard[NDArray[np.uint8]]:
    array: NDArray[Any] | None = value if isinstance(value, np.ndarray) else None
    return array is not None and array.dtype == np.uint8
