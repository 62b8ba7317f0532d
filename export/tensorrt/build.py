"""One graph to one engine in the cache: conversion, refusal, build, and what was proved of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from fgmclip.export.manifest import short_hash
from fgmclip.export.tensorrt.builder import (
    BuildOptions,
    BuiltEngine,
    build_engine,
    check_options,
)
from fgmclip.export.tensorrt.check_half import check_half
from fgmclip.export.tensorrt.errors import GraphRefusedError
from fgmclip.export.tensorrt.graph_types import products, require_precision, weight_bytes
from fgmclip.export.tensorrt.half import to_half
from fgmclip.export.tensorrt.library import Library
from fgmclip.export.tensorrt.report import EngineReport, report_file
from fgmclip.export.tensorrt.stored import stored_bytes
from fgmclip.export.tensorrt.trtexec import trtexec_line
from fgmclip.export.tensorrt.verify import verify_engine
from fgmclip.serve.runtimes.gpu import Gpu
from fgmclip.serve.runtimes.libraries import version_tuple
from fgmclip.serve.runtimes.plan_file import plan_fault, read_plan_head
from fgmclip.serve.runtimes.proof import cache_folder, file_sha256
from fgmclip.spec import SpecError
from fgmclip.storage.atomic import (
    ABANDONED_SECONDS,
    remove_temporaries,
    write_bytes,
    write_text,
    writing,
)

Stage = Callable[[str, float], None]
"""Called with what is done next and how much of the build is done."""

CONVERTER = 1
"""Raised when `half.py` writes other graphs, so that engines in the cache are built anew."""


def gpu_name(library: Library, options: BuildOptions, gpu: Gpu | None) -> str:
    """Return what an engine is built for, in words.

    Args:
        library: Who builds it.
        options: What it is built for.
        gpu: The GPU that is here, if any.
    """
    if library.name == "rtx":
        sms = ", ".join(f"SM{sm}" for sm in options.sms)
        return sms or "SM80 and later"
    return "no GPU" if gpu is None else f"{gpu.name} (SM{gpu.sm})"


def engine_key(library: Library, options: BuildOptions, onnx_sha256: str, gpu: str) -> str:
    """Return a hash over all that decides an engine.

    Args:
        library: Who builds it, with its version.
        options: Precision, profile and the rest; the timing cache decides nothing.
        onnx_sha256: Hash of the graph that is given.
        gpu: What it is built for.
    """
    parts = {
        "onnx": onnx_sha256,
        "precision": options.precision,
        "rest": str(options.half),
        "keep": " ".join(sorted(options.keep)),
        "batches": f"1 {options.usual_batch} {options.max_batch}",
        "library": f"{library.name} {library.version}",
        "gpu": gpu,
        "level": str(options.level),
        "compatible": f"{options.version_compatible} {options.hardware_compatible}",
        "converter": str(CONVERTER),
    }
    return short_hash(list(parts.items()))


@dataclass(frozen=True)
class Workbench:
    """Where engines are built.

    Attributes:
        library: The library.
        options: What to build for.
        gpu: The GPU that is here, if any.
        out: Folder for the engines; the cache if None.
    """

    library: Library
    options: BuildOptions
    gpu: Gpu | None
    out: Path | None = None

    def build(
        self, part: str, source: Path, stage: Stage, *, shipped: Path | None = None
    ) -> tuple[EngineReport, bool]:
        """Build the engine of one graph, unless it is there already.

        Args:
            part: Name of the submodule or graph.
            source: Its ONNX file: fp32, or already of the precision asked for.
            stage: Called as the work goes on.
            shipped: An engine that came with the graph; taken instead of building one if it is of
                this library and GPU and was built as it shall be here.

        Returns:
            Its report, and whether the engine was there already.

        Raises:
            PrecisionError: The graph, or the built engine, is not of the precision asked for.
            GraphRefusedError: The graph cannot become an engine.
            EngineBuildError: The builder failed.
            OSError: It cannot be written; nothing of it stays.
        """
        check_options(self.library, self.options)
        stage("read graph", 0.0)
        digest = file_sha256(source)
        gpu = gpu_name(self.library, self.options, self.gpu)
        key = engine_key(self.library, self.options, digest, gpu)
        folder = cache_folder() / key if self.out is None else Path(os.path.realpath(self.out))
        engine = folder / f"{part}.plan"
        found = _finished(engine, key)
        # What was built where no GPU, or another, was is tried again on the one that is here.
        here = "" if self.gpu is None else self.gpu.name
        if found is not None and (found.inspected or here in ("", found.gpu_here)):
            # The cache may have been moved, or mounted elsewhere, since the report was written.
            moved = found.replace(
                engine=str(engine),
                graph=str(folder / f"{part}.onnx"),
                trtexec=found.trtexec.replace(str(Path(found.engine).parent), str(folder)),
            )
            return moved, True
        given = _read_graph(source)
        stage("convert", 0.0)
        graph, cosine = self._typed(given)
        found_products = require_precision(graph, self.options.precision, keep=self.options.keep)
        typed = folder / f"{part}.onnx"
        built = self._shipped(shipped, digest)
        if built is None:
            built = build_engine(self.library, graph, self.options, progress=stage)
        stage("verify", 1.0)
        verdict = verify_engine(self.library, self.options, built.data, found_products, self.gpu)
        checked, left = self._checked(part, len(found_products), len(products(graph)), cosine)
        report = EngineReport(
            key=key,
            part=part,
            engine=str(engine),
            graph=str(typed),
            library=self.library.name,
            library_version=self.library.version,
            gpu=gpu,
            precision=self.options.precision,
            rest=_rest(self.options),
            keep=self.options.keep,
            built_precision=verdict.built_precision,
            profile=(1, self.options.usual_batch, self.options.max_batch),
            onnx_sha256=digest,
            engine_sha256=hashlib.sha256(built.data).hexdigest(),
            engine_bytes=len(built.data),
            weight_bytes=weight_bytes(graph),
            stored_bytes=stored_bytes(graph, built.data),
            products=len(found_products),
            centred_cosine=cosine,
            seconds=built.seconds,
            gpu_here=here,
            inspected=verdict.inspected,
            verified=(*checked, *verdict.verified),
            unverified=(*left, *verdict.unverified),
            warnings=built.warnings,
            trtexec=trtexec_line(self.library.name, self.options, typed, engine, _shapes(graph)),
        )
        _store(graph, built.data, report)
        return report, False

    def _typed(self, given: onnx.ModelProto) -> tuple[onnx.ModelProto, float | None]:
        """Return the graph in the precision asked for, and its cosine to fp32 where converted."""
        half, keep = self.options.half, self.options.keep
        # int8 weights are what a quantised graph has; half ones were converted already.
        if half is None or not set(weight_bytes(given)) <= {"fp32", "int8"}:
            return given, None
        typed = to_half(given, half, keep=keep)
        # Half values cross int8's steps: random inputs show that noise, only clips what it does.
        quantised = self.options.precision == "int8"
        return typed, None if quantised else check_half(given, half, keep=keep)

    def _shipped(self, plan: Path | None, onnx_sha256: str) -> BuiltEngine | None:
        """Return an engine that came with its graph, if it is what would be built here."""
        options = self.options
        if plan is None or options.level is not None:
            return None
        try:
            data = plan.read_bytes()
            report = EngineReport.from_json(report_file(plan).read_bytes())
        except (OSError, SpecError):
            return None
        same = (
            report.engine_sha256 == hashlib.sha256(data).hexdigest()
            and report.onnx_sha256 == onnx_sha256
            and (report.precision, report.keep) == (options.precision, options.keep)
            and report.rest == _rest(options)
            and report.profile[2] == options.max_batch
        )
        fault = plan_fault(
            read_plan_head(data),
            library=self.library.name,
            version=version_tuple(self.library.version),
            sm=None if self.gpu is None else self.gpu.sm,
        )
        if not same or fault is not None:
            return None
        return BuiltEngine(data, report.seconds, report.warnings)

    def _checked(
        self, part: str, found: int, of: int, cosine: float | None
    ) -> tuple[list[str], list[str]]:
        """Return what was checked of a graph and its build, and what was not."""
        precision = self.options.precision
        typed = f"types: the products of each graph are {precision}"
        if precision == "int8":
            typed = f"types: {found} of {of} products of {part} are int8, the others as they were"
        build = f"parsing, strong typing and the build by {self.library.title}"
        if cosine is not None:
            emulated = f"{precision} emulated on this CPU against fp32, random inputs"
            return [f"{typed}, norms and softmax fp32", build, emulated], []
        left = [] if precision == "fp32" else [f"how far {precision} is from fp32"]
        return [typed, build], left


def _rest(options: BuildOptions) -> str:
    return (options.half or "fp32") if options.precision == "int8" else ""


def _shapes(graph: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of each input by name, -1 first."""
    return {
        value.name: (-1, *(axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]))
        for value in graph.graph.input
    }


def _read_graph(source: Path) -> onnx.ModelProto:
    try:
        model = onnx.load(source)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "unreadable"
        raise GraphRefusedError(
            f"{source}: expected an ONNX model with its weights, got '{reason}'; export the "
            "checkpoint again"
        ) from error
    return model


def _finished(engine: Path, key: str) -> EngineReport | None:
    """Return the report of an engine that is there, whole, and built from the same things."""
    try:
        report = EngineReport.from_json(report_file(engine).read_bytes())
        whole = report.key == key and file_sha256(engine) == report.engine_sha256
    except (OSError, SpecError):
        return None
    return report if whole else None


def _store(graph: onnx.ModelProto, data: bytes, report: EngineReport) -> None:
    """Write an engine, its graph and its report; all of a new one, or nothing."""
    engine, typed = Path(report.engine), Path(report.graph)
    engine.parent.mkdir(parents=True, exist_ok=True)
    remove_temporaries(engine.parent, abandoned_seconds=ABANDONED_SECONDS)
    new = [path for path in (typed, engine) if not path.exists()]
    try:
        with writing(typed) as stream:
            onnx.save(graph, stream)
        write_bytes(engine, data)
        # The report last: an engine without one was not finished.
        write_text(report_file(engine), report.to_json())
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            engine.parent.rmdir()
        raise
