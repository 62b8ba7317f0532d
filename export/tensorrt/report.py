"""What was built, what of it was verified and what was not: kept beside each engine as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.table import Table

from fgmclip.spec.base import FrozenSpec

WIDTH = 150
"""Columns that the table needs."""


class EngineReport(FrozenSpec):
    """One engine.

    Attributes:
        format: Version of this layout.
        key: Hash over all that decides the engine.
        part: Name of the submodule or graph.
        engine: The engine's file.
        graph: The ONNX file that the builder was given, beside the engine.
        library: `tensorrt` or `rtx`.
        library_version: Version of the library that built it.
        gpu: GPU, or compute capabilities, that it was built for.
        precision: What was asked for, and what the graph's own types say.
        built_precision: What was proved of the built engine, or `requested, unverified`.
        rest: What an int8 graph's unquantised nodes compute in; empty of other graphs.
        keep: Names of nodes that stay fp32.
        gpu_here: The GPU of the machine that built it; empty without one.
        inspected: Whether a GPU loaded the engine and the inspector was asked.
        profile: Smallest, usual and largest batch.
        onnx_sha256: Hash of the graph that was given.
        engine_sha256: Hash of the engine.
        engine_bytes: Size of the engine.
        weight_bytes: Bytes of weights in the graph by type.
        stored_bytes: Bytes of weights that stand in the engine as in the graph, by type.
        products: Products (matrix products, convolutions) in that precision.
        centred_cosine: Least mean-centred cosine of the graph in this precision, emulated on a CPU
            with random inputs, to fp32; None where it was not computed.
        seconds: Time that parsing and building took.
        verified: What was checked.
        unverified: What was not, and why.
        warnings: What the library warned of.
        trtexec: The same build as a command line.
    """

    format: Literal[1] = 1
    key: str
    part: str
    engine: str
    graph: str
    library: Literal["tensorrt", "rtx"]
    library_version: str
    gpu: str
    precision: Literal["fp32", "fp16", "bf16", "int8"]
    built_precision: str
    rest: str = ""
    keep: tuple[str, ...] = ()
    gpu_here: str
    inspected: bool
    profile: tuple[int, int, int]
    onnx_sha256: str
    engine_sha256: str
    engine_bytes: int
    weight_bytes: dict[str, int]
    stored_bytes: dict[str, int]
    products: int
    centred_cosine: float | None
    seconds: float
    verified: tuple[str, ...]
    unverified: tuple[str, ...]
    warnings: tuple[str, ...]
    trtexec: str


def report_file(engine: Path) -> Path:
    """Return where an engine's report lies."""
    return engine.with_name(f"{engine.name}.json")


def megabytes(size: int) -> str:
    """Return a size in megabytes of 10^6 bytes, in kilobytes where it is small."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def weights_text(report: EngineReport) -> str:
    """Return an engine's weights by type, and the share that stands in it bit for bit."""
    total = sum(report.weight_bytes.values())
    sizes = " + ".join(f"{megabytes(size)} {name}" for name, size in report.weight_bytes.items())
    share = sum(report.stored_bytes.values()) / max(total, 1)
    return f"{sizes}, {share:.1%} of it found"


def asked_text(report: EngineReport) -> str:
    """Return the precision that was asked for, in words, for example `int8, rest fp16`."""
    rest = f", rest {report.rest}" if report.rest else ""
    return f"{report.precision}{rest}{f', {len(report.keep)} kept' if report.keep else ''}"


def report_table(reports: Sequence[EngineReport], reused: Sequence[str]) -> Table:
    """Return a table of engines.

    Args:
        reports: The engines.
        reused: Parts whose engine was there already.
    """
    first = reports[0]
    table = Table(
        title=f"engines for {first.gpu} by {first.library} {first.library_version}",
        title_justify="left",
    )
    for column in ("part", "precision", "built precision", "weights", "engine", "build", "cosine"):
        table.add_column(column, no_wrap=True)
    for item in reports:
        seconds = "reused" if item.part in reused else f"{item.seconds:.1f} s"
        cosine = "" if item.centred_cosine is None else f"{item.centred_cosine:.5f}"
        size = megabytes(item.engine_bytes)
        table.add_row(
            item.part,
            asked_text(item),
            item.built_precision,
            weights_text(item),
            size,
            seconds,
            cosine,
        )
    return table


def report_lines(reports: Sequence[EngineReport]) -> list[str]:
    """Return what was verified, what was not and the equivalent commands, a line each."""
    lines = []
    for title, field in (("verified", "verified"), ("not verified", "unverified")):
        items = dict.fromkeys(line for report in reports for line in getattr(report, field))
        lines += [f"{title}: {item}" for item in items]
    for report in reports:
        lines += [f"{report.part}: warned: {line}" for line in report.warnings]
    by_hand = [report.trtexec for report in reports if report.trtexec]
    return lines + [f"the same by hand: {line}" for line in by_hand]
