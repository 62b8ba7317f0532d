"""What `bench/scale.py` found out: measured beside predicted, as tables and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from fgmclip.bench.bars import Bar
from fgmclip.bench.load.experiment import BAR_PERCENT, DT, PLANNED, Case
from fgmclip.bench.load.law import TERMS, CostLaw
from fgmclip.bench.load.point import Point
from fgmclip.bench.load.queueing import servers_for
from fgmclip.bench.load.search import crossing

MANY_CAMERAS = 10_000
HEADROOM = 0.3
"""Share of a server that is kept free: for one that fails, and for busy hours."""


@dataclass(frozen=True, slots=True)
class ClosedRow:
    """A closed loop.

    Attributes:
        case: What was sent.
        in_flight: Requests in flight.
        rounds: The point of each round.
        predicted: By the law, seconds.
        held_out: Whether the law did not see it.
    """

    case: Case
    in_flight: int
    rounds: tuple[Point, ...]
    predicted: float
    held_out: bool

    @property
    def measured(self) -> float:
        """Mean latency in the median round, seconds."""
        return float(np.median([point.mean for point in self.rounds]))

    @property
    def error(self) -> float:
        """Relative error of the prediction."""
        return self.predicted / self.measured - 1

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "case": self.case.name,
            "in_flight": self.in_flight,
            "rounds": [
                {"mean_ms": 1e3 * point.mean, "others_cores": point.cores.others}
                for point in self.rounds
            ],
            "measured_ms": 1e3 * self.measured,
            "predicted_ms": 1e3 * self.predicted,
            "held_out": self.held_out,
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class CamerasRow:
    """How many cameras are carried at a target.

    Attributes:
        case: What they send.
        target: p95 that is asked for, seconds.
        predicted: Cameras, not whole.
        points: What was measured on both sides of that.
    """

    case: Case
    target: float
    predicted: float
    points: tuple[Point, ...]

    @property
    def p95(self) -> dict[int, float]:
        """Measured p95 by cameras, seconds."""
        return {point.load: point.p95 for point in self.points}

    @property
    def enclosed(self) -> bool:
        """Whether points lie on both sides of the target."""
        return crossing(self.p95, self.target) is not None

    @property
    def measured(self) -> float:
        """Cameras, not whole; the nearest point if all lie on one side of the target."""
        found = crossing(self.p95, self.target)
        if found is not None:
            return found
        within = min(self.p95.values()) <= self.target
        return float(max(self.p95) if within else min(self.p95))

    @property
    def error(self) -> float:
        """Relative error of the prediction, which is larger if the target is not enclosed."""
        return self.predicted / self.measured - 1

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "case": self.case.name,
            "target_p95_ms": 1e3 * self.target,
            "predicted_cameras": self.predicted,
            "measured_cameras": self.measured,
            "enclosed": self.enclosed,
            "error": self.error,
            "points": [point.to_json() for point in self.points],
        }


@dataclass(frozen=True, slots=True)
class ScaleReport:
    """Everything that a run found out.

    Attributes:
        law: Fitted to the closed loops that are not held out.
        closed: All closed loops.
        cameras: How many cameras are carried.
    """

    law: CostLaw
    closed: tuple[ClosedRow, ...]
    cameras: tuple[CamerasRow, ...]

    def errors(self) -> list[float]:
        """Return the relative error of each held-out point: latencies, then cameras."""
        held_out = [row.error for row in self.closed if row.held_out]
        return held_out + [row.error for row in self.cameras]

    def bar(self) -> Bar:
        """Return the worst held-out point, held to the bar."""
        percents = [100 * abs(error) for error in self.errors()]
        return Bar(
            "prediction of held-out points, the worst",
            BAR_PERCENT,
            max(percents),
            unit=" %",
            detail=f"{len(percents)} points, median {np.median(percents):.1f} %",
        )

    def to_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            "law_ms": {
                term: 1e3 * value for term, value in zip(TERMS, self.law.seconds, strict=True)
            },
            "law_shared": self.law.shared,
            "closed": [row.to_json() for row in self.closed],
            "cameras": [row.to_json() for row in self.cameras],
            "plan": plan(self.law),
            "bar": self.bar().to_json(),
        }


def model_cameras(law: CostLaw, case: Case, target: float) -> float:
    """Return how many cameras the model carries, not whole: p95 grows by a factor in between."""
    server = law.server(case.shape, case.replicas)
    most = server.cameras_within(target, case.every)
    if not most:
        return 0.0
    p95 = {count: server.percentile(count, case.every) for count in (most, most + 1)}
    found = crossing(p95, target)
    return float(most) if found is None else found


def plan(law: CostLaw) -> list[dict[str, Any]]:
    """Return how many servers like this machine carry many cameras, by the law."""
    rows = []
    for case in PLANNED:
        server = law.server(case.shape)
        most = server.cameras_within(case.every, case.every)
        rows.append(
            {
                "case": case.name,
                "decision_every_ms": 1e3 * case.every,
                "each_ms": 1e3 * server.each,
                "cameras_per_server": most,
                "servers": servers_for(MANY_CAMERAS, most, HEADROOM),
            }
        )
    return rows


def closed_table(report: ScaleReport) -> Table:
    """Return a row for each case: measured and predicted by requests in flight."""
    counts = sorted({row.in_flight for row in report.closed})
    table = _table("Mean latency by requests in flight, milliseconds: measured / predicted (error)")
    table.add_column("case")
    table.add_column("law")
    for count in counts:
        table.add_column(str(count), justify="right")
    for case in dict.fromkeys(row.case for row in report.closed):
        rows = {row.in_flight: row for row in report.closed if row.case == case}
        held_out = next(iter(rows.values())).held_out
        cells = [_cell(rows.get(count)) for count in counts]
        style = "bold" if held_out else None
        table.add_row(case.name, "held out" if held_out else "fitted", *cells, style=style)
    return table


def cameras_table(report: ScaleReport) -> Table:
    """Return a row for each target: cameras measured and predicted."""
    table = _table(f"Cameras at a target p95, a sample every {1e3 * DT:.0f} ms (all held out)")
    table.add_column("case")
    for heading in ("target ms", "measured", "predicted", "error", "p95 ms by cameras"):
        table.add_column(heading, justify="right")
    for row in report.cameras:
        found = f"{row.measured:.1f}" + ("" if row.enclosed else ", not enclosed")
        table.add_row(
            row.case.name,
            f"{1e3 * row.target:.0f}",
            found,
            f"{row.predicted:.1f}",
            f"{row.error:+.1%}",
            " ".join(f"{count}:{1e3 * value:.0f}" for count, value in sorted(row.p95.items())),
        )
    return table


def plan_table(report: ScaleReport) -> Table:
    """Return servers for many cameras."""
    table = _table(
        f"Servers like this machine for {MANY_CAMERAS:,} cameras, {HEADROOM:.0%} kept free, p95 "
        "within a decision's interval (predicted)"
    )
    table.add_column("case")
    for heading in ("decision every ms", "machine ms each", "cameras a server", "servers"):
        table.add_column(heading, justify="right")
    for row in plan(report.law):
        table.add_row(
            row["case"],
            f"{row['decision_every_ms']:.0f}",
            f"{row['each_ms']:.2f}",
            str(row["cameras_per_server"]),
            "none carries any" if row["servers"] is None else f"{row['servers']:,}",
        )
    return table


def law_text(law: CostLaw) -> str:
    """Return the law as a line."""
    batch, request, frame, pixels, window = (1e3 * value for value in law.seconds)
    return (
        f"b requests that are served together take {batch:.2f} ms + b ({request:.2f} ms + "
        f"{frame:.2f} ms a new frame + {pixels:.2f} ms a megapixel of raw frames + {window:.3f} ms "
        f"a frame of the window); of a batch's {batch:.2f} ms, which need {law.shared:.0%} of the "
        "machine, replicas delay each other's"
    )


def _cell(row: ClosedRow | None) -> str:
    if row is None:
        return ""
    return f"{1e3 * row.measured:.1f} / {1e3 * row.predicted:.1f} ({row.error:+.0%})"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left")
