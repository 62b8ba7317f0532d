"""Flow methods over pairs with known flow: error and time of each, and the ratios that count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from rich.table import Table

from fgmclip.bench.bars import Bar
from fgmclip.bench.flow_methods import DIS_FAST, DIS_MEDIUM, OURS, FlowMethod, flow_methods
from fgmclip.bench.flow_truth import FlowPair
from fgmclip.bench.opencv_peer import opencv_threads
from fgmclip.bench.racing import Ratio, Timing, geometric_mean, race
from fgmclip.kernels.parameters import FlowParameters

SIDES = (112, 224)
ZERO = "zero flow"
BAR = 1.0


@dataclass(frozen=True, slots=True)
class FlowRow:
    """One pair at one size.

    Attributes:
        pair: Name.
        side: M, pixels.
        errors: Mean end-point error by method, pixels; zero flow's too.
        times: By method.
    """

    pair: str
    side: int
    errors: dict[str, float]
    times: dict[str, Timing]

    @property
    def error_ratio(self) -> float:
        """Our error over that of DIS medium."""
        return self.errors[OURS] / self.errors[DIS_MEDIUM]

    @property
    def time_ratio(self) -> Ratio:
        """Our time over that of DIS fast."""
        return Ratio.of(self.times[OURS], self.times[DIS_FAST])

    def to_json(self) -> dict[str, object]:
        """Return errors, times and both ratios."""
        return {
            "pair": self.pair,
            "side": self.side,
            "error_px": self.errors,
            "times": {name: timing.to_json() for name, timing in self.times.items()},
            "error_over_dis_medium": self.error_ratio,
            "time_over_dis_fast": self.time_ratio.to_json(),
        }


def measure_flow(
    pairs: Sequence[FlowPair],
    parameters: FlowParameters,
    *,
    threads: int,
    rounds: int,
    tick: Callable[[], None],
    sides: Sequence[int] = SIDES,
) -> list[FlowRow]:
    """Return a row for each pair and size; `tick` is called after each."""
    rows = []
    for side in sides:
        methods = flow_methods(parameters, side, threads)
        for pair in pairs:
            scaled = pair.scaled(side)
            with opencv_threads(threads):
                errors = {
                    name: scaled.error(method(scaled.luma)) for name, method in methods.items()
                }
                competitors = {
                    name: partial(_call, method, scaled) for name, method in methods.items()
                }
                times = race(competitors, rounds=rounds)
            errors[ZERO] = scaled.error(np.zeros_like(scaled.flow))
            rows.append(FlowRow(pair.name, side, errors, times))
            tick()
    return rows


def flow_bars(rows: Sequence[FlowRow]) -> list[Bar]:
    """Return the two bars over all rows."""
    errors = [row.error_ratio for row in rows]
    times = [row.time_ratio for row in rows]
    fastest = geometric_mean([ratio.fastest for ratio in times])
    errors_by_side = _by_side(rows, lambda row: row.error_ratio)
    times_by_side = _by_side(rows, lambda row: row.time_ratio.median)
    return [
        Bar(
            "flow: error over DIS medium's, geometric mean",
            BAR,
            geometric_mean(errors),
            detail=f"{len(rows)} rows, {min(errors):.2f}-{max(errors):.2f}; {errors_by_side}",
        ),
        Bar(
            "flow: time over DIS fast's, geometric mean",
            BAR,
            geometric_mean([ratio.median for ratio in times]),
            detail=f"fastest calls {fastest:.2f}; {times_by_side}",
        ),
    ]


def error_table(rows: Sequence[FlowRow]) -> Table:
    """Return the end-point errors, zero flow's first."""
    return _table(
        rows,
        "Mean end-point error, pixels",
        lambda row: {ZERO: (row.errors[ZERO],)} | {name: (row.errors[name],) for name in row.times},
        "over DIS medium",
        lambda row: row.error_ratio,
    )


def time_table(rows: Sequence[FlowRow]) -> Table:
    """Return the times."""
    return _table(
        rows,
        "Time of one pair, milliseconds, median (fastest call)",
        lambda row: {name: (item.median, item.fastest) for name, item in row.times.items()},
        "over DIS fast",
        lambda row: row.time_ratio.median,
    )


def _table(
    rows: Sequence[FlowRow],
    title: str,
    figures: Callable[[FlowRow], Mapping[str, Sequence[float]]],
    ratio_name: str,
    ratio: Callable[[FlowRow], float],
) -> Table:
    """Return a table of a row's figures and ratio, with geometric means below each size."""
    table = Table(title=title, title_justify="left")
    table.add_column("pair", no_wrap=True)
    for column in ("size", *figures(rows[0]), ratio_name):
        table.add_column(column, justify="right")
    for side in dict.fromkeys(row.side for row in rows):
        chosen = [row for row in rows if row.side == side]
        for row in chosen:
            cells = [_cell(values) for values in figures(row).values()]
            table.add_row(row.pair, str(side), *cells, f"{ratio(row):.3f}")
        columns = [[figures(row)[name] for row in chosen] for name in figures(chosen[0])]
        means = [
            _cell([geometric_mean(values) for values in zip(*column, strict=True)])
            for column in columns
        ]
        mean = f"{geometric_mean([ratio(row) for row in chosen]):.3f}"
        table.add_row("geometric mean", str(side), *means, mean, style="bold", end_section=True)
    return table


def _cell(values: Sequence[float]) -> str:
    first, *others = (f"{value:.3f}" for value in values)
    return " ".join([first, *(f"({other})" for other in others)])


def _by_side(rows: Sequence[FlowRow], ratio: Callable[[FlowRow], float]) -> str:
    """Return the geometric mean of a ratio at each size."""
    sides = dict.fromkeys(row.side for row in rows)
    return ", ".join(
        f"{geometric_mean([ratio(row) for row in rows if row.side == side]):.3f} at {side}"
        for side in sides
    )


def _call(method: FlowMethod, pair: FlowPair, _number: int) -> object:
    return method(pair.luma)
