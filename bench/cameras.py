"""How many cameras one machine carries: decoding, serving and events together, in real time.

Run as `python bench/cameras.py`; `--repository DIR` serves the release there instead of the demo's.
Draws a 480p H.264 video of moving figures, plays it as `--cameras` cameras in real time through the
gateway against an embedded server on the same cores, and waits for the windows to fill before it
counts. Latency is from the moment a frame came out of the decoder to its decision. Prints a table;
`--json FILE` writes everything. Exit code 0 when every bar is reached, else 3; the bars are those
of the demo model.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fgmclip.bench.bars import Bar, run_bench
from fgmclip.bench.camera_video import camera_video
from fgmclip.bench.machine import describe_machine
from fgmclip.client import ActionClient
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.config import check_config
from fgmclip.client.gateway.gateway import Gateway
from fgmclip.client.gateway.snapshot import CameraSnapshot
from fgmclip.command import run_command
from fgmclip.export.demo import demo_repository
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError

BEYOND_DT_MS = 250.0
"""What may pass from capture to decision beyond dt at the 95th percentile."""

CAMERAS = 8
"""Cameras that two cores must carry."""

CAMERA = {"policy": "latest", "pace": "live"}
"""A file that behaves as a camera."""

WARM_UP_SECONDS, SECONDS, QUICK_SECONDS = 8.0, 60.0, 15.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    return run_bench(_parse(argv), _run, lambda figures: [_table(figures)])


def _run(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Bar]]:
    seconds = QUICK_SECONDS if arguments.quick else SECONDS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        video = folder / "camera.mp4"
        with console.status("drawing the cameras' video"):
            camera_video(video, seconds=seconds + 3 * WARM_UP_SECONDS)
        with console.status("starting Triton"):
            repository = arguments.repository or demo_repository()
            server = stack.enter_context(EmbeddedServer(repository))
        with ActionClient(server.url) as client:
            manifest = client.manifest
        cameras = [
            {"name": f"camera{number}", "source": str(video)} | CAMERA
            for number in range(arguments.cameras)
        ]
        fields = {
            "servers": {"urls": [server.url]},
            "cameras": cameras,
            "outbox": {"path": str(folder / "outbox.sqlite")},
            "sinks": {"jsonl": {"path": str(folder / "events.jsonl")}},
        }
        settings = check_config(fields, "bench")
        gateway = stack.enter_context(Gateway(settings, Board(), report=lambda _: None))
        progress = stack.enter_context(Progress(console=console, transient=True))
        task = progress.add_task("windows fill", total=None)
        names = [str(camera["name"]) for camera in cameras]
        wait_until_live(gateway, names)
        time.sleep(WARM_UP_SECONDS)
        progress.update(task, description=f"{len(names)} cameras", total=seconds)
        busy, started = _busy_seconds(), time.monotonic()
        rows = camera_rows(
            gateway, names, seconds, tick=lambda passed: progress.update(task, completed=passed)
        )
        passed = time.monotonic() - started
        cores = (_busy_seconds() - busy) / passed
    worst = max(row["latency_p95_ms"] for row in rows)
    figures = {
        "machine": describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"},
        "model": manifest.spec.name,
        "precision": manifest.precision,
        "dt_ms": 1000 * manifest.dt,
        "seconds": passed,
        "busy_cores": cores,
        "cameras": rows,
    }
    due = passed / manifest.dt
    bars = [
        Bar("cameras", CAMERAS, len(rows), at_least=True),
        Bar(
            "capture to decision, p95 of the slowest camera",
            1000 * manifest.dt + BEYOND_DT_MS,
            worst,
            unit=" ms",
        ),
        Bar("samples dropped, all cameras", 0, sum(row["dropped"] for row in rows)),
        Bar(
            "decisions made of those due, least of a camera",
            99.0,
            100 * min(row["decisions"] for row in rows) / due,
            at_least=True,
            unit=" %",
            detail="the clock of the count is not the cameras': one at either end may be missing",
        ),
    ]
    return figures, bars


def wait_until_live(gateway: Gateway, names: Sequence[str]) -> None:
    """Wait until each of the cameras has decided.

    Raises:
        FgmclipError: One of them does not within a minute.
    """
    until = time.monotonic() + 60
    while True:
        found = [one for one in gateway.board.snapshot().cameras if one.name in names]
        if len(found) == len(names) and all(camera.decisions for camera in found):
            return
        if time.monotonic() > until:
            break
        time.sleep(0.2)
    states = ", ".join(f"{camera.name} {camera.state} {camera.cause}" for camera in found)
    raise FgmclipError(f"expected decisions of {len(names)} cameras within 60 s, got {states}")


def camera_rows(
    gateway: Gateway,
    names: Sequence[str],
    seconds: float,
    tick: Callable[[float], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Count what cameras do from now on for some seconds; `tick` is told how many have passed."""

    def look() -> dict[str, CameraSnapshot]:
        return {one.name: one for one in gateway.board.snapshot().cameras}

    before, started = look(), time.monotonic()
    while (passed := time.monotonic() - started) < seconds:
        tick(passed)
        time.sleep(0.5)
    after, passed = look(), time.monotonic() - started
    return [_row(before[name], after[name], passed) for name in names]


def _row(before: CameraSnapshot, after: CameraSnapshot, seconds: float) -> dict[str, Any]:
    decisions = after.decisions - before.decisions
    assert after.latency_p50 is not None
    assert after.latency_p95 is not None
    return {
        "camera": after.name,
        "frames_per_second": (after.frames - before.frames) / seconds,
        "samples": after.samples - before.samples,
        "decisions": decisions,
        "decisions_per_second": decisions / seconds,
        "dropped": after.dropped - before.dropped,
        "skipped": after.skipped - before.skipped,
        "latency_p50_ms": 1000 * after.latency_p50,
        "latency_p95_ms": 1000 * after.latency_p95,
    }


def _busy_seconds() -> float:
    """Return the processor time of everything that runs on this machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


def _table(figures: dict[str, Any]) -> Table:
    table = Table(
        title=f"{figures['model']}, {figures['precision']}, dt {figures['dt_ms']:.0f} ms; "
        f"{figures['busy_cores']:.2f} cores busy, server included",
        title_justify="left",
    )
    for heading in ("camera", "frames/s", "decisions/s", "dropped", "skipped", "p50 ms", "p95 ms"):
        table.add_column(heading, justify="left" if heading == "camera" else "right")
    for row in figures["cameras"]:
        table.add_row(
            row["camera"],
            f"{row['frames_per_second']:.1f}",
            f"{row['decisions_per_second']:.2f}",
            str(row["dropped"]),
            str(row["skipped"]),
            f"{row['latency_p50_ms']:.1f}",
            f"{row['latency_p95_ms']:.1f}",
        )
    return table


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=CAMERAS, help="how many")
    parser.add_argument("--repository", type=Path, help="serve the release there, not the demo's")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SECONDS:.0f} s")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
