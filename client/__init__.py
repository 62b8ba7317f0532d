"""Names actions over gRPC: `ActionClient` for clips and files, `StreamClient` for cameras."""

from fgmclip.client.action import ActionClient
from fgmclip.client.answers import UNKNOWN, Decision, VideoResult
from fgmclip.client.async_transport import AsyncGrpcTransport, AsyncTransport
from fgmclip.client.errors import (
    ClientError,
    ConnectError,
    ManifestError,
    ModelNotFoundError,
    OverloadedError,
    RefusedError,
    RequestTimeoutError,
    ServerError,
    SettingsError,
    TagMismatchError,
)
from fgmclip.client.stream import StreamSession
from fgmclip.client.streams.client import AsyncStreamClient, StreamClient
from fgmclip.client.streams.results import StreamDecision, WindowReset
from fgmclip.client.testing import MockRequest, MockTransport
from fgmclip.client.timeouts import Timeouts
from fgmclip.client.transport import GrpcTransport, Transport

__all__ = [
    "UNKNOWN",
    "ActionClient",
    "AsyncGrpcTransport",
    "AsyncStreamClient",
    "AsyncTransport",
    "ClientError",
    "ConnectError",
    "Decision",
    "GrpcTransport",
    "ManifestError",
    "MockRequest",
    "MockTransport",
    "ModelNotFoundError",
    "OverloadedError",
    "RefusedError",
    "RequestTimeoutError",
    "ServerError",
    "SettingsError",
    "StreamClient",
    "StreamDecision",
    "StreamSession",
    "TagMismatchError",
    "Timeouts",
    "Transport",
    "VideoResult",
    "WindowReset",
]
