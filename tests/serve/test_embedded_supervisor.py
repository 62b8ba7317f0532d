"""The supervisor with stand-ins for a server: whatever they do, nothing is left."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fgmclip.serve import supervisor

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stub = "import time; time.sleep(600)"
subprocess.Popen([sys.executable, "-c", stub, sys.argv[1]])
subprocess.Popen([sys.executable, "-c", stub, sys.argv[1]], start_new_session=True)
print("up", flush=True)
time.sleep(float(sys.argv[2]))
sys.exit(7)
"""


class Supervised:
    """A supervisor over a server that ignores SIGTERM and has two stubs, one in a far session."""

    def __init__(self, directory: Path, seconds: float) -> None:
        self.marker = f"fgmclip-test-{secrets.token_hex(8)}"
        self.region = supervisor.SHARED_MEMORY / f"{self.marker}_region"
        self.region.write_bytes(b"x")
        self.directory = directory
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", supervisor.__file__),
                *(self.marker, str(directory), "0.2"),
                *(sys.executable, "-c", STUBBORN, self.marker, str(seconds)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"

    def tell(self, order: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order)
        self.process.stdin.close()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)
        self.region.unlink(missing_ok=True)

    def left(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if self.marker.encode() in path.read_bytes():
                    found.append(path.parent.name)
            except OSError:
                continue
        return found


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "server"
    path.mkdir()
    (path / "triton.log").write_text("log", encoding="utf-8")
    return path


@pytest.fixture
def supervised(directory: Path) -> Iterator[Supervised]:
    started = Supervised(directory, 600)
    yield started
    started.close()


def test_an_order_ends_a_stubborn_server_and_its_stubs(supervised: Supervised) -> None:
    assert len(supervised.left()) == 4
    supervised.tell(supervisor.STOP)
    supervised.process.wait(30)
    assert supervised.left() == []
    assert not supervised.region.exists()
    assert supervised.directory.exists()


def test_a_closed_pipe_also_removes_the_directory(supervised: Supervised) -> None:
    supervised.tell(b"")
    supervised.process.wait(30)
    assert supervised.left() == []
    assert not supervised.region.exists()
    assert not supervised.directory.exists()


def test_sigterm_to_the_supervisor_ends_everything(supervised: Supervised) -> None:
    supervised.process.terminate()
    supervised.process.wait(30)
    assert supervised.left() == []


def test_a_server_that_ends_by_itself_takes_its_stubs_along(directory: Path) -> None:
    supervised = Supervised(directory, 0.1)
    assert supervised.process.wait(30) == 7
    assert supervised.left() == []
    assert not supervised.region.exists()
    assert directory.exists()
    supervised.close()
