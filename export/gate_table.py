"""The gate's table: on a terminal, and in Markdown beside the release."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from fgmclip.export.gate import GateReport, Verdict

COLUMNS = (
    "submodule",
    "rung",
    "runtime",
    "ms",
    "ms, 1 row",
    "MB",
    "cosine",
    "identity",
    "agreement",
    "drift",
    "recall",
    "verdict",
)

TUNING = ("submodule", "options", "ms", "ms, 1 row", "times faster", "")


def verdict_rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return one row of text a verdict, by `COLUMNS`."""
    return [
        (
            item.part,
            item.rung,
            " ".join((item.runtime, *item.options.values())),
            _milliseconds(item.milliseconds),
            _milliseconds(item.single_milliseconds),
            f"{item.size / 1e6:.1f}",
            f"{item.cosine:.4f}",
            f"{item.identity:.1%}",
            "" if item.agreement is None else f"{item.agreement:.1%}",
            "" if item.drift is None else f"{item.drift:.3f}",
            "" if item.recall_change is None else f"{item.recall_change:.3f}",
            item.answer + _kept(item),
        )
        for item in verdicts
    ]


def gate_table(verdicts: Sequence[Verdict], title: str) -> Table:
    """Return the table for a terminal; `gate_notes` go below it."""
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        number = column not in ("submodule", "rung", "runtime", "verdict")
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for item, row in zip(verdicts, verdict_rows(verdicts), strict=True):
        short = "refused" if item.reason else item.answer
        style = "red" if item.reason else "bold" if item.taken else None
        table.add_row(*row[:-1], short, style=style)
    return table


def gate_notes(verdicts: Sequence[Verdict]) -> list[str]:
    """Return what does not fit into the table, a line each: refusals, and nodes kept higher."""
    notes = [f"{item.part}, {item.engine}: {item.answer}" for item in verdicts if item.reason]
    kept = {(item.part, item.rung): item.kept for item in verdicts if item.kept}
    return notes + [
        f"{part}, {rung}: {len(nodes)} nodes kept higher: {', '.join(nodes)}"
        for (part, rung), nodes in kept.items()
    ]


def gate_summary(report: GateReport) -> str:
    """Return how the figures came about, in one paragraph."""
    asked = report.thresholds
    text = (
        f"{report.clips} clips, {report.frames} frames ({report.calibration}), none of them "
        f"calibrated on. Cosine is mean-centred, its median at least {asked.cosine:g}; identity at "
        f"least {asked.identity:.0%}"
        + (f"; agreement at least {asked.agreement:.0%}. " if report.trained else ". ")
    )
    if report.emulated:
        return text + (
            "The engines run elsewhere: graphs that round as they will were judged on this CPU, "
            "and nothing was timed."
        )
    if report.eager is None:
        return text + "Nothing was compared with PyTorch's speed."
    return text + (
        f"A rung must be more than {asked.speedup:g} times as fast as those below it, over a "
        f"clip's rows and one row. Eager PyTorch fp32, in turn with the chain, needs "
        f"{report.eager.milliseconds:.1f} ms for a clip: the chain is {report.eager.speedup:.1f} "
        f"times faster (quartiles {report.eager.low:.1f} to {report.eager.high:.1f})."
    )


def tuning_rows(report: GateReport) -> list[tuple[str, ...]]:
    """Return one row of text for each way of using the cores, by `TUNING`."""
    return [
        (
            item.part,
            ", ".join(f"{name} {value}" for name, value in item.options.items()),
            f"{item.milliseconds:.2f}",
            f"{item.single_milliseconds:.2f}",
            f"{item.faster:.2f}",
            "taken" if item.taken else "",
        )
        for item in report.tuning
    ]


def gate_markdown(report: GateReport, title: str) -> str:
    """Return the report as a Markdown page."""
    lines = [
        f"# {title}",
        "",
        gate_summary(report),
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
        *("| " + " | ".join(row) + " |" for row in verdict_rows(report.verdicts)),
    ]
    if report.tuning:
        lines += [
            "",
            "How the chosen engines use the cores:",
            "",
            "| " + " | ".join(TUNING) + " |",
            "|" + "---|" * len(TUNING),
            *("| " + " | ".join(row) + " |" for row in tuning_rows(report)),
        ]
    return "\n".join(lines) + "\n"


def _kept(item: Verdict) -> str:
    return f"; kept higher: {', '.join(item.kept)}" if item.kept else ""


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
