"""What a release carries for engines: recipes, other configs, built plans, and the gate's clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.text_format import ParseError

from fgmclip.export.configs import parse_config
from fgmclip.export.errors import RepositoryError
from fgmclip.export.gate_folder import GATE_FOLDER, GateFolder, read_gate_folder
from fgmclip.export.lint.finding import EXPORT_AGAIN, Finding
from fgmclip.export.manifest import ReleaseManifest
from fgmclip.export.targets import (
    ALTERNATIVE_CONFIG,
    ENGINE_FILE,
    PLAN_FILE,
    engine_library,
    tensorrt_config,
)
from fgmclip.export.tensorrt.report import EngineReport, report_file
from fgmclip.serve.runtimes.libraries import version_tuple
from fgmclip.serve.runtimes.plan_file import plan_fault, read_plan_head
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.serve.runtimes.recipe import RECIPE_FILE, Recipe, read_recipe
from fgmclip.spec import SpecError


def check_engine(
    version: Path, config: Any, part: str, manifest: ReleaseManifest
) -> Iterator[Finding]:
    """Check what the engine of a step is, or is to be, built from.

    Args:
        version: The version folder of the step.
        config: Its own config.
        part: The submodule.
        manifest: Of the release.
    """
    if engine_library(manifest.target) is None:
        return
    where = f"{version.parent.name}/{version.name}"
    try:
        recipe = read_recipe(version / RECIPE_FILE)
    except ValueError as error:
        yield Finding(
            "recipe", f"{where}/{RECIPE_FILE}", "a recipe of this format", f"{error}", EXPORT_AGAIN
        )
    else:
        yield from _check_recipe(version, recipe, config, part, manifest)
        if manifest.target == "rtx":
            yield from _check_plan(version, recipe, manifest)
    if manifest.target == "tensorrt":
        yield from _check_alternative(version.parent, config)


def check_gate_folder(folder: Path, manifest: ReleaseManifest) -> Iterator[Finding]:
    """Check the gate's clips of a release whose engines are judged where they run.

    Args:
        folder: Of the step `classify`.
        manifest: Of the release.
    """
    if engine_library(manifest.target) is None:
        return
    where = f"{folder.name}/{GATE_FOLDER}"
    try:
        gate = read_gate_folder(folder / GATE_FOLDER)
    except RepositoryError as error:
        yield Finding(
            "gate-folder", where, "clips, PyTorch's outputs, thresholds", f"{error}", EXPORT_AGAIN
        )
        return
    spec = manifest.public.spec
    expected: dict[str, object] = {
        "submodules": sorted(manifest.precision_built),
        "frames": spec.clip.frames,
        "classes": len(spec.labels),
    }
    if manifest.gate is not None:
        expected |= {
            "clips": manifest.gate.clips,
            "trained": manifest.gate.trained,
            "thresholds": manifest.gate.thresholds,
        }
    found = _gate_fields(gate)
    for name, value in expected.items():
        if found[name] != value:
            yield Finding(
                "gate-folder",
                where,
                f"{name} {value}, as the manifest says",
                f"{found[name]}",
                EXPORT_AGAIN,
            )


def _gate_fields(gate: GateFolder) -> dict[str, object]:
    return {
        "submodules": sorted(gate.outputs),
        "frames": gate.frames,
        "classes": gate.logits.shape[-1],
        "clips": len(gate.labels),
        "trained": gate.trained,
        "thresholds": gate.thresholds,
    }


def _check_recipe(
    version: Path, recipe: Recipe, config: Any, part: str, manifest: ReleaseManifest
) -> Iterator[Finding]:
    graph = version / ENGINE_FILE
    # What is to be proved of a precision stands behind it.
    built = manifest.precision_built.get(part, "none").partition(",")[0]
    expected: dict[str, object] = {
        "part": part,
        "library": engine_library(manifest.target),
        "precision": built,
        "max_batch": config.max_batch_size,
        "model_tag": manifest.public.model_tag,
    }
    if graph.is_file():
        expected["onnx_sha256"] = file_sha256(graph)
    for name, value in expected.items():
        if getattr(recipe, name) != value:
            yield Finding(
                "recipe",
                f"{version.parent.name}/{version.name}/{RECIPE_FILE}",
                f"{name} {value}, as config, graph and manifest say",
                f"{getattr(recipe, name)}",
                EXPORT_AGAIN,
            )


def _check_alternative(folder: Path, config: Any) -> Iterator[Finding]:
    """Hold the config for Triton's tensorrt backend to the step's own.

    Equal, but for the backend and what it alone can be told: CUDA graphs.
    """
    path = f"{folder.name}/{ALTERNATIVE_CONFIG}"
    try:
        alternative = parse_config((folder / ALTERNATIVE_CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        yield Finding("alternative-config", path, "a config", "none", EXPORT_AGAIN)
        return
    except (ParseError, UnicodeDecodeError) as error:
        yield Finding(
            "alternative-config", path, "a config of Triton's ModelConfig", f"{error}", EXPORT_AGAIN
        )
        return
    expected = tensorrt_config(config)
    names = [field.name for field in config.DESCRIPTOR.fields if field.name != "optimization"]
    different = [name for name in names if getattr(alternative, name) != getattr(expected, name)]
    if different:
        yield Finding(
            "alternative-config",
            path,
            'the step\'s own config with backend "tensorrt"',
            f"another {', '.join(different)}",
            EXPORT_AGAIN,
        )


def _check_plan(version: Path, recipe: Recipe, manifest: ReleaseManifest) -> Iterator[Finding]:
    plan = version / PLAN_FILE
    where = f"{version.parent.name}/{version.name}/{PLAN_FILE}"
    if not plan.is_file():
        yield Finding("plan", where, "an engine beside its graph", "none", EXPORT_AGAIN)
        return
    try:
        report = EngineReport.from_json(report_file(plan).read_bytes())
    except (OSError, SpecError) as error:
        yield Finding(
            "plan-report", f"{where}.json", "the engine's report", f"{error}", EXPORT_AGAIN
        )
        return
    head, built_by = read_plan_head(plan), version_tuple(report.library_version)
    for sm in manifest.sm or (None,):
        fault = plan_fault(head, library=recipe.library, version=built_by, sm=sm)
        if fault is not None:
            yield Finding("plan", where, "an engine as the release says", fault, EXPORT_AGAIN)
            return
    expected = {
        "part": recipe.part,
        "precision": recipe.precision,
        "rest": recipe.rest if recipe.precision == "int8" else "",
        "keep": recipe.keep,
        "onnx_sha256": recipe.onnx_sha256,
        "engine_sha256": file_sha256(plan),
    }
    for name, value in expected.items():
        if getattr(report, name) != value:
            yield Finding(
                "plan-report",
                f"{where}.json",
                f"{name} {value}, as recipe and engine say",
                f"{getattr(report, name)}",
                EXPORT_AGAIN,
            )
