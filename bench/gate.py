"""The motion gate over real clips: what is missed against what is saved, for a range of thresholds.

Run as `python bench/gate.py`; `--checkpoint FILE` judges it with another model than the demo. Each
clip is used as it was filmed and, if it is short, between two stretches of stillness with sensor
noise, which are made here (`gate_scenes.py`). An embedded server decides at every sample of every
scene. For each threshold the gate then says which of these decisions would have been made; the last
one holds while it is closed. That those are the very decisions of a gated stream is checked: on
each fourth scene the gated stream is served as well, at the default threshold. Recall of decisions
is the share of samples whose label is that of the stream without a gate; of events, the share of
its events that the gated stream's events of the same class overlap: where the tracker is given the
decisions that were made, and where it is given the one that holds at each sample. Prints a table
and draws a picture; `--json FILE` writes everything.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from fgmclip.bench.gate_picture import Point, draw_gate
from fgmclip.bench.gate_scenes import KINDS, NOISE, STILL_SECONDS, Scene, clips_in, scenes_of
from fgmclip.bench.machine import describe_machine
from fgmclip.client import ActionClient, Decision, StreamClient, StreamDecision
from fgmclip.client.events.event import Event
from fgmclip.client.events.tracker import EventTracker
from fgmclip.client.gateway.gate import MotionGate
from fgmclip.client.gateway.settings import EventSettings, GateSettings
from fgmclip.command import run_command
from fgmclip.export.demo import demo_repository
from fgmclip.export.release import export_release
from fgmclip.export.sources import open_model
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import FgmclipError
from fgmclip.video.errors import VideoError

THRESHOLDS = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Parts of the luma grid that must differ; the other settings are the gate's defaults."""

DEFAULT = GateSettings().threshold

SERVED_EVERY = 4
"""Each such scene's gated stream is served too."""

Made = Mapping[int, Decision]
"""Decisions by the index of their last sample."""


@dataclass(slots=True)
class Counts:
    """What the gate did to some scenes.

    Attributes:
        samples: Samples seen.
        open: Those for which the gate was open.
        decisions: Decisions of the streams without a gate.
        kept: Those of them whose label held with it.
        events: Events without a gate.
        found: Those of them that there were with it, too, from the decisions made.
        found_held: The same from the decision that holds at each sample.
        extra: Events that there were with it only, from the decisions made.
        extra_held: The same from the decision that holds at each sample.
        encoded: Frames encoded without a gate.
        encoded_gated: Frames encoded with it.
    """

    samples: int = 0
    open: int = 0
    decisions: int = 0
    kept: int = 0
    events: int = 0
    found: int = 0
    found_held: int = 0
    extra: int = 0
    extra_held: int = 0
    encoded: int = 0
    encoded_gated: int = 0

    def add(self, other: Counts) -> None:
        """Add what happened to another scene."""
        for name in Counts.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def saved(self) -> float:
        """Part of the frames that were not encoded."""
        return 1 - self.encoded_gated / self.encoded

    @property
    def decision_recall(self) -> float:
        """Part of the decisions whose label held."""
        return self.kept / self.decisions

    @property
    def event_recall(self) -> float:
        """Part of the events that decisions made tell; not a number where there was none."""
        return self.found / self.events if self.events else float("nan")

    @property
    def held_event_recall(self) -> float:
        """Part of the events that held decisions tell; not a number where there was none."""
        return self.found_held / self.events if self.events else float("nan")

    def to_json(self) -> dict[str, float]:
        """Return counts and shares."""
        names = ["saved", "decision_recall"]
        # JSON has no NaN.
        names += ["event_recall", "held_event_recall"] if self.events else []
        return asdict(self) | {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Served:
    """How gated streams that were served compare with what was concluded for them.

    Attributes:
        scenes: How many were served.
        decisions: Decisions that they made.
        difference: Largest difference of a probability from the stream's without a gate.
        other: Decisions or encoded frames that were not as concluded.
    """

    scenes: int = 0
    decisions: int = 0
    difference: float = 0.0
    other: int = 0


@dataclass(slots=True)
class Judgement:
    """All that was counted.

    Attributes:
        counts: By kind of scene and threshold.
        scenes: How many there were of each kind.
        served: What the check by serving found.
    """

    counts: dict[str, dict[float, Counts]] = field(
        default_factory=lambda: {kind: {each: Counts() for each in THRESHOLDS} for kind in KINDS}
    )
    scenes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    served: Served = field(default_factory=Served)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    arguments = _parse(argv)
    console = Console()
    console.width = max(console.width, 120)
    try:
        facts, judgement = _run(arguments, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    for kind in KINDS:
        if judgement.scenes[kind]:
            console.print(_table(kind, judgement, facts["model"]))
    served = judgement.served
    console.print(
        f"{served.scenes} gated streams served, {served.decisions} decisions: largest difference "
        f"of a probability {served.difference:.1e}, {served.other} not as concluded"
    )
    curves: dict[str, Mapping[float, Point]] = {
        kind: judgement.counts[kind] for kind in KINDS if judgement.scenes[kind]
    }
    draw_gate(curves, DEFAULT, f"Motion gate, model {facts['model']}", arguments.picture)
    console.print(f"Picture: {arguments.picture}")
    if arguments.json:
        report = {
            "machine": describe_machine(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "quick": arguments.quick,
            **facts,
            "gate": GateSettings().model_dump(),
            "still_seconds": STILL_SECONDS,
            "noise_levels": NOISE,
            "scenes": judgement.scenes,
            "served": asdict(served),
            "counts": {
                kind: [{"threshold": each} | item.to_json() for each, item in row.items()]
                for kind, row in judgement.counts.items()
                if judgement.scenes[kind]
            },
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


def judge(
    scene: Scene, made: Made, settings: GateSettings, labels: Sequence[str], dt: float
) -> Counts:
    """Return what a gate would have done to a scene.

    Args:
        scene: Its samples.
        made: The decisions of the stream without a gate, one for each sample from T on.
        settings: The gate's.
        labels: Of the classes, as in the decisions' probabilities.
        dt: Time between samples, seconds.
    """
    window = min(made) - scene.samples[0].index + 1
    gate = MotionGate(settings, dt, window)
    counts = Counts(samples=len(scene.samples), decisions=len(made))
    counts.encoded = window + len(made) - 1
    gated: dict[int, Decision] = {}
    held: dict[int, Decision] = {}
    waiting, full = 0, False
    for sample in scene.samples:
        waiting += 1
        is_open = gate.sees(sample)
        counts.open += is_open
        if is_open and (full or waiting >= window):
            counts.encoded_gated += min(waiting, window)
            waiting, full = 0, True
            gated[sample.index] = made[sample.index]
        if sample.index in made and gated:
            held[sample.index] = gated[max(gated)]
            counts.kept += held[sample.index].label == made[sample.index].label
    times = {sample.index: sample.time for sample in scene.samples}
    end = scene.samples[-1].time
    expected, by_made, by_held = (
        events_of(each, times, labels, end) for each in (made, gated, held)
    )
    counts.events = len(expected)
    counts.found = _found(expected, by_made, dt)
    counts.found_held = _found(expected, by_held, dt)
    counts.extra = len(by_made) - _found(by_made, expected, dt)
    counts.extra_held = len(by_held) - _found(by_held, expected, dt)
    return counts


def events_of(
    decisions: Made, times: Mapping[int, float], labels: Sequence[str], end: float
) -> list[Event]:
    """Return the events in decisions, by the default rules."""
    tracker = EventTracker("scene", EventSettings(), "media")
    events: list[Event] = []
    for index, decision in decisions.items():
        probabilities = dict(zip(labels, map(float, decision.probabilities), strict=True))
        events += tracker.decide(times[index], probabilities, None, "release")
    events += tracker.finish(end)
    return [event for event in events if event.state != "open"]


def _found(sought: Sequence[Event], among: Sequence[Event], dt: float) -> int:
    return sum(any(_overlap(one, other, dt) for other in among) for one in sought)


def _overlap(one: Event, two: Event, dt: float) -> bool:
    assert one.end is not None
    assert two.end is not None
    return one.label == two.label and one.start <= two.end + dt and two.start <= one.end + dt


def _run(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], Judgement]:
    judgement = Judgement()
    clips = clips_in(arguments.data, 12 if arguments.quick else 1)
    unusable = []
    with ExitStack() as stack:
        with console.status("exporting"):
            repository = demo_repository()
            if arguments.checkpoint is not None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                repository = folder / "repository"
                export_release(open_model(str(arguments.checkpoint)), repository)
        with console.status("starting Triton"):
            server = stack.enter_context(EmbeddedServer(repository))
        client = stack.enter_context(ActionClient(server.url))
        progress = stack.enter_context(Progress(console=console, transient=True))
        task = progress.add_task("clips", total=len(clips))
        for path in clips:
            try:
                for scene in scenes_of(path, client.manifest.spec):
                    _take(scene, client, judgement)
            except VideoError as error:
                unusable.append(str(error))
            progress.advance(task)
        manifest = client.manifest
    facts = {
        "model": manifest.spec.name,
        "precision": manifest.precision,
        "dt": manifest.dt,
        "window": manifest.spec.clip.frames,
        "unusable": unusable,
    }
    return facts, judgement


def _take(scene: Scene, client: ActionClient, judgement: Judgement) -> None:
    manifest = client.manifest
    labels = manifest.spec.labels
    made, _ = serve(scene, client, None)
    number = sum(judgement.scenes.values())
    judgement.scenes[scene.kind] += 1
    for threshold, counts in judgement.counts[scene.kind].items():
        settings = GateSettings(threshold=threshold)
        counts.add(judge(scene, made, settings, labels, manifest.dt))
    if number % SERVED_EVERY == 0:
        gated, encoded = serve(scene, client, GateSettings())
        concluded = judge(scene, made, GateSettings(), labels, manifest.dt)
        served = judgement.served
        served.scenes += 1
        served.decisions += len(gated)
        served.other += encoded != concluded.encoded_gated or not set(gated) <= set(made)
        for index in set(gated) & set(made):
            apart = np.abs(gated[index].probabilities - made[index].probabilities)
            served.difference = max(served.difference, float(apart.max()))


def serve(
    scene: Scene, client: ActionClient, settings: GateSettings | None
) -> tuple[dict[int, Decision], int]:
    """Ask the server about a scene, as the gateway does.

    Args:
        scene: Its samples.
        client: Names the server.
        settings: The gate's; None for no gate.

    Returns:
        The decisions by the index of their last sample, and how many frames were encoded.
    """
    clip = client.manifest.spec.clip
    gate = None if settings is None else MotionGate(settings, clip.dt, clip.frames)
    stream = StreamClient(client)
    made: dict[int, Decision] = {}
    encoded = 0
    for sample in scene.samples:
        stream.add(sample)
        if gate is not None and not gate.sees(sample):
            continue
        for result in stream.decide():
            assert isinstance(result, StreamDecision)
            made[result.index] = result.decision
            encoded += result.samples
    return made, encoded


def _table(kind: str, judgement: Judgement, model: str) -> Table:
    rows = judgement.counts[kind]
    first = next(iter(rows.values()))
    table = Table(
        title=(
            f"{model}, {judgement.scenes[kind]} scenes {kind}: {first.decisions} decisions, "
            f"{first.events} events"
        ),
        title_justify="left",
        caption=(
            "Events: from the decisions made (and how many there were that should not be), and "
            "from held ones."
        ),
        caption_justify="left",
    )
    columns = ("threshold", "gate open", "frames saved", "decisions", "events", "events, held")
    for column in columns:
        table.add_column(column, justify="right")
    for threshold, counts in rows.items():
        made, held = counts.event_recall, counts.held_event_recall
        table.add_row(
            f"{threshold:g}{' (default)' if threshold == DEFAULT else ''}",
            f"{counts.open / counts.samples:.1%}",
            f"{counts.saved:.1%}",
            f"{counts.decision_recall:.2%}",
            f"{made:.1%} (+{counts.extra})",
            f"{held:.1%} (+{counts.extra_held})",
        )
    return table


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="model to judge it with; demo if absent")
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("FGMCLIP_TEST_DATA", "../shared/data")),
        help="folder of test data; FGMCLIP_TEST_DATA if absent",
    )
    parser.add_argument("--picture", type=Path, default=Path("out/gate.png"))
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--quick", action="store_true", help="each twelfth clip")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
