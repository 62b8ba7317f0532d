"""The demo: generated clips that nobody trained on, named over gRPC by a real tritonserver.

Run as `python bench/demo.py`, or `make demo`. Prints a table and the latency of each stage, and
draws `out/demo.png`. Exit code 0 when at least 95 % of the clips are named right, else 4.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table

from fgmclip.bench.contact_sheet import Tile, draw_contact_sheet
from fgmclip.bench.stages import (
    END_TO_END,
    StageClock,
    StageTimes,
    in_pipeline_order,
    milliseconds,
)
from fgmclip.client import ActionClient, VideoResult
from fgmclip.command import run_command
from fgmclip.export.release import export_release, stages
from fgmclip.export.sources import open_model
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError
from fgmclip.video.samples import SampleClip, generate_samples
from fgmclip.video.windows import read_windows

TEST_SEED = 2_000_000
"""First seed of the demo's clips, far from the seeds that the checkpoint was trained on."""

BAR = 0.95
"""Share of clips that must be named right."""


@dataclass(frozen=True, slots=True)
class Named:
    """A clip and what the server said of it."""

    clip: SampleClip
    result: VideoResult

    @property
    def right(self) -> bool:
        """Whether the label is the clip's."""
        return self.clip.label == self.result.label


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=2, help="clips of each action")
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="first seed of the clips")
    parser.add_argument("--picture", type=Path, default=Path("out/demo.png"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        with tempfile.TemporaryDirectory() as folder:
            named, latency = _run(Path(folder), arguments, console)
            _draw(named, arguments.picture)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    right = sum(item.right for item in named) / len(named)
    _print(named, latency, right, console)
    console.print(f"Contact sheet: {arguments.picture}")
    if arguments.json:
        report = {
            "right": right,
            "clips": [
                {"clip": item.clip.path.name, "action": item.clip.label}
                | {"label": item.result.label, "probability": item.result.probability}
                for item in named
            ],
            "latency": [item.to_json() for item in latency],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if right >= BAR else 4


def _run(
    folder: Path, arguments: argparse.Namespace, console: Console
) -> tuple[list[Named], list[StageTimes]]:
    with Progress(console=console, transient=True) as progress:
        model = open_model("demo")
        task = progress.add_task("export", total=stages(model.spec))
        export_release(model, folder / "repository", report=lambda _: progress.advance(task))
        task = progress.add_task("draw test clips", total=None)
        clips = generate_samples(
            folder / "clips",
            per_class=arguments.per_class,
            seed=arguments.seed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    with ExitStack() as stack:
        with console.status("starting Triton"):
            server = stack.enter_context(EmbeddedServer(folder / "repository"))
        client = stack.enter_context(ActionClient(server.url))
        named = [
            Named(clip, client.classify(clip.path))
            for clip in track(clips, "classify over gRPC", console=console, transient=True)
        ]
        window = next(iter(read_windows(clips[0].path, client.manifest.spec.clip)))
        latency = StageClock(server.url).measure(
            lambda: milliseconds(lambda: client.classify_window(window.frames)),
            repeats=20,
            tick=lambda: None,
        )
    return named, in_pipeline_order(latency)


def _print(
    named: Sequence[Named], latency: Sequence[StageTimes], right: float, console: Console
) -> None:
    table = Table(title="Generated clips, named over gRPC", title_justify="left")
    for column in ("action", "seed", "named", "p", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left", no_wrap=True)
    for item in named:
        table.add_row(
            item.clip.label,
            str(item.clip.seed),
            item.result.label,
            f"{item.result.probability:.3f}",
            f"{item.result.latency_ms:.0f}",
            style="green" if item.right else "red",
        )
    console.print(table)
    stages_table = Table(title="One window, milliseconds", title_justify="left")
    for column in ("stage", "p50", "p90", "p99"):
        stages_table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in latency:
        figures = (f"{stage.percentile(percent):.1f}" for percent in (50, 90, 99))
        style = "bold" if stage.stage == END_TO_END else None
        stages_table.add_row(stage.stage, *figures, style=style)
    console.print(stages_table)
    count = sum(item.right for item in named)
    console.print(f"{count} of {len(named)} right: {right:.1%} (at least {BAR:.0%} is the bar)")


def _draw(named: Sequence[Named], picture: Path) -> None:
    clip_spec = open_model("demo").spec.clip
    tiles = []
    for item in named:
        frames = next(iter(read_windows(item.clip.path, clip_spec))).frames
        title = f"{item.result.label} {item.result.probability:.2f}"
        if not item.right:
            title += f"\nis {item.clip.label}"
        tiles.append(Tile(frames[[1, len(frames) // 2, -1]], title, item.right))
    draw_contact_sheet(tiles, picture)


if __name__ == "__main__":
    sys.exit(run_command(main))
