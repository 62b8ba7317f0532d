"""Bursts, such as HLS sends a segment at a time, played at the pace at which they were taken."""

from __future__ import annotations

BURST_SECONDS = 0.5
"""Frames that come so much ahead of their time come in bursts; less is a network's jitter."""

HOLD_SECONDS = 6.0
"""Playing stays behind by the largest delay of this time: what comes regularly is waited for."""

CATCH_UP = 0.5
"""Seconds a second by which playing hurries where it stayed behind for no reason of late."""


class BurstPacer:
    """Says how long a frame is to wait before it is handed on.

    Frames are due as long after their time as the latest of late frames came. A source that sends
    them as they are taken is never held up: nothing waits until a frame comes `BURST_SECONDS`
    before it is due. From then on each waits until it is due, so that a segment's frames come one
    by one while the next segment is made. Whoever waits reads no further, so what is to come stays
    with the network, which is bounded.

    What is waited for may have been one bad moment of the network, or pictures that a camera kept
    for whoever connects. So playing hurries, `CATCH_UP` faster than time, once no frame came late
    for `HOLD_SECONDS`, until one does: it ends up as close to the present as the source allows.
    """

    def __init__(self) -> None:
        """Start before the first frame of a run."""
        self._behind: float | None = None
        self._late_at = self._last = 0.0
        self._bursts = False

    def wait(self, time: float, arrived: float) -> float:
        """Return for how many seconds to hold a frame back; 0 or more.

        Args:
            time: Seconds since the first frame of its run; must increase.
            arrived: When it came, in seconds on any clock that advances.
        """
        delay = arrived - time
        if self._behind is None or delay >= self._behind:
            self._behind, self._late_at = delay, arrived
        elif arrived - self._late_at > HOLD_SECONDS:
            hurry = CATCH_UP * (arrived - max(self._last, self._late_at + HOLD_SECONDS))
            self._behind = max(delay, self._behind - hurry)
        self._last = arrived
        ahead = self._behind - delay
        self._bursts = self._bursts or ahead > BURST_SECONDS
        return ahead if self._bursts else 0.0
