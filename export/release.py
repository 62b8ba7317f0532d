"""`export_release`: a model becomes a release in a live Triton repository."""

from __future__ import annotations

import importlib.metadata
import platform
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import onnx

from fgmclip.export.classes import class_arrays
from fgmclip.export.configs import ensemble_parameters, format_config, model_config
from fgmclip.export.engines import build_plan, check_types, open_builder
from fgmclip.export.errors import ExportError
from fgmclip.export.gate import GateReport
from fgmclip.export.gate_folder import GATE_FOLDER, write_gate_folder
from fgmclip.export.gate_table import gate_markdown
from fgmclip.export.graphs import check_graphs, parts_of
from fgmclip.export.ladder.candidate import Candidate, Precision
from fgmclip.export.manifest import PartCheck, ReleaseManifest, folder_hashes
from fgmclip.export.names import ENSEMBLES, Part
from fgmclip.export.precision import (
    PrecisionRequest,
    plain_engines,
    prove,
    rungs_text,
    tag_text,
)
from fgmclip.export.recording import Recording
from fgmclip.export.repository import Repository
from fgmclip.export.steps import StepWriter
from fgmclip.export.tags import embedding_tag, model_tag
from fgmclip.export.targets import PRECISIONS, Target, engine_library, precision_fault
from fgmclip.export.tensorrt.report import EngineReport
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.serve.steps.classify import class_logits
from fgmclip.spec import Limits, ModelSpec, PublicManifest
from fgmclip.spec.flow import FLOW_VERSION
from fgmclip.storage.atomic import naming

TOOLS = (
    "fgmclip", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "open_clip_torch",
    "openvino", "torch",
)  # fmt: skip

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Proven:
    """What was chosen for each submodule, and on what grounds.

    Attributes:
        engines: What was chosen.
        checks: The fp32 graphs beside PyTorch.
        gate: What the gate saw; None where only fp32 was asked for and nothing had to be seen.
        judged: PyTorch on the gate's clips; None where `gate` is.
    """

    engines: dict[Part, Candidate]
    checks: tuple[PartCheck, ...]
    gate: GateReport | None = None
    judged: Recording | None = None


def export_release(
    model: FgmClip,
    repository: Path,
    *,
    target: Target = "cpu",
    precision: PrecisionRequest | None = None,
    sms: tuple[int, ...] = (),
    report: Report = lambda stage: None,
    detail: Report = lambda what: None,
) -> ReleaseManifest:
    """Export a model to engines and publish them as the next release.

    Args:
        model: The model, in evaluation mode.
        repository: The repository's directory; made if absent.
        target: Where the engines will run; nothing of a GPU is verified without one.
        precision: What is asked for; None for what the target takes if nothing is.
        sms: Compute capabilities that engines for `rtx` are built for; none for the library's own.
        report: Called with the name of each stage as it begins.
        detail: Called with what goes on inside a stage that takes minutes.

    Returns:
        The manifest of the new release, which now serves.

    Raises:
        GateError: A graph or the chain differs from PyTorch, or the precision that was asked for
            does not pass; nothing was published.
        BusyError: Another process is publishing into the repository and does not end.
        OSError: A disk is full or cannot be written; nothing was published, nothing stays.
        ExportError: The model's flow is another version's, or the CUDA kernels that the target
            needs were not built, or the target has no such precision, or its engine failed.
    """
    request = precision or PrecisionRequest(cast("Precision", PRECISIONS[target][0]))
    _check_flow(model.spec)
    if fault := precision_fault(target, request.precision):
        raise ExportError(f"--precision: {fault}")
    if sms and target != "rtx":
        raise ExportError(
            f"--sm: expected with --target rtx, whose engines are built here, got {target}; leave "
            "it out"
        )
    library = open_builder(request.precision, sms) if target == "rtx" else None
    live = Repository(repository)
    with live.reserve() as reserved, tempfile.TemporaryDirectory() as folder:
        release, scratch = reserved.release, Path(folder)
        with naming(scratch):
            proven = _prove(model, request, target, scratch, report, detail)
        tags = tag_text(proven.engines)
        public = PublicManifest(
            release=release,
            model_tag=model_tag(model, tags),
            embedding_tag=embedding_tag(model, tags),
            precision=rungs_text(proven.engines),
            dt=model.spec.clip.dt,
            spec=model.spec,
            limits=Limits(),
        )
        report("write steps")
        writer = StepWriter(model, public, target, proven.engines, proven.gate, reserved.steps)
        settings = writer.write()
        built: list[EngineReport] = []
        if engine_library(target) and proven.judged is not None:
            clips = writer.version("classify").parent / GATE_FOLDER
            write_gate_folder(clips, proven.judged, request.thresholds, request.trained)
            for part in proven.engines:
                report(f"engine {part}")
                version = writer.version(part)
                if library is None:
                    check_types(version)
                else:
                    built.append(build_plan(library, version, sms, detail))
        report("publish")
        manifest = ReleaseManifest(
            public=public,
            target=target,
            precision_asked=request.precision,
            precision_built=_built_precisions(proven.engines, target, built),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            tools=_versions(),
            files={
                name: digest
                for step in sorted(reserved.steps.iterdir())
                for name, digest in folder_hashes(step, step.name).items()
            },
            ensembles={
                name: format_config(
                    model_config(name, model.spec, release, ensemble_parameters(public))
                )
                for name in ENSEMBLES
            },
            checks=proven.checks,
            gate=proven.gate,
            sm=sms,
            engines=tuple(built),
            settings=settings,
        )
        gate = None
        if proven.gate is not None:
            gate = gate_markdown(proven.gate, f"Gate of release r{release}, {model.spec.name}")
        live.publish(manifest, reserved.steps, gate)
    return manifest


def stages(
    spec: ModelSpec, precision: PrecisionRequest | None = None, target: Target = "cpu"
) -> int:
    """Return how many stages `export_release` reports."""
    parts = len(parts_of(spec))
    builds = engine_library(target) is not None
    gated = builds or (precision is not None and precision.climbs)
    return 2 * parts + 3 + gated + (parts if builds else 0)


def _prove(
    model: FgmClip,
    request: PrecisionRequest,
    target: Target,
    scratch: Path,
    report: Report,
    detail: Report,
) -> _Proven:
    """Export every submodule, hold the graphs to PyTorch, and climb where that is asked for."""
    graphs: dict[Part, Path] = {}
    for part in parts_of(model.spec):
        report(f"export {part}")
        graphs[part] = scratch / f"{part}.onnx"
        onnx.save(to_onnx(model, part), graphs[part])
    classes = class_arrays(model)
    checks = check_graphs(model, graphs, lambda embedding: class_logits(embedding, classes), report)
    # A target that builds engines judges them by the gate's clips, fp32 ones too.
    if not request.climbs and not engine_library(target):
        return _Proven(plain_engines(graphs), checks)
    report("gate")
    climbed = prove(model, graphs, request, scratch, detail, target=target)
    return _Proven(climbed.chosen, checks, climbed.report, climbed.judged)


def _versions() -> dict[str, str]:
    """Return the version of each tool that is here, and of Python."""
    here = {item.metadata["Name"] for item in importlib.metadata.distributions()}
    found = {name: importlib.metadata.version(name) for name in TOOLS if name in here}
    return found | {"python": platform.python_version()}


def _built_precisions(
    engines: Mapping[Part, Candidate], target: Target, built: list[EngineReport]
) -> dict[str, str]:
    """Return the rung of each engine, with what is still to be proved of it."""
    rungs: dict[str, str] = {part: engine.rung for part, engine in engines.items()}
    if target == "tensorrt":
        return {part: f"{rung}, to be built on the target" for part, rung in rungs.items()}
    unproved = {item.part: item.built_precision for item in built if not item.inspected}
    return {
        part: f"{rung}, {unproved[part]}" if part in unproved else rung
        for part, rung in rungs.items()
    }


def _check_flow(spec: ModelSpec) -> None:
    if spec.motion is not None and spec.motion.flow.version != FLOW_VERSION:
        raise ExportError(
            f"motion.flow.version: expected {FLOW_VERSION}, the flow that this version computes, "
            f"got {spec.motion.flow.version}; export with the version of fgmclip that trained the "
            "checkpoint, or train it again"
        )
