"""Bars: what must be reached, what was measured, and whether that is enough."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from fgmclip.spec import FgmclipError

REGRESSION = 3
"""Exit code when a bar is missed."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure that must not be missed.

    Attributes:
        name: What is measured.
        bar: Least or largest figure that reaches it.
        measured: The figure.
        at_least: Whether more is better.
        unit: What stands behind both figures, for example `x`.
        detail: More about the measurement, for example its spread.
    """

    name: str
    bar: float
    measured: float
    at_least: bool = False
    unit: str = ""
    detail: str = ""

    @property
    def reached(self) -> bool:
        """Whether the figure is good enough; one that is no number is not."""
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    def to_json(self) -> dict[str, float | str | bool]:
        """Return all fields and whether it is reached."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return fields | {"reached": self.reached}


def bars_table(bars: Sequence[Bar]) -> Table:
    """Return the bars as a table."""
    table = Table(title="Bars", title_justify="left")
    table.add_column("what")
    table.add_column("bar", justify="right", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("reached")
    table.add_column("detail", style="dim")
    for bar in bars:
        table.add_row(
            bar.name,
            f"{'>=' if bar.at_least else '<='} {bar.bar:g}{bar.unit}",
            f"{bar.measured:.4g}{bar.unit}",
            "yes" if bar.reached else "NO",
            bar.detail,
            style="green" if bar.reached else "red",
        )
    return table


def run_bench(
    arguments: argparse.Namespace,
    measure: Callable[[argparse.Namespace, Console], tuple[dict[str, Any], list[Bar]]],
    tables: Callable[[dict[str, Any]], Sequence[Table]],
) -> int:
    """Measure, print tables and bars, write the figures to `--json`, and return the exit status.

    Args:
        arguments: Of the command line; `json` is a file or None.
        measure: Returns the figures, as they are written, and the bars.
        tables: Shows the figures.
    """
    console = Console()
    try:
        figures, bars = measure(arguments, console)
    except FgmclipError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False)
        return error.exit_code
    for table in tables(figures):
        console.print(table)
    if bars:
        console.print(bars_table(bars))
    if arguments.json:
        written = figures | {"bars": [bar.to_json() for bar in bars]}
        arguments.json.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return 0 if all(bar.reached for bar in bars) else REGRESSION
