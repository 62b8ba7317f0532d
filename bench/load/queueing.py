"""A queueing model of a server: what waits is served together, and a batch takes a + w b.

So it is in this repository: one instance of each engine, a dynamic batcher that waits for nobody
and merges what has come while the engine was busy. Requests that arrive during a batch form the
next one. The whole chain is one such server, since its steps share the cores. Replicas on one
machine share them too: w needs all of them, a some, and together they get no more than there are.
There is no formula for periodic arrivals of many cameras at such a server: the model is run
instead, which takes milliseconds.
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
"""Requests of each camera in a draw; the first sixth does not count. More than a measured run has:
beyond saturation, what waits grows longer here than there."""

MOST_CAMERAS = 100_000
"""Where the search for the largest number of cameras ends."""


@dataclass(slots=True)
class _Batch:
    """A batch that is served.

    Attributes:
        requests: Which.
        fixed: Seconds until its fixed part is done, if nobody else were served.
        each: Seconds until its requests are, after that.
    """

    requests: list[int]
    fixed: float
    each: float

    @property
    def step(self) -> float:
        """Seconds to the end of what it is at, if nobody else were served."""
        return self.fixed if self.fixed > 0 else self.each

    def ended_after(self, seconds: float) -> bool:
        """Serve it for so long, at most its `step`, and return whether it has ended."""
        if self.fixed > 0:
            self.fixed -= seconds
            return False
        self.each -= seconds
        return self.each <= 0


@dataclass(frozen=True, slots=True)
class BatchServer:
    """Server of batches; `fixed` + b `each` seconds for b requests.

    Attributes:
        fixed: a, seconds of a batch however large: what merging saves.
        each: w, seconds of each request in it; 1 / w requests a second is all that it can do.
        largest: Requests of a batch at most.
        replicas: Servers that share the machine; requests go to them in turn.
        shared: Share of the machine that a batch's fixed part needs.
    """

    fixed: float
    each: float
    largest: int = 64
    replicas: int = 1
    shared: float = 1.0

    def in_flight_seconds(self, concurrency: int) -> float:
        """Return the latency of requests of which so many are always in flight."""
        # All that a server has in flight is one batch; its replicas' batches keep step with it.
        return max(1.0, self.replicas * self.shared) * self.fixed + self.each * concurrency

    def latencies(self, arrivals: Times) -> NDArray[np.float64]:
        """Return the seconds from each arrival to its answer.

        Args:
            arrivals: Seconds, in order.
        """
        # Plain lists: arrays as short as the number of replicas would take ten times as long.
        times, done = arrivals.tolist(), np.empty(len(arrivals))
        queues: list[list[int]] = [[] for _ in range(self.replicas)]
        busy: dict[int, _Batch] = {}
        now, coming = 0.0, 0
        while coming < len(times) or busy:
            demand = sum(self.shared if batch.fixed > 0 else 1.0 for batch in busy.values())
            speed = 1 / max(1.0, demand)
            step = min((batch.step for batch in busy.values()), default=inf)
            ends = now + step / speed
            arrives = times[coming] if coming < len(times) else inf
            if arrives < ends:
                step, now = (arrives - now) * speed, arrives
                queues[coming % self.replicas].append(coming)
                coming += 1
            else:
                now = ends
            for server, batch in list(busy.items()):
                if batch.ended_after(step):
                    done[batch.requests] = now
                    del busy[server]
            for server, queue in enumerate(queues):
                if queue and server not in busy:
                    taken = queue[: self.largest]
                    del queue[: self.largest]
                    busy[server] = _Batch(taken, self.fixed, self.each * len(taken))
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
    # 0.7 x 90 is a little less than 63 in doubles.
    usable = int(per_server * (1 - headroom) + 1e-9)
    return -(-cameras // usable) if usable else None
