"""What `fgmclip export` prints of a release."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fgmclip.export.gate import Verdict
from fgmclip.export.gate_table import gate_notes, gate_summary, gate_table
from fgmclip.export.manifest import ReleaseManifest
from fgmclip.export.targets import engine_library
from fgmclip.export.tensorrt.report import WIDTH as ENGINES_WIDTH
from fgmclip.export.tensorrt.report import report_lines, report_table

WIDTH = 150
"""Columns that the gate's table needs."""


def print_release(manifest: ReleaseManifest, repository: Path, console: Console) -> None:
    """Print how far a release is from PyTorch, what the gate saw, and how to serve it.

    Args:
        manifest: Of the release.
        repository: Where it was published.
        console: For people.
    """
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    name = f"release r{manifest.release} of {manifest.public.spec.name}"
    table = Table(title=f"{name}: fp32 graphs", title_justify="left")
    for column in ("part", "largest difference from PyTorch", "allowed", "engine"):
        table.add_column(column)
    for check in manifest.checks:
        built = manifest.precision_built.get(check.part, "")
        table.add_row(check.part, f"{check.max_abs:.2e}", f"{check.tolerance:.2e}", built)
    console.print(table)
    if manifest.gate is not None:
        print_verdicts(manifest.gate.verdicts, f"{name}: gate", console)
        console.print(gate_summary(manifest.gate), highlight=False)
    if manifest.engines:
        console.width = max(console.width, ENGINES_WIDTH)
        console.print(report_table(manifest.engines, ()))
        for line in report_lines(manifest.engines):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if engine_library(manifest.target):
        console.print(
            f"On the GPU that will serve it: fgmclip engine build {repository}; until its engines "
            "are proved there, the graphs serve in ONNX Runtime",
            soft_wrap=True,
        )
    how = f"fgmclip serve {repository}"
    if manifest.target in ("onnx-gpu", "tensorrt"):
        how = "in a Triton container that has its backends, as serve/README.md says"
    console.print(f"{repository} serves r{manifest.release}: {how}", soft_wrap=True)


def print_verdicts(verdicts: Sequence[Verdict], title: str, console: Console) -> None:
    """Print the gate's table whole, and below it why each engine was refused."""
    console.width = max(console.width, WIDTH)
    console.print(gate_table(verdicts, title))
    for note in gate_notes(verdicts):
        console.print(note, highlight=False)
