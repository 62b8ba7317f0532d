"""What `preprocess` moves, as the host layer counted it, against what has to be moved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fgmclip.kernels.color import Color
from fgmclip.kernels.cuda.host_kernels import HostKernels
from fgmclip.kernels.cuda.launches import Float
from fgmclip.kernels.parameters import Crop, FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.taps import area_taps, bicubic_taps
from fgmclip.spec import FlowSpec, preset

BAR = 1.2
COLOR = Color("bt709", "limited")

# The flow is another launch: here it does as little as it can.
QUICK = FlowSpec(finest_level=4, iterations=1, propagations=0, refinement_iterations=0)
PARAMETERS = replace(
    PreprocessParameters.from_spec(preset("demo")), flow=FlowParameters.from_spec(QUICK)
)


def seen(region: Region, frame: tuple[int, int], motion_size: int, *, pixels: bool) -> int:
    """Return how many pixels of a frame have a weight."""
    spans = []
    for length, resized, offset in (
        (region.width, region.resized_width, region.offset_x),
        (region.height, region.resized_height, region.offset_y),
    ):
        taps = [area_taps(length, resized, offset, region.size, motion_size)]
        if pixels:
            taps.append(bicubic_taps(length, resized, offset, region.size))
        spans.append((min(one.span[0] for one in taps), max(one.span[1] for one in taps)))
    window = region.window(spans[0], spans[1], frame)
    return (window.right - window.left) * (window.bottom - window.top)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("nv12", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("frame", "size", "motion_size", "crop"),
    [
        ((1080, 1920), 224, 112, "center"),
        ((1080, 1920), 64, 64, "center"),
        ((720, 1280), 224, 112, "center"),
        ((480, 640), 224, 224, "squash"),
        ((480, 640), 64, 64, "center"),
        ((240, 320), 64, 64, "letterbox"),
        ((112, 112), 224, 112, "center"),
        ((112, 112), 64, 64, "center"),
    ],
)
def test_each_pixel_is_read_about_once(
    cuda: HostKernels,
    frame: tuple[int, int],
    size: int,
    motion_size: int,
    crop: Crop,
    nv12: bool,
    dtype: Float,
    count: int,
) -> None:
    height, width = frame
    shape = (count + 1, height * 3 // 2, width, 1) if nv12 else (count + 1, height, width, 3)
    region = frame_region(height, width, size, crop)
    parameters = replace(PARAMETERS, image_size=size, motion_size=motion_size, crop=crop)
    launches = len(cuda.device.traffic)
    cuda.preprocess(np.zeros(shape, np.uint8), [[region] * count], parameters, dtype)
    traffic = cuda.device.traffic[launches]
    assert traffic.kernel.startswith("preprocess")
    written = count * (3 * size**2 * np.dtype(dtype).itemsize + 2 * motion_size**2)
    assert traffic.stored == written
    # The first frame becomes luma alone, each other one PIXELS and luma; chroma is half as much.
    read = count * seen(region, frame, motion_size, pixels=True) * (1.5 if nv12 else 3)
    read += seen(region, frame, motion_size, pixels=False) * (1 if nv12 else 3)
    assert read <= traffic.loaded
    assert traffic.moved <= BAR * (read + written)


def test_frames_outside_of_the_region_cost_nothing(cuda: HostKernels) -> None:
    frames = np.zeros((2, 400, 600, 3), np.uint8)
    inside = roi_region(np.array([200, 100, 232, 132], np.float32), 32)
    outside = roi_region(np.array([-500, -500, -468, -468], np.float32), 32)
    launches = len(cuda.device.traffic)
    for region in (inside, outside):
        cuda.preprocess_u8(frames, [[region]], 32, COLOR)
    near, far = (item.loaded for item in cuda.device.traffic[launches:])
    # Tables are read all the same.
    assert near - far >= 2 * 3 * 32 * 32
    assert near - far <= BAR * 2 * 3 * 32 * 32
