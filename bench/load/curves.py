"""Pictures of load: latency by throughput, and a model beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fgmclip.bench.load.throughput_report import KindReport

matplotlib.use("Agg")

import matplotlib.pyplot as plt

_LINES = {"cameras": ("tab:blue", "o"), "poisson": ("tab:orange", "s"), "closed": ("grey", "^")}
_NAMES = {
    "cameras": "cameras, each at its interval",
    "poisson": "Poisson arrivals",
    "closed": "closed loop",
}


def draw_throughput(reports: Sequence[KindReport], title: str, picture: Path) -> None:
    """Draw p95 by decisions a second, a panel for each kind of request, and write a PNG."""
    figure, axes = plt.subplots(
        1, len(reports), figsize=(5.2 * len(reports), 4.2), squeeze=False, layout="constrained"
    )
    for axis, report in zip(axes[0], reports, strict=True):
        _panel(axis, report)
    axes[0, 0].set_ylabel("p95 latency, ms")
    axes[0, 0].legend(fontsize=8, loc="upper left")
    figure.suptitle(title, fontsize=10)
    save(figure, picture)


def save(figure: Figure, picture: Path) -> None:
    """Write a figure as a PNG and forget it."""
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _panel(axis: Axes, report: KindReport) -> None:
    for arrivals, (color, marker) in _LINES.items():
        points = report.of(arrivals)
        rates = [point.offered for point in points]
        p95 = [1e3 * point.p95 if np.isfinite(point.p95) else np.nan for point in points]
        axis.plot(rates, p95, color=color, marker=marker, ms=4, lw=1.2, label=_NAMES[arrivals])
        never = [point.offered for point in points if not np.isfinite(point.p95)]
        # At the upper edge, whatever the scale.
        axis.plot(
            never, np.ones(len(never)), "x", color=color, transform=axis.get_xaxis_transform()
        )
    axis.axhline(1e3 * report.target, color="tab:red", lw=1, ls="--")
    axis.set_yscale("log")
    axis.set_xlim(left=0)
    axis.grid(alpha=0.3, which="both")
    axis.set_xlabel("decisions a second")
    axis.set_title(
        f"{report.kind}: {report.carried} cameras within {1e3 * report.target:.0f} ms "
        f"(a decision every {1e3 * report.every:.0f} ms)",
        fontsize=9,
    )
