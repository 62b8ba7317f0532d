"""What `fgmclip kernels build` and `fgmclip kernels info` do; the command line adds its words.

Not for a server: rich and pydantic are not in a stock Triton container.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table

from fgmclip.command import make_console
from fgmclip.kernels import native
from fgmclip.kernels.cuda.abi import KERNELS
from fgmclip.kernels.cuda.binary import FatBinary, find_binary
from fgmclip.kernels.cuda.build import Nvcc, Progress, build_binary, find_nvcc, probe_nvcc
from fgmclip.kernels.cuda.host import HostDevice
from fgmclip.kernels.cuda.report import (
    IMAGE_SIZE,
    MOTION_SIZE,
    KernelRow,
    Moved,
    kernel_rows,
    moved_bytes,
)
from fgmclip.kernels.errors import BuildError, KernelError
from fgmclip.kernels.parameters import FlowParameters
from fgmclip.spec import FgmclipError, FlowSpec

T = TypeVar("T")

SHORT = {"registers": "regs", "shared memory": "shared"}


class KernelBuildError(FgmclipError):
    """The fat binary could not be built."""


class Reason(str):
    """Why something is not known, in place of it."""


def run_build(
    *,
    nvcc: Path | None,
    out: Path | None,
    as_json: bool,
    console: Console,
    progress: Progress,
) -> None:
    """Build the fat binary and say where it is.

    Args:
        nvcc: The compiler; found if None.
        out: Where to; the user's cache if None.
        as_json: Print the record as JSON instead of text.
        console: Where to print.
        progress: Told whenever another architecture is done.

    Raises:
        KernelBuildError: It was not built; what the compiler said is on stderr.
    """
    try:
        compiler = None if nvcc is None else probe_nvcc(nvcc)
        binary = build_binary(nvcc=compiler, out=out, progress=progress)
    except BuildError as error:
        if error.log:
            make_console(stderr=True).print(
                error.log.rstrip(), markup=False, highlight=False, soft_wrap=True
            )
        raise KernelBuildError(str(error)) from error
    if as_json:
        _print_json(console, _binary_facts(binary))
        return
    record = binary.record
    _say(console, f"{binary.path}: {binary.path.stat().st_size / 1024:.0f} KiB")
    codes = ", ".join((*record.architectures, *record.virtual))
    _say(console, f"nvcc {record.compiler}, {len(record.kernels)} kernels: {codes}")
    if record.left_out:
        _say(console, f"left out, as this nvcc does not know them: {', '.join(record.left_out)}")
    spilling = {
        f"{item.kernel} on {item.architecture}"
        for item in record.figures
        if item.spill_stores or item.spill_loads
    }
    _say(console, f"register spills: {', '.join(sorted(spilling)) or 'none'}")


def run_info(*, as_json: bool, console: Console, report: Callable[[str], None]) -> None:
    """Print what is known of the kernels on this machine, and why the rest is not.

    Args:
        as_json: Print JSON instead of tables.
        console: Where to print.
        report: Called with the name of each stage as it begins.
    """
    flow = FlowParameters.from_spec(FlowSpec())
    report("look for nvcc and the fat binary")
    instructions = _or_reason(native.instruction_set)
    compiler = _or_reason(find_nvcc)
    binary = _or_reason(lambda: find_binary(KERNELS))
    rows = [] if isinstance(binary, Reason) else kernel_rows(binary.record, flow)
    report("run the kernels on this CPU")
    moved = _or_reason(lambda: list(moved_bytes(HostDevice(), flow)))
    if as_json:
        facts = {
            "instruction_set": _facts(instructions, str),
            "nvcc": _facts(compiler, _nvcc_facts),
            "binary": _facts(binary, _binary_facts),
            "kernels": [_row_facts(row) for row in rows],
            "moved": _facts(moved, lambda items: [_moved_facts(item) for item in items]),
        }
        _print_json(console, facts)
        return
    _say(console, f"C++ kernels: {instructions}")
    if isinstance(compiler, Reason):
        _say(console, compiler)
    else:
        _say(console, f"nvcc: {compiler.version}, {compiler.path}")
    if isinstance(binary, Reason):
        _say(console, binary)
    else:
        _say(console, f"fat binary: {binary.path}, by nvcc {binary.record.compiler}")
        _say(
            console,
            f"\nwhole frames up to 1080p to PIXELS {IMAGE_SIZE} and MOTION {MOTION_SIZE}:",
        )
        console.print(_kernel_table(rows))
    if isinstance(moved, Reason):
        _say(console, f"bytes moved: not counted: {moved}")
    else:
        _say(console, "\nglobal memory of a pair of frames to the same, KiB:")
        console.print(_moved_table(moved))


def _or_reason(ask: Callable[[], T]) -> T | Reason:
    try:
        return ask()
    except (BuildError, KernelError) as error:
        return Reason(error)


def _facts(found: T | Reason, describe: Callable[[T], Any]) -> Any:
    return {"missing": str(found)} if isinstance(found, Reason) else describe(found)


def _nvcc_facts(nvcc: Nvcc) -> dict[str, Any]:
    return {"path": str(nvcc.path), "version": nvcc.version, "codes": sorted(nvcc.codes)}


def _binary_facts(binary: FatBinary) -> dict[str, Any]:
    return {
        "path": str(binary.path),
        "bytes": binary.path.stat().st_size,
        **asdict(binary.record),
    }


def _row_facts(row: KernelRow) -> dict[str, Any]:
    held = row.occupancy
    return {
        **asdict(row.figures),
        "threads": row.threads,
        "dynamic_shared": row.dynamic_shared,
        "blocks": None if held is None else held.blocks,
        "occupancy": None if held is None else held.fraction,
        "limited_by": None if held is None else held.limits,
    }


def _moved_facts(moved: Moved) -> dict[str, Any]:
    return {**asdict(moved), "ratio": moved.ratio}


def _kernel_table(rows: list[KernelRow]) -> Table:
    table = _table()
    for column in ("kernel", "code"):
        table.add_column(column, no_wrap=True)
    for column in ("regs", "spill", "shared", "threads", "blocks", "occ."):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("limit", no_wrap=True)
    for _, group in groupby(rows, key=lambda row: row.figures.kernel):
        for index, row in enumerate(group):
            figures, held = row.figures, row.occupancy
            spilled = figures.spill_stores + figures.spill_loads
            table.add_row(
                "" if index else figures.kernel,
                figures.architecture,
                str(figures.registers),
                f"[red]{spilled}[/red]" if spilled else "0",
                f"{figures.shared}+{row.dynamic_shared}",
                str(row.threads),
                "" if held is None else str(held.blocks),
                "" if held is None else f"{held.fraction:.0%}",
                "" if held is None else ", ".join(SHORT.get(name, name) for name in held.limits),
            )
    table.caption = (
        "regs: of a thread; spill: bytes of a thread; shared: bytes of a block, static + dynamic; "
        "blocks: on a multiprocessor; occ.: share of its warps that they keep"
    )
    return table


def _moved_table(moved: list[Moved]) -> Table:
    table = _table()
    for column in ("frames", "kernel"):
        table.add_column(column, no_wrap=True)
    for column in ("loaded", "stored", "at least", "ratio"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, group in groupby(moved, key=lambda item: item.workload):
        for index, item in enumerate(group):
            numbers = (item.loaded, item.stored, item.minimum)
            kibibytes = (f"{number / 1024:.1f}" for number in numbers)
            table.add_row("" if index else name, item.kernel, *kibibytes, f"{item.ratio:.2f}")
    return table


def _table() -> Table:
    """Return a table that is narrow enough for 80 columns."""
    return Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_json(console: Console, facts: Any) -> None:
    # Not through rich, which would wrap and colour it.
    console.file.write(json.dumps(facts, indent=2) + "\n")
