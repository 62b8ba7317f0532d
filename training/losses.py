"""Loss functions of the paper; this room's trainer minimises them."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def classification_loss(
    logits: Tensor,  # [B,C]
    targets: Tensor,  # [B] int64
) -> Tensor:  # []
    """Return the mean negative log-likelihood of the true classes (paper 3.2, equation 1)."""
    return F.cross_entropy(logits, targets)
