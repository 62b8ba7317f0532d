"""Every runtime and precision of the encoders side by side, in one run on two threads.

Run as `python bench/engines.py`. Engines take turns with each other and with plain matrix products,
so ratios and shares hold on a busy machine too; medians count, quartiles stand beside them. It
tells times only: whether a rung answers rightly is the gate's business. Prints tables; `--json
FILE` writes everything. Exit code 0 when every bar is reached, else 3; only `gym99` has bars.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from fgmclip.bench.bars import REGRESSION, Bar, bars_table
from fgmclip.bench.engine_lineup import open_lineup
from fgmclip.bench.engine_race import (
    Rate,
    Row,
    engine_table,
    race_engines,
    rate_table,
    share_bars,
)
from fgmclip.bench.machine import describe_machine
from fgmclip.bench.matmul_rates import LENGTH, PRECISIONS, SIZE, open_chain
from fgmclip.command import run_command
from fgmclip.export.graphs import parts_of
from fgmclip.export.sources import open_model
from fgmclip.model.network import FgmClip
from fgmclip.spec import PRESETS, FgmclipError

THREADS = 2

ENCODERS = ("clip_image_encoder", "motion_encoder")

BARRED = "gym99"
"""The model that the bars were set for; smaller ones are no measure of a machine's products."""

NOISY = 0.2
"""Share of disturbed rounds beyond which the reader is warned."""

WIDTH = 120
"""Columns that the tables need."""

RATES = (
    f"a chain of {LENGTH} products [{SIZE},{SIZE}] by constant weights in OpenVINO (oneDNN), int8 "
    "with Q/DQ between them, in turns with the engines"
)
"""How the machine's rates are measured."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        single: Rounds at batch 1, of three calls each.
        window: Rounds at batch T, of one call each: eager torch takes seconds for one.
    """

    single: int = 9
    window: int = 5


QUICK = Effort(single=2, window=2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    untrained = arguments.model in PRESETS and arguments.model != "demo"
    try:
        with console.status(f"opening {arguments.model}"):
            model = open_model(arguments.model, random_weights=0 if untrained else None)
        with two_threads():
            rows, rates = measure(model, QUICK if arguments.quick else Effort(), console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    bars = bars_of(model, rows)
    disturbed = sum(row.timing.disturbed for row in rows) / len(rows)
    figures = to_json(model, rows, rates, bars) | {
        "quick": arguments.quick,
        "disturbed": disturbed,
    }
    console.print(engine_table(rows, model.spec.name))
    console.print(rate_table(rates))
    console.print(f"rates: {RATES}", style="dim", highlight=False)
    if bars:
        console.print(bars_table(bars))
    if disturbed > NOISY:
        console.print(
            f"{disturbed:.0%} of the rounds were disturbed by other work on this machine: measure "
            "again when it is quiet",
            style="yellow",
        )
    facts = ", ".join(f"{key} {value}" for key, value in figures["machine"].items())
    console.print(f"machine: {facts}", style="dim", highlight=False)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0 if all(bar.reached for bar in bars) else REGRESSION


def measure(model: FgmClip, effort: Effort, console: Console) -> tuple[list[Row], list[Rate]]:
    """Race the engines of each encoder at batch 1 and at batch T.

    Args:
        model: The model.
        effort: How much is measured.
        console: Shows how far it is.
    """
    rows: list[Row] = []
    rates: list[Rate] = []
    window = model.spec.clip.frames
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(console=console, transient=True) as progress,
    ):
        chains = {precision: open_chain(precision, Path(folder)) for precision in PRECISIONS}
        for part in parts_of(model.spec):
            if part not in ENCODERS:
                continue
            task = progress.add_task(part, total=effort.single + effort.window)

            def report(stage: str) -> None:
                progress.update(task, description=stage)  # noqa: B023

            lineup = open_lineup(model, part, Path(folder), report)
            for batch, rounds, calls in ((window, effort.window, 1), (1, effort.single, 3)):
                report(f"{part}: batch {batch}")
                raced, beside = race_engines(
                    lineup,
                    chains,
                    model.spec,
                    batch=batch,
                    rounds=rounds,
                    calls=calls,
                    tick=lambda: progress.advance(task),  # noqa: B023
                )
                rows += raced
                rates += beside
    return rows, rates


def bars_of(model: FgmClip, rows: Sequence[Row]) -> list[Bar]:
    """Return the bars that a model has."""
    if model.spec.name != BARRED:
        return []
    return share_bars(rows, ENCODERS[0], model.spec.clip.frames)


def to_json(
    model: FgmClip, rows: Sequence[Row], rates: Sequence[Rate], bars: Sequence[Bar]
) -> dict[str, Any]:
    """Return everything that was measured, and on what."""
    return {
        "machine": describe_machine()
        | {
            "openvino": importlib.metadata.version("openvino"),
            "threads": str(THREADS),
            "load after": f"{os.getloadavg()[0]:.2f}",
        },
        "model": model.spec.name,
        "window": model.spec.clip.frames,
        "engines": [row.to_json() for row in rows],
        "rates": {"how": RATES, "measured": [rate.to_json() for rate in rates]},
        "bars": [bar.to_json() for bar in bars],
    }


@contextmanager
def two_threads() -> Iterator[None]:
    """Let this thread, and all that it starts, use two processors; runtimes count those."""
    processors = os.sched_getaffinity(0)
    threads = torch.get_num_threads()
    os.sched_setaffinity(0, sorted(processors)[:THREADS])
    torch.set_num_threads(min(THREADS, len(processors)))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, processors)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model",
        default=BARRED,
        help="checkpoint, or preset (random weights but for demo)",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
