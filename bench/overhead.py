"""What serving costs: the chain in the embedded server against its kernels and engines alone.

Run as `python bench/overhead.py`; `--repository DIR` keeps the exported release there, or takes the
one that serves there. "Bare" is the work itself in a process of its own, with the same arrays: the
release's preprocessing kernel, then its engines one after the other by the release's own runtimes
and options. All else is overhead: gRPC, Triton's scheduling, copies between processes, joining
histories, classes. Both take turns, so ratios hold on a busy machine too, and only one of them
computes at any moment. The same over the engines alone, preprocessing counted as overhead, stands
beside it. Prints tables; `--json FILE` writes everything. Exit code 0 when every bar is reached,
else 3; only `gym99` has bars.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from fgmclip.bench.bars import REGRESSION, bars_table
from fgmclip.bench.frames import moving_frames
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.overhead_process import BareProcess, bare_plan
from fgmclip.bench.overhead_race import Arrays, Case, Comparison, compare
from fgmclip.bench.overhead_table import overhead_table, stage_table
from fgmclip.bench.stages import StageClock, StageTimes, in_pipeline_order, milliseconds
from fgmclip.client import ActionClient
from fgmclip.client.answers import ANSWERS
from fgmclip.client.manifest import CLIP_MODEL
from fgmclip.client.streams.requests import EDGE_MODEL, STREAM_MODEL
from fgmclip.command import run_command
from fgmclip.export.precision import PrecisionRequest
from fgmclip.export.release import export_release
from fgmclip.export.sources import open_model
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess_u8
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import PRESETS, FgmclipError, ModelSpec, SpecError

BARRED = "gym99"
"""The model that the bars were set for; beside a smaller one's work the same cost is a multiple."""

CLIP_PERCENT, STREAM_PERCENT = 3.0, 5.0
"""What serving may add to a clip and to a stream's decision at 224-pixel input."""

SIZES = {"224": (224, 224), "480p": (480, 854), "1080p": (1080, 1920)}
"""Height and width of raw frames, pixels."""

STREAM_OUTPUTS = (*ANSWERS, "VISUAL_NEW", "MOTION_NEW", "TAG")

NOISY = 0.2
"""Share of disturbed rounds beyond which the reader is warned."""

WIDTH = 120
"""Columns that the tables need."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        clip: Rounds of a clip, of one call each.
        stream: Rounds of a stream's decision, of three calls each.
        repeats: Requests whose time is split by stage.
    """

    clip: int = 20
    stream: int = 40
    repeats: int = 20


QUICK = Effort(clip=3, stream=5, repeats=5)


@dataclass(frozen=True, slots=True)
class Measured:
    """One kind of request.

    Attributes:
        comparison: Served against bare.
        stages: The served time by stage.
    """

    comparison: Comparison
    stages: tuple[StageTimes, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything measured."""
        stages = [item.to_json() for item in self.stages]
        return self.comparison.to_json() | {"stages": stages}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = release_parser(__doc__).parse_args(argv)
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    try:
        facts, measured = _run(arguments, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    comparisons = [item.comparison for item in measured]
    bars = [bar for item in comparisons if (bar := item.bar()) is not None]
    disturbed = float(np.mean([item.served.disturbed for item in comparisons]))
    console.print(overhead_table(comparisons, facts["model"]))
    for item in measured:
        console.print(stage_table(item.comparison, item.stages))
    if bars:
        console.print(bars_table(bars))
    if disturbed > NOISY:
        console.print(
            f"{disturbed:.0%} of the rounds were disturbed by other work on this machine: measure "
            "again when it is quiet",
            style="yellow",
        )
    machine = describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"}
    line = ", ".join(f"{key} {value}" for key, value in (machine | facts).items())
    console.print(f"machine and release: {line}", style="dim", highlight=False)
    if arguments.json:
        figures = {
            "machine": machine,
            **facts,
            "quick": arguments.quick,
            "disturbed": disturbed,
            "cases": [item.to_json() for item in measured],
            "bars": [bar.to_json() for bar in bars],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(bar.reached for bar in bars) else REGRESSION


def requests(spec: ModelSpec, tag: str) -> list[Case]:
    """Return every kind of request that is measured, without bars.

    Args:
        spec: The model's, with motion.
        tag: Its embedding tag.
    """
    assert spec.motion is not None
    window = spec.clip.frames
    random = np.random.default_rng(0)
    history: dict[str, Any] = {
        "VISUAL_HISTORY": random.normal(size=(1, window - 1, spec.visual.width)),
        "MOTION_HISTORY": random.normal(size=(1, window - 1, spec.motion.width)),
    }
    history = {name: rows.astype(np.float32) for name, rows in history.items()}
    history["HISTORY_TAG"] = np.array([tag.encode()], dtype=object)
    parameters = replace(PreprocessParameters.from_spec(spec), flow=None)
    cases = []
    for size, (height, width) in SIZES.items():
        frames = moving_frames(window + 1, height, width)
        cases += [
            Case(f"clip {size}", CLIP_MODEL, {"FRAMES": frames}, ANSWERS),
            Case(f"stream {size}", STREAM_MODEL, {"FRAMES": frames[-2:]} | history, STREAM_OUTPUTS),
        ]
        if size == "224":
            clip, new = (_edge(part, parameters) for part in (frames, frames[-2:]))
            cases += [
                Case("edge clip", EDGE_MODEL, clip, STREAM_OUTPUTS),
                Case("edge stream", EDGE_MODEL, new | history, STREAM_OUTPUTS),
            ]
    return cases


def with_bars(cases: Sequence[Case], model: str) -> list[Case]:
    """Return the cases with the bars that the model has."""
    bars = {"clip 224": CLIP_PERCENT, "stream 224": STREAM_PERCENT} if model == BARRED else {}
    return [replace(case, bar=bars.get(case.name)) for case in cases]


def _edge(frames: Any, parameters: PreprocessParameters) -> dict[str, Any]:
    pixels_u8, luma_u8 = preprocess_u8(frames, parameters)
    return {"PIXELS_U8": pixels_u8, "LUMA_U8": luma_u8}


def _run(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, str], list[Measured]]:
    effort = QUICK if arguments.quick else Effort()
    with ExitStack() as stack:
        repository = arguments.repository or Path(
            stack.enter_context(tempfile.TemporaryDirectory())
        )
        if not (repository / CLIP_MODEL).is_dir():
            export_auto(arguments.model, repository, console)
        with console.status("starting Triton"):
            url = stack.enter_context(EmbeddedServer(repository)).url
        client = stack.enter_context(ActionClient(url))
        manifest = client.manifest
        if manifest.spec.motion is None:
            raise SpecError(
                f"model {manifest.spec.name}: expected one with motion, got none; the bare chain "
                "needs all engines"
            )
        with console.status("opening the bare engines"):
            plan = bare_plan(repository, manifest.release)
            bare = stack.enter_context(BareProcess(plan))
        cases = with_bars(requests(manifest.spec, manifest.embedding_tag), manifest.spec.name)
        progress = stack.enter_context(Progress(console=console, transient=True))
        measured = []
        for case in cases:
            measured.append(_measure(case, client, bare, effort, progress))
        facts = {
            "model": manifest.spec.name,
            "release": str(manifest.release),
            "precision": manifest.precision,
        }
        return facts, measured


def _measure(
    case: Case, client: ActionClient, bare: BareProcess, effort: Effort, progress: Progress
) -> Measured:
    clip = "clip" in case.name
    rounds, calls = (effort.clip, 1) if clip else (effort.stream, 3)
    task = progress.add_task(case.name, total=rounds + effort.repeats)

    def served() -> Arrays:
        return client.transport.infer(
            case.model, case.inputs, case.outputs, timeout_seconds=client.timeouts.request_seconds
        )

    def tick() -> None:
        progress.advance(task)

    bare.give(case.key, case.inputs)
    comparison = compare(case, served, bare, rounds=rounds, calls=calls, tick=tick)
    clock = StageClock(client.url)
    request: Callable[[], float] = lambda: milliseconds(served)  # noqa: E731
    stages = clock.measure(request, repeats=effort.repeats, tick=tick)
    return Measured(comparison, tuple(in_pipeline_order(stages)))


def export_auto(model: str, repository: Path, console: Console) -> None:
    """Export a checkpoint or preset on the fastest rung that passes the gate."""
    untrained = model in PRESETS and model != "demo"
    with console.status(f"exporting {model}") as status:
        export_release(
            open_model(model, random_weights=0 if untrained else None),
            repository,
            precision=PrecisionRequest(precision="auto"),
            report=lambda stage: status.update(f"exporting {model}: {stage}"),
            detail=lambda what: status.update(f"exporting {model}: {what}"),
        )


def release_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of a bench of one release."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--model",
        default=BARRED,
        help="checkpoint, or preset (random weights but for demo), exported with --precision auto",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        help="keep the release here; what already serves there is taken as it is",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
