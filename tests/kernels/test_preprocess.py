"""`preprocess`: the stages fit together, tracks are rows, and bad input is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError
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
        (np.zeros((2, 8, 8, 3), np.float32), "expected u8, got float32"),
        (np.zeros((2, 8, 8), np.uint8), r"RGB \[n\+1,H,W,3\]"),
        (np.zeros((2, 8, 8, 4), np.uint8), r"RGB \[n\+1,H,W,3\]"),
        (np.zeros((1, 8, 8, 3), np.uint8), "at least 2 frames"),
        (np.zeros((2, 0, 8, 3), np.uint8), "expected pixels"),
        (np.zeros((2, 13, 8, 1), np.uint8), "even height and width"),
        (np.zeros((2, 12, 7, 1), np.uint8), "even height and width"),
    ],
)
def test_what_is_no_frames_is_refused(frames: NDArray[Any], words: str) -> None:
    with pytest.raises(KernelError, match=words):
        preprocess(frames, PARAMETERS)


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ([np.nan, 0, 5, 5], "finite"),
        ([0, 0, np.inf, 5], "finite"),
        ([5, 0, 5, 5], "x0 < x1"),
        ([60, 0, 70, 5], "a box on 60x40"),
        ([-9, -9, 0, 5], "a box on 60x40"),
        ([0, 0, 1e6, 5], "at most twice the frame"),
    ],
)
def test_a_box_that_cannot_be_cut_is_refused(box: list[float], words: str) -> None:
    rois = np.tile(np.array(box, np.float32), (1, 4, 1))
    with pytest.raises(KernelError, match=words):
        preprocess(clip(), PARAMETERS, rois=rois)


def test_boxes_of_another_count_are_refused() -> None:
    with pytest.raises(KernelError, match=r"expected \[R,4,4\]"):
        preprocess(clip(), PARAMETERS, rois=np.zeros((1, 3, 4), np.float32))


def test_the_kernels_need_neither_torch_nor_pydantic() -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'pydantic']))\n"
        "import fgmclip.kernels.preprocess"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
