"""A picture of scale: what was measured, and the law and the queueing model beside it."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from fgmclip.bench.load.curves import save
from fgmclip.bench.load.experiment import BAR_PERCENT, DT, TARGETS
from fgmclip.bench.load.scale_report import ScaleReport

matplotlib.use("Agg")

import matplotlib.pyplot as plt


def draw_scale(report: ScaleReport, title: str, picture: Path) -> None:
    """Draw predictions, costs by T and resolution, and cameras, and write a PNG."""
    figure, axes = plt.subplots(1, 3, figsize=(15.6, 4.4), layout="constrained")
    _predictions(axes[0], report)
    _costs(axes[1], report)
    _cameras(axes[2], report)
    figure.suptitle(title, fontsize=10)
    save(figure, picture)


def _predictions(axis: Axes, report: ScaleReport) -> None:
    for held_out, marker, name in ((False, "o", "fitted"), (True, "D", "held out")):
        rows = [row for row in report.closed if row.held_out == held_out]
        axis.plot(
            [1e3 * row.measured for row in rows],
            [1e3 * row.predicted for row in rows],
            marker,
            ms=5,
            mfc="tab:blue" if held_out else "none",
            color="tab:blue",
            label=name,
        )
    ends = np.array(axis.get_xlim())
    ends[0] = min(1e3 * row.measured for row in report.closed) * 0.8
    axis.plot(ends, ends, color="grey", lw=1)
    share = BAR_PERCENT / 100
    axis.fill_between(
        ends, ends * (1 - share), ends * (1 + share), color="grey", alpha=0.15,
        label=f"within {BAR_PERCENT:.0f} %",
    )  # fmt: skip
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel("measured latency, ms")
    axis.set_ylabel("predicted latency, ms")
    axis.set_title("Closed loops: the law", fontsize=9)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3, which="both")


def _costs(axis: Axes, report: ScaleReport) -> None:
    most = max(row.in_flight for row in report.closed)
    rows = [row for row in report.closed if row.in_flight == most and row.case.replicas == 1]
    for kind, color in (("clip", "tab:orange"), ("edge", "tab:green")):
        chosen = sorted((row.case.window, row) for row in rows if row.case.kind == kind)
        windows = [window for window, _ in chosen]
        axis.plot(windows, [1e3 * row.measured / most for _, row in chosen], "o", color=color)
        axis.plot(
            windows, [1e3 * row.predicted / most for _, row in chosen], color=color, lw=1,
            label=f"{kind}: whole clip" if kind == "clip" else f"{kind}: one new frame",
        )  # fmt: skip
    axis.set_yscale("log")
    axis.set_xlabel("T")
    axis.set_ylabel(f"ms a decision, {most} in flight")
    axis.set_title("Cost against T: dots measured, lines the law", fontsize=9)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3, which="both")


def _cameras(axis: Axes, report: ScaleReport) -> None:
    for index, case in enumerate(dict.fromkeys(row.case for row in report.cameras)):
        points = sorted(
            {
                point.load: point.p95
                for row in report.cameras
                if row.case == case
                for point in row.points
            }.items()
        )
        color = f"C{index}"
        loads = [load for load, _ in points]
        axis.plot(loads, [1e3 * value for _, value in points], "o", ms=4, color=color)
        server = report.law.server(case.shape, case.replicas)
        grid = sorted({round(value) for value in np.linspace(1, 1.1 * max(loads), 40)})
        modelled = [1e3 * server.percentile(count, case.every) for count in grid]
        axis.plot(grid, modelled, lw=1, color=color, label=case.name)
    for target in TARGETS:
        axis.axhline(1e3 * target, color="tab:red", lw=0.8, ls="--")
    axis.set_yscale("log")
    axis.set_ylim(top=40e3 * DT)
    axis.set_xlabel(f"cameras, a sample every {1e3 * DT:.0f} ms")
    axis.set_ylabel("p95 latency, ms")
    axis.set_title("Cameras: dots measured, lines the queueing model", fontsize=9)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3, which="both")
