"""Where the time of a request goes: Triton's own counters, read between requests."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tritonclient.grpc as triton

END_TO_END = "end to end"
_STEP = re.compile(r"^(?P<step>.+)__r\d+$")


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Times of one stage over all repeats.

    Attributes:
        stage: A step's name without its release, or `end to end` for the client's clock.
        milliseconds: One figure a repeat.
    """

    stage: str
    milliseconds: tuple[float, ...]

    def percentile(self, percent: float) -> float:
        """Return a percentile in milliseconds."""
        return float(np.percentile(self.milliseconds, percent))

    def to_json(self) -> dict[str, float | str | int]:
        """Return name, repeats and percentiles."""
        return {
            "stage": self.stage,
            "repeats": len(self.milliseconds),
            "p50_ms": self.percentile(50),
            "p90_ms": self.percentile(90),
            "p99_ms": self.percentile(99),
        }


class StageClock:
    """Splits the time of single requests by stage; nothing else may use the server meanwhile."""

    def __init__(self, url: str) -> None:
        """Connect to the gRPC address HOST:PORT."""
        self._client = triton.InferenceServerClient(url)

    def nanoseconds(self) -> dict[str, int]:
        """Return how long each step was busy since it was loaded: queue, compute and copies."""
        busy: dict[str, int] = {}
        for item in self._client.get_inference_statistics().model_stats:
            match = _STEP.match(item.name)
            if match:
                busy[match["step"]] = busy.get(match["step"], 0) + item.inference_stats.success.ns
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
        stages: dict[str, list[float]] = {}
        before = self.nanoseconds()
        for _ in range(repeats):
            total.append(request())
            after = self.nanoseconds()
            for stage, end in after.items():
                stages.setdefault(stage, []).append((end - before.get(stage, 0)) / 1e6)
            before = after
            tick()
        times = [StageTimes(stage, tuple(values)) for stage, values in stages.items()]
        return [
            *(item for item in times if any(item.milliseconds)),
            StageTimes(END_TO_END, tuple(total)),
        ]


def in_pipeline_order(times: Sequence[StageTimes]) -> list[StageTimes]:
    """Sort stages as a request passes them."""
    order = (
        "preprocess",
        "clip_image_encoder",
        "motion_encoder",
        "window",
        "fusion_head",
        "classify",
        END_TO_END,
    )
    return sorted(times, key=lambda item: order.index(item.stage))


def milliseconds(call: Callable[[], object]) -> float:
    """Return how long one call took."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3
