"""Colour: fixed point against the standards' formulas, NV12 against the RGB it was made of."""

from __future__ import annotations

from itertools import product
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels.color import Color, frame_size, luma_plane, rgb_planes
from fgmclip.kernels.luma import luma
from fgmclip.kernels.regions import Window, frame_region
from fgmclip.kernels.resize import resize

WEIGHTS = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722)}
Matrix = Literal["bt601", "bt709"]
Range = Literal["limited", "full"]
matrices = pytest.mark.parametrize("matrix", ["bt601", "bt709"])
ranges = pytest.mark.parametrize("value_range", ["limited", "full"])


def picture(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def whole(frame: NDArray[np.uint8]) -> Window:
    height, width = frame_size(frame)
    return Window(0, 0, width, height)


def to_nv12(rgb: NDArray[np.uint8], matrix: str, value_range: str) -> NDArray[np.uint8]:
    """Convert by the standard's formulas; chroma is the mean of each 2x2 block."""
    red, green, blue = WEIGHTS[matrix]
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, 2, 0)
    y = red * r + green * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    if value_range == "limited":
        y, u, v = 16 + 219 * y, 128 + 224 * u, 128 + 224 * v
    else:
        y, u, v = 255 * y, 128 + 255 * u, 128 + 255 * v
    height, width = y.shape
    halves = [c.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3)) for c in (u, v)]
    chroma = np.stack(halves, axis=-1).reshape(height // 2, width)
    levels = np.clip(np.rint(np.concatenate([y, chroma])), 0, 255)
    return np.asarray(levels, np.uint8)[..., None]


@matrices
@ranges
def test_nv12_is_the_standards_formula_to_the_nearest_level(
    matrix: Matrix, value_range: Range
) -> None:
    levels = np.array([0, 1, 15, 16, 17, 100, 127, 128, 129, 234, 235, 236, 240, 241, 255])
    frames = np.array([[[y, y], [y, y], [u, v]] for y, u, v in product(levels, repeat=3)], np.uint8)
    red, green, blue = WEIGHTS[matrix]
    y, u, v = (
        frames[:, row, column].astype(np.float64) for row, column in ((0, 0), (2, 0), (2, 1))
    )
    if value_range == "limited":
        y, u, v = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    else:
        u, v = u - 128, v - 128
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / green
    expected = np.clip(np.stack([r, g, b], axis=1), 0, 255)
    color = Color(matrix, value_range)
    actual = np.stack([rgb_planes(f[..., None], Window(0, 0, 2, 2), color) for f in frames])
    # The constants' own rounding adds less than 2**-9 level.
    assert np.abs(actual[:, :, 0, 0] - expected).max() <= 0.5 + 2**-9
    assert (actual == actual[:, :, :1, :1]).all()
    expected_luma = np.clip(y, 0, 255)
    actual_luma = np.stack([luma_plane(f[..., None], Window(0, 0, 2, 2), color) for f in frames])
    assert np.abs(actual_luma[:, 0, 0] - expected_luma).max() <= 0.5 + 2**-9


@matrices
@ranges
def test_nv12_becomes_the_rgb_that_it_was_made_of(matrix: Matrix, value_range: Range) -> None:
    rgb = picture(20, 24).repeat(2, axis=0).repeat(2, axis=1)
    nv12 = to_nv12(rgb, matrix, value_range)
    color = Color(matrix, value_range)
    back = rgb_planes(nv12, whole(nv12), color).transpose(1, 2, 0)
    assert np.abs(back.astype(int) - rgb).max() <= 3
    error = luma_plane(nv12, whole(nv12), color).astype(int) - luma_plane(rgb, whole(rgb), color)
    assert np.abs(error).max() <= 1


@matrices
@ranges
def test_rgb_and_nv12_of_a_scene_have_the_same_luma(matrix: Matrix, value_range: Range) -> None:
    # Chroma differs inside the 2x2 blocks, which no luma may feel.
    rgb = picture(60, 80)
    color = Color(matrix, value_range)
    region = frame_region(60, 80, 48, "center")
    of_rgb = luma(rgb, region, 32, color).astype(int)
    of_nv12 = luma(to_nv12(rgb, matrix, value_range), region, 32, color)
    assert np.abs(of_rgb - of_nv12).max() <= 1


@matrices
@ranges
def test_rgb_and_nv12_of_a_smooth_scene_have_the_same_pixels(
    matrix: Matrix, value_range: Range
) -> None:
    rgb = picture(20, 24).repeat(4, axis=0).repeat(4, axis=1)
    color = Color(matrix, value_range)
    region = frame_region(80, 96, 32, "center")
    of_nv12 = resize(to_nv12(rgb, matrix, value_range), region, color)
    assert np.abs(resize(rgb, region, color).astype(int) - of_nv12).max() <= 4


@settings(max_examples=60, deadline=None)
@given(data=st.data(), matrix=st.sampled_from(["bt601", "bt709"]))
def test_a_window_is_a_part_of_the_whole(data: st.DataObject, matrix: Matrix) -> None:
    left, right = sorted(data.draw(st.tuples(st.integers(0, 12), st.integers(0, 12))))
    top, bottom = sorted(data.draw(st.tuples(st.integers(0, 10), st.integers(0, 10))))
    window = Window(left, top, right, bottom)
    random = np.random.default_rng(0)
    nv12 = random.integers(0, 256, (15, 12, 1), dtype=np.uint8)
    for frame, value_range in product((nv12, picture(10, 12)), ("limited", "full")):
        color = Color(matrix, value_range)
        rows, columns = slice(top, bottom), slice(left, right)
        planes = rgb_planes(frame, whole(frame), color)
        np.testing.assert_array_equal(rgb_planes(frame, window, color), planes[:, rows, columns])
        plane = luma_plane(frame, whole(frame), color)
        np.testing.assert_array_equal(luma_plane(frame, window, color), plane[rows, columns])


@matrices
def test_rgb_luma_is_the_weighted_sum_to_the_nearest_level(matrix: Matrix) -> None:
    axis = np.arange(0, 256, 5, dtype=np.uint8)
    rgb = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(len(axis), -1, 3)
    expected = rgb @ np.array(WEIGHTS[matrix])
    actual = luma_plane(rgb, whole(rgb), Color(matrix, "full"))
    assert np.abs(actual - expected).max() <= 0.5 + 2**-7


@matrices
def test_grey_keeps_its_level(matrix: Matrix) -> None:
    rgb = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    plane = luma_plane(rgb, whole(rgb), Color(matrix, "limited"))
    np.testing.assert_array_equal(plane[0], np.arange(256))


@matrices
def test_limited_range_ends_are_black_and_white(matrix: Matrix) -> None:
    color = Color(matrix, "limited")
    for luma_level, level in ((0, 0), (16, 0), (235, 255), (255, 255)):
        frame = np.full((3, 2, 1), 128, np.uint8)
        frame[:2] = luma_level
        assert (rgb_planes(frame, whole(frame), color) == level).all()
        assert (luma_plane(frame, whole(frame), color) == level).all()
