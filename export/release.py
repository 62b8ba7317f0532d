"""`export_release`: a model becomes a release in a live Triton repository."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from collections.abc import Callable
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
from fgmclip.export.graphs import check_graphs, parts_of
from fgmclip.export.manifest import ReleaseManifest, folder_hashes
from fgmclip.export.names import ENSEMBLES, STEPS, Part, step_name
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
PRECISION = "fp32"
CLASS_FILE = "classes.npz"
TOOLS = ("fgmclip", "numpy", "onnx", "onnxruntime", "onnxscript", "open_clip_torch", "torch")

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
    report: Callable[[str], None] = lambda stage: None,
) -> ReleaseManifest:
    """Export a model to ONNX Runtime engines and publish them as the next release.

    Args:
        model: The model, in evaluation mode.
        repository: The repository's directory; made if absent.
        target: Where the engines will run; nothing of a GPU is verified without one.
        report: Called with the name of each stage as it begins.

    Returns:
        The manifest of the new release, which now serves.

    Raises:
        GateError: A graph or the chain differs from PyTorch; nothing was published.
        BusyError: Another process is publishing into the repository.
        ExportError: The model's flow is another version's, or the CUDA kernels that the target
            needs were not built.
    """
    _check_flow(model.spec)
    live = Repository(repository)
    with live.lock():
        live.sweep()
        release = live.next_release()
        public = PublicManifest(
            release=release,
            model_tag=model_tag(model, PRECISION),
            embedding_tag=embedding_tag(model, PRECISION),
            precision=PRECISION,
            dt=model.spec.clip.dt,
            spec=model.spec,
            limits=Limits(),
        )
        live.staging.mkdir(parents=True)
        graphs = _write_steps(model, public, live.staging, target, report)
        classes = class_arrays(model)
        checks = check_graphs(
            model, graphs, lambda embedding: class_logits(embedding, classes), report
        )
        report("publish")
        manifest = ReleaseManifest(
            public=public,
            target=target,
            precision_asked=PRECISION,
            precision_built=dict.fromkeys(graphs, PRECISION),
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
        )
        live.publish(manifest)
    return manifest


def stages(spec: ModelSpec) -> int:
    """Return how many stages `export_release` reports for a spec."""
    return 2 * len(parts_of(spec)) + 3


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
    report: Callable[[str], None],
) -> dict[Part, Path]:
    spec, release = model.spec, public.release
    engine = {"runtime": "onnxruntime", "engine": ENGINE_FILE}
    preprocessing = preprocess_parameters(spec, public.limits)
    parameters = {
        "preprocess": preprocessing,
        "preprocess_edge": preprocessing,
        "window": {"window": str(spec.clip.frames), "embedding_tag": public.embedding_tag},
        "classify": {"classes": CLASS_FILE},
    } | dict.fromkeys(parts_of(spec), engine)
    report("write steps")
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
    graphs: dict[Part, Path] = {}
    for part in parts_of(spec):
        report(f"export {part}")
        graphs[part] = staging / step_name(part, release) / "1" / ENGINE_FILE
        onnx.save(to_onnx(model, part), graphs[part])
    return graphs


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
