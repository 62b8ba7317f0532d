"""Checkpoints: a spec and its weights in one file.

Written: `NAME.safetensors` with the spec as JSON in its metadata. Read as well: what a training run
saved with `torch.save`, in whatever container it put the weights:

- `{"ema": weights}` and its other names come before `{"state_dict": weights}`, `{"model": ...}` and
  theirs, and keys that begin with `ema.` or `ema_model.` before all others: the averaged weights
  are the ones that a run evaluates. Everything beside the chosen container (optimiser, epoch,
  scheduler) is ignored.
- Wrappers put `module.`, `model.`, `_orig_mod.`, `ema.` and `ema_model.` before a key; they are
  taken off.

Inside the chosen weights nothing is ignored: missing, unexpected and misshapen keys are all listed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from fgmclip.model.build import build_model
from fgmclip.model.errors import NoSpecError, UnreadableError
from fgmclip.model.network import FgmClip
from fgmclip.model.weights import (
    PICKLES,
    SAFETENSORS,
    read_pickle,
    read_safetensors,
    strip_prefixes,
    take_all,
)
from fgmclip.spec import ModelSpec
from fgmclip.storage.atomic import write_bytes
from fgmclip.storage.text import read_text

SPEC_KEY = "fgmclip_spec"
"""Key of the spec's JSON in a checkpoint's metadata."""

_EMA_CONTAINERS = ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict")
_CONTAINERS = ("state_dict", "model_state_dict", "model_state", "model")
_EMA_PREFIXES = ("ema.", "ema_model.")
_PREFIXES = ("module.", "model.", "_orig_mod.", *_EMA_PREFIXES)
# What averaging wrappers count beside the weights.
_BOOKKEEPING = ("n_averaged", "initted", "step")


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


def load_checkpoint(path: Path, *, spec_path: Path | None = None) -> FgmClip:
    """Read a checkpoint.

    Args:
        path: `.safetensors`, or a training run's `.pt`, `.pth`, `.ckpt` or `.bin`.
        spec_path: The spec's JSON. Without it, the spec in the file counts, then `NAME.json`, then
            `spec.json` beside the file.

    Returns:
        The model, in evaluation mode.

    Raises:
        UnreadableError: The file is absent, damaged or of another kind.
        UnsafeError: The file is a pickle that carries code; it was not run.
        NoSpecError: No spec is found.
        WeightsError: Keys are missing, unexpected or misshapen, or values are not finite.
        SpecError: The spec is not valid.
        BuildError: The spec names a network that cannot be built.
    """
    if path.suffix == SAFETENSORS:
        tensors, metadata = read_safetensors(path)
        inside = metadata.get(SPEC_KEY)
    elif path.suffix in PICKLES:
        content = read_pickle(path)
        inside = _spec_inside(content)
        tensors = _training_weights(content, path)
    else:
        raise UnreadableError(
            path, f"expected a checkpoint ending in {', '.join((SAFETENSORS, *PICKLES))}"
        )
    model = build_model(_spec(path, spec_path, inside), seed=0)
    take_all(model, strip_prefixes(tensors, _PREFIXES, path), path, model.spec.name)
    return model


def _spec(path: Path, spec_path: Path | None, inside: str | None) -> ModelSpec:
    beside = [path.with_suffix(".json"), path.with_name("spec.json")]
    if spec_path is None and inside is None:
        spec_path = next((item for item in beside if item.is_file()), None)
        if spec_path is None:
            raise NoSpecError(
                path,
                f"expected a spec in the file, as {beside[0].name} or as spec.json beside it, "
                "found none; write one with ModelSpec.to_json(). Plain CLIP or torchvision weights "
                "are only a part of a model and need training first",
            )
    if spec_path is not None:
        try:
            return ModelSpec.from_json(read_text(spec_path))
        except OSError as error:
            raise NoSpecError(spec_path, f"expected a spec as JSON text, got {error}") from error
    assert inside is not None  # one of the two is there
    return ModelSpec.from_json(inside, stored=True)


def _spec_inside(content: object) -> str | None:
    for key in (SPEC_KEY, "spec"):
        found = content.get(key) if isinstance(content, Mapping) else None
        if isinstance(found, str):
            return found
        if isinstance(found, Mapping):
            return json.dumps(found)
    return None


def _training_weights(content: Any, path: Path) -> dict[str, Tensor]:
    """Return the weights of a training run's file, without what is beside them."""
    weights = content
    for name in (*_EMA_CONTAINERS, *_CONTAINERS):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            weights = content[name]
            # Averaging wrappers put their state dict one level deeper.
            weights = weights.get("module", weights)
            weights = weights.get("state_dict", weights)
            break
    tensors = (
        {key: value for key, value in weights.items() if isinstance(value, Tensor)}
        if isinstance(weights, Mapping)
        else {}
    )
    if not tensors:
        raise UnreadableError(
            path,
            f"expected a state dict, alone or under one of {', '.join(_CONTAINERS)}, found none",
        )
    averaged = {key: value for key, value in tensors.items() if key.startswith(_EMA_PREFIXES)}
    return {
        key: value
        for key, value in (averaged or tensors).items()
        if key.split(".")[-1] not in _BOOKKEEPING
    }
