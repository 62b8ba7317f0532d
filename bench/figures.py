"""The measured figures of README.md against the files that they come from.

Run as `python bench/figures.py`: exit code 1 and the lines that differ if the README's table is not
what `bench/results` has, or if a measured figure stands outside of it; `--write` renews the table.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from fgmclip.bench.cost.figures import strays, with_table
from fgmclip.command import run_command
from fgmclip.spec import FgmclipError

ROOT = Path(__file__).resolve().parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "bench" / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Check or renew, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the table in README.md")
    arguments = parser.parse_args(argv)
    console = Console(stderr=True, highlight=False, markup=False)
    try:
        readme = README.read_text(encoding="utf-8")
        renewed = with_table(readme, RESULTS)
        foreign = strays(readme)
    except FgmclipError as error:
        console.print(f"error: {error}", style="red")
        return error.exit_code
    if arguments.write:
        README.write_text(renewed, encoding="utf-8")
    else:
        lines = difflib.unified_diff(
            readme.splitlines(), renewed.splitlines(), "README.md", "bench/results", lineterm=""
        )
        for line in lines:
            console.print(line, soft_wrap=True)
    for figure in foreign:
        console.print(f"README.md: {figure!r} stands outside of the table of figures", style="red")
    return 1 if foreign or (not arguments.write and renewed != readme) else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
