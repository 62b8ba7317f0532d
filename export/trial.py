"""A trial: every candidate of a submodule on the gate's clips, for its answers and its speed.

Two engines are loaded at a time, the best so far and the next: they take turns, so that noise
meets both alike, and no more memory is needed than that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fgmclip.export.gate import Likeness, Thresholds, likeness
from fgmclip.export.ladder.candidate import RUNGS, Candidate
from fgmclip.serve.runtimes import Runtime, open_runtime

Array = NDArray[np.float32]
Inputs = Mapping[str, Array]
Report = Callable[[str], None]

ROUNDS = (3, 25)
"""Fewest and most turns of two engines."""

RACE_SECONDS = 4.0
"""About how long two engines take turns."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A candidate that was run on the gate's clips.

    Attributes:
        candidate: What was run.
        like: How far its answers are from PyTorch's.
        milliseconds: Median time of a clip's rows; None where it was not timed.
        single_milliseconds: Median time of one row; None where it was not timed.
        cost: Its time relative to the first candidate's, turn by turn, over both batch sizes.
        reason: Why it was refused; empty if it passes.
    """

    candidate: Candidate
    like: Likeness
    milliseconds: float | None
    single_milliseconds: float | None
    cost: float
    reason: str


@dataclass(frozen=True, slots=True)
class Race:
    """Two engines that took turns.

    Attributes:
        first: Median milliseconds of the first engine by batch, a clip's rows and one row.
        second: The same of the second.
        ratio: Time of the second over that of the first: median over turns, geometric mean over
            batches.
    """

    first: tuple[float, float]
    second: tuple[float, float]
    ratio: float


@dataclass(slots=True)
class _Champion:
    """The fastest candidate so far that passes."""

    tried: Tried
    runtime: Runtime


def try_candidates(
    candidates: Iterable[Candidate],
    batches: Sequence[Inputs],
    expected: Array,
    thresholds: Thresholds,
    report: Report,
) -> list[Tried]:
    """Judge the candidates of a submodule, lowest rung first.

    A rung is refused if its answers are not close enough, or if it is not faster than the best of
    the rungs below it.

    Args:
        candidates: Each is loaded when its turn comes.
        batches: The gate's inputs, clip by clip.
        expected: PyTorch's output [N,D] for all of them.
        thresholds: What is asked.
        report: Called with what is done next.
    """
    tried: list[Tried] = []
    champion: _Champion | None = None
    for item in candidates:
        report(item.title)
        runtime = open_judge(item)
        like = likeness(expected, outputs_of(runtime, batches))
        reason = like.fault(thresholds)
        if reason or item.emulation is not None:
            tried.append(Tried(item, like, None, None, 1.0, reason))
            continue
        if champion is None:
            times = race(runtime, runtime, batches[0])
            tried.append(Tried(item, like, *times.first, 1.0, ""))
            champion = _Champion(tried[-1], runtime)
            continue
        report(f"{item.title}: time")
        times = race(champion.runtime, runtime, batches[0])
        cost = champion.tried.cost * times.ratio
        came = Tried(item, like, *times.second, cost, _slowness(item, cost, tried, thresholds))
        tried.append(came)
        if not came.reason and cost < champion.tried.cost:
            champion = _Champion(came, runtime)
    return tried


def open_judge(candidate: Candidate) -> Runtime:
    """Load what answers for a candidate on this CPU."""
    if candidate.emulation is not None:
        return open_runtime("onnxruntime", candidate.emulation)
    return open_runtime(candidate.runtime, candidate.graph, candidate.options)


def output_of(runtime: Runtime, inputs: Inputs) -> Array:
    """Return the one output of a submodule."""
    (output,) = runtime.run(inputs).values()
    return output


def outputs_of(runtime: Runtime, batches: Sequence[Inputs]) -> Array:
    """Return the output over all batches, [N,D]."""
    return np.concatenate([output_of(runtime, batch) for batch in batches])


def race(first: Runtime, second: Runtime, inputs: Inputs) -> Race:
    """Let two engines take turns, with a clip's rows and with one row.

    Args:
        first: An engine.
        second: Another, or the same to have it timed alone.
        inputs: A clip's rows; T of an encoder, one window of the head.
    """
    sizes = [inputs]
    if len(next(iter(inputs.values()))) > 1:
        sizes.append({name: values[:1] for name, values in inputs.items()})
    alone = first is second
    times: list[list[list[float]]] = []
    for batch in sizes:
        pair: list[list[float]] = [[], []]
        runtimes = [first] if alone else [first, second]
        for runtime in runtimes:
            runtime.run(batch)
        begin = time.perf_counter()
        for done in range(ROUNDS[1]):
            if done >= ROUNDS[0] and time.perf_counter() - begin > RACE_SECONDS / len(sizes):
                break
            for runtime, taken in zip(runtimes, pair, strict=False):
                start = time.perf_counter()
                runtime.run(batch)
                taken.append(1000 * (time.perf_counter() - start))
        times.append([pair[0], pair[0] if alone else pair[1]])
    ratios = [np.median(np.divide(two, one)) for one, two in times]
    medians = [(float(np.median(one)), float(np.median(two))) for one, two in times]
    return Race(
        (medians[0][0], medians[-1][0]),
        (medians[0][1], medians[-1][1]),
        float(np.exp(np.mean(np.log(ratios)))),
    )


def _slowness(
    candidate: Candidate, cost: float, tried: Sequence[Tried], thresholds: Thresholds
) -> str:
    """Return why a candidate is too slow for its rung; empty if it is not."""
    rung = RUNGS.index(candidate.rung)
    below = [
        other for other in tried if not other.reason and RUNGS.index(other.candidate.rung) < rung
    ]
    if not below:
        return ""
    best = min(below, key=lambda other: other.cost)
    faster = best.cost / cost
    if faster > thresholds.speedup:
        return ""
    return (
        f"{faster:.2f} times as fast as {best.candidate.title}, "
        f"expected more than {thresholds.speedup:g}"
    )
