"""`Candidate`: one way to serve a submodule, before the gate has judged it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

Rung = Literal["fp32", "fp16", "bf16", "int8"]

RUNGS: tuple[Rung, ...] = get_args(Rung)
"""The ladder, lowest first; a CPU has no fp16."""

Precision = Literal["fp32", "fp16", "bf16", "int8", "auto"]
"""What a user asks for: a rung for every submodule, or for each the fastest that passes."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to serve a submodule.

    Attributes:
        rung: Of the ladder.
        runtime: As `fgmclip.serve.runtimes.open_runtime` knows it.
        graph: The `.onnx` file.
        options: Of the runtime.
        kept: Nodes that stayed in higher precision because they could not bear this one.
        emulation: For a candidate that runs on a GPU: a graph that rounds on this CPU as the GPU
            will. Such a candidate is judged by its answers alone; where it runs it is timed.
    """

    rung: Rung
    runtime: str
    graph: Path
    options: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    emulation: Path | None = None

    @property
    def title(self) -> str:
        """Rung, runtime and options in words, for example `int8 in openvino bf16`."""
        return " ".join((self.rung, "in", self.runtime, *self.options.values()))
