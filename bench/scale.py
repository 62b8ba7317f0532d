"""Cost against T, resolution, cameras and replicas, and a model that predicts cameras per server.

Run as `python bench/scale.py`. A small model with random weights is exported (fp32, ONNX Runtime)
for several T and served by embedded servers. The law, what b requests that are served together
take, is fitted by least squares to closed loops of some cases; a queueing model with that service
time (docs/SCALE.md) predicts the rest: closed loops of other T, resolutions and of two servers, and
how many cameras are carried at a target p95. Which points are held out stands in
`bench/load/experiment.py`, before any run. Prints tables and draws out/scale.png; `--json FILE`
writes everything. Exit code 0 when every held-out point is predicted within 15 %, else 3. No GPU is
measured, and the load generator shares the cores with the servers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fgmclip.bench.bars import REGRESSION, bars_table
from fgmclip.bench.load.experiment import (
    CAMERAS,
    FITTED,
    HELD_OUT,
    QUICK,
    TARGETS,
    WINDOWS,
    Case,
    Effort,
    scale_spec,
)
from fgmclip.bench.load.law import CostLaw, Observation
from fgmclip.bench.load.plan import Traffic
from fgmclip.bench.load.point import Point, Rig, median_point
from fgmclip.bench.load.process import LoadProcess
from fgmclip.bench.load.scale_picture import draw_scale
from fgmclip.bench.load.scale_report import (
    CamerasRow,
    ClosedRow,
    ScaleReport,
    cameras_table,
    closed_table,
    law_text,
    model_cameras,
    plan_table,
)
from fgmclip.bench.load.serving import manifest_of
from fgmclip.bench.load.throughput_report import disturbed
from fgmclip.bench.load.traffic import make_traffic
from fgmclip.bench.machine import describe_machine
from fgmclip.client.manifest import CLIP_MODEL
from fgmclip.command import run_command
from fgmclip.export.release import export_release
from fgmclip.model.build import build_model
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError

PICTURE = Path("out") / "scale.png"

WIDTH = 120
"""Columns that the tables need."""


class ScaleError(FgmclipError):
    """A load that any server carries was not carried."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    # A log or a pipe has no width of its own, and a narrow one would cut figures off.
    console.width = max(console.width, WIDTH)
    try:
        report, points = _run(arguments, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    console.print(closed_table(report))
    console.print(f"law: {law_text(report.law)}", highlight=False)
    console.print(cameras_table(report))
    console.print(plan_table(report))
    console.print(bars_table([report.bar()]))
    machine = describe_machine() | {"load after": f"{os.getloadavg()[0]:.2f}"}
    cores = int(machine["cores"])
    share = disturbed(points, cores)
    if share:
        console.print(
            f"in {share:.0%} of the loads others had more than a little of the {cores} cores: "
            "measure again when the machine is quiet",
            style="yellow",
        )
    line = ", ".join(f"{key} {value}" for key, value in machine.items())
    console.print(f"machine, no GPU measured: {line}", style="dim", highlight=False)
    where = f"{machine['processor']}, {cores} cores, load generator included; no GPU measured"
    draw_scale(report, f"Synthetic model, fp32, ONNX Runtime; {where}", PICTURE)
    console.print(f"picture: {PICTURE}", style="dim", highlight=False)
    if arguments.json:
        figures = {"machine": machine, "quick": arguments.quick, "disturbed": share}
        arguments.json.write_text(
            json.dumps(figures | report.to_json(), indent=2) + "\n", encoding="utf-8"
        )
    return 0 if report.bar().reached else REGRESSION


def _run(arguments: argparse.Namespace, console: Console) -> tuple[ScaleReport, tuple[Point, ...]]:
    effort = QUICK if arguments.quick else Effort()
    with ExitStack() as stack:
        folder = arguments.repository or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = stack.enter_context(LoadProcess())
        urls = _serve(folder, stack, console)
        subjects = _Subjects(load, urls)
        progress = stack.enter_context(Progress(console=console, transient=True))
        plan = list(effort.closed())
        closed: dict[tuple[Case, int], list[Point]] = {one: [] for one in plan}
        wanted = [(case, target) for case in CAMERAS[: effort.cases] for target in TARGETS]
        counts: dict[tuple[Case, float], list[int]] = {}
        opened: dict[tuple[Case, int], list[Point]] = {}
        total = effort.rounds * (len(plan) + len(wanted) * len(effort.shares))
        task = progress.add_task("loads", total=total)
        # Closed loops and cameras in one round after another: what slows the machine for a while
        # slows both, and each round starts elsewhere.
        for turn in range(effort.rounds):
            start = turn * len(plan) // effort.rounds
            for case, count in plan[start:] + plan[:start]:
                closed[case, count].append(subjects.closed(case, count, effort.seconds))
                progress.advance(task)
            if not counts:
                law, _ = fit(closed)
                counts = {one: numbers(law, *one, effort.shares) for one in wanted}
                opened = {(one[0], count): [] for one, found in counts.items() for count in found}
                total = effort.rounds * (len(plan) + len(opened))
                progress.update(task, total=total)
            for (case, count), points in opened.items():
                points.append(subjects.cameras(case, count, effort.camera_seconds))
                progress.advance(task)
    law, rows = fit(closed)
    cameras = [
        CamerasRow(
            case,
            target,
            model_cameras(law, case, target),
            tuple(median_point(opened[case, count]) for count in found),
        )
        for (case, target), found in counts.items()
    ]
    report = ScaleReport(law, rows, tuple(cameras))
    points = [median_point(measured) for measured in closed.values()]
    return report, (*points, *(point for row in cameras for point in row.points))


def fit(
    closed: Mapping[tuple[Case, int], Sequence[Point]],
) -> tuple[CostLaw, tuple[ClosedRow, ...]]:
    """Fit the law to the cases that are not held out, and predict all.

    Args:
        closed: Points of each round by case and requests in flight.
    """
    blank = [
        ClosedRow(case, count, tuple(points), 0.0, case not in FITTED)
        for (case, count), points in closed.items()
    ]
    law = CostLaw.fit(
        [
            Observation(row.case.shape, row.in_flight, row.measured, row.case.replicas)
            for row in blank
            if not row.held_out
        ]
    )
    rows = []
    for row in blank:
        server = law.server(row.case.shape, row.case.replicas)
        predicted = server.in_flight_seconds(row.in_flight)
        rows.append(ClosedRow(row.case, row.in_flight, row.rounds, predicted, row.held_out))
    return law, tuple(rows)


def numbers(law: CostLaw, case: Case, target: float, shares: Sequence[float]) -> list[int]:
    """Return whole numbers of cameras, at least 1, around the predicted one."""
    predicted = model_cameras(law, case, target)
    return sorted({max(1, round(share * predicted)) for share in shares})


class _Subjects:
    """Servers by T, and what is sent to them."""

    def __init__(self, load: LoadProcess, urls: Mapping[int, Sequence[str]]) -> None:
        self._load = load
        self._urls = urls
        self._traffic: dict[tuple[str, int, str], Traffic] = {}
        self._rigs: dict[tuple[str, ...], Rig] = {}

    def closed(self, case: Case, count: int, seconds: float) -> Point:
        """Measure one closed loop.

        Raises:
            ScaleError: Not every request was answered.
        """
        point = self._rig(case).closed(self._sent(case), count, seconds=seconds)
        if point.refused:
            raise ScaleError(
                f"{case.name}, {count} in flight: expected answers, got {point.refused} refusals "
                f"of {point.requests}: {point.failure}"
            )
        return point

    def cameras(self, case: Case, count: int, seconds: float) -> Point:
        """Measure one number of cameras."""
        return self._rig(case).cameras(self._sent(case), count, case.every, seconds=seconds)

    def _rig(self, case: Case) -> Rig:
        urls = tuple(self._urls[case.window][: case.replicas])
        if urls not in self._rigs:
            self._rigs[urls] = Rig(self._load, urls)
        return self._rigs[urls]

    def _sent(self, case: Case) -> Traffic:
        key = (case.kind, case.window, case.size)
        if key not in self._traffic:
            manifest = manifest_of(self._urls[case.window][0])
            self._traffic[key] = make_traffic(case.kind, manifest, case.size)
            self._load.give(self._traffic[key])
        return self._traffic[key]


def _serve(folder: Path, stack: ExitStack, console: Console) -> dict[int, list[str]]:
    """Return addresses of servers by T: as many as the most replicas of a case."""
    cases = (*FITTED, *HELD_OUT, *CAMERAS)
    urls: dict[int, list[str]] = {}
    for window in WINDOWS:
        repository = folder / f"t{window}"
        if not (repository / CLIP_MODEL).is_dir():
            with console.status(f"exporting T={window}"):
                export_release(build_model(scale_spec(window), seed=0), repository)
        with console.status(f"starting Triton, T={window}"):
            urls[window] = [
                stack.enter_context(EmbeddedServer(repository)).url
                for _ in range(max(case.replicas for case in cases if case.window == window))
            ]
    return urls


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repository", type=Path, help="keep the exports here; those that stand are taken"
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="fewer, shorter loads, two rounds")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
