"""`luma`: box integrals, exact but for the rounding of 11-bit weights, over the area of PIXELS."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import floor
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels.color import Color
from fgmclip.kernels.luma import luma
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.resize import resize
from fgmclip.kernels.taps import AREA_BITS, area_taps

Crop = Literal["center", "letterbox", "squash"]
COLOR = Color("bt601", "full")


def grey(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return an NV12 frame, full-range, whose luma plane is noise."""
    random = np.random.default_rng(seed)
    frame = np.full((height * 3 // 2, width, 1), 128, np.uint8)
    frame[:height] = random.integers(0, 256, (height, width, 1))
    return frame


def shares(length: int, resized: int, offset: int, extent: int, bins: int) -> NDArray[np.float64]:
    """Return how much of each bin lies in each pixel [bins,length], from exact fractions."""
    edges = [
        (offset + Fraction(index * extent, bins)) * Fraction(length, resized)
        for index in range(bins + 1)
    ]
    return np.array(
        [[_share(low, high, x) for x in range(length)] for low, high in pairwise(edges)]
    )


def _share(low: Fraction, high: Fraction, pixel: int) -> float:
    overlap = min(high, Fraction(pixel + 1)) - max(low, Fraction(pixel))
    return float(max(overlap, Fraction(0)) / (high - low))


def exact_luma(plane: NDArray[np.uint8], region: Region, size: int) -> NDArray[np.float64]:
    box = np.zeros((region.height, region.width))
    for y in range(region.height):
        for x in range(region.width):
            row, column = y + region.top, x + region.left
            if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
                box[y, x] = plane[row, column]
    across = shares(region.width, region.resized_width, region.offset_x, region.size, size)
    down = shares(region.height, region.resized_height, region.offset_y, region.size, size)
    return np.asarray(down @ box @ across.T)


@settings(max_examples=60, deadline=None)
@given(
    half_height=st.integers(1, 30),
    half_width=st.integers(1, 30),
    image_size=st.integers(1, 50),
    size=st.integers(1, 40),
    crop=st.sampled_from(["center", "letterbox", "squash"]),
)
def test_luma_is_the_mean_over_each_bin(
    half_height: int, half_width: int, image_size: int, size: int, crop: Crop
) -> None:
    height, width = 2 * half_height, 2 * half_width
    frame = grey(height, width)
    region = frame_region(height, width, image_size, crop)
    expected = exact_luma(frame[:height, :, 0], region, size)
    assert np.abs(luma(frame, region, size, COLOR) - expected).max() <= 1


@settings(max_examples=30, deadline=None)
@given(
    corner=st.tuples(st.floats(-50, 40), st.floats(-50, 30)),
    extent=st.tuples(st.floats(0.5, 70), st.floats(0.5, 70)),
)
def test_a_box_over_the_border_is_black_outside(
    corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    frame = grey(40, 50)
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]], np.float32)
    region = roi_region(box, 32)
    expected = exact_luma(frame[:40, :, 0], region, 24)
    assert np.abs(luma(frame, region, 24, COLOR) - expected).max() <= 1


@given(
    length=st.integers(1, 4096),
    resized=st.integers(1, 5000),
    outputs=st.integers(1, 120),
    part=st.floats(0, 1),
    level=st.integers(0, 255),
)
@settings(deadline=None)
def test_weights_of_a_bin_sum_to_one(
    length: int, resized: int, outputs: int, part: float, level: int
) -> None:
    extent = max(1, int(resized * part))
    taps = area_taps(length, resized, (resized - extent) // 2, extent, outputs)
    low, high = taps.span
    assert 0 <= low < high <= length
    assert all((band.weights >= 0).all() for band in taps.bands)
    sums = taps.apply(np.full((1, high - low), level), low)
    np.testing.assert_array_equal(sums, level << AREA_BITS)


@settings(max_examples=60, deadline=None)
@given(
    length=st.integers(1, 90),
    resized=st.integers(1, 90),
    outputs=st.integers(1, 40),
    part=st.floats(0, 1),
)
def test_weights_are_the_growth_of_a_bins_share_rounded_half_up(
    length: int, resized: int, outputs: int, part: float
) -> None:
    # The bytes depend on these very integers, in every implementation.
    extent = max(1, int(resized * part))
    offset = (resized - extent) // 2
    taps = area_taps(length, resized, offset, extent, outputs)
    low, high = taps.span
    impulses = np.eye(length, dtype=np.int64)[:, low:high]
    expected = np.zeros((length, outputs))
    for index in range(outputs):
        begin, end = (
            (offset + Fraction(edge * extent, outputs)) * Fraction(length, resized)
            for edge in (index, index + 1)
        )
        growth = [
            floor(
                (min(max(Fraction(x), begin), end) - begin) / (end - begin) * 2048 + Fraction(1, 2)
            )
            for x in range(length + 1)
        ]
        expected[:, index] = np.diff(growth)
    np.testing.assert_array_equal(taps.apply(impulses, low), expected)


@pytest.mark.parametrize("size", [16, 112, 300])
@pytest.mark.parametrize("crop", ["center", "squash"])
def test_a_flat_frame_stays_flat(size: int, crop: Crop) -> None:
    for level in (0, 1, 127, 254, 255):
        frame = np.full((1080, 1920, 3), level, np.uint8)
        reduced = luma(frame, frame_region(1080, 1920, 224, crop), size, COLOR)
        assert (reduced == level).all()


def test_whole_ratios_are_plain_means_and_repetitions() -> None:
    frame = grey(64, 64)
    plane = frame[:64, :, 0]
    region = frame_region(64, 64, 64, "center")
    means = plane.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_array_equal(luma(frame, region, 16, COLOR), np.floor(means + 0.5))
    np.testing.assert_array_equal(luma(frame, region, 64, COLOR), plane)
    doubled = plane.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(luma(frame, region, 128, COLOR), doubled)


def test_luma_shows_the_area_of_pixels() -> None:
    # A wide frame whose middle square is white: a centre crop sees white only.
    rgb = np.zeros((60, 180, 3), np.uint8)
    rgb[:, 60:120] = 255
    region = frame_region(60, 180, 30, "center")
    assert resize(rgb, region, COLOR)[:, 2:-2].min() > 250
    assert luma(rgb, region, 20, COLOR)[:, 1:-1].min() == 255


@pytest.mark.parametrize("crop", ["center", "letterbox", "squash"])
def test_the_centre_of_mass_is_where_pixels_have_it(crop: Crop) -> None:
    y, x = np.mgrid[:90, :140]
    spot = 255 * np.exp(-((y - 50) ** 2 + (x - 60) ** 2) / 200)
    rgb = np.repeat(spot[..., None], 3, axis=2).astype(np.uint8)
    region = frame_region(90, 140, 64, crop)

    def centre(image: NDArray[np.uint8]) -> NDArray[np.float64]:
        size = len(image)
        middles = (np.arange(size) + 0.5) / size
        rows, columns = image.sum(axis=1), image.sum(axis=0)
        return np.asarray([rows @ middles, columns @ middles], np.float64) / float(image.sum())

    np.testing.assert_allclose(
        centre(luma(rgb, region, 32, COLOR)),
        centre(resize(rgb, region, COLOR)[..., 0]),
        atol=0.002,
    )
