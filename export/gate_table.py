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
    "MB",
    "cosine",
    "identity",
    "agreement",
    "drift",
    "recall",
    "verdict",
)


def verdict_rows(verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return one row of text a verdict, by `COLUMNS`."""
    return [
        (
            item.part,
            item.rung,
            " ".join((item.runtime, *item.options.values())),
            f"{item.milliseconds:.2f}",
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
    """Return the table for a terminal; why an engine was refused does not fit into it."""
    table = Table(title=title, title_justify="left")
    for column in COLUMNS:
        number = column not in ("submodule", "rung", "runtime", "verdict")
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for item, row in zip(verdicts, verdict_rows(verdicts), strict=True):
        short = "refused" if item.reason else item.answer
        style = "red" if item.reason else "bold" if item.taken else None
        table.add_row(*row[:-1], short + _kept(item), style=style)
    return table


def gate_summary(report: GateReport) -> str:
    """Return how the figures came about, in one paragraph."""
    chain = report.verdicts[-1]
    return (
        f"{report.clips} clips, {report.frames} frames ({report.calibration}), none of them "
        f"calibrated on. Eager PyTorch fp32 needs {report.pytorch_milliseconds:.1f} ms for a clip, "
        f"these engines {chain.milliseconds:.1f} ms: "
        f"{report.pytorch_milliseconds / chain.milliseconds:.1f} times faster, PyTorch "
        f"timed before the engines were loaded, so only an idle machine compares them fairly. "
        f"Cosine is mean-centred, its median at least {report.thresholds.cosine:g}; identity at "
        f"least {report.thresholds.identity:.0%}"
        + (f"; agreement at least {report.thresholds.agreement:.0%}." if report.trained else ".")
    )


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
    return "\n".join(lines) + "\n"


def _kept(item: Verdict) -> str:
    return f"; kept higher: {', '.join(item.kept)}" if item.kept else ""
