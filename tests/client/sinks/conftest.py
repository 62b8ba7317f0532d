"""Events to deliver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from fgmclip.client.events.event import Event, event_id


@pytest.fixture(scope="session")
def make_event() -> Callable[..., Event]:
    """Make an open event; any field can be given."""

    def make(number: int = 1, **fields: object) -> Event:
        event = Event(
            id=event_id("door", None, "hug", number, "wall", "m"),
            camera="door",
            track=None,
            label="hug",
            start=float(number),
            end=None,
            peak=0.9,
            peak_time=number + 0.5,
            state="open",
            clock="wall",
            model_tag="m",
        )
        return replace(event, **fields)  # type: ignore[arg-type]

    return make
