"""What `fgmclip export` does, from a checkpoint's name to the printed release."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fgmclip.export.errors import GateError
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.printing import print_release, print_verdicts
from fgmclip.export.release import export_release, stages
from fgmclip.export.sources import open_model
from fgmclip.export.targets import Target


def run_export(
    checkpoint: str,
    repository: Path,
    *,
    target: Target,
    request: PrecisionRequest,
    random_weights: int | None,
    as_json: bool,
    progress: Progress,
    console: Console,
) -> None:
    """Export a checkpoint, publish it, and print the release.

    Args:
        checkpoint: A checkpoint's path, or a preset's name.
        repository: Where to publish.
        target: Where the engines run.
        request: The precision asked for, and how a rung proves itself.
        random_weights: Seed of random weights for a preset, instead of a checkpoint.
        as_json: Print the manifest for machines.
        progress: Shows the stages; running.
        console: Where the tables go.

    Raises:
        GateError: A rung was refused; its verdicts were printed.
        ExportError: The model or the target cannot be exported.
    """
    task = progress.add_task("read checkpoint", total=None)
    model = open_model(checkpoint, random_weights=random_weights, outliers=True)
    progress.update(task, total=stages(model.spec, request), completed=-1)
    try:
        manifest = export_release(
            model,
            repository,
            target=target,
            precision=request,
            report=lambda stage: progress.update(task, description=stage, advance=1),
            detail=lambda what: progress.update(task, description=what),
        )
    except GateError as error:
        progress.stop()
        if error.verdicts and not as_json:
            print_verdicts(error.verdicts, "refused by the gate", console)
        raise
    progress.stop()
    if as_json:
        print(manifest.to_json())
    else:
        print_release(manifest, repository, console)
