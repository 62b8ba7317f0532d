"""A spec becomes a network with random weights."""

from __future__ import annotations

import torch

from fgmclip.model.network import FgmClip
from fgmclip.spec import ModelSpec


def build_model(spec: ModelSpec, *, seed: int) -> FgmClip:
    """Build a network in evaluation mode; the same seed gives the same weights.

    Args:
        spec: What to build.
        seed: Of the random weights; torch's own generator is left as it was.

    Raises:
        BuildError: The spec names a network that cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FgmClip(spec).eval()
