"""Checkpoints: a spec and its weights in one file.

Written: `NAME.safetensors` with the spec as JSON in its metadata. Read as well: what a training run
saved with `torch.save`, in whatever container it put the weights, and shards with an index.
`containers` holds the rule of what is taken; inside the chosen weights nothing is ignored: missing,
unexpected and misshapen keys are told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors.torch import save

from fgmclip.model.activation import check_activation, settings_of, used_by
from fgmclip.model.build import build_model
from fgmclip.model.errors import NoSpecError, UnreadableError
from fgmclip.model.network import FgmClip
from fgmclip.model.weight_files import INDEX, SAFETENSORS
from fgmclip.model.weights import read_weights, state_for
from fgmclip.spec import ModelSpec, SpecError
from fgmclip.storage.atomic import write_bytes
from fgmclip.storage.text import read_text

SPEC_KEY = "fgmclip_spec"
"""Key of the spec's JSON in a checkpoint's metadata."""


def save_checkpoint(model: FgmClip, path: Path) -> None:
    """Write a model's weights and spec; a reader sees the whole file or the one before it.

    Args:
        model: What to write.
        path: `NAME.safetensors`.

    Raises:
        UnreadableError: The name does not end in `.safetensors`.
        OSError: It cannot be written; what was there stays.
    """
    if path.suffix != SAFETENSORS:
        raise UnreadableError(path, "expected a name that ends in .safetensors to write to")
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    # Not by the library's own writer: a full disk is an error of its own there, without a name.
    write_bytes(path, save(tensors, metadata={"format": "pt", SPEC_KEY: model.spec.to_json()}))


def load_checkpoint(
    path: Path, *, spec_path: Path | None = None, say: Callable[[str], None] | None = None
) -> FgmClip:
    """Read a checkpoint.

    Args:
        path: `.safetensors`, the index of several of them, or a training run's `.pt`, `.pth`,
            `.ckpt` or `.bin`.
        spec_path: The spec's JSON. Without it, the spec in the file counts, then `NAME.json`, then
            `spec.json` beside the file.
        say: Receives a line for the user: which of the file's weights were taken.

    Returns:
        The model, in evaluation mode.

    Raises:
        UnreadableError: The file is absent, damaged or of another kind.
        UnsafeError: The file is a pickle that carries code; it was not run.
        NoSpecError: No spec is found.
        WeightsError: Keys are missing, unexpected or misshapen, values are not finite, or the
            weights were trained with another activation than the spec's.
        SpecError: The spec is not valid.
        BuildError: The spec names a network that cannot be built.
    """
    weights = read_weights(path)
    inside = weights.metadata.get(SPEC_KEY) or _spec_inside(weights.content)
    model = build_model(_spec(path, spec_path, inside), seed=0)
    if source := settings_of(weights):
        used = used_by(model.image_encoder, model.text_encoder)
        check_activation(path, source, used, model.spec.visual)
    name, size = model.spec.name, model.spec.visual.image_size
    model.load_state_dict(state_for(model, weights, name, image_size=size))
    if say is not None:
        say(weights.told(len(weights.tensors)))
    return model


def _spec(path: Path, spec_path: Path | None, inside: str | None) -> ModelSpec:
    # An index is a `.json` itself.
    name = path.name.removesuffix(INDEX) if path.name.endswith(INDEX) else path.stem
    beside = [path.with_name(f"{name}.json"), path.with_name("spec.json")]
    if spec_path is None and inside is None:
        spec_path = next((item for item in beside if item.is_file()), None)
        if spec_path is None:
            raise NoSpecError(
                path,
                f"expected a spec in the file, as {beside[0].name} or as spec.json beside it, "
                "found none; write one with ModelSpec.to_json(). Plain CLIP or torchvision weights "
                "are only a part of a model and need training first",
            )
    try:
        if spec_path is not None:
            return ModelSpec.from_json(read_text(spec_path))
        return ModelSpec.from_json(inside or "", stored=True)
    except OSError as error:
        raise NoSpecError(spec_path or path, f"expected a spec as JSON text: {error}") from error
    except SpecError as error:
        raise SpecError(f"{spec_path or path}: {error}") from error


def _spec_inside(content: object) -> str | None:
    for key in (SPEC_KEY, "spec"):
        found = content.get(key) if isinstance(content, Mapping) else None
        if isinstance(found, str):
            return found
        if isinstance(found, Mapping):
            return json.dumps(found)
    return None
