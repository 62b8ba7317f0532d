"""The classifier (paper 3.3.3 and Figure 1a): EMBEDDING to LOGITS."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgmclip.spec import ModelSpec


class Classifier(nn.Module):
    """EMBEDDING [B,H] to LOGITS [B,C]: a linear head, cosine with class texts, or their sum.

    Attributes:
        linear: H to C; None for a text head.
        project_text: H to D, the space of class texts; None for a linear head.
        text_embeddings: Unit vectors [C,D], stored with the weights, so that no text tower is
            served; None for a linear head.
        temperature: Cosines are divided by this.
    """

    text_embeddings: Tensor | None

    def __init__(self, spec: ModelSpec) -> None:
        """Build with random weights and text embeddings of zero."""
        super().__init__()
        classes, width = len(spec.classes), spec.fusion.width
        self.temperature = spec.head.temperature
        self.linear = nn.Linear(width, classes) if spec.head.kind != "text" else None
        self.project_text = None
        text_embeddings = None
        if spec.head.kind != "linear":
            self.project_text = nn.Linear(width, spec.visual.width, bias=False)
            text_embeddings = torch.zeros(classes, spec.visual.width)
        self.register_buffer("text_embeddings", text_embeddings)

    def forward(
        self,
        embedding: Tensor,  # [B,H]
    ) -> Tensor:  # [B,C]
        """Return LOGITS."""
        logits = []
        if self.linear is not None:
            logits.append(self.linear(embedding))
        if self.project_text is not None and self.text_embeddings is not None:
            projected = F.normalize(self.project_text(embedding), dim=-1)
            logits.append(projected @ self.text_embeddings.T / self.temperature)
        return torch.stack(logits).sum(dim=0)
