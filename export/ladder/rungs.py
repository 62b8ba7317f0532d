"""Which candidates a submodule has, rung by rung, on a CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import onnx

from fgmclip.export.gate import Thresholds, likeness
from fgmclip.export.ladder.bf16 import bf16_candidates
from fgmclip.export.ladder.candidate import Candidate, Rung
from fgmclip.export.ladder.fp32 import fp32_candidates
from fgmclip.export.ladder.int8 import calibrate, int8_candidates, quantize
from fgmclip.export.ladder.sensitive import sensitive_nodes
from fgmclip.export.names import Part
from fgmclip.export.recording import Recording
from fgmclip.export.tensorrt.half import emulate_half, to_half
from fgmclip.export.trial import outputs_of
from fgmclip.serve.runtimes import Runtime, open_runtime

Report = Callable[[str], None]

REST: Literal["fp16"] = "fp16"
"""What an int8 engine on a GPU computes in where it does not compute in int8: what GPUs multiply
fastest."""


class Rungs(Protocol):
    """Makes the candidates of a submodule, lowest rung first."""

    def __call__(self, part: Part, graph: Path, rungs: Collection[Rung]) -> Iterator[Candidate]:
        """Yield candidates; a graph of a higher rung is written when its turn comes.

        Args:
            part: The submodule.
            graph: Its fp32 graph.
            rungs: Which rungs are wanted.
        """


@dataclass(frozen=True, slots=True)
class CpuRungs:
    """fp32 and int8 in ONNX Runtime and OpenVINO, bf16 in OpenVINO.

    Attributes:
        calibration: PyTorch on the clips that scales come from.
        thresholds: Of the gate; nodes that would break them stay in higher precision.
        folder: Where graphs of higher rungs are written.
        report: Called with what is done next.
    """

    calibration: Recording
    thresholds: Thresholds
    folder: Path
    report: Report

    def open(self, graph: Path) -> Runtime:
        """Load a graph to see what int8 does to it: in what is fastest there."""
        return open_runtime("openvino", graph, {"precision": "f32"})

    def __call__(self, part: Part, graph: Path, rungs: Collection[Rung]) -> Iterator[Candidate]:
        """Yield candidates; see `Rungs`."""
        if "fp32" in rungs:
            yield from fp32_candidates(graph)
        if "bf16" in rungs:
            yield from bf16_candidates(graph)
        if "int8" in rungs:
            yield from int8_candidates(*int8_graph(self, part, graph))


@dataclass(frozen=True, slots=True)
class GpuRungs:
    """One graph a rung for engines that run elsewhere, with what emulates it on this CPU.

    The int8 graph is the one for CPUs, scales included; the converter for GPUs turns what is not
    quantised in it into half where the engine is built.

    Attributes:
        calibration: As of `CpuRungs`.
        thresholds: As of `CpuRungs`.
        folder: As of `CpuRungs`.
        report: As of `CpuRungs`.
        runtime: What will run the graph.
        converted: Whether the release carries graphs in half; else fp32 ones, which become half
            where the engine is built.
    """

    calibration: Recording
    thresholds: Thresholds
    folder: Path
    report: Report
    runtime: str
    converted: bool

    def open(self, graph: Path) -> Runtime:
        """Load a graph to see what int8 does to it: OpenVINO may be absent where a GPU is."""
        return open_runtime("onnxruntime", graph)

    def __call__(self, part: Part, graph: Path, rungs: Collection[Rung]) -> Iterator[Candidate]:
        """Yield candidates; see `Rungs`."""
        if "fp32" in rungs:
            yield Candidate("fp32", self.runtime, graph, emulation=graph)
        if "fp16" in rungs:
            yield self._half(part, graph, "fp16")
        if "bf16" in rungs:
            yield self._half(part, graph, "bf16")
        if "int8" in rungs:
            path, kept = int8_graph(self, part, graph)
            emulation = self.folder / f"{part}.int8.emulated.onnx"
            onnx.save(emulate_half(onnx.load(path), REST), emulation)
            yield Candidate("int8", self.runtime, path, kept=kept, emulation=emulation)

    def _half(self, part: Part, graph: Path, rung: Rung) -> Candidate:
        assert rung in ("fp16", "bf16")
        self.report(f"{part}: {rung}")
        model = onnx.load(graph)
        emulation = self.folder / f"{part}.{rung}.emulated.onnx"
        onnx.save(emulate_half(model, rung), emulation)
        if not self.converted:
            return Candidate(rung, self.runtime, graph, emulation=emulation)
        converted = self.folder / f"{part}.{rung}.onnx"
        onnx.save(to_half(model, rung), converted)
        return Candidate(rung, self.runtime, converted, emulation=emulation)


def int8_graph(
    making: CpuRungs | GpuRungs, part: Part, graph: Path
) -> tuple[Path, tuple[str, ...]]:
    """Calibrate, find the nodes that cannot bear int8, and write the Q/DQ graph.

    Returns:
        The graph, and the nodes that were left out of it.
    """
    making.report(f"{part}: calibrate int8")
    batches = making.calibration.batches(part)
    calibrated = calibrate(graph, batches)
    path = making.folder / f"{part}.int8.onnx"

    def loss(nodes: Sequence[str]) -> float:
        making.report(f"{part}: {len(nodes)} nodes in int8")
        quantize(calibrated, path, nodes=nodes)
        came = outputs_of(making.open(path), batches)
        return likeness(making.calibration.outputs[part], came).loss(making.thresholds)

    kept = sensitive_nodes(calibrated.nodes, loss)
    quantize(calibrated, path, nodes=[node for node in calibrated.nodes if node not in kept])
    return path, kept
