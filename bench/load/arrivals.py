"""When requests of an open loop are meant to be sent, whatever the server does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def camera_arrivals(cameras: int, dt: float, seconds: float, random: np.random.Generator) -> Times:
    """Return when cameras send, each every `dt` seconds from a moment of its own.

    Args:
        cameras: How many.
        dt: From one request of a camera to its next, seconds.
        seconds: How long.
        random: Draws the moments at which cameras start.

    Returns:
        Seconds from the start, in order.
    """
    phases = np.sort(random.uniform(0.0, dt, cameras))
    turns = np.arange(int(np.ceil(seconds / dt)))[:, None] * dt
    times = (turns + phases).ravel()
    return times[times < seconds]


def poisson_arrivals(rate: float, seconds: float, random: np.random.Generator) -> Times:
    """Return when requests come that know nothing of each other.

    Args:
        rate: Requests a second, on average.
        seconds: How long.
        random: Draws the moments.

    Returns:
        Seconds from the start, in order.
    """
    # Given their number, the moments of a Poisson process are uniform.
    return np.sort(random.uniform(0.0, seconds, random.poisson(rate * seconds)))
