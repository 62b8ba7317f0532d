"""`resize`, `luma`, `normalize` and colour, against Pillow, CLIP's transform and plain sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fgmclip.kernels.color import nv12_luma, nv12_rgb, rgb_luma
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.frame_difference import frame_difference
from fgmclip.kernels.luma import luma
from fgmclip.kernels.normalize import normalize
from fgmclip.kernels.regions import Region, crop_box, frame_region, roi_region
from fgmclip.kernels.resize import resize
from fgmclip.kernels.taps import AREA_BITS, area_taps
from fgmclip.spec.model import CLIP_MEAN, CLIP_STD

Crop = Literal["center", "letterbox", "squash"]
sides = st.integers(1, 90)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow(rgb: NDArray[np.uint8], region: Region, size: int) -> NDArray[np.uint8]:
    box = (region.left, region.top, region.left + region.width, region.top + region.height)
    image = Image.fromarray(rgb).crop(box)
    # Columns first: a recent Pillow takes rows first where that is cheaper.
    image = image.resize((region.resized_width, region.height), Image.Resampling.BICUBIC)
    image = image.resize((region.resized_width, region.resized_height), Image.Resampling.BICUBIC)
    x, y = region.offset_x, region.offset_y
    return np.asarray(image.crop((x, y, x + size, y + size)))


@settings(max_examples=60, deadline=None)
@given(
    height=sides,
    width=sides,
    size=st.integers(16, 70),
    crop=st.sampled_from(["center", "letterbox", "squash"]),
)
def test_resize_gives_pillows_bytes(height: int, width: int, size: int, crop: Crop) -> None:
    rgb = picture(height, width)
    region = frame_region(height, width, size, crop)
    np.testing.assert_array_equal(resize(rgb, region, size), pillow(rgb, region, size))


@settings(max_examples=40, deadline=None)
@given(
    corner=st.tuples(st.floats(-30, 60), st.floats(-30, 40)),
    extent=st.tuples(st.floats(0.5, 90), st.floats(0.5, 90)),
)
def test_a_box_on_or_over_the_border_is_cut_like_pillow_cuts(
    corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    rgb = picture(48, 64)
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]], np.float32)
    region = roi_region(box, 32)
    assert region.width == region.height >= max(extent) - 1e-3
    np.testing.assert_array_equal(resize(rgb, region, 32), pillow(rgb, region, 32))


@pytest.mark.data
def test_pixels_are_those_of_clips_own_transform(test_data: Path) -> None:
    folder = test_data / "clip_preprocess"
    rgb = np.asarray(Image.open(folder / "franz-kafka.jpg").convert("RGB"))
    pixels = resize(rgb, frame_region(rgb.shape[0], rgb.shape[1], 224, "center"), 224)
    expected = np.load(folder / "expected_preprocessed_image.npy")
    np.testing.assert_allclose(
        normalize(pixels[None], CLIP_MEAN, CLIP_STD), expected, rtol=0, atol=1e-6
    )


@given(
    length=st.integers(1, 300),
    resized=st.integers(16, 200),
    outputs=st.integers(16, 120),
    part=st.floats(0, 1),
)
def test_area_weights_of_a_bin_sum_to_one(
    length: int, resized: int, outputs: int, part: float
) -> None:
    extent = max(1, int(resized * part))
    taps = area_taps(length, resized, (resized - extent) // 2, extent, outputs)
    assert (taps.weights.sum(axis=1) == 1 << AREA_BITS).all()
    assert (taps.weights >= 0).all()
    low, high = taps.span
    assert 0 <= low < high <= length


@settings(max_examples=30, deadline=None)
@given(height=st.integers(8, 90), width=st.integers(8, 90), seed=st.integers(0, 9))
def test_luma_is_the_mean_over_each_bin(height: int, width: int, seed: int) -> None:
    plane = rgb_luma(picture(height, width, seed), "bt601")
    region = frame_region(height, width, 32, "squash")
    fine = np.kron(plane.astype(np.float64), np.ones((16, 16)))
    bins = fine.reshape(16, height, 16, width).mean(axis=(1, 3))
    assert np.abs(luma(plane, region, 32, 16) - bins).max() <= 1


def test_the_region_of_luma_is_the_region_of_pixels() -> None:
    # A wide frame whose middle square is white: a centre crop sees white only.
    rgb = np.zeros((60, 180, 3), np.uint8)
    rgb[:, 60:120] = 255
    region = frame_region(60, 180, 30, "center")
    assert resize(rgb, region, 30)[:, 2:-2].min() > 250
    assert luma(rgb_luma(rgb, "bt601"), region, 30, 20)[:, 1:-1].min() == 255


def test_letterbox_is_black_outside_the_frame() -> None:
    region = frame_region(50, 100, 40, "letterbox")
    box = crop_box(np.full((50, 100), 255, np.uint8), region)
    assert box.shape == (100, 100)
    assert box[:25].max() == 0
    assert box[25:75].min() == 255


@pytest.mark.parametrize(
    ("matrix", "rgb", "expected"),
    [
        ("bt601", (255, 255, 255), 255),
        ("bt601", (255, 0, 0), 76),
        ("bt601", (0, 255, 0), 150),
        ("bt709", (0, 255, 0), 182),
        ("bt709", (0, 0, 255), 18),
    ],
)
def test_luma_weights_are_the_standards(
    matrix: Literal["bt601", "bt709"], rgb: tuple[int, int, int], expected: int
) -> None:
    frame = np.array(rgb, np.uint8).reshape(1, 1, 3)
    assert int(rgb_luma(frame, matrix)[0, 0]) == expected


def to_nv12(rgb: NDArray[np.uint8], matrix: str, limited: bool) -> NDArray[np.uint8]:
    """Convert by the standard's formulas, a picture whose 2x2 blocks are uniform."""
    red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    r, g, b = np.moveaxis(rgb.astype(np.float64) / 255, 2, 0)
    y = red * r + (1 - red - blue) * g + blue * b
    u, v = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
    if limited:
        y, u, v = 16 + 219 * y, 128 + 224 * u, 128 + 224 * v
    else:
        y, u, v = 255 * y, 128 + 255 * u, 128 + 255 * v
    chroma = np.stack([u[::2, ::2], v[::2, ::2]], axis=-1).reshape(len(rgb) // 2, -1)
    levels = np.clip(np.rint(np.concatenate([y, chroma])), 0, 255)
    return np.asarray(levels, np.uint8)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("value_range", ["limited", "full"])
def test_nv12_becomes_the_rgb_that_it_was_made_of(
    matrix: Literal["bt601", "bt709"], value_range: Literal["limited", "full"]
) -> None:
    rgb = picture(20, 24).repeat(2, axis=0).repeat(2, axis=1)
    nv12 = to_nv12(rgb, matrix, value_range == "limited")
    back = nv12_rgb(nv12, matrix, value_range)
    assert np.abs(back.astype(int) - rgb).max() <= 3
    luma_error = nv12_luma(nv12, value_range).astype(int) - rgb_luma(rgb, matrix)
    assert np.abs(luma_error).max() <= 1


def test_normalize_is_the_formula() -> None:
    pixels = picture(16, 16)[None]
    expected = (pixels / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    np.testing.assert_allclose(
        normalize(pixels, CLIP_MEAN, CLIP_STD), np.moveaxis(expected, 3, 1), atol=1e-6
    )
    assert normalize(pixels[:0], CLIP_MEAN, CLIP_STD).shape == (0, 3, 16, 16)


def test_frame_difference_is_later_minus_earlier() -> None:
    pair = np.zeros((1, 2, 16, 16), np.uint8)
    pair[0, 0], pair[0, 1] = 255, 51
    np.testing.assert_allclose(frame_difference(pair), -0.8)


@pytest.mark.parametrize("pixels", [np.zeros((1, 4, 4, 3)), np.zeros((1, 4, 4), np.uint8)])
def test_what_is_no_pixels_is_refused(pixels: NDArray[Any]) -> None:
    with pytest.raises(KernelError, match=r"expected u8 \[N,S,S,3\]"):
        normalize(pixels, CLIP_MEAN, CLIP_STD)
