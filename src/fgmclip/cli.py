"""The `fgmclip` command: each subcommand imports its room when it runs.

Exit codes: see `fgmclip.command`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fgmclip import __version__
from fgmclip.cli_watch import watch_command
from fgmclip.command import make_console, run_command
from fgmclip.export.tensorrt.commands import engine_app
from fgmclip.storage.text import one_line

# typer reads these annotations at run time and Python 3.10 is supported: Optional, not `| None`.
# ruff: noqa: UP045
app = typer.Typer(
    help="FGM-CLIP on Triton: a training checkpoint becomes a served action recogniser.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 ok, 1 some input failed, 2 usage, 3 regression found, "
    "4 refused by a gate.",
)
model_app = typer.Typer(help="Look at models.", no_args_is_help=True)
repo_app = typer.Typer(help="Look after a Triton repository.", no_args_is_help=True)
kernels_app = typer.Typer(help="Build and look at the CUDA kernels.", no_args_is_help=True)
app.add_typer(model_app, name="model")
app.add_typer(repo_app, name="repo")
app.add_typer(kernels_app, name="kernels")
app.add_typer(engine_app, name="engine")
app.command("watch")(watch_command)

console = make_console()

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
RepositoryPath = Annotated[Path, typer.Argument(help="Repository directory.", metavar="DIR")]
DatasetPath = Annotated[
    Path, typer.Argument(help="CSV with path,label[,group], or folder DIR/CLASS/FILE.")
]
RandomWeights = Annotated[
    Optional[int],
    typer.Option("--random-weights", metavar="SEED", help="Random weights for a preset's name."),
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
    target: Annotated[
        str,
        typer.Option(
            help="Where the engines run: cpu (in Python steps), onnx-gpu (Triton's onnxruntime "
            "backend), tensorrt (Triton's tensorrt backend, built there), or rtx (TensorRT for "
            "RTX in Python steps, built here)."
        ),
    ] = "cpu",
    precision: Annotated[
        Optional[str],
        typer.Option(
            help="cpu: fp32 (default), bf16, int8, or auto, the fastest that passes the gate; "
            "onnx-gpu: fp32 (default), fp16; tensorrt, rtx: fp16 (default), fp32, bf16, int8."
        ),
    ] = None,
    sm: Annotated[
        Optional[str],
        typer.Option(metavar="86,89", help="Compute capabilities, rtx only; 8.0 and later."),
    ] = None,
    calibration: Annotated[
        Optional[Path],
        typer.Option(
            metavar="DIR|CSV",
            help="Videos for scales and gate, half of the groups each; generated ones if absent.",
        ),
    ] = None,
    min_cosine: Annotated[float, typer.Option(help="Gate: median centred cosine.")] = 0.98,
    min_identity: Annotated[
        float, typer.Option(help="Gate: part of the frames nearest to their own.")
    ] = 0.99,
    min_agreement: Annotated[
        float, typer.Option(help="Gate: part of the clips with PyTorch's answer.")
    ] = 0.99,
    min_speedup: Annotated[
        float, typer.Option(help="Gate: how many times faster than all below it a rung must be.")
    ] = 1.05,
    random_weights: RandomWeights = None,
    as_json: AsJson = False,
) -> None:
    """Export a checkpoint and publish it as the next release of a live Triton repository.

    With a precision other than fp32 each submodule must prove itself against PyTorch, in accuracy
    and, on a CPU, in speed. Random weights get outlier channels, as trained ones have.
    """
    from fgmclip.export.gate import Thresholds
    from fgmclip.export.publishing import run_export

    thresholds = Thresholds.of(
        cosine=min_cosine, identity=min_identity, agreement=min_agreement, speedup=min_speedup
    )
    with _progress() as progress:
        run_export(
            checkpoint,
            repository,
            target=target,
            precision=precision,
            sm=sm,
            calibration=calibration,
            thresholds=thresholds,
            random_weights=random_weights,
            as_json=as_json,
            progress=progress,
            console=console,
        )


@app.command("serve")
def serve_command(
    repository: RepositoryPath,
    grpc_port: Annotated[
        Optional[int], typer.Option(help="gRPC port; a free one if absent.")
    ] = None,
    metrics_port: Annotated[
        Optional[int], typer.Option(help="Metrics port; a free one if absent.")
    ] = None,
) -> None:
    """Serve a repository on this machine and follow its releases until a signal ends it."""
    from fgmclip.serve import serve_forever

    serve_forever(repository, grpc_port=grpc_port, metrics_port=metrics_port, console=console)


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


@app.command("samples")
def samples_command(
    directory: Annotated[Path, typer.Argument(help="Folder to write into.", metavar="DIR")],
    per_class: Annotated[int, typer.Option(help="Videos of each action.")] = 4,
    seed: Annotated[int, typer.Option(help="First seed; each video has its own.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw videos of moving figures, a labelled data set without anybody's licence."""
    from fgmclip.video.samples import generate_samples

    with _progress() as progress:
        task = progress.add_task("draw", total=None)
        clips = generate_samples(
            directory,
            per_class=per_class,
            seed=seed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        print(json.dumps([{"path": str(clip.path), "label": clip.label} for clip in clips]))
    else:
        console.print(f"{len(clips)} videos in {directory}, listed in {directory / 'index.csv'}")


@app.command("train")
def train_command(
    dataset: DatasetPath,
    out: Annotated[Path, typer.Option(help="Checkpoint to write, NAME.safetensors.")],
    preset: Annotated[Optional[str], typer.Option(help="Preset to train.")] = None,
    spec: Annotated[Optional[Path], typer.Option(help="Spec file, instead of a preset.")] = None,
    motion: Annotated[bool, typer.Option(help="Leave motion out with --no-motion.")] = True,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 30,
    seed: Annotated[int, typer.Option(help="Decides weights, order and augmentation.")] = 0,
    mirror: Annotated[
        bool, typer.Option("--mirror", help="Classes mean the same in a mirror.")
    ] = False,
    freeze_image: Annotated[
        bool, typer.Option("--freeze-image", help="Leave the image encoder as it is.")
    ] = False,
    image_weights: Annotated[
        Optional[Path], typer.Option(help="Plain weights of the image encoder.")
    ] = None,
    init: Annotated[
        Optional[Path], typer.Option(help="Checkpoint whose fitting tensors are taken over.")
    ] = None,
) -> None:
    """Train a checkpoint on a labelled data set; a stopped run goes on when repeated."""
    from fgmclip.training.commands import train
    from fgmclip.training.run import Initial, Workshop, default_cache
    from fgmclip.training.settings import TrainSettings

    train(
        dataset,
        out,
        workshop=Workshop(default_cache()),
        settings=TrainSettings(epochs=epochs, seed=seed, mirror=mirror, freeze_image=freeze_image),
        preset_name=preset,
        spec_file=spec,
        motion=None if motion else "none",
        initial=Initial(checkpoint=init, image_weights=image_weights),
        say=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
    )


@app.command("evaluate")
def evaluate_command(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint.")],
    dataset: DatasetPath,
    as_json: AsJson = False,
) -> None:
    """Name the videos of a labelled data set as a client would, and compare."""
    from fgmclip.training.commands import evaluate_checkpoint
    from fgmclip.training.run import Workshop, default_cache

    workshop = Workshop(default_cache(), progress=not as_json)
    evaluation = evaluate_checkpoint(checkpoint, dataset, workshop=workshop, say=_tell)
    if as_json:
        print(json.dumps(evaluation.to_dict(), indent=2))
    else:
        console.print(evaluation.to_table())


@model_app.command("describe")
def describe_command(
    source: Annotated[
        str, typer.Argument(help="Preset or checkpoint.", metavar="PRESET|CHECKPOINT")
    ],
    as_json: AsJson = False,
) -> None:
    """Print submodules, shapes, parameters and multiply-adds, counted from the ONNX graph."""
    from fgmclip.export.sources import open_model
    from fgmclip.model.describe import describe, print_description
    from fgmclip.spec import PRESETS

    # Counts need the shape of the weights, not their values.
    seed = 0 if source in PRESETS else None
    with make_console(stderr=True).status("counting"):
        description = describe(open_model(source, random_weights=seed, say=_tell))
    if as_json:
        print(description.to_json())
    else:
        print_description(description, console)


@repo_app.command("list")
def list_command(repository: RepositoryPath, as_json: AsJson = False) -> None:
    """List the releases and which of them the ensembles serve."""
    from fgmclip.export.commands import run_list

    run_list(repository, as_json=as_json, console=console)


@repo_app.command("activate")
def activate_command(
    repository: RepositoryPath,
    release: Annotated[int, typer.Argument(help="Number of the release, 7 for r7.")],
    as_json: AsJson = False,
) -> None:
    """Let the ensembles serve a release that is already in the repository."""
    from fgmclip.export.commands import run_activate

    run_activate(repository, release, as_json=as_json, console=console)


@repo_app.command("prune")
def prune_command(
    repository: RepositoryPath,
    keep: Annotated[int, typer.Option(min=0, help="Newest releases that stay.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Remove old releases that nothing serves."""
    from fgmclip.export.commands import run_prune

    run_prune(repository, keep, as_json=as_json, console=console)


@repo_app.command("lint")
def lint_command(repository: RepositoryPath, as_json: AsJson = False) -> None:
    """Check a repository without a server; exit code 1 if anything was found."""
    from fgmclip.export.commands import run_lint

    if not repository.is_dir():
        raise typer.BadParameter(
            f"expected a directory, got {one_line(str(repository))}", param_hint="DIR"
        )
    with _progress() as bar:
        task = bar.add_task("hash", total=None)
        code = run_lint(
            repository,
            as_json=as_json,
            console=console,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    raise typer.Exit(code)


@kernels_app.command("build")
def build_command(
    nvcc: Annotated[
        Optional[Path],
        typer.Option(help="CUDA compiler; found if absent: CUDA_HOME, PATH, wheels."),
    ] = None,
    out: Annotated[
        Optional[Path],
        typer.Option(help="File to write; where servers and exports look if absent."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compile the CUDA kernels into one fat binary for all GPUs; needs nvcc and gcc, no GPU."""
    from fgmclip.kernels.commands import run_build

    with _progress() as bar:
        task = bar.add_task("nvcc", total=None)
        run_build(
            nvcc=nvcc,
            out=out,
            as_json=as_json,
            console=console,
            progress=lambda code, done, total: bar.update(
                task, description=code, completed=done, total=total
            ),
        )


@kernels_app.command("info")
def info_command(as_json: AsJson = False) -> None:
    """Print registers, spills, shared memory, occupancy and bytes moved of each kernel."""
    from fgmclip.kernels.commands import run_info

    with make_console(stderr=True).status("") as status:
        run_info(as_json=as_json, console=console, report=lambda stage: status.update(stage))


def _progress() -> Progress:
    """Return a progress bar on stderr, so that stdout stays for machines."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    stderr = make_console(stderr=True)
    return Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)


def _tell(line: str) -> None:
    """Print a line for people on stderr, so that stdout stays for machines."""
    make_console(stderr=True).print(line, highlight=False, markup=False, soft_wrap=True)


def _demo_repository() -> Path:
    """Return a repository of the shipped demo, exported once for each version of its checkpoint."""
    from fgmclip.export.demo import demo_repository

    with make_console(stderr=True).status("preparing the demo model"):
        return demo_repository()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; an error is one line on stderr and its own exit code."""
    return run_command(lambda: app(args=arguments, prog_name="fgmclip"))


if __name__ == "__main__":
    sys.exit(main())
