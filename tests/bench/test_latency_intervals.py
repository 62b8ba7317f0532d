"""Intervals of medians and ratios: they hold another run's figure, and narrow with more rounds."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from fgmclip.bench.cost.intervals import BETWEEN_RUNS, interval, paired

SIGMA = 0.06


def rounds(seed: int, count: int, *, sigma: float = SIGMA) -> list[float]:
    """Return figures around 100 whose logarithms are half noise and half a slow wave."""
    random = np.random.default_rng(seed)
    drift = np.zeros(count)
    for index in range(1, count):
        drift[index] = 0.7 * drift[index - 1] + random.normal(0, sigma / 2)
    level = random.normal(0, BETWEEN_RUNS)
    figures = 100 * np.exp(level + drift + random.normal(0, sigma, count))
    return [float(figure) for figure in figures]


@pytest.mark.parametrize("count", [4, 6, 10, 20])
def test_nine_of_ten_other_runs_lie_inside(count: int) -> None:
    runs = [interval(rounds(seed, count), resamples=400) for seed in range(200)]
    inside = [run.low <= other.value <= run.high for run, other in pairwise(runs)]
    assert np.mean(inside) >= 0.9


def test_more_rounds_make_it_narrower() -> None:
    def width(count: int) -> float:
        return float(np.mean([interval(rounds(seed, count)).half_width for seed in range(10)]))

    few, some, many = width(5), width(15), width(60)
    assert few > some > many
    assert many < 0.1


def test_a_ratio_and_its_inverse_have_the_same_interval() -> None:
    figures = rounds(1, 12)
    one, other = interval(figures), interval([1 / figure for figure in figures])
    assert other.value == pytest.approx(1 / one.value, rel=1e-3)
    assert other.low == pytest.approx(1 / one.high, rel=1e-3)
    assert other.high == pytest.approx(1 / one.low, rel=1e-3)


def test_rounds_that_all_agree_still_allow_for_another_run() -> None:
    found = interval([5.0] * 10)
    assert found.value == pytest.approx(5.0)
    assert found.half_width == pytest.approx(math.sqrt(2) * 1.96 * BETWEEN_RUNS, rel=0.02)


def test_two_rounds_say_nothing_about_how_far_rounds_differ() -> None:
    with pytest.raises(ValueError, match="expected 3 rounds or more, got 2"):
        interval([2.0, 2.1])


def test_the_same_rounds_have_the_same_interval() -> None:
    assert interval(rounds(3, 9)) == interval(rounds(3, 9))


def test_pairing_takes_out_what_slows_both() -> None:
    slow = np.exp(np.random.default_rng(0).normal(0, 0.3, 20))
    ratios = paired(list(10 * slow), list(2 * slow))
    assert ratios == pytest.approx([5.0] * 20)


def test_one_outlier_in_eight_changes_nothing() -> None:
    usual = [99.0, 100.0, 101.0, 100.0, 99.0, 101.0, 100.0]
    assert interval([*usual, 1e6]).value == pytest.approx(interval([*usual, 101.0]).value)


def test_a_machine_of_two_states_is_found_alike_by_another_run() -> None:
    def middle(seed: int) -> float:
        slow = np.random.default_rng(seed).random(16) < 0.5
        return math.log(interval(list(np.where(slow, 1.1, 1.0)), resamples=10).value)

    def median(seed: int) -> float:
        slow = np.random.default_rng(seed).random(16) < 0.5
        return math.log(float(np.median(np.where(slow, 1.1, 1.0))))

    assert np.std(list(map(middle, range(200)))) < 0.8 * np.std(list(map(median, range(200))))
