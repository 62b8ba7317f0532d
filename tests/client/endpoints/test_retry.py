"""`RetryBudget` and `backoff_seconds`: an outage is no storm."""

from __future__ import annotations

import pytest

from fgmclip.client.endpoints.retry import (
    CAPACITY,
    LONGEST_SECONDS,
    RetryBudget,
    backoff_seconds,
)


def test_an_outage_ends_the_retries() -> None:
    budget = RetryBudget()
    retries = sum(budget.spend() for _ in range(10_000))
    assert retries == CAPACITY


def test_ten_successes_pay_for_one_retry() -> None:
    budget = RetryBudget(3)
    while budget.spend():
        pass
    for _ in range(9):
        budget.success()
    assert not budget.spend()
    for _ in range(2):
        budget.success()
    assert budget.spend()
    assert not budget.spend()


def test_successes_are_not_saved_up() -> None:
    budget = RetryBudget(2)
    for _ in range(1000):
        budget.success()
    assert sum(budget.spend() for _ in range(10)) == 2


@pytest.mark.parametrize(("retry", "longest"), [(0, 0.05), (2, 0.2), (5, 1.6), (9, 2), (5000, 2)])
def test_waits_grow_and_differ(retry: int, longest: float) -> None:
    waits = [backoff_seconds(retry) for _ in range(500)]
    assert 0 <= min(waits) < 0.2 * longest
    assert 0.8 * longest < max(waits) <= longest <= LONGEST_SECONDS
    assert len(set(waits)) > 400
