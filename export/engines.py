"""Engines of a release: typed as its recipes say, and built where TensorRT for RTX can do that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import cast

import onnx

from fgmclip.export.targets import ENGINE_FILE, PLAN_FILE
from fgmclip.export.tensorrt.build import Workbench
from fgmclip.export.tensorrt.builder import BuildOptions, check_options
from fgmclip.export.tensorrt.graph_types import Precision, require_precision
from fgmclip.export.tensorrt.half import HALVES, to_half
from fgmclip.export.tensorrt.library import Library, load_library
from fgmclip.export.tensorrt.report import EngineReport, report_file
from fgmclip.serve.runtimes.gpu import find_gpu
from fgmclip.serve.runtimes.recipe import RECIPE_FILE, read_recipe


def open_builder(precision: str, sms: tuple[int, ...]) -> Library:
    """Return TensorRT for RTX, before a minute is spent on what it could not build.

    Args:
        precision: What will be built.
        sms: Compute capabilities to build for; none for the library's own, 8.0 and later.

    Raises:
        LibraryError: It is not installed, or does not build for one of them.
    """
    library = load_library("rtx")
    check_options(library, BuildOptions(precision=cast(Precision, precision), sms=sms))
    return library


def check_types(version: Path) -> None:
    """Refuse a graph that cannot be given the types of its recipe.

    Args:
        version: The version folder of a step, with the graph and the recipe.

    Raises:
        GraphRefusedError: A weight does not fit, or the graph has branches.
        PrecisionError: Its products would be of other types.
    """
    recipe = read_recipe(version / RECIPE_FILE)
    graph = onnx.load(version / ENGINE_FILE)
    if recipe.rest in HALVES:
        graph = to_half(graph, recipe.rest, keep=recipe.keep)
    require_precision(graph, recipe.precision, keep=recipe.keep)


def build_plan(
    library: Library, version: Path, sms: tuple[int, ...], tell: Callable[[str], None]
) -> EngineReport:
    """Build the engine of a step and put it, with its report, beside the graph.

    Args:
        library: TensorRT for RTX.
        version: The version folder of the step, with the graph and the recipe.
        sms: Compute capabilities to build for; none for the library's own.
        tell: Called with what is done next.

    Returns:
        The report, without the places of the machine that built it.

    Raises:
        PrecisionError: The graph, or the built engine, is not of the recipe's precision.
        GraphRefusedError: The graph cannot become an engine.
        EngineBuildError: The builder failed.
    """
    recipe = read_recipe(version / RECIPE_FILE)
    options = BuildOptions(
        precision=recipe.precision,
        max_batch=recipe.max_batch,
        sms=sms,
        rest=recipe.rest,
        keep=recipe.keep,
    )
    report, _ = Workbench(library, options, find_gpu()).build(
        recipe.part,
        version / ENGINE_FILE,
        lambda stage, share: tell(f"{recipe.part}: {stage} {share:.0%}"),
    )
    plan = version / PLAN_FILE
    shutil.copy(report.engine, plan)
    # The converted graph stays in the cache, so the line for trtexec would name a file that is not
    # in the release.
    report = report.replace(engine=PLAN_FILE, graph=Path(report.graph).name, trtexec="")
    report_file(plan).write_text(report.to_json(), encoding="utf-8")
    return report
