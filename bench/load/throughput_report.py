"""What `bench/throughput.py` found out: as tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from fgmclip.bench.load.point import BUSY_OTHERS, Point
from fgmclip.bench.load.search import Carried
from fgmclip.bench.load.traffic import Kind

ENCODER = "clip_image_encoder"


@dataclass(frozen=True, slots=True)
class KindReport:
    """Everything about one kind of request.

    Attributes:
        kind: Which.
        request_bytes: Bytes of one request.
        every: Time from one decision of a camera to its next, seconds.
        target: p95 that is asked for, seconds.
        points: Every load that was measured.
        carried: Cameras within the target.
        peer: Requests a second that perf_analyzer measured, and its requests in flight; None where
            it was not run.
    """

    kind: Kind
    request_bytes: int
    every: float
    target: float
    points: tuple[Point, ...]
    carried: Carried
    peer: tuple[float, int] | None = None

    def of(self, arrivals: str) -> list[Point]:
        """Return the points of one kind of arrivals by load."""
        return sorted(
            (point for point in self.points if point.arrivals == arrivals),
            key=lambda point: point.load,
        )

    @property
    def most(self) -> Point:
        """The closed loop with the most answers a second."""
        return max(self.of("closed"), key=lambda point: point.offered)

    @property
    def at_target(self) -> Point | None:
        """The point of the cameras that are carried."""
        found = (point for point in self.of("cameras") if point.load == self.carried.cameras)
        return next(found, None)

    def to_json(self) -> dict[str, Any]:
        """Return everything measured."""
        peer = None
        if self.peer is not None:
            peer = {"requests_per_second": self.peer[0], "concurrency": self.peer[1]}
        return {
            "kind": self.kind,
            "request_bytes": self.request_bytes,
            "decision_every_ms": 1e3 * self.every,
            "target_p95_ms": 1e3 * self.target,
            "most_per_second": self.most.offered,
            "cameras_within_target": self.carried.cameras,
            "cameras_beyond_target": self.carried.beyond,
            "perf_analyzer": peer,
            "points": [point.to_json() for point in self.points],
        }


def summary_table(reports: list[KindReport], title: str) -> Table:
    """Return a row for each kind of request."""
    table = _table(title)
    table.add_column("request")
    for heading in ("kB", "alone p50 ms", "most/s", "in flight", "decision every ms",
                    "target p95 ms", "cameras within"):  # fmt: skip
        table.add_column(heading, justify="right")
    for report in reports:
        alone = report.of("closed")[0]
        table.add_row(
            report.kind,
            f"{report.request_bytes / 1e3:.0f}",
            _ms(alone.p50),
            f"{report.most.offered:.1f}",
            str(report.most.load),
            f"{1e3 * report.every:.0f}",
            f"{1e3 * report.target:.0f}",
            str(report.carried),
        )
    return table


def points_table(report: KindReport) -> Table:
    """Return a row for each load of one kind of request."""
    table = _table(f"{report.kind}: latency by load, milliseconds; cores that were busy")
    table.add_column("arrivals")
    for heading in ("load", "offered/s", "n", "p50", "p95", "refused", "rows", "server",
                    "generator", "others"):  # fmt: skip
        table.add_column(heading, justify="right")
    for arrivals in ("closed", "cameras", "poisson"):
        for point in report.of(arrivals):
            rows = {step.step: step.rows_per_execution for step in point.steps}
            table.add_row(
                arrivals,
                str(point.load),
                f"{point.offered:.1f}",
                str(point.requests),
                _ms(point.p50),
                _ms(point.p95),
                str(point.refused),
                f"{rows.get(ENCODER, math.nan):.1f}",
                f"{point.cores.served:.2f}",
                f"{point.cores.generated:.2f}",
                f"{point.cores.others:.2f}",
                style=_style(point, report.target),
            )
    return table


def steps_table(report: KindReport) -> Table:
    """Return where the time goes: alone, and at the largest load within the target."""
    table = _table(
        f"{report.kind}: where the time of a request goes, milliseconds (Triton's counters)"
    )
    table.add_column("load")
    table.add_column("step")
    for heading in ("queue", "compute input", "compute infer", "compute output", "rows"):
        table.add_column(heading, justify="right")
    for name, point in _looked_into(report):
        for index, step in enumerate(point.steps):
            table.add_row(
                name if index == 0 else "",
                step.step,
                f"{step.queue:.2f}",
                f"{step.compute_input:.2f}",
                f"{step.compute_infer:.2f}",
                f"{step.compute_output:.2f}",
                f"{step.rows_per_execution:.1f}",
                end_section=index == len(point.steps) - 1,
            )
    return table


def disturbed(points: tuple[Point, ...], cores: int) -> float:
    """Return the share of points in which others had more than a little of the cores."""
    return sum(point.cores.others > BUSY_OTHERS * cores for point in points) / len(points)


def _looked_into(report: KindReport) -> Iterator[tuple[str, Point]]:
    yield "one in flight", report.of("closed")[0]
    if (point := report.at_target) is not None:
        yield f"{point.load} cameras", point


def _style(point: Point, target: float) -> str | None:
    if point.arrivals == "closed":
        return None
    return "green" if point.p95 <= target else "red"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if math.isfinite(seconds) else "never"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left")
