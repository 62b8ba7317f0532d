"""Alignment: dynamic time warping against the textbook, attention by what it must notice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional as F

from fgmclip.model.alignment import DtwAlignment, MotionDecoder
from fgmclip.spec import ModelSpec

SpecFactory = Callable[..., ModelSpec]


def textbook_path(distance: NDArray[np.float64]) -> tuple[NDArray[np.bool_], float]:
    """Fill the whole table cell by cell, then walk back from its end."""
    frames = len(distance)
    total = np.full((frames + 1, frames + 1), np.inf)
    total[0, 0] = 0
    for i in range(frames):
        for j in range(frames):
            before = min(total[i, j], total[i, j + 1], total[i + 1, j])
            total[i + 1, j + 1] = distance[i, j] + before
    path = np.zeros((frames, frames), dtype=bool)
    i = j = frames
    while (i, j) != (0, 0):
        path[i - 1, j - 1] = True
        steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        i, j = min(steps, key=lambda cell: float(total[cell]))
    return path, float(total[frames, frames])


@given(frames=st.integers(1, 12), seed=st.integers(0, 1000))
def test_the_path_is_the_textbooks(frames: int, seed: int) -> None:
    distance = np.random.default_rng(seed).uniform(0, 2, (3, frames, frames))
    path = DtwAlignment(frames).path(torch.from_numpy(distance)).numpy()
    for one, cells in zip(distance, np.broadcast_to(path, distance.shape), strict=True):
        np.testing.assert_array_equal(cells, textbook_path(one)[0])


@given(frames=st.integers(2, 10), seed=st.integers(0, 1000))
def test_among_equal_costs_the_path_is_still_a_cheapest_one(frames: int, seed: int) -> None:
    distance = np.random.default_rng(seed).integers(0, 3, (frames, frames)).astype(np.float64)
    path = DtwAlignment(frames).path(torch.from_numpy(distance)[None])[0].numpy()
    assert distance[path].sum() == textbook_path(distance)[1]
    assert path[0, 0]
    assert path[-1, -1]
    steps = np.diff(np.argwhere(path), axis=0)
    assert set(map(tuple, steps)) <= {(0, 1), (1, 0), (1, 1)}


def test_delayed_motion_is_brought_back_to_its_frames() -> None:
    codes = F.normalize(torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    delay = [0, 0, 0, 1, 2, 3, 4, 5]
    motion = torch.arange(8.0)[None, :, None]
    aligned = DtwAlignment(8)(motion, codes, codes[:, delay])
    torch.testing.assert_close(aligned[0, :5, 0], torch.tensor([1.0, 3.0, 4.0, 5.0, 6.0]))


def test_equal_codes_leave_motion_as_it_is() -> None:
    codes = F.normalize(torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0)), dim=-1)
    motion = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(DtwAlignment(6)(motion, codes, codes), motion)


def test_a_long_window_stays_within_half_precision() -> None:
    distance = torch.full((1, 64, 64), 2.0, dtype=torch.float16)
    path = DtwAlignment(64).path(distance)
    assert torch.equal(path[0], torch.eye(64, dtype=torch.bool))


def test_a_gradient_reaches_the_motion_features_through_the_path() -> None:
    codes = F.normalize(torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    motion = torch.randn(1, 5, 3, requires_grad=True)
    DtwAlignment(5)(motion, codes, codes.flip(1)).sum().backward()
    assert motion.grad is not None
    assert motion.grad.abs().sum() > 0


@pytest.mark.parametrize("part", ["visual", "motion"])
def test_the_motion_decoder_knows_when_something_happens(tiny: SpecFactory, part: str) -> None:
    decoder = MotionDecoder(tiny(), motion_width=24).eval()
    torch.nn.init.normal_(decoder.query_positions)
    torch.nn.init.normal_(decoder.motion_positions)
    generator = torch.Generator().manual_seed(0)
    visual = torch.randn(1, 5, 16, generator=generator)
    motion = torch.randn(1, 5, 24, generator=generator)
    turned = (visual.flip(1), motion) if part == "visual" else (visual, motion.flip(1))
    with torch.inference_mode():
        difference = decoder(visual, motion).mean(dim=1) - decoder(*turned).mean(dim=1)
    assert difference.abs().max() > 1e-4
