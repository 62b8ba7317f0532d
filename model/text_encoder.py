"""CLIP's text tower on class descriptions and scene prompts; runs before serving, never in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from open_clip.tokenizer import SimpleTokenizer  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn import functional as F

from fgmclip.model.clip_towers import clip_config, text_tower
from fgmclip.model.errors import BuildError
from fgmclip.spec import ClassSpec, VisualSpec


class TextEncoder(nn.Module):
    """Sentences to unit vectors in the space of VISUAL (paper 3.1)."""

    def __init__(self, spec: VisualSpec) -> None:
        """Build with random weights.

        Raises:
            BuildError: The architecture has no text tower, or one with fewer words than CLIP's.
        """
        super().__init__()
        self.tower = text_tower(spec)
        text = clip_config(spec)["text_cfg"]
        self._tokenize = SimpleTokenizer(
            context_length=text.get("context_length", 77), **text.get("tokenizer_kwargs", {})
        )
        words = text.get("vocab_size", self._tokenize.vocab_size)
        if words < self._tokenize.vocab_size:
            raise BuildError(
                f"visual.config.text_cfg.vocab_size: expected at least "
                f"{self._tokenize.vocab_size}, the words of CLIP's tokenizer, got {words}"
            )

    def forward(
        self,
        tokens: Tensor,  # [K,L] int64
    ) -> Tensor:  # [K,D]
        """Return the unit vectors of tokenised sentences."""
        return F.normalize(self.tower(tokens), dim=-1)

    @torch.no_grad()
    def embed(self, sentences: Sequence[str]) -> Tensor:  # [K,D]
        """Return a unit vector for each sentence."""
        training = self.training
        vectors: Tensor = self.eval()(self._tokenize(list(sentences)))
        self.train(training)
        return vectors

    def embed_classes(self, classes: Sequence[ClassSpec]) -> Tensor:  # [C,D]
        """Return a unit vector for each class: the mean of its descriptions'."""
        means = [self.embed(item.descriptions).mean(dim=0) for item in classes]
        return F.normalize(torch.stack(means), dim=-1)
