"""The `fgmclip` command: each subcommand imports its room when it runs.

Exit codes: 0 ok, 1 some input failed, 2 usage, 3 regression found, 4 refused by a gate.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from fgmclip import __version__
from fgmclip.spec.errors import FgmclipError

# typer reads these annotations at run time and Python 3.10 is supported: Optional, not `| None`.
# ruff: noqa: UP007, UP045
app = typer.Typer(
    help="FGM-CLIP on Triton: a training checkpoint becomes a served action recogniser.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 ok, 1 some input failed, 2 usage, 3 regression found, "
    "4 refused by a gate.",
)
model_app = typer.Typer(help="Look at models.", no_args_is_help=True)
repo_app = typer.Typer(help="Look after a Triton repository.", no_args_is_help=True)
app.add_typer(model_app, name="model")
app.add_typer(repo_app, name="repo")

console = Console()

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
RepositoryPath = Annotated[Path, typer.Argument(help="Repository directory.", metavar="DIR")]
RandomWeights = Annotated[
    Optional[int],
    typer.Option(
        "--random-weights", metavar="SEED", help="Random weights for a preset's name."
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        console.print(f"fgmclip {__version__}", highlight=False)
        raise typer.Exit


@app.command("export")
def export_command(
    checkpoint: Annotated[
        str, typer.Argument(help="Checkpoint, or a preset's name with --random-weights.")
    ],
    repository: Annotated[Path, typer.Option(help="Triton repository to publish into.")],
    target: Annotated[str, typer.Option(help="Where the engines run: cpu.")] = "cpu",
    random_weights: RandomWeights = None,
    as_json: AsJson = False,
) -> None:
    """Export a checkpoint and publish it as the next release of a live Triton repository."""
    from fgmclip.export.release import export_release, stages
    from fgmclip.export.sources import open_model

    if target != "cpu":
        raise typer.BadParameter(f"expected cpu, got {target}", param_hint="--target")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("read checkpoint", total=None)
        model = open_model(checkpoint, random_weights=random_weights)
        progress.update(task, total=stages(model.spec), completed=-1)
        manifest = export_release(
            model,
            repository,
            report=lambda stage: progress.update(task, description=stage, advance=1),
        )
    if as_json:
        print(manifest.to_json())
        return
    table = Table(title=f"release r{manifest.release} of {model.spec.name}", title_justify="left")
    for column in ("part", "precision", "largest difference from PyTorch", "allowed"):
        table.add_column(column)
    for check in manifest.checks:
        precision = manifest.precision_built.get(check.part, "")
        table.add_row(check.part, precision, f"{check.max_abs:.2e}", f"{check.tolerance:.2e}")
    console.print(table)
    console.print(f"{repository} serves r{manifest.release}: fgmclip serve {repository}")


@app.command("serve")
def serve_command(
    repository: RepositoryPath,
    grpc_port: Annotated[Optional[int], typer.Option(help="gRPC port; a free one if absent.")]
    = None,
    metrics_port: Annotated[
        Optional[int], typer.Option(help="Metrics port; a free one if absent.")
    ] = None,
) -> None:
    """Serve a repository on this machine and follow its releases until a signal ends it."""
    from fgmclip.serve import serve_forever

    serve_forever(
        repository, grpc_port=grpc_port, metrics_port=metrics_port, console=console
    )


@app.command("classify")
def classify_command(
    videos: Annotated[list[Path], typer.Argument(help="Video files.")],
    url: Annotated[
        Optional[str],
        typer.Option(metavar="HOST:PORT", help="Server; the demo is started here if absent."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Name the action in each video; exit code 1 if any of them failed."""
    from fgmclip.client.commands import run_classify

    if url is not None:
        raise typer.Exit(run_classify(videos, url, as_json, console))
    from fgmclip.serve import EmbeddedServer

    with EmbeddedServer(_demo_repository()) as server:
        code = run_classify(videos, server.url, as_json, console)
    raise typer.Exit(code)


@model_app.command("describe")
def describe_command(
    source: Annotated[str, typer.Argument(help="Preset or checkpoint.", metavar="PRESET|CHECKPOINT")],
    as_json: AsJson = False,
) -> None:
    """Print submodules, shapes, parameters and multiply-adds, counted from the ONNX graph."""
    from fgmclip.export.sources import open_model
    from fgmclip.model.describe import describe, print_description
    from fgmclip.spec import PRESETS

    # Counts need the shape of the weights, not their values.
    seed = 0 if source in PRESETS else None
    with Console(stderr=True).status("counting"):
        description = describe(open_model(source, random_weights=seed))
    if as_json:
        print(description.to_json())
    else:
        print_description(description, console)


@repo_app.command("list")
def list_command(repository: RepositoryPath, as_json: AsJson = False) -> None:
    """List the releases and which of them the ensembles serve."""
    from fgmclip.export.repository import Repository

    target = Repository(repository)
    active = target.active()
    manifests = [target.manifest(release) for release in target.releases()]
    if as_json:
        rows = [
            {
                "release": item.release,
                "model": item.public.spec.name,
                "precision": item.public.precision,
                "created": item.created,
                "model_tag": item.public.model_tag,
                "embedding_tag": item.public.embedding_tag,
                "active_in": [name for name, release in active.items() if release == item.release],
            }
            for item in manifests
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table()
    for column in ("release", "model", "precision", "created", "model tag", "served by"):
        table.add_column(column)
    for item in manifests:
        served = ", ".join(name for name, release in active.items() if release == item.release)
        table.add_row(
            f"r{item.release}",
            item.public.spec.name,
            item.public.precision,
            item.created,
            item.public.model_tag,
            served,
        )
    console.print(table)
    if len(set(active.values())) > 1:
        newest = max(active.values())
        console.print(
            "The ensembles serve different releases: a publication was interrupted. Finish it "
            f"with: fgmclip repo activate {repository} {newest}",
            style="yellow",
        )


@repo_app.command("activate")
def activate_command(
    repository: RepositoryPath,
    release: Annotated[int, typer.Argument(help="Number of the release, 7 for r7.")],
    as_json: AsJson = False,
) -> None:
    """Let the ensembles serve a release that is already in the repository."""
    from fgmclip.export.repository import Repository

    target = Repository(repository)
    with target.lock():
        target.activate(release)
    if as_json:
        print(json.dumps({"active": release}))
    else:
        console.print(f"{repository} serves r{release}")


@repo_app.command("prune")
def prune_command(
    repository: RepositoryPath,
    keep: Annotated[int, typer.Option(min=0, help="Newest releases that stay.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Remove old releases that nothing serves."""
    from fgmclip.export.repository import Repository

    target = Repository(repository)
    with target.lock():
        removed = target.prune(keep)
    if as_json:
        print(json.dumps({"removed": removed}))
    else:
        names = ", ".join(f"r{number}" for number in removed)
        console.print(f"removed {names}" if removed else "nothing to remove")


def _demo_repository() -> Path:
    """Return a repository of the shipped demo, exported once for each version of its checkpoint."""
    from fgmclip.export.demo import demo_repository

    with Console(stderr=True).status("preparing the demo model"):
        return demo_repository()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; an error of ours is one line on stderr and its own exit code."""
    try:
        app(args=arguments, prog_name="fgmclip")
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
