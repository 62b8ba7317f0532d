"""What a user asks of the ladder, and the way from graphs to proven engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fgmclip.export.calibration import FEW_CLIPS, MANY_CLIPS, read_clips
from fgmclip.export.chain import Judge
from fgmclip.export.classes import class_arrays
from fgmclip.export.climb import Climbed, Ladder
from fgmclip.export.eager import EagerProcess
from fgmclip.export.gate import Thresholds
from fgmclip.export.ladder.candidate import Candidate, Precision
from fgmclip.export.ladder.rungs import CpuRungs, GpuRungs, Rungs
from fgmclip.export.names import Part
from fgmclip.export.recording import record
from fgmclip.export.targets import Target
from fgmclip.model.network import FgmClip
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.serve.steps.classify import class_logits


@dataclass(frozen=True, slots=True)
class PrecisionRequest:
    """What a user asks for.

    Attributes:
        precision: A rung for every submodule, or `auto`.
        calibration: A CSV or a folder of videos; None for generated ones.
        thresholds: Of the gate.
        trained: Whether the weights are, so that answers mean something.
    """

    precision: Precision = "fp32"
    calibration: Path | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    trained: bool = True

    @property
    def climbs(self) -> bool:
        """Whether anything but the graphs as exported is asked for."""
        return self.precision != "fp32"


def prove(
    model: FgmClip,
    graphs: Mapping[Part, Path],
    request: PrecisionRequest,
    folder: Path,
    report: Callable[[str], None],
    *,
    target: Target = "cpu",
) -> Climbed:
    """Choose an engine for each submodule, on clips through the real preprocessing.

    Engines of a GPU's target are judged by graphs that round on this CPU as they will, and not
    timed: that is done where they run.

    Args:
        model: The model in PyTorch.
        graphs: Its fp32 graphs.
        request: What is asked for.
        folder: Where graphs of higher rungs are written.
        report: Called with what is done next.
        target: Where the engines run.

    Raises:
        GateError: What was asked for does not pass.
        ExportError: The calibration clips cannot be used.
    """
    count = MANY_CLIPS if request.trained else FEW_CLIPS
    calibration, clips = read_clips(model.spec, request.calibration, count=count, report=report)
    classes = class_arrays(model)
    scales, judged = record(model, calibration, report), record(model, clips, report)
    rungs: Rungs = CpuRungs(scales, request.thresholds, folder, report)
    if target != "cpu":
        rungs = GpuRungs(
            scales, request.thresholds, folder, report, target, converted=target == "onnx-gpu"
        )
    judge = Judge(
        judged,
        request.thresholds,
        classify=lambda embedding: class_logits(embedding, classes),
        names=tuple(item.name for item in model.spec.classes),
        trained=request.trained,
    )
    source = "generated" if request.calibration is None else str(request.calibration)
    ladder = Ladder(rungs, judge, source=source, report=report)
    if target != "cpu":
        return ladder.climb(graphs, request.precision, None)
    with EagerProcess(model, judged) as eager:
        return ladder.climb(graphs, request.precision, eager)


def plain_engines(graphs: Mapping[Part, Path]) -> dict[Part, Candidate]:
    """Return the graphs as exported, in ONNX Runtime."""
    return {part: Candidate("fp32", "onnxruntime", graph) for part, graph in graphs.items()}


def rungs_text(engines: Mapping[Part, Candidate]) -> str:
    """Return the rung that all submodules have, or each one's, for example `int8/bf16/fp32`."""
    rungs = [engine.rung for engine in engines.values()]
    return rungs[0] if len(set(rungs)) == 1 else "/".join(rungs)


def tag_text(engines: Mapping[Part, Candidate]) -> str:
    """Return what tags hash of the engines: rungs, and graphs where calibration made them."""
    if all(engine.rung == "fp32" for engine in engines.values()):
        return "fp32"
    return " ".join(
        f"{engine.rung}:{file_sha256(engine.graph)}" if engine.rung == "int8" else engine.rung
        for engine in engines.values()
    )
