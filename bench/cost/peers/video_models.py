"""Video models that a user would pick, with the clips that their published accuracy is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Whoever only wants the shapes has no need of torch.
    from torch import nn


@dataclass(frozen=True, slots=True)
class VideoModel:
    """A model that takes a clip as a whole.

    Attributes:
        key: Names it; torchvision's name with hyphens.
        name: For people.
        frames: T of its clips.
        size: S of its clips, pixels.
        classes: Of the published model.
    """

    key: str
    name: str
    frames: int
    size: int
    classes: int

    def build(self) -> nn.Module:
        """Return the network with random weights: CLIP [B,3,T,S,S] to LOGITS [B,C]."""
        if self.key == "c3d":
            from fgmclip.bench.cost.peers.c3d import C3d

            return C3d(self.classes)
        if self.key == "i3d":
            from fgmclip.bench.cost.peers.i3d import I3d

            return I3d(self.classes)
        from torchvision.models import get_model  # type: ignore[import-untyped]

        network: nn.Module = get_model(
            self.key.replace("-", "_"), weights=None, num_classes=self.classes
        )
        return network


VIDEO_MODELS = (
    # Clips as torchvision's weights state them (`clip_len`, `crop_size`); Kinetics-400.
    VideoModel("r2plus1d-18", "R(2+1)D-18", 16, 112, 400),
    VideoModel("s3d", "S3D", 128, 224, 400),
    VideoModel("mvit-v2-s", "MViT-v2-S", 16, 224, 400),
    VideoModel("swin3d-t", "Swin3D-T", 32, 224, 400),
    # Clips as the papers define them; Sports-1M and Kinetics-400.
    VideoModel("c3d", "C3D", 16, 112, 487),
    VideoModel("i3d", "I3D, RGB stream alone", 64, 224, 400),
)
