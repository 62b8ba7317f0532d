"""The motion encoder (paper 3.3.1, m_t): a residual network over MOTION."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck  # type: ignore[import-untyped]

from fgmclip.spec import MotionSpec


@dataclass(frozen=True, slots=True)
class _Plan:
    block: type[BasicBlock | Bottleneck]
    blocks: tuple[int, int, int, int]
    channels: int = 64


_PLANS = {
    "resnet10_narrow": _Plan(BasicBlock, (1, 1, 1, 1), channels=32),
    "resnet10": _Plan(BasicBlock, (1, 1, 1, 1)),
    "resnet18": _Plan(BasicBlock, (2, 2, 2, 2)),
    "resnet34": _Plan(BasicBlock, (3, 4, 6, 3)),
    "resnet50": _Plan(Bottleneck, (3, 4, 6, 3)),
}


class MotionEncoder(nn.Module):
    """Each pair of frames by itself: MOTION [N,3,M,M] to MOTION_FEATURES [N,Dm].

    Keys are those of torchvision's networks, so their weights fit. The output is projected to Dm
    only where the network's width is another.
    """

    def __init__(self, spec: MotionSpec) -> None:
        """Build with random weights."""
        super().__init__()
        plan = _PLANS[spec.encoder]
        width = plan.channels
        self.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        for index, blocks in enumerate(plan.blocks):
            planes, stride = plan.channels << index, 1 if index == 0 else 2
            stage = [_block(plan, width, planes, stride)]
            width = planes * plan.block.expansion
            stage += [_block(plan, width, planes, 1) for _ in range(blocks - 1)]
            self.add_module(f"layer{index + 1}", nn.Sequential(*stage))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.project = nn.Identity() if width == spec.width else nn.Linear(width, spec.width)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        motion: Tensor,  # [N,3,M,M]
    ) -> Tensor:  # [N,Dm]
        """Return MOTION_FEATURES of luma differences and flow."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(motion))))
        for index in range(4):
            x = self.get_submodule(f"layer{index + 1}")(x)
        features: Tensor = self.project(self.avgpool(x).flatten(1))
        return features


def _block(plan: _Plan, width: int, planes: int, stride: int) -> nn.Module:
    out = planes * plan.block.expansion
    shortcut = None
    if stride != 1 or width != out:
        shortcut = nn.Sequential(
            nn.Conv2d(width, out, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(out)
        )
    block: nn.Module = plan.block(width, planes, stride, shortcut)
    return block
