"""Give up waiting for an answer without cancelling its request.

A deadline of gRPC cancels the request on the server when it passes, and so does a channel that is
closed under it. Triton before 25.08 may die of that with all that it serves
(https://github.com/triton-inference-server/server issues 7368 and 8034, pull requests 7840, 8078
and 8220). Of such a server the answer is still taken, by nobody; the caller is told in time.
"""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fgmclip.client.errors import ClientError, OverloadedError

CANCELS_SINCE = (2, 60)
"""Triton 25.08: the first version whose requests may be cancelled. The last of the fixes above was
merged in May 2025."""

MOST = 4
"""Requests whose time ran out that one connection leaves to a server; no other is sent before. More
of them only make every later answer late as well."""

PATIENCE_SECONDS = 120.0
"""How long after its time a request is cancelled after all: its server is lost by then."""

EXIT_SECONDS = 10.0
"""How long a program that ends waits for such answers."""

_busy: set[PendingCalls] = set()
_changed = threading.Condition()


def may_cancel(name: str, version: str) -> bool:
    """Return whether a server survives it when a request is cancelled.

    Args:
        name: Of the server, as its metadata says.
        version: Of the server. What cannot be read may be any.
    """
    numbers = version.split(".")[:2]
    known = name == "triton" and len(numbers) == 2 and all(text.isdecimal() for text in numbers)
    return known and tuple(map(int, numbers)) >= CANCELS_SINCE


def backlog_error(url: str) -> OverloadedError:
    """Return the error of a request that was not sent because too many are unanswered."""
    return OverloadedError(
        f"{url} still works at {MOST} requests whose time ran out; send less, go on with the "
        "latest frames, or give it more machines"
    )


class PendingCalls:
    """The calls of one connection, those included that nobody waits for any more.

    Safe to share between threads.
    """

    def __init__(self, url: str, close: Callable[[], None]) -> None:
        """Begin without calls.

        Args:
            url: The server, for errors.
            close: Closes the connection, which cancels what is out.
        """
        self._url = url
        self._close = close
        self._closed = False
        self._waiters: set[threading.Event] = set()
        self._left: set[Any] = set()

    def wait(
        self, start: Callable[[], Any], seconds: float, late: Callable[[], ClientError]
    ) -> Any:
        """Start a call, as soon as not too many are unanswered, and return its answer.

        Args:
            start: Starts it and returns its future.
            seconds: How long to wait, for both.
            late: Returns the error for an answer that does not come in that time, or that the
                closed connection cut off.

        Raises:
            OverloadedError: The server answered too few of the requests whose time had run out.
            grpc.RpcError: The call failed.
        """
        deadline = time.monotonic() + seconds
        done = threading.Event()
        with _changed:
            if not _changed.wait_for(lambda: self._closed or len(self._left) < MOST, seconds):
                raise backlog_error(self._url)
            if self._closed:
                raise late()
            self._waiters.add(done)
        call = None
        try:
            call = start()
            call.add_done_callback(lambda _: done.set())
            done.wait(deadline - time.monotonic())
        finally:
            # Also where Ctrl-C ends the wait.
            if call is not None and not call.done():
                self._leave(call)
            with _changed:
                self._waiters.discard(done)
            if self._closed:
                self._close_if_idle()
        if call.done():
            return call.result()
        raise late()

    def close(self) -> None:
        """Turn those who wait away and close the connection as soon as no call is out."""
        with _changed:
            self._closed = True
            waiters = tuple(self._waiters)
            _changed.notify_all()
        for waiter in waiters:
            waiter.set()
        self._close_if_idle()

    def _leave(self, call: Any) -> None:
        with _changed:
            # A call that nothing refers to is cancelled by gRPC.
            self._left.add(call)
            _busy.add(self)
        call.add_done_callback(self._ended)

    def _ended(self, call: Any) -> None:
        with _changed:
            self._left.discard(call)
            if not self._left:
                _busy.discard(self)
            _changed.notify_all()
        if self._closed:
            # Not from here: this is the thread that a channel waits for when it is closed.
            threading.Thread(target=self._close_if_idle, daemon=True).start()

    def _close_if_idle(self) -> None:
        with _changed:
            idle = not self._left and not self._waiters
        if idle:
            self._close()


@atexit.register
def _wait_for_answers() -> None:
    """Keep a program that ends from cutting off what its servers still work at."""
    deadline = time.monotonic() + EXIT_SECONDS
    # Ctrl-C once more: whoever is at the keyboard knows better.
    with suppress(KeyboardInterrupt), _changed:
        while _busy and _changed.wait(deadline - time.monotonic()):
            pass
