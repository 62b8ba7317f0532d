"""What the `fgmclip repo` commands do and print."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fgmclip.export.lint import findings_table, lint_repository
from fgmclip.export.repository import Repository


def run_list(path: Path, *, as_json: bool, console: Console) -> None:
    """Print the releases of a repository and which of them the ensembles serve.

    Raises:
        RepositoryError: The path is no repository, or something in it is unreadable.
    """
    target = Repository(path)
    active = target.active()
    manifests = [target.manifest(release) for release in target.releases()]
    if as_json:
        rows = [
            {
                "release": item.release,
                "model": item.public.spec.name,
                "precision": item.public.precision,
                "created": item.created,
                "model_tag": item.public.model_tag,
                "embedding_tag": item.public.embedding_tag,
                "active_in": [name for name, release in active.items() if release == item.release],
            }
            for item in manifests
        ]
        print(json.dumps(rows, indent=2))
        return
    table = Table()
    for column in ("release", "model", "precision", "created", "served by"):
        table.add_column(column, no_wrap=column != "served by")
    for item in manifests:
        served = ", ".join(name for name, release in active.items() if release == item.release)
        table.add_row(
            f"r{item.release}",
            item.public.spec.name,
            item.public.precision,
            item.created,
            served,
        )
    console.print(table)
    if len(set(active.values())) > 1:
        newest = max(active.values())
        console.print(
            "The ensembles serve different releases: a publication was interrupted. Finish it "
            f"with: fgmclip repo activate {path} {newest}",
            style="yellow",
        )


def run_activate(path: Path, release: int, *, as_json: bool, console: Console) -> None:
    """Let the ensembles serve a release that is already there.

    Raises:
        RepositoryError: There is no such directory or release.
        BusyError: Another process is publishing.
    """
    target = Repository(path)
    target.require()
    with target.lock():
        target.activate(release)
    if as_json:
        print(json.dumps({"active": release}))
    else:
        console.print(f"{path} serves r{release}")


def run_prune(path: Path, keep: int, *, as_json: bool, console: Console) -> None:
    """Remove all but the newest releases that nothing serves.

    Raises:
        RepositoryError: There is no such directory.
        BusyError: Another process is publishing.
    """
    target = Repository(path)
    target.require()
    with target.lock():
        removed = target.prune(keep)
    if as_json:
        print(json.dumps({"removed": removed}))
    else:
        names = ", ".join(f"r{number}" for number in removed)
        console.print(f"removed {names}" if removed else "nothing to remove")


def run_lint(
    path: Path, *, as_json: bool, console: Console, progress: Callable[[int, int], None]
) -> int:
    """Print what is wrong with a repository.

    Args:
        path: The repository's directory.
        as_json: Whether to print a list for machines.
        console: For people.
        progress: Called with the number of files hashed so far and of all that will be.

    Returns:
        The exit code: 0 if it is clean, else 1.
    """
    findings = lint_repository(path, progress)
    if as_json:
        print(json.dumps([finding.to_json() for finding in findings], indent=2))
    elif findings:
        console.print(findings_table(findings))
    else:
        console.print(f"{path}: nothing found")
    return 1 if findings else 0
