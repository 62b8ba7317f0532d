"""One measured point of a load curve: `Rig` runs it, `Point` is what came of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fgmclip.bench.load.arrivals import camera_arrivals, poisson_arrivals
from fgmclip.bench.load.counters import StepCounters, StepLoad, steps_between
from fgmclip.bench.load.plan import LoadPlan, LoadResult, Traffic
from fgmclip.bench.load.process import LoadProcess
from fgmclip.bench.load.usage import CoreMeter, Cores

BUSY_OTHERS = 0.15
"""Share of this machine's cores that others may have; a point with more is called disturbed."""


@dataclass(frozen=True, slots=True)
class Point:
    """What came of one load.

    Attributes:
        traffic: Name of what was sent.
        arrivals: `closed`, `cameras` or `poisson`.
        load: Requests in flight of a closed loop; cameras of an open one.
        offered: Requests a second; of a closed loop, those that were answered.
        requests: Counted requests.
        refused: Those of them that were refused or failed.
        p50: Median latency, seconds.
        p95: 95th percentile, seconds; infinity if more were refused.
        mean: Mean latency of answered requests, seconds.
        late: How late the generator sent, 95th percentile, seconds.
        cores: Whose the cores were.
        steps: Where the time went, by step.
        failure: Message of the first request that failed.
    """

    traffic: str
    arrivals: str
    load: int
    offered: float
    requests: int
    refused: int
    p50: float
    p95: float
    mean: float
    late: float
    cores: Cores
    steps: tuple[StepLoad, ...]
    failure: str

    def to_json(self) -> dict[str, Any]:
        """Return all fields, milliseconds by name; null where an answer never came."""
        return {
            "traffic": self.traffic,
            "arrivals": self.arrivals,
            "load": self.load,
            "requests_per_second": self.offered,
            "requests": self.requests,
            "refused": self.refused,
            "p50_ms": _milliseconds(self.p50),
            "p95_ms": _milliseconds(self.p95),
            "mean_ms": _milliseconds(self.mean),
            "sent_late_p95_ms": _milliseconds(self.late),
            "cores": self.cores.to_json(),
            "steps": [step.to_json() for step in self.steps],
            "failure": self.failure,
        }


class Rig:
    """A load generator before servers, and what is read from both around each run."""

    def __init__(self, load: LoadProcess, urls: Sequence[str], *, seed: int = 0) -> None:
        """Take what runs already.

        Args:
            load: The generator; it has been given the traffic.
            urls: Servers, which take turns.
            seed: Of the moments at which requests come.
        """
        self.urls = tuple(urls)
        self._load = load
        self._random = np.random.default_rng(seed)

    def closed(self, traffic: Traffic, concurrency: int, *, seconds: float) -> Point:
        """Keep a number of requests in flight for some seconds that count."""
        plan = LoadPlan(traffic.name, self.urls, _warm_up(seconds), seconds, concurrency)
        result, cores, steps = self._run(plan)
        # Little's law: nothing is rounded to whole batches at either end of the window.
        offered = concurrency / result.mean if math.isfinite(result.mean) else 0.0
        return _point(traffic, "closed", concurrency, offered, result, cores, steps)

    def cameras(self, traffic: Traffic, cameras: int, dt: float, *, seconds: float) -> Point:
        """Let cameras send a request every `dt` seconds each."""
        arrivals = camera_arrivals(cameras, dt, _whole(seconds), self._random)
        return self._open(traffic, "cameras", cameras, cameras / dt, arrivals.tolist(), seconds)

    def poisson(self, traffic: Traffic, cameras: int, dt: float, *, seconds: float) -> Point:
        """Send as many requests as those cameras, at moments that know nothing of each other."""
        arrivals = poisson_arrivals(cameras / dt, _whole(seconds), self._random)
        return self._open(traffic, "poisson", cameras, cameras / dt, arrivals.tolist(), seconds)

    def _open(
        self,
        traffic: Traffic,
        arrivals: str,
        cameras: int,
        rate: float,
        times: list[float],
        seconds: float,
    ) -> Point:
        warm_up = _warm_up(seconds)
        plan = LoadPlan(traffic.name, self.urls, warm_up, seconds, arrivals=tuple(times))
        return _point(traffic, arrivals, cameras, rate, *self._run(plan))

    def _run(self, plan: LoadPlan) -> tuple[LoadResult, Cores, tuple[StepLoad, ...]]:
        # Steps of the first server stand for those of its replicas.
        with StepCounters(plan.urls[0]) as counters:
            before, meter = counters.read(), CoreMeter(self._load.pid)
            result = self._load.run(plan)
            return result, meter.read(), steps_between(before, counters.read())


def median_point(points: Sequence[Point]) -> Point:
    """Return the point of the median p95, of two the one that waits longer."""
    return sorted(points, key=lambda point: point.p95)[len(points) // 2]


def _point(
    traffic: Traffic,
    arrivals: str,
    load: int,
    offered: float,
    result: LoadResult,
    cores: Cores,
    steps: tuple[StepLoad, ...],
) -> Point:
    return Point(
        traffic=traffic.name,
        arrivals=arrivals,
        load=load,
        offered=offered,
        requests=len(result.latencies),
        refused=result.refused,
        p50=result.percentile(50),
        p95=result.percentile(95),
        mean=result.mean,
        late=result.late,
        cores=cores,
        steps=steps,
        failure=result.failure,
    )


def _warm_up(seconds: float) -> float:
    return max(0.5, seconds / 5)


def _whole(seconds: float) -> float:
    """Return warm-up, what counts, and as much behind it as keeps the load up for late answers."""
    return _warm_up(seconds) + 2 * seconds


def _milliseconds(seconds: float) -> float | None:
    return 1e3 * seconds if math.isfinite(seconds) else None
