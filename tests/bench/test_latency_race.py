"""Turns and rounds of a race, what disturbs them, and what is left of a run that was stopped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fgmclip.bench.cost import race as race_module
from fgmclip.bench.cost.competitor import CompetitorError
from fgmclip.bench.cost.race import (
    MOST_CALLS,
    TRIES,
    TURN_MS,
    WAKE_MS,
    Starter,
    Turn,
    calls_of,
    take_round,
)
from fgmclip.bench.cost.report import Entry
from fgmclip.bench.cost.state import RaceState, code_version, state_key
from fgmclip.bench.overhead_race import Load


class Neighbour:
    """A load that others take part in: a share for each turn, in their order."""

    def __init__(self, *shares: float) -> None:
        self._shares = list(shares)
        self._looks = 0

    def __call__(self) -> Load:
        self._looks += 1
        if self._looks % 2:
            return Load(0.0, 0.0, 0.0)
        share = self._shares.pop(0) if self._shares else 0.0
        return Load(1.0, share * (os.cpu_count() or 1), 0.0)


class Clip:
    """Counts its runs, and says that each takes one millisecond longer."""

    def __init__(self, first: float) -> None:
        self.first = first
        self.runs = 0

    def __call__(self) -> float:
        self.runs += 1
        return self.first + self.runs - 1


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(race_module, "_PAUSE", 0.0)


def test_a_turn_of_short_clips_is_long_enough_to_be_watched() -> None:
    assert calls_of(TURN_MS / 4) == 4
    assert calls_of(10 * TURN_MS) == 1
    assert calls_of(0.0) == MOST_CALLS


def test_short_clips_wake_first_and_long_ones_do_not() -> None:
    short, long = Clip(200.0), Clip(2 * WAKE_MS)
    starters = {name: Starter.warmed(clip) for name, clip in (("short", short), ("long", long))}
    assert (short.runs, long.runs) == (1, 1)
    turns, failed = take_round(starters, 0, load=Neighbour())
    assert failed == {}
    # The second run woke it.
    assert turns["short"].milliseconds == (202.0, 203.0, 204.0, 205.0)
    assert turns["long"].milliseconds == (2 * WAKE_MS + 1,)


def test_each_round_starts_with_another_and_reports_in_one_order() -> None:
    order: list[str] = []

    def runner(name: str) -> Starter:
        def run() -> float:
            order.append(name)
            return WAKE_MS

        return Starter(run, 1, False)

    starters = {name: runner(name) for name in "abc"}
    for number in range(3):
        turns, _ = take_round(starters, number, load=Neighbour())
        assert list(turns) == ["a", "b", "c"]
    assert "".join(order) == "abcbcacab"


def test_a_disturbed_turn_is_taken_again_and_the_quietest_counts() -> None:
    clip = Clip(WAKE_MS)
    turns, _ = take_round({"it": Starter(clip, 1, False)}, 0, load=Neighbour(0.5, 0.0))
    assert turns["it"] == Turn((WAKE_MS + 1,), 0.0)
    clip = Clip(WAKE_MS)
    turns, _ = take_round({"it": Starter(clip, 1, False)}, 0, load=Neighbour(0.5, 0.2, 0.4))
    assert clip.runs == TRIES
    # Not the fastest one: the one that others left most alone.
    assert turns["it"].milliseconds == (WAKE_MS + 1,)
    assert turns["it"].foreign == pytest.approx(0.2)
    assert turns["it"].disturbed


def test_without_time_left_a_disturbed_turn_counts_as_it_is() -> None:
    clip = Clip(WAKE_MS)
    turns, _ = take_round({"it": Starter(clip, 1, False)}, 0, tries=1, load=Neighbour(0.5, 0.0))
    assert clip.runs == 1
    assert turns["it"].disturbed


def test_one_that_fails_in_its_turn_does_not_end_the_others() -> None:
    def broken() -> float:
        raise CompetitorError("out of memory")

    starters = {"good": Starter(Clip(WAKE_MS), 1, False), "bad": Starter(broken, 1, False)}
    turns, failed = take_round(starters, 1, load=Neighbour())
    assert list(turns) == ["good"]
    assert failed == {"bad": "out of memory"}


def test_a_stopped_run_goes_on_and_another_one_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "out" / "state.json"
    state = RaceState("this", "2026-01-01")
    state.rounds.append({"a": Turn((1.5, 2.0), 0.01), "b": Turn((3.0,), 0.2)})
    state.save(path)
    assert RaceState.resumed(path, "this", "2026-02-02") == state
    assert RaceState.resumed(path, "that", "2026-02-02") == RaceState("that", "2026-02-02")
    assert [item.name for item in path.parent.iterdir()] == ["state.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"key": "this"}', '{"key": "this", "rounds": 3}'])
def test_a_damaged_state_is_not_believed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(text, encoding="utf-8")
    assert RaceState.resumed(path, "this", "now") == RaceState("this", "now")


def test_rounds_count_together_only_for_the_same_entries_and_settings() -> None:
    entry = Entry("a", "A", "peer", None, (8, 64, 64), 1, 1, 1, "fp32", "", "network", None)
    other = Entry("a", "A", "peer", None, (8, 64, 64), 2, 1, 1, "fp32", "", "network", None)
    key = state_key([entry], {"threads": "2"})
    assert key == state_key([entry], {"threads": "2"})
    assert key != state_key([other], {"threads": "2"})
    assert key != state_key([entry], {"threads": "1"})


def test_the_code_has_a_version_that_names_rooms() -> None:
    assert code_version(("spec",)) == code_version(("spec",))
    assert len({code_version(), code_version(("spec",)), code_version(("triton_repo",))}) == 3
