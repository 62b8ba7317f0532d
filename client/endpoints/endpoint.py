"""`Endpoint`: one of several servers, what is known of its health, and its slots."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from tritonclient.grpc import service_pb2

from fgmclip.client.endpoints.errors import TurnedAwayError
from fgmclip.client.endpoints.fairness import FairGate
from fgmclip.client.errors import (
    ClientError,
    ConnectError,
    ModelNotFoundError,
    OverloadedError,
    RequestTimeoutError,
)
from fgmclip.client.transport import GrpcTransport, Transport

HOLD_SECONDS, LONGEST_HOLD_SECONDS = 1.0, 60.0
"""How long a server that failed is the last choice although it says that it is ready: at first, and
at most. The time doubles while it goes on failing, so one that accepts requests and answers none
does not cost each camera a deadline a second."""

UNAVAILABLE = (ConnectError, RequestTimeoutError, ModelNotFoundError)
"""What says that a server cannot be used; `OverloadedError` among them does not."""

Answer = TypeVar("Answer")


class CheckedTransport(Transport, Protocol):
    """A transport that can be asked whether its server is ready."""

    def ready(self, model: str, *, timeout_seconds: float) -> bool:
        """Return whether server and model take requests; raises what `infer` raises."""


class CheckedGrpcTransport(GrpcTransport):
    """`GrpcTransport` with health checks on the same channel, which they also reconnect."""

    def ready(self, model: str, *, timeout_seconds: float) -> bool:
        """Return whether server and model take requests; raises what `infer` raises."""
        server = service_pb2.ServerReadyRequest()
        if not self._call(self._stub.ServerReady, server, timeout_seconds, model).ready:
            return False
        asked = service_pb2.ModelReadyRequest(name=model)
        return bool(self._call(self._stub.ModelReady, asked, timeout_seconds, model).ready)


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What metrics say of an endpoint.

    Attributes:
        url: `HOST:PORT`.
        healthy: Whether it is used.
        requests: Requests sent, retries included.
        failures: Those of them that no answer came to, overload included.
        retries: Those of them that had been sent before, here or elsewhere.
        in_flight: Requests that are out now.
        waiting: Requests that wait for a slot.
    """

    url: str
    healthy: bool
    requests: int
    failures: int
    retries: int
    in_flight: int
    waiting: int


class Endpoint:
    """One server; all of it may be called from any thread.

    It is out of use until its first health check, and from a failure on until a check that began
    after the failure says that it is ready.

    Attributes:
        url: `HOST:PORT`.
        transport: The way to it.
        checked: Whether it was checked at all.
        ready: Whether it is in use.
        fault: Why it was last found not to be, in one line.
    """

    def __init__(
        self, url: str, transport: CheckedTransport, slots: int, changed: threading.Condition
    ) -> None:
        """Take a server over, not yet checked.

        Args:
            url: `HOST:PORT`.
            transport: The way to it.
            slots: Requests that it is given at once.
            changed: Guards the health of all endpoints; notified when one is found ready or was
                checked for the first time.
        """
        self.url = url
        self.transport = transport
        self.checked = False
        self.ready = False
        self.fault = "not checked yet"
        self._gate = FairGate(slots)
        self._changed = changed
        self._outages = 0
        self._in_a_row = 0
        self._held_until = 0.0
        self._requests = self._failures = self._retries = 0

    @property
    def held(self) -> bool:
        """Whether others are to be preferred, because it failed not long ago."""
        return time.monotonic() < self._held_until

    def status(self) -> EndpointStatus:
        """Return the counts so far."""
        with self._changed:
            return EndpointStatus(
                self.url,
                self.ready,
                self._requests,
                self._failures,
                self._retries,
                self._gate.in_flight,
                self._gate.waiting,
            )

    def check(self, model: str, timeout_seconds: float) -> None:
        """Ask the server whether it is ready and believe it.

        Args:
            model: Must be ready as well.
            timeout_seconds: Deadline of each question.
        """
        outages, fault = self._outages, "it says that it is not ready"
        try:
            ready = self.transport.ready(model, timeout_seconds=timeout_seconds)
        # ValueError is what gRPC raises when the channel is closed at this moment.
        except (ClientError, ValueError) as error:
            ready, fault = False, str(error)
        if not ready:
            self.put_out_of_use(fault, outages)
        with self._changed:
            # A failure while the question was out knows better.
            if ready and outages == self._outages:
                self.ready = True
            self.checked = True
            self._changed.notify_all()

    def ask(
        self,
        key: str,
        work: float,
        call: Callable[[Endpoint, float], Answer],
        seconds: float,
        left: Callable[[], float],
        *,
        retry: bool,
    ) -> Answer:
        """Wait for a slot, send a request and return its answer.

        Args:
            key: The camera.
            work: Frames to encode.
            call: Sends the request to this server, with that many seconds for the answer.
            seconds: How long a slot, and then the answer, may take.
            left: Returns how many seconds the decision still has.
            retry: Whether the request was sent before.

        Raises:
            ClientError: What the transport raises; `NoSlotError` if there was no slot in time,
                `TurnedAwayError` if the server went out of use meanwhile.
        """
        if not self._gate.enter(key, work, min(seconds, left())):
            raise TurnedAwayError(f"{self.url} went out of use while requests waited for it")
        try:
            return self._send(call, seconds, left(), retry)
        finally:
            self._gate.leave()

    def put_out_of_use(self, fault: str, outages: int | None = None) -> None:
        """Send nothing more until a health check says so, and turn away who waits.

        Args:
            fault: Why, in one line.
            outages: How many there had been when the sign of the failure was asked for: an old
                sign says nothing of a server that came back since. None for a sign of now.
        """
        with self._changed:
            if outages not in (None, self._outages):
                return
            self.fault = fault
            if not self.ready:
                return
            self.ready = False
            self._outages += 1
            hold = min(LONGEST_HOLD_SECONDS, HOLD_SECONDS * 2 ** min(self._in_a_row, 16))
            self._in_a_row += 1
            self._held_until = time.monotonic() + hold
        self._gate.turn_away()

    def _send(
        self, call: Callable[[Endpoint, float], Answer], seconds: float, left: float, retry: bool
    ) -> Answer:
        with self._changed:
            if not self.ready:
                raise TurnedAwayError(f"{self.url} went out of use while requests waited for it")
            outages = self._outages
            self._requests += 1
            self._retries += retry
        try:
            answer = call(self, max(0.001, min(seconds, left)))
        except ClientError as error:
            with self._changed:
                self._failures += 1
            # An answer that was given less than its time says nothing of the server.
            hurried = isinstance(error, RequestTimeoutError) and left < seconds
            if isinstance(error, UNAVAILABLE) and not (
                hurried or isinstance(error, OverloadedError)
            ):
                self.put_out_of_use(str(error), outages)
            raise
        self._in_a_row = 0
        return answer
