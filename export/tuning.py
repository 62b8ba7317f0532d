"""A short search over how an engine uses the cores: threads, streams and batching.

Kernels wait for each other after every layer, and how dear that is depends on the machine. So the
engine that was chosen is tried with all cores on one batch, and with a part of the batch on each.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from fgmclip.export.gate import Tuned
from fgmclip.export.ladder.candidate import Candidate
from fgmclip.export.trial import Inputs, Tried, race
from fgmclip.serve.runtimes import open_runtime

Report = Callable[[str], None]

MARGIN = 1.1
"""How much faster another way must be. Served, an engine does not have the cores to itself: the
encoders of a clip run side by side. Two streams for the image encoder of `gym99` were 5 % faster
alone on two cores and made the served clip 8 % slower."""


def tune(part: str, chosen: Tried, inputs: Inputs, report: Report) -> tuple[Candidate, list[Tuned]]:
    """Try ways of using the cores for an engine that was chosen.

    Args:
        part: The submodule.
        chosen: Its engine.
        inputs: A clip's rows.
        report: Called with what is done next.

    Returns:
        The engine with the fastest way's options, and all that was tried, that way marked.
    """
    assert chosen.milliseconds is not None
    assert chosen.single_milliseconds is not None
    cores = len(os.sched_getaffinity(0))
    first = open_runtime(chosen.candidate.runtime, chosen.candidate.graph, chosen.candidate.options)
    found = [
        Tuned(
            part=part,
            options=dict(chosen.candidate.options),
            milliseconds=chosen.milliseconds,
            single_milliseconds=chosen.single_milliseconds,
            faster=1.0,
        )
    ]
    best, record = chosen.candidate, 1.0
    for item in _ways(chosen.candidate, cores, len(next(iter(inputs.values())))):
        report(
            f"{part}: tune {' '.join(f'{name} {value}' for name, value in item.options.items())}"
        )
        times = race(first, open_runtime(item.runtime, item.graph, item.options), inputs)
        faster = 1 / times.ratio
        found.append(
            Tuned(
                part=part,
                options=dict(item.options),
                milliseconds=times.second[0],
                single_milliseconds=times.second[1],
                faster=faster,
            )
        )
        if faster > MARGIN * record:
            best, record = item, faster
    taken = dict(best.options)
    return best, [item.replace(taken=item.options == taken) for item in found]


def _ways(candidate: Candidate, cores: int, rows: int) -> Iterator[Candidate]:
    """Yield other ways of using the cores; the engine and its answers are the same."""
    if cores == 1:
        return
    # One thread: a small engine may be done before a second one has woken up.
    yield _with(candidate, threads="1")
    if candidate.runtime == "openvino" and rows > 1:
        yield _with(candidate, streams=str(min(cores, rows)))


def _with(candidate: Candidate, **options: str) -> Candidate:
    return replace(candidate, options={**candidate.options, **options})
