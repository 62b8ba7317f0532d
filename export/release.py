"""`export_release`: a model becomes a release in a live Triton repository."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

import onnx

import fgmclip
from fgmclip.export.classes import class_arrays, write_class_file
from fgmclip.export.configs import (
    SKELETON,
    ensemble_parameters,
    format_config,
    model_config,
    preprocess_parameters,
)
from fgmclip.export.errors import ExportError
from fgmclip.export.gate import GateReport
from fgmclip.export.gate_table import gate_markdown
from fgmclip.export.graphs import check_graphs, parts_of
from fgmclip.export.ladder.candidate import Candidate
from fgmclip.export.manifest import PartCheck, ReleaseManifest, folder_hashes
from fgmclip.export.names import ENSEMBLES, STEPS, Part, gate_name, step_name
from fgmclip.export.precision import (
    PrecisionRequest,
    plain_engines,
    prove,
    rungs_text,
    tag_text,
)
from fgmclip.export.repository import Repository
from fgmclip.export.tags import embedding_tag, model_tag
from fgmclip.export.targets import (
    ENGINE_FILE,
    GPU_PYTHON_STEPS,
    Target,
    add_gpu_kernels,
    place,
    runs_in_python,
)
from fgmclip.kernels import native
from fgmclip.model.network import FgmClip
from fgmclip.model.onnx_graph import to_onnx
from fgmclip.serve.steps.classify import class_logits
from fgmclip.spec import Limits, ModelSpec, PublicManifest
from fgmclip.spec.flow import FLOW_VERSION

# Not `importlib.resources`: an editable install with a compiled module lies in two places.
PACKAGE = Path(fgmclip.__file__).parent
CLASS_FILE = "classes.npz"
TOOLS = (
    "fgmclip", "numpy", "onnx", "onnxruntime", "onnxscript", "open_clip_torch", "openvino", "torch"
)  # fmt: skip

# Of the rooms, what a server does not need.
NOT_SERVED = ("__pycache__", "csrc", "CMakeLists.txt", "README.md", "*.pyi")

# What each step imports, so that a release answers with the code that it was proved with.
MODULES: dict[str, tuple[str, ...]] = {
    "preprocess": ("kernels", "serve/steps"),
    "preprocess_edge": ("kernels", "serve/steps"),
    "window": ("serve/steps",),
    "classify": ("serve/steps",),
} | dict.fromkeys(
    ("clip_image_encoder", "motion_encoder", "fusion_head"), ("serve/runtimes", "serve/steps")
)


def export_release(
    model: FgmClip,
    repository: Path,
    *,
    target: Target = "cpu",
    precision: PrecisionRequest | None = None,
    report: Callable[[str], None] = lambda stage: None,
    detail: Callable[[str], None] = lambda what: None,
) -> ReleaseManifest:
    """Export a model to engines and publish them as the next release.

    Args:
        model: The model, in evaluation mode.
        repository: The repository's directory; made if absent.
        target: Where the engines will run; nothing of a GPU is verified without one.
        precision: Rung of the ladder for CPUs; None for the fp32 graphs in ONNX Runtime.
        report: Called with the name of each stage as it begins.
        detail: Called with what goes on inside a stage that takes minutes.

    Returns:
        The manifest of the new release, which now serves.

    Raises:
        GateError: A graph or the chain differs from PyTorch, or the precision that was asked for
            does not pass; nothing was published.
        BusyError: Another process is publishing into the repository.
        ExportError: The model's flow is another version's, or the CUDA kernels that the target
            needs were not built, or a precision is asked of a target that is none for CPUs.
    """
    request = precision or PrecisionRequest()
    _check_flow(model.spec)
    if request.climbs and target != "cpu":
        raise ExportError(
            f"--precision {request.precision}: expected --target cpu, whose engines are chosen "
            f"here, got {target}; leave --precision out"
        )
    live = Repository(repository)
    with live.lock(), tempfile.TemporaryDirectory() as scratch:
        live.sweep()
        release = live.next_release()
        engines, checks, gate = _proven_engines(model, request, Path(scratch), report, detail)
        tags = tag_text(engines)
        public = PublicManifest(
            release=release,
            model_tag=model_tag(model, tags),
            embedding_tag=embedding_tag(model, tags),
            precision=rungs_text(engines),
            dt=model.spec.clip.dt,
            spec=model.spec,
            limits=Limits(),
        )
        report("write steps")
        live.staging.mkdir(parents=True)
        _write_steps(model, public, live.staging, target, engines)
        report("publish")
        manifest = ReleaseManifest(
            public=public,
            target=target,
            precision_asked=request.precision,
            precision_built={part: engine.rung for part, engine in engines.items()},
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            tools={name: importlib.metadata.version(name) for name in TOOLS}
            | {"python": platform.python_version()},
            files={
                name: digest
                for folder in sorted(live.staging.iterdir())
                for name, digest in folder_hashes(folder, folder.name).items()
            },
            ensembles={
                name: format_config(
                    model_config(name, model.spec, release, ensemble_parameters(public))
                )
                for name in ENSEMBLES
            },
            checks=checks,
            gate=gate,
        )
        if gate is not None:
            title = f"Gate of release r{release}, {model.spec.name}"
            (live.path / gate_name(release)).write_text(gate_markdown(gate, title))
        live.publish(manifest)
    return manifest


def stages(spec: ModelSpec, precision: PrecisionRequest | None = None) -> int:
    """Return how many stages `export_release` reports."""
    climbs = precision is not None and precision.climbs
    return 2 * len(parts_of(spec)) + 3 + climbs


def _proven_engines(
    model: FgmClip,
    request: PrecisionRequest,
    scratch: Path,
    report: Callable[[str], None],
    detail: Callable[[str], None],
) -> tuple[dict[Part, Candidate], tuple[PartCheck, ...], GateReport | None]:
    """Export every submodule, hold the graphs to PyTorch, and climb if that is asked for."""
    graphs: dict[Part, Path] = {}
    for part in parts_of(model.spec):
        report(f"export {part}")
        graphs[part] = scratch / f"{part}.onnx"
        onnx.save(to_onnx(model, part), graphs[part])
    classes = class_arrays(model)
    checks = check_graphs(model, graphs, lambda embedding: class_logits(embedding, classes), report)
    if not request.climbs:
        return plain_engines(graphs), checks, None
    report("gate")
    climbed = prove(model, graphs, request, scratch, detail)
    return climbed.chosen, checks, climbed.report


def _check_flow(spec: ModelSpec) -> None:
    if spec.motion is not None and spec.motion.flow.version != FLOW_VERSION:
        raise ExportError(
            f"motion.flow.version: expected {FLOW_VERSION}, the flow that this version computes, "
            f"got {spec.motion.flow.version}; export with the version of fgmclip that trained the "
            "checkpoint, or train it again"
        )


def _write_steps(
    model: FgmClip,
    public: PublicManifest,
    staging: Path,
    target: Target,
    engines: Mapping[Part, Candidate],
) -> None:
    spec, release = model.spec, public.release
    preprocessing = preprocess_parameters(spec, public.limits)
    parameters = {
        "preprocess": preprocessing,
        "preprocess_edge": preprocessing,
        "window": {"window": str(spec.clip.frames), "embedding_tag": public.embedding_tag},
        "classify": {"classes": CLASS_FILE},
    } | {
        part: {"runtime": engine.runtime, "engine": ENGINE_FILE, **engine.options}
        for part, engine in engines.items()
    }
    for step in STEPS:
        if step in parameters:
            folder = staging / step_name(step, release)
            (folder / "1").mkdir(parents=True)
            config = model_config(step, spec, release, parameters[step])
            place(config, step, target)
            (folder / "config.pbtxt").write_text(format_config(config))
            if runs_in_python(step, target):
                shutil.copy(SKELETON / step / "1" / "model.py", folder / "1")
                _copy_modules(folder / "1", MODULES[step])
                if target != "cpu" and step in GPU_PYTHON_STEPS:
                    add_gpu_kernels(folder / "1" / "fgmclip" / "kernels")
    classify = staging / step_name("classify", release)
    write_class_file(classify / "1" / CLASS_FILE, model)
    (classify / "labels.txt").write_text("".join(f"{label}\n" for label in spec.labels))
    for part, engine in engines.items():
        shutil.copy(engine.graph, staging / step_name(part, release) / "1" / ENGINE_FILE)


def _copy_modules(version: Path, modules: tuple[str, ...]) -> None:
    package = version / "fgmclip"
    package.mkdir()
    shutil.copy(PACKAGE / "__init__.py", package)
    for module in modules:
        shutil.copytree(
            PACKAGE / module, package / module, ignore=shutil.ignore_patterns(*NOT_SERVED)
        )
        for parent in (package / module).relative_to(package).parents[:-1]:
            shutil.copy(PACKAGE / parent / "__init__.py", package / parent)
    compiled = native.module_file()
    if "kernels" in modules and compiled is not None:
        shutil.copy(compiled, package / "kernels")
