"""`Sheet`: a table before it is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fgmclip.bench.cost import formats


@dataclass(frozen=True, slots=True)
class Column:
    """A column of figures or of text.

    Attributes:
        name: What stands in it.
        unit: Unit of its figures.
        numeric: Whether it holds figures.
    """

    name: str
    unit: str = ""
    numeric: bool = True

    @property
    def title(self) -> str:
        """Name and unit."""
        return f"{self.name}, {self.unit}" if self.unit else self.name


@dataclass(frozen=True, slots=True)
class Row:
    """A row.

    Attributes:
        heads: What it is about; equal first heads of neighbours belong together.
        cells: One for each column; empty where there is no figure.
        kind: Where its figures come from: the paper, this run, or this run's own server.
    """

    heads: tuple[str, ...]
    cells: tuple[str, ...]
    kind: Literal["reported", "measured", "ours"] = "measured"


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table.

    Attributes:
        key: Names it in addresses.
        title: For people.
        heads: Titles of the rows' heads.
        columns: The columns behind them.
        rows: The rows.
        notes: What a reader must know of it.
    """

    key: str
    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    def aligned_columns(self, digit: str = " ", point: str = " ") -> list[list[str]]:
        """Return the cells by column, figures padded to stand below each other.

        Args:
            digit: As wide as a digit.
            point: As wide as a decimal point.
        """
        columns = []
        for index, column in enumerate(self.columns):
            cells = [row.cells[index] for row in self.rows]
            columns.append(formats.aligned(cells, digit, point) if column.numeric else cells)
        return columns
