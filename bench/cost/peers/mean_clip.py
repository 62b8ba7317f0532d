"""Frame-mean CLIP: what names an action without any motion, from class texts alone."""

from __future__ import annotations

from torch import Tensor, nn, randn
from torch.nn import functional as F

TEMPERATURE = 0.01
"""CLIP's own."""


class MeanHead(nn.Module):
    """VISUAL [B,T,D] to LOGITS [B,C]: the mean over time, compared with class embeddings.

    Attributes:
        texts: Unit vectors [C,D], computed by a text tower beforehand; random here.
    """

    texts: Tensor

    def __init__(self, width: int, classes: int) -> None:
        """Build with random embeddings."""
        super().__init__()
        self.register_buffer("texts", F.normalize(randn(classes, width), dim=-1))

    def forward(
        self,
        visual: Tensor,  # [B,T,D]
    ) -> Tensor:  # [B,C]
        """Return LOGITS."""
        frames = F.normalize(visual, dim=-1)
        clip = F.normalize(frames.mean(dim=1), dim=-1)
        return clip @ self.texts.T / TEMPERATURE
