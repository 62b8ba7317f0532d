"""The largest number of cameras at a target latency, by measuring at few numbers of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_CLOSE = 0.04
"""Numbers of cameras closer together than this, relatively, are not told apart."""

_FURTHER = 1.25


@dataclass(frozen=True, slots=True)
class Carried:
    """How many cameras are carried.

    Attributes:
        cameras: Largest number that was measured within the target, with all smaller ones; 0 if
            none was.
        beyond: Smallest number that was measured beyond the target; None if none was.
    """

    cameras: int
    beyond: int | None

    def __str__(self) -> str:
        """Return the number, and what is known of larger ones where that is not the next."""
        if self.beyond is None:
            return f"at least {self.cameras}"
        return f"{self.cameras}" + ("" if self.beyond == self.cameras + 1 else f" (<{self.beyond})")


def carried(p95: Mapping[int, float], target: float) -> Carried:
    """Return what measured points say.

    Args:
        p95: Seconds, by the number of cameras.
        target: Seconds.
    """
    beyond = min((count for count, value in p95.items() if value > target), default=None)
    within = (count for count in p95 if beyond is None or count < beyond)
    return Carried(max(within, default=0), beyond)


def search(
    measure: Callable[[int], float], p95: dict[int, float], target: float, steps: int
) -> Carried:
    """Narrow down the largest number of cameras within the target.

    Args:
        measure: Returns the p95 of some cameras, seconds.
        p95: Points that were measured; those of the search are added.
        target: Seconds.
        steps: Points that are measured at most.
    """
    for _ in range(steps):
        found = carried(p95, target)
        if found.beyond is None:
            cameras = max(found.cameras + 1, round(found.cameras * _FURTHER))
        elif found.beyond - found.cameras <= max(1.0, _CLOSE * found.cameras):
            break
        else:
            cameras = (found.cameras + found.beyond) // 2
        p95[cameras] = measure(cameras)
    return carried(p95, target)


def crossing(p95: Mapping[int, float], target: float) -> float | None:
    """Return the number of cameras, not whole, at which p95 passes the target.

    Between points p95 is taken to grow by the same factor for each camera. More cameras wait no
    shorter: neighbours that say otherwise are noise, and each of them gets their mean (isotonic
    regression, by pooling adjacent violators).

    Args:
        p95: Seconds, by the number of cameras; infinite where too many were refused.
        target: Seconds.

    Returns:
        None if no points lie on both sides of the target.
    """
    p95 = _growing(p95)
    found = carried(p95, target)
    if found.beyond is None or not found.cameras:
        return None
    below, above = p95[found.cameras], p95[found.beyond]
    if not np.isfinite(above):
        return (found.cameras + found.beyond) / 2
    share = np.log(target / below) / np.log(above / below)
    return float(found.cameras + share * (found.beyond - found.cameras))


def _growing(p95: Mapping[int, float]) -> dict[int, float]:
    pools: list[list[int]] = []
    means: list[float] = []
    for count in sorted(p95):
        pools.append([count])
        means.append(float(np.log(p95[count])))
        while len(means) > 1 and means[-2] > means[-1]:
            later, pool = means.pop(), pools.pop()
            sizes = len(pools[-1]), len(pool)
            means[-1] = float(np.average([means[-1], later], weights=sizes))
            pools[-1] += pool
    return {
        count: float(np.exp(mean))
        for pool, mean in zip(pools, means, strict=True)
        for count in pool
    }
