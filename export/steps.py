"""The step folders of a release: configs, code, class file and graphs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fgmclip
from fgmclip.export.classes import write_class_file
from fgmclip.export.configs import (
    SKELETON,
    format_config,
    model_config,
    preprocess_parameters,
    window_parameters,
)
from fgmclip.export.gate import GateReport
from fgmclip.export.ladder.candidate import Candidate
from fgmclip.export.ladder.rungs import REST
from fgmclip.export.names import PARTS, STEPS, Part, step_name
from fgmclip.export.settings import (
    ServingSetting,
    apply_settings,
    cuda_graphs,
    serving_settings,
)
from fgmclip.export.targets import (
    ALTERNATIVE_CONFIG,
    ENGINE_FILE,
    GPU_PYTHON_STEPS,
    Target,
    add_gpu_kernels,
    engine_library,
    place,
    runs_in_python,
    tensorrt_config,
)
from fgmclip.kernels import native
from fgmclip.model.network import FgmClip
from fgmclip.serve.runtimes.proof import file_sha256
from fgmclip.serve.runtimes.recipe import RECIPE_FILE, Recipe
from fgmclip.spec import PublicManifest

# Not `importlib.resources`: an editable install with a compiled module lies in two places.
PACKAGE = Path(fgmclip.__file__).parent
CLASS_FILE = "classes.npz"

# Of the rooms, what a server does not need.
NOT_SERVED = ("__pycache__", "csrc", "CMakeLists.txt", "README.md", "*.pyi")

# What each step imports, so that a release answers with the code that it was proved with.
MODULES: dict[str, tuple[str, ...]] = {
    "preprocess": ("kernels", "serve/steps", "storage"),
    "preprocess_edge": ("kernels", "serve/steps", "storage"),
    "window": ("serve/steps",),
    "classify": ("serve/steps",),
} | dict.fromkeys(PARTS, ("serve/runtimes", "serve/steps", "storage"))


@dataclass(frozen=True, slots=True)
class StepWriter:
    """Writes the steps of one release into its staging folder.

    Attributes:
        model: The model.
        public: What clients are told.
        target: Where the engines run.
        engines: What was chosen for each submodule.
        gate: What was measured of it; None where nothing was.
        staging: Where the step folders are written.
    """

    model: FgmClip
    public: PublicManifest
    target: Target
    engines: Mapping[Part, Candidate]
    gate: GateReport | None
    staging: Path

    def version(self, step: str) -> Path:
        """Return the version folder of a step."""
        return self.staging / step_name(step, self.public.release) / "1"

    def write(self) -> tuple[ServingSetting, ...]:
        """Write every step.

        Returns:
            What Triton is told of each step beyond its tensors, and why.

        Raises:
            ExportError: The CUDA kernels that the target needs were not built.
        """
        spec = self.public.spec
        configs = {
            step: model_config(step, spec, self.public.release, parameters)
            for step, parameters in self._parameters().items()
        }
        for step, config in configs.items():
            place(config, step, self.target)
        settings = serving_settings(configs, spec, self.target, self.gate)
        for step, config in configs.items():
            apply_settings(config, settings)
            self._write_step(step, config)
        for part in self.engines:
            settings += self._write_graph(part, configs[part])
        classify = self.version("classify")
        write_class_file(classify / CLASS_FILE, self.model)
        labels = "".join(f"{label}\n" for label in self.public.spec.labels)
        (classify.parent / "labels.txt").write_text(labels, encoding="utf-8")
        return settings

    def _parameters(self) -> dict[str, dict[str, str]]:
        """Return the parameters of each step that the model has."""
        spec = self.public.spec
        preprocessing = preprocess_parameters(spec, self.public.limits)
        found: dict[str, dict[str, str]] = {
            "preprocess": preprocessing,
            "preprocess_edge": preprocessing,
            "window": window_parameters(self.public),
            "classify": {"classes": CLASS_FILE, "model_tag": self.public.model_tag},
        }
        for part, engine in self.engines.items():
            if self.target == "rtx":
                own = {"runtime": "rtx", "recipe": RECIPE_FILE}
            else:
                own = {"runtime": engine.runtime, **engine.options}
            found[part] = {"engine": ENGINE_FILE, **own}
        return {step: found[step] for step in STEPS if step in found}

    def _write_step(self, step: str, config: Any) -> None:
        version = self.version(step)
        version.mkdir(parents=True)
        (version.parent / "config.pbtxt").write_text(format_config(config), encoding="utf-8")
        if runs_in_python(step, self.target):
            shutil.copy(SKELETON / step / "1" / "model.py", version)
            copy_modules(version, MODULES[step])
            if self.target != "cpu" and step in GPU_PYTHON_STEPS:
                add_gpu_kernels(version / "fgmclip" / "kernels")

    def _write_graph(self, part: Part, config: Any) -> tuple[ServingSetting, ...]:
        """Write the graph of a step, and what an engine is to be built from it.

        Returns:
            What Triton is told where it runs that engine itself.
        """
        version, engine = self.version(part), self.engines[part]
        shutil.copy(engine.graph, version / ENGINE_FILE)
        library = engine_library(self.target)
        if library is None:
            return ()
        recipe = Recipe(
            part=part,
            library=library,
            precision=engine.rung,
            rest=REST if engine.rung == "int8" else engine.rung,
            # What could not bear int8 is not quantised in the graph, and bears half.
            keep=() if engine.rung == "int8" else engine.kept,
            max_batch=config.max_batch_size,
            onnx_sha256=file_sha256(engine.graph),
            model_tag=self.public.model_tag,
        )
        (version / RECIPE_FILE).write_text(recipe.to_json(), encoding="utf-8")
        if library == "rtx":
            return ()
        alternative = tensorrt_config(config)
        graphs = cuda_graphs(part, alternative, self.public.spec)
        apply_settings(alternative, [graphs])
        file = version.parent / ALTERNATIVE_CONFIG
        file.parent.mkdir()
        file.write_text(format_config(alternative), encoding="utf-8")
        return (graphs,)


def copy_modules(version: Path, modules: tuple[str, ...]) -> None:
    """Copy rooms of this package, or folders of them, beside a step's `model.py`.

    Args:
        version: The version folder.
        modules: Folders below the package.
    """
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
