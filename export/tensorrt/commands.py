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
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T", bound=str)

engine_app = typer.Typer(help="Build TensorRT engines where they will run.", no_args_is_help=True)


@engine_app.callback()
def _group() -> None:
    """Keep `build` a subcommand while it is the only one."""


@engine_app.command("build")
def build_command(
    source: Annotated[
        Path, typer.Argument(help="Repository, or one ONNX file.", metavar="DIR|FILE.onnx")
    ],
    library: Annotated[
        str, typer.Option(help="tensorrt (on a GPU), or rtx (anywhere).")
    ] = "tensorrt",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, bf16, or int8 of a graph with Q/DQ nodes.")
    ] = "fp16",
    sm: Annotated[
        Optional[str],
        typer.Option(metavar="86,89", help="Compute capabilities, rtx only; 8.0 and later."),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Largest batch; the smallest is 1.")] = 64,
    level: Annotated[
        Optional[int], typer.Option(min=0, max=5, help="Optimisation level; the library's own.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="For later versions too; tensorrt only.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="For Ampere and later; tensorrt only.")
    ] = False,
    out: Annotated[
        Optional[Path], typer.Option(metavar="DIR", help="Folder to write; the user's cache.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Build engines from a repository's active release, or from one ONNX file.

    Engines lie in the cache by (graph, precision, profile, library, GPU) and are not built twice.
    """
    from fgmclip.export.tensorrt.build import Workbench, cache_folder
    from fgmclip.export.tensorrt.builder import BuildOptions
    from fgmclip.export.tensorrt.gpu import find_gpu
    from fgmclip.export.tensorrt.graph_types import PRECISIONS
    from fgmclip.export.tensorrt.library import LIBRARIES, load_library
    from fgmclip.export.tensorrt.report import WIDTH, report_lines, report_table

    chosen = load_library(_one_of(library, LIBRARIES, "--library"))
    gpu = find_gpu()
    times = f"timing-{chosen.version}-sm{gpu.sm if gpu else 0}.cache"
    options = BuildOptions(
        precision=_one_of(precision, PRECISIONS, "--precision"),
        max_batch=max_batch,
        sms=_compute_capabilities(sm),
        level=level,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        timing_cache=cache_folder() / times if library == "tensorrt" else None,
    )
    workbench = Workbench(chosen, options, gpu, out)
    reports, reused = [], []
    with _progress() as bar:
        for part, graph in find_graphs(source).items():
            task = bar.add_task(part, total=1.0, phase="")
            report, was_there = workbench.build(part, graph, _teller(bar, task))
            bar.update(task, phase="done", completed=1.0)
            reports.append(report)
            reused += [part] if was_there else []
    if as_json:
        rows = [report.model_dump() | {"reused": report.part in reused} for report in reports]
        print(json.dumps(rows, indent=2))
        return
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    console.print(report_table(reports, reused))
    for report in reports:
        console.print(f"{report.part}: {report.engine}", soft_wrap=True, highlight=False)
    for line in report_lines(reports):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def find_graphs(source: Path) -> dict[str, Path]:
    """Return the ONNX file of each submodule of a repository's active release, or the one named.

    Args:
        source: A repository, or an ONNX file.

    Raises:
        RepositoryError: The directory is no repository, or serves no release or several.
    """
    from fgmclip.export.errors import RepositoryError
    from fgmclip.export.names import PARTS, step_name
    from fgmclip.export.repository import Repository
    from fgmclip.export.targets import ENGINE_FILE

    if source.is_file():
        return {source.stem: source}
    repository = Repository(source)
    repository.releases()
    active = sorted(set(repository.active().values()))
    if len(active) != 1:
        came = ", ".join(f"r{release}" for release in active) or "none"
        raise RepositoryError(
            f"{source}: expected one active release, got {came}; choose it with "
            f"'fgmclip repo activate {source} RELEASE'"
        )
    files: dict[str, Path] = {
        part: source / step_name(part, active[0]) / "1" / ENGINE_FILE for part in PARTS
    }
    graphs = {part: path for part, path in files.items() if path.is_file()}
    if not graphs:
        raise RepositoryError(
            f"{source}: expected {ENGINE_FILE} in the steps of r{active[0]}, got none; export the "
            "checkpoint again"
        )
    return graphs


def _teller(bar: Progress, task: TaskID) -> Callable[[str, float], None]:
    return lambda phase, share: bar.update(task, phase=phase, completed=share)


def _one_of(value: str, choices: Sequence[T], option: str) -> T:
    for choice in choices:
        if choice == value:
            return choice
    raise typer.BadParameter(f"expected {' or '.join(choices)}, got {value}", param_hint=option)


def _compute_capabilities(text: str | None) -> tuple[int, ...]:
    words = [] if text is None else text.split(",")
    if not all(word.strip().isdigit() for word in words):
        raise typer.BadParameter(
            f"expected numbers like 86,89 for 8.6 and 8.9, got {text}", param_hint="--sm"
        )
    return tuple(dict.fromkeys(int(word) for word in words))


def _progress() -> Progress:
    """Return a progress bar on stderr, so that stdout stays for machines."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[phase]}"),
    )
    stderr = Console(stderr=True)
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
