"""`preprocess`: the stages fit together, tracks are rows, and bad input is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess, preprocess_edge, preprocess_u8
from fgmclip.spec import preset

PARAMETERS = replace(PreprocessParameters.from_spec(preset("demo")), image_size=32, motion_size=24)


def clip(count: int = 4, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    random = np.random.default_rng(0)
    still = random.integers(0, 256, (height, width + count, 3), dtype=np.uint8)
    return np.stack([still[:, index : index + width] for index in range(count)])


def test_shapes_are_those_of_the_contract() -> None:
    pixels, motion = preprocess(clip(), PARAMETERS)
    assert pixels.shape == (3, 3, 32, 32)
    assert motion is not None
    assert motion.shape == (3, 3, 24, 24)
    assert pixels.dtype == motion.dtype == np.float32


def test_an_edge_host_gets_exactly_the_servers_tensors() -> None:
    pixels, motion = preprocess(clip(), PARAMETERS)
    pixels_u8, luma_u8 = preprocess_u8(clip(), PARAMETERS)
    edge_pixels, edge_motion = preprocess_edge(pixels_u8, luma_u8, PARAMETERS)
    np.testing.assert_array_equal(pixels, edge_pixels)
    assert motion is not None
    assert edge_motion is not None
    np.testing.assert_array_equal(motion, edge_motion)


def test_one_frame_at_a_time_gives_the_same_rows() -> None:
    frames = clip()
    pixels, motion = preprocess(frames, PARAMETERS)
    assert motion is not None
    for index in range(3):
        one_pixels, one_motion = preprocess(frames[index : index + 2], PARAMETERS)
        assert one_motion is not None
        np.testing.assert_array_equal(pixels[index], one_pixels[0])
        np.testing.assert_array_equal(motion[index], one_motion[0])


def test_tracks_are_rows_track_by_track() -> None:
    rois = np.array([[0, 0, 30, 30], [20, 5, 58, 38]], np.float32)[:, None].repeat(4, axis=1)
    pixels, _ = preprocess(clip(), PARAMETERS, rois=rois)
    assert len(pixels) == 6
    for track in range(2):
        alone, _ = preprocess(clip(), PARAMETERS, rois=rois[track : track + 1])
        np.testing.assert_array_equal(pixels[3 * track : 3 * track + 3], alone)


def test_both_frames_of_a_pair_are_cut_by_the_later_box() -> None:
    # A still world under a box that wanders: no luma may change.
    frames = np.repeat(clip(1), 4, axis=0)
    rois = np.array([[[0, 0, 20, 20], [5, 0, 25, 20], [9, 4, 29, 24], [12, 9, 32, 29]]], np.float32)
    _, luma_u8 = preprocess_u8(frames, PARAMETERS, rois=rois)
    assert luma_u8 is not None
    np.testing.assert_array_equal(luma_u8[:, 0], luma_u8[:, 1])


def test_a_model_without_motion_has_none() -> None:
    parameters = replace(PARAMETERS, motion_size=None, flow=None)
    assert preprocess(clip(), parameters)[1] is None


def test_motion_is_difference_and_flow_in_parts_of_the_side() -> None:
    pixels_u8, luma_u8 = preprocess_u8(clip(), PARAMETERS)
    _, motion = preprocess_edge(pixels_u8, luma_u8, PARAMETERS)
    assert luma_u8 is not None
    assert motion is not None
    assert PARAMETERS.flow is not None
    later, earlier = luma_u8[:, 1].astype(float), luma_u8[:, 0].astype(float)
    np.testing.assert_allclose(motion[:, 0], (later - earlier) / 255, rtol=0, atol=1e-6)
    flow = optical_flow(luma_u8, PARAMETERS.flow)
    np.testing.assert_allclose(motion[:, 1:], flow / 24, rtol=0, atol=1e-4)


def test_each_sample_is_its_own_frame_and_its_pair_begins_one_before() -> None:
    levels = np.array([10, 60, 110, 160], np.uint8)
    frames = np.ones((4, 40, 60, 3), np.uint8) * levels[:, None, None, None]
    rois = np.tile(np.array([5, 5, 20, 20], np.float32), (1, 4, 1))
    for boxes in (None, rois):
        pixels_u8, luma_u8 = preprocess_u8(frames, PARAMETERS, rois=boxes)
        assert luma_u8 is not None
        assert pixels_u8[:, 0, 0, 0].tolist() == [60, 110, 160]
        assert luma_u8[:, :, 0, 0].tolist() == [[10, 60], [60, 110], [110, 160]]


def test_the_later_luma_of_a_pair_is_the_earlier_of_the_next() -> None:
    _, luma_u8 = preprocess_u8(clip(), PARAMETERS)
    assert luma_u8 is not None
    np.testing.assert_array_equal(luma_u8[:-1, 1], luma_u8[1:, 0])


@pytest.mark.parametrize("color_range", ["limited", "full"])
def test_nv12_grey_is_rgb_grey(color_range: Literal["limited", "full"]) -> None:
    random = np.random.default_rng(0)
    levels = random.integers(0, 220, (3, 40, 60, 1), dtype=np.uint8)
    nv12 = np.full((3, 60, 60, 1), 128, np.uint8)
    nv12[:, :40] = levels + (16 if color_range == "limited" else 0)
    gain = 255 / 219 if color_range == "limited" else 1.0
    full = np.rint(levels.astype(np.float64) * gain)
    rgb = np.repeat(full.astype(np.uint8), 3, axis=3)
    for crop in ("center", "letterbox", "squash"):
        parameters = replace(PARAMETERS, crop=crop)
        expected = preprocess_u8(rgb, parameters)
        actual = preprocess_u8(nv12, parameters, color_range=color_range)
        for one, other in zip(actual, expected, strict=True):
            assert one is not None
            assert other is not None
            np.testing.assert_array_equal(one, other)


def test_strided_frames_give_the_same() -> None:
    frames = clip()
    sparse = np.zeros((8, 80, 60, 3), np.uint8)[::2, ::2]
    sparse[:] = frames
    for one, other in zip(
        preprocess_u8(sparse, PARAMETERS), preprocess_u8(frames, PARAMETERS), strict=True
    ):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (2, 90), (90, 2), (31, 7)])
def test_tiny_frames_are_frames(height: int, width: int) -> None:
    for crop in ("center", "letterbox", "squash"):
        pixels, motion = preprocess(clip(2, height, width), replace(PARAMETERS, crop=crop))
        assert motion is not None
        assert np.isfinite(pixels).all()
        assert np.isfinite(motion).all()


def test_the_matrix_of_a_request_beats_the_definitions() -> None:
    default = preprocess_u8(clip(), PARAMETERS)[1]
    other = preprocess_u8(clip(), PARAMETERS, color_matrix="bt709")[1]
    stated = preprocess_u8(clip(), replace(PARAMETERS, color_matrix="bt709"))[1]
    assert default is not None
    assert other is not None
    assert stated is not None
    assert (default != other).any()
    np.testing.assert_array_equal(other, stated)


def test_parameters_survive_json() -> None:
    assert PreprocessParameters.from_dict(asdict(PARAMETERS)) == PARAMETERS


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (np.zeros((2, 8, 8, 3), np.float32), "expected u8, got float32; send"),
        (np.zeros((2, 8, 8), np.uint8), r"RGB \[n\+1,H,W,3\].*got \[2, 8, 8\]; put"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"RGB \[n\+1,H,W,3\].*got \[2, 8, 8, 4\]; put"),
        (np.zeros((0, 8, 8, 3), np.uint8), "at least 2 frames, got 0; send"),
        (np.zeros((1, 8, 8, 3), np.uint8), "at least 2 frames, got 1; send"),
        (np.zeros((2, 0, 8, 3), np.uint8), "at least one pixel"),
        (np.zeros((2, 8, 0, 3), np.uint8), "at least one pixel"),
        (np.zeros((2, 0, 8, 1), np.uint8), "at least one pixel"),
        (np.zeros((2, 13, 8, 1), np.uint8), "even height and width.*got 13 rows of 8; cut"),
        (np.zeros((2, 12, 7, 1), np.uint8), "even height and width.*got 12 rows of 7; cut"),
    ],
)
def test_what_is_no_frames_is_refused(frames: NDArray[Any], words: str) -> None:
    with pytest.raises(KernelError, match=f"FRAMES: .*{words}"):
        preprocess(frames, PARAMETERS)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([np.nan, 0, 5, 5], "finite pixels.*leave the track out"),
        ([0, 0, np.inf, 5], "finite pixels.*leave the track out"),
        ([5, 0, 5, 5], "x0 < x1 and y0 < y1"),
        ([0, 7, 5, 6], "x0 < x1 and y0 < y1"),
        ([60, 0, 70, 5], "overlaps the 60x40 frame"),
        ([-9, -9, 0, 5], "overlaps the 60x40 frame"),
        ([0, 40, 5, 50], "overlaps the 60x40 frame"),
        ([0, 0, 121, 5], "sides up to 120 pixels"),
        ([0, 0, 1e30, 5], "sides up to 120 pixels"),
    ],
)
def test_a_box_that_cannot_be_cut_is_refused_by_name(box: list[float], words: str) -> None:
    rois = np.tile(np.array([5, 5, 20, 20], np.float32), (3, 4, 1))
    rois[1, 2] = box
    with pytest.raises(KernelError, match=f"ROI: expected .*{words}") as refusal:
        preprocess(clip(), PARAMETERS, rois=rois)
    assert "in track 1, frame 2" in str(refusal.value)


def test_a_track_may_enter_the_picture_with_the_first_new_sample() -> None:
    rois = np.tile(np.array([5, 5, 20, 20], np.float32), (1, 4, 1))
    expected = preprocess_u8(clip(), PARAMETERS, rois=rois)
    rois[0, 0] = [-30, 5, -15, 20]
    for one, other in zip(preprocess_u8(clip(), PARAMETERS, rois=rois), expected, strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one, other)
    rois[0, 0] = np.nan
    with pytest.raises(KernelError, match="finite"):
        preprocess_u8(clip(), PARAMETERS, rois=rois)


@pytest.mark.parametrize(
    ("rois", "words"),
    [
        (np.zeros((1, 3, 4), np.float32), r"expected \[R,4,4\].*got \[1, 3, 4\]"),
        (np.zeros((4, 4), np.float32), r"expected \[R,4,4\].*got \[4, 4\]"),
        (np.zeros((0, 4, 4), np.float32), r"R of at least 1, got \[0, 4, 4\]"),
        (np.zeros((1, 4, 4)), "expected f32, got float64; convert"),
    ],
)
def test_boxes_of_another_form_are_refused(rois: NDArray[Any], words: str) -> None:
    with pytest.raises(KernelError, match=f"ROI: .*{words}"):
        preprocess(clip(), PARAMETERS, rois=rois)


def test_unknown_colour_is_refused() -> None:
    matrix: Any = "bt2020"
    value_range: Any = "video"
    with pytest.raises(KernelError, match="color_matrix: expected bt601 or bt709, got 'bt2020'"):
        preprocess(clip(), PARAMETERS, color_matrix=matrix)
    with pytest.raises(KernelError, match="color_range: expected limited or full, got 'video'"):
        preprocess(clip(), PARAMETERS, color_range=value_range)


@pytest.mark.parametrize(
    ("pixels", "luma", "words"),
    [
        ((2, 32, 32, 3), (3, 2, 24, 24), r"LUMA_U8: expected \[2,2,24,24\].*got \[3, 2, 24, 24\]"),
        ((2, 32, 32, 3), (2, 2, 32, 32), r"LUMA_U8: expected \[2,2,24,24\]"),
        ((2, 32, 32, 3), None, r"LUMA_U8: expected \[2,2,24,24\], got none"),
        ((2, 24, 24, 3), (2, 2, 24, 24), r"PIXELS_U8: expected \[N,32,32,3\]"),
        ((32, 32, 3), (2, 2, 24, 24), r"PIXELS_U8: expected \[N,32,32,3\]"),
        ((0, 32, 32, 3), (0, 2, 24, 24), "at least 1 sample"),
    ],
)
def test_u8_stages_of_another_definition_are_refused(
    pixels: tuple[int, ...], luma: tuple[int, ...] | None, words: str
) -> None:
    luma_u8 = None if luma is None else np.zeros(luma, np.uint8)
    with pytest.raises(KernelError, match=words):
        preprocess_edge(np.zeros(pixels, np.uint8), luma_u8, PARAMETERS)


def test_luma_for_a_model_without_motion_is_refused() -> None:
    parameters = replace(PARAMETERS, motion_size=None, flow=None)
    pixels, luma = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 2, 24, 24), np.uint8)
    with pytest.raises(KernelError, match="no motion encoder"):
        preprocess_edge(pixels, luma, parameters)


def test_the_kernels_import_neither_torch_nor_pydantic() -> None:
    script = (
        "import sys, fgmclip.kernels.preprocess\n"
        "print(sorted({'torch', 'pydantic', 'PIL', 'cv2'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout.strip() == "[]"
