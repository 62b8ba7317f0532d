"""The interface of an engine runtime, and how one is opened by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

OPTIONS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("threads",),
    "openvino": ("precision", "threads", "streams"),
    "rtx": ("recipe",),
}
"""What each runtime can be told, beside its engine's file."""


class Runtime(Protocol):
    """A loaded engine: named arrays in, named arrays out."""

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the engine; axis 0 of every input and output is the batch."""


def open_runtime(
    name: str, engine: Path, options: Mapping[str, str] | None = None, *, gpu: int | None = None
) -> Runtime:
    """Load `engine` with the runtime called `name`.

    Imports happen here, so that a server needs only the runtime that its release names.

    Args:
        name: `onnxruntime`, `openvino`, or `rtx`: the engine of a graph that was proven on this
            machine, else ONNX Runtime.
        engine: The engine's file; for `rtx` the graph.
        options: `threads` for both CPU runtimes, `precision` and `streams` for `openvino`,
            `recipe` for `rtx`, a file beside the graph; see `OPTIONS`.
        gpu: Number of the GPU for `rtx`, as CUDA counts; None without one.

    Raises:
        ValueError: No runtime has that name, or it knows no such option or value.
    """
    options = dict(options or {})
    if name not in OPTIONS:
        raise ValueError(
            f"runtime: expected {' or '.join(OPTIONS)}, got {name!r}; export the release again"
        )
    unknown = sorted(set(options) - set(OPTIONS[name]))
    if unknown:
        known = " or ".join(OPTIONS[name]) or "no options"
        raise ValueError(
            f"options of {name}: expected {known}, got {', '.join(unknown)}; export the release "
            "again"
        )
    if name == "rtx":
        from fgmclip.serve.runtimes.proven import open_proven
        from fgmclip.serve.runtimes.recipe import RECIPE_FILE

        return open_proven(engine, engine.with_name(options.get("recipe", RECIPE_FILE)), gpu)
    if name == "openvino":
        from fgmclip.serve.runtimes.openvino_cpu import OpenVinoRuntime

        return OpenVinoRuntime(engine, **options)
    from fgmclip.serve.runtimes.onnxruntime_cpu import OnnxRuntime

    return OnnxRuntime(engine, **options)
