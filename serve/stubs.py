"""The processes of a server's steps, as the kernel shows them."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def stubs_of(supervisor: int) -> dict[int, str]:
    """Return the processes that run steps of a server, with the name of each one's step.

    Args:
        supervisor: Process that started the tritonserver.
    """
    found: dict[int, str] = {}
    for server in _children(supervisor):
        for pid in _children(server):
            step = _step_of(pid)
            if step is not None:
                found[pid] = step
    return found


def runs(pid: int, step: str) -> bool:
    """Return whether a process runs a step; a dead one that waits to be reaped does not."""
    return _step_of(pid) == step


def _step_of(pid: int) -> str | None:
    """Return the step that a process runs; None if it is no stub, or dead."""
    try:
        words = (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    # .../triton_python_backend_stub REPOSITORY/STEP/VERSION/model.py ...; nothing once it is dead.
    if len(words) < 2 or not words[0].endswith(b"triton_python_backend_stub"):
        return None
    return Path(os.fsdecode(words[1])).parent.parent.name


def _children_of_thread(task: Path) -> list[int]:
    try:
        return [int(number) for number in (task / "children").read_text("ascii").split()]
    except OSError:
        # It ended meanwhile, and its children are another thread's.
        return []


def _children(pid: int) -> list[int]:
    tasks = _PROC / str(pid) / "task"
    try:
        if (tasks / str(pid) / "children").exists():
            # Of every thread: a process is a child of the thread that started it.
            return [number for task in tasks.iterdir() for number in _children_of_thread(task)]
    except OSError:
        return []
    found = []
    for status in _PROC.glob("[0-9]*/stat"):
        try:
            fields = status.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(status.parent.name))
    return found
