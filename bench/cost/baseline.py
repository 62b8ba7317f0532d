"""Two reports compared: what takes longer than before by more than noise.

Ratios to eager PyTorch are compared on any machine, as its speed cancels. Times are compared where
the machine is the same, and then with what eager PyTorch's own time allows the machine to have
slowed down meanwhile. Noise is what the two intervals say: one figure is slower than the other if
its interval lies wholly beyond the other's. An entry whose precision has changed is compared as
well, and the table says so: what a user waits for is what counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from fgmclip.bench.cost.competitor import EAGER
from fgmclip.bench.cost.report import CostReport, Latency, Ratio, ReportError

SAME_MODEL = ("model", "device", "T", "resolution")
"""Facts of the protocol without which two runs did not measure the same thing."""

SAME_MACHINE = ("processor", "cores", "memory", "threads")
"""Facts of the protocol that make times comparable."""


@dataclass(frozen=True, slots=True)
class Change:
    """One figure in both reports.

    Attributes:
        key: Of the entry.
        precision: Arithmetic of the entry; with what it was before where that differs.
        measure: `times eager` for the ratio to eager PyTorch, `ms` for the time itself.
        before: The earlier figure: how many times longer than eager PyTorch, or milliseconds.
        now: The figure of this run.
        slower: How many times longer it takes now, as far as both intervals are sure of it; at most
            1 if they are not.
    """

    key: str
    precision: str
    measure: str
    before: float
    now: float
    slower: float

    @property
    def regression(self) -> bool:
        """Whether it takes longer by more than noise."""
        return self.slower > 1


def compare(report: CostReport, earlier: CostReport) -> list[Change]:
    """Compare everything that both reports have.

    Raises:
        ReportError: They measured different things, or share no figure.
    """
    for fact in SAME_MODEL:
        now, before = report.protocol.get(fact), earlier.protocol.get(fact)
        if now != before:
            raise ReportError(
                f"--baseline: expected a run with {fact} {now}, got {before}; compare runs of the "
                "same model and device"
            )
    if report.quick != earlier.quick:
        kind = "a quick run" if report.quick else "a full run"
        raise ReportError(f"--baseline: expected {kind} as this one is, got the other kind")
    changes = [*_ratios(report, earlier), *_times(report, earlier)]
    if not changes:
        raise ReportError(
            "--baseline: expected an entry that both runs timed, got none; run both without --only"
        )
    return changes


def changes_table(changes: Sequence[Change]) -> Table:
    """Return the comparison as a table."""
    table = Table(title="Against the baseline", title_justify="left")
    table.add_column("entry")
    table.add_column("precision")
    table.add_column("measure")
    for column in ("before", "now", "change"):
        table.add_column(column, justify="right")
    table.add_column("slower beyond noise")
    for change in changes:
        table.add_row(
            change.key,
            change.precision,
            change.measure,
            f"{change.before:.4g}",
            f"{change.now:.4g}",
            f"{change.now / change.before - 1:+.1%}",
            f"yes, by {change.slower - 1:.1%} at least" if change.regression else "no",
            style="red" if change.regression else None,
        )
    return table


def _ratios(report: CostReport, earlier: CostReport) -> list[Change]:
    before = _to_eager(earlier)
    return [
        Change(
            key,
            _precision(report, earlier, key),
            "times eager",
            1 / before[key].value,
            1 / now.value,
            before[key].low / now.high,
        )
        for key, now in _to_eager(report).items()
        if key in before
    ]


def _times(report: CostReport, earlier: CostReport) -> list[Change]:
    if any(report.protocol.get(fact) != earlier.protocol.get(fact) for fact in SAME_MACHINE):
        return []
    now, before = _latencies(report), _latencies(earlier)
    drift = 1.0
    if EAGER in now and EAGER in before:
        drift = max(1.0, now[EAGER].high / before[EAGER].low)
    return [
        Change(
            key,
            _precision(report, earlier, key),
            "ms",
            before[key].p50,
            latency.p50,
            latency.low / before[key].high / drift,
        )
        for key, latency in now.items()
        if key in before
    ]


def _precision(report: CostReport, earlier: CostReport, key: str) -> str:
    now, before = (one.entry(key) for one in (report, earlier))
    names = [entry.precision for entry in (before, now) if entry is not None]
    return " to ".join(dict.fromkeys(names))


def _to_eager(report: CostReport) -> dict[str, Ratio]:
    return {ratio.shorter: ratio for ratio in report.ratios if ratio.longer == EAGER}


def _latencies(report: CostReport) -> dict[str, Latency]:
    return {
        entry.key: entry.latency
        for entry in report.entries
        if entry.latency is not None and entry.dataset is None
    }
