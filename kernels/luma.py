"""`luma`: a region of a full-range luma plane to LUMA_U8, by area."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.regions import Region, crop_box
from fgmclip.kernels.taps import AREA_BITS, area_taps


def luma(plane: NDArray[np.uint8], region: Region, image_size: int, size: int) -> NDArray[np.uint8]:
    """Return LUMA_U8 [M,M] of one frame: exact box integrals over the region of PIXELS.

    Args:
        plane: Full-range luma u8 [H,W], see `fgmclip.kernels.color`.
        region: The region that PIXELS were made of.
        image_size: S, the side of PIXELS; the region is S of the resized box's pixels wide.
        size: M, pixels.
    """
    columns = area_taps(region.width, region.resized_width, region.offset_x, image_size, size)
    rows = area_taps(region.height, region.resized_height, region.offset_y, image_size, size)
    across = columns.apply(crop_box(plane, region))
    sums = rows.apply(np.ascontiguousarray(across.T)).T
    levels = np.floor((sums + (1 << (2 * AREA_BITS - 1))) / (1 << (2 * AREA_BITS)))
    return np.asarray(levels, np.uint8)
