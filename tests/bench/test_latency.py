"""`bench/latency.py` over stand-ins that tell times: tables, resuming, intervals, baselines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from fgmclip.bench import latency
from fgmclip.bench.bars import REGRESSION
from fgmclip.bench.cost import run as run_module
from fgmclip.bench.cost.baseline import compare
from fgmclip.bench.cost.competitor import EAGER, NAIVE, SERVED, CompetitorError
from fgmclip.bench.cost.plan import Plan
from fgmclip.bench.cost.race import take_round
from fgmclip.bench.cost.report import CostReport, Entry, Group, ReportError
from fgmclip.bench.cost.run import Effort, race
from fgmclip.bench.cost.state import STATE_FILE, RaceState
from fgmclip.bench.cost.summary import HALF_WIDTH
from fgmclip.bench.overhead_race import Load
from fgmclip.spec import preset

GROUPS: dict[str, Group] = {
    SERVED: "served",
    EAGER: "pytorch",
    NAIVE: "naive",
    "without-clip": "ablation",
    "s3d": "peer",
}
MILLISECONDS = {SERVED: 300.0, EAGER: 2000.0, NAIVE: 1800.0, "without-clip": 200.0, "s3d": 450.0}

EFFORT = Effort(seconds=600, least=10, most=40)


def entry(key: str, *, why: str = "") -> Entry:
    return Entry(
        key=key,
        name=f"The {key}",
        group=GROUPS[key],
        dataset=None,
        clip=(10, 224, 224),
        parameters=1_000_000,
        served_parameters=900_000,
        multiply_adds=2_000_000_000,
        precision="fp32",
        verdict="",
        includes="network",
        latency=None,
        why=why,
    )


class Machine:
    """How slow everything is at the moment: it drifts."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.drift = 0.0

    def slowness(self) -> float:
        self.drift = 0.9 * self.drift + float(self.random.normal(0, 0.02))
        return float(np.exp(self.drift))


@dataclass
class StandIn:
    """A competitor whose clips take about as long as it is told.

    Attributes:
        entry: Of the report.
        machine: Slows all alike.
        milliseconds: Of a clip.
        fails: Number of the run that fails, 0 for opening; None for never.
        runs: Clips so far.
        closed: How often it was closed.
    """

    entry: Entry
    machine: Machine
    milliseconds: float
    fails: int | None = None
    runs: int = field(default=0, init=False)
    closed: int = field(default=0, init=False)

    @contextmanager
    def open(self) -> Iterator[Callable[[], float]]:
        # A process has its own memory and its own luck with it.
        luck = float(np.exp(self.machine.random.normal(0, 0.005)))

        def run() -> float:
            self.runs += 1
            if self.runs == self.fails:
                raise CompetitorError("out of memory")
            noise = float(np.exp(self.machine.random.normal(0, 0.03)))
            return self.milliseconds * luck * noise * self.machine.slowness()

        if self.fails == 0:
            raise CompetitorError("no such library")
        try:
            yield run
        finally:
            self.closed += 1


def stand_ins(seed: int, slower: dict[str, float] | None = None) -> dict[str, StandIn]:
    machine = Machine(seed)
    return {
        key: StandIn(entry(key), machine, took * (slower or {}).get(key, 1.0))
        for key, took in MILLISECONDS.items()
    }


def plan(folder: Path, only: frozenset[str] = frozenset()) -> Plan:
    return Plan(
        model="gym99",
        spec=preset("gym99"),
        repository=folder,
        release=1,
        model_tag="0123456789abcdef",
        precision="int8/bf16/int8",
        verdict="gate: taken",
        quick=True,
        threads=2,
        cache=folder,
        only=only,
    )


Bench = Callable[..., int]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Run the command over stand-ins; nobody else is on the machine."""
    seconds = count()
    quiet = partial(take_round, load=lambda: Load(float(next(seconds)), 0.0, 0.0))
    monkeypatch.setattr(run_module, "take_round", quiet)

    def run(competitors: dict[str, StandIn], *words: str, effort: Effort = EFFORT) -> int:
        chosen = plan(tmp_path)
        if "--only" in words:
            chosen = plan(tmp_path, frozenset(words[words.index("--only") + 1].split(",")))
        monkeypatch.setattr(latency, "_plan", lambda *arguments: chosen)
        out = () if "--out" in words else ("--out", str(tmp_path / "out"))
        return latency.main(
            ["--quick", *words, *out],
            effort=effort,
            lineup=lambda plan, report: list(competitors.values()),
        )

    return run


def report_of(folder: Path) -> CostReport:
    return CostReport.load(folder / "latency.json")


def test_it_writes_the_report_three_times_and_prints_the_tables(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    competitors = stand_ins(1)
    assert bench(competitors) == 0
    out = tmp_path / "out"
    assert sorted(item.name for item in out.iterdir()) == [
        "latency.html",
        "latency.json",
        "latency.md",
    ]
    report = report_of(out)
    served = report.entry(SERVED)
    assert served is not None
    assert served.latency is not None
    assert served.latency.p50 == pytest.approx(MILLISECONDS[SERVED], rel=0.2)
    times = served.latency
    assert times.low <= times.p50 <= times.high
    assert times.p50 <= times.p90 <= times.p99
    assert times.repeats >= times.rounds >= EFFORT.least
    assert "The served" in capsys.readouterr().out
    assert all(item.closed == 1 for item in competitors.values())


def test_ratios_are_drawn_to_eager_pytorch_and_to_ours(bench: Bench, tmp_path: Path) -> None:
    assert bench(stand_ins(2)) == 0
    report = report_of(tmp_path / "out")
    pairs = [(ratio.longer, ratio.shorter) for ratio in report.ratios]
    assert pairs == [
        (EAGER, SERVED),
        (EAGER, NAIVE),
        (EAGER, "without-clip"),
        (EAGER, "s3d"),
        (NAIVE, SERVED),
        ("without-clip", SERVED),
        ("s3d", SERVED),
    ]
    for ratio in report.ratios:
        truth = MILLISECONDS[ratio.longer] / MILLISECONDS[ratio.shorter]
        assert ratio.low < truth < ratio.high
        assert (ratio.high - ratio.low) / 2 <= HALF_WIDTH * ratio.value


def test_each_data_set_has_its_own_count_and_the_common_time(bench: Bench, tmp_path: Path) -> None:
    assert bench(stand_ins(3)) == 0
    report = report_of(tmp_path / "out")
    common, small, same = (report.entry(SERVED, key) for key in (None, "ucf_sports", "gym99"))
    assert common is not None
    assert small is not None
    assert same is not None
    width = preset("gym99").fusion.width
    assert (common.parameters or 0) - (small.parameters or 0) == 89 * (width + 1)
    assert (common.multiply_adds or 0) - (small.multiply_adds or 0) == 89 * width
    assert same.parameters == common.parameters
    assert small.latency == common.latency
    assert "timed once" in small.includes
    assert report.entry("without-clip", "multiview") is not None
    assert report.entry("s3d", "multiview") is None
    assert "not certain" in report.protocol["data set multiview"]


def test_an_epoch_of_training_fills_the_row_of_its_data_set_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency, "_epoch_seconds", lambda model, dataset: 12.5)
    assert bench(stand_ins(3), "--dataset", "videos/gym99") == 0
    report = report_of(tmp_path / "out")
    trained = [(item.key, item.dataset) for item in report.entries if item.training_seconds]
    assert trained == [(SERVED, None), (SERVED, "gym99")]
    assert report.protocol["training"] == "12.5 s an epoch, all weights, gym99"


def test_what_cannot_run_says_why_and_the_others_go_on(bench: Bench, tmp_path: Path) -> None:
    competitors = stand_ins(4)
    competitors["s3d"].fails = 0
    # In its fifth round, of one clip each.
    competitors[NAIVE].fails = 6
    unable = competitors["without-clip"]
    unable.entry = replace(unable.entry, why="needs a GPU")
    assert bench(competitors) == 0
    report = report_of(tmp_path / "out")
    whys = {item.key: item.why for item in report.entries if item.why}
    assert whys == {
        "s3d": "no such library",
        NAIVE: "out of memory",
        "without-clip": "needs a GPU",
    }
    assert all(item.latency is None for item in report.entries if item.why)
    assert unable.runs == 0
    assert all({ratio.longer, ratio.shorter} == {EAGER, SERVED} for ratio in report.ratios)


@pytest.mark.parametrize("key", [SERVED, EAGER])
def test_without_what_others_are_compared_with_there_is_no_report(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    competitors = stand_ins(5)
    competitors[key].fails = 0
    assert bench(competitors) == 1
    assert f"error: {key}: expected to run" in capsys.readouterr().err
    assert not (tmp_path / "out" / "latency.json").exists()


def test_a_stopped_run_goes_on_where_it_was(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: Callable[..., object] = vars(run_module)["take_round"]

    def stopped(starters: object, number: int, tries: int) -> object:
        if number == 6:
            raise KeyboardInterrupt
        return rounds(starters, number, tries=tries)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "take_round", stopped)
        assert bench(stand_ins(6)) == latency.STOPPED
    state = tmp_path / "out" / STATE_FILE
    assert len(json.loads(state.read_text(encoding="utf-8"))["rounds"]) == 6
    again = stand_ins(7)
    assert bench(again, effort=replace(EFFORT, least=8, most=8)) == 0
    report = report_of(tmp_path / "out")
    assert report.protocol["rounds"] == "8"
    assert not state.exists()


def test_fresh_forgets_what_a_stopped_run_measured(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: Callable[..., object] = vars(run_module)["take_round"]

    def stopped(starters: object, number: int, tries: int) -> object:
        if number == 3:
            raise KeyboardInterrupt
        return rounds(starters, number, tries=tries)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "take_round", stopped)
        assert bench(stand_ins(8)) == latency.STOPPED
    competitors = stand_ins(9)
    assert bench(competitors, "--fresh", effort=replace(EFFORT, least=5, most=5)) == 0
    # One to warm up, then five rounds of one clip.
    assert competitors[EAGER].runs == 6


def test_rounds_are_added_until_intervals_are_narrow_or_time_is_up(tmp_path: Path) -> None:
    def rounds(effort: Effort, started: float) -> int:
        state = RaceState("key", "now")
        race(
            list(stand_ins(10).values()),
            state,
            effort=effort,
            started=started,
            path=tmp_path / "state.json",
            tell=lambda what: None,
            tick=lambda done, total: None,
        )
        return len(state.rounds)

    generous = Effort(seconds=1e12, least=4, most=200)
    assert 4 < rounds(generous, 0.0) < 200
    assert rounds(replace(generous, seconds=-1.0), 0.0) == 4


def test_many_run_heat_by_heat_beside_what_they_are_compared_with(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "TOGETHER", 2)
    competitors = stand_ins(13)
    assert bench(competitors) == 0
    # Three others are two heats; what they are compared with was opened for each.
    assert {key: item.closed for key, item in competitors.items()} == {
        SERVED: 2,
        EAGER: 2,
        NAIVE: 1,
        "without-clip": 1,
        "s3d": 1,
    }
    report = report_of(tmp_path / "out")
    entries = {key: report.entry(key) for key in competitors}
    rounds = {key: item.latency.rounds for key, item in entries.items() if item and item.latency}
    assert rounds[NAIVE] == rounds["without-clip"]
    assert rounds[SERVED] == rounds[EAGER] == rounds[NAIVE] + rounds["s3d"]
    assert min(rounds.values()) >= EFFORT.least
    for ratio in report.ratios:
        assert ratio.low < MILLISECONDS[ratio.longer] / MILLISECONDS[ratio.shorter] < ratio.high


def test_a_stopped_heat_goes_on_where_it_was(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "TOGETHER", 2)
    rounds: Callable[..., object] = vars(run_module)["take_round"]
    few = replace(EFFORT, least=4, most=4)

    def stopped(starters: dict[str, object], number: int, tries: int) -> object:
        if number == 2 and "s3d" in starters:
            raise KeyboardInterrupt
        return rounds(starters, number, tries=tries)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "take_round", stopped)
        assert bench(stand_ins(14), effort=few) == latency.STOPPED
    again = stand_ins(15)
    assert bench(again, effort=few) == 0
    # To warm up alone; and two rounds after that, each of two clips and one unseen.
    assert (again[NAIVE].runs, again["s3d"].runs) == (1, 7)
    assert report_of(tmp_path / "out").protocol["rounds"] == "8"


def test_why_ours_cannot_run_is_told(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    competitors = stand_ins(16)
    competitors[SERVED].entry = replace(competitors[SERVED].entry, why="no such operator")
    assert bench(competitors) == 1
    assert "no such operator" in " ".join(capsys.readouterr().err.split())


def test_unknown_keys_are_refused(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(stand_ins(11), "--only", "served,nonsense") == 2
    assert "nonsense" in capsys.readouterr().err


def test_json_is_the_report(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(stand_ins(12), "--json") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads(
        (tmp_path / "out" / "latency.json").read_text(encoding="utf-8")
    )


def test_of_five_runs_nine_ratios_of_ten_lie_in_the_others_intervals(
    bench: Bench, tmp_path: Path
) -> None:
    reports = []
    for seed in range(20, 25):
        out = tmp_path / str(seed)
        assert bench(stand_ins(seed), "--out", str(out)) == 0
        reports.append(report_of(out))
    inside = [
        ratio.low <= other.value <= ratio.high
        for one in reports
        for another in reports
        if one is not another
        for ratio, other in zip(one.ratios, another.ratios, strict=True)
    ]
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("seed", range(30, 35))
def test_a_planted_slowdown_is_caught_and_none_is_invented(
    bench: Bench, tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before"
    assert bench(stand_ins(seed), "--out", str(before)) == 0
    baseline = ("--baseline", str(before / "latency.json"))
    assert bench(stand_ins(seed + 100), *baseline) == 0
    for key in (SERVED, "s3d"):
        assert bench(stand_ins(seed + 200, {key: 1.3}), *baseline) == REGRESSION
        changes = compare(report_of(tmp_path / "out"), report_of(before))
        assert {change.key for change in changes if change.regression} == {key}
    assert "yes, by" in capsys.readouterr().out


def test_a_release_that_fell_back_is_slower_and_the_table_says_why(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tmp_path / "before"
    competitors = stand_ins(42)
    competitors[SERVED].entry = replace(competitors[SERVED].entry, precision="int8")
    assert bench(competitors, "--out", str(before)) == 0
    again = bench(stand_ins(43, {SERVED: 4.0}), "--baseline", str(before / "latency.json"))
    assert again == REGRESSION
    assert "int8 to fp32" in capsys.readouterr().out


def test_a_slower_machine_is_no_regression(bench: Bench, tmp_path: Path) -> None:
    before = tmp_path / "before"
    assert bench(stand_ins(40), "--out", str(before)) == 0
    slower = dict.fromkeys(MILLISECONDS, 1.5)
    assert bench(stand_ins(41, slower), "--baseline", str(before / "latency.json")) == 0


def test_runs_of_something_else_are_not_compared(bench: Bench, tmp_path: Path) -> None:
    assert bench(stand_ins(50)) == 0
    report = report_of(tmp_path / "out")
    with pytest.raises(ReportError, match="expected a run with T 10, got 8"):
        compare(report, replace(report, protocol=report.protocol | {"T": "8"}))
    with pytest.raises(ReportError, match="expected a quick run"):
        compare(report, replace(report, quick=False))
    with pytest.raises(ReportError, match="without --only"):
        compare(report, replace(report, entries=(), ratios=()))


def test_a_baseline_that_is_none_is_refused_before_anything_runs(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    competitors = stand_ins(51)
    assert bench(competitors, "--baseline", str(tmp_path / "none.json")) == 2
    assert "none.json" in capsys.readouterr().err
    assert competitors[SERVED].runs == 0
