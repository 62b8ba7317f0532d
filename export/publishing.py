"""What `fgmclip export` does, from a checkpoint's name to the printed release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import typer
from rich.console import Console
from rich.progress import Progress

from fgmclip.export.errors import GateError
from fgmclip.export.gate import Thresholds
from fgmclip.export.ladder.candidate import Precision
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.printing import print_release, print_verdicts
from fgmclip.export.release import export_release, stages
from fgmclip.export.sources import open_model
from fgmclip.export.targets import PRECISIONS, TARGETS, Target, precision_fault
from fgmclip.export.tensorrt.sms import parse_sms


def run_export(
    checkpoint: str,
    repository: Path,
    *,
    target: str,
    precision: str | None,
    sm: str | None,
    calibration: Path | None,
    thresholds: Thresholds,
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
        precision: What is asked for; None for what the target takes if nothing is.
        sm: Compute capabilities to build for, for example `86,89`; `rtx` only.
        calibration: A CSV or a folder of videos; None for generated ones.
        thresholds: Of the gate.
        random_weights: Seed of random weights for a preset, instead of a checkpoint.
        as_json: Print the manifest for machines.
        progress: Shows the stages; running.
        console: Where the tables go.

    Raises:
        GateError: A rung was refused; its verdicts were printed.
        ExportError: The model or the target cannot be exported.
        typer.BadParameter: There is no such target, or the target has no such precision.
    """
    where = _target(target)
    asked = PRECISIONS[where][0] if precision is None else precision
    if fault := precision_fault(where, asked):
        raise typer.BadParameter(fault, param_hint="--precision")
    sms = parse_sms(sm)
    request = PrecisionRequest(
        cast(Precision, asked), calibration, thresholds, trained=random_weights is None
    )
    task = progress.add_task("read checkpoint", total=None)
    model = open_model(
        checkpoint,
        random_weights=random_weights,
        outliers=True,
        say=lambda line: progress.console.print(
            line, highlight=False, markup=False, soft_wrap=True
        ),
    )
    progress.update(task, total=stages(model.spec, request, where), completed=-1)
    try:
        manifest = export_release(
            model,
            repository,
            target=where,
            precision=request,
            sms=sms,
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
        # In ASCII, which is JSON in every locale.
        print(json.dumps(manifest.model_dump(mode="json"), indent=2))
    else:
        print_release(manifest, repository, console)


def _target(name: str) -> Target:
    for target in TARGETS:
        if target == name:
            return target
    raise typer.BadParameter(f"expected {' or '.join(TARGETS)}, got {name}", param_hint="--target")
