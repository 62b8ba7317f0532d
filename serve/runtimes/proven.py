"""Which engine a step runs: the one that was proven here, else ONNX Runtime on its graph."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from fgmclip.serve.runtimes.gpu import Gpu, find_gpu
from fgmclip.serve.runtimes.libraries import TITLES, import_library, version_tuple
from fgmclip.serve.runtimes.plan_file import plan_fault, read_plan_head
from fgmclip.serve.runtimes.proof import (
    Proof,
    cache_folder,
    engine_file,
    file_sha256,
    find_proofs,
)
from fgmclip.serve.runtimes.recipe import Recipe, read_recipe
from fgmclip.serve.runtimes.runtime import Runtime

LOGGER = "fgmclip.serve"
"""Name of the logger that is told what serves, a line each step."""

SHIPPED_ENGINE = "model.plan"
"""An engine that a release brings, beside its graph; it serves once it was proven here."""

REMEDY = "prove one on this machine with 'fgmclip engine build REPOSITORY'"


@dataclass(frozen=True)
class Here:
    """What a machine has to run an engine with.

    Attributes:
        version: Of the library, for example `1.7.1.116`; None where it is not installed.
        gpu: The GPU; None without one.
        why_no_library: What importing the library said.
    """

    version: str | None
    gpu: Gpu | None
    why_no_library: str = ""

    @classmethod
    def look(cls, recipe: Recipe, ordinal: int | None) -> Here:
        """Look for the library of a recipe and for a GPU.

        Args:
            recipe: Of the engine.
            ordinal: Number of the GPU, as CUDA counts; None for a step that has none.
        """
        gpu = None if ordinal is None else find_gpu(ordinal)
        if gpu is None:
            # The library is large, and of no use.
            return cls(None, None)
        try:
            return cls(import_library(recipe.library).__version__, gpu)
        except ImportError as error:
            return cls(None, gpu, str(error))


@dataclass(frozen=True)
class Choice:
    """What serves a step.

    Attributes:
        engine: The proven engine's file; None where the graph itself serves.
        why: What was proven of it, or why there is none and the remedy; one line.
    """

    engine: Path | None
    why: str


def choose_engine(graph: Path, recipe: Recipe, here: Here, cache: Path) -> Choice:
    """Choose the engine of a step.

    Args:
        graph: The step's graph; an engine that the release brings may lie beside it.
        recipe: The step's recipe.
        here: What this machine has.
        cache: Where proven engines lie.
    """
    if file_sha256(graph) != recipe.onnx_sha256:
        return Choice(
            None,
            f"{graph}: expected the graph that the recipe was written for, got another; export the "
            "release again",
        )
    if here.gpu is None:
        return Choice(None, "expected a GPU, got none; give this process one to run engines")
    if here.version is None:
        return Choice(None, here.why_no_library)
    proofs = find_proofs(recipe, cache)
    fitting = [item for item in proofs if _is_of(item[1], here.version, here.gpu)]
    if fitting:
        return _proven(*fitting[0], here.version, here.gpu)
    known = [engine_file(path, recipe.part) for path, _ in proofs]
    fault = _first_fault([*known, graph.with_name(SHIPPED_ENGINE)], recipe, here.version, here.gpu)
    if fault is not None:
        return Choice(None, fault)
    if proofs:
        other = proofs[0][1]
        return Choice(
            None,
            f"expected an engine proven with {here.version} on {here.gpu.name}, got one proven "
            f"with {other.library_version} on {other.gpu}; {REMEDY}",
        )
    return Choice(
        None, f"expected a proof for this graph and recipe in {cache}, got none; {REMEDY}"
    )


def open_proven(graph: Path, recipe_file: Path, gpu: int | None) -> Runtime:
    """Load the engine of a step if it is proven here, else its graph; logs which, and why.

    Args:
        graph: The step's graph.
        recipe_file: Its recipe.
        gpu: Number of the GPU, as CUDA counts; None for a step that has none.

    Raises:
        ValueError: The recipe cannot be read.
    """
    recipe = read_recipe(recipe_file)
    log = logging.getLogger(LOGGER)
    choice = choose_engine(graph, recipe, Here.look(recipe, gpu), cache_folder())
    why = choice.why
    if choice.engine is not None and gpu is not None:
        from fgmclip.serve.runtimes.tensorrt_gpu import TensorRtRuntime

        try:
            engine = TensorRtRuntime(choice.engine, recipe.library, gpu=gpu)
        except (ImportError, RuntimeError, ValueError) as error:
            why = str(error)
        else:
            log.info("%s: %s serves, %s", recipe.part, choice.engine, why)
            return engine
    from fgmclip.serve.runtimes.onnxruntime_cuda import open_fallback

    runtime, provider = open_fallback(graph, gpu)
    log.warning("%s: ONNX Runtime (%s) serves, no engine: %s", recipe.part, provider, why)
    return runtime


def _proven(path: Path, proof: Proof, version: str, gpu: Gpu) -> Choice:
    engine = engine_file(path, proof.part)
    if not proof.passed:
        return Choice(None, f"the gate refused the engine on this machine: {proof.reason}")
    if not engine.is_file():
        return Choice(None, f"{engine}: expected the engine that was proven, got none; {REMEDY}")
    fault = plan_fault(
        read_plan_head(engine), library=proof.library, version=version_tuple(version), sm=gpu.sm
    )
    if fault is not None:
        return Choice(None, f"{engine}: {fault}")
    if file_sha256(engine) != proof.engine_sha256:
        return Choice(
            None, f"{engine}: expected the engine that was proven, got a changed file; {REMEDY}"
        )
    return Choice(
        engine, f"{proof.precision}, proven on {gpu.name} with {TITLES[proof.library]} {version}"
    )


def _first_fault(engines: list[Path], recipe: Recipe, version: str, gpu: Gpu) -> str | None:
    """Return why the first engine that is there cannot run here, or None."""
    for engine in engines:
        if engine.is_file():
            fault = plan_fault(
                read_plan_head(engine),
                library=recipe.library,
                version=version_tuple(version),
                sm=gpu.sm,
            )
            return None if fault is None else f"{engine}: {fault}"
    return None


def _is_of(proof: Proof, version: str, gpu: Gpu) -> bool:
    return (proof.library_version, proof.gpu, proof.sm) == (version, gpu.name, gpu.sm)
