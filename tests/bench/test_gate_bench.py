"""`bench/gate.py`: what is counted for a gate, over decisions whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fgmclip.bench.gate import Counts, events_of, judge
from fgmclip.bench.gate_picture import draw_gate
from fgmclip.bench.gate_scenes import Scene, SceneError, clips_in, scenes_of
from fgmclip.client import Decision
from fgmclip.client.gateway.settings import GateSettings
from fgmclip.client.streams.samples import StreamSample
from fgmclip.spec import preset
from fgmclip.video.samples import generate_samples

DT = 0.125
T = 8
LABELS = ("wave", "walk")
GATE = GateSettings(threshold=0.1, difference=0.1, linger_seconds=0, heartbeat_seconds=1000)


def scene(samples: int, moves: set[int]) -> Scene:
    made = []
    for index in range(samples):
        luma = np.zeros((1, 2, 10, 10), np.uint8)
        luma[0, 1] = 255 if index in moves else 0
        made.append(StreamSample(index, index * DT, None, {"LUMA_U8": luma}, {}))
    return Scene("made", "as filmed", tuple(made))


def decision(label: str) -> Decision:
    probabilities = np.array([0.9, 0.1] if label == LABELS[0] else [0.1, 0.9], np.float32)
    nothing = np.zeros(1, np.float32)
    return Decision(label, 0.9, ((label, 0.9),), nothing, probabilities, nothing)


def stream(samples: int, label_at: dict[int, str]) -> dict[int, Decision]:
    """Return one decision a sample from T on, with the labels that begin where they are given."""
    label, made = LABELS[1], {}
    for index in range(samples):
        label = label_at.get(index, label)
        if index >= T - 1:
            made[index] = decision(label)
    return made


def test_an_open_gate_misses_nothing_and_saves_nothing() -> None:
    made = stream(40, {20: "wave"})
    counts = judge(scene(40, set(range(40))), made, GATE, LABELS, DT)
    assert (counts.kept, counts.decisions) == (33, 33)
    assert (counts.encoded, counts.encoded_gated, counts.saved) == (40, 40, 0)
    assert (counts.events, counts.found, counts.extra) == (2, 2, 0)
    assert counts.open == counts.samples == 40


def test_a_closed_gate_holds_the_last_decision() -> None:
    # Open for T samples after the last motion, then again from 45 on: a refill of T, then ones.
    moves = {*range(18), *range(45, 60)}
    made = stream(60, {20: "wave", 35: "walk"})
    counts = judge(scene(60, moves), made, GATE, LABELS, DT)
    # "wave" is held from 26 to 44, and wrong from 35 on.
    assert counts.decisions - counts.kept == 10
    assert counts.encoded_gated == 26 + T + 14
    assert counts.saved == pytest.approx(1 - 48 / 60)


def test_a_short_pause_is_caught_up_with() -> None:
    moves = set(range(40)) - {20, 21, 22}
    counts = judge(scene(40, moves), stream(40, {}), GATE, LABELS, DT)
    assert counts.encoded_gated == 40


def test_stillness_from_the_start_is_decided_once_the_window_is_full() -> None:
    counts = judge(scene(20, set()), stream(20, {}), GATE, LABELS, DT)
    assert counts.kept == counts.decisions == 13
    assert counts.encoded_gated == T + 1


def test_an_event_needs_decisions_or_held_ones() -> None:
    made = stream(60, {20: "wave", 45: "walk"})
    # The gate closes just after the wave began: no second decision confirms it.
    moves = {*range(13), *range(50, 60)}
    counts = judge(scene(60, moves), made, GATE, LABELS, DT)
    assert counts.events == 3
    assert (counts.found, counts.found_held) == (2, 3)
    assert counts.event_recall == pytest.approx(2 / 3)
    assert counts.held_event_recall == 1
    assert counts.extra == counts.extra_held == 0


def test_an_event_that_is_held_too_long_is_none_that_should_not_be() -> None:
    times = {index: index * DT for index in range(60)}
    events = events_of(stream(60, {20: "wave"}), times, LABELS, 59 * DT)
    assert [(event.label, event.state) for event in events] == [
        ("walk", "ended"),
        ("wave", "ended"),
    ]


def test_counts_add_up() -> None:
    total = Counts()
    total.add(Counts(samples=3, decisions=2, kept=1, encoded=4, encoded_gated=1))
    total.add(Counts(samples=5, decisions=2, kept=2, encoded=4, encoded_gated=3))
    assert (total.samples, total.decision_recall, total.saved) == (8, 0.75, 0.5)
    assert "event_recall" not in total.to_json()
    assert total.to_json()["saved"] == 0.5


def test_scenes_are_the_clip_and_the_clip_between_stillness(tmp_path: Path) -> None:
    spec = preset("demo")
    clip = generate_samples(tmp_path, per_class=1, seed=5)[0]
    filmed, still = scenes_of(clip.path, spec)
    assert (filmed.kind, still.kind) == ("as filmed", "with stillness")
    assert len(still.samples) == len(filmed.samples) + 2 * 40
    assert [sample.index for sample in still.samples] == list(range(len(still.samples)))
    before, inside = still.samples[5].tensors["LUMA_U8"], still.samples[45].tensors["LUMA_U8"]
    assert 0 < np.abs(before[:, 1].astype(int) - before[:, 0]).mean() < 2
    np.testing.assert_array_equal(inside, filmed.samples[5].tensors["LUMA_U8"])


def test_a_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="name the folder with --data"):
        clips_in(tmp_path, 1)


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    points = {
        threshold: Counts(decisions=10, kept=9, events=2, found=1, encoded=9, encoded_gated=encoded)
        for threshold, encoded in ((0.1, 5), (0.2, 3))
    }
    picture = tmp_path / "deep" / "gate.png"
    draw_gate({"as filmed": points, "with stillness": points}, 0.1, "Gate", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
