"""`Backoff`: how long to wait before the next attempt."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.5
LAST_SECONDS = 30.0


class Backoff:
    """Doubles the wait with each failure, with jitter, so that cameras do not come all at once."""

    def __init__(self) -> None:
        """Start with the shortest wait."""
        self._failures = 0

    def next(self) -> float:
        """Return the seconds until the next attempt: a half to the whole of what is due."""
        due = min(LAST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return due * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin again with the shortest wait: the attempt held."""
        self._failures = 0
