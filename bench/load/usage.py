"""Whose the cores were during a run: the servers', the generator's, or somebody else's."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Cores:
    """Cores that were busy on average.

    Attributes:
        served: With the servers that this program started.
        generated: With the load generator.
        others: With anything else on this machine: what a quiet machine has not.
    """

    served: float
    generated: float
    others: float

    def to_json(self) -> dict[str, float]:
        """Return all fields."""
        return asdict(self)


class CoreMeter:
    """Measures from its making until `read`."""

    def __init__(self, generator: int) -> None:
        """Begin.

        Args:
            generator: Process id of the load generator; all other children of this process are
                taken for servers.
        """
        self._generator = generator
        self._began = time.monotonic()
        self._before = self._seconds()

    def read(self) -> Cores:
        """Return what was busy since then."""
        seconds = time.monotonic() - self._began
        served, generated, own, busy = (
            (after - before) / seconds
            for before, after in zip(self._before, self._seconds(), strict=True)
        )
        return Cores(served, generated, max(0.0, busy - served - generated - own))

    def _seconds(self) -> tuple[float, float, float, float]:
        this = psutil.Process()
        served = generated = 0.0
        for child in this.children(recursive=True):
            try:
                spent = _spent(child)
            except psutil.NoSuchProcess:
                continue
            if child.pid == self._generator:
                generated += spent
            else:
                served += spent
        times = psutil.cpu_times()
        busy = float(sum(times) - times.idle - getattr(times, "iowait", 0.0))
        return served, generated, _spent(this), busy


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
