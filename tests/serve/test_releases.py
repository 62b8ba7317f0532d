"""A change of releases against a server that is played: what is loaded, in which order."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest

from fgmclip.serve.errors import ReloadError
from fgmclip.serve.releases import Releases
from fgmclip.serve.watch import Watch

ENSEMBLES = ("first", "second")


def activate(repository: Path, release: int) -> None:
    """Let both ensembles name the step of a release."""
    (repository / f"step__r{release}" / "1").mkdir(parents=True, exist_ok=True)
    for name in ENSEMBLES:
        (repository / name).mkdir(exist_ok=True)
        (repository / name / "config.pbtxt").write_text(
            f'name: "{name}" platform: "ensemble" ensemble_scheduling '
            f'{{ step [ {{ model_name: "step__r{release}" model_version: -1 }} ] }}',
            encoding="utf-8",
        )


class Refused(grpc.RpcError):  # type: ignore[misc]
    """What a server answers to a model that it cannot load."""


class PlayedServer:
    """Keeps what it was told to load, as `Control` would tell a real one."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.calls: list[str] = []
        self.serves: dict[str, str] = {}
        self.after_proof: Callable[[], None] = lambda: None
        self.refuses: set[str] = set()

    def load(self, model: str, timeout_seconds: float, *, config: str = "") -> None:
        self.calls.append(f"load {model}")
        if model in self.refuses:
            raise Refused("out of memory")
        if model in ENSEMBLES:
            text = config or (self.repository / model / "config.pbtxt").read_text(encoding="utf-8")
            self.serves[model] = next(word for word in _words(text) if "step__r" in word)

    def prove(
        self, name: str, config: str, files: Mapping[str, bytes], timeout_seconds: float
    ) -> None:
        self.calls.append(f"prove {name}")
        if name in self.refuses:
            raise Refused("does not fit")
        self.after_proof()

    def unload(self, model: str) -> None:
        self.calls.append(f"unload {model}")


def _words(text: str) -> list[str]:
    return text.replace('"', " ").split()


@pytest.fixture
def server(tmp_path: Path) -> PlayedServer:
    activate(tmp_path, 1)
    return PlayedServer(tmp_path)


@pytest.fixture
def releases(server: PlayedServer) -> Any:
    return Releases(server.repository, server, 1.0)  # type: ignore[arg-type]


def test_steps_then_proofs_then_ensembles(server: PlayedServer, releases: Releases) -> None:
    activate(server.repository, 2)
    releases.reload()
    releases.close()
    assert server.calls == [
        "load step__r2",
        *("prove first__proof", "prove second__proof"),
        *("load first", "load second"),
    ]


def test_what_was_proven_is_served_though_the_files_changed_since(
    server: PlayedServer, releases: Releases
) -> None:
    activate(server.repository, 2)
    server.after_proof = lambda: activate(server.repository, 3)
    releases.reload()
    # Release 3's step was never loaded.
    assert set(server.serves.values()) == {"step__r2"}
    server.after_proof = lambda: None
    releases.reload()
    releases.close()
    assert set(server.serves.values()) == {"step__r3"}


def test_an_unchanged_repository_asks_nothing_of_the_server(
    server: PlayedServer, releases: Releases
) -> None:
    releases.reload()
    releases.close()
    assert server.calls == []


def test_a_change_that_broke_off_half_way_is_taken_back_by_the_next(
    server: PlayedServer, releases: Releases
) -> None:
    activate(server.repository, 2)
    server.refuses = {"second"}
    with pytest.raises(ReloadError, match="second"):
        releases.reload()
    assert server.serves == {"first": "step__r2"}
    server.refuses = set()
    activate(server.repository, 1)
    releases.reload()
    releases.close()
    assert server.serves["first"] == "step__r1"


def test_a_repository_that_changes_and_changes_back_ends_up_served(
    server: PlayedServer, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fgmclip.serve.watch.POLL_SECONDS", 0.01)
    reloads: list[int] = []
    done = threading.Event()

    def reload() -> None:
        # Release 3 for a moment, between the comparison of the files and the reload.
        if not reloads:
            activate(server.repository, 3)
        releases.reload()
        reloads.append(len(server.calls))
        activate(server.repository, 2)
        if len(reloads) == 2:
            watch.stop()
            done.set()

    watch = Watch(server.repository, releases, reload, print)
    activate(server.repository, 2)
    watch.start()
    assert done.wait(10), reloads
    watch.join()
    releases.close()
    assert set(server.serves.values()) == {"step__r2"}


def test_a_repository_that_cannot_be_read_for_a_while_is_followed_again(
    server: PlayedServer, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fgmclip.serve.watch.POLL_SECONDS", 0.01)
    away, back = threading.Event(), threading.Event()
    real = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if server.repository in self.parents and not back.is_set():
            away.set()
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(self)

    served = threading.Event()

    def reload() -> None:
        releases.reload()
        served.set()

    watch = Watch(server.repository, releases, reload, print)
    activate(server.repository, 2)
    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    watch.start()
    assert away.wait(10)
    back.set()
    assert served.wait(10)
    watch.stop()
    watch.join()
    releases.close()
    assert set(server.serves.values()) == {"step__r2"}
