"""Bounded counting: latencies of the last minutes, histograms, counts by name."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque

from fgmclip.client.gateway.snapshot import HistogramSnapshot

LATENCY_BOUNDS = (0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30)
"""Seconds; fine about dt + 0.25 s, the latency that a live camera should keep."""

OTHER = "other"
"""Counts what has more different names than a tally keeps."""


class Histogram:
    """Counts durations in buckets; takes the same room however many come."""

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        """Start empty.

        Args:
            bounds: Upper bounds of the buckets, seconds, rising.
        """
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def snapshot(self) -> HistogramSnapshot:
        """Return a copy."""
        return HistogramSnapshot(self._bounds, tuple(self._counts), self._sum)


class RecentLatencies:
    """Latencies of the last minutes, for percentiles and a rate."""

    WINDOW_SECONDS = 120.0
    RATE_SECONDS = 10.0
    MOST = 4096

    def __init__(self) -> None:
        """Start empty."""
        self._kept: deque[tuple[float, float]] = deque(maxlen=self.MOST)

    def add(self, now: float, seconds: float) -> None:
        """Keep one latency.

        Args:
            now: Monotonic seconds.
            seconds: The latency.
        """
        self._kept.append((now, seconds))

    def percentiles(self, now: float) -> tuple[float, float] | None:
        """Return the 50th and the 95th percentile by nearest rank; None without a latency."""
        while self._kept and self._kept[0][0] < now - self.WINDOW_SECONDS:
            self._kept.popleft()
        if not self._kept:
            return None
        rising = sorted(seconds for _, seconds in self._kept)
        return self._rank(rising, 0.5), self._rank(rising, 0.95)

    def rate(self, now: float, since: float) -> float:
        """Return how many came a second of late.

        Args:
            now: Monotonic seconds.
            since: When counting began; until `RATE_SECONDS` after it, the rate is over less.
        """
        begin = max(now - self.RATE_SECONDS, since)
        if len(self._kept) == self.MOST:
            # Those that were pushed out are missing from the count, so from the time as well.
            begin = max(begin, self._kept[0][0])
        count = 0
        for at, _ in reversed(self._kept):
            if at <= begin:
                break
            count += 1
        return count / max(now - begin, 1.0)

    @staticmethod
    def _rank(rising: list[float], part: float) -> float:
        return rising[math.ceil(part * len(rising)) - 1]


class Tally:
    """Counts by name; names beyond a number share one count, so that nothing grows."""

    def __init__(self, most: int) -> None:
        """Start empty.

        Args:
            most: Names that have a count of their own.
        """
        self._most = most
        self._counts: dict[str, int] = {}

    def add(self, name: str, count: int = 1) -> None:
        """Count under a name."""
        if name not in self._counts and len(self._counts) >= self._most:
            name = OTHER
        self._counts[name] = self._counts.get(name, 0) + count

    def snapshot(self) -> dict[str, int]:
        """Return a copy."""
        return dict(self._counts)
