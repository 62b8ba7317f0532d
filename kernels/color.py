"""Colour: NV12 to RGB and to full-range luma, RGB to luma, in 16-bit fixed point.

With luma weights (Kr, Kg, Kb) of the matrix, limited range maps 16..235 (chroma 16..240) to 0..255:

    R = Y' + 2 (1 - Kr) V'
    G = Y' - 2 Kb (1 - Kb) / Kg U' - 2 Kr (1 - Kr) / Kg V'
    B = Y' + 2 (1 - Kb) U'

(ITU-R BT.601 and BT.709), each rounded to the nearest level and cut to 0..255. Chroma samples are
repeated for the 2x2 pixels that they belong to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import ColorMatrix, ColorRange

_BITS = 16
_HALF = 1 << (_BITS - 1)
_WEIGHTS: dict[ColorMatrix, tuple[float, float]] = {
    "bt601": (0.299, 0.114),
    "bt709": (0.2126, 0.0722),
}


def _fixed(value: float) -> int:
    return round(value * (1 << _BITS))


def rgb_luma(rgb: NDArray[np.uint8], matrix: ColorMatrix) -> NDArray[np.uint8]:
    """Return full-range luma u8 [H,W] of an RGB frame u8 [H,W,3]."""
    red, blue = (_fixed(weight) for weight in _WEIGHTS[matrix])
    green = (1 << _BITS) - red - blue
    wide = rgb.astype(np.int32)
    total = wide[..., 0] * red + wide[..., 1] * green + wide[..., 2] * blue
    return np.asarray((total + _HALF) >> _BITS, np.uint8)


def nv12_luma(nv12: NDArray[np.uint8], color_range: ColorRange) -> NDArray[np.uint8]:
    """Return full-range luma u8 [H,W] of an NV12 frame u8 [H*3/2,W]."""
    plane = nv12[: nv12.shape[0] * 2 // 3]
    if color_range == "full":
        return plane
    wide = (plane.astype(np.int32) - 16) * _fixed(255 / 219)
    return _to_bytes(wide)


def nv12_rgb(
    nv12: NDArray[np.uint8], matrix: ColorMatrix, color_range: ColorRange
) -> NDArray[np.uint8]:
    """Return RGB u8 [H,W,3] of an NV12 frame u8 [H*3/2,W]."""
    red, blue = _WEIGHTS[matrix]
    green = 1 - red - blue
    offset, luma_gain, chroma_gain = (
        (16, 255 / 219, 255 / 224) if color_range == "limited" else (0, 1.0, 1.0)
    )
    height = nv12.shape[0] * 2 // 3
    luma = (nv12[:height].astype(np.int32) - offset) * _fixed(luma_gain)
    chroma = nv12[height:].reshape(height // 2, -1, 2).astype(np.int32) - 128
    chroma = chroma.repeat(2, axis=0).repeat(2, axis=1)
    u, v = chroma[..., 0], chroma[..., 1]
    planes = (
        luma + v * _fixed(2 * (1 - red) * chroma_gain),
        luma
        - u * _fixed(2 * blue * (1 - blue) / green * chroma_gain)
        - v * _fixed(2 * red * (1 - red) / green * chroma_gain),
        luma + u * _fixed(2 * (1 - blue) * chroma_gain),
    )
    return np.stack([_to_bytes(plane) for plane in planes], axis=-1)


def _to_bytes(fixed: NDArray[np.int32]) -> NDArray[np.uint8]:
    return np.clip((fixed + _HALF) >> _BITS, 0, 255).astype(np.uint8)
