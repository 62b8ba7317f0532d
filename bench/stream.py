"""A decision of a stream against encoding its whole window again in eager PyTorch.

Run as `python bench/stream.py`; `--repository DIR` keeps the exported release there, or takes the
one that serves there. A `StreamClient` pushes one 480p frame every dt, as a camera would: its time
is that of the whole push, bringing the frame to the model's size included. Eager PyTorch fp32 runs
the window's T frames in a process of its own, pixels and motion ready made, in turn with the
stream. Prints a table; `--json FILE` writes everything. Exit code 0 when every bar is reached, else
3; only `gym99` has bars.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fgmclip.bench.bars import Bar, run_bench
from fgmclip.bench.frames import moving_frames
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.overhead import BARRED, SIZES, export_auto, release_parser
from fgmclip.client import ActionClient, StreamClient, StreamDecision
from fgmclip.client.manifest import CLIP_MODEL
from fgmclip.command import run_command
from fgmclip.export.calibration import Clips
from fgmclip.export.eager import EagerProcess
from fgmclip.export.recording import record
from fgmclip.export.sources import open_model
from fgmclip.kernels.parameters import PreprocessParameters
from fgmclip.kernels.preprocess import preprocess
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import PRESETS

DECISION_MS, TIMES_CHEAPER = 70.0, 40.0
"""Bars of `gym99` on two cores."""

ROUNDS, DECISIONS = 12, 10
"""Turns of the two, and decisions in each turn of the stream."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    return run_bench(
        release_parser(__doc__).parse_args(argv), _run, lambda figures: [_table(figures)]
    )


def _run(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Bar]]:
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
        spec = manifest.spec
        untrained = spec.name in PRESETS and spec.name != "demo"
        model = open_model(
            spec.name if untrained else arguments.model, random_weights=0 if untrained else None
        )
        frames = moving_frames(spec.clip.frames + 1, *SIZES["480p"])
        pixels, motion = preprocess(frames, PreprocessParameters.from_spec(spec))
        clip = Clips(pixels[None], None if motion is None else motion[None], ("moving noise",))
        with console.status("starting eager PyTorch"):
            recording = record(model, clip, lambda _: None)
            eager = stack.enter_context(EagerProcess(model, recording))
        progress = stack.enter_context(Progress(console=console, transient=True))
        rounds = max(2, ROUNDS // 4) if arguments.quick else ROUNDS
        task = progress.add_task(spec.name, total=rounds)
        stream = StreamClient(client)
        pushed, decided = 0, []
        windows, ratios = [], []
        for _ in range(rounds):
            turn: list[float] = []
            # The first window of the first round is no decision at stride dt.
            while len(turn) < DECISIONS:
                started = time.perf_counter()
                answers = stream.push(frames[pushed % len(frames)], pushed * manifest.dt)
                took = 1000 * (time.perf_counter() - started)
                pushed += 1
                if any(isinstance(item, StreamDecision) and item.samples == 1 for item in answers):
                    turn.append(took)
                time.sleep(max(0.0, manifest.dt - took / 1000))
            windows.append(eager.milliseconds())
            decided += turn
            ratios.append(windows[-1] / float(np.median(turn)))
            progress.advance(task)
    p50, p95 = (float(value) for value in np.percentile(decided, (50, 95)))
    low, ratio, high = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
    figures = {
        "machine": describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"},
        "model": spec.name,
        "release": manifest.release,
        "precision": manifest.precision,
        "dt_ms": 1000 * manifest.dt,
        "decisions": len(decided),
        "decision_p50_ms": p50,
        "decision_p95_ms": p95,
        "eager_window_ms": float(np.median(windows)),
        "eager_windows": len(windows),
        "times_cheaper": ratio,
        "times_cheaper_quartiles": [low, high],
    }
    if spec.name != BARRED:
        return figures, []
    return figures, [
        Bar("a decision at stride dt, p50", DECISION_MS, p50, unit=" ms", detail=f"p95 {p95:.1f}"),
        Bar(
            "cheaper than the window in eager PyTorch",
            TIMES_CHEAPER,
            ratio,
            at_least=True,
            unit="x",
            detail=f"quartiles {low:.1f} to {high:.1f} of {rounds} turns",
        ),
    ]


def _table(figures: dict[str, Any]) -> Table:
    table = Table(
        title=f"{figures['model']}, {figures['precision']}, dt {figures['dt_ms']:.0f} ms",
        title_justify="left",
    )
    table.add_column("what")
    table.add_column("p50, ms", justify="right")
    table.add_column("p95, ms", justify="right")
    table.add_column("times", justify="right")
    table.add_row(
        "a decision of the stream, served",
        f"{figures['decision_p50_ms']:.1f}",
        f"{figures['decision_p95_ms']:.1f}",
        str(figures["decisions"]),
    )
    table.add_row(
        "its window again, eager PyTorch fp32",
        f"{figures['eager_window_ms']:.0f}",
        "",
        str(figures["eager_windows"]),
    )
    return table


if __name__ == "__main__":
    sys.exit(run_command(main))
