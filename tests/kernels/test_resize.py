"""`resize` and its regions: byte for byte what Pillow and CLIP's own transform give."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fgmclip.kernels.color import Color
from fgmclip.kernels.normalize import normalize
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.resize import resize
from fgmclip.spec.model import CLIP_MEAN, CLIP_STD

Crop = Literal["center", "letterbox", "squash"]
BICUBIC = Image.Resampling.BICUBIC
COLOR = Color("bt601", "limited")
crops = st.sampled_from(["center", "letterbox", "squash"])


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Noise: hard edges everywhere, so that overshoots are cut in both passes."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow(rgb: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    box = (region.left, region.top, region.left + region.width, region.top + region.height)
    image = Image.fromarray(rgb).crop(box)
    # Two calls fix the order of the passes: Pillow 13 chooses another one for some sizes.
    image = image.resize((region.resized_width, region.height), BICUBIC)
    image = image.resize((region.resized_width, region.resized_height), BICUBIC)
    x, y = region.offset_x, region.offset_y
    return np.asarray(image.crop((x, y, x + region.size, y + region.size)))


def clip_transform(rgb: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize(size, BICUBIC) and CenterCrop(size), as torchvision computes their numbers."""
    height, width = rgb.shape[:2]
    if width <= height:
        width, height = size, int(size * height / width)
    else:
        width, height = int(size * width / height), size
    image = Image.fromarray(rgb).resize((width, height), BICUBIC)
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@settings(max_examples=150, deadline=None)
@given(height=st.integers(1, 130), width=st.integers(1, 130), size=st.integers(1, 70), crop=crops)
def test_resize_gives_pillows_bytes(height: int, width: int, size: int, crop: Crop) -> None:
    rgb = picture(height, width)
    region = frame_region(height, width, size, crop)
    np.testing.assert_array_equal(resize(rgb, region, COLOR), pillow(rgb, region))


@pytest.mark.parametrize(
    ("height", "width"),
    [(1080, 1920), (480, 640), (256, 341), (1920, 1080), (101, 57), (224, 224), (17, 400)],
)
@pytest.mark.parametrize("size", [224, 112])
def test_a_centre_crop_is_clips_transform(height: int, width: int, size: int) -> None:
    rgb = picture(height, width)
    region = frame_region(height, width, size, "center")
    np.testing.assert_array_equal(resize(rgb, region, COLOR), clip_transform(rgb, size))


@pytest.mark.data
def test_pixels_are_those_of_clips_oracle(test_data: Path) -> None:
    folder = test_data / "clip_preprocess"
    rgb = np.asarray(Image.open(folder / "franz-kafka.jpg").convert("RGB"))
    pixels = resize(rgb, frame_region(rgb.shape[0], rgb.shape[1], 224, "center"), COLOR)
    expected = np.load(folder / "expected_preprocessed_image.npy")
    np.testing.assert_allclose(
        normalize(pixels[None], CLIP_MEAN, CLIP_STD), expected, rtol=0, atol=1e-6
    )


@settings(max_examples=100, deadline=None)
@given(
    corner=st.tuples(st.floats(-90, 70), st.floats(-90, 50)),
    extent=st.tuples(st.floats(0.1, 128), st.floats(0.1, 128)),
)
def test_a_box_on_or_over_the_border_is_cut_like_pillow_cuts(
    corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    rgb = picture(48, 64)
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]], np.float32)
    region = roi_region(box, 32)
    np.testing.assert_array_equal(resize(rgb, region, COLOR), pillow(rgb, region))


@given(
    corner=st.tuples(st.floats(-90, 70), st.floats(-90, 50)),
    extent=st.tuples(st.floats(0.1, 128), st.floats(0.1, 128)),
)
def test_a_box_grows_to_a_square_about_its_centre(
    corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    box = np.array([*corner, corner[0] + extent[0], corner[1] + extent[1]], np.float32)
    x0, y0, x1, y1 = (float(value) for value in box)
    region = roi_region(box, 32)
    assert region.width == region.height
    assert max(x1 - x0, y1 - y0) <= region.width < max(x1 - x0, y1 - y0) + 1
    assert abs(region.left + region.width / 2 - (x0 + x1) / 2) <= 0.5
    assert abs(region.top + region.height / 2 - (y0 + y1) / 2) <= 0.5


def test_a_whole_square_stays_where_it_is() -> None:
    region = roi_region(np.array([10, 20, 42, 52], np.float32), 32)
    assert (region.left, region.top, region.width) == (10, 20, 32)
    rgb = picture(60, 60)
    np.testing.assert_array_equal(resize(rgb, region, COLOR), rgb[20:52, 10:42])


def test_letterbox_is_black_outside_the_frame_and_whole_inside() -> None:
    rgb = np.full((50, 100, 3), 255, np.uint8)
    square = resize(rgb, frame_region(50, 100, 40, "letterbox"), COLOR)
    assert square[:8].max() == 0
    assert square[-8:].max() == 0
    assert square[12:28].min() == 255


def test_strides_do_not_matter() -> None:
    rgb = picture(50, 70)
    region = frame_region(50, 70, 32, "center")
    mirrored = np.ascontiguousarray(rgb[::-1, ::-1])
    np.testing.assert_array_equal(
        resize(mirrored[::-1, ::-1], region, COLOR), resize(rgb, region, COLOR)
    )
