"""Whether `python bench/latency.py` finds the same twice, and a slowdown when there is one.

Run as `python bench/repeatability.py`. Runs that bench once as a baseline and then five times as it
is and five times with our server slowed down by 30 % (each of its clips ends that much later, in
its time), all in the same processes that a user's run has, each against the baseline. Prints how
many ratios lie inside the intervals that another run printed, how wide those are, and what
`--baseline` reported. `--json FILE` writes the figures; exit code 3 when a bar is missed. Takes as
long as eleven quick runs; without a proven release in the cache, or `--repository`, ours is served
in fp32.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from fgmclip.bench import latency
from fgmclip.bench.bars import Bar, run_bench
from fgmclip.bench.cost.baseline import compare
from fgmclip.bench.cost.competitor import SERVED, Competitor
from fgmclip.bench.cost.lineup import lineup
from fgmclip.bench.cost.peers.graphs import Report
from fgmclip.bench.cost.plan import Plan
from fgmclip.bench.cost.report import CostReport, Entry, ReportError
from fgmclip.bench.cost.summary import HALF_WIDTH
from fgmclip.bench.machine import describe_machine
from fgmclip.command import run_command

SLOWER = 1.3
"""How many times longer a slowed competitor's clips take."""

INSIDE = 0.9
"""Share of the ratios that have to lie inside another run's interval."""


@dataclass(frozen=True, slots=True)
class Slowed:
    """A competitor whose clips take longer than they need."""

    competitor: Competitor

    @property
    def entry(self) -> Entry:
        """The entry; see `Competitor`."""
        return self.competitor.entry

    @contextmanager
    def open(self) -> Iterator[Callable[[], float]]:
        """Start it; see `Competitor`."""
        with self.competitor.open() as run:

            def slowed() -> float:
                took = run()
                time.sleep((SLOWER - 1) * took / 1e3)
                return SLOWER * took

            yield slowed


def with_slow_server(plan: Plan, report: Report) -> list[Competitor]:
    """Return the competitors of a plan, our server slowed down."""
    return [Slowed(item) if item.entry.key == SERVED else item for item in lineup(plan, report)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench and return the exit status."""
    return run_bench(_parse(argv), _measure, _tables)


def _measure(arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Any], list[Bar]]:
    words = ["--quick"]
    if arguments.repository:
        words += ["--repository", str(arguments.repository)]
    if arguments.only:
        words += ["--only", arguments.only]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        before = _report(words, root / "before")
        plain = [_report(words, root / f"plain-{run}") for run in range(arguments.runs)]
        slowed = [
            _report(words, root / f"slowed-{run}", slowed=True) for run in range(arguments.runs)
        ]
    return figures(before, plain, slowed), bars(before, plain, slowed)


def _report(words: Sequence[str], out: Path, *, slowed: bool = False) -> CostReport:
    # Eleven times the same tables would hide what they are compared for.
    with redirect_stdout(io.StringIO()):
        status = latency.main(
            [*words, "--out", str(out)], lineup=with_slow_server if slowed else lineup
        )
    if status:
        raise ReportError(f"expected a report, got exit status {status} of bench/latency.py")
    return CostReport.load(latency.written(out)[0])


def inside(reports: Sequence[CostReport]) -> list[bool]:
    """Return, of each ratio and every two runs, whether one's lies in the other's interval."""
    found = []
    for one in reports:
        intervals = {(ratio.longer, ratio.shorter): ratio for ratio in one.ratios}
        for another in reports:
            for ratio in another.ratios if another is not one else ():
                own = intervals.get((ratio.longer, ratio.shorter))
                if own is not None:
                    found.append(own.low <= ratio.value <= own.high)
    return found


def half_widths(reports: Sequence[CostReport]) -> list[float]:
    """Return half of each interval's width, relative to its ratio."""
    return [
        (ratio.high - ratio.low) / 2 / ratio.value for report in reports for ratio in report.ratios
    ]


def regressions(report: CostReport, before: CostReport) -> list[str]:
    """Return the keys of what `--baseline` reports."""
    changes = compare(report, before)
    return sorted({change.key for change in changes if change.regression})


def figures(
    before: CostReport, plain: Sequence[CostReport], slowed: Sequence[CostReport]
) -> dict[str, Any]:
    """Return what the runs found, as it is written."""
    served = [report.entry(SERVED) for report in (before, *plain, *slowed)]
    return {
        "machine": describe_machine(),
        "precision": sorted({entry.precision for entry in served if entry is not None}),
        "runs": [
            {
                "kind": kind,
                "rounds": report.protocol["rounds"],
                "disturbed": report.protocol["disturbed"],
                "ratios": [
                    {
                        "longer": ratio.longer,
                        "shorter": ratio.shorter,
                        "value": ratio.value,
                        "low": ratio.low,
                        "high": ratio.high,
                    }
                    for ratio in report.ratios
                ],
                "reported": regressions(report, before),
            }
            for kind, reports in (("before", [before]), ("plain", plain), ("slowed", slowed))
            for report in reports
        ],
    }


def bars(
    before: CostReport, plain: Sequence[CostReport], slowed: Sequence[CostReport]
) -> list[Bar]:
    """Return what must hold of them."""
    found, widths = inside(plain), half_widths(plain)
    quiet = sum(not regressions(report, before) for report in plain)
    caught = sum(SERVED in regressions(report, before) for report in slowed)
    return [
        Bar(
            "ratios inside another run's interval",
            100 * INSIDE,
            100 * sum(found) / max(1, len(found)),
            at_least=True,
            unit=" %",
            detail=f"{len(found)} comparisons of {len(plain)} runs",
        ),
        Bar(
            "half-width of the widest interval",
            100 * HALF_WIDTH,
            100 * max(widths, default=float("nan")),
            unit=" %",
            detail=f"median {100 * median(widths):.1f} %" if widths else "",
        ),
        Bar(
            "runs as they are, nothing reported",
            len(plain),
            quiet,
            at_least=True,
            detail=f"of {len(plain)}",
        ),
        Bar(
            f"runs with our server {SLOWER - 1:.0%} slower, reported",
            len(slowed),
            caught,
            at_least=True,
            detail=f"of {len(slowed)}",
        ),
    ]


def _tables(found: dict[str, Any]) -> list[Table]:
    table = Table(title="Runs of bench/latency.py --quick", title_justify="left")
    for column in ("run", "rounds", "disturbed", "reported against the baseline"):
        table.add_column(column)
    for run in found["runs"]:
        reported = ", ".join(run["reported"]) or "nothing"
        table.add_row(run["kind"], run["rounds"], run["disturbed"], reported)
    return [table]


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="runs of each kind; 5 if not said")
    parser.add_argument("--repository", type=Path, help="as bench/latency.py has it")
    parser.add_argument("--only", default="", help="as bench/latency.py has it")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(run_command(main))
