"""The C++ build gives what its twins give: bytes for bytes, flow to a thousandth of a pixel."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import astuple, replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels import _native, native, twin
from fgmclip.kernels.color import Color, constants
from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.frame_difference import frame_difference
from fgmclip.kernels.luma import luma
from fgmclip.kernels.normalize import normalize
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import Crop, FlowParameters, PreprocessParameters
from fgmclip.kernels.preprocess import preprocess, preprocess_into, preprocess_u8
from fgmclip.kernels.regions import Region, frame_region, roi_region
from fgmclip.kernels.resize import resize
from fgmclip.spec import FlowSpec, preset

FLOW = FlowParameters.from_spec(FlowSpec())
MEAN, STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
PARAMETERS = replace(PreprocessParameters.from_spec(preset("demo")), image_size=32, motion_size=24)


def instruction_sets() -> list[str]:
    found = []
    for name in ("portable", "avx2", "avx512"):
        try:
            _native.Kernels(1, name)
        except ValueError:
            continue
        found.append(name)
    return found


def pictures(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def moving(count: int, side: int, seed: int = 0) -> NDArray[np.uint8]:
    """Return LUMA_U8 [N,2,M,M] of textures that move."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        wide = cv2.GaussianBlur(
            pictures(side + 16, side + 16, seed=int(random.integers(99))), (0, 0), 2
        )
        y, x = random.integers(0, 9, 2)
        pairs.append(np.stack([wide[4 : 4 + side, 4 : 4 + side], wide[y : y + side, x : x + side]]))
    return np.stack(pairs)


colors = st.builds(Color, st.sampled_from(["bt601", "bt709"]), st.sampled_from(["limited", "full"]))


@st.composite
def frames_and_regions(draw: st.DrawFn) -> tuple[NDArray[np.uint8], Region, int]:
    """A frame of either layout, a whole or partial region of it, and M."""
    nv12 = draw(st.booleans())
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 90))
    size = draw(st.sampled_from([1, 7, 16, 32, 41]))
    seed = draw(st.integers(0, 1000))
    if nv12:
        height, width = 2 * height, 2 * width
        frame = pictures(height * 3 // 2, width, 1, seed=seed)
    else:
        frame = pictures(height, width, 3, seed=seed)
    if draw(st.booleans()):
        crops: tuple[Crop, ...] = ("center", "letterbox", "squash")
        crop = draw(st.sampled_from(crops))
        region = frame_region(height, width, size, crop)
    else:
        corner = st.floats(-40, 80, width=32)
        x0, y0 = draw(corner), draw(corner)
        box = np.array([x0, y0, x0 + draw(st.floats(0.5, 60, width=32)), y0 + 5], np.float32)
        region = roi_region(box, size)
    return frame, region, draw(st.sampled_from([1, 5, 16, 24, 33]))


@settings(max_examples=150, deadline=None)
@given(case=frames_and_regions(), color=colors, threads=st.sampled_from([1, 2, 3]))
def test_resize_and_luma_are_their_twins_byte_for_byte(
    case: tuple[NDArray[np.uint8], Region, int], color: Color, threads: int
) -> None:
    frame, region, size = case
    np.testing.assert_array_equal(
        native.resize(frame, region, color, threads=threads), resize(frame, region, color)
    )
    np.testing.assert_array_equal(
        native.luma(frame, region, size, color, threads=threads), luma(frame, region, size, color)
    )


@pytest.mark.parametrize("instructions", instruction_sets())
@pytest.mark.parametrize("shape", [(1, 97, 131, 3), (1, 96, 64, 1), (1, 1, 1, 3), (1, 3, 500, 3)])
def test_every_instruction_set_gives_the_same_bytes(
    instructions: str, shape: tuple[int, ...]
) -> None:
    frame = pictures(*shape)
    height = shape[1] if shape[3] == 3 else shape[1] // 3 * 2
    region = frame_region(height, shape[2], 37, "letterbox")
    color = Color("bt709", "limited")
    kernels = _native.Kernels(2, instructions)
    levels, plane = np.empty((37, 37, 3), np.uint8), np.empty((19, 19), np.uint8)
    kernels.resize(frame, np.array([(*astuple(region), 0)], np.int32), constants(color), levels)
    kernels.luma(frame, np.array([(*astuple(region), 19)], np.int32), constants(color), plane)
    np.testing.assert_array_equal(levels, resize(frame[0], region, color))
    np.testing.assert_array_equal(plane, luma(frame[0], region, 19, color))
    pair = moving(2, 45)
    flow = np.empty((2, 2, 45, 45), np.float32)
    kernels.optical_flow(pair, native._flow(FLOW), flow)
    np.testing.assert_array_equal(flow, native.optical_flow(pair, FLOW))


def test_rows_and_frames_may_lie_apart() -> None:
    wide = pictures(4, 60, 100, 3)
    view = wide[::2, 5:45, 10:70]
    for one, other in zip(
        preprocess(view, PARAMETERS), preprocess(view.copy(), PARAMETERS), strict=True
    ):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one, other)


def test_axes_of_one_element_may_have_any_stride() -> None:
    grey = pictures(3, 60, 40)
    odd = np.lib.stride_tricks.as_strided(grey, (3, 60, 40, 1), (*grey.strides, 0))
    for one, other in zip(
        preprocess(odd, PARAMETERS), preprocess(grey[..., None], PARAMETERS), strict=True
    ):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one, other)


def test_pixels_that_lie_apart_are_refused_with_the_remedy() -> None:
    backwards = pictures(2, 40, 60, 3)[..., ::-1]
    with pytest.raises(KernelError, match=r"side by side in memory.*ascontiguousarray"):
        preprocess(backwards, PARAMETERS)


def test_normalize_and_frame_difference_are_their_twins() -> None:
    levels = pictures(3, 29, 29, 3)
    np.testing.assert_array_equal(native.normalize(levels, MEAN, STD), normalize(levels, MEAN, STD))
    pairs = pictures(3, 2, 31, 31)
    np.testing.assert_array_equal(native.frame_difference(pairs), frame_difference(pairs))


@pytest.mark.parametrize("side", [16, 17, 31, 56, 75, 112, 224])
def test_flow_is_its_twins_bit_for_bit(side: int) -> None:
    pairs = moving(3, side, seed=side)
    np.testing.assert_array_equal(native.optical_flow(pairs, FLOW), optical_flow(pairs, FLOW))


@settings(max_examples=25, deadline=None)
@given(
    side=st.integers(16, 60),
    size=st.sampled_from([(4, 1), (4, 4), (5, 5), (6, 2), (8, 8), (9, 3), (12, 6), (16, 4)]),
    coarsest=st.sampled_from([4, 9, 14, 64]),
    finest=st.integers(0, 4),
    propagations=st.integers(0, 3),
    refinements=st.integers(0, 2),
    seed=st.integers(0, 50),
)
def test_flow_is_its_twins_whatever_the_parameters(
    side: int,
    size: tuple[int, int],
    coarsest: int,
    finest: int,
    propagations: int,
    refinements: int,
    seed: int,
) -> None:
    parameters = replace(
        FLOW,
        patch_size=size[0],
        patch_stride=size[1],
        coarsest_side=coarsest,
        finest_level=finest,
        propagations=propagations,
        refinement_iterations=refinements,
    )
    pairs = moving(1, side, seed)
    np.testing.assert_array_equal(
        native.optical_flow(pairs, parameters), optical_flow(pairs, parameters)
    )


@pytest.mark.parametrize("side", [16, 40, 41, 97, 224])
def test_one_pair_on_any_number_of_threads_gives_the_same_bits(side: int) -> None:
    pair = pictures(1, 2, side, side)
    expected = native.optical_flow(pair, FLOW, threads=1)
    for threads in (2, 3, 7):
        np.testing.assert_array_equal(native.optical_flow(pair, FLOW, threads=threads), expected)


def test_any_number_of_threads_gives_the_same_bits() -> None:
    frames = np.stack([np.roll(pictures(90, 140, 3), step, axis=1) for step in range(6)])
    expected = preprocess(frames, PARAMETERS, threads=1)
    for threads in (2, 3, 5):
        for one, other in zip(
            preprocess(frames, PARAMETERS, threads=threads), expected, strict=True
        ):
            assert one is not None
            assert other is not None
            np.testing.assert_array_equal(one, other)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), tracks=st.integers(1, 3), count=st.integers(2, 4))
def test_tracks_in_one_call_are_the_twins(data: st.DataObject, tracks: int, count: int) -> None:
    frames = pictures(count, 50, 70, 3)
    corner = data.draw(
        st.lists(
            st.tuples(st.integers(-20, 60), st.integers(-20, 40)),
            min_size=tracks * count,
            max_size=tracks * count,
        )
    )
    boxes = np.array([(x, y, x + 30, y + 25) for x, y in corner], np.float32)
    # Some boxes stay where they are, which saves work.
    rois = boxes.reshape(tracks, count, 4)
    rois[:, 1:2] = rois[:, -1:]
    pixels_u8, luma_u8 = preprocess_u8(frames, PARAMETERS, rois=rois)
    regions = [[roi_region(box, 32) for box in track[1:]] for track in rois]
    color = Color(PARAMETERS.color_matrix, PARAMETERS.color_range)
    expected_pixels, expected_luma = twin.preprocess_u8(frames, regions, 24, color)
    np.testing.assert_array_equal(pixels_u8, expected_pixels)
    assert luma_u8 is not None
    assert expected_luma is not None
    np.testing.assert_array_equal(luma_u8, expected_luma)


def test_results_are_written_where_told() -> None:
    frames = pictures(3, 40, 60, 3)
    expected_pixels, expected_motion = preprocess(frames, PARAMETERS)
    assert expected_motion is not None
    pixels, motion = np.empty_like(expected_pixels), np.empty_like(expected_motion)
    preprocess_into(frames, PARAMETERS, pixels, motion)
    np.testing.assert_array_equal(pixels, expected_pixels)
    np.testing.assert_array_equal(motion, expected_motion)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 2, 24, 24), np.float64),
        np.empty((2, 2, 24, 23), np.float32),
        np.empty((2, 2, 24, 48), np.float32)[..., ::2],
    ],
)
def test_a_place_of_another_kind_is_refused(out: NDArray[Any]) -> None:
    with pytest.raises(KernelError, match="out: expected a writable, contiguous f32"):
        native.optical_flow_into(pictures(2, 2, 24, 24), FLOW, out)


def test_a_number_that_is_no_number_of_threads_is_refused() -> None:
    with pytest.raises(KernelError, match="threads: expected at least 1, got 0"):
        native.optical_flow(pictures(1, 2, 24, 24), FLOW, threads=0)


def test_without_the_compiled_module_the_twin_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = pictures(3, 40, 60, 3)
    expected = preprocess(frames, PARAMETERS)
    monkeypatch.setattr(native, "load_error", "made for another Python")
    with pytest.raises(KernelError, match="made for another Python"):
        native.kernels(1)
    pixels, motion = preprocess(frames, PARAMETERS)
    np.testing.assert_array_equal(pixels, expected[0])
    assert motion is not None
    assert expected[1] is not None
    np.testing.assert_allclose(motion, expected[1], rtol=0, atol=1e-4)


def in_a_child(results: Any) -> None:
    results.put(float(native.optical_flow(moving(2, 24), FLOW, threads=2).sum()))


def test_a_forked_process_has_workers_of_its_own() -> None:
    expected = float(native.optical_flow(moving(2, 24), FLOW, threads=2).sum())
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=in_a_child, args=(results,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert results.get() == expected


@pytest.mark.parametrize(
    "wrong",
    [
        lambda k, f, r, c: k.resize(f, r[:, :9], c, np.empty((8, 8, 3), np.uint8)),
        lambda k, f, r, c: k.resize(f, r, c[:4], np.empty((8, 8, 3), np.uint8)),
        lambda k, f, r, c: k.resize(f, r, c, np.empty((9, 9, 3), np.uint8)),
        lambda k, f, r, c: k.resize(f[..., ::-1], r, c, np.empty((8, 8, 3), np.uint8)),
        lambda k, f, r, c: k.resize(f[:, :0], r, c, np.empty((8, 8, 3), np.uint8)),
        lambda k, f, r, c: k.resize(f, -r, c, np.empty((8, 8, 3), np.uint8)),
        lambda k, f, r, c: k.frame_difference(
            np.zeros((1, 2, 8, 9), np.uint8), np.zeros((1, 8, 9), np.float32)
        ),
    ],
)
def test_the_binding_itself_lets_nothing_out_of_bounds(wrong: Callable[..., None]) -> None:
    region = np.array([(*astuple(frame_region(20, 30, 8, "center")), 0)], np.int32)
    with pytest.raises((ValueError, TypeError)):
        wrong(_native.Kernels(1), pictures(1, 20, 30, 3), region, constants(Color("bt601", "full")))
