"""Latency of a served clip and of a stream decision, by stage.

Run as `python bench/latency.py`; starts the embedded server on the demo model unless told of a
running one or of another model. Prints a table; `--json FILE` writes the same figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fgmclip.bench.machine import describe_machine
from fgmclip.bench.stages import (
    END_TO_END,
    StageClock,
    StageTimes,
    in_pipeline_order,
    milliseconds,
)
from fgmclip.client import ActionClient, StreamSession
from fgmclip.export.release import export_release
from fgmclip.export.sources import open_model
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import PRESETS, FgmclipError

WARM_UP = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    try:
        report = _run(arguments, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False)
        return error.exit_code
    _print(report, console)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", default="demo", help="checkpoint, or preset (random weights but for demo)"
    )
    parser.add_argument("--url", help="gRPC address of a running server, instead of --model")
    parser.add_argument("--repeats", type=int, default=50, help="requests counted of each kind")
    parser.add_argument("--width", type=int, default=320, help="frame width, pixels")
    parser.add_argument("--height", type=int, default=240, help="frame height, pixels")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace, console: Console) -> dict[str, object]:
    with ExitStack() as stack:
        url = arguments.url
        if url is None:
            repository = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            untrained = arguments.model in PRESETS and arguments.model != "demo"
            with console.status(f"exporting {arguments.model}"):
                model = open_model(arguments.model, random_weights=0 if untrained else None)
                export_release(model, repository)
            with console.status("starting Triton"):
                url = stack.enter_context(EmbeddedServer(repository)).url
        client = stack.enter_context(ActionClient(url))
        spec = client.manifest.spec
        frames = moving_frames(2 * spec.clip.frames + 1, arguments.height, arguments.width)
        progress = stack.enter_context(Progress(console=console, transient=True))
        clock = StageClock(url)

        def timed(name: str, request: Callable[[], object]) -> list[StageTimes]:
            task = progress.add_task(name, total=arguments.repeats)
            for _ in range(WARM_UP):
                request()
            return clock.measure(
                lambda: milliseconds(request),
                repeats=arguments.repeats,
                tick=lambda: progress.advance(task),
            )

        window = frames[: spec.clip.frames + 1]
        clip = timed("clip", lambda: client.classify_window(window))
        session = StreamSession(client)
        session.push(window)
        stream = timed("stream decision", lambda: session.push(frames[-2:]))
        return {
            "machine": describe_machine(),
            "model": spec.name,
            "release": client.manifest.release,
            "precision": client.manifest.precision,
            "protocol": {
                "server": "embedded Triton" if arguments.url is None else arguments.url,
                "concurrency": 1,
                "frames": f"RGB {arguments.width}x{arguments.height}",
                "window": spec.clip.frames,
                "warm_up": WARM_UP,
                "repeats": arguments.repeats,
            },
            "clip": [item.to_json() for item in in_pipeline_order(clip)],
            "stream_decision": [item.to_json() for item in in_pipeline_order(stream)],
        }


def moving_frames(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return RGB frames u8 [count,H,W,3] of a textured square that moves over noise."""
    random = np.random.default_rng(0)
    frames = np.repeat(
        random.integers(96, 160, (1, height, width, 3), dtype=np.uint8), count, axis=0
    )
    side = min(height, width) // 3
    patch = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
    for index, frame in enumerate(frames):
        left = (width - side) * index // max(1, count - 1)
        frame[(height - side) // 2 :][:side, left : left + side] = patch
    return frames


def _print(report: dict[str, object], console: Console) -> None:
    for key, title in (("clip", "a clip"), ("stream_decision", "a stream decision")):
        table = Table(title=f"{report['model']}: {title}, milliseconds", title_justify="left")
        table.add_column("stage")
        for column in ("p50", "p90", "p99"):
            table.add_column(column, justify="right")
        rows = report[key]
        assert isinstance(rows, list)
        for row in rows:
            style = "bold" if row["stage"] == END_TO_END else None
            figures = (f"{row[f'{name}_ms']:.2f}" for name in ("p50", "p90", "p99"))
            table.add_row(row["stage"], *figures, style=style)
        console.print(table)
    console.print("Stages may overlap: the two encoders run side by side.", style="dim")
    for group in ("machine", "protocol"):
        facts = report[group]
        assert isinstance(facts, dict)
        line = ", ".join(f"{key} {value}" for key, value in facts.items())
        console.print(f"{group}: {line}", style="dim", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
