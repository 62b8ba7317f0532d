"""What `fgmclip engine build` does: one ONNX file, or a release whose engines are then proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from fgmclip.export.errors import GateError
from fgmclip.export.targets import ENGINE_FILE, PLAN_FILE
from fgmclip.export.tensorrt.build import Stage, Workbench
from fgmclip.export.tensorrt.builder import BuildOptions
from fgmclip.export.tensorrt.graph_types import Precision
from fgmclip.export.tensorrt.library import Library, load_library
from fgmclip.export.tensorrt.proof_table import proof_table
from fgmclip.export.tensorrt.proving import chain_figures, figures, judge, write_proofs
from fgmclip.export.tensorrt.released import read_released
from fgmclip.export.tensorrt.report import WIDTH, EngineReport, report_lines, report_table
from fgmclip.serve.runtimes.gpu import Gpu, find_gpu
from fgmclip.serve.runtimes.libraries import LibraryName
from fgmclip.serve.runtimes.proof import cache_folder
from fgmclip.serve.runtimes.recipe import Recipe

Stages = Callable[[str], Stage]
"""Called with a part's name; returns what its stages are told to."""

WIDE = 150
"""Columns that the table of judged engines needs."""


@dataclass(frozen=True)
class Shown:
    """What is printed.

    Attributes:
        rows: For machines.
        table: For people.
        lines: Below the table.
        width: Columns that the table needs.
        refusal: What ends the command, after all was printed; None if nothing was refused.
    """

    rows: list[dict[str, Any]]
    table: Table
    lines: list[str]
    width: int = WIDTH
    refusal: GateError | None = None


def build_file(
    source: Path,
    *,
    library: LibraryName,
    precision: Precision,
    sms: tuple[int, ...],
    max_batch: int,
    level: int | None,
    version_compatible: bool,
    hardware_compatible: bool,
    out: Path | None,
    stages: Stages,
) -> Shown:
    """Build the engine of one ONNX file; nothing judges it.

    Args:
        source: The file.
        library: Who builds.
        precision: What it shall compute in.
        sms: Compute capabilities, TensorRT for RTX only.
        max_batch: Largest batch.
        level: Optimisation level; the library's own if None.
        version_compatible: Whether later versions can read the engine, TensorRT only.
        hardware_compatible: Whether every GPU from Ampere on can, TensorRT only.
        out: Folder to write; the cache if None.
        stages: Told what goes on.
    """
    chosen, gpu = load_library(library), find_gpu()
    options = BuildOptions(
        precision=precision,
        max_batch=max_batch,
        sms=sms,
        level=level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        timing_cache=_timing_cache(chosen, gpu),
    )
    tell = stages(source.stem)
    report, was_there = Workbench(chosen, options, gpu, out).build(source.stem, source, tell)
    tell("done", 1.0)
    return _built([report], [report.part] if was_there else [])


def build_release(
    source: Path, *, sms: tuple[int, ...], level: int | None, stages: Stages
) -> Shown:
    """Build the engines of a repository's active release, and prove them where a GPU is.

    Args:
        source: The repository.
        sms: Compute capabilities, TensorRT for RTX only; the GPU that is here if empty.
        level: Optimisation level; the library's own if None.
        stages: Told what goes on.

    Raises:
        RepositoryError: It has no active release of target tensorrt or rtx, or no clips.
        LibraryError: The library is not here.
        PrecisionError: An engine is not of its recipe's precision.
        GraphRefusedError: A graph cannot become an engine.
        EngineBuildError: The builder failed.
    """
    released = read_released(source)
    library, gpu = load_library(released.library), find_gpu()
    reports: list[EngineReport] = []
    reused: list[str] = []
    for part, recipe in released.recipes.items():
        options = _options(recipe, library, gpu, sms, level)
        tell = stages(part)
        version = released.version(part)
        report, was_there = Workbench(library, options, gpu).build(
            part, version / ENGINE_FILE, tell, shipped=version / PLAN_FILE
        )
        tell("done", 1.0)
        reports.append(report)
        reused += [part] if was_there else []
    if gpu is None:
        shown = _built(reports, reused)
        why = "not proven: no GPU here; run this again on the machine that will serve"
        return Shown(shown.rows, shown.table, [*shown.lines, why])
    judging = stages("gate")
    judged, chain = judge(released, reports, lambda what: judging(what, 0.0))
    judging("done", 1.0)
    write_proofs(released, judged, chain, library, gpu)
    refused = [item for item in judged if item.reason]
    chain_row = chain_figures(chain)
    rows = [
        row | {"gate": figures(item) | {"reason": item.reason, "chain": chain_row}}
        for row, item in zip(_rows(reports, reused), judged, strict=True)
    ]
    lines = [f"{item.report.part}: refused: {item.reason}" for item in refused]
    lines += [f"chain: refused: {chain.reason}"] if chain.reason else []
    reasons = "; ".join(f"{item.report.part}: {item.reason}" for item in refused)
    refusal = GateError(
        f"{len(refused)} of {len(judged)} engines refused ({reasons}); ONNX Runtime serves in "
        "their place; export again with another --precision"
    )
    return Shown(
        rows,
        proof_table(judged, chain, reused, gpu.name),
        lines + _paths(reports) + report_lines(reports),
        WIDE,
        refusal if refused else None,
    )


def _options(
    recipe: Recipe, library: Library, gpu: Gpu | None, sms: tuple[int, ...], level: int | None
) -> BuildOptions:
    here = () if gpu is None or library.name == "tensorrt" else (gpu.sm,)
    known = tuple(sm for sm in here if hasattr(library.module.ComputeCapability, f"SM{sm}"))
    return BuildOptions(
        precision=recipe.precision,
        max_batch=recipe.max_batch,
        sms=sms or known,
        level=level,
        timing_cache=_timing_cache(library, gpu),
        rest=recipe.rest,
        keep=recipe.keep,
    )


def _timing_cache(library: Library, gpu: Gpu | None) -> Path | None:
    if library.name != "tensorrt":
        return None
    return cache_folder() / f"timing-{library.version}-sm{gpu.sm if gpu else 0}.cache"


def _built(reports: list[EngineReport], reused: list[str]) -> Shown:
    return Shown(
        _rows(reports, reused),
        report_table(reports, reused),
        _paths(reports) + report_lines(reports),
    )


def _rows(reports: list[EngineReport], reused: list[str]) -> list[dict[str, Any]]:
    return [report.model_dump() | {"reused": report.part in reused} for report in reports]


def _paths(reports: list[EngineReport]) -> list[str]:
    return [f"{report.part}: {report.engine}" for report in reports]
