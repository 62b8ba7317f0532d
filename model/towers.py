"""Pretrained weights for the encoders of a new model: plain CLIP or torchvision files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fgmclip.model.errors import UnreadableError
from fgmclip.model.image_encoder import TORCHVISION
from fgmclip.model.network import FgmClip
from fgmclip.model.weights import (
    PICKLES,
    SAFETENSORS,
    read_pickle,
    read_safetensors,
    strip_prefixes,
    take_all,
)

_WRAPPERS = ("module.", "_orig_mod.")
_TEXT_KEYS = (
    "text_projection",
    "positional_embedding",
    "token_embedding.",
    "transformer.",
    "ln_final.",
)
# Of CLIP as a whole, and of no tower; OpenAI's files also tell sizes.
_NEITHER = (
    "logit_scale", "logit_bias", "input_resolution", "context_length", "vocab_size", "attn_mask"
)  # fmt: skip


def load_image_weights(model: FgmClip, path: Path) -> None:
    """Give a model's image encoder the weights of a plain CLIP or torchvision file.

    CLIP files (open_clip's, or OpenAI's as a state dict) also fill the text tower where the model
    has one, and its embeddings are computed anew; otherwise their text keys have no place and are
    left aside, as is the classifier that was taken off a torchvision network. A projection to D
    that a torchvision trunk needs keeps its random weights.

    Args:
        model: Changed in place.
        path: safetensors, or a file of `torch.save`.

    Raises:
        UnreadableError: The file is damaged or of another kind.
        UnsafeError: The file is a pickle that carries code; it was not run.
        WeightsError: Keys are missing, unexpected or misshapen, or values are not finite.
    """
    tensors = strip_prefixes(_read(path), _WRAPPERS, path)
    name = model.spec.visual.architecture
    if name.startswith(TORCHVISION):
        removed = model.image_encoder.removed
        trunk = {key: value for key, value in tensors.items() if key not in removed}
        take_all(model.image_encoder.tower, trunk, path, name)
        return
    image, text = _clip_halves(tensors)
    take_all(model.image_encoder.tower, image, path, f"{name}'s image tower (visual.*)")
    if model.text_encoder is not None:
        take_all(model.text_encoder.tower, text, path, f"{name}'s text tower")
        model.embed_texts()


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == SAFETENSORS:
        return read_safetensors(path)[0]
    if path.suffix not in PICKLES:
        raise UnreadableError(
            path, f"expected weights ending in {', '.join((SAFETENSORS, *PICKLES))}"
        )
    content: Any = read_pickle(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise UnreadableError(path, "expected a state dict, alone or under state_dict, found none")
    return dict(content)


def _clip_halves(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the image tower's tensors, with all that no tower knows, and the text tower's."""
    image: dict[str, Tensor] = {}
    text: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if key.startswith("visual."):
            image[key.removeprefix("visual.")] = value
        elif key.startswith("text."):
            text[key.removeprefix("text.")] = value
        elif key.startswith(_TEXT_KEYS):
            text[key] = value
        elif key not in _NEITHER:
            image[key] = value
    return image, text
