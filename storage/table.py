"""Read tables of text as spreadsheets write them: CSV by any separator, with the lines' numbers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fgmclip.storage.errors import TableError
from fgmclip.storage.text import read_text

SEPARATORS = (",", ";", "\t", "|")
"""Excel takes the separator from the country's settings: `;` wherever the comma is decimal."""

_STATED = re.compile(r"\"?sep=(?P<separator>.)\"?\n")
"""Excel's own first line, which says the separator and is no row."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Attributes:
        line: Number of the line that it begins in; the file's first is 1.
        cells: Texts by column, without blanks around them; columns have lower-case names. A
            column that the row ends before is empty.
    """

    line: int
    cells: Mapping[str, str]


def read_table(path: Path, columns: Collection[str]) -> list[Row]:
    r"""Return the rows of a CSV file with a header.

    Comma, semicolon, tab and bar separate, whichever the header is written with; quotes hold
    separators and line ends. Byte order mark, line ends, case and blanks of the header, empty
    columns without a name and empty lines do not matter.

    Args:
        path: The file.
        columns: Lower-case names that the header must have; it may have others.

    Raises:
        TextError: It is not UTF-8.
        TableError: It is not a table with these columns; the message names the line.
        OSError: It cannot be read.
    """
    text, skipped, stated = read_text(path), 0, None
    if match := _STATED.match(text):
        text, skipped, stated = text[match.end() :], 1, match["separator"]
    # The line that begins the table tells the separator; quoted text may hold others.
    first = next((line for line in text.split("\n") if line.strip()), "")
    tried = [stated] if stated else list(SEPARATORS)
    separator = max(tried, key=lambda each: _score(first, each, columns))
    rows = _records(path, text, separator, skipped)
    if not rows:
        raise TableError(f"{path}: expected a header with {_listed(columns)}, got an empty file")
    header, *rest = rows
    names = [cell.casefold() for cell in header[1]]
    _check_header(path, names, columns, separator)
    return [Row(line, _cells(path, line, names, cells, separator)) for line, cells in rest]


def _score(header: str, separator: str, columns: Collection[str]) -> int:
    try:
        cells = next(csv.reader([header], delimiter=separator), [])
    except csv.Error:
        return 0
    found = {cell.strip().casefold() for cell in cells}
    # Wanted columns first; without any, whatever parts the line most.
    return 1000 * len(found & set(columns)) + len(cells)


def _records(
    path: Path, text: str, separator: str, skipped: int
) -> list[tuple[int, Sequence[str]]]:
    """Return number and cells of each row that has any text."""
    # StringIO keeps U+2028 and its like inside a cell, where `splitlines` would cut.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records: list[tuple[int, Sequence[str]]] = []
    line = skipped + 1
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                records.append((line, stripped))
            line = skipped + reader.line_num + 1
    except csv.Error as error:
        raise TableError(
            f"{path}: line {line} is not CSV ({error}); close its quotes, and double those inside"
        ) from error
    return records


def _check_header(
    path: Path, names: Sequence[str], columns: Collection[str], separator: str
) -> None:
    missing = sorted(set(columns) - set(names))
    if missing:
        found = ", ".join(name for name in names if name)
        raise TableError(
            f"{path}: column {' and '.join(missing)} missing among {found} (separated by "
            f"{_shown(separator)}); expected a header with {_listed(columns)}"
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise TableError(f"{path}: column {' and '.join(twice)} stands twice; leave one of them")


def _cells(
    path: Path, line: int, names: Sequence[str], cells: Sequence[str], separator: str
) -> dict[str, str]:
    beyond = [cell for cell in cells[len(names) :] if cell]
    nameless = [cell for name, cell in zip(names, cells, strict=False) if cell and not name]
    if beyond or nameless:
        raise TableError(
            f"{path}: line {line} has {(beyond + nameless)[0][:40]!r} in a column without a name; "
            f"put text that holds {_shown(separator)} into double quotes"
        )
    padded = [*cells, *[""] * (len(names) - len(cells))]
    return {name: cell for name, cell in zip(names, padded, strict=False) if name}


def _listed(columns: Collection[str]) -> str:
    return ",".join(columns)


def _shown(separator: str) -> str:
    return {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}.get(
        separator, repr(separator)
    )
