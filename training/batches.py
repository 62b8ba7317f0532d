"""From cached rows to tensors: which windows an epoch sees, and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from fgmclip.training.cache import CachedVideo
from fgmclip.training.embeddings import FrozenVisual


@dataclass(frozen=True, slots=True)
class Example:
    """One video to learn from: its rows and the index of its class."""

    video: CachedVideo
    target: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of several videos.

    Attributes:
        pixels: Frames before normalisation [B,T,3,S,S] 0..1; None when `visual` stands for them.
        visual: VISUAL of a frozen image encoder [B,T,D], already mirrored where `mirrored` says so.
        motion: MOTION [B,T,3,M,M]; None for a model without motion.
        mirrored: Clips that are to be seen in a mirror [B].
        targets: Classes [B].
    """

    pixels: Tensor | None
    visual: Tensor | None
    motion: Tensor | None
    mirrored: Tensor
    targets: Tensor


def epoch_batches(
    examples: Sequence[Example],
    *,
    frames: int,
    size: int,
    mirror: bool,
    frozen: FrozenVisual | None,
    random: np.random.Generator,
) -> Iterator[Batch]:
    """Yield an epoch: one window of every video, at a random place, in random order.

    The last batch takes up the rest, so none holds a single window (which normalisation over a
    batch could not bear) unless there is only one video.

    Args:
        examples: The videos.
        frames: T.
        size: Windows in a batch.
        mirror: Draw half of the windows to be mirrored.
        frozen: Embeddings to use instead of frames.
        random: Source of all draws.
    """
    order = random.permutation(len(examples))
    for chosen in np.array_split(order, max(1, len(order) // size)):
        starts = [int(random.choice(examples[index].video.starts)) for index in chosen]
        flips = (random.random(len(chosen)) < 0.5) & mirror
        picked = [examples[index] for index in chosen]
        spans = [slice(start, start + frames) for start in starts]
        motion = [item.video.motion() for item in picked]
        yield Batch(
            pixels=None
            if frozen is not None
            else pixels_tensor(
                [item.video.pixels()[span] for item, span in zip(picked, spans, strict=True)]
            ),
            visual=None
            if frozen is None
            else torch.from_numpy(
                np.stack(
                    [
                        frozen.rows(item.video, mirrored=bool(flip))[span]
                        for item, span, flip in zip(picked, spans, flips, strict=True)
                    ]
                )
            ),
            motion=motion_tensor(
                [rows[span] for rows, span in zip(motion, spans, strict=True) if rows is not None]
            ),
            mirrored=torch.from_numpy(flips),
            targets=torch.tensor([item.target for item in picked]),
        )


def pixels_tensor(
    windows: Sequence[npt.NDArray[np.uint8]],  # B of [T,S,S,3]
) -> Tensor:  # [B,T,3,S,S] 0..1
    """Stack PIXELS_U8 as the network wants them, not yet normalised."""
    return torch.from_numpy(np.stack(windows)).permute(0, 1, 4, 2, 3).contiguous().float() / 255


def motion_tensor(
    windows: Sequence[npt.NDArray[np.float16]],  # B of [T,3,M,M]
) -> Tensor | None:  # [B,T,3,M,M]
    """Stack MOTION in single precision; None when there is none."""
    return torch.from_numpy(np.stack(windows)).float() if windows else None
