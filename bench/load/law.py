"""What a decision costs by T, resolution and requests in flight: one law, by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgmclip.bench.load.queueing import BatchServer

ROWS = 64
"""`max_batch_size` of the encoders."""

TERMS = ("batch", "request", "new frame", "megapixel", "window frame")
"""What the law's seconds belong to: a batch however large, then of each request in it the request
itself, a new frame, a megapixel of raw frames, and a frame of its window."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the cost of a decision depends on.

    Attributes:
        new: k, frames that are encoded.
        window: T.
        megapixels: Of one raw frame; 0 where the camera preprocesses.
    """

    new: int
    window: int
    megapixels: float

    @property
    def costs(self) -> tuple[float, ...]:
        """How much of each of `TERMS` but the first one request has."""
        return (1.0, float(self.new), (self.new + 1) * self.megapixels, float(self.window))


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured point of a closed loop.

    Attributes:
        shape: Of its requests.
        in_flight: How many there were at any time.
        seconds: Their mean latency.
    """

    shape: Shape
    in_flight: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CostLaw:
    """Seconds of each of `TERMS`, none below 0.

    Attributes:
        seconds: In the order of `TERMS`.
        cores: Of the machine.
    """

    seconds: tuple[float, ...]
    cores: int

    @classmethod
    def fit(cls, points: Sequence[Observation], cores: int) -> CostLaw:
        """Fit the law to latencies of closed loops, whose relative errors weigh alike.

        The latency of n requests in flight is that of a batch of n: a + n w. Terms that would come
        out negative are left out, the most negative first: time is not given back.

        Args:
            points: What was measured, of one server.
            cores: Of the machine that it was measured on.
        """
        rows = np.array(
            [(1.0, *(point.in_flight * cost for cost in point.shape.costs)) for point in points]
        )
        seconds = np.array([point.seconds for point in points])
        scaled = rows / seconds[:, None]
        kept = list(range(len(TERMS)))
        while True:
            found, *_ = np.linalg.lstsq(scaled[:, kept], np.ones(len(points)), rcond=None)
            if found.min() >= 0:
                break
            del kept[int(found.argmin())]
        terms = np.zeros(len(TERMS))
        terms[kept] = found
        return cls(tuple(float(value) for value in terms), cores)

    def server(self, shape: Shape, replicas: int = 1) -> BatchServer:
        """Return the server that this makes of requests of one shape."""
        batch, *each = self.seconds
        seconds = sum(term * cost for term, cost in zip(each, shape.costs, strict=True))
        return BatchServer(batch, seconds, max(1, ROWS // shape.new), replicas, self.cores)
