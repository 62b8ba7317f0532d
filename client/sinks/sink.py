"""`Sink`: where a courier takes events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fgmclip.client.events.event import Event


class Sink(Protocol):
    """A receiver of events; used by one thread, but for `close`."""

    def deliver(self, events: Sequence[Event]) -> None:
        """Return once the receiver has all of the events.

        Args:
            events: At least one, in the order in which they were accepted. What was delivered
                before may come again: receivers drop repeats by `message_id`.

        Raises:
            SinkUnavailableError: Not now; some of them may have arrived.
            SinkRefusedError: Never: at least one of them is refused for good.
        """

    def close(self) -> None:
        """Take leave of the receiver; a second call does nothing."""
