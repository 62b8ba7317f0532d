"""`normalize`: the formula, for every byte, channels first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.normalize import normalize
from fgmclip.spec.model import CLIP_MEAN, CLIP_STD


def test_normalize_is_the_formula_for_every_byte() -> None:
    pixels = np.arange(2 * 16 * 16 * 3).reshape(2, 16, 16, 3).astype(np.uint8)
    expected = (pixels / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    actual = normalize(pixels, CLIP_MEAN, CLIP_STD)
    assert actual.dtype == np.float32
    assert actual.flags.c_contiguous
    np.testing.assert_allclose(actual, np.moveaxis(expected, 3, 1), rtol=0, atol=1e-6)


def test_strides_and_no_rows_are_fine() -> None:
    pixels = np.arange(16 * 16 * 3).reshape(1, 16, 16, 3).astype(np.uint8)
    turned = np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]
    np.testing.assert_array_equal(
        normalize(turned, CLIP_MEAN, CLIP_STD), normalize(pixels, CLIP_MEAN, CLIP_STD)
    )
    assert normalize(pixels[:0], CLIP_MEAN, CLIP_STD).shape == (0, 3, 16, 16)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 4, 4, 3)),
        np.zeros((1, 4, 4), np.uint8),
        np.zeros((1, 4, 5, 3), np.uint8),
        np.zeros((1, 3, 4, 4), np.uint8),
    ],
)
def test_what_is_no_pixels_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(KernelError, match=r"PIXELS_U8: expected .*, got .*; send what"):
        normalize(pixels, CLIP_MEAN, CLIP_STD)
