"""`fgmclip watch` as typer sees it; everything else is imported when it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Optional

import typer

from fgmclip.command import make_console

# typer reads these annotations at run time and Python 3.10 is supported: Optional, not `| None`.
# ruff: noqa: UP045


def watch_command(
    sources: Annotated[
        Optional[list[str]],
        typer.Argument(
            metavar="SOURCE...",
            help="Video files, folders of recordings, rtsp:// and http:// addresses, webcam:0.",
        ),
    ] = None,
    config: Annotated[
        Optional[Path], typer.Option(help="watch.yaml; read again at SIGHUP.")
    ] = None,
    url: Annotated[
        Optional[list[str]],
        typer.Option(
            metavar="HOST:PORT",
            help="Server, may be repeated; the demo is started here if there is none.",
        ),
    ] = None,
    web: Annotated[
        Optional[int], typer.Option(metavar="PORT", help="Live page and /metrics; 0 takes any.")
    ] = None,
    events: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="Append events to it as JSON lines.")
    ] = None,
    annotate: Annotated[
        Optional[Path],
        typer.Option(metavar="DIR", help="Write each SOURCE as a video with its actions there."),
    ] = None,
    start: Annotated[
        Optional[str],
        typer.Option(
            metavar="TIME", help="When the first recording began: 2026-11-24T10:00:00+01:00."
        ),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Play files in real time.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only say what would be watched, and what would go wrong."),
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Only print the JSON schema of watch.yaml.")
    ] = False,
    log_format: Annotated[
        str, typer.Option(help="Logs on stderr: text, or json for JSON lines.")
    ] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="Events as JSON lines.")] = False,
) -> None:
    """Watch cameras and recordings: actions become events.

    Ends when every source has, or at SIGINT and SIGTERM, when it first hands over what it has.
    Exit code 1 if any camera failed.
    """
    from fgmclip.client.gateway.commands import WatchArguments, run_watch, watch_settings
    from fgmclip.client.gateway.commands import schema as watch_schema

    if schema:
        print(watch_schema())
        raise typer.Exit
    if log_format not in ("text", "json"):
        raise typer.BadParameter(f"expected text or json, got {log_format!r}", param_hint="FORMAT")
    console = make_console()
    given = tuple(sources or ())
    arguments = WatchArguments(
        config=config,
        urls=tuple(url or ()),
        web=web,
        events=events,
        annotate=annotate,
        start=start,
        live=live,
    )
    demo = not url and config is None
    if check:
        from fgmclip.client.gateway.check import run_check

        if demo:
            # Where it will listen is not known yet; nobody asks there.
            arguments = replace(arguments, urls=("localhost:8001",))
        settings = watch_settings(given, arguments)
        code = run_check(
            settings, demo=demo, passing=arguments.passing, as_json=as_json, console=console
        )
        raise typer.Exit(code)
    with ExitStack() as stack:
        if demo:
            arguments = replace(arguments, urls=(stack.enter_context(_demo_server()),))
        code = run_watch(
            given,
            arguments,
            log_format="json" if log_format == "json" else "text",
            as_json=as_json,
            console=console,
        )
    raise typer.Exit(code)


@contextmanager
def _demo_server() -> Iterator[str]:
    """Serve the demo on this machine while the block runs; yields its address."""
    from fgmclip.export.demo import demo_repository
    from fgmclip.serve import EmbeddedServer

    with make_console(stderr=True).status("preparing the demo model"):
        repository = demo_repository()
    with EmbeddedServer(repository) as server:
        yield server.url
