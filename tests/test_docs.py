"""The documents: what they name exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fgmclip import __version__
from fgmclip.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAPER = (ROOT / "docs" / "PAPER.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAPER.splitlines()
    if line.startswith("| ") and not line.startswith(("| paper", "|---"))
]
SYMBOLS = sorted(set(re.findall(r"`(fgmclip(?:\.\w+)+)`", PAPER)))


def resolve(symbol: str) -> object:
    parts = symbol.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for name in parts[end:]:
            fields = getattr(found, "model_fields", {})
            found = fields[name] if name in fields else getattr(found, name)
        return found
    raise AssertionError(f"{symbol} does not exist")


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_a_symbol_that_the_paper_table_names_exists(symbol: str) -> None:
    assert resolve(symbol) is not None


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_says_where_or_why_not(row: list[str]) -> None:
    _, _, here = row
    assert re.search(r"`fgmclip\.|^planned: |^not built: ", here), here


@pytest.mark.parametrize(
    "command",
    re.findall(
        r"^    (fgmclip .+?)(?:  +#.*)?$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M
    ),
)
def test_a_command_of_the_readme_is_one_of_ours(command: str) -> None:
    words = shlex.split(command)[1:]
    options = [word for word in words if word.startswith("--")]
    subcommand = words[:2] if words[0] in ("engine", "kernels", "model", "repo") else words[:1]
    result = CliRunner().invoke(app, [*subcommand, "--help"], terminal_width=200)
    assert result.exit_code == 0, result.output
    for option in options:
        assert option in result.output


def test_the_changelog_knows_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in changelog or "## [Unreleased]" in changelog
