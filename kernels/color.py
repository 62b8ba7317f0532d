"""Colour: NV12 to RGB and to full-range luma, RGB to luma, all in integers with 16 fraction bits.

With the luma weights Kr, Kg, Kb of ITU-R BT.601 (0.299, 0.587, 0.114) or BT.709 (0.2126, 0.7152,
0.0722), y = Y - 16 in limited range or Y in full range, u = U - 128, v = V - 128:

    R = (LUMA y + RED_V v + 32768) >> 16
    G = (LUMA y - GREEN_U u - GREEN_V v + 32768) >> 16
    B = (LUMA y + BLUE_U u + 32768) >> 16

each cut to 0..255. The constants are the textbook's times 65536, to the nearest integer, where
limited range has gain 255/219 on luma and 255/224 on chroma and full range has 1:

    LUMA = gain, RED_V = 2 (1 - Kr) gain, BLUE_U = 2 (1 - Kb) gain,
    GREEN_U = 2 Kb (1 - Kb) / Kg gain, GREEN_V = 2 Kr (1 - Kr) / Kg gain

Each chroma sample is repeated for the 2x2 pixels that it belongs to. Luma is full-range, u8, and
rounded per source pixel, which is where NV12 stores it:

    from RGB    (WEIGHT_R R + WEIGHT_G G + WEIGHT_B B + 32768) >> 16
    from NV12   Y in full range; (LUMA y + 32768) >> 16, cut to 0..255, in limited range
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import ColorMatrix, ColorRange
from fgmclip.kernels.regions import Window

Bytes = NDArray[np.uint8]

_BITS = 16
_HALF = 1 << (_BITS - 1)
_BLACK = {"limited": 16, "full": 0}
_LUMA = {"limited": 76309, "full": 65536}

# RED_V, GREEN_U, GREEN_V, BLUE_U
_CHROMA = {
    ("bt601", "limited"): (104597, 25675, 53279, 132201),
    ("bt601", "full"): (91881, 22553, 46802, 116130),
    ("bt709", "limited"): (117489, 13975, 34925, 138438),
    ("bt709", "full"): (103206, 12276, 30679, 121609),
}

# WEIGHT_R, WEIGHT_G, WEIGHT_B; their sum is 65536, so that grey stays what it is.
_LUMA_WEIGHTS = {"bt601": (19595, 38470, 7471), "bt709": (13933, 46871, 4732)}

_LEVELS = np.arange(256, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Color:
    """What a frame's numbers mean.

    Attributes:
        matrix: Luma coefficients.
        range: Value range of NV12; RGB is always full-range.
    """

    matrix: ColorMatrix
    range: ColorRange


def frame_size(frame: Bytes) -> tuple[int, int]:
    """Return height and width of a frame u8 RGB [H,W,3] or NV12 [H*3/2,W,1], pixels."""
    rows, width, channels = frame.shape
    return (rows if channels == 3 else rows // 3 * 2), width


def constants(color: Color) -> NDArray[np.int32]:
    """Return what native code computes with, i32 [9].

    WEIGHT_R, WEIGHT_G, WEIGHT_B, LUMA, black level, RED_V, GREEN_U, GREEN_V, BLUE_U.
    """
    red_v, green_u, green_v, blue_u = _CHROMA[color.matrix, color.range]
    levels = (_LUMA[color.range], _BLACK[color.range])
    weights = _LUMA_WEIGHTS[color.matrix]
    return np.array([*weights, *levels, red_v, green_u, green_v, blue_u], np.int32)


def rgb_planes(frame: Bytes, window: Window, color: Color) -> Bytes:
    """Return a window of a frame as planes of RGB.

    Args:
        frame: u8 RGB [H,W,3] or NV12 [H*3/2,W,1].
        window: Which pixels.
        color: How NV12 is meant.

    Returns:
        u8 [3,h,w].
    """
    rows, columns = slice(window.top, window.bottom), slice(window.left, window.right)
    if frame.shape[2] == 3:
        return np.ascontiguousarray(frame[rows, columns].transpose(2, 0, 1))
    height, width = frame_size(frame)
    # Whole 2x2 blocks around the window; what is too much is cut off at the end.
    left, top = window.left // 2 * 2, window.top // 2 * 2
    right, bottom = -(-window.right // 2) * 2, -(-window.bottom // 2) * 2
    chroma = frame[height:].reshape(height // 2, width // 2, 2)
    blocks = chroma[top // 2 : bottom // 2, left // 2 : right // 2]
    u, v = blocks[..., 0], blocks[..., 1]
    red_v, green_u, green_v, blue_u = _CHROMA[color.matrix, color.range]
    centred = _LEVELS - 128
    # A byte has 256 values: each product is computed once, then looked up.
    tints = (
        (centred * red_v)[v],
        (centred * -green_u)[u] - (centred * green_v)[v],
        (centred * blue_u)[u],
    )
    luma = ((_LEVELS - _BLACK[color.range]) * _LUMA[color.range] + _HALF)[
        frame[top:bottom, left:right, 0]
    ].reshape(len(blocks), 2, right - left)
    planes = np.empty((3, bottom - top, right - left), np.uint8)
    for plane, tint in zip(planes, tints, strict=True):
        total = luma + tint.repeat(2, axis=1)[:, None]
        total >>= _BITS
        plane[:] = total.clip(0, 255, out=total).reshape(plane.shape)
    return planes[
        :, window.top - top : window.bottom - top, window.left - left : window.right - left
    ]


def luma_plane(frame: Bytes, window: Window, color: Color) -> Bytes:
    """Return a window of a frame as full-range luma.

    Args:
        frame: u8 RGB [H,W,3] or NV12 [H*3/2,W,1].
        window: Which pixels.
        color: Matrix of RGB, range of NV12.

    Returns:
        u8 [h,w]; a view where the frame is full-range NV12.
    """
    box = frame[window.top : window.bottom, window.left : window.right]
    if frame.shape[2] == 3:
        # Sums stay below 2**24: float32 holds them exactly, and its product is a fast one.
        sums = box.astype(np.float32) @ np.array(_LUMA_WEIGHTS[color.matrix], np.float32)
        return np.asarray((sums + np.float32(_HALF)) * np.float32(2**-_BITS), np.uint8)
    if color.range == "full":
        return box[..., 0]
    levels = ((_LEVELS - _BLACK["limited"]) * _LUMA["limited"] + _HALF) >> _BITS
    table: Bytes = levels.clip(0, 255).astype(np.uint8)
    return np.take(table, box[..., 0])
