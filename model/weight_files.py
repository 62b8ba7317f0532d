"""Files of weights: which kind they are, and what they hold."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from fgmclip.model.errors import UnreadableError
from fgmclip.model.pickles import read_pickle
from fgmclip.spec.errors import listed

SAFETENSORS = ".safetensors"
INDEX = ".safetensors.index.json"
"""End of the name of a list of shards."""
PICKLES = (".pt", ".pth", ".ckpt", ".bin")

_SHARD = re.compile(r"-\d+-of-0*(?P<all>\d+)$")
_LFS = b"version https://git-lfs"
_ZIP = b"PK\x03\x04"


def read_content(path: Path) -> tuple[Any, dict[str, str]]:
    """Return what a file of weights holds, and a safetensors file's metadata.

    Args:
        path: `.safetensors`, the index of several of them, or a file of `torch.save`.

    Raises:
        UnreadableError: The file is absent, damaged, or of another kind.
        UnsafeError: It is a pickle that carries code; it was not run.
    """
    _refuse_others(path)
    if path.name.endswith(INDEX):
        return _read_shards(path)
    return _read_safetensors(path) if path.suffix == SAFETENSORS else (read_pickle(path), {})


def _refuse_others(path: Path) -> None:
    """Refuse what is no file of weights, by what people really have under such names."""
    if path.is_dir():
        inside = sorted(item.name for item in path.iterdir() if _named_as_weights(item))
        told = f"; in it are {listed(inside)}" if inside else ""
        raise UnreadableError(path, f"expected a file of weights, got a folder; name a file{told}")
    if not _named_as_weights(path):
        raise UnreadableError(
            path,
            f"expected a checkpoint ending in {', '.join((SAFETENSORS, INDEX, *PICKLES))}",
        )
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise UnreadableError(
            path, f"expected a file of weights, got none that can be read ({error.strerror})"
        ) from error
    if head.startswith(_LFS):
        raise UnreadableError(
            path, "expected weights, got a pointer of Git LFS; fetch the file with `git lfs pull`"
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UnreadableError(
            path, "expected weights, got a web page; the download failed, repeat it"
        )
    # Eight bytes of length, then JSON.
    safetensors = head[8:9] == b"{" and not head.startswith(_ZIP)
    if path.suffix in PICKLES and safetensors:
        raise UnreadableError(
            path, f"expected a file of torch.save, got safetensors; rename it to *{SAFETENSORS}"
        )
    if path.suffix == SAFETENSORS and head.startswith(_ZIP):
        raise UnreadableError(
            path, "expected safetensors, got a zip archive as torch.save writes; rename it to *.pt"
        )


def _named_as_weights(path: Path) -> bool:
    return path.suffix in (SAFETENSORS, *PICKLES) or path.name.endswith(INDEX)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    shard = _SHARD.search(path.stem)
    if shard and int(shard["all"]) > 1:
        name = f"{path.stem[: shard.start()]}{INDEX}"
        raise UnreadableError(
            path,
            f"expected a whole file, got one of {int(shard['all'])} shards; give their index, "
            f"{name}",
        )
    return _read_one(path)


def _read_one(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise UnreadableError(
            path, f"expected a safetensors file, got one that cannot be read ({error})"
        ) from error


def _read_shards(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        index = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableError(
            path, f"expected an index as JSON, got one that cannot be read ({error})"
        ) from error
    places = index.get("weight_map") if isinstance(index, Mapping) else None
    # A shard lies beside its index and nowhere else.
    if not isinstance(places, Mapping) or not all(
        isinstance(name, str) and Path(name).name == name and name.endswith(SAFETENSORS)
        for name in places.values()
    ):
        raise UnreadableError(
            path, f"expected weight_map with the {SAFETENSORS} file beside it of each key"
        )
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for name in sorted(set(places.values())):
        held, told = _read_one(path.with_name(name))
        tensors |= held
        metadata |= told
    if absent := [key for key in places if key not in tensors]:
        raise UnreadableError(
            path, f"expected all keys in its shards, not in any: {listed(absent)}"
        )
    return tensors, metadata
