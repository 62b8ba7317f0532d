"""Behind `fgmclip watch --check`: what a run would say, short of running."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fgmclip.client.action import ActionClient
from fgmclip.client.errors import ClientError
from fgmclip.client.gateway.board import Board
from fgmclip.client.gateway.config import ConfigError
from fgmclip.client.gateway.errors import SourceError
from fgmclip.client.gateway.parts import Parts, build_parts, unknown_classes
from fgmclip.client.gateway.settings import WatchSettings
from fgmclip.client.gateway.sources import Source, find_recordings
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.web.errors import PageTakenError
from fgmclip.command import make_console

ASK_SECONDS = 3.0
"""How long a server may take to tell its manifest."""


@dataclass(slots=True)
class Findings:
    """What is not as it should be, though every setting has a meaning.

    Attributes:
        errors: What would end a run, or a camera of it, with exit code 1 now.
        warnings: What a run would wait for, or go on without.
    """

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def run_check(
    settings: WatchSettings, *, demo: bool, passing: bool, as_json: bool, console: Console
) -> int:
    """Print what would be watched, and what would go wrong.

    Args:
        settings: Of the run.
        demo: Whether the run would serve the demo model itself.
        passing: Whether the run would keep no outbox; see `WatchArguments`.
        as_json: One JSON object: `cameras`, `servers`, `sinks`, `errors`, `warnings`.
        console: Where to print.

    Returns:
        The exit code: 0, or 1 if a run would end with 1 now.

    Raises:
        SettingsError: A setting has no meaning, or names a class that a server's model has not.
        PageError: The live page's address is none of this host.
    """
    parts = build_parts(settings, Board())
    try:
        findings = look(settings, parts, demo=demo, passing=passing)
    finally:
        parts.close()
    _print(settings, parts, findings, demo=demo, as_json=as_json, console=console)
    return 1 if findings.errors else 0


def look(settings: WatchSettings, parts: Parts, *, demo: bool, passing: bool) -> Findings:
    """Return what is not as it should be around the settings; nothing is written or sent.

    Raises:
        ConfigError: `events.classes` names a class that a server's model has not.
        PageError: The live page's address is none of this host.
    """
    findings = Findings()
    for camera in settings.cameras:
        _look_at_source(camera.name, parts.sources[camera.name], findings)
        if camera.boxes is not None and not os.access(camera.boxes, os.R_OK):
            findings.errors.append(f"camera {camera.name}: boxes: {camera.boxes} cannot be read")
        if camera.annotate is not None:
            _look_at_folder(f"camera {camera.name}: annotate", camera.annotate, findings.warnings)
    if not passing:
        _look_at_folder("outbox.path", settings.outbox.path, findings.errors)
    if settings.sinks.jsonl is not None:
        _look_at_folder("sinks.jsonl.path", settings.sinks.jsonl.path, findings.warnings)
    if parts.page is not None:
        try:
            parts.page.probe()
        except PageTakenError as error:
            # By the gateway that runs with this file, it may be.
            findings.warnings.append(str(error))
    if not demo:
        _ask_servers(settings, findings)
    return findings


def _look_at_source(name: str, source: Source, findings: Findings) -> None:
    path = Path(source.location)
    try:
        if source.kind == "folder":
            find_recordings(path)
        elif source.kind == "file":
            with path.open("rb"):
                pass
        elif source.kind == "webcam" and not path.exists():
            findings.warnings.append(f"camera {name}: {source.shown}: no such device now")
    except SourceError as error:
        findings.errors.append(f"camera {name}: {error}")
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        findings.errors.append(f"camera {name}: {source.shown}: {said}")


def _look_at_folder(what: str, path: Path, said: list[str]) -> None:
    """Say that a file cannot be written, as far as can be known without writing it."""
    there = path if path.exists() else path.parent
    if not there.exists():
        said.append(f"{what}: {path}: no such folder; make {path.parent}")
    elif path.is_dir():
        said.append(f"{what}: {path}: expected a file, got a folder")
    elif not os.access(there, os.W_OK):
        said.append(f"{what}: {path}: this user may not write it")


def _ask_servers(settings: WatchSettings, findings: Findings) -> None:
    timeouts = Timeouts(connect_seconds=ASK_SECONDS, request_seconds=ASK_SECONDS)
    for url in settings.servers.urls:
        with ActionClient(url, timeouts=timeouts) as client:
            try:
                labels = client.manifest.spec.labels
            except ClientError as error:
                findings.warnings.append(f"server {url}: {error}")
                continue
        if fault := unknown_classes(settings.events, labels):
            raise ConfigError(f"{fault} (asked {url})")


def _print(
    settings: WatchSettings,
    parts: Parts,
    findings: Findings,
    *,
    demo: bool,
    as_json: bool,
    console: Console,
) -> None:
    cameras = []
    for camera in settings.cameras:
        source = parts.sources[camera.name]
        cameras.append(
            {
                "camera": camera.name,
                "source": source.shown,
                "policy": camera.policy or source.default_policy,
                "gate": "off" if camera.gate is None else "on",
            }
        )
    servers = ["the demo model, served here meanwhile"] if demo else list(settings.servers.urls)
    if as_json:
        report = {"cameras": cameras, "servers": servers, "sinks": list(parts.sinks)}
        told = {"errors": findings.errors, "warnings": findings.warnings}
        print(json.dumps(report | told))
        return
    table = Table(title="Cameras", title_justify="left")
    for heading in cameras[0]:
        table.add_column(heading)
    for row in cameras:
        table.add_row(*row.values())
    console.print(table)
    console.print(f"servers: {', '.join(servers)}", highlight=False)
    console.print(f"sinks: {', '.join(parts.sinks) or 'none'}", highlight=False)
    _tell("error", "red", findings.errors)
    _tell("warning", "yellow", findings.warnings)


def _tell(kind: str, style: str, texts: Iterable[str]) -> None:
    stderr = make_console(stderr=True)
    for text in texts:
        line = f"{kind}: {text}"
        stderr.print(line, style=style, highlight=False, markup=False, soft_wrap=True)
