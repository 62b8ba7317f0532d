"""The network for asyncio: `AsyncTransport`, and `AsyncGrpcTransport` over KServe v2 gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fgmclip.client.messages import NO_PARAMETERS, Parameters, Tensors, encode_request
from fgmclip.client.pending import (
    EXIT_SECONDS,
    MOST,
    PATIENCE_SECONDS,
    backlog_error,
    may_cancel,
)
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.transport import (
    INFER_METHOD,
    channel_options,
    checked_target,
    closed_error,
    complete_answer,
    late_error,
    parameters_in,
    translated,
    unanswered,
)


class AsyncTransport(Protocol):
    """`Transport` for asyncio: the same calls and the same errors, awaited.

    One transport may serve any number of clients and tasks of one event loop at once.
    """

    async def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        timeout_seconds: float,
        parameters: Parameters = NO_PARAMETERS,
    ) -> Tensors:
        """Send one request and return the named outputs; see `Transport.infer`."""

    async def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        """Return the `parameters` of a model's configuration."""

    async def close(self) -> None:
        """Release the connection; a second call does nothing."""


class AsyncGrpcTransport:
    """KServe v2 over one gRPC channel, which belongs to the event loop of the first request."""

    def __init__(self, url: str, timeouts: Timeouts | None = None) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: `HOST:PORT` of the server's gRPC endpoint.
            timeouts: How long to wait for the first answer; the default of `Timeouts` if None.

        Raises:
            SettingsError: `url` is not `HOST:PORT`.
        """
        self.url = checked_target(url)
        self._connect_seconds = (timeouts or Timeouts()).connect_seconds
        self._channel: Any = None
        self._stub: Any = None
        self._infer: Any = None
        self._connected = False
        self._cancels = False
        self._closed = False
        # What `PendingCalls` is to threads: a future for each call that is out, and those of them
        # that nobody waits for.
        self._out: set[asyncio.Future[None]] = set()
        self._left: set[asyncio.Future[None]] = set()

    async def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        timeout_seconds: float,
        parameters: Parameters = NO_PARAMETERS,
    ) -> Tensors:
        """Send one request; returns and raises what `GrpcTransport.infer` does."""
        await self._open()
        request = encode_request(model, inputs, outputs, parameters)
        response = await self._call(self._ask, request, timeout_seconds, model)
        return complete_answer(response, outputs, self.url, model)

    async def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        """Return the `parameters` of a model's configuration; raises what `infer` raises."""
        await self._open()
        request = service_pb2.ModelConfigRequest(name=model)
        response = await self._call(self._stub.ModelConfig, request, timeout_seconds, model)
        return parameters_in(response)

    async def close(self) -> None:
        """Close the channel.

        A server that a cancelled request may kill is given ten seconds to answer what it has.
        """
        self._closed = True
        if self._out:
            await asyncio.wait(self._out, timeout=EXIT_SECONDS)
        if self._channel is not None:
            await self._channel.close()

    async def _call(
        self, method: Callable[..., Any], request: Any, timeout_seconds: float, model: str
    ) -> Any:
        try:
            return await method(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                # The server that comes back may be of another version.
                self._connected = False
            raise translated(error, self.url, timeout_seconds, model) from error

    async def _ask(self, request: bytes, timeout: float) -> Any:
        """Send an inference request, with a deadline that this server survives."""
        if self._cancels:
            return await self._infer(request, timeout=timeout)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while len(self._left) >= MOST:
            left = deadline - loop.time()
            if left <= 0:
                raise backlog_error(self.url)
            await asyncio.wait(self._left, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        call = self._infer(request, timeout=timeout + PATIENCE_SECONDS)
        ended: asyncio.Future[None] = loop.create_future()
        self._out.add(ended)
        call.add_done_callback(lambda _: ended.set_result(None))
        ended.add_done_callback(self._out.discard)
        ended.add_done_callback(self._left.discard)
        try:
            # A task that is cancelled leaves the call alone as well.
            await asyncio.wait_for(asyncio.shield(ended), max(0.0, deadline - loop.time()))
        except asyncio.TimeoutError:
            raise late_error(self.url, timeout) from None
        finally:
            if not ended.done():
                self._left.add(ended)
        return await call

    async def _open(self) -> None:
        if self._closed:
            raise closed_error(self.url)
        if self._channel is None:
            # Here, because a channel takes the loop that runs when it is made.
            self._channel = grpc.aio.insecure_channel(self.url, options=channel_options(self.url))
            self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
            # Without a serializer: the request comes as bytes.
            self._infer = self._channel.unary_unary(
                INFER_METHOD, response_deserializer=service_pb2.ModelInferResponse.FromString
            )
        if self._connected:
            return
        # For a deadline of its own, as in `GrpcTransport`.
        try:
            server = await self._stub.ServerMetadata(
                service_pb2.ServerMetadataRequest(), timeout=self._connect_seconds
            )
        except grpc.RpcError as error:
            raise unanswered(error, self.url, self._connect_seconds) from error
        self._cancels = may_cancel(server.name, server.version)
        self._connected = True
