"""`optical_flow`: known motion, no motion, independence of the batch, and real ground truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fgmclip.kernels.errors import KernelError
from fgmclip.kernels.optical_flow import optical_flow
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.spec import FlowSpec

PARAMETERS = FlowParameters.from_spec(FlowSpec())


def texture(height: int, width: int, seed: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    noise = random.standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    result: NDArray[np.float32] = 128 + 60 * smooth / smooth.std()
    return result


def translated(side: int, right: float, down: float, seed: int = 0) -> NDArray[np.uint8]:
    wide = texture(side + 40, side + 40, seed)
    pair = []
    for dx, dy in ((0.0, 0.0), (right, down)):
        matrix = np.array([[1, 0, dx - 20], [0, 1, dy - 20]], np.float32)
        pair.append(cv2.warpAffine(wide, matrix, (side, side), flags=cv2.INTER_CUBIC))
    return np.clip(np.rint(np.stack(pair)), 0, 255).astype(np.uint8)


@settings(max_examples=15, deadline=None)
@given(right=st.floats(-6, 6), down=st.floats(-6, 6), side=st.sampled_from([64, 75, 112]))
def test_a_translation_is_found(right: float, down: float, side: int) -> None:
    flow = optical_flow(translated(side, right, down)[None], PARAMETERS)[0]
    inner = flow[:, 12:-12, 12:-12]
    error = np.hypot(inner[0] - right, inner[1] - down)
    # A small picture holds little of a large motion: 0.18 and 0.26 at worst in 1,500 draws.
    small = max(abs(right), abs(down)) <= 4
    assert np.median(error) < (0.15 if small else 0.25)
    assert error.mean() < (0.2 if small else 0.4)


@pytest.mark.parametrize("side", [16, 17, 31, 112])
def test_nothing_moves_where_nothing_moved(side: int) -> None:
    still = translated(side, 0, 0)[None]
    assert np.abs(optical_flow(still, PARAMETERS)).max() < 1e-3


def test_noise_on_a_flat_wall_does_not_fly_away() -> None:
    random = np.random.default_rng(0)
    pair = np.clip(120 + random.normal(0, 4, (1, 2, 112, 112)), 0, 255).astype(np.uint8)
    assert np.abs(optical_flow(pair, PARAMETERS)).mean() < 1


def test_a_pair_does_not_depend_on_its_batch() -> None:
    pairs = np.stack([translated(48, dx, 1, seed) for seed, dx in enumerate((0.5, 3, -2))])
    together = optical_flow(pairs, PARAMETERS)
    for index in range(len(pairs)):
        alone = optical_flow(pairs[index : index + 1], PARAMETERS)
        np.testing.assert_array_equal(together[index], alone[0])
    np.testing.assert_array_equal(together[::-1], optical_flow(pairs[::-1], PARAMETERS))


def test_an_empty_batch_gives_an_empty_flow() -> None:
    assert optical_flow(np.zeros((0, 2, 32, 32), np.uint8), PARAMETERS).shape == (0, 2, 32, 32)


def test_a_coarser_finest_level_still_gives_every_pixel() -> None:
    pair = translated(75, 2, 0)[None]
    flow = optical_flow(pair, replace(PARAMETERS, finest_level=2))
    assert flow.shape == (1, 2, 75, 75)
    assert abs(float(np.median(flow[0, 0])) - 2) < 0.3


@pytest.mark.parametrize(
    ("luma", "words"),
    [
        (np.zeros((1, 2, 32, 32), np.float32), "expected u8, got float32"),
        (np.zeros((1, 2, 32, 48), np.uint8), r"expected \[N,2,M,M\]"),
        (np.zeros((2, 32, 32), np.uint8), r"expected \[N,2,M,M\]"),
        (np.zeros((1, 2, 8, 8), np.uint8), "M of at least 16, got 8"),
    ],
)
def test_what_is_no_luma_is_refused(luma: NDArray[Any], words: str) -> None:
    with pytest.raises(KernelError, match=words):
        optical_flow(luma, PARAMETERS)


def test_another_version_is_refused() -> None:
    with pytest.raises(KernelError, match="flow version: expected 2"):
        optical_flow(translated(32, 0, 0)[None], replace(PARAMETERS, version=1))


def ground_truth(folder: Path, side: int) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[Any]]:
    """Return luma [2,M,M], flow [M,M,2] and valid [M,M], scaled to a square."""
    frames = [
        cv2.imread(str(next(folder.glob(f"frame{i}.*"))), cv2.IMREAD_GRAYSCALE) for i in (1, 2)
    ]
    if (folder / "flow.flo").exists():
        data = (folder / "flow.flo").read_bytes()
        width, height = np.frombuffer(data[4:12], np.int32)
        flow = np.frombuffer(data[12:], np.float32).reshape(height, width, 2)
        valid = np.abs(flow).max(axis=2) < 1e6
        if (folder / "invalid.png").exists():
            valid &= cv2.imread(str(folder / "invalid.png"), cv2.IMREAD_GRAYSCALE) == 0
    else:
        png = cv2.imread(str(folder / "flow.png"), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(
            np.float32
        )
        flow, valid = (png[..., :2] - 32768) / 64, png[..., 2] > 0
    height, width = valid.shape
    weight = valid.astype(np.float32)

    def shrink(values: NDArray[Any]) -> NDArray[Any]:
        return cv2.resize(values, (side, side), interpolation=cv2.INTER_AREA)

    share = shrink(weight)
    mean = shrink(np.where(valid[..., None], flow, 0).astype(np.float32) * weight[..., None])
    mean = (
        mean
        / np.maximum(share, 1e-6)[..., None]
        * np.array([side / width, side / height], np.float32)
    )
    return np.stack([shrink(frame) for frame in frames]), mean, share > 0.5


def end_point_error(flow: NDArray[Any], truth: NDArray[Any], valid: NDArray[Any]) -> float:
    return float(np.linalg.norm(flow - truth, axis=2)[valid].mean())


@pytest.mark.data
@pytest.mark.parametrize("side", [112, 224])
def test_real_motion_is_found_as_well_as_by_dis_medium(test_data: Path, side: int) -> None:
    reference = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    ratios = []
    for folder in sorted((test_data / "flow").iterdir()):
        luma, truth, valid = ground_truth(folder, side)
        ours = optical_flow(luma[None], PARAMETERS)[0].transpose(1, 2, 0)
        theirs = reference.calc(luma[0], luma[1], None)  # type: ignore[call-overload]
        assert end_point_error(ours, truth, valid) < end_point_error(0 * truth, truth, valid)
        ratios.append(end_point_error(ours, truth, valid) / end_point_error(theirs, truth, valid))
    assert len(ratios) >= 4
    assert np.exp(np.mean(np.log(ratios))) < 1
