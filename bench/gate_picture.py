"""A picture of the motion gate: recall against savings, one panel a kind of scene."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt


class Point(Protocol):
    """What is drawn of one threshold."""

    @property
    def saved(self) -> float:
        """Part of the frames that were not encoded."""

    @property
    def decision_recall(self) -> float:
        """Part of the decisions that held."""

    @property
    def event_recall(self) -> float:
        """Part of the events that decisions made tell; NaN where there was none."""

    @property
    def held_event_recall(self) -> float:
        """Part of the events that held decisions tell; NaN where there was none."""


def draw_gate(
    curves: Mapping[str, Mapping[float, Point]], default: float, title: str, picture: Path
) -> None:
    """Draw recall of decisions and of events over savings, and write it as a PNG.

    Args:
        curves: By kind of scene, then by threshold.
        default: Threshold to mark.
        title: Above all panels.
        picture: Where to.
    """
    figure, panels = plt.subplots(
        1, len(curves), figsize=(5.6 * len(curves), 4.4), squeeze=False, layout="constrained"
    )
    for axes, (kind, points) in zip(panels[0], curves.items(), strict=True):
        saved = [100 * point.saved for point in points.values()]
        lines = {
            "decisions": [100 * point.decision_recall for point in points.values()],
            "events, held": [100 * point.held_event_recall for point in points.values()],
            "events": [100 * point.event_recall for point in points.values()],
        }
        for (name, values), marker, color in zip(
            lines.items(), "o^s", ("tab:blue", "tab:green", "tab:orange"), strict=True
        ):
            axes.plot(saved, values, marker=marker, color=color, label=name)
            place = list(points).index(default)
            axes.plot(saved[place], values[place], marker, color=color, markersize=12, alpha=0.4)
        for threshold in _apart(dict(zip(points, saved, strict=True)), default):
            place = list(points).index(threshold)
            axes.annotate(
                f"{threshold:g}{' (default)' if threshold == default else ''}",
                (saved[place], lines["decisions"][place]),
                (5, 7),
                textcoords="offset points",
                size=8,
            )
        axes.set_title(kind)
        axes.set_xlabel("frames not encoded, %")
        axes.set_ylabel("recall, %")
        axes.margins(0.12)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower left")
    figure.suptitle(f"{title}: thresholds at the decisions, the default's points are large")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


def _apart(saved: Mapping[float, float], default: float) -> list[float]:
    """Return the default and the thresholds whose names would not stand in each other's way."""
    room = (max(saved.values()) - min(saved.values())) / 8
    named = [default]
    for threshold, place in saved.items():
        if all(abs(place - saved[other]) > room for other in named):
            named.append(threshold)
    return named
