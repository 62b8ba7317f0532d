"""Label-preserving changes of a batch, applied alike to what the eye and the motion encoder see.

A change of geometry moves PIXELS and MOTION together and rescales the flow's values with it; a
change of light reaches MOTION's luma difference as well. So an augmented clip is one that a camera
could have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_RGB = torch.arange(3)


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far a clip may be changed; each clip of a batch draws its own change.

    Attributes:
        scale: Largest relative change of size, 0.15 for 0.85 to 1/0.85.
        shift: Largest shift, as a fraction of the side.
        contrast: Largest relative change of contrast.
        brightness: Largest change of brightness and of each channel, as a fraction of white.
        recolor: Share of clips whose colour channels change places, in PIXELS alone. For classes
            to which colour means nothing and an image encoder that begins from random weights.
    """

    scale: float = 0.15
    shift: float = 0.08
    contrast: float = 0.3
    brightness: float = 0.15
    recolor: float = 0.0


def augment(
    pixels: Tensor | None,  # [B,T,3,S,S] 0..1
    motion: Tensor | None,  # [B,T,3,M,M] (luma difference, u, v)
    mirrored: Tensor,  # [B] bool
    how: Augmentation,
    generator: torch.Generator,
) -> tuple[Tensor | None, Tensor | None]:
    """Return the batch with geometry and light changed, one draw for each clip.

    Args:
        pixels: Frames before normalisation; None when their embeddings were computed ahead.
        motion: MOTION; None for a model without motion.
        mirrored: Clips whose left and right are to be swapped.
        how: The ranges of the random changes.
        generator: Source of the draws; as many are taken with and without motion.
    """
    count = mirrored.shape[0]

    def draw(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * 2 - 1

    zoom = (1 - how.scale) ** draw(1)  # [B,1]
    shift = how.shift * draw(2)  # [B,2]
    gain = 1 + how.contrast * draw(1)  # [B,1]
    lift = how.brightness * (draw(1) + draw(3)) / 2  # [B,3]
    recolored = torch.rand(count, 1, generator=generator) < how.recolor
    order = torch.where(recolored, torch.rand(count, 3, generator=generator).argsort(dim=1), _RGB)

    if pixels is not None:
        pixels = _move(pixels, zoom, shift, padding="border")
        pixels = pixels.take_along_dim(order[:, None, :, None, None], dim=2)
        mean = pixels.mean(dim=(1, 2, 3, 4), keepdim=True)
        pixels = (pixels - mean) * _column(gain) + mean + lift[:, None, :, None, None]
        pixels = pixels.clamp_(0, 1)
    if motion is not None:
        # Nothing is known to move outside of the frame.
        motion = _move(motion, zoom, shift, padding="zeros")
        motion = motion * torch.stack([gain, zoom, zoom], dim=2)[..., None, None]
    return mirror(pixels, motion, mirrored)


def mirror(
    pixels: Tensor | None,  # [B,T,3,S,S]
    motion: Tensor | None,  # [B,T,3,M,M]
    mirrored: Tensor,  # [B] bool
) -> tuple[Tensor | None, Tensor | None]:
    """Return the batch with left and right of some clips swapped.

    Args:
        pixels: Frames; None when their embeddings were computed ahead.
        motion: MOTION; None for a model without motion.
        mirrored: Which clips.
    """
    flip = _column(mirrored[:, None])
    if pixels is not None:
        pixels = torch.where(flip, pixels.flip(-1), pixels)
    if motion is not None:
        motion = torch.where(flip, mirrored_motion(motion), motion)
    return pixels, motion


def mirrored_motion(
    motion: Tensor,  # [...,3,M,M]
) -> Tensor:  # [...,3,M,M]
    """Return MOTION as seen in a mirror: left and right swapped, horizontal flow negated."""
    return motion.flip(-1) * motion.new_tensor([1.0, -1.0, 1.0])[:, None, None]


def _column(values: Tensor) -> Tensor:
    return values[:, :, None, None, None]  # [B,1,1,1,1]


def _move(images: Tensor, zoom: Tensor, shift: Tensor, *, padding: str) -> Tensor:
    batch, steps, channels, side, _ = images.shape
    matrix = torch.zeros(batch, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / zoom[:, 0]
    matrix[:, :, 2] = 2 * shift
    flat = images.reshape(batch, steps * channels, side, side)
    grid = F.affine_grid(matrix, list(flat.shape), align_corners=False)
    moved = F.grid_sample(flat, grid, padding_mode=padding, align_corners=False)
    return moved.reshape(images.shape)
