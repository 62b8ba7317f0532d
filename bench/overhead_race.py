"""The served chain and the bare one in turns, over the same arrays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench.bars import Bar
from fgmclip.bench.overhead_bare import ENGINES, PREPROCESS, STAGES
from fgmclip.bench.overhead_process import BareProcess
from fgmclip.bench.racing import Ratio, Timing
from fgmclip.bench.stages import milliseconds

Arrays = Mapping[str, NDArray[Any]]

QUIET = 0.05
"""Share of this machine's processors that work of others may have taken in a round."""

PATIENCE = 2
"""Rounds that are added at most for disturbed ones, in rounds that were asked for."""

_PAUSE = 0.05
"""What is waited after a disturbed round, seconds: neighbours work in bursts."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request.

    Attributes:
        name: For example `clip 224`.
        model: The public ensemble.
        inputs: Its inputs.
        outputs: What is asked for.
        bar: Percent that serving may cost at most; None if it is only reported.
    """

    name: str
    model: str
    inputs: Arrays
    outputs: tuple[str, ...]
    bar: float | None = None

    @property
    def key(self) -> str:
        """The name without spaces."""
        return self.name.replace(" ", "-")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Times of one kind of request, served and bare.

    Attributes:
        case: The request.
        served: From the client's call to its arrays.
        bare: Kernels and engines, one after the other.
        engines: The engines alone.
        stages: Each of the bare `STAGES`, median milliseconds.
        difference: Largest difference of a value of EMBEDDING, served and bare.
    """

    case: Case
    served: Timing
    bare: Timing
    engines: Timing
    stages: Mapping[str, float]
    difference: float

    @property
    def overhead(self) -> Ratio:
        """Served over bare."""
        return Ratio.of(self.served, self.bare)

    @property
    def over_engines(self) -> Ratio:
        """Served over the engines alone: preprocessing counts as overhead."""
        return Ratio.of(self.served, self.engines)

    def bar(self) -> Bar | None:
        """Return what serving may cost, if that is set."""
        if self.case.bar is None:
            return None
        ratio = self.overhead
        return Bar(
            f"{self.case.name}: served over kernels and engines",
            self.case.bar,
            percent(ratio.median),
            unit=" %",
            detail=f"quartiles {percent(ratio.low):.1f} to {percent(ratio.high):.1f} %, fastest "
            f"calls {percent(ratio.fastest):.1f} %",
        )

    def to_json(self) -> dict[str, Any]:
        """Return the times and both ratios."""
        return {
            "case": self.case.name,
            "model": self.case.model,
            "request_bytes": sum(array.nbytes for array in self.case.inputs.values()),
            "served": self.served.to_json(),
            "bare": self.bare.to_json(),
            "bare_engines": self.engines.to_json(),
            "bare_stages_ms": dict(self.stages),
            "served_over_bare": self.overhead.to_json(),
            "served_over_engines": self.over_engines.to_json(),
            "embedding_difference": self.difference,
        }


def percent(ratio: float) -> float:
    """Return what a ratio adds, in percent: 3 for 1.03."""
    return 100 * (ratio - 1)


def compare(
    case: Case,
    served: Callable[[], Arrays],
    bare: BareProcess,
    *,
    rounds: int,
    calls: int,
    tick: Callable[[], None] = lambda: None,
) -> Comparison:
    """Let the server and the bare chain take turns.

    A turn is one call that does not count and `calls` that do; each round starts with the other.
    Rounds in which others used the processors are repeated while patience lasts.

    Args:
        case: The request.
        served: Makes it and returns the answer's arrays.
        bare: The bare chain, which was given the request.
        rounds: Turns of each that count: the least disturbed ones.
        calls: Calls of a turn that count.
        tick: Called after each of those rounds.
    """
    answer: Arrays = served()
    _, embedding = bare.ask(case.key, 1)
    seen: list[tuple[float, list[float], list[dict[str, float]]]] = []
    done = 0
    while done < rounds:
        start = Load.now()
        if len(seen) % 2:
            inside = bare.ask(case.key, calls + 1)[0][1:]
            outside = _turn(served, calls)
        else:
            outside = _turn(served, calls)
            inside = bare.ask(case.key, calls + 1)[0][1:]
        foreign = Load.now().foreign(start)
        seen.append((foreign, outside, inside))
        if foreign > QUIET and len(seen) <= done + PATIENCE * rounds:
            time.sleep(_PAUSE)
            continue
        done += 1
        tick()
    kept = sorted(sorted(range(len(seen)), key=lambda turn: seen[turn][0])[:rounds])
    disturbed = sum(seen[turn][0] > QUIET for turn in kept) / rounds
    chains = [seen[turn][2] for turn in kept]

    def inside_timing(stages: tuple[str, ...]) -> Timing:
        return _timing(
            [[sum(spent[stage] for stage in stages) for spent in calls] for calls in chains],
            disturbed,
        )

    return Comparison(
        case,
        _timing([seen[turn][1] for turn in kept], disturbed),
        inside_timing(STAGES),
        inside_timing(ENGINES),
        {stage: inside_timing((stage,)).median for stage in (PREPROCESS, *ENGINES)},
        float(np.abs(answer["EMBEDDING"] - embedding).max()),
    )


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the processors were up to a moment, in seconds.

    Attributes:
        clock: The moment.
        all: Of all processes on this machine.
        own: Of this process and those that it started.
    """

    clock: float
    all: float
    own: float

    @classmethod
    def now(cls) -> Load:
        """Read the kernel's counters."""
        fields = [
            int(value)
            for value in Path("/proc/stat").read_text(encoding="utf-8").split("\n")[0].split()[1:]
        ]
        # All but idle time and waiting for disks.
        busy = sum(fields[:8]) - fields[3] - fields[4]
        return cls(time.perf_counter(), busy / _TICKS, _own_ticks() / _TICKS)

    def foreign(self, before: Load) -> float:
        """Return the share of all processors that others took since `before`."""
        seconds = (self.clock - before.clock) * (os.cpu_count() or 1)
        return max(0.0, (self.all - before.all) - (self.own - before.own)) / seconds


def _own_ticks() -> int:
    """Return the processor time of this process and all its living descendants."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:
            # It ended since the folder was listed.
            continue
        number = int(status.parent.name)
        parents[number], ticks[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    total = 0
    for number in ticks:
        ancestor = number
        while ancestor not in (0, os.getpid()):
            ancestor = parents.get(ancestor, 0)
        total += ticks[number] if ancestor else 0
    return total


def _turn(served: Callable[[], Arrays], calls: int) -> list[float]:
    served()
    return [milliseconds(served) for _ in range(calls)]


def _timing(rounds: list[list[float]], disturbed: float) -> Timing:
    return Timing(
        tuple(float(np.median(times)) for times in rounds),
        min(min(times) for times in rounds),
        disturbed,
    )
