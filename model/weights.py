"""Tensors out of files, and into modules: nothing runs, nothing is skipped silently."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from fgmclip.model.errors import UnreadableError, UnsafeError, WeightsError

SAFETENSORS = ".safetensors"
PICKLES = (".pt", ".pth", ".ckpt", ".bin")

_DAMAGE = (OSError, EOFError, ValueError, LookupError, struct.error)
"""What the restricted unpickler raises over bytes that are no pickle, whatever they begin with."""

# How torch's restricted unpickler says that a file wants an object which is no tensor.
_REFUSED_OBJECTS = ("GLOBAL ", "Can only ", "unrecognized function", "must be imported")


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and metadata of a safetensors file.

    Raises:
        UnreadableError: The file is absent, cut off or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UnreadableError(
            path, f"expected a safetensors file, got one that cannot be read ({error})"
        ) from error


def read_pickle(path: Path) -> Any:
    """Return what `torch.save` wrote, with nothing but tensors and plain containers in it.

    Raises:
        UnsafeError: The file asks for anything else; it was not run.
        UnreadableError: The file is absent, cut off, damaged, or a TorchScript archive.
    """
    try:
        with warnings.catch_warnings():
            # torch tells of TorchScript archives and old storages by warnings; errors say it below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if any(words in str(error) for words in _REFUSED_OBJECTS):
            raise UnsafeError(
                path,
                f"expected tensors alone, got a pickle that carries code or objects "
                f"({_asked_for(error)}); it was not run. Save only the state dict, best as "
                "safetensors",
            ) from error
        raise UnreadableError(
            path, f"expected a file of torch.save, got another or a damaged one ({_line(error)})"
        ) from error
    except (*_DAMAGE, RuntimeError, AttributeError) as error:
        if "TorchScript" in str(error):
            raise UnreadableError(
                path,
                "expected a state dict, got a TorchScript archive (OpenAI publishes CLIP so), "
                "which carries code; on a machine that trusts it save "
                "torch.jit.load(FILE, map_location='cpu').state_dict() with torch.save",
            ) from error
        raise UnreadableError(
            path,
            "expected a file of torch.save, got one that is absent, cut off or damaged "
            f"({_line(error)})",
        ) from error


def strip_prefixes(
    tensors: Mapping[str, Tensor], prefixes: tuple[str, ...], path: Path
) -> dict[str, Tensor]:
    """Return tensors without the prefixes that wrappers put before their keys.

    Raises:
        WeightsError: Two keys become one.
    """
    stripped: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = key
        while found := next((item for item in prefixes if name.startswith(item)), None):
            name = name.removeprefix(found)
        if name in stripped:
            raise WeightsError(path, f"expected one tensor called {name}, got two; keep one")
        stripped[name] = value
    return stripped


def take_all(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, what: str) -> None:
    """Copy exactly the tensors of a module into it.

    Args:
        module: Changed in place, unless the tensors are refused.
        tensors: All of the module's, and no other.
        path: Where they came from, for errors.
        what: What the module is called in errors.

    Raises:
        WeightsError: Lists every missing, unexpected and misshapen key, or those not finite.
    """
    expected = module.state_dict()
    problems = [
        ("missing", [key for key in expected if key not in tensors]),
        ("unexpected", [key for key in tensors if key not in expected]),
        ("misshapen", _misshapen(expected, tensors)),
    ]
    if any(keys for _, keys in problems):
        told = "; ".join(
            f"{len(keys)} {fate}: {', '.join(keys)}" for fate, keys in problems if keys
        )
        raise WeightsError(path, f"expected exactly the weights of {what}; {told}")
    broken = [
        key for key, value in tensors.items()
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]  # fmt: skip
    if broken:
        raise WeightsError(path, f"expected finite weights, got NaN or Inf in {', '.join(broken)}")
    module.load_state_dict(dict(tensors))


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


def _asked_for(error: Exception) -> str:
    """Return the name that a refused pickle wanted, out of torch's long message."""
    words = str(error).replace("`", " ").split()
    if "GLOBAL" in words[:-1]:
        return f"it asks for {words[words.index('GLOBAL') + 1]}"
    return _line(error)


def _line(error: Exception) -> str:
    # torch puts a page of advice around the cause.
    cause = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    text = " ".join(cause.split()) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
