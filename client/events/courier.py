"""`Courier`: takes what waits in the outbox to one sink, for as long as it takes."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fgmclip.client.errors import ClientError
from fgmclip.client.events.outbox import Outbox, Waiting
from fgmclip.client.sinks.errors import SinkRefusedError, SinkUnavailableError
from fgmclip.client.sinks.sink import Sink

BATCH = 100
"""Events that a sink is given at once, at most."""

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 30.0

LONGEST_ASKED_SECONDS = 3600.0
"""A receiver that asks to be left alone for longer is asked again nevertheless."""

LEAVE_SECONDS = 5.0
"""How long `stop` waits for a sink in the middle of something once the time to drain is over."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CourierStatus:
    """What a courier has done since it began.

    Attributes:
        sink: Name of the sink.
        delivered: Messages that the sink has.
        refused: Messages that it refused for good.
        failures: Attempts that failed.
        last_error: Why the latest attempt failed, without secrets; empty if it did not.
        waiting: Messages that wait for it in the outbox.
    """

    sink: str
    delivered: int
    refused: int
    failures: int
    last_error: str
    waiting: int


class Courier:
    """A thread that delivers to one sink, in order, at least once."""

    def __init__(self, name: str, sink: Sink, outbox: Outbox) -> None:
        """Start nothing yet.

        Args:
            name: Name of the sink in the outbox.
            sink: Where to deliver; closed by `stop`.
            outbox: Where events wait.
        """
        self._name = name
        self._sink = sink
        self._outbox = outbox
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._again = threading.Event()
        self._drain_until = 0.0
        self._delivered = self._refused = self._failures = 0
        self._last_error = ""
        self._thread = threading.Thread(target=self._run, name=f"courier-{name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._outbox.subscribe(self._name, self._wake.set)
        self._thread.start()

    def hurry(self) -> None:
        """Try again at once: the receiver can be reached, as the sink has noticed."""
        self._again.set()

    def stop(self, drain_seconds: float) -> None:
        """End, and close the sink; what is not delivered stays in the outbox.

        Args:
            drain_seconds: How long to go on while something waits.
        """
        self._drain_until = time.monotonic() + drain_seconds
        self._stop.set()
        self._wake.set()
        self._again.set()
        if self._thread.is_alive():
            self._thread.join(drain_seconds + LEAVE_SECONDS)
        if self._thread.is_alive():
            _log.warning("sink %s: left in the middle of a delivery", self._name)
        self._sink.close()

    def status(self) -> CourierStatus:
        """Return what it has done so far."""
        return CourierStatus(
            self._name,
            self._delivered,
            self._refused,
            self._failures,
            self._last_error,
            self._outbox.waiting(self._name),
        )

    def _run(self) -> None:
        failures = 0
        while True:
            self._wake.clear()
            asked, waiting = 0.0, list[Waiting]()
            try:
                waiting = self._outbox.pending(self._name, BATCH)
                if waiting:
                    self._deliver(waiting)
                failures, self._last_error = 0, ""
            except SinkUnavailableError as error:
                asked = min(error.retry_seconds, LONGEST_ASKED_SECONDS)
                failures = self._failed(failures, str(error))
            except ClientError as error:
                failures = self._failed(failures, str(error))
            except Exception as error:
                # A sink with a fault must lose nothing and stop nobody; its text may hold secrets.
                failures = self._failed(failures, f"failed with {type(error).__name__}")
                _log.debug("sink %s", self._name, exc_info=True)
            if self._stop.is_set() and (not waiting or time.monotonic() >= self._drain_until):
                return
            if failures:
                self._rest(max(asked, retry_seconds(failures)))
            elif not waiting:
                self._wake.wait()

    def _deliver(self, waiting: Sequence[Waiting]) -> None:
        try:
            self._sink.deliver([message.event for message in waiting])
        except SinkRefusedError as error:
            if len(waiting) > 1:
                # One bad message must not take its neighbours along.
                for message in waiting:
                    self._deliver([message])
                return
            self._refused += 1
            _log.error("sink %s refused %s: %s", self._name, waiting[0].event.message_id, error)
            self._outbox.put_aside(self._name, waiting[0], str(error))
            return
        self._delivered += len(waiting)
        self._outbox.delivered(self._name, waiting[-1].sequence)

    def _failed(self, failures: int, cause: str) -> int:
        self._failures += 1
        if cause != self._last_error:
            _log.warning("sink %s: %s; its events wait in the outbox", self._name, cause)
        self._last_error = cause
        return failures + 1

    def _rest(self, seconds: float) -> None:
        """Wait before the next attempt; `hurry` and `stop` cut a wait short."""
        if self._stop.is_set():
            time.sleep(max(0.0, min(seconds, self._drain_until - time.monotonic())))
        elif self._again.wait(seconds):
            self._again.clear()


def retry_seconds(failures: int) -> float:
    """Return how long to wait after so many failures in a row, at least one: with jitter."""
    longest = min(LONGEST_RETRY_SECONDS, FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 16))
    return longest * random.uniform(0.5, 1)
