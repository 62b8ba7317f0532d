"""What `torch.save` wrote, without running any of it."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from fgmclip.model.bystanders import STANDINS
from fgmclip.model.errors import UnreadableError, UnsafeError

# How torch's restricted unpickler says that a file wants an object which is no tensor.
_REFUSED_OBJECTS = ("GLOBAL ", "Can only ", "unrecognized function", "must be imported")


def read_pickle(path: Path) -> Any:
    """Return what `torch.save` wrote: tensors, plain containers, and `bystanders` for the rest.

    Raises:
        UnsafeError: The file asks for anything else; it was not run.
        UnreadableError: The file is absent, cut off, damaged, or a TorchScript archive.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(STANDINS):
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
    except Exception as error:
        # Bytes that are no pickle make the unpickler stumble in many ways.
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
