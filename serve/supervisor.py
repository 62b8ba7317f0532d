"""The process between us and tritonserver, which leaves nothing behind whoever is killed.

Run as a script by `fgmclip.serve.process`; standard library only, started in a session of its
own. Its stdin is a line held by the process that started it:

- the first line is the order, JSON: `argv`, `env`, `log`, `id`, `runtime`, `grace_seconds`;
- `stop` asks tritonserver to finish the requests in flight and end;
- end of file means that the holder is gone: everything is killed at once.

When tritonserver has ended, for whatever reason, the supervisor kills what is left of its
descendants (it is their reaper, so none can hide in another session), removes the shared memory
of the Python backend and the runtime folder, and reports `{"status": N}` on stdout. If the
supervisor itself is killed, the kernel kills tritonserver, whose stubs notice within a second; the
next supervisor removes what was left of shared memory, told from what is in use by a file lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SHARED_MEMORY = Path("/dev/shm")
PREFIX = "fgmclip-"
_POLL_SECONDS = 0.25
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def remove_regions(server_id: str, folder: Path = SHARED_MEMORY) -> None:
    """Remove the shared memory that the server of that id left, its lock last."""
    own = sorted(folder.glob(f"{PREFIX}{server_id}*"), key=lambda path: path.suffix == ".lock")
    for path in own:
        path.unlink(missing_ok=True)


def hold_lock(server_id: str, runtime: str, folder: Path = SHARED_MEMORY) -> int:
    """Mark the regions of this id as in use for as long as this process lives."""
    path = folder / f"{PREFIX}{server_id}.lock"
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        # A sweep may have removed the file between open and lock; then it protects nothing.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(file).st_ino:
                os.write(file, runtime.encode())
                return file
        os.close(file)


def sweep(folder: Path = SHARED_MEMORY) -> None:
    """Remove regions and runtime folders of this user's servers that were killed."""
    for path in folder.glob(f"{PREFIX}*.lock"):
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file).st_uid == os.getuid():
                runtime = Path(os.read(file, 4096).decode())
                if runtime.name == path.stem and runtime.parent == Path(tempfile.gettempdir()):
                    shutil.rmtree(runtime, ignore_errors=True)
                remove_regions(path.stem.removeprefix(PREFIX), folder)
        except BlockingIOError:
            pass
        finally:
            os.close(file)


def _children() -> Iterator[int]:
    me = os.getpid()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                # The name, in brackets, may hold spaces and brackets itself.
                stat = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                if int(stat[1]) == me and stat[0] != "Z":
                    yield int(entry)


def _reap() -> tuple[dict[int, int], bool]:
    """Collect ended children: their statuses, and whether any child is left."""
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, False
        if pid == 0:
            return ended, True
        ended[pid] = os.waitstatus_to_exitcode(status)


def _kill_descendants() -> dict[int, int]:
    ended: dict[int, int] = {}
    while True:
        # Killing a child hands its own children to us: repeat until none is left.
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        statuses, any_left = _reap()
        ended |= statuses
        if not any_left:
            return ended
        time.sleep(0.01)


def _start(order: dict[str, Any], libc: ctypes.CDLL) -> int:
    supervisor = os.getpid()
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
    pid = os.fork()
    if pid:
        os.close(log)
        return pid
    try:
        os.setpgid(0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != supervisor:
            os._exit(1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        # Python's stubs look for modules in the current folder first.
        os.chdir(order["runtime"])
        os.execve(order["argv"][0], order["argv"], order["env"])
    except OSError as error:
        os.write(2, f"error: {order['argv'][0]}: {error}\n".encode())
    os._exit(127)


def _read_order() -> tuple[dict[str, Any], bytes]:
    received = b""
    while b"\n" not in received:
        data = os.read(0, 65536)
        if not data:
            sys.exit(1)
        received += data
    line, _, rest = received.partition(b"\n")
    return json.loads(line), rest


def _supervise(server: int, parent: int, grace_seconds: float, wake: int, received: bytes) -> int:
    """Return tritonserver's exit status; whatever else runs is dead then."""
    deadline: float | None = None
    while True:
        statuses, _ = _reap()
        if server in statuses:
            _kill_descendants()
            return statuses[server]
        if deadline is None and b"stop" in received:
            os.kill(server, signal.SIGTERM)
            deadline = time.monotonic() + grace_seconds
        expired = deadline is not None and time.monotonic() > deadline
        # A fork of the holder may keep our stdin open after its death: look at our parent too.
        if expired or os.getppid() != parent:
            return _kill_descendants()[server]
        readable, _, _ = select.select([0, wake], [], [], _POLL_SECONDS)
        if wake in readable and bytes((signal.SIGTERM,)) in os.read(wake, 4096):
            received += b"stop"
        if 0 in readable:
            data = os.read(0, 4096)
            if not data:
                return _kill_descendants()[server]
            received += data


def main() -> None:
    """Start tritonserver as ordered and stay until nothing of it is left."""
    parent = os.getppid()
    os.umask(0o077)
    wake, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    # Handlers, unlike SIG_IGN, are not inherited by the program that is executed.
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    order, received = _read_order()
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    sweep()
    lock = hold_lock(order["id"], order["runtime"])
    try:
        server = _start(order, libc)
        status = _supervise(server, parent, order["grace_seconds"], wake, received)
    finally:
        shutil.rmtree(order["runtime"], ignore_errors=True)
        remove_regions(order["id"])
        os.close(lock)
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps({"status": status}).encode())


if __name__ == "__main__":
    main()
