"""`bench/repeatability.py`: what it makes of runs, and how it slows one down."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fgmclip.bench import latency, repeatability
from fgmclip.bench.bars import REGRESSION
from fgmclip.bench.cost.competitor import EAGER, SERVED
from fgmclip.bench.cost.lineup import lineup
from fgmclip.bench.cost.report import CostReport, Entry, Latency, Ratio


def entry(key: str) -> Entry:
    times = Latency(100.0, 101.0, 102.0, 98.0, 102.0, 20, 10, 0.0)
    return Entry(key, key, "served", None, (8, 64, 64), 1, 1, 1, "fp32", "", "network", times)


def report(value: float, spread: float = 0.05) -> CostReport:
    """Return a report in which eager PyTorch takes so many times longer than ours."""
    facts = ("model", "device", "T", "resolution", "rounds", "disturbed")
    return CostReport(
        started="2026-11-26T00:00:00+00:00",
        quick=True,
        protocol=dict.fromkeys(facts, "10"),
        entries=(entry(SERVED), entry(EAGER)),
        ratios=(Ratio(EAGER, SERVED, value, value * (1 - spread), value * (1 + spread), 10),),
    )


def test_each_ratio_is_looked_for_in_the_intervals_of_the_other_runs() -> None:
    alike = [report(5.0), report(5.1), report(4.9)]
    assert repeatability.inside(alike) == [True] * 6
    # The third lies outside the first two's intervals, and they outside its own.
    assert repeatability.inside([report(5.0), report(5.1), report(6.0)]).count(True) == 2
    assert repeatability.half_widths([report(5.0, 0.08)]) == [pytest.approx(0.08)]


def test_bars_tell_invented_missed_and_caught_slowdowns() -> None:
    before = report(5.0)
    plain, slowed = [report(5.0), report(5.1)], [report(5.0 / 1.3), report(5.0)]
    found = repeatability.bars(before, plain, slowed)
    assert [bar.measured for bar in found] == [100.0, pytest.approx(5.0), 2.0, 1.0]
    assert [bar.reached for bar in found] == [True, True, True, False]
    invented = repeatability.bars(before, [report(5.0), report(3.0)], [report(3.0)])
    assert [bar.reached for bar in invented] == [False, True, False, True]
    wide = repeatability.bars(
        before, [replace(item, ratios=report(5, 0.12).ratios) for item in plain], []
    )
    assert not wide[1].reached


@dataclass
class StandIn:
    entry: Entry

    @contextmanager
    def open(self) -> Iterator[Callable[[], float]]:
        yield lambda: 100.0


def test_a_slowed_competitor_really_takes_longer() -> None:
    with repeatability.Slowed(StandIn(entry(SERVED))).open() as run:
        begun = time.perf_counter()
        assert run() == pytest.approx(130.0)
        assert time.perf_counter() - begun >= 0.03


def test_it_runs_the_bench_as_often_as_it_is_told_and_writes_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words: list[tuple[str, ...]] = []

    def main(argv: list[str], *, lineup: object) -> int:
        out = Path(argv[-1])
        words.append(tuple(argv[:-1]))
        slow = lineup is repeatability.with_slow_server
        report(5.0 / 1.3 if slow else 5.0).save(latency.written(out)[0])
        return 0

    monkeypatch.setattr(latency, "main", main)
    path = tmp_path / "figures.json"
    argv = ["--runs", "2", "--json", str(path), "--repository", "models", "--only", EAGER]
    assert repeatability.main(argv) == 0
    assert words == [("--quick", "--repository", "models", "--only", EAGER, "--out")] * 5
    written = json.loads(path.read_text(encoding="utf-8"))
    assert [run["reported"] for run in written["runs"]] == [[], [], [], [SERVED], [SERVED]]
    assert "reported against the baseline" in capsys.readouterr().out
    monkeypatch.setattr(repeatability, "SLOWER", 1.0)
    monkeypatch.setattr(repeatability, "with_slow_server", lineup)
    assert repeatability.main(["--runs", "1"]) == REGRESSION
