"""What is a time and what is not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fgmclip.client import SettingsError, Timeouts


def test_times_are_kept_as_given() -> None:
    timeouts = Timeouts(connect_seconds=1, request_seconds=0.25)
    assert (timeouts.connect_seconds, timeouts.request_seconds) == (1, 0.25)


@pytest.mark.parametrize("field", ["connect_seconds", "request_seconds"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, 100_000, None, True, "5"])
def test_what_is_no_time_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=f"^{field}: expected seconds above 0"):
        Timeouts(**{field: value})


def test_two_numbers_cannot_change_places() -> None:
    with pytest.raises(TypeError):
        Timeouts(5.0, 60.0)  # type: ignore[call-arg]
