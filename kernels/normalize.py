"""`normalize`: PIXELS_U8 to PIXELS."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.checks import check_pixels


def normalize(
    pixels_u8: NDArray[np.uint8],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> NDArray[np.float32]:
    """Return (value / 255 - mean) / std in f32, channels ahead of pixels.

    Args:
        pixels_u8: PIXELS_U8 [N,S,S,3].
        mean: Mean of each RGB channel in 0..1.
        std: Standard deviation of each RGB channel, above 0.

    Returns:
        PIXELS f32 [N,3,S,S].

    Raises:
        KernelError: The pixels have another type or shape.
    """
    check_pixels(pixels_u8)
    # A byte has 256 values: each is computed once, then looked up.
    levels = np.arange(256, dtype=np.float32)[:, None] / np.float32(255)
    table = (levels - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    count, height, width, channels = pixels_u8.shape
    pixels = np.empty((count, channels, height, width), np.float32)
    for channel in range(channels):
        pixels[:, channel] = table[:, channel][pixels_u8[..., channel]]
    return pixels
