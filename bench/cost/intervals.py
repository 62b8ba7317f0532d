"""Intervals in which another run like this one finds the same figure, 95 times of 100.

A figure is the interquartile mean over rounds: the mean of their middle half. Outliers do not move
it, as they do not move the median; but where a machine is now in one state and now in another, the
median jumps between the two from run to run, and this does not. Rounds next to each other are alike
(a machine is slow for a while), so blocks of consecutive rounds are drawn again, not single ones
(the moving block bootstrap, Kuensch 1989). What is printed is compared with what another run
prints, and that run errs as much as this one: a plain 95 % confidence interval would hold only 83 %
of such figures. So the interval is that of the difference of two runs' figures, about the square
root of two wider. Everything is computed in logarithms, where a ratio and its inverse have the same
interval.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000

LEAST_ROUNDS = 3
"""Fewer say nothing about how far rounds differ."""

Z = 1.959964
"""97.5 % of the normal distribution lie below."""

BETWEEN_RUNS = 0.025
"""Standard deviation, in logarithms, of what does not change within a run but from one to the next.
Measured by `bench/repeatability.py` over two times six runs: what computes in fp32 was up to a
tenth faster in some of them, against what computes in bf16 and int8, and no longer in the next; so
it is the machine (its clocks, its neighbours) and nothing that more rounds would average out. Of
those runs, summed up by medians, 86 and 91 % of the ratios lay inside with 2 %, 90 and 97 % with
this; of five others, summed up as here, all (`bench/results/repeatability.json`)."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and the interval around it.

    Attributes:
        value: Interquartile mean over the rounds.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the width, relative to the value: 0.1 for 10 %."""
        return (self.high - self.low) / 2 / self.value


def interval(rounds: Sequence[float], *, resamples: int = RESAMPLES) -> Interval:
    """Return the interquartile mean of positive figures and its interval.

    Args:
        rounds: One figure a round, in the order of measuring.
        resamples: How often rounds are drawn again.

    Raises:
        ValueError: Fewer than `LEAST_ROUNDS`.
    """
    if len(rounds) < LEAST_ROUNDS:
        raise ValueError(f"expected {LEAST_ROUNDS} rounds or more, got {len(rounds)}")
    logs = np.log(np.asarray(rounds, np.float64))
    value = float(np.exp(_middle(logs)))
    figures = _middle(logs[_blocks(len(logs), resamples)])
    half = len(figures) // 2
    between = figures[:half] - figures[half : 2 * half]
    within = float(np.quantile(np.abs(between), 0.95)) * _few(len(logs) // _length(len(logs)))
    reach = float(np.hypot(within, np.sqrt(2) * Z * BETWEEN_RUNS))
    return Interval(value, value * float(np.exp(-reach)), value * float(np.exp(reach)))


def paired(longer: Sequence[float], shorter: Sequence[float]) -> list[float]:
    """Return the ratios round by round: a slow round slows both sides of its own."""
    return [one / other for one, other in zip(longer, shorter, strict=True)]


def _middle(logs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the means [...] of the middle half of rounds [...,count]."""
    count = logs.shape[-1]
    outer = count // 4
    middle: NDArray[np.float64] = np.sort(logs, axis=-1)[..., outer : count - outer].mean(axis=-1)
    return middle


def _length(count: int) -> int:
    """Return how many rounds a block has."""
    # The bootstrap's error is least for blocks that grow with the third root (Hall et al. 1995).
    return int(np.cbrt(count) + 1e-9)


def _blocks(count: int, resamples: int) -> NDArray[np.int64]:
    """Return the rounds of each resample [resamples,count]."""
    length = _length(count)
    # A seed of its own: the same rounds have the same interval whenever they are looked at.
    random = np.random.default_rng(count)
    starts = random.integers(0, count, (resamples, -(-count // length)))
    # Around the end to the beginning: every round is drawn equally often.
    rounds = (starts[..., None] + np.arange(length)) % count
    return rounds.reshape(resamples, -1)[:, :count]


def _few(count: int) -> float:
    """Return by how much a bootstrap of few blocks is too narrow.

    Variance about its own mean, and Student's distribution instead of the normal one
    (Cornish-Fisher expansion of its quantile).
    """
    freedom = count - 1
    student = Z + (Z**3 + Z) / (4 * freedom) + (5 * Z**5 + 16 * Z**3 + 3 * Z) / (96 * freedom**2)
    return float(np.sqrt(count / freedom) * student / Z)
