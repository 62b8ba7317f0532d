"""The network behind one interface: `Transport`, and `GrpcTransport` over KServe v2 gRPC."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from fgmclip.client.errors import (
    ClientError,
    ConnectError,
    ModelNotFoundError,
    OverloadedError,
    RefusedError,
    RequestTimeoutError,
    ServerError,
    SettingsError,
)
from fgmclip.client.messages import (
    NO_PARAMETERS,
    Parameters,
    Tensors,
    decode_response,
    encode_request,
)
from fgmclip.client.pending import PATIENCE_SECONDS, PendingCalls, may_cancel
from fgmclip.client.proxies import GRPC_VARIABLES, by_proxy, is_own_host
from fgmclip.client.timeouts import Timeouts

WRITE_BUFFER_BYTES = 16 * 2**20
"""What gRPC may hold ready for the network: by its own default 64 kB."""

KEEPALIVE_SECONDS = 20.0
"""A connection that has brought nothing for so long, while an answer is due, is asked for a sign.

Three of them in a row would be taken for an attack (Triton allows one in five minutes, and two
more); gRPC sends two at most.
"""

DEAD_SECONDS = 10.0
"""A connection that gives no sign for so long is dead, and the next request makes another."""

_OVERLOADED = ("Exceeds maximum queue size", "Request timeout expired")
"""Triton's words for a request that a full queue refused, or that waited there for too long."""

_DEAD_STEP = "is not healthy"
"""Triton's words for a step of the Python backend whose process is gone."""

_TOO_LARGE = "larger than max"
"""gRPC's words for a message beyond a limit of its receiver, by its own default 4 MB."""

INFER_METHOD = "/inference.GRPCInferenceService/ModelInfer"
"""Full name of the call that carries tensors."""


class Transport(Protocol):
    """What a client needs of the network.

    One transport may serve several clients and threads at once. Errors are those of
    `fgmclip.client.errors`.
    """

    def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        timeout_seconds: float,
        parameters: Parameters = NO_PARAMETERS,
    ) -> Tensors:
        """Send one request and return the named outputs.

        Args:
            model: Name of the model on the server.
            inputs: Input tensors; strings are arrays of `bytes` with dtype object.
            outputs: Names of the outputs to return.
            timeout_seconds: How long the answer may take.
            parameters: Request parameters.
        """

    def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        """Return the `parameters` of a model's configuration."""

    def close(self) -> None:
        """Release the connection; a second call does nothing."""


class GrpcTransport:
    """KServe v2 over one gRPC channel, which is opened at the first request.

    Safe to share between threads and clients; a channel carries any number of requests at once.
    Where the address is a name of several servers, requests go to them in turn.
    """

    def __init__(self, url: str, timeouts: Timeouts | None = None) -> None:
        """Name the server; nothing is sent yet.

        Args:
            url: `HOST:PORT` of the server's gRPC endpoint.
            timeouts: How long to wait for the first answer; the default of `Timeouts` if None.

        Raises:
            SettingsError: `url` is not `HOST:PORT`.
        """
        self.url = url
        self._connect_seconds = (timeouts or Timeouts()).connect_seconds
        self._channel = grpc.insecure_channel(checked_target(url), options=channel_options(url))
        self._pending = PendingCalls(url, self._channel.close)
        self._cancels = False
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        # Without a serializer: the request comes as bytes.
        self._infer = self._channel.unary_unary(
            INFER_METHOD, response_deserializer=service_pb2.ModelInferResponse.FromString
        )
        self._connected = False
        self._closed = False

    def infer(
        self,
        model: str,
        inputs: Tensors,
        outputs: Sequence[str],
        *,
        timeout_seconds: float,
        parameters: Parameters = NO_PARAMETERS,
    ) -> Tensors:
        """Send one request; see `Transport.infer`. The arrays returned are read-only.

        Raises:
            ConnectError: No server answers, or it takes no requests now.
            OverloadedError: It has more to do than it can answer in time.
            RequestTimeoutError: The answer did not come in time.
            RefusedError: The server refused the input.
            ModelNotFoundError: The server does not have the model.
            ServerError: The server failed, or left an output out.
        """
        request = encode_request(model, inputs, outputs, parameters)
        response = self._call(self._ask, request, timeout_seconds, model)
        return complete_answer(response, outputs, self.url, model)

    def model_parameters(self, model: str, *, timeout_seconds: float) -> Mapping[str, str]:
        """Return the `parameters` of a model's configuration; raises what `infer` raises."""
        request = service_pb2.ModelConfigRequest(name=model)
        response = self._call(self._stub.ModelConfig, request, timeout_seconds, model)
        return parameters_in(response)

    def close(self) -> None:
        """Close the channel: at once, or once a server has answered that a cancel may kill."""
        self._closed = True
        if self._cancels:
            self._channel.close()
        else:
            self._pending.close()

    def _call(
        self, method: Callable[..., Any], request: Any, timeout_seconds: float, model: str
    ) -> Any:
        if self._closed:
            raise closed_error(self.url)
        self._connect()
        try:
            return method(request, timeout=timeout_seconds)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                # The server that comes back may be of another version.
                self._connected = False
            raise translated(error, self.url, timeout_seconds, model) from error

    def _ask(self, request: bytes, timeout: float) -> Any:
        """Send an inference request, with a deadline that this server survives."""
        if self._cancels:
            return self._infer(request, timeout=timeout)
        return self._pending.wait(
            lambda: self._infer.future(request, timeout=timeout + PATIENCE_SECONDS),
            timeout,
            lambda: closed_error(self.url) if self._closed else late_error(self.url, timeout),
        )

    def _connect(self) -> None:
        # A request may take a minute, so a host that swallows packets would hold a caller for that
        # long; a first call with a deadline of its own finds it out sooner.
        if self._connected:
            return
        try:
            server = self._stub.ServerMetadata(
                service_pb2.ServerMetadataRequest(), timeout=self._connect_seconds
            )
        except grpc.RpcError as error:
            raise unanswered(error, self.url, self._connect_seconds) from error
        self._cancels = may_cancel(server.name, server.version)
        self._connected = True


def complete_answer(response: Any, outputs: Sequence[str], url: str, model: str) -> Tensors:
    """Return the named outputs of a `ModelInferResponse`.

    Raises:
        ServerError: One of them is missing.
    """
    answer = decode_response(response)
    missing = [name for name in outputs if name not in answer]
    if missing:
        raise ServerError(
            f"{url}: expected outputs {', '.join(outputs)} of {model}, "
            f"got none called {', '.join(missing)}"
        )
    return answer


def parameters_in(response: Any) -> dict[str, str]:
    """Return the `parameters` in a `ModelConfigResponse`."""
    return {key: value.string_value for key, value in response.config.parameters.items()}


def closed_error(url: str) -> ConnectError:
    """Return the error of a call on a closed transport."""
    return ConnectError(f"the connection to {url} was closed; make a new client")


def unanswered(error: Any, url: str, connect_seconds: float) -> ClientError:
    """Return the error of a first call that found no server."""
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return ConnectError(
            f"no server at {url} answered within {connect_seconds:g} s; "
            "check the address, or give more connect_seconds"
            + by_proxy(host_of(url), GRPC_VARIABLES)
        )
    return translated(error, url, connect_seconds, "the server")


def translated(error: Any, url: str, timeout_seconds: float, model: str) -> ClientError:
    """Return what a `grpc.RpcError` means, with what the server said."""
    code, said = error.code(), " ".join((error.details() or "").split())
    status = grpc.StatusCode
    if code is status.UNAVAILABLE and any(words in said for words in _OVERLOADED):
        return OverloadedError(
            f"{url} has more to do than it can answer in time: {said}; send less, go on "
            "with the latest frames, or give it more machines"
        )
    if code is status.UNAVAILABLE:
        return ConnectError(
            f"no server takes requests at {url} (expected is Triton's gRPC port, not its "
            f"HTTP port): {said}{by_proxy(host_of(url), GRPC_VARIABLES)}"
        )
    if code is status.DEADLINE_EXCEEDED:
        return late_error(url, timeout_seconds)
    if code is status.INTERNAL and _DEAD_STEP in said:
        return ConnectError(
            f"{url} cannot answer for {model}, the process of a step died there ({said}); "
            "'fgmclip serve' starts it again, another server has to be restarted"
        )
    if code is status.NOT_FOUND:
        return ModelNotFoundError(f"{url} does not serve {model}: {said}")
    if code is status.RESOURCE_EXHAUSTED and _TOO_LARGE in said:
        return RefusedError(
            f"{url}: a proxy or server there takes no request as large as that of {model}: {said}; "
            "raise its limit of a message (Triton's own is 2 GB), or send smaller frames, as "
            "StreamClient and 'fgmclip classify' do"
        )
    if code in (status.INVALID_ARGUMENT, status.OUT_OF_RANGE, status.RESOURCE_EXHAUSTED):
        return RefusedError(f"{url} refused the input of {model}: {said}")
    if code is status.UNIMPLEMENTED:
        return ServerError(f"{url} does not speak the KServe v2 protocol: {said}")
    return ServerError(f"{url} failed over {model} ({code.name.lower()}): {said}")


def late_error(url: str, timeout_seconds: float) -> RequestTimeoutError:
    """Return the error of an answer that did not come in time."""
    return RequestTimeoutError(
        f"{url} did not answer within {timeout_seconds:g} s; "
        "give more request_seconds, or a server with less to do"
    )


def checked_target(url: str) -> str:
    """Return an address as gRPC takes it.

    Raises:
        SettingsError: It is not `HOST:PORT`.
    """
    match = re.fullmatch(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]@]+):(?P<port>[0-9]{1,5})", url)
    if match is None or not 0 < int(match["port"]) < 65536:
        # It may hold a password, though none has a meaning here.
        came = "an address with a login" if "@" in url else repr(url)
        raise SettingsError(
            "url: expected HOST:PORT of Triton's gRPC endpoint and nothing around it, for example "
            f"localhost:8001 or [::1]:8001, got {came}"
        )
    return url


def host_of(url: str) -> str:
    """Return the host of `HOST:PORT`."""
    return url.rpartition(":")[0]


def channel_options(url: str) -> list[tuple[str, int | str]]:
    """Return the options of a channel to this address."""
    options: list[tuple[str, int | str]] = [
        ("grpc.max_send_message_length", -1),
        ("grpc.max_receive_message_length", -1),
        # A name of several servers is used as such; gRPC would stick to the first.
        ("grpc.lb_policy_name", "round_robin"),
        # A clip of large frames goes out in pieces of this size instead of 64 kB.
        ("grpc.http2.write_buffer_size", WRITE_BUFFER_BYTES),
        # gRPC waits up to two minutes before it looks for a server that was restarted.
        ("grpc.max_reconnect_backoff_ms", 2000),
        # A router or firewall that has forgotten a connection swallows all that comes on it; by
        # gRPC's own defaults it would be used for ever.
        ("grpc.keepalive_time_ms", round(KEEPALIVE_SECONDS * 1000)),
        ("grpc.keepalive_timeout_ms", round(DEAD_SECONDS * 1000)),
        # The same for what gRPC sends to measure the network: no other sign is asked for meanwhile.
        ("grpc.http2.ping_timeout_ms", round(DEAD_SECONDS * 1000)),
    ]
    if is_own_host(host_of(url)):
        # gRPC obeys http_proxy even for this machine.
        options.append(("grpc.enable_http_proxy", 0))
    return options
