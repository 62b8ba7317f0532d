"""`fgmclip engine build`: every submodule of a release, or one ONNX file, becomes an engine.

Nothing here needs torch: an engine is built where it will run.
"""

# typer reads these annotations at run time and Python 3.10 is supported: Optional, not `| None`.
# ruff: noqa: UP045

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional, TypeVar

import typer
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from fgmclip.command import make_console

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T", bound=str)

engine_app = typer.Typer(help="Build TensorRT engines where they will run.", no_args_is_help=True)


@engine_app.callback()
def _group() -> None:
    """Keep `build` a subcommand whatever others there are."""


@engine_app.command("build")
def build_command(
    source: Annotated[
        Path, typer.Argument(help="Repository, or one ONNX file.", metavar="DIR|FILE.onnx")
    ],
    library: Annotated[
        Optional[str],
        typer.Option(help="Of a FILE: tensorrt (on a GPU; the default), or rtx (anywhere)."),
    ] = None,
    precision: Annotated[
        Optional[str],
        typer.Option(help="Of a FILE: fp32, fp16 (the default), bf16, or int8 if it has Q/DQ."),
    ] = None,
    sm: Annotated[
        Optional[str],
        typer.Option(metavar="86,89", help="Compute capabilities, rtx only; the GPU here, or 8.0+"),
    ] = None,
    max_batch: Annotated[
        Optional[int],
        typer.Option(min=1, help="Of a FILE: largest batch, 64; the smallest is 1."),
    ] = None,
    level: Annotated[
        Optional[int], typer.Option(min=0, max=5, help="Optimisation level; the library's own.")
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="Of a FILE: for later versions; tensorrt only."),
    ] = False,
    hardware_compatible: Annotated[
        bool,
        typer.Option("--hardware-compatible", help="Of a FILE: for Ampere on; tensorrt only."),
    ] = False,
    out: Annotated[
        Optional[Path],
        typer.Option(metavar="DIR", help="Of a FILE: folder to write; the user's cache."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Build and prove the engines of a repository's active release, or build one ONNX file.

    Engines lie in the cache (FGMCLIP_ENGINES, else the user's) by graph, recipe, profile, library
    and GPU, and are not built twice. Those of a release are built as its recipes say and judged
    on this machine by the clips that came with it: exit code 4 if one is refused.
    """
    from fgmclip.export.tensorrt.building import build_file, build_release
    from fgmclip.export.tensorrt.graph_types import PRECISIONS
    from fgmclip.export.tensorrt.sms import parse_sms
    from fgmclip.serve.runtimes.libraries import LIBRARIES

    console = make_console()
    sms = parse_sms(sm)
    with _progress() as bar:
        if source.is_file():
            shown = build_file(
                source,
                library=_one_of(library or "tensorrt", LIBRARIES, "--library"),
                precision=_one_of(precision or "fp16", PRECISIONS, "--precision"),
                sms=sms,
                max_batch=max_batch or 64,
                level=level,
                version_compatible=version_compatible,
                hardware_compatible=hardware_compatible,
                out=out,
                stages=lambda part: _teller(bar, bar.add_task(part, total=1.0, phase="")),
            )
        else:
            given = {
                "--library": library,
                "--precision": precision,
                "--max-batch": max_batch,
                "--version-compatible": version_compatible,
                "--hardware-compatible": hardware_compatible,
                "--out": out,
            }
            for option, value in given.items():
                if value:
                    raise typer.BadParameter(
                        "expected with one ONNX file, got a repository, whose recipes say how its "
                        "engines are built; leave it out, or export again as you want them",
                        param_hint=option,
                    )
            shown = build_release(
                source,
                sms=sms,
                level=level,
                stages=lambda part: _teller(bar, bar.add_task(part, total=1.0, phase="")),
            )
    if as_json:
        print(json.dumps(shown.rows, indent=2))
    else:
        # A log or a pipe has no width of its own, and a narrow one would cut figures off.
        console.width = max(console.width, shown.width)
        console.print(shown.table)
        for line in shown.lines:
            console.print(line, soft_wrap=True, highlight=False, markup=False)
    if shown.refusal is not None:
        raise shown.refusal


@engine_app.command("view")
def view_command(
    source: Annotated[Path, typer.Argument(help="Repository.", metavar="DIR")],
    out: Annotated[Path, typer.Option(metavar="VIEW", help="Folder of links; made or renewed.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Make a repository of links in which Triton's tensorrt backend serves the proven engines.

    For a release of target tensorrt: every step as in DIR, but for those whose engine was proven on
    this machine. Start Triton on VIEW; run this again after a new release or a new proof. DIR and
    the cache of engines must be reachable under the same paths where Triton runs.
    """
    from fgmclip.export.tensorrt.view import make_view

    steps = make_view(source, out)
    if as_json:
        print(json.dumps([step.to_json() for step in steps], indent=2))
        return
    console = make_console()
    for step in steps:
        console.print(step.line, soft_wrap=True, highlight=False, markup=False)


def _teller(bar: Progress, task: TaskID) -> Callable[[str, float], None]:
    return lambda phase, share: bar.update(task, phase=phase, completed=share)


def _one_of(value: str, choices: Sequence[T], option: str) -> T:
    for choice in choices:
        if choice == value:
            return choice
    raise typer.BadParameter(f"expected {' or '.join(choices)}, got {value}", param_hint=option)


def _progress() -> Progress:
    """Return a progress bar on stderr, so that stdout stays for machines."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[phase]}"),
    )
    stderr = make_console(stderr=True)
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
