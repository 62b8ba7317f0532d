"""`EndpointPool`: several servers behind the `Transport` of each camera.

Any server can answer any request, since streams keep their own history; so a request that one
server lost may go to another. A camera keeps to one server while that is in use, because two
servers may be at different releases while an update rolls over them.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TypeVar

from fgmclip.client.endpoints.endpoint import (
    UNAVAILABLE,
    CheckedGrpcTransport,
    CheckedTransport,
    Endpoint,
    EndpointStatus,
)
from fgmclip.client.endpoints.errors import NoEndpointError, TurnedAwayError
from fgmclip.client.endpoints.retry import RetryBudget, backoff_seconds
from fgmclip.client.errors import (
    ClientError,
    ConnectError,
    OverloadedError,
    ServerError,
    SettingsError,
)
from fgmclip.client.messages import NO_PARAMETERS, Parameters, Tensors
from fgmclip.client.streams.requests import EDGE_MODEL
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.transport import Transport

MANIFEST_WORK = 0.0
"""Frames that the server encodes to tell its manifest."""

Answer = TypeVar("Answer")


class EndpointPool:
    """Servers with health checks, failover, retries under a budget, and fairness among cameras.

    Safe to share between threads. Use it in a `with` statement, or `close` it.

    Example:
        ```python
        with EndpointPool(["gpu1:8001", "gpu2:8001"]) as pool:
            client = ActionClient("gpu1:8001", transport=pool.transport("entrance"))
            session = StreamSession(client, edge=True)
        ```
    """

    def __init__(
        self,
        urls: Sequence[str],
        timeouts: Timeouts | None = None,
        *,
        decision_seconds: float = 30.0,
        health_seconds: float = 1.0,
        in_flight: int = 4,
        connect: Callable[[str, Timeouts], CheckedTransport] = CheckedGrpcTransport,
    ) -> None:
        """Begin to check the servers; requests may be sent at once.

        Args:
            urls: `HOST:PORT` of each server's gRPC endpoint.
            timeouts: How long a health check may take (`connect_seconds`); the defaults of
                `Timeouts` if None.
            decision_seconds: How long a request may take with its retries, waits included.
            health_seconds: Time between two health checks of a server.
            in_flight: Requests that one server is given at once.
            connect: Opens the way to one server; over gRPC by default.

        Raises:
            SettingsError: No address, one given twice, or one that is not `HOST:PORT`.
        """
        if not urls or len(set(urls)) < len(urls):
            raise SettingsError(
                f"urls: expected one address or more, each once, got {', '.join(urls) or 'none'}"
            )
        timeouts = timeouts or Timeouts()
        self._decision_seconds = decision_seconds
        self._health_seconds = health_seconds
        self._check_seconds = timeouts.connect_seconds
        self._budget = RetryBudget()
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._endpoints: list[Endpoint] = []
        try:
            for url in urls:
                transport = connect(url, timeouts)
                self._endpoints.append(Endpoint(url, transport, in_flight, self._changed))
        except SettingsError:
            self._close_transports()
            raise
        # One thread a server: a server that does not answer must not delay news of the others.
        self._checkers = [
            threading.Thread(
                target=self._keep_checking,
                args=(endpoint,),
                name=f"health {endpoint.url}",
                daemon=True,
            )
            for endpoint in self._endpoints
        ]
        for checker in self._checkers:
            checker.start()

    def __enter__(self) -> EndpointPool:
        """Return the pool."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pool."""
        self.close()

    def close(self) -> None:
        """End health checks and connections; requests that are out or wait fail."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        for endpoint in self._endpoints:
            endpoint.put_out_of_use("the pool was closed")
        self._close_transports()
        for checker in self._checkers:
            checker.join()

    def transport(self, key: str) -> Transport:
        """Return the network of one camera.

        Its requests go to the server that ranks first for the key among those in use. The
        `timeout_seconds` of a call bounds each attempt, the pool's `decision_seconds` all of them.

        Args:
            key: The camera.
        """
        return _CameraTransport(self, key)

    def status(self) -> tuple[EndpointStatus, ...]:
        """Return what metrics say of each server, in the order of `urls`."""
        return tuple(endpoint.status() for endpoint in self._endpoints)

    def ask(
        self,
        key: str,
        work: float,
        call: Callable[[Endpoint, float], Answer],
        timeout_seconds: float,
    ) -> Answer:
        """Send a request to a server in use, and to another one if that fails.

        Args:
            key: The camera.
            work: Frames that a server has to encode for it.
            call: Sends the request to a server, with that many seconds for the answer.
            timeout_seconds: How long one attempt may take.

        Raises:
            NoEndpointError: No server was in use in the time of a decision.
            ClientError: The last attempt's, where no other server or no budget was left.
        """
        deadline = time.monotonic() + self._decision_seconds
        failed: list[Endpoint] = []
        failure: ClientError | None = None
        retries = 0

        def left() -> float:
            return deadline - time.monotonic()

        while True:
            endpoint = self._choose(key, failed, left, failure)
            try:
                answer = endpoint.ask(key, work, call, timeout_seconds, left, retry=retries > 0)
            except TurnedAwayError:
                continue
            except UNAVAILABLE as error:
                failure = error
                if isinstance(error, OverloadedError):
                    self._second_try(endpoint, failed, error)
            except ServerError as error:
                failure = error
                self._second_try(endpoint, failed, error)
            else:
                self._budget.success()
                if isinstance(failure, ServerError):
                    # What one server answers is no fault of the request's.
                    for other in failed:
                        other.put_out_of_use(str(failure))
                return answer
            if left() <= 0 or not self._budget.spend():
                raise failure
            self._closing.wait(min(left(), backoff_seconds(retries)))
            retries += 1

    def _second_try(self, endpoint: Endpoint, failed: list[Endpoint], error: ClientError) -> None:
        """Note a server that may be tried no more for this request; one is tried after it.

        Raises:
            ClientError: The error given: it was the second, or there is no other server.
        """
        others = [other for other in self._endpoints if other.ready and other is not endpoint]
        if failed or not others:
            raise error
        failed.append(endpoint)

    def _choose(
        self,
        key: str,
        failed: Sequence[Endpoint],
        left: Callable[[], float],
        failure: ClientError | None,
    ) -> Endpoint:
        """Return the first of the key's servers that is in use, waiting until there is one."""
        ranked = sorted(self._endpoints, key=lambda endpoint: rank(key, endpoint.url))
        with self._changed:
            while not self._closing.is_set():
                # Until all were looked at once, a camera's own server may still turn out ready.
                if all(endpoint.checked for endpoint in ranked) or left() <= 0:
                    usable = [one for one in ranked if one.ready and one not in failed]
                    if usable:
                        return min(usable, key=lambda endpoint: endpoint.held)
                    if failed and failure is not None:
                        raise failure
                if left() <= 0:
                    raise NoEndpointError(self._faults()) from failure
                self._changed.wait(left())
        raise ConnectError("the servers' connections were closed; make a new pool")

    def _faults(self) -> str:
        faults = "; ".join(f"{endpoint.url}: {endpoint.fault}" for endpoint in self._endpoints)
        return (
            f"expected a server that is ready within {self._decision_seconds:g} s, got none; check "
            f"the addresses, or start one: {faults}"
        )

    def _keep_checking(self, endpoint: Endpoint) -> None:
        while not self._closing.is_set():
            endpoint.check(EDGE_MODEL, self._check_seconds)
            self._closing.wait(self._health_seconds)

    def _close_transports(self) -> None:
        for endpoint in self._endpoints:
            endpoint.transport.close()


class _CameraTransport:
    """The `Transport` of one camera of a pool; `close` leaves the pool open."""

    def __init__(self, pool: EndpointPool, key: str) -> None:
        self._pool = pool
        self._key = key

    def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        timeout_seconds: float,
        parameters: Parameters = NO_PARAMETERS,
    ) -> Tensors:
        def call(endpoint: Endpoint, seconds: float) -> Tensors:
            return endpoint.transport.infer(
                model, inputs, outputs, timeout_seconds=seconds, parameters=parameters
            )

        return self._pool.ask(self._key, frames_encoded(inputs), call, timeout_seconds)

    def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        def call(endpoint: Endpoint, seconds: float) -> Mapping[str, str]:
            return endpoint.transport.model_parameters(model, timeout_seconds=seconds)

        return self._pool.ask(self._key, MANIFEST_WORK, call, timeout_seconds)

    def close(self) -> None:
        """Do nothing: the connections are the pool's."""


def frames_encoded(inputs: Tensors) -> float:
    """Return how many frames a request makes the server encode: its tracks times new samples.

    Args:
        inputs: Of `fgm_clip`, `fgm_clip_stream` or `fgm_clip_edge`.
    """
    if "PIXELS_U8" in inputs:
        return float(len(inputs["PIXELS_U8"]))
    tracks = len(inputs["ROI"]) if "ROI" in inputs else 1
    return float(tracks * (len(inputs["FRAMES"]) - 1))


def rank(key: str, url: str) -> bytes:
    """Rendezvous hashing: each key orders the servers its own way, whichever of them there are."""
    return hashlib.blake2b(f"{key}\n{url}".encode(), digest_size=8).digest()
