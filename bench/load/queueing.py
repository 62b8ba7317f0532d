"""A queueing model of a server: what waits is served together, and a batch takes a + w b.

So it is in this repository: one instance of each engine, a dynamic batcher that waits for nobody
and merges what has come while the engine was busy. Requests that arrive during a batch form the
next one. The whole chain is one such server, since its steps share the cores; replicas on one
machine share them too, so each of m busy ones runs at 1/m of its speed. There is no formula for
periodic arrivals of many cameras at such a server: the model is run instead, which takes
milliseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from fgmclip.bench.load.arrivals import Times, camera_arrivals

DRAWS = 24
"""How often cameras' moments are drawn for one prediction."""

PERIODS = 24
"""Requests of each camera in a draw, as in a measured run; the first sixth does not count."""

MOST_CAMERAS = 100_000
"""Where the search for the largest number of cameras ends."""


@dataclass(frozen=True, slots=True)
class BatchServer:
    """Server of batches; `fixed` + b `each` seconds for b requests.

    Attributes:
        fixed: a, seconds of a batch however large: what merging saves.
        each: w, seconds of each request in it; 1 / w requests a second is all that it can do.
        largest: Requests of a batch at most.
        replicas: Servers that share the machine; requests go to them in turn.
    """

    fixed: float
    each: float
    largest: int = 64
    replicas: int = 1

    def in_flight_seconds(self, concurrency: int) -> float:
        """Return the latency of requests of which so many are always in flight."""
        # All that a server has in flight is one batch; of its replicas' batches it has a share.
        return self.replicas * self.fixed + self.each * concurrency

    def latencies(self, arrivals: Times) -> NDArray[np.float64]:
        """Return the seconds from each arrival to its answer.

        Args:
            arrivals: Seconds, in order.
        """
        # Plain lists: arrays as short as the number of replicas would take ten times as long.
        times, done = arrivals.tolist(), np.empty(len(arrivals))
        queues: list[list[int]] = [[] for _ in range(self.replicas)]
        batches: list[list[int]] = [[] for _ in range(self.replicas)]
        work = [0.0] * self.replicas
        busy: list[int] = []
        now, coming = 0.0, 0
        while coming < len(times) or busy:
            next_done = min(busy, key=work.__getitem__) if busy else None
            ends = inf if next_done is None else now + work[next_done] * len(busy)
            arrives = times[coming] if coming < len(times) else inf
            until = min(ends, arrives)
            for one in busy:
                work[one] -= (until - now) / len(busy)
            now = until
            if next_done is None or arrives <= ends:
                server = coming % self.replicas
                queues[server].append(coming)
                coming += 1
            else:
                server = next_done
                done[batches[server]] = now
                batches[server] = []
                busy.remove(server)
            if queues[server] and not batches[server]:
                batches[server] = queues[server][: self.largest]
                del queues[server][: self.largest]
                work[server] = self.fixed + self.each * len(batches[server])
                busy.append(server)
        return done - arrivals

    def percentile(self, cameras: int, dt: float, percent: float = 95) -> float:
        """Return a percentile of latency under cameras that each send every `dt` seconds."""
        random = np.random.default_rng(0)
        waits = []
        for _ in range(DRAWS):
            arrivals = camera_arrivals(cameras, dt, PERIODS * dt, random)
            settled = arrivals >= PERIODS * dt / 6
            waits.append(self.latencies(arrivals)[settled])
        return float(np.percentile(np.concatenate(waits), percent))

    def cameras_within(self, target: float, dt: float, percent: float = 95) -> int:
        """Return the largest number of cameras whose percentile of latency is within `target`.

        Args:
            target: Seconds.
            dt: From one request of a camera to its next, seconds.
            percent: Which percentile.
        """
        # More than these find no time at all, however they are merged.
        most = min(MOST_CAMERAS, int(dt / self.each) + 1)
        fewest = 0
        while fewest < most:
            middle = (fewest + most + 1) // 2
            if self.percentile(middle, dt, percent) <= target:
                fewest = middle
            else:
                most = middle - 1
        return fewest


def servers_for(cameras: int, per_server: int, headroom: float) -> int | None:
    """Return how many servers carry a number of cameras.

    Args:
        cameras: How many there are.
        per_server: How many one server carries at the target latency.
        headroom: Share of a server that is kept free, for one that fails and for busy hours.

    Returns:
        None if a server that keeps its headroom carries none.
    """
    usable = int(per_server * (1 - headroom))
    return -(-cameras // usable) if usable else None
