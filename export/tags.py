"""Tags: which histories may be mixed, and which answers are the same model's."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from torch import nn

from fgmclip.export.manifest import short_hash
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.model.network import FgmClip


def embedding_tag(model: FgmClip, precision: str) -> str:
    """Return a hash of all that decides VISUAL and MOTION_FEATURES.

    Encoder weights, the networks that they belong to (ViT-B-32 and its QuickGELU have the same
    tensors), the definition of pixels and motion, the distance between samples, and the precision
    rung: histories mix only within one tag.
    """
    spec = model.spec
    networks = [None if part is None else part.to_json() for part in (spec.visual, spec.motion)]
    definition = asdict(PreprocessParameters.from_spec(spec))
    return short_hash(
        [
            ("encoders", _weights([model.image_encoder, model.motion_encoder])),
            ("networks", json.dumps(networks)),
            ("definition", json.dumps(definition, sort_keys=True)),
            ("dt", repr(spec.clip.dt)),
            ("precision", precision),
        ]
    )


def model_tag(model: FgmClip, precision: str) -> str:
    """Return a hash of all that decides an answer: every weight, the spec and the precision."""
    return short_hash(
        [
            ("weights", _weights([model])),
            ("spec", model.spec.to_json()),
            ("precision", precision),
        ]
    )


def _weights(modules: Iterable[nn.Module | None]) -> bytes:
    parts: list[tuple[str, bytes]] = []
    for module in modules:
        if module is not None:
            for name, tensor in sorted(module.state_dict().items()):
                parts.append((f"{name}{list(tensor.shape)}", tensor.numpy().tobytes()))
    return short_hash(parts).encode()
