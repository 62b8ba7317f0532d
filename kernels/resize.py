"""`resize`: a region of a frame to PIXELS_U8, antialiased bicubic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.color import Color, frame_size, rgb_planes
from fgmclip.kernels.regions import Region
from fgmclip.kernels.taps import BICUBIC_BITS, bicubic_taps


def resize(frame: NDArray[np.uint8], region: Region, color: Color) -> NDArray[np.uint8]:
    """Return PIXELS_U8 of one frame, byte for byte as Pillow and CLIP's transform round.

    Horizontally first, rounded to bytes, then vertically; antialiased bicubic (a = -0.5) whose
    weights have 22 fraction bits: level = clip((sum + 2**21) >> 22, 0, 255). That is Pillow's
    `Image.resize(BICUBIC)` on 8-bit images; only the square that is wanted is computed.

    Pillow 13 goes vertically first where the height shrinks by more than twice as many pixels as
    the width, which moves levels at hard edges; CLIP's transform meets that on frames more than
    twice as tall as wide. The order here is the one that every Pillow had before, CLIP's included.

    Args:
        frame: u8 RGB [H,W,3] or NV12 [H*3/2,W,1].
        region: What of the frame; RGB is 0 outside the frame.
        color: How NV12 is meant.

    Returns:
        u8 [S,S,3].
    """
    columns = bicubic_taps(region.width, region.resized_width, region.offset_x, region.size)
    rows = bicubic_taps(region.height, region.resized_height, region.offset_y, region.size)
    window = region.window(columns.span, rows.span, frame_size(frame))
    planes = rgb_planes(frame, window, color)
    across = _levels(columns.apply(planes, window.left - region.left))
    down = _levels(rows.apply(across.transpose(0, 2, 1), window.top - region.top))
    return np.ascontiguousarray(down.transpose(2, 1, 0))


def _levels(sums: NDArray[np.float64]) -> NDArray[np.uint8]:
    # Scaling by a power of two is exact, so this is the integer shift.
    sums += 1 << (BICUBIC_BITS - 1)
    sums *= 2.0**-BICUBIC_BITS
    # Cutting to 0..255 first makes the cast's rounding toward zero a floor.
    return sums.clip(0, 255, out=sums).astype(np.uint8)
