"""What load is put on: the embedded server with a model that a user names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console

from fgmclip.bench.overhead import export_auto
from fgmclip.client import ActionClient
from fgmclip.client.manifest import CLIP_MODEL
from fgmclip.export.demo import demo_repository
from fgmclip.serve import EmbeddedServer
from fgmclip.spec import PublicManifest


@contextmanager
def served(
    model: str, repository: Path | None, console: Console
) -> Iterator[tuple[str, PublicManifest]]:
    """Serve a model; yields the gRPC address and what the server publishes.

    Args:
        model: A checkpoint or preset.
        repository: Where its release is kept, or stands already; None for the demo's own, or a
            temporary one.
        console: Says what takes time.
    """
    with ExitStack() as stack:
        if repository is None and model == "demo":
            with console.status("exporting demo"):
                repository = demo_repository()
        elif repository is None:
            repository = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (repository / CLIP_MODEL).is_dir():
            export_auto(model, repository, console)
        with console.status("starting Triton"):
            url = stack.enter_context(EmbeddedServer(repository)).url
        yield url, manifest_of(url)


def manifest_of(url: str) -> PublicManifest:
    """Return what a server publishes."""
    with ActionClient(url) as client:
        return client.manifest
