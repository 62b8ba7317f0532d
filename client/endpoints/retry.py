"""When a request is sent again: `RetryBudget` and `backoff_seconds`."""

from __future__ import annotations

import random
import threading

CAPACITY = 100.0
"""Retries that may follow each other without one success: each of many cameras gets a second try
when a server dies under them."""

REFUND = 0.1
"""What a success gives back: in the long run at most a tenth of the requests are retries."""

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 2.0


class RetryBudget:
    """A token bucket over all cameras, so that an outage does not become a storm.

    A retry costs one token, a success gives back a tenth of one, as in gRPC's retry throttling.
    """

    def __init__(self, capacity: float = CAPACITY) -> None:
        """Start full.

        Args:
            capacity: Most tokens that it holds.
        """
        self._capacity = capacity
        self._tokens = capacity
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take a token for a retry; return whether there was one."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def success(self) -> None:
        """Give a part of a token back."""
        with self._lock:
            self._tokens = min(self._capacity, self._tokens + REFUND)


def backoff_seconds(retry: int) -> float:
    """Return how long to wait before a retry: drawn evenly from an interval that doubles.

    Args:
        retry: 0 for a decision's first one.
    """
    # The exponent is bounded because a float's is.
    return random.uniform(0, min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(retry, 16)))
