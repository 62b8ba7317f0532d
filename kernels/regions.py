"""Which part of a frame becomes the square image, and how it is cut."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import Crop


@dataclass(frozen=True, slots=True)
class Region:
    """An integer crop box, the size it is resized to, and the square cut out of that.

    Attributes:
        left: First column of the box, pixels; may lie outside the frame.
        top: First row of the box, pixels; may lie outside the frame.
        width: Width of the box, pixels.
        height: Height of the box, pixels.
        resized_width: Width of the whole box after resizing, pixels.
        resized_height: Height of the whole box after resizing, pixels.
        offset_x: First column of the square inside the resized box, pixels.
        offset_y: First row of the square inside the resized box, pixels.
    """

    left: int
    top: int
    width: int
    height: int
    resized_width: int
    resized_height: int
    offset_x: int
    offset_y: int


def frame_region(height: int, width: int, size: int, crop: Crop) -> Region:
    """Return the region of a whole frame.

    Args:
        height: Of the frame, pixels.
        width: Of the frame, pixels.
        size: Side of the square, pixels.
        crop: `center`: the short side becomes `size` and the middle is cut, rounded as CLIP's
            transform rounds; `letterbox`: a centred square around the frame, black outside it;
            `squash`: the whole frame, aspect ratio lost.
    """
    if crop == "center":
        short = min(height, width)
        resized_width = size if width == short else int(size * width / short)
        resized_height = size if height == short else int(size * height / short)
        return Region(
            0,
            0,
            width,
            height,
            resized_width,
            resized_height,
            round((resized_width - size) / 2.0),
            round((resized_height - size) / 2.0),
        )
    if crop == "letterbox":
        side = max(height, width)
        left, top = -((side - width) // 2), -((side - height) // 2)
        return Region(left, top, side, side, size, size, 0, 0)
    return Region(0, 0, width, height, size, size, 0, 0)


def roi_region(box: NDArray[np.float32], size: int) -> Region:
    """Return the region of a track: its box grown to a square about its centre.

    Args:
        box: f32 [4], pixels x0, y0, x1, y1.
        size: Side of the square image, pixels.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    side = max(1, ceil(max(x1 - x0, y1 - y0)))
    left = floor((x0 + x1 - side) / 2 + 0.5)
    top = floor((y0 + y1 - side) / 2 + 0.5)
    return Region(left, top, side, side, size, size, 0, 0)


def crop_box(plane: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    """Cut the region's box out of a picture, black where it lies outside.

    Args:
        plane: u8 [H,W] or [H,W,C].
        region: Names the box.

    Returns:
        u8 [height,width] or [height,width,C]; a view where the box lies inside.
    """
    height, width = plane.shape[:2]
    right, bottom = region.left + region.width, region.top + region.height
    x0, x1 = max(region.left, 0), min(right, width)
    y0, y1 = max(region.top, 0), min(bottom, height)
    if (x0, y0, x1, y1) == (region.left, region.top, right, bottom):
        return plane[y0:y1, x0:x1]
    shape: tuple[Any, ...] = (region.height, region.width, *plane.shape[2:])
    cut = np.zeros(shape, dtype=np.uint8)
    if x0 < x1 and y0 < y1:
        target = cut[y0 - region.top : y1 - region.top, x0 - region.left : x1 - region.left]
        target[:] = plane[y0:y1, x0:x1]
    return cut
