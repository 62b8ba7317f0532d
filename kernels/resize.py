"""`resize`: a region of an RGB frame to PIXELS_U8, antialiased bicubic."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.regions import Region, crop_box
from fgmclip.kernels.taps import BICUBIC_BITS, bicubic_taps


def resize(rgb: NDArray[np.uint8], region: Region, size: int) -> NDArray[np.uint8]:
    """Return PIXELS_U8 [S,S,3] of one frame, byte for byte as Pillow and CLIP's transform round.

    Columns first, rounded to bytes, then rows; antialiased bicubic (a = -0.5) in fixed point. A
    recent Pillow takes rows first where only they shrink, which CLIP's transform never asks for.

    Args:
        rgb: u8 [H,W,3].
        region: What of the frame; see `fgmclip.kernels.regions`.
        size: S, pixels.
    """
    columns = bicubic_taps(region.width, region.resized_width, region.offset_x, size)
    rows = bicubic_taps(region.height, region.resized_height, region.offset_y, size)
    low, high = rows.span
    box = crop_box(rgb, region)[low:high]
    flat = np.ascontiguousarray(box.transpose(0, 2, 1)).reshape(-1, region.width)
    across = _to_bytes(columns.apply(flat)).reshape(high - low, 3 * size)
    padded = np.zeros((3 * size, region.height), np.uint8)
    padded[:, low:high] = across.T
    down = _to_bytes(rows.apply(padded)).reshape(3, size, size)
    return np.ascontiguousarray(down.transpose(2, 1, 0))


def _to_bytes(sums: NDArray[np.float64]) -> NDArray[np.uint8]:
    levels = np.floor((sums + (1 << (BICUBIC_BITS - 1))) / (1 << BICUBIC_BITS))
    return np.asarray(np.clip(levels, 0, 255), np.uint8)
