"""Quantised graphs against each other: how close to PyTorch, how fast, and what TensorRT says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.table import Table

from fgmclip.bench.quantizer_lineup import OWN, Quantized
from fgmclip.bench.racing import Timing, race
from fgmclip.export.gate import Likeness, likeness
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording
from fgmclip.export.tensorrt.builder import BuildOptions, build_engine
from fgmclip.export.tensorrt.errors import EngineBuildError, GraphRefusedError
from fgmclip.export.tensorrt.library import load_library
from fgmclip.serve.runtimes import Runtime, open_runtime

FP32 = "fp32"
"""What the quantised graphs are held against: the graph as exported."""

RUNTIMES: dict[str, tuple[str, dict[str, str]]] = {
    "OpenVINO f32": ("openvino", {"precision": "f32"}),
    "OpenVINO bf16": ("openvino", {"precision": "bf16"}),
    "ONNX Runtime": ("onnxruntime", {}),
}
"""Runtime and options of each; f32 and bf16 are what all that is not int8 computes in."""

SM = 80
"""Compute capability that engines are built for."""

MAX_BATCH = 16
"""Largest batch of those engines."""

BUILDS, NO_GRAPH = "builds", "no ONNX graph"
"""What TensorRT makes of a graph, where it does not refuse it."""

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One graph in one runtime.

    Attributes:
        part: The submodule.
        quantizer: Who made the graph.
        runtime: One of `RUNTIMES`.
        like: How far it is from PyTorch.
        window: Time of a batch of T.
        single: Time of a batch of 1.
        fault: Why it does not run; the fields above are None then.
    """

    part: str
    quantizer: str
    runtime: str
    like: Likeness | None = None
    window: Timing | None = None
    single: Timing | None = None
    fault: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all fields that have a value."""
        figures: dict[str, Any] = {
            "part": self.part,
            "quantizer": self.quantizer,
            "runtime": self.runtime,
        }
        if self.like is not None:
            figures |= {
                "finite": self.like.finite,
                "max_abs": self.like.max_abs,
                "cosine": self.like.cosine,
                "identity": self.like.identity,
            }
        for name, timing in (("window", self.window), ("single", self.single)):
            if timing is not None:
                figures[name] = timing.to_json()
        return figures | ({"fault": self.fault} if self.fault else {})


@dataclass(frozen=True, slots=True)
class Made:
    """A graph, whatever runs it.

    Attributes:
        part: The submodule.
        quantizer: Who made it.
        size: Bytes.
        seconds: Time that making it took.
        tensorrt: What TensorRT for RTX said: `builds`, or why not.
        fault: Why there is no graph; empty if there is one.
    """

    part: str
    quantizer: str
    size: int
    seconds: float
    tensorrt: str
    fault: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all fields."""
        return {name: getattr(self, name) for name in self.__slots__}


def race_graphs(
    part: Part,
    graphs: Sequence[Quantized],
    judged: Recording,
    *,
    rounds: int,
    report: Report,
) -> list[Row]:
    """Judge every graph in every runtime, then let all of them take turns.

    Args:
        part: The submodule.
        graphs: Its graphs, the fp32 one among them.
        judged: PyTorch on clips that no graph was calibrated on.
        rounds: Turns of each at batch T; batch 1 gets three times as many.
        report: Called with what is done next.
    """
    batches = judged.batches(part)
    engines: dict[tuple[str, str], Runtime] = {}
    likes: dict[tuple[str, str], Likeness] = {}
    faults: dict[tuple[str, str], str] = {}
    for graph in graphs:
        if graph.file is None:
            continue
        for name, (runtime, options) in RUNTIMES.items():
            if runtime == "onnxruntime" and graph.file.suffix != ".onnx":
                continue
            key = (graph.quantizer, name)
            report(f"{part}: {graph.quantizer} in {name}")
            try:
                engine = open_runtime(runtime, graph.file, options)
                came = np.concatenate([_output(engine, batch) for batch in batches])
            # Each runtime has errors of its own, and a graph that it refuses is a result.
            except Exception as error:
                faults[key] = _line(error)
                continue
            engines[key] = engine
            likes[key] = likeness(judged.outputs[part], came)
    failed = [Row(part, *key, fault=fault) for key, fault in faults.items()]
    if not engines:
        return failed
    report(f"{part}: batch {judged.rows(part)}")
    window = _race(engines, batches[0], rounds=rounds, calls=1)
    report(f"{part}: batch 1")
    one = {name: value[:1] for name, value in batches[0].items()}
    single = _race(engines, one, rounds=3 * rounds, calls=3)
    raced = [Row(part, *key, likes[key], window[str(key)], single[str(key)]) for key in engines]
    return raced + failed


def _race(
    engines: Mapping[tuple[str, str], Runtime],
    inputs: Mapping[str, NDArray[np.float32]],
    *,
    rounds: int,
    calls: int,
) -> dict[str, Timing]:
    competitors: dict[str, Callable[[int], object]] = {
        str(key): lambda number, engine=engine: engine.run(inputs)  # type: ignore[misc]
        for key, engine in engines.items()
    }
    return race(competitors, rounds=rounds, calls=calls, patience=1)


def _output(engine: Runtime, inputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    (output,) = engine.run(inputs).values()
    return output


def try_tensorrt(file: Path | None) -> str:
    """Return `builds` if TensorRT for RTX makes an engine of a graph, else why it does not."""
    if file is None or file.suffix != ".onnx":
        return NO_GRAPH
    options = BuildOptions("int8", max_batch=MAX_BATCH, sms=(SM,))
    try:
        build_engine(load_library("rtx"), onnx.load(file), options)
    except (GraphRefusedError, EngineBuildError) as error:
        return _line(error)
    return BUILDS


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def in_a_word(answer: str) -> str:
    """Return TensorRT's answer, a refusal's long reason cut to what it is about."""
    if answer in (BUILDS, NO_GRAPH):
        return answer
    return "refuses zero points" if "zero point" in answer.lower() else "refuses"


def made(part: str, graph: Quantized, tensorrt: str) -> Made:
    """Return the figures of a graph that no runtime changes."""
    return Made(part, graph.quantizer, graph.size, graph.seconds, tensorrt, graph.fault)


def winner(rows: Sequence[Row], part: str, *, cosine: float, identity: float) -> Row | None:
    """Return the fastest int8 engine at batch T that is close enough to PyTorch, or None.

    Args:
        rows: Of all engines.
        part: The submodule.
        cosine: Least centred cosine.
        identity: Least identity.
    """
    close = [
        row
        for row in rows
        if row.part == part
        and row.quantizer != FP32
        and row.like is not None
        and row.like.cosine >= cosine
        and row.like.identity >= identity
    ]
    return min(close, key=lambda row: row.window.median if row.window else np.inf, default=None)


def quantizer_table(rows: Sequence[Row], graphs: Sequence[Made], model: str) -> Table:
    """Return accuracy, size, time and TensorRT's answer of every graph."""
    table = Table(title=f"{model}: int8 by quantiser", title_justify="left")
    table.add_column("submodule, quantiser", no_wrap=True)
    table.add_column("runtime", no_wrap=True)
    for column in ("centred cosine", "identity", "ms, batch T", "ms, batch 1", "MB"):
        table.add_column(column, justify="right")
    table.add_column("TensorRT for RTX", no_wrap=True)
    for graph in graphs:
        mine = [
            row for row in rows if (row.part, row.quantizer) == (graph.part, graph.quantizer)
        ] or [Row(graph.part, graph.quantizer, "", fault=graph.fault)]
        for row in mine:
            first = row is mine[0]
            like, window, single = row.like, row.window, row.single
            table.add_row(
                f"{row.part}, {row.quantizer}" if first else "",
                row.runtime,
                f"{like.cosine:.4f}" if like else row.fault[:30],
                f"{like.identity:.1%}" if like else "",
                f"{window.median:.1f}" if window else "",
                f"{single.median:.1f}" if single else "",
                f"{graph.size / 1e6:.0f}" if first else "",
                in_a_word(graph.tensorrt) if first else "",
                style="bold" if row.quantizer == OWN else "",
            )
        table.add_section()
    return table
