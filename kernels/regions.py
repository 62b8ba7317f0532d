"""Which part of a frame becomes the square image, and which of its pixels that takes.

A whole frame is cut as `crop` says. A track's box is grown to a square about its centre, snapped
to whole pixels, cut out like `PIL.Image.crop` does (black outside the frame) and then resized as
an image of its own: pixels around the box do not bleed into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import Crop


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels inside a frame; empty where `left == right` or `top == bottom`."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, slots=True)
class Region:
    """An integer crop box, the size it is resized to, and the square cut out of that.

    Attributes:
        left: First column of the box, pixels of the frame; may lie outside.
        top: First row of the box, pixels of the frame; may lie outside.
        width: Width of the box, pixels.
        height: Height of the box, pixels.
        resized_width: Width of the whole box after resizing, pixels.
        resized_height: Height of the whole box after resizing, pixels.
        offset_x: First column of the square inside the resized box, pixels.
        offset_y: First row of the square inside the resized box, pixels.
        size: S, side of the square, pixels.
    """

    left: int
    top: int
    width: int
    height: int
    resized_width: int
    resized_height: int
    offset_x: int
    offset_y: int
    size: int

    def window(
        self, columns: tuple[int, int], rows: tuple[int, int], frame_size: tuple[int, int]
    ) -> Window:
        """Return what the frame holds of some columns and rows of the box.

        Args:
            columns: First column inside the box and the one past the last.
            rows: First row inside the box and the one past the last.
            frame_size: Height and width of the frame, pixels.
        """
        height, width = frame_size
        left, right = (min(max(self.left + column, 0), width) for column in columns)
        top, bottom = (min(max(self.top + row, 0), height) for row in rows)
        return Window(left, top, right, bottom)


def frame_region(height: int, width: int, size: int, crop: Crop) -> Region:
    """Return the region of a whole frame.

    Args:
        height: Of the frame, pixels.
        width: Of the frame, pixels.
        size: S, side of the square, pixels.
        crop: `center`: the short side becomes S and the middle is cut, rounded as CLIP's transform
            rounds (torchvision's `Resize(S)` and `CenterCrop(S)`); `letterbox`: a centred square
            around the frame, black outside it; `squash`: the whole frame, aspect ratio lost.
    """
    if crop == "letterbox":
        side = max(height, width)
        return _square(-((side - width) // 2), -((side - height) // 2), side, size)
    if crop == "squash":
        return Region(0, 0, width, height, size, size, 0, 0, size)
    short = min(height, width)
    resized_width, resized_height = int(size * width / short), int(size * height / short)
    # Half to even, as Python's `round` in CenterCrop.
    offset_x, offset_y = round((resized_width - size) / 2), round((resized_height - size) / 2)
    return Region(0, 0, width, height, resized_width, resized_height, offset_x, offset_y, size)


def roi_region(box: NDArray[np.float32], size: int) -> Region:
    """Return the region of a track: its box grown to a square about its centre.

    The side is the box's longer side, rounded up to whole pixels; the square's left and top edges
    go to the nearest pixel, half up.

    Args:
        box: f32 [4], pixels x0, y0, x1, y1.
        size: S, side of the square image, pixels.
    """
    x0, y0, x1, y1 = (float(value) for value in box)
    side = ceil(max(x1 - x0, y1 - y0))
    left, top = floor((x0 + x1 - side) / 2 + 0.5), floor((y0 + y1 - side) / 2 + 0.5)
    return _square(left, top, side, size)


def _square(left: int, top: int, side: int, size: int) -> Region:
    return Region(left, top, side, side, size, size, 0, 0, size)
