"""`fgmclip serve`: a server on this machine until a signal ends it."""

from __future__ import annotations

import signal
import threading
from datetime import datetime
from pathlib import Path
from types import FrameType

from rich.console import Console

from fgmclip.serve.embedded import EmbeddedServer

SAFE_VERSION = (2, 59)
"""Triton 25.07, the first release without CVE-2025-23310, -23311, -23319, -23320 and -23334."""

_LOOK_SECONDS = 0.5
# SIGINT too: a shell that starts a program in the background has it ignored.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve_forever(
    repository: Path,
    *,
    grpc_port: int | None = None,
    metrics_port: int | None = None,
    console: Console,
) -> None:
    """Serve a repository on loopback, follow its releases, and end on SIGINT, SIGTERM or SIGHUP.

    What was accepted before the signal is answered; that and the end take at most ten seconds.

    Args:
        repository: Directory of models, as `fgmclip export` publishes it.
        grpc_port: Port for clients; a free one if None.
        metrics_port: Port for Prometheus; a free one if None.
        console: Where to say what is served and what happens to the server.

    Raises:
        ServeError: The server cannot be started, or died and could not be started again.
    """
    ending = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ending.set()
        if not serving:
            raise KeyboardInterrupt

    def report(line: str) -> None:
        time = datetime.now().astimezone().isoformat(timespec="seconds")
        console.print(f"{time} {line}", highlight=False, markup=False, soft_wrap=True)

    serving = False
    before = {number: signal.signal(number, end) for number in _ENDING}
    try:
        with EmbeddedServer(
            repository,
            grpc_port=grpc_port,
            metrics_port=metrics_port,
            watch=True,
            report=report,
        ) as server:
            # From here on a signal lets the server finish; before, there is nothing to finish.
            serving = True
            _announce(server, repository, console)
            while not ending.is_set():
                server.wait(_LOOK_SECONDS)
            report("ending: what was accepted is answered first")
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    console.print("ended", highlight=False)


def _announce(server: EmbeddedServer, repository: Path, console: Console) -> None:
    version = server.version
    console.print(
        f"tritonserver {version} serves {repository} on this machine",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.print(f"  release  {server.releases}", highlight=False)
    console.print(f"  models   {', '.join(server.models)}", highlight=False)
    console.print(f"  gRPC     {server.url}", highlight=False)
    console.print(f"  metrics  {server.metrics_url}", highlight=False)
    console.print(f"  log      {server.log_path}", highlight=False)
    if is_affected(version):
        console.print(
            f"[yellow]warning:[/] Triton {version} has published vulnerabilities (fixed in 25.07): "
            "for development on this machine only; serve others from a current Triton container",
            highlight=False,
            soft_wrap=True,
        )


def is_affected(version: str) -> bool:
    """Return whether a Triton version is older than `SAFE_VERSION`, or is none we can read."""
    numbers = version.split(".")[:2]
    if not all(number.isdigit() for number in numbers):
        return True
    return tuple(map(int, numbers)) < SAFE_VERSION
