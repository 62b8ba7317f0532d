"""What a user asks of the ladder, and the way from graphs to proven engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fgmclip.export.calibration import FEW_CLIPS, MANY_CLIPS, read_clips
from fgmclip.export.classes import class_arrays
from fgmclip.export.climb import Climbed, Ladder
from fgmclip.export.gate import Thresholds
from fgmclip.export.ladder.candidate import Candidate, Precision
from fgmclip.export.manifest import file_sha256
from fgmclip.export.names import Part
from fgmclip.export.recording import record
from fgmclip.model.network import FgmClip
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
) -> Climbed:
    """Choose an engine for each submodule, on clips through the real preprocessing.

    Args:
        model: The model in PyTorch.
        graphs: Its fp32 graphs.
        request: What is asked for.
        folder: Where graphs of higher rungs are written.
        report: Called with what is done next.

    Raises:
        GateError: What was asked for does not pass.
        ExportError: The calibration clips cannot be used.
    """
    count = MANY_CLIPS if request.trained else FEW_CLIPS
    calibration, judged = read_clips(model.spec, request.calibration, count=count, report=report)
    classes = class_arrays(model)
    ladder = Ladder(
        record(model, calibration, report),
        record(model, judged, report),
        thresholds=request.thresholds,
        classify=lambda embedding: class_logits(embedding, classes),
        names=tuple(item.name for item in model.spec.classes),
        trained=request.trained,
        folder=folder,
        report=report,
    )
    source = "generated" if request.calibration is None else str(request.calibration)
    return ladder.climb(graphs, request.precision, source)


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
