"""`frame_difference`: how much each pixel's luma changed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.checks import check_luma


def frame_difference(luma_u8: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return (later - earlier) / 255.

    Args:
        luma_u8: LUMA_U8 [N,2,M,M], earlier then later.

    Returns:
        f32 [N,M,M], in -1..1.

    Raises:
        KernelError: The luma has another type or shape.
    """
    check_luma(luma_u8)
    difference = luma_u8[:, 1].astype(np.float32) - luma_u8[:, 0].astype(np.float32)
    result: NDArray[np.float32] = difference / np.float32(255)
    return result
