"""The whole network (paper 3.1): encoders, fusion head, classifier."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from fgmclip.model.classifier import Classifier
from fgmclip.model.context import PromptContext
from fgmclip.model.errors import InputError
from fgmclip.model.fusion import FusionHead
from fgmclip.model.image_encoder import ImageEncoder
from fgmclip.model.motion_encoder import MotionEncoder
from fgmclip.model.text_encoder import TextEncoder
from fgmclip.spec import ModelSpec


class Output(NamedTuple):
    """What the network says of B clips.

    Attributes:
        logits: LOGITS [B,C].
        probabilities: PROBABILITIES [B,C]; each row sums to 1.
        embedding: EMBEDDING [B,H].
    """

    logits: Tensor
    probabilities: Tensor
    embedding: Tensor


class FgmClip(nn.Module):
    """FGM-CLIP.

    Attributes:
        spec: What the network is.
        image_encoder: PIXELS [N,3,S,S] to VISUAL [N,D].
        motion_encoder: MOTION [N,3,M,M] to MOTION_FEATURES [N,Dm]; None without motion.
        fusion_head: VISUAL [B,T,D] and MOTION_FEATURES [B,T,Dm] to EMBEDDING [B,H].
        classifier: EMBEDDING [B,H] to LOGITS [B,C].
        text_encoder: CLIP's text tower, where a text head or scene prompts need it; None otherwise.
            It is never served: its embeddings are stored in classifier and fusion head.
    """

    def __init__(self, spec: ModelSpec) -> None:
        """Build with random weights; `fgmclip.model.build.build_model` makes them repeatable.

        Raises:
            BuildError: The spec names a network that cannot be built.
        """
        super().__init__()
        self.spec = spec
        self.image_encoder = ImageEncoder(spec.visual)
        self.motion_encoder = None if spec.motion is None else MotionEncoder(spec.motion)
        self.fusion_head = FusionHead(spec)
        self.classifier = Classifier(spec)
        self.text_encoder = TextEncoder(spec.visual) if spec.needs_text else None
        self.embed_texts()

    @torch.no_grad()
    def embed_texts(self) -> None:
        """Compute anew what is stored of the text tower: after its weights have changed."""
        if self.text_encoder is None:
            return
        if self.classifier.text_embeddings is not None:
            embedded = self.text_encoder.embed_classes(self.spec.classes)
            self.classifier.text_embeddings.copy_(embedded)
        if isinstance(self.fusion_head.context, PromptContext):
            prompts = self.text_encoder.embed(self.spec.context.prompts)
            self.fusion_head.context.prompts.copy_(prompts)

    def forward(
        self,
        pixels: Tensor,  # [B,T,3,S,S]
        motion: Tensor | None = None,  # [B,T,3,M,M]
    ) -> Output:
        """Name the action of whole clips.

        Args:
            pixels: Normalised frames.
            motion: Luma differences and flow; None exactly when the spec has no motion.

        Raises:
            InputError: A tensor has another shape, or motion is missing or superfluous.
        """
        self._check(pixels, motion)
        features = [self.image_encoder(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])]
        if self.motion_encoder is not None and motion is not None:
            rows = self.motion_encoder(motion.flatten(0, 1))
            features.append(rows.unflatten(0, motion.shape[:2]))
        embedding = self.fusion_head(*features)
        logits = self.classifier(embedding)
        return Output(logits, logits.softmax(dim=-1), embedding)

    def _check(self, pixels: Tensor, motion: Tensor | None) -> None:
        frames, size = self.spec.clip.frames, self.spec.visual.image_size
        expected = (frames, 3, size, size)
        if pixels.ndim != 5 or tuple(pixels.shape[1:]) != expected:
            raise InputError(f"pixels: expected [B,{_text(expected)}], got {list(pixels.shape)}")
        if self.spec.motion is None:
            if motion is not None:
                raise InputError(f"motion: {self.spec.name} sees frames only; leave motion out")
            return
        expected = (frames, 3, self.spec.motion.size, self.spec.motion.size)
        came = None if motion is None else list(motion.shape)
        if came != [len(pixels), *expected]:
            raise InputError(f"motion: expected [{len(pixels)},{_text(expected)}], got {came}")


def _text(shape: tuple[int, ...]) -> str:
    return ",".join(str(size) for size in shape)
