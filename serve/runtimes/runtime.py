"""The interface of an engine runtime, and how one is opened by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray


class Runtime(Protocol):
    """A loaded engine: named arrays in, named arrays out."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the engine; axis 0 of every input and output is the batch."""


def open_runtime(name: str, engine: Path) -> Runtime:
    """Load `engine` with the runtime called `name`.

    Imports happen here, so that a server needs only the runtime that its release names.

    Args:
        name: `onnxruntime`.
        engine: The engine's file.

    Raises:
        ValueError: No runtime has that name.
    """
    if name == "onnxruntime":
        from fgmclip.serve.runtimes.onnxruntime_cpu import OnnxRuntime

        return OnnxRuntime(engine)
    raise ValueError(f"runtime: expected onnxruntime, got {name!r}; export the release again")
