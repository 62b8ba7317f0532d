from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fgmclip.training.augment import Augmentation, augment, mirror, mirrored_motion

STILL = Augmentation(scale=0, shift=0, contrast=0, brightness=0)


def _batch(side: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(2, 3, 3, side, side, generator=generator)
    return pixels, torch.rand(2, 3, 3, side, side, generator=generator) - 0.5


def _augment(how: Augmentation, mirrored: list[bool], side: int = 16) -> tuple[Tensor, Tensor]:
    pixels, motion = augment(
        *_batch(side), torch.tensor(mirrored), how, torch.Generator().manual_seed(5)
    )
    assert pixels is not None
    assert motion is not None
    return pixels, motion


def test_no_range_no_change() -> None:
    pixels, motion = _batch(16)
    changed_pixels, changed_motion = _augment(STILL, [False, False])
    torch.testing.assert_close(changed_pixels, pixels)
    torch.testing.assert_close(changed_motion, motion)


def test_a_mirror_swaps_sides_and_negates_horizontal_flow() -> None:
    pixels, motion = _batch(16)
    changed_pixels, changed_motion = _augment(STILL, [True, False])
    torch.testing.assert_close(changed_pixels[0], pixels[0].flip(-1))
    torch.testing.assert_close(changed_motion[0, :, 0], motion[0, :, 0].flip(-1))
    torch.testing.assert_close(changed_motion[0, :, 1], -motion[0, :, 1].flip(-1))
    torch.testing.assert_close(changed_motion[0, :, 2], motion[0, :, 2].flip(-1))
    torch.testing.assert_close(changed_motion[1], motion[1])


def test_two_mirrors_are_none() -> None:
    _, motion = _batch(9)
    torch.testing.assert_close(mirrored_motion(mirrored_motion(motion)), motion)


@settings(max_examples=30, deadline=None)
@given(zoom=st.floats(0.0, 0.3), seed=st.integers(0, 1000))
def test_flow_grows_with_the_picture(zoom: float, seed: int) -> None:
    # A field of expansion has the same slope at every size of the picture: only values that are
    # rescaled together with the geometry keep it.
    side = 32
    ramp = (torch.arange(side) + 0.5) / side - 0.5
    motion = torch.zeros(1, 1, 3, side, side)
    motion[0, 0, 1], motion[0, 0, 2] = ramp, ramp[:, None]
    how = Augmentation(scale=zoom, shift=0, contrast=0, brightness=0)
    generator = torch.Generator().manual_seed(seed)
    _, changed = augment(None, motion, torch.tensor([False]), how, generator)
    assert changed is not None
    middle = slice(side // 4, 3 * side // 4)
    torch.testing.assert_close(
        changed[..., middle, middle], motion[..., middle, middle], atol=1e-5, rtol=0
    )


def test_light_changes_reach_the_luma_difference_and_spare_the_flow() -> None:
    _, motion = _batch(16)
    how = Augmentation(scale=0, shift=0, contrast=0.4, brightness=0.2)
    pixels, changed = _augment(how, [False, False])
    torch.testing.assert_close(changed[:, :, 1:], motion[:, :, 1:])
    gain = changed[:, :, 0] / motion[:, :, 0]
    torch.testing.assert_close(gain, gain[:, :1, :1, :1].expand_as(gain), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(gain[0, 0, 0, 0], torch.tensor(1.0), atol=1e-3)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_picture_and_motion_move_together() -> None:
    shape = torch.zeros(1, 1, 3, 32, 32)
    shape[..., 12:20, 12:20] = 1
    how = Augmentation(scale=0.15, shift=0.2, contrast=0, brightness=0)
    pixels, motion = augment(
        shape, shape, torch.tensor([True]), how, torch.Generator().manual_seed(1)
    )
    assert pixels is not None
    assert motion is not None
    torch.testing.assert_close(pixels[:, :, 0], motion[:, :, 0], atol=1e-6, rtol=0)
    assert not torch.allclose(pixels, shape)


def test_recoloring_moves_channels_of_pixels_alone() -> None:
    pixels, motion = _batch(16)
    how = Augmentation(scale=0, shift=0, contrast=0, brightness=0, recolor=1.0)
    changed, changed_motion = _augment(how, [False, False])
    torch.testing.assert_close(changed_motion, motion)
    torch.testing.assert_close(changed.sort(dim=2).values, pixels.sort(dim=2).values)
    moved = {
        tuple(
            int((changed[clip, 0, channel] - pixels[clip, 0]).abs().amax(dim=(1, 2)).argmin())
            for channel in range(3)
        )
        for clip in range(2)
    }
    assert moved != {(0, 1, 2)}


def test_a_mirror_is_the_same_with_and_without_other_changes() -> None:
    pixels, motion = torch.rand(2, 3, 3, 8, 8), torch.rand(2, 3, 3, 6, 6)
    mirrored = torch.tensor([False, True])
    found = mirror(pixels, motion, mirrored)
    assert found[0] is not None
    assert found[1] is not None
    torch.testing.assert_close(found[0][0], pixels[0])
    torch.testing.assert_close(found[0][1], pixels[1].flip(-1))
    torch.testing.assert_close(found[1][1], mirrored_motion(motion[1]))
    assert mirror(None, None, mirrored) == (None, None)
