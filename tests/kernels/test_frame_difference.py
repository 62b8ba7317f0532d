"""`frame_difference`: later minus earlier, in parts of the full range."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.frame_difference import frame_difference


@given(earlier=st.integers(0, 255), later=st.integers(0, 255))
def test_frame_difference_is_later_minus_earlier(earlier: int, later: int) -> None:
    pair = np.zeros((1, 2, 16, 16), np.uint8)
    pair[0, 0], pair[0, 1] = earlier, later
    actual = frame_difference(pair)
    assert actual.shape == (1, 16, 16)
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, (later - earlier) / 255, rtol=0, atol=1e-7)


def test_no_pairs_give_none() -> None:
    assert frame_difference(np.zeros((0, 2, 16, 16), np.uint8)).shape == (0, 16, 16)


@pytest.mark.parametrize(
    "pairs",
    [
        np.zeros((1, 2, 4, 4), np.int16),
        np.zeros((1, 3, 4, 4), np.uint8),
        np.zeros((1, 2, 4, 5), np.uint8),
        np.zeros((2, 4, 4), np.uint8),
    ],
)
def test_what_is_no_luma_is_refused(pairs: NDArray[Any]) -> None:
    with pytest.raises(KernelError, match=r"LUMA_U8: expected .*, got .*; send what"):
        frame_difference(pairs)
