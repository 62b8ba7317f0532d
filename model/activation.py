"""GELU or QuickGELU: which one weights were trained with, as far as their source tells.

Both towers of CLIP take either, and weights for one fit the other without an error: the embeddings
are only a little off everywhere. OpenAI's weights, and some of open_clip's, are for QuickGELU.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import open_clip  # type: ignore[import-untyped]
from open_clip.transformer import QuickGELU  # type: ignore[import-untyped]
from torch import nn

from fgmclip.model.bystanders import Bystander
from fgmclip.model.clip_towers import clip_config
from fgmclip.model.errors import WeightsError
from fgmclip.model.network import FgmClip
from fgmclip.model.weights import Weights
from fgmclip.spec import VisualSpec

Activation = Literal["GELU", "QuickGELU"]

OPENAI_SIZES = ("input_resolution", "context_length", "vocab_size")
"""Keys that only OpenAI's own files hold, beside the weights."""

_QUICK = "-quickgelu"
_CONFIG = "open_clip_config.json"
_DEEPEST = 4
# Settings of a training run that name a CLIP.
_NAMES = ("model", "model_name", "arch", "architecture", "clip_model", "clip_arch", "backbone")


class Source(NamedTuple):
    """What weights were trained with, and how that is known."""

    activation: Activation
    reason: str


def source_of(weights: Weights) -> Source | None:
    """Return what plain CLIP weights were trained with, or None if nothing tells.

    In this order: the sizes that OpenAI's files hold, settings in the file, open_clip's config
    beside it, and its name, if open_clip knows one like it.
    """
    sizes = [key for key in OPENAI_SIZES if key in weights.tensors]
    if sizes:
        return Source("QuickGELU", f"OpenAI's, which alone hold {sizes[0]}")
    return settings_of(weights) or _config_beside(weights.path) or _name_of(weights.path)


def settings_of(weights: Weights) -> Source | None:
    """Return what the settings of a training run in the file say, or None if nothing."""
    for name, value in _settings(weights.content):
        if name in ("quick_gelu", "force_quick_gelu") and value is True:
            return Source("QuickGELU", f"{name} is set in the file")
        if name in _NAMES and isinstance(value, str) and value.endswith(_QUICK):
            return Source("QuickGELU", f"{name} in the file is {value}")
    return None


def used_by(*modules: nn.Module | None) -> frozenset[Activation]:
    """Return what networks compute with; empty where it is neither."""
    parts = [part for module in modules if module is not None for part in module.modules()]
    quick: set[Activation] = (
        {"QuickGELU"} if any(isinstance(p, QuickGELU) for p in parts) else set()
    )
    plain: set[Activation] = {"GELU"} if any(isinstance(p, nn.GELU) for p in parts) else set()
    return frozenset(quick | plain)


def check_activation(
    path: Path, source: Source | None, used: frozenset[Activation], spec: VisualSpec
) -> str | None:
    """Refuse weights that were trained with the other activation.

    Args:
        path: The weights' file, for errors.
        source: What they were trained with.
        used: What the network computes with.
        spec: Names the network.

    Returns:
        A clause for the user where the source tells nothing.

    Raises:
        WeightsError: They were trained with the other one.
    """
    if not used:
        return None
    if source is None:
        return (
            f"taken as trained with {' and '.join(sorted(used))}, as {spec.architecture} computes: "
            "the file does not tell"
        )
    if source.activation not in used:
        raise WeightsError(
            path,
            f"expected weights trained with {' and '.join(sorted(used))}, as the spec's "
            f"{spec.architecture} computes, got weights trained with {source.activation} "
            f"({source.reason}), whose embeddings would be wrong without an error; "
            f"{_remedy(source.activation, spec)}",
        )
    return None


def check_same_activation(model: FgmClip, source: FgmClip, path: Path) -> None:
    """Refuse to begin with a checkpoint whose encoders compute with the other activation.

    Args:
        model: What is to be trained.
        source: The checkpoint's model.
        path: The checkpoint, for errors.

    Raises:
        WeightsError: They do.
    """
    for part in ("image_encoder", "text_encoder"):
        there = used_by(getattr(source, part))
        here = used_by(getattr(model, part))
        if here and len(there) == 1 and not there <= here:
            found = Source(next(iter(there)), f"its {part.replace('_', ' ')} is that of its spec")
            check_activation(path, found, here, model.spec.visual)


def computing_as(source: Source | None, spec: VisualSpec) -> VisualSpec:
    """Return the encoder that computes with what weights were trained with.

    Args:
        source: What they were trained with; None where nothing tells.
        spec: The encoder they are for; returned as it is where open_clip knows no such twin.
    """
    if source is None or spec.architecture.startswith("torchvision:"):
        return spec
    quick = source.activation == "QuickGELU"
    if bool(clip_config(spec).get("quick_gelu")) == quick:
        return spec
    if spec.config is not None:
        return spec.replace(config=spec.config | {"quick_gelu": quick})
    name = _twin(source.activation, spec)
    return spec.replace(architecture=name) if name in open_clip.list_models() else spec


def _twin(activation: Activation, spec: VisualSpec) -> str:
    return spec.architecture.removesuffix(_QUICK) + (_QUICK if activation == "QuickGELU" else "")


def _remedy(activation: Activation, spec: VisualSpec) -> str:
    if spec.config is not None:
        value = "true" if activation == "QuickGELU" else "false"
        return f'set "quick_gelu": {value} in the spec\'s visual.config'
    return f"set the spec's visual.architecture to {_twin(activation, spec)}"


def _settings(content: object, depth: int = 0) -> Iterator[tuple[str, Any]]:
    fields = content.fields if isinstance(content, Bystander) else content
    if not isinstance(fields, Mapping) or depth > _DEEPEST:
        return
    for name, value in fields.items():
        if isinstance(name, str):
            yield name, value
            yield from _settings(value, depth + 1)


def _config_beside(path: Path) -> Source | None:
    beside = path.with_name(_CONFIG)
    if not path.name.startswith("open_clip") or not beside.is_file():
        return None
    try:
        config = json.loads(beside.read_bytes())
    except (OSError, ValueError):
        return None
    model = config.get("model_cfg") if isinstance(config, Mapping) else None
    if not isinstance(model, Mapping):
        return None
    activation: Activation = "QuickGELU" if model.get("quick_gelu") is True else "GELU"
    return Source(activation, f"so says {_CONFIG} beside it")


def _name_of(path: Path) -> Source | None:
    if re.search(r"(quick_?gelu|openai)(?![a-z])", path.stem.lower()):
        return Source("QuickGELU", "its name says so; rename the file if it is wrong")
    # A hub's cache: models--ORG--NAME/snapshots/HASH/FILE.
    for name in (path.name, *(part for part in path.parts if part.startswith("models--"))):
        if activation := _published().get(name):
            return Source(activation, f"open_clip's {name}; rename the file if it is another")
    return None


@cache
def _published() -> dict[str, Activation]:
    """Return the files and hub caches of open_clip's published weights, where the name tells."""
    told: dict[str, set[Activation]] = {}
    for architecture, tag in open_clip.list_pretrained():
        config = open_clip.get_pretrained_cfg(architecture, tag)
        activation: Activation = "QuickGELU" if config.get("quick_gelu") else "GELU"
        repository = config.get("hf_hub", "").rstrip("/")
        for name in (
            config.get("url", "").rpartition("/")[2],
            f"models--{repository.replace('/', '--')}" if repository else "",
        ):
            told.setdefault(name, set()).add(activation)
    return {name: next(iter(kinds)) for name, kinds in told.items() if name and len(kinds) == 1}
