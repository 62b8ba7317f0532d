"""What the linter has to say, one finding a fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from rich.table import Table
from rich.text import Text

Severity = Literal["error", "warning"]

EXPORT_AGAIN = "export the checkpoint again with 'fgmclip export'"
ACTIVATE_AGAIN = "activate a release again with 'fgmclip repo activate'"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault.

    Attributes:
        check: Name of what was checked, for example `wire-type`.
        path: Where, below the repository.
        expected: What should be there.
        got: What is there.
        remedy: What to do about it.
        severity: `error`: a server would refuse it or answer wrongly; `warning`: it is untidy, or
            breaks only elsewhere.
    """

    check: str
    path: str
    expected: str
    got: str
    remedy: str
    severity: Severity = "error"

    def to_json(self) -> dict[str, str]:
        """Return all fields by name."""
        return asdict(self)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings as a table, errors first."""
    table = Table(title=f"{len(findings)} findings", title_justify="left", show_lines=True)
    table.add_column("check", no_wrap=True)
    for column in ("where", "expected", "got", "remedy"):
        table.add_column(column, overflow="fold")
    for item in sorted(findings, key=lambda item: item.severity):
        style = "red" if item.severity == "error" else "yellow"
        # Not markup: `[` stands in shapes.
        cells = (item.path, item.expected, item.got, item.remedy)
        table.add_row(Text(item.check, style=style), *(Text(cell) for cell in cells))
    return table
