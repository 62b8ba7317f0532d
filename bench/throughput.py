"""Decisions a second and cameras at a target latency: clip, stream and edge, by load.

Run as `python bench/throughput.py`; serves the demo unless told of another model. Closed loops keep
requests in flight; open ones send when a camera would, or at Poisson's moments, and latency counts
from the moment at which a request was due, so a server that stalls cannot hide it. A camera of
clips sends a whole clip every half window, as `fgmclip classify` slides; one of a stream or at the
edge decides every dt. The target is p95 within that time unless told otherwise. Requests come from
a process of its own on the same cores, which then are not the server's: its share is printed.
Prints tables and draws out/throughput.png; `--json FILE` writes everything. Where perf_analyzer is
on PATH, what it makes of clips is printed beside.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fgmclip.bench.load.curves import draw_throughput
from fgmclip.bench.load.perf_analyzer import (
    PROGRAM,
    find_perf_analyzer,
    requests_per_second,
)
from fgmclip.bench.load.plan import Traffic
from fgmclip.bench.load.point import Point, Rig
from fgmclip.bench.load.process import LoadProcess
from fgmclip.bench.load.search import search
from fgmclip.bench.load.serving import served
from fgmclip.bench.load.throughput_report import (
    KindReport,
    disturbed,
    points_table,
    steps_table,
    summary_table,
)
from fgmclip.bench.load.traffic import KINDS, Kind, make_traffic
from fgmclip.bench.machine import describe_machine
from fgmclip.command import run_command
from fgmclip.spec import FgmclipError, PublicManifest

SIZE = "480p"
"""Raw frames."""

PICTURE = Path("out") / "throughput.png"

WIDTH = 110
"""Columns that the tables need."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured.

    Attributes:
        concurrency: Closed loops.
        loads: Cameras, as shares of those that the best closed loop amounts to.
        poisson: The same for Poisson arrivals.
        steps: Further numbers of cameras at most, to find the largest within the target.
        seconds: Of each load, those that count.
    """

    concurrency: tuple[int, ...] = (1, 2, 4, 8, 16)
    loads: tuple[float, ...] = (0.25, 0.5, 0.7, 0.85, 0.95, 1.1)
    poisson: tuple[float, ...] = (0.25, 0.5, 0.7, 0.85, 0.95)
    steps: int = 4
    seconds: float = 8.0

    @property
    def runs(self) -> int:
        """Loads of one kind of request at most."""
        return len(self.concurrency) + len(self.loads) + len(self.poisson) + self.steps


QUICK = Effort(concurrency=(1, 4, 8), loads=(0.4, 0.8), poisson=(0.4, 0.8), steps=2, seconds=2.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    try:
        facts, reports = _run(arguments, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    title = f"{facts['model']} ({facts['precision']}), raw frames {SIZE}"
    _print(console, reports, title)
    machine = describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"}
    line = ", ".join(f"{key} {value}" for key, value in (machine | facts).items())
    console.print(f"machine and release: {line}", style="dim", highlight=False)
    cores = int(machine["cores"])
    draw_throughput(reports, f"{title}, {machine['processor']}, {cores} cores", PICTURE)
    console.print(f"picture: {PICTURE}", style="dim", highlight=False)
    if arguments.json:
        figures = {
            "machine": machine,
            **facts,
            "quick": arguments.quick,
            "raw_frames": SIZE,
            "disturbed": _disturbed(reports, cores),
            "kinds": [report.to_json() for report in reports],
        }
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _run(
    arguments: argparse.Namespace, console: Console
) -> tuple[dict[str, str], list[KindReport]]:
    effort = QUICK if arguments.quick else Effort()
    target = None if arguments.target_ms is None else arguments.target_ms / 1e3
    with ExitStack() as stack:
        url, manifest = stack.enter_context(served(arguments.model, arguments.repository, console))
        load = stack.enter_context(LoadProcess())
        progress = stack.enter_context(Progress(console=console, transient=True))
        reports = []
        for kind in KINDS:
            traffic = make_traffic(kind, manifest, SIZE)
            load.give(traffic)
            task = progress.add_task(kind, total=effort.runs)
            curve = Curve(Rig(load, [url]), traffic, partial(progress.advance, task))
            reports.append(curve.measure(kind, every(kind, manifest), target, effort))
            progress.update(task, completed=effort.runs)
    facts = {
        "model": manifest.spec.name,
        "release": str(manifest.release),
        "precision": manifest.precision,
    }
    return facts, reports


def every(kind: Kind, manifest: PublicManifest) -> float:
    """Return the seconds from one decision of a camera to its next."""
    clip = manifest.spec.clip
    return clip.window_seconds / 2 if kind == "clip" else clip.dt


class Curve:
    """Measures one kind of request under every load."""

    def __init__(self, rig: Rig, traffic: Traffic, tick: Callable[[], object]) -> None:
        """Take what is sent, and what is called after each load."""
        self._rig = rig
        self._traffic = traffic
        self._tick = tick
        self._points: list[Point] = []

    def measure(
        self, kind: Kind, interval: float, target: float | None, effort: Effort
    ) -> KindReport:
        """Measure it.

        Args:
            kind: What is sent.
            interval: Seconds from one decision of a camera to its next.
            target: p95 that is asked for, seconds; the interval if None.
            effort: How much is measured.
        """
        wanted = interval if target is None else target
        closed = [
            self._keep(self._rig.closed(self._traffic, count, seconds=effort.seconds))
            for count in effort.concurrency
        ]
        best = max(closed, key=lambda point: point.offered)
        full = best.offered * interval
        p95: dict[int, float] = {}

        def cameras(count: int) -> float:
            point = self._rig.cameras(self._traffic, count, interval, seconds=effort.seconds)
            return self._keep(point).p95

        for count in numbers_of_cameras(full, effort.loads):
            p95[count] = cameras(count)
        for count in numbers_of_cameras(full, effort.poisson):
            self._keep(self._rig.poisson(self._traffic, count, interval, seconds=effort.seconds))
        carried = search(cameras, p95, wanted, effort.steps)
        peer = None
        program = find_perf_analyzer()
        if kind == "clip" and program is not None:
            found = requests_per_second(
                program, self._rig.urls[0], self._traffic, best.load, seconds=effort.seconds
            )
            peer = (found, best.load)
        return KindReport(
            kind,
            self._traffic.request_bytes,
            interval,
            wanted,
            tuple(self._points),
            carried,
            peer,
        )

    def _keep(self, point: Point) -> Point:
        self._points.append(point)
        self._tick()
        return point


def numbers_of_cameras(full: float, shares: Sequence[float]) -> list[int]:
    """Return whole numbers of cameras, at least 1, that are about these shares of `full`."""
    return sorted({max(1, round(share * full)) for share in shares})


def _print(console: Console, reports: list[KindReport], title: str) -> None:
    console.print(summary_table(reports, title))
    for report in reports:
        console.print(points_table(report))
        console.print(steps_table(report))
    console.print(
        "A closed loop's load is requests in flight, an open one's cameras; rows are frames that "
        "the image encoder took at once. Steps may overlap: the two encoders run side by side.",
        style="dim",
    )
    cores = len(os.sched_getaffinity(0))
    if share := _disturbed(reports, cores):
        console.print(
            f"in {share:.0%} of the loads others had more than a little of the {cores} cores: "
            "measure again when the machine is quiet",
            style="yellow",
        )
    peers = [report for report in reports if report.peer is not None]
    for report in peers:
        assert report.peer is not None
        console.print(
            f"{PROGRAM}: {report.peer[0]:.1f} {report.kind}s/s with {report.peer[1]} in flight, "
            f"here {report.most.offered:.1f}"
        )
    if not peers:
        console.print(f"{PROGRAM}: not on PATH, not compared", style="dim")
    failures = {point.failure for report in reports for point in report.points if point.failure}
    for failure in sorted(failures):
        console.print(f"refused: {failure}", style="dim", highlight=False, markup=False)


def _disturbed(reports: list[KindReport], cores: int) -> float:
    return disturbed(tuple(point for report in reports for point in report.points), cores)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model",
        default="demo",
        help="checkpoint, or preset (random weights but for demo), exported with --precision auto",
    )
    parser.add_argument(
        "--repository",
        type=Path,
        help="keep the release here; what already serves there is taken as it is",
    )
    parser.add_argument(
        "--target-ms", type=float, help="p95 that is asked for, instead of a decision's interval"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter loads")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
