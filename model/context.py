"""Context features c_t of each frame (paper 3.4.2), from VISUAL."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from fgmclip.model.errors import UnreadableError, WeightsError
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
        """Take weights from a safetensors file that holds `weight` [K,D] and `bias` [K].

        Raises:
            UnreadableError: The file is not readable safetensors.
            WeightsError: Its tensors are others, or of other shapes.
        """
        try:
            found = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UnreadableError(
                path, f"expected a safetensors file with weight and bias; {error}"
            ) from error
        expected = {key: list(value.shape) for key, value in self.linear.state_dict().items()}
        came = {key: list(value.shape) for key, value in found.items()}
        if came != expected:
            raise WeightsError(path, f"expected the tensors {expected}, got {came}")
        if not all(bool(value.isfinite().all()) for value in found.values()):
            raise WeightsError(path, "expected finite weights, got NaN or Inf")
        self.linear.load_state_dict(found)

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
