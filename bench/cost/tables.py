"""A report's tables for a terminal and as Markdown."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from fgmclip.bench.cost.report import CostReport
from fgmclip.bench.cost.sheet import Sheet
from fgmclip.bench.cost.sheets import headlines, sheets, title

_STYLES = {"reported": "yellow", "ours": "bold", "measured": None}


def tables(report: CostReport) -> list[Table]:
    """Return the tables for a terminal."""
    return [_table(sheet) for sheet in sheets(report)]


def markdown(report: CostReport) -> str:
    """Return the report as one Markdown document."""
    lines = (f"- **{item.figure}**: {item.text}" for item in headlines(report))
    parts = [f"# {title(report)}", "\n".join(lines)]
    for sheet in sheets(report):
        parts += [f"## {sheet.title}", _markdown_table(sheet), *sheet.notes]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(sheet: Sheet) -> Table:
    grouped = len(sheet.heads) > 1
    table = Table(
        title=sheet.title,
        title_style="bold",
        title_justify="left",
        caption="\n".join(escape(note) for note in sheet.notes),
        caption_justify="left",
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 0, 0, 1),
    )
    numeric = [column.numeric for column in sheet.columns]
    # Beside figures there is no room for text: it stands below the row's name.
    below = any(numeric)
    table.add_column(sheet.heads[-1], overflow="fold")
    for column in sheet.columns:
        if column.numeric or not below:
            # A narrow terminal breaks a figure into two lines; it never cuts one off.
            justify: JustifyMethod = "right" if column.numeric else "left"
            table.add_column(column.title.replace(", ", "\n"), justify=justify, overflow="fold")
    before = ""
    for row, texts in zip(sheet.rows, zip(*sheet.aligned_columns(), strict=True), strict=True):
        if grouped and row.heads[0] != before:
            before = row.heads[0]
            table.add_row(escape(before), style="dim")
        beside = [text for text, figure in zip(texts, numeric, strict=True) if figure or not below]
        lines = [text for text, figure in zip(texts, numeric, strict=True) if text and not figure]
        name = "\n".join([row.heads[-1], *lines] if below else [row.heads[-1]])
        table.add_row(
            Padding(escape(name), (0, 0, 0, 2 if grouped else 0)),
            *(escape(text) for text in beside),
            style=_STYLES[row.kind],
        )
    return table


def _markdown_table(sheet: Sheet) -> str:
    names = [*sheet.heads, *(column.title for column in sheet.columns)]
    rule = [
        *("---" for _ in sheet.heads),
        *("---:" if column.numeric else "---" for column in sheet.columns),
    ]
    rows = [[*row.heads, *row.cells] for row in sheet.rows]
    return "\n".join(_line(cells) for cells in (names, rule, *rows))


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
