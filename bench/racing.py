"""Times of competitors that take turns, so that a busy machine slows all of them alike.

Not quite alike: what runs on two threads suffers more from a neighbour than what runs on one. So
rounds in which this process had to wait for a processor are repeated while patience lasts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

QUIET = 0.15
"""Share of a round that this process's threads, together, may have waited for a processor: on a
quiet machine up to a tenth, as two libraries' threads take over from each other; beside one busy
neighbour a third to more than the whole."""

PATIENCE = 3
"""What `race` adds at most for disturbed rounds, in rounds that were asked for."""

_PAUSE = 0.05
"""What is waited after a disturbed round, seconds: neighbours work in bursts."""

_TASKS = Path("/proc/self/task")


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one competitor.

    Attributes:
        milliseconds: One figure a round, the median of the calls in it; figures of the same round
            were measured next to each other.
        fastest: The fastest single call, milliseconds.
        disturbed: Share of the rounds that were disturbed by other work on this machine.
    """

    milliseconds: tuple[float, ...]
    fastest: float
    disturbed: float = 0.0

    @property
    def median(self) -> float:
        """Median over the rounds, milliseconds."""
        return float(np.median(self.milliseconds))

    def to_json(self) -> dict[str, float]:
        """Return median, quartiles and the fastest call, milliseconds, and what disturbed them."""
        low, high = np.percentile(self.milliseconds, (25, 75))
        return {
            "median_ms": self.median,
            "quartile_25_ms": float(low),
            "quartile_75_ms": float(high),
            "fastest_ms": self.fastest,
            "disturbed": self.disturbed,
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times longer one competitor took than another.

    Attributes:
        median: Median of the rounds' own ratios: a slow round slows both sides of its ratio.
        low: Lower quartile of those.
        high: Upper quartile of those.
        fastest: Ratio of the fastest calls.
    """

    median: float
    low: float
    high: float
    fastest: float

    @classmethod
    def of(cls, longer: Timing, shorter: Timing) -> Ratio:
        """Compare two competitors of one race."""
        rounds = np.divide(longer.milliseconds, shorter.milliseconds)
        low, median, high = (float(value) for value in np.percentile(rounds, (25, 50, 75)))
        return cls(median, low, high, longer.fastest / shorter.fastest)

    def __str__(self) -> str:
        """Return the median and, in brackets, the quartiles."""
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"

    def to_json(self) -> dict[str, float]:
        """Return the four figures by name."""
        return {name: getattr(self, name) for name in self.__slots__}


def race(
    competitors: Mapping[str, Callable[[int], object]],
    *,
    rounds: int,
    calls: int = 3,
    patience: int = PATIENCE,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Let the competitors take turns.

    A turn is one call that does not count, then `calls` that do: the first wakes this library's
    threads, while those of the library before it may still be spinning for more work. Each round
    starts with another competitor.

    Args:
        competitors: What to call, by name, with a number that counts the calls of a turn on, so
            that a call can take other data than the one before it.
        rounds: Turns of each competitor that count: the least disturbed ones.
        calls: Calls of a turn that count.
        patience: Rounds that are added at most for disturbed ones, in rounds that were asked for.
        tick: Called after each of those rounds.

    Returns:
        The times by name.
    """
    names = list(competitors)
    medians: list[dict[str, float]] = []
    waits: list[float] = []
    fastest = dict.fromkeys(names, float("inf"))
    done = 0
    while done < rounds:
        turn = len(waits)
        start = turn % len(names)
        began, waited = time.perf_counter(), _waited_for_processor()
        medians.append({})
        for name in names[start:] + names[:start]:
            times = _turn(competitors[name], turn * (calls + 1), calls)
            medians[-1][name] = float(np.median(times))
            fastest[name] = min(fastest[name], *times)
        waits.append((_waited_for_processor() - waited) / (time.perf_counter() - began))
        if waits[-1] > QUIET and turn < done + patience * rounds:
            time.sleep(_PAUSE)
            continue
        done += 1
        tick()
    kept = sorted(sorted(range(len(waits)), key=waits.__getitem__)[:rounds])
    disturbed = sum(waits[turn] > QUIET for turn in kept) / rounds
    return {
        name: Timing(tuple(medians[turn][name] for turn in kept), fastest[name], disturbed)
        for name in names
    }


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive numbers: what ratios are averaged by."""
    return float(np.exp(np.mean(np.log(values))))


def _turn(call: Callable[[int], object], number: int, calls: int) -> list[float]:
    call(number)
    times = []
    for step in range(1, calls + 1):
        start = time.perf_counter()
        call(number + step)
        times.append((time.perf_counter() - start) * 1e3)
    return times


def _waited_for_processor() -> float:
    """Return for how many seconds this process's threads were ready to run and did not."""
    total = 0
    for task in _TASKS.glob("*/schedstat"):
        try:
            total += int(task.read_text(encoding="utf-8").split()[1])
        except OSError:
            # The thread ended since the folder was listed.
            continue
    return total / 1e9
