"""The tensors of a TorchScript archive, as OpenAI publishes CLIP, without loading its code.

Such an archive is a zip of code (left alone), of bytes of tensors, and of a pickle of the module
that holds them. The pickle may ask for nothing but what stands here.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgmclip.model.bystanders import Bystander

_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Module(Bystander):
    """A module of the archive: its tensors and modules are its fields."""


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: object) -> Tensor:
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _list(items: list[Any], *_: object) -> list[Any]:
    return items


_KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    **{
        f"torch.jit._pickle.{name}": _list
        for name in ("build_intlist", "build_tensorlist", "build_doublelist", "build_boollist",
                     "restore_type_tag")
    },
}  # fmt: skip


class _Unpickler(pickle.Unpickler):
    """Makes tensors and modules, and calls nothing but the functions of `_KNOWN`."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        if known := _KNOWN.get(f"{module}.{name}"):
            return known
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"expected a storage, got {kind}")
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._root}data/{key}"))
            self._storages[key] = (
                torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a module in a TorchScript archive, by their names in it.

    Raises:
        pickle.UnpicklingError: It asks for anything else than tensors and modules.
        Exception: It is damaged, in one of many ways.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        module = _Unpickler(archive, root.removesuffix("data.pkl")).load()
    return dict(_named(module, "", set()))


def _named(module: object, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, _Module) or id(module) in seen:
        return
    for name, value in module.fields.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        else:
            yield from _named(value, f"{prefix}{name}.", seen | {id(module)})
