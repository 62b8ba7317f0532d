"""From a container's timestamps to times that always advance."""

from __future__ import annotations

from fractions import Fraction

RESET_SECONDS = 1
"""A clock that falls back by this much was reset; by less, one timestamp is wrong."""

LEAP_SECONDS = 10**9
"""A clock that leaps ahead by this much, 30 years, was reset too."""

PATIENCE_FRAMES = 10
"""After so many frames without progress the timestamps are taken as unusable."""


class PresentationClock:
    """Gives each frame, in presentation order, a time in seconds since the first one.

    The rules, in order:

    1. A missing timestamp is the previous time plus the previous frame's nominal duration.
    2. A timestamp that advances by less than `LEAP_SECONDS` is taken as it is: the grid reports
       gaps.
    3. A timestamp that repeats or steps back by less than `RESET_SECONDS` is dropped with its
       frame: encoders repeat frames to keep a rate, and two pictures cannot share a time.
    4. A larger step either way, or `PATIENCE_FRAMES` frames in a row without progress, mean a
       clock that was reset or stands still. The frame follows its predecessor by the nominal
       duration, and later timestamps count from there.

    Times are exact fractions inside, so that hours of video add no rounding.
    """

    def __init__(self, time_base: Fraction, period: Fraction) -> None:
        """Start a clock.

        Args:
            time_base: Seconds of one timestamp unit.
            period: Nominal duration of a frame that states none, in seconds.
        """
        self._time_base = time_base
        self._default_period = period
        self._period = period
        self._last: Fraction | None = None
        self._offset: Fraction | None = None
        self._stalled = 0

    def advance(self, timestamp: int | None, duration: int) -> float | None:
        """Return the next frame's time in seconds, or None if the frame is to be dropped.

        Args:
            timestamp: Presentation timestamp in units of the time base, or None if missing.
            duration: The frame's duration in the same units; 0 if unknown.
        """
        following = Fraction(0) if self._last is None else self._last + self._period
        if timestamp is None:
            time = following
        else:
            stamp = timestamp * self._time_base
            if self._offset is None:
                self._offset = stamp - following
            time = stamp - self._offset
            step = None if self._last is None else time - self._last
            if step is None or 0 < step < LEAP_SECONDS:
                self._stalled = 0
            else:
                self._stalled += 1
                if -RESET_SECONDS < step <= 0 and self._stalled < PATIENCE_FRAMES:
                    return None
                time = following
                self._offset = stamp - following
        self._last = time
        self._period = duration * self._time_base if duration > 0 else self._default_period
        return float(time)
