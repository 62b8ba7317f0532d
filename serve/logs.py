"""Why a server failed, read from Triton's log."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(r"^[EIWF]\d{4} [\d:.]+ \d+ [\w.]+:\d+\] ?")
_HARMLESS = re.compile(
    r"NVML|DCGM|unable to create stream|pinned memory pool|CUDA memory pool|cuda_memory_manager|"
    r"CUDA driver version|CudaDriverHelper"
)
_LOAD = re.compile(r"failed to load '(?P<model>[^']+)' version \d+: (?P<reason>.*)", re.DOTALL)
_CODE = re.compile(r"^(Internal|Invalid argument|Not found|Unavailable|Unsupported|Unknown): ")
_STATE = re.compile(r"^load failed for model '[^']+': version \d+ is at \w+ state: ")
_PYTHON_STACK = re.compile(r"\s*\n+At:\n.*", re.DOTALL)


def failure(log: Path, since: int = 0) -> str:
    """Return the cause of a failed start in one line, or an empty text if the log names none.

    Args:
        log: What Triton wrote.
        since: Where in it, in bytes, the start began.
    """
    errors = [entry for entry in _entries(log, since) if entry.startswith("E")]
    messages = [_LINE.sub("", entry).strip().strip('"') for entry in errors]
    messages = [message for message in messages if not _HARMLESS.search(message)]
    causes = [
        f"{match['model']}: {short_reason(match['reason'])}"
        for message in messages
        if (match := _LOAD.search(message))
    ]
    if causes:
        return "; ".join(dict.fromkeys(causes))
    return "; ".join(dict.fromkeys(short_reason(message) for message in messages))


def short_reason(text: str) -> str:
    """Return a reason of Triton in one line, without its code and without the Python stack."""
    plain = _PYTHON_STACK.sub("", text.replace("\\n", "\n"))
    return " ".join(_CODE.sub("", _STATE.sub("", plain.strip())).split())


def _entries(log: Path, since: int) -> list[str]:
    """Return the log's entries, each with the lines that continue it."""
    entries: list[str] = []
    for line in log.read_bytes()[since:].decode("utf-8", "replace").split("\n"):
        if _LINE.match(line) or not entries:
            entries.append(line)
        else:
            entries[-1] += f"\n{line}"
    return entries
