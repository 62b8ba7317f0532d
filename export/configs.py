"""The skeleton's `config.pbtxt` files, filled in for one spec and one release."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

import fgmclip
from fgmclip.export.names import ENSEMBLES, labels_name, step_name
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.spec import Limits, ModelSpec, PublicManifest
from fgmclip.spec.manifest import MANIFEST_PARAMETER

SKELETON = Path(fgmclip.__file__).parent / "triton_repo"

MOTION_TENSORS = frozenset(
    {"LUMA_U8", "MOTION", "MOTION_FEATURES", "MOTION_HISTORY", "MOTION_WINDOW", "MOTION_NEW"}
)
"""Tensors that a model without motion does not have."""


def read_skeleton(model: str) -> Any:
    """Return the skeleton's config of a model, as Triton's `ModelConfig` message."""
    return parse_config((SKELETON / model / "config.pbtxt").read_text(encoding="utf-8"))


def parse_config(text: str) -> Any:
    """Parse a `config.pbtxt` against Triton's own protobuf."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def format_config(config: Any) -> str:
    """Return the `config.pbtxt` of a message."""
    text: str = text_format.MessageToString(config)
    return text


def tensor_dims(spec: ModelSpec, model: str) -> dict[str, list[int]]:
    """Return the dims of each tensor of a model, batch axis left out where Triton batches.

    Classes stay -1: the class file may be replaced by one with another number of them.
    """
    size, width = spec.visual.image_size, spec.visual.width
    window, embedding = spec.clip.frames, spec.fusion.width
    motion_size = spec.motion.size if spec.motion else 0
    motion_width = spec.motion.width if spec.motion else 0
    dims: dict[str, list[int]] = {
        "LOGITS": [-1, -1],
        "PROBABILITIES": [-1, -1],
        "EMBEDDING_COPY": [-1, embedding],
        "VISUAL_HISTORY": [-1, -1, width],
        "MOTION_HISTORY": [-1, -1, motion_width],
        "VISUAL_NEW": [-1, -1, width],
        "MOTION_NEW": [-1, -1, motion_width],
        "VISUAL_WINDOW": [-1, window, width],
        "MOTION_WINDOW": [-1, window, motion_width],
        "EMBEDDING": [-1, embedding],
        "VISUAL": [-1, width],
        "MOTION_FEATURES": [-1, motion_width],
        "PIXELS_U8": [-1, size, size, 3],
        "LUMA_U8": [-1, 2, motion_size, motion_size],
        "PIXELS": [-1, 3, size, size],
        "MOTION": [-1, 3, motion_size, motion_size],
    }
    if model == "fgm_clip":
        # A fixed first dimension refuses a wrong number of frames before any encoding.
        dims["FRAMES"] = [window + 1, -1, -1, -1]
        dims["ROI"] = [-1, window + 1, 4]
    if model in ("clip_image_encoder", "motion_encoder"):
        dims = {name: value[1:] for name, value in dims.items()}
    if model == "fusion_head":
        dims |= {
            "VISUAL": [window, width],
            "MOTION_FEATURES": [window, motion_width],
            "EMBEDDING": [embedding],
        }
    return dims


def model_config(model: str, spec: ModelSpec, release: int, parameters: Mapping[str, str]) -> Any:
    """Return the config of one model of a release.

    Args:
        model: Name in the skeleton, for example `window`.
        spec: The model's spec.
        release: Number of the release.
        parameters: What goes into the config's `parameters`.
    """
    config = read_skeleton(model)
    if spec.motion is None:
        _drop_motion(config)
    dims = tensor_dims(spec, model)
    for tensor in [*config.input, *config.output]:
        if tensor.name in dims:
            del tensor.dims[:]
            tensor.dims.extend(dims[tensor.name])
    for key, value in parameters.items():
        config.parameters[key].string_value = value
    if model in ENSEMBLES:
        for tensor in config.output:
            if tensor.label_filename:
                tensor.label_filename = labels_name(release)
        for step in config.ensemble_scheduling.step:
            step.model_name = step_name(step.model_name, release)
    else:
        config.name = step_name(model, release)
    return config


def preprocess_parameters(spec: ModelSpec, limits: Limits) -> dict[str, str]:
    """Return the parameters of the `preprocess` and `preprocess_edge` steps."""
    return {
        "preprocess": json.dumps(asdict(PreprocessParameters.from_spec(spec))),
        "limits": json.dumps(limits.model_dump() | {"window": spec.clip.frames}),
    }


def window_parameters(manifest: PublicManifest) -> dict[str, str]:
    """Return the parameters of the `window` step."""
    return {
        "window": str(manifest.spec.clip.frames),
        "max_tracks": str(manifest.limits.max_tracks),
        "embedding_tag": manifest.embedding_tag,
    }


def ensemble_parameters(manifest: PublicManifest) -> dict[str, str]:
    """Return the parameters of a public ensemble."""
    return {MANIFEST_PARAMETER: manifest.model_dump_json()}


def _drop_motion(config: Any) -> None:
    for tensors in (config.input, config.output):
        _keep(tensors, (item for item in tensors if item.name not in MOTION_TENSORS))
    steps = config.ensemble_scheduling.step
    _keep(steps, (step for step in steps if step.model_name != "motion_encoder"))
    for step in steps:
        for mapping in (step.input_map, step.output_map):
            for name in MOTION_TENSORS.intersection(mapping):
                del mapping[name]


def _keep(field: Any, items: Iterable[Any]) -> None:
    kept = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(kept)
