"""Where the time of a request goes: Triton's own counters, read between requests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tritonclient.grpc as triton

END_TO_END = "end to end"
ENSEMBLE = "ensemble"
PIPELINE = (
    "preprocess",
    "preprocess_edge",
    "clip_image_encoder",
    "motion_encoder",
    "window",
    "fusion_head",
    "classify",
    ENSEMBLE,
    END_TO_END,
)
"""Stages in the order in which a request passes them; `ensemble` is all of them, in Triton."""

PHASES = ("queue", "compute_input", "compute_infer", "compute_output")
"""What Triton counts apart for each step: waiting, inputs copied, the step, outputs copied."""

_STEP = re.compile(r"^(?P<step>.+)__r\d+$")


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Times of one stage over all repeats.

    Attributes:
        stage: A step's name without its release, `ensemble` for the whole chain in Triton, or `end
            to end` for the client's clock.
        milliseconds: One figure a repeat.
        phases: The same by Triton's `PHASES`; empty where there are none.
    """

    stage: str
    milliseconds: tuple[float, ...]
    phases: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def percentile(self, percent: float) -> float:
        """Return a percentile in milliseconds."""
        return float(np.percentile(self.milliseconds, percent))

    def phase(self, name: str) -> float:
        """Return the median of one of `PHASES`, milliseconds."""
        return float(np.median(self.phases[name]))

    def to_json(self) -> dict[str, float | str | int]:
        """Return name, repeats, percentiles and the medians of the phases."""
        phases = {f"{name}_p50_ms": self.phase(name) for name in self.phases}
        return {
            "stage": self.stage,
            "repeats": len(self.milliseconds),
            "p50_ms": self.percentile(50),
            "p90_ms": self.percentile(90),
            "p99_ms": self.percentile(99),
            **phases,
        }


class StageClock:
    """Splits the time of single requests by stage; nothing else may use the server meanwhile."""

    def __init__(self, url: str) -> None:
        """Connect to the gRPC address HOST:PORT."""
        self._client = triton.InferenceServerClient(url)

    def nanoseconds(self) -> dict[str, tuple[int, ...]]:
        """Return how long each stage was busy since it was loaded: in all, then by `PHASES`.

        The ensembles together are one stage.
        """
        busy: dict[str, tuple[int, ...]] = {}
        for item in self._client.get_inference_statistics().model_stats:
            match = _STEP.match(item.name)
            stage = match["step"] if match else ENSEMBLE
            counted = item.inference_stats
            times = (counted.success.ns, *(getattr(counted, name).ns for name in PHASES))
            before = busy.get(stage, (0,) * len(times))
            busy[stage] = tuple(map(sum, zip(before, times, strict=True)))
        return busy

    def measure(
        self, request: Callable[[], float], *, repeats: int, tick: Callable[[], None]
    ) -> list[StageTimes]:
        """Time `repeats` requests, one at a time.

        Args:
            request: Makes one request and returns the client's own time for it in milliseconds.
            repeats: How many requests are counted.
            tick: Called after each request.

        Returns:
            A figure for each stage that was busy, and the end to end time last.
        """
        total: list[float] = []
        stages: dict[str, list[tuple[float, ...]]] = {}
        before = self.nanoseconds()
        for _ in range(repeats):
            total.append(request())
            after = self.nanoseconds()
            for stage, end in after.items():
                start = before.get(stage, (0,) * len(end))
                spent = tuple((b - a) / 1e6 for a, b in zip(start, end, strict=True))
                stages.setdefault(stage, []).append(spent)
            before = after
            tick()
        times = [_stage_times(stage, rows) for stage, rows in stages.items()]
        return [
            *(item for item in times if any(item.milliseconds)),
            StageTimes(END_TO_END, tuple(total)),
        ]


def in_pipeline_order(times: Sequence[StageTimes]) -> list[StageTimes]:
    """Sort stages as a request passes them."""
    return sorted(times, key=lambda item: PIPELINE.index(item.stage))


def milliseconds(call: Callable[[], object]) -> float:
    """Return how long one call took."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def _stage_times(stage: str, rows: Sequence[tuple[float, ...]]) -> StageTimes:
    total, *phases = zip(*rows, strict=True)
    # Those of an ensemble would be sums over steps that overlap.
    named = dict(zip(PHASES, phases, strict=True)) if stage != ENSEMBLE else {}
    return StageTimes(stage, total, named)
