"""Pretrained weights for the encoders of a new model: plain CLIP or torchvision files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from fgmclip.model.activation import OPENAI_SIZES, check_activation, source_of, used_by
from fgmclip.model.errors import WeightsError
from fgmclip.model.image_encoder import TORCHVISION
from fgmclip.model.network import FgmClip
from fgmclip.model.weights import Weights, read_weights, state_for

# What people call the two towers, the longer name first; and the keys of a CLIP's text tower that
# stand beside `visual.` without a name of their own.
_IMAGE = ("image_encoder.tower.", "image_encoder.visual.", "image_encoder.", "visual.")
_TEXT = ("text_encoder.tower.", "text_encoder.", "text.")
_BARE_TEXT = (
    "text_projection",
    "positional_embedding",
    "token_embedding.",
    "transformer.",
    "ln_final.",
)
# Of CLIP as a whole, and of no tower; OpenAI's files also tell sizes.
_NEITHER = ("logit_scale", "logit_bias", "attn_mask", *OPENAI_SIZES)


class Halves(NamedTuple):
    """A CLIP file's towers: the image tower's tensors with all that no tower knows, and text's."""

    image: dict[str, Tensor]
    text: dict[str, Tensor]


def load_image_weights(
    model: FgmClip, path: Path, *, say: Callable[[str], None] | None = None
) -> None:
    """Give a model's image encoder the weights of a plain CLIP or torchvision file.

    Which of the file's weights count, `containers` says, as for checkpoints. CLIP files
    (open_clip's, or OpenAI's as a state dict) also fill the text tower where the model has one, and
    its embeddings are computed anew; otherwise their text keys have no place and are left aside, as
    is the classifier that was taken off a torchvision network. An image tower may stand alone,
    under any of its names or none. A projection to D that a torchvision trunk needs keeps its
    random weights.

    Args:
        model: Changed in place, unless the weights are refused.
        path: safetensors, the index of several of them, or a file of `torch.save`.
        say: Receives a line for the user: which of the file's weights were taken.

    Raises:
        UnreadableError: The file is damaged or of another kind.
        UnsafeError: The file is a pickle that carries code; it was not run.
        WeightsError: Keys are missing, unexpected or misshapen, values are not finite, or the
            weights were trained with another activation than the spec's.
    """
    weights = read_weights(path)
    _refuse_other_layouts(weights)
    load = _load_trunk if model.spec.visual.architecture.startswith(TORCHVISION) else _load_clip
    taken, note = load(model, weights)
    left = len(weights.tensors) - taken
    notes = (f"left {left} that this model has no place for" if left else None, note)
    if say is not None:
        say(weights.told(taken, *(clause for clause in notes if clause)))


def _load_trunk(model: FgmClip, weights: Weights) -> tuple[int, str | None]:
    encoder, visual = model.image_encoder, model.spec.visual
    tensors = {_without(key, _IMAGE) or key: value for key, value in weights.tensors.items()}
    trunk = {key: value for key, value in tensors.items() if key not in encoder.removed}
    name, size = visual.architecture, visual.image_size
    state = state_for(encoder.tower, weights, name, tensors=trunk, image_size=size)
    encoder.tower.load_state_dict(state)
    return len(state), None


def _load_clip(model: FgmClip, weights: Weights) -> tuple[int, str | None]:
    """Fill one tower or both; return how many tensors were taken, and what is to be said."""
    visual, tower = model.spec.visual, model.image_encoder.tower
    name, size = visual.architecture, visual.image_size
    used = used_by(tower, model.text_encoder)
    note = check_activation(weights.path, source_of(weights), used, visual)
    image, text = halves(weights.tensors)
    if model.text_encoder is not None and not text:
        raise WeightsError(
            weights.path,
            f"expected both towers of {name}, since the spec's text head or scene prompts need the "
            "text tower, got an image tower alone; give the whole CLIP",
        )
    what = f"{name}'s image tower (visual.*)"
    state = state_for(tower, weights, what, tensors=image, image_size=size)
    taken = len(state)
    if model.text_encoder is not None:
        what = f"{name}'s text tower"
        words = state_for(model.text_encoder.tower, weights, what, tensors=text)
        model.text_encoder.tower.load_state_dict(words)
        taken += len(words)
    tower.load_state_dict(state)
    model.embed_texts()
    return taken, note


def _refuse_other_layouts(weights: Weights) -> None:
    """Refuse files whose names say that they are something else, with what to do instead."""
    if any(key.startswith("fusion_head.") for key in weights.tensors):
        raise WeightsError(
            weights.path,
            "expected weights of an image encoder, got a whole checkpoint of FGM-CLIP; begin with "
            "it by --init",
        )
    if any(key.startswith("vision_model.") for key in weights.tensors):
        raise WeightsError(
            weights.path,
            "expected the keys of open_clip or OpenAI (visual.*), got those of Hugging Face's "
            "transformers (vision_model.*); take the same weights as open_clip publishes them",
        )


def halves(tensors: Mapping[str, Tensor]) -> Halves:
    """Return the towers of a CLIP, or an image tower that stands alone.

    `transformer.*` and `positional_embedding` are the text tower's beside a `visual.*`, and the
    image tower's in a file that names no tower and holds no words.
    """
    named = any(key.startswith(_IMAGE) for key in tensors)
    worded = any(key.startswith("token_embedding.") for key in tensors)
    image: dict[str, Tensor] = {}
    text: dict[str, Tensor] = {}
    for key, value in tensors.items():
        if name := _without(key, _IMAGE):
            image[name] = value
        elif name := _without(key, _TEXT):
            text[name] = value
        elif key in _NEITHER:
            continue
        elif (named or worded) and key.startswith(_BARE_TEXT):
            text[key] = value
        else:
            image[key] = value
    return Halves(image, text)


def _without(key: str, names: tuple[str, ...]) -> str | None:
    found = next((name for name in names if key.startswith(name)), None)
    return None if found is None else key.removeprefix(found)
