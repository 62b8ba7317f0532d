"""Where the time of requests goes under load: Triton's own counters, before and after."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import tritonclient.grpc as triton

from fgmclip.bench.stages import PHASES, PIPELINE

_STEP = re.compile(r"^(?P<step>.+)__r\d+$")

Counts = Mapping[str, tuple[int, ...]]
"""By step: requests, executions, rows, then nanoseconds by `PHASES`, since it was loaded."""


@dataclass(frozen=True, slots=True)
class StepLoad:
    """What one step did of the requests of a run.

    Attributes:
        step: Its name without its release.
        requests: Requests that passed.
        rows_per_execution: Rows of a batch, which those of several requests share.
        queue: Milliseconds that a request waited for it, on average.
        compute_input: Then for its inputs to be copied.
        compute_infer: Then for the step.
        compute_output: Then for its outputs to be copied.
    """

    step: str
    requests: int
    rows_per_execution: float
    queue: float
    compute_input: float
    compute_infer: float
    compute_output: float

    def to_json(self) -> dict[str, float | int | str]:
        """Return all fields."""
        return asdict(self)


class StepCounters:
    """Reads the counters of a server's steps. Use it in a `with` statement."""

    def __init__(self, url: str) -> None:
        """Connect to the gRPC address HOST:PORT."""
        self._client = triton.InferenceServerClient(url)

    def __enter__(self) -> StepCounters:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self._client.close()

    def read(self) -> Counts:
        """Return what each step has done so far; ensembles, which are their steps, left out."""
        return counts_of(self._client.get_inference_statistics().model_stats)


def counts_of(statistics: Any) -> Counts:
    """Return the counts in Triton's `model_stats`."""
    found: dict[str, tuple[int, ...]] = {}
    for item in statistics:
        if match := _STEP.match(item.name):
            spent = (getattr(item.inference_stats, phase).ns for phase in PHASES)
            requests = item.inference_stats.success.count
            found[match["step"]] = (requests, item.execution_count, item.inference_count, *spent)
    return found


def steps_between(before: Counts, after: Counts) -> tuple[StepLoad, ...]:
    """Return what the steps did between two readings, in the order in which a request passes."""
    steps = []
    for step, end in after.items():
        start = before.get(step, (0,) * len(end))
        requests, executions, rows, *spent = (b - a for a, b in zip(start, end, strict=True))
        if requests:
            phases = (nanoseconds / 1e6 / requests for nanoseconds in spent)
            steps.append(StepLoad(step, requests, rows / max(1, executions), *phases))
    return tuple(sorted(steps, key=lambda item: PIPELINE.index(item.step)))
