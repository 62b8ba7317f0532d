"""Competitors in processes of their own, which sleep until they are asked.

Two libraries in one process stand in each other's way: their threads wait for work by spinning.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench.cost.competitor import CompetitorError
from fgmclip.bench.cost.report import Entry

TASK_FILE, FRAMES_FILE = "task.json", "frames.npy"

_LOG_FILE = "log.txt"
_GRACE_SECONDS = 10.0


class PeerProcess:
    """A child that answers each line with the milliseconds of one clip. Use it in a `with`.

    Attributes:
        first: How long its very first clip took, compilation included, milliseconds.
    """

    def __init__(
        self, module: str, task: Mapping[str, Any], frames: NDArray[np.uint8], threads: int
    ) -> None:
        """Name what it runs; nothing is started yet.

        Args:
            module: A module whose `main` is `fgmclip.bench.cost.peers.turns.take_turns`.
            task: What the module reads, as JSON.
            frames: The clip, RGB u8 [n+1,H,W,3]; the first is the frame before.
            threads: Threads it computes with.
        """
        self._module = module
        self._task = {**task, "threads": threads}
        self._frames = frames
        self._threads = threads
        self.first = 0.0

    def __enter__(self) -> PeerProcess:
        """Start it, and wait until it has run one clip unseen.

        Raises:
            CompetitorError: It cannot run here.
        """
        self._directory = tempfile.TemporaryDirectory(prefix="fgmclip-peer-")
        folder = Path(self._directory.name)
        (folder / TASK_FILE).write_text(json.dumps(self._task), encoding="utf-8")
        np.save(folder / FRAMES_FILE, self._frames)
        with (folder / _LOG_FILE).open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=os.environ | peer_environment(self._threads, folder),
                encoding="utf-8",
                errors="replace",
            )
        try:
            self.first = self._answer()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._end()

    def run(self) -> float:
        """Return how long one clip takes now, milliseconds.

        Raises:
            CompetitorError: It failed, or ended by itself.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            # Its end tells more than the pipe's.
            pass
        return self._answer()

    def _answer(self) -> float:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            log = (
                (Path(self._directory.name) / _LOG_FILE)
                .read_text(encoding="utf-8", errors="replace")
                .split("\n")
            )
            last = next((text.strip() for text in reversed(log) if text.strip()), "it said nothing")
            raise CompetitorError(
                f"expected an answer of its process, got its end with exit status {status}: {last}"
            )
        answer = json.loads(line)
        if "error" in answer:
            raise CompetitorError(answer["error"])
        return float(answer["milliseconds"])

    def _end(self) -> None:
        # Its input ends, and with that it does.
        try:
            self._process.communicate(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._directory.cleanup()


@dataclass(slots=True)
class ProcessCompetitor:
    """A competitor whose clips run in a `PeerProcess`.

    Attributes:
        entry: As of every competitor. Of a compiled one it tells, once it is open, how long that
            took.
        module: As `PeerProcess` takes it.
        task: As `PeerProcess` takes it.
        frames: The clip.
        threads: Threads it computes with.
        compiles: Whether the first clip is compiled for.
    """

    entry: Entry
    module: str
    task: Mapping[str, Any]
    frames: NDArray[np.uint8]
    threads: int
    compiles: bool = False

    @contextmanager
    def open(self) -> Iterator[Callable[[], float]]:
        """Start it; see `Competitor`."""
        with PeerProcess(self.module, self.task, self.frames, self.threads) as process:
            if self.compiles:
                seconds = f"{process.first / 1e3:.0f} s"
                includes = f"{self.entry.includes}; compiled before, by a first clip of {seconds}"
                self.entry = replace(self.entry, includes=includes)
            yield process.run


def peer_environment(threads: int, folder: Path) -> dict[str, str]:
    """Return what a child is told beside its task.

    Args:
        threads: Threads it computes with.
        folder: Goes with the child.
    """
    return {
        # No policy for threads that wait: told to sleep at once, PyTorch takes 1.9 times as long
        # for a small model. They spin for some milliseconds, which another's unseen clip takes.
        "OMP_NUM_THREADS": str(threads),
        # What torch compiled before would hide how long compiling takes.
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        # A pool of compilers would live on beside the races.
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
    }
