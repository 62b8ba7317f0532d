"""C3D: Tran et al., Learning Spatiotemporal Features with 3D Convolutional Networks, ICCV 2015.

Section 3.3: eight 3 x 3 x 3 convolutions, five poolings of which the first leaves time alone, two
fully connected layers of 4096. Clips of 16 frames of 112 x 112. With the 487 classes of Sports-1M
that definition has 79.99 M parameters; the 78.4 M that is often quoted is the same network with
the 101 classes of UCF-101.
"""

from __future__ import annotations

from torch import Tensor, nn

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Channels of the convolutions before each pooling."""


class C3d(nn.Module):
    """CLIP [B,3,16,112,112] to LOGITS [B,C]."""

    def __init__(self, classes: int) -> None:
        """Build with random weights."""
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for stage, channels in enumerate(_STAGES):
            for out in channels:
                layers += [nn.Conv3d(width, out, kernel_size=3, padding=1), nn.ReLU()]
                width = out
            if stage == 0:
                layers.append(nn.MaxPool3d((1, 2, 2)))
            else:
                # Seven rows become four only with a row of padding, as in the authors' model file.
                padding = (0, 1, 1) if stage == len(_STAGES) - 1 else 0
                layers.append(nn.MaxPool3d(2, padding=padding))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(512 * 4 * 4, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(4096, classes),
        )

    def forward(
        self,
        clip: Tensor,  # [B,3,16,112,112]
    ) -> Tensor:  # [B,C]
        """Return LOGITS."""
        logits: Tensor = self.classifier(self.features(clip))
        return logits
