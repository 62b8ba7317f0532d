"""Frames that cost what a camera's do: something moves, so that flow has work."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def moving_frames(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return RGB frames u8 [count,H,W,3] of a textured square that moves over noise."""
    random = np.random.default_rng(0)
    frames = np.repeat(
        random.integers(96, 160, (1, height, width, 3), dtype=np.uint8), count, axis=0
    )
    side = min(height, width) // 3
    patch = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        left = (width - side) * index // max(1, count - 1)
        frame[(height - side) // 2 :][:side, left : left + side] = patch
    return frames
