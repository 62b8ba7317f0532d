"""Stand-ins for what training runs save beside their weights, so that none of it has to run.

torch's restricted unpickler refuses every name that is not on its list. These names, and no others,
are added: each leads to a class of this module that keeps plain data and calls nothing. numpy's own
functions are not among them: an array's bytes are read here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NUMBERS = frozenset(
    ("b1", "f2", "f4", "f8", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)))
)


class Bystander:
    """An object beside the weights.

    Attributes:
        fields: What it was set to, where that is a mapping.
    """

    def __init__(self, *arguments: object) -> None:
        """Take any arguments and keep none."""
        self.fields: Mapping[Any, Any] = {}

    def __setstate__(self, state: object) -> None:
        """Keep a mapping."""
        self.fields = state if isinstance(state, Mapping) else {}


class DType:
    """A numpy type, by name and byte order."""

    def __init__(self, name: object = None, *arguments: object) -> None:
        """Keep the name, `f4` for one."""
        self.name = name if isinstance(name, str) else ""
        self.order = ""

    def __setstate__(self, state: object) -> None:
        """Keep the byte order out of numpy's state (version, order, ...)."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else ""
        self.order = order if order in ("<", ">", "|", "=") else ""


class Array:
    """A numpy array: type, shape and bytes."""

    def __init__(self, *arguments: object) -> None:
        """Build one without values."""
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: object) -> None:
        """Keep numpy's state (version, shape, type, Fortran order, bytes)."""
        self.state = state if isinstance(state, tuple) else ()

    def tensor(self) -> Tensor | None:
        """Return its numbers; None if it holds other things or contradicts itself."""
        if len(self.state) != 5:
            return None
        _, shape, dtype, fortran, data = self.state
        if not isinstance(dtype, DType) or dtype.name not in _NUMBERS or type(data) is not bytes:
            return None
        try:
            flat = np.frombuffer(data, np.dtype(dtype.order + dtype.name))
            shaped = flat.reshape(shape, order="F" if fortran else "C")
            return torch.from_numpy(shaped.astype(shaped.dtype.newbyteorder("="), order="C"))
        except (TypeError, ValueError):
            return None


def _mapping(*factory: object) -> OrderedDict[Any, Any]:
    return OrderedDict()


def _under(folders: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{folder}.{name}" for folder in folders for name in names)


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")

_STANDINS: dict[Callable[..., Any], tuple[str, ...]] = {
    Array: ("numpy.ndarray", *_under(_NUMPY, ("_reconstruct",))),
    DType: ("numpy.dtype",),
    _mapping: ("collections.defaultdict",),
    # Subclasses of dict are made without a call and filled key by key.
    OrderedDict: (
        "lightning_fabric.utilities.data.AttributeDict",
        "lightning.fabric.utilities.data.AttributeDict",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    ),
    Bystander: (
        *_under(_NUMPY, ("scalar",)),
        *_under(("pathlib", "pathlib._local"), _PATHS),
        *_under(("builtins",), ("dict", "float", "int", "list", "str")),
        *_under(("datetime",), ("date", "datetime", "timedelta")),
        "argparse.Namespace",
        "types.SimpleNamespace",
        "mmengine.logging.history_buffer.HistoryBuffer",
    ),
}

STANDINS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (standin, name) for standin, names in _STANDINS.items() for name in names
]
"""As `torch.serialization.safe_globals` takes them: what is made, and the name that asks for it."""
