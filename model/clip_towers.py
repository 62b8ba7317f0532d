"""CLIP's two towers, built one at a time from open_clip's configs."""

from __future__ import annotations

import copy
from typing import Any

import open_clip  # type: ignore[import-untyped]
from torch import nn

from fgmclip.model.errors import BuildError
from fgmclip.spec import VisualSpec

# open_clip builds both towers at once; the one that is not asked for is made this small.
_SMALLEST_IMAGE_TOWER = {
    "layers": 1, "width": 8, "head_width": 8, "patch_size": 16, "image_size": 16
}  # fmt: skip
_SMALLEST_TEXT_TOWER = {"layers": 1, "width": 8, "heads": 1, "vocab_size": 8, "context_length": 8}


def clip_config(spec: VisualSpec) -> dict[str, Any]:
    """Return the open_clip model config of an architecture, with the spec's image size in it.

    Raises:
        BuildError: open_clip knows no such architecture, or the config contradicts the spec.
    """
    name = spec.architecture
    config = copy.deepcopy(spec.config)
    if config is None:
        # A name with a scheme would make open_clip ask a model hub.
        config = None if ":" in name else open_clip.get_model_config(name)
    if config is None:
        raise BuildError(
            f"visual.architecture: expected an open_clip architecture such as ViT-B-16, "
            f"'torchvision:NAME' or 'custom', got {name!r}; `open_clip.list_models()` names them"
        )
    missing = sorted({"embed_dim", "vision_cfg"} - set(config))
    if missing:
        raise BuildError(f"visual.config: expected an open_clip model config, {missing} missing")
    size = config["vision_cfg"].get("image_size", spec.image_size)
    if spec.config is not None and size != spec.image_size:
        raise BuildError(
            f"visual.image_size: expected {size}, the image_size of visual.config, got "
            f"{spec.image_size}; make them equal"
        )
    if config["embed_dim"] != spec.width:
        raise BuildError(
            f"visual.width: expected {config['embed_dim']}, the width of {name}'s embeddings, got "
            f"{spec.width}; CLIP's space is not projected, so that images and texts stay comparable"
        )
    config["vision_cfg"] |= {
        "image_size": spec.image_size,
        "timm_model_pretrained": False,
        # Captioning models return their tokens beside the embedding; nothing here reads them.
        "output_tokens": False,
    }
    return config


def image_tower(spec: VisualSpec) -> nn.Module:
    """Build CLIP's image tower with random weights: PIXELS [N,3,S,S] to VISUAL [N,D].

    Raises:
        BuildError: The architecture is unknown or its config is not valid.
    """
    config = clip_config(spec)
    tower: nn.Module = _pair(config, config["vision_cfg"], _SMALLEST_TEXT_TOWER).visual
    return tower


def has_text_tower(spec: VisualSpec) -> bool:
    """Say whether the architecture has a text tower that can be built without a model hub."""
    if spec.architecture.startswith("torchvision:"):
        return False
    text: dict[str, Any] = clip_config(spec).get("text_cfg") or {}
    return bool(text) and not (text.get("hf_model_name") or text.get("hf_tokenizer_name"))


def text_tower(spec: VisualSpec) -> nn.Module:
    """Build CLIP's text tower with random weights: tokens [K,L] to embeddings [K,D].

    Raises:
        BuildError: The architecture has none, or its tokenizer lies on a model hub.
    """
    if not has_text_tower(spec):
        raise BuildError(
            f"visual.architecture: {spec.architecture!r} has no text tower with CLIP's own "
            "tokenizer; text heads and scene prompts need one, for example ViT-B-16's"
        )
    config = clip_config(spec)
    tower: nn.Module = _pair(config, _SMALLEST_IMAGE_TOWER, config["text_cfg"]).text
    return tower


def _pair(config: dict[str, Any], image: dict[str, Any], text: dict[str, Any]) -> Any:
    try:
        return open_clip.CustomTextCLIP(
            config["embed_dim"], image, text, quick_gelu=config.get("quick_gelu", False)
        )
    except (TypeError, ValueError, KeyError, AssertionError, RuntimeError) as error:
        raise BuildError(
            f"visual.config: open_clip cannot build it ({type(error).__name__}: {error}); see "
            "open_clip's model_configs for examples"
        ) from error
