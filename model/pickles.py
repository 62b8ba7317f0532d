"""What torch saved, without running any of it."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from fgmclip.model.bystanders import STANDINS
from fgmclip.model.errors import UnreadableError, UnsafeError
from fgmclip.model.torchscript import read_torchscript

# How torch's restricted unpickler says that a file wants an object which is no tensor.
_REFUSED_OBJECTS = ("GLOBAL ", "Can only ", "unrecognized function", "must be imported")


def read_pickle(path: Path) -> Any:
    """Return what torch saved: tensors, plain containers, and `bystanders` for the rest.

    Raises:
        UnsafeError: The file asks for anything else; it was not run.
        UnreadableError: The file is absent, cut off or damaged.
    """
    try:
        # torch.load leaves TorchScript archives to torch.jit.load, which loads their code.
        return read_torchscript(path) if _is_torchscript(path) else _load(path)
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
    except Exception as error:
        # Bytes that are no pickle make the unpickler stumble in many ways.
        raise UnreadableError(
            path,
            "expected a file of torch.save, got one that is absent, cut off or damaged "
            f"({_line(error)})",
        ) from error


def _load(path: Path) -> Any:
    with warnings.catch_warnings(), torch.serialization.safe_globals(STANDINS):
        # torch tells of old storages by warnings.
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


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
