"""Outlier channels for random weights: activations as hard to quantise as a trained model's.

Trained transformers carry a few channels that are a hundred times larger than the rest (Dettmers
et al., LLM.int8(), 2022; Xiao et al., SmoothQuant, 2023). Random weights have none, so anything
that is only tested with them looks easier to quantise than it is. Here a few channels of each norm
are scaled up, and the layers that read them are scaled down: the function stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck  # type: ignore[import-untyped]

from fgmclip.model.network import FgmClip

FACTOR = 128.0
"""How much larger an outlier channel is; a power of two, so that scaling rounds nothing."""

CHANNELS = 4
"""Outlier channels of each norm."""


@dataclass(frozen=True, slots=True)
class NormAndReaders:
    """A norm, and the weights that alone read its output: channels are their axis 1.

    Attributes:
        norm: A layer norm, or a batch norm with nothing but a ReLU and pooling behind it.
        readers: Views into the readers' weights, [O,C] or [O,C,kh,kw].
    """

    norm: nn.Module
    readers: tuple[Tensor, ...]


def inject_outliers(model: FgmClip, *, seed: int) -> None:
    """Scale some channels of every norm up, and what reads them down, in place.

    Args:
        model: Its answers change by rounding at most.
        seed: Decides which channels.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for pair in norms_and_readers(module):
                weight, bias = pair.norm.weight, pair.norm.bias
                assert isinstance(weight, Tensor)
                assert isinstance(bias, Tensor)
                channels = torch.randperm(len(weight), generator=generator)[:CHANNELS]
                weight[channels] *= FACTOR
                bias[channels] *= FACTOR
                for reader in pair.readers:
                    reader[:, channels] /= FACTOR


def norms_and_readers(module: nn.Module) -> Iterator[NormAndReaders]:
    """Yield the norms of a block whose readers are known; of other modules none."""
    if isinstance(module, BasicBlock):
        yield NormAndReaders(module.bn1, (module.conv2.weight,))
    elif isinstance(module, Bottleneck) or hasattr(module, "bn3"):
        # torchvision's and CLIP's bottlenecks: the same names.
        yield NormAndReaders(_child(module, "bn1"), (_weight(module, "conv2"),))
        yield NormAndReaders(_child(module, "bn2"), (_weight(module, "conv3"),))
    elif hasattr(module, "ln_1") and hasattr(module, "attn"):
        # A block of CLIP's transformer.
        attention = _child(module, "attn")
        assert isinstance(attention, nn.MultiheadAttention)
        yield NormAndReaders(_child(module, "ln_1"), (attention.in_proj_weight,))
        yield NormAndReaders(_child(module, "ln_2"), (_weight(module, "mlp.c_fc"),))
    elif hasattr(module, "norm_self"):
        # A layer of the motion decoder.
        own, cross = _child(module, "self_attention"), _child(module, "cross_attention")
        assert isinstance(own, nn.MultiheadAttention)
        assert isinstance(cross, nn.MultiheadAttention)
        width = cross.embed_dim
        yield NormAndReaders(_child(module, "norm_self"), (own.in_proj_weight,))
        yield NormAndReaders(_child(module, "norm_cross"), (cross.in_proj_weight[:width],))
        yield NormAndReaders(_child(module, "norm_memory"), (cross.in_proj_weight[width:],))
        yield NormAndReaders(
            _child(module, "norm_feed_forward"), (_weight(module, "feed_forward.0"),)
        )


def _child(module: nn.Module, name: str) -> nn.Module:
    return module.get_submodule(name)


def _weight(module: nn.Module, name: str) -> Tensor:
    weight = _child(module, name).weight
    assert isinstance(weight, Tensor)
    return weight
