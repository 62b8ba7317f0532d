"""Swin3D's attention masks as constants, so that its graph is the network and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.video import swin_transformer as swin  # type: ignore[import-untyped]


@contextmanager
def constant_masks(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> Iterator[None]:
    """Compute the masks for clips of one shape now, and hand them out inside the block.

    torchvision fills them in window by window at each call. Exported like that, they are 18,000
    nodes that OpenVINO cannot convert; a user would not leave them in.

    Args:
        build: Builds the network.
        shape: Of its clips, [1,3,T,S,S].
    """
    compute = swin._compute_attention_mask_3d
    masks: dict[tuple[Any, ...], Tensor] = {}

    def remembered(x: Tensor, *sizes: Any) -> Tensor:
        key = tuple(map(tuple, sizes))
        if key not in masks:
            masks[key] = compute(torch.zeros(1, device="cpu"), *sizes)
        return masks[key].to(x.device)

    swin._compute_attention_mask_3d = remembered
    try:
        with torch.device("meta"):
            network = build().eval()
        # Shapes are enough to ask for every mask once.
        network(torch.zeros(shape, device="meta"))
        yield
    finally:
        swin._compute_attention_mask_3d = compute
