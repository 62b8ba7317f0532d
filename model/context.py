"""Context features c_t of each frame (paper 3.4.2), from VISUAL."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgmclip.model.weights import read_weights, state_for
from fgmclip.spec import ModelSpec


class PromptContext(nn.Module):
    """How alike a frame is to each scene prompt: softmax(cos(v_t, prompt) / temperature)."""

    prompts: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        """Build with prompt embeddings of zero; they are stored with the weights."""
        super().__init__()
        self.temperature = spec.context.temperature
        self.register_buffer("prompts", torch.zeros(spec.context.width, spec.visual.width))

    def forward(
        self,
        visual: Tensor,  # [B,T,D]
    ) -> Tensor:  # [B,T,K]
        """Return c_t; each row sums to 1."""
        return (F.normalize(visual, dim=-1) @ self.prompts.T / self.temperature).softmax(dim=-1)


class SceneClassifier(nn.Module):
    """A linear scene classifier: softmax(W v_t + b)."""

    def __init__(self, spec: ModelSpec) -> None:
        """Build with random weights; `load` reads a user's."""
        super().__init__()
        self.linear = nn.Linear(spec.visual.width, spec.context.width)

    def load(self, path: Path) -> None:
        """Take weights from a file that holds `weight` [K,D] and `bias` [K], safetensors for one.

        Raises:
            UnreadableError: The file cannot be read.
            UnsafeError: It is a pickle that carries code; it was not run.
            WeightsError: Its tensors are others, of other shapes, or not finite.
        """
        weights = read_weights(path)
        self.linear.load_state_dict(state_for(self.linear, weights, "the scene classifier"))

    def forward(
        self,
        visual: Tensor,  # [B,T,D]
    ) -> Tensor:  # [B,T,K]
        """Return c_t; each row sums to 1."""
        scenes: Tensor = self.linear(visual)
        return scenes.softmax(dim=-1)


def build_context(spec: ModelSpec) -> PromptContext | SceneClassifier | None:
    """Return what computes c_t, or None without context."""
    if spec.context.source == "prompts":
        return PromptContext(spec)
    return SceneClassifier(spec) if spec.context.source == "classifier" else None
