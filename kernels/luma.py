"""`luma`: a region of a frame to LUMA_U8, by area."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.color import Color, frame_size, luma_plane
from fgmclip.kernels.regions import Region
from fgmclip.kernels.taps import AREA_BITS, area_taps


def luma(frame: NDArray[np.uint8], region: Region, size: int, color: Color) -> NDArray[np.uint8]:
    """Return LUMA_U8 of one frame: box integrals over exactly the area that PIXELS show.

    Each source pixel's full-range luma is rounded to a byte first (`fgmclip.kernels.color`), then
    both axes are summed with weights of 11 fraction bits: level = (sum + 2**21) >> 22.

    Args:
        frame: u8 RGB [H,W,3] or NV12 [H*3/2,W,1].
        region: What of the frame; luma is 0 outside the frame.
        size: M, pixels.
        color: Matrix of RGB, range of NV12.

    Returns:
        u8 [M,M].
    """
    columns = area_taps(region.width, region.resized_width, region.offset_x, region.size, size)
    rows = area_taps(region.height, region.resized_height, region.offset_y, region.size, size)
    window = region.window(columns.span, rows.span, frame_size(frame))
    plane = luma_plane(frame, window, color)
    across = columns.apply(plane, window.left - region.left)
    sums = rows.apply(across.T, window.top - region.top).T
    bits = 2 * AREA_BITS
    # Scaling by a power of two is exact and sums are not negative: this is the integer shift.
    return ((sums + (1 << (bits - 1))) * 2.0**-bits).astype(np.uint8)
