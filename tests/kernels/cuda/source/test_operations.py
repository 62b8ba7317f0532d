"""The kernels give what their twins give: bytes for bytes, flow bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels import native, twin
from fgmclip.kernels.color import Color
from fgmclip.kernels.cuda.host_kernels import HostKernels
from fgmclip.kernels.cuda.launches import CudaKernels
from fgmclip.kernels.frame_difference import frame_difference
from fgmclip.kernels.luma import luma
from fgmclip.kernels.normalize import normalize
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import Crop, FlowParameters, PreprocessParameters
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.resize import resize
from fgmclip.spec import FlowSpec, preset

FLOW = FlowParameters.from_spec(FlowSpec())
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
PARAMETERS = replace(PreprocessParameters.from_spec(preset("demo")), image_size=32, motion_size=24)
COLOR = Color("bt709", "limited")

Bytes = NDArray[np.uint8]


def pictures(*shape: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def frames_of(layout: str, count: int, height: int, width: int, seed: int = 0) -> Bytes:
    if layout == "RGB":
        return pictures(count, height, width, 3, seed=seed)
    return pictures(count, height * 3 // 2, width, 1, seed=seed)


def moving(count: int, side: int, seed: int = 0) -> Bytes:
    """Return LUMA_U8 [N,2,M,M] of textures that move."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        noise = pictures(side + 16, side + 16, seed=int(random.integers(99)))
        wide = cv2.GaussianBlur(noise, (0, 0), 2)
        y, x = random.integers(0, 9, 2)
        pairs.append(np.stack([wide[4 : 4 + side, 4 : 4 + side], wide[y : y + side, x : x + side]]))
    return np.stack(pairs)


colors = st.builds(Color, st.sampled_from(["bt601", "bt709"]), st.sampled_from(["limited", "full"]))


@st.composite
def regions(draw: st.DrawFn, height: int, width: int, size: int) -> Region:
    """A whole or partial region of a frame, which may reach over the border or lie outside."""
    if draw(st.booleans()):
        crop = draw(st.sampled_from(get_args(Crop)))
        return frame_region(height, width, size, crop)
    x0, y0 = draw(st.floats(-40, 80, width=32)), draw(st.floats(-40, 80, width=32))
    box = [x0, y0, x0 + draw(st.floats(0.5, 60, width=32)), y0 + draw(st.floats(0.5, 60, width=32))]
    return roi_region(np.array(box, np.float32), size)


@st.composite
def frames_and_regions(draw: st.DrawFn) -> tuple[Bytes, Region, int]:
    """A frame of either layout, a region of it, and M."""
    layout = draw(st.sampled_from(["RGB", "NV12"]))
    step = 1 if layout == "RGB" else 2
    height, width = step * draw(st.integers(1, 70)), step * draw(st.integers(1, 90))
    size = draw(st.sampled_from([1, 7, 16, 32, 41, 72]))
    (frame,) = frames_of(layout, 1, height, width, draw(st.integers(0, 1000)))
    return frame, draw(regions(height, width, size)), draw(st.sampled_from([1, 5, 16, 24, 33]))


@settings(max_examples=80, deadline=None)
@given(case=frames_and_regions(), color=colors)
def test_resize_and_luma_are_their_twins_byte_for_byte(
    cuda: HostKernels, case: tuple[Bytes, Region, int], color: Color
) -> None:
    frame, region, size = case
    np.testing.assert_array_equal(cuda.resize(frame, region, color), resize(frame, region, color))
    np.testing.assert_array_equal(
        cuda.luma(frame, region, size, color), luma(frame, region, size, color)
    )


@pytest.mark.parametrize("layout", ["RGB", "NV12"])
@pytest.mark.parametrize(
    ("height", "width", "size"), [(360, 480, 16), (480, 600, 7), (240, 320, 1)]
)
def test_shrinking_far_takes_small_tiles_and_gives_the_same_bytes(
    cuda: HostKernels, layout: str, height: int, width: int, size: int
) -> None:
    (frame,) = frames_of(layout, 1, height, width)
    region = frame_region(height, width, size, "letterbox")
    np.testing.assert_array_equal(cuda.resize(frame, region, COLOR), resize(frame, region, COLOR))
    np.testing.assert_array_equal(
        cuda.luma(frame, region, 16, COLOR), luma(frame, region, 16, COLOR)
    )


@pytest.mark.parametrize("layout", ["RGB", "NV12"])
@pytest.mark.parametrize("offset", [0, 1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2, 4, 7])
def test_rows_and_frames_may_lie_anywhere(
    cuda: HostKernels, layout: str, offset: int, padding: int
) -> None:
    frames = frames_of(layout, 3, 38, 52)
    tracks = [[roi_region(np.array([5, 3, 45, 36], np.float32), 32)] * 2]
    placed = cuda.frames(frames, offset=offset, padding=padding)
    pixels, plane = cuda.preprocess_u8(placed, tracks, 24, COLOR)
    expected_pixels, expected_plane = twin.preprocess_u8(frames, tracks, 24, COLOR)
    np.testing.assert_array_equal(pixels, expected_pixels)
    assert plane is not None
    assert expected_plane is not None
    np.testing.assert_array_equal(plane, expected_plane)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), layout=st.sampled_from(["RGB", "NV12"]), motion=st.booleans(), color=colors)
def test_tracks_in_one_launch_are_the_twins(
    cuda: HostKernels, data: st.DataObject, layout: str, motion: bool, color: Color
) -> None:
    count, tracks = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    frames = frames_of(layout, count + 1, 50, 70)
    chosen = [[data.draw(regions(50, 70, 32)) for _ in range(count)] for _ in range(tracks)]
    if data.draw(st.booleans()):
        # Where a region stays, a frame's luma is computed once.
        chosen = [[track[0]] * count for track in chosen]
    launches = len(cuda.device.traffic)
    pixels, plane = cuda.preprocess_u8(frames, chosen, 24 if motion else None, color)
    assert len(cuda.device.traffic) == launches + 1
    expected_pixels, expected_plane = twin.preprocess_u8(
        frames, chosen, 24 if motion else None, color
    )
    np.testing.assert_array_equal(pixels, expected_pixels)
    assert (plane is None) == (expected_plane is None)
    if plane is not None and expected_plane is not None:
        np.testing.assert_array_equal(plane, expected_plane)


@pytest.mark.parametrize("layout", ["RGB", "NV12"])
def test_the_whole_chain_is_the_twins(cuda: HostKernels, layout: str) -> None:
    frames = frames_of(layout, 4, 62, 86)
    tracks = [[frame_region(62, 86, 32, "center")] * 3]
    pixels, motion = cuda.preprocess(frames, tracks, PARAMETERS)
    color = Color(PARAMETERS.color_matrix, PARAMETERS.color_range)
    expected_pixels, expected_plane = twin.preprocess_u8(frames, tracks, 24, color)
    np.testing.assert_array_equal(
        pixels, normalize(expected_pixels, PARAMETERS.mean, PARAMETERS.std)
    )
    assert expected_plane is not None
    assert PARAMETERS.flow is not None
    assert motion is not None
    np.testing.assert_array_equal(motion, twin.motion(expected_plane, PARAMETERS.flow))
    halves, half_motion = cuda.preprocess(frames, tracks, PARAMETERS, np.float16)
    np.testing.assert_array_equal(halves, pixels.astype(np.float16))
    assert half_motion is not None
    np.testing.assert_array_equal(half_motion, motion.astype(np.float16))
    alone, nothing = cuda.preprocess(
        frames, tracks, replace(PARAMETERS, motion_size=None, flow=None)
    )
    np.testing.assert_array_equal(alone, pixels)
    assert nothing is None


@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 33, 40])
@pytest.mark.parametrize("count", [1, 3])
def test_normalize_and_frame_difference_are_their_twins(
    cuda: HostKernels, size: int, count: int
) -> None:
    levels = pictures(count, size, size, 3)
    expected = normalize(levels, MEAN, STD)
    np.testing.assert_array_equal(cuda.normalize(levels, MEAN, STD), expected)
    np.testing.assert_array_equal(
        cuda.normalize(levels, MEAN, STD, np.float16), expected.astype(np.float16)
    )
    pairs = pictures(count, 2, size, size)
    expected = frame_difference(pairs)
    np.testing.assert_array_equal(cuda.frame_difference(pairs), expected)
    np.testing.assert_array_equal(
        cuda.frame_difference(pairs, np.float16), expected.astype(np.float16)
    )


def test_a_batch_of_more_images_than_blocks_is_walked_through(cuda: HostKernels) -> None:
    device = cuda.device
    pairs = pictures(5, 2, 20, 20)
    out = device.empty(4 * 5 * 400)
    device.launch(
        "frame_difference_f32",
        (1, 2, 1),
        256,
        0,
        [device.upload(pairs), np.int32(5), np.int32(400), out],
    )
    np.testing.assert_array_equal(out.read(np.float32, (5, 20, 20)), frame_difference(pairs))


@pytest.mark.parametrize("side", [16, 17, 31, 56, 75, 112])
def test_flow_is_its_twins_bit_for_bit(cuda: HostKernels, side: int) -> None:
    pairs = moving(2, side, seed=side)
    flow = cuda.optical_flow(pairs, FLOW)
    np.testing.assert_array_equal(flow, optical_flow(pairs, FLOW))
    np.testing.assert_array_equal(flow, native.optical_flow(pairs, FLOW))


@settings(max_examples=25, deadline=None)
@given(
    side=st.integers(16, 60),
    size=st.sampled_from(
        [(4, 1), (4, 4), (5, 5), (6, 2), (8, 8), (8, 2), (9, 3), (12, 6), (16, 4)]
    ),
    coarsest=st.sampled_from([4, 9, 14, 64]),
    finest=st.integers(0, 4),
    iterations=st.integers(1, 4),
    propagations=st.integers(0, 5),
    refinements=st.integers(0, 2),
    relaxations=st.integers(1, 5),
    seed=st.integers(0, 50),
)
def test_flow_is_its_twins_whatever_the_parameters(
    cuda: HostKernels,
    side: int,
    size: tuple[int, int],
    coarsest: int,
    finest: int,
    iterations: int,
    propagations: int,
    refinements: int,
    relaxations: int,
    seed: int,
) -> None:
    parameters = replace(
        FLOW,
        patch_size=size[0],
        patch_stride=size[1],
        coarsest_side=coarsest,
        finest_level=finest,
        iterations=iterations,
        propagations=propagations,
        refinement_iterations=refinements,
        relaxation_iterations=relaxations,
    )
    pairs = moving(1, side, seed)
    np.testing.assert_array_equal(
        cuda.optical_flow(pairs, parameters), optical_flow(pairs, parameters)
    )


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flow_of_what_shows_nothing_is_nothing(cuda: HostKernels, level: int) -> None:
    flow = cuda.optical_flow(np.full((1, 2, 32, 32), level, np.uint8), FLOW)
    np.testing.assert_array_equal(flow, np.zeros_like(flow))


def test_flow_without_any_weight_stays_inside_its_pictures(cuda: HostKernels) -> None:
    # 0 / 0 everywhere: what comes out is no number, and nothing is read where nothing is.
    nothing = replace(FLOW, smoothness=0.0, gradient=0.0, intensity=0.0)
    cuda.optical_flow(moving(1, 48), nothing)


@pytest.mark.parametrize("side", [16, 25, 40])
def test_motion_is_difference_and_flow_in_parts_of_the_side(cuda: HostKernels, side: int) -> None:
    pairs = moving(2, side)
    expected = twin.motion(pairs, FLOW)
    np.testing.assert_array_equal(cuda.motion(pairs, FLOW), expected)
    np.testing.assert_array_equal(cuda.motion(pairs, FLOW, np.float16), expected.astype(np.float16))


def test_an_empty_batch_launches_nothing(cuda: HostKernels) -> None:
    launches = len(cuda.device.traffic)
    assert cuda.normalize(pictures(0, 8, 8, 3), MEAN, STD).shape == (0, 3, 8, 8)
    assert cuda.frame_difference(pictures(0, 2, 8, 8)).shape == (0, 8, 8)
    assert cuda.optical_flow(pictures(0, 2, 16, 16), FLOW).shape == (0, 2, 16, 16)
    assert cuda.motion(pictures(0, 2, 16, 16), FLOW).shape == (0, 3, 16, 16)
    kernels, nowhere = CudaKernels(cuda.device), cuda.device.empty(0)
    frames = cuda.frames(pictures(1, 8, 8, 3))
    kernels.preprocess(frames, [], PARAMETERS, COLOR, pixels=nowhere, motion=nowhere)
    kernels.preprocess_u8(frames, [[]], 24, COLOR, pixels_u8=nowhere, luma_u8=nowhere)
    assert len(cuda.device.traffic) == launches


def test_weights_of_more_scales_than_are_kept_are_not_lost(cuda: HostKernels) -> None:
    frames = frames_of("RGB", 2, 90, 90)
    tracks = [[roi_region(np.array([0, 0, side, side], np.float32), 8)] for side in range(2, 80)]
    pixels, _ = cuda.preprocess_u8(frames, tracks, None, COLOR)
    expected, _ = twin.preprocess_u8(frames, tracks, None, COLOR)
    np.testing.assert_array_equal(pixels, expected)
