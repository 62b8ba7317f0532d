"""I3D: Carreira and Zisserman, Quo Vadis, Action Recognition?, CVPR 2017, its RGB stream alone.

Inception-v1 with batch norm, inflated (Figure 3): clips of 64 frames of 224 x 224. The two-stream
model is this one twice, the second time over optical flow. It has 12.29 M parameters without the
classifier and 12.70 M with the 400 classes of Kinetics; Table 1 rounds two streams to 25 M. The
definition pads as TensorFlow does, one side more than the other where the total is odd; here both
sides are padded alike, which gives the same sizes, products and parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_BLOCKS = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
"""Inception-v1's channels: 1x1; 1x1 and 3x3; 1x1 and 3x3 (5x5 in two dimensions); after pooling."""

_POOLED_BEFORE = {"4b": (3, 1), "5b": (2, 0)}
"""Kernel and padding of the pooling over time and space, stride 2, before a block."""


def _unit(width: int, out: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(width, out, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm3d(out, eps=1e-3),
        nn.ReLU(),
    )


class _Inception(nn.Module):
    """Four branches side by side."""

    def __init__(self, width: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        plain, reduce, wide, reduce_more, narrow, pooled = channels
        self.branches = nn.ModuleList(
            (
                _unit(width, plain),
                nn.Sequential(_unit(width, reduce), _unit(reduce, wide, 3)),
                nn.Sequential(_unit(width, reduce_more), _unit(reduce_more, narrow, 3)),
                nn.Sequential(nn.MaxPool3d(3, stride=1, padding=1), _unit(width, pooled)),
            )
        )
        self.width = plain + wide + narrow + pooled

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class I3d(nn.Module):
    """CLIP [B,3,64,224,224] to LOGITS [B,C], the mean over what is left of time."""

    def __init__(self, classes: int) -> None:
        """Build with random weights."""
        super().__init__()
        layers: list[nn.Module] = [
            _unit(3, 64, 7, stride=2),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            _unit(64, 64),
            _unit(64, 192, 3),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
        ]
        width = 192
        for name, channels in _BLOCKS.items():
            if name in _POOLED_BEFORE:
                kernel, padding = _POOLED_BEFORE[name]
                layers.append(nn.MaxPool3d(kernel, stride=2, padding=padding))
            block = _Inception(width, channels)
            layers.append(block)
            width = block.width
        layers += [nn.AvgPool3d((2, 7, 7), stride=1), nn.Dropout(0.5), nn.Conv3d(width, classes, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(
        self,
        clip: Tensor,  # [B,3,64,224,224]
    ) -> Tensor:  # [B,C]
        """Return LOGITS."""
        logits: Tensor = self.layers(clip).mean(dim=(2, 3, 4))
        return logits
