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
        replicas: Servers on the machine that took turns.
    """

    shape: Shape
    in_flight: int
    seconds: float
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class CostLaw:
    """Seconds of each of `TERMS`, none below 0.

    Attributes:
        seconds: In the order of `TERMS`.
        shared: How much of the machine a batch's fixed part needs: replicas' fixed parts delay each
            other by as much; between 0, not at all, and 1, as if it were requests.
    """

    seconds: tuple[float, ...]
    shared: float

    @classmethod
    def fit(cls, points: Sequence[Observation]) -> CostLaw:
        """Fit the law to latencies of closed loops, whose relative errors weigh alike.

        The latency of n requests in flight is that of a batch of n: a + n w. Terms that would come
        out negative are left out, the most negative first: time is not given back. How much of the
        machine a needs is then fitted to the points of replicas.

        Args:
            points: What was measured.
        """
        law = cls(cls._terms([point for point in points if point.replicas == 1]), 1.0)
        replicas = [point for point in points if point.replicas > 1]
        return cls(law.seconds, law._shared(replicas)) if replicas else law

    @staticmethod
    def _terms(points: Sequence[Observation]) -> tuple[float, ...]:
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
        return tuple(float(value) for value in terms)

    def _shared(self, points: Sequence[Observation]) -> float:
        """Return what makes max(1, shared R) a + n w those latencies, as nearly as can be."""
        shares = np.linspace(0, 1, 101)
        predicted = [
            [
                BatchServer(
                    one.fixed, one.each, one.largest, point.replicas, share
                ).in_flight_seconds(point.in_flight)
                for share in shares
            ]
            for point in points
            for one in [self.server(point.shape)]
        ]
        measured = np.array([point.seconds for point in points])[:, None]
        errors = ((np.array(predicted) / measured - 1) ** 2).sum(axis=0)
        # Of what fits alike (below 1 / R nothing differs) the largest: the careful one.
        return float(shares[np.flatnonzero(errors <= errors.min() * (1 + 1e-9))[-1]])

    def server(self, shape: Shape, replicas: int = 1) -> BatchServer:
        """Return the server that this makes of requests of one shape."""
        batch, *each = self.seconds
        seconds = sum(term * cost for term, cost in zip(each, shape.costs, strict=True))
        return BatchServer(batch, seconds, max(1, ROWS // shape.new), replicas, self.shared)
