"""The calls to a server of our own: readiness, and the model repository behind its key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

KEY_HEADER = "triton-grpc-protocol-fgmclip-key"
"""Metadata key that Triton checks for a protocol restricted with the name `fgmclip-key`."""

RESTRICTION = "shared-memory,model-repository,trace,logging:fgmclip-key={key}"
"""Value of `--grpc-restricted-protocol`."""

_OPTIONS = (
    # A proxy of the environment is for the outside, never for loopback.
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 200),
)

CallError: TypeAlias = grpc.RpcError


class Control:
    """Calls over one channel.

    Args:
        url: The server, `host:port`.
        key: Value of its restricted protocols.
    """

    def __init__(self, url: str, key: str) -> None:
        """Open a channel; nothing is sent yet."""
        self._channel = grpc.insecure_channel(url, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)
        self._metadata = ((KEY_HEADER, key),)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def ready(self) -> bool:
        """Return whether the server answers and all its models are available."""
        try:
            return bool(self._stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=1).ready)
        except grpc.RpcError:
            return False

    def version(self) -> str:
        """Return the version of the server, for example 2.51.0."""
        request = service_pb2.ServerMetadataRequest()
        return str(self._stub.ServerMetadata(request, timeout=10).version)

    def load(self, model: str, timeout_seconds: float, *, config: str = "") -> None:
        """Load a model, or load it anew if its files or its config changed.

        Args:
            model: Its name.
            timeout_seconds: How long it may take.
            config: Its config as JSON; what stands in its folder if empty.

        Raises:
            CallError: It cannot be loaded; `reason` of it says why.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=model)
        if config:
            request.parameters["config"].string_param = config
        self._stub.RepositoryModelLoad(request, metadata=self._metadata, timeout=timeout_seconds)

    def prove(
        self, name: str, config: str, files: Mapping[str, bytes], timeout_seconds: float
    ) -> None:
        """Load a config under a name of its own, beside what is served, and unload it again.

        Args:
            name: Name that no model of the repository bears.
            config: The config as JSON.
            files: Files that the config names, by their path in the model's folder.
            timeout_seconds: How long it may take.

        Raises:
            CallError: It does not load; `reason` of it says why.
        """
        request = service_pb2.RepositoryModelLoadRequest(model_name=name)
        request.parameters["config"].string_param = config
        # Triton wants a version folder; an ensemble keeps nothing in it.
        for path, data in {"1/empty": b"\n", **files}.items():
            request.parameters[f"file:{path}"].bytes_param = data
        self._stub.RepositoryModelLoad(request, metadata=self._metadata, timeout=timeout_seconds)
        self.unload(name)

    def states(self, timeout_seconds: float) -> dict[str, str]:
        """Return the state of each model that was ever loaded: READY, UNLOADING, UNAVAILABLE.

        Raises:
            CallError: The server does not answer in that time.
        """
        request = service_pb2.RepositoryIndexRequest()
        answer = self._stub.RepositoryIndex(
            request, metadata=self._metadata, timeout=timeout_seconds
        )
        return {model.name: model.state for model in answer.models}

    def unload(self, model: str, timeout_seconds: float = 30.0) -> None:
        """Ask for a model's unloading, which happens when its requests are done.

        Raises:
            CallError: The server refused, or did not answer in that time.
        """
        request = service_pb2.RepositoryModelUnloadRequest(model_name=model)
        self._stub.RepositoryModelUnload(request, metadata=self._metadata, timeout=timeout_seconds)


def reason(error: Exception) -> str:
    """Return why a call failed, in the server's words where it has some."""
    details = error.details() if isinstance(error, grpc.Call) else None
    return str(details or error)
