"""`normalize`: PIXELS_U8 to PIXELS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError


def normalize(
    pixels_u8: NDArray[np.uint8],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> NDArray[np.float32]:
    """Return (value / 255 - mean) / std, channels ahead of pixels.

    Args:
        pixels_u8: PIXELS_U8 [N,S,S,3].
        mean: Mean of each RGB channel in 0..1.
        std: Standard deviation of each RGB channel, above 0.

    Returns:
        PIXELS f32 [N,3,S,S].

    Raises:
        KernelError: The pixels have another type or shape.
    """
    if pixels_u8.dtype != np.uint8 or pixels_u8.ndim != 4 or pixels_u8.shape[3] != 3:
        raise KernelError(
            f"PIXELS_U8: expected u8 [N,S,S,3], got {pixels_u8.dtype} {list(pixels_u8.shape)}"
        )
    # A byte has 256 values: each is computed once, then looked up.
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    table = (levels[:, None] - np.array(mean, np.float32)) / np.array(std, np.float32)
    planes = [table[:, channel][pixels_u8[..., channel]] for channel in range(3)]
    return np.stack(planes, axis=1)
