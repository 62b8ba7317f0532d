"""A small process between a program and its Triton server, so that no server outlives it.

Run as a file, with the standard library alone: it must start fast and depend on nothing. It starts
the server in a session of its own and ends it, its Python stubs and their shared memory when

- the program says so, or ends in any way, SIGKILL included: the pipe to it closes;
- it was itself told to end;
- the server ended by itself and left stubs behind.

Usage: supervisor.py SHARED_MEMORY_PREFIX DIRECTORY GRACE_SECONDS COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

STOP, KILL = b"s", b"k"
"""What the program writes to end the server, or to end it without waiting for its requests; the
program's end of the pipe may live on in a forked child."""

SHARED_MEMORY = Path("/dev/shm")

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.1


def remove_regions(prefix: str) -> None:
    """Remove the shared memory of a server that ended.

    Args:
        prefix: Start of the names of its regions.
    """
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def supervise(prefix: str, directory: Path, grace_seconds: float, command: list[str]) -> int:
    """Run a server until it ends or has to; return its exit status.

    Args:
        prefix: Start of the names of the server's shared-memory regions.
        directory: Folder of the server, removed if the program died without removing it.
        grace_seconds: How long the server may take to finish its requests when it is ended.
        command: The server's command line.
    """
    stopping = False

    def stop(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    libc = ctypes.CDLL(None)
    # Stubs whose server was killed become children of this process instead of init's.
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    parent = os.getppid()
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # Should this very process be killed, the kernel tells the server to end.
        preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0),
    )
    orphaned = killed = False
    while server.poll() is None and not stopping:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], _POLL_SECONDS)
        if readable:
            stopping = True
            word = os.read(sys.stdin.fileno(), 1)
            killed = word == KILL
            orphaned = word not in (STOP, KILL)
        elif os.getppid() != parent:
            stopping = orphaned = True
    if server.poll() is None and not killed:
        server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(grace_seconds)
    _end_everything(server)
    remove_regions(prefix)
    if orphaned:
        shutil.rmtree(directory, ignore_errors=True)
    return server.returncode


def _end_everything(server: subprocess.Popen[bytes]) -> None:
    """Kill the server's session and every process that came down to this one."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    while children := _children():
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)


def _children() -> list[int]:
    """Return the processes whose parent is this one, those that only wait to be reaped too."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    if path.exists():
        return [int(number) for number in path.read_text(encoding="utf-8").split()]
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(status.parent.name))
    return found


def main() -> None:
    """Supervise the command of the arguments."""
    prefix, directory, grace, *command = sys.argv[1:]
    status = supervise(prefix, Path(directory), float(grace), command)
    sys.exit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
