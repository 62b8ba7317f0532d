"""What serving costs as tables: by kind of request, and by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from fgmclip.bench.overhead_bare import PREPROCESS
from fgmclip.bench.overhead_race import Comparison, percent
from fgmclip.bench.racing import Ratio
from fgmclip.bench.stages import END_TO_END, ENSEMBLE, PHASES, StageTimes

BESIDE = ("clip_image_encoder", "motion_encoder")
"""Steps that may run at the same time."""


def overhead_table(comparisons: Sequence[Comparison], model: str) -> Table:
    """Return served and bare times of every kind of request."""
    table = Table(
        title=f"{model}: served and bare, milliseconds",
        title_justify="left",
        caption="Bare: the preprocessing kernel and the engines, one after the other.",
        caption_justify="left",
    )
    table.add_column("request", no_wrap=True)
    columns = ("served", "bare", "engines", "overhead (quartiles)", "fastest", "over engines")
    for column in columns:
        table.add_column(column, justify="right")
    for item in comparisons:
        table.add_row(
            item.case.name,
            *(f"{timing.median:.2f}" for timing in (item.served, item.bare, item.engines)),
            _overhead(item.overhead),
            f"{percent(item.overhead.fastest):+.1f} %",
            _overhead(item.over_engines),
        )
    return table


def stage_table(comparison: Comparison, stages: Sequence[StageTimes]) -> Table:
    """Return where the time of one kind of request goes.

    Args:
        comparison: Tells the bare times.
        stages: The served times, in the order of the pipeline.
    """
    times = {item.stage: item for item in stages}
    table = Table(
        title=f"{comparison.case.name}: medians by stage, milliseconds", title_justify="left"
    )
    table.add_column("stage", no_wrap=True)
    for column in ("bare", "served", "queue", "copies in", "compute", "copies out"):
        table.add_column(column, justify="right")
    for name, item in times.items():
        if name not in (ENSEMBLE, END_TO_END):
            bare = comparison.stages.get(PREPROCESS if PREPROCESS in name else name)
            table.add_row(
                name,
                "" if bare is None else f"{bare:.2f}",
                f"{item.percentile(50):.2f}",
                *(f"{item.phase(phase):.2f}" for phase in PHASES),
            )
    between, outside = rest(times)
    table.add_row("between steps", "", f"{between:.2f}")
    table.add_row("gRPC and client", "", f"{outside:.2f}", end_section=True)
    end = times[END_TO_END].percentile(50)
    table.add_row(END_TO_END, f"{comparison.bare.median:.2f}", f"{end:.2f}", style="bold")
    return table


def rest(times: Mapping[str, StageTimes]) -> tuple[float, float]:
    """Return what no step accounts for: between steps in Triton, and outside of it.

    The encoders run side by side, so the slower of them counts.

    Args:
        times: By stage.
    """
    chain = times[ENSEMBLE].percentile(50)
    steps = {
        name: item.percentile(50)
        for name, item in times.items()
        if name not in (ENSEMBLE, END_TO_END)
    }
    together = max(steps.pop(name, 0.0) for name in BESIDE)
    return chain - together - sum(steps.values()), times[END_TO_END].percentile(50) - chain


def _overhead(ratio: Ratio) -> str:
    low, median, high = (percent(value) for value in (ratio.low, ratio.median, ratio.high))
    return f"{median:+.1f} % ({low:+.1f} to {high:+.1f})"
