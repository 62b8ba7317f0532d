"""The frame: one picture of a video and the time at which it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fgmclip.kernels.parameters import ColorMatrix, ColorRange

Layout = Literal["rgb", "nv12"]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture.

    Attributes:
        time: When it is shown, in seconds; `decode` counts from the video's first frame.
        pixels: u8 [H,W,3] RGB, or u8 [H*3/2,W,1] NV12: H rows of luma above H/2 rows of
            interleaved chroma (Cb, Cr).
        color_matrix: Luma coefficients of the video, what a request's `color_matrix` should say
            for either layout; None where the frames' maker does not know.
        color_range: Value range of `pixels`: `full` for RGB, the video's own for NV12; None where
            the frames' maker does not know.
    """

    time: float
    pixels: Pixels
    color_matrix: ColorMatrix | None = None
    color_range: ColorRange | None = None
