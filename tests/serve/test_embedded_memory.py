"""The server keeps the memory of a request for the next one, unless the operator says otherwise."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from fgmclip.serve import embedded
from fgmclip.serve.binaries import Tritonserver
from fgmclip.serve.embedded import MEMORY, EmbeddedServer


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Start a server whose process is only looked at; return its environment."""
    seen: dict[str, str] = {}

    class SeenError(Exception):
        pass

    def look(command: list[str], *, env: dict[str, str], **rest: Any) -> None:
        seen.update(env)
        raise SeenError

    monkeypatch.setattr(subprocess, "Popen", look)
    monkeypatch.setattr(embedded, "find_tritonserver", lambda: Tritonserver(Path("/none"), None))
    monkeypatch.setattr(embedded, "Releases", NoReleases)

    def start() -> dict[str, str]:
        with pytest.raises(SeenError):
            EmbeddedServer(tmp_path).__enter__()
        return seen

    return start


class NoReleases:
    """Nothing to serve."""

    served: dict[str, Any] = {}  # noqa: RUF012
    models = ()

    def __init__(self, *arguments: Any) -> None:
        """Read nothing."""

    def close(self) -> None:
        """Close nothing."""


def test_memory_stays_with_the_server(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MEMORY:
        monkeypatch.delenv(name, raising=False)
    environment = started()
    assert {name: environment[name] for name in MEMORY} == MEMORY
    # glibc ignores a threshold above this one.
    assert int(MEMORY["MALLOC_MMAP_THRESHOLD_"]) <= 32 * 2**20


def test_the_operators_own_setting_counts(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000")
    assert started()["MALLOC_TRIM_THRESHOLD_"] == "1000"
