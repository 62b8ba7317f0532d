"""Weights out of files, and into modules: nothing runs, nothing is skipped silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fgmclip.model.containers import choose
from fgmclip.model.errors import WeightsError
from fgmclip.model.positions import position_hint
from fgmclip.model.weight_files import read_content
from fgmclip.spec.errors import listed

# Types of one byte that hold single values; torch hardly computes with them.
_FP8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, *_FP8)


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of a file.

    Attributes:
        path: The file.
        tensors: By key, without the names of wrappers.
        container: Where in the file they were, for example `` `ema` ``.
        notes: What has to be said about how they were read, a clause each.
        content: All that the file holds.
        metadata: Of a safetensors file.
    """

    path: Path
    tensors: dict[str, Tensor]
    container: str
    notes: tuple[str, ...]
    content: Any
    metadata: dict[str, str]

    def told(self, count: int, *notes: str) -> str:
        """Return the line for the user: how many tensors were taken of which container."""
        taken = f"took {count} tensors of {self.container}"
        return f"{self.path}: {'; '.join((taken, *self.notes, *notes))}"


def read_weights(path: Path) -> Weights:
    """Read the weights of a file, by the one rule of `containers`.

    Args:
        path: `.safetensors`, the index of several of them, or a file of `torch.save`.

    Raises:
        UnreadableError: The file is absent, damaged, of another kind, or holds no weights.
        UnsafeError: It is a pickle that carries code; it was not run.
        WeightsError: Two keys become one, or tensors are of a kind that holds no plain numbers.
    """
    content, metadata = read_content(path)
    chosen = choose(content, path)
    _refuse_kinds(chosen.tensors, path)
    small = Counter(
        str(value.dtype).removeprefix("torch.")
        for value in chosen.tensors.values()
        if value.dtype in _FP8
    )
    return Weights(
        path,
        {
            key: value.detach().float() if value.dtype in _FP8 else value.detach()
            for key, value in chosen.tensors.items()
        },
        f"{chosen.name}, averaged weights" if chosen.averaged else chosen.name,
        (
            *chosen.notes,
            *(f"{count} of them were {name}, now float32" for name, count in small.items()),
        ),
        content,
        metadata,
    )


def state_for(
    module: nn.Module,
    weights: Weights,
    what: str,
    *,
    tensors: Mapping[str, Tensor] | None = None,
    image_size: int | None = None,
) -> dict[str, Tensor]:
    """Return the state that gives a module exactly the tensors of a file.

    Args:
        module: Left as it is.
        weights: What was read.
        what: What the module is called in errors.
        tensors: All of the module's, and no other; all that was read if absent.
        image_size: S that the module is built for, in pixels; tells of positions for another.

    Raises:
        WeightsError: Lists missing, unexpected and misshapen keys, or those not finite.
    """
    came = weights.tensors if tensors is None else tensors
    expected = module.state_dict()
    problems = [
        ("missing", [key for key in expected if key not in came]),
        ("unexpected", [key for key in came if key not in expected]),
        ("misshapen", _misshapen(expected, came)),
    ]
    if any(keys for _, keys in problems):
        told = [f"{len(keys)} {fate}: {listed(keys)}" for fate, keys in problems if keys]
        hint = position_hint(expected, came, image_size)
        raise WeightsError(
            weights.path,
            f"expected exactly the weights of {what}, got {len(came)} tensors of "
            f"{weights.container}; "
            + "; ".join((*told, *([hint] if hint else ()), *weights.notes)),
        )
    state = {key: value.to(expected[key].dtype) for key, value in came.items()}
    broken = [
        key
        for key, value in state.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if broken:
        raise WeightsError(
            weights.path,
            f"expected weights that are finite in {expected[broken[0]].dtype}, got NaN or Inf in "
            f"{listed(broken)}; take an earlier checkpoint",
        )
    return state


def _misshapen(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> list[str]:
    told = []
    for key, value in expected.items():
        came = tensors.get(key)
        if came is None:
            continue
        if came.shape != value.shape:
            told.append(f"{key} (expected {list(value.shape)}, got {list(came.shape)})")
        elif came.is_floating_point() != value.is_floating_point():
            told.append(f"{key} (expected {value.dtype}, got {came.dtype})")
    return told


def _refuse_kinds(tensors: Mapping[str, Tensor], path: Path) -> None:
    strange: dict[str, list[str]] = {}
    for key, value in tensors.items():
        if kind := _strange(value):
            strange.setdefault(kind, []).append(key)
    if strange:
        told = "; ".join(f"{kind}: {listed(keys)}" for kind, keys in strange.items())
        raise WeightsError(
            path,
            f"expected plain tensors of numbers, got {told}; save them as float32, float16 or "
            "bfloat16",
        )


def _strange(value: Tensor) -> str | None:
    """Return what keeps a tensor from being plain numbers; None if nothing does."""
    if value.is_nested:
        return "nested"
    if value.device.type == "meta":
        return "without values (on the meta device)"
    if value.layout != torch.strided:
        return str(value.layout).removeprefix("torch.")
    if value.is_quantized:
        return f"quantized ({str(value.dtype).removeprefix('torch.')})"
    integers = not value.is_floating_point() and not value.is_complex()
    return None if integers or value.dtype in _FLOATS else str(value.dtype).removeprefix("torch.")
